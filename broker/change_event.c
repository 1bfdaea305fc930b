/* change_event.c - see change_event.h. */
#include "broker/change_event.h"

#include "protocol/messages.h"

#include "broker/position.h"

/* ---- positions ---- */

static bool hex_u32(const char *at, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 8; i++) {
        char c = at[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16;
        if (digit > 15) {
            return false;
        }
        *out = *out << 4 | digit;
    }
    return true;
}

uint64_t change_token_seqno(tw_bson token)
{
    enum { TYPE_DIGITS = 2, WORD_DIGITS = 8 };
    tw_str data = tw_bson_get_str(token, TW_STR("_data"));
    uint32_t seconds, increment;
    if (data.ptr == NULL || data.len < TYPE_DIGITS + 2 * WORD_DIGITS ||
        memcmp(data.ptr, "82", TYPE_DIGITS) != 0 || !hex_u32(data.ptr + TYPE_DIGITS, &seconds) ||
        !hex_u32(data.ptr + TYPE_DIGITS + WORD_DIGITS, &increment)) {
        return 0;
    }
    return position_of_cluster_time(seconds, increment);
}

/* A timestamp's value: increment, then seconds, both little-endian. */
static uint64_t timestamp_seqno(tw_bson_value value)
{
    uint32_t increment, seconds;
    if (value.type != TW_BSON_TIMESTAMP || value.len != 8) {
        return 0;
    }
    memcpy(&increment, value.ptr, 4);
    memcpy(&seconds, value.ptr + 4, 4);
    return position_of_cluster_time(seconds, increment);
}

static uint64_t date_ms(tw_bson_value value)
{
    int64_t ms = 0;
    if (value.type == TW_BSON_DATE && value.len == 8) {
        memcpy(&ms, value.ptr, 8);
    }
    return ms > 0 && (uint64_t)ms <= TW_SEQNO_MAX ? (uint64_t)ms : 0;
}

int64_t change_version(tw_bson doc, tw_str field, uint64_t seqno)
{
    int64_t version;
    bool is_given = tw_bson_value_i64(tw_bson_get(doc, field), &version) && version >= 1;
    return is_given ? version : (int64_t)seqno;
}

/* ---- events ---- */

static const struct {
    const char *type;
    change_kind kind;
    bool needs_coll, needs_id;
} types[] = {
    {"insert", CHANGE_PUT, true, true},
    {"replace", CHANGE_PUT, true, true},
    {"update", CHANGE_PUT, true, true},
    {"delete", CHANGE_DELETE, true, true},
    {"drop", CHANGE_DROP, true, false},
    {"rename", CHANGE_RENAME, true, false},
    {"dropDatabase", CHANGE_DROP_DB, false, false},
    {"invalidate", CHANGE_INVALIDATE, false, false},
};

static bool names_fit(const change_event *event, bool needs_coll)
{
    bool has_db = event->db.len > 0 || event->kind == CHANGE_INVALIDATE;
    bool has_coll = event->coll.len > 0 || !needs_coll;
    bool has_to = event->kind != CHANGE_RENAME || (event->to_db.len > 0 && event->to_coll.len > 0);
    return has_db && has_coll && has_to;
}

/* ---- fields: one walk, as an event is read for each change of a deployment ---- */

typedef struct raw_event {
    tw_str type;
    tw_bson_value token, time, wall, ns, to, key, doc, transaction, update;
} raw_event;

static void read_fields(tw_bson event, raw_event *out)
{
    const struct {
        tw_str name;
        tw_bson_value *value;
    } fields[] = {
        {TW_STR("_id"), &out->token},
        {TW_STR("clusterTime"), &out->time},
        {TW_STR("wallTime"), &out->wall},
        {TW_STR("ns"), &out->ns},
        {TW_STR("to"), &out->to},
        {TW_STR("documentKey"), &out->key},
        {TW_STR("fullDocument"), &out->doc},
        {TW_STR("txnNumber"), &out->transaction},
        {TW_STR("updateDescription"), &out->update},
    };
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, event); tw_bson_iter_next(&i);) {
        if (tw_str_equal(i.name, TW_STR("operationType"))) {
            out->type = tw_bson_value_str(i.value);
            continue;
        }
        for (size_t k = 0; k < TW_COUNT(fields); k++) {
            if (tw_str_equal(i.name, fields[k].name)) {
                *fields[k].value = i.value;
                break;
            }
        }
    }
}

static void read_names(tw_bson_value ns, tw_str *db, tw_str *coll)
{
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, tw_bson_value_doc(ns)); tw_bson_iter_next(&i);) {
        if (tw_str_equal(i.name, TW_STR("db"))) {
            *db = tw_bson_value_str(i.value);
        } else if (tw_str_equal(i.name, TW_STR("coll"))) {
            *coll = tw_bson_value_str(i.value);
        }
    }
}

static void read_update(tw_bson_value update, change_event *out)
{
    tw_bson told = tw_bson_value_doc(update);
    bool is_relative = tw_bson_count(tw_bson_get_doc(told, TW_STR("truncatedArrays"))) > 0 ||
                       tw_bson_count(tw_bson_get_doc(told, TW_STR("disambiguatedPaths"))) > 0;
    if (!is_relative) {
        out->set = tw_bson_get_doc(told, TW_STR("updatedFields"));
        out->removed = tw_bson_get_doc(told, TW_STR("removedFields"));
    }
}

static tw_err read_kind(tw_bson_value doc, tw_str type, change_event *out, broker_why *why)
{
    char shown[BROKER_SHOWN_MAX];
    out->kind = CHANGE_NOTHING;
    for (size_t i = 0; i < TW_COUNT(types); i++) {
        if (!tw_str_equal(type, tw_str_of(types[i].type))) {
            continue;
        }
        out->kind = types[i].kind;
        if (!names_fit(out, types[i].needs_coll)) {
            return broker_refuse(why, TW_E_BAD_DOCUMENT, "an event of type %s names no collection",
                                 broker_show(type, shown));
        }
        if (types[i].needs_id && out->id.type == 0) {
            return broker_refuse(why, TW_E_BAD_DOCUMENT, "an event of type %s names no record",
                                 broker_show(type, shown));
        }
    }
    if (out->kind == CHANGE_PUT) {
        out->doc = doc.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(doc) : (tw_bson){0};
        out->kind = out->doc.len == 0 ? CHANGE_LOOK_UP : CHANGE_PUT;
    }
    return TW_OK;
}

tw_err change_event_read(tw_bson event, change_event *out, broker_why *why)
{
    TW_ASSERT(out != NULL);
    raw_event raw = {0};
    read_fields(event, &raw);
    change_event read = {.token = tw_bson_value_doc(raw.token)};
    if (raw.type.ptr == NULL || read.token.len == 0) {
        return broker_refuse(why, TW_E_BAD_DOCUMENT, "an event without type or resume token");
    }
    read.seqno = timestamp_seqno(raw.time);
    if (read.seqno == 0) {
        return broker_refuse(why, TW_E_BAD_DOCUMENT,
                             "an event without a clusterTime of 2020 or later");
    }
    read_names(raw.ns, &read.db, &read.coll);
    read_names(raw.to, &read.to_db, &read.to_coll);
    read.id = tw_bson_get(tw_bson_value_doc(raw.key), TW_STR("_id"));
    read.wall_ms = date_ms(raw.wall);
    read.in_transaction = raw.transaction.type != 0;
    tw_err err = read_kind(raw.doc, raw.type, &read, why);
    if (read.kind == CHANGE_LOOK_UP) {
        read_update(raw.update, &read);
    }
    if (read.kind == CHANGE_DROP_DB) {
        read.coll = (tw_str){0};
    }
    if (err == TW_OK) {
        *out = read;
    }
    return err;
}

size_t change_group_end(const change_event *events, size_t count, size_t from)
{
    TW_ASSERT(from < count);
    size_t end = from + 1;
    while (end < count && events[end].seqno == events[from].seqno) {
        end++;
    }
    return end;
}
