/* load_client.c - sockets, the websocket handshake, and frames in both directions. */
#include "bench/load/load_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench/load/load_adapter.h"

enum {
    EVENTS_MAX = 512,
    HEAD_ROOM = 1 << 18, /* for what is kept of a message that spans frames */
    READ_BYTES = 1 << 18,
    FRAME_MAX = 1 << 22, /* kept bytes and one read; frames of a stream may be longer */
    PATH_MAX_BYTES = 16384,
    TICK_NS = 250000000, /* between two calls of tick */
};

uint64_t load_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

_Noreturn void load_die(const char *what)
{
    fprintf(stderr, "load: %s%s%s\n", what, errno != 0 ? ": " : "",
            errno != 0 ? strerror(errno) : "");
    exit(1);
}

uint8_t *load_bytes_room(load_bytes *self, size_t len)
{
    if (self->max - self->len < len) {
        size_t max = (self->len + len) * 2;
        uint8_t *ptr = tw_realloc(self->ptr, max);
        if (ptr == NULL) {
            load_die("no memory");
        }
        self->ptr = ptr;
        self->max = max;
    }
    uint8_t *at = self->ptr + self->len;
    self->len += len;
    return at;
}

void load_bytes_add(load_bytes *self, const void *ptr, size_t len)
{
    memcpy(load_bytes_room(self, len), ptr, len);
}

void load_client_init(load_client *self)
{
    self->host = self->host == 0 ? INADDR_LOOPBACK : self->host;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->tls = self->secure ? load_tls_new() : NULL;
    self->scratch = tw_alloc((size_t)HEAD_ROOM + FRAME_MAX);
    self->now_ns = load_now_ns();
    if (self->epoll < 0 || self->scratch == NULL) {
        load_die("epoll");
    }
}

void load_client_fini(load_client *self)
{
    close(self->epoll);
    load_tls_free(&self->tls);
    tw_free(self->scratch);
}

static void watch(load_client *self, load_conn *conn, int how)
{
    bool writes = conn->state == LOAD_CONNECTING || conn->waits;
    bool reads = !(conn->stalled && conn->state == LOAD_READY);
    struct epoll_event event = {.events = (reads ? (uint32_t)EPOLLIN : 0) |
                                          (writes ? (uint32_t)EPOLLOUT : 0),
                                .data.ptr = conn};
    if (epoll_ctl(self->epoll, how, conn->fd, &event) != 0) {
        load_die("epoll_ctl");
    }
}

/* Source addresses differ, as the ports of one would run out. */
static void bind_source(int fd, uint64_t number)
{
    const int one = 1;
    uint32_t host =
        0x7f000000U | ((uint32_t)getpid() % 250 + 1) << 8 | (uint32_t)(number / 4096 % 250 + 2);
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host)};
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&source, sizeof source) != 0) {
        load_die("bind");
    }
}

void load_conn_open(load_client *self, load_conn *conn, bool publishes)
{
    *conn =
        (load_conn){.publishes = publishes,
                    .stalled = conn->stalled,
                    .plain = self->adapter->plain || (self->adapter->plain_publisher && publishes),
                    .next = self->first_seq,
                    .first = self->first_seq,
                    .number = self->opened,
                    .slots = conn->slots,
                    .slots_count = conn->slots_count,
                    .opened_ns = load_now_ns()};
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0) {
        load_die("socket");
    }
    const int one = 1;
    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (self->host >> 24 == IN_LOOPBACKNET) {
        bind_source(conn->fd, self->opened);
    }
    self->opened++;
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(self->port), .sin_addr.s_addr = htonl(self->host)};
    if (connect(conn->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) {
        load_die("connect");
    }
    conn->state = LOAD_CONNECTING;
    watch(self, conn, EPOLL_CTL_ADD);
}

void load_conn_close(load_client *self, load_conn *conn)
{
    if (conn->state == LOAD_CLOSED) {
        return;
    }
    /* A reset leaves no port in TIME_WAIT for the next round. */
    const struct linger now = {.l_onoff = 1};
    (void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    self->ready -= conn->state == LOAD_READY ? 1 : 0;
    conn->state = LOAD_CLOSED;
    load_tls_close(&conn->tls);
    close(conn->fd);
    tw_free(conn->kept.ptr);
    tw_free(conn->rest.ptr);
    tw_free(conn->out.ptr);
    conn->kept = conn->rest = conn->out = (load_bytes){0};
}

/* The server ended it, or cannot be understood. */
static void lose(load_client *self, load_conn *conn)
{
    self->refused += conn->state < LOAD_READY ? 1 : 0;
    self->dropped += conn->state == LOAD_READY && !conn->stalled ? 1 : 0;
    self->cut += conn->state == LOAD_READY && conn->stalled ? 1 : 0;
    load_conn_close(self, conn);
}

void load_is_ready(load_client *self, load_conn *conn)
{
    if (conn->state == LOAD_OPENING) {
        conn->state = LOAD_READY;
        self->ready++;
        if (conn->stalled) {
            watch(self, conn, EPOLL_CTL_MOD);
        }
    }
}

static void told(load_client *self, uint64_t answered_ns, uint64_t came_ns)
{
    if (answered_ns >= self->measure_from_ns && answered_ns < self->measure_to_ns) {
        load_histogram_add(&self->told, came_ns > answered_ns ? came_ns - answered_ns : 0);
    }
}

void load_seen(load_client *self, uint32_t seq)
{
    if (self->acked_at_ns != 0 && seq < self->acked_seq && seq >= self->seen_seq) {
        told(self, self->acked_at_ns, self->now_ns);
    }
    self->seen_seq = seq + 1;
    self->seen_at_ns = self->now_ns;
}

void load_acked(load_client *self, uint32_t first, uint64_t count)
{
    self->acked += count;
    if (self->due_ns != NULL) {
        uint64_t due = self->due_ns(self, first);
        if (due >= self->measure_from_ns && due < self->measure_to_ns) {
            load_histogram_add(&self->ack, self->now_ns > due ? self->now_ns - due : 0);
        }
    }
    if (first < self->seen_seq && self->seen_seq <= first + count) {
        told(self, self->now_ns, self->seen_at_ns);
    }
    self->acked_seq = first + (uint32_t)count;
    self->acked_at_ns = self->now_ns;
}

void load_frame_begin(load_conn *conn, uint8_t opcode, size_t len)
{
    static const uint8_t mask[4] = {0};
    if (conn->plain) {
        return;
    }
    uint8_t head[10] = {(uint8_t)(0x80U | opcode)};
    size_t size = 2;
    if (len < 126) {
        head[1] = (uint8_t)(0x80U | len);
    } else {
        unsigned wide = len > 0xffff ? 8 : 2;
        head[1] = (uint8_t)(0x80U | (wide == 8 ? 127U : 126U));
        for (unsigned i = 0; i < wide; i++) {
            head[size++] = (uint8_t)(len >> (8 * (wide - 1 - i)));
        }
    }
    load_bytes_add(&conn->out, head, size);
    load_bytes_add(&conn->out, mask, sizeof mask);
}

void load_send(load_client *self, load_conn *conn, uint8_t opcode, const void *ptr, size_t len)
{
    load_frame_begin(conn, opcode, len);
    load_bytes_add(&conn->out, ptr, len);
    load_flush(self, conn);
}

void load_flush(load_client *self, load_conn *conn)
{
    if (conn->state < LOAD_HANDSHAKE || conn->out.len == 0) {
        return;
    }
    ssize_t sent = conn->tls != NULL ? load_tls_send(conn->tls, conn->out.ptr, conn->out.len)
                                     : send(conn->fd, conn->out.ptr, conn->out.len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        lose(self, conn);
        return;
    }
    size_t gone = sent > 0 ? (size_t)sent : 0;
    conn->out.len -= gone;
    memmove(conn->out.ptr, conn->out.ptr + gone, conn->out.len);
    if (conn->waits != (conn->out.len > 0)) {
        conn->waits = conn->out.len > 0;
        watch(self, conn, EPOLL_CTL_MOD);
    }
}

/* "?last_event_id=" or "?t=1,2,3", where the adapter says by its path what it wants; or "". */
static void query_of(const load_client *self, const load_conn *conn, char out[PATH_MAX_BYTES])
{
    const load_adapter *adapter = self->adapter;
    out[0] = '\0';
    if (adapter->resumes_by_path && !conn->publishes && self->since[0] != '\0') {
        tw_format(out, PATH_MAX_BYTES, "?last_event_id=%s", self->since);
    } else if (adapter->topics_by_path && self->has_topics) {
        size_t at = tw_format(out, PATH_MAX_BYTES, "?t=");
        for (uint32_t i = 0; i < conn->slots_count && at + 16 < PATH_MAX_BYTES; i++) {
            at += tw_format(out + at, PATH_MAX_BYTES - at, "%s%u", i > 0 ? "," : "",
                            conn->slots[i].topic);
        }
    }
}

static void say_hello(load_client *self, load_conn *conn)
{
    const load_adapter *adapter = self->adapter;
    const char *subprotocol =
        conn->publishes && adapter->resumes_by_path ? NULL : adapter->subprotocol;
    char query[PATH_MAX_BYTES], text[PATH_MAX_BYTES + 512];
    query_of(self, conn, query);
    size_t size =
        tw_format(text, sizeof text,
                  "GET %s%s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\n"
                  "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s%s%s\r\n",
                  conn->publishes ? adapter->publish_path : adapter->subscribe_path, query,
                  self->port, subprotocol != NULL ? "Sec-WebSocket-Protocol: " : "",
                  subprotocol != NULL ? subprotocol : "", subprotocol != NULL ? "\r\n" : "");
    load_bytes_add(&conn->out, text, size);
}

static void begin_talking(load_client *self, load_conn *conn)
{
    conn->state = conn->plain ? LOAD_OPENING : LOAD_HANDSHAKE;
    watch(self, conn, EPOLL_CTL_MOD);
    if (conn->plain) {
        self->adapter->opened(self, conn);
    } else {
        say_hello(self, conn);
    }
    load_flush(self, conn);
}

static void shake(load_client *self, load_conn *conn)
{
    int step = load_tls_shake(conn->tls);
    if (step < 0) {
        lose(self, conn);
    } else if (step > 0) {
        begin_talking(self, conn);
    }
}

static void on_connected(load_client *self, load_conn *conn)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
        lose(self, conn);
    } else if (self->tls == NULL) {
        begin_talking(self, conn);
    } else {
        conn->tls = load_tls_open(self->tls, conn->fd);
        conn->state = LOAD_SECURING;
        watch(self, conn, EPOLL_CTL_MOD);
        shake(self, conn);
    }
}

/* Returns the bytes of the answer; 0: it is not complete. */
static size_t on_handshake(load_client *self, load_conn *conn, const uint8_t *ptr, size_t len)
{
    const uint8_t *end = memmem(ptr, len, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    if (len < 12 || memcmp(ptr, "HTTP/1.1 101", 12) != 0) {
        lose(self, conn);
        return len;
    }
    conn->state = LOAD_OPENING;
    self->adapter->opened(self, conn);
    return (size_t)(end - ptr) + 4;
}

static void on_payload(load_client *self, load_conn *conn, uint8_t *ptr, size_t len)
{
    size_t kept = conn->rest.len;
    if (kept > 0) { /* what stood before this payload is done with: its place is free */
        if (kept > HEAD_ROOM) {
            errno = 0;
            load_die("a message is too long");
        }
        ptr -= kept;
        memcpy(ptr, conn->rest.ptr, kept);
        len += kept;
        conn->rest.len = 0;
    }
    size_t used = self->adapter->received(self, conn, ptr, len);
    if (used < len && conn->state != LOAD_CLOSED) {
        load_bytes_add(&conn->rest, ptr + used, len - used);
    }
}

static void on_frame(load_client *self, load_conn *conn, uint8_t first, uint8_t *ptr, size_t len)
{
    switch (first & 0x0fU) {
    case 0x8:
        lose(self, conn);
        return;
    case 0x9:
        load_send(self, conn, 0xa, ptr, len);
        return;
    case 0xa:
        return;
    default:
        break;
    }
    bool whole = (first & 0x80U) != 0 && (first & 0x0fU) != 0;
    if (!whole && !self->adapter->is_stream) {
        self->undecoded++; /* no peer sends such short messages in parts */
        return;
    }
    on_payload(self, conn, ptr, len);
}

/* The head of a frame: its size in bytes, 0 where it is not complete. */
static size_t read_head(const uint8_t *ptr, size_t len, uint64_t *size)
{
    if (len < 2) {
        return 0;
    }
    size_t wide = (ptr[1] & 0x7fU) == 126 ? 2 : (ptr[1] & 0x7fU) == 127 ? 8 : 0;
    if (len < 2 + wide) {
        return 0;
    }
    *size = wide == 0 ? ptr[1] & 0x7fU : 0;
    for (size_t i = 0; i < wide; i++) {
        *size = *size << 8 | ptr[2 + i];
    }
    return 2 + wide;
}

/* What came of a frame that is not whole yet, or of a connection without frames. */
static size_t take_part(load_client *self, load_conn *conn, uint8_t *ptr, size_t len)
{
    size_t part = conn->plain || len < conn->frame_left ? len : (size_t)conn->frame_left;
    conn->frame_left -= conn->plain ? 0 : part;
    on_payload(self, conn, ptr, part);
    return part;
}

static size_t cut_frames(load_client *self, load_conn *conn, uint8_t *ptr, size_t len)
{
    size_t at = 0;
    while (conn->state >= LOAD_OPENING && at < len) {
        uint64_t size = 0;
        if (conn->plain || conn->frame_left > 0) {
            at += take_part(self, conn, ptr + at, len - at);
            continue;
        }
        uint8_t *head = ptr + at;
        size_t before = read_head(head, len - at, &size);
        if (before == 0) {
            break;
        }
        if (len - at - before >= size) {
            on_frame(self, conn, head[0], head + before, (size_t)size);
            at += before + (size_t)size;
        } else if (self->adapter->is_stream && (head[0] & 0x08U) == 0) {
            conn->frame_left = size; /* messages end where they end: a frame need not be kept */
            at += before;
        } else {
            break;
        }
    }
    return at;
}

static void on_readable(load_client *self, load_conn *conn)
{
    uint8_t *begin = self->scratch + HEAD_ROOM;
    size_t len = conn->kept.len;
    if (len > FRAME_MAX - READ_BYTES) {
        errno = 0;
        load_die("a frame is too long");
    }
    if (len > 0) {
        memcpy(begin, conn->kept.ptr, len);
        conn->kept.len = 0;
    }
    ssize_t got = conn->tls != NULL ? load_tls_receive(conn->tls, begin + len, READ_BYTES)
                                    : recv(conn->fd, begin + len, READ_BYTES, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) {
            lose(self, conn);
        } else if (len > 0) {
            conn->kept.len = len;
        }
        return;
    }
    self->now_ns = load_now_ns();
    len += (size_t)got;
    size_t used = 0;
    if (conn->state == LOAD_HANDSHAKE) {
        used = on_handshake(self, conn, begin, len);
    }
    if (conn->state >= LOAD_OPENING) {
        used += cut_frames(self, conn, begin + used, len - used);
    }
    if (conn->state != LOAD_CLOSED && used < len) {
        load_bytes_add(&conn->kept, begin + used, len - used);
    }
}

void load_client_turn(load_client *self, uint64_t ns, void (*between)(void *arg), void *arg)
{
    struct epoll_event events[EVENTS_MAX];
    const struct timespec wait = {.tv_sec = (time_t)(ns / 1000000000U),
                                  .tv_nsec = (long)(ns % 1000000000U)};
    int count = epoll_pwait2(self->epoll, events, EVENTS_MAX, &wait, NULL);
    if (count < 0 && errno != EINTR) {
        load_die("epoll_pwait2");
    }
    self->now_ns = load_now_ns();
    for (int i = 0; i < count; i++) {
        load_conn *conn = events[i].data.ptr;
        if (conn->state == LOAD_CONNECTING) {
            on_connected(self, conn);
        } else if (conn->state == LOAD_SECURING) {
            shake(self, conn);
        } else if ((events[i].events & EPOLLOUT) != 0) {
            load_flush(self, conn);
        }
        if (conn->state >= LOAD_HANDSHAKE && (events[i].events & ~(uint32_t)EPOLLOUT) != 0) {
            on_readable(self, conn);
        }
        if (between != NULL) {
            between(arg);
        }
    }
    if (count <= 0 && between != NULL) {
        between(arg);
    }
    if (self->tick != NULL && self->now_ns >= self->next_tick_ns) {
        self->next_tick_ns = self->now_ns + TICK_NS;
        self->tick(self->tick_context);
    }
}
