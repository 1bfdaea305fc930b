/* topic_query_render.c - the bytes that are told of a change, the same for all streams of a
 * projection.
 *
 * Without a projection the document is written field by field as it stands; the server's own names
 * and the hidden field _content are left out. */
#include "protocol/json.h"
#include "protocol/limits.h"

#include "broker/rules.h"
#include "broker/topic_query_priv.h"

tw_str topic_query_type(const topic_query_part *part, unsigned meaning)
{
    TW_ASSERT(part != NULL && part->rules != NULL);
    TW_ASSERT(meaning >= TW_MEANS_PUT && meaning <= TW_MEANS_DROP);
    if (part->form != TOPIC_RECORDS) {
        return TW_STR("");
    }
    switch ((enum tw_meaning)meaning) {
    case TW_MEANS_PUT:
        if (part->rules->shape == CATALOG_FLAT && part->rules->message != NULL) {
            return tw_str_of(part->rules->message);
        }
        return TW_STR("record");
    case TW_MEANS_LEFT:
    case TW_MEANS_REVOKED:
    case TW_MEANS_DELETED:
        return TW_STR("remove");
    case TW_MEANS_DROP:
        return TW_STR("drop");
    }
    return TW_STR("");
}

static void add_name(tw_buf *out, tw_str name)
{
    TW_ASSERT(name.ptr != NULL);
    tw_json_write_str(out, name);
    tw_buf_add_byte(out, ':');
}

static void add_name_of(const catalog *known, tw_str db, tw_str name, tw_buf *out)
{
    char full[2 * TW_NAME_MAX + 2];
    TW_ASSERT(known->default_database != NULL);
    TW_ASSERT(db.len > 0 && db.len <= TW_NAME_MAX && name.len <= TW_NAME_MAX);
    if (!tw_str_equal(db, tw_str_of(known->default_database))) {
        size_t len =
            tw_format(full, sizeof full, "%.*s.%.*s", (int)db.len, db.ptr, (int)name.len, name.ptr);
        name = (tw_str){full, len};
    }
    tw_buf_add_str(out, TW_STR("\"collection\":"));
    tw_json_write_str(out, name);
}

tw_err topic_query_tell_collection(const catalog *known, topic_query_part *part)
{
    tw_buf text;
    TW_ASSERT(part->told.ptr == NULL);
    tw_buf_init(&text, 16 * (size_t)TW_NAME_MAX);
    add_name_of(known, tw_str_of(part->db), tw_str_of(part->name), &text);
    char *own = text.err == TW_OK ? tw_alloc(text.len) : NULL;
    if (own != NULL) {
        memcpy(own, text.ptr, text.len);
        part->told = (tw_str){own, text.len};
    }
    tw_buf_fini(&text);
    return own == NULL ? TW_E_NO_MEMORY : TW_OK;
}

void topic_query_render_dispatch(const catalog *known, tw_str db, tw_str coll,
                                 tw_bson_value message, tw_buf *out)
{
    TW_ASSERT(known != NULL && known->magic == CATALOG_MAGIC);
    TW_ASSERT(message.type != 0);
    add_name_of(known, db, coll, out);
    tw_buf_add_str(out, TW_STR(",\"message\":"));
    tw_json_write_value(out, message);
    tw_buf_add_byte(out, '}');
}

void topic_query_add_position(tw_buf *out, const topic_change *change)
{
    TW_ASSERT(change->at.seqno <= TW_SEQNO_MAX);
    tw_buf_add_str(out, TW_STR("\"srv_id\":"));
    tw_buf_add_u64(out, change->at.srv);
    tw_buf_add_str(out, TW_STR(",\"seqno\":"));
    tw_buf_add_u64(out, change->at.seqno);
    if ((change->flags & TW_ROW_MULTI) != 0) {
        tw_buf_add_str(out, (change->flags & TW_ROW_LAST) != 0 ? TW_STR(",\"last\":true")
                                                               : TW_STR(",\"last\":false"));
    }
}

/* Names that the event itself carries, so that a document's own may not stand beside them. */
static bool is_taken(tw_str name, bool multi, bool edited)
{
    static const char *const taken[] = {"type", "mux_id", "prev", "srv_id", "seqno"};
    for (size_t i = 0; i < TW_COUNT(taken); i++) {
        if (tw_str_equal(name, tw_str_of(taken[i]))) {
            return true;
        }
    }
    return (multi && tw_str_equal(name, TW_STR("last"))) ||
           (edited && tw_str_equal(name, TW_STR("edited_after_archive")));
}

static void add_flat_fields(tw_buf *out, tw_bson doc, bool multi, bool edited)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter) && out->err == TW_OK;) {
        if (is_taken(iter.name, multi, edited) || tw_str_equal(iter.name, TW_STR("_content"))) {
            continue;
        }
        tw_buf_add_byte(out, ',');
        add_name(out, iter.name);
        tw_json_write_value(out, iter.value);
    }
}

tw_bson topic_query_shown(const topic_query_part *part, tw_bson doc, tw_buf *buf)
{
    if (part->grant.hidden_count == 0 || doc.len == 0) {
        return doc;
    }
    rights_hide(&part->grant, doc, buf);
    static const uint8_t empty[] = {5, 0, 0, 0, 0}; /* without memory nothing is shown */
    return buf->err == TW_OK ? (tw_bson){(const uint8_t *)buf->ptr, buf->len}
                             : (tw_bson){empty, sizeof empty};
}

void topic_query_add_document(tw_buf *out, tw_bson doc)
{
    tw_json_write_without(out, doc, TW_STR("_content"));
}

static void render_put(const topic_query_part *part, const topic_change *change, tw_bson told,
                       tw_buf *out)
{
    bool flat = part->rules->shape == CATALOG_FLAT;
    bool edited = part->rules->archives && rules_edited_after_archive(change->doc, change->at);
    TW_ASSERT(told.len >= 5);
    TW_ASSERT(change->doc.len >= 5);
    if (!flat) {
        tw_buf_add_str(out, part->told);
        tw_buf_add_str(out, TW_STR(",\"op\":\"put\",\"key\":"));
        tw_json_write_key(out, change->key);
        tw_buf_add_str(out, TW_STR(",\"version\":"));
        tw_buf_add_i64(out, change->version);
        tw_buf_add_byte(out, ',');
    }
    topic_query_add_position(out, change);
    if (edited) {
        tw_buf_add_str(out, TW_STR(",\"edited_after_archive\":true"));
    }
    if (flat) {
        add_flat_fields(out, told, (change->flags & TW_ROW_MULTI) != 0, edited);
    } else {
        tw_buf_add_str(out, TW_STR(",\"doc\":"));
        topic_query_add_document(out, told);
    }
    tw_buf_add_byte(out, '}');
}

/* The document without what rights hide, then what of it was asked for. */
static void render_told(const topic_query_part *part, const topic_change *change, tw_buf *out)
{
    if (part->grant.hidden_count == 0 && part->fields.count == 0) { /* nearly always */
        render_put(part, change, change->doc, out);
        return;
    }
    tw_buf shown;
    tw_buf projected;
    tw_buf_init(&shown, TW_DOCUMENT_MAX + 4096);
    tw_buf_init(&projected, TW_DOCUMENT_MAX + 4096);
    tw_bson told = topic_query_shown(part, change->doc, &shown);
    if (part->fields.count > 0) {
        projection_apply(&part->fields, tw_str_of(part->rules->key), told, &projected);
        told = (tw_bson){(const uint8_t *)projected.ptr, projected.len};
    }
    tw_err err = shown.err != TW_OK ? shown.err : projected.err;
    if (err == TW_OK) {
        render_put(part, change, told, out);
    } else if (out->err == TW_OK) {
        out->err = err;
    }
    tw_buf_fini(&shown);
    tw_buf_fini(&projected);
}

/* Why a record is gone. */
static tw_str why_of(unsigned meaning)
{
    TW_ASSERT(meaning >= TW_MEANS_LEFT && meaning <= TW_MEANS_DELETED);
    return meaning == TW_MEANS_DELETED   ? TW_STR("deleted")
           : meaning == TW_MEANS_REVOKED ? TW_STR("revoked")
                                         : TW_STR("left");
}

void topic_query_render(const catalog *known, const topic_query_part *part, unsigned meaning,
                        const topic_change *change, tw_buf *out)
{
    TW_ASSERT(known != NULL && known->magic == CATALOG_MAGIC);
    TW_ASSERT(meaning >= TW_MEANS_PUT && meaning <= TW_MEANS_DROP);
    if (part->form == TOPIC_CHANGES) {
        topic_query_render_change(part, meaning, change, out);
        return;
    }
    if (part->form == TOPIC_EVENTS) {
        topic_query_render_event(part, meaning, change, out);
        return;
    }
    if (meaning == TW_MEANS_PUT) {
        render_told(part, change, out);
        return;
    }
    tw_buf_add_str(out, part->told);
    if (meaning != TW_MEANS_DROP) {
        tw_buf_add_str(out, TW_STR(",\"key\":"));
        tw_json_write_key(out, change->key);
        tw_buf_add_str(out, TW_STR(",\"why\":"));
        tw_json_write_str(out, why_of(meaning));
    }
    tw_buf_add_byte(out, ',');
    topic_query_add_position(out, change);
    tw_buf_add_byte(out, '}');
}

static void add_minimal(const topic_query_part *part, tw_bson doc, tw_buf *out)
{
    TW_ASSERT(part->rules != NULL);
    if (part->fields.count > 0) {
        projection_apply(&part->fields, tw_str_of(part->rules->key), doc, out);
        return;
    }
    if (tw_bson_get(doc, TW_STR("_content")).type == 0) {
        tw_buf_add(out, doc.ptr, doc.len);
        return;
    }
    tw_bson_builder b;
    tw_bson_iter iter;
    tw_bson_begin(&b, out);
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        if (!tw_str_equal(iter.name, TW_STR("_content"))) {
            tw_bson_add_value(&b, iter.name, iter.value);
        }
    }
    (void)tw_bson_end(&b);
}

void topic_query_minimal(const topic_query_part *part, tw_bson doc, tw_buf *out)
{
    tw_buf shown;
    TW_ASSERT(doc.len >= 5);
    tw_buf_init(&shown, TW_DOCUMENT_MAX + 4096);
    tw_bson told = topic_query_shown(part, doc, &shown);
    if (shown.err == TW_OK) {
        add_minimal(part, told, out);
    } else if (out->err == TW_OK) {
        out->err = shown.err;
    }
    tw_buf_fini(&shown);
}

/* With its length in front, so that no text can pass for several or for others. */
static void add_counted(tw_buf *out, tw_str text)
{
    tw_buf_add_u64(out, text.len);
    tw_buf_add_byte(out, ':');
    tw_buf_add_str(out, text);
}

void topic_query_name_rendering(const topic_query_part *part, tw_buf *out)
{
    TW_ASSERT(part->db != NULL && part->name != NULL);
    TW_ASSERT(part->fields.count <= TW_FIELDS_MAX);
    tw_buf_clear(out);
    tw_buf_add_byte(out, (char)part->form);
    add_counted(out, tw_str_of(part->db));
    add_counted(out, tw_str_of(part->name));
    tw_buf_add_u64(out, part->fields.count);
    tw_buf_add_byte(out, ';');
    for (size_t i = 0; i < part->fields.count; i++) {
        add_counted(out, part->fields.names[i]);
    }
    tw_buf_add_u64(out, part->grant.hidden_count);
    tw_buf_add_byte(out, ';');
    for (size_t i = 0; i < part->grant.hidden_count; i++) {
        add_counted(out, part->grant.hidden[i]);
    }
    if (part->form != TOPIC_RECORDS) { /* the version before is told, or that there was none */
        tw_buf_add(out, part->filter_bytes.ptr, part->filter_bytes.len);
    }
}
