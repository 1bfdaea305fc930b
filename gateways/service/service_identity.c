/* service_identity.c - who asks on the service socket: each request may carry a token.
 *
 * A token travels with the request and not with the connection: nng connects again by itself, and
 * sends a request again, so a connection has no beginning that a peer would notice. Verified tokens
 * are kept, so that a signature is looked at once and not with each request. */
#include "protocol/limits.h"

#include "gateways/service/service_priv.h"

tw_err service_identity_init(service *self)
{
    if (self->options->auth != NULL) {
        self->tokens = tw_alloc_zero(TW_SERVICE_TOKENS_MAX, sizeof *self->tokens);
        self->generation = auth_generation(self->options->auth);
    }
    return self->options->auth != NULL && self->tokens == NULL ? TW_E_NO_MEMORY : TW_OK;
}

static void forget(service_token *token)
{
    if (token->text.ptr != NULL) {
        explicit_bzero(token->text.ptr, token->text.cap);
    }
    tw_buf_fini(&token->text);
    auth_identity_fini(&token->identity);
}

static void forget_all(service *self)
{
    while (self->tokens_count > 0) {
        forget(&self->tokens[--self->tokens_count]);
    }
    self->token_next = 0;
}

void service_identity_fini(service *self)
{
    forget_all(self);
    tw_free(self->tokens);
    self->tokens = NULL;
}

bool service_identity_asks_all(const service *self)
{
    return self->options->auth != NULL && !auth_trusts_services(self->options->auth);
}

/* The request without its token. */
static tw_err strip(service *self, tw_bson *asked)
{
    tw_bson_builder b;
    tw_bson_iter iter;
    tw_buf_clear(&self->answer);
    tw_bson_begin(&b, &self->answer);
    for (tw_bson_iter_init(&iter, *asked); tw_bson_iter_next(&iter);) {
        if (!tw_str_equal(iter.name, TW_STR("token"))) {
            tw_bson_add_value(&b, iter.name, iter.value);
        }
    }
    tw_bson without = tw_bson_end(&b);
    *asked = self->answer.err == TW_OK ? tw_arena_bson(&self->arena, without) : (tw_bson){0};
    return asked->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
}

static service_token *find(service *self, tw_str token)
{
    for (size_t i = 0; i < self->tokens_count; i++) {
        if (tw_str_equal(tw_buf_str(&self->tokens[i].text), token)) {
            return &self->tokens[i];
        }
    }
    return NULL;
}

/* Keeps a verified token in the place of the one that was kept longest. */
static tw_err keep(service *self, tw_str token, auth_identity *identity, service_token **out)
{
    bool full = self->tokens_count == TW_SERVICE_TOKENS_MAX;
    service_token *at = &self->tokens[full ? self->token_next : self->tokens_count];
    if (full) {
        forget(at);
        self->token_next = (self->token_next + 1) % TW_SERVICE_TOKENS_MAX;
    } else {
        self->tokens_count++;
    }
    *at = (service_token){.identity = *identity};
    *identity = (auth_identity){0};
    tw_buf_init(&at->text, TW_TOKEN_MAX);
    tw_buf_add_str(&at->text, token); /* without memory: no token is equal to what is kept */
    *out = at;
    return TW_OK;
}

static tw_err identify(service *self, tw_str token, service_token **out, broker_why *why)
{
    auth *from = self->options->auth;
    uint64_t now_s = tw_unix_ms(self->actor) / 1000;
    auth_identity identity;
    if (self->generation != auth_generation(from)) {
        self->generation = auth_generation(from);
        forget_all(self);
    }
    *out = find(self, token);
    if (*out != NULL && !auth_identity_over(from, &(*out)->identity, now_s)) {
        return TW_OK;
    }
    tw_err err = auth_identify(from, token, now_s, &identity, why);
    return err == TW_OK ? keep(self, token, &identity, out) : err;
}

tw_err service_identity_of(service *self, tw_bson *asked, rights **whose, broker_why *why)
{
    tw_bson_value given = tw_bson_get(*asked, TW_STR("token"));
    tw_str token = tw_bson_value_str(given);
    service_token *known = NULL;
    *whose = NULL;
    if (self->options->auth == NULL || (given.type == 0 && !service_identity_asks_all(self))) {
        return TW_OK;
    }
    if (given.type != 0 && token.len == 0) {
        return broker_refuse(why, TW_E_TOKEN, "\"token\" is to be text.");
    }
    tw_err err = identify(self, token, &known, why);
    if (err == TW_OK) {
        *whose = known->identity.rights;
        err = given.type != 0 ? strip(self, asked) : TW_OK;
    }
    return err;
}
