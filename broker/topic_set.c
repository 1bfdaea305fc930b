/* topic_set.c - all open topics, who holds them, and what a row means to them.
 *
 * Invariants
 * 1. A topic stands in by_canonical, in by_id and with each part in the index, or in none of them.
 * 2. A topic has at least one hold; the last one that goes takes it along.
 * 3. A rendering is shared by all parts that tell a change by the same bytes; it counts them. */
#include "broker/topic_set.h"

#include "protocol/limits.h"

#include "broker/topic_index.h"

enum {
    TOPIC_SET_MAGIC = 0x705e7001,
    MEANINGS = TW_MEANS_DROP + 1,
    TOPIC_SET_MARK_BYTES = 19,  /* two numbers in msgpack, at most */
    TOPIC_SET_EVENT_BYTES = 64, /* what stands around a tail */
};

typedef struct topic topic;
typedef struct hold hold;

/* What parts with the same bytes have in common, and the event of the row at hand. */
typedef struct rendering {
    hash_link link;
    size_t parts;
    uint64_t row[MEANINGS];        /* the row that the two below are about */
    size_t marks_count[MEANINGS];  /* topics of that row */
    tw_item_mark *marks[MEANINGS]; /* view: the event's; NULL until it is rendered */
    size_t bytes_len;
    char bytes[]; /* by topic_query_name_rendering */
} rendering;

typedef struct gateway {
    hash_link link;
    uint64_t id;
    uint64_t heard_ms;
    hold *holds;
} gateway;

struct hold {
    topic *topic;
    gateway *gateway;
    uint64_t kept_in; /* the keep that named it last */
    hold *next_of_topic;
    hold *next_of_gateway;
    hold *prev_of_gateway;
};

struct topic {
    hash_link by_canonical;
    hash_link by_id;
    uint64_t id;
    topic_query *query; /* own */
    hold *holds;
    tw_position *last; /* own; the last event of each origin */
    size_t last_count;
    topic_index_member members[]; /* one for each part */
};

typedef struct match {
    topic_index_member *member;
    unsigned meaning;
} match;

struct topic_set {
    uint32_t magic;
    const catalog *catalog;
    size_t topics_max;
    uint64_t seed;
    uint64_t next_id;
    uint64_t now_ms;
    uint64_t keeps;
    uint64_t rows;
    hash_table by_canonical;
    hash_table by_id;
    hash_table gateways;
    hash_table renderings;
    topic_index index;
    match *matches; /* own; of the row at hand */
    size_t matches_count;
    size_t matches_cap;
    const tw_item_log_row *row; /* at hand */
    tw_buf tail;
    topic_set_stats stats;
};

/* ---- life ---- */

tw_err topic_set_new(topic_set **out, const catalog *known, size_t topics_max)
{
    uint8_t chance[2][12];
    TW_ASSERT(known != NULL && known->magic == CATALOG_MAGIC);
    TW_ASSERT(topics_max > 0 && topics_max <= TW_TOPICS_MAX);
    *out = NULL;
    topic_set *self = tw_alloc_zero(1, sizeof *self);
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    tw_oid_new(chance[0]); /* random bytes of the process, and a count */
    tw_oid_new(chance[1]);
    self->magic = TOPIC_SET_MAGIC;
    self->catalog = known;
    self->topics_max = topics_max;
    self->seed = tw_hash(chance, sizeof chance, (uintptr_t)self);
    self->next_id = (tw_hash(chance, sizeof chance, self->seed) >> 12) + 1; /* far from the end */
    tw_buf_init(&self->tail, TW_ACTOR_MESSAGE_MAX);
    if (hash_table_init(&self->by_canonical) != TW_OK || hash_table_init(&self->by_id) != TW_OK ||
        hash_table_init(&self->gateways) != TW_OK || hash_table_init(&self->renderings) != TW_OK ||
        topic_index_init(&self->index, self->seed + 1) != TW_OK) {
        topic_set_free(&self);
        return TW_E_NO_MEMORY;
    }
    *out = self;
    return TW_OK;
}

static void drop_hold(topic_set *self, hold *gone);

static gateway *any_gateway(const topic_set *self)
{
    for (size_t i = 0; self->gateways.heads != NULL && i <= self->gateways.mask; i++) {
        if (self->gateways.heads[i] != NULL) {
            return self->gateways.heads[i]->owner;
        }
    }
    return NULL;
}

static void leave_all(topic_set *self, gateway *from)
{
    while (from->holds != NULL) {
        drop_hold(self, from->holds);
    }
    hash_table_remove(&self->gateways, &from->link);
    tw_free(from);
}

void topic_set_free(topic_set **set)
{
    topic_set *self;
    TW_ASSERT(set != NULL);
    if (*set == NULL) {
        return;
    }
    TW_CAST(self, *set, TOPIC_SET_MAGIC);
    for (gateway *at = any_gateway(self); at != NULL; at = any_gateway(self)) {
        leave_all(self, at);
    }
    topic_index_fini(&self->index);
    hash_table_fini(&self->by_canonical);
    hash_table_fini(&self->by_id);
    hash_table_fini(&self->gateways);
    hash_table_fini(&self->renderings);
    tw_buf_fini(&self->tail);
    tw_free(self->matches);
    self->magic = 0;
    tw_free(self);
    *set = NULL;
}

void topic_set_clock(topic_set *self, uint64_t now_ms)
{
    TW_ASSERT(self != NULL && self->magic == TOPIC_SET_MAGIC);
    self->now_ms = now_ms;
}

topic_set_stats topic_set_figures(const topic_set *self)
{
    TW_ASSERT(self != NULL && self->magic == TOPIC_SET_MAGIC);
    topic_set_stats stats = self->stats;
    stats.topics = self->by_id.count;
    return stats;
}

/* ---- renderings ---- */

static rendering *join_rendering(topic_set *self, const topic_query_part *part)
{
    topic_query_name_rendering(part, &self->tail);
    if (self->tail.err != TW_OK) {
        return NULL;
    }
    tw_str bytes = tw_buf_str(&self->tail);
    uint64_t hash = tw_hash(bytes.ptr, bytes.len, self->seed);
    TW_ASSERT(bytes.len > 0);
    hash_link *link = hash_table_first(&self->renderings, hash);
    for (; link != NULL; link = hash_table_next(link)) {
        rendering *found = link->owner;
        if (tw_str_equal((tw_str){found->bytes, found->bytes_len}, bytes)) {
            found->parts++;
            return found;
        }
    }
    rendering *made = tw_alloc_zero(1, sizeof *made + bytes.len);
    if (made == NULL) {
        return NULL;
    }
    made->parts = 1;
    made->bytes_len = bytes.len;
    memcpy(made->bytes, bytes.ptr, bytes.len);
    hash_table_add(&self->renderings, &made->link, hash, made);
    return made;
}

static void leave_rendering(topic_set *self, rendering *from)
{
    TW_ASSERT(from->parts > 0);
    if (--from->parts == 0) {
        hash_table_remove(&self->renderings, &from->link);
        tw_free(from);
    }
}

/* ---- topics ---- */

static uint64_t hash_id(const topic_set *self, uint64_t id)
{
    return tw_hash(&id, sizeof id, self->seed);
}

static void leave_parts(topic_set *self, topic *from)
{
    TW_ASSERT(from->query != NULL);
    for (size_t i = 0; i < from->query->parts_count; i++) {
        topic_index_member *member = &from->members[i];
        if (member->collection != NULL) {
            topic_index_remove(&self->index, member);
        }
        if (member->rendering != NULL) {
            leave_rendering(self, member->rendering);
        }
    }
}

static void free_topic(topic_set *self, topic *gone)
{
    TW_ASSERT(gone->holds == NULL);
    leave_parts(self, gone);
    topic_query_free(&gone->query);
    tw_free(gone->last);
    tw_free(gone);
}

static tw_err make_topic(topic_set *self, tw_bson canonical, uint64_t hash, topic **out,
                         broker_why *why)
{
    topic_query *compiled = NULL;
    TW_ASSERT(out != NULL);
    if (self->by_id.count >= self->topics_max) {
        return broker_refuse(why, TW_E_BUSY, "over %zu topics are open", self->topics_max);
    }
    tw_err err = topic_query_compile(self->catalog, canonical, &compiled, why);
    if (err != TW_OK) {
        return err;
    }
    topic *made =
        tw_alloc_zero(1, sizeof *made + compiled->parts_count * sizeof(topic_index_member));
    if (made == NULL) {
        topic_query_free(&compiled);
        return TW_E_NO_MEMORY;
    }
    made->query = compiled;
    for (size_t i = 0; i < compiled->parts_count && err == TW_OK; i++) {
        topic_index_member *member = &made->members[i];
        member->topic = made;
        member->part = &compiled->parts[i];
        member->part_index = (int)i;
        member->rendering = join_rendering(self, member->part);
        err = member->rendering == NULL ? TW_E_NO_MEMORY : topic_index_add(&self->index, member);
    }
    if (err != TW_OK) {
        free_topic(self, made);
        return err;
    }
    made->id = self->next_id++;
    hash_table_add(&self->by_canonical, &made->by_canonical, hash, made);
    hash_table_add(&self->by_id, &made->by_id, hash_id(self, made->id), made);
    *out = made;
    return TW_OK;
}

static topic *find_equal(const topic_set *self, tw_bson canonical, uint64_t hash)
{
    TW_ASSERT(canonical.len > 0);
    hash_link *link = hash_table_first(&self->by_canonical, hash);
    for (; link != NULL; link = hash_table_next(link)) {
        topic *found = link->owner;
        if (found->query->canonical.len == canonical.len &&
            memcmp(found->query->canonical.ptr, canonical.ptr, canonical.len) == 0) {
            return found;
        }
    }
    return NULL;
}

static topic *find_by_id(const topic_set *self, uint64_t id)
{
    hash_link *link = hash_table_first(&self->by_id, hash_id(self, id));
    for (; link != NULL; link = hash_table_next(link)) {
        topic *found = link->owner;
        TW_ASSERT(found->query != NULL);
        if (found->id == id) {
            return found;
        }
    }
    return NULL;
}

/* ---- gateways and their holds ---- */

static gateway *find_gateway(const topic_set *self, uint64_t id)
{
    hash_link *link = hash_table_first(&self->gateways, hash_id(self, id));
    for (; link != NULL; link = hash_table_next(link)) {
        gateway *found = link->owner;
        if (found->id == id) {
            return found;
        }
    }
    return NULL;
}

static gateway *meet_gateway(topic_set *self, uint64_t id)
{
    gateway *met = find_gateway(self, id);
    if (met == NULL) {
        met = tw_alloc_zero(1, sizeof *met);
        if (met == NULL) {
            return NULL;
        }
        met->id = id;
        hash_table_add(&self->gateways, &met->link, hash_id(self, id), met);
    }
    TW_ASSERT(met->id == id);
    met->heard_ms = self->now_ms;
    return met;
}

static hold *find_hold(const topic *held, const gateway *by)
{
    TW_ASSERT(by != NULL);
    for (hold *at = held->holds; at != NULL; at = at->next_of_topic) {
        if (at->gateway == by) {
            return at;
        }
    }
    return NULL;
}

static tw_err make_hold(topic *held, gateway *by)
{
    if (find_hold(held, by) != NULL) {
        return TW_OK;
    }
    hold *made = tw_alloc_zero(1, sizeof *made);
    if (made == NULL) {
        return TW_E_NO_MEMORY;
    }
    made->topic = held;
    made->gateway = by;
    made->next_of_topic = held->holds;
    held->holds = made;
    made->next_of_gateway = by->holds;
    if (by->holds != NULL) {
        by->holds->prev_of_gateway = made;
    }
    by->holds = made;
    TW_ASSERT(find_hold(held, by) == made);
    return TW_OK;
}

/* Ends a hold, and the topic with its last one. */
static void drop_hold(topic_set *self, hold *gone)
{
    topic *held = gone->topic;
    hold **at = &held->holds;
    while (*at != gone) {
        TW_ASSERT(*at != NULL);
        at = &(*at)->next_of_topic;
    }
    *at = gone->next_of_topic;
    if (gone->prev_of_gateway != NULL) {
        gone->prev_of_gateway->next_of_gateway = gone->next_of_gateway;
    } else {
        TW_ASSERT(gone->gateway->holds == gone);
        gone->gateway->holds = gone->next_of_gateway;
    }
    if (gone->next_of_gateway != NULL) {
        gone->next_of_gateway->prev_of_gateway = gone->prev_of_gateway;
    }
    tw_free(gone);
    if (held->holds == NULL) {
        hash_table_remove(&self->by_canonical, &held->by_canonical);
        hash_table_remove(&self->by_id, &held->by_id);
        free_topic(self, held);
    }
}

tw_err topic_set_open(topic_set *self, uint64_t gateway_id, tw_bson canonical, uint64_t *out,
                      broker_why *why)
{
    TW_ASSERT(self != NULL && self->magic == TOPIC_SET_MAGIC);
    TW_ASSERT(out != NULL);
    if (canonical.len == 0) {
        return broker_refuse(why, TW_E_BAD_QUERY, "the topic query is empty");
    }
    gateway *by = meet_gateway(self, gateway_id);
    if (by == NULL) {
        return TW_E_NO_MEMORY;
    }
    uint64_t hash = tw_hash(canonical.ptr, canonical.len, self->seed);
    topic *held = find_equal(self, canonical, hash);
    if (held == NULL) {
        tw_err err = make_topic(self, canonical, hash, &held, why);
        if (err != TW_OK) {
            return err;
        }
    }
    tw_err err = make_hold(held, by);
    if (err != TW_OK && held->holds == NULL) {
        hash_table_remove(&self->by_canonical, &held->by_canonical);
        hash_table_remove(&self->by_id, &held->by_id);
        free_topic(self, held);
        return err;
    }
    *out = held->id;
    return err;
}

void topic_set_keep(topic_set *self, uint64_t gateway_id, const uint64_t *topics, size_t count)
{
    TW_ASSERT(self != NULL && self->magic == TOPIC_SET_MAGIC);
    TW_ASSERT(topics != NULL || count == 0);
    gateway *by = find_gateway(self, gateway_id);
    if (by == NULL) {
        return; /* it has nothing here; what it believes to have it must open again */
    }
    by->heard_ms = self->now_ms;
    self->keeps++;
    for (size_t i = 0; i < count; i++) {
        topic *held = find_by_id(self, topics[i]);
        hold *kept = held == NULL ? NULL : find_hold(held, by);
        if (kept != NULL) {
            kept->kept_in = self->keeps;
        }
    }
    hold *next;
    for (hold *at = by->holds; at != NULL; at = next) {
        next = at->next_of_gateway;
        if (at->kept_in != self->keeps) {
            drop_hold(self, at);
        }
    }
}

void topic_set_expire(topic_set *self, uint64_t before_ms)
{
    TW_ASSERT(self != NULL && self->magic == TOPIC_SET_MAGIC);
    TW_ASSERT(self->gateways.heads != NULL);
    for (size_t i = 0; i <= self->gateways.mask; i++) {
        hash_link *next;
        for (hash_link *link = self->gateways.heads[i]; link != NULL; link = next) {
            gateway *at = link->owner;
            next = link->next;
            if (at->heard_ms < before_ms) {
                leave_all(self, at);
            }
        }
    }
}

/* ---- rows ---- */

static tw_err test_member(void *context, topic_index_member *member)
{
    topic_set *self = context;
    const topic *of = member->topic;
    const tw_item_log_row *row = self->row;
    TW_ASSERT(row != NULL);
    if (member->part->any &&
        topic_query_part_of(of->query, row->db, row->coll) != member->part_index) {
        return TW_OK; /* a declared collection: told by a part of its own, or nobody's to read */
    }
    self->stats.tested++;
    tw_position at = {row->srv, row->seqno};
    unsigned meaning = topic_query_meaning(of->query, member->part_index, row->flags, row->doc,
                                           row->old, at, true);
    for (size_t i = 0; meaning == 0 && i < row->past.count; i++) { /* rule 3 of log_cursor.h */
        meaning = topic_query_meaning(of->query, member->part_index, row->flags, row->doc,
                                      row->past.at[i].doc, at, true);
    }
    if (meaning == 0) {
        return TW_OK;
    }
    TW_ASSERT(meaning < MEANINGS);
    if (self->matches_count == self->matches_cap) {
        size_t cap = self->matches_cap == 0 ? 64 : self->matches_cap * 2;
        match *grown = tw_realloc(self->matches, cap * sizeof *grown);
        if (grown == NULL) {
            return TW_E_NO_MEMORY;
        }
        self->matches = grown;
        self->matches_cap = cap;
    }
    self->matches[self->matches_count++] = (match){.member = member, .meaning = meaning};
    return TW_OK;
}

/* Counts the topics of each rendering and meaning; marks the groups as not yet rendered. */
static size_t count_groups(topic_set *self)
{
    size_t groups = 0;
    TW_ASSERT(self->matches_count <= self->matches_cap);
    self->rows++;
    for (size_t i = 0; i < self->matches_count; i++) {
        rendering *group = self->matches[i].member->rendering;
        unsigned meaning = self->matches[i].meaning;
        if (group->row[meaning] != self->rows) {
            group->row[meaning] = self->rows;
            group->marks_count[meaning] = 0;
            group->marks[meaning] = NULL;
            groups++;
        }
        group->marks_count[meaning]++;
    }
    return groups;
}

static bool make_room(tw_arena *arena, topic_set_events *events, size_t more)
{
    TW_ASSERT(events->count <= events->cap);
    if (events->cap - events->count >= more) {
        return true;
    }
    size_t cap = events->cap * 2 + more + 16;
    tw_item_event *grown = tw_arena_alloc(arena, cap * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    if (events->count > 0) {
        memcpy(grown, events->at, events->count * sizeof *grown);
    }
    events->at = grown;
    events->cap = cap;
    return true;
}

/* Renders what all topics of a group are told, with room for their marks. */
static tw_err render_group(topic_set *self, tw_arena *arena, const match *first,
                           topic_set_events *events)
{
    const tw_item_log_row *row = self->row;
    rendering *group = first->member->rendering;
    TW_ASSERT(events->count < events->cap);
    TW_ASSERT(group->marks_count[first->meaning] > 0);
    topic_change change = {.at = {row->srv, row->seqno}, .flags = row->flags, .key = row->key};
    change.version = row->version;
    change.doc = first->meaning == TW_MEANS_PUT ? row->doc : (tw_bson){0};
    change.db = row->db;
    change.coll = row->coll;
    change.prev = row->prev;
    change.old = row->old;
    change.old_told = true; /* live, each version is told */
    change.origin = row->origin;
    tw_buf_clear(&self->tail);
    topic_query_render(self->catalog, first->member->part, first->meaning, &change, &self->tail);
    if (self->tail.err != TW_OK) {
        return self->tail.err;
    }
    tw_str tail = tw_arena_str(arena, tw_buf_str(&self->tail));
    size_t marks = group->marks_count[first->meaning];
    tw_item_mark *room = tw_arena_alloc(arena, marks * sizeof *room);
    if (tail.ptr == NULL || room == NULL) {
        return TW_E_NO_MEMORY;
    }
    group->marks[first->meaning] = room;
    group->marks_count[first->meaning] = 0; /* counts anew as they are written */
    events->at[events->count++] = (tw_item_event){
        .n = row->n,
        .srv = row->srv,
        .seqno = row->seqno,
        .type = topic_query_type(first->member->part, first->meaning),
        .tail = tail,
        .marks = {room, marks},
    };
    events->bytes += tail.len + marks * TOPIC_SET_MARK_BYTES + TOPIC_SET_EVENT_BYTES;
    return TW_OK;
}

/* The topic's event before this one, of the same origin; remembers this one. Without memory to
 * remember it the next event says "none known". */
static uint64_t step_last(topic *of, tw_position at)
{
    TW_ASSERT(at.seqno > 0);
    for (size_t i = 0; i < of->last_count; i++) {
        if (of->last[i].srv == at.srv) {
            uint64_t before = of->last[i].seqno;
            of->last[i].seqno = at.seqno;
            return before;
        }
    }
    if (of->last_count < TW_ORIGINS_MAX) {
        tw_position *grown = tw_realloc(of->last, (of->last_count + 1) * sizeof *grown);
        if (grown != NULL) {
            of->last = grown;
            of->last[of->last_count++] = at;
        }
    }
    return 0;
}

/* Renders each group once and marks its topics. */
static tw_err tell_groups(topic_set *self, tw_arena *arena, topic_set_events *events)
{
    TW_ASSERT(self->row != NULL);
    size_t before = events->count;
    size_t bytes = events->bytes;
    size_t groups = count_groups(self);
    if (!make_room(arena, events, groups)) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < self->matches_count; i++) {
        const match *at = &self->matches[i];
        rendering *group = at->member->rendering;
        if (group->marks[at->meaning] == NULL) {
            tw_err err = render_group(self, arena, at, events);
            if (err != TW_OK) {
                events->count = before;
                events->bytes = bytes;
                return err;
            }
        }
    }
    tw_position position = {self->row->srv, self->row->seqno};
    for (size_t i = 0; i < self->matches_count; i++) { /* nothing can fail from here */
        const match *at = &self->matches[i];
        rendering *group = at->member->rendering;
        topic *of = at->member->topic;
        tw_item_mark *mark = &group->marks[at->meaning][group->marks_count[at->meaning]++];
        *mark = (tw_item_mark){.topic = of->id, .prev = step_last(of, position)};
    }
    TW_ASSERT(events->count == before + groups);
    return TW_OK;
}

tw_err topic_set_apply(topic_set *self, tw_arena *arena, const tw_item_log_row *row,
                       topic_set_events *events)
{
    TW_ASSERT(self != NULL && self->magic == TOPIC_SET_MAGIC);
    TW_ASSERT(row != NULL && events != NULL);
    if ((row->flags & TW_ROW_SILENT) != 0 || row->db.len == 0 || row->coll.len == 0) {
        return TW_OK;
    }
    self->row = row;
    self->matches_count = 0;
    tw_err err;
    bool has_past = row->past.count > 0; /* any of them may have had what a topic asks for */
    if ((row->flags & TW_ROW_DROP) != 0 || has_past) {
        err = topic_index_all(&self->index, row->db, row->coll, test_member, self);
    } else {
        err = topic_index_find(&self->index, row->db, row->coll, row->doc, row->old, test_member,
                               self);
    }
    self->stats.matched += self->matches_count;
    if (err == TW_OK && self->matches_count > 0) {
        err = tell_groups(self, arena, events);
    }
    self->row = NULL;
    return err;
}

/* ---- followers ---- */

typedef struct followers {
    tw_arena *arena;
    tw_item_one_id *at;
    size_t count, cap;
} followers;

static tw_err add_follower(void *context, topic_index_member *member)
{
    followers *self = context;
    if (member->part->form != TOPIC_RECORDS) {
        return TW_OK;
    }
    if (self->count == self->cap) {
        size_t cap = self->cap == 0 ? 64 : self->cap * 2;
        tw_item_one_id *grown = tw_arena_alloc(self->arena, cap * sizeof *grown);
        if (grown == NULL) {
            return TW_E_NO_MEMORY;
        }
        if (self->count > 0) {
            memcpy(grown, self->at, self->count * sizeof *grown);
        }
        self->at = grown;
        self->cap = cap;
    }
    const topic *of = member->topic;
    self->at[self->count++].id = of->id;
    return TW_OK;
}

tw_err topic_set_followers(topic_set *self, tw_arena *arena, tw_str db, tw_str coll,
                           tw_list_one_id *out)
{
    TW_ASSERT(self != NULL && self->magic == TOPIC_SET_MAGIC);
    TW_ASSERT(db.len > 0 && coll.len > 0);
    followers found = {.arena = arena};
    tw_err err = topic_index_all(&self->index, db, coll, add_follower, &found);
    *out = (tw_list_one_id){found.at, err == TW_OK ? found.count : 0};
    return err;
}
