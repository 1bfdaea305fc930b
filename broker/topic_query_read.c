/* topic_query_read.c - from a subscribe message to the canonical form of what it asks for. */
#include <stdlib.h>

#include "protocol/limits.h"

#include "broker/search_body.h"
#include "broker/topic_query_priv.h"

/* One collection that was asked for. */
typedef struct asked {
    tw_str db;
    tw_str name;
    const catalog_collection *rules;
    tw_bson filter;       /* len 0: all */
    tw_bson_value search; /* a query of the search language, or type 0 */
    tw_bson_value fields; /* array of names, {name: 1}, or type 0 */
    rights_grant read;    /* what rights say of reading */
    rights_grant sought;  /* of searching; looked at with search alone */
} asked;

typedef struct reader {
    const catalog *catalog;
    const rights *rights; /* NULL: there is no auth */
    tw_arena *arena;
    tw_bson subscribe;
    broker_why *why;
    size_t count;
    asked at[TW_COLLECTIONS_PER_TOPIC_MAX];
} reader;

static bool is_reserved(const catalog *known, tw_str name)
{
    static const char *const reserved[] = {"type",  "mux_id", "project_id", "project",
                                           "since", "syncid", "archived",   "collections",
                                           "query", "prev",   "manifests"};
    TW_ASSERT(name.ptr != NULL);
    for (size_t i = 0; i < TW_COUNT(reserved); i++) {
        if (tw_str_equal(name, tw_str_of(reserved[i]))) {
            return true;
        }
    }
    for (size_t i = 0; i < known->count; i++) { /* a declared scope is asked for by its own name */
        const char *param = known->at[i].scope_param;
        if (param != NULL && tw_str_equal(name, tw_str_of(param))) {
            return true;
        }
    }
    return false;
}

/* {"db":..., "filter":{...}, "fields":[...]} */
static tw_err read_spec(reader *self, tw_bson spec, asked *out, const char *shown)
{
    tw_bson_iter iter;
    TW_ASSERT(spec.len >= 5);
    for (tw_bson_iter_init(&iter, spec); tw_bson_iter_next(&iter);) {
        tw_bson_value value = iter.value;
        if (tw_str_equal(iter.name, TW_STR("db")) && tw_bson_value_str(value).ptr != NULL) {
            out->db = tw_bson_value_str(value);
        } else if (tw_str_equal(iter.name, TW_STR("filter")) && value.type == TW_BSON_DOCUMENT) {
            out->filter = tw_bson_value_doc(value);
        } else if (tw_str_equal(iter.name, TW_STR("search")) && value.type == TW_BSON_DOCUMENT &&
                   tw_bson_get(tw_bson_value_doc(value), TW_STR("query")).type != 0) {
            out->search = tw_bson_get(tw_bson_value_doc(value), TW_STR("query"));
        } else if (tw_str_equal(iter.name, TW_STR("fields")) &&
                   (value.type == TW_BSON_DOCUMENT || value.type == TW_BSON_ARRAY)) {
            out->fields = value;
        } else {
            return broker_refuse(self->why, TW_E_BAD_MESSAGE,
                                 "%s: takes \"*\" or {filter: {}, search: {query: {}}, fields: [], "
                                 "db: \"\"}",
                                 shown);
        }
    }
    return TW_OK;
}

/* The fields that a stream asked for are names, few enough, and fit to be told. */
static tw_err check_fields(reader *self, const asked *item, const char *shown)
{
    tw_bson fields = tw_bson_value_doc(item->fields);
    if (fields.len == 0) {
        return TW_OK;
    }
    if (tw_bson_count(fields) > TW_FIELDS_MAX) {
        return broker_refuse(self->why, TW_E_TOO_MANY, "%s: over %d fields", shown, TW_FIELDS_MAX);
    }
    bool is_names = true;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, fields); tw_bson_iter_next(&iter);) {
        bool text = tw_bson_value_str(iter.value).ptr != NULL;
        is_names = is_names && text == (item->fields.type == TW_BSON_ARRAY);
    }
    projection unused;
    TW_ASSERT(item->fields.type == TW_BSON_ARRAY || item->fields.type == TW_BSON_DOCUMENT);
    if (!is_names || projection_init(&unused, fields) != TW_OK) {
        return broker_refuse(self->why, TW_E_BAD_MESSAGE,
                             "%s: fields must be [name, ...] or {name: 1, ...}", shown);
    }
    return TW_OK;
}

static tw_err check_filter(reader *self, const asked *item, const char *shown)
{
    query *unused = NULL;
    broker_why inner = {0};
    TW_ASSERT(shown != NULL);
    tw_err err = query_compile(item->filter, &unused, &inner);
    query_free(&unused);
    if (err == TW_E_BAD_FILTER) {
        return broker_refuse(self->why, err, "%s: %s", shown, inner.text);
    }
    return err;
}

/* What rights say of it, and whether it asks about what they hide. */
static tw_err check_rights(reader *self, asked *item, const char *shown)
{
    tw_err err =
        rights_of(self->rights, self->arena, item->db, item->name, RIGHTS_READ, &item->read);
    if (err == TW_OK && item->search.type != 0) {
        err = rights_of(self->rights, self->arena, item->db, item->name, RIGHTS_SEARCH,
                        &item->sought);
    }
    if (err != TW_OK) {
        return err;
    }
    if (!item->read.allowed) {
        return broker_refuse(self->why, TW_E_FORBIDDEN, "there is no collection %s", shown);
    }
    if (item->search.type != 0 &&
        (!item->sought.allowed || item->read.hidden_count + item->sought.hidden_count > 0)) {
        return broker_refuse(self->why, TW_E_FORBIDDEN, "%s: your rights do not allow a search",
                             shown);
    }
    if (rights_filter_asks_hidden(&item->read, item->filter)) {
        return broker_refuse(self->why, TW_E_FORBIDDEN,
                             "%s: the filter asks about a field that your rights hide", shown);
    }
    return TW_OK;
}

static tw_err add_collection(reader *self, tw_str name, tw_bson_value spec)
{
    char shown[BROKER_SHOWN_MAX];
    asked item = {.db = tw_str_of(self->catalog->default_database), .name = name};
    broker_show(name, shown);
    TW_ASSERT(self->count <= TW_COLLECTIONS_PER_TOPIC_MAX);
    if (self->count == TW_COLLECTIONS_PER_TOPIC_MAX) {
        return broker_refuse(self->why, TW_E_TOO_MANY, "over %d collections",
                             TW_COLLECTIONS_PER_TOPIC_MAX);
    }
    tw_str text = tw_bson_value_str(spec);
    tw_err err = TW_OK;
    if (spec.type == TW_BSON_DOCUMENT) {
        err = read_spec(self, tw_bson_value_doc(spec), &item, shown);
    } else if (text.ptr == NULL || !tw_str_equal(text, TW_STR("*"))) {
        err = broker_refuse(self->why, TW_E_BAD_MESSAGE,
                            "%s: takes \"*\" or {filter: {}, search: {query: {}}, fields: [], "
                            "db: \"\"}",
                            shown);
    }
    if (err == TW_OK &&
        (catalog_check_name(name) != TW_OK || catalog_check_name(item.db) != TW_OK)) {
        err =
            broker_refuse(self->why, TW_E_BAD_MESSAGE, "\"%s\" is not a collection's name", shown);
    }
    if (err != TW_OK) {
        return err;
    }
    item.rules = catalog_rules(self->catalog, item.db, name);
    if (item.rules == NULL || item.rules->read_denied) {
        return broker_refuse(self->why, TW_E_FORBIDDEN, "there is no collection %s", shown);
    }
    err = check_fields(self, &item, shown);
    if (err == TW_OK) {
        err = check_filter(self, &item, shown);
    }
    if (err == TW_OK) {
        err = check_rights(self, &item, shown);
    }
    for (size_t i = 0; err == TW_OK && i < self->count; i++) {
        if (tw_str_equal(self->at[i].name, name) && tw_str_equal(self->at[i].db, item.db)) {
            err = broker_refuse(self->why, TW_E_BAD_MESSAGE, "%s is named twice", shown);
        }
    }
    if (err == TW_OK) {
        self->at[self->count++] = item;
    }
    return err;
}

/* "collections": {name: spec}, or a list of names. */
static tw_err read_collections(reader *self, tw_bson_value value)
{
    static const uint8_t star[] = {2, 0, 0, 0, '*', 0};
    const tw_bson_value all = {.type = TW_BSON_STRING, .ptr = star, .len = sizeof star};
    tw_bson_iter iter;
    TW_ASSERT(value.type != 0);
    if (value.type != TW_BSON_DOCUMENT && value.type != TW_BSON_ARRAY) {
        return broker_refuse(self->why, TW_E_BAD_MESSAGE,
                             "collections: takes {name: \"*\", ...} or a list of names");
    }
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value)); tw_bson_iter_next(&iter);) {
        tw_str name = iter.name;
        tw_bson_value spec = iter.value;
        if (value.type == TW_BSON_ARRAY) {
            name = tw_bson_value_str(iter.value);
            spec = all;
            if (name.ptr == NULL) {
                return broker_refuse(self->why, TW_E_BAD_MESSAGE,
                                     "collections: a list holds names only");
            }
        }
        tw_err err = add_collection(self, name, spec);
        if (err != TW_OK) {
            return err;
        }
    }
    return TW_OK;
}

static tw_err read_archived(reader *self, bool *out)
{
    tw_bson_value value = tw_bson_get(self->subscribe, TW_STR("archived"));
    *out = false;
    TW_ASSERT(self->subscribe.len >= 5);
    if (value.type == 0) {
        return TW_OK;
    }
    tw_str text = tw_bson_value_str(value);
    if (text.ptr == NULL || !tw_str_equal(text, TW_STR("include"))) {
        return broker_refuse(self->why, TW_E_BAD_MESSAGE, "archived: takes \"include\" only");
    }
    *out = true;
    return TW_OK;
}

/* ---- writing the canonical form ---- */

void topic_query_add_filters(tw_bson_builder *b, tw_str name, const tw_bson *filters, size_t count)
{
    size_t given = 0;
    tw_bson only = {0};
    for (size_t i = 0; i < count; i++) {
        bool is_given = filters[i].len > TOPIC_QUERY_EMPTY;
        given += is_given ? 1 : 0;
        only = is_given ? filters[i] : only;
    }
    if (given == 1) {
        tw_bson_add_doc(b, name, only);
    }
    if (given <= 1) {
        return;
    }
    tw_bson_open_doc(b, name);
    tw_bson_open_array(b, TW_STR("$and"));
    for (size_t i = 0; i < count; i++) {
        if (filters[i].len > TOPIC_QUERY_EMPTY) {
            tw_bson_add_doc(b, TW_STR(""), filters[i]);
        }
    }
    tw_bson_close(b);
    tw_bson_close(b);
}

void topic_query_add_hidden(tw_bson_builder *b, tw_str name, const rights_grant *grant)
{
    if (grant->hidden_count == 0) {
        return;
    }
    tw_bson_open_array(b, name);
    for (size_t i = 0; i < grant->hidden_count; i++) {
        tw_bson_add_str(b, TW_STR(""), grant->hidden[i]);
    }
    tw_bson_close(b);
}

/* What the subscribe carries for the collection's scope; len 0 key: all scopes. */
static tw_err read_scope(reader *self, const asked *item, tw_arena *arena, tw_key *out)
{
    *out = (tw_key){0};
    if (item->rules->scope_param == NULL) {
        return TW_OK;
    }
    TW_ASSERT(item->rules->scope_field != NULL);
    tw_str param = tw_str_of(item->rules->scope_param);
    tw_bson_value value = tw_bson_get(self->subscribe, param);
    if (value.type == 0 && tw_str_equal(param, TW_STR("project_id"))) {
        value = tw_bson_get(self->subscribe, TW_STR("project"));
    }
    if (value.type == 0) {
        return TW_OK;
    }
    tw_err err = TW_E_BAD_DOCUMENT;
    if (value.type != TW_BSON_DOCUMENT) {
        err = tw_key_of_value(arena, value, out);
    }
    if (err != TW_OK && err != TW_E_NO_MEMORY) {
        return broker_refuse(self->why, TW_E_BAD_MESSAGE, "%s: takes one plain value",
                             item->rules->scope_param);
    }
    return err;
}

/* The scope's clause, the collection's own filter, those of the rights, the asker's. */
static tw_err write_filter(tw_bson_builder *b, const asked *item, tw_key scope)
{
    tw_buf clause;
    tw_bson_builder inner;
    TW_ASSERT(item->rules != NULL);
    tw_buf_init(&clause, TW_TOPIC_QUERY_MAX);
    tw_bson_begin(&inner, &clause);
    if (scope.len > 0) {
        tw_bson_add_key(&inner, tw_str_of(item->rules->scope_field), scope);
    }
    const tw_bson filters[] = {tw_bson_end(&inner), item->rules->filter, item->read.filter,
                               item->sought.filter, item->filter};
    const bool is_right[TW_COUNT(filters)] = {[2] = true, [3] = true};
    int64_t rights_bits = 0;
    unsigned given = 0;
    for (size_t i = 0; i < TW_COUNT(filters); i++) {
        bool is_given = filters[i].len > TOPIC_QUERY_EMPTY;
        rights_bits |= is_given && is_right[i] ? INT64_C(1) << given : 0;
        given += is_given ? 1 : 0;
    }
    if (clause.err == TW_OK) {
        topic_query_add_filters(b, TW_STR("f"), filters, TW_COUNT(filters));
    }
    if (rights_bits != 0) {
        tw_bson_add_i64(b, TW_STR("r"), given == 1 ? TOPIC_QUERY_WHOLE : rights_bits);
    }
    tw_err err = clause.err;
    tw_buf_fini(&clause);
    return err;
}

/* Rebuilt from the allow-list, so that equal queries are equal bytes. */
static tw_err write_search(reader *self, tw_bson_builder *b, const asked *item)
{
    broker_why inner = {0};
    char shown[BROKER_SHOWN_MAX];
    if (item->search.type == 0) {
        return TW_OK;
    }
    tw_err err = search_body_add_query(b, TW_STR("q"), item->search, &inner);
    return err == TW_OK ? TW_OK
                        : broker_refuse(self->why, err, "%s: search: %s",
                                        broker_show(item->name, shown), inner.text);
}

/* A query that cannot be held against a document alone is refused here, by the clause's name. */
static tw_err check_search(reader *self, const asked *item, tw_bson wanted, tw_arena *arena)
{
    broker_why inner = {0};
    char shown[BROKER_SHOWN_MAX];
    search_mapping mapping;
    search_query *unused = NULL;
    bool declared = item->rules->search_mapping.len > 0;
    tw_bson_value built = tw_bson_get(wanted, TW_STR("q"));
    tw_err err =
        declared ? search_mapping_init(&mapping, arena, item->rules->search_mapping) : TW_OK;
    if (err == TW_OK && built.type != 0) {
        err = search_query_compile(arena, built, declared ? &mapping : NULL, &unused, &inner);
    }
    if (err == TW_OK && unused != NULL && search_query_needs_id(unused)) {
        err = broker_refuse(&inner, TW_E_BAD_QUERY, "ids: needs the index, not in a stream.");
    }
    return err == TW_OK || inner.text[0] == '\0'
               ? err
               : broker_refuse(self->why, err, "%s: search: %s", broker_show(item->name, shown),
                               inner.text);
}

/* Adds a collection's search to the canonical form. */
static tw_err add_search(reader *self, tw_bson_builder *b, const asked *item, tw_arena *arena)
{
    tw_buf alone;
    tw_bson_builder inner;
    if (item->search.type == 0) {
        return TW_OK;
    }
    tw_buf_init(&alone, TW_TOPIC_QUERY_MAX);
    tw_bson_begin(&inner, &alone);
    tw_err err = write_search(self, &inner, item);
    if (err == TW_OK) {
        tw_bson built = tw_arena_bson(arena, tw_bson_end(&inner));
        err = alone.err != TW_OK ? alone.err : built.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
        err = err == TW_OK ? check_search(self, item, built, arena) : err;
        if (err == TW_OK) {
            tw_bson_add_value(b, TW_STR("q"), tw_bson_get(built, TW_STR("q")));
        }
    }
    tw_buf_fini(&alone);
    return err;
}

static void write_fields(tw_bson_builder *b, const asked *item)
{
    tw_bson fields = tw_bson_value_doc(item->fields);
    bool given = fields.len > 5; /* 5: an empty list */
    if (!given && (item->rules->fields == NULL || item->rules->fields_count == 0)) {
        return;
    }
    TW_ASSERT(b->out != NULL);
    tw_bson_open_array(b, TW_STR("p"));
    if (given) {
        tw_bson_iter iter;
        for (tw_bson_iter_init(&iter, fields); tw_bson_iter_next(&iter);) {
            tw_str text = tw_bson_value_str(iter.value);
            tw_bson_add_str(b, TW_STR(""), text.ptr != NULL ? text : iter.name);
        }
    } else {
        for (size_t i = 0; i < item->rules->fields_count; i++) {
            tw_bson_add_str(b, TW_STR(""), tw_str_of(item->rules->fields[i]));
        }
    }
    tw_bson_close(b);
}

static tw_err write_canonical(reader *self, tw_arena *arena, bool archived, tw_buf *buf)
{
    tw_bson_builder b;
    TW_ASSERT(self->count > 0);
    tw_bson_begin(&b, buf);
    tw_bson_add_i64(&b, TW_STR("v"), 1);
    tw_bson_add_bool(&b, TW_STR("a"), archived);
    tw_bson_open_array(&b, TW_STR("c"));
    tw_err err = TW_OK;
    for (size_t i = 0; i < self->count && err == TW_OK; i++) {
        tw_key scope;
        err = read_scope(self, &self->at[i], arena, &scope);
        if (err != TW_OK) {
            break;
        }
        tw_bson_open_doc(&b, TW_STR(""));
        tw_bson_add_str(&b, TW_STR("d"), self->at[i].db);
        tw_bson_add_str(&b, TW_STR("n"), self->at[i].name);
        if (scope.len > 0) {
            tw_bson_add_key(&b, TW_STR("s"), scope);
        }
        err = write_filter(&b, &self->at[i], scope);
        write_fields(&b, &self->at[i]);
        topic_query_add_hidden(&b, TW_STR("h"), &self->at[i].read);
        err = err == TW_OK ? add_search(self, &b, &self->at[i], arena) : err;
        tw_bson_close(&b);
    }
    tw_bson_close(&b);
    (void)tw_bson_end(&b);
    if (err == TW_OK && buf->err == TW_E_TOO_BIG) {
        return broker_refuse(self->why, TW_E_BAD_MESSAGE,
                             "the filters and fields have over %d bytes", TW_TOPIC_QUERY_MAX);
    }
    return err != TW_OK ? err : buf->err;
}

static int compare_asked(const void *a, const void *b)
{
    const asked *left = a;
    const asked *right = b;
    int order = tw_str_compare(left->db, right->db);
    return order != 0 ? order : tw_str_compare(left->name, right->name);
}

tw_err topic_query_of_subscribe(const catalog *known, const rights *whose, tw_arena *arena,
                                tw_bson subscribe, tw_bson *out, broker_why *why)
{
    reader self = {
        .catalog = known, .rights = whose, .arena = arena, .subscribe = subscribe, .why = why};
    bool archived;
    TW_ASSERT(known != NULL && known->magic == CATALOG_MAGIC);
    TW_ASSERT(subscribe.len >= 5);
    tw_err err = read_archived(&self, &archived);
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, subscribe); err == TW_OK && tw_bson_iter_next(&iter);) {
        if (tw_str_equal(iter.name, TW_STR("collections"))) {
            err = read_collections(&self, iter.value);
        } else if (!is_reserved(known, iter.name)) {
            err = add_collection(&self, iter.name, iter.value);
        }
    }
    if (err != TW_OK) {
        return err;
    }
    if (self.count == 0) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "no collection is named: add one, such as \"entries\": \"*\"");
    }
    qsort(self.at, self.count, sizeof *self.at, compare_asked);
    tw_buf buf;
    tw_buf_init(&buf, TW_TOPIC_QUERY_MAX);
    err = write_canonical(&self, arena, archived, &buf);
    if (err == TW_OK) {
        *out = tw_arena_bson(arena, (tw_bson){(const uint8_t *)buf.ptr, buf.len});
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    tw_buf_fini(&buf);
    return err;
}
