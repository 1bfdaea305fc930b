/* aggregate_group.c - $group: documents with the same _id, and what is gathered of them.
 *
 * A group is found by the canonical bytes of its _id: equal numbers of any type are one. */
#include "broker/aggregate_priv.h"

enum { BUCKETS = 4096, FIELDS = 64, SET_MAX = 1000 };

typedef enum gather_kind {
    GATHER_SUM,
    GATHER_AVG,
    GATHER_MIN,
    GATHER_MAX,
    GATHER_PUSH,
    GATHER_SET,
    GATHER_FIRST,
    GATHER_LAST,
} gather_kind;

static const char *const gather_names[] = {
    [GATHER_SUM] = "$sum",     [GATHER_AVG] = "$avg",   [GATHER_MIN] = "$min",
    [GATHER_MAX] = "$max",     [GATHER_PUSH] = "$push", [GATHER_SET] = "$addToSet",
    [GATHER_FIRST] = "$first", [GATHER_LAST] = "$last",
};

/* A number that stays whole until it cannot. */
typedef struct number {
    bool is_double;
    int64_t whole;
    double real;
} number;

typedef struct item {
    struct item *next;
    tw_bson_value value;
} item;

/* What one accumulator has gathered in one group. */
typedef struct gathered {
    bool any; /* first, last, min, max: there is a value */
    number sum;
    uint64_t count;
    tw_bson_value value;
    item *first, *last;
} gathered;

typedef struct group {
    struct group *next;          /* of its bucket */
    struct group *next_in_order; /* of their coming */
    tw_str canonical;
    tw_bson_value id;
    gathered at[];
} group;

struct aggregate_groups {
    uint64_t seed; /* of the hashes */
    size_t fields;
    gather_kind kinds[FIELDS];
    tw_str names[FIELDS];
    tw_bson_value operands[FIELDS];
    tw_bson_value id;
    group *buckets[BUCKETS];
    group *first, *last;
    size_t count;
    const group *told; /* where aggregate_group_tell stands */
    size_t told_at;
};

/* ---- compiling ---- */

static tw_err compile_gather(aggregate_groups *groups, tw_str name, tw_bson_value given,
                             broker_why *why)
{
    tw_bson_iter iter;
    tw_bson spec = given.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(given) : (tw_bson){0};
    tw_bson_iter_init(&iter, spec);
    char shown[BROKER_SHOWN_MAX];
    broker_show(name, shown);
    bool dotted = memchr(name.ptr, '.', name.len) != NULL;
    if (name.len == 0 || name.ptr[0] == '$' || dotted || tw_bson_count(spec) != 1 ||
        !tw_bson_iter_next(&iter)) {
        return broker_refuse(why, TW_E_BAD_QUERY,
                             "$group: %s takes {$sum: ...} or another accumulator", shown);
    }
    for (size_t i = 0; i < TW_COUNT(gather_names); i++) {
        if (tw_str_equal(iter.name, tw_str_of(gather_names[i]))) {
            groups->kinds[groups->fields] = (gather_kind)i;
            groups->names[groups->fields] = name;
            groups->operands[groups->fields++] = iter.value;
            return aggregate_check_value(iter.value, gather_names[i], why);
        }
    }
    broker_show(iter.name, shown);
    return broker_refuse(
        why, TW_E_UNSUPPORTED,
        "there is no accumulator %s on this store; offered are $sum $avg $min $max "
        "$push $addToSet $first $last",
        shown);
}

/* _id is a value, or an object whose fields are values. */
static tw_err compile_id(tw_bson_value id, broker_why *why)
{
    tw_bson doc = id.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(id) : (tw_bson){0};
    tw_bson_iter iter;
    if (doc.len == 0 || tw_bson_get(doc, TW_STR("$literal")).type != 0) {
        return aggregate_check_value(id, "$group: _id", why);
    }
    tw_err err = TW_OK;
    for (tw_bson_iter_init(&iter, doc); err == TW_OK && tw_bson_iter_next(&iter);) {
        if (iter.name.len > 0 && iter.name.ptr[0] == '$') {
            char shown[BROKER_SHOWN_MAX];
            broker_show(iter.name, shown);
            return broker_refuse(why, TW_E_UNSUPPORTED, "$group: _id: %s is not offered", shown);
        }
        err = aggregate_check_value(iter.value, "$group: _id", why);
    }
    return err;
}

tw_err aggregate_group_compile(aggregate *self, aggregate_stage *stage, broker_why *why)
{
    tw_bson_iter iter;
    tw_bson spec =
        stage->spec.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(stage->spec) : (tw_bson){0};
    aggregate_groups *groups = tw_arena_zero(&self->arena, 1, sizeof *groups);
    if (groups == NULL) {
        return TW_E_NO_MEMORY;
    }
    stage->groups = groups;
    groups->seed = (uint64_t)(uintptr_t)groups * 0x9e3779b97f4a7c15ULL;
    groups->id = tw_bson_get(spec, TW_STR("_id"));
    if (spec.len == 0 || groups->id.type == 0) {
        return broker_refuse(why, TW_E_BAD_QUERY, "$group needs _id");
    }
    tw_err err = compile_id(groups->id, why);
    for (tw_bson_iter_init(&iter, spec); err == TW_OK && tw_bson_iter_next(&iter);) {
        if (tw_str_equal(iter.name, TW_STR("_id"))) {
            continue;
        }
        if (groups->fields == FIELDS) {
            return broker_refuse(why, TW_E_TOO_MANY, "$group: over %d fields", FIELDS);
        }
        err = compile_gather(groups, iter.name, iter.value, why);
    }
    return err;
}

/* ---- finding a group ---- */

/* The same bytes for equal values: whole numbers as int64, whatever their type. */
static void add_canonical(tw_buf *out, tw_bson_value value)
{
    int64_t whole = 0;
    if (tw_bson_value_i64(value, &whole)) {
        tw_buf_add_byte(out, TW_BSON_INT64);
        tw_buf_add(out, &whole, sizeof whole);
        return;
    }
    if (value.type != TW_BSON_DOCUMENT && value.type != TW_BSON_ARRAY) {
        uint64_t len = value.len;
        tw_buf_add_byte(out, (char)value.type);
        tw_buf_add(out, &len, sizeof len);
        tw_buf_add(out, value.ptr, value.len);
        return;
    }
    tw_bson_iter iter;
    tw_buf_add_byte(out, (char)value.type);
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value)); tw_bson_iter_next(&iter);) {
        tw_buf_add_byte(out, 1);
        tw_buf_add_str(out, iter.name);
        tw_buf_add_byte(out, 0);
        add_canonical(out, iter.value);
    }
    tw_buf_add_byte(out, 0);
}

/* The _id of the document's group, in the scratch of self; missing is null. */
static tw_bson_value id_of(aggregate *self, const aggregate_groups *groups, tw_bson doc)
{
    static const tw_bson_value null = {.type = TW_BSON_NULL};
    tw_bson spec =
        groups->id.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(groups->id) : (tw_bson){0};
    if (spec.len == 0 || tw_bson_get(spec, TW_STR("$literal")).type != 0) {
        tw_bson_value value = aggregate_value(doc, groups->id);
        return value.type == 0 ? null : value;
    }
    tw_bson_builder b;
    tw_bson_iter iter;
    tw_buf_clear(&self->scratch);
    tw_bson_begin(&b, &self->scratch);
    for (tw_bson_iter_init(&iter, spec); tw_bson_iter_next(&iter);) {
        tw_bson_value value = aggregate_value(doc, iter.value);
        if (value.type != 0) {
            tw_bson_add_value(&b, iter.name, value);
        }
    }
    tw_bson made = tw_bson_end(&b);
    return (tw_bson_value){.type = TW_BSON_DOCUMENT, .ptr = made.ptr, .len = made.len};
}

/* A copy of a value in the arena; ptr NULL of one with bytes = no memory. */
static bool keep_value(aggregate *self, tw_bson_value value, tw_bson_value *out)
{
    *out = value;
    if (value.len == 0) {
        return true;
    }
    uint8_t *copy = tw_arena_alloc(&self->arena, value.len);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, value.ptr, value.len);
    out->ptr = copy;
    return true;
}

static group *group_of(aggregate *self, aggregate_groups *groups, tw_bson doc)
{
    tw_bson_value id = id_of(self, groups, doc);
    tw_buf_clear(&self->projected);
    add_canonical(&self->projected, id);
    if (self->scratch.err != TW_OK || self->projected.err != TW_OK) {
        return NULL;
    }
    tw_str canonical = tw_buf_str(&self->projected);
    group **bucket =
        &groups->buckets[tw_hash(canonical.ptr, canonical.len, groups->seed) % BUCKETS];
    group *found = *bucket;
    while (found != NULL && !tw_str_equal(found->canonical, canonical)) {
        found = found->next;
    }
    if (found != NULL) {
        return found;
    }
    found = tw_arena_zero(&self->arena, 1, sizeof *found + groups->fields * sizeof(gathered));
    if (found == NULL || !keep_value(self, id, &found->id)) {
        return NULL;
    }
    found->canonical = tw_arena_str(&self->arena, canonical);
    if (found->canonical.ptr == NULL) {
        return NULL;
    }
    found->next = *bucket;
    *bucket = found;
    *(groups->last == NULL ? &groups->first : &groups->last->next_in_order) = found;
    groups->last = found;
    groups->count++;
    return found;
}

/* ---- gathering ---- */

static void number_add(number *sum, tw_bson_value value)
{
    int64_t whole = 0;
    bool is_whole = value.type != TW_BSON_DOUBLE && tw_bson_value_i64(value, &whole);
    int64_t both = 0;
    if (!sum->is_double && is_whole && !__builtin_add_overflow(sum->whole, whole, &both)) {
        sum->whole = both;
        return;
    }
    if (!sum->is_double) {
        sum->is_double = true;
        sum->real = (double)sum->whole;
    }
    sum->real += tw_bson_value_double(value);
}

static bool push(aggregate *self, gathered *to, tw_bson_value value)
{
    item *made = tw_arena_zero(&self->arena, 1, sizeof *made);
    if (made == NULL || !keep_value(self, value, &made->value)) {
        return false;
    }
    *(to->last == NULL ? &to->first : &to->last->next) = made;
    to->last = made;
    to->count++;
    return true;
}

static bool is_in(const gathered *set, tw_bson_value value)
{
    for (const item *at = set->first; at != NULL; at = at->next) {
        if (tw_bson_compare(at->value, value) == 0) {
            return true;
        }
    }
    return false;
}

/* Keeps the value in place of the one before. */
static bool replace(aggregate *self, gathered *to, tw_bson_value value)
{
    to->any = true;
    if (to->value.len >= value.len && to->value.ptr != NULL && value.len > 0) {
        memcpy((void *)(uintptr_t)to->value.ptr, value.ptr, value.len); /* its own copy */
        to->value.type = value.type;
        to->value.len = value.len;
        return true;
    }
    return keep_value(self, value, &to->value);
}

static tw_err gather(aggregate *self, gather_kind kind, gathered *to, tw_bson_value value,
                     broker_why *why)
{
    bool told = value.type != 0 && value.type != TW_BSON_NULL;
    bool kept = true;
    switch (kind) {
    case GATHER_SUM:
    case GATHER_AVG:
        if (tw_bson_value_is_number(value)) {
            number_add(&to->sum, value);
            to->count++;
        }
        break;
    case GATHER_MIN:
    case GATHER_MAX: {
        int order = to->any && told ? tw_bson_compare(value, to->value) : 0;
        bool better = told && (!to->any || (kind == GATHER_MIN ? order < 0 : order > 0));
        kept = !better || replace(self, to, value);
        break;
    }
    case GATHER_PUSH:
        kept = value.type == 0 || push(self, to, value);
        break;
    case GATHER_SET:
        if (value.type == 0 || is_in(to, value)) {
            break;
        }
        if (to->count == SET_MAX) {
            return broker_refuse(why, TW_E_TOO_COSTLY, "$addToSet: over %d values in a group",
                                 SET_MAX);
        }
        kept = push(self, to, value);
        break;
    case GATHER_FIRST:
        kept = to->any || replace(self, to, value);
        break;
    case GATHER_LAST:
        kept = replace(self, to, value);
        break;
    }
    return kept ? TW_OK : TW_E_NO_MEMORY;
}

tw_err aggregate_group_add(aggregate *self, aggregate_stage *stage, tw_bson doc, broker_why *why)
{
    aggregate_groups *groups = stage->groups;
    TW_ASSERT(groups != NULL);
    group *of = group_of(self, groups, doc);
    if (of == NULL) {
        return TW_E_NO_MEMORY;
    }
    tw_err err = TW_OK;
    for (size_t i = 0; i < groups->fields && err == TW_OK; i++) {
        tw_bson_value value = aggregate_value(doc, groups->operands[i]);
        err = gather(self, groups->kinds[i], &of->at[i], value, why);
    }
    return err;
}

/* ---- telling ---- */

static void add_number(tw_bson_builder *b, tw_str name, const number *value)
{
    if (value->is_double) {
        tw_bson_add_double(b, name, value->real);
    } else {
        tw_bson_add_i64(b, name, value->whole);
    }
}

static void add_gathered(tw_bson_builder *b, tw_str name, gather_kind kind, const gathered *from)
{
    switch (kind) {
    case GATHER_SUM:
        add_number(b, name, &from->sum);
        return;
    case GATHER_AVG:
        if (from->count > 0) {
            double sum = from->sum.is_double ? from->sum.real : (double)from->sum.whole;
            tw_bson_add_double(b, name, sum / (double)from->count);
            return;
        }
        break;
    case GATHER_PUSH:
    case GATHER_SET:
        tw_bson_open_array(b, name);
        for (const item *at = from->first; at != NULL; at = at->next) {
            tw_bson_add_value(b, TW_STR(""), at->value);
        }
        tw_bson_close(b);
        return;
    case GATHER_MIN:
    case GATHER_MAX:
    case GATHER_FIRST:
    case GATHER_LAST:
        if (from->any && from->value.type != 0) {
            tw_bson_add_value(b, name, from->value);
            return;
        }
        break;
    }
    tw_bson_add_null(b, name);
}

bool aggregate_group_tell(const aggregate_stage *stage, size_t index, tw_buf *out)
{
    aggregate_groups *groups = stage->groups;
    TW_ASSERT(groups != NULL);
    TW_ASSERT(index == 0 || index == groups->told_at + 1); /* in order */
    groups->told = index == 0 ? groups->first : groups->told->next_in_order;
    groups->told_at = index;
    if (groups->told == NULL) {
        return false;
    }
    tw_bson_builder b;
    tw_bson_begin(&b, out);
    tw_bson_add_value(&b, TW_STR("_id"), groups->told->id);
    for (size_t i = 0; i < groups->fields; i++) {
        add_gathered(&b, groups->names[i], groups->kinds[i], &groups->told->at[i]);
    }
    (void)tw_bson_end(&b);
    return true;
}
