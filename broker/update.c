/* update.c - applying an update document.
 *
 * All changes are gathered and sorted by path first: two that touch the same value or one inside
 * the other are refused, and new fields come in the order of their names. Then the document is
 * taken apart along the paths, changed, and written once.
 *                                            Source  MongoDB manual, update operators */
#include "broker/update.h"

#include <stdlib.h>

#include "protocol/limits.h"

#include "broker/path.h"
#include "broker/update_priv.h"

enum { UPDATE_PAD_MAX = 65536 }; /* nulls that one index beyond an array's end may add */

tw_err update_refuse(update_run *run, tw_str path, const char *what)
{
    char shown[BROKER_SHOWN_MAX];
    TW_ASSERT(run != NULL);
    TW_ASSERT(what != NULL);
    return broker_refuse(run->why, TW_E_BAD_UPDATE, "at \"%s\": %s", broker_show(path, shown),
                         what);
}

/* ---- the document, taken apart ---- */

static update_node *add_child(update_run *run, update_node *parent, tw_str name)
{
    TW_ASSERT(parent->opened);
    update_node *child = tw_arena_zero(run->arena, 1, sizeof *child);
    if (child == NULL) {
        return NULL;
    }
    child->name = name;
    if (parent->last == NULL) {
        parent->first = child;
    } else {
        parent->last->next = child;
    }
    parent->last = child;
    parent->count++;
    return child;
}

bool update_open(update_run *run, update_node *node, tw_err *err)
{
    TW_ASSERT(node != NULL);
    TW_ASSERT(err != NULL);
    *err = TW_OK;
    if (node->opened) {
        return true;
    }
    if (node->value.type != TW_BSON_DOCUMENT && node->value.type != TW_BSON_ARRAY) {
        return false;
    }
    node->opened = true;
    node->is_array = node->value.type == TW_BSON_ARRAY;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(node->value)); tw_bson_iter_next(&iter);) {
        update_node *child = add_child(run, node, iter.name);
        if (child == NULL) {
            *err = TW_E_NO_MEMORY;
            return true;
        }
        child->value = iter.value;
    }
    return true;
}

static update_node *child_named(const update_node *parent, tw_str name)
{
    TW_ASSERT(parent->opened && !parent->is_array);
    for (update_node *child = parent->first; child != NULL; child = child->next) {
        if (tw_str_equal(child->name, name)) {
            return child;
        }
    }
    return NULL;
}

/* An index as a path spells it: no sign, no leading zero. */
static bool read_index(tw_str name, uint64_t *out)
{
    TW_ASSERT(out != NULL);
    if (name.len == 0 || name.len > 9 || (name.len > 1 && name.ptr[0] == '0')) {
        return false;
    }
    return tw_parse_u64(name, UINT32_MAX, out) == TW_OK;
}

static tw_err child_at(update_run *run, update_node *array, tw_str path, tw_str name, bool create,
                       update_node **out)
{
    uint64_t index;
    TW_ASSERT(array->opened && array->is_array);
    *out = NULL;
    if (!read_index(name, &index)) {
        return create ? update_refuse(run, path, "an array has indices, not names") : TW_OK;
    }
    if (index < array->count) {
        update_node *child = array->first;
        for (uint64_t i = 0; i < index; i++) {
            child = child->next;
        }
        *out = child;
        return TW_OK;
    }
    if (!create) {
        return TW_OK;
    }
    if (index - array->count > UPDATE_PAD_MAX) {
        return update_refuse(run, path, "the index is too far behind the array's end");
    }
    while (array->count <= index) {
        update_node *child = add_child(run, array, (tw_str){0});
        if (child == NULL) {
            return TW_E_NO_MEMORY;
        }
        child->value.type = array->count <= index ? TW_BSON_NULL : 0;
        *out = child;
    }
    return TW_OK;
}

tw_err update_find(update_run *run, tw_str path, bool create, bool through_arrays,
                   update_node **out)
{
    update_node *node = run->root;
    tw_str rest = path;
    bool more = true;
    TW_ASSERT(node != NULL && node->opened);
    *out = NULL;
    while (more) {
        tw_str name;
        tw_err err;
        more = path_cut(rest, &name, &rest);
        if (!update_open(run, node, &err)) {
            return create ? update_refuse(run, path, "a plain value stands in the way") : TW_OK;
        }
        if (err != TW_OK) {
            return err;
        }
        update_node *child = NULL;
        if (node->is_array && !through_arrays) {
            return update_refuse(run, path, "$rename does not go through arrays");
        } else if (node->is_array) {
            err = child_at(run, node, path, name, create, &child);
        } else {
            child = child_named(node, name);
            if (child == NULL && create) {
                child = add_child(run, node, name);
                err = child == NULL ? TW_E_NO_MEMORY : TW_OK;
            }
        }
        if (err != TW_OK || child == NULL) {
            return err;
        }
        if (more && child->value.type == 0 && !child->opened) {
            child->opened = true; /* made just now: a document for what is below */
        }
        node = child;
    }
    *out = node;
    return TW_OK;
}

tw_err update_unset(update_run *run, const update_change *change)
{
    update_node *node;
    TW_ASSERT(change != NULL);
    tw_err err = update_find(run, change->path, false, true, &node);
    if (err != TW_OK || node == NULL) {
        return err;
    }
    update_node *parent = run->root;
    const char *dot = memrchr(change->path.ptr, '.', change->path.len);
    if (dot != NULL) {
        tw_str above = {change->path.ptr, (size_t)(dot - change->path.ptr)};
        err = update_find(run, above, false, true, &parent);
        TW_ASSERT(err == TW_OK && parent != NULL);
    }
    if (parent->is_array) {
        node->opened = false;
        node->value = (tw_bson_value){.type = TW_BSON_NULL};
        return TW_OK;
    }
    update_node *before = NULL;
    for (update_node *child = parent->first; child != node; child = child->next) {
        before = child;
    }
    if (before == NULL) {
        parent->first = node->next;
    } else {
        before->next = node->next;
    }
    parent->last = parent->last == node ? before : parent->last;
    parent->count--;
    return TW_OK;
}

static void write_node(tw_bson_builder *b, const update_node *node)
{
    TW_ASSERT(b->out != NULL);
    for (const update_node *child = node->first; child != NULL && b->out->err == TW_OK;
         child = child->next) {
        if (!child->opened) {
            TW_ASSERT(child->value.type != 0); /* every change sets what it made */
            tw_bson_add_value(b, child->name, child->value);
            continue;
        }
        if (child->is_array) {
            tw_bson_open_array(b, child->name);
        } else {
            tw_bson_open_doc(b, child->name);
        }
        write_node(b, child);
        tw_bson_close(b);
    }
}

/* ---- gathering ---- */

static bool is_number_text(tw_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
    }
    return text.len > 0;
}

static int compare_names(tw_str a, tw_str b)
{
    if (is_number_text(a) && is_number_text(b) && a.len != b.len) {
        return a.len < b.len ? -1 : 1;
    }
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.ptr, b.ptr, len);
    if (order == 0 && a.len != b.len) {
        order = a.len < b.len ? -1 : 1;
    }
    return order;
}

/* Name by name, so that a path stands right before those that it begins. */
static int compare_paths(tw_str a, tw_str b)
{
    bool more_a = true;
    bool more_b = true;
    while (more_a && more_b) {
        tw_str name_a;
        tw_str name_b;
        more_a = path_cut(a, &name_a, &a);
        more_b = path_cut(b, &name_b, &b);
        int order = compare_names(name_a, name_b);
        if (order != 0) {
            return order;
        }
    }
    return (int)more_a - (int)more_b;
}

static int compare_changes(const void *a, const void *b)
{
    return compare_paths(((const update_change *)a)->path, ((const update_change *)b)->path);
}

static bool begins(tw_str path, tw_str longer)
{
    return longer.len >= path.len && memcmp(longer.ptr, path.ptr, path.len) == 0 &&
           (longer.len == path.len || longer.ptr[path.len] == '.');
}

static tw_err check_path(update_run *run, tw_str path)
{
    bool more = true;
    int depth = 0;
    tw_str rest = path;
    TW_ASSERT(path.ptr != NULL || path.len == 0);
    while (more) {
        tw_str name;
        more = path_cut(rest, &name, &rest);
        if (name.len == 0) {
            return update_refuse(run, path, "a name is empty");
        }
        if (name.ptr[0] == '$') {
            return update_refuse(run, path, "positional operators are not supported");
        }
        if (++depth > TW_DEPTH_MAX) {
            return update_refuse(run, path, "the path is too deep");
        }
    }
    return TW_OK;
}

static size_t count_changes(tw_bson update)
{
    size_t count = 0;
    tw_bson_iter iter;
    TW_ASSERT(update.len > 0);
    for (tw_bson_iter_init(&iter, update); tw_bson_iter_next(&iter);) {
        count += 2 * tw_bson_count(tw_bson_value_doc(iter.value)); /* a rename is two */
    }
    return count;
}

static const update_operator *find_operator(tw_str name)
{
    TW_ASSERT(name.ptr != NULL);
    for (size_t i = 0; i < update_operators_count; i++) {
        if (tw_str_equal(name, tw_str_of(update_operators[i].name))) {
            return &update_operators[i];
        }
    }
    return NULL;
}

/* A rename is two changes: what is renamed goes, and comes under its new name. */
static tw_err gather_rename(update_run *run, tw_str from, tw_bson_value operand,
                            update_change *changes, size_t *count)
{
    tw_str to = tw_bson_value_str(operand);
    TW_ASSERT(from.len > 0);
    if (to.ptr == NULL) {
        return update_refuse(run, from, "$rename needs the new name");
    }
    tw_err err = check_path(run, to);
    changes[(*count)++] = (update_change){.path = from, .operand = operand, .apply = update_unset};
    tw_bson_value source = {
        .type = TW_BSON_STRING, .ptr = (const uint8_t *)from.ptr, .len = from.len};
    changes[(*count)++] = (update_change){.path = to, .operand = source, .apply = update_rename_to};
    return err;
}

static tw_err gather(update_run *run, tw_bson update, update_change *changes, size_t *count)
{
    tw_bson_iter iter;
    char shown[BROKER_SHOWN_MAX];
    TW_ASSERT(*count == 0);
    for (tw_bson_iter_init(&iter, update); tw_bson_iter_next(&iter);) {
        const update_operator *found = find_operator(iter.name);
        if (found == NULL) {
            return broker_refuse(run->why, TW_E_BAD_UPDATE, "%s is not supported in an update",
                                 broker_show(iter.name, shown));
        }
        if (iter.value.type != TW_BSON_DOCUMENT) {
            return broker_refuse(run->why, TW_E_BAD_UPDATE, "%s needs a document", found->name);
        }
        tw_bson_iter field;
        for (tw_bson_iter_init(&field, tw_bson_value_doc(iter.value)); tw_bson_iter_next(&field);) {
            tw_err err = check_path(run, field.name);
            if (err == TW_OK && found->apply == update_rename_to) {
                err = gather_rename(run, field.name, field.value, changes, count);
            } else if (err == TW_OK && found->apply != NULL) {
                changes[(*count)++] = (update_change){
                    .path = field.name, .operand = field.value, .apply = found->apply};
            }
            if (err != TW_OK) {
                return err;
            }
        }
    }
    return TW_OK;
}

/* ---- the whole ---- */

static tw_err write_result(update_run *run, tw_str key_field, tw_bson *out)
{
    tw_buf buf;
    tw_bson_builder b;
    TW_ASSERT(run->root->opened);
    tw_buf_init(&buf, TW_DOCUMENT_MAX);
    tw_bson_begin(&b, &buf);
    write_node(&b, run->root);
    tw_bson made = tw_bson_end(&b);
    tw_err err = buf.err;
    if (err == TW_E_TOO_BIG) {
        err =
            broker_refuse(run->why, err, "the document would have over %d bytes", TW_DOCUMENT_MAX);
    }
    if (err == TW_OK && key_field.len > 0) {
        tw_bson_value before = tw_bson_get(run->doc, key_field);
        tw_bson_value after = tw_bson_get(made, key_field);
        if (before.type != 0 && (after.type == 0 || tw_bson_compare(before, after) != 0)) {
            err = update_refuse(run, key_field, "the key of a record cannot be changed");
        }
    }
    if (err == TW_OK) {
        *out = tw_arena_bson(run->arena, made);
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    tw_buf_fini(&buf);
    return err;
}

tw_err update_apply(tw_arena *arena, tw_bson doc, tw_bson update, tw_str key_field, uint64_t now_ms,
                    tw_bson *out, broker_why *why)
{
    update_run run = {.arena = arena, .doc = doc, .now_ms = now_ms, .why = why};
    TW_ASSERT(doc.len >= 5);
    TW_ASSERT(out != NULL);
    if (update.len < 5 || tw_bson_count(update) == 0) {
        return broker_refuse(why, TW_E_BAD_UPDATE, "the update has no operator");
    }
    size_t count = 0;
    update_change *changes = tw_arena_alloc(arena, (count_changes(update) + 1) * sizeof *changes);
    run.root = tw_arena_zero(arena, 1, sizeof *run.root);
    if (changes == NULL || run.root == NULL) {
        return TW_E_NO_MEMORY;
    }
    tw_err err = gather(&run, update, changes, &count);
    if (err != TW_OK) {
        return err;
    }
    qsort(changes, count, sizeof *changes, compare_changes);
    for (size_t i = 1; i < count; i++) {
        if (begins(changes[i - 1].path, changes[i].path)) {
            return update_refuse(&run, changes[i].path, "two changes meet here");
        }
    }
    run.root->value = (tw_bson_value){.type = TW_BSON_DOCUMENT, .ptr = doc.ptr, .len = doc.len};
    (void)update_open(&run, run.root, &err);
    for (size_t i = 0; err == TW_OK && i < count; i++) {
        err = changes[i].apply(&run, &changes[i]);
    }
    return err != TW_OK ? err : write_result(&run, key_field, out);
}
