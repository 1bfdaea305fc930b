/* request_count.c - count: how many records match a query. */
#include "gateways/request/request_priv.h"

static void ask(request *self)
{
    tw_msg_count message = {
        .db = self->db, .coll = self->coll, .query = self->query, .match = self->grant.filter};
    request_ask(self, TW_MSG_count, &message);
}

static void answered(request *self, const tw_envelope *in)
{
    tw_bson_builder b;
    if (in->id != TW_MSG_counted) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    request_reply_begin(self, &b, self->action->name);
    tw_bson_add_i64(&b, TW_STR("count"), (int64_t)in->body->counted.count);
    (void)request_reply_end(self, &b, true);
}

void request_count(request *self)
{
    request_why why = {0};
    tw_err err = request_coerce_query(self, self->given.at[FIELD_query], &self->query, &why);
    err = err == TW_OK ? request_check_asked(self, self->query, &why) : err;
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    self->ask = ask;
    self->answered = answered;
    self->ask(self);
}
