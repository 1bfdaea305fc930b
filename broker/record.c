/* record.c - see record.h. */
#include "broker/record.h"

tw_err record_with_version(const catalog_collection *rules, tw_buf *scratch, tw_arena *arena,
                           tw_bson doc, tw_key key, int64_t version, tw_bson *out, broker_why *why)
{
    tw_str key_field = tw_str_of(rules->key);
    tw_str version_field = tw_str_of(rules->version_field);
    tw_bson_builder b;
    tw_bson_iter i;
    bool has_version = false;
    TW_ASSERT(doc.len >= 5 && key.len > 0);
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    if (tw_bson_get(doc, key_field).type == 0) {
        tw_bson_add_key(&b, key_field, key);
    }
    for (tw_bson_iter_init(&i, doc); tw_bson_iter_next(&i);) {
        if (!tw_str_equal(i.name, version_field)) {
            tw_bson_add_value(&b, i.name, i.value);
        } else if (!has_version) {
            tw_bson_add_i64(&b, version_field, version);
            has_version = true;
        }
    }
    if (!has_version) {
        tw_bson_add_i64(&b, version_field, version);
    }
    tw_bson made = tw_bson_end(&b);
    if (scratch->err != TW_OK || made.len > TW_DOCUMENT_MAX) {
        tw_err err = scratch->err == TW_OK ? TW_E_TOO_BIG : scratch->err;
        return broker_refuse(why, err, "The document is too large.");
    }
    *out = tw_arena_bson(arena, made);
    return out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
}

tw_err record_key(const catalog_collection *rules, tw_arena *arena, tw_bson doc, tw_key given,
                  tw_key *out, broker_why *why)
{
    tw_bson_value value = tw_bson_get(doc, tw_str_of(rules->key));
    tw_key own = {0};
    if (value.type != 0) {
        tw_err err = tw_key_of_value(arena, value, &own);
        if (err != TW_OK) {
            return broker_refuse(why, err, "The document's key is of a type that cannot be a key.");
        }
    }
    if (given.len > 0) {
        bool differs = own.len > 0 && !tw_key_equal(own, given);
        *out = given;
        return differs ? broker_refuse(why, TW_E_BAD_DOCUMENT, "The document has another key.")
                       : TW_OK;
    }
    if (own.len == 0) {
        uint8_t *made = tw_arena_alloc(arena, 13);
        if (made == NULL) {
            return TW_E_NO_MEMORY;
        }
        made[0] = TW_BSON_OBJECT_ID;
        tw_oid_new(made + 1);
        own = (tw_key){made, 13};
    }
    *out = own;
    return TW_OK;
}
