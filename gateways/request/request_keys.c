/* request_keys.c - ids, lists and queries in any spelling: coerce_list, coerce_query.
 *
 * An id may be {"$oid": hex} (an ObjectId by the time it is here), a bare text of 24 hex digits (an
 * ObjectId first, the text itself second) or any scalar. One value may stand for a list of one. */
#include "broker/projection.h"

#include "gateways/request/request_priv.h"

enum { KEYS_FIRST = 64 };

tw_err request_keep(request *self, const tw_buf *scratch, tw_bson *out)
{
    if (scratch->err != TW_OK) {
        return scratch->err;
    }
    *out = tw_arena_bson(&self->arena, (tw_bson){(const uint8_t *)scratch->ptr, scratch->len});
    return out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
}

static tw_err read_id(tw_arena *arena, tw_bson_value value, request_id *out, request_why *why)
{
    *out = (request_id){.spelled = value};
    tw_err err = tw_key_of_id(arena, value, &out->key, &out->also);
    if (err == TW_E_NO_MEMORY) {
        return err;
    }
    if (err != TW_OK) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "This cannot be an id: %s",
                             err == TW_E_TOO_BIG ? "it is too long."
                                                 : "ids are text, numbers, dates, ObjectIds.");
    }
    return TW_OK;
}

tw_err request_ids_read(tw_arena *arena, tw_bson_value ids, request_id **out, size_t *count,
                        request_why *why)
{
    bool list = ids.type == TW_BSON_ARRAY;
    size_t max = list ? tw_bson_count(tw_bson_value_doc(ids)) : 1;
    request_keys seen = {0};
    *count = 0;
    *out = tw_arena_zero(arena, max, sizeof **out);
    if (*out == NULL) {
        return TW_E_NO_MEMORY;
    }
    if (!list) {
        *count = 1;
        return read_id(arena, ids, *out, why);
    }
    tw_bson_iter iter;
    tw_err err = TW_OK;
    tw_bson_iter_init(&iter, tw_bson_value_doc(ids));
    while (err == TW_OK && *count < max && tw_bson_iter_next(&iter)) {
        err = read_id(arena, iter.value, &(*out)[*count], why);
        size_t before = seen.count;
        if (err == TW_OK) {
            err = request_keys_add(arena, &seen, (*out)[*count].key);
        }
        *count += seen.count - before; /* an id that stands twice is asked for once */
    }
    return err;
}

/* ---- keys without repetition ---- */
static bool grow(tw_arena *arena, request_keys *keys)
{
    size_t cap = keys->cap == 0 ? KEYS_FIRST : keys->cap * 2;
    tw_key *at = tw_arena_alloc(arena, cap * sizeof *at);
    uint32_t *slots = tw_arena_zero(arena, cap * 2, sizeof *slots);
    if (at == NULL || slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < keys->count; i++) {
        at[i] = keys->at[i];
        size_t slot = tw_hash(at[i].ptr, at[i].len, 0) % (cap * 2);
        while (slots[slot] != 0) {
            slot = (slot + 1) % (cap * 2);
        }
        slots[slot] = (uint32_t)i + 1;
    }
    keys->at = at;
    keys->cap = cap;
    keys->slots = slots;
    keys->slots_count = cap * 2;
    return true;
}

tw_err request_keys_add(tw_arena *arena, request_keys *keys, tw_key key)
{
    if (keys->count == keys->cap && !grow(arena, keys)) {
        return TW_E_NO_MEMORY;
    }
    size_t slot = tw_hash(key.ptr, key.len, 0) % keys->slots_count;
    while (keys->slots[slot] != 0) {
        if (tw_key_equal(keys->at[keys->slots[slot] - 1], key)) {
            return TW_OK;
        }
        slot = (slot + 1) % keys->slots_count;
    }
    tw_key own = tw_arena_key(arena, key);
    if (own.ptr == NULL) {
        return TW_E_NO_MEMORY;
    }
    keys->at[keys->count++] = own;
    keys->slots[slot] = (uint32_t)keys->count;
    return TW_OK;
}

const tw_item_record *request_record_of(const tw_msg_records *records, const request_id *id)
{
    const tw_item_record *second = NULL;
    for (size_t i = 0; i < records->items.count; i++) {
        const tw_item_record *record = &records->items.at[i];
        if (tw_key_equal(record->key, id->key)) {
            return record;
        }
        if (id->also.len != 0 && tw_key_equal(record->key, id->also)) {
            second = record;
        }
    }
    return second;
}

/* ---- ids by chunks ---- */
bool request_next_chunk(request *self)
{
    self->chunk_count = 0;
    for (size_t i = 0; i < self->ids_count && self->chunk_count < REQUEST_CHUNK; i++) {
        if (!self->ids[i].found && !self->ids[i].missing) {
            self->chunk[self->chunk_count++] = (uint16_t)i;
        }
    }
    return self->chunk_count > 0;
}

size_t request_chunk_keys(const request *self, tw_item_one_key out[2 * REQUEST_CHUNK])
{
    size_t count = 0;
    for (size_t i = 0; i < self->chunk_count; i++) {
        const request_id *id = &self->ids[self->chunk[i]];
        out[count++] = (tw_item_one_key){id->key};
        if (id->also.len != 0) {
            out[count++] = (tw_item_one_key){id->also};
        }
    }
    return count;
}

void request_add_missing(const request *self, tw_bson_builder *b)
{
    tw_bson_open_array(b, TW_STR("missing"));
    for (size_t i = 0; i < self->ids_count; i++) {
        if (!self->ids[i].found) {
            tw_bson_add_value(b, TW_STR(""), self->ids[i].spelled);
        }
    }
    tw_bson_close(b);
}

/* ---- queries ---- */
/* {"$in": [both readings of each]} under name. */
static tw_err add_readings(tw_arena *arena, tw_bson_builder *b, tw_str name, const char *operator,
                           tw_bson_value ids, request_why *why)
{
    request_id *at;
    size_t count;
    tw_err err = request_ids_read(arena, ids, &at, &count, why);
    if (err != TW_OK) {
        return err;
    }
    tw_bson_open_doc(b, name);
    tw_bson_open_array(b, tw_str_of(operator));
    for (size_t i = 0; i < count; i++) {
        tw_bson_add_key(b, TW_STR(""), at[i].key);
        if (at[i].also.len != 0) {
            tw_bson_add_key(b, TW_STR(""), at[i].also);
        }
    }
    tw_bson_close(b);
    tw_bson_close(b);
    return TW_OK;
}

/* The clause of a filter on the key: a text may be another spelling of an ObjectId. */
static tw_err add_key_clause(tw_arena *arena, tw_bson_builder *b, tw_str name, tw_bson_value value,
                             request_why *why)
{
    if (value.type == TW_BSON_STRING) {
        return add_readings(arena, b, name, "$in", value, why);
    }
    tw_bson clause = tw_bson_value_doc(value);
    if (value.type == TW_BSON_DOCUMENT && tw_bson_count(clause) == 1) {
        static const char *const lists[] = {"$in", "$nin"};
        for (size_t i = 0; i < TW_COUNT(lists); i++) {
            tw_bson_value ids = tw_bson_get(clause, tw_str_of(lists[i]));
            if (ids.type == TW_BSON_ARRAY && tw_bson_count(tw_bson_value_doc(ids)) > 0) {
                return add_readings(arena, b, name, lists[i], ids, why);
            }
        }
    }
    tw_bson_add_value(b, name, value);
    return TW_OK;
}

tw_err request_coerce_query(request *self, tw_bson_value query, tw_bson *out, request_why *why)
{
    *out = (tw_bson){0};
    if (query.type == 0) {
        return TW_OK;
    }
    tw_buf *scratch = &self->engine->scratch;
    tw_str key = tw_str_of(self->rules->key);
    tw_err err = TW_OK;
    tw_bson_builder b;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    if (query.type != TW_BSON_DOCUMENT) {
        err = add_readings(&self->arena, &b, key, "$in", query, why);
    } else {
        tw_bson_iter iter;
        tw_bson_iter_init(&iter, tw_bson_value_doc(query));
        while (err == TW_OK && tw_bson_iter_next(&iter)) {
            if (tw_str_equal(iter.name, key)) {
                err = add_key_clause(&self->arena, &b, iter.name, iter.value, why);
            } else {
                tw_bson_add_value(&b, iter.name, iter.value);
            }
        }
    }
    if (err != TW_OK) {
        return err;
    }
    (void)tw_bson_end(&b);
    if (scratch->err == TW_OK && scratch->len > TW_QUERY_MAX) {
        return broker_refuse(&why->why, TW_E_BAD_QUERY, "The query is larger than %d bytes.",
                             TW_QUERY_MAX);
    }
    return request_keep(self, scratch, out);
}

/* ---- projections ---- */
tw_err request_told_one(request *self, tw_str name, tw_bson *out)
{
    tw_bson_builder b;
    tw_buf_clear(&self->engine->scratch);
    tw_bson_begin(&b, &self->engine->scratch);
    tw_bson_add_str(&b, TW_STR("0"), name);
    (void)tw_bson_end(&b);
    return request_keep(self, &self->engine->scratch, out);
}

tw_err request_coerce_told(request *self, tw_bson_value told, tw_bson *out, request_why *why)
{
    *out = (tw_bson){0};
    if (told.type == 0) {
        return TW_OK;
    }
    if (told.type == TW_BSON_STRING) {
        return request_told_one(self, tw_bson_value_str(told), out);
    }
    projection names;
    tw_err err = projection_init(&names, tw_bson_value_doc(told));
    if (err != TW_OK) {
        return broker_refuse(&why->why, err,
                             "\"fields\" is to be a list of names, or an object {name: 1}.");
    }
    char index[16];
    tw_bson_builder b;
    tw_buf_clear(&self->engine->scratch);
    tw_bson_begin(&b, &self->engine->scratch);
    for (size_t i = 0; i < names.count; i++) {
        size_t len = tw_format(index, sizeof index, "%zu", i);
        tw_bson_add_str(&b, (tw_str){index, len}, names.names[i]);
    }
    (void)tw_bson_end(&b);
    if (self->engine->scratch.len > TW_QUERY_MAX) {
        return broker_refuse(&why->why, TW_E_TOO_BIG, "\"fields\" is too long.");
    }
    return request_keep(self, &self->engine->scratch, out);
}
