/* path.c - the values at a dotted path.
 *
 * How a walk goes: names lead through documents until the path ends or an array stands in the way.
 * In an array with path left over each element that is a document is walked with the rest; an
 * element
 * whose index is the next name is walked with what is behind that name. Nothing found in a
 * document is told as "missing"
 * once for that document; an array without documents says nothing at all, which is why
 * {"a.b": null} matches {} and {a: [{}]} but not {a: [1]}. */
#include "broker/path.h"

#include "protocol/limits.h"

typedef struct walker {
    path_visit visit;
    void *context;
    bool spread;
} walker;

bool path_cut(tw_str path, tw_str *head, tw_str *rest)
{
    TW_ASSERT(head != NULL);
    TW_ASSERT(rest != NULL);
    const char *dot = path.len == 0 ? NULL : memchr(path.ptr, '.', path.len);
    if (dot == NULL) {
        *head = path;
        *rest = (tw_str){NULL, 0};
        return false;
    }
    size_t len = (size_t)(dot - path.ptr);
    *head = (tw_str){path.ptr, len};
    *rest = (tw_str){dot + 1, path.len - len - 1};
    return true;
}

static bool walk(const walker *self, tw_bson doc, tw_str path);
static bool walk_elements(const walker *self, tw_bson array, tw_str path);

/* An element whose index is the next name of the path. */
static bool walk_indexed(const walker *self, tw_bson_value element, tw_str rest, bool more)
{
    TW_ASSERT(self->visit != NULL);
    TW_ASSERT(element.type != 0);
    if (!more) {
        return self->visit(self->context, element);
    }
    if (element.type == TW_BSON_ARRAY) {
        return walk_elements(self, tw_bson_value_doc(element), rest);
    }
    return element.type == TW_BSON_DOCUMENT && walk(self, tw_bson_value_doc(element), rest);
}

/* An array with path left over. */
static bool walk_elements(const walker *self, tw_bson array, tw_str path)
{
    tw_str head;
    tw_str rest;
    bool more = path_cut(path, &head, &rest);
    TW_ASSERT(self->visit != NULL);
    TW_ASSERT(head.len <= path.len);
    bool numeric = head.len > 0 && head.ptr[0] >= '0' && head.ptr[0] <= '9';
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, array); tw_bson_iter_next(&iter);) {
        bool indexed = numeric && tw_str_equal(iter.name, head);
        if (iter.value.type == TW_BSON_DOCUMENT &&
            walk(self, tw_bson_value_doc(iter.value), path)) {
            return true;
        }
        if (indexed && walk_indexed(self, iter.value, rest, more)) {
            return true;
        }
    }
    return false;
}

/* From a value on, with what is left of the path where there is more of it. */
static bool walk_behind(const walker *self, tw_bson_value value, bool more, tw_str path)
{
    while (more && value.type == TW_BSON_DOCUMENT) {
        tw_str head;
        tw_bson doc = tw_bson_value_doc(value);
        more = path_cut(path, &head, &path);
        value = tw_bson_get(doc, head);
    }
    if (value.type != TW_BSON_ARRAY) {
        if (more) {
            value = (tw_bson_value){0}; /* a plain value has nothing below it */
        }
        return self->visit(self->context, value);
    }
    if (more) {
        return walk_elements(self, tw_bson_value_doc(value), path);
    }
    if (self->spread) {
        tw_bson_iter iter;
        for (tw_bson_iter_init(&iter, tw_bson_value_doc(value)); tw_bson_iter_next(&iter);) {
            if (self->visit(self->context, iter.value)) {
                return true;
            }
        }
    }
    return self->visit(self->context, value);
}

static bool walk(const walker *self, tw_bson doc, tw_str path)
{
    tw_str head;
    bool more = path_cut(path, &head, &path);
    return walk_behind(self, tw_bson_get(doc, head), more, path);
}

bool path_walk(tw_bson doc, tw_str path, bool spread, path_visit visit, void *context)
{
    TW_ASSERT(visit != NULL);
    TW_ASSERT(path.ptr != NULL || path.len == 0);
    walker self = {.visit = visit, .context = context, .spread = spread};
    return walk(&self, doc, path);
}

bool path_walk_behind(tw_bson_value value, bool behind, tw_str rest, bool spread, path_visit visit,
                      void *context)
{
    TW_ASSERT(visit != NULL);
    TW_ASSERT(rest.ptr != NULL || rest.len == 0);
    walker self = {.visit = visit, .context = context, .spread = spread};
    return walk_behind(&self, value, behind, rest);
}
