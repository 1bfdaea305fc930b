/* position.c - positions and vectors of them.
 *
 * Vectors have at most TW_ORIGINS_MAX components, in practice one to three: they are searched from
 * the front. */
#include "broker/position.h"

#include "protocol/messages.h"

enum {
    CLUSTER_TIME_EPOCH_S = 1577836800, /* 2020-01-01T00:00:00Z */
    INCREMENT_BITS = 21,
    INCREMENT_MAX = (1 << INCREMENT_BITS) - 1,
};

/* Index of srv in vector, or of the first component behind where it belongs. */
static size_t find(tw_vector vector, uint64_t srv)
{
    TW_ASSERT(vector.count <= TW_ORIGINS_MAX);
    TW_ASSERT(vector.count == 0 || vector.at != NULL);
    size_t i = 0;
    while (i < vector.count && vector.at[i].srv < srv) {
        i++;
    }
    return i;
}

uint64_t position_vector_get(tw_vector vector, uint64_t srv)
{
    TW_ASSERT(srv <= TW_SEQNO_MAX);
    size_t i = find(vector, srv);
    bool is_there = i < vector.count && vector.at[i].srv == srv;
    TW_ASSERT(!is_there || vector.at[i].seqno <= TW_SEQNO_MAX);
    return is_there ? vector.at[i].seqno : 0;
}

bool position_vector_covers(tw_vector vector, tw_position position)
{
    TW_ASSERT(position.srv <= TW_SEQNO_MAX);
    TW_ASSERT(position.seqno <= TW_SEQNO_MAX);
    return position_vector_get(vector, position.srv) >= position.seqno;
}

tw_vector position_set_view(const position_set *set)
{
    TW_ASSERT(set != NULL);
    TW_ASSERT(set->count <= TW_ORIGINS_MAX);
    return (tw_vector){set->at, set->count};
}

tw_err position_set_raise(position_set *set, tw_position position)
{
    TW_ASSERT(position.srv <= TW_SEQNO_MAX);
    TW_ASSERT(position.seqno <= TW_SEQNO_MAX);
    size_t i = find(position_set_view(set), position.srv);
    if (i < set->count && set->at[i].srv == position.srv) {
        if (set->at[i].seqno < position.seqno) {
            set->at[i].seqno = position.seqno;
        }
        return TW_OK;
    }
    if (set->count == TW_ORIGINS_MAX) {
        return TW_E_TOO_MANY;
    }
    memmove(&set->at[i + 1], &set->at[i], (set->count - i) * sizeof set->at[0]);
    set->at[i] = position;
    set->count++;
    return TW_OK;
}

tw_err position_vector_merge(tw_arena *arena, tw_vector a, tw_vector b, tw_vector *out)
{
    TW_ASSERT(arena != NULL);
    TW_ASSERT(a.count <= TW_ORIGINS_MAX);
    position_set set = {.count = a.count};
    if (a.count > 0) {
        memcpy(set.at, a.at, a.count * sizeof set.at[0]);
    }
    for (size_t i = 0; i < b.count; i++) {
        tw_err err = position_set_raise(&set, b.at[i]);
        if (err != TW_OK) {
            return err;
        }
    }
    tw_vector merged = tw_arena_vector(arena, position_set_view(&set));
    if (merged.at == NULL && merged.count > 0) {
        return TW_E_NO_MEMORY;
    }
    *out = merged;
    return TW_OK;
}

/* Reads one number of a pair: whole, 0 to 2^53-1. */
static bool read_number(tw_bson_value value, uint64_t *out)
{
    TW_ASSERT(out != NULL);
    int64_t number;
    if (!tw_bson_value_is_number(value) || !tw_bson_value_i64(value, &number)) {
        return false;
    }
    if (number < 0 || (uint64_t)number > TW_SEQNO_MAX) {
        return false;
    }
    *out = (uint64_t)number;
    TW_ASSERT(*out <= TW_SEQNO_MAX);
    return true;
}

/* Reads [srv, seqno]. */
static bool read_pair(tw_bson_value value, tw_position *out)
{
    TW_ASSERT(out != NULL);
    if (value.type != TW_BSON_ARRAY) {
        return false;
    }
    tw_bson pair = tw_bson_value_doc(value);
    if (tw_bson_count(pair) != 2) {
        return false;
    }
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, pair);
    bool is_right = tw_bson_iter_next(&iter) && read_number(iter.value, &out->srv) &&
                    tw_bson_iter_next(&iter) && read_number(iter.value, &out->seqno);
    TW_ASSERT(!is_right || out->srv <= TW_SEQNO_MAX);
    return is_right;
}

tw_err position_vector_parse(tw_arena *arena, tw_bson_value since, tw_vector *out, const char **why)
{
    TW_ASSERT(out != NULL);
    TW_ASSERT(why != NULL);
    if (since.type != TW_BSON_ARRAY) {
        *why = "not an array of [srv_id, seqno] pairs";
        return TW_E_BAD_SINCE;
    }
    position_set set = {.count = 0};
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(since)); tw_bson_iter_next(&iter);) {
        tw_position position;
        if (!read_pair(iter.value, &position)) {
            *why = "an item is not [srv_id, seqno], two whole numbers below 2^53";
            return TW_E_BAD_SINCE;
        }
        size_t count = set.count;
        if (position_set_raise(&set, position) != TW_OK) {
            *why = "it has too many origins";
            return TW_E_BAD_SINCE;
        }
        if (set.count == count) {
            *why = "it names an origin twice";
            return TW_E_BAD_SINCE;
        }
    }
    tw_vector parsed = tw_arena_vector(arena, position_set_view(&set));
    if (parsed.at == NULL && parsed.count > 0) {
        return TW_E_NO_MEMORY;
    }
    *out = parsed;
    return TW_OK;
}

uint64_t position_of_cluster_time(uint32_t seconds, uint32_t increment)
{
    if (seconds < CLUSTER_TIME_EPOCH_S) {
        return 0;
    }
    uint64_t since_epoch_s = seconds - (uint32_t)CLUSTER_TIME_EPOCH_S;
    uint64_t low = increment > INCREMENT_MAX ? INCREMENT_MAX : increment;
    uint64_t seqno = (since_epoch_s << INCREMENT_BITS) + low;
    TW_ASSERT(low >> INCREMENT_BITS == 0);
    TW_ASSERT(seqno <= TW_SEQNO_MAX);
    return seqno;
}
