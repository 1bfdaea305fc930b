/* identity.c - see identity.h. */
#include "gateways/web/identity.h"

#include "gateways/auth/auth.h"

/* Offered by clients that put their token beside it: browsers want one of theirs selected. */
static const char protocol[] = "tidewire";

bool identity_missing(const edge *self, const connection *conn)
{
    return self->options->auth != NULL && conn->streams.rights == NULL;
}

static uint64_t now_s(const edge *self)
{
    return tw_unix_ms(self->actor) / 1000;
}

static void set(connection *conn, auth_identity *taken)
{
    auth_identity before = conn->identity;
    conn->identity = *taken;
    conn->streams.rights = taken->rights;
    conn->hello_ms = 0;
    auth_identity_fini(&before);
}

tw_err identity_take(edge *self, connection *conn, tw_str token, bool *changed, broker_why *why)
{
    auth_identity taken;
    *changed = false;
    unsigned generation = auth_generation(self->options->auth);
    tw_err err = auth_identify(self->options->auth, token, now_s(self), &taken, why);
    if (err != TW_OK) {
        return err;
    }
    const rights *before = conn->identity.rights;
    if (before != NULL && !tw_str_equal(rights_subject(before), rights_subject(taken.rights))) {
        auth_identity_fini(&taken);
        return broker_refuse(why, TW_E_TOKEN, "the token is another subject's (sub)");
    }
    *changed = before != NULL && !rights_equal(before, taken.rights);
    conn->generation = generation;
    set(conn, &taken);
    return TW_OK;
}

/* ---- heads ---- */

/* The next of a list with commas, without the space around it. */
static bool next_of(tw_str *list, tw_str *one)
{
    while (list->len > 0 && (list->ptr[0] == ',' || list->ptr[0] == ' ' || list->ptr[0] == '\t')) {
        list->ptr++;
        list->len--;
    }
    size_t len = 0;
    while (len < list->len && list->ptr[len] != ',' && list->ptr[len] != ' ' &&
           list->ptr[len] != '\t') {
        len++;
    }
    if (len == 0) { /* the list may be of no bytes at no address */
        return false;
    }
    *one = (tw_str){list->ptr, len};
    list->ptr += len;
    list->len -= len;
    return true;
}

bool identity_speaks(tw_str protocols)
{
    tw_str one;
    while (next_of(&protocols, &one)) {
        if (tw_str_equal(one, tw_str_of(protocol))) {
            return true;
        }
    }
    return false;
}

tw_str identity_token(const http_head *head)
{
    static const char scheme[] = "bearer ";
    tw_str given = head->authorization;
    size_t len = sizeof scheme - 1;
    if (given.ptr != NULL && given.len > len &&
        http_token_equal((tw_str){given.ptr, len}, scheme)) {
        return (tw_str){given.ptr + len, given.len - len};
    }
    tw_str list = head->protocols;
    tw_str one;
    while (head->upgrades && next_of(&list, &one)) {
        if (!tw_str_equal(one, tw_str_of(protocol)) && memchr(one.ptr, '.', one.len) != NULL) {
            return one;
        }
    }
    return (tw_str){NULL, 0};
}

tw_err identity_of_head(edge *self, connection *conn, const http_head *head, broker_why *why)
{
    auth_identity taken;
    tw_str token = identity_token(head);
    bool other = head->authorization.ptr != NULL && token.ptr == NULL;
    if (other) {
        return broker_refuse(why, TW_E_TOKEN, "the scheme of Authorization is Bearer here");
    }
    unsigned generation = auth_generation(self->options->auth);
    tw_err err = auth_identify(self->options->auth, token, now_s(self), &taken, why);
    if (err == TW_OK) {
        conn->generation = generation;
        set(conn, &taken);
    }
    return err;
}

bool identity_changed(edge *self, connection *conn)
{
    auth *from = self->options->auth;
    rights *now = NULL;
    if (from == NULL || conn->identity.rights == NULL ||
        conn->generation == auth_generation(from)) {
        return false;
    }
    conn->generation = auth_generation(from);
    if (auth_rights(from, &conn->identity, &now) != TW_OK) {
        return true; /* without memory nobody knows: it comes back and is asked again */
    }
    bool changed = !rights_equal(conn->identity.rights, now);
    rights_drop(&now);
    return changed;
}

bool identity_over(const edge *self, const connection *conn)
{
    return self->options->auth != NULL &&
           auth_identity_over(self->options->auth, &conn->identity, now_s(self));
}

void identity_gone(connection *conn)
{
    conn->streams.rights = NULL;
    auth_identity_fini(&conn->identity);
}
