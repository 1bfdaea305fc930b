/* change_tailer_state.c - what the change tailer keeps in the log with each append: the resume
 * token, and where a scan stands; for change_tailer.c.
 *
 * {v: 1, token: {...}, after: bool,
 *  scan: {from, reason, compare, stage, listed, db, coll, id, renamed: [[db, coll], ...]}} */
#include "actors/mongo/change_tailer_priv.h"

enum { STATE_VERSION = 1, LAST_ID_BYTES_MAX = 4096 };

static void write_scan(const tailer_scan *scan, tw_bson_builder *b)
{
    tw_bson_open_doc(b, TW_STR("scan"));
    tw_bson_add_i64(b, TW_STR("from"), (int64_t)scan->from);
    tw_bson_add_i64(b, TW_STR("reason"), scan->reason);
    tw_bson_add_bool(b, TW_STR("compare"), scan->compare);
    tw_bson_add_i64(b, TW_STR("stage"), scan->stage);
    tw_bson_add_bool(b, TW_STR("listed"), scan->is_listed);
    if (scan->has_name) {
        tw_bson_add_str(b, TW_STR("db"), tw_str_of(scan->name.db));
        tw_bson_add_str(b, TW_STR("coll"), tw_str_of(scan->name.coll));
    }
    if (scan->has_name && scan->last_id.len > 0 && scan->last_id.len <= LAST_ID_BYTES_MAX) {
        const uint8_t *id = (const uint8_t *)scan->last_id.ptr;
        tw_bson_add_value(b, TW_STR("id"), (tw_bson_value){id[0], id + 1, scan->last_id.len - 1});
    }
    tw_bson_open_array(b, TW_STR("renamed"));
    for (size_t i = 0; i < scan->renamed_count; i++) {
        tw_bson_open_array(b, TW_STR(""));
        tw_bson_add_str(b, TW_STR(""), tw_str_of(scan->renamed[i].db));
        tw_bson_add_str(b, TW_STR(""), tw_str_of(scan->renamed[i].coll));
        tw_bson_close(b);
    }
    tw_bson_close(b);
    tw_bson_close(b);
}

tw_str tailer_state_write(struct change_tailer *self)
{
    tw_bson_builder b;
    tw_buf_clear(&self->state);
    tw_bson_begin(&b, &self->state);
    tw_bson_add_i64(&b, TW_STR("v"), STATE_VERSION);
    tw_bson_add_doc(&b, TW_STR("token"),
                    (tw_bson){(const uint8_t *)self->token.ptr, self->token.len});
    tw_bson_add_bool(&b, TW_STR("after"), self->is_after);
    if (self->scan.is_active) {
        write_scan(&self->scan, &b);
    }
    tw_bson made = tw_bson_end(&b);
    return self->state.err == TW_OK ? (tw_str){(const char *)made.ptr, made.len} : (tw_str){0};
}

static bool read_name(tw_str db, tw_str coll, tailer_name *out)
{
    if (db.len == 0 || coll.len == 0 || db.len > TW_NAME_MAX || coll.len > TW_NAME_MAX) {
        return false;
    }
    memcpy(out->db, db.ptr, db.len);
    out->db[db.len] = '\0';
    memcpy(out->coll, coll.ptr, coll.len);
    out->coll[coll.len] = '\0';
    return true;
}

static void read_scan(tailer_scan *scan, tw_bson from)
{
    int64_t reason = tw_bson_get_i64_or(from, TW_STR("reason"), TAILER_FIRST);
    int64_t stage = tw_bson_get_i64_or(from, TW_STR("stage"), STAGE_READ);
    scan->is_active = true;
    scan->from = (uint64_t)tw_bson_get_i64_or(from, TW_STR("from"), 0);
    scan->reason =
        reason >= 0 && reason < TAILER_REASONS_COUNT ? (tailer_reason)reason : TAILER_FIRST;
    scan->stage = stage == STAGE_IMAGE || stage == STAGE_END ? (tailer_stage)stage : STAGE_READ;
    scan->compare = tw_bson_get_bool_or(from, TW_STR("compare"), true);
    scan->is_listed = tw_bson_get_bool_or(from, TW_STR("listed"), false);
    scan->has_name = read_name(tw_bson_get_str(from, TW_STR("db")),
                               tw_bson_get_str(from, TW_STR("coll")), &scan->name);
    tw_bson_value id = tw_bson_get(from, TW_STR("id"));
    if (scan->has_name && id.type != 0) {
        tw_buf_add_byte(&scan->last_id, (char)id.type);
        tw_buf_add(&scan->last_id, id.ptr, id.len);
    }
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, tw_bson_get_doc(from, TW_STR("renamed")));
         tw_bson_iter_next(&i) && scan->renamed_count < TAILER_RENAMES_MAX;) {
        tw_bson pair = tw_bson_value_doc(i.value);
        if (read_name(tw_bson_get_str(pair, TW_STR("0")), tw_bson_get_str(pair, TW_STR("1")),
                      &scan->renamed[scan->renamed_count])) {
            scan->renamed_count++;
        }
    }
}

tw_err tailer_state_read(struct change_tailer *self, tw_str state)
{
    tw_bson read;
    tw_err err = tw_bson_validate(state.ptr, state.len, TW_DEPTH_MAX, &read);
    if (err != TW_OK || tw_bson_get_i64_or(read, TW_STR("v"), 0) != STATE_VERSION) {
        return TW_E_UNSUPPORTED;
    }
    tw_bson token = tw_bson_get_doc(read, TW_STR("token"));
    if (token.len == 0) {
        return TW_E_UNSUPPORTED;
    }
    tailer_set_token(self, token, tw_bson_get_bool_or(read, TW_STR("after"), false));
    tailer_scan_fini(self);
    tailer_scan_init(self);
    tw_bson scan = tw_bson_get_doc(read, TW_STR("scan"));
    if (scan.len > 0) {
        read_scan(&self->scan, scan);
    }
    return self->token.err;
}

void tailer_set_token(struct change_tailer *self, tw_bson token, bool is_after)
{
    bool is_same = self->token.len == token.len && self->is_after == is_after &&
                   memcmp(self->token.ptr, token.ptr, token.len) == 0;
    if (is_same || token.len == 0 || token.len > TW_SOURCE_STATE_MAX / 2) {
        return; /* a longer one is not kept: what is behind it is told twice and left out then */
    }
    tw_buf_clear(&self->token);
    tw_buf_add(&self->token, token.ptr, token.len);
    self->is_after = is_after;
    self->is_dirty = true;
}
