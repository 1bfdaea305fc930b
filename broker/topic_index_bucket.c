/* topic_index_bucket.c - what is found by a hash: values, types, sizes, and the keys of texts.
 *
 * A bucket is known by its hash alone: two needs of one hash share it, and the filter itself tells
 * them apart. So nothing of a value is kept. */
#include "broker/topic_index_priv.h"

uint64_t index_hash(const index_path *path, query_need_kind kind, const void *bytes, size_t len)
{
    TW_ASSERT(bytes != NULL || len == 0);
    return tw_hash(bytes, len, path->seed + (uint64_t)kind);
}

static uint64_t hash_in_bracket(const index_path *path, uint8_t type, const void *bytes, size_t len)
{
    uint64_t bracket = (uint64_t)tw_bson_bracket(type) + 1;
    return tw_hash(bytes, len, path->seed + QUERY_NEED_VALUE + (bracket << 8));
}

/* A Decimal128 that is whole has the key of the whole number. */
static bool whole_of(tw_arena *scratch, tw_bson_value value, int64_t *whole, tw_err *err)
{
    tw_key key;
    if (value.type != TW_BSON_DECIMAL128) {
        return tw_bson_value_i64(value, whole);
    }
    tw_err made = tw_key_of_value(scratch, value, &key);
    if (made == TW_E_NO_MEMORY) {
        *err = made;
    }
    return made == TW_OK && tw_bson_value_i64(tw_key_value(key), whole);
}

bool index_hash_value(tw_arena *scratch, const index_path *path, tw_bson_value value,
                      uint64_t *hash, tw_err *err)
{
    int64_t whole;
    tw_str text;
    TW_ASSERT(hash != NULL && err != NULL);
    if (value.len > TW_TOPIC_QUERY_MAX) {
        return false; /* longer than any filter */
    }
    switch (value.type) {
    case 0:
    case TW_BSON_NULL:
        *hash = hash_in_bracket(path, TW_BSON_NULL, NULL, 0);
        return true;
    case TW_BSON_DOUBLE:
    case TW_BSON_INT32:
    case TW_BSON_INT64:
    case TW_BSON_DECIMAL128:
        if (!whole_of(scratch, value, &whole, err)) {
            return false; /* a range of one point */
        }
        *hash = hash_in_bracket(path, TW_BSON_INT64, &whole, sizeof whole);
        return true;
    case TW_BSON_STRING:
    case TW_BSON_SYMBOL:
        text = tw_bson_value_str(value);
        *hash = hash_in_bracket(path, TW_BSON_STRING, text.ptr, text.len);
        return true;
    case TW_BSON_BOOL:
        *hash = hash_in_bracket(path, TW_BSON_BOOL, *value.ptr != 0 ? "t" : "f", 1);
        return true;
    case TW_BSON_OBJECT_ID:
    case TW_BSON_DATE:
    case TW_BSON_TIMESTAMP:
    case TW_BSON_BINARY:
    case TW_BSON_REGEX:
    case TW_BSON_CODE:
    case TW_BSON_DBPOINTER:
        *hash = hash_in_bracket(path, value.type, value.ptr, value.len);
        return true;
    default:
        return false;
    }
}

index_bucket *index_find_bucket(const topic_index_collection *collection, uint16_t path,
                                uint64_t hash)
{
    hash_link *link = hash_table_first(&collection->buckets, hash);
    for (; link != NULL; link = hash_table_next(link)) {
        index_bucket *found = link->owner;
        TW_ASSERT(found->members > 0);
        if (found->path == path) {
            return found;
        }
    }
    return NULL;
}

static index_bucket *make_bucket(topic_index_collection *collection, uint16_t path, uint64_t hash)
{
    index_bucket *bucket = index_find_bucket(collection, path, hash);
    if (bucket != NULL) {
        return bucket;
    }
    bucket = tw_alloc_zero(1, sizeof *bucket);
    if (bucket == NULL) {
        return NULL;
    }
    bucket->path = path;
    collection->paths[path].buckets++;
    hash_table_add(&collection->buckets, &bucket->link, hash, bucket);
    return bucket;
}

topic_index_entry *index_join_bucket(topic_index_collection *collection, uint16_t path,
                                     const query_need *need, uint64_t hash)
{
    index_hashed *made = tw_alloc_zero(1, sizeof *made + need->literal.len);
    index_bucket *bucket = made == NULL ? NULL : make_bucket(collection, path, hash);
    if (bucket == NULL) {
        tw_free(made);
        return NULL;
    }
    TW_ASSERT(need->literal.len <= REGEX_LITERAL_BYTES);
    made->entry.kind = (uint8_t)need->kind;
    made->entry.path = path;
    made->bucket = bucket;
    if (need->literal.len > 0) {
        made->literal_len = (uint8_t)need->literal.len;
        memcpy(made->literal, need->literal.ptr, need->literal.len);
    }
    made->next = bucket->first;
    if (made->next != NULL) {
        made->next->prev = made;
    }
    bucket->first = made;
    bucket->members++;
    return &made->entry;
}

void index_leave_bucket(topic_index_collection *collection, topic_index_entry *entry)
{
    index_hashed *gone = (index_hashed *)entry;
    index_bucket *bucket = gone->bucket;
    TW_ASSERT(bucket->members > 0);
    if (gone->prev != NULL) {
        gone->prev->next = gone->next;
    } else {
        TW_ASSERT(bucket->first == gone);
        bucket->first = gone->next;
    }
    if (gone->next != NULL) {
        gone->next->prev = gone->prev;
    }
    if (--bucket->members == 0) {
        collection->paths[bucket->path].buckets--;
        hash_table_remove(&collection->buckets, &bucket->link);
        tw_free(bucket);
    }
    tw_free(gone);
}

void index_tell_bucket(index_finding *finding, uint64_t hash)
{
    const index_bucket *bucket = index_find_bucket(finding->collection, finding->path_at, hash);
    const index_hashed *at = bucket == NULL ? NULL : bucket->first;
    for (; at != NULL; at = at->next) {
        index_tell(finding, at->entry.member);
    }
}
