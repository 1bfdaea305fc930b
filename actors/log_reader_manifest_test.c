/* log_reader_manifest_test.c - a cut of the log stays as it was, whatever is written meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/topic_query.h"

#include "actors/log_reader.h"
#include "actors/store.h"
#include "tests/support/bson_text.h"

enum { WAIT_MS = 10000, RECORDS = 6000 };

static const catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};

typedef struct world {
    log_store *log;
    tw_system *system;
    tw_caller *store, *reader;
    store_options store_options;
    log_reader_options reader_options;
    tw_arena arena;
    tw_bson query;
    char base[64];
    int64_t version; /* of every record of a cut */
} world;

static int setup(void **state)
{
    static world w;
    static int number;
    memset(&w, 0, sizeof w);
    w.version = 1;
    tw_arena_init(&w.arena, 256 << 20);
    assert_int_equal(log_store_new(&w.log), TW_OK);
    w.store_options = (store_options){.log = w.log, .catalog = &known, .memory = true};
    w.reader_options = (log_reader_options){.log = w.log, .catalog = &known};
    tw_format(w.base, sizeof w.base, "inproc://manifest-test-%d-%d", (int)getpid(), ++number);
    const tw_system_options options = {.base = w.base};
    assert_int_equal(tw_system_new(&w.system, &options), TW_OK);
    assert_int_equal(tw_system_add(w.system, &store_class, -1, &w.store_options), TW_OK);
    assert_int_equal(tw_system_add(w.system, &log_reader_class, 0, &w.reader_options), TW_OK);
    const char *why = "";
    assert_int_equal(tw_system_start(w.system, &why), TW_OK);
    assert_int_equal(tw_caller_open(&w.store, w.base, "store", WAIT_MS), TW_OK);
    assert_int_equal(tw_caller_open(&w.reader, w.base, "log_reader.0", WAIT_MS), TW_OK);
    broker_why cause = {0};
    tw_bson subscribe = bson_text(&w.arena, "{'type':'subscribe','things':{'filter':{'a':1}}}");
    assert_int_equal(topic_query_of_subscribe(&known, NULL, &w.arena, subscribe, &w.query, &cause),
                     TW_OK);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    tw_caller_close(&w->reader);
    tw_caller_close(&w->store);
    tw_system_stop(w->system, 0);
    tw_system_free(&w->system);
    log_store_free(&w->log);
    tw_arena_fini(&w->arena);
    return 0;
}

static void write_one(world *w, uint64_t op, const char *doc)
{
    tw_item_write_op one = {.op = op,
                            .db = TW_STR("main"),
                            .coll = TW_STR("things"),
                            .doc = doc == NULL ? (tw_bson){0} : bson_text(&w->arena, doc),
                            .if_version = -1};
    const tw_envelope *in;
    const tw_msg_write message = {.ops = {&one, 1}};
    assert_int_equal(tw_caller_ask(w->store, TW_MSG_write, &message, WAIT_MS, &in), TW_OK);
    assert_int_equal(in->body->written.results.at[0].code, TW_OK);
}

static void put(world *w, unsigned id, unsigned a)
{
    char doc[64];
    tw_format(doc, sizeof doc, "{'_id':%u,'a':%u}", id, a);
    write_one(w, TW_OP_PUT, doc);
}

static void put_many(world *w, unsigned count, unsigned a)
{
    tw_item_write_op *ops = calloc(count, sizeof *ops);
    assert_non_null(ops);
    for (unsigned i = 0; i < count; i++) {
        ops[i] = (tw_item_write_op){
            .op = TW_OP_PUT,
            .db = TW_STR("main"),
            .coll = TW_STR("things"),
            .doc = bson_text(&w->arena, tw_arena_format(&w->arena, "{'_id':%u,'a':%u}", i, a)),
            .if_version = -1};
    }
    for (unsigned at = 0; at < count; at += 1000) {
        const tw_envelope *in;
        const tw_msg_write message = {.ops = {ops + at, count - at < 1000 ? count - at : 1000}};
        assert_int_equal(tw_caller_ask(w->store, TW_MSG_write, &message, WAIT_MS, &in), TW_OK);
    }
    free(ops);
}

/* A page of keys: how many, and where it goes on. */
static tw_err read_page(world *w, tw_msg_manifest_read *ask, size_t *count, bool *complete,
                        uint64_t *first_n)
{
    const tw_envelope *in;
    tw_err err = tw_caller_ask(w->reader, TW_MSG_manifest_read, ask, WAIT_MS, &in);
    if (err != TW_OK) {
        return err;
    }
    const tw_msg_manifest *page = &in->body->manifest;
    *count = page->entries.count;
    *complete = page->complete;
    *first_n = page->entries.count == 0 ? 0 : page->entries.at[0].n;
    assert_true(ask->cut == 0 || page->cut == ask->cut);
    for (size_t i = 0; i < page->entries.count; i++) {
        assert_int_equal(page->entries.at[i].version, w->version);
        assert_true(page->entries.at[i].n > ask->after && page->entries.at[i].n <= page->cut);
    }
    ask->cut = page->cut;
    ask->after = page->after;
    return TW_OK;
}

static size_t read_rest(world *w, tw_msg_manifest_read *ask)
{
    size_t all = 0;
    bool complete = false;
    while (!complete) {
        size_t count;
        uint64_t n;
        assert_int_equal(read_page(w, ask, &count, &complete, &n), TW_OK);
        all += count;
    }
    return all;
}

static void test_a_cut_stays_while_everything_changes(void **state)
{
    world *w = *state;
    put_many(w, RECORDS, 1);
    put(w, RECORDS, 2); /* does not match */
    tw_msg_manifest_read ask = {.query = w->query};
    size_t count;
    bool complete;
    uint64_t n;
    assert_int_equal(read_page(w, &ask, &count, &complete, &n), TW_OK);
    assert_true(count > 0 && count < RECORDS && !complete);
    put_many(w, RECORDS, 1); /* every record has another version, those told and those not */
    put_many(w, RECORDS, 3); /* and another, that does not match */
    put(w, RECORDS, 1);
    assert_int_equal(count + read_rest(w, &ask), RECORDS);
    /* the documents are those of the cut too */
    const tw_envelope *in;
    const tw_item_one_id row = {n};
    const tw_msg_manifest_docs docs = {.query = w->query, .cut = ask.cut, .rows = {&row, 1}};
    assert_int_equal(tw_caller_ask(w->reader, TW_MSG_manifest_docs, &docs, WAIT_MS, &in), TW_OK);
    assert_int_equal(in->body->records.items.count, 1);
    assert_int_equal(in->body->records.items.at[0].version, 1);
    assert_int_equal(tw_bson_get_i64_or(in->body->records.items.at[0].doc, TW_STR("a"), 0), 1);
}

static void test_a_cut_outlives_a_drop_and_what_comes_after(void **state)
{
    world *w = *state;
    put_many(w, RECORDS, 1);
    tw_msg_manifest_read ask = {.query = w->query};
    size_t count;
    bool complete;
    uint64_t n;
    assert_int_equal(read_page(w, &ask, &count, &complete, &n), TW_OK);
    write_one(w, TW_OP_DROP, NULL);
    put_many(w, 10, 1); /* another collection of that name */
    assert_int_equal(count + read_rest(w, &ask), RECORDS);
    tw_msg_manifest_read now = {.query = w->query};
    w->version = 2; /* versions go on behind a drop */
    assert_int_equal(read_rest(w, &now), 10);
}

static void test_a_cut_below_the_floor_is_refused(void **state)
{
    world *w = *state;
    put_many(w, RECORDS, 1);
    tw_msg_manifest_read ask = {.query = w->query};
    size_t count;
    bool complete;
    uint64_t n;
    assert_int_equal(read_page(w, &ask, &count, &complete, &n), TW_OK);
    put_many(w, RECORDS, 2);
    const tw_envelope *in;
    uint64_t floor = 0;
    while (floor <= ask.cut) { /* in steps */
        const tw_msg_trim trim = {.keep_rows = 0};
        const tw_msg_log_state_ask state_ask = {.counts = false};
        assert_int_equal(tw_caller_ask(w->store, TW_MSG_trim, &trim, WAIT_MS, &in), TW_OK);
        assert_int_equal(tw_caller_ask(w->store, TW_MSG_log_state_ask, &state_ask, WAIT_MS, &in),
                         TW_OK);
        floor = in->body->log_state.floor;
    }
    assert_int_equal(read_page(w, &ask, &count, &complete, &n), TW_E_GAP);
    const tw_item_one_id row = {1};
    const tw_msg_manifest_docs docs = {.query = w->query, .cut = ask.cut, .rows = {&row, 1}};
    assert_int_equal(tw_caller_ask(w->reader, TW_MSG_manifest_docs, &docs, WAIT_MS, &in), TW_E_GAP);
}

static void test_an_empty_log_has_an_empty_cut(void **state)
{
    world *w = *state;
    tw_msg_manifest_read ask = {.query = w->query};
    size_t count;
    bool complete;
    uint64_t n;
    assert_int_equal(read_page(w, &ask, &count, &complete, &n), TW_OK);
    assert_true(complete && count == 0 && ask.cut == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_cut_stays_while_everything_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_cut_outlives_a_drop_and_what_comes_after, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_cut_below_the_floor_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_empty_log_has_an_empty_cut, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
