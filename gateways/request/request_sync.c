/* request_sync.c - sync: a client's manifests against what is stored.
 *
 * The messages of one reqID are one sync: the first begins it and later ones go on, as long as a
 * turn of the client's is open ("more": true, or after ranges were told). Then one reply for each
 * record that the client lacks, has in another version or has too much; done carries the position
 * of all of it. What is told waits for the asker, like every reply.
 *
 * A service has one answer to a question, and nothing is kept between two: it says all that it has
 * in one message, is told as much as an answer holds, and asks again with what it has then. */
#include "broker/topic_query.h"

#include "gateways/request/request_priv.h"
#include "gateways/streams/sync_session.h"

static void go_on(request *self);

/* ---- replies ---- */

static void add_position(tw_bson_builder *b, tw_position at)
{
    tw_bson_add_i64(b, TW_STR("srv_id"), (int64_t)at.srv);
    tw_bson_add_i64(b, TW_STR("seqno"), (int64_t)at.seqno);
}

static bool tell_removed(request *self, size_t part, tw_bson_value id)
{
    tw_bson_builder b;
    request_reply_begin(self, &b, "sync");
    tw_bson_add_str(&b, TW_STR("op"), TW_STR("remove"));
    tw_bson_add_str(&b, TW_STR("collection"), sync_session_collection(self->sync, part));
    tw_bson_add_value(&b, TW_STR("key"), id);
    return request_reply_end(self, &b, false);
}

static bool tell_doc(request *self, size_t part, const tw_item_record *record, bool is_insert)
{
    tw_bson_builder b;
    if (record->doc.len == 0) { /* its processor leaves it out */
        return is_insert || tell_removed(self, part, tw_key_value(record->key));
    }
    request_reply_begin(self, &b, "sync");
    tw_bson_add_str(&b, TW_STR("op"), is_insert ? TW_STR("insert") : TW_STR("update"));
    tw_bson_add_str(&b, TW_STR("collection"), sync_session_collection(self->sync, part));
    tw_bson_add_key(&b, TW_STR("key"), record->key);
    tw_bson_add_i64(&b, TW_STR("version"), record->version);
    add_position(&b, (tw_position){record->srv, record->seqno});
    tw_bson_add_doc(&b, TW_STR("doc"), record->doc);
    return request_reply_end(self, &b, false);
}

static bool tell_ranges(request *self, const sync_told *told)
{
    tw_bson_builder b;
    request_reply_begin(self, &b, "sync");
    tw_bson_add_str(&b, TW_STR("op"), told->split ? TW_STR("split") : TW_STR("list"));
    tw_bson_add_str(&b, TW_STR("collection"), sync_session_collection(self->sync, told->part));
    tw_bson_add_i64(&b, TW_STR("bits"), (int64_t)told->bits);
    if (told->split) {
        tw_bson_add_i64(&b, TW_STR("next_bits"), (int64_t)told->next_bits);
    }
    tw_bson_open_array(&b, TW_STR("ranges"));
    for (size_t i = 0; i < told->count; i++) {
        tw_bson_add_i64(&b, TW_STR(""), (int64_t)told->ranges[i]);
    }
    tw_bson_close(&b);
    return request_reply_end(self, &b, false);
}

static bool tell_turn(request *self)
{
    tw_bson_builder b;
    request_reply_begin(self, &b, "sync");
    tw_bson_add_str(&b, TW_STR("op"), TW_STR("turn"));
    return request_reply_end(self, &b, false);
}

static void finish(request *self)
{
    tw_bson_builder b;
    char name[17];
    sync_figures figures = sync_session_tell(self->sync);
    topic_query_name(sync_session_query(self->sync), name);
    request_reply_begin(self, &b, "done");
    tw_bson_add_vector(&b, TW_STR("since"), sync_session_at(self->sync));
    tw_bson_add_str(&b, TW_STR("query"), tw_str_of(name));
    tw_bson_add_i64(&b, TW_STR("inserted"), (int64_t)figures.inserted);
    tw_bson_add_i64(&b, TW_STR("updated"), (int64_t)figures.updated);
    tw_bson_add_i64(&b, TW_STR("removed"), (int64_t)figures.removed);
    tw_bson_add_i64(&b, TW_STR("same"), (int64_t)figures.same);
    if (self->engine->options.trusted) { /* where the feed goes on */
        tw_bson_add_i64(&b, TW_STR("srv_id"), (int64_t)sync_session_srv(self->sync));
        tw_bson_add_i64(&b, TW_STR("after"), (int64_t)sync_session_cut(self->sync));
    }
    (void)request_reply_end(self, &b, true);
}

/* ---- what a reader answers ---- */

/* Gives out documents from number `from` on. False: it waits for the asker, or is over. */
static bool give_out(request *self, const tw_msg_records *records, size_t from, tw_str bytes)
{
    size_t part = sync_session_docs_part(self->sync);
    for (size_t i = from; i < records->items.count; i++) {
        bool on =
            tell_doc(self, part, &records->items.at[i], sync_session_is_insert(self->sync, i));
        bool is_last = i + 1 == records->items.count;
        if (!request_item_given(self, on || is_last, i + 1, bytes, go_on)) {
            return false;
        }
    }
    self->page_at = 0;
    sync_session_docs_told(self->sync, records->items.count);
    return true;
}

static void advance(request *self);

static void answered(request *self, const tw_envelope *in)
{
    tw_err err = TW_OK;
    if (in->id == TW_MSG_manifest && sync_session_next(self->sync) == SYNC_KEYS) {
        err = sync_session_take_keys(self->sync, &in->body->manifest);
    } else if (in->id == TW_MSG_records && sync_session_next(self->sync) == SYNC_DOCS &&
               in->body->records.items.count > 0) {
        if (!give_out(self, &in->body->records, 0, in->bytes)) {
            return;
        }
    } else {
        err = TW_E_INTERNAL;
    }
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
        return;
    }
    advance(self);
}

static void ask(request *self)
{
    if (sync_session_next(self->sync) == SYNC_KEYS) {
        tw_msg_manifest_read keys = sync_session_ask_keys(self->sync);
        request_ask_log(self, TW_MSG_manifest_read, &keys);
    } else {
        tw_msg_manifest_docs docs = sync_session_ask_docs(self->sync);
        const request_options *options = &self->engine->options;
        if (options->processor >= 0 && topic_query_processed(options->catalog, docs.query)) {
            request_ask_link(self, options->processor, TW_MSG_manifest_docs, &docs);
        } else {
            request_ask_log(self, TW_MSG_manifest_docs, &docs);
        }
    }
}

/* ---- the course ---- */

/* Tells ranges, or removes, until the asker is full. False: it waits, or is over. */
static bool tell_some(request *self)
{
    bool on = true;
    while (on && !self->forgotten && !self->finished) {
        size_t part;
        tw_bson_value id;
        sync_told told;
        if (sync_session_next(self->sync) == SYNC_REMOVES) {
            if (!sync_session_next_removed(self->sync, &part, &id)) {
                return true;
            }
            on = tell_removed(self, part, id);
        } else if (sync_session_next_told(self->sync, &told)) {
            on = tell_ranges(self, &told);
        } else {
            (void)tell_turn(self);
            return true;
        }
    }
    if (!self->forgotten && !self->finished) {
        request_pause(self, go_on);
    }
    return false;
}

static void advance(request *self)
{
    for (;;) {
        switch (sync_session_next(self->sync)) {
        case SYNC_INPUT:
            return; /* the client's next message goes on */
        case SYNC_KEYS:
        case SYNC_DOCS:
            if (!self->forgotten && !self->finished) {
                ask(self);
            }
            return;
        case SYNC_TELL:
        case SYNC_REMOVES:
            if (!tell_some(self)) {
                return;
            }
            break;
        case SYNC_DONE:
            finish(self);
            return;
        }
    }
}

/* After a pause. */
static void go_on(request *self)
{
    tw_body body;
    if (self->page_at == 0) {
        advance(self);
    } else if (request_page_again(self, &body) &&
               give_out(self, &body.records, self->page_at, tw_buf_str(&self->page))) {
        advance(self);
    }
}

/* ---- messages ---- */

static tw_err check_words(const request *self, request_why *why)
{
    static const char *const words[] = {"action",     "op",      "reqID",       "database",
                                        "more",       "ranges",  "manifests",   "archived",
                                        "project_id", "project", "collections", NULL};
    const catalog *known = self->engine->options.catalog;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, self->asked); tw_bson_iter_next(&iter);) {
        size_t i = 0;
        while (words[i] != NULL && !tw_str_equal(iter.name, tw_str_of(words[i]))) {
            i++;
        }
        bool is_known = words[i] != NULL;
        for (size_t k = 0; !is_known && k < known->count; k++) {
            const char *param = known->at[k].scope_param;
            is_known = param != NULL && tw_str_equal(iter.name, tw_str_of(param));
        }
        if (!is_known) {
            return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "sync takes no \"%s\".",
                                 request_show(iter.name).text);
        }
    }
    tw_bson_value more = tw_bson_get(self->asked, TW_STR("more"));
    static const char *const turns[] = {"more", "ranges"};
    for (size_t i = 0; i < TW_COUNT(turns) && self->engine->options.trusted; i++) {
        if (tw_bson_get(self->asked, tw_str_of(turns[i])).type != 0) {
            tw_format(why->hint, sizeof why->hint,
                      "Narrow it by \"collections\" and a filter, or sync over a websocket.");
            return broker_refuse(&why->why, TW_E_UNSUPPORTED,
                                 "A service's sync is one message: it takes no \"%s\".", turns[i]);
        }
    }
    if (more.type != 0 && more.type != TW_BSON_BOOL) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "\"more\" is true or false.");
    }
    return TW_OK;
}

static bool same_value(tw_bson_value a, tw_bson_value b)
{
    return a.type == b.type && a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* The sync of the same asker and reqID that is under way, and how many it has at all. */
static request *running(const request *self, size_t *count)
{
    request *found = NULL;
    for (request *at = request_first_of(self->engine, self->tag); at != NULL; at = at->next) {
        if (at == self || at->tag != self->tag || at->sync == NULL || at->finished ||
            at->forgotten) {
            continue;
        }
        ++*count;
        if (same_value(at->given.at[FIELD_req_id], self->given.at[FIELD_req_id])) {
            found = at;
        }
    }
    return found;
}

static void feed(request *self, tw_bson message)
{
    request_why why = {0};
    const char *hint = NULL;
    bool more = tw_bson_get_bool_or(message, TW_STR("more"), false);
    tw_err err = sync_session_feed(self->sync, message, more, &why.why, &hint);
    if (err != TW_OK) {
        request_fail(self, err, why.why.text, hint, (tw_bson){0});
        return;
    }
    advance(self);
}

static tw_err begin(request *self, size_t of_asker, request_why *why)
{
    request_engine *engine = self->engine;
    if (of_asker >= TW_SYNCS_PER_CONNECTION_MAX) {
        return broker_refuse(&why->why, TW_E_TOO_MANY, "Over %d syncs at once.",
                             TW_SYNCS_PER_CONNECTION_MAX);
    }
    if (engine->syncs >= TW_SYNCS_MAX) {
        return broker_refuse(&why->why, TW_E_BUSY, "Too many syncs are under way.");
    }
    self->db = (self->given.set & FIELD_BIT(database)) != 0
                   ? tw_bson_value_str(self->given.at[FIELD_database])
                   : tw_str_of(engine->options.catalog->default_database);
    tw_err err =
        sync_session_new(&self->sync, engine->options.catalog, self->rights, self->asked, self->db);
    engine->syncs += err == TW_OK ? 1 : 0;
    self->ask = ask;
    self->answered = answered;
    return err;
}

void request_sync(request *self)
{
    request_why why = {0};
    size_t of_asker = 0;
    tw_err err = check_words(self, &why);
    request *before = err == TW_OK ? running(self, &of_asker) : NULL;
    if (before != NULL && sync_session_next(before->sync) == SYNC_INPUT) {
        request_enter(before);
        feed(before, self->asked);
        request_leave(before);
        self->forgotten = true; /* a part of the other: it has no reply of its own */
        return;
    }
    if (before != NULL) {
        err = broker_refuse(&why.why, TW_E_CONFLICT, "A sync with this reqID is being answered.");
    } else if (err == TW_OK) {
        err = begin(self, of_asker, &why);
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    feed(self, self->asked);
}
