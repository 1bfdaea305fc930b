/* request_drop.c - drop and drop_database: a collection, or all collections of a database, end as a
 * whole. Services may drop all. Clients may drop what the catalog allows: the collections of
 * realtime databases, unless these deny it, and those that are declared with drop_allowed. */
#include "gateways/request/request_priv.h"

const char request_drop_hint[] =
    "A service may; for clients, declare the database under databases: or the collection with "
    "drop_allowed.";

bool request_may_drop(const catalog_collection *rules)
{
    return rules->drop_allowed && !rules->write_denied && !rules->remove_denied;
}

/* A client may drop a realtime database when it may drop each of its collections. */
static tw_err check_database(request *self, request_why *why)
{
    const catalog *known = self->engine->options.catalog;
    const catalog_database *database = catalog_database_find(known, self->db);
    bool may = database != NULL && !database->drop_denied;
    for (size_t i = 0; i < known->count && may; i++) {
        bool is_in = tw_str_equal(tw_str_of(known->at[i].database), self->db);
        may = !is_in || request_may_drop(&known->at[i]);
    }
    if (may || self->engine->options.trusted) {
        return TW_OK;
    }
    tw_format(why->hint, sizeof why->hint, "%s", request_drop_hint);
    return broker_refuse(&why->why, TW_E_FORBIDDEN, "Clients may not drop the database \"%s\".",
                         request_show(self->db).text);
}

static void written(request *self)
{
    tw_bson_builder b;
    if (request_reply_result_begin(self, &b)) {
        tw_bson_add_i64(&b, TW_STR("count"), (int64_t)self->results[0].count);
        request_reply_result_end(self, &b);
    }
}

void request_drop(request *self)
{
    request_why why = {0};
    tw_err err = TW_OK;
    if (self->action->op == TW_OP_DROP_DB) {
        self->db = tw_bson_value_str(self->given.at[FIELD_database]);
        if ((self->given.set & FIELD_BIT(collection)) != 0) {
            err = broker_refuse(&why.why, TW_E_BAD_MESSAGE,
                                "drop_database has no field \"collection\".");
            tw_format(why.hint, sizeof why.hint, "Use drop for one collection.");
        } else {
            err = check_database(self, &why);
            err = err == TW_OK ? request_allow_too(self, self->db, TW_STR(""), RIGHTS_ADMIN, &why)
                               : err;
        }
    }
    if (err == TW_OK) {
        tw_item_write_op op = request_op(self, &self->given, self->action->op);
        err = request_write(self, &op, 1, false, written);
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
    }
}
