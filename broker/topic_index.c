/* topic_index.c - one equality of each filter as its address.
 *
 * Of several equalities the one whose bucket is emptiest is taken, and among equals the one
 * whose path
 * has the most buckets: the rarest value, as far as can be known when a topic is opened.
 * A decimal equals numbers that are spelled otherwise, so a document that has one at an indexed
 * path
 * is shown to every part of the collection: slow, right, and rare. */
#include "broker/topic_index.h"

#include "protocol/limits.h"

#include "broker/path.h"

typedef struct path_entry {
    char *name; /* own; NULL: free */
    size_t len;
    size_t members;
    size_t buckets;
} path_entry;

struct topic_index_bucket {
    hash_link link;
    uint32_t path;
    uint32_t members;
    topic_index_member *first;
    size_t key_len;
    uint8_t key[]; /* behind the struct */
};

struct topic_index_collection {
    hash_link link;
    hash_table buckets;
    topic_index_member *plain; /* without equality */
    topic_index_member *all;
    uint32_t paths_count; /* entries in use lie below it */
    path_entry paths[TOPIC_INDEX_PATHS_MAX];
    char *name; /* own; db, NUL, name */
    size_t name_len;
};

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
    if (made == NULL || name == NULL || hash_table_init(&made->buckets) != TW_OK) {
        tw_free(made);
        tw_free(name);
        return NULL;
    }
    memcpy(name, db.ptr, db.len);
    name[db.len] = '\0';
    memcpy(name + db.len + 1, coll.ptr, coll.len);
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
    TW_ASSERT(collection->plain == NULL);
    hash_table_remove(&self->collections, &collection->link);
    hash_table_fini(&collection->buckets);
    tw_free(collection->name);
    tw_free(collection);
}

/* ---- paths and buckets ---- */

/* The entry of a path, or TOPIC_INDEX_PATHS_MAX. */
static uint32_t find_path(const topic_index_collection *collection, tw_str path)
{
    TW_ASSERT(collection->paths_count <= TOPIC_INDEX_PATHS_MAX);
    for (uint32_t i = 0; i < collection->paths_count; i++) {
        const path_entry *entry = &collection->paths[i];
        if (entry->name != NULL && tw_str_equal((tw_str){entry->name, entry->len}, path)) {
            return i;
        }
    }
    return TOPIC_INDEX_PATHS_MAX;
}

static uint32_t free_path(const topic_index_collection *collection)
{
    TW_ASSERT(collection->paths_count <= TOPIC_INDEX_PATHS_MAX);
    for (uint32_t i = 0; i < collection->paths_count; i++) {
        if (collection->paths[i].name == NULL) {
            return i;
        }
    }
    return collection->paths_count; /* TOPIC_INDEX_PATHS_MAX: no room */
}

static uint64_t hash_bucket(const topic_index *self, uint32_t path, tw_key key)
{
    return tw_hash(key.ptr, key.len, self->seed ^ (0x9e3779b97f4a7c15ULL * (path + 1ULL)));
}

static topic_index_bucket *find_bucket(const topic_index *self,
                                       const topic_index_collection *collection, uint32_t path,
                                       tw_key key)
{
    TW_ASSERT(key.len > 0);
    hash_link *link = hash_table_first(&collection->buckets, hash_bucket(self, path, key));
    for (; link != NULL; link = hash_table_next(link)) {
        topic_index_bucket *found = link->owner;
        if (found->path == path && found->key_len == key.len &&
            memcmp(found->key, key.ptr, key.len) == 0) {
            return found;
        }
    }
    return NULL;
}

/* The best equality of a filter; false: it has none that can be indexed. */
static bool choose(const topic_index *self, const topic_index_collection *collection,
                   const query *filter, query_equality *out)
{
    query_equality at;
    bool found = false;
    size_t best_members = 0;
    size_t best_buckets = 0;
    bool room = free_path(collection) < TOPIC_INDEX_PATHS_MAX;
    TW_ASSERT(filter != NULL);
    for (size_t i = 0; query_equality_at(filter, i, &at); i++) {
        uint32_t path = find_path(collection, at.path);
        bool stands = path < TOPIC_INDEX_PATHS_MAX;
        if (!stands && !room) {
            continue;
        }
        const topic_index_bucket *bucket =
            stands ? find_bucket(self, collection, path, at.value) : NULL;
        size_t members = bucket == NULL ? 0 : bucket->members;
        size_t buckets = stands ? collection->paths[path].buckets : 0;
        if (!found || members < best_members ||
            (members == best_members && buckets > best_buckets)) {
            found = true;
            best_members = members;
            best_buckets = buckets;
            *out = at;
        }
    }
    return found;
}

static uint32_t make_path(topic_index_collection *collection, tw_str path)
{
    uint32_t at = find_path(collection, path);
    if (at < TOPIC_INDEX_PATHS_MAX) {
        return at;
    }
    at = free_path(collection);
    TW_ASSERT(at < TOPIC_INDEX_PATHS_MAX); /* choose() has looked */
    char *name = tw_alloc(path.len + 1);
    if (name == NULL) {
        return TOPIC_INDEX_PATHS_MAX;
    }
    memcpy(name, path.ptr, path.len);
    collection->paths[at] = (path_entry){.name = name, .len = path.len};
    if (at == collection->paths_count) {
        collection->paths_count++;
    }
    return at;
}

static void leave_path(topic_index_collection *collection, uint32_t at)
{
    path_entry *path = &collection->paths[at];
    TW_ASSERT(path->name != NULL);
    if (path->members > 0) {
        return;
    }
    TW_ASSERT(path->buckets == 0);
    tw_free(path->name);
    *path = (path_entry){0};
    while (collection->paths_count > 0 &&
           collection->paths[collection->paths_count - 1].name == NULL) {
        collection->paths_count--;
    }
}

static topic_index_bucket *make_bucket(topic_index *self, topic_index_collection *collection,
                                       const query_equality *at)
{
    uint32_t path = make_path(collection, at->path);
    TW_ASSERT(at->value.len <= TW_KEY_MAX);
    if (path == TOPIC_INDEX_PATHS_MAX) {
        return NULL;
    }
    topic_index_bucket *bucket = find_bucket(self, collection, path, at->value);
    if (bucket != NULL) {
        return bucket;
    }
    bucket = tw_alloc(sizeof *bucket + at->value.len);
    if (bucket == NULL) {
        leave_path(collection, path);
        return NULL;
    }
    bucket->path = path;
    bucket->members = 0;
    bucket->first = NULL;
    bucket->key_len = at->value.len;
    memcpy(bucket->key, at->value.ptr, at->value.len);
    collection->paths[path].buckets++;
    hash_table_add(&collection->buckets, &bucket->link, hash_bucket(self, path, at->value), bucket);
    return bucket;
}

/* ---- members ---- */

static void link_member(topic_index_member **first, topic_index_member *member)
{
    TW_ASSERT(member->next == NULL && member->prev == NULL);
    member->next = *first;
    if (*first != NULL) {
        (*first)->prev = member;
    }
    *first = member;
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
    TW_ASSERT(member->collection == NULL);
    tw_str db = tw_str_of(member->part->db);
    tw_str name = tw_str_of(member->part->name);
    topic_index_collection *collection = find_collection(self, db, name);
    if (collection == NULL) {
        collection = make_collection(self, db, name);
    }
    if (collection == NULL) {
        return TW_E_NO_MEMORY;
    }
    query_equality at;
    topic_index_bucket *bucket = NULL;
    if (!member->part->any && choose(self, collection, member->part->filter, &at)) {
        bucket = make_bucket(self, collection, &at);
        if (bucket == NULL) {
            free_collection_if_empty(self, collection);
            return TW_E_NO_MEMORY;
        }
        bucket->members++;
        collection->paths[bucket->path].members++;
    }
    member->collection = collection;
    member->bucket = bucket;
    link_member(bucket != NULL ? &bucket->first : &collection->plain, member);
    link_of_all(collection, member);
    return TW_OK;
}

static void unlink_member(topic_index_member *member)
{
    topic_index_collection *collection = member->collection;
    TW_ASSERT(collection != NULL);
    topic_index_member **first =
        member->bucket != NULL ? &member->bucket->first : &collection->plain;
    if (member->prev != NULL) {
        member->prev->next = member->next;
    } else {
        TW_ASSERT(*first == member);
        *first = member->next;
    }
    if (member->next != NULL) {
        member->next->prev = member->prev;
    }
    if (member->prev_of_all != NULL) {
        member->prev_of_all->next_of_all = member->next_of_all;
    } else {
        collection->all = member->next_of_all;
    }
    if (member->next_of_all != NULL) {
        member->next_of_all->prev_of_all = member->prev_of_all;
    }
}

void topic_index_remove(topic_index *self, topic_index_member *member)
{
    topic_index_collection *collection = member->collection;
    topic_index_bucket *bucket = member->bucket;
    TW_ASSERT(collection != NULL);
    TW_ASSERT(bucket == NULL || bucket->members > 0);
    unlink_member(member);
    if (bucket != NULL) {
        uint32_t path = bucket->path;
        collection->paths[path].members--;
        if (--bucket->members == 0) {
            hash_table_remove(&collection->buckets, &bucket->link);
            collection->paths[path].buckets--;
            tw_free(bucket);
        }
        leave_path(collection, path);
    }
    member->collection = NULL;
    free_collection_if_empty(self, collection);
}

/* ---- look-ups ---- */

typedef struct finding {
    topic_index *index;
    topic_index_collection *collection;
    uint32_t path;
    bool everyone; /* a decimal was met */
    tw_err err;
    topic_index_visit visit;
    void *context;
} finding;

static void tell(finding *self, topic_index_member *member)
{
    TW_ASSERT(self->visit != NULL);
    if (self->err == TW_OK && member->tested_in != self->index->lookup) {
        member->tested_in = self->index->lookup;
        self->err = self->visit(self->context, member);
    }
}

static bool visit_value(void *context, tw_bson_value value)
{
    finding *self = context;
    tw_key key;
    TW_ASSERT(self->collection != NULL);
    if (value.type == 0 || value.type == TW_BSON_DOCUMENT || value.type == TW_BSON_ARRAY) {
        return false;
    }
    if (value.type == TW_BSON_DECIMAL128) {
        self->everyone = true;
        return true;
    }
    tw_err err = tw_key_of_value(&self->index->scratch, value, &key);
    if (err == TW_E_NO_MEMORY) {
        self->err = err;
    }
    if (err != TW_OK) {
        return self->err != TW_OK; /* a value that is no key equals none */
    }
    topic_index_bucket *bucket = find_bucket(self->index, self->collection, self->path, key);
    topic_index_member *member = bucket == NULL ? NULL : bucket->first;
    for (; member != NULL; member = member->next) {
        tell(self, member);
    }
    return self->err != TW_OK;
}

static void find_by_paths(finding *self, tw_bson doc)
{
    TW_ASSERT(doc.len == 0 || doc.ptr != NULL);
    if (doc.len == 0) {
        return;
    }
    for (uint32_t i = 0; i < self->collection->paths_count; i++) {
        const path_entry *path = &self->collection->paths[i];
        if (path->name != NULL && self->err == TW_OK) {
            self->path = i;
            (void)path_walk(doc, (tw_str){path->name, path->len}, true, visit_value, self);
            tw_arena_reset(&self->index->scratch);
        }
    }
}

static void tell_all(finding *self)
{
    TW_ASSERT(self->collection != NULL);
    topic_index_member *member = self->collection->all;
    for (; member != NULL && self->err == TW_OK; member = member->next_of_all) {
        tell(self, member);
    }
}

/* Parts of any collection: few, and all of them care. */
static void tell_any(finding *self)
{
    self->collection = find_collection(self->index, TW_STR(""), TW_STR(""));
    TW_ASSERT(self->collection == NULL || self->collection->buckets.count == 0);
    if (self->collection != NULL && self->err == TW_OK) {
        tell_all(self);
    }
}

tw_err topic_index_find(topic_index *self, tw_str db, tw_str coll, tw_bson doc, tw_bson old,
                        topic_index_visit visit, void *context)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(visit != NULL);
    finding found = {.index = self, .visit = visit, .context = context};
    found.collection = find_collection(self, db, coll);
    self->lookup++;
    if (found.collection != NULL) {
        find_by_paths(&found, doc);
        find_by_paths(&found, old);
        topic_index_member *member = found.collection->plain;
        for (; member != NULL && found.err == TW_OK; member = member->next) {
            tell(&found, member);
        }
        if (found.everyone) {
            tell_all(&found);
        }
    }
    tell_any(&found);
    return found.err;
}

tw_err topic_index_all(topic_index *self, tw_str db, tw_str coll, topic_index_visit visit,
                       void *context)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(visit != NULL);
    finding found = {.index = self, .visit = visit, .context = context};
    found.collection = find_collection(self, db, coll);
    self->lookup++;
    if (found.collection != NULL) {
        tell_all(&found);
    }
    tell_any(&found);
    return found.err;
}
