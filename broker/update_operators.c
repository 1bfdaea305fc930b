/* update_operators.c - what each operator of an update does to the value at its path. */
#include <math.h>
#include <stdlib.h>

#include "protocol/limits.h"

#include "broker/path.h"
#include "broker/query.h"
#include "broker/update_priv.h"

/* ---- values made here ---- */

static tw_err make_bytes(update_run *run, uint8_t type, uint64_t bits, size_t len,
                         tw_bson_value *out)
{
    uint8_t *bytes = tw_arena_alloc(run->arena, 8);
    TW_ASSERT(len <= 8);
    TW_ASSERT(out != NULL);
    if (bytes == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(bits >> (8 * i));
    }
    *out = (tw_bson_value){.type = type, .ptr = bytes, .len = len};
    return TW_OK;
}

static tw_err make_double(update_run *run, double number, tw_bson_value *out)
{
    uint64_t bits;
    static_assert(sizeof bits == sizeof number, "BSON's double is IEEE 754");
    memcpy(&bits, &number, sizeof bits);
    return make_bytes(run, TW_BSON_DOUBLE, bits, 8, out);
}

static void set_value(update_node *node, tw_bson_value value)
{
    TW_ASSERT(value.type != 0);
    node->opened = false;
    node->first = NULL;
    node->last = NULL;
    node->count = 0;
    node->value = value;
}

static bool is_missing(const update_node *node)
{
    return node->value.type == 0 && !node->opened;
}

/* ---- plain values ---- */

static tw_err apply_set(update_run *run, const update_change *change)
{
    update_node *node;
    TW_ASSERT(change->operand.type != 0);
    tw_err err = update_find(run, change->path, true, true, &node);
    if (err == TW_OK) {
        set_value(node, change->operand);
    }
    return err;
}

/* What the source of a rename holds. What is missing is no error; a plain value in the way, a name
 * inside an array and an element of an array are. */
static tw_err rename_source(update_run *run, tw_str from, tw_bson_value *out)
{
    tw_bson_value at = {.type = TW_BSON_DOCUMENT, .ptr = run->doc.ptr, .len = run->doc.len};
    tw_str rest = from;
    bool more = true;
    bool in_array = false;
    *out = (tw_bson_value){0};
    TW_ASSERT(from.len > 0);
    while (more && at.type != 0) {
        tw_str name;
        more = path_cut(rest, &name, &rest);
        if (at.type != TW_BSON_DOCUMENT && at.type != TW_BSON_ARRAY) {
            return update_refuse(run, from, "$rename: a plain value stands in the way");
        }
        if (at.type == TW_BSON_ARRAY && (name.ptr[0] < '0' || name.ptr[0] > '9')) {
            return update_refuse(run, from, "$rename: an array has indices, not names");
        }
        in_array = in_array || at.type == TW_BSON_ARRAY;
        at = tw_bson_get(tw_bson_value_doc(at), name);
    }
    if (at.type != 0 && in_array) {
        return update_refuse(run, from, "$rename does not go through arrays");
    }
    *out = at;
    return TW_OK;
}

tw_err update_rename_to(update_run *run, const update_change *change)
{
    update_node *node;
    tw_bson_value value;
    tw_str from = {(const char *)change->operand.ptr, change->operand.len};
    TW_ASSERT(from.len > 0);
    tw_err err = rename_source(run, from, &value);
    if (err != TW_OK || value.type == 0) {
        return err;
    }
    err = update_find(run, change->path, true, false, &node);
    if (err == TW_OK) {
        set_value(node, value);
    }
    return err;
}

static tw_err apply_bound(update_run *run, const update_change *change, int sign)
{
    update_node *node;
    TW_ASSERT(sign == 1 || sign == -1);
    tw_err err = update_find(run, change->path, true, true, &node);
    if (err != TW_OK) {
        return err;
    }
    TW_ASSERT(!node->opened); /* nothing else touches this path */
    if (is_missing(node) || sign * tw_bson_compare(change->operand, node->value) > 0) {
        set_value(node, change->operand);
    }
    return TW_OK;
}

static tw_err apply_min(update_run *run, const update_change *change)
{
    return apply_bound(run, change, -1);
}

static tw_err apply_max(update_run *run, const update_change *change)
{
    return apply_bound(run, change, 1);
}

static tw_err apply_current_date(update_run *run, const update_change *change)
{
    update_node *node;
    tw_bson_value now;
    tw_bson_value wanted = change->operand;
    TW_ASSERT(wanted.type != 0);
    if (wanted.type == TW_BSON_DOCUMENT) {
        wanted = tw_bson_get(tw_bson_value_doc(wanted), TW_STR("$type"));
    }
    tw_str name = tw_bson_value_str(wanted);
    bool stamp = name.ptr != NULL && tw_str_equal(name, TW_STR("timestamp"));
    bool date =
        wanted.type == TW_BSON_BOOL || (name.ptr != NULL && tw_str_equal(name, TW_STR("date")));
    if (!stamp && !date) {
        return update_refuse(run, change->path, "$currentDate needs true or {$type: date}");
    }
    tw_err err = update_find(run, change->path, true, true, &node);
    if (err == TW_OK) {
        err = stamp ? make_bytes(run, TW_BSON_TIMESTAMP, run->now_ms / 1000 << 32 | 1, 8, &now)
                    : make_bytes(run, TW_BSON_DATE, run->now_ms, 8, &now);
    }
    if (err == TW_OK) {
        set_value(node, now);
    }
    return err;
}

/* ---- arithmetic: int32 grows to int64, anything with a double is a double ---- */

static tw_err apply_arithmetic(update_run *run, const update_change *change, bool multiply)
{
    update_node *node;
    tw_bson_value by = change->operand;
    tw_bson_value result;
    if (!tw_bson_value_is_number(by)) {
        return update_refuse(run, change->path, "$inc and $mul need a number");
    }
    tw_err err = update_find(run, change->path, true, true, &node);
    if (err != TW_OK) {
        return err;
    }
    tw_bson_value old = node->value;
    if (!is_missing(node) && (node->opened || !tw_bson_value_is_number(old))) {
        return update_refuse(run, change->path, "$inc and $mul change numbers only");
    }
    if (is_missing(node) && !multiply) {
        set_value(node, by);
        return TW_OK;
    }
    if (by.type == TW_BSON_DOUBLE || old.type == TW_BSON_DOUBLE) {
        double a = old.type == 0 ? 0 : tw_bson_value_double(old);
        double b = tw_bson_value_double(by);
        err = make_double(run, multiply ? a * b : a + b, &result);
    } else {
        int64_t a = 0;
        int64_t b = 0;
        int64_t sum;
        (void)tw_bson_value_i64(old, &a);
        (void)tw_bson_value_i64(by, &b);
        bool over =
            multiply ? __builtin_mul_overflow(a, b, &sum) : __builtin_add_overflow(a, b, &sum);
        if (over) {
            return update_refuse(run, change->path, "the result does not fit 64 bits");
        }
        bool small = by.type == TW_BSON_INT32 && (old.type == TW_BSON_INT32 || old.type == 0) &&
                     sum >= INT32_MIN && sum <= INT32_MAX;
        err = small ? make_bytes(run, TW_BSON_INT32, (uint64_t)sum, 4, &result)
                    : make_bytes(run, TW_BSON_INT64, (uint64_t)sum, 8, &result);
    }
    if (err == TW_OK) {
        set_value(node, result);
    }
    return err;
}

static tw_err apply_inc(update_run *run, const update_change *change)
{
    return apply_arithmetic(run, change, false);
}

static tw_err apply_mul(update_run *run, const update_change *change)
{
    return apply_arithmetic(run, change, true);
}

/* ---- arrays ---- */

/* The array at the change's path, opened. *out NULL: missing, and create was not set. */
static tw_err find_array(update_run *run, const update_change *change, bool create,
                         update_node **out)
{
    tw_err err = update_find(run, change->path, create, true, out);
    TW_ASSERT(change->path.len > 0);
    if (err != TW_OK || *out == NULL) {
        return err;
    }
    update_node *node = *out;
    if (is_missing(node)) {
        node->opened = true;
        node->is_array = true;
        return TW_OK;
    }
    if (node->opened ? !node->is_array : node->value.type != TW_BSON_ARRAY) {
        return update_refuse(run, change->path, "no array stands here");
    }
    TW_ASSERT(node->opened || node->value.type == TW_BSON_ARRAY);
    (void)update_open(run, node, &err);
    return err;
}

/* The elements of an array as a list that can be cut and sorted. */
typedef struct elements {
    tw_bson_value *at;
    size_t count;
} elements;

static tw_err list_elements(update_run *run, const update_node *array, size_t room, elements *out)
{
    TW_ASSERT(array->opened && array->is_array);
    out->count = 0;
    out->at = tw_arena_alloc(run->arena, (array->count + room + 1) * sizeof *out->at);
    if (out->at == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (const update_node *child = array->first; child != NULL; child = child->next) {
        TW_ASSERT(!child->opened); /* a change inside would have met this one */
        out->at[out->count++] = child->value;
    }
    return TW_OK;
}

static tw_err store_elements(update_run *run, update_node *array, const elements *list)
{
    TW_ASSERT(array->opened && array->is_array);
    array->first = NULL;
    array->last = NULL;
    array->count = 0;
    update_node *nodes = tw_arena_zero(run->arena, list->count + 1, sizeof *nodes);
    if (nodes == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < list->count; i++) {
        nodes[i].value = list->at[i];
        nodes[i].next = i + 1 < list->count ? &nodes[i + 1] : NULL;
    }
    if (list->count > 0) {
        array->first = &nodes[0];
        array->last = &nodes[list->count - 1];
    }
    array->count = (uint32_t)list->count;
    return TW_OK;
}

static int ascending(const void *a, const void *b)
{
    return tw_bson_compare(*(const tw_bson_value *)a, *(const tw_bson_value *)b);
}

static int descending(const void *a, const void *b)
{
    return ascending(b, a);
}

/* The modifiers of $push. */
typedef struct push_options {
    tw_bson_value each;
    bool has_position;
    bool has_slice;
    int64_t position;
    int64_t slice;
    int64_t sort; /* 0: none */
} push_options;

static tw_err read_push(update_run *run, const update_change *change, push_options *out)
{
    tw_bson_iter iter;
    TW_ASSERT(change->operand.type == TW_BSON_DOCUMENT);
    *out = (push_options){0};
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(change->operand)); tw_bson_iter_next(&iter);) {
        if (tw_str_equal(iter.name, TW_STR("$each")) && iter.value.type == TW_BSON_ARRAY) {
            out->each = iter.value;
        } else if (tw_str_equal(iter.name, TW_STR("$position")) &&
                   tw_bson_value_i64(iter.value, &out->position)) {
            out->has_position = true;
        } else if (tw_str_equal(iter.name, TW_STR("$slice")) &&
                   tw_bson_value_i64(iter.value, &out->slice)) {
            out->has_slice = true;
        } else if (!tw_str_equal(iter.name, TW_STR("$sort")) ||
                   !tw_bson_value_i64(iter.value, &out->sort) ||
                   (out->sort != 1 && out->sort != -1)) {
            return update_refuse(run, change->path,
                                 "$push takes $each (array), $position, $slice (whole numbers) and "
                                 "$sort (1 or -1)");
        }
    }
    return out->each.type != 0 ? TW_OK : update_refuse(run, change->path, "$push needs $each here");
}

/* A document whose first name is a modifier. */
static bool has_modifiers(tw_bson_value value)
{
    tw_bson_iter iter;
    if (value.type != TW_BSON_DOCUMENT) {
        return false;
    }
    tw_bson_iter_init(&iter, tw_bson_value_doc(value));
    return tw_bson_iter_next(&iter) && iter.name.len > 0 && iter.name.ptr[0] == '$';
}

static void slice_elements(elements *list, int64_t slice)
{
    uint64_t keep = slice < 0 ? (uint64_t) - (slice + 1) + 1 : (uint64_t)slice;
    TW_ASSERT(list->at != NULL);
    if (keep >= list->count) {
        return;
    }
    if (slice < 0) {
        memmove(list->at, list->at + (list->count - keep), keep * sizeof *list->at);
    }
    list->count = keep;
}

static void insert_elements(elements *list, tw_bson added, const push_options *options)
{
    size_t count = tw_bson_count(added);
    size_t at = list->count;
    TW_ASSERT(list->at != NULL);
    if (options->has_position && options->position >= 0 && (uint64_t)options->position < at) {
        at = (size_t)options->position;
    } else if (options->has_position && options->position < 0) {
        uint64_t back = (uint64_t) - (options->position + 1) + 1;
        at = back < at ? at - (size_t)back : 0;
    }
    memmove(list->at + at + count, list->at + at, (list->count - at) * sizeof *list->at);
    list->count += count;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, added); tw_bson_iter_next(&iter);) {
        list->at[at++] = iter.value;
    }
    TW_ASSERT(at <= list->count);
}

static tw_err apply_push(update_run *run, const update_change *change)
{
    update_node *array;
    elements list;
    push_options options = {0};
    TW_ASSERT(change->operand.type != 0);
    bool modified = has_modifiers(change->operand);
    tw_err err = modified ? read_push(run, change, &options) : TW_OK;
    if (err == TW_OK) {
        err = find_array(run, change, true, &array);
    }
    tw_bson added = tw_bson_value_doc(options.each);
    if (err == TW_OK) {
        err = list_elements(run, array, modified ? tw_bson_count(added) : 1, &list);
    }
    if (err != TW_OK) {
        return err;
    }
    if (!modified) {
        list.at[list.count++] = change->operand;
        return store_elements(run, array, &list);
    }
    insert_elements(&list, added, &options);
    if (options.sort != 0) {
        qsort(list.at, list.count, sizeof *list.at, options.sort > 0 ? ascending : descending);
    }
    if (options.has_slice) {
        slice_elements(&list, options.slice);
    }
    return store_elements(run, array, &list);
}

static void add_once(elements *list, tw_bson_value value)
{
    TW_ASSERT(value.type != 0);
    for (size_t i = 0; i < list->count; i++) {
        if (tw_bson_compare(list->at[i], value) == 0) {
            return;
        }
    }
    list->at[list->count++] = value;
}

static tw_err apply_add_to_set(update_run *run, const update_change *change)
{
    update_node *array;
    elements list;
    tw_bson_value each = {0};
    TW_ASSERT(change->operand.type != 0);
    if (has_modifiers(change->operand)) {
        tw_bson operand = tw_bson_value_doc(change->operand);
        each = tw_bson_get(operand, TW_STR("$each"));
        if (each.type != TW_BSON_ARRAY || tw_bson_count(operand) != 1) {
            return update_refuse(run, change->path, "$addToSet takes $each (array) only");
        }
    }
    tw_err err = find_array(run, change, true, &array);
    if (err == TW_OK) {
        err = list_elements(run, array, tw_bson_count(tw_bson_value_doc(each)) + 1, &list);
    }
    if (err != TW_OK) {
        return err;
    }
    if (each.type == 0) {
        add_once(&list, change->operand);
    } else {
        tw_bson_iter iter;
        for (tw_bson_iter_init(&iter, tw_bson_value_doc(each)); tw_bson_iter_next(&iter);) {
            add_once(&list, iter.value);
        }
    }
    return store_elements(run, array, &list);
}

static tw_err apply_pop(update_run *run, const update_change *change)
{
    update_node *array;
    elements list;
    int64_t end;
    TW_ASSERT(change->operand.type != 0);
    if (!tw_bson_value_i64(change->operand, &end) || (end != 1 && end != -1)) {
        return update_refuse(run, change->path, "$pop needs 1 or -1");
    }
    tw_err err = find_array(run, change, false, &array);
    if (err != TW_OK || array == NULL || array->count == 0) {
        return err;
    }
    err = list_elements(run, array, 0, &list);
    if (err != TW_OK) {
        return err;
    }
    list.count--;
    if (end == -1) {
        memmove(list.at, list.at + 1, list.count * sizeof *list.at);
    }
    return store_elements(run, array, &list);
}

/* ---- $pull ---- */

/* What an element must be to go: fields of a document, or operators on the element itself (then the
 * filter is {v: operand} and the element is wrapped so), or equal. */
typedef struct pull_test {
    query *query; /* own; NULL: equal */
    bool wrapped;
    tw_buf scratch; /* own; {v: element} */
} pull_test;

static tw_bson wrap(tw_buf *buf, tw_bson_value value)
{
    tw_bson_builder b;
    TW_ASSERT(value.type != 0);
    tw_buf_clear(buf);
    tw_bson_begin(&b, buf);
    tw_bson_add_value(&b, TW_STR("v"), value);
    return tw_bson_end(&b);
}

static bool is_logical(tw_bson_value operand)
{
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, tw_bson_value_doc(operand));
    return tw_bson_iter_next(&iter) &&
           (tw_str_equal(iter.name, TW_STR("$and")) || tw_str_equal(iter.name, TW_STR("$or")) ||
            tw_str_equal(iter.name, TW_STR("$nor")));
}

static tw_err prepare_pull(update_run *run, const update_change *change, pull_test *test)
{
    tw_bson_value operand = change->operand;
    TW_ASSERT(operand.type != 0);
    test->query = NULL;
    test->wrapped = false;
    if (operand.type != TW_BSON_DOCUMENT && operand.type != TW_BSON_REGEX) {
        return TW_OK;
    }
    tw_bson filter = tw_bson_value_doc(operand);
    if (operand.type == TW_BSON_REGEX || (has_modifiers(operand) && !is_logical(operand))) {
        test->wrapped = true;
        filter = wrap(&test->scratch, operand);
        if (test->scratch.err != TW_OK) {
            return test->scratch.err;
        }
    }
    broker_why inner = {0};
    tw_err err = query_compile(filter, &test->query, &inner);
    return err == TW_E_BAD_FILTER ? update_refuse(run, change->path, inner.text) : err;
}

static bool pull_holds(pull_test *test, tw_bson_value operand, tw_bson_value element)
{
    TW_ASSERT(element.type != 0);
    if (test->query == NULL) {
        return tw_bson_compare(operand, element) == 0;
    }
    if (!test->wrapped) {
        return element.type == TW_BSON_DOCUMENT &&
               query_match(test->query, tw_bson_value_doc(element));
    }
    tw_bson doc = wrap(&test->scratch, element);
    return test->scratch.err == TW_OK && query_match(test->query, doc);
}

static tw_err apply_pull(update_run *run, const update_change *change)
{
    update_node *array;
    elements list;
    tw_err err = find_array(run, change, false, &array);
    TW_ASSERT(change->operand.type != 0);
    if (err == TW_OK && array != NULL) {
        err = list_elements(run, array, 0, &list);
    }
    if (err != TW_OK || array == NULL) {
        return err;
    }
    pull_test test;
    tw_buf_init(&test.scratch, TW_DOCUMENT_MAX + 64);
    err = prepare_pull(run, change, &test);
    if (err == TW_OK) {
        size_t kept = 0;
        for (size_t i = 0; i < list.count; i++) {
            if (!pull_holds(&test, change->operand, list.at[i])) {
                list.at[kept++] = list.at[i];
            }
        }
        list.count = kept;
        err = test.scratch.err != TW_OK ? test.scratch.err : store_elements(run, array, &list);
    }
    query_free(&test.query);
    tw_buf_fini(&test.scratch);
    return err;
}

const update_operator update_operators[] = {
    {"$set", apply_set},           {"$unset", update_unset}, {"$inc", apply_inc},
    {"$mul", apply_mul},           {"$min", apply_min},      {"$max", apply_max},
    {"$rename", update_rename_to}, {"$push", apply_push},    {"$addToSet", apply_add_to_set},
    {"$pull", apply_pull},         {"$pop", apply_pop},      {"$currentDate", apply_current_date},
    {"$setOnInsert", NULL}, /* there is no upsert */
};
const size_t update_operators_count = TW_COUNT(update_operators);
