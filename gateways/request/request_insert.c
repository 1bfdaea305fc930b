/* request_insert.c - insert (create) and put: a document comes into being or replaces another. */
#include "gateways/request/request_priv.h"

static void written(request *self)
{
    const request_result *result = &self->results[0];
    if (result->code != TW_OK) {
        request_fail_result(self, result, false);
        return;
    }
    tw_bson_builder b;
    request_reply_begin(self, &b, self->action->name);
    tw_bson_add_key(&b, TW_STR("key"), result->key);
    tw_bson_add_i64(&b, TW_STR("version"), result->version);
    request_add_since(&b, &self->since);
    (void)request_reply_end(self, &b, true);
}

void request_insert(request *self)
{
    tw_item_write_op op = request_op(self, &self->given, self->action->op);
    op.doc = tw_bson_value_doc(self->given.at[FIELD_doc]);
    tw_err err = request_write(self, &op, 1, false, written);
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
    }
}
