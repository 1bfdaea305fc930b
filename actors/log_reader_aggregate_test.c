/* log_reader_aggregate_test.c - pipelines run beside other reads, end in time, and leave nothing.
 *
 * An actor in the gateway's place asks, as only an actor has several questions on their way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/runtime/run.h"

#include "actors/log_reader.h"
#include "actors/store.h"
#include "tests/support/bson_text.h"
#include "tests/support/gauge.h"

enum { WAIT_MS = 60000, RECORDS = 30000, IDLE_MS = 50, HOUR_MS = 3600000, ID = 77 };

static const catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};

/* ---- the asker: topic_open.gateway is what it does ---- */
enum asker_does {
    RUN_AND_COUNT = 1, /* counts, again and again, until the result is there */
    RUN_AND_END,       /* ends it at once */
    RUN_TOO_MANY,
};

typedef struct asker {
    tw_actor *actor;
    int reader;
    tw_route route;
    uint64_t does;
    uint64_t counted, busy, waiting;
    tw_err err; /* of the run */
    bool is_run, is_ended;
} asker;

static const tw_msg_count count_all = {.db = TW_STR("main"), .coll = TW_STR("things")};

static void finish(asker *self, uint64_t count)
{
    tw_reply(self->actor, &self->route, TW_MSG_done, &(tw_msg_done){.count = count});
}

static void on_counted(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context, (void)tag;
    asker *self = state;
    assert_int_equal(err, TW_OK);
    assert_int_equal(in->body->counted.count, RECORDS);
    if (self->is_run) {
        finish(self, self->counted);
        return;
    }
    self->counted++;
    tw_ask(self->actor, self->reader, TW_MSG_count, &count_all, WAIT_MS, on_counted, NULL, 0);
}

static void on_run(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context, (void)tag, (void)in;
    asker *self = state;
    self->is_run = true;
    self->err = err;
    if (self->does == RUN_AND_END && self->is_ended) {
        finish(self, (uint64_t)self->err);
    } else if (self->does == RUN_TOO_MANY) {
        self->busy += err == TW_E_BUSY ? 1 : 0;
        assert_true(err == TW_OK || err == TW_E_BUSY);
        if (--self->waiting == 0) {
            finish(self, self->busy);
        }
    }
}

static void on_ended(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context, (void)tag;
    asker *self = state;
    assert_int_equal(err, TW_OK);
    assert_in_range(in->body->done.count, 0, 1); /* 0: it was over before */
    self->is_ended = true;
    if (self->is_run) {
        finish(self, (uint64_t)self->err);
    }
}

static void run(asker *self, uint64_t id, tw_bson pipeline)
{
    const tw_msg_aggregate_run question = {
        .id = id, .db = TW_STR("main"), .coll = TW_STR("things"), .pipeline = pipeline};
    tw_ask(self->actor, self->reader, TW_MSG_aggregate_run, &question, WAIT_MS, on_run, NULL, 0);
}

static tw_err on_topic_open(void *state, const tw_envelope *in)
{
    asker *self = state;
    const tw_msg_topic_open *asked = &in->body->topic_open;
    *self = (asker){.actor = self->actor, .reader = self->reader, .route = *in->route};
    self->does = asked->gateway;
    tw_bson pipeline = tw_bson_value_doc(tw_bson_get(asked->query, TW_STR("pipeline")));
    if (self->does == RUN_TOO_MANY) {
        self->waiting = TW_AGGREGATES_MAX + 3;
        for (uint64_t i = 0; i < TW_AGGREGATES_MAX + 3; i++) {
            run(self, ID + i, pipeline);
        }
        return TW_OK;
    }
    run(self, ID, pipeline);
    if (self->does == RUN_AND_END) {
        const tw_msg_aggregate_next end = {.id = ID, .end = true};
        tw_ask(self->actor, self->reader, TW_MSG_aggregate_next, &end, WAIT_MS, on_ended, NULL, 0);
    } else {
        tw_ask(self->actor, self->reader, TW_MSG_count, &count_all, WAIT_MS, on_counted, NULL, 0);
    }
    return TW_OK;
}

static tw_err asker_init(void *state, tw_actor *actor, const void *options)
{
    (void)options;
    asker *self = state;
    *self = (asker){.actor = actor, .reader = tw_link(actor, "log_reader.0")};
    return TW_OK;
}

static const tw_handler asker_handlers[] = {[TW_MSG_topic_open] = on_topic_open};

static const tw_actor_class asker_class = {
    .name = "gateway",
    .state_size = sizeof(asker),
    .init = asker_init,
    .handlers = asker_handlers,
    .handlers_count = TW_COUNT(asker_handlers),
};

/* ---- a world: 30,000 records ---- */
typedef struct world {
    log_store *log;
    tw_system *system;
    tw_caller *store, *reader, *asker;
    tw_caller *impatient; /* a reader that keeps results for IDLE_MS alone */
    store_options store_options;
    log_reader_options reader_options, impatient_options;
    tw_arena arena;
    char base[64];
} world;

static void fill(world *w)
{
    enum { BATCH = 1000 };
    static tw_item_write_op ops[BATCH];
    for (unsigned from = 0; from < RECORDS; from += BATCH) {
        tw_arena_reset(&w->arena);
        for (unsigned i = 0; i < BATCH; i++) {
            unsigned id = from + i;
            const char *text = tw_arena_format(&w->arena, "{'_id':%u,'g':%u}", id, id % 7);
            ops[i] = (tw_item_write_op){.op = TW_OP_PUT,
                                        .db = TW_STR("main"),
                                        .coll = TW_STR("things"),
                                        .doc = bson_text(&w->arena, text),
                                        .if_version = -1};
        }
        const tw_envelope *in;
        const tw_msg_write message = {.ops = {ops, BATCH}};
        assert_int_equal(tw_caller_ask(w->store, TW_MSG_write, &message, WAIT_MS, &in), TW_OK);
    }
}

static int setup(void **state)
{
    static world w;
    memset(&w, 0, sizeof w);
    tw_arena_init(&w.arena, 64 << 20);
    assert_int_equal(log_store_new(&w.log), TW_OK);
    w.store_options = (store_options){.log = w.log, .catalog = &known, .memory = true};
    w.reader_options = (log_reader_options){.log = w.log, .catalog = &known, .idle_ms = HOUR_MS};
    w.impatient_options = w.reader_options;
    w.impatient_options.idle_ms = IDLE_MS;
    tw_format(w.base, sizeof w.base, "inproc://aggregate-test-%d", (int)getpid());
    const tw_system_options options = {.base = w.base};
    assert_int_equal(tw_system_new(&w.system, &options), TW_OK);
    assert_int_equal(tw_system_add(w.system, &store_class, -1, &w.store_options), TW_OK);
    assert_int_equal(tw_system_add(w.system, &log_reader_class, 0, &w.reader_options), TW_OK);
    assert_int_equal(tw_system_add(w.system, &log_reader_class, 1, &w.impatient_options), TW_OK);
    assert_int_equal(tw_system_add(w.system, &asker_class, -1, NULL), TW_OK);
    const char *why = "";
    assert_int_equal(tw_system_start(w.system, &why), TW_OK);
    assert_int_equal(tw_caller_open(&w.store, w.base, "store", WAIT_MS), TW_OK);
    assert_int_equal(tw_caller_open(&w.reader, w.base, "log_reader.0", WAIT_MS), TW_OK);
    assert_int_equal(tw_caller_open(&w.impatient, w.base, "log_reader.1", WAIT_MS), TW_OK);
    assert_int_equal(tw_caller_open(&w.asker, w.base, "gateway", WAIT_MS), TW_OK);
    fill(&w);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    tw_caller_close(&w->asker);
    tw_caller_close(&w->impatient);
    tw_caller_close(&w->reader);
    tw_caller_close(&w->store);
    tw_system_stop(w->system, 0);
    tw_system_free(&w->system);
    log_store_free(&w->log);
    tw_arena_fini(&w->arena);
    return 0;
}

static uint64_t ask_asker(world *w, enum asker_does does, const char *pipeline)
{
    const tw_envelope *in;
    const tw_msg_topic_open question = {.gateway = does, .query = bson_text(&w->arena, pipeline)};
    assert_int_equal(tw_caller_ask(w->asker, TW_MSG_topic_open, &question, WAIT_MS, &in), TW_OK);
    return in->body->done.count;
}

static tw_msg_aggregate_run run_of(world *w, const char *pipeline)
{
    tw_bson doc = bson_text(&w->arena, pipeline);
    return (tw_msg_aggregate_run){.id = ID,
                                  .db = TW_STR("main"),
                                  .coll = TW_STR("things"),
                                  .pipeline =
                                      tw_bson_value_doc(tw_bson_get(doc, TW_STR("pipeline")))};
}

static tw_err ask_run(world *w, const tw_msg_aggregate_run *run, const tw_envelope **in)
{
    return tw_caller_ask(w->reader, TW_MSG_aggregate_run, run, WAIT_MS, in);
}

/* ---- tests ---- */
static void test_aggregate_other_reads_go_on_beside_it(void **state)
{
    world *w = *state;
    static const char stage[] = "{'$project':{'g':1,'a':'$g','b':'$g','c':'$_id'}},";
    char pipeline[1024] = "{'pipeline':[";
    for (int i = 0; i < 14; i++) { /* some hundred milliseconds */
        strncat(pipeline, stage, sizeof pipeline - strlen(pipeline) - 1);
    }
    strncat(pipeline, "{'$count':'n'}]}", sizeof pipeline - strlen(pipeline) - 1);
    uint64_t until_ms = run_clock_ms() + WAIT_MS;
    while (ask_asker(w, RUN_AND_COUNT, pipeline) < 1) { /* it ran while the asker stood still */
        assert_true(run_clock_ms() < until_ms);
    } /* answered while the pipeline ran, by the same reader */
}

static void test_aggregate_result_comes_in_pages(void **state)
{
    world *w = *state;
    const tw_envelope *in;
    const tw_msg_aggregate_run question =
        run_of(w, "{'pipeline':[{'$match':{}},{'$sort':{'_id':-1}},{'$limit':5000}]}");
    tw_msg_aggregate_run narrowed = question;
    narrowed.match = bson_text(&w->arena, "{'_id':{'$lt':20000}}");
    tw_err err = ask_run(w, &narrowed, &in);
    size_t count = 0, pages = 0;
    for (bool more = true; more; pages++) {
        assert_int_equal(err, TW_OK);
        const tw_msg_aggregated *page = &in->body->aggregated;
        for (size_t i = 0; i < page->items.count; i++, count++) {
            int64_t id = tw_bson_get_i64_or(page->items.at[i].doc, TW_STR("_id"), -1);
            assert_int_equal(id, 19999 - (int64_t)count);
        }
        more = page->more;
        if (more) {
            const tw_msg_aggregate_next next = {.id = ID};
            err = tw_caller_ask(w->reader, TW_MSG_aggregate_next, &next, WAIT_MS, &in);
        }
    }
    assert_int_equal(count, 5000);
    assert_true(pages > 1);
    const tw_msg_aggregate_next gone = {.id = ID};
    assert_int_equal(tw_caller_ask(w->reader, TW_MSG_aggregate_next, &gone, WAIT_MS, &in),
                     TW_E_GAP);
}

static void test_aggregate_ends_when_its_asker_says_so(void **state)
{
    world *w = *state;
    int64_t before = gauge_of(w->reader, "aggregates_ended_total");
    uint64_t until_ms = run_clock_ms() + WAIT_MS;
    uint64_t err = TW_OK;
    while (err == TW_OK && run_clock_ms() < until_ms) { /* TW_OK: it was over before */
        err = ask_asker(w, RUN_AND_END, "{'pipeline':[{'$group':{'_id':'$g'}}]}");
    }
    assert_int_equal(err, TW_E_END);
    assert_int_equal(gauge_of(w->reader, "aggregates_ended_total"), before + 1);
}

static void test_aggregate_ends_at_its_deadline(void **state)
{
    world *w = *state;
    const tw_envelope *in;
    tw_msg_aggregate_run question = run_of(w, "{'pipeline':[{'$group':{'_id':'$_id'}}]}");
    question.time_ms = 1;
    assert_int_equal(ask_run(w, &question, &in), TW_E_TOO_COSTLY);
    assert_non_null(strstr(in->body->error.why.ptr, "longer than 1 ms"));
    question.time_ms = 0; /* the id is free again, and nothing else suffers */
    question.match = bson_text(&w->arena, "{'_id':{'$lt':3}}");
    assert_int_equal(ask_run(w, &question, &in), TW_OK);
    assert_int_equal(in->body->aggregated.items.count, 3);
}

static void test_aggregate_result_nobody_fetches_is_forgotten(void **state)
{
    world *w = *state;
    const tw_envelope *in;
    tw_msg_aggregate_run question = run_of(w, "{'pipeline':[{'$skip':1},{'$limit':5000}]}");
    int64_t before = gauge_of(w->impatient, "aggregates_ended_total");
    question.match = bson_text(&w->arena, "{'_id':{'$lt':6000}}");
    assert_int_equal(tw_caller_ask(w->impatient, TW_MSG_aggregate_run, &question, WAIT_MS, &in),
                     TW_OK);
    assert_true(in->body->aggregated.more);
    uint64_t until_ms = run_clock_ms() + WAIT_MS;
    while (gauge_of(w->impatient, "aggregates_ended_total") == before) {
        assert_true(run_clock_ms() < until_ms);
    }
    const tw_msg_aggregate_next next = {.id = ID};
    assert_int_equal(tw_caller_ask(w->impatient, TW_MSG_aggregate_next, &next, WAIT_MS, &in),
                     TW_E_GAP);
}

static void test_aggregate_too_many_at_once_are_refused(void **state)
{
    world *w = *state;
    /* More than a page: each keeps its place until its end, however slowly the others are asked. */
    uint64_t busy = ask_asker(w, RUN_TOO_MANY, "{'pipeline':[{'$limit':5000}]}");
    assert_int_equal(busy, 3);
    for (uint64_t i = 0; i < TW_AGGREGATES_MAX; i++) {
        const tw_envelope *in;
        const tw_msg_aggregate_next end = {.id = ID + i, .end = true};
        assert_int_equal(tw_caller_ask(w->reader, TW_MSG_aggregate_next, &end, WAIT_MS, &in),
                         TW_OK);
        assert_int_equal(in->body->done.count, 1);
    }
}

static void test_aggregate_refusals_have_their_cause(void **state)
{
    world *w = *state;
    const tw_envelope *in;
    static const struct {
        const char *pipeline;
        tw_err err;
    } cases[] = {
        {"{'pipeline':[{'$lookup':{}}]}", TW_E_UNSUPPORTED},
        {"{'pipeline':[{'$sort':{'_id':1}}]}", TW_E_TOO_COSTLY},
        {"{'pipeline':[]}", TW_E_TOO_COSTLY}, /* more documents than are given at once */
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        const tw_msg_aggregate_run question = run_of(w, cases[i].pipeline);
        assert_int_equal(ask_run(w, &question, &in), cases[i].err);
        assert_true(in->body->error.why.len > 0);
    }
    tw_msg_aggregate_run question = run_of(w, "{'pipeline':[]}");
    question.match = bson_text(&w->arena, "{'a':{'$where':1}}");
    assert_int_equal(ask_run(w, &question, &in), TW_E_BAD_FILTER);
    question.match = (tw_bson){0};
    question.id = 0;
    assert_int_equal(ask_run(w, &question, &in), TW_E_BAD_MESSAGE);
    question.id = ID;
    question.coll = TW_STR("nothing");
    assert_int_equal(ask_run(w, &question, &in), TW_OK);
    assert_int_equal(in->body->aggregated.items.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aggregate_other_reads_go_on_beside_it),
        cmocka_unit_test(test_aggregate_result_comes_in_pages),
        cmocka_unit_test(test_aggregate_ends_when_its_asker_says_so),
        cmocka_unit_test(test_aggregate_ends_at_its_deadline),
        cmocka_unit_test(test_aggregate_result_nobody_fetches_is_forgotten),
        cmocka_unit_test(test_aggregate_too_many_at_once_are_refused),
        cmocka_unit_test(test_aggregate_refusals_have_their_cause),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
