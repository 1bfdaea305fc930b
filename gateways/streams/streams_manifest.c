/* streams_manifest.c - a manifest inside subscribe: where history cannot be told (its since is
 * compacted, of an unknown origin, or there is none), the stream is told what differs from the
 * manifest, and goes on from there. */
#include "protocol/json.h"

#include "gateways/streams/streams_priv.h"

enum { REMOVES_AT_ONCE = 500 }; /* told in one turn of a stream */

/* One remove, as a stream tells it, at the position of the cut; key is JSON text. */
static void add_removed(streams *self, const struct stream *stream, size_t part, tw_str key,
                        tw_buf *out)
{
    const sync_session *have = stream->have;
    tw_str db = sync_session_database(have, part);
    tw_vector at = sync_session_at(have);
    char full[2 * TW_NAME_MAX + 2];
    tw_str name = sync_session_collection(have, part);
    if (!tw_str_equal(db, tw_str_of(self->catalog->default_database))) {
        name = (tw_str){full, tw_format(full, sizeof full, "%.*s.%.*s", (int)db.len, db.ptr,
                                        (int)name.len, name.ptr)};
    }
    tw_buf_add_str(out, TW_STR("{\"type\":\"remove\",\"mux_id\":"));
    tw_buf_add(out, stream->class->mux, stream->class->mux_len);
    tw_buf_add_str(out, TW_STR(",\"collection\":"));
    tw_json_write_str(out, name);
    tw_buf_add_str(out, TW_STR(",\"key\":"));
    tw_buf_add_str(out, key);
    tw_buf_add_str(out, TW_STR(",\"why\":\"left\""));
    if (at.count > 0) {
        tw_buf_format(out, ",\"srv_id\":%llu,\"seqno\":%llu",
                      (unsigned long long)at.at[at.count - 1].srv,
                      (unsigned long long)at.at[at.count - 1].seqno);
    }
    tw_buf_add_byte(out, '}');
}

static bool tell_removed(streams *self, struct stream *stream, size_t part, tw_str key)
{
    tw_buf_clear(&self->text);
    add_removed(self, stream, part, key, &self->text);
    return self->text.err == TW_OK &&
           streams_send_text(self, stream->conn, tw_buf_str(&self->text));
}

/* Some removes; then the stream's next turn. False: the connection failed. */
static bool tell_removes(streams *self, struct stream *stream)
{
    size_t part;
    tw_bson_value id;
    for (int i = 0; i < REMOVES_AT_ONCE; i++) {
        if (!sync_session_next_removed(stream->have, &part, &id)) {
            return true;
        }
        tw_buf key;
        tw_buf_init(&key, (size_t)TW_KEY_MAX * 16);
        tw_json_write_value(&key, id);
        bool sent = key.err == TW_OK && tell_removed(self, stream, part, tw_buf_str(&key));
        tw_buf_fini(&key);
        if (!sent) {
            return false;
        }
    }
    return true;
}

/* All that differs was told: the stream reads on behind the cut. */
static void finish(struct stream *stream)
{
    stream->after = sync_session_cut(stream->have);
    stream->fresh = stream->after == 0; /* the log was empty */
    stream->resume = false;
    stream->w0 = 0;
    stream->syncing = false;
    shared_vector_drop(&stream->since);
    shared_vector_drop(&stream->told);
    sync_session_free(&stream->have);
}

bool stream_manifest_step(streams *self, struct stream *stream, uint64_t slot)
{
    bool processed = stream->class->topic->processed;
    TW_ASSERT(stream->syncing && stream->have != NULL);
    switch (sync_session_next(stream->have)) {
    case SYNC_KEYS: {
        tw_msg_manifest_read keys = sync_session_ask_keys(stream->have);
        self->sink.manifest(self->sink.context, slot, TW_MSG_manifest_read, &keys, false);
        return true;
    }
    case SYNC_DOCS: {
        tw_msg_manifest_docs docs = sync_session_ask_docs(stream->have);
        docs.rendered = true;
        self->sink.manifest(self->sink.context, slot, TW_MSG_manifest_docs, &docs, processed);
        return true;
    }
    case SYNC_REMOVES:
        if (!tell_removes(self, stream)) {
            stream_conn_fail(self, stream->conn);
        }
        break;
    case SYNC_DONE:
        finish(stream);
        break;
    case SYNC_INPUT: /* the subscribe was all of it, and without ranges */
    case SYNC_TELL:
        TW_ASSERT(false);
    }
    stream_read_end(self, stream);
    stream_ready(self, stream);
    return false;
}

/* Documents, rendered. Those that a processor leaves out have no type, and their key as JSON: they
 * are removed where the client has them. */
static bool take_docs(streams *self, struct stream *stream, const tw_msg_page *page)
{
    tw_arena arena;
    tw_arena_init(&arena, TW_ACTOR_MESSAGE_MAX);
    tw_item_page_row *rows = tw_arena_alloc(&arena, (page->rows.count + 1) * sizeof *rows);
    size_t count = 0;
    bool sent = rows != NULL;
    for (size_t i = 0; sent && i < page->rows.count; i++) {
        if (page->rows.at[i].type.len > 0) {
            rows[count++] = page->rows.at[i];
        } else if (!sync_session_is_insert(stream->have, i)) {
            sent = tell_removed(self, stream, sync_session_docs_part(stream->have),
                                page->rows.at[i].tail);
        }
    }
    const tw_msg_page told = {.rows = {rows, count}};
    page_frames made = {0};
    sent = sent && stream_send_page(self, stream, &arena, &told, &made);
    page_frames_drop(&made);
    tw_arena_fini(&arena);
    return sent;
}

void stream_manifest_answer(streams *self, struct stream *stream, tw_err err, tw_msg_id id,
                            const tw_body *body, tw_str why)
{
    TW_ASSERT(stream->syncing && stream->have != NULL);
    sync_want want = sync_session_next(stream->have);
    if (err == TW_OK && id == TW_MSG_manifest && want == SYNC_KEYS) {
        err = sync_session_take_keys(stream->have, &body->manifest);
    } else if (err == TW_OK && id == TW_MSG_page && want == SYNC_DOCS &&
               body->page.rows.count > 0) {
        if (!take_docs(self, stream, &body->page)) {
            stream_conn_fail(self, stream->conn);
            return;
        }
        sync_session_docs_told(stream->have, body->page.rows.count);
    } else if (err == TW_OK) {
        err = TW_E_INTERNAL;
    }
    if (err == TW_OK) {
        stream_ready(self, stream);
    } else if (stream_may_retry(err)) {
        stream_retry(self, stream);
    } else if (err == TW_E_GAP) { /* the floor has passed the cut: everything instead */
        stream->syncing = false;
        sync_session_free(&stream->have);
        stream_start_over(self, stream, TW_RESET_COMPACTED, 0, 0);
    } else {
        stream_fail(self, stream, err, why);
    }
}
