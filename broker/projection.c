/* projection.c - which fields of a document are told.
 *
 * Names are dotted; an array on the way is told with those of its elements that are documents, each
 * projected, as MongoDB does it. */
#include "broker/projection.h"

#include "protocol/limits.h"

static_assert(TW_COUNT(((projection *)0)->names) == TW_FIELDS_MAX, "projection.h says so");

static bool name_is_good(tw_str name)
{
    TW_ASSERT(name.ptr != NULL || name.len == 0);
    return name.len > 0 && name.ptr[0] != '$' && name.ptr[0] != '.' &&
           name.ptr[name.len - 1] != '.' && memmem(name.ptr, name.len, "..", 2) == NULL;
}

tw_err projection_init(projection *self, tw_bson fields)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(fields.ptr != NULL || fields.len == 0);
    self->count = 0;
    tw_bson_iter iter;
    if (fields.len == 0) {
        return TW_OK;
    }
    for (tw_bson_iter_init(&iter, fields); tw_bson_iter_next(&iter);) {
        tw_str name = tw_bson_value_str(iter.value); /* an element of an array of names */
        if (name.ptr == NULL) {                      /* {name: 1} */
            name = iter.name;
            if (!tw_bson_value_bool_or(iter.value, false)) {
                return TW_E_BAD_QUERY;
            }
        }
        if (!name_is_good(name) || self->count == TW_FIELDS_MAX) {
            return TW_E_BAD_QUERY;
        }
        self->names[self->count++] = name;
    }
    return TW_OK;
}

/* What a field is to the list, where the names above it have used `used` bytes of the
 * candidates. */
typedef enum told { TOLD_NOT, TOLD_PART, TOLD_WHOLE } told;

/* The candidates: names that agree with the path so far, as one bit each. */
typedef struct candidates {
    uint64_t bits[TW_FIELDS_MAX / 64];
} candidates;

static told narrow(const projection *self, const candidates *above, size_t used, tw_str name,
                   candidates *below)
{
    told found = TOLD_NOT;
    TW_ASSERT(self->count <= TW_FIELDS_MAX);
    memset(below, 0, sizeof *below);
    for (size_t i = 0; i < self->count; i++) {
        tw_str wanted = self->names[i];
        if ((above->bits[i / 64] >> (i % 64) & 1) == 0 || wanted.len < used + name.len ||
            (name.len > 0 && memcmp(wanted.ptr + used, name.ptr, name.len) != 0)) {
            continue;
        }
        if (wanted.len == used + name.len) {
            return TOLD_WHOLE;
        }
        if (wanted.ptr[used + name.len] == '.') {
            below->bits[i / 64] |= 1ULL << (i % 64);
            found = TOLD_PART;
        }
    }
    return found;
}

static void add_part(const projection *self, tw_bson_builder *b, tw_bson doc,
                     const candidates *above, size_t used, tw_str skip);

/* The elements of an array on the way: documents and arrays of them, the rest is left out. */
static void add_elements(const projection *self, tw_bson_builder *b, tw_bson array,
                         const candidates *above, size_t used)
{
    tw_bson_iter iter;
    TW_ASSERT(used > 0);
    for (tw_bson_iter_init(&iter, array); tw_bson_iter_next(&iter) && b->out->err == TW_OK;) {
        if (iter.value.type == TW_BSON_DOCUMENT) {
            tw_bson_open_doc(b, iter.name);
            add_part(self, b, tw_bson_value_doc(iter.value), above, used, (tw_str){0});
            tw_bson_close(b);
        } else if (iter.value.type == TW_BSON_ARRAY) {
            tw_bson_open_array(b, iter.name);
            add_elements(self, b, tw_bson_value_doc(iter.value), above, used);
            tw_bson_close(b);
        }
    }
}

/* The fields of a document that agree with the candidates. skip: told already. */
static void add_part(const projection *self, tw_bson_builder *b, tw_bson doc,
                     const candidates *above, size_t used, tw_str skip)
{
    tw_bson_iter iter;
    TW_ASSERT(b->out != NULL);
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter) && b->out->err == TW_OK;) {
        candidates below;
        if (skip.len > 0 && tw_str_equal(iter.name, skip)) {
            continue;
        }
        told found = narrow(self, above, used, iter.name, &below);
        size_t behind = used + iter.name.len + 1;
        if (found == TOLD_WHOLE) {
            tw_bson_add_value(b, iter.name, iter.value);
        } else if (found == TOLD_PART && iter.value.type == TW_BSON_DOCUMENT) {
            tw_bson_open_doc(b, iter.name);
            add_part(self, b, tw_bson_value_doc(iter.value), &below, behind, (tw_str){0});
            tw_bson_close(b);
        } else if (found == TOLD_PART && iter.value.type == TW_BSON_ARRAY) {
            tw_bson_open_array(b, iter.name);
            add_elements(self, b, tw_bson_value_doc(iter.value), &below, behind);
            tw_bson_close(b);
        }
    }
}

void projection_apply(const projection *self, tw_str key, tw_bson doc, tw_buf *out)
{
    TW_ASSERT(self->count <= TW_FIELDS_MAX);
    TW_ASSERT(key.len > 0);
    if (self->count == 0) {
        tw_buf_add(out, doc.ptr, doc.len);
        return;
    }
    tw_bson_builder b;
    candidates all;
    memset(&all, 0xff, sizeof all);
    tw_bson_begin(&b, out);
    tw_bson_value id = tw_bson_get(doc, key);
    if (id.type != 0) {
        tw_bson_add_value(&b, key, id);
    }
    add_part(self, &b, doc, &all, 0, key);
    (void)tw_bson_end(&b);
}
