/* topic_query.c - compiling a canonical topic query, and what changes mean to its parts.
 *
 * topic_query_read.c makes the canonical form; topic_query_render.c writes what is told;
 * topic_query_changes.c does both for change streams, topic_query_database.c for realtime
 * databases. */
#include "broker/topic_query.h"

#include "protocol/limits.h"

#include "broker/rules.h"
#include "broker/topic_query_priv.h"

enum { TOPIC_QUERY_MAGIC = 0x70c19e41, TOPIC_QUERY_SEED = 0x51ab };
enum { SEARCH_MEMORY_MAX = 4 * 1048576 /* bytes: a mapping and a compiled query */ };

void topic_query_name(tw_bson canonical, char out[17])
{
    TW_ASSERT(canonical.len >= 5);
    TW_ASSERT(out != NULL);
    uint64_t hash = tw_hash(canonical.ptr, canonical.len, TOPIC_QUERY_SEED);
    tw_format(out, 17, "%016llx", (unsigned long long)hash);
}

bool topic_query_processed(const catalog *known, tw_bson canonical)
{
    TW_ASSERT(known != NULL && known->magic == CATALOG_MAGIC);
    if (tw_bson_get(canonical, TW_STR("k")).type != 0) {
        return false; /* changes are told as they were made */
    }
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, tw_bson_get_doc(canonical, TW_STR("c")));
    while (tw_bson_iter_next(&iter)) {
        tw_bson item = tw_bson_value_doc(iter.value);
        const catalog_collection *rules = catalog_find(known, tw_bson_get_str(item, TW_STR("d")),
                                                       tw_bson_get_str(item, TW_STR("n")));
        if (rules != NULL && rules->processor != NULL) {
            return true;
        }
    }
    return false;
}

static char *own_text(tw_str text)
{
    TW_ASSERT(text.len <= TW_NAME_MAX);
    char *copy = tw_alloc(text.len + 1);
    if (copy != NULL) {
        memcpy(copy, text.ptr, text.len);
        copy[text.len] = '\0';
    }
    return copy;
}

static tw_err refuse_form(broker_why *why)
{
    return broker_refuse(why, TW_E_BAD_QUERY, "the topic query is not in canonical form");
}

/* The key of the scope value, in the memory of the canonical form: its type byte is not beside its
 * value there, so the key is made once and kept. */
static tw_err compile_scope(topic_query_part *part, tw_bson_value scope)
{
    tw_arena arena;
    tw_key key;
    TW_ASSERT(scope.type != 0);
    tw_arena_init(&arena, 65536);
    tw_err err = tw_key_of_value(&arena, scope, &key);
    if (err == TW_OK) {
        uint8_t *copy = tw_alloc(key.len);
        if (copy == NULL) {
            err = TW_E_NO_MEMORY;
        } else {
            memcpy(copy, key.ptr, key.len);
            part->scope = (tw_key){copy, key.len};
            part->has_scope = true;
        }
    }
    tw_arena_fini(&arena);
    return err;
}

/* Types are those that the collection declares; of others each value tells its own. */
static tw_err compile_search(topic_query_part *part, tw_bson_value asked, broker_why *why)
{
    tw_bson declared = part->rules->search_mapping;
    if (asked.type == 0) {
        return TW_OK;
    }
    tw_arena_init(&part->memory, SEARCH_MEMORY_MAX);
    tw_err err =
        declared.len > 0 ? search_mapping_init(&part->mapping, &part->memory, declared) : TW_OK;
    if (err != TW_OK) {
        return err;
    }
    return search_query_compile(&part->memory, asked, declared.len > 0 ? &part->mapping : NULL,
                                &part->search, why);
}

/* Names that rights hide; views into the canonical form. */
static tw_err compile_hidden(topic_query_part *part, tw_bson names, broker_why *why)
{
    tw_bson_iter iter;
    size_t count = names.len == 0 ? 0 : tw_bson_count(names);
    if (count == 0) {
        return TW_OK;
    }
    part->grant.hidden = tw_alloc(count * sizeof *part->grant.hidden);
    if (part->grant.hidden == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (tw_bson_iter_init(&iter, names); tw_bson_iter_next(&iter);) {
        tw_str name = tw_bson_value_str(iter.value);
        if (name.len == 0 || part->grant.hidden_count == TW_FIELDS_MAX) {
            return refuse_form(why);
        }
        part->grant.hidden[part->grant.hidden_count++] = name;
    }
    return TW_OK;
}

bool topic_query_part_matches(const topic_query_part *part, tw_bson doc)
{
    if (!query_match(part->filter, doc)) {
        return false;
    }
    return part->search == NULL || search_query_match(part->search, doc, (tw_str){"", 0}, NULL);
}

/* Of the joined filter what is the rights', so that a stream can tell why a record is gone. */
static tw_err compile_granted(topic_query_part *part, int64_t which, broker_why *why)
{
    TW_ASSERT(part->granted == NULL);
    if (which == 0 || which == TOPIC_QUERY_WHOLE) {
        return which == 0 ? TW_OK : query_compile_joined(part->filter_bytes, &part->granted, why);
    }
    tw_buf text;
    tw_bson_builder b;
    tw_bson_iter iter;
    uint64_t left = (uint64_t)which;
    tw_buf_init(&text, TW_TOPIC_QUERY_MAX);
    tw_bson_begin(&b, &text);
    tw_bson_open_array(&b, TW_STR("$and"));
    tw_bson_iter_init(&iter, tw_bson_get_doc(part->filter_bytes, TW_STR("$and")));
    for (; tw_bson_iter_next(&iter); left >>= 1) {
        if ((left & 1) != 0) {
            tw_bson_add_value(&b, TW_STR(""), iter.value);
        }
    }
    tw_bson_close(&b);
    tw_bson joined = tw_bson_end(&b);
    tw_err err = text.err != TW_OK ? text.err : left != 0 ? refuse_form(why) : TW_OK;
    err = err != TW_OK ? err : query_compile_joined(joined, &part->granted, why);
    tw_buf_fini(&text);
    return err;
}

static tw_err compile_part(const catalog *known, tw_bson item, topic_query_part *part,
                           broker_why *why)
{
    tw_str db = tw_bson_get_str(item, TW_STR("d"));
    tw_str name = tw_bson_get_str(item, TW_STR("n"));
    TW_ASSERT(part->db == NULL);
    if (db.ptr == NULL || catalog_check_name(db) != TW_OK || name.ptr == NULL ||
        catalog_check_name(name) != TW_OK) {
        return refuse_form(why);
    }
    part->db = own_text(db);
    part->name = own_text(name);
    if (part->db == NULL || part->name == NULL) {
        return TW_E_NO_MEMORY;
    }
    if (topic_query_tell_collection(known, part) != TW_OK) {
        return TW_E_NO_MEMORY;
    }
    part->rules = catalog_rules(known, db, name);
    if (part->rules == NULL) {
        return broker_refuse(why, TW_E_FORBIDDEN, "there is no collection %s", part->name);
    }
    tw_err err = projection_init(&part->fields, tw_bson_get_doc(item, TW_STR("p")));
    if (err != TW_OK) {
        return refuse_form(why);
    }
    tw_bson_value scope = tw_bson_get(item, TW_STR("s"));
    if (scope.type != 0) {
        err = compile_scope(part, scope);
    }
    part->filter_bytes = tw_bson_get_doc(item, TW_STR("f"));
    err = err != TW_OK ? err : query_compile_joined(part->filter_bytes, &part->filter, why);
    err = err != TW_OK ? err : compile_granted(part, tw_bson_get_i64_or(item, TW_STR("r"), 0), why);
    err = err != TW_OK ? err : compile_hidden(part, tw_bson_get_doc(item, TW_STR("h")), why);
    return err != TW_OK ? err : compile_search(part, tw_bson_get(item, TW_STR("q")), why);
}

/* The part for all that is not declared: a change stream of every collection has it. */
static tw_err compile_any(topic_query *self, broker_why *why)
{
    topic_query_part *part = &self->parts[self->parts_count++];
    TW_ASSERT(part->db == NULL);
    part->any = true;
    part->rules = &catalog_undeclared;
    part->db = own_text(TW_STR(""));
    part->name = own_text(TW_STR(""));
    if (part->db == NULL || part->name == NULL) {
        return TW_E_NO_MEMORY;
    }
    part->filter_bytes = tw_bson_get_doc(self->canonical, TW_STR("af"));
    tw_err err = query_compile_joined(part->filter_bytes, &part->filter, why);
    return err != TW_OK ? err
                        : compile_hidden(part, tw_bson_get_doc(self->canonical, TW_STR("ah")), why);
}

static tw_err compile_parts(const catalog *known, topic_query *self, tw_bson list, broker_why *why)
{
    tw_bson_iter iter;
    TW_ASSERT(self->parts != NULL);
    for (tw_bson_iter_init(&iter, list); tw_bson_iter_next(&iter);) {
        tw_bson item = tw_bson_value_doc(iter.value);
        if (item.len == 0) {
            return refuse_form(why);
        }
        topic_query_part *part = &self->parts[self->parts_count++];
        tw_err err = compile_part(known, item, part, why);
        if (err != TW_OK) {
            return err;
        }
    }
    return TW_OK;
}

/* False: a kind that there is not. */
static bool read_form(topic_query *self, topic_query_form *out)
{
    tw_str kind = tw_bson_get_str(self->canonical, TW_STR("k"));
    TW_ASSERT(self->canonical.len >= 5);
    *out = TOPIC_RECORDS;
    if (kind.ptr == NULL) {
        return true;
    }
    self->any = tw_bson_get_bool_or(self->canonical, TW_STR("any"), false);
    self->database = tw_bson_get_str(self->canonical, TW_STR("db"));
    if (tw_str_equal(kind, TW_STR("changes"))) {
        *out = TOPIC_CHANGES;
        return true;
    }
    *out = TOPIC_EVENTS;
    return tw_str_equal(kind, TW_STR("events")) && self->database.ptr != NULL &&
           catalog_check_name(self->database) == TW_OK;
}

/* Reads the canonical form that self holds a copy of. */
static tw_err compile_whole(topic_query *self, broker_why *why)
{
    topic_query_form form;
    TW_ASSERT(self->parts == NULL);
    if (!read_form(self, &form)) {
        return refuse_form(why);
    }
    bool archived = tw_bson_get_bool_or(self->canonical, TW_STR("a"), false);
    self->include_archived = form != TOPIC_RECORDS || archived;
    tw_bson list = tw_bson_get_doc(self->canonical, TW_STR("c"));
    size_t count = list.len == 0 ? 0 : tw_bson_count(list);
    bool all = self->any || form == TOPIC_EVENTS; /* of what is declared, not a choice of it */
    size_t count_max = form == TOPIC_RECORDS ? TW_COLLECTIONS_PER_TOPIC_MAX
                                             : self->catalog->count + TW_RIGHTS_RULES_MAX +
                                                   TW_COLLECTIONS_PER_TOPIC_MAX;
    if ((count == 0 && !all) || count > count_max) {
        return refuse_form(why);
    }
    self->parts = tw_alloc_zero(count + 1, sizeof *self->parts);
    if (self->parts == NULL) {
        return TW_E_NO_MEMORY;
    }
    tw_err err = compile_parts(self->catalog, self, list, why);
    if (err == TW_OK && self->any) {
        err = compile_any(self, why);
    }
    for (size_t i = 0; i < self->parts_count; i++) {
        self->parts[i].form = form;
    }
    return err;
}

tw_err topic_query_compile(const catalog *known, tw_bson canonical, topic_query **out,
                           broker_why *why)
{
    TW_ASSERT(known != NULL && known->magic == CATALOG_MAGIC);
    TW_ASSERT(out != NULL);
    *out = NULL;
    if (canonical.len < 5 || canonical.len > TW_TOPIC_QUERY_MAX ||
        tw_bson_get_i64_or(canonical, TW_STR("v"), 0) != 1) {
        return refuse_form(why);
    }
    topic_query *self = tw_alloc_zero(1, sizeof *self);
    uint8_t *copy = tw_alloc(canonical.len);
    tw_err err = self == NULL || copy == NULL ? TW_E_NO_MEMORY : TW_OK;
    if (err != TW_OK) {
        tw_free(copy);
        tw_free(self);
        return err;
    }
    memcpy(copy, canonical.ptr, canonical.len);
    self->magic = TOPIC_QUERY_MAGIC;
    self->canonical = (tw_bson){copy, canonical.len};
    self->catalog = known;
    err = compile_whole(self, why);
    if (err != TW_OK) {
        topic_query_free(&self);
        return err;
    }
    *out = self;
    return TW_OK;
}

void topic_query_free(topic_query **asked)
{
    topic_query *self;
    TW_ASSERT(asked != NULL);
    if (*asked == NULL) {
        return;
    }
    TW_CAST(self, *asked, TOPIC_QUERY_MAGIC);
    for (size_t i = 0; i < self->parts_count; i++) {
        query_free(&self->parts[i].filter);
        query_free(&self->parts[i].granted);
        tw_arena_fini(&self->parts[i].memory);
        tw_free((void *)(uintptr_t)self->parts[i].db);
        tw_free((void *)(uintptr_t)self->parts[i].name);
        tw_free((void *)(uintptr_t)self->parts[i].told.ptr);
        tw_free((void *)(uintptr_t)self->parts[i].scope.ptr);
        tw_free(self->parts[i].grant.hidden);
    }
    tw_free(self->parts);
    tw_free((void *)(uintptr_t)self->canonical.ptr);
    self->magic = 0;
    tw_free(self);
    *asked = NULL;
}

int topic_query_part_of(const topic_query *self, tw_str db, tw_str coll)
{
    TW_ASSERT(self != NULL && self->magic == TOPIC_QUERY_MAGIC);
    TW_ASSERT(self->parts != NULL);
    for (size_t i = 0; i < self->parts_count; i++) {
        if (tw_str_equal(tw_str_of(self->parts[i].name), coll) &&
            tw_str_equal(tw_str_of(self->parts[i].db), db)) {
            return (int)i;
        }
    }
    bool is_meant = self->database.len == 0 || tw_str_equal(self->database, db);
    bool is_undeclared = self->any && is_meant && db.len > 0 && coll.len > 0 &&
                         catalog_rules(self->catalog, db, coll) == &catalog_undeclared;
    return is_undeclared ? (int)self->parts_count - 1 : -1; /* that part is the last */
}

unsigned topic_query_meaning(const topic_query *self, int part, uint64_t flags, tw_bson doc,
                             tw_bson old, tw_position at, bool live)
{
    TW_ASSERT(self != NULL && self->magic == TOPIC_QUERY_MAGIC);
    TW_ASSERT(part >= 0 && (size_t)part < self->parts_count);
    const topic_query_part *held = &self->parts[part];
    if ((flags & TW_ROW_DROP) != 0) {
        return live ? TW_MEANS_DROP : 0;
    }
    bool deleted = (flags & TW_ROW_DELETE) != 0;
    if (!deleted && doc.len > 0 && topic_query_part_matches(held, doc)) {
        bool hidden =
            !live && !self->include_archived && held->rules->archives && rules_archived(doc, at);
        return hidden ? 0 : TW_MEANS_PUT;
    }
    if (!live || old.len == 0 || !topic_query_part_matches(held, old)) {
        return 0;
    }
    if (deleted) {
        return TW_MEANS_DELETED;
    }
    bool shown = held->granted == NULL || query_match(held->granted, doc);
    return shown ? TW_MEANS_LEFT : TW_MEANS_REVOKED;
}
