/* streams_live.c - topics at the manager, its batches, and joining them without gap or duplicate.
 * */
#include "broker/position.h"

#include "gateways/streams/streams_priv.h"

/* ---- topics ---- */

void topic_enqueue(streams *self, struct topic *topic)
{
    TW_ASSERT(topic->state == TOPIC_CLOSED);
    topic->state = TOPIC_QUEUED;
    TAILQ_INSERT_TAIL(&self->queued, topic, link);
}

/* Nothing is opened before a publication was heard: what is lost until then would not be seen. */
void topics_pump(streams *self)
{
    if (!self->heard) {
        return;
    }
    struct topic *topic = TAILQ_FIRST(&self->queued);
    while (topic != NULL && !self->keeping && self->opening_count < STREAMS_OPENS_MAX) {
        struct topic *next = TAILQ_NEXT(topic, link);
        if (topic->retry_at_ms <= self->now_ms) {
            TAILQ_REMOVE(&self->queued, topic, link);
            TAILQ_INSERT_TAIL(&self->opening, topic, link);
            self->opening_count++;
            topic->state = TOPIC_OPENING;
            topic->stale = false;
            topic->tag = self->next_tag++;
            self->sink.topic_open(self->sink.context, topic->tag, topic->canonical);
        }
        topic = next;
    }
}

/* Ends a topic without streams; one that is being opened is left alone until the answer. */
void topic_drop(streams *self, struct topic *topic)
{
    TW_ASSERT(topic->streams_count == 0);
    TW_ASSERT(topic->state != TOPIC_OPENING);
    if (topic->state == TOPIC_OPEN) {
        table_remove(&self->topics_by_id, &topic->by_id);
    } else if (topic->state == TOPIC_QUEUED) {
        TAILQ_REMOVE(&self->queued, topic, link);
    }
    table_remove(&self->topics_by_query, &topic->by_query);
    tw_free(topic);
}

static struct topic *topic_by_id(const streams *self, uint64_t id)
{
    uint64_t hash = tw_hash(&id, sizeof(id), self->seed);
    table_node *node = table_first(&self->topics_by_id, hash);
    for (; node != NULL; node = table_next(node)) {
        struct topic *topic = TABLE_OWNER(struct topic, by_id, node);
        if (topic->id == id) {
            return topic;
        }
    }
    return NULL;
}

/* The manager refuses: every stream of the topic is told, and ends. */
static void refuse_topic(streams *self, struct topic *topic, tw_err err, tw_str why)
{
    struct stream_class *class;
    while ((class = LIST_FIRST(&topic->classes)) != NULL) {
        struct stream *stream = LIST_FIRST(&class->live);
        stream_fail(self, stream != NULL ? stream : LIST_FIRST(&class->others), err, why);
    }
    topic_drop(self, topic);
}

static void topic_is_open(streams *self, struct topic *topic, const tw_msg_topic_opened *opened)
{
    topic->state = TOPIC_OPEN;
    topic->id = opened->topic;
    topic->applied = opened->applied;
    table_insert(&self->topics_by_id, &topic->by_id,
                 tw_hash(&topic->id, sizeof(topic->id), self->seed));
    if (!self->head_known) {
        self->head_known = true;
        self->head = opened->applied;
        shared_vector_drop(&self->at);
        ring_restart(&self->ring, self->head);
    }
    struct stream_class *class;
    LIST_FOREACH(class, &topic->classes, of_topic)
    {
        struct stream *stream = LIST_FIRST(&class->others);
        while (stream != NULL) {
            struct stream *next = LIST_NEXT(stream, of_class);
            if (stream->state == STREAM_WAITING) {
                stream_start(self, stream);
            }
            stream = next;
        }
    }
}

void streams_opened(streams *self, uint64_t tag, tw_err err, const tw_msg_topic_opened *opened,
                    tw_str why)
{
    struct topic *topic = TAILQ_FIRST(&self->opening);
    while (topic != NULL && topic->tag != tag) {
        topic = TAILQ_NEXT(topic, link);
    }
    TW_ASSERT(topic != NULL);
    TAILQ_REMOVE(&self->opening, topic, link);
    self->opening_count--;
    topic->state = TOPIC_CLOSED;
    if (err == TW_OK && !topic->stale && topic_by_id(self, opened->topic) == NULL) {
        topic_is_open(self, topic, opened);
    } else if (err == TW_OK || err == TW_E_UNAVAILABLE || err == TW_E_TIMEOUT) {
        topic->retry_at_ms = topic->stale ? 0 : self->now_ms + STREAMS_RETRY_MS;
        topic_enqueue(self, topic);
    } else {
        refuse_topic(self, topic, err, why);
    }
    topics_pump(self);
    streams_pump(self);
}

bool streams_keep(streams *self, tw_arena *arena, tw_list_one_id *out)
{
    if (self->opening_count > 0 || self->keeping) {
        return false;
    }
    tw_item_one_id *ids = tw_arena_zero(arena, self->topics_by_id.count + 1, sizeof(*ids));
    if (ids == NULL) {
        return false;
    }
    size_t count = 0;
    for (size_t i = 0; i < self->topics_by_query.cap; i++) {
        table_node *node = self->topics_by_query.buckets[i];
        while (node != NULL) {
            struct topic *topic = TABLE_OWNER(struct topic, by_query, node);
            node = node->next;
            if (topic->streams_count == 0) {
                topic_drop(self, topic);
            } else if (topic->state == TOPIC_OPEN) {
                ids[count++].id = topic->id;
            }
        }
    }
    *out = (tw_list_one_id){ids, count};
    self->keeping = true;
    return true;
}

void streams_kept(streams *self)
{
    self->keeping = false;
    topics_pump(self);
}

/* ---- joining ---- */

/* Frames some events for one stream. Forced: what is told here is not told again. */
static bool send_events(streams *self, struct stream *stream, const wire_event *events,
                        size_t count)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        len += wire_event_len(&events[i]);
    }
    tw_shared *frames = tw_shared_new(len);
    if (frames == NULL) {
        return false;
    }
    char *to = frames->bytes;
    for (size_t i = 0; i < count; i++) {
        to = wire_event_put(to, &events[i]);
    }
    frames->len = len;
    self->figures.frames += count;
    bool sent = streams_deliver(self, stream->conn, frames, len, false);
    tw_shared_drop(&frames);
    return sent;
}

/* Sends what the ring holds for the stream above its cursor, 64 events a piece. The first has no
 * prev: the topic's event before it may have been squashed in the history that this stream was
 * told, and a client would see a gap. False: the queue is full; the cursor stands behind what was
 * sent. */
static bool send_from_ring(streams *self, struct stream *stream)
{
    const struct stream_class *class = stream->class;
    tw_str mux = {class->mux, class->mux_len};
    ring_cursor cursor = {NULL, 0};
    ring_event event;
    wire_event events[64];
    size_t count = 0;
    uint64_t from = stream->after;
    uint64_t last = from;
    bool more = ring_next(&self->ring, &cursor, class->topic->id, from, &event);
    while (more || count > 0) {
        if (count == TW_COUNT(events) || !more) {
            if (!send_events(self, stream, events, count)) {
                return false;
            }
            stream->after = last; /* at a row's end: marks of one row have one topic each */
            count = 0;
            continue;
        }
        uint64_t prev = last == from ? 0 : event.prev;
        events[count++] = (wire_event){event.type, mux, prev, event.tail};
        last = event.n;
        more = ring_next(&self->ring, &cursor, class->topic->id, from, &event);
    }
    return true;
}

void stream_join(streams *self, struct stream *stream, tw_vector at)
{
    TW_ASSERT(stream->state == STREAM_CATCHING);
    TW_ASSERT(stream->after >= stream->class->topic->applied);
    if (stream->after < self->head) {
        if (!ring_covers(&self->ring, stream->after) || self->at == NULL ||
            !send_from_ring(self, stream)) {
            return; /* read again from the cursor */
        }
        self->figures.joined_from_ring++;
        stream_move(self, stream, STREAM_LIVE);
        stream_sync(self, stream, shared_vector_view(self->at));
        return;
    }
    /* Positions move without rows too. A page that was read before such a move may come after this
     * gateway, or the stream, was told of it. */
    position_set most = {0};
    for (size_t i = 0; i < at.count && i < TW_ORIGINS_MAX; i++) {
        uint64_t srv = at.at[i].srv;
        uint64_t before = position_vector_get(shared_vector_view(stream->told), srv);
        uint64_t known = stream->after == self->head
                             ? position_vector_get(shared_vector_view(self->at), srv)
                             : 0;
        uint64_t seqno = at.at[i].seqno > before ? at.at[i].seqno : before;
        most.at[most.count++] = (tw_position){srv, seqno > known ? seqno : known};
    }
    at = position_set_view(&most);
    shared_vector *told = shared_vector_new(at);
    if (told == NULL) {
        streams_send(self, stream->conn, NULL); /* sheds the connection */
        return;
    }
    shared_vector_drop(&stream->told);
    stream->told = told;
    if (stream->after > self->head) {
        shared_vector_drop(&stream->since);
        stream_move(self, stream, STREAM_AHEAD);
    } else {
        if (self->at == NULL) {
            self->at = told;
            told->holders++;
        }
        stream_move(self, stream, STREAM_LIVE);
    }
    stream_sync(self, stream, at);
}

/* ---- batches ---- */

tw_str streams_type_text(tw_arena *arena, tw_str type)
{
    if (type.len == 0) {
        return TW_STR(""); /* events of change streams have none */
    }
    bool plain = true;
    for (size_t i = 0; i < type.len && plain; i++) {
        char c = type.ptr[i];
        plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                c == '_' || c == '-' || c == '.';
    }
    if (plain) {
        char *text = tw_arena_alloc(arena, type.len + 2);
        if (text == NULL) {
            return (tw_str){NULL, 0};
        }
        text[0] = '"';
        memcpy(text + 1, type.ptr, type.len);
        text[type.len + 1] = '"';
        return (tw_str){text, type.len + 2};
    }
    tw_buf buf;
    tw_buf_init(&buf, 6 * (size_t)TW_NAME_MAX + 2);
    tw_json_write_str(&buf, type);
    tw_str text = {NULL, 0};
    if (buf.err == TW_OK) {
        text = tw_arena_str(arena, tw_buf_str(&buf));
    }
    tw_buf_fini(&buf);
    return text;
}

/* A stream that was told everything up to head, and what comes next is not queued for it. */
static void fall_behind(streams *self, struct stream *stream, uint64_t after)
{
    stream_state was = stream->state;
    TW_ASSERT(was == STREAM_LIVE || was == STREAM_AHEAD);
    stream_move(self, stream, STREAM_CATCHING);
    stream->after = after;
    stream->w0 = 0;
    if (was == STREAM_LIVE) {
        stream->told = self->at;
        if (stream->told != NULL) {
            stream->told->holders++;
        }
    }
    self->figures.behind++;
    if (stream->class->topic->state != TOPIC_OPEN) {
        stream_move(self, stream, STREAM_WAITING);
    } else {
        stream_start(self, stream);
    }
}

void streams_forget_live(streams *self)
{
    struct stream *stream;
    while ((stream = TAILQ_FIRST(&self->syncs)) != NULL) {
        fall_behind(self, stream, self->head);
    }
    while ((stream = TAILQ_FIRST(&self->ahead)) != NULL) {
        fall_behind(self, stream, stream->after);
    }
    while ((stream = TAILQ_FIRST(&self->resting)) != NULL) {
        stream_wake(self, stream);
    }
}

void streams_gap(streams *self)
{
    TW_ASSERT(self->magic == STREAMS_MAGIC);
    self->figures.gaps += self->heard ? 1 : 0;
    self->heard = true;
    for (size_t i = 0; i < self->topics_by_id.cap; i++) {
        while (self->topics_by_id.buckets[i] != NULL) {
            struct topic *topic = TABLE_OWNER(struct topic, by_id, self->topics_by_id.buckets[i]);
            table_remove(&self->topics_by_id, &topic->by_id);
            topic->state = TOPIC_CLOSED;
            topic->retry_at_ms = 0;
            topic_enqueue(self, topic);
        }
    }
    struct topic *topic;
    TAILQ_FOREACH(topic, &self->opening, link)
    {
        topic->stale = true;
    }
    streams_forget_live(self);
    self->head_known = false;
    shared_vector_drop(&self->at);
    ring_restart(&self->ring, 0);
    topics_pump(self);
}

/* Lists what each topic gets of the batch. False: no memory. */
static bool collect_due(streams *self, tw_arena *arena, const tw_msg_topic_batch *batch,
                        touched_list *touched)
{
    for (size_t i = 0; i < batch->events.count; i++) {
        const tw_list_mark *marks = &batch->events.at[i].marks;
        for (size_t m = 0; m < marks->count; m++) {
            struct topic *topic = topic_by_id(self, marks->at[m].topic);
            if (topic == NULL || topic->streams_count == 0) {
                continue;
            }
            due_event *due = tw_arena_alloc(arena, sizeof(*due));
            if (due == NULL) {
                return false;
            }
            *due = (due_event){NULL, i, marks->at[m].prev};
            if (topic->due_first == NULL) {
                topic->due_first = due;
                STAILQ_INSERT_TAIL(touched, topic, touched);
            } else {
                topic->due_last->next = due;
            }
            topic->due_last = due;
        }
    }
    return true;
}

/* One event after the other of a topic, framed for a mux_id; rows up to `above` are left out. */
static tw_shared *frame_due(streams *self, const struct topic *topic, tw_str mux,
                            const tw_msg_topic_batch *batch, const tw_str *types, uint64_t above)
{
    size_t len = 0;
    for (int pass = 0; pass < 2; pass++) { /* measure, then write */
        tw_shared *frames = pass == 0 ? NULL : tw_shared_new(len);
        if (pass == 1 && frames == NULL) {
            return NULL;
        }
        char *to = frames == NULL ? NULL : frames->bytes;
        for (const due_event *due = topic->due_first; due != NULL; due = due->next) {
            const tw_item_event *event = &batch->events.at[due->index];
            if (event->n <= above) {
                continue;
            }
            wire_event framed = {types[due->index], mux, due->prev, event->tail};
            if (pass == 0) {
                len += wire_event_len(&framed);
            } else {
                to = wire_event_put(to, &framed);
                self->figures.frames++;
            }
        }
        if (pass == 1) {
            frames->len = len;
            return frames;
        }
    }
    return NULL;
}

/* What a processed topic's streams are to read. */
static void wake_topic(streams *self, struct topic *topic, const tw_msg_topic_batch *batch)
{
    stream_class *class;
    topic->due_n = batch->events.at[topic->due_last->index].n;
    LIST_FOREACH(class, &topic->classes, of_topic)
    {
        struct stream *next;
        for (struct stream *at = LIST_FIRST(&class->others); at != NULL; at = next) {
            next = LIST_NEXT(at, of_class);
            if (at->state == STREAM_RESTING) {
                stream_wake(self, at);
            }
        }
    }
}

static void deliver_class(streams *self, stream_class *class, const tw_msg_topic_batch *batch,
                          const tw_str *types)
{
    if (LIST_EMPTY(&class->live)) {
        return;
    }
    tw_str mux = {class->mux, class->mux_len};
    tw_shared *frames = frame_due(self, class->topic, mux, batch, types, 0);
    struct stream *stream = LIST_FIRST(&class->live);
    while (stream != NULL) {
        struct stream *next = LIST_NEXT(stream, of_class);
        if (frames == NULL || !streams_deliver(self, stream->conn, frames, frames->len, false)) {
            fall_behind(self, stream, self->head);
        }
        stream = next;
    }
    tw_shared_drop(&frames);
}

/* Streams that read further than the batches: events above their cursor, then they are live. */
static void deliver_ahead(streams *self, const tw_msg_topic_batch *batch, const tw_str *types)
{
    struct stream *stream = TAILQ_FIRST(&self->ahead);
    while (stream != NULL) {
        struct stream *next = TAILQ_NEXT(stream, turn);
        const stream_class *class = stream->class;
        const due_event *due = class->topic->due_last;
        if (due != NULL && batch->events.at[due->index].n > stream->after) {
            tw_str mux = {class->mux, class->mux_len};
            tw_shared *frames = frame_due(self, class->topic, mux, batch, types, stream->after);
            if (frames == NULL ||
                !streams_deliver(self, stream->conn, frames, frames->len, false)) {
                fall_behind(self, stream, stream->after);
            }
            tw_shared_drop(&frames);
        }
        if (stream->state == STREAM_AHEAD && batch->head >= stream->after) {
            stream_move(self, stream, STREAM_LIVE);
        }
        stream = next;
    }
}

static tw_str *texts_of_types(tw_arena *arena, const tw_msg_topic_batch *batch)
{
    tw_str *types = tw_arena_zero(arena, batch->events.count + 1, sizeof(*types));
    for (size_t i = 0; types != NULL && i < batch->events.count; i++) {
        bool same = i > 0 && tw_str_equal(batch->events.at[i].type, batch->events.at[i - 1].type);
        types[i] = same ? types[i - 1] : streams_type_text(arena, batch->events.at[i].type);
        if (types[i].ptr == NULL) {
            return NULL;
        }
    }
    return types;
}

static void move_head(streams *self, const tw_msg_topic_batch *batch, shared_vector *at)
{
    self->head = batch->head;
    shared_vector_drop(&self->at);
    self->at = at;
}

/* Order: a stream that falls behind stands at the old head, so head moves last. */
static void apply(streams *self, tw_arena *arena, const tw_msg_topic_batch *batch)
{
    touched_list touched = STAILQ_HEAD_INITIALIZER(touched);
    shared_vector *at = shared_vector_new(batch->at);
    tw_str *types = texts_of_types(arena, batch);
    if (at == NULL || types == NULL || !collect_due(self, arena, batch, &touched)) {
        shared_vector_drop(&at);
        streams_forget_live(self); /* as if the batch had been lost: it is read from the log */
        ring_restart(&self->ring, batch->head);
        self->head = batch->head;
        shared_vector_drop(&self->at);
    } else {
        ring_add(&self->ring, batch, types);
        struct topic *topic;
        STAILQ_FOREACH(topic, &touched, touched)
        {
            stream_class *class;
            if (topic->processed) {
                wake_topic(self, topic, batch);
                continue;
            }
            LIST_FOREACH(class, &topic->classes, of_topic)
            {
                deliver_class(self, class, batch, types);
            }
        }
        deliver_ahead(self, batch, types);
        move_head(self, batch, at);
    }
    struct topic *topic;
    STAILQ_FOREACH(topic, &touched, touched)
    {
        topic->due_first = NULL;
        topic->due_last = NULL;
    }
}

/* A source's position moved and nothing was written: the next sync of idle streams tells it. */
static void take_position(streams *self, const tw_msg_topic_batch *batch)
{
    tw_vector known = shared_vector_view(self->at);
    bool moved = known.count != batch->at.count;
    for (size_t i = 0; i < batch->at.count && !moved; i++) {
        moved = position_vector_get(known, batch->at.at[i].srv) < batch->at.at[i].seqno;
    }
    shared_vector *at = moved ? shared_vector_new(batch->at) : NULL;
    if (at != NULL) {
        shared_vector_drop(&self->at);
        self->at = at;
    }
}

void streams_batch(streams *self, tw_arena *arena, const tw_msg_topic_batch *batch)
{
    TW_ASSERT(self->magic == STREAMS_MAGIC);
    if (!self->head_known) {
        self->head_known = true;
        self->head = batch->prev_head;
        ring_restart(&self->ring, self->head);
    }
    if (batch->head == self->head && batch->events.count == 0 && self->at != NULL) {
        take_position(self, batch);
    }
    if (batch->head <= self->head) {
        return; /* told before */
    }
    if (batch->prev_head != self->head) {
        self->figures.gaps++;
        streams_forget_live(self);
        shared_vector_drop(&self->at);
        self->head = batch->prev_head;
        ring_restart(&self->ring, self->head);
        if (batch->prev_head > batch->head) {
            return; /* no batch says so; not to be built upon */
        }
    }
    apply(self, arena, batch);
    streams_pump(self);
}

/* ---- messages that are not stored ---- */

static void dispatch_to(streams *self, struct stream *first, bool live, tw_shared *frame)
{
    for (struct stream *at = first; at != NULL; at = LIST_NEXT(at, of_class)) {
        TW_ASSERT((at->state == STREAM_LIVE) == live);
        (void)streams_deliver(self, at->conn, frame, frame->len, false); /* no room: it is lost */
    }
}

void streams_dispatched(streams *self, const tw_msg_topic_dispatch *dispatch)
{
    TW_ASSERT(self->magic == STREAMS_MAGIC);
    for (size_t i = 0; i < dispatch->topics.count; i++) {
        const struct topic *topic = topic_by_id(self, dispatch->topics.at[i].id);
        const stream_class *class = topic == NULL ? NULL : LIST_FIRST(&topic->classes);
        for (; class != NULL; class = LIST_NEXT(class, of_topic)) {
            const wire_event event = {.type = TW_STR("\"dispatch\""),
                                      .mux_id = {class->mux, class->mux_len},
                                      .tail = dispatch->tail};
            tw_shared *frame = tw_shared_new(wire_event_len(&event));
            if (frame == NULL) {
                return; /* nothing depends on it */
            }
            frame->len = (size_t)(wire_event_put(frame->bytes, &event) - frame->bytes);
            self->figures.frames++;
            dispatch_to(self, LIST_FIRST(&class->live), true, frame);
            dispatch_to(self, LIST_FIRST(&class->others), false, frame);
            tw_shared_drop(&frame);
        }
    }
}
