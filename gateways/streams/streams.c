/* streams.c - subscribe, close and catch-up; what is live stands in streams_live.c. */
#include "protocol/json.h"

#include "gateways/streams/streams_priv.h"

enum { STREAMS_TEXT_MAX = 65536 }; /* bytes of a small message: a vector of all origins fits */

static_assert((int)TW_PAGE_ROWS_MAX > 0, "a page has rows");

/* ---- small parts ---- */

shared_vector *shared_vector_new(tw_vector vector)
{
    TW_ASSERT(vector.count <= TW_ORIGINS_MAX);
    shared_vector *made = tw_alloc(sizeof(*made) + vector.count * sizeof(tw_position));
    if (made == NULL) {
        return NULL;
    }
    made->holders = 1;
    made->count = (uint32_t)vector.count;
    if (vector.count > 0) {
        memcpy(made->at, vector.at, vector.count * sizeof(tw_position));
    }
    return made;
}

void shared_vector_drop(shared_vector **vector)
{
    shared_vector *old = *vector;
    *vector = NULL;
    if (old != NULL && --old->holders == 0) {
        tw_free(old);
    }
}

bool streams_deliver(streams *self, streams_conn *conn, tw_shared *shared, size_t len, bool forced)
{
    if (!forced && conn->out.bytes > 0 && conn->out.bytes + len > TW_OUTBOUND_QUEUE_MAX) {
        return false;
    }
    if (outbound_add(&conn->out, shared, 0, len) != TW_OK) {
        return false;
    }
    self->figures.deliveries++;
    if (!conn->dirty) {
        conn->dirty = true;
        self->sink.dirty(self->sink.context, conn);
    }
    return true;
}

/* The connection missed something that cannot be told again: it alone pays for it. */
void stream_conn_fail(streams *self, streams_conn *conn)
{
    conn->failed = true;
    if (!conn->dirty) {
        conn->dirty = true;
        self->sink.dirty(self->sink.context, conn);
    }
}

bool streams_send(streams *self, streams_conn *conn, tw_shared *frame)
{
    if (frame == NULL || !streams_deliver(self, conn, frame, frame->len, true)) {
        stream_conn_fail(self, conn);
        return false;
    }
    return true;
}

bool streams_send_text(streams *self, streams_conn *conn, tw_str payload)
{
    tw_shared *frame = wire_frame(payload);
    bool sent = streams_send(self, conn, frame);
    tw_shared_drop(&frame);
    return sent;
}

static tw_str mux_of(const struct stream *stream)
{
    return (tw_str){stream->class->mux, stream->class->mux_len};
}

static uint64_t hash_in(const streams *self, const void *owner, tw_str mux)
{
    return tw_hash(mux.ptr, mux.len, self->seed ^ (uint64_t)(uintptr_t)owner);
}

static void send_scratch(streams *self, streams_conn *conn)
{
    if (self->text.err != TW_OK) {
        stream_conn_fail(self, conn);
    } else {
        streams_send_text(self, conn, tw_buf_str(&self->text));
    }
}

tw_str stream_database(const struct stream *stream)
{
    return stream->form == TOPIC_EVENTS
               ? tw_bson_get_str(stream->class->topic->canonical, TW_STR("db"))
               : (tw_str){NULL, 0};
}

/* What the server itself says of a stream, in the stream's own words. */
enum said { SAID_SYNC, SAID_RESET, SAID_CLOSED };
static const struct {
    const char *type, *event;
} said_words[] = {
    [SAID_SYNC] = {"sync", "DB_SYNC"},
    [SAID_RESET] = {"reset", "DB_RESET"},
    [SAID_CLOSED] = {"closed", "DB_CLOSED"},
};

static void begin_message(streams *self, const struct stream *stream, enum said said)
{
    tw_buf_clear(&self->text);
    if (stream->form == TOPIC_EVENTS) {
        tw_buf_format(&self->text, "{\"event\":\"%s\",\"db\":", said_words[said].event);
        tw_json_write_str(&self->text, stream_database(stream));
    } else {
        tw_buf_format(&self->text, "{\"type\":\"%s\"", said_words[said].type);
    }
    if (stream->class->mux_len > 0) {
        tw_buf_add_str(&self->text, TW_STR(",\"mux_id\":"));
        tw_buf_add_str(&self->text, mux_of(stream));
    }
    if (stream->form != TOPIC_RECORDS && stream->syncid_len > 0) {
        tw_buf_add_str(&self->text, TW_STR(",\"reqID\":"));
        tw_buf_add(&self->text, stream->syncid, stream->syncid_len);
    }
}

void stream_sync(streams *self, struct stream *stream, tw_vector at)
{
    begin_message(self, stream, SAID_SYNC);
    if (stream->form == TOPIC_RECORDS && stream->syncid_len > 0) {
        tw_buf_add_str(&self->text, TW_STR(",\"syncid\":"));
        tw_buf_add(&self->text, stream->syncid, stream->syncid_len);
    }
    tw_buf_add_str(&self->text, TW_STR(",\"since\":"));
    tw_json_write_vector(&self->text, at);
    tw_buf_format(&self->text, ",\"query\":\"%s\"}", stream->class->topic->name);
    send_scratch(self, stream->conn);
}

static void tell_reset(streams *self, const struct stream *stream, uint64_t reset, uint64_t srv,
                       uint64_t floor)
{
    const char *reason = reset == TW_RESET_AHEAD       ? "ahead"
                         : reset == TW_RESET_COMPACTED ? "compacted"
                                                       : "changed";
    begin_message(self, stream, SAID_RESET);
    tw_buf_format(&self->text, ",\"reason\":\"%s\"", reason);
    if (reset != TW_RESET_CHANGED) {
        tw_buf_format(&self->text, ",\"srv_id\":%llu,\"floor\":%llu", (unsigned long long)srv,
                      (unsigned long long)floor);
    }
    tw_buf_add_byte(&self->text, '}');
    send_scratch(self, stream->conn);
    self->figures.resets++;
}

/* ---- the life of a stream ---- */

static void leave_lists(streams *self, struct stream *stream)
{
    if (stream->state == STREAM_RESTING) {
        TAILQ_REMOVE(&self->resting, stream, turn);
    } else if (stream->ready) {
        TAILQ_REMOVE(&self->ready[stream->class->topic->processed], stream, turn);
    } else if (stream->retry) {
        TAILQ_REMOVE(&self->retry, stream, turn);
    } else if (stream->state == STREAM_AHEAD) {
        TAILQ_REMOVE(&self->ahead, stream, turn);
    } else if (stream->reading) {
        stream_read_end(self, stream);
    }
    stream->ready = false;
    stream->retry = false;
    if (stream->state == STREAM_LIVE) {
        TAILQ_REMOVE(&self->syncs, stream, syncs);
        stream->class->live_count--;
        self->figures.live--;
    }
    LIST_REMOVE(stream, of_class);
}

void stream_move(streams *self, struct stream *stream, stream_state state)
{
    TW_ASSERT(state < STREAM_STATES);
    leave_lists(self, stream);
    stream->state = (uint8_t)state;
    if (state == STREAM_AHEAD) {
        TAILQ_INSERT_TAIL(&self->ahead, stream, turn);
    } else if (state == STREAM_RESTING) {
        TAILQ_INSERT_TAIL(&self->resting, stream, turn);
    }
    if (state != STREAM_LIVE) {
        LIST_INSERT_HEAD(&stream->class->others, stream, of_class);
        return;
    }
    LIST_INSERT_HEAD(&stream->class->live, stream, of_class);
    stream->class->live_count++;
    self->figures.live++;
    stream->sync_due_ms = self->now_ms + TW_SYNC_REPEAT_MS;
    TAILQ_INSERT_TAIL(&self->syncs, stream, syncs);
    tw_free(stream->read);
    stream->read = NULL;
    shared_vector_drop(&stream->since);
    shared_vector_drop(&stream->told);
}

void stream_ready(streams *self, struct stream *stream)
{
    TW_ASSERT(stream->state == STREAM_CATCHING);
    if (!stream->ready && !stream->reading) {
        if (stream->retry) {
            TAILQ_REMOVE(&self->retry, stream, turn);
            stream->retry = false;
        }
        stream->ready = true;
        TAILQ_INSERT_TAIL(&self->ready[stream->class->topic->processed], stream, turn);
    }
}

void stream_retry(streams *self, struct stream *stream)
{
    TW_ASSERT(stream->state == STREAM_CATCHING);
    TW_ASSERT(!stream->ready && !stream->retry);
    stream->retry = true;
    TAILQ_INSERT_TAIL(&self->retry, stream, turn);
}

void stream_read_end(streams *self, struct stream *stream)
{
    TW_ASSERT(stream->reading);
    TAILQ_REMOVE(&self->pages[stream->slot], stream, turn);
    stream->reading = false;
}

void stream_start(streams *self, struct stream *stream)
{
    TW_ASSERT(stream->class->topic->state == TOPIC_OPEN);
    stream_move(self, stream, STREAM_CATCHING);
    stream_ready(self, stream);
}

void stream_wake(streams *self, struct stream *stream)
{
    TW_ASSERT(stream->state == STREAM_RESTING);
    if (stream->class->topic->state == TOPIC_OPEN) {
        stream_start(self, stream);
    } else {
        stream_move(self, stream, STREAM_WAITING);
    }
}

void stream_free(streams *self, struct stream *stream)
{
    stream_class *class = stream->class;
    struct topic *topic = class->topic;
    leave_lists(self, stream);
    table_remove(&self->streams, &stream->by_mux);
    *stream->conn_link = stream->conn_next;
    if (stream->conn_next != NULL) {
        stream->conn_next->conn_link = stream->conn_link;
    }
    stream->conn->count--;
    shared_vector_drop(&stream->since);
    shared_vector_drop(&stream->told);
    sync_session_free(&stream->have);
    tw_free(stream->read);
    stream->magic = 0;
    tw_free(stream);
    topic->streams_count--;
    if (--class->count == 0) {
        LIST_REMOVE(class, of_topic);
        table_remove(&self->classes, &class->by_mux);
        tw_free(class);
    }
}

void stream_fail(streams *self, struct stream *stream, tw_err err, tw_str why)
{
    tw_buf_clear(&self->text);
    tw_str none = {NULL, 0};
    bool asked = stream->form != TOPIC_RECORDS && stream->syncid_len > 0;
    wire_error(&self->text,
               &(wire_refusal){
                   .mux_id = stream->class->mux_len > 0 ? mux_of(stream) : none,
                   .req_id = asked ? (tw_str){stream->syncid, stream->syncid_len} : none,
                   .event = stream->form == TOPIC_EVENTS ? TW_STR("DB_SCHEMA") : none,
                   .db = stream_database(stream),
                   .code = err,
                   .message = why,
               });
    send_scratch(self, stream->conn);
    stream_free(self, stream);
}

/* ---- catch-up ---- */

static void read_begin(streams *self, struct stream *stream, size_t slot)
{
    stream->reading = true;
    stream->slot = (uint8_t)slot;
    TAILQ_INSERT_TAIL(&self->pages[slot], stream, turn);
}

static bool same_vectors(tw_vector one, tw_vector other)
{
    return one.count == other.count &&
           (one.count == 0 || memcmp(one.at, other.at, one.count * sizeof(*one.at)) == 0);
}

static bool asks_the_same(const struct stream *one, const struct stream *other)
{
    bool same = one->class->topic == other->class->topic && !one->syncing && !other->syncing &&
                one->fresh == other->fresh && one->resume == other->resume &&
                one->now == other->now && one->w0 == other->w0;
    return same && (one->fresh || one->resume || one->after == other->after) &&
           same_vectors(shared_vector_view(one->since), shared_vector_view(other->since));
}

/* Takes the first of those that are ready. NULL: its connection's queue has to drain first. */
static struct stream *take_turn(stream_list *ready)
{
    struct stream *stream = TAILQ_FIRST(ready);
    TAILQ_REMOVE(ready, stream, turn);
    stream->ready = false;
    if (stream->conn->out.bytes >= STREAMS_QUEUE_LOW) {
        stream->conn->parked = true;
        return NULL;
    }
    return stream;
}

static void share_page(streams *self, const struct stream *first, size_t slot)
{
    stream_list *ready = &self->ready[first->class->topic->processed];
    for (size_t shared = 1; shared < STREAMS_SHARE_MAX && !TAILQ_EMPTY(ready) &&
                            asks_the_same(first, TAILQ_FIRST(ready));
         shared++) {
        struct stream *stream = take_turn(ready);
        if (stream != NULL) {
            read_begin(self, stream, slot);
            self->figures.pages_shared++;
        }
    }
}

static void ask_page(streams *self, struct stream *stream)
{
    bool processed = stream->class->topic->processed;
    size_t slot = processed ? STREAMS_PAGES_MAX : 0;
    while (self->page_busy[slot]) {
        slot++;
    }
    TW_ASSERT(slot < TW_COUNT(self->pages) && slot / STREAMS_PAGES_MAX == (size_t)processed);
    self->page_busy[slot] = true;
    self->pages_count[processed]++;
    self->figures.pages++;
    read_begin(self, stream, slot);
    if (stream->syncing) {
        if (!stream_manifest_step(self, stream, slot)) {
            self->page_busy[slot] = false;
            self->pages_count[processed]--;
        }
        return;
    }
    share_page(self, stream, slot);
    tw_msg_page_read ask = {
        .query = stream->class->topic->canonical,
        .fresh = stream->fresh,
        .resume = stream->resume,
        .now = stream->now,
        .after = stream->fresh || stream->resume ? 0 : stream->after,
        .w0 = stream->w0,
        .since = shared_vector_view(stream->since),
        .bytes_max = TW_PAGE_BYTES,
    };
    self->sink.page_read(self->sink.context, slot, &ask, processed);
}

/* Those whose documents are processed have places of their own: a slow service holds up no
 * others. */
void streams_pump(streams *self)
{
    for (size_t kind = 0; kind < TW_COUNT(self->ready); kind++) {
        stream_list *ready = &self->ready[kind];
        while (self->pages_count[kind] < STREAMS_PAGES_MAX && !TAILQ_EMPTY(ready)) {
            struct stream *stream = take_turn(ready);
            if (stream != NULL) {
                ask_page(self, stream);
            }
        }
    }
}

void streams_conn_drained(streams *self, streams_conn *conn)
{
    if (!conn->parked) {
        return;
    }
    conn->parked = false;
    for (struct stream *at = conn->first; at != NULL; at = at->conn_next) {
        if (at->state == STREAM_CATCHING && !at->retry) {
            stream_ready(self, at);
        }
    }
    streams_pump(self);
}

/* prev of an event in history: the position of the same origin read before it on this stream. */
static uint64_t read_before(struct stream *stream, tw_position at)
{
    if (stream->read == NULL) {
        stream->read = tw_alloc_zero(1, sizeof(*stream->read));
        if (stream->read == NULL) {
            return 0; /* prev is a help to the client, and may be left out */
        }
    }
    uint64_t before = position_vector_get(position_set_view(stream->read), at.srv);
    if (position_set_raise(stream->read, at) != TW_OK) {
        return 0;
    }
    return before == at.seqno ? 0 : before; /* rows of one transaction share a position */
}

static tw_vector read_of(const struct stream *stream)
{
    return stream->read == NULL ? (tw_vector){NULL, 0} : position_set_view(stream->read);
}

static bool is_made_for(const page_frames *made, const struct stream *stream)
{
    return made->frames != NULL && made->class == stream->class &&
           same_vectors(position_set_view(&made->before), read_of(stream));
}

/* Frames the rows of a page into one piece. NULL: no memory. */
static tw_shared *frame_page(streams *self, struct stream *stream, tw_arena *arena,
                             const tw_msg_page *page)
{
    wire_event *events = tw_arena_zero(arena, page->rows.count, sizeof(*events));
    if (events == NULL) {
        return NULL;
    }
    size_t len = 0;
    for (size_t i = 0; i < page->rows.count; i++) {
        const tw_item_page_row *row = &page->rows.at[i];
        events[i].type = streams_type_text(arena, row->type);
        if (events[i].type.ptr == NULL) {
            return NULL;
        }
        events[i].mux_id = mux_of(stream);
        events[i].prev = read_before(stream, (tw_position){row->srv, row->seqno});
        events[i].tail = row->tail;
        len += wire_event_len(&events[i]);
    }
    tw_shared *frames = tw_shared_new(len);
    if (frames == NULL) {
        return NULL;
    }
    char *to = frames->bytes;
    for (size_t i = 0; i < page->rows.count; i++) {
        to = wire_event_put(to, &events[i]);
    }
    frames->len = len;
    TW_ASSERT(to == frames->bytes + len);
    self->figures.frames += page->rows.count;
    return frames;
}

bool stream_send_page(streams *self, struct stream *stream, tw_arena *arena,
                      const tw_msg_page *page, page_frames *made)
{
    if (page->rows.count == 0) {
        return true;
    }
    if (is_made_for(made, stream)) {
        stream->read = stream->read != NULL ? stream->read : tw_alloc(sizeof(*stream->read));
        if (stream->read != NULL) { /* without it prev is left out later on */
            *stream->read = made->after;
        }
    } else {
        page_frames_drop(made);
        made->class = stream->class;
        made->before = stream->read != NULL ? *stream->read : (position_set){0};
        made->frames = frame_page(self, stream, arena, page);
        made->after = stream->read != NULL ? *stream->read : (position_set){0};
    }
    return made->frames != NULL &&
           streams_deliver(self, stream->conn, made->frames, made->frames->len, true);
}

void page_frames_drop(page_frames *made)
{
    tw_shared_drop(&made->frames);
}

void stream_start_over(streams *self, struct stream *stream, uint64_t reset, uint64_t srv,
                       uint64_t floor)
{
    tell_reset(self, stream, reset, srv, floor);
    stream->fresh = true;
    stream->resume = false;
    stream->after = 0;
    stream->w0 = 0;
    stream->sync_due_ms = 0;
    shared_vector_drop(&stream->since);
    shared_vector_drop(&stream->told);
    if (stream->read != NULL) {
        memset(stream->read, 0, sizeof(*stream->read));
    }
    stream_ready(self, stream);
}

/* A stream of a processed topic has read everything: it rests until there is more. */
static void rest(streams *self, struct stream *stream, tw_vector at)
{
    shared_vector *told = shared_vector_new(at);
    if (told == NULL) {
        stream_conn_fail(self, stream->conn);
        return;
    }
    shared_vector_drop(&stream->told);
    stream->told = told;
    shared_vector_drop(&stream->since);
    stream->w0 = 0;
    stream_move(self, stream, STREAM_RESTING);
    if (stream->sync_due_ms <= self->now_ms) { /* 0: not told yet */
        stream->sync_due_ms = self->now_ms + TW_SYNC_REPEAT_MS;
        stream_sync(self, stream, at);
    }
    if (stream->after < stream->class->topic->due_n) {
        stream_wake(self, stream);
    }
}

/* The client comes from a node that is some milliseconds further. False: it was waited for. */
static bool wait_for_since(streams *self, struct stream *stream, const tw_msg_page *page)
{
    if (page->reset != TW_RESET_AHEAD || !page->follows) {
        return false;
    }
    if (stream->ahead_until_ms == 0) {
        stream->ahead_until_ms = self->now_ms + TW_AHEAD_WAIT_MS;
    }
    if (self->now_ms >= stream->ahead_until_ms) {
        return false;
    }
    stream_retry(self, stream);
    return true;
}

/* A page of a stream that is still there. */
static void take_page(streams *self, struct stream *stream, const tw_msg_page *page,
                      page_frames *made)
{
    bool is_unknown = stream->resume && page->w0 > 0; /* of an origin it has nothing */
    if (wait_for_since(self, stream, page)) {
        return;
    }
    stream->ahead_until_ms = 0;
    if (stream->have != NULL && (page->reset != TW_RESET_NONE || is_unknown)) {
        stream->syncing = true;
        stream_ready(self, stream);
        return;
    }
    sync_session_free(&stream->have);
    if (page->reset != TW_RESET_NONE) {
        stream_start_over(self, stream, page->reset, page->srv, page->floor);
        return;
    }
    tw_arena arena;
    tw_arena_init(&arena, TW_ACTOR_MESSAGE_MAX);
    bool sent = stream_send_page(self, stream, &arena, page, made);
    tw_arena_fini(&arena);
    if (!sent) {
        stream_conn_fail(self, stream->conn);
        return; /* the connection goes, and the stream with it */
    }
    stream->fresh = false;
    stream->resume = false;
    stream->now = false;
    stream->after = page->after;
    stream->w0 = page->w0;
    stream->seen = page->head > stream->seen ? page->head : stream->seen;
    if (!page->caught_up) {
        stream_ready(self, stream);
        return;
    }
    const struct topic *topic = stream->class->topic;
    if (topic->state != TOPIC_OPEN) {
        shared_vector_drop(&stream->told);
        stream->told = shared_vector_new(page->at);
        stream_move(self, stream, STREAM_WAITING); /* lost meanwhile; it is opened again */
        return;
    }
    /* This reader is behind the manager, or behind one that left out, in an earlier page, rows that
     * newer ones superseded: below that one's head the set is not complete. */
    if (stream->after < topic->applied || stream->after < stream->seen) {
        stream_retry(self, stream);
        return;
    }
    if (topic->processed) {
        rest(self, stream, page->at);
        return;
    }
    stream_join(self, stream, page->at);
    if (stream->state == STREAM_CATCHING) {
        stream_ready(self, stream);
    }
}

bool stream_may_retry(tw_err err)
{
    return err == TW_E_TIMEOUT || err == TW_E_UNAVAILABLE || err == TW_E_BUSY ||
           err == TW_E_DRAINING || err == TW_E_NO_MEMORY;
}

/* The next of those whose question was answered. NULL: that was all, and the slot is free. */
static struct stream *take_reader(streams *self, uint64_t tag)
{
    TW_ASSERT(tag < TW_COUNT(self->pages));
    TW_ASSERT(self->page_busy[tag]);
    struct stream *stream = TAILQ_FIRST(&self->pages[tag]);
    if (stream != NULL) {
        stream_read_end(self, stream);
    } else {
        self->page_busy[tag] = false;
        self->pages_count[tag / STREAMS_PAGES_MAX]--;
    }
    return stream;
}

void streams_manifest(streams *self, uint64_t tag, tw_err err, tw_msg_id id, const tw_body *body,
                      tw_str why)
{
    struct stream *stream;
    while ((stream = take_reader(self, tag)) != NULL) {
        stream_manifest_answer(self, stream, err, id, body, why);
    }
    streams_pump(self);
}

void streams_page(streams *self, uint64_t tag, tw_err err, const tw_msg_page *page, tw_str why)
{
    struct stream *stream;
    page_frames made = {0};
    while ((stream = take_reader(self, tag)) != NULL) {
        TW_ASSERT(stream->state == STREAM_CATCHING); /* another state is left by leave_lists */
        if (err == TW_OK) {
            take_page(self, stream, page, &made);
        } else if (stream_may_retry(err)) {
            stream_retry(self, stream);
        } else {
            stream_fail(self, stream, err, why);
        }
    }
    page_frames_drop(&made);
    streams_pump(self);
}

/* ---- subscribe and close ---- */

static struct stream *find(const streams *self, const streams_conn *conn, tw_str mux)
{
    table_node *node = table_first(&self->streams, hash_in(self, conn, mux));
    for (; node != NULL; node = table_next(node)) {
        struct stream *stream = TABLE_OWNER(struct stream, by_mux, node);
        if (stream->conn == conn && tw_str_equal(mux_of(stream), mux)) {
            return stream;
        }
    }
    return NULL;
}

static struct topic *topic_of(streams *self, tw_bson canonical)
{
    uint64_t hash = tw_hash(canonical.ptr, canonical.len, self->seed);
    table_node *node = table_first(&self->topics_by_query, hash);
    for (; node != NULL; node = table_next(node)) {
        struct topic *topic = TABLE_OWNER(struct topic, by_query, node);
        if (topic->canonical.len == canonical.len &&
            memcmp(topic->canonical.ptr, canonical.ptr, canonical.len) == 0) {
            return topic;
        }
    }
    struct topic *topic = tw_alloc(sizeof(*topic) + canonical.len);
    if (topic == NULL) {
        return NULL;
    }
    memset(topic, 0, sizeof(*topic));
    memcpy(topic->bytes, canonical.ptr, canonical.len);
    topic->canonical = (tw_bson){topic->bytes, canonical.len};
    topic_query_name(topic->canonical, topic->name);
    topic->processed = topic_query_processed(self->catalog, topic->canonical);
    LIST_INIT(&topic->classes);
    table_insert(&self->topics_by_query, &topic->by_query, hash);
    return topic;
}

static stream_class *class_of(streams *self, struct topic *topic, tw_str mux)
{
    uint64_t hash = hash_in(self, topic, mux);
    table_node *node = table_first(&self->classes, hash);
    for (; node != NULL; node = table_next(node)) {
        stream_class *class = TABLE_OWNER(stream_class, by_mux, node);
        if (class->topic == topic && tw_str_equal((tw_str){class->mux, class->mux_len}, mux)) {
            return class;
        }
    }
    stream_class *class = tw_alloc_zero(1, sizeof(*class));
    if (class == NULL) {
        return NULL;
    }
    class->topic = topic;
    class->mux_len = (uint8_t)mux.len;
    memcpy(class->mux, mux.ptr, mux.len);
    LIST_INIT(&class->live);
    LIST_INIT(&class->others);
    LIST_INSERT_HEAD(&topic->classes, class, of_topic);
    table_insert(&self->classes, &class->by_mux, hash);
    return class;
}

static tw_err read_mux(tw_arena *arena, tw_bson message, tw_str *out, broker_why *why)
{
    tw_buf text;
    tw_buf_init(&text, 4096);
    tw_err err = wire_mux_id(&text, tw_bson_get(message, TW_STR("mux_id")));
    if (err == TW_OK) {
        *out = tw_arena_str(arena, tw_buf_str(&text));
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    } else if (err == TW_E_BAD_MESSAGE) {
        err = broker_refuse(why, err, "mux_id must be a number or a string of at most %d bytes",
                            TW_MUX_ID_MAX);
    }
    tw_buf_fini(&text);
    return err;
}

tw_err wish_read_name(tw_arena *arena, tw_bson message, const char *name, tw_str *out,
                      broker_why *why)
{
    tw_bson_value value = tw_bson_get(message, tw_str_of(name));
    *out = (tw_str){"", 0};
    if (value.type == 0 || value.type == TW_BSON_NULL) {
        return TW_OK;
    }
    if (value.type != TW_BSON_STRING && !tw_bson_value_is_number(value)) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "%s must be a string or a number", name);
    }
    tw_buf text;
    tw_buf_init(&text, 4096);
    tw_json_write_value(&text, value);
    tw_err err = text.err;
    if (err == TW_OK && text.len <= TW_OPID_MAX) {
        *out = tw_arena_str(arena, tw_buf_str(&text));
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    } else if (err != TW_E_NO_MEMORY) {
        err = broker_refuse(why, TW_E_BAD_MESSAGE, "%s is longer than %d bytes", name, TW_OPID_MAX);
    }
    tw_buf_fini(&text);
    return err;
}

tw_err wish_read_since(tw_arena *arena, tw_bson message, wish *out, broker_why *why)
{
    tw_bson_value since = tw_bson_get(message, TW_STR("since"));
    if (since.type == 0 || since.type == TW_BSON_NULL) {
        out->now = out->form == TOPIC_CHANGES;
        return TW_OK;
    }
    if (tw_str_equal(tw_bson_value_str(since), TW_STR("now"))) {
        out->now = true;
        return TW_OK;
    }
    const char *cause = "";
    tw_err err = position_vector_parse(arena, since, &out->since, &cause);
    if (err != TW_OK) {
        return err == TW_E_BAD_SINCE ? broker_refuse(why, err, "since: %s", cause) : err;
    }
    out->resume = out->since.count > 0; /* [] knows nothing: a fresh snapshot */
    return TW_OK;
}

void wish_compare_query(tw_bson message, wish *of)
{
    tw_str told = tw_bson_get_str(message, TW_STR("query"));
    if (told.ptr != NULL && of->resume) {
        char name[17];
        topic_query_name(of->canonical, name);
        of->changed = !tw_str_equal(told, tw_str_of(name));
    }
}

/* `manifests` of a subscribe: what the client has, should its since not be served. */
static tw_err read_manifests(const streams *self, tw_bson message, wish *out, broker_why *why)
{
    if (tw_bson_get(message, TW_STR("manifests")).type == 0) {
        return TW_OK;
    }
    const char *hint = NULL;
    tw_err err = sync_session_of_query(&out->have, self->catalog, out->canonical);
    if (err == TW_OK) {
        err = sync_session_feed(out->have, message, false, why, &hint);
    }
    if (err != TW_OK) {
        sync_session_free(&out->have);
    }
    return err;
}

static tw_err read_wish(const streams *self, const rights *whose, tw_arena *arena, tw_bson message,
                        bool changes, wish *out, broker_why *why)
{
    *out = (wish){.form = changes ? TOPIC_CHANGES : TOPIC_RECORDS, .mux = TW_STR("")};
    tw_err err = TW_OK;
    if (!changes || tw_bson_get(message, TW_STR("mux_id")).type != 0) {
        err = read_mux(arena, message, &out->mux, why);
    }
    if (err == TW_OK) {
        err = wish_read_name(arena, message, changes ? "reqID" : "syncid", &out->syncid, why);
    }
    if (err == TW_OK) {
        err = wish_read_since(arena, message, out, why);
    }
    if (err == TW_OK) {
        err = (changes ? topic_query_of_watch : topic_query_of_subscribe)(
            self->catalog, whose, arena, message, &out->canonical, why);
    }
    if (err == TW_OK) {
        wish_compare_query(message, out);
        err = changes ? TW_OK : read_manifests(self, message, out, why);
    }
    return err;
}

/* Enters a stream into every list but those of its turn. */
static void enter(streams *self, streams_conn *conn, stream_class *class, struct stream *stream)
{
    stream->conn = conn;
    stream->class = class;
    stream->conn_next = conn->first;
    stream->conn_link = &conn->first;
    if (conn->first != NULL) {
        conn->first->conn_link = &stream->conn_next;
    }
    conn->first = stream;
    conn->count++;
    class->count++;
    class->topic->streams_count++;
    LIST_INSERT_HEAD(&class->others, stream, of_class);
    table_insert(&self->streams, &stream->by_mux, hash_in(self, conn, mux_of(stream)));
}

tw_err stream_begin(streams *self, streams_conn *conn, const wish *of)
{
    struct topic *topic = topic_of(self, of->canonical);
    stream_class *class = topic == NULL ? NULL : class_of(self, topic, of->mux);
    struct stream *stream = class == NULL ? NULL : tw_alloc(sizeof(*stream) + of->syncid.len);
    if (stream != NULL) {
        memset(stream, 0, sizeof(*stream));
        stream->since = of->resume ? shared_vector_new(of->since) : NULL;
    }
    if (stream == NULL || (of->resume && stream->since == NULL)) {
        tw_free(stream);
        if (class != NULL && class->count == 0) {
            LIST_REMOVE(class, of_topic);
            table_remove(&self->classes, &class->by_mux);
            tw_free(class);
        }
        return TW_E_NO_MEMORY; /* an empty topic goes with the next keep */
    }
    stream->magic = STREAM_STATE_MAGIC;
    stream->state = STREAM_WAITING;
    stream->form = (uint8_t)of->form;
    stream->now = of->now;
    stream->resume = of->resume && !of->changed;
    stream->fresh = !of->now && !stream->resume;
    stream->have = of->have;
    stream->syncing = stream->fresh && of->have != NULL; /* in place of a snapshot */
    stream->syncid_len = of->syncid.len;
    memcpy(stream->syncid, of->syncid.ptr, of->syncid.len);
    enter(self, conn, class, stream);
    if (stream->resume) {
        stream->told = stream->since; /* until it has caught up, that is all that is sure */
        stream->told->holders++;
    } else {
        shared_vector_drop(&stream->since);
    }
    if (of->changed && !stream->syncing) {
        tell_reset(self, stream, TW_RESET_CHANGED, 0, 0);
    }
    if (topic->state == TOPIC_OPEN) {
        stream_start(self, stream);
    } else if (topic->state == TOPIC_CLOSED) {
        topic_enqueue(self, topic);
    }
    return TW_OK;
}

tw_err streams_subscribe(streams *self, streams_conn *conn, tw_arena *arena, tw_bson message,
                         broker_why *why)
{
    TW_ASSERT(self->magic == STREAMS_MAGIC);
    wish asked;
    tw_err err = read_wish(self, conn->rights, arena, message, false, &asked, why);
    if (err != TW_OK) {
        return err;
    }
    if (find(self, conn, asked.mux) != NULL) {
        err = broker_refuse(why, TW_E_MUX_IN_USE, "mux_id %.*s names an open stream",
                            (int)asked.mux.len, asked.mux.ptr);
    } else if (conn->count >= TW_STREAMS_PER_CONNECTION_MAX) {
        err = broker_refuse(why, TW_E_TOO_MANY, "a connection holds at most %d streams",
                            TW_STREAMS_PER_CONNECTION_MAX);
    } else {
        err = stream_begin(self, conn, &asked);
    }
    if (err != TW_OK) {
        sync_session_free(&asked.have);
    }
    topics_pump(self);
    streams_pump(self);
    return err;
}

void stream_end(streams *self, struct stream *stream)
{
    streams_conn *conn = stream->conn;
    const shared_vector *told = stream->state == STREAM_LIVE ? self->at : stream->told;
    begin_message(self, stream, SAID_CLOSED);
    tw_buf_add_str(&self->text, TW_STR(",\"since\":"));
    tw_json_write_vector(&self->text, shared_vector_view(told));
    tw_buf_add_byte(&self->text, '}');
    stream_free(self, stream);
    send_scratch(self, conn);
}

tw_err stream_replace(streams *self, streams_conn *conn, struct stream *running, const wish *of,
                      broker_why *why)
{
    if (running == NULL && conn->count >= TW_STREAMS_PER_CONNECTION_MAX) {
        return broker_refuse(why, TW_E_TOO_MANY, "a connection holds at most %d streams",
                             TW_STREAMS_PER_CONNECTION_MAX);
    }
    if (running != NULL) {
        stream_end(self, running);
    }
    tw_err err = stream_begin(self, conn, of);
    topics_pump(self);
    streams_pump(self);
    return err;
}

tw_err streams_watch(streams *self, streams_conn *conn, tw_arena *arena, tw_bson message,
                     broker_why *why)
{
    TW_ASSERT(self->magic == STREAMS_MAGIC);
    wish asked;
    tw_err err = read_wish(self, conn->rights, arena, message, true, &asked, why);
    if (err != TW_OK) {
        return err;
    }
    struct stream *running = conn->first;
    while (running != NULL && running->form != TOPIC_CHANGES) {
        running = running->conn_next;
    }
    struct stream *same = asked.mux.len == 0 ? NULL : find(self, conn, asked.mux);
    if (same != NULL && same != running) {
        return broker_refuse(why, TW_E_MUX_IN_USE, "mux_id %.*s names an open stream",
                             (int)asked.mux.len, asked.mux.ptr);
    }
    return stream_replace(self, conn, running, &asked, why);
}

tw_err streams_close(streams *self, streams_conn *conn, tw_bson message, broker_why *why)
{
    TW_ASSERT(self->magic == STREAMS_MAGIC);
    tw_buf text;
    tw_buf_init(&text, 4096);
    tw_err err = wire_mux_id(&text, tw_bson_get(message, TW_STR("mux_id")));
    struct stream *stream = err == TW_OK ? find(self, conn, tw_buf_str(&text)) : NULL;
    tw_buf_fini(&text);
    if (stream == NULL) {
        return err != TW_OK ? err : broker_refuse(why, TW_E_NO_STREAM, "%s", "no such stream");
    }
    stream_end(self, stream);
    return TW_OK;
}

void streams_conn_gone(streams *self, streams_conn *conn)
{
    while (conn->first != NULL) {
        stream_free(self, conn->first);
    }
    outbound_clear(&conn->out);
}

/* ---- the whole ---- */

tw_err streams_new(streams **out, const catalog *collections, const streams_sink *sink,
                   uint64_t now_ms)
{
    streams *self = tw_alloc_zero(1, sizeof(*self));
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->magic = STREAMS_MAGIC;
    self->catalog = collections;
    self->sink = *sink;
    self->now_ms = now_ms;
    self->seed = (uint64_t)(uintptr_t)self * 0x9e3779b97f4a7c15ULL;
    self->next_tag = 1;
    TAILQ_INIT(&self->queued);
    TAILQ_INIT(&self->opening);
    TAILQ_INIT(&self->ready[0]);
    TAILQ_INIT(&self->ready[1]);
    TAILQ_INIT(&self->resting);
    TAILQ_INIT(&self->retry);
    TAILQ_INIT(&self->ahead);
    TAILQ_INIT(&self->syncs);
    for (size_t i = 0; i < TW_COUNT(self->pages); i++) {
        TAILQ_INIT(&self->pages[i]);
    }
    ring_init(&self->ring, TW_RING_BYTES);
    tw_buf_init(&self->text, STREAMS_TEXT_MAX);
    table *tables[] = {&self->topics_by_query, &self->topics_by_id, &self->classes, &self->streams};
    tw_err err = TW_OK;
    for (size_t i = 0; i < TW_COUNT(tables) && err == TW_OK; i++) {
        err = table_init(tables[i]);
    }
    if (err != TW_OK) {
        streams_free(&self);
        return err;
    }
    *out = self;
    return TW_OK;
}

void streams_free(streams **out)
{
    streams *self = *out;
    *out = NULL;
    if (self == NULL) {
        return;
    }
    for (size_t i = 0; self->topics_by_query.buckets != NULL && i < self->topics_by_query.cap;
         i++) {
        while (self->topics_by_query.buckets[i] != NULL) {
            struct topic *topic =
                TABLE_OWNER(struct topic, by_query, self->topics_by_query.buckets[i]);
            TW_ASSERT(topic->streams_count == 0);
            table_remove(&self->topics_by_query, &topic->by_query);
            tw_free(topic);
        }
    }
    table_fini(&self->topics_by_query);
    table_fini(&self->topics_by_id);
    table_fini(&self->classes);
    table_fini(&self->streams);
    shared_vector_drop(&self->at);
    ring_fini(&self->ring);
    tw_buf_fini(&self->text);
    tw_free(self);
}

/* Streams that wait for something to pass are tried again at each tick. */
static void retry_all(streams *self)
{
    while (!TAILQ_EMPTY(&self->retry)) {
        stream_ready(self, TAILQ_FIRST(&self->retry));
    }
    streams_pump(self);
}

static void sync_due(streams *self)
{
    struct stream *next;
    for (struct stream *at = TAILQ_FIRST(&self->resting); at != NULL; at = next) {
        next = TAILQ_NEXT(at, turn);
        if (at->sync_due_ms <= self->now_ms) {
            stream_wake(self, at); /* it reads where the log stands */
        }
    }
    streams_pump(self);
    struct stream *stream;
    while ((stream = TAILQ_FIRST(&self->syncs)) != NULL && stream->sync_due_ms <= self->now_ms) {
        TAILQ_REMOVE(&self->syncs, stream, syncs);
        TAILQ_INSERT_TAIL(&self->syncs, stream, syncs);
        stream->sync_due_ms = self->now_ms + TW_SYNC_REPEAT_MS;
        if (stream->conn->out.bytes < STREAMS_QUEUE_LOW) {
            stream_sync(self, stream, shared_vector_view(self->at));
        }
    }
}

void streams_tick(streams *self, uint64_t now_ms)
{
    TW_ASSERT(self->magic == STREAMS_MAGIC);
    self->now_ms = now_ms;
    retry_all(self);
    topics_pump(self);
    sync_due(self);
}

tw_vector streams_at(const streams *self)
{
    return shared_vector_view(self->at);
}

bool streams_heard(const streams *self)
{
    return self->heard;
}

streams_figures streams_tell(const streams *self)
{
    streams_figures figures = self->figures;
    figures.streams = self->streams.count;
    figures.topics = self->topics_by_query.count;
    figures.classes = self->classes.count;
    figures.ring_bytes = self->ring.bytes;
    return figures;
}

void streams_describe(const streams *self, const char *of, tw_buf *out, size_t max)
{
    size_t told = 0;
    for (size_t i = 0; i < self->topics_by_query.cap; i++) {
        table_node *node = self->topics_by_query.buckets[i];
        for (; node != NULL && told < max; node = node->next) {
            const struct topic *topic = TABLE_OWNER(struct topic, by_query, node);
            size_t live = 0;
            size_t paused = 0;
            const stream_class *class;
            LIST_FOREACH(class, &topic->classes, of_topic)
            {
                live += class->live_count;
                const struct stream *stream;
                LIST_FOREACH(stream, &class->others, of_class)
                {
                    paused += stream->retry ? 1 : 0;
                }
            }
            tw_buf_format(out,
                          "%s{\"gateway\":\"%s\",\"topic\":%llu,\"query\":\"%s\","
                          "\"streams\":%zu,\"live\":%zu,\"processed\":%s,\"paused\":%zu,\"asks\":",
                          told == 0 ? "" : ",", of, (unsigned long long)topic->id, topic->name,
                          topic->streams_count, live, topic->processed ? "true" : "false", paused);
            tw_json_write(out, topic->canonical);
            tw_buf_add_byte(out, '}');
            told++;
        }
    }
}
