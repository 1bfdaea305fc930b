/* search_filter.c - see search_filter.h. */
#include "broker/search_filter.h"

#include "protocol/limits.h"

static tw_err add_filter(tw_bson_builder *b, tw_str name, tw_bson filter, int depth,
                         broker_why *why);

static tw_err refuse(tw_str name, broker_why *why)
{
    char shown[BROKER_SHOWN_MAX];
    return broker_refuse(why, TW_E_UNSUPPORTED,
                         "The collection's filter cannot be held against an index: %s",
                         broker_show(name, shown));
}

/* {"<clause>":{"field":value}} */
static void add_leaf(tw_bson_builder *b, const char *clause, tw_str field, tw_bson_value value)
{
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_open_doc(b, tw_str_of(clause));
    tw_bson_add_value(b, field, value);
    tw_bson_close(b);
    tw_bson_close(b);
}

static void add_exists(tw_bson_builder *b, tw_str field)
{
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_open_doc(b, TW_STR("exists"));
    tw_bson_add_str(b, TW_STR("field"), field);
    tw_bson_close(b);
    tw_bson_close(b);
}

/* Opens {"bool":{"<occur>":[ ; close_bool ends it. */
static void open_bool(tw_bson_builder *b, tw_str name, const char *occur)
{
    tw_bson_open_doc(b, name);
    tw_bson_open_doc(b, TW_STR("bool"));
    tw_bson_open_array(b, tw_str_of(occur));
}

static void close_bool(tw_bson_builder *b)
{
    tw_bson_close(b);
    tw_bson_close(b);
    tw_bson_close(b);
}

/* null also means: not there. */
static tw_err add_equal(tw_bson_builder *b, tw_str field, tw_bson_value value, broker_why *why)
{
    if (value.type == TW_BSON_NULL) {
        open_bool(b, TW_STR(""), "must_not");
        add_exists(b, field);
        close_bool(b);
        return TW_OK;
    }
    if (value.type == TW_BSON_DOCUMENT || value.type == TW_BSON_ARRAY ||
        value.type == TW_BSON_REGEX) {
        return refuse(field, why);
    }
    add_leaf(b, "term", field, value);
    return TW_OK;
}

static tw_err add_in(tw_bson_builder *b, tw_str field, tw_bson_value list, broker_why *why)
{
    tw_bson_iter iter;
    tw_err err = list.type == TW_BSON_ARRAY ? TW_OK : refuse(field, why);
    open_bool(b, TW_STR(""), "should");
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(list));
         err == TW_OK && tw_bson_iter_next(&iter);) {
        err = add_equal(b, field, iter.value, why);
    }
    tw_bson_close(b);
    tw_bson_add_i64(b, TW_STR("minimum_should_match"), 1);
    tw_bson_close(b);
    tw_bson_close(b);
    return err;
}

static tw_err add_operator(tw_bson_builder *b, tw_str field, tw_str operator, tw_bson_value value,
                           int depth, broker_why *why)
{
    static const char *const ranges[] = {"$gt", "$gte", "$lt", "$lte"};
    for (size_t i = 0; i < TW_COUNT(ranges); i++) {
        if (tw_str_equal(operator, tw_str_of(ranges[i]))) {
            tw_bson_open_doc(b, TW_STR(""));
            tw_bson_open_doc(b, TW_STR("range"));
            tw_bson_open_doc(b, field);
            tw_bson_add_value(b, tw_str_of(ranges[i] + 1), value);
            tw_bson_close(b);
            tw_bson_close(b);
            tw_bson_close(b);
            return TW_OK;
        }
    }
    if (tw_str_equal(operator, TW_STR("$eq"))) {
        return add_equal(b, field, value, why);
    }
    if (tw_str_equal(operator, TW_STR("$in"))) {
        return add_in(b, field, value, why);
    }
    tw_err err = TW_OK;
    bool exists = tw_str_equal(operator, TW_STR("$exists"));
    bool negated = tw_str_equal(operator, TW_STR("$ne")) ||
                   tw_str_equal(operator, TW_STR("$nin")) || tw_str_equal(operator, TW_STR("$not"));
    if (exists && tw_bson_value_bool_or(value, true)) {
        add_exists(b, field);
        return TW_OK;
    }
    if (!exists && !negated) {
        return refuse(operator, why);
    }
    open_bool(b, TW_STR(""), "must_not");
    if (exists) {
        add_exists(b, field);
    } else if (tw_str_equal(operator, TW_STR("$ne"))) {
        err = add_equal(b, field, value, why);
    } else if (tw_str_equal(operator, TW_STR("$nin"))) {
        err = add_in(b, field, value, why);
    } else if (value.type != TW_BSON_DOCUMENT || depth >= TW_FILTER_DEPTH_MAX) {
        err = refuse(operator, why);
    } else { /* $not holds for what its conditions together do not */
        tw_bson_iter iter;
        open_bool(b, TW_STR(""), "filter");
        for (tw_bson_iter_init(&iter, tw_bson_value_doc(value));
             err == TW_OK && tw_bson_iter_next(&iter);) {
            err = add_operator(b, field, iter.name, iter.value, depth + 1, why);
        }
        close_bool(b);
    }
    close_bool(b);
    return err;
}

static tw_err add_field(tw_bson_builder *b, tw_str field, tw_bson_value value, int depth,
                        broker_why *why)
{
    tw_bson doc = tw_bson_value_doc(value);
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, doc);
    bool operators = value.type == TW_BSON_DOCUMENT && tw_bson_iter_next(&iter) &&
                     iter.name.len > 0 && iter.name.ptr[0] == '$';
    if (!operators) {
        return add_equal(b, field, value, why);
    }
    tw_err err = TW_OK;
    for (tw_bson_iter_init(&iter, doc); err == TW_OK && tw_bson_iter_next(&iter);) {
        err = add_operator(b, field, iter.name, iter.value, depth, why);
    }
    return err;
}

static tw_err add_list(tw_bson_builder *b, const char *occur, tw_str name, tw_bson_value list,
                       int depth, broker_why *why)
{
    tw_bson_iter iter;
    tw_err err = list.type == TW_BSON_ARRAY ? TW_OK : refuse(name, why);
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_open_doc(b, TW_STR("bool"));
    tw_bson_open_array(b, tw_str_of(occur));
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(list));
         err == TW_OK && tw_bson_iter_next(&iter);) {
        err = add_filter(b, TW_STR(""), tw_bson_value_doc(iter.value), depth + 1, why);
    }
    tw_bson_close(b);
    if (strcmp(occur, "should") == 0) {
        tw_bson_add_i64(b, TW_STR("minimum_should_match"), 1);
    }
    tw_bson_close(b);
    tw_bson_close(b);
    return err;
}

static tw_err add_filter(tw_bson_builder *b, tw_str name, tw_bson filter, int depth,
                         broker_why *why)
{
    static const struct {
        const char *name, *occur;
    } lists[] = {{"$and", "filter"}, {"$or", "should"}, {"$nor", "must_not"}};
    if (depth > TW_FILTER_DEPTH_MAX) {
        return broker_refuse(why, TW_E_DEPTH, "The filter is nested too deeply.");
    }
    tw_bson_iter iter;
    tw_err err = TW_OK;
    open_bool(b, name, "filter");
    for (tw_bson_iter_init(&iter, filter); err == TW_OK && tw_bson_iter_next(&iter);) {
        size_t i = 0;
        while (i < TW_COUNT(lists) && !tw_str_equal(iter.name, tw_str_of(lists[i].name))) {
            i++;
        }
        if (i < TW_COUNT(lists)) {
            err = add_list(b, lists[i].occur, iter.name, iter.value, depth, why);
        } else if (iter.name.len > 0 && iter.name.ptr[0] == '$') {
            err = refuse(iter.name, why);
        } else {
            err = add_field(b, iter.name, iter.value, depth, why);
        }
    }
    close_bool(b);
    return err;
}

tw_err search_filter_add(tw_bson_builder *b, tw_str name, tw_bson filter, broker_why *why)
{
    return add_filter(b, name, filter, 1, why);
}
