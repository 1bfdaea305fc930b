/* service.c - nng REQ and SUB of a client of the service socket. */
#include "clients/c/service.h"

#include <poll.h>
#include <time.h>

#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/req.h>

#include "protocol/codec.h"
#include "protocol/limits.h"

enum {
    URL_MAX = 160,
    FEED_QUEUE = 256,    /* messages that wait for service_feed_next */
    FEED_IDLE_MS = 1000, /* silence after which the log is asked: the last message may be lost */
    FEED_TOPIC_MAX = 2 * TW_NAME_MAX + 2,
    SEND_TIMEOUT_MS = 1000,
};

struct service_client {
    nng_socket socket;
    nng_msg *last;  /* own; the reply */
    tw_arena arena; /* own; the reply as BSON */
    tw_buf request; /* own */
    tw_buf built;   /* own; BSON of the shorthands */
};

struct service_feed {
    service_client *client; /* own */
    nng_socket socket;
    int fd;
    char database[TW_NAME_MAX + 1];
    char collection[TW_NAME_MAX + 1];
    char topic[FEED_TOPIC_MAX];
    size_t topic_len;
    uint64_t position;
    bool from_now;
    bool behind;        /* the log is to be asked */
    uint64_t page_upto; /* position when the page is told */
    tw_bson_iter rows;  /* of the page; in the client's arena or in arena */
    tw_arena arena;     /* own; of a published message */
    uint64_t heard_ms;  /* when a message or a replay came last */
    uint64_t replays;
};

static tw_err failure_of(int rv)
{
    switch (rv) {
    case 0:
        return TW_OK;
    case NNG_ENOMEM:
        return TW_E_NO_MEMORY;
    case NNG_ETIMEDOUT:
    case NNG_EAGAIN:
        return TW_E_TIMEOUT;
    case NNG_EMSGSIZE:
        return TW_E_TOO_BIG;
    case NNG_EADDRINVAL:
    case NNG_EINVAL:
    case NNG_ENOTSUP:
        return TW_E_BAD_MESSAGE;
    default: /* nng's own numbers, which may grow */
        return TW_E_UNAVAILABLE;
    }
}

static int dial(nng_socket s, const char *url)
{
    nng_dialer dialer;
    int rv = nng_dialer_create(&dialer, s, url);
    if (rv != 0) {
        return rv;
    }
    rv = nng_dialer_set_size(dialer, NNG_OPT_RECVMAXSZ, TW_ACTOR_MESSAGE_MAX);
    rv = rv != 0 ? rv : nng_dialer_start(dialer, 0);
    if (rv != 0) {
        nng_dialer_close(dialer);
    }
    return rv;
}

/* ---- requests ---- */
tw_err service_client_open(service_client **out, const char *url)
{
    *out = NULL;
    service_client *client = tw_alloc_zero(1, sizeof *client);
    if (client == NULL) {
        return TW_E_NO_MEMORY;
    }
    tw_arena_init(&client->arena, (size_t)TW_ACTOR_MESSAGE_MAX * 4);
    tw_buf_init(&client->request, TW_ACTOR_MESSAGE_MAX);
    tw_buf_init(&client->built, TW_ACTOR_MESSAGE_MAX);
    int rv = nng_req0_open(&client->socket);
    /* nng would repeat a request by itself after a minute; here only the caller does, by opid. */
    rv = rv != 0 ? rv
                 : nng_socket_set_ms(client->socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    rv = rv != 0 ? rv : nng_socket_set_ms(client->socket, NNG_OPT_SENDTIMEO, SEND_TIMEOUT_MS);
    rv = rv != 0 ? rv : dial(client->socket, url);
    if (rv != 0) {
        service_client_close(&client);
        return failure_of(rv);
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
        (void)nng_close(client->socket);
    }
    if (client->last != NULL) {
        nng_msg_free(client->last);
    }
    tw_arena_fini(&client->arena);
    tw_buf_fini(&client->request);
    tw_buf_fini(&client->built);
    tw_free(client);
}

static int exchange(service_client *client, uint32_t timeout_ms)
{
    nng_msg *msg;
    int rv = nng_msg_alloc(&msg, 0);
    if (rv != 0) {
        return rv;
    }
    rv = nng_msg_append(msg, client->request.ptr, client->request.len);
    rv = rv != 0 ? rv
                 : nng_socket_set_ms(client->socket, NNG_OPT_RECVTIMEO, (nng_duration)timeout_ms);
    rv = rv != 0 ? rv : nng_sendmsg(client->socket, msg, 0);
    if (rv != 0) {
        nng_msg_free(msg);
        return rv;
    }
    if (client->last != NULL) {
        nng_msg_free(client->last);
        client->last = NULL;
    }
    rv = nng_recvmsg(client->socket, &client->last, 0);
    client->last = rv == 0 ? client->last : NULL;
    return rv;
}

tw_err service_client_ask(service_client *client, tw_bson request, uint32_t timeout_ms,
                          tw_bson *reply)
{
    *reply = (tw_bson){0};
    tw_buf_clear(&client->request);
    tw_msgpack_from_bson(&client->request, request);
    if (client->request.err != TW_OK) {
        return client->request.err;
    }
    if (client->request.len > TW_SERVICE_MESSAGE_MAX) {
        return TW_E_TOO_BIG; /* the server would close the connection */
    }
    int rv = exchange(client, timeout_ms);
    if (rv != 0) {
        return failure_of(rv);
    }
    tw_str bytes = {nng_msg_body(client->last), nng_msg_len(client->last)};
    tw_arena_reset(&client->arena);
    tw_err err = tw_msgpack_to_bson(&client->arena, bytes, TW_DEPTH_MAX, reply);
    if (err != TW_OK) {
        *reply = (tw_bson){0};
        return err;
    }
    if (tw_bson_get_bool_or(*reply, TW_STR("ok"), false)) {
        return TW_OK;
    }
    char code[64];
    tw_str text = tw_bson_get_str(*reply, TW_STR("code"));
    tw_format(code, sizeof code, "%.*s", (int)text.len, text.ptr == NULL ? "" : text.ptr);
    return tw_err_by_code(code);
}

static void begin(service_client *client, tw_bson_builder *b, const char *op, tw_str collection)
{
    tw_buf_clear(&client->built);
    tw_bson_begin(b, &client->built);
    tw_bson_add_str(b, TW_STR("op"), tw_str_of(op));
    if (collection.len != 0) {
        tw_bson_add_str(b, TW_STR("collection"), collection);
    }
}

static tw_err end(service_client *client, tw_bson_builder *b, uint32_t timeout_ms, tw_bson *reply)
{
    tw_bson request = tw_bson_end(b);
    if (client->built.err != TW_OK) {
        return client->built.err;
    }
    return service_client_ask(client, request, timeout_ms, reply);
}

tw_err service_client_put(service_client *client, tw_str collection, tw_bson doc, tw_str opid,
                          uint32_t timeout_ms, tw_bson *reply)
{
    tw_bson_builder b;
    begin(client, &b, "put", collection);
    tw_bson_add_doc(&b, TW_STR("doc"), doc);
    if (opid.len != 0) {
        tw_bson_add_str(&b, TW_STR("opid"), opid);
    }
    return end(client, &b, timeout_ms, reply);
}

tw_err service_client_batch(service_client *client, tw_str collection, tw_bson ops, bool atomic,
                            uint32_t timeout_ms, tw_bson *reply)
{
    tw_bson_builder b;
    begin(client, &b, "batch", collection);
    if (atomic) {
        tw_bson_add_bool(&b, TW_STR("atomic"), true);
    }
    tw_bson_add_array(&b, TW_STR("ops"), ops);
    return end(client, &b, timeout_ms, reply);
}

tw_err service_client_get(service_client *client, tw_str collection, tw_bson_value ids,
                          uint32_t timeout_ms, tw_bson *reply)
{
    tw_bson_builder b;
    begin(client, &b, "getByIds", collection);
    tw_bson_add_value(&b, TW_STR("ids"), ids);
    return end(client, &b, timeout_ms, reply);
}

/* ---- feed ---- */
static uint64_t clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void page_begin(service_feed *feed, tw_bson page, uint64_t upto)
{
    tw_bson_iter_init(&feed->rows, tw_bson_get_doc(page, TW_STR("rows")));
    feed->page_upto = upto;
}

/* Asks the log for what is behind position. */
static tw_err replay(service_feed *feed, uint32_t timeout_ms)
{
    service_client *client = feed->client;
    tw_bson_builder b;
    tw_bson reply;
    begin(client, &b, "replay", tw_str_of(feed->collection));
    if (feed->database[0] != '\0') {
        tw_bson_add_str(&b, TW_STR("database"), tw_str_of(feed->database));
    }
    if (!feed->from_now) {
        tw_bson_add_i64(&b, TW_STR("after"), (int64_t)feed->position);
    }
    tw_err err = end(client, &b, timeout_ms, &reply);
    if (err != TW_OK) {
        return err;
    }
    uint64_t upto = (uint64_t)tw_bson_get_i64_or(reply, TW_STR("upto"), 0);
    uint64_t head = (uint64_t)tw_bson_get_i64_or(reply, TW_STR("head"), 0);
    tw_str topic = tw_bson_get_str(reply, TW_STR("topic"));
    if (topic.ptr == NULL || topic.len + 1 >= sizeof feed->topic) {
        return TW_E_BAD_MESSAGE;
    }
    if (feed->topic_len == 0) {
        feed->topic_len =
            tw_format(feed->topic, sizeof feed->topic, "%.*s", (int)topic.len, topic.ptr) +
            1; /* with its NUL, so that no longer name fits */
    }
    feed->position = feed->from_now ? upto : feed->position;
    feed->from_now = false;
    feed->behind = upto < head;
    feed->replays++;
    feed->heard_ms = clock_ms();
    page_begin(feed, reply, upto);
    return TW_OK;
}

static tw_err feed_url(const char *url, char out[URL_MAX])
{
    const char *colon = strrchr(url, ':');
    uint64_t port;
    if (strlen(url) + sizeof ".feed" > URL_MAX) {
        return TW_E_BAD_MESSAGE;
    }
    if (strncmp(url, "tcp://", 6) != 0) {
        tw_format(out, URL_MAX, "%s.feed", url);
        return TW_OK;
    }
    if (tw_parse_u64(tw_str_of(colon + 1), UINT16_MAX - 1, &port) != TW_OK) {
        return TW_E_BAD_MESSAGE;
    }
    tw_format(out, URL_MAX, "%.*s:%u", (int)(colon - url), url, (unsigned)port + 1);
    return TW_OK;
}

static tw_err follow(service_feed *feed, const char *url)
{
    char address[URL_MAX];
    tw_err err = feed_url(url, address);
    if (err != TW_OK) {
        return err;
    }
    int rv = nng_sub0_open(&feed->socket);
    rv = rv != 0 ? rv : nng_socket_set_int(feed->socket, NNG_OPT_RECVBUF, FEED_QUEUE);
    rv = rv != 0 ? rv : nng_socket_get_int(feed->socket, NNG_OPT_RECVFD, &feed->fd);
    rv = rv != 0
             ? rv
             : nng_socket_set(feed->socket, NNG_OPT_SUB_SUBSCRIBE, feed->topic, feed->topic_len);
    return failure_of(rv != 0 ? rv : dial(feed->socket, address));
}

tw_err service_feed_open(service_feed **out, const char *url, const char *database,
                         const char *collection, uint64_t after, uint32_t timeout_ms)
{
    *out = NULL;
    service_feed *feed = tw_alloc_zero(1, sizeof *feed);
    if (feed == NULL) {
        return TW_E_NO_MEMORY;
    }
    tw_arena_init(&feed->arena, (size_t)TW_ACTOR_MESSAGE_MAX * 4);
    tw_format(feed->database, sizeof feed->database, "%s", database == NULL ? "" : database);
    tw_format(feed->collection, sizeof feed->collection, "%s", collection);
    feed->from_now = after == SERVICE_FEED_NOW;
    feed->position = feed->from_now ? 0 : after;
    tw_err err = service_client_open(&feed->client, url);
    err = err != TW_OK ? err : replay(feed, timeout_ms);
    err = err != TW_OK ? err : follow(feed, url);
    if (err != TW_OK) {
        service_feed_close(&feed);
        return err;
    }
    feed->behind = true; /* what came between the reply and the subscription */
    *out = feed;
    return TW_OK;
}

void service_feed_close(service_feed **out)
{
    service_feed *feed = *out;
    *out = NULL;
    if (feed == NULL) {
        return;
    }
    if (nng_socket_id(feed->socket) > 0) {
        (void)nng_close(feed->socket);
    }
    service_client_close(&feed->client);
    tw_arena_fini(&feed->arena);
    tw_free(feed);
}

/* Takes one published message as the next page, or finds that something was lost. */
static tw_err take_published(service_feed *feed)
{
    nng_msg *msg;
    tw_bson map;
    int rv = nng_recvmsg(feed->socket, &msg, NNG_FLAG_NONBLOCK);
    if (rv != 0) {
        return failure_of(rv);
    }
    feed->heard_ms = clock_ms();
    tw_str bytes = {nng_msg_body(msg), nng_msg_len(msg)};
    bool ours = bytes.len >= feed->topic_len; /* nng has compared the topic */
    tw_arena_reset(&feed->arena);
    bytes = ours ? (tw_str){bytes.ptr + feed->topic_len, bytes.len - feed->topic_len} : bytes;
    tw_err err =
        ours ? tw_msgpack_to_bson(&feed->arena, bytes, TW_DEPTH_MAX, &map) : TW_E_BAD_MESSAGE;
    nng_msg_free(msg);
    if (err != TW_OK) {
        feed->behind = true; /* whatever it was, the log has it */
        return TW_OK;
    }
    uint64_t n_prev = (uint64_t)tw_bson_get_i64_or(map, TW_STR("n_prev"), INT64_MAX);
    uint64_t n = (uint64_t)tw_bson_get_i64_or(map, TW_STR("n"), 0);
    if (n_prev > feed->position) {
        feed->behind = true;
    } else if (n > feed->position) {
        page_begin(feed, map, n);
    }
    return TW_OK;
}

/* Waits until a message may have come; after silence the log is asked. */
static tw_err wait_published(service_feed *feed, uint64_t until_ms)
{
    uint64_t now = clock_ms();
    if (now >= until_ms) {
        return TW_E_TIMEOUT;
    }
    uint64_t idle_at = feed->heard_ms + FEED_IDLE_MS;
    if (now >= idle_at) {
        feed->behind = true;
        return TW_OK;
    }
    uint64_t left = (until_ms < idle_at ? until_ms : idle_at) - now;
    struct pollfd fd = {.fd = feed->fd, .events = POLLIN};
    (void)poll(&fd, 1, (int)left); /* whatever woke it, the caller looks again */
    return TW_OK;
}

tw_err service_feed_next(service_feed *feed, uint32_t timeout_ms, tw_bson *row)
{
    uint64_t until_ms = clock_ms() + timeout_ms;
    for (;;) {
        while (feed->page_upto != 0 && tw_bson_iter_next(&feed->rows)) {
            *row = tw_bson_value_doc(feed->rows.value);
            uint64_t n = (uint64_t)tw_bson_get_i64_or(*row, TW_STR("n"), 0);
            if (n > feed->position) {
                feed->position = n;
                return TW_OK;
            }
        }
        feed->position = feed->page_upto > feed->position ? feed->page_upto : feed->position;
        feed->page_upto = 0;
        tw_err err = feed->behind ? replay(feed, timeout_ms) : take_published(feed);
        if (err == TW_E_TIMEOUT && !feed->behind) {
            err = wait_published(feed, until_ms);
        }
        if (err != TW_OK) {
            return err;
        }
    }
}

uint64_t service_feed_position(const service_feed *feed)
{
    return feed->position;
}

uint64_t service_feed_replays(const service_feed *feed)
{
    return feed->replays;
}
