/* request_search_get.c - get (looks twice more where nothing is there), get_if_exists (looks once),
 * require (looks until its deadline), exists, multiget.
 *
 * Of a `log` collection the readers are asked: they see every acknowledged write at once. */
#include "protocol/json.h"

#include "gateways/request/request_search.h"

enum {
    GET_ATTEMPTS = 3,
    GET_WAIT_MS = 100,
    REQUIRE_WAIT_MS = 250,
    LOOK_LEAST_MS = 1000, /* that nothing came is told by a look, not by its deadline */
};

static bool is_action(const request *self, const char *name)
{
    return strcmp(self->action->name, name) == 0;
}

static bool keeps(request *self, size_t i, tw_bson doc, tw_bson told)
{
    struct request_search *state = self->searching;
    state->told[i] = tw_arena_bson(&self->arena, told); /* before scratch is used again */
    state->docs[i] = tw_arena_bson(&self->arena, request_visible(self, doc));
    if (state->docs[i].ptr == NULL || state->told[i].ptr == NULL) {
        request_fail(self, TW_E_NO_MEMORY, "The documents are too large together.",
                     "Ask for fewer at once.", (tw_bson){0});
        return false;
    }
    self->ids[i].found = true;
    return true;
}

/* ---- replies ---- */
static void reply_many(request *self)
{
    tw_bson_builder b;
    request_reply_begin(self, &b, self->action->name);
    tw_bson_open_doc(&b, TW_STR("docs"));
    for (size_t i = 0; i < self->ids_count; i++) {
        if (self->ids[i].found) {
            tw_bson_add_doc(&b, request_search_id(self, self->ids[i].spelled),
                            self->searching->docs[i]);
        }
    }
    tw_bson_close(&b);
    request_add_missing(self, &b);
    (void)request_reply_end(self, &b, true);
}

static void reply_one(request *self)
{
    bool found = self->ids[0].found;
    tw_bson_builder b;
    if (is_action(self, "exists")) {
        request_reply_begin(self, &b, self->action->name);
        tw_bson_add_bool(&b, TW_STR("value"), found);
        (void)request_reply_end(self, &b, true);
        return;
    }
    if (!found) {
        const char *hint =
            is_action(self, "require") ? "It did not come within deadline_ms." : NULL;
        request_fail(self, TW_E_NOT_FOUND, NULL, hint, (tw_bson){0});
        return;
    }
    request_reply_begin(self, &b, self->action->name);
    tw_bson_add_value(&b, TW_STR("version"),
                      tw_bson_get(self->searching->told[0], TW_STR("version")));
    tw_bson_add_doc(&b, TW_STR("doc"), self->searching->docs[0]);
    (void)request_reply_end(self, &b, true);
}

static void look(request *self);

static void look_again(request *self)
{
    self->ids[0].missing = false;
    look(self);
}

/* Every id is found or missing. */
static void looked(request *self)
{
    if (is_action(self, "multiget")) {
        reply_many(self);
        return;
    }
    bool found = self->ids[0].found;
    unsigned attempts = ++self->searching->attempts;
    uint64_t left_ms = request_search_left_ms(self);
    if (!found && is_action(self, "get") && attempts < GET_ATTEMPTS && left_ms > GET_WAIT_MS) {
        request_wait(self, GET_WAIT_MS, look_again);
    } else if (!found && is_action(self, "require") && left_ms > 0) {
        request_wait(self, left_ms < REQUIRE_WAIT_MS ? left_ms : REQUIRE_WAIT_MS, look_again);
    } else {
        reply_one(self);
    }
}

/* ---- of the log ---- */
static void ask_log(request *self)
{
    tw_item_one_key keys[2 * REQUEST_CHUNK];
    size_t count = request_chunk_keys(self, keys);
    tw_bson match;
    if (request_join(self, self->rules->filter, &match) != TW_OK) {
        request_fail(self, TW_E_NO_MEMORY, NULL, NULL, (tw_bson){0});
        return;
    }
    tw_msg_get message = {
        .db = self->db, .coll = self->coll, .match = match, .keys = {keys, count}};
    request_ask(self, TW_MSG_get, &message);
}

static bool take_record(request *self, size_t i, const tw_item_record *record)
{
    tw_buf *scratch = &self->engine->scratch;
    tw_bson_builder b;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    if (record->version > 0) { /* a document of MongoDB may have none */
        tw_bson_add_i64(&b, TW_STR("version"), record->version);
    }
    return keeps(self, i, record->doc, tw_bson_end(&b));
}

static void on_records(request *self, const tw_envelope *in)
{
    if (in->id != TW_MSG_records) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    const tw_msg_records *records = &in->body->records;
    if (records->more && records->items.count == 0) {
        request_fail(self, TW_E_TOO_BIG, "A document is too large to be read.", NULL, (tw_bson){0});
        return;
    }
    for (size_t i = 0; i < self->chunk_count; i++) {
        request_id *id = &self->ids[self->chunk[i]];
        const tw_item_record *record = request_record_of(records, id);
        if (record == NULL) {
            id->missing = !records->more; /* cut short: asked for again */
        } else if (!take_record(self, self->chunk[i], record)) {
            return;
        }
    }
    look(self);
}

/* ---- of the engine ---- */
static void ask_engine(request *self)
{
    tw_buf text;
    tw_bson_builder b;
    tw_buf_init(&text, TW_ACTOR_MESSAGE_MAX);
    tw_bson_begin(&b, &text);
    tw_bson_open_array(&b, TW_STR("ids"));
    for (size_t i = 0; i < self->chunk_count; i++) {
        tw_bson_add_str(&b, TW_STR(""), request_search_id(self, self->ids[self->chunk[i]].spelled));
    }
    tw_bson_close(&b);
    tw_bson args = tw_bson_end(&b);
    if (text.err != TW_OK) {
        request_fail(self, text.err, NULL, NULL, (tw_bson){0});
    } else {
        tw_msg_search_ask body = request_search_ask(self, TW_STR("multiget"), args);
        body.deadline_ms = body.deadline_ms < LOOK_LEAST_MS ? LOOK_LEAST_MS : body.deadline_ms;
        request_ask_search(self, &body, body.deadline_ms);
    }
    tw_buf_fini(&text);
}

static void on_items(request *self, const tw_envelope *in)
{
    const tw_list_search_item *items = &in->body->search_answer.items;
    for (size_t i = 0; i < self->chunk_count; i++) {
        request_id *id = &self->ids[self->chunk[i]];
        tw_str name = request_search_id(self, id->spelled);
        id->missing = true;
        for (size_t k = 0; k < items->count && !id->found; k++) {
            tw_bson told = items->at[k].doc;
            if (tw_str_equal(name, tw_bson_get_str(told, TW_STR("id"))) &&
                request_shows(self, tw_bson_get_doc(told, TW_STR("doc"))) &&
                !keeps(self, self->chunk[i], tw_bson_get_doc(told, TW_STR("doc")), told)) {
                return;
            }
        }
    }
    look(self);
}

/* Looks for the next ids that are neither found nor missing. */
static void look(request *self)
{
    if (request_next_chunk(self)) {
        self->ask(self);
    } else {
        looked(self);
    }
}

void request_search_get(request *self)
{
    request_why why = {0};
    bool many = is_action(self, "multiget");
    tw_bson_value ids = self->given.at[many ? FIELD_ids : FIELD_id];
    tw_err err = request_ids_read(&self->arena, ids, &self->ids, &self->ids_count, &why);
    if (err == TW_OK && !many && self->ids_count != 1) {
        err = broker_refuse(&why.why, TW_E_BAD_MESSAGE, "%s takes one id.", self->action->name);
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    if (!request_search_state(self)) {
        return;
    }
    struct request_search *state = self->searching;
    state->docs = tw_arena_zero(&self->arena, self->ids_count, sizeof *state->docs);
    state->told = tw_arena_zero(&self->arena, self->ids_count, sizeof *state->told);
    if (state->docs == NULL || state->told == NULL) {
        request_fail(self, TW_E_NO_MEMORY, NULL, NULL, (tw_bson){0});
        return;
    }
    self->ask = self->rules->search_store ? ask_engine : ask_log;
    self->answered = self->rules->search_store ? on_items : on_records;
    look(self);
}
