/* lws_link.c - libwebsockets' loop, and the sockets of connections in an epoll inside of it.
 *
 * 1. Listening sockets are the gateway's own, adopted as raw files: so accepting can be bounded in
 *    a turn and paused, and the port that was bound is known.
 * 2. fd_limit_per_thread is left alone: set below the soft limit, lws 4.1.6 looks descriptors up by
 *    linear search. The soft limit itself is set to what is needed.
 * 3. Connections are not adopted: lws 4.1.6 polls all of them in each turn, whoever has something
 *    (a tenth of the CPU of a broadcast to 1,000), and keeps 700 bytes of each. They stand in an
 *    epoll whose descriptor is what lws watches.
 * 4. A socket that is closed is dead at once, and is freed at the end of a turn: events of the
 *    same turn may still name it. */
#include "gateways/web/lws_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/queue.h>
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
    LWS_LINK_EVENTS_MAX = 512,         /* connections served between two looks at all else */
    LWS_LINK_HANDSHAKES_MAX = 32,      /* steps of them in a turn: one signs, for 0.1 ms to 1 ms */
};

/* A connection's socket. It is in one of the two lists: the living, the dead. */
struct lws_socket {
    lws_link *link;
    void *connection;
    int fd;
    tls_link *tls;      /* borrow: the listener's; NULL: plain */
    tls_socket *secure; /* own; NULL: plain */
    uint32_t events;    /* that are asked for */
    bool shaking;       /* its handshake is under way */
    bool read_waits;    /* for room to write */
    bool dead;
    LIST_ENTRY(lws_socket) entry;
};

typedef struct listener {
    lws_link *link;
    struct lws *wsi;
    tls_link *tls; /* borrow; NULL: plain */
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
    lws_link_figures figures;
    size_t steps; /* of handshakes in this turn */
    int epoll;
    LIST_HEAD(, lws_socket) living, dead;
    uint8_t *buffer;             /* own; LWS_LINK_BUFFER */
    lws_sorted_usec_list_t wake; /* ends a wait in time */
    char why[128];
};

static void pause_listener(listener *one, bool pause)
{
    if (one->wsi != NULL && one->paused != pause) {
        one->paused = pause;
        lws_rx_flow_control(one->wsi, pause ? 0 : 1);
    }
}

static void pause_listeners(lws_link *self)
{
    for (size_t i = 0; i < self->listeners_count; i++) {
        pause_listener(&self->listeners[i], true);
    }
}

/* ---- connections ---- */

static void ask_events(lws_socket *socket, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = socket};
    if (socket->events != events && !socket->dead) {
        int failed = epoll_ctl(socket->link->epoll, EPOLL_CTL_MOD, socket->fd, &event);
        TW_ASSERT(failed == 0); /* it was added, and a change needs no memory */
        socket->events = events;
    }
}

/* NULL: no memory; fd stays the caller's. */
static lws_socket *new_socket(lws_link *self, const listener *from, int fd)
{
    lws_socket *socket = tw_alloc(sizeof(*socket));
    if (socket == NULL) {
        return NULL;
    }
    *socket = (lws_socket){.link = self, .fd = fd, .events = EPOLLIN, .tls = from->tls};
    if (from->tls != NULL) {
        socket->secure = tls_socket_new(from->tls, fd);
        socket->shaking = true;
        if (socket->secure == NULL) {
            tw_free(socket);
            return NULL;
        }
    }
    return socket;
}

static void free_socket(lws_socket *socket)
{
    if (socket->secure != NULL) {
        tls_socket_free(&socket->secure);
    }
    close(socket->fd); /* leaves the epoll by that */
    tw_free(socket);
}

static void adopt(lws_link *self, const listener *from, int fd, const struct sockaddr *peer)
{
    lws_socket *socket = new_socket(self, from, fd);
    if (socket == NULL) {
        close(fd);
        return;
    }
    void *connection = self->handler.on_accept(self->handler.context, from->tag, peer);
    if (connection == NULL) {
        free_socket(socket);
        return;
    }
    socket->connection = connection;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = socket};
    if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        free_socket(socket);
        self->handler.on_close(self->handler.context, connection);
        return;
    }
    LIST_INSERT_HEAD(&self->living, socket, entry);
    self->connections++;
    self->figures.handshakes += socket->shaking ? 1 : 0;
    self->handler.on_open(self->handler.context, connection, socket);
}

static void die(lws_socket *socket)
{
    if (!socket->dead) {
        socket->dead = true;
        LIST_REMOVE(socket, entry);
        LIST_INSERT_HEAD(&socket->link->dead, socket, entry);
    }
}

static void bury(lws_link *self)
{
    lws_socket *socket;
    while ((socket = LIST_FIRST(&self->dead)) != NULL) {
        LIST_REMOVE(socket, entry);
        self->connections--;
        if (socket->shaking) {
            self->figures.handshakes--;
            self->figures.handshakes_failed++;
        }
        self->handler.on_close(self->handler.context, socket->connection);
        free_socket(socket);
    }
}

/* ---- TLS ---- */

static void end_shaking(lws_socket *socket)
{
    socket->shaking = false;
    socket->link->figures.handshakes--;
}

/* A step of a handshake; those that are beyond what a turn may do are told of again. */
static void shake(lws_link *self, lws_socket *socket)
{
    if (self->steps++ >= LWS_LINK_HANDSHAKES_MAX) {
        return;
    }
    tls_step step = tls_socket_handshake(socket->secure);
    switch (step) {
    case TLS_DONE:
        end_shaking(socket);
        self->figures.handshakes_done++;
        ask_events(socket, EPOLLIN);
        break;
    case TLS_WANTS_READ:
        ask_events(socket, EPOLLIN);
        break;
    case TLS_WANTS_WRITE:
        ask_events(socket, EPOLLOUT);
        break;
    case TLS_HTTP:
        end_shaking(socket);
        self->figures.handshakes_failed++;
        tls_socket_free(&socket->secure);
        self->handler.on_plain(self->handler.context, socket->connection);
        break;
    case TLS_ENDED:
        die(socket);
        break;
    }
}

static void read_secure(lws_link *self, lws_socket *socket)
{
    size_t got = 0;
    tls_step step = tls_socket_read(socket->secure, self->buffer, LWS_LINK_BUFFER, &got);
    socket->read_waits = step == TLS_WANTS_WRITE;
    if (step == TLS_WANTS_READ) {
        return;
    }
    if (step == TLS_WANTS_WRITE) { /* an answer of the protocol's own */
        ask_events(socket, EPOLLOUT);
        return;
    }
    if (step != TLS_DONE ||
        !self->handler.on_bytes(self->handler.context, socket->connection, self->buffer, got)) {
        die(socket);
    }
}

static void read_once(lws_link *self, lws_socket *socket)
{
    if (socket->secure != NULL) {
        read_secure(self, socket);
        return;
    }
    ssize_t got = recv(socket->fd, self->buffer, LWS_LINK_BUFFER, MSG_DONTWAIT);
    bool again = got < 0 && (errno == EAGAIN || errno == EINTR);
    if (again) {
        return;
    }
    if (got <= 0 || !self->handler.on_bytes(self->handler.context, socket->connection, self->buffer,
                                            (size_t)got)) {
        die(socket);
    }
}

static void serve(lws_link *self, lws_socket *socket, uint32_t events)
{
    if (socket->shaking && !socket->dead) {
        shake(self, socket);
        return;
    }
    if (socket->read_waits && (events & EPOLLOUT) != 0 && !socket->dead) {
        ask_events(socket, socket->events | EPOLLIN);
        read_once(self, socket);
    }
    if ((events & EPOLLIN) != 0 && !socket->dead) {
        read_once(self, socket);
    }
    if ((events & EPOLLOUT) != 0 && !socket->dead) {
        ask_events(socket, socket->events & ~(uint32_t)EPOLLOUT);
        if (!self->handler.on_writable(self->handler.context, socket->connection)) {
            die(socket);
        }
    }
    if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (events & EPOLLIN) == 0) {
        die(socket);
    }
}

/* The epoll of connections is readable: one round over those that have something. */
static int on_connections(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                          size_t len)
{
    (void)user;
    (void)in;
    (void)len;
    if (reason != LWS_CALLBACK_RAW_RX_FILE) {
        return 0;
    }
    lws_link *self = lws_context_user(lws_get_context(wsi));
    struct epoll_event events[LWS_LINK_EVENTS_MAX];
    self->steps = 0;
    int count = epoll_wait(self->epoll, events, LWS_LINK_EVENTS_MAX, 0);
    for (int i = 0; i < count; i++) {
        serve(self, events[i].data.ptr, events[i].events);
    }
    return 0;
}

/* ---- listeners ---- */

static void accept_some(lws_link *self, listener *from, int fd)
{
    for (int i = 0; i < LWS_LINK_ACCEPTS_MAX; i++) {
        if (self->connections >= self->connections_max) {
            tw_log(TW_LOG_WARN, "gateway", "%zu connections: accepting pauses", self->connections);
            pause_listeners(self);
            return;
        }
        if (from->tls != NULL && self->figures.handshakes >= TW_HANDSHAKES_MAX) {
            pause_listener(from, true); /* the others go on */
            return;
        }
        if (!self->handler.may_accept(self->handler.context, from->tag)) {
            from->paused = true;
            lws_rx_flow_control(from->wsi, 0);
            return;
        }
        struct sockaddr_storage name = {0};
        struct sockaddr *peer = (struct sockaddr *)(void *)&name;
        socklen_t len = sizeof(name);
        int accepted = accept4(fd, peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (accepted >= 0) {
            adopt(self, from, accepted, peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            tw_log(TW_LOG_WARN, "gateway", "accepting pauses: %s", strerror(errno));
            pause_listeners(self);
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

/* watched stands first: lws asks the first protocol for what belongs to none. */
static const struct lws_protocols protocols[] = {
    {"watched", on_watched, 0, 0, 0, NULL, 0},
    {"listener", on_listener, 0, 0, 0, NULL, 0},
    {"connections", on_connections, 0, 0, 0, NULL, 0},
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

static tw_err watch(lws_link *self, int fd, const char *protocol)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        return TW_E_UNAVAILABLE;
    }
    return adopt_file(self, copy, protocol, NULL) == NULL ? TW_E_NO_MEMORY : TW_OK;
}

tw_err lws_link_new(lws_link **out, const lws_link_handler *handler, size_t connections_max,
                    size_t process_max)
{
    lws_link *self = tw_alloc_zero(1, sizeof(*self));
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->handler = *handler;
    self->connections_max = connections_max;
    LIST_INIT(&self->living);
    LIST_INIT(&self->dead);
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->buffer = tw_alloc(LWS_LINK_BUFFER);
    fit_descriptors(process_max);
    lws_set_log_level(LLL_ERR | LLL_WARN, on_library_log);
    struct lws_context_creation_info info;
    memset(&info, 0, sizeof(info));
    info.port = CONTEXT_PORT_NO_LISTEN;
    info.protocols = protocols;
    info.user = self;
    info.gid = -1;
    info.uid = -1;
    info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME;
    self->context = lws_create_context(&info);
    if (self->context != NULL) {
        self->vhost = lws_create_vhost(self->context, &info);
    }
    tw_err err = self->vhost == NULL || self->buffer == NULL || self->epoll < 0
                     ? TW_E_NO_MEMORY
                     : watch(self, self->epoll, "connections");
    if (err != TW_OK) {
        lws_link_free(&self);
        return err;
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
    lws_socket *socket;
    while ((socket = LIST_FIRST(&self->living)) != NULL) {
        die(socket);
    }
    bury(self);
    if (self->context != NULL) {
        lws_sul_cancel(&self->wake);
        lws_context_destroy(self->context);
    }
    if (self->epoll >= 0) {
        close(self->epoll);
    }
    tw_free(self->buffer);
    tw_free(self);
}

/* A name that is none, in the resolver's words. */
static const char *unresolved(int code)
{
    return code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code);
}

/* Returns -1 with the cause in *why. SO_REUSEPORT only where it is wanted: otherwise a second
 * server on the port is to be refused. TCP_NODELAY is set here once: Linux gives it to every socket
 * that is accepted. */
static int open_listening(const lws_link_address *at, int *bound, const char **why)
{
    char service[16];
    tw_format(service, sizeof(service), "%d", at->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(at->host, service, &hints, &found);
    if (failed != 0) {
        *why = unresolved(failed);
        return -1;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    int shared = at->shared ? 1 : 0;
    struct sockaddr_storage name;
    socklen_t name_len = sizeof(name);
    bool good = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
                setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &shared, sizeof(shared)) == 0 &&
                bind(fd, found->ai_addr, found->ai_addrlen) == 0 &&
                listen(fd, LWS_LINK_BACKLOG) == 0 &&
                getsockname(fd, (struct sockaddr *)(void *)&name, &name_len) == 0;
    int cause = errno;
    freeaddrinfo(found);
    if (!good) {
        if (fd >= 0) {
            close(fd);
        }
        *why = strerror(cause);
        return -1;
    }
    *bound = name.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)(void *)&name)->sin6_port)
                                        : ntohs(((struct sockaddr_in *)(void *)&name)->sin_port);
    return fd;
}

tw_err lws_link_listen(lws_link *self, const lws_link_address *at, int *bound, const char **why)
{
    TW_ASSERT(self->listeners_count < LWS_LINK_LISTENERS_MAX);
    const char *cause = "";
    int fd = open_listening(at, bound, &cause);
    if (fd < 0) {
        tw_format(self->why, sizeof(self->why), "cannot listen at %.60s:%d: %s", at->host, at->port,
                  cause);
        *why = self->why;
        return TW_E_UNAVAILABLE;
    }
    listener *one = &self->listeners[self->listeners_count];
    *one = (listener){.link = self, .tag = at->tag, .tls = at->tls};
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
    return watch(self, fd, "watched");
}

static void on_wake(lws_sorted_usec_list_t *sul)
{
    (void)sul; /* the wait has ended */
}

void lws_link_service(lws_link *self, int timeout_ms)
{
    bury(self);           /* those that were closed outside of the loop */
    if (timeout_ms > 0) { /* 4.1.6 reads any timeout that is not negative as for ever */
        lws_sul_schedule(self->context, 0, &self->wake, on_wake,
                         (lws_usec_t)timeout_ms * LWS_US_PER_MS);
    }
    (void)lws_service(self->context, timeout_ms == 0 ? -1 : 0);
    bury(self);
}

void lws_link_resume(lws_link *self)
{
    for (size_t i = 0; i < self->listeners_count; i++) {
        listener *one = &self->listeners[i];
        bool shakes = one->tls != NULL && self->figures.handshakes >= TW_HANDSHAKES_MAX;
        if (self->connections < self->connections_max && !shakes) {
            pause_listener(one, false);
        }
    }
}

lws_link_figures lws_link_tell(const lws_link *self)
{
    return self->figures;
}

tw_err lws_link_write(lws_socket *socket, const struct iovec *iov, size_t count, size_t *sent)
{
    ssize_t done;
    if (socket->secure != NULL) {
        *sent = 0;
        if (socket->shaking) { /* nobody was heard yet, so there is nothing but an end to tell */
            return TW_E_UNAVAILABLE;
        }
        tls_step step = tls_socket_write(socket->tls, socket->secure, iov, count, sent);
        return step == TLS_ENDED ? TW_E_UNAVAILABLE : TW_OK;
    }
    if (count == 1) {
        done = send(socket->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    } else {
        struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
        done = sendmsg(socket->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    *sent = done < 0 ? 0 : (size_t)done;
    if (done < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR && errno != ENOBUFS) {
        return TW_E_UNAVAILABLE;
    }
    return TW_OK;
}

void lws_link_read(lws_socket *socket, bool on)
{
    ask_events(socket, on ? socket->events | EPOLLIN : socket->events & ~(uint32_t)EPOLLIN);
}

void lws_link_want_write(lws_socket *socket)
{
    ask_events(socket, socket->events | EPOLLOUT);
}

void lws_link_shutdown(lws_socket *socket)
{
    if (socket->secure != NULL && !socket->shaking) {
        tls_socket_shutdown(socket->secure);
    }
    (void)shutdown(socket->fd, SHUT_WR);
}

void lws_link_close(lws_socket *socket)
{
    die(socket);
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
