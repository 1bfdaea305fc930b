/* transport.c - nng, and nothing of it outside: sockets, addresses, packets. */
#include "actors/runtime/transport.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

#include "protocol/limits.h"

#include "actors/runtime/actor.h"
#include "actors/runtime/local.h"
#include "actors/runtime/log.h"

/* Depths of nng's queues, in messages. A request or an answer is never dropped for want of room:
 * the queue before it waits. A publication is, and its follower reads again; at 64 KiB a batch a
 * stalled follower then holds 64 MiB and no more. */
enum {
    INBOX_RECEIVE = 128,
    INBOX_SEND = 1024, /* answers; emptied by a thread of nng within microseconds */
    LINK_QUEUE = 64,   /* both ways; twice the window, for what an ended pipe left behind */
    PUBLICATION_QUEUE = TW_FOLLOW_QUEUE_MAX,
    RECONNECT_MIN_MS = 10,
    RECONNECT_MAX_MS = 500,
};
static_assert((int)LINK_QUEUE >= 2 * (int)TW_LINK_IN_FLIGHT_MAX, "a window fits the queue");

#define INPROC_PREFIX "inproc://"
#define IPC_PREFIX    "ipc://"
#define TCP_PREFIX    "tcp://"

static const struct kind {
    int (*open)(nng_socket *socket);
    int receive_queue; /* 0: does not receive */
    int send_queue;    /* 0: does not send */
} kinds[] = {
    [TRANSPORT_INBOX] = {nng_rep0_open_raw, INBOX_RECEIVE, INBOX_SEND},
    [TRANSPORT_LINK] = {nng_req0_open_raw, LINK_QUEUE, LINK_QUEUE},
    [TRANSPORT_PUBLICATIONS] = {nng_pub0_open, 0, PUBLICATION_QUEUE},
    [TRANSPORT_FOLLOW] = {nng_sub0_open, PUBLICATION_QUEUE, 0},
    [TRANSPORT_NEWEST] = {nng_sub0_open, 1, 0},
};

static const struct failure {
    int nng;
    tw_err err;
} failures[] = {
    {0, TW_OK},
    {NNG_ENOMEM, TW_E_NO_MEMORY},
    {NNG_EAGAIN, TW_E_BUSY},
    {NNG_EADDRINUSE, TW_E_CONFLICT},
    {NNG_EADDRINVAL, TW_E_BAD_CONFIG},
    {NNG_EINVAL, TW_E_BAD_CONFIG},
    {NNG_ENOTSUP, TW_E_BAD_CONFIG},
    {NNG_EPERM, TW_E_FORBIDDEN},
    {NNG_EMSGSIZE, TW_E_TOO_BIG},
};

static tw_err failure_of(int rv)
{
    for (size_t i = 0; i < TW_COUNT(failures); i++) {
        if (failures[i].nng == rv) {
            return failures[i].err;
        }
    }
    return TW_E_UNAVAILABLE;
}

static nng_socket socket_of(const transport_socket *socket)
{
    TW_ASSERT(socket->id != 0);
    return (nng_socket){.id = socket->id};
}

static nng_msg *msg_of(const transport_packet *packet)
{
    TW_ASSERT(packet != NULL);
    union {
        const transport_packet *packet;
        nng_msg *msg;
    } same = {.packet = packet}; /* nng's readers of a message take it without const */
    return same.msg;
}

/* ---- addresses ---- */

static bool starts_with(const char *text, const char *prefix)
{
    TW_ASSERT(text != NULL);
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

tw_err transport_base_prepare(const char *base)
{
    TW_ASSERT(base != NULL);
    if (starts_with(base, IPC_PREFIX "/")) {
        const char *folder = base + strlen(IPC_PREFIX);
        bool is_there = mkdir(folder, S_IRWXU) == 0 || errno == EEXIST;
        return is_there ? TW_OK : TW_E_DISK;
    }
    if (starts_with(base, TCP_PREFIX)) {
        return strchr(base + strlen(TCP_PREFIX), ':') != NULL ? TW_OK : TW_E_BAD_CONFIG;
    }
    bool is_inproc = starts_with(base, INPROC_PREFIX) && base[strlen(INPROC_PREFIX)] != '\0';
    return is_inproc ? TW_OK : TW_E_BAD_CONFIG;
}

/* The place of a name in tw_actor_names gives its two ports. */
static tw_err address_tcp(const char *base, const char *name, bool is_publications,
                          char out[TRANSPORT_ADDRESS_MAX])
{
    TW_ASSERT(base != NULL);
    TW_ASSERT(name != NULL);
    uint64_t index = 0;
    while (tw_actor_names[index] != NULL && strcmp(tw_actor_names[index], name) != 0) {
        index++;
    }
    const char *colon = strrchr(base, ':');
    uint64_t port;
    if (tw_actor_names[index] == NULL || colon == NULL ||
        tw_parse_u64(tw_str_of(colon + 1), UINT16_MAX, &port) != TW_OK) {
        return TW_E_BAD_CONFIG;
    }
    port += 2 * index + (is_publications ? 1 : 0);
    if (port > UINT16_MAX) {
        return TW_E_BAD_CONFIG;
    }
    tw_format(out, TRANSPORT_ADDRESS_MAX, "%.*s:%u", (int)(colon - base), base, (unsigned)port);
    return TW_OK;
}

tw_err transport_address(const char *base, const char *name, bool is_publications,
                         char out[TRANSPORT_ADDRESS_MAX])
{
    TW_ASSERT(base != NULL);
    TW_ASSERT(name != NULL);
    size_t len = strlen(base) + strlen(name) + strlen("/.pub");
    bool is_ipc = starts_with(base, IPC_PREFIX);
    size_t path_max = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;
    if (len >= TRANSPORT_ADDRESS_MAX || len >= NNG_MAXADDRLEN ||
        (is_ipc && len - strlen(IPC_PREFIX) > path_max)) {
        return TW_E_BAD_CONFIG;
    }
    if (starts_with(base, TCP_PREFIX)) {
        return address_tcp(base, name, is_publications, out);
    }
    tw_format(out, TRANSPORT_ADDRESS_MAX, "%s/%s%s", base, name, is_publications ? ".pub" : "");
    return TW_OK;
}

/* ---- sockets ---- */

/* A pipe comes or goes. Thread: nng's. ADD_PRE and REM_POST are the pair of which nng always calls
 * both: a pipe that it rejects in between never gets to ADD_POST. */
static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    transport_socket *socket = arg;
    TW_ASSERT(socket != NULL);
    (void)pipe;
    if (event == NNG_PIPE_EV_ADD_PRE) {
        atomic_fetch_add(&socket->pipes, 1);
        atomic_fetch_add(&socket->gains, 1);
    } else {
        TW_ASSERT(event == NNG_PIPE_EV_REM_POST);
        atomic_fetch_sub(&socket->pipes, 1);
        atomic_fetch_add(&socket->losses, 1);
    }
    int failed = eventfd_write(socket->wake_fd, 1);
    TW_ASSERT(failed == 0 || errno == EAGAIN); /* EAGAIN: it is readable already */
}

/* All that is set on a socket before it has an address. */
static int socket_configure(transport_socket *socket, const struct kind *kind)
{
    nng_socket s = socket_of(socket);
    int rv = 0;
    if (kind->receive_queue != 0) {
        rv = nng_socket_set_int(s, NNG_OPT_RECVBUF, kind->receive_queue);
        rv = rv != 0 ? rv : nng_socket_get_int(s, NNG_OPT_RECVFD, &socket->fd);
    }
    if (rv == 0 && kind->send_queue != 0) {
        rv = nng_socket_set_int(s, NNG_OPT_SENDBUF, kind->send_queue);
    }
    if (rv == 0 && kind->open == nng_sub0_open) {
        rv = nng_socket_set(s, NNG_OPT_SUB_SUBSCRIBE, "", 0);
    }
    rv = rv != 0 ? rv : nng_pipe_notify(s, NNG_PIPE_EV_ADD_PRE, on_pipe, socket);
    return rv != 0 ? rv : nng_pipe_notify(s, NNG_PIPE_EV_REM_POST, on_pipe, socket);
}

tw_err transport_open(transport_socket *socket, transport_kind kind, const char *base, int wake_fd)
{
    TW_ASSERT(socket != NULL);
    TW_ASSERT((size_t)kind < TW_COUNT(kinds));
    *socket = (transport_socket){.fd = -1, .wake_fd = wake_fd};
    TW_ASSERT(wake_fd >= 0);
    if (starts_with(base, INPROC_PREFIX)) {
        return local_open(socket, kind);
    }
    nng_socket opened;
    int rv = kinds[kind].open(&opened);
    if (rv != 0) {
        return failure_of(rv);
    }
    socket->id = opened.id;
    rv = socket_configure(socket, &kinds[kind]);
    if (rv != 0) {
        transport_close(socket);
    }
    return failure_of(rv);
}

tw_err transport_listen(transport_socket *socket, const char *address)
{
    TW_ASSERT(address != NULL);
    if (socket->local != NULL) {
        return local_listen(socket, address);
    }
    nng_listener listener;
    int rv = nng_listener_create(&listener, socket_of(socket), address);
    if (rv != 0) {
        return failure_of(rv);
    }
    rv = nng_listener_set_size(listener, NNG_OPT_RECVMAXSZ, TW_ACTOR_MESSAGE_MAX);
    if (rv == 0 && starts_with(address, IPC_PREFIX)) {
        rv = nng_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, S_IRUSR | S_IWUSR);
    }
    rv = rv != 0 ? rv : nng_listener_start(listener, 0);
    if (rv != 0) {
        nng_listener_close(listener);
        tw_log(TW_LOG_ERROR, "transport", "cannot listen at %s: %s", address, nng_strerror(rv));
        return failure_of(rv);
    }
    socket->listener = listener.id;
    return TW_OK;
}

void transport_unlisten(transport_socket *socket)
{
    TW_ASSERT(socket != NULL);
    if (socket->local != NULL) {
        local_unlisten(socket);
    }
    if (socket->listener != 0) {
        nng_listener_close((nng_listener){.id = socket->listener});
        socket->listener = 0;
    }
}

tw_err transport_dial(transport_socket *socket, const char *address)
{
    TW_ASSERT(address != NULL);
    if (socket->local != NULL) {
        local_dial(socket, address);
        return TW_OK;
    }
    nng_dialer dialer;
    int rv = nng_dialer_create(&dialer, socket_of(socket), address);
    if (rv != 0) {
        return failure_of(rv);
    }
    rv = nng_dialer_set_size(dialer, NNG_OPT_RECVMAXSZ, TW_ACTOR_MESSAGE_MAX);
    rv = rv != 0 ? rv : nng_dialer_set_ms(dialer, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);
    rv = rv != 0 ? rv : nng_dialer_set_ms(dialer, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
    rv = rv != 0 ? rv : nng_dialer_start(dialer, NNG_FLAG_NONBLOCK);
    if (rv != 0) {
        nng_dialer_close(dialer);
        tw_log(TW_LOG_ERROR, "transport", "cannot dial %s: %s", address, nng_strerror(rv));
    }
    return failure_of(rv);
}

void transport_close(transport_socket *socket)
{
    TW_ASSERT(socket != NULL);
    if (socket->local != NULL) {
        local_close(socket);
        return;
    }
    if (socket->id == 0) {
        return;
    }
    int rv = nng_close(socket_of(socket));
    TW_ASSERT(rv == 0); /* only we close it, and once */
    socket->id = 0;
    socket->listener = 0;
    socket->fd = -1; /* nng's, gone with the socket */
}

/* ---- packets ---- */

tw_err transport_packet_new(transport_packet **out, tw_str header, tw_str prefix, tw_str body)
{
    TW_ASSERT(out != NULL);
    TW_ASSERT(body.len <= TW_ACTOR_MESSAGE_MAX);
    nng_msg *msg;
    int rv = nng_msg_alloc(&msg, prefix.len + body.len);
    if (rv != 0) {
        return failure_of(rv);
    }
    char *at = nng_msg_body(msg);
    if (prefix.len != 0) {
        memcpy(at, prefix.ptr, prefix.len);
    }
    if (body.len != 0) {
        memcpy(at + prefix.len, body.ptr, body.len);
    }
    rv = header.len == 0 ? 0 : nng_msg_header_append(msg, header.ptr, header.len);
    if (rv != 0) {
        nng_msg_free(msg);
        return failure_of(rv);
    }
    *out = (transport_packet *)msg;
    return TW_OK;
}

void transport_packet_free(transport_packet **packet)
{
    TW_ASSERT(packet != NULL);
    if (*packet != NULL) {
        nng_msg_free(msg_of(*packet));
        *packet = NULL;
    }
}

tw_err transport_packet_copy(transport_packet **out, const transport_packet *packet)
{
    nng_msg *copy;
    int rv = nng_msg_dup(&copy, msg_of(packet));
    if (rv == 0) {
        *out = (transport_packet *)copy;
    }
    return failure_of(rv);
}

tw_str transport_packet_header(const transport_packet *packet)
{
    nng_msg *msg = msg_of(packet);
    return (tw_str){nng_msg_header(msg), nng_msg_header_len(msg)};
}

tw_str transport_packet_body(const transport_packet *packet)
{
    nng_msg *msg = msg_of(packet);
    return (tw_str){nng_msg_body(msg), nng_msg_len(msg)};
}

void transport_packet_route_add(transport_packet *packet, uint32_t id)
{
    int rv = nng_msg_header_insert_u32(msg_of(packet), id);
    TW_ASSERT(rv == 0); /* a header has room for sixteen words, of which we use two */
}

uint32_t transport_packet_route_take(transport_packet *packet)
{
    uint32_t id = 0;
    int rv = nng_msg_header_trim_u32(msg_of(packet), &id);
    return rv == 0 ? id : 0;
}

uint32_t transport_packet_route(const transport_packet *packet)
{
    tw_str header = transport_packet_header(packet);
    uint32_t id = 0;
    for (size_t i = 0; header.len >= sizeof id && i < sizeof id; i++) {
        id = id << 8 | (unsigned char)header.ptr[i];
    }
    return id;
}

tw_err transport_send(transport_socket *socket, transport_packet **packet)
{
    TW_ASSERT(packet != NULL);
    if (socket->local != NULL) {
        return local_send(socket, packet);
    }
    int rv = nng_sendmsg(socket_of(socket), msg_of(*packet), NNG_FLAG_NONBLOCK);
    if (rv == 0) {
        *packet = NULL;
    }
    return failure_of(rv);
}

tw_err transport_receive(transport_socket *socket, transport_packet **out)
{
    TW_ASSERT(out != NULL);
    if (socket->local != NULL) {
        return local_receive(socket, out);
    }
    nng_msg *msg;
    int rv = nng_recvmsg(socket_of(socket), &msg, NNG_FLAG_NONBLOCK);
    if (rv != 0) {
        return rv == NNG_EAGAIN ? TW_E_END : failure_of(rv);
    }
    *out = (transport_packet *)msg;
    return TW_OK;
}

void transport_refuse(transport_socket *socket, const transport_packet *packet)
{
    if (socket->local != NULL) {
        local_refuse(socket, packet);
        return;
    }
    nng_pipe pipe = nng_msg_get_pipe(msg_of(packet));
    if (nng_pipe_id(pipe) > 0) {
        nng_pipe_close(pipe); /* an error means that it is gone already */
    }
}
