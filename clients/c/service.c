/* service.c - nng REQ of a client of the service socket.
 *
 * A request is sent again in two ways. nng does it when the connection breaks (its contexts keep
 * the message); this file does it when a server answers that it cannot now (busy, draining,
 * unavailable, ...), after a pause. Both need the opid that a write carries. */
#include "clients/c/service.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include <nng/protocol/reqrep0/req.h>

#include "protocol/codec.h"

#include "clients/c/service_close.h"

enum {
    RECONNECT_MIN_MS = 10,
    RECONNECT_MAX_MS = 250,
    BACKOFF_FIRST_MS = 20,
    BACKOFF_MAX_MS = 1000,
    ANSWER_MEMORY = 4 * TW_ACTOR_MESSAGE_MAX, /* bytes of an answer as BSON */
};

static const struct nng_row {
    int rv;
    tw_err err;
} nng_rows[] = {
    {0, TW_OK},
    {NNG_ENOMEM, TW_E_NO_MEMORY},
    {NNG_ETIMEDOUT, TW_E_TIMEOUT},
    {NNG_EAGAIN, TW_E_TIMEOUT},
    {NNG_EMSGSIZE, TW_E_TOO_BIG},
    {NNG_EADDRINVAL, TW_E_BAD_MESSAGE},
    {NNG_EINVAL, TW_E_BAD_MESSAGE},
    {NNG_ENOTSUP, TW_E_BAD_MESSAGE},
};

tw_err service_failure_of(int rv)
{
    for (size_t i = 0; i < TW_COUNT(nng_rows); i++) {
        if (nng_rows[i].rv == rv) {
            return nng_rows[i].err;
        }
    }
    return TW_E_UNAVAILABLE;
}

uint64_t service_clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

tw_err service_opid(char out[17])
{
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
        return TW_E_INTERNAL;
    }
    tw_format(out, 17, "%016llx", (unsigned long long)random);
    return TW_OK;
}

tw_err service_fail(service_failure *failure, tw_err code, const char *hint, const char *format,
                    ...)
{
    va_list args;
    *failure = (service_failure){.code = code};
    va_start(args, format);
    (void)vsnprintf(failure->message, sizeof failure->message, format, args);
    va_end(args);
    tw_format(failure->hint, sizeof failure->hint, "%s", hint == NULL ? "" : hint);
    tw_format(failure->name, sizeof failure->name, "%s", tw_err_code(code));
    tw_format(failure->retry, sizeof failure->retry, "%s", tw_err_retry(code));
    return code;
}

/* ---- the client ---- */
int service_dial(nng_socket socket, const char *url, nng_dialer *out)
{
    nng_dialer dialer;
    int rv = nng_dialer_create(&dialer, socket, url);
    if (rv != 0) {
        return rv;
    }
    rv = nng_dialer_set_size(dialer, NNG_OPT_RECVMAXSZ, TW_ACTOR_MESSAGE_MAX);
    rv = rv != 0 ? rv : nng_dialer_set_ms(dialer, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);
    rv = rv != 0 ? rv : nng_dialer_set_ms(dialer, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
    rv = rv != 0 ? rv : nng_dialer_start(dialer, NNG_FLAG_NONBLOCK);
    if (rv != 0) {
        nng_dialer_close(dialer);
        return rv;
    }
    *out = dialer;
    return 0;
}

static const char how[] = "An address is ipc:///PATH or tcp://127.0.0.1:PORT.";

/* nng resolves in the background, and would try a port that is none for ever. */
static bool has_port(const char *url)
{
    uint64_t port = 0;
    const char *colon = strrchr(url, ':');
    return strncmp(url, "tcp://", 6) != 0 ||
           (tw_parse_u64(tw_str_of(colon + 1), UINT16_MAX, &port) == TW_OK && port != 0);
}

static tw_err client_start(service_client *client, const char *url, service_failure *failure)
{
    size_t len = strlen(url);
    if (!has_port(url)) {
        return service_fail(failure, TW_E_BAD_MESSAGE, how, "\"%.100s\" has no port.", url);
    }
    client->url = tw_alloc(len + 1);
    if (client->url == NULL) {
        return service_fail(failure, TW_E_NO_MEMORY, NULL, "There is no memory for a client.");
    }
    memcpy(client->url, url, len + 1);
    int rv = nng_req0_open(&client->socket);
    /* To repeat on a broken connection is enough; but nng does so only where it may repeat by its
     * clock too, so that is set far away. */
    rv = rv != 0 ? rv : nng_socket_set_ms(client->socket, NNG_OPT_REQ_RESENDTIME, INT32_MAX);
    rv = rv != 0 ? rv : service_dial(client->socket, url, &client->dialer);
    if (rv == 0) {
        return TW_OK;
    }
    return service_fail(failure, service_failure_of(rv), how,
                        "\"%.100s\" cannot be connected to: %s.", url, nng_strerror(rv));
}

static tw_err keep_identity(service_client *client, const service_identity *identity)
{
    if (identity == NULL) {
        return TW_OK;
    }
    client->give = identity->give;
    client->give_context = identity->context;
    size_t len = identity->token == NULL ? 0 : strlen(identity->token);
    client->token = len == 0 ? NULL : tw_alloc(len + 1);
    if (len > 0 && client->token != NULL) {
        memcpy(client->token, identity->token, len + 1);
    }
    return len > 0 && client->token == NULL ? TW_E_NO_MEMORY : TW_OK;
}

tw_err service_client_open(service_client **out, const char *url, const service_identity *identity,
                           service_failure *failure)
{
    *out = NULL;
    service_client *client = tw_alloc_zero(1, sizeof *client);
    if (client == NULL) {
        return service_fail(failure, TW_E_NO_MEMORY, NULL, "There is no memory for a client.");
    }
    client->random = service_clock_ms() ^ (uint64_t)(uintptr_t)client;
    tw_err err = keep_identity(client, identity);
    err = err == TW_OK ? client_start(client, url, failure)
                       : service_fail(failure, err, NULL, "There is no memory for a token.");
    if (err != TW_OK) {
        service_client_close(&client);
        return err;
    }
    *out = client;
    return TW_OK;
}

void service_client_close(service_client **out)
{
    service_client *client = *out;
    *out = NULL;
    if (client == NULL) {
        return;
    }
    if (nng_socket_id(client->socket) > 0) {
        (void)service_close_within(client->socket, TW_CLOSE_MS); /* its calls are closed */
    }
    if (client->token != NULL) {
        explicit_bzero(client->token, strlen(client->token));
    }
    tw_free(client->token);
    tw_free(client->url);
    tw_free(client);
}

/* ---- why there is no connection ---- */
static uint64_t figure(nng_stat *of_dialer, const char *name)
{
    for (nng_stat *at = nng_stat_child(of_dialer); at != NULL; at = nng_stat_next(at)) {
        if (strcmp(nng_stat_name(at), name) == 0) {
            return nng_stat_value(at);
        }
    }
    return 0;
}

/* nng tells no caller why a connection failed in the background; its figures do. */
static const char *why_unconnected(service_client *client)
{
    nng_stat *all;
    if (nng_stats_get(&all) != 0) {
        return "no answer came";
    }
    nng_stat *own = nng_stat_find_dialer(all, client->dialer);
    const char *why = "no answer came";
    if (own != NULL && figure(own, "connect") == 0) {
        why = figure(own, "refused") != 0 ? "nobody listens there" : "nobody answers there";
    } else if (own != NULL && figure(own, "refused") != 0) {
        why = "the server went away";
    }
    nng_stats_free(all);
    return why;
}

static tw_err fail_waiting(service_client *client, int rv)
{
    tw_err err = service_failure_of(rv);
    if (err != TW_E_TIMEOUT) {
        return service_fail(&client->failure, err, NULL, "%s: %s.", client->url, nng_strerror(rv));
    }
    return service_fail(&client->failure, err,
                        "Is the server running, with --service and this address?",
                        "%.120s: %s before the deadline.", client->url, why_unconnected(client));
}

/* ---- calls ---- */
tw_err service_call_init(service_call *call, service_client *client)
{
    *call = (service_call){.client = client};
    tw_buf_init(&call->asked, TW_ACTOR_MESSAGE_MAX);
    tw_buf_init(&call->request, TW_ACTOR_MESSAGE_MAX);
    tw_arena_init(&call->arena, ANSWER_MEMORY);
    int rv = nng_ctx_open(&call->context, client->socket);
    rv = rv != 0 ? rv : nng_aio_alloc(&call->aio, NULL, NULL);
    if (rv != 0) {
        service_call_fini(call);
        return service_fail(&client->failure, service_failure_of(rv), NULL, "%s.",
                            nng_strerror(rv));
    }
    return TW_OK;
}

void service_call_fini(service_call *call)
{
    if (nng_ctx_id(call->context) > 0) {
        (void)nng_ctx_close(call->context);
    }
    if (call->aio != NULL) {
        nng_aio_stop(call->aio);
        nng_msg *late = call->is_sent && nng_aio_result(call->aio) == 0
                            ? nng_aio_get_msg(call->aio)
                            : NULL; /* an answer that nobody waited for */
        nng_aio_free(call->aio);
        if (late != NULL) {
            nng_msg_free(late);
        }
    }
    if (call->last != NULL) {
        nng_msg_free(call->last);
    }
    tw_buf_fini(&call->asked);
    tw_buf_fini(&call->request);
    tw_arena_fini(&call->arena);
    *call = (service_call){0};
}

static nng_duration time_left(const service_call *call)
{
    uint64_t now = service_clock_ms();
    uint64_t left = call->deadline_ms > now ? call->deadline_ms - now : 1;
    return (nng_duration)(left < INT32_MAX ? left : INT32_MAX);
}

/* Hands the request to nng, and begins to wait for its answer. Both operations of a context are
 * never under way at once: nng 1.5.2 crashes where a receive ends while its send waits. */
static int call_send(service_call *call)
{
    nng_msg *msg;
    int rv = nng_msg_alloc(&msg, call->request.len);
    if (rv != 0) {
        return rv;
    }
    memcpy(nng_msg_body(msg), call->request.ptr, call->request.len);
    nng_aio_set_timeout(call->aio, time_left(call));
    nng_aio_set_msg(call->aio, msg);
    nng_ctx_send(call->context, call->aio);
    nng_aio_wait(call->aio);
    rv = nng_aio_result(call->aio);
    if (rv != 0) {
        nng_msg_free(msg);
        return rv;
    }
    nng_aio_set_msg(call->aio, NULL);
    nng_aio_set_timeout(call->aio, time_left(call));
    nng_ctx_recv(call->context, call->aio);
    call->is_sent = true;
    return 0;
}

/* Makes the bytes of what is asked, with the token that holds now. */
static void pack(service_call *call, bool refused)
{
    service_client *client = call->client;
    tw_bson asked = {(const uint8_t *)call->asked.ptr, call->asked.len};
    const char *token = client->token;
    tw_buf whole;
    tw_bson_builder b;
    if (client->give != NULL) {
        token = client->give(client->give_context, refused);
    }
    tw_buf_clear(&call->request);
    if (token == NULL || token[0] == '\0') {
        tw_msgpack_from_bson(&call->request, asked);
        return;
    }
    tw_buf_init(&whole, TW_ACTOR_MESSAGE_MAX);
    tw_bson_begin(&b, &whole);
    tw_bson_add_all(&b, asked);
    tw_bson_add_str(&b, TW_STR("token"), tw_str_of(token));
    tw_bson with = tw_bson_end(&b);
    if (whole.err == TW_OK) {
        tw_msgpack_from_bson(&call->request, with);
    } else {
        call->request.err = whole.err;
    }
    tw_buf_fini(&whole);
}

tw_err service_call_begin(service_call *call, tw_bson request, uint64_t deadline_ms)
{
    service_client *client = call->client;
    TW_ASSERT(!call->is_sent);
    tw_buf_clear(&call->asked);
    tw_buf_add(&call->asked, request.ptr, request.len);
    if (call->asked.err != TW_OK) {
        return service_fail(&client->failure, call->asked.err, "Send fewer or smaller records.",
                            "The request has %zu bytes.", request.len);
    }
    pack(call, false);
    call->deadline_ms = deadline_ms;
    if (call->request.err != TW_OK || call->request.len > TW_SERVICE_MESSAGE_MAX) {
        tw_err err = call->request.err != TW_OK ? call->request.err : TW_E_TOO_BIG;
        return service_fail(&client->failure, err, "Send fewer or smaller records at once.",
                            "The request has %zu bytes; %d are allowed.", call->request.len,
                            TW_SERVICE_MESSAGE_MAX);
    }
    int rv = call_send(call);
    return rv == 0 ? TW_OK : fail_waiting(client, rv);
}

static void copy_text(char *out, size_t size, tw_bson reply, tw_str name, const char *fallback)
{
    tw_str text = tw_bson_get_str(reply, name);
    if (text.ptr == NULL) {
        text = tw_str_of(fallback);
    }
    tw_format(out, size, "%.*s", (int)text.len, text.ptr);
}

static tw_err take_refusal(service_client *client, tw_bson reply)
{
    service_failure *failure = &client->failure;
    char name[TW_MUX_ID_MAX];
    copy_text(name, sizeof name, reply, TW_STR("code"), "internal");
    *failure = (service_failure){.code = tw_err_by_code(name)};
    tw_format(failure->name, sizeof failure->name, "%s", name);
    copy_text(failure->message, sizeof failure->message, reply, TW_STR("message"),
              tw_err_text(failure->code));
    copy_text(failure->hint, sizeof failure->hint, reply, TW_STR("hint"), "");
    copy_text(failure->retry, sizeof failure->retry, reply, TW_STR("retry"), "no");
    failure->version = tw_bson_get_i64_or(reply, TW_STR("version"), 0);
    return failure->code;
}

/* A batch of which some operations could not be done now: whether to send it again, by its opid. */
static bool is_undone(tw_bson reply)
{
    tw_bson_iter iter;
    if (tw_bson_get_i64_or(reply, TW_STR("failed"), 0) == 0) {
        return false;
    }
    tw_bson_iter_init(&iter, tw_bson_get_doc(reply, TW_STR("results")));
    while (tw_bson_iter_next(&iter)) {
        char code[TW_MUX_ID_MAX];
        copy_text(code, sizeof code, tw_bson_value_doc(iter.value), TW_STR("code"), "ok");
        tw_err err = tw_err_by_code(code);
        if (strcmp(tw_err_code(err), code) == 0 && strcmp(tw_err_retry(err), "no") != 0) {
            return true;
        }
    }
    return false;
}

/* Waits a random part of a pause that doubles, but not beyond the deadline. False: no time left. */
static bool pause_before(service_call *call, unsigned attempt)
{
    service_client *client = call->client;
    uint64_t pause = (uint64_t)BACKOFF_FIRST_MS << (attempt < 6 ? attempt : 6);
    pause = pause < BACKOFF_MAX_MS ? pause : BACKOFF_MAX_MS;
    client->random = client->random * 6364136223846793005ULL + 1442695040888963407ULL;
    pause = pause / 2 + (client->random >> 33) % (pause / 2 + 1);
    if (service_clock_ms() + pause >= call->deadline_ms) {
        return false;
    }
    (void)poll(NULL, 0, (int)pause);
    client->repeats++;
    return true;
}

/* One answer. TW_OK also for a refusal: reply says which. */
static tw_err call_receive(service_call *call, tw_bson *reply)
{
    service_client *client = call->client;
    nng_aio_wait(call->aio);
    call->is_sent = false;
    int rv = nng_aio_result(call->aio);
    if (rv != 0) {
        return fail_waiting(client, rv);
    }
    if (call->last != NULL) {
        nng_msg_free(call->last);
    }
    call->last = nng_aio_get_msg(call->aio);
    nng_aio_set_msg(call->aio, NULL);
    tw_str bytes = {nng_msg_body(call->last), nng_msg_len(call->last)};
    tw_arena_reset(&call->arena);
    tw_err err = tw_msgpack_to_bson(&call->arena, bytes, TW_DEPTH_MAX, reply);
    if (err != TW_OK) {
        *reply = (tw_bson){0};
        return service_fail(&client->failure, err, "Is this the address of a Tidewire?",
                            "%.120s: the answer cannot be understood.", client->url);
    }
    return TW_OK;
}

/* No answer to a repeat: what the server said before tells more than that. */
static tw_err fail_repeat(service_client *client, const service_failure *refused, tw_err err)
{
    if (err == TW_E_TIMEOUT && refused->code != TW_OK) {
        client->failure = *refused;
    }
    return client->failure.code;
}

tw_err service_call_end(service_call *call, tw_bson *reply)
{
    service_failure refused = {.code = TW_OK};
    bool asked_anew = false; /* for a token */
    TW_ASSERT(call->is_sent);
    for (unsigned attempt = 0;; attempt++) {
        *reply = (tw_bson){0};
        tw_err err = call_receive(call, reply);
        if (err != TW_OK) {
            return fail_repeat(call->client, &refused, err);
        }
        bool again;
        bool renewed = false;
        if (tw_bson_get_bool_or(*reply, TW_STR("ok"), false)) {
            again = is_undone(*reply);
        } else {
            err = take_refusal(call->client, *reply);
            refused = call->client->failure;
            again = strcmp(refused.retry, "no") != 0;
            renewed = err == TW_E_TOKEN && call->client->give != NULL && !asked_anew;
        }
        if (renewed) {
            asked_anew = true;
            pack(call, true);
        } else if (!again || !pause_before(call, attempt)) {
            return err;
        }
        if (call->request.err != TW_OK) {
            return service_fail(&call->client->failure, call->request.err, NULL,
                                "There is no memory for a request.");
        }
        int rv = call_send(call);
        if (rv != 0) {
            *reply = (tw_bson){0};
            return fail_repeat(call->client, &refused, fail_waiting(call->client, rv));
        }
    }
}

tw_err service_call_ask(service_call *call, tw_bson request, uint64_t deadline_ms, tw_bson *reply)
{
    *reply = (tw_bson){0};
    tw_err err = service_call_begin(call, request, deadline_ms);
    return err != TW_OK ? err : service_call_end(call, reply);
}
