/* tidewire_publisher.c - many records in batches, a window of them on their way at once.
 *
 * Invariants
 * 1. Batches are numbered from 1 and acknowledged in that order; a batch keeps its opid for as long
 *    as it lives, so a repeat has no second effect.
 * 2. A restart of the server may let batches that are on their way overtake each other. So no two
 *    of them hold the same key: a put of a key that is on its way waits for its batch. `keys` knows
 *    which: a hash table whose entries of acknowledged batches count as free. */
#include "protocol/bson.h"

#include "clients/c/tidewire.h"
#include "clients/c/tidewire_priv.h"

enum {
    WINDOW = 8,
    WINDOW_MAX = 32, /* nng 1.5.2 holds 64 answers of a pipe and drops what is beyond */
    BATCH_RECORDS = 1000,
    BATCH_BYTES = 65536,
    BATCH_BYTES_MAX = 1000000, /* with its frame below TW_SERVICE_MESSAGE_MAX */
    DEADLINE_MS = 60000,
    KEYS_PER_RECORD = 4, /* slots of the table for each record on its way */
    KEYS_PROBES = 8,
};

typedef struct key_mark {
    uint64_t hash;
    uint64_t batch; /* up to `acknowledged`: free */
} key_mark;

typedef struct batch {
    service_call call;
    uint64_t records;
} batch;

struct tidewire_publisher {
    service_client *client; /* own */
    batch *batches;         /* own; batch number n is in n % window */
    uint32_t window, batch_records, batch_bytes, deadline_ms;
    uint64_t sent, acknowledged; /* numbers of the last batch */
    uint64_t records;            /* acknowledged */
    uint64_t filling;            /* records of the batch that is being filled: number sent + 1 */
    tw_buf built;                /* own; its request */
    tw_bson_builder builder;
    tw_arena arena; /* own; one document */
    key_mark *keys; /* own */
    size_t keys_count;
    bool is_over;
    bool silent;
    char run[17]; /* opid of the publisher */
    char collection[TW_NAME_MAX + 1], database[TW_NAME_MAX + 1], key[TW_NAME_MAX + 1];
};

/* ---- opening ---- */
static tidewire_result check(const char *url, const char *collection,
                             const tidewire_publisher_options *given, tidewire_error *error)
{
    const char *names[] = {collection, given->database, given->key};
    for (size_t i = 0; i < TW_COUNT(names); i++) {
        if (names[i] != NULL && strlen(names[i]) > TW_NAME_MAX) {
            return tidewire_fail_input(error, TW_E_TOO_BIG, "A name has at most %d bytes.",
                                       TW_NAME_MAX);
        }
    }
    if (url == NULL || collection == NULL) {
        return tidewire_fail_input(error, TW_E_BAD_MESSAGE,
                                   "A publisher needs an address and a collection.");
    }
    if (given->window > WINDOW_MAX || given->batch_records > TW_WRITE_OPS_MAX ||
        given->batch_bytes > BATCH_BYTES_MAX) {
        return tidewire_fail_input(error, TW_E_TOO_MANY,
                                   "window is at most %d, batch_records %d, batch_bytes %d.",
                                   WINDOW_MAX, TW_WRITE_OPS_MAX, BATCH_BYTES_MAX);
    }
    return TIDEWIRE_OK;
}

static tw_err allocate(tidewire_publisher *self)
{
    self->keys_count = 1;
    while (self->keys_count < (size_t)KEYS_PER_RECORD * self->window * self->batch_records) {
        self->keys_count *= 2;
    }
    self->keys = tw_alloc_zero(self->keys_count, sizeof *self->keys);
    self->batches = tw_alloc_zero(self->window, sizeof *self->batches);
    if (self->keys == NULL || self->batches == NULL) {
        return service_fail(&self->client->failure, TW_E_NO_MEMORY, NULL,
                            "No memory for a publisher.");
    }
    for (uint32_t i = 0; i < self->window; i++) {
        tw_err err = service_call_init(&self->batches[i].call, self->client);
        if (err != TW_OK) {
            return err;
        }
    }
    return service_opid(self->run);
}

/* Asks once whether a server answers there. */
static tw_err say_hello(tidewire_publisher *self)
{
    tw_bson_builder b;
    tw_bson reply;
    tw_buf_clear(&self->built);
    tw_bson_begin(&b, &self->built);
    tw_bson_add_str(&b, TW_STR("op"), TW_STR("get_new_id"));
    tw_bson request = tw_bson_end(&b);
    bool is_short = self->deadline_ms < TIDEWIRE_DEADLINE_MS;
    uint64_t deadline_ms =
        tidewire_deadline(is_short ? self->deadline_ms : 0, TIDEWIRE_DEADLINE_MS);
    return service_call_ask(&self->batches[0].call, request, deadline_ms, &reply);
}

static void begin_batch(tidewire_publisher *self)
{
    char opid[64];
    tw_bson_builder *b = &self->builder;
    tw_buf_clear(&self->built);
    tw_bson_begin(b, &self->built);
    tw_bson_add_str(b, TW_STR("op"), TW_STR("batch"));
    tw_bson_add_str(b, TW_STR("collection"), tw_str_of(self->collection));
    if (self->database[0] != '\0') {
        tw_bson_add_str(b, TW_STR("database"), tw_str_of(self->database));
    }
    size_t len =
        tw_format(opid, sizeof opid, "%s-%llu", self->run, (unsigned long long)self->sent + 1);
    tw_bson_add_str(b, TW_STR("opid"), (tw_str){opid, len});
    if (self->silent) {
        tw_bson_add_bool(b, TW_STR("dispatch"), false);
    }
    tw_bson_open_array(b, TW_STR("ops"));
    self->filling = 0;
}

tidewire_result tidewire_publisher_open(tidewire_publisher **out, const char *url,
                                        const char *collection,
                                        const tidewire_publisher_options *options,
                                        tidewire_error *error)
{
    static const tidewire_publisher_options defaults = {0};
    const tidewire_publisher_options *given = options == NULL ? &defaults : options;
    service_failure failure = {.code = TW_E_NO_MEMORY, .message = "No memory for a publisher."};
    *out = NULL;
    tidewire_result result = check(url, collection, given, error);
    if (result != TIDEWIRE_OK) {
        return result;
    }
    tidewire_publisher *self = tw_alloc_zero(1, sizeof *self);
    if (self == NULL) {
        return tidewire_fail(error, &failure);
    }
    self->window = given->window != 0 ? given->window : WINDOW;
    self->batch_records = given->batch_records != 0 ? given->batch_records : BATCH_RECORDS;
    self->batch_bytes = given->batch_bytes != 0 ? given->batch_bytes : BATCH_BYTES;
    self->deadline_ms = given->deadline_ms != 0 ? given->deadline_ms : DEADLINE_MS;
    self->silent = given->silent;
    tw_format(self->collection, sizeof self->collection, "%s", collection);
    tw_format(self->database, sizeof self->database, "%s",
              given->database == NULL ? "" : given->database);
    tw_format(self->key, sizeof self->key, "%s", given->key == NULL ? "_id" : given->key);
    tw_buf_init(&self->built, (size_t)2 * TW_ACTOR_MESSAGE_MAX);
    tw_arena_init(&self->arena, (size_t)8 * TW_ACTOR_MESSAGE_MAX);
    service_identity who;
    tw_err err = service_client_open(&self->client, url,
                                     tidewire_identity_of(given->identity, &who), &failure);
    if (err == TW_OK) {
        err = allocate(self);
        err = err != TW_OK ? err : say_hello(self);
        failure = self->client->failure;
    }
    if (err != TW_OK) {
        tidewire_publisher_close(&self);
        return tidewire_fail(error, &failure);
    }
    begin_batch(self);
    *out = self;
    return tidewire_succeed(error);
}

void tidewire_publisher_close(tidewire_publisher **publisher)
{
    if (publisher == NULL || *publisher == NULL) {
        return;
    }
    tidewire_publisher *self = *publisher;
    *publisher = NULL;
    for (uint32_t i = 0; self->batches != NULL && i < self->window; i++) {
        if (self->batches[i].call.client != NULL) {
            service_call_fini(&self->batches[i].call);
        }
    }
    service_client_close(&self->client);
    tw_free(self->batches);
    tw_free(self->keys);
    tw_buf_fini(&self->built);
    tw_arena_fini(&self->arena);
    tw_free(self);
}

/* ---- acknowledgements ---- */
/* An operation of a batch was refused alone: what the first of them says. */
static tidewire_result fail_record(tidewire_publisher *self, tw_bson reply, tidewire_error *error)
{
    tw_bson_iter iter;
    uint64_t at = 0;
    tw_bson_iter_init(&iter, tw_bson_get_doc(reply, TW_STR("results")));
    for (; tw_bson_iter_next(&iter); at++) {
        tw_bson result = tw_bson_value_doc(iter.value);
        tw_str code = tw_bson_get_str(result, TW_STR("code"));
        tw_str message = tw_bson_get_str(result, TW_STR("message"));
        if (code.ptr != NULL) {
            char name[TW_MUX_ID_MAX];
            service_failure failure;
            tw_format(name, sizeof name, "%.*s", (int)code.len, code.ptr);
            tw_err err = service_fail(&failure, tw_err_by_code(name), NULL, "record %llu: %.*s",
                                      (unsigned long long)(self->records + at), (int)message.len,
                                      message.ptr == NULL ? "" : message.ptr);
            tw_format(failure.name, sizeof failure.name, "%s", name);
            (void)(err == TW_OK); /* it is told to the caller */
            return tidewire_fail(error, &failure);
        }
    }
    return tidewire_fail(error, &self->client->failure);
}

/* Waits for the oldest batch. */
static tidewire_result receive(tidewire_publisher *self, tidewire_error *error)
{
    batch *oldest = &self->batches[(self->acknowledged + 1) % self->window];
    tw_bson reply;
    TW_ASSERT(self->acknowledged < self->sent);
    if (service_call_end(&oldest->call, &reply) != TW_OK) {
        self->is_over = true;
        return tidewire_fail(error, &self->client->failure);
    }
    if (tw_bson_get_i64_or(reply, TW_STR("failed"), 0) != 0) {
        self->is_over = true;
        return fail_record(self, reply, error);
    }
    self->acknowledged++;
    self->records += oldest->records;
    return TIDEWIRE_OK;
}

static tidewire_result receive_to(tidewire_publisher *self, uint64_t number, tidewire_error *error)
{
    tidewire_result result = TIDEWIRE_OK;
    while (result == TIDEWIRE_OK && self->acknowledged < number) {
        result = receive(self, error);
    }
    return result;
}

static tidewire_result send(tidewire_publisher *self, tidewire_error *error)
{
    tw_bson_close(&self->builder);
    tw_bson request = tw_bson_end(&self->builder);
    if (self->built.err != TW_OK) {
        self->is_over = true;
        return tidewire_fail_input(error, self->built.err, "The batch is too large.");
    }
    if (self->sent - self->acknowledged == self->window) {
        tidewire_result result = receive(self, error);
        if (result != TIDEWIRE_OK) {
            return result;
        }
    }
    batch *next = &self->batches[(self->sent + 1) % self->window];
    next->records = self->filling;
    if (service_call_begin(&next->call, request, tidewire_deadline(self->deadline_ms, 0)) !=
        TW_OK) {
        self->is_over = true;
        return tidewire_fail(error, &self->client->failure);
    }
    self->sent++;
    begin_batch(self);
    return TIDEWIRE_OK;
}

/* ---- keys on their way ---- */
/* Marks the key for the batch that is being filled; waits for an earlier batch that holds it. */
static tidewire_result take_key(tidewire_publisher *self, tw_bson doc, tidewire_error *error)
{
    tw_key key;
    tw_bson_value value = tw_bson_get(doc, tw_str_of(self->key));
    if (value.type == 0 || tw_key_of_value(&self->arena, value, &key) != TW_OK) {
        return TIDEWIRE_OK; /* the server makes one, or says what is wrong with it */
    }
    uint64_t hash = tw_hash(key.ptr, key.len, 0);
    key_mark *free_mark = NULL;
    for (size_t i = 0; i < KEYS_PROBES; i++) {
        key_mark *mark = &self->keys[(hash + i) & (self->keys_count - 1)];
        if (mark->batch <= self->acknowledged) {
            free_mark = free_mark == NULL ? mark : free_mark;
        } else if (mark->hash == hash) {
            tidewire_result result =
                mark->batch == self->sent + 1 ? TIDEWIRE_OK : receive_to(self, mark->batch, error);
            mark->batch = self->sent + 1;
            return result;
        }
    }
    if (free_mark != NULL) {
        *free_mark = (key_mark){hash, self->sent + 1};
        return TIDEWIRE_OK;
    }
    tidewire_result result = self->filling == 0 ? TIDEWIRE_OK : send(self, error);
    result = result != TIDEWIRE_OK ? result : receive_to(self, self->sent, error);
    self->keys[hash & (self->keys_count - 1)] = (key_mark){hash, self->sent + 1};
    return result;
}

/* ---- records ---- */
static tidewire_result fail_over(tidewire_error *error)
{
    return tidewire_fail_input(error, TW_E_END,
                               "The publisher failed before: close it and open another.");
}

tidewire_result tidewire_publisher_put(tidewire_publisher *self, tidewire_data data,
                                       tidewire_error *error)
{
    tw_bson doc;
    if (self->is_over) {
        return fail_over(error);
    }
    tw_arena_reset(&self->arena);
    tidewire_result result = tidewire_read_doc(&self->arena, data, "doc", &doc, error);
    if (result != TIDEWIRE_OK) {
        return result;
    }
    if (data.len > BATCH_BYTES_MAX || doc.len > BATCH_BYTES_MAX) {
        return tidewire_fail_input(error, TW_E_TOO_BIG, "The record has %zu bytes; %d are allowed.",
                                   doc.len, BATCH_BYTES_MAX);
    }
    if (self->filling != 0 && self->built.len + doc.len > BATCH_BYTES_MAX) {
        result = send(self, error);
    }
    result = result != TIDEWIRE_OK ? result : take_key(self, doc, error);
    if (result != TIDEWIRE_OK) {
        return result;
    }
    tw_bson_open_doc(&self->builder, TW_STR(""));
    tw_bson_add_str(&self->builder, TW_STR("op"), TW_STR("put"));
    tw_bson_add_doc(&self->builder, TW_STR("doc"), doc);
    tw_bson_close(&self->builder);
    self->filling++;
    if (self->filling >= self->batch_records || self->built.len >= self->batch_bytes) {
        result = send(self, error);
    }
    return result != TIDEWIRE_OK ? result : tidewire_succeed(error);
}

tidewire_result tidewire_publisher_flush(tidewire_publisher *self, tidewire_error *error)
{
    if (self->is_over) {
        return fail_over(error);
    }
    tidewire_result result = self->filling == 0 ? TIDEWIRE_OK : send(self, error);
    result = result != TIDEWIRE_OK ? result : receive_to(self, self->sent, error);
    return result != TIDEWIRE_OK ? result : tidewire_succeed(error);
}

uint64_t tidewire_publisher_acknowledged(const tidewire_publisher *self)
{
    return self->records;
}
