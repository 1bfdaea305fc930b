/* request_aggregate_mongo.c - aggregate on MongoDB, which runs the whole pipeline. Each
 * document comes in its own reply, then done with count, and more where the result was cut: it is
 * made once and kept while the asker is slow. */
#include "broker/pipeline.h"

#include "gateways/request/request_priv.h"

static void ask(request *self)
{
    tw_msg_aggregate message = {.db = self->db,
                                .coll = self->coll,
                                .match = self->grant.filter,
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
    return rules != NULL && (self->engine->options.trusted || !rules->read_denied) &&
           request_may_read_all(self, self->db, coll);
}

/* What rights hide goes before the first stage: the others never see it. */
static tw_err hide_first(request *self)
{
    if (self->grant.hidden_count == 0) {
        return TW_OK;
    }
    tw_buf *scratch = &self->engine->scratch;
    tw_bson_builder b;
    tw_bson_iter iter;
    tw_buf_clear(scratch);
    tw_bson_begin(&b, scratch);
    tw_bson_open_array(&b, TW_STR("pipeline"));
    tw_bson_open_doc(&b, TW_STR(""));
    tw_bson_open_array(&b, TW_STR("$unset"));
    for (size_t i = 0; i < self->grant.hidden_count; i++) {
        tw_bson_add_str(&b, TW_STR(""), self->grant.hidden[i]);
    }
    tw_bson_close(&b);
    tw_bson_close(&b);
    for (tw_bson_iter_init(&iter, self->query); tw_bson_iter_next(&iter);) {
        tw_bson_add_value(&b, TW_STR(""), iter.value);
    }
    tw_bson_close(&b);
    (void)tw_bson_end(&b);
    tw_bson wrapped = {0};
    tw_err err = request_keep(self, scratch, &wrapped);
    self->query = tw_bson_get_doc(wrapped, TW_STR("pipeline"));
    return err;
}

void request_aggregate_mongo(request *self)
{
    request_why why = {0};
    int64_t number = 0;
    self->query = tw_bson_value_doc(self->given.at[FIELD_pipeline]);
    self->limit =
        tw_bson_value_i64(self->given.at[FIELD_limit], &number) ? (uint64_t)number : TW_FIND_MAX;
    tw_err err = pipeline_check(self->query, may_read, self, &why.why);
    err = err == TW_OK ? hide_first(self) : err;
    if (err != TW_OK) {
        tw_format(why.hint, sizeof why.hint, "docs/MONGODB.md lists the stages.");
        request_fail_why(self, err, &why);
        return;
    }
    self->ask = ask;
    self->answered = request_find_answered;
    self->ask(self);
}
