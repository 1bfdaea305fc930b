/* rules.c - the rules of the report preset.
 *
 * A write of a new record is judged field by field; a write over an old one may change archivetime
 * alone. What the server adds is added last: submissiontime, a key, _content.
 * Rule names are stable; clients may depend on them. */
#include "broker/rules.h"

#include <time.h> /* tidy: gmtime_r splits a time that is given; no clock is read */

#include "protocol/limits.h"
#include "protocol/messages.h"

#include "broker/position.h"

/* What is judged, and with what. */
typedef struct judge {
    const catalog_collection *collection;
    tw_arena *arena;
    tw_bson doc;
    uint64_t now_ms;
    rules_lookup lookup;
    void *context;
    broker_why *why;
} judge;

static const char *noun(catalog_rule rule)
{
    switch (rule) {
    case CATALOG_FREE:
        return "record";
    case CATALOG_ENTRY:
        return "entry";
    case CATALOG_THREAD:
        return "thread";
    case CATALOG_COMMENT:
        return "comment";
    }
    return "record";
}

static tw_err refuse(const judge *self, const char *rule, const char *text)
{
    TW_ASSERT(rule != NULL);
    TW_ASSERT(text != NULL);
    const char *name = noun(self->collection->rule);
    tw_err err = broker_refuse(self->why, TW_E_RULE, "%s: %s", name, text);
    if (self->why != NULL) {
        tw_format(self->why->rule, sizeof self->why->rule, "%s.%s", name, rule);
    }
    return err;
}

static bool is_null(tw_bson_value value)
{
    return value.type == 0 || value.type == TW_BSON_NULL;
}

static bool is_text(tw_bson_value value)
{
    return value.type == TW_BSON_STRING && tw_bson_value_str(value).len > 0;
}

/* ---- archivetime ---- */

/* A record's own position: _content where archivetime alone was changed since, else where it
 * stands. */
static tw_position own_position(tw_bson doc, tw_position at)
{
    tw_bson pair = tw_bson_get_doc(doc, TW_STR("_content"));
    int64_t srv;
    int64_t seqno;
    if (pair.len > 0 && tw_bson_value_i64(tw_bson_get(pair, TW_STR("0")), &srv) &&
        tw_bson_value_i64(tw_bson_get(pair, TW_STR("1")), &seqno) && srv >= 0 && seqno >= 0) {
        return (tw_position){.srv = (uint64_t)srv, .seqno = (uint64_t)seqno};
    }
    return at;
}

static bool covers(tw_bson archivetime, tw_position at)
{
    tw_bson_iter iter;
    TW_ASSERT(archivetime.len >= 5);
    for (tw_bson_iter_init(&iter, archivetime); tw_bson_iter_next(&iter);) {
        tw_bson pair = tw_bson_value_doc(iter.value);
        int64_t srv;
        int64_t seqno;
        if (pair.len > 0 && tw_bson_value_i64(tw_bson_get(pair, TW_STR("0")), &srv) &&
            tw_bson_value_i64(tw_bson_get(pair, TW_STR("1")), &seqno) && srv >= 0 &&
            (uint64_t)srv == at.srv) {
            return seqno >= 0 && (uint64_t)seqno >= at.seqno;
        }
    }
    return false;
}

bool rules_archived(tw_bson doc, tw_position at)
{
    TW_ASSERT(at.seqno <= TW_SEQNO_MAX);
    TW_ASSERT(doc.ptr != NULL || doc.len == 0);
    tw_bson archivetime = tw_bson_get_doc(doc, TW_STR("archivetime"));
    return archivetime.len > 0 && covers(archivetime, own_position(doc, at));
}

bool rules_edited_after_archive(tw_bson doc, tw_position at)
{
    TW_ASSERT(at.seqno <= TW_SEQNO_MAX);
    TW_ASSERT(doc.ptr != NULL || doc.len == 0);
    tw_bson archivetime = tw_bson_get_doc(doc, TW_STR("archivetime"));
    return archivetime.len > 0 && !covers(archivetime, own_position(doc, at));
}

static tw_err check_archivetime(const judge *self)
{
    tw_bson_value value = tw_bson_get(self->doc, TW_STR("archivetime"));
    tw_vector unused;
    const char *cause = "";
    TW_ASSERT(self->arena != NULL);
    if (is_null(value)) {
        return TW_OK;
    }
    tw_err err = position_vector_parse(self->arena, value, &unused, &cause);
    return err == TW_E_BAD_SINCE ? refuse(self, "archivetime", "archivetime is not a vector") : err;
}

/* ---- the kinds ---- */

static tw_err check_texts(const judge *self, const char *const *names, size_t count)
{
    char text[120];
    TW_ASSERT(count == 0 || names != NULL);
    TW_ASSERT(self->collection->scope_field != NULL);
    tw_bson_value scope = tw_bson_get(self->doc, tw_str_of(self->collection->scope_field));
    if (is_null(scope) || scope.type == TW_BSON_DOCUMENT || scope.type == TW_BSON_ARRAY) {
        tw_format(text, sizeof text, "%s must be a plain value", self->collection->scope_field);
        return refuse(self, self->collection->scope_field, text);
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_text(tw_bson_get(self->doc, tw_str_of(names[i])))) {
            tw_format(text, sizeof text, "%s must be a text that is not empty", names[i]);
            return refuse(self, names[i], text);
        }
    }
    return TW_OK;
}

/* content: a flat map of texts; null deletes a field in an edit. */
static tw_err check_content(const judge *self, bool edit)
{
    tw_bson_value content = tw_bson_get(self->doc, TW_STR("content"));
    TW_ASSERT(self->doc.len >= 5);
    if (edit && is_null(content)) {
        return TW_OK;
    }
    if (content.type != TW_BSON_DOCUMENT) {
        return refuse(self, "content", "content must be a map of texts");
    }
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(content)); tw_bson_iter_next(&iter);) {
        bool deletes = edit && iter.value.type == TW_BSON_NULL;
        if (iter.value.type != TW_BSON_STRING && !deletes) {
            return refuse(self, "content",
                          edit ? "content must be a map of texts, null to delete a field"
                               : "content must be a map of texts");
        }
    }
    return TW_OK;
}

/* Every version that an edit replaces exists and is of the same entry. */
static tw_err check_modifies(const judge *self, tw_bson modifies)
{
    tw_bson_value entry = tw_bson_get(self->doc, TW_STR("entry_uuid"));
    tw_bson_iter iter;
    TW_ASSERT(self->lookup != NULL);
    if (tw_bson_count(modifies) > TW_FILTER_IN_MAX) {
        return refuse(self, "modifies", "modifies names too many versions");
    }
    for (tw_bson_iter_init(&iter, modifies); tw_bson_iter_next(&iter);) {
        tw_key key;
        tw_bson before;
        if (!is_text(iter.value)) {
            return refuse(self, "modifies", "modifies must be null or a list of version_uuid");
        }
        tw_err err = tw_key_of_value(self->arena, iter.value, &key);
        if (err == TW_E_NO_MEMORY) {
            return err;
        }
        if (err != TW_OK || !self->lookup(self->context, key, self->arena, &before)) {
            return refuse(self, "modifies_unknown", "modifies names a version that does not exist");
        }
        tw_bson_value other = tw_bson_get(before, TW_STR("entry_uuid"));
        if (other.type == 0 || tw_bson_compare(other, entry) != 0) {
            return refuse(self, "modifies_other_entry",
                          "modifies names a version of another entry");
        }
    }
    return TW_OK;
}

static tw_err check_entry(const judge *self)
{
    static const char *const texts[] = {"report_uuid", "entry_uuid", "version_uuid"};
    tw_bson_value modifies = tw_bson_get(self->doc, TW_STR("modifies"));
    tw_bson_value reason = tw_bson_get(self->doc, TW_STR("reason"));
    tw_bson_value clip = tw_bson_get(self->doc, TW_STR("clip_id"));
    bool edit = !is_null(modifies);
    TW_ASSERT(self->collection->rule == CATALOG_ENTRY);
    tw_err err = check_texts(self, texts, TW_COUNT(texts));
    if (err != TW_OK) {
        return err;
    }
    if (edit &&
        (modifies.type != TW_BSON_ARRAY || tw_bson_count(tw_bson_value_doc(modifies)) == 0)) {
        return refuse(self, "modifies", "modifies must be null or a list of version_uuid");
    }
    if (!edit && !is_null(reason)) {
        return refuse(self, "reason", "an original entry has no reason");
    }
    if (edit && !is_text(reason)) {
        return refuse(self, "reason", "an edit needs a reason");
    }
    if (clip.type != TW_BSON_STRING && !(edit && is_null(clip))) {
        return refuse(self, "clip_id", "clip_id must be a text; null in an edit keeps it");
    }
    err = check_content(self, edit);
    if (err == TW_OK && edit) {
        err = check_modifies(self, tw_bson_value_doc(modifies));
    }
    return err;
}

static tw_err check_thread(const judge *self)
{
    static const char *const types[] = {"report", "entry", "version", "comment", "entity"};
    tw_bson_value id = tw_bson_get(self->doc, TW_STR("thread_uuid"));
    tw_bson_value links = tw_bson_get(self->doc, TW_STR("links"));
    TW_ASSERT(self->collection->rule == CATALOG_THREAD);
    tw_err err = check_texts(self, NULL, 0);
    if (err != TW_OK) {
        return err;
    }
    if (!is_null(id) && !is_text(id)) {
        return refuse(self, "thread_uuid", "thread_uuid must be a text that is not empty");
    }
    if (links.type != TW_BSON_ARRAY) {
        return refuse(self, "links", "links must be a list of [type, uuid]");
    }
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(links)); tw_bson_iter_next(&iter);) {
        tw_bson pair =
            iter.value.type == TW_BSON_ARRAY ? tw_bson_value_doc(iter.value) : (tw_bson){0};
        if (pair.len == 0 || tw_bson_count(pair) != 2 || !is_text(tw_bson_get(pair, TW_STR("1")))) {
            return refuse(self, "links", "links must be a list of [type, uuid]");
        }
        tw_str type = tw_bson_get_str(pair, TW_STR("0"));
        bool known = false;
        for (size_t i = 0; type.ptr != NULL && i < TW_COUNT(types); i++) {
            known = known || tw_str_equal(type, tw_str_of(types[i]));
        }
        if (!known) {
            return refuse(self, "link_type",
                          "a link's type is report, entry, version, comment or entity");
        }
    }
    return TW_OK;
}

/* Reads digits by the pattern's letter d; any other letter stands for itself. */
static bool fits(const char **at, const char *end, const char *pattern)
{
    TW_ASSERT(*at <= end);
    for (; *pattern != '\0'; pattern++, (*at)++) {
        if (*at == end) {
            return false;
        }
        bool digit = **at >= '0' && **at <= '9';
        if (*pattern == 'd' ? !digit : **at != *pattern) {
            return false;
        }
    }
    return true;
}

/* 2022-01-01T17:05:00[.123](Z|+hh:mm|-hh:mm) */
static bool is_iso_time(tw_bson_value value)
{
    tw_str text = tw_bson_value_str(value);
    if (value.type != TW_BSON_STRING) {
        return false;
    }
    const char *at = text.ptr;
    const char *end = text.ptr + text.len;
    if (!fits(&at, end, "dddd-dd-ddTdd:dd:dd")) {
        return false;
    }
    unsigned month = (unsigned)(text.ptr[5] - '0') * 10 + (unsigned)(text.ptr[6] - '0');
    unsigned day = (unsigned)(text.ptr[8] - '0') * 10 + (unsigned)(text.ptr[9] - '0');
    unsigned hour = (unsigned)(text.ptr[11] - '0') * 10 + (unsigned)(text.ptr[12] - '0');
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || text.ptr[14] > '5' ||
        text.ptr[17] > '6') {
        return false;
    }
    if (at < end && *at == '.') {
        at++;
        if (!fits(&at, end, "d")) {
            return false;
        }
        while (at < end && *at >= '0' && *at <= '9') {
            at++;
        }
    }
    if (at < end && *at == 'Z') {
        return at + 1 == end;
    }
    if (at < end && (*at == '+' || *at == '-')) {
        at++;
        return fits(&at, end, "dd:dd") && at == end;
    }
    return false;
}

static tw_err check_comment(const judge *self)
{
    static const char *const texts[] = {"comment_uuid", "thread_uuid"};
    TW_ASSERT(self->collection->rule == CATALOG_COMMENT);
    TW_ASSERT(self->doc.len >= 5);
    tw_err err = check_texts(self, texts, TW_COUNT(texts));
    if (err == TW_OK && !is_iso_time(tw_bson_get(self->doc, TW_STR("authortime")))) {
        err = refuse(self, "authortime", "authortime must be like 2022-01-01T17:05:00Z");
    }
    return err;
}

/* ---- what the server keeps and adds ---- */

static bool is_servers(const judge *self, tw_str name)
{
    return tw_str_equal(name, TW_STR("archivetime")) || tw_str_equal(name, TW_STR("_content")) ||
           tw_str_equal(name, tw_str_of(self->collection->version_field)) ||
           (self->collection->rule == CATALOG_COMMENT &&
            tw_str_equal(name, TW_STR("submissiontime")));
}

/* True when a and b have the same fields, but for those that are the server's business. */
static bool same_content(const judge *self, tw_bson a, tw_bson b)
{
    size_t fields_a = 0;
    size_t fields_b = 0;
    tw_bson_iter iter;
    TW_ASSERT(a.len >= 5 && b.len >= 5);
    for (tw_bson_iter_init(&iter, b); tw_bson_iter_next(&iter);) {
        fields_b += is_servers(self, iter.name) ? 0 : 1;
    }
    for (tw_bson_iter_init(&iter, a); tw_bson_iter_next(&iter);) {
        if (is_servers(self, iter.name)) {
            continue;
        }
        fields_a++;
        tw_bson_value other = tw_bson_get(b, iter.name);
        if (other.type == 0 || tw_bson_bracket(other.type) != tw_bson_bracket(iter.value.type) ||
            tw_bson_compare(other, iter.value) != 0) {
            return false;
        }
    }
    return fields_a == fields_b;
}

static void add_made_key(tw_bson_builder *b, const judge *self)
{
    uint8_t oid[12];
    char hex[25];
    TW_ASSERT(b->out != NULL);
    tw_oid_new(oid);
    if (self->collection->rule == CATALOG_COMMENT) {
        tw_bson_add_oid(b, TW_STR("_id"), oid);
    } else if (self->collection->rule == CATALOG_THREAD) {
        for (size_t i = 0; i < sizeof oid; i++) {
            tw_format(hex + 2 * i, 3, "%02x", oid[i]);
        }
        tw_bson_add_str(b, TW_STR("thread_uuid"), (tw_str){hex, 24});
    }
}

static void add_submission_time(tw_bson_builder *b, const judge *self, tw_bson old)
{
    char text[64];
    struct tm at = {0};
    tw_bson_value before = {0};
    if (old.len > 0) {
        before = tw_bson_get(old, TW_STR("submissiontime"));
    }
    TW_ASSERT(self->collection->rule == CATALOG_COMMENT);
    if (before.type != 0) {
        tw_bson_add_value(b, TW_STR("submissiontime"), before);
        return;
    }
    time_t seconds = (time_t)(self->now_ms / 1000);
    gmtime_r(&seconds, &at);
    size_t len = tw_format(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                           at.tm_year + 1900, at.tm_mon + 1, at.tm_mday, at.tm_hour, at.tm_min,
                           at.tm_sec, (int)(self->now_ms % 1000));
    tw_bson_add_str(b, TW_STR("submissiontime"), (tw_str){text, len});
}

/* Writes the document as it will be stored. content: the record's own position, seqno 0: where it
 * is written. */
static tw_err complete(const judge *self, tw_bson old, tw_position content, tw_bson *out)
{
    tw_buf buf;
    tw_bson_builder b;
    tw_str key = tw_str_of(self->collection->key);
    bool made = self->collection->rule != CATALOG_FREE && is_null(tw_bson_get(self->doc, key));
    bool comment = self->collection->rule == CATALOG_COMMENT;
    TW_ASSERT(self->doc.len >= 5);
    tw_buf_init(&buf, TW_DOCUMENT_MAX);
    tw_bson_begin(&b, &buf);
    if (made) {
        add_made_key(&b, self);
    }
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, self->doc); tw_bson_iter_next(&iter);) {
        if (tw_str_equal(iter.name, TW_STR("_content")) || (made && tw_str_equal(iter.name, key)) ||
            (comment && tw_str_equal(iter.name, TW_STR("submissiontime")))) {
            continue;
        }
        tw_bson_add_value(&b, iter.name, iter.value);
    }
    if (comment) {
        add_submission_time(&b, self, old);
    }
    if (content.seqno != 0) {
        tw_bson_open_array(&b, TW_STR("_content"));
        tw_bson_add_i64(&b, TW_STR("0"), (int64_t)content.srv);
        tw_bson_add_i64(&b, TW_STR("1"), (int64_t)content.seqno);
        tw_bson_close(&b);
    }
    tw_bson whole = tw_bson_end(&b);
    tw_err err = buf.err;
    if (err == TW_OK) {
        *out = tw_arena_bson(self->arena, whole);
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    tw_buf_fini(&buf);
    return err;
}

static tw_err check_new(const judge *self)
{
    switch (self->collection->rule) {
    case CATALOG_FREE:
        return TW_OK;
    case CATALOG_ENTRY:
        return check_entry(self);
    case CATALOG_THREAD:
        return check_thread(self);
    case CATALOG_COMMENT:
        return check_comment(self);
    }
    return TW_OK;
}

tw_err rules_check(const catalog_collection *collection, tw_arena *arena, tw_bson doc, tw_bson old,
                   tw_position old_at, uint64_t now_ms, rules_lookup lookup, void *context,
                   tw_bson *out, broker_why *why)
{
    judge self = {.collection = collection, .arena = arena, .doc = doc, .now_ms = now_ms};
    self.lookup = lookup;
    self.context = context;
    self.why = why;
    TW_ASSERT(collection != NULL);
    TW_ASSERT(doc.len >= 5);
    bool hidden = tw_bson_get(doc, TW_STR("_content")).type != 0;
    if (collection->rule == CATALOG_FREE && !collection->archives && !hidden) {
        *out = doc;
        return TW_OK;
    }
    tw_position content = {0};
    tw_err err = collection->archives ? check_archivetime(&self) : TW_OK;
    if (err == TW_OK && old.len == 0) {
        err = check_new(&self);
    } else if (err == TW_OK && same_content(&self, doc, old)) {
        content = own_position(old, old_at);
    } else if (err == TW_OK && collection->rule != CATALOG_FREE) {
        err = refuse(&self, "immutable", "only archivetime may be changed; write a new version");
    }
    if (err == TW_OK && !collection->archives) {
        content = (tw_position){0};
    }
    return err != TW_OK ? err : complete(&self, old, content, out);
}
