/* service_socket.c - nng of the service gateway, and nothing of it outside. */
#include "gateways/service/service_socket.h"

#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/reqrep0/rep.h>

#include "protocol/limits.h"

#include "actors/runtime/listener_watch.h"
#include "actors/runtime/log.h"

/* Depths in messages. Answers are emptied by a thread of nng within microseconds; what a follower
 * does not read in time is dropped, and it reads the log instead. */
enum { REQUESTS_QUEUE = 128, ANSWERS_QUEUE = 1024, FEED_QUEUE = 256, SEND_TIMEOUT_MS = 1000 };

/* One of the two sockets, and what watches over its listener. */
typedef struct service_side {
    nng_socket socket;
    nng_listener listener;
    listener_watch watch;
    char url[SERVICE_URL_MAX];
    bool is_ipc;
    atomic_uint_fast64_t gains, pipes, refused;
} service_side;

enum { SIDE_REQUESTS, SIDE_FEED, SIDES };

struct service_socket {
    service_side sides[SIDES];
    nng_msg *last; /* own; the request whose body is being read */
    int fd;        /* nng's */
    uint64_t relistened;
};

#define IPC_PREFIX    "ipc://"
#define INPROC_PREFIX "inproc://"
#define TCP_PREFIX    "tcp://"

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_loopback(tw_str host)
{
    static const char *const names[] = {"localhost", "[::1]", "127.0.0.1"};
    for (size_t i = 0; i < TW_COUNT(names); i++) {
        if (tw_str_equal(host, tw_str_of(names[i]))) {
            return true;
        }
    }
    return false;
}

tw_err service_feed_url(const char *url, char out[SERVICE_URL_MAX])
{
    size_t len = strlen(url);
    if (len + sizeof ".feed" > SERVICE_URL_MAX || len + sizeof ".feed" > NNG_MAXADDRLEN) {
        return TW_E_BAD_CONFIG;
    }
    if (starts_with(url, IPC_PREFIX "/") || starts_with(url, INPROC_PREFIX)) {
        tw_format(out, SERVICE_URL_MAX, "%s.feed", url);
        return TW_OK;
    }
    const char *host = url + strlen(TCP_PREFIX);
    const char *colon = strrchr(url, ':');
    uint64_t port = 0;
    if (!starts_with(url, TCP_PREFIX) || colon == NULL || colon < host ||
        !is_loopback((tw_str){host, (size_t)(colon - host)}) ||
        tw_parse_u64(tw_str_of(colon + 1), UINT16_MAX - 1, &port) != TW_OK || port == 0) {
        return TW_E_BAD_CONFIG;
    }
    tw_format(out, SERVICE_URL_MAX, "%.*s:%u", (int)(colon - url), url, (unsigned)port + 1);
    return TW_OK;
}

/* A peer comes: over ipc it must be of this user (or root, who may do it all anyway). */
static bool is_welcome(const service_side *side, nng_pipe pipe)
{
    uint64_t uid;
    if (!side->is_ipc) {
        return true;
    }
    return nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_UID, &uid) == 0 &&
           (uid == geteuid() || uid == 0);
}

/* Thread: nng's. nng calls both events for each pipe, for a rejected one too. */
static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    service_side *side = arg;
    if (event == NNG_PIPE_EV_REM_POST) {
        atomic_fetch_sub(&side->pipes, 1);
        return;
    }
    atomic_fetch_add(&side->pipes, 1);
    atomic_fetch_add(&side->gains, 1);
    if (!is_welcome(side, pipe)) {
        atomic_fetch_add(&side->refused, 1);
        nng_pipe_close(pipe);
    }
}

static int listen_at(service_side *side)
{
    nng_listener listener;
    int rv = nng_listener_create(&listener, side->socket, side->url);
    if (rv != 0) {
        return rv;
    }
    rv = nng_listener_set_size(listener, NNG_OPT_RECVMAXSZ, TW_SERVICE_MESSAGE_MAX);
    if (rv == 0 && side->is_ipc) {
        rv = nng_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, S_IRUSR | S_IWUSR);
    }
    rv = rv != 0 ? rv : nng_listener_start(listener, 0);
    if (rv != 0) {
        nng_listener_close(listener);
        return rv;
    }
    side->listener = listener;
    return 0;
}

static int side_begin(service_side *side, const char *url, listener_watch_peer peer)
{
    tw_format(side->url, sizeof side->url, "%s", url);
    side->is_ipc = starts_with(url, IPC_PREFIX);
    int rv = nng_pipe_notify(side->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, side);
    rv = rv != 0 ? rv : nng_pipe_notify(side->socket, NNG_PIPE_EV_REM_POST, on_pipe, side);
    rv = rv != 0 ? rv : listen_at(side);
    if (rv == 0) {
        listener_watch_begin(&side->watch, peer, url);
    }
    return rv;
}

static int open_both(service_socket *socket, const char *url, const char *feed_url)
{
    service_side *requests = &socket->sides[SIDE_REQUESTS];
    service_side *feed = &socket->sides[SIDE_FEED];
    int rv = nng_rep0_open_raw(&requests->socket);
    rv = rv != 0 ? rv : nng_pub0_open(&feed->socket);
    nng_socket s = requests->socket;
    rv = rv != 0 ? rv : nng_socket_set_int(s, NNG_OPT_RECVBUF, REQUESTS_QUEUE);
    rv = rv != 0 ? rv : nng_socket_set_int(s, NNG_OPT_SENDBUF, ANSWERS_QUEUE);
    rv = rv != 0 ? rv : nng_socket_set_ms(s, NNG_OPT_SENDTIMEO, SEND_TIMEOUT_MS);
    rv = rv != 0 ? rv : nng_socket_get_int(s, NNG_OPT_RECVFD, &socket->fd);
    rv = rv != 0 ? rv : nng_socket_set_int(feed->socket, NNG_OPT_SENDBUF, FEED_QUEUE);
    rv = rv != 0 ? rv : side_begin(feed, feed_url, LISTENER_WATCH_SUB);
    return rv != 0 ? rv : side_begin(requests, url, LISTENER_WATCH_REQ);
}

void service_socket_guard(service_socket *socket)
{
    for (size_t i = 0; i < SIDES; i++) {
        service_side *side = &socket->sides[i];
        if (!listener_watch_step(&side->watch, atomic_load(&side->gains))) {
            continue;
        }
        tw_log(TW_LOG_WARN, "service", "%s accepted nobody any more: it listens anew", side->url);
        nng_listener_close(side->listener);
        socket->relistened++;
        int rv = listen_at(side);
        if (rv != 0) {
            tw_log(TW_LOG_ERROR, "service", "cannot listen at %s: %s", side->url, nng_strerror(rv));
        }
    }
}

tw_err service_socket_open(service_socket **out, const char *url, char *why, size_t size)
{
    char feed_url[SERVICE_URL_MAX];
    *out = NULL;
    tw_err err = service_feed_url(url, feed_url);
    if (err != TW_OK) {
        tw_format(why, size, "cannot listen at %s: it is to be ipc:///PATH or tcp://127.0.0.1:PORT",
                  url);
        return err;
    }
    service_socket *socket = tw_alloc_zero(1, sizeof *socket);
    if (socket == NULL) {
        tw_format(why, size, "%s", tw_err_text(TW_E_NO_MEMORY));
        return TW_E_NO_MEMORY;
    }
    int rv = open_both(socket, url, feed_url);
    if (rv != 0) {
        tw_format(why, size, "cannot listen at %s or %s: %s", url, feed_url, nng_strerror(rv));
        service_socket_close(&socket);
        return rv == NNG_EADDRINUSE ? TW_E_CONFLICT
               : rv == NNG_ENOMEM   ? TW_E_NO_MEMORY
                                    : TW_E_UNAVAILABLE;
    }
    *out = socket;
    return TW_OK;
}

void service_socket_close(service_socket **out)
{
    service_socket *socket = *out;
    *out = NULL;
    if (socket == NULL) {
        return;
    }
    if (socket->last != NULL) {
        nng_msg_free(socket->last);
    }
    for (size_t i = 0; i < SIDES; i++) {
        listener_watch_end(&socket->sides[i].watch);
        if (nng_socket_id(socket->sides[i].socket) > 0) {
            (void)nng_close(socket->sides[i].socket);
        }
    }
    tw_free(socket);
}

int service_socket_fd(const service_socket *socket)
{
    return socket->fd;
}

tw_err service_socket_receive(service_socket *socket, service_route *route, tw_str *body)
{
    for (;;) {
        if (socket->last != NULL) {
            nng_msg_free(socket->last);
            socket->last = NULL;
        }
        int rv = nng_recvmsg(socket->sides[SIDE_REQUESTS].socket, &socket->last, NNG_FLAG_NONBLOCK);
        if (rv != 0) {
            socket->last = NULL;
            return TW_E_END;
        }
        size_t len = nng_msg_header_len(socket->last);
        if (len == 0 || len > sizeof route->bytes) {
            continue; /* nng bounds the hops of a request, so this is none that could be answered */
        }
        memcpy(route->bytes, nng_msg_header(socket->last), len);
        route->len = (uint8_t)len;
        *body = (tw_str){nng_msg_body(socket->last), nng_msg_len(socket->last)};
        return TW_OK;
    }
}

static tw_err send_parts(nng_socket s, tw_str header, tw_str topic, tw_str body, int flags)
{
    nng_msg *msg;
    if (nng_msg_alloc(&msg, 0) != 0) {
        return TW_E_NO_MEMORY;
    }
    int rv = header.len == 0 ? 0 : nng_msg_header_append(msg, header.ptr, header.len);
    rv = rv != 0 || topic.len == 0 ? rv : nng_msg_append(msg, topic.ptr, topic.len);
    rv = rv != 0 ? rv : nng_msg_append(msg, body.ptr, body.len);
    rv = rv != 0 ? rv : nng_sendmsg(s, msg, flags);
    if (rv != 0) {
        nng_msg_free(msg);
    }
    return rv == 0 ? TW_OK : rv == NNG_ENOMEM ? TW_E_NO_MEMORY : TW_E_BUSY;
}

tw_err service_socket_reply(service_socket *socket, const service_route *route, tw_str body)
{
    tw_str header = {(const char *)route->bytes, route->len};
    tw_str none = {NULL, 0};
    tw_err err =
        send_parts(socket->sides[SIDE_REQUESTS].socket, header, none, body, NNG_FLAG_NONBLOCK);
    if (err == TW_E_BUSY) { /* a thread of nng empties the queue at once, whoever does not read */
        err = send_parts(socket->sides[SIDE_REQUESTS].socket, header, none, body, 0);
    }
    return err;
}

tw_err service_socket_publish(service_socket *socket, tw_str topic, tw_str body)
{
    return send_parts(socket->sides[SIDE_FEED].socket, (tw_str){NULL, 0}, topic, body,
                      NNG_FLAG_NONBLOCK);
}

uint64_t service_socket_followers(const service_socket *socket)
{
    return atomic_load(&socket->sides[SIDE_FEED].pipes);
}

uint64_t service_socket_peers(const service_socket *socket)
{
    return atomic_load(&socket->sides[SIDE_REQUESTS].pipes);
}

uint64_t service_socket_refused(const service_socket *socket)
{
    return atomic_load(&socket->sides[SIDE_FEED].refused) +
           atomic_load(&socket->sides[SIDE_REQUESTS].refused);
}

uint64_t service_socket_relistened(const service_socket *socket)
{
    return socket->relistened;
}
