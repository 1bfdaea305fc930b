/* request_dispatch.c - dispatch: a message for the followers of a collection, which is not stored.
 * It is passed on once; whoever is away then, or has no room, does not get it. */
#include "gateways/request/request_priv.h"

static void ask(request *self)
{
    tw_msg_dispatch message = {.db = self->db, .coll = self->coll, .message = self->query};
    request_ask_link(self, self->engine->options.manager, TW_MSG_dispatch, &message);
}

static void answered(request *self, const tw_envelope *in)
{
    tw_bson_builder b;
    if (in->id != TW_MSG_done) {
        request_fail(self, TW_E_INTERNAL, NULL, NULL, (tw_bson){0});
        return;
    }
    request_reply_begin(self, &b, self->action->name);
    (void)request_reply_end(self, &b, true);
}

void request_dispatch(request *self)
{
    tw_bson_value message = self->given.at[FIELD_message];
    tw_buf *scratch = &self->engine->scratch;
    tw_bson_builder b;
    if (message.len > TW_DISPATCH_MAX) {
        request_fail(self, TW_E_TOO_BIG, NULL, "Write a record: its streams are told of it.",
                     (tw_bson){0});
        return;
    }
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    tw_bson_add_value(&b, TW_STR("message"), message);
    (void)tw_bson_end(&b);
    tw_err err = request_keep(self, scratch, &self->query);
    if (err != TW_OK) {
        request_fail(self, err, NULL, NULL, (tw_bson){0});
        return;
    }
    self->ask = ask;
    self->answered = answered;
    self->ask(self);
}
