/* topic_query_changes.c - change streams: from `watch` to the canonical form, and from a change to
 * an event with MongoDB's field names. */
#include <stdlib.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "broker/topic_query_priv.h"

enum { DESCRIBED_MAX = 1048576 }; /* bytes of both versions; above it no differences are told */

/* A byte is at most six of JSON, and a document is told twice. */
static_assert(12 * DESCRIBED_MAX < (int)TW_ACTOR_MESSAGE_MAX, "what is described fits a message");

/* ---- watch ---- */

typedef struct named {
    tw_str db;
    tw_str name;
    const catalog_collection *rules;
    rights_grant read;
} named;

/* A name, or {"db":..., "coll":...} as in ns. */
static tw_err read_named(const catalog *known, const rights *whose, tw_arena *arena,
                         tw_bson_value value, named *out, broker_why *why)
{
    char shown[BROKER_SHOWN_MAX];
    tw_bson spec = value.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(value) : (tw_bson){0};
    *out = (named){.db = tw_str_of(known->default_database), .name = tw_bson_value_str(value)};
    TW_ASSERT(known->default_database != NULL);
    if (spec.len > 0) {
        out->name = tw_bson_get_str(spec, TW_STR("coll"));
        if (tw_bson_get(spec, TW_STR("db")).type != 0) {
            out->db = tw_bson_get_str(spec, TW_STR("db"));
        }
    }
    if (out->name.ptr == NULL || out->db.ptr == NULL) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "collections: takes a list of names or of {db: \"\", coll: \"\"}");
    }
    broker_show(out->name, shown);
    if (catalog_check_name(out->name) != TW_OK || catalog_check_name(out->db) != TW_OK) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "\"%s\" is not a collection's name", shown);
    }
    out->rules = catalog_rules(known, out->db, out->name);
    tw_err err = rights_of(whose, arena, out->db, out->name, RIGHTS_READ, &out->read);
    if (err == TW_OK && (out->rules == NULL || out->rules->read_denied || !out->read.allowed)) {
        return broker_refuse(why, TW_E_FORBIDDEN, "there is no collection %s", shown);
    }
    return err;
}

static int compare_named(const void *a, const void *b)
{
    const named *left = a;
    const named *right = b;
    int order = tw_str_compare(left->db, right->db);
    return order != 0 ? order : tw_str_compare(left->name, right->name);
}

static void write_named(tw_bson_builder *b, const named *item)
{
    TW_ASSERT(item->rules != NULL);
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_add_str(b, TW_STR("d"), item->db);
    tw_bson_add_str(b, TW_STR("n"), item->name);
    const tw_bson filters[] = {item->rules->filter, item->read.filter};
    topic_query_add_filters(b, TW_STR("f"), filters, TW_COUNT(filters));
    topic_query_add_hidden(b, TW_STR("h"), &item->read);
    tw_bson_close(b);
}

/* The collections that were named, in order and each once. */
static tw_err write_listed(const catalog *known, const rights *whose, tw_arena *arena, tw_bson list,
                           tw_bson_builder *b, broker_why *why)
{
    named items[TW_COLLECTIONS_PER_TOPIC_MAX];
    size_t count = 0;
    tw_bson_iter iter;
    TW_ASSERT(list.len >= 5);
    for (tw_bson_iter_init(&iter, list); tw_bson_iter_next(&iter);) {
        if (count == TW_COUNT(items)) {
            return broker_refuse(why, TW_E_TOO_MANY, "over %d collections",
                                 TW_COLLECTIONS_PER_TOPIC_MAX);
        }
        tw_err err = read_named(known, whose, arena, iter.value, &items[count], why);
        if (err != TW_OK) {
            return err;
        }
        count++;
    }
    if (count == 0) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "collections: the list is empty; leave it out for all of them");
    }
    qsort(items, count, sizeof *items, compare_named);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || compare_named(&items[i - 1], &items[i]) != 0) {
            write_named(b, &items[i]);
        }
    }
    return TW_OK;
}

tw_err topic_query_write_all(const catalog *known, const rights *whose, tw_arena *arena, tw_str db,
                             tw_bson_builder *b)
{
    tw_err err = TW_OK;
    TW_ASSERT(known->count == 0 || known->at != NULL);
    for (size_t i = 0; i < known->count && err == TW_OK; i++) {
        const catalog_collection *at = &known->at[i];
        named item = {.db = tw_str_of(at->database), .name = tw_str_of(at->name), .rules = at};
        if (at->read_denied || (db.len > 0 && !tw_str_equal(db, item.db))) {
            continue;
        }
        err = rights_of(whose, arena, item.db, item.name, RIGHTS_READ, &item.read);
        if (err == TW_OK && item.read.allowed) {
            write_named(b, &item);
        }
    }
    named item = {.rules = &catalog_undeclared}; /* those that rules name, not the catalog */
    for (size_t i = 0; err == TW_OK && rights_named(whose, i, &item.db, &item.name); i++) {
        bool told = false; /* by a rule before */
        named before = {0};
        for (size_t k = 0; k < i && !told; k++) {
            told = rights_named(whose, k, &before.db, &before.name) &&
                   tw_str_equal(before.db, item.db) && tw_str_equal(before.name, item.name);
        }
        if (told || (db.len > 0 && !tw_str_equal(db, item.db)) ||
            catalog_rules(known, item.db, item.name) != &catalog_undeclared) {
            continue;
        }
        item.read = (rights_grant){0};
        err = rights_of(whose, arena, item.db, item.name, RIGHTS_READ, &item.read);
        if (err == TW_OK && item.read.allowed) {
            write_named(b, &item);
        }
    }
    return err;
}

/* What of all that is not declared may be read: "any", and what limits it. db empty: wherever. */
tw_err topic_query_write_any(const rights *whose, tw_arena *arena, tw_str default_database,
                             tw_str db, bool any, tw_bson_builder *b)
{
    rights_grant read;
    tw_str within = db;
    tw_err err = rights_of(whose, arena, db, TW_STR(""), RIGHTS_READ, &read);
    if (err == TW_OK && !read.allowed && db.len == 0) { /* not everywhere, but perhaps here */
        within = default_database;
        err = rights_of(whose, arena, within, TW_STR(""), RIGHTS_READ, &read);
    }
    if (err != TW_OK) {
        return err;
    }
    if (within.len > 0) {
        tw_bson_add_str(b, TW_STR("db"), within);
    }
    tw_bson_add_bool(b, TW_STR("any"), any && read.allowed);
    if (any && read.filter.len > 5) {
        tw_bson_add_doc(b, TW_STR("af"), read.filter);
    }
    if (any) {
        topic_query_add_hidden(b, TW_STR("ah"), &read);
    }
    return TW_OK;
}

tw_err topic_query_of_watch(const catalog *known, const rights *whose, tw_arena *arena,
                            tw_bson watch, tw_bson *out, broker_why *why)
{
    tw_bson_value list = tw_bson_get(watch, TW_STR("collections"));
    bool all = list.type == 0 || list.type == TW_BSON_NULL;
    TW_ASSERT(known != NULL && known->magic == CATALOG_MAGIC);
    TW_ASSERT(out != NULL);
    if (!all && list.type != TW_BSON_ARRAY) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "collections: takes a list of names");
    }
    tw_buf buf;
    tw_bson_builder b;
    tw_buf_init(&buf, TW_TOPIC_QUERY_MAX);
    tw_bson_begin(&b, &buf);
    tw_bson_add_i64(&b, TW_STR("v"), 1);
    tw_bson_add_str(&b, TW_STR("k"), TW_STR("changes"));
    tw_err err = topic_query_write_any(whose, arena, tw_str_of(known->default_database), TW_STR(""),
                                       all, &b);
    tw_bson_open_array(&b, TW_STR("c"));
    if (err == TW_OK && all) {
        err = topic_query_write_all(known, whose, arena, TW_STR(""), &b);
    } else if (err == TW_OK) {
        err = write_listed(known, whose, arena, tw_bson_value_doc(list), &b, why);
    }
    tw_bson_close(&b);
    tw_bson canonical = tw_bson_end(&b);
    if (err == TW_OK && buf.err == TW_OK && whose != NULL &&
        !tw_bson_get_bool_or(canonical, TW_STR("any"), false) &&
        tw_bson_count(tw_bson_get_doc(canonical, TW_STR("c"))) == 0) {
        err = broker_refuse(why, TW_E_FORBIDDEN, "your rights show no collection");
    }
    if (err == TW_OK && buf.err == TW_E_TOO_BIG) {
        err = broker_refuse(why, TW_E_BAD_MESSAGE, "the collections' filters have over %d bytes",
                            TW_TOPIC_QUERY_MAX);
    } else if (err == TW_OK) {
        err = buf.err;
    }
    if (err == TW_OK) {
        *out = tw_arena_bson(arena, canonical);
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    tw_buf_fini(&buf);
    return err;
}

/* ---- events ---- */

static bool is_hidden(tw_str name)
{
    return tw_str_equal(name, TW_STR("_content"));
}

static bool same_value(tw_bson_value a, tw_bson_value b)
{
    return a.type == b.type && a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* A list that is being written, and the names above what is looked at. */
typedef struct description {
    tw_buf *out;
    const char *comma;
    size_t depth;
    tw_str path[TW_DEPTH_MAX];
} description;

/* True when a document's fields can be named by paths: none is empty or has a dot, nor begins like
 * an operator. */
static bool has_plain_names(tw_bson doc)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        if (iter.name.len == 0 || iter.name.ptr[0] == '$' ||
            memchr(iter.name.ptr, '.', iter.name.len) != NULL) {
            return false;
        }
    }
    return true;
}

/* Whether the differences of two values are told field by field: MongoDB does so for documents
 * within documents; here an array is told whole. */
static bool is_descended(const description *self, tw_bson_value old, tw_bson_value value)
{
    return old.type == TW_BSON_DOCUMENT && value.type == TW_BSON_DOCUMENT &&
           self->depth + 1 < TW_COUNT(self->path) && has_plain_names(tw_bson_value_doc(old)) &&
           has_plain_names(tw_bson_value_doc(value));
}

/* The dotted path of a name, as JSON text. */
static void add_path(description *self, tw_str name)
{
    tw_buf path;
    tw_buf_init(&path, DESCRIBED_MAX);
    for (size_t i = 0; i < self->depth; i++) {
        tw_buf_add_str(&path, self->path[i]);
        tw_buf_add_byte(&path, '.');
    }
    tw_buf_add_str(&path, name);
    tw_buf_add_str(self->out, tw_str_of(self->comma));
    self->comma = ",";
    if (path.err == TW_OK) {
        tw_json_write_str(self->out, tw_buf_str(&path));
    } else if (self->out->err == TW_OK) {
        self->out->err = path.err;
    }
    tw_buf_fini(&path);
}

static void add_updated(description *self, tw_bson old, tw_bson doc)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter) && self->out->err == TW_OK;) {
        tw_bson_value before = tw_bson_get(old, iter.name);
        if ((self->depth == 0 && is_hidden(iter.name)) || same_value(before, iter.value)) {
            continue;
        }
        if (is_descended(self, before, iter.value)) {
            self->path[self->depth++] = iter.name;
            add_updated(self, tw_bson_value_doc(before), tw_bson_value_doc(iter.value));
            self->depth--;
            continue;
        }
        add_path(self, iter.name);
        tw_buf_add_byte(self->out, ':');
        tw_json_write_value(self->out, iter.value);
    }
}

static void add_removed(description *self, tw_bson old, tw_bson doc)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, old); tw_bson_iter_next(&iter) && self->out->err == TW_OK;) {
        tw_bson_value after = tw_bson_get(doc, iter.name);
        if (self->depth == 0 && is_hidden(iter.name)) {
            continue;
        }
        if (after.type == 0) {
            add_path(self, iter.name);
        } else if (is_descended(self, iter.value, after)) {
            self->path[self->depth++] = iter.name;
            add_removed(self, tw_bson_value_doc(iter.value), tw_bson_value_doc(after));
            self->depth--;
        }
    }
}

/* The differences of the two documents, by paths. */
static void add_description(tw_bson old, tw_bson doc, tw_buf *out)
{
    description self = {.out = out, .comma = ""};
    TW_ASSERT(old.len >= 5);
    TW_ASSERT(doc.len >= 5);
    tw_buf_add_str(out, TW_STR(",\"updateDescription\":{\"updatedFields\":{"));
    add_updated(&self, old, doc);
    tw_buf_add_str(out, TW_STR("},\"removedFields\":["));
    self.comma = "";
    add_removed(&self, old, doc);
    tw_buf_add_str(out, TW_STR("]}"));
}

static const char *op_of(const topic_query_part *part, unsigned meaning, const topic_change *change)
{
    TW_ASSERT(part->filter != NULL);
    switch ((enum tw_meaning)meaning) {
    case TW_MEANS_PUT:
        break;
    case TW_MEANS_LEFT:
    case TW_MEANS_REVOKED:
    case TW_MEANS_DELETED:
        return "delete";
    case TW_MEANS_DROP:
        return "drop";
    }
    if (change->prev == 0) {
        return "insert";
    }
    if (!change->old_told) {
        return "replace";
    }
    if (change->old.len == 0 || !topic_query_part_matches(part, change->old)) {
        return "insert";
    }
    return change->old.len + change->doc.len > DESCRIBED_MAX ? "replace" : "update";
}

/* Both without what rights hide: differences of that are told to nobody either. */
static void add_documents(const topic_query_part *part, const topic_change *change, bool describe,
                          tw_buf *out)
{
    tw_buf doc;
    tw_buf old;
    tw_buf_init(&doc, TW_DOCUMENT_MAX + 4096);
    tw_buf_init(&old, TW_DOCUMENT_MAX + 4096);
    tw_bson told = topic_query_shown(part, change->doc, &doc);
    tw_buf_add_str(out, TW_STR("\"fullDocument\":"));
    topic_query_add_document(out, told);
    if (describe) {
        add_description(topic_query_shown(part, change->old, &old), told, out);
    }
    tw_buf_add_byte(out, ',');
    tw_err err = doc.err != TW_OK ? doc.err : old.err;
    if (err != TW_OK && out->err == TW_OK) {
        out->err = err;
    }
    tw_buf_fini(&doc);
    tw_buf_fini(&old);
}

void topic_query_render_change(const topic_query_part *part, unsigned meaning,
                               const topic_change *change, tw_buf *out)
{
    const char *op = op_of(part, meaning, change);
    TW_ASSERT(part->form == TOPIC_CHANGES);
    TW_ASSERT(!part->any || change->db.len > 0);
    tw_buf_format(out, "\"op\":\"%s\",\"ns\":{\"db\":", op);
    tw_json_write_str(out, part->any ? change->db : tw_str_of(part->db));
    tw_buf_add_str(out, TW_STR(",\"coll\":"));
    tw_json_write_str(out, part->any ? change->coll : tw_str_of(part->name));
    tw_buf_add_str(out, TW_STR("},"));
    if (meaning != TW_MEANS_DROP) {
        tw_buf_add_str(out, TW_STR("\"documentKey\":{"));
        tw_json_write_str(out, tw_str_of(part->rules->key));
        tw_buf_add_byte(out, ':');
        tw_json_write_key(out, change->key);
        tw_buf_add_str(out, TW_STR("},"));
    }
    if (meaning == TW_MEANS_PUT) {
        add_documents(part, change, strcmp(op, "update") == 0, out);
    }
    topic_query_add_position(out, change);
    if (change->origin.len > 0) {
        tw_buf_add_str(out, TW_STR(",\"origin\":"));
        tw_json_write_str(out, change->origin);
    }
    tw_buf_add_byte(out, '}');
}
