/* wsload.c - see wsload.h. */
#include "bench/support/wsload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    IN_MAX = 1 << 20,  /* bytes of one connection that may wait for their rest */
    OUT_MAX = 1 << 22, /* bytes that the publisher may have queued */
    READ_BYTES = 1 << 18,
    WINDOW = 262144, /* deliveries in flight in max mode */
    READY_S = 60,
    DRAIN_S = 20,
};

struct wsload_conn {
    int fd;
    bool open, subscribed, ready;
    char *in; /* own: bytes of an unfinished frame */
    size_t in_len;
    char *stream; /* own: bytes of an unfinished unit of a streaming adapter */
    size_t stream_len;
    uint64_t last; /* number of the newest delivery */
};

struct wsload {
    const wsload_options *options;
    wsload_conn *conns; /* subscribers, then the publisher */
    size_t count;
    int epoll;
    size_t ready;
    wsload_figures figures;
    uint64_t began_us;
    char *out; /* own: what the publisher still has to send */
    size_t out_len, out_sent;
    char *scratch;
    uint32_t histogram[WSLOAD_BUCKETS]; /* log-linear: 64 steps a doubling of microseconds */
    bool measuring;
};

static uint64_t now_us(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000 + (uint64_t)at.tv_nsec / 1000;
}

static double own_cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static double server_cpu_s(int pid)
{
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *in = fopen(path, "r");
    if (in != NULL && fgets(text, sizeof(text), in) != NULL) {
        const char *at = strrchr(text, ')');
        if (at != NULL) {
            sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
        }
    }
    if (in != NULL) {
        fclose(in);
    }
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static long server_rss_kb(int pid)
{
    char path[64];
    long pages = 0;
    snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    FILE *in = fopen(path, "r");
    if (in != NULL && fscanf(in, "%*d %ld", &pages) != 1) {
        pages = 0;
    }
    if (in != NULL) {
        fclose(in);
    }
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* ---- latency ---- */
static size_t bucket_of(uint64_t us)
{
    if (us < 64) {
        return (size_t)us;
    }
    unsigned top = 63 - (unsigned)__builtin_clzll(us);
    size_t bucket = (size_t)(top - 5) * 64 + (size_t)((us >> (top - 6)) & 63);
    return bucket < WSLOAD_BUCKETS ? bucket : WSLOAD_BUCKETS - 1;
}

static double value_of(size_t bucket)
{
    if (bucket < 64) {
        return (double)bucket;
    }
    return (double)((64 + bucket % 64) << (bucket / 64 - 1));
}

static double quantile_ms(const wsload *load, double part)
{
    uint64_t all = 0, seen = 0;
    for (size_t i = 0; i < WSLOAD_BUCKETS; i++) {
        all += load->histogram[i];
    }
    for (size_t i = 0; i < WSLOAD_BUCKETS; i++) {
        seen += load->histogram[i];
        if (seen > 0 && (double)seen >= part * (double)all) {
            return value_of(i) / 1000;
        }
    }
    return 0;
}

/* ---- what adapters call ---- */
void wsload_ready(wsload *load, wsload_conn *conn)
{
    if (!conn->ready) {
        conn->ready = true;
        load->ready++;
    }
}

static uint64_t digits(const char *at, size_t len)
{
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        value = value * 10 + (uint64_t)(at[i] - '0');
    }
    return value;
}

/* A payload begins with number and due time, 16 digits each. */
void wsload_delivered(wsload *load, wsload_conn *conn, const char *payload, size_t len)
{
    if (len < 32) {
        return;
    }
    uint64_t number = digits(payload, 16);
    load->figures.delivered++;
    if (number <= conn->last) {
        load->figures.repeated++;
        return;
    }
    load->figures.lost += number - conn->last - 1;
    conn->last = number;
    if (load->measuring) {
        uint64_t due = digits(payload + 16, 16);
        uint64_t now = now_us();
        load->histogram[bucket_of(now > due ? now - due : 0)]++;
    }
}

size_t wsload_frame(char *out, size_t size, bool binary, const char *payload, size_t len)
{
    size_t head = len < 126 ? 6 : len < 65536 ? 8 : 14;
    if (head + len > size) {
        return 0;
    }
    out[0] = (char)(binary ? 0x82 : 0x81);
    if (len < 126) {
        out[1] = (char)(0x80 | len);
    } else if (len < 65536) {
        out[1] = (char)(0x80 | 126);
        out[2] = (char)(len >> 8);
        out[3] = (char)len;
    } else {
        out[1] = (char)(0x80 | 127);
        for (int i = 0; i < 8; i++) {
            out[2 + i] = (char)(len >> (56 - 8 * i));
        }
    }
    memset(out + head - 4, 0, 4);
    memcpy(out + head, payload, len);
    return head + len;
}

/* ---- connections ---- */
static int start_connecting(wsload *load, wsload_conn *conn, size_t index)
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)load->options->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(index % 8)); /* ports enough */
    conn->fd = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;
    if (conn->fd < 0 || bind(conn->fd, (struct sockaddr *)&from, sizeof(from)) != 0 ||
        connect(conn->fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        fprintf(stderr, "wsload: connection %zu: %s\n", index, strerror(errno));
        return -1;
    }
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    const wsload_adapter *adapter = load->options->adapter;
    char text[512];
    int len = snprintf(text, sizeof(text),
                       "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: "
                       "Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                       "Sec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                       adapter->path, load->options->port,
                       adapter->subprotocol[0] ? "Sec-WebSocket-Protocol: " : "",
                       adapter->subprotocol, adapter->subprotocol[0] ? "\r\n" : "");
    if (send(conn->fd, text, (size_t)len, MSG_NOSIGNAL) != len) {
        return -1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = index};
    return epoll_ctl(load->epoll, EPOLL_CTL_ADD, conn->fd, &event);
}

static int greet(wsload *load, wsload_conn *conn)
{
    char text[1024], frame[1100];
    const wsload_adapter *adapter = load->options->adapter;
    bool publisher = conn == &load->conns[load->options->subscribers];
    size_t len = adapter->greet(text, sizeof(text), publisher);
    conn->open = true;
    if (publisher) {
        wsload_ready(load, conn);
    }
    if (len == 0) {
        return 0;
    }
    size_t size = wsload_frame(frame, sizeof(frame), adapter->binary, text, len);
    return send(conn->fd, frame, size, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -1;
}

/* Keeps bytes that are not whole yet. */
static int keep(char **at, size_t *at_len, const char *bytes, size_t len)
{
    if (len > IN_MAX) {
        fprintf(stderr, "wsload: a unit of more than %d bytes\n", IN_MAX);
        return -1;
    }
    if (*at == NULL && len > 0) {
        *at = malloc(IN_MAX + READ_BYTES);
        if (*at == NULL) {
            return -1;
        }
    }
    if (len > 0) {
        memmove(*at, bytes, len);
    }
    *at_len = len;
    return 0;
}

static int take_payload(wsload *load, wsload_conn *conn, const char *payload, size_t len)
{
    const wsload_adapter *adapter = load->options->adapter;
    if (!adapter->stream) {
        adapter->take(load, conn, payload, len);
        return 0;
    }
    if (conn->stream_len == 0) {
        size_t used = adapter->take(load, conn, payload, len);
        return keep(&conn->stream, &conn->stream_len, payload + used, len - used);
    }
    if (conn->stream_len + len > IN_MAX + READ_BYTES) {
        return -1;
    }
    memcpy(conn->stream + conn->stream_len, payload, len);
    size_t all = conn->stream_len + len;
    size_t used = adapter->take(load, conn, conn->stream, all);
    return keep(&conn->stream, &conn->stream_len, conn->stream + used, all - used);
}

/* Walks server frames; returns bytes consumed, -1 on a defect or a close. */
static ssize_t take_frames(wsload *load, wsload_conn *conn, const char *bytes, size_t len)
{
    size_t at = 0;
    while (len - at >= 2) {
        const uint8_t *head = (const uint8_t *)bytes + at;
        size_t size = head[1] & 127, skip = 2;
        if (size == 126) {
            skip = 4;
        } else if (size == 127) {
            skip = 10;
        }
        if (len - at < skip) {
            break;
        }
        if (skip == 4) {
            size = (size_t)head[2] << 8 | head[3];
        } else if (skip == 10) {
            size = 0;
            for (int i = 2; i < 10; i++) {
                size = size << 8 | head[i];
            }
        }
        if (len - at < skip + size) {
            break;
        }
        if ((head[0] & 15) == 8) {
            fprintf(stderr, "wsload: the server closed: %.*s\n", (int)size, bytes + at + skip);
            return -1;
        }
        if ((head[0] & 15) <= 2 && take_payload(load, conn, bytes + at + skip, size) != 0) {
            return -1;
        }
        at += skip + size;
    }
    return (ssize_t)at;
}

static int on_readable(wsload *load, wsload_conn *conn)
{
    char *buffer = load->scratch;
    if (conn->in_len > 0) {
        memcpy(buffer, conn->in, conn->in_len);
    }
    ssize_t got = recv(conn->fd, buffer + conn->in_len, READ_BYTES, MSG_DONTWAIT);
    if (got <= 0) {
        return got < 0 && errno == EAGAIN ? 0 : -1;
    }
    size_t len = conn->in_len + (size_t)got;
    size_t from = 0;
    if (!conn->open) {
        const char *end = memmem(buffer, len, "\r\n\r\n", 4);
        if (end == NULL) {
            return keep(&conn->in, &conn->in_len, buffer, len);
        }
        if (memmem(buffer, len, " 101 ", 5) == NULL || greet(load, conn) != 0) {
            fprintf(stderr, "wsload: no handshake: %.*s\n", 80, buffer);
            return -1;
        }
        from = (size_t)(end - buffer) + 4;
    }
    ssize_t used = take_frames(load, conn, buffer + from, len - from);
    if (used < 0) {
        return -1;
    }
    return keep(&conn->in, &conn->in_len, buffer + from + used, len - from - (size_t)used);
}

static int turn(wsload *load, int timeout_ms)
{
    struct epoll_event events[256];
    int count = epoll_wait(load->epoll, events, 256, timeout_ms);
    for (int i = 0; i < count; i++) {
        if (on_readable(load, &load->conns[events[i].data.u64]) != 0) {
            fprintf(stderr, "wsload: %s: connection %llu ended\n", load->options->adapter->name,
                    (unsigned long long)events[i].data.u64);
            return -1;
        }
    }
    return 0;
}

/* ---- publishing ---- */
static int flush(wsload *load)
{
    wsload_conn *publisher = &load->conns[load->options->subscribers];
    while (load->out_sent < load->out_len) {
        ssize_t sent = send(publisher->fd, load->out + load->out_sent,
                            load->out_len - load->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            return errno == EAGAIN ? 0 : -1;
        }
        load->out_sent += (size_t)sent;
    }
    load->out_len = load->out_sent = 0;
    return 0;
}

/* Queues one event that was due at due_us; false: no room now. */
static bool publish(wsload *load, uint64_t due_us)
{
    char payload[4096], unit[8192];
    const wsload_adapter *adapter = load->options->adapter;
    if (OUT_MAX - load->out_len < sizeof(unit) + 16) {
        return false;
    }
    uint64_t number = ++load->figures.published;
    int len = snprintf(payload, sizeof(payload), "%016llu%016llu", (unsigned long long)number,
                       (unsigned long long)due_us);
    while (len < (int)load->options->payload && len < (int)sizeof(payload)) {
        payload[len++] = 'x';
    }
    size_t size = adapter->publish(unit, sizeof(unit), number, payload, (size_t)len);
    load->out_len += wsload_frame(load->out + load->out_len, OUT_MAX - load->out_len,
                                  adapter->binary, unit, size);
    return true;
}

static uint64_t wanted(const wsload *load)
{
    return load->figures.published * load->options->subscribers;
}

static int publish_at_rate(wsload *load)
{
    const wsload_options *options = load->options;
    uint64_t events = (uint64_t)(options->rate * options->seconds);
    for (uint64_t k = 0; k < events;) {
        uint64_t due = load->began_us + (uint64_t)((double)k * 1e6 / options->rate);
        uint64_t now = now_us();
        if (now >= due && publish(load, due)) {
            double late = (double)(now - due) / 1000;
            load->figures.late_ms = late > load->figures.late_ms ? late : load->figures.late_ms;
            k++;
            if (k % 16 != 0) {
                continue; /* all that is due leaves together */
            }
        }
        if (flush(load) != 0 || turn(load, 0) != 0) {
            return -1;
        }
    }
    return 0;
}

static int publish_in_window(wsload *load)
{
    uint64_t end = load->began_us + (uint64_t)(load->options->seconds * 1e6);
    while (now_us() < end) {
        while (wanted(load) < load->figures.delivered + load->figures.lost + WINDOW &&
               load->out_len < OUT_MAX / 4 && publish(load, now_us())) {
        }
        if (flush(load) != 0 || turn(load, 0) != 0) {
            return -1;
        }
    }
    return 0;
}

static int drain(wsload *load)
{
    uint64_t until = now_us() + (uint64_t)DRAIN_S * 1000000;
    while (load->figures.delivered < wanted(load) && now_us() < until) {
        if (flush(load) != 0 || turn(load, 1) != 0) {
            return -1;
        }
    }
    if (load->figures.delivered < wanted(load)) {
        for (size_t i = 0; i < load->options->subscribers; i++) {
            load->figures.lost += load->figures.published - load->conns[i].last;
        }
    }
    return 0;
}

static int connect_all(wsload *load)
{
    uint64_t began = now_us();
    load->figures.server_rss_before_kb = server_rss_kb(load->options->server_pid);
    for (size_t i = 0; i < load->count; i++) {
        if (start_connecting(load, &load->conns[i], i) != 0 || turn(load, 0) != 0) {
            return -1;
        }
    }
    uint64_t until = now_us() + (uint64_t)READY_S * 1000000;
    while (load->ready < load->count) {
        if (turn(load, 10) != 0) {
            return -1;
        }
        if (now_us() > until) {
            fprintf(stderr, "wsload: %s: %zu of %zu are subscribed after %d s\n",
                    load->options->adapter->name, load->ready, load->count, READY_S);
            return -1;
        }
    }
    load->figures.connect_s = (double)(now_us() - began) / 1e6;
    load->figures.server_rss_kb = server_rss_kb(load->options->server_pid);
    return 0;
}

static int measure(wsload *load)
{
    const wsload_options *options = load->options;
    double own = own_cpu_s();
    double server = server_cpu_s(options->server_pid);
    load->began_us = now_us();
    load->measuring = options->rate > 0;
    if ((options->rate > 0 ? publish_at_rate(load) : publish_in_window(load)) != 0 ||
        drain(load) != 0) {
        return -1;
    }
    wsload_figures *out = &load->figures;
    out->seconds = (double)(now_us() - load->began_us) / 1e6;
    out->own_cpu = (own_cpu_s() - own) / out->seconds;
    out->server_cpu = (server_cpu_s(options->server_pid) - server) / out->seconds;
    out->p50_ms = quantile_ms(load, 0.5);
    out->p99_ms = quantile_ms(load, 0.99);
    out->max_ms = quantile_ms(load, 1);
    return 0;
}

int wsload_run(const wsload_options *options, wsload_figures *out)
{
    wsload load = {.options = options, .count = options->subscribers + 1};
    prctl(PR_SET_TIMERSLACK, 1UL);
    load.conns = calloc(load.count, sizeof(*load.conns));
    load.out = malloc(OUT_MAX);
    load.scratch = malloc(IN_MAX + 2 * READ_BYTES);
    load.epoll = epoll_create1(0);
    int status = -1;
    if (load.conns != NULL && load.out != NULL && load.scratch != NULL) {
        status = connect_all(&load);
    }
    if (status == 0 && !options->idle_only) {
        status = measure(&load);
    }
    for (size_t i = 0; load.conns != NULL && i < load.count; i++) {
        if (load.conns[i].fd > 0) {
            close(load.conns[i].fd);
        }
        free(load.conns[i].in);
        free(load.conns[i].stream);
    }
    close(load.epoll);
    free(load.conns);
    free(load.out);
    free(load.scratch);
    *out = load.figures;
    return status;
}
