/* tidewire.c - the client of libtidewire: calls, and what comes and goes as JSON or msgpack. */
#include "clients/c/tidewire.h"

#include <stdarg.h>
#include <stdio.h>

#include "protocol/codec.h"
#include "protocol/json.h"

#include "clients/c/tidewire_priv.h"

enum { INPUT_MEMORY = 8 * TW_ACTOR_MESSAGE_MAX }; /* bytes of one call's arguments as BSON */

struct tidewire {
    service_client *client; /* own */
    service_call call;      /* own */
    uint32_t deadline_ms;
    char database[TW_NAME_MAX + 1];
    tidewire_form replies;
    tw_arena arena;    /* own; arguments */
    tw_buf request;    /* own; BSON */
    tw_buf told;       /* own; what tidewire_next and tidewire_reply gave last */
    tw_bson reply;     /* in call.arena */
    tw_bson_iter docs; /* of reply */
    char opid[17];
};

/* ---- results ---- */
tidewire_result tidewire_succeed(tidewire_error *error)
{
    if (error != NULL) {
        *error = (tidewire_error){.result = TIDEWIRE_OK};
    }
    return TIDEWIRE_OK;
}

static tidewire_result result_of(const service_failure *failure)
{
    static const struct {
        tw_err code;
        tidewire_result result;
    } own[] = {
        {TW_E_TIMEOUT, TIDEWIRE_TIMEOUT},
        {TW_E_UNAVAILABLE, TIDEWIRE_TIMEOUT},
        {TW_E_NO_MEMORY, TIDEWIRE_FAILED},
        {TW_E_DISK, TIDEWIRE_FAILED},
    };
    for (size_t i = 0; i < TW_COUNT(own); i++) {
        if (failure->code == own[i].code) {
            return own[i].result;
        }
    }
    return TIDEWIRE_REFUSED;
}

static tidewire_result tell(tidewire_error *error, const service_failure *failure,
                            tidewire_result result)
{
    if (error == NULL) {
        return result;
    }
    *error = (tidewire_error){.result = result, .version = failure->version};
    error->retry = strcmp(failure->retry, "now") == 0  ? TIDEWIRE_RETRY_NOW
                   : strcmp(failure->retry, "no") == 0 ? TIDEWIRE_RETRY_NO
                                                       : TIDEWIRE_RETRY_BACKOFF;
    tw_format(error->code, sizeof error->code, "%s", failure->name);
    tw_format(error->message, sizeof error->message, "%s", failure->message);
    tw_format(error->hint, sizeof error->hint, "%s", failure->hint);
    return result;
}

tidewire_result tidewire_fail(tidewire_error *error, const service_failure *failure)
{
    return tell(error, failure, result_of(failure));
}

tidewire_result tidewire_fail_input(tidewire_error *error, tw_err code, const char *format, ...)
{
    service_failure failure;
    char text[TW_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)(service_fail(&failure, code, NULL, "%s", text) == TW_OK); /* it is told here */
    return tell(error, &failure, TIDEWIRE_BAD_INPUT);
}

/* ---- what comes in ---- */
static tw_err read_json(tw_arena *arena, tidewire_data data, const char *name, tw_bson *out,
                        tw_str *why)
{
    tw_buf text;
    tw_buf_init(&text, data.len + TW_NAME_MAX);
    tw_buf_format(&text, "{\"%s\":", name);
    tw_buf_add(&text, data.bytes, data.len);
    tw_buf_add_byte(&text, '}');
    tw_err err = text.err != TW_OK
                     ? text.err
                     : tw_json_read(arena, tw_buf_str(&text), TW_DEPTH_CLIENT_MAX, out, why);
    tw_buf_fini(&text);
    return err;
}

static tw_err read_msgpack(tw_arena *arena, tidewire_data data, const char *name, tw_bson *out)
{
    tw_buf bytes;
    size_t len = strlen(name);
    TW_ASSERT(len < 32); /* msgpack's shortest text */
    tw_buf_init(&bytes, data.len + TW_NAME_MAX);
    tw_buf_add_byte(&bytes, (char)0x81);
    tw_buf_add_byte(&bytes, (char)(0xa0 | len));
    tw_buf_add(&bytes, name, len);
    tw_buf_add(&bytes, data.bytes, data.len);
    tw_err err = bytes.err != TW_OK
                     ? bytes.err
                     : tw_msgpack_to_bson(arena, tw_buf_str(&bytes), TW_DEPTH_CLIENT_MAX, out);
    tw_buf_fini(&bytes);
    return err;
}

tidewire_result tidewire_read(tw_arena *arena, tidewire_data data, const char *name, tw_bson *out,
                              tidewire_error *error)
{
    tw_str why = {0};
    if (data.bytes == NULL) {
        return tidewire_fail_input(error, TW_E_BAD_MESSAGE, "\"%s\" is missing.", name);
    }
    if (data.len > TW_DOCUMENT_MAX) {
        return tidewire_fail_input(error, TW_E_TOO_BIG, "\"%s\" has %zu bytes; %d are allowed.",
                                   name, data.len, TW_DOCUMENT_MAX);
    }
    tw_err err = data.form == TIDEWIRE_JSON ? read_json(arena, data, name, out, &why)
                                            : read_msgpack(arena, data, name, out);
    if (err != TW_OK) {
        return tidewire_fail_input(error, err, "\"%s\" is no %s value: %.*s", name,
                                   data.form == TIDEWIRE_JSON ? "JSON" : "msgpack",
                                   why.ptr != NULL ? (int)why.len : 200,
                                   why.ptr != NULL ? why.ptr : tw_err_text(err));
    }
    if (tw_bson_count(*out) != 1) { /* text like 1,"op":2 would be more fields of the request */
        return tidewire_fail_input(error, TW_E_BAD_MESSAGE, "\"%s\" is more than one value.", name);
    }
    return TIDEWIRE_OK;
}

tidewire_result tidewire_read_doc(tw_arena *arena, tidewire_data data, const char *what,
                                  tw_bson *out, tidewire_error *error)
{
    tw_bson field;
    tidewire_result result = tidewire_read(arena, data, what, &field, error);
    if (result != TIDEWIRE_OK) {
        return result;
    }
    tw_bson_value value = tw_bson_get(field, tw_str_of(what));
    if (value.type != TW_BSON_DOCUMENT) {
        return tidewire_fail_input(error, TW_E_BAD_DOCUMENT, "\"%s\" is to be an object.", what);
    }
    *out = tw_bson_value_doc(value);
    return TIDEWIRE_OK;
}

/* ---- what goes out ---- */
tidewire_data tidewire_render(tw_buf *out, tw_bson doc, tidewire_form form)
{
    tidewire_data none = {form, NULL, 0};
    if (doc.len == 0) {
        return none;
    }
    tw_buf_clear(out);
    if (form == TIDEWIRE_MSGPACK) {
        tw_msgpack_from_bson(out, doc);
    } else {
        tw_json_write(out, doc);
        tw_buf_add_byte(out, '\0');
    }
    size_t terminator = form == TIDEWIRE_JSON ? 1 : 0;
    return out->err != TW_OK ? none : (tidewire_data){form, out->ptr, out->len - terminator};
}

/* ---- opening ---- */
const service_identity *tidewire_identity_of(const tidewire_identity *given, service_identity *out)
{
    if (given == NULL) {
        return NULL;
    }
    *out = (service_identity){given->token, given->give, given->context};
    return out;
}

static tidewire_result say_hello(tidewire *self, uint64_t deadline_ms, tidewire_error *error)
{
    tw_bson_builder b;
    tw_buf_clear(&self->request);
    tw_bson_begin(&b, &self->request);
    tw_bson_add_str(&b, TW_STR("op"), TW_STR("get_new_id")); /* it touches nothing */
    tw_bson request = tw_bson_end(&b);
    tw_err err = service_call_init(&self->call, self->client);
    err = err != TW_OK ? err : service_call_ask(&self->call, request, deadline_ms, &self->reply);
    return err == TW_OK ? tidewire_succeed(error) : tidewire_fail(error, &self->client->failure);
}

tidewire_result tidewire_open(tidewire **out, const char *url, const tidewire_options *options,
                              tidewire_error *error)
{
    static const tidewire_options defaults = {0};
    service_failure failure;
    const tidewire_options *given = options == NULL ? &defaults : options;
    *out = NULL;
    if (url == NULL || (given->database != NULL && strlen(given->database) > TW_NAME_MAX)) {
        return tidewire_fail_input(error, TW_E_BAD_MESSAGE,
                                   "A client needs an address; a database's name has at most %d "
                                   "bytes.",
                                   TW_NAME_MAX);
    }
    tidewire *self = tw_alloc_zero(1, sizeof *self);
    if (self == NULL) {
        (void)(service_fail(&failure, TW_E_NO_MEMORY, NULL, "No memory for a client.") == TW_OK);
        return tidewire_fail(error, &failure);
    }
    tw_arena_init(&self->arena, INPUT_MEMORY);
    tw_buf_init(&self->request, TW_ACTOR_MESSAGE_MAX);
    tw_buf_init(&self->told, (size_t)2 * TW_ACTOR_MESSAGE_MAX);
    self->deadline_ms = given->deadline_ms != 0 ? given->deadline_ms : TIDEWIRE_DEADLINE_MS;
    self->replies = given->replies;
    tw_format(self->database, sizeof self->database, "%s",
              given->database == NULL ? "" : given->database);
    tidewire_result result;
    service_identity who;
    if (service_client_open(&self->client, url, tidewire_identity_of(given->identity, &who),
                            &failure) != TW_OK) {
        result = failure.code == TW_E_BAD_MESSAGE ? tell(error, &failure, TIDEWIRE_BAD_INPUT)
                                                  : tidewire_fail(error, &failure);
    } else {
        result = say_hello(self, tidewire_deadline(self->deadline_ms, 0), error);
    }
    if (result != TIDEWIRE_OK) {
        tidewire_close(&self);
        return result;
    }
    *out = self;
    return TIDEWIRE_OK;
}

void tidewire_close(tidewire **client)
{
    if (client == NULL || *client == NULL) {
        return;
    }
    tidewire *self = *client;
    *client = NULL;
    if (self->call.client != NULL) {
        service_call_fini(&self->call);
    }
    service_client_close(&self->client);
    tw_arena_fini(&self->arena);
    tw_buf_fini(&self->request);
    tw_buf_fini(&self->told);
    tw_free(self);
}

/* ---- calls ---- */
/* One request being built: begin, add the arguments, run. */
typedef struct asked {
    tidewire *self;
    tw_bson_builder builder;
    const tidewire_call *call;
    tidewire_error *error;
    tidewire_result result; /* the first thing that was wrong */
} asked;

static void begin(asked *a, tidewire *self, const char *op, const char *collection,
                  const tidewire_call *call, tidewire_error *error)
{
    static const tidewire_call none = {0};
    *a = (asked){.self = self, .call = call == NULL ? &none : call, .error = error};
    tw_arena_reset(&self->arena);
    tw_buf_clear(&self->request);
    self->reply = (tw_bson){0};
    self->docs = (tw_bson_iter){0};
    tw_bson_begin(&a->builder, &self->request);
    if (op == NULL) {
        return; /* the request names all of it */
    }
    if (collection == NULL) {
        a->result = tidewire_fail_input(error, TW_E_BAD_MESSAGE, "A collection is missing.");
        return;
    }
    tw_bson_add_str(&a->builder, TW_STR("op"), tw_str_of(op));
    tw_bson_add_str(&a->builder, TW_STR("collection"), tw_str_of(collection));
    if (self->database[0] != '\0') {
        tw_bson_add_str(&a->builder, TW_STR("database"), tw_str_of(self->database));
    }
}

static void add_value(asked *a, const char *name, tidewire_data data)
{
    tw_bson field;
    if (a->result == TIDEWIRE_OK) {
        a->result = tidewire_read(&a->self->arena, data, name, &field, a->error);
    }
    if (a->result == TIDEWIRE_OK) {
        tw_bson_add_all(&a->builder, field);
    }
}

/* The fields of an object beside those of the request. */
static void add_fields(asked *a, const char *what, tidewire_data data)
{
    tw_bson doc;
    if (a->result == TIDEWIRE_OK) {
        a->result = tidewire_read_doc(&a->self->arena, data, what, &doc, a->error);
    }
    if (a->result == TIDEWIRE_OK) {
        tw_bson_add_all(&a->builder, doc);
    }
}

/* What each write carries; without an opid of the caller's a repeat has one of ours. */
static void add_write(asked *a)
{
    const char *opid = a->call->opid;
    if (opid == NULL && service_opid(a->self->opid) == TW_OK) {
        opid = a->self->opid;
    }
    if (opid != NULL) {
        tw_bson_add_str(&a->builder, TW_STR("opid"), tw_str_of(opid));
    }
    if (a->call->if_version != 0) {
        tw_bson_add_i64(&a->builder, TW_STR("if_version"), a->call->if_version);
    }
    if (a->call->silent) {
        tw_bson_add_bool(&a->builder, TW_STR("dispatch"), false);
    }
    if (a->call->atomic) {
        tw_bson_add_bool(&a->builder, TW_STR("atomic"), true);
    }
}

static tidewire_result run(asked *a)
{
    tidewire *self = a->self;
    tw_bson request = tw_bson_end(&a->builder);
    if (a->result != TIDEWIRE_OK) {
        return a->result;
    }
    if (self->request.err != TW_OK) {
        return tidewire_fail_input(a->error, self->request.err, "The request is too large.");
    }
    uint64_t deadline_ms = tidewire_deadline(a->call->deadline_ms, self->deadline_ms);
    tw_err err = service_call_ask(&self->call, request, deadline_ms, &self->reply);
    tw_bson_iter_init(&self->docs, tw_bson_get_doc(self->reply, TW_STR("docs")));
    if (err == TW_OK) {
        return tidewire_succeed(a->error);
    }
    bool was_sent = self->reply.len != 0 || self->client->failure.code != TW_E_TOO_BIG;
    return was_sent ? tidewire_fail(a->error, &self->client->failure)
                    : tell(a->error, &self->client->failure, TIDEWIRE_BAD_INPUT);
}

static tidewire_result write_doc(tidewire *client, const char *op, const char *collection,
                                 tidewire_data doc, const tidewire_call *call,
                                 tidewire_error *error)
{
    asked a;
    begin(&a, client, op, collection, call, error);
    add_value(&a, "doc", doc);
    add_write(&a);
    return run(&a);
}

tidewire_result tidewire_put(tidewire *client, const char *collection, tidewire_data doc,
                             const tidewire_call *call, tidewire_error *error)
{
    return write_doc(client, "put", collection, doc, call, error);
}

tidewire_result tidewire_insert(tidewire *client, const char *collection, tidewire_data doc,
                                const tidewire_call *call, tidewire_error *error)
{
    return write_doc(client, "insert", collection, doc, call, error);
}

tidewire_result tidewire_update(tidewire *client, const char *collection, tidewire_data id,
                                tidewire_data change, const tidewire_call *call,
                                tidewire_error *error)
{
    asked a;
    begin(&a, client, "update", collection, call, error);
    add_value(&a, "id", id);
    add_fields(&a, "change", change);
    add_write(&a);
    return run(&a);
}

tidewire_result tidewire_remove(tidewire *client, const char *collection, tidewire_data id,
                                const tidewire_call *call, tidewire_error *error)
{
    asked a;
    begin(&a, client, "remove", collection, call, error);
    add_value(&a, "id", id);
    add_write(&a);
    return run(&a);
}

tidewire_result tidewire_batch(tidewire *client, const char *collection, tidewire_data ops,
                               const tidewire_call *call, tidewire_error *error)
{
    asked a;
    begin(&a, client, "batch", collection, call, error);
    add_value(&a, "ops", ops);
    add_write(&a);
    return run(&a);
}

tidewire_result tidewire_get(tidewire *client, const char *collection, tidewire_data ids,
                             const tidewire_call *call, tidewire_error *error)
{
    asked a;
    begin(&a, client, "getByIds", collection, call, error);
    add_value(&a, "ids", ids);
    return run(&a);
}

tidewire_result tidewire_find(tidewire *client, const char *collection, tidewire_data query,
                              tidewire_data more, const tidewire_call *call, tidewire_error *error)
{
    asked a;
    begin(&a, client, "find", collection, call, error);
    add_value(&a, "query", query);
    if (more.bytes != NULL) {
        add_fields(&a, "more", more);
    }
    return run(&a);
}

tidewire_result tidewire_ask(tidewire *client, tidewire_data request, const tidewire_call *call,
                             tidewire_error *error)
{
    asked a;
    begin(&a, client, NULL, NULL, call, error);
    add_fields(&a, "request", request);
    return run(&a);
}

/* ---- answers ---- */
tidewire_data tidewire_next(tidewire *client)
{
    tw_bson doc = {0};
    if (client->docs.at != NULL && tw_bson_iter_next(&client->docs)) {
        doc = tw_bson_value_doc(client->docs.value);
    }
    return tidewire_render(&client->told, doc, client->replies);
}

tidewire_data tidewire_reply(tidewire *client)
{
    return tidewire_render(&client->told, client->reply, client->replies);
}

int64_t tidewire_version(const tidewire *client)
{
    return tw_bson_get_i64_or(client->reply, TW_STR("version"), 0);
}

uint64_t tidewire_count(const tidewire *client)
{
    return (uint64_t)tw_bson_get_i64_or(client->reply, TW_STR("count"), 0);
}

uint64_t tidewire_failed(const tidewire *client)
{
    return (uint64_t)tw_bson_get_i64_or(client->reply, TW_STR("failed"), 0);
}
