/* request_search.c - searching: the table of the search family, and what the engine answers alone.
 *
 * The gateway knows which collection is meant and who may ask; what a query means is the engine's
 * (actors/search/: es_proxy.c and embedded_search.c answer the same messages). An answer is one
 * result, or pages of items, each a reply of its own: the next page is asked for when the asker has
 * room, so a slow one holds up nobody. */
#include "gateways/request/request_search.h"

#include "protocol/json.h"

#include "broker/position.h"

#define ASKED   (FIELD_BIT(lucene) | FIELD_BIT(filters))
#define TIMES   (FIELD_BIT(deadline_ms) | FIELD_BIT(min_since))
#define CHANGES (FIELDS_WRITE | FIELD_BIT(deadline_ms))
#define MANAGED (FIELD_BIT(dry_run) | FIELD_BIT(deadline_ms))

/* Reading the table: as in request_actions.c; search says what the action is about. */
static const request_action actions[] = {
    {.name = "search",
     .verb = RIGHTS_SEARCH,
     .allowed = ASKED | TIMES | FIELD_BIT(body) | FIELD_BIT(rows) | FIELD_BIT(offset) |
                FIELD_BIT(order) | FIELD_BIT(told),
     .right = RIGHT_READ,
     .search = SEARCH_ALL,
     .start = request_search_run},
    {.name = "stream_search",
     .verb = RIGHTS_SEARCH,
     .allowed = ASKED | TIMES | FIELD_BIT(told),
     .right = RIGHT_READ,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "keys",
     .verb = RIGHTS_SEARCH,
     .allowed = ASKED | TIMES,
     .right = RIGHT_READ,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "facet",
     .verb = RIGHTS_SEARCH,
     .allowed = ASKED | TIMES | FIELD_BIT(field) | FIELD_BIT(mincount) | FIELD_BIT(rows),
     .required = FIELD_BIT(field),
     .right = RIGHT_READ,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "stats",
     .verb = RIGHTS_SEARCH,
     .allowed = ASKED | TIMES | FIELD_BIT(field),
     .required = FIELD_BIT(field),
     .right = RIGHT_READ,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "histogram",
     .verb = RIGHTS_SEARCH,
     .allowed = ASKED | TIMES | FIELD_BIT(field) | FIELD_BIT(start) | FIELD_BIT(end) |
                FIELD_BIT(gap) | FIELD_BIT(mincount),
     .required = FIELD_BIT(field) | FIELD_BIT(start) | FIELD_BIT(end) | FIELD_BIT(gap),
     .right = RIGHT_READ,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "grouped_search",
     .verb = RIGHTS_SEARCH,
     .allowed = ASKED | TIMES | FIELD_BIT(group_field) | FIELD_BIT(group_limit) | FIELD_BIT(rows) |
                FIELD_BIT(offset) | FIELD_BIT(order) | FIELD_BIT(told),
     .required = FIELD_BIT(group_field),
     .right = RIGHT_READ,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "fields",
     .verb = RIGHTS_SEARCH,
     .allowed = FIELD_BIT(deadline_ms),
     .right = RIGHT_READ,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "commit",
     .verb = RIGHTS_ADMIN,
     .allowed = MANAGED,
     .right = RIGHT_WRITE,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "reindex",
     .verb = RIGHTS_ADMIN,
     .patient = true,
     .allowed = MANAGED,
     .right = RIGHT_REMOVE,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "fix_ilm",
     .verb = RIGHTS_ADMIN,
     .allowed = MANAGED,
     .right = RIGHT_REMOVE,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "fix_replicas",
     .verb = RIGHTS_ADMIN,
     .allowed = MANAGED,
     .right = RIGHT_REMOVE,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "fix_shards",
     .verb = RIGHTS_ADMIN,
     .patient = true,
     .allowed = MANAGED,
     .right = RIGHT_REMOVE,
     .search = SEARCH_ENGINE,
     .start = request_search_run},
    {.name = "wipe",
     .verb = RIGHTS_ADMIN,
     .patient = true,
     .allowed = MANAGED,
     .right = RIGHT_REMOVE,
     .search = SEARCH_STORE,
     .start = request_search_wipe},
    {.name = "get",
     .verb = RIGHTS_READ,
     .allowed = FIELD_BIT(id) | FIELD_BIT(deadline_ms),
     .required = FIELD_BIT(id),
     .right = RIGHT_READ,
     .search = SEARCH_STORE,
     .start = request_search_get},
    {.name = "get_if_exists",
     .verb = RIGHTS_READ,
     .allowed = FIELD_BIT(id) | FIELD_BIT(deadline_ms),
     .required = FIELD_BIT(id),
     .right = RIGHT_READ,
     .search = SEARCH_STORE,
     .start = request_search_get},
    {.name = "require",
     .verb = RIGHTS_READ,
     .patient = true,
     .allowed = FIELD_BIT(id) | FIELD_BIT(deadline_ms),
     .required = FIELD_BIT(id),
     .right = RIGHT_READ,
     .search = SEARCH_STORE,
     .start = request_search_get},
    {.name = "exists",
     .verb = RIGHTS_READ,
     .allowed = FIELD_BIT(id) | FIELD_BIT(deadline_ms),
     .required = FIELD_BIT(id),
     .right = RIGHT_READ,
     .search = SEARCH_STORE,
     .start = request_search_get},
    {.name = "multiget",
     .verb = RIGHTS_READ,
     .allowed = FIELD_BIT(ids) | FIELD_BIT(deadline_ms),
     .required = FIELD_BIT(ids),
     .right = RIGHT_READ,
     .search = SEARCH_STORE,
     .start = request_search_get},
    {.name = "save",
     .verb = RIGHTS_INSERT,
     .allowed = CHANGES | FIELD_BIT(id) | FIELD_BIT(doc) | FIELD_BIT(version),
     .required = FIELD_BIT(id) | FIELD_BIT(doc),
     .right = RIGHT_WRITE,
     .search = SEARCH_STORE,
     .start = request_search_save},
    {.name = "update",
     .verb = RIGHTS_UPDATE,
     .allowed = CHANGES | FIELD_BIT(id) | FIELD_BIT(operations) | FIELD_BIT(version),
     .required = FIELD_BIT(id) | FIELD_BIT(operations),
     .right = RIGHT_WRITE,
     .op = TW_OP_UPDATE,
     .search = SEARCH_STORE,
     .start = request_search_save},
    {.name = "delete",
     .verb = RIGHTS_REMOVE,
     .allowed = CHANGES | FIELD_BIT(id) | FIELD_BIT(version),
     .required = FIELD_BIT(id),
     .right = RIGHT_REMOVE,
     .op = TW_OP_REMOVE,
     .search = SEARCH_STORE,
     .start = request_search_save},
    {.name = "get_bulk_plan",
     .verb = RIGHTS_READ,
     .right = RIGHT_READ,
     .search = SEARCH_STORE,
     .start = request_search_bulk_plan},
    {.name = "bulk",
     .verb = RIGHTS_PARTS,
     .allowed = CHANGES | FIELD_BIT(bulk_plan),
     .required = FIELD_BIT(bulk_plan),
     .right = RIGHT_WRITE,
     .search = SEARCH_STORE,
     .start = request_search_bulk},
    {.name = "update_by_query",
     .verb = RIGHTS_UPDATE,
     .allowed = CHANGES | TIMES | ASKED | FIELD_BIT(operations),
     .required = FIELD_BIT(lucene) | FIELD_BIT(operations),
     .right = RIGHT_WRITE,
     .op = TW_OP_UPDATE,
     .search = SEARCH_ENGINE,
     .start = request_search_by_query},
    {.name = "delete_by_query",
     .verb = RIGHTS_REMOVE,
     .allowed = CHANGES | TIMES | ASKED,
     .required = FIELD_BIT(lucene),
     .right = RIGHT_REMOVE,
     .op = TW_OP_REMOVE,
     .search = SEARCH_ENGINE,
     .start = request_search_by_query},
    {.name = "archive",
     .verb = RIGHTS_REMOVE,
     .allowed = CHANGES | TIMES | ASKED,
     .required = FIELD_BIT(lucene),
     .right = RIGHT_REMOVE,
     .search = SEARCH_ENGINE,
     .start = request_search_by_query},
};
static_assert(TW_COUNT(actions) <= SEARCH_ACTIONS_MAX, "request_actions.c lists them by name");

const request_action *request_search_action(tw_str name)
{
    for (size_t i = 0; i < TW_COUNT(actions); i++) {
        if (tw_str_equal(name, tw_str_of(actions[i].name))) {
            return &actions[i];
        }
    }
    return NULL;
}

size_t request_search_names(const char **names, size_t max)
{
    size_t count = 0;
    for (; count < TW_COUNT(actions) && count < max; count++) {
        names[count] = actions[count].name;
    }
    return count;
}

/* ---- where ---- */
static bool is_all(const request *self)
{
    tw_str index = tw_bson_value_str(self->given.at[FIELD_index]);
    return index.ptr == NULL || tw_str_equal(index, TW_STR("_all"));
}

/* Every collection with an index that the asker may read. */
static tw_err place_all(request *self, request_why *why)
{
    const request_options *options = &self->engine->options;
    const catalog *known = options->catalog;
    tw_item_search_target *at = tw_arena_zero(&self->arena, TW_SEARCH_TARGETS_MAX, sizeof *at);
    size_t count = 0;
    if (at == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->db = tw_str_of(known->default_database);
    if ((self->given.set & FIELD_BIT(database)) != 0) {
        self->db = tw_bson_value_str(self->given.at[FIELD_database]);
    }
    for (size_t i = 0; i < known->count; i++) {
        const catalog_collection *one = &known->at[i];
        bool told = options->trusted || !one->read_denied;
        if (!one->searched || !told || !tw_str_equal(tw_str_of(one->database), self->db)) {
            continue;
        }
        if (count == TW_SEARCH_TARGETS_MAX) {
            return broker_refuse(&why->why, TW_E_TOO_MANY, "Name an index: there are over %d.",
                                 TW_SEARCH_TARGETS_MAX);
        }
        rights_grant grant;
        request_why unused = {0};
        tw_item_search_target target = {.db = self->db, .coll = tw_str_of(one->name)};
        tw_err err =
            rights_of(self->rights, &self->arena, self->db, target.coll, RIGHTS_SEARCH, &grant);
        if (err == TW_OK) { /* what may not be searched is not among all */
            err = request_allow_search(self, one, grant, &target.filter, &unused);
        }
        if (err == TW_OK) {
            at[count++] = target;
        } else if (err == TW_E_NO_MEMORY) {
            return err;
        }
    }
    rights_grant others; /* all that is not declared: as one, so rules for all must allow it */
    tw_err err =
        rights_of(self->rights, &self->arena, self->db, TW_STR(""), RIGHTS_SEARCH, &others);
    if (err != TW_OK) {
        return err;
    }
    bool whole = others.allowed && others.filter.len == 0 && others.hidden_count == 0;
    if (known->embedded && !known->strict && whole && count < TW_SEARCH_TARGETS_MAX) {
        at[count++] = (tw_item_search_target){.db = self->db};
    }
    if (count == 0) {
        tw_format(why->hint, sizeof why->hint, "Declare a collection with the key search.");
        return broker_refuse(&why->why, TW_E_NOT_FOUND, "No collection has an index.");
    }
    self->targets = (tw_list_search_target){at, count};
    return TW_OK;
}

/* What rights say of one collection: whether the engine alone can do it under them. */
static tw_err allow_one(request *self, tw_item_search_target *target, request_why *why)
{
    tw_err err = request_allow(self, why);
    bool finds = self->action->search != SEARCH_STORE;
    bool writes = self->action->right == RIGHT_WRITE || self->action->right == RIGHT_REMOVE;
    if (err == TW_OK && finds && self->action->verb != RIGHTS_ADMIN) {
        if (self->action->verb != RIGHTS_SEARCH) { /* a change by query */
            err = request_allow_too(self, self->db, self->coll, RIGHTS_SEARCH, why);
        }
        err = err == TW_OK
                  ? request_allow_search(self, self->rules, self->grant, &target->filter, why)
                  : err;
    }
    if (err != TW_OK || self->rights == NULL || !self->rules->search_store || !writes) {
        return err;
    }
    static const unsigned verbs[] = {RIGHTS_INSERT, RIGHTS_UPDATE, RIGHTS_REMOVE};
    bool all = self->action->verb == RIGHTS_PARTS || self->action->verb == RIGHTS_INSERT;
    for (size_t i = 0; i < TW_COUNT(verbs) && err == TW_OK && all; i++) {
        bool wanted = verbs[i] != RIGHTS_REMOVE || self->action->verb == RIGHTS_PARTS;
        err = wanted ? request_allow_too(self, self->db, self->coll, verbs[i], why) : TW_OK;
    }
    if (err == TW_OK && (self->grant.filter.len > 0 || self->grant.hidden_count > 0)) {
        err = broker_refuse(&why->why, TW_E_UNSUPPORTED,
                            "The engine keeps \"%s\" alone and cannot write a part of it.",
                            request_show(self->coll).text);
    }
    return err;
}

static tw_err place_one(request *self, request_why *why)
{
    request_given given = self->given;
    if ((given.set & FIELD_BIT(index)) != 0) {
        given.at[FIELD_collection] = given.at[FIELD_index];
        given.set |= FIELD_BIT(collection);
    }
    if ((given.set & FIELD_BIT(collection)) == 0) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "%s needs \"index\".",
                             self->action->name);
    }
    tw_err err = request_place(self->engine, &given, self->action, &self->db, &self->coll,
                               &self->rules, why);
    if (err != TW_OK) {
        return err;
    }
    if (self->action->search != SEARCH_STORE && !self->rules->searched &&
        !(self->engine->options.catalog->embedded && self->rules == &catalog_undeclared)) {
        tw_format(why->hint, sizeof why->hint, "Declare it with the key search.");
        return broker_refuse(&why->why, TW_E_UNSUPPORTED, "\"%s\" has no index.",
                             request_show(self->coll).text);
    }
    tw_item_search_target *at = tw_arena_zero(&self->arena, 1, sizeof *at);
    if (at == NULL) {
        return TW_E_NO_MEMORY;
    }
    *at = (tw_item_search_target){self->db, self->coll, self->rules->filter};
    err = allow_one(self, at, why);
    if (err != TW_OK) {
        return err;
    }
    self->targets = (tw_list_search_target){at, 1};
    return TW_OK;
}

tw_err request_search_place(request *self, request_why *why)
{
    const request_options *options = &self->engine->options;
    uint64_t both = FIELD_BIT(body) | FIELD_BIT(lucene);
    if ((self->given.set & both) == both) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE,
                             "\"body\" and \"query\" exclude each other.");
    }
    uint64_t wait_ms = options->search_ms != 0 ? options->search_ms : TW_SEARCH_MS;
    int64_t asked_ms;
    if (tw_bson_value_i64(self->given.at[FIELD_deadline_ms], &asked_ms)) {
        wait_ms = (uint64_t)asked_ms;
    } else if (self->action->patient) {
        wait_ms = TW_SEARCH_DEADLINE_MAX_MS;
    }
    self->deadline_ms = tw_now_ms(options->actor) + wait_ms;
    tw_bson_value since = self->given.at[FIELD_min_since];
    if (since.type != 0) {
        const char *cause = "";
        tw_err err = position_vector_parse(&self->arena, since, &self->min_since, &cause);
        if (err != TW_OK) {
            return broker_refuse(&why->why, err, "\"min_since\": %s", cause);
        }
    }
    bool all = self->action->search == SEARCH_ALL && is_all(self) &&
               (self->given.set & FIELD_BIT(collection)) == 0;
    return all ? place_all(self, why) : place_one(self, why);
}

/* ---- asking ---- */
tw_msg_search_ask request_search_ask(const request *self, tw_str function, tw_bson args)
{
    uint64_t now_ms = tw_now_ms(self->engine->options.actor);
    uint64_t left_ms = self->deadline_ms > now_ms ? self->deadline_ms - now_ms : 1;
    return (tw_msg_search_ask){
        .function = function,
        .targets = self->targets,
        .args = args,
        .trusted = self->engine->options.trusted,
        .min_since = self->min_since,
        .cursor = tw_buf_str(&self->cursor),
        .deadline_ms = left_ms < TW_SEARCH_DEADLINE_MAX_MS ? left_ms : TW_SEARCH_DEADLINE_MAX_MS,
    };
}

bool request_search_cursor_keep(request *self, tw_str cursor)
{
    tw_buf_clear(&self->cursor);
    tw_buf_add_str(&self->cursor, cursor);
    if (self->cursor.err != TW_OK) {
        tw_err err = self->cursor.err;
        tw_buf_clear(&self->cursor);
        request_fail(self, err, "There is no memory for the place where the search goes on.", NULL,
                     (tw_bson){0});
        return false;
    }
    return true;
}

static void on_closed(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)state, (void)context, (void)tag, (void)in;
    (void)(err == TW_OK); /* what is not closed the cluster forgets by itself */
}

void request_search_close(request *self)
{
    if (self->cursor.len == 0) {
        return;
    }
    tw_msg_search_ask ask = request_search_ask(self, TW_STR("keys"), (tw_bson){0});
    ask.close = true;
    tw_ask(self->engine->options.actor, self->engine->options.search, TW_MSG_search_ask, &ask,
           TW_ASK_TIMEOUT_MS, on_closed, NULL, 0);
    tw_buf_clear(&self->cursor);
}

uint64_t request_search_left_ms(const request *self)
{
    uint64_t now_ms = tw_now_ms(self->engine->options.actor);
    return self->deadline_ms > now_ms ? self->deadline_ms - now_ms : 0;
}

void request_search_next_step(request *self)
{
    uint64_t wait_ms = self->engine->options.search_ms;
    self->deadline_ms =
        tw_now_ms(self->engine->options.actor) + (wait_ms != 0 ? wait_ms : TW_SEARCH_MS);
}

bool request_search_state(request *self)
{
    self->searching = tw_arena_zero(&self->arena, 1, sizeof *self->searching);
    if (self->searching == NULL) {
        request_fail(self, TW_E_NO_MEMORY, NULL, NULL, (tw_bson){0});
    }
    return self->searching != NULL;
}

tw_str request_search_id(request *self, tw_bson_value id)
{
    tw_str text = tw_bson_value_str(id);
    if (text.ptr != NULL) {
        return text;
    }
    tw_buf *scratch = &self->engine->scratch;
    tw_buf_clear(scratch);
    if (id.type == TW_BSON_OBJECT_ID) {
        for (size_t i = 0; i < id.len; i++) {
            tw_buf_format(scratch, "%02x", id.ptr[i]);
        }
    } else {
        tw_json_write_value(scratch, id);
    }
    return tw_arena_str(&self->arena, tw_buf_str(scratch));
}

static void ask(request *self)
{
    tw_msg_search_ask body = request_search_ask(self, tw_str_of(self->action->name), self->asked);
    request_ask_search(self, &body, body.deadline_ms);
}

/* ---- answers ---- */
static void finish(request *self, const tw_msg_search_answer *answer)
{
    bool streams = answer->result.len == 0;
    tw_bson_builder b;
    request_reply_begin(self, &b, streams ? "done" : self->action->name);
    if (answer->as_of.count > 0) {
        tw_bson_add_vector(&b, TW_STR("as_of"), answer->as_of);
    }
    if (streams) {
        tw_bson_add_i64(&b, TW_STR("count"), (int64_t)answer->count);
    } else {
        tw_bson_add_all(&b, answer->result);
    }
    (void)request_reply_end(self, &b, true);
}

static void go_on(request *self);

static void give_out(request *self, const tw_msg_search_answer *answer, size_t from, tw_str bytes)
{
    for (size_t i = from; i < answer->items.count; i++) {
        tw_bson_builder b;
        request_reply_begin(self, &b, self->action->name);
        tw_bson_add_all(&b, answer->items.at[i].doc);
        bool on = request_reply_end(self, &b, false);
        if (!request_item_given(self, on, i + 1, bytes, go_on)) {
            return;
        }
    }
    if (answer->cursor.len == 0) {
        finish(self, answer);
        return;
    }
    request_search_next_step(self);
    self->ask(self);
}

static void answered(request *self, const tw_envelope *in)
{
    const tw_msg_search_answer *answer = &in->body->search_answer;
    if (request_search_cursor_keep(self, answer->cursor)) {
        give_out(self, answer, 0, in->bytes);
    }
}

static void go_on(request *self)
{
    tw_body body;
    if (request_page_again(self, &body)) {
        give_out(self, &body.search_answer, self->page_at, tw_buf_str(&self->page));
    }
}

void request_search_run(request *self)
{
    self->ask = ask;
    self->answered = answered;
    self->ask(self);
}
