/* stream.c - see stream.h.
 *
 * Invariants
 * 1. `at` is the vector of the last sync, raised by the live events behind it: the server may be
 *    asked to resume from it at any time (a position inside a catch-up may not: it is not exact).
 * 2. `seen` holds the positions told since the last sync while catching up, and how many events
 *    each had: those of one transaction share a position. After a break as many of each are left
 *    out. It is emptied by each sync. */
#include "clients/c/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <uthash.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "clients/c/websocket.h"

static const int64_t POSITION_MAX = ((int64_t)1 << 53) - 1;

enum {
    STREAM_MAGIC = 0x57e4a111,
    MUX_ID = 1,
    CONNECT_MS = 5000,
    BACKOFF_FIRST_MS = 50,
    BACKOFF_MAX_MS = 5000,
    FRAME_MEMORY = 64 << 20, /* bytes for one frame as BSON */
    QUERY_NAME_MAX = 64,     /* bytes of what a sync calls the query; the server's have 16 */
    SILENCE_MS = 2 * TW_SYNC_REPEAT_MS, /* a live stream is told sync at least this often */
};

struct seen_position {
    tw_position at;       /* key */
    unsigned told;        /* events */
    unsigned told_before; /* on connections before this one */
    unsigned left_out;    /* of those, on this one */
    uint64_t connection;  /* that the two above are of */
    UT_hash_handle hh;
};

struct stream {
    uint32_t magic;
    char *url;                /* own */
    char *token;              /* own; "": none */
    char *ca_file;            /* own; "": none */
    websocket_client_who who; /* of these */
    tw_buf subscribe;         /* own: the fields behind the opening brace */
    websocket_client *client; /* own; NULL: not connected */
    bool synced;              /* at is exact */
    bool catching_up;         /* subscribed, sync not heard yet */
    bool whole_copy;          /* what is being caught up is a first copy */
    bool told_some;           /* of the whole copy that is under way */
    bool from_now;            /* not synced: nothing that is stored is asked for */
    bool from_nothing; /* not synced: everything is asked for, not what the server begins with */
    bool was_lost;
    bool over;
    unsigned failures;
    uint64_t retry_at_ms, heard_ms;
    uint64_t random;
    uint64_t events;
    tw_position at[TW_ORIGINS_MAX];
    size_t at_count;
    tw_buf query;               /* own: what the last sync called query and rights; empty: none */
    struct seen_position *seen; /* own */
    uint64_t connections;
    tw_arena arena;
    tw_buf text;
    char why[256];
    stream_event due; /* kind to be told before the next frame */
    bool has_due;
};

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void forget_seen(struct stream *self)
{
    struct seen_position *each, *next;
    HASH_ITER(hh, self->seen, each, next)
    {
        HASH_DEL(self->seen, each);
        tw_free(each);
    }
}

/* True when the event was told on a connection before this one; notes it otherwise. */
static bool seen_before(struct stream *self, tw_position at)
{
    struct seen_position *found;
    HASH_FIND(hh, self->seen, &at, sizeof(at), found);
    if (found == NULL) {
        found = tw_alloc_zero(1, sizeof(*found));
        if (found == NULL) {
            return false;
        }
        found->at = at;
        found->connection = self->connections;
        HASH_ADD(hh, self->seen, at, sizeof(at), found);
    }
    if (found->connection != self->connections) {
        found->connection = self->connections;
        found->left_out = 0;
        found->told_before = found->told;
    }
    if (found->left_out < found->told_before) {
        found->left_out++;
        return true;
    }
    found->told++;
    return false;
}

static void raise(struct stream *self, tw_position at)
{
    size_t i = 0;
    while (i < self->at_count && self->at[i].srv != at.srv) {
        i++;
    }
    if (i == self->at_count) {
        if (i == TW_ORIGINS_MAX) {
            return;
        }
        self->at[self->at_count++] = at;
    } else if (self->at[i].seqno < at.seqno) {
        self->at[i].seqno = at.seqno;
    }
}

/* An array of two whole numbers, as a vector has them. */
static bool read_pair(tw_bson_value value, tw_position *out)
{
    int64_t srv, seqno;
    tw_bson pair = tw_bson_value_doc(value);
    if (value.type != TW_BSON_ARRAY || tw_bson_count(pair) != 2 ||
        !tw_bson_value_i64(tw_bson_get(pair, TW_STR("0")), &srv) ||
        !tw_bson_value_i64(tw_bson_get(pair, TW_STR("1")), &seqno) || srv < 0 ||
        srv > POSITION_MAX || seqno < 0 || seqno > POSITION_MAX) {
        return false;
    }
    *out = (tw_position){(uint64_t)srv, (uint64_t)seqno};
    return true;
}

static bool read_vector(struct stream *self, tw_bson_value vector)
{
    tw_bson_iter pairs;
    self->at_count = 0;
    for (tw_bson_iter_init(&pairs, tw_bson_value_doc(vector)); tw_bson_iter_next(&pairs);) {
        tw_position at;
        if (!read_pair(pairs.value, &at) || self->at_count == TW_ORIGINS_MAX) {
            return false;
        }
        raise(self, at);
    }
    return vector.type == TW_BSON_ARRAY;
}

static tw_err read_since(struct stream *self, const char *since)
{
    tw_bson doc;
    if (strcmp(since, "now") == 0) {
        self->from_now = true;
        return TW_OK;
    }
    tw_buf_clear(&self->text);
    tw_buf_format(&self->text, "{\"since\":%s}", since);
    tw_str text = tw_buf_str(&self->text);
    tw_err err = self->text.err;
    if (err == TW_OK) {
        err = tw_json_read(&self->arena, text, TW_DEPTH_CLIENT_MAX, &doc, NULL);
    }
    if (err != TW_OK || tw_bson_count(doc) != 1 ||
        !read_vector(self, tw_bson_get(doc, TW_STR("since")))) {
        return err == TW_E_NO_MEMORY ? err : TW_E_BAD_SINCE;
    }
    self->synced = true;
    return TW_OK;
}

/* Keeps the fields of the subscribe without the opening brace: mux_id and since come first. */
static tw_err keep_subscribe(struct stream *self, tw_str text)
{
    tw_bson doc;
    tw_err err = tw_json_read(&self->arena, text, TW_DEPTH_CLIENT_MAX, &doc, NULL);
    if (err != TW_OK) {
        return err;
    }
    if (tw_bson_count(doc) == 0 || tw_bson_get(doc, TW_STR("mux_id")).type != 0 ||
        tw_bson_get(doc, TW_STR("since")).type != 0 ||
        tw_bson_get(doc, TW_STR("query")).type != 0) {
        return TW_E_BAD_MESSAGE;
    }
    const char *brace = memchr(text.ptr, '{', text.len);
    TW_ASSERT(brace != NULL); /* it is an object */
    tw_buf_add(&self->subscribe, brace + 1, text.len - (size_t)(brace + 1 - text.ptr));
    return self->subscribe.err;
}

static char *own_text(const char *text)
{
    size_t size = text == NULL ? 1 : strlen(text) + 1;
    char *copy = tw_alloc(size);
    if (copy != NULL) {
        memcpy(copy, text == NULL ? "" : text, size);
    }
    return copy;
}

tw_err stream_open(stream **out, const char *url, const websocket_client_who *who, tw_str subscribe,
                   const char *since)
{
    static const websocket_client_who nobody = {0};
    const websocket_client_who *given = who != NULL ? who : &nobody;
    struct stream *self = tw_alloc_zero(1, sizeof(*self));
    char *copy = own_text(url);
    char *bearer = own_text(given->token);
    char *ca_file = own_text(given->ca_file);
    if (self == NULL || copy == NULL || bearer == NULL || ca_file == NULL) {
        tw_free(self);
        tw_free(copy);
        tw_free(bearer);
        tw_free(ca_file);
        return TW_E_NO_MEMORY;
    }
    self->token = bearer;
    self->ca_file = ca_file;
    self->who = (websocket_client_who){
        .token = bearer, .ca_file = ca_file, .any_certificate = given->any_certificate};
    self->magic = STREAM_MAGIC;
    self->url = copy;
    self->random = clock_ms() * 0x9e3779b97f4a7c15u | 1;
    tw_buf_init(&self->subscribe, TW_MESSAGE_MAX);
    tw_buf_init(&self->text, TW_MESSAGE_MAX);
    tw_buf_init(&self->query, QUERY_NAME_MAX);
    tw_arena_init(&self->arena, FRAME_MEMORY);
    tw_err err = keep_subscribe(self, subscribe);
    if (err == TW_OK && since != NULL) {
        err = read_since(self, since);
    }
    if (err != TW_OK) {
        stream_close(&self);
        return err;
    }
    *out = self;
    return TW_OK;
}

void stream_close(struct stream **which)
{
    struct stream *self = *which;
    if (self == NULL) {
        return;
    }
    TW_ASSERT(self->magic == STREAM_MAGIC);
    websocket_client_close(&self->client);
    forget_seen(self);
    tw_buf_fini(&self->subscribe);
    tw_buf_fini(&self->text);
    tw_buf_fini(&self->query);
    tw_arena_fini(&self->arena);
    tw_free(self->url);
    tw_free(self->token);
    tw_free(self->ca_file);
    tw_free(self);
    *which = NULL;
}

tw_str stream_since(stream *self)
{
    tw_buf_clear(&self->text);
    tw_json_write_vector(&self->text, (tw_vector){self->at, self->at_count});
    return tw_buf_str(&self->text);
}

static void make_due(struct stream *self, stream_kind kind)
{
    self->due = (stream_event){.kind = kind, .text = tw_str_of(self->why)};
    self->has_due = true;
}

static void lose(struct stream *self)
{
    websocket_client_close(&self->client);
    unsigned shift = self->failures < 7 ? self->failures : 7;
    uint64_t most = (uint64_t)BACKOFF_FIRST_MS << shift;
    most = most > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : most;
    self->random = self->random * 6364136223846793005u + 1442695040888963407u;
    self->retry_at_ms = clock_ms() + (self->random >> 33) % (most + 1);
    self->failures++;
    if (!self->was_lost) {
        self->was_lost = true;
        make_due(self, STREAM_LOST);
    }
}

static tw_err subscribe(struct stream *self)
{
    tw_str since = stream_since(self);
    self->from_nothing = !self->synced && (self->from_nothing || self->told_some);
    tw_buf all;
    tw_buf_init(&all, TW_MESSAGE_MAX);
    tw_buf_format(&all, "{\"mux_id\":%d", MUX_ID);
    if (self->synced || self->from_nothing) {
        tw_buf_add_str(&all, TW_STR(",\"since\":"));
        tw_buf_add_str(&all, self->synced ? since : TW_STR("[]"));
    } else if (self->from_now) {
        tw_buf_add_str(&all, TW_STR(",\"since\":\"now\""));
    }
    if (self->synced && self->query.len > 0) { /* a position is exact for the same rights alone */
        tw_buf_add_str(&all, TW_STR(",\"query\":"));
        tw_json_write_str(&all, tw_buf_str(&self->query));
    }
    tw_buf_add_byte(&all, ',');
    tw_buf_add_str(&all, tw_buf_str(&self->subscribe));
    tw_err err = all.err == TW_OK ? websocket_client_send(self->client, tw_buf_str(&all)) : all.err;
    tw_buf_fini(&all);
    return err;
}

static void connect_again(struct stream *self)
{
    tw_err err = websocket_client_open(&self->client, self->url, &self->who, CONNECT_MS, self->why,
                                       sizeof(self->why));
    if (err == TW_OK) {
        err = subscribe(self);
    }
    if (err != TW_OK) {
        lose(self);
        return;
    }
    self->heard_ms = clock_ms();
    self->connections++;
    self->catching_up = true;
    self->events = 0;
    if (self->was_lost) {
        make_due(self, STREAM_BACK);
    }
    self->was_lost = false;
    self->whole_copy = !self->synced;
    if (self->whole_copy && self->told_some) {
        make_due(self,
                 STREAM_RESET); /* a first copy broke off: what was deleted since is not told */
        forget_seen(self);
    }
}

/* Gives an event of the stream to the user, unless it was told before. */
static bool take_event(struct stream *self, tw_bson frame, stream_event *out)
{
    tw_position at = {(uint64_t)tw_bson_get_i64_or(frame, TW_STR("srv_id"), 0),
                      (uint64_t)tw_bson_get_i64_or(frame, TW_STR("seqno"), 0)};
    if (at.seqno == 0) {
        out->kind = STREAM_EVENT; /* a dispatched message: it is not stored, and has no position */
        return true;
    }
    if (self->catching_up && seen_before(self, at)) {
        return false;
    }
    if (!self->catching_up) {
        raise(self, at);
    }
    self->told_some = true;
    self->events++;
    out->kind = STREAM_EVENT;
    return true;
}

static bool take_sync(struct stream *self, tw_bson frame, stream_event *out)
{
    bool first = self->catching_up;
    self->synced = read_vector(self, tw_bson_get(frame, TW_STR("since")));
    tw_buf_clear(&self->query);
    tw_buf_add_str(&self->query, tw_bson_get_str(frame, TW_STR("query")));
    self->catching_up = self->whole_copy = false;
    self->failures = 0;
    forget_seen(self);
    out->kind = STREAM_SYNCED;
    out->count = self->events;
    return first;
}

/* An error that ends the stream for good. That the connection's rights are others than before does
 * not: the server ends it, and the stream begins under the new ones. */
static bool is_final(tw_bson frame)
{
    bool again = tw_str_equal(tw_bson_get_str(frame, TW_STR("code")), TW_STR("forbidden")) &&
                 tw_bson_get(frame, TW_STR("mux_id")).type == 0;
    return !again && tw_str_equal(tw_bson_get_str(frame, TW_STR("retry")), TW_STR("no"));
}

/* True when the frame is something to tell. */
static bool take_frame(struct stream *self, tw_str text, stream_event *out)
{
    tw_arena_reset(&self->arena);
    *out = (stream_event){.text = text};
    if (tw_json_read(&self->arena, text, TW_DEPTH_MAX, &out->frame, NULL) != TW_OK) {
        tw_format(self->why, sizeof(self->why), "the server sent what is no JSON");
        lose(self);
        return false;
    }
    tw_str type = tw_bson_get_str(out->frame, TW_STR("type"));
    if (tw_bson_get_i64_or(out->frame, TW_STR("mux_id"), 0) != MUX_ID &&
        !tw_str_equal(type, TW_STR("error"))) {
        return false; /* of the stream that /changes begins with, or welcome */
    }
    if (tw_str_equal(type, TW_STR("sync"))) {
        return take_sync(self, out->frame, out);
    }
    if (tw_str_equal(type, TW_STR("reset"))) {
        self->synced = false;
        self->from_nothing = true;
        self->at_count = 0;
        self->catching_up = self->whole_copy = true;
        forget_seen(self);
        out->kind = STREAM_RESET;
        return true;
    }
    if (tw_str_equal(type, TW_STR("error"))) {
        if (is_final(out->frame)) {
            self->over = true;
            out->kind = STREAM_REFUSED;
            return true;
        }
        tw_str message = tw_bson_get_str(out->frame, TW_STR("message"));
        tw_format(self->why, sizeof(self->why), "%.*s", (int)message.len, message.ptr);
        lose(self);
        return false;
    }
    if (tw_str_equal(type, TW_STR("closed"))) {
        return false;
    }
    return take_event(self, out->frame, out);
}

tw_err stream_next(stream *self, uint32_t timeout_ms, stream_event *out)
{
    TW_ASSERT(self->magic == STREAM_MAGIC);
    uint64_t until = clock_ms() + timeout_ms;
    for (;;) {
        if (self->has_due) {
            self->has_due = false;
            *out = self->due;
            return TW_OK;
        }
        uint64_t now = clock_ms();
        if (self->over || now > until) {
            return self->over ? TW_E_END : TW_E_TIMEOUT;
        }
        if (self->client == NULL && now >= self->retry_at_ms) {
            connect_again(self);
            continue;
        }
        if (self->client == NULL) {
            uint64_t wait = (self->retry_at_ms < until ? self->retry_at_ms : until + 1) - now;
            nanosleep(&(struct timespec){.tv_sec = (time_t)(wait / 1000),
                                         .tv_nsec = (long)(wait % 1000) * 1000000},
                      NULL);
            continue;
        }
        tw_str text;
        tw_err err = websocket_client_receive(self->client, (uint32_t)(until - now), &text);
        if (err == TW_OK) {
            self->heard_ms = clock_ms();
            if (take_frame(self, text, out)) {
                return TW_OK;
            }
        } else if (err != TW_E_TIMEOUT || clock_ms() > self->heard_ms + SILENCE_MS) {
            tw_format(self->why, sizeof(self->why), "the connection ended");
            lose(self);
        }
    }
}
