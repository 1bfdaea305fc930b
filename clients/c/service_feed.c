/* service_feed.c - nng SUB and the replays of a feed. */
#include "clients/c/service_feed.h"

#include <poll.h>

#include <nng/protocol/pubsub0/sub.h>

#include "protocol/codec.h"

#include "clients/c/service_close.h"

enum {
    URL_MAX = 160,
    FEED_QUEUE = 256,    /* messages that wait for service_feed_next; what is beyond is replayed */
    FEED_IDLE_MS = 1000, /* silence after which the log is asked: the last message may be lost */
    FEED_TOPIC_MAX = 2 * TW_NAME_MAX + 2,
};

struct service_feed {
    service_client *client; /* own */
    service_call call;      /* own; the replays */
    nng_socket socket;
    int fd;
    char database[TW_NAME_MAX + 1];
    char collection[TW_NAME_MAX + 1];
    char topic[FEED_TOPIC_MAX];
    size_t topic_len;
    uint64_t srv_id; /* of the log that position is of; 0: not known yet */
    uint64_t position;
    bool from_now;
    bool behind;        /* the log is to be asked */
    uint64_t page_upto; /* position when the page is told */
    tw_bson_iter rows;  /* of the page; in the call's arena or in arena */
    tw_arena arena;     /* own; of a published message */
    tw_buf asked;       /* own */
    uint64_t heard_ms;  /* when a message or a replay came last */
    uint64_t replays;
};

static void page_begin(service_feed *feed, tw_bson page, uint64_t upto)
{
    tw_bson_iter_init(&feed->rows, tw_bson_get_doc(page, TW_STR("rows")));
    feed->page_upto = upto;
}

static tw_bson replay_request(service_feed *feed)
{
    tw_bson_builder b;
    tw_buf_clear(&feed->asked);
    tw_bson_begin(&b, &feed->asked);
    tw_bson_add_str(&b, TW_STR("op"), TW_STR("replay"));
    tw_bson_add_str(&b, TW_STR("collection"), tw_str_of(feed->collection));
    if (feed->database[0] != '\0') {
        tw_bson_add_str(&b, TW_STR("database"), tw_str_of(feed->database));
    }
    if (!feed->from_now) {
        tw_bson_add_i64(&b, TW_STR("after"), (int64_t)feed->position);
        tw_bson_add_i64(&b, TW_STR("srv_id"), (int64_t)feed->srv_id);
    }
    return tw_bson_end(&b);
}

/* Asks the log for what is behind position. */
static tw_err replay(service_feed *feed, uint64_t deadline_ms)
{
    tw_bson reply;
    service_failure *failure = &feed->client->failure;
    tw_bson request = replay_request(feed);
    if (feed->asked.err != TW_OK) {
        return service_fail(failure, feed->asked.err, NULL, "There is no memory for a request.");
    }
    tw_err err = service_call_ask(&feed->call, request, deadline_ms, &reply);
    if (err != TW_OK) {
        return err;
    }
    uint64_t upto = (uint64_t)tw_bson_get_i64_or(reply, TW_STR("upto"), 0);
    uint64_t head = (uint64_t)tw_bson_get_i64_or(reply, TW_STR("head"), 0);
    tw_str topic = tw_bson_get_str(reply, TW_STR("topic"));
    if (topic.ptr == NULL || topic.len + 1 >= sizeof feed->topic) {
        return service_fail(failure, TW_E_BAD_MESSAGE, NULL, "The answer to replay has no topic.");
    }
    if (feed->topic_len == 0) {
        feed->topic_len =
            tw_format(feed->topic, sizeof feed->topic, "%.*s", (int)topic.len, topic.ptr) +
            1; /* with its NUL, so that no longer name fits */
    }
    feed->srv_id = (uint64_t)tw_bson_get_i64_or(reply, TW_STR("srv_id"), 0);
    feed->position = feed->from_now ? upto : feed->position;
    feed->from_now = false;
    feed->behind = upto < head;
    feed->replays++;
    feed->heard_ms = service_clock_ms();
    page_begin(feed, reply, upto);
    return TW_OK;
}

/* Where a service socket publishes: tcp at the next port, else at the name with .feed. */
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
    nng_dialer dialer;
    tw_err err = feed_url(url, address);
    if (err != TW_OK) {
        return service_fail(&feed->client->failure, err, NULL, "%.120s has no address of a feed.",
                            url);
    }
    int rv = nng_sub0_open(&feed->socket);
    rv = rv != 0 ? rv : nng_socket_set_int(feed->socket, NNG_OPT_RECVBUF, FEED_QUEUE);
    rv = rv != 0 ? rv : nng_socket_get_int(feed->socket, NNG_OPT_RECVFD, &feed->fd);
    rv = rv != 0
             ? rv
             : nng_socket_set(feed->socket, NNG_OPT_SUB_SUBSCRIBE, feed->topic, feed->topic_len);
    rv = rv != 0 ? rv : service_dial(feed->socket, address, &dialer);
    return rv == 0 ? TW_OK
                   : service_fail(&feed->client->failure, service_failure_of(rv), NULL,
                                  "%.120s: %s.", address, nng_strerror(rv));
}

static tw_err feed_start(service_feed *feed, const char *url, const service_identity *identity,
                         uint64_t deadline_ms, service_failure *failure)
{
    tw_err err = service_client_open(&feed->client, url, identity, failure);
    if (err != TW_OK) {
        return err;
    }
    err = service_call_init(&feed->call, feed->client);
    err = err != TW_OK ? err : replay(feed, deadline_ms);
    err = err != TW_OK ? err : follow(feed, url);
    if (err != TW_OK) {
        *failure = feed->client->failure;
    }
    return err;
}

tw_err service_feed_open(service_feed **out, const char *url, const service_feed_options *options,
                         uint64_t deadline_ms, service_failure *failure)
{
    *out = NULL;
    const char *database = options->database == NULL ? "" : options->database;
    if (strlen(database) > TW_NAME_MAX || strlen(options->collection) > TW_NAME_MAX) {
        return service_fail(failure, TW_E_BAD_MESSAGE, NULL,
                            "A name of a database or collection has at most %d bytes.",
                            TW_NAME_MAX);
    }
    service_feed *feed = tw_alloc_zero(1, sizeof *feed);
    if (feed == NULL) {
        return service_fail(failure, TW_E_NO_MEMORY, NULL, "There is no memory for a feed.");
    }
    tw_arena_init(&feed->arena, (size_t)TW_ACTOR_MESSAGE_MAX * 4);
    tw_buf_init(&feed->asked, TW_ACTOR_MESSAGE_MAX);
    tw_format(feed->database, sizeof feed->database, "%s", database);
    tw_format(feed->collection, sizeof feed->collection, "%s", options->collection);
    feed->from_now = options->after == SERVICE_FEED_NOW;
    feed->position = feed->from_now ? 0 : options->after;
    feed->srv_id = feed->position == 0 ? 0 : options->srv_id;
    tw_err err = feed_start(feed, url, options->identity, deadline_ms, failure);
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
        (void)service_close_within(feed->socket, TW_CLOSE_MS); /* left: it has nothing to say */
    }
    if (feed->call.client != NULL) {
        service_call_fini(&feed->call);
    }
    service_client_close(&feed->client);
    tw_arena_fini(&feed->arena);
    tw_buf_fini(&feed->asked);
    tw_free(feed);
}

/* Takes one published message as the next page, or finds that something was lost. */
static tw_err take_published(service_feed *feed)
{
    nng_msg *msg;
    tw_bson map;
    int rv = nng_recvmsg(feed->socket, &msg, NNG_FLAG_NONBLOCK);
    if (rv != 0) {
        return service_failure_of(rv);
    }
    feed->heard_ms = service_clock_ms();
    tw_str bytes = {nng_msg_body(msg), nng_msg_len(msg)};
    bool ours = bytes.len >= feed->topic_len; /* nng has compared the topic */
    tw_arena_reset(&feed->arena);
    bytes = ours ? (tw_str){bytes.ptr + feed->topic_len, bytes.len - feed->topic_len} : bytes;
    bool is_read = ours && tw_msgpack_to_bson(&feed->arena, bytes, TW_DEPTH_MAX, &map) == TW_OK;
    nng_msg_free(msg);
    if (!is_read) {
        feed->behind = true; /* whatever it was, the log has it */
        return TW_OK;
    }
    uint64_t srv_id = (uint64_t)tw_bson_get_i64_or(map, TW_STR("srv_id"), 0);
    uint64_t n_prev = (uint64_t)tw_bson_get_i64_or(map, TW_STR("n_prev"), INT64_MAX);
    uint64_t n = (uint64_t)tw_bson_get_i64_or(map, TW_STR("n"), 0);
    if (n_prev > feed->position || srv_id != feed->srv_id) {
        feed->behind = true;
    } else if (n > feed->position) {
        page_begin(feed, map, n);
    }
    return TW_OK;
}

/* Waits until a message may have come; after silence the log is asked. */
static tw_err wait_published(service_feed *feed, uint64_t deadline_ms)
{
    uint64_t now = service_clock_ms();
    if (now >= deadline_ms) {
        return service_fail(&feed->client->failure, TW_E_TIMEOUT, NULL,
                            "Nothing new came before the deadline.");
    }
    uint64_t idle_at = feed->heard_ms + FEED_IDLE_MS;
    if (now >= idle_at) {
        feed->behind = true;
        return TW_OK;
    }
    uint64_t left = (deadline_ms < idle_at ? deadline_ms : idle_at) - now;
    struct pollfd fd = {.fd = feed->fd, .events = POLLIN};
    (void)poll(&fd, 1, (int)left); /* whatever woke it, the caller looks again */
    return TW_OK;
}

tw_err service_feed_next(service_feed *feed, uint64_t deadline_ms, tw_bson *row)
{
    *row = (tw_bson){0};
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
        tw_err err = feed->behind ? replay(feed, deadline_ms) : take_published(feed);
        if (err == TW_E_TIMEOUT && !feed->behind) {
            err = wait_published(feed, deadline_ms);
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

uint64_t service_feed_srv_id(const service_feed *feed)
{
    return feed->srv_id;
}

uint64_t service_feed_replays(const service_feed *feed)
{
    return feed->replays;
}

const service_failure *service_feed_failure(const service_feed *feed)
{
    return &feed->client->failure;
}
