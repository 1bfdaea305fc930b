/* lws_link.c - libwebsockets as a loop over raw sockets.
 *
 * 1. Listening sockets are the gateway's own, adopted as raw files: so accepting can be bounded in
 * a
 *    turn and paused, and the port that was bound is known.
 * 2. fd_limit_per_thread is left alone: set below the soft limit, lws 4.1.6 looks descriptors up by
 *    linear search. The soft limit itself is set to what is needed. */
#include "gateways/lws_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libwebsockets.h>

#include "actors/runtime/log.h"

enum {
    LWS_LINK_ACCEPTS_MAX = 64, /* a turn, so that those who are here are served */
    LWS_LINK_BACKLOG = 4096,   /* connections the kernel holds while we are busy */
    LWS_LINK_LISTENERS_MAX = 4,
    LWS_LINK_DESCRIPTORS_SPARE = 1024, /* for sockets of actors, files, listeners */
    LWS_LINK_BUFFER = 65536,           /* bytes of one read, shared by all connections */
};

typedef struct listener {
    lws_link *link;
    struct lws *wsi;
    int tag;
    bool paused;
} listener;

struct lws_link {
    lws_link_handler handler;
    struct lws_context *context;
    struct lws_vhost *vhost;
    listener listeners[LWS_LINK_LISTENERS_MAX];
    size_t listeners_count;
    size_t connections;
    size_t connections_max;
    lws_sorted_usec_list_t wake; /* ends a wait in time */
    char why[128];
};

static struct lws *wsi_of(lws_socket *socket)
{
    return (struct lws *)(void *)socket;
}

static void pause_listeners(lws_link *self, bool pause)
{
    for (size_t i = 0; i < self->listeners_count; i++) {
        listener *one = &self->listeners[i];
        if (one->wsi != NULL && one->paused != pause) {
            one->paused = pause;
            lws_rx_flow_control(one->wsi, pause ? 0 : 1);
        }
    }
}

/* Gives an accepted descriptor to lws. */
static void adopt(lws_link *self, int tag, int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    void *connection = self->handler.on_accept(self->handler.context, tag, fd);
    if (connection == NULL) {
        close(fd);
        return;
    }
    lws_adopt_desc_t info = {
        .vh = self->vhost,
        .type = LWS_ADOPT_SOCKET,
        .fd = {.sockfd = fd},
        .vh_prot_name = "connection",
    };
    struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&info); /* closes fd when it fails */
    if (wsi == NULL) {
        self->handler.on_close(self->handler.context, connection);
        return;
    }
    lws_set_opaque_user_data(wsi, connection);
    self->connections++;
    self->handler.on_open(self->handler.context, connection, (lws_socket *)(void *)wsi);
}

static void accept_some(lws_link *self, listener *from, int fd)
{
    for (int i = 0; i < LWS_LINK_ACCEPTS_MAX; i++) {
        if (self->connections >= self->connections_max) {
            tw_log(TW_LOG_WARN, "gateway", "%zu connections: accepting pauses", self->connections);
            pause_listeners(self, true);
            return;
        }
        int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (accepted >= 0) {
            adopt(self, from->tag, accepted);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            tw_log(TW_LOG_WARN, "gateway", "accepting pauses: %s", strerror(errno));
            pause_listeners(self, true);
            return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return; /* EAGAIN: that was all */
        }
    }
}

static int on_listener(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                       size_t len)
{
    (void)user;
    (void)in;
    (void)len;
    if (reason == LWS_CALLBACK_RAW_RX_FILE) {
        listener *from = lws_get_opaque_user_data(wsi);
        accept_some(from->link, from, lws_get_socket_fd(wsi));
    } else if (reason == LWS_CALLBACK_RAW_CLOSE_FILE) {
        listener *from = lws_get_opaque_user_data(wsi);
        if (from != NULL) {
            from->wsi = NULL;
        }
    }
    return 0;
}

/* The watched descriptor only ends the wait: the actor's turn runs outside of the loop. */
static int on_watched(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                      size_t len)
{
    (void)wsi;
    (void)reason;
    (void)user;
    (void)in;
    (void)len;
    return 0;
}

static int on_connection(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                         size_t len)
{
    (void)user;
    void *connection = NULL;
    if (reason == LWS_CALLBACK_RAW_RX || reason == LWS_CALLBACK_RAW_WRITEABLE ||
        reason == LWS_CALLBACK_RAW_CLOSE) {
        connection = lws_get_opaque_user_data(wsi);
    }
    if (connection == NULL) {
        return 0; /* another event, or one that was never opened */
    }
    lws_link *self = lws_context_user(lws_get_context(wsi));
    const lws_link_handler *handler = &self->handler;
    if (reason == LWS_CALLBACK_RAW_RX) {
        return handler->on_bytes(handler->context, connection, in, len) ? 0 : -1;
    }
    if (reason == LWS_CALLBACK_RAW_WRITEABLE) {
        return handler->on_writable(handler->context, connection) ? 0 : -1;
    }
    lws_set_opaque_user_data(wsi, NULL);
    self->connections--;
    handler->on_close(handler->context, connection);
    return 0;
}

/* connection stands first: lws asks the first protocol for what belongs to none. */
static const struct lws_protocols protocols[] = {
    {"connection", on_connection, 0, LWS_LINK_BUFFER, 0, NULL, LWS_LINK_BUFFER},
    {"listener", on_listener, 0, 0, 0, NULL, 0},
    {"watched", on_watched, 0, 0, 0, NULL, 0},
    {NULL, NULL, 0, 0, 0, NULL, 0},
};

static void on_library_log(int level, const char *line)
{
    size_t len = strlen(line);
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) {
        len--;
    }
    tw_log_level as = level == LLL_ERR    ? TW_LOG_ERROR
                      : level == LLL_WARN ? TW_LOG_WARN
                                          : TW_LOG_DEBUG;
    tw_log(as, "libwebsockets", "%.*s", (int)len, line);
}

static void fit_descriptors(size_t connections_max)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    rlim_t wanted = connections_max + LWS_LINK_DESCRIPTORS_SPARE;
    if (limit.rlim_max != RLIM_INFINITY && wanted > limit.rlim_max) {
        tw_log(TW_LOG_WARN, "gateway", "the limit of %llu open files is below the %llu wanted",
               (unsigned long long)limit.rlim_max, (unsigned long long)wanted);
        wanted = limit.rlim_max;
    }
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur != wanted) {
        limit.rlim_cur = wanted;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* a smaller one only pauses accepting earlier */
    }
}

tw_err lws_link_new(lws_link **out, const lws_link_handler *handler, size_t connections_max)
{
    lws_link *self = tw_alloc_zero(1, sizeof(*self));
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->handler = *handler;
    self->connections_max = connections_max;
    fit_descriptors(connections_max);
    lws_set_log_level(LLL_ERR | LLL_WARN, on_library_log);
    struct lws_context_creation_info info;
    memset(&info, 0, sizeof(info));
    info.port = CONTEXT_PORT_NO_LISTEN;
    info.protocols = protocols;
    info.user = self;
    info.gid = -1;
    info.uid = -1;
    info.pt_serv_buf_size = LWS_LINK_BUFFER;
    info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME;
    self->context = lws_create_context(&info);
    if (self->context != NULL) {
        self->vhost = lws_create_vhost(self->context, &info);
    }
    if (self->vhost == NULL) {
        lws_link_free(&self);
        return TW_E_NO_MEMORY;
    }
    *out = self;
    return TW_OK;
}

void lws_link_free(lws_link **link)
{
    lws_link *self = *link;
    *link = NULL;
    if (self == NULL) {
        return;
    }
    if (self->context != NULL) {
        lws_sul_cancel(&self->wake);
        lws_context_destroy(self->context);
    }
    tw_free(self);
}

static int open_listening(const char *address, int port, int *bound)
{
    char service[16];
    tw_format(service, sizeof(service), "%d", port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(address, service, &hints, &found) != 0) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    struct sockaddr_storage name;
    socklen_t name_len = sizeof(name);
    bool good = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
                bind(fd, found->ai_addr, found->ai_addrlen) == 0 &&
                listen(fd, LWS_LINK_BACKLOG) == 0 &&
                getsockname(fd, (struct sockaddr *)(void *)&name, &name_len) == 0;
    int cause = errno;
    freeaddrinfo(found);
    if (!good) {
        if (fd >= 0) {
            close(fd);
        }
        errno = cause;
        return -1;
    }
    *bound = name.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)(void *)&name)->sin6_port)
                                        : ntohs(((struct sockaddr_in *)(void *)&name)->sin_port);
    return fd;
}

static struct lws *adopt_file(lws_link *self, int fd, const char *protocol, void *opaque)
{
    lws_adopt_desc_t info = {
        .vh = self->vhost,
        .type = LWS_ADOPT_RAW_FILE_DESC,
        .fd = {.filefd = fd},
        .vh_prot_name = protocol,
        .opaque = opaque,
    };
    struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&info);
    if (wsi == NULL) {
        close(fd);
    }
    return wsi;
}

tw_err lws_link_listen(lws_link *self, const char *address, int port, int tag, int *bound,
                       const char **why)
{
    TW_ASSERT(self->listeners_count < LWS_LINK_LISTENERS_MAX);
    int fd = open_listening(address, port, bound);
    if (fd < 0) {
        tw_format(self->why, sizeof(self->why), "cannot listen at %.60s:%d: %s", address, port,
                  strerror(errno));
        *why = self->why;
        return TW_E_UNAVAILABLE;
    }
    listener *one = &self->listeners[self->listeners_count];
    *one = (listener){.link = self, .tag = tag};
    one->wsi = adopt_file(self, fd, "listener", one);
    if (one->wsi == NULL) {
        *why = "no memory to listen";
        return TW_E_NO_MEMORY;
    }
    self->listeners_count++;
    return TW_OK;
}

void lws_link_stop_listening(lws_link *self)
{
    for (size_t i = 0; i < self->listeners_count; i++) {
        if (self->listeners[i].wsi != NULL) {
            lws_set_timeout(self->listeners[i].wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
        }
    }
}

tw_err lws_link_watch(lws_link *self, int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        return TW_E_UNAVAILABLE;
    }
    return adopt_file(self, copy, "watched", NULL) == NULL ? TW_E_NO_MEMORY : TW_OK;
}

static void on_wake(lws_sorted_usec_list_t *sul)
{
    (void)sul; /* the wait has ended */
}

void lws_link_service(lws_link *self, int timeout_ms)
{
    if (timeout_ms > 0) { /* 4.1.6 reads any timeout that is not negative as for ever */
        lws_sul_schedule(self->context, 0, &self->wake, on_wake,
                         (lws_usec_t)timeout_ms * LWS_US_PER_MS);
    }
    (void)lws_service(self->context, timeout_ms == 0 ? -1 : 0);
}

void lws_link_resume(lws_link *self)
{
    if (self->connections < self->connections_max) {
        pause_listeners(self, false);
    }
}

tw_err lws_link_write(lws_socket *socket, const struct iovec *iov, size_t count, size_t *sent)
{
    int fd = lws_get_socket_fd(wsi_of(socket));
    ssize_t done;
    if (count == 1) {
        done = send(fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    } else {
        struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
        done = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    *sent = done < 0 ? 0 : (size_t)done;
    if (done < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR && errno != ENOBUFS) {
        return TW_E_UNAVAILABLE;
    }
    return TW_OK;
}

void lws_link_want_write(lws_socket *socket)
{
    lws_callback_on_writable(wsi_of(socket));
}

void lws_link_shutdown(lws_socket *socket)
{
    (void)shutdown(lws_get_socket_fd(wsi_of(socket)), SHUT_WR);
}

void lws_link_close(lws_socket *socket)
{
    lws_set_timeout(wsi_of(socket), PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

void lws_link_read(lws_socket *socket, bool on)
{
    lws_rx_flow_control(wsi_of(socket), on ? 1 : 0);
}

void lws_link_accept_key(tw_str key, char out[32])
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, 1.3 */
    unsigned char joined[64 + sizeof(magic)];
    unsigned char digest[20];
    TW_ASSERT(key.len <= 64);
    memcpy(joined, key.ptr, key.len);
    memcpy(joined + key.len, magic, sizeof(magic) - 1);
    lws_SHA1(joined, key.len + sizeof(magic) - 1, digest);
    int len = lws_b64_encode_string((const char *)digest, sizeof(digest), out, 32);
    TW_ASSERT(len > 0);
}
