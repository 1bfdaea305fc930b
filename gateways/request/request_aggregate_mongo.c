/* request_aggregate_mongo.c - aggregate on MongoDB, which runs the whole pipeline. Each
 * document comes in its own reply, then done with count, and more where the result was cut: it is
 * made once and kept while the asker is slow. */
#include "broker/pipeline.h"

#include "gateways/request/request_priv.h"

static void ask(request *self)
{
    tw_msg_aggregate message = {.db = self->db,
                                .coll = self->coll,
                                .pipeline = self->query,
                                .limit = self->limit,
                                .bytes_max = TW_DOCUMENT_MAX,
                                .time_ms = request_aggregate_time(self)};
    request_ask(self, TW_MSG_aggregate, &message);
}

/* $lookup reads another collection: the rights of find hold for it. */
static bool may_read(void *context, tw_str coll)
{
    const request *self = context;
    const catalog_collection *rules = catalog_rules(self->engine->options.catalog, self->db, coll);
    return rules != NULL && (self->engine->options.trusted || !rules->read_denied);
}

void request_aggregate_mongo(request *self)
{
    request_why why = {0};
    int64_t number = 0;
    self->query = tw_bson_value_doc(self->given.at[FIELD_pipeline]);
    self->limit =
        tw_bson_value_i64(self->given.at[FIELD_limit], &number) ? (uint64_t)number : TW_FIND_MAX;
    tw_err err = pipeline_check(self->query, may_read, self, &why.why);
    if (err != TW_OK) {
        tw_format(why.hint, sizeof why.hint, "docs/MONGODB.md lists the stages.");
        request_fail_why(self, err, &why);
        return;
    }
    self->ask = ask;
    self->answered = request_find_answered;
    self->ask(self);
}
