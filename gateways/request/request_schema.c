/* request_schema.c - schema: what a database is made of. A realtime database is as it was declared;
 * of any other one it is told what is declared in it and what is stored, as version 0. */
#include "gateways/request/request_priv.h"

static void begin(request *self, tw_bson_builder *b, int64_t version)
{
    request_reply_begin(self, b, self->action->name);
    tw_bson_add_str(b, TW_STR("name"), self->db);
    tw_bson_add_i64(b, TW_STR("version"), version);
    tw_bson_open_array(b, TW_STR("collections"));
}

static void add_collection(tw_bson_builder *b, tw_str name, const char *key)
{
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_add_str(b, TW_STR("name"), name);
    tw_bson_add_str(b, TW_STR("keyPath"), tw_str_of(key));
    tw_bson_close(b);
}

static bool is_readable(const request *self, const catalog_collection *at)
{
    return (self->engine->options.trusted || !at->read_denied) &&
           request_may_read(self, tw_str_of(at->database), tw_str_of(at->name));
}

static size_t add_declared(request *self, tw_bson_builder *b)
{
    const catalog *known = self->engine->options.catalog;
    size_t count = 0;
    for (size_t i = 0; i < known->count; i++) {
        const catalog_collection *at = &known->at[i];
        if (tw_str_equal(tw_str_of(at->database), self->db)) {
            count++;
            if (is_readable(self, at)) {
                add_collection(b, tw_str_of(at->name), at->key);
            }
        }
    }
    return count;
}

static void finish(request *self, tw_bson_builder *b)
{
    tw_bson_close(b);
    (void)request_reply_end(self, b, true);
}

static void ask(request *self)
{
    const tw_msg_log_state_ask message = {.counts = true};
    request_ask_link(self, self->engine->options.log_store, TW_MSG_log_state_ask, &message);
}

static void answered(request *self, const tw_envelope *in)
{
    const catalog *known = self->engine->options.catalog;
    tw_bson_builder b;
    if (in->id != TW_MSG_log_state) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    begin(self, &b, 0);
    add_declared(self, &b);
    const tw_list_collection_state *stored = &in->body->log_state.collections;
    for (size_t i = 0; i < stored->count; i++) {
        const tw_item_collection_state *at = &stored->at[i];
        if (tw_str_equal(at->db, self->db) && catalog_find(known, at->db, at->coll) == NULL &&
            request_may_read(self, at->db, at->coll)) {
            add_collection(&b, at->coll, catalog_undeclared.key);
        }
    }
    finish(self, &b);
}

void request_schema(request *self)
{
    const catalog *known = self->engine->options.catalog;
    bool is_given = (self->given.set & FIELD_BIT(database)) != 0;
    self->db = is_given ? tw_bson_value_str(self->given.at[FIELD_database])
                        : tw_str_of(known->default_database);
    const catalog_database *database = catalog_database_find(known, self->db);
    if (database == NULL && !known->strict) {
        self->ask = ask;
        self->answered = answered;
        self->ask(self);
        return;
    }
    tw_bson_builder b;
    begin(self, &b, database == NULL ? 0 : database->version);
    if (add_declared(self, &b) == 0 && database == NULL) {
        request_fail(self, TW_E_FORBIDDEN, "This database is not declared on this server.", NULL,
                     (tw_bson){0});
        return;
    }
    finish(self, &b);
}
