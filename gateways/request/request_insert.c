/* request_insert.c - insert (create) and put: a document comes into being or replaces another. */
#include "gateways/request/request_priv.h"

static void written(request *self)
{
    tw_bson_builder b;
    if (request_reply_result_begin(self, &b)) {
        tw_bson_add_key(&b, TW_STR("key"), self->results[0].key);
        tw_bson_add_i64(&b, TW_STR("version"), self->results[0].version);
        request_reply_result_end(self, &b);
    }
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
