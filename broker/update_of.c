/* update_of.c - update documents from the other two forms: fields, and the datastore's
 * operations. */
#include "protocol/limits.h"

#include "broker/update.h"

tw_err update_of_fields(tw_arena *arena, tw_bson fields, tw_bson *out, broker_why *why)
{
    tw_buf buf;
    tw_bson_builder b;
    TW_ASSERT(out != NULL);
    if (fields.len < 5) {
        return broker_refuse(why, TW_E_BAD_UPDATE, "fields must be an object");
    }
    tw_buf_init(&buf, TW_DOCUMENT_MAX);
    tw_bson_begin(&b, &buf);
    tw_bson_add_doc(&b, TW_STR("$set"), fields);
    tw_bson made = tw_bson_end(&b);
    tw_err err = buf.err;
    if (err == TW_OK) {
        *out = tw_arena_bson(arena, made);
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    tw_buf_fini(&buf);
    return err;
}

/* One kind of operation. Those with a list gather all values of a field in one operator, because an
 * update document names a field once. */
typedef struct operation_kind {
    const char *name;
    const char *operator;
    const char *list; /* $each or $in; NULL: one value */
    bool negated;
    bool bare; /* no value */
} operation_kind;

static const operation_kind kinds[] = {
    {"SET", "$set", NULL, false, false},
    {"INC", "$inc", NULL, false, false},
    {"DEC", "$inc", NULL, true, false},
    {"MAX", "$max", NULL, false, false},
    {"MIN", "$min", NULL, false, false},
    {"APPEND", "$push", "$each", false, false},
    {"REMOVE", "$pull", "$in", false, false},
    {"DELETE", "$unset", NULL, false, true},
    {"APPEND_IF_MISSING", "$addToSet", "$each", false, false},
};

typedef struct operation {
    const operation_kind *kind;
    tw_str field;
    tw_bson_value value;
} operation;

static tw_err read_operation(tw_bson_value item, operation *out, broker_why *why)
{
    tw_bson_value parts[4] = {{0}};
    size_t count = 0;
    char shown[BROKER_SHOWN_MAX];
    tw_bson_iter iter;
    TW_ASSERT(out != NULL);
    *out = (operation){0};
    if (item.type == TW_BSON_ARRAY) {
        for (tw_bson_iter_init(&iter, tw_bson_value_doc(item));
             count < TW_COUNT(parts) && tw_bson_iter_next(&iter);) {
            parts[count++] = iter.value;
        }
    }
    tw_str name = count > 0 ? tw_bson_value_str(parts[0]) : (tw_str){0};
    out->field = count > 1 ? tw_bson_value_str(parts[1]) : (tw_str){0};
    if (name.ptr == NULL || out->field.ptr == NULL || count == TW_COUNT(parts)) {
        return broker_refuse(why, TW_E_BAD_UPDATE, "an operation is [name, field, value]");
    }
    for (size_t i = 0; i < TW_COUNT(kinds); i++) {
        if (tw_str_equal(name, tw_str_of(kinds[i].name))) {
            out->kind = &kinds[i];
        }
    }
    if (out->kind == NULL) {
        return broker_refuse(why, TW_E_BAD_UPDATE, "operation %s is not known",
                             broker_show(name, shown));
    }
    if (!out->kind->bare && count != 3) {
        return broker_refuse(why, TW_E_BAD_UPDATE, "operation %s needs a value", out->kind->name);
    }
    if (out->kind->negated && !tw_bson_value_is_number(parts[2])) {
        return broker_refuse(why, TW_E_BAD_UPDATE, "operation DEC needs a number");
    }
    out->value = parts[2];
    return TW_OK;
}

static void add_plain(tw_bson_builder *b, const operation *given)
{
    int64_t whole;
    TW_ASSERT(given->kind->list == NULL);
    if (given->kind->bare) {
        tw_bson_add_bool(b, given->field, true);
    } else if (!given->kind->negated) {
        tw_bson_add_value(b, given->field, given->value);
    } else if (given->value.type != TW_BSON_DOUBLE && tw_bson_value_i64(given->value, &whole) &&
               whole != INT64_MIN) {
        tw_bson_add_i64(b, given->field, -whole);
    } else {
        tw_bson_add_double(b, given->field, -tw_bson_value_double(given->value));
    }
}

/* Writes all values of the field that operation `at` names first, if it does so first. */
static void add_list(tw_bson_builder *b, const operation *all, size_t count, size_t at)
{
    const operation *given = &all[at];
    TW_ASSERT(given->kind->list != NULL);
    for (size_t i = 0; i < at; i++) {
        if (all[i].kind == given->kind && tw_str_equal(all[i].field, given->field)) {
            return; /* stands there already */
        }
    }
    tw_bson_open_doc(b, given->field);
    tw_bson_open_array(b, tw_str_of(given->kind->list));
    for (size_t i = at; i < count; i++) {
        if (all[i].kind == given->kind && tw_str_equal(all[i].field, given->field)) {
            tw_bson_add_value(b, TW_STR(""), all[i].value);
        }
    }
    tw_bson_close(b);
    tw_bson_close(b);
}

static void add_operator(tw_bson_builder *b, const char *operator, const operation * all,
                         size_t count)
{
    bool opened = false;
    TW_ASSERT(count == 0 || all != NULL);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i].kind->operator, operator) != 0) {
            continue;
        }
        if (!opened) {
            tw_bson_open_doc(b, tw_str_of(operator));
            opened = true;
        }
        if (all[i].kind->list != NULL) {
            add_list(b, all, count, i);
        } else {
            add_plain(b, &all[i]);
        }
    }
    if (opened) {
        tw_bson_close(b);
    }
}

tw_err update_of_operations(tw_arena *arena, tw_bson operations, tw_bson *out, broker_why *why)
{
    size_t count = operations.len < 5 ? 0 : tw_bson_count(operations);
    TW_ASSERT(out != NULL);
    if (count == 0) {
        return broker_refuse(why, TW_E_BAD_UPDATE, "operations must be a list that is not empty");
    }
    if (count > TW_FIELDS_MAX) {
        return broker_refuse(why, TW_E_BAD_UPDATE, "over %d operations", TW_FIELDS_MAX);
    }
    operation *all = tw_arena_alloc(arena, count * sizeof *all);
    if (all == NULL) {
        return TW_E_NO_MEMORY;
    }
    size_t at = 0;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, operations); tw_bson_iter_next(&iter);) {
        tw_err err = read_operation(iter.value, &all[at++], why);
        if (err != TW_OK) {
            return err;
        }
    }
    tw_buf buf;
    tw_bson_builder b;
    tw_buf_init(&buf, TW_DOCUMENT_MAX);
    tw_bson_begin(&b, &buf);
    static const char *const operators[] = {"$set",  "$inc",      "$max",  "$min",
                                            "$push", "$addToSet", "$pull", "$unset"};
    for (size_t i = 0; i < TW_COUNT(operators); i++) {
        add_operator(&b, operators[i], all, count);
    }
    tw_bson made = tw_bson_end(&b);
    tw_err err = buf.err;
    if (err == TW_OK) {
        *out = tw_arena_bson(arena, made);
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    tw_buf_fini(&buf);
    return err;
}
