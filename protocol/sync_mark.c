/* sync_mark.c - see sync_mark.h. */
#include "protocol/sync_mark.h"

#include "protocol/json.h"
#include "protocol/limits.h"

static uint64_t fnv(uint64_t hash, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ at[i]) * 0x100000001b3ULL;
    }
    return hash;
}

static uint32_t mix(uint32_t h)
{
    h ^= h >> 16;
    h *= 0x85ebca6bU;
    h ^= h >> 13;
    h *= 0xc2b2ae35U;
    return h ^ h >> 16;
}

static uint64_t hash_of_key(tw_key key)
{
    static const uint64_t basis = 0xcbf29ce484222325ULL;
    tw_bson_value value = tw_key_value(key);
    TW_ASSERT(key.len > 0);
    tw_str text = tw_bson_value_str(value);
    if (value.type == TW_BSON_STRING && text.ptr != NULL) {
        return fnv(fnv(basis, "s", 1), text.ptr, text.len);
    }
    char short_text[32];
    if (value.type == TW_BSON_OBJECT_ID) {
        for (size_t i = 0; i < 12; i++) {
            tw_format(short_text + 2 * i, 3, "%02x", value.ptr[i]);
        }
        return fnv(fnv(basis, "o", 1), short_text, 24);
    }
    int64_t number;
    if (value.type == TW_BSON_INT64 && tw_bson_value_i64(value, &number)) {
        size_t len = tw_format(short_text, sizeof short_text, "%lld", (long long)number);
        return fnv(fnv(basis, "i", 1), short_text, len);
    }
    tw_buf json;
    tw_buf_init(&json, (size_t)TW_KEY_MAX * 16);
    tw_json_write_key(&json, key);
    uint64_t hash = fnv(fnv(basis, "j", 1), json.ptr, json.len);
    tw_buf_fini(&json);
    return hash;
}

uint32_t tw_sync_place(tw_key key)
{
    uint64_t hash = hash_of_key(key);
    return mix((uint32_t)hash ^ mix((uint32_t)(hash >> 32)));
}

tw_mark tw_sync_mark(tw_key key, int64_t version)
{
    char text[32];
    uint64_t hash = fnv(hash_of_key(key), "", 1);
    hash = fnv(hash, text, tw_format(text, sizeof text, "%lld", (long long)version));
    uint32_t high = (uint32_t)(hash >> 32);
    uint32_t low = mix((uint32_t)hash ^ mix(high));
    return (tw_mark){.high = mix(high + low), .low = low};
}
