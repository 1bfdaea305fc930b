/* connection.c - the connections of a gateway: slots, writing, deadlines. */
#include "gateways/web/connection.h"

#include "actors/runtime/log.h"

#include "gateways/web/admission.h"
#include "gateways/web/http.h"
#include "gateways/web/identity.h"
#include "gateways/web/websocket.h"

enum { EDGE_INDEX_BITS = 20 };

static_assert(TW_CONNECTIONS_MAX < 1 << EDGE_INDEX_BITS, "an index fits an id");
static_assert((int)EDGE_QUEUE_HIGH < (int)TW_OUTBOUND_QUEUE_MAX, "replies pause before the limit");

/* ---- slots ---- */

connection *edge_find(const edge *self, uint64_t id)
{
    size_t index = (size_t)(id & ((1U << EDGE_INDEX_BITS) - 1));
    TW_ASSERT(index < self->slots_count);
    connection *conn = self->slots[index];
    return conn != NULL && conn->id == id ? conn : NULL;
}

static void *on_accept(void *context, int tag, const struct sockaddr *peer)
{
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    connection *conn = self->unused_count > 0 ? tw_alloc_zero(1, sizeof(*conn)) : NULL;
    if (conn == NULL) {
        self->figures.refused++;
        return NULL;
    }
    uint32_t index = self->unused[--self->unused_count];
    conn->magic = CONNECTION_MAGIC;
    conn->kind = CONNECTION_HTTP;
    conn->listener = (uint8_t)tag;
    conn->id = ++self->serial << EDGE_INDEX_BITS | index;
    conn->heard_ms = tw_now_ms(self->actor);
    conn->moved_ms = conn->heard_ms;
    conn->opened_ms = conn->heard_ms;
    conn->deadline_ms = conn->heard_ms + EDGE_HEAD_MS;
    admission entered = admission_enter(self, conn, peer);
    if (entered == ADMISSION_DROPPED) {
        admission_leave(self, conn);
        self->unused[self->unused_count++] = index;
        tw_free(conn);
        self->figures.refused++;
        return NULL;
    }
    conn->unwelcome = entered == ADMISSION_REFUSED;
    self->slots[index] = conn;
    self->connections++;
    self->figures.accepted++;
    return conn;
}

static bool may_accept(void *context, int tag)
{
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    return admission_may_accept(self, tag);
}

static void on_open(void *context, void *arg, lws_socket *socket)
{
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    connection *conn;
    TW_CAST(conn, arg, CONNECTION_MAGIC);
    conn->socket = socket;
    if (conn->unwelcome) { /* told before it asks: what it sends is not read any more */
        http_refuse_address(self, conn);
    }
}

static void on_close(void *context, void *arg)
{
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    connection *conn;
    TW_CAST(conn, arg, CONNECTION_MAGIC);
    request_forget(self->requests, conn->id);
    streams_conn_gone(self->streams, &conn->streams);
    if (conn->kind == CONNECTION_WEBSOCKET) {
        websocket_gone(self, conn);
    } else {
        http_gone(conn);
    }
    identity_gone(conn);
    admission_leave(self, conn);
    if (conn->streams.dirty) {
        STAILQ_REMOVE(&self->dirty, conn, connection, dirty);
    }
    uint32_t index = (uint32_t)(conn->id & ((1U << EDGE_INDEX_BITS) - 1));
    self->slots[index] = NULL;
    self->unused[self->unused_count++] = index;
    self->connections--;
    conn->magic = 0;
    tw_free(conn);
}

static void on_plain(void *context, void *arg)
{
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    connection *conn;
    TW_CAST(conn, arg, CONNECTION_MAGIC);
    http_refuse_plain(self, conn);
}

/* ---- bytes ---- */

static bool on_bytes(void *context, void *arg, uint8_t *bytes, size_t len)
{
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    connection *conn;
    TW_CAST(conn, arg, CONNECTION_MAGIC);
    self->figures.bytes_in += len;
    conn->heard_ms = tw_now_ms(self->actor);
    conn->pinged = false;
    if (conn->shut || conn->closing) {
        return true; /* nothing is heard any more */
    }
    if (conn->kind == CONNECTION_WEBSOCKET) {
        websocket_bytes(self, conn, bytes, len);
    } else {
        http_bytes(self, conn, bytes, len);
    }
    return true;
}

void edge_dirty(edge *self, connection *conn)
{
    conn->streams.dirty = true;
    STAILQ_INSERT_TAIL(&self->dirty, conn, dirty);
}

void connection_send(edge *self, connection *conn, tw_str bytes)
{
    tw_shared *copy = bytes.len > 0 ? tw_shared_new(bytes.len) : NULL;
    if (copy != NULL) {
        memcpy(copy->bytes, bytes.ptr, bytes.len);
        copy->len = bytes.len;
    }
    if (bytes.len > 0) {
        streams_send(self->streams, &conn->streams, copy);
    }
    tw_shared_drop(&copy);
}

bool connection_has_room(const connection *conn)
{
    return conn->streams.out.bytes < EDGE_QUEUE_HIGH;
}

void connection_drop(edge *self, connection *conn)
{
    (void)self;
    conn->closing = true;
    conn->shut = true;
    if (!conn->dead && conn->socket != NULL) {
        conn->dead = true;
        lws_link_close(conn->socket);
    }
}

void connection_end(edge *self, connection *conn)
{
    if (!conn->closing) {
        conn->closing = true;
        conn->deadline_ms = tw_now_ms(self->actor) + EDGE_LINGER_MS;
        if (!conn->streams.dirty) {
            edge_dirty(self, conn);
        }
    }
}

/* What waited for the queue goes on. */
static void drained(edge *self, connection *conn)
{
    streams_conn_drained(self->streams, &conn->streams);
    if (conn->paused) {
        conn->paused = false;
        request_resume(self->requests, conn->id);
    }
    if (conn->kind == CONNECTION_HTTP) {
        http_go_on(self, conn);
    }
}

/* Writes until all has left or the socket is full. One write a turn is the common case. */
static void write_out(edge *self, connection *conn)
{
    outbound *out = &conn->streams.out;
    struct iovec iov[EDGE_IOV_MAX];
    while (out->bytes > 0 && !conn->dead) {
        size_t count = outbound_peek(out, iov, EDGE_IOV_MAX, TW_SOCKET_WRITE_MAX);
        size_t wanted = 0;
        for (size_t i = 0; i < count; i++) {
            wanted += iov[i].iov_len;
        }
        size_t sent = 0;
        self->figures.writes++;
        if (lws_link_write(conn->socket, iov, count, &sent) != TW_OK) {
            connection_drop(self, conn);
            return;
        }
        outbound_sent(out, sent);
        self->figures.bytes_out += sent;
        if (sent > 0) {
            conn->moved_ms = tw_now_ms(self->actor);
        }
        if (sent < wanted) {
            conn->waiting = true;
            self->figures.blocked++;
            lws_link_want_write(conn->socket);
            break;
        }
        if (out->bytes > TW_SOCKET_WRITE_MAX) {
            if (!conn->streams.dirty) {
                edge_dirty(self, conn); /* others have their turn before the rest */
            }
            break;
        }
    }
    if (out->bytes == 0 && conn->closing && !conn->shut) {
        conn->shut = true;
        lws_link_shutdown(conn->socket);
    }
}

static void write_and_go_on(edge *self, connection *conn)
{
    if (conn->streams.failed) {
        connection_drop(self, conn); /* something could not be told: it starts over */
        return;
    }
    if (conn->streams.out.bytes == 0) {
        conn->moved_ms = tw_now_ms(self->actor);
    }
    write_out(self, conn);
    if (!conn->closing && conn->streams.out.bytes < STREAMS_QUEUE_LOW) {
        drained(self, conn);
    }
}

static bool on_writable(void *context, void *arg)
{
    edge *self;
    TW_CAST(self, context, EDGE_MAGIC);
    connection *conn;
    TW_CAST(conn, arg, CONNECTION_MAGIC);
    conn->waiting = false;
    write_and_go_on(self, conn);
    return true;
}

void edge_flush(edge *self)
{
    size_t bound = EDGE_FLUSH_MAX;
    connection *conn;
    while (bound-- > 0 && (conn = STAILQ_FIRST(&self->dirty)) != NULL) {
        STAILQ_REMOVE_HEAD(&self->dirty, dirty);
        conn->streams.dirty = false;
        if (conn->socket == NULL) {
            continue;
        }
        if (!conn->waiting || conn->streams.failed) {
            write_and_go_on(self, conn);
        }
    }
}

bool edge_is_dirty(const edge *self)
{
    return !STAILQ_EMPTY(&self->dirty);
}

/* ---- deadlines ---- */

static void look_at(edge *self, connection *conn, uint64_t now)
{
    if (conn->dead || conn->socket == NULL) {
        return;
    }
    if (conn->streams.out.bytes > 0 && now - conn->moved_ms >= TW_STALL_MS) {
        self->figures.stalled++;
        connection_drop(self, conn); /* 4508 cannot reach one that does not read */
    } else if (conn->deadline_ms != 0 && now >= conn->deadline_ms) {
        self->figures.timeouts++;
        connection_drop(self, conn);
    } else if (conn->kind == CONNECTION_WEBSOCKET && !conn->closing) {
        websocket_look_at(self, conn, now);
    }
}

void edge_tick(edge *self, uint64_t tick)
{
    (void)tick;
    uint64_t now = tw_now_ms(self->actor);
    streams_tick(self->streams, now);
    for (size_t i = self->slice; i < self->slots_count; i += EDGE_TICK_SLICES) {
        if (self->slots[i] != NULL) {
            look_at(self, self->slots[i], now);
        }
    }
    self->slice = (self->slice + 1) % EDGE_TICK_SLICES;
    admission_tick(self);
    lws_link_resume(self->link);
}

/* ---- the whole ---- */

const lws_link_handler edge_link_handler = {
    .may_accept = may_accept,
    .on_accept = on_accept,
    .on_open = on_open,
    .on_bytes = on_bytes,
    .on_writable = on_writable,
    .on_plain = on_plain,
    .on_close = on_close,
};

tw_err edge_init(edge *self, tw_actor *actor, const gateway_options *options)
{
    self->magic = EDGE_MAGIC;
    self->actor = actor;
    self->options = options;
    self->slots_count = TW_CONNECTIONS_MAX;
    STAILQ_INIT(&self->dirty);
    tw_arena_init(&self->arena, 64 * (size_t)TW_MESSAGE_MAX);
    tw_buf_init(&self->text, 8 * (size_t)TW_DOCUMENT_MAX); /* JSON of a document is longer */
    self->slots = tw_alloc_zero(self->slots_count, sizeof(connection *));
    self->unused = tw_alloc(self->slots_count * sizeof(uint32_t));
    if (self->slots == NULL || self->unused == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < self->slots_count; i++) {
        self->unused[i] = (uint32_t)(self->slots_count - 1 - i);
    }
    self->unused_count = self->slots_count;
    return admission_init(self);
}

void edge_fini(edge *self)
{
    admission_fini(self);
    tw_free(self->slots);
    tw_free(self->unused);
    tw_arena_fini(&self->arena);
    tw_buf_fini(&self->text);
}
