/* update_server.c - an update document as a MongoDB server is given it.
 *
 * The operators are MongoDB's own, so they pass as they are. Two things differ: the version is the
 * store's to set, so what the asker says of it is left out; and $setOnInsert, which never applies
 * here, goes. */
#include "broker/update.h"

static bool is_at_or_below(tw_str path, tw_str field)
{
    return path.len >= field.len && memcmp(path.ptr, field.ptr, field.len) == 0 &&
           (path.len == field.len || path.ptr[field.len] == '.');
}

/* Copies an operator's changes but those of the version; *touches where a rename meets it. */
static void copy_changes(tw_bson_builder *b, tw_bson changes, bool renames, tw_str version_field,
                         bool *touches)
{
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, changes); tw_bson_iter_next(&i);) {
        bool meets = is_at_or_below(i.name, version_field);
        if (renames) {
            tw_str to = tw_bson_value_str(i.value);
            *touches = *touches || meets || (to.ptr != NULL && is_at_or_below(to, version_field));
        }
        if (!meets) {
            tw_bson_add_value(b, i.name, i.value);
        }
    }
}

/* True where any change of the operator is to be kept. */
static bool has_other(tw_bson changes, tw_str version_field)
{
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, changes); tw_bson_iter_next(&i);) {
        if (!is_at_or_below(i.name, version_field)) {
            return true;
        }
    }
    return false;
}

bool update_for_server(tw_arena *arena, tw_bson update, tw_str version_field, int64_t version,
                       tw_bson *out)
{
    tw_buf made;
    tw_bson_builder b;
    tw_bson_iter i;
    bool touches = false;
    bool sets = false;
    size_t kept = 0;
    TW_ASSERT(update.len >= 5 && version_field.len > 0);
    tw_buf_init(&made, update.len + version_field.len + 64);
    tw_bson_begin(&b, &made);
    for (tw_bson_iter_init(&i, update); tw_bson_iter_next(&i);) {
        tw_bson changes = tw_bson_value_doc(i.value);
        if (tw_str_equal(i.name, TW_STR("$setOnInsert")) || !has_other(changes, version_field)) {
            continue;
        }
        bool is_set = tw_str_equal(i.name, TW_STR("$set"));
        tw_bson_open_doc(&b, i.name);
        copy_changes(&b, changes, tw_str_equal(i.name, TW_STR("$rename")), version_field, &touches);
        if (is_set && !sets) {
            tw_bson_add_i64(&b, version_field, version);
            sets = true;
        } else if (is_set) {
            touches = true; /* $set twice: the server reads the last alone */
        }
        tw_bson_close(&b);
        kept++;
    }
    if (!sets) {
        tw_bson_open_doc(&b, TW_STR("$set"));
        tw_bson_add_i64(&b, version_field, version);
        tw_bson_close(&b);
    }
    tw_bson done = tw_bson_end(&b);
    bool same = made.err == TW_OK && !touches && kept > 0;
    *out = same ? tw_arena_bson(arena, done) : (tw_bson){0};
    tw_buf_fini(&made);
    return same && out->ptr != NULL;
}
