/* topic_index.c - collections, their paths, and what a look-up visits.
 *
 * Of what a filter demands the cheapest is taken as its address, by what the index holds when the
 * topic is opened: an equality whose bucket is nearly empty first, then texts and closed ranges,
 * then open ranges, sizes and nulls, types and "something stands there" last. A filter may have
 * several entries ($in, $or); the part is told once.
 * A look-up walks each path once and holds each value against all that stands under the path. */
#include "broker/path.h"
#include "broker/topic_index_priv.h"

tw_err topic_index_init(topic_index *self, uint64_t seed)
{
    TW_ASSERT(self != NULL);
    *self = (topic_index){.seed = seed};
    tw_arena_init(&self->scratch, 64 << 20);
    return hash_table_init(&self->collections);
}

void topic_index_fini(topic_index *self)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(self->collections.count == 0);
    hash_table_fini(&self->collections);
    tw_arena_fini(&self->scratch);
}

/* ---- collections ---- */

static uint64_t hash_names(const topic_index *self, tw_str db, tw_str coll)
{
    return tw_hash(coll.ptr, coll.len, tw_hash(db.ptr, db.len, self->seed));
}

static topic_index_collection *find_collection(const topic_index *self, tw_str db, tw_str coll)
{
    TW_ASSERT((db.len > 0) == (coll.len > 0)); /* both empty: parts of any collection */
    hash_link *link = hash_table_first(&self->collections, hash_names(self, db, coll));
    for (; link != NULL; link = hash_table_next(link)) {
        topic_index_collection *found = link->owner;
        if (found->name_len == db.len + 1 + coll.len && memcmp(found->name, db.ptr, db.len) == 0 &&
            memcmp(found->name + db.len + 1, coll.ptr, coll.len) == 0) {
            return found;
        }
    }
    return NULL;
}

static topic_index_collection *make_collection(topic_index *self, tw_str db, tw_str coll)
{
    TW_ASSERT(db.len <= TW_NAME_MAX && coll.len <= TW_NAME_MAX);
    topic_index_collection *made = tw_alloc_zero(1, sizeof *made);
    char *name = tw_alloc(db.len + 1 + coll.len);
    if (made == NULL || name == NULL || hash_table_init(&made->buckets) != TW_OK ||
        hash_table_init(&made->vetoes) != TW_OK) {
        if (made != NULL) {
            hash_table_fini(&made->buckets);
        }
        tw_free(made);
        tw_free(name);
        return NULL;
    }
    memcpy(name, db.ptr, db.len);
    name[db.len] = '\0';
    memcpy(name + db.len + 1, coll.ptr, coll.len);
    made->chance = (uint32_t)self->seed | 1;
    made->name = name;
    made->name_len = db.len + 1 + coll.len;
    hash_table_add(&self->collections, &made->link, hash_names(self, db, coll), made);
    return made;
}

static void free_collection_if_empty(topic_index *self, topic_index_collection *collection)
{
    if (collection->all != NULL) {
        return;
    }
    TW_ASSERT(collection->buckets.count == 0);
    TW_ASSERT(collection->scanned_count == 0 && collection->paths_count == 0);
    hash_table_remove(&self->collections, &collection->link);
    hash_table_fini(&collection->buckets);
    hash_table_fini(&collection->vetoes);
    tw_free(collection->scanned);
    tw_free(collection->screens);
    tw_free(collection->left);
    tw_free(collection->left_before);
    tw_free(collection->paths);
    tw_free(collection->name);
    tw_free(collection);
}

/* ---- paths ---- */

/* The entry of a path, or paths_count. */
static uint32_t find_path(const topic_index_collection *collection, tw_str path)
{
    TW_ASSERT(collection->paths_count <= TW_TOPIC_PATHS_MAX);
    for (uint32_t i = 0; i < collection->paths_count; i++) {
        const index_path *entry = &collection->paths[i];
        if (entry->name != NULL && tw_str_equal((tw_str){entry->name, entry->len}, path)) {
            return i;
        }
    }
    return collection->paths_count;
}

/* One that is free, or paths_count. */
static uint32_t free_path(const topic_index_collection *collection)
{
    uint32_t at = 0;
    while (at < collection->paths_count && collection->paths[at].name != NULL) {
        at++;
    }
    return at;
}

tw_err index_make_path(topic_index *index, topic_index_collection *collection, tw_str path,
                       uint16_t *out)
{
    uint32_t at = find_path(collection, path);
    if (at < collection->paths_count) {
        *out = (uint16_t)at;
        return TW_OK;
    }
    at = free_path(collection);
    if (at == TW_TOPIC_PATHS_MAX) {
        return TW_E_BUSY;
    }
    if (at == collection->paths_cap) {
        uint32_t cap = collection->paths_cap == 0 ? 2 : collection->paths_cap * 2;
        index_path *grown = tw_realloc(collection->paths, cap * sizeof *grown);
        if (grown == NULL) {
            return TW_E_NO_MEMORY;
        }
        collection->paths = grown;
        collection->paths_cap = cap;
    }
    char *name = tw_alloc(path.len + 1);
    if (name == NULL) {
        return TW_E_NO_MEMORY;
    }
    if (path.len > 0) {
        memcpy(name, path.ptr, path.len);
    }
    index_path *made = &collection->paths[at];
    *made = (index_path){.name = name, .len = path.len};
    made->has_rest = path_cut((tw_str){name, path.len}, &made->head, &made->rest);
    made->seed = tw_hash(&at, sizeof at, index->seed);
    collection->paths_count += at == collection->paths_count ? 1 : 0;
    *out = (uint16_t)at;
    return TW_OK;
}

void index_count(index_path *path, const topic_index_entry *entry, int by)
{
    TW_ASSERT(entry->kind < INDEX_KINDS);
    uint32_t more = (uint32_t)by; /* adding it takes one away where by is -1 */
    path->entries += more;
    path->of_kind[entry->kind] += more;
    if (entry->kind == QUERY_NEED_RANGE) {
        path->of_bracket[entry->bracket] += more;
    }
    if (entry->kind == QUERY_NEED_TEXT) {
        path->of_gram[entry->gram] += more;
    }
}

void index_leave_path(topic_index_collection *collection, uint16_t at)
{
    index_path *path = &collection->paths[at];
    TW_ASSERT(path->name != NULL);
    if (path->entries > 0) {
        return;
    }
    TW_ASSERT(path->buckets == 0);
    tw_free(path->grams);
    tw_free(path->column);
    tw_free(path->name);
    *path = (index_path){0};
    while (collection->paths_count > 0 &&
           collection->paths[collection->paths_count - 1].name == NULL) {
        collection->paths_count--;
    }
}

/* ---- members ---- */

uint64_t index_hash_need(const index_path *path, const query_need *need)
{
    TW_ASSERT(need->kind != QUERY_NEED_VALUE && need->kind != QUERY_NEED_RANGE);
    if (need->kind == QUERY_NEED_SIZE) {
        return index_hash(path, need->kind, &need->size, sizeof need->size);
    }
    if (need->kind == QUERY_NEED_ABSENT && need->value.type != 0) {
        uint8_t bracket = (uint8_t)index_bracket_of(need->value.type);
        return index_hash(path, need->kind, &bracket, sizeof bracket);
    }
    size_t len = need->kind == QUERY_NEED_TYPE ? sizeof need->type : 0;
    return index_hash(path, need->kind, &need->type, len);
}

typedef struct estimate {
    topic_index *index;
    const topic_index_collection *collection;
} estimate;

static size_t bucket_members(const topic_index_collection *collection, uint32_t path, uint64_t hash)
{
    const index_bucket *bucket = index_find_bucket(collection, (uint16_t)path, hash);
    return bucket == NULL ? 0 : bucket->members;
}

/* Entries that a look-up is expected to visit, times 4096; less where a path has more values. */
static size_t cost_of(void *context, const query_need *need)
{
    enum { UNIT = 4096, TEXT = 8, CLOSED = 8, OPEN = 16, FEW = 32, MANY = 64 };
    const estimate *self = context;
    const topic_index_collection *collection = self->collection;
    uint32_t at = find_path(collection, need->path);
    bool stands = at < collection->paths_count;
    if (!stands && free_path(collection) == TW_TOPIC_PATHS_MAX) {
        return SIZE_MAX;
    }
    const index_path unknown = {0};
    const index_path *path = stands ? &collection->paths[at] : &unknown;
    uint64_t hash = 0;
    size_t members = 0;
    uint8_t where;
    tw_err err = TW_OK;
    bool is_null = need->value.type == TW_BSON_NULL;
    switch (need->kind) {
    case QUERY_NEED_VALUE:
        if (!index_hash_value(&self->index->scratch, path, need->value, &hash, &err)) {
            return SIZE_MAX;
        }
        members = stands ? bucket_members(collection, at, hash) : 0;
        return (members + (is_null ? FEW : 0)) * UNIT + UNIT / (path->buckets + 1);
    case QUERY_NEED_RANGE:
        members = path->of_kind[QUERY_NEED_RANGE];
        return need->low.type != 0 && need->high.type != 0 ? (CLOSED + members / 16) * UNIT
                                                           : (OPEN + members / 2) * UNIT;
    case QUERY_NEED_TEXT:
        if (stands) {
            (void)index_rarest_gram(collection, (uint16_t)at, path, need->literal, &where,
                                    &members);
        }
        return (TEXT + members) * UNIT;
    case QUERY_NEED_SIZE:
    case QUERY_NEED_NESTED:
    case QUERY_NEED_TYPE:
    case QUERY_NEED_SOME:
    case QUERY_NEED_ABSENT:
    case QUERY_NEED_KINDS:
        break;
    }
    members = stands ? bucket_members(collection, at, index_hash_need(path, need)) : 0;
    return (members + (need->kind == QUERY_NEED_SIZE ? FEW : MANY)) * UNIT;
}

static tw_err join_need(topic_index *self, topic_index_collection *collection,
                        topic_index_member *member, const query_need *need)
{
    uint16_t path;
    uint64_t hash;
    topic_index_entry *entry = NULL;
    tw_err err = index_make_path(self, collection, need->path, &path);
    if (err != TW_OK) {
        return err;
    }
    const index_path *at = &collection->paths[path];
    if (need->kind == QUERY_NEED_RANGE) {
        entry = index_join_range(self, collection, path, need);
    } else if (need->kind == QUERY_NEED_TEXT) {
        entry = index_join_text(collection, path, need);
    } else if (need->kind != QUERY_NEED_VALUE) {
        entry = index_join_bucket(collection, path, need, index_hash_need(at, need));
    } else if (index_hash_value(&self->scratch, at, need->value, &hash, &err)) {
        entry = index_join_bucket(collection, path, need, hash);
    }
    if (entry == NULL) {
        index_leave_path(collection, path);
        return TW_E_NO_MEMORY;
    }
    entry->member = member;
    entry->next_of_member = member->entries;
    member->entries = entry;
    index_count(&collection->paths[path], entry, 1);
    return TW_OK;
}

static void leave_entries(topic_index_member *member)
{
    topic_index_collection *collection = member->collection;
    topic_index_entry *next;
    for (topic_index_entry *entry = member->entries; entry != NULL; entry = next) {
        uint16_t path = entry->path;
        next = entry->next_of_member;
        index_count(&collection->paths[path], entry, -1);
        if (entry->kind == INDEX_VETO) {
            index_leave_veto(collection, entry);
        } else if (entry->kind == INDEX_SCREEN) {
            tw_free(entry);
        } else if (entry->kind == QUERY_NEED_RANGE) {
            index_leave_range(collection, entry);
        } else if (entry->kind == QUERY_NEED_TEXT) {
            index_leave_text(collection, entry);
        } else {
            index_leave_bucket(collection, entry);
        }
        index_leave_path(collection, path);
    }
    member->entries = NULL;
    if (member->is_scanned) {
        index_leave_scan(collection, member);
    }
}

/* Where a member stands: under its needs, or among those that are scanned. */
static tw_err join(topic_index *self, topic_index_member *member)
{
    topic_index_collection *collection = member->collection;
    estimate known = {self, collection};
    query_needs needs = {0};
    tw_err err = member->part->any ? TW_OK
                                   : query_needs_of(member->part->filter, &self->scratch, cost_of,
                                                    &known, &needs);
    for (size_t i = 0; i < needs.count && err == TW_OK; i++) {
        err = join_need(self, collection, member, &needs.at[i]);
    }
    if (err == TW_E_BUSY) { /* the paths of its needs have no room together */
        leave_entries(member);
        needs.count = 0;
        err = TW_OK;
    }
    return err != TW_OK || needs.count > 0 ? err : index_join_scan(self, collection, member);
}

static void link_of_all(topic_index_collection *collection, topic_index_member *member)
{
    TW_ASSERT(member->next_of_all == NULL && member->prev_of_all == NULL);
    member->next_of_all = collection->all;
    if (collection->all != NULL) {
        collection->all->prev_of_all = member;
    }
    collection->all = member;
}

tw_err topic_index_add(topic_index *self, topic_index_member *member)
{
    TW_ASSERT(member->part != NULL && member->topic != NULL);
    TW_ASSERT(member->collection == NULL && member->entries == NULL);
    tw_str db = tw_str_of(member->part->db);
    tw_str name = tw_str_of(member->part->name);
    topic_index_collection *collection = find_collection(self, db, name);
    if (collection == NULL) {
        collection = make_collection(self, db, name);
    }
    if (collection == NULL) {
        return TW_E_NO_MEMORY;
    }
    member->collection = collection;
    tw_err err = join(self, member);
    tw_arena_reset(&self->scratch);
    if (err != TW_OK) {
        leave_entries(member);
        member->collection = NULL;
        free_collection_if_empty(self, collection);
        return err;
    }
    link_of_all(collection, member);
    return TW_OK;
}

void topic_index_remove(topic_index *self, topic_index_member *member)
{
    topic_index_collection *collection = member->collection;
    TW_ASSERT(collection != NULL);
    TW_ASSERT(member->entries != NULL || member->is_scanned);
    leave_entries(member);
    if (member->prev_of_all != NULL) {
        member->prev_of_all->next_of_all = member->next_of_all;
    } else {
        TW_ASSERT(collection->all == member);
        collection->all = member->next_of_all;
    }
    if (member->next_of_all != NULL) {
        member->next_of_all->prev_of_all = member->prev_of_all;
    }
    member->next_of_all = NULL;
    member->prev_of_all = NULL;
    member->collection = NULL;
    free_collection_if_empty(self, collection);
}

/* ---- look-ups ---- */

void index_tell(index_finding *finding, topic_index_member *member)
{
    TW_ASSERT(finding->visit != NULL);
    if (finding->err == TW_OK && member->tested_in != finding->index->lookup) {
        member->tested_in = finding->index->lookup;
        finding->err = finding->visit(finding->context, member);
    }
}

/* All that stands under one hash: who asks for it, and whom it excludes. */
static void meet(index_finding *self, query_need_kind kind, uint64_t hash, tw_bson_value value)
{
    if (self->path->of_kind[kind] > 0) {
        index_tell_bucket(self, hash);
    }
    if (self->path->of_kind[INDEX_VETO] > 0) {
        index_meet_veto(self, hash, kind, value);
    }
}

static void meet_array(index_finding *self, tw_bson_value array)
{
    const index_path *path = self->path;
    int64_t count = 0;
    bool is_nested = false;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(array)); tw_bson_iter_next(&iter); count++) {
        is_nested = is_nested || iter.value.type == TW_BSON_ARRAY;
    }
    if (path->of_kind[QUERY_NEED_SIZE] > 0) {
        index_tell_bucket(self, index_hash(path, QUERY_NEED_SIZE, &count, sizeof count));
    }
    if (is_nested && path->of_kind[QUERY_NEED_NESTED] > 0) {
        index_tell_bucket(self, index_hash(path, QUERY_NEED_NESTED, NULL, 0));
    }
}

static bool visit_value(void *context, tw_bson_value value)
{
    index_finding *self = context;
    const index_path *path = self->path;
    const uint32_t *of_kind = path->of_kind;
    bool vetoes = of_kind[INDEX_VETO] > 0;
    uint64_t hash;
    TW_ASSERT(self->collection != NULL);
    if ((vetoes || of_kind[QUERY_NEED_VALUE] > 0) &&
        index_hash_value(&self->index->scratch, path, value, &hash, &self->err)) {
        meet(self, QUERY_NEED_VALUE, hash, value);
    }
    if (value.type == 0) {
        return self->err != TW_OK;
    }
    self->has_some = true;
    if (of_kind[QUERY_NEED_RANGE] + of_kind[QUERY_NEED_ABSENT] > 0) {
        index_see_range(self, value);
    }
    if (of_kind[INDEX_SCREEN] > 0) {
        index_see_text(self, value);
    }
    if (of_kind[QUERY_NEED_TEXT] > 0) {
        index_tell_texts(self, tw_bson_value_str(value));
    }
    if (vetoes || of_kind[QUERY_NEED_TYPE] > 0) {
        meet(self, QUERY_NEED_TYPE, index_hash(path, QUERY_NEED_TYPE, &value.type, 1), value);
    }
    if (vetoes || of_kind[QUERY_NEED_SOME] > 0) {
        meet(self, QUERY_NEED_SOME, index_hash(path, QUERY_NEED_SOME, NULL, 0), value);
    }
    if (value.type == TW_BSON_ARRAY && of_kind[QUERY_NEED_SIZE] + of_kind[QUERY_NEED_NESTED] > 0) {
        meet_array(self, value);
    }
    return self->err != TW_OK;
}

/* The values of the document's own fields that paths begin with, by one walk over them. */
static void read_heads(const topic_index_collection *collection, tw_bson doc,
                       tw_bson_value heads[TW_TOPIC_PATHS_MAX])
{
    tw_bson_iter iter;
    uint32_t missing = collection->paths_count;
    TW_ASSERT(missing <= TW_TOPIC_PATHS_MAX);
    memset(heads, 0, missing * sizeof *heads);
    for (tw_bson_iter_init(&iter, doc); missing > 0 && tw_bson_iter_next(&iter);) {
        for (uint32_t i = 0; i < collection->paths_count; i++) {
            if (heads[i].type == 0 && collection->paths[i].name != NULL &&
                tw_str_equal(collection->paths[i].head, iter.name)) {
                heads[i] = iter.value;
                missing--;
            }
        }
    }
}

/* Holds what stands at the path at hand against all that stands under it. */
static void find_by_path(index_finding *self, tw_bson_value head)
{
    const index_path *path = self->path;
    self->has_some = false;
    (void)path_walk_behind(head, path->has_rest, path->rest, true, visit_value, self);
    if (path->of_kind[QUERY_NEED_RANGE] + path->of_kind[QUERY_NEED_ABSENT] == 0) {
        return;
    }
    index_tell_ranges(self);
    if (!self->has_some && path->of_kind[QUERY_NEED_ABSENT] > 0) {
        index_tell_bucket(self, index_hash(path, QUERY_NEED_ABSENT, NULL, 0));
    }
}

/* Tells whom a document may concern. */
static void find_by_paths(index_finding *self, tw_bson doc, bool is_first)
{
    tw_bson_value heads[TW_TOPIC_PATHS_MAX];
    topic_index_collection *collection = self->collection;
    TW_ASSERT(doc.len == 0 || doc.ptr != NULL);
    if (doc.len == 0) {
        return;
    }
    index_begin_scan(collection, is_first);
    read_heads(collection, doc, heads);
    for (uint32_t i = 0; i < collection->paths_count && self->err == TW_OK; i++) {
        self->path = &collection->paths[i];
        self->path_at = (uint16_t)i;
        if (self->path->name != NULL) {
            find_by_path(self, heads[i]);
        }
    }
    index_tell_scanned(self);
    tw_arena_reset(&self->index->scratch);
}

static void tell_all(index_finding *self)
{
    TW_ASSERT(self->collection != NULL);
    topic_index_member *member = self->collection->all;
    for (; member != NULL && self->err == TW_OK; member = member->next_of_all) {
        index_tell(self, member);
    }
}

/* Parts of any collection: few, and all of them care. */
static void tell_any(index_finding *self)
{
    self->collection = find_collection(self->index, TW_STR(""), TW_STR(""));
    if (self->collection != NULL && self->err == TW_OK) {
        tell_all(self);
    }
}

tw_err topic_index_find(topic_index *self, tw_str db, tw_str coll, tw_bson doc, tw_bson old,
                        topic_index_visit visit, void *context)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(visit != NULL);
    index_finding found = {.index = self, .visit = visit, .context = context};
    found.collection = find_collection(self, db, coll);
    self->lookup++;
    if (found.collection != NULL) {
        find_by_paths(&found, doc, true);
        find_by_paths(&found, old, doc.len == 0);
    }
    tell_any(&found);
    return found.err;
}

tw_err topic_index_all(topic_index *self, tw_str db, tw_str coll, topic_index_visit visit,
                       void *context)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(visit != NULL);
    index_finding found = {.index = self, .visit = visit, .context = context};
    found.collection = find_collection(self, db, coll);
    self->lookup++;
    if (found.collection != NULL) {
        tell_all(&found);
    }
    tell_any(&found);
    return found.err;
}
