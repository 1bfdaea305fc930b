/* change_tailer_marks.c - who wrote a row, and whether streams are told of it; for change_tailer.c.
 *
 * A write with an opid, a silent one and a transaction of Tidewire's stand in one transaction with
 * a mark in tidewire.opids (mongo_writer_marks.c), whose event has their position: every node reads
 * it. Of other writes the writer of this node has said whose they are (mongo_link_expect). */
#include "actors/mongo/change_tailer_priv.h"

/* The entry of a mark that is about this row; len 0: none. */
static tw_bson entry_of(struct change_tailer *self, tw_bson mark, const tw_item_append_row *row)
{
    tw_bson_iter i;
    for (tw_bson_iter_init(&i, tw_bson_get_doc(mark, TW_STR("writes"))); tw_bson_iter_next(&i);) {
        tw_bson each = tw_bson_value_doc(i.value);
        tw_key key;
        if (each.len > 0 && tw_str_equal(tw_bson_get_str(each, TW_STR("coll")), row->coll) &&
            tw_str_equal(tw_bson_get_str(each, TW_STR("db")), row->db) &&
            tw_key_of_value(&self->batch, tw_bson_get(each, TW_STR("id")), &key) == TW_OK &&
            tw_key_equal(key, row->key)) {
            return each;
        }
    }
    return (tw_bson){0};
}

tw_bson tailer_mark_of(const change_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (events[i].kind == CHANGE_PUT && events[i].doc.len > 0 &&
            tw_str_equal(events[i].coll, TW_STR(MONGO_LINK_OPIDS)) &&
            tw_str_equal(events[i].db, TW_STR(MONGO_LINK_DATABASE))) {
            return events[i].doc;
        }
    }
    return (tw_bson){0};
}

void tailer_mark_rows(struct change_tailer *self, tailer_rows *rows, size_t from, tw_bson mark)
{
    for (size_t i = from; i < rows->count; i++) {
        tw_item_append_row *row = &rows->at[i];
        char text[TW_OPID_MAX];
        if (row->key.len == 0) {
            continue;
        }
        tw_bson entry = mark.len == 0 ? (tw_bson){0} : entry_of(self, mark, row);
        int64_t version = (row->flags & TW_ROW_DELETE) != 0 ? 0 : row->version;
        size_t len =
            mongo_link_expected(self->source.link, row->db, row->coll, row->key, version, text);
        if (entry.len > 0) {
            tw_str by = tw_bson_get_str(entry, TW_STR("by"));
            bool silent = tw_bson_get_bool_or(entry, TW_STR("silent"), false);
            row->flags |= silent ? (uint64_t)TW_ROW_SILENT : 0;
            row->origin = by.ptr != NULL && by.len <= TW_OPID_MAX ? by : (tw_str){NULL, 0};
        } else if (len > 0) {
            row->origin = tw_arena_str(&self->batch, (tw_str){text, len});
            row->origin.len = row->origin.ptr == NULL ? 0 : row->origin.len;
        }
    }
}
