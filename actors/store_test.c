/* store_test.c - the store and a log_reader in one system, asked through tw_caller. */
#include "actors/store.h"

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
#include "tests/support/gauge.h"

enum { WAIT_MS = 10000 };

static const catalog_collection declared[] = {{.database = "main",
                                               .name = "tasks",
                                               .key = "_id",
                                               .version_field = "_version",
                                               .scope_param = "project_id",
                                               .scope_field = "proj_id",
                                               .shape = CATALOG_NESTED}};
static const catalog catalog_of_test = {
    .magic = CATALOG_MAGIC, .at = declared, .count = 1, .default_database = "main"};

typedef struct fixture {
    char directory[64];
    char base[64];
    log_store *log;
    tw_system *system;
    tw_caller *store, *reader;
    store_options store_options;
    log_reader_options reader_options;
    tw_arena arena;
    tw_buf text;
} fixture;

static int fixture_number;

static void start(fixture *f)
{
    assert_int_equal(log_store_new(&f->log), TW_OK);
    f->store_options.log = f->log;
    f->store_options.catalog = &catalog_of_test;
    f->store_options.directory = f->directory;
    f->reader_options = (log_reader_options){.log = f->log, .catalog = &catalog_of_test};
    tw_format(f->base, sizeof f->base, "inproc://store-test-%d-%d", (int)getpid(),
              ++fixture_number);
    const tw_system_options options = {.base = f->base};
    assert_int_equal(tw_system_new(&f->system, &options), TW_OK);
    assert_int_equal(tw_system_add(f->system, &store_class, -1, &f->store_options), TW_OK);
    assert_int_equal(tw_system_add(f->system, &log_reader_class, 0, &f->reader_options), TW_OK);
    const char *why = "";
    assert_int_equal(tw_system_start(f->system, &why), TW_OK);
    assert_int_equal(tw_caller_open(&f->store, f->base, "store", WAIT_MS), TW_OK);
    assert_int_equal(tw_caller_open(&f->reader, f->base, "log_reader.0", WAIT_MS), TW_OK);
}

static void stop(fixture *f)
{
    tw_caller_close(&f->store);
    tw_caller_close(&f->reader);
    tw_system_stop(f->system, 1000);
    tw_system_free(&f->system);
    log_store_free(&f->log);
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    tw_format(f->directory, sizeof f->directory, "/tmp/store-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    tw_arena_init(&f->arena, 1 << 24);
    tw_buf_init(&f->text, 1 << 24);
    start(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    stop(f);
    char path[128];
    static const char *const files[] = {"log.db", "log.db-wal", "log.db-shm", "lock", "log.seen"};
    for (size_t i = 0; i < TW_COUNT(files); i++) {
        tw_format(path, sizeof path, "%s/%s", f->directory, files[i]);
        unlink(path);
    }
    rmdir(f->directory);
    tw_arena_fini(&f->arena);
    tw_buf_fini(&f->text);
    free(f);
    return 0;
}

/* {"_id": id, "proj_id": project, "text": text}; id 0: without. */
static tw_bson document(fixture *f, int64_t id, int64_t project, const char *text)
{
    tw_bson_builder b;
    tw_buf_clear(&f->text);
    tw_bson_begin(&b, &f->text);
    if (id != 0) {
        tw_bson_add_i64(&b, TW_STR("_id"), id);
    }
    tw_bson_add_i64(&b, TW_STR("proj_id"), project);
    tw_bson_add_str(&b, TW_STR("text"), tw_str_of(text));
    return tw_arena_bson(&f->arena, tw_bson_end(&b));
}

static tw_key key_of(fixture *f, int64_t id)
{
    tw_bson doc = document(f, id, 0, "");
    tw_key key;
    assert_int_equal(tw_key_of_value(&f->arena, tw_bson_get(doc, TW_STR("_id")), &key), TW_OK);
    return key;
}

static tw_item_write_op write_op(enum tw_op op, tw_key key, tw_bson doc)
{
    return (tw_item_write_op){.op = op,
                              .db = TW_STR("main"),
                              .coll = TW_STR("tasks"),
                              .key = key,
                              .doc = doc,
                              .if_version = -1};
}

/* Results live until the next write. */
static const tw_item_write_result *write_ops(fixture *f, const tw_item_write_op *ops, size_t count)
{
    const tw_msg_write ask = {.ops = {ops, count}};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->store, TW_MSG_write, &ask, WAIT_MS, &in), TW_OK);
    assert_int_equal(in->id, TW_MSG_written);
    assert_int_equal(in->body->written.results.count, count);
    return in->body->written.results.at;
}

static const tw_item_write_result *write_one(fixture *f, tw_item_write_op op)
{
    return write_ops(f, &op, 1);
}

static const tw_msg_records *get_one(fixture *f, int64_t id)
{
    const tw_item_one_key key = {key_of(f, id)};
    const tw_msg_get ask = {.db = TW_STR("main"), .coll = TW_STR("tasks"), .keys = {&key, 1}};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->reader, TW_MSG_get, &ask, WAIT_MS, &in), TW_OK);
    return &in->body->records;
}

static uint64_t count_where(fixture *f, tw_bson filter)
{
    const tw_msg_count ask = {.db = TW_STR("main"), .coll = TW_STR("tasks"), .query = filter};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->reader, TW_MSG_count, &ask, WAIT_MS, &in), TW_OK);
    return in->body->counted.count;
}

static tw_msg_log_state log_state(fixture *f)
{
    const tw_msg_log_state_ask ask = {.counts = true};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->store, TW_MSG_log_state_ask, &ask, WAIT_MS, &in), TW_OK);
    return in->body->log_state;
}

static tw_bson one_i64(fixture *f, const char *name, int64_t value)
{
    tw_bson_builder b;
    tw_buf_clear(&f->text);
    tw_bson_begin(&b, &f->text);
    tw_bson_add_i64(&b, tw_str_of(name), value);
    return tw_arena_bson(&f->arena, tw_bson_end(&b));
}

static tw_bson set_text(fixture *f, const char *text)
{
    tw_bson_builder b;
    tw_buf_clear(&f->text);
    tw_bson_begin(&b, &f->text);
    tw_bson_open_doc(&b, TW_STR("$set"));
    tw_bson_add_str(&b, TW_STR("text"), tw_str_of(text));
    tw_bson_close(&b);
    return tw_arena_bson(&f->arena, tw_bson_end(&b));
}

/* All of tasks, or of one project. */
static tw_bson topic(fixture *f, int64_t project)
{
    tw_bson_builder b;
    broker_why why = {0};
    tw_bson canonical;
    tw_buf_clear(&f->text);
    tw_bson_begin(&b, &f->text);
    tw_bson_add_str(&b, TW_STR("type"), TW_STR("subscribe"));
    if (project != 0) {
        tw_bson_add_i64(&b, TW_STR("project_id"), project);
    }
    tw_bson_add_str(&b, TW_STR("tasks"), TW_STR("*"));
    tw_bson asked = tw_arena_bson(&f->arena, tw_bson_end(&b));
    tw_err err =
        topic_query_of_subscribe(&catalog_of_test, NULL, &f->arena, asked, &canonical, &why);
    if (err != TW_OK) {
        print_error("%s\n", why.text);
    }
    assert_int_equal(err, TW_OK);
    return canonical;
}

static const tw_msg_page *page(fixture *f, tw_msg_page_read ask)
{
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->reader, TW_MSG_page_read, &ask, WAIT_MS, &in), TW_OK);
    assert_int_equal(in->id, TW_MSG_page);
    return &in->body->page;
}

/* ---- tests ---- */

static void test_insert_new_key_gets_version_1_and_is_read_back(void **state)
{
    fixture *f = *state;
    const tw_item_write_result *result =
        write_one(f, write_op(TW_OP_INSERT, (tw_key){0}, document(f, 7, 1, "a")));
    assert_int_equal(result->code, TW_OK);
    assert_int_equal(result->version, 1);
    assert_int_equal(result->seqno, 1);
    assert_int_equal(result->count, 1);
    const tw_msg_records *records = get_one(f, 7);
    assert_int_equal(records->items.count, 1);
    assert_int_equal(records->items.at[0].version, 1);
    assert_int_equal(tw_bson_get_i64_or(records->items.at[0].doc, TW_STR("_version"), 0), 1);
}

static void test_insert_existing_key_conflicts_with_stored_version(void **state)
{
    fixture *f = *state;
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 7, 1, "a")));
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 7, 1, "b")));
    const tw_item_write_result *result =
        write_one(f, write_op(TW_OP_INSERT, (tw_key){0}, document(f, 7, 1, "c")));
    assert_int_equal(result->code, TW_E_CONFLICT);
    assert_int_equal(result->version, 2);
}

static void test_update_changes_noop_and_conditions(void **state)
{
    fixture *f = *state;
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 7, 1, "a")));
    tw_item_write_op op = write_op(TW_OP_UPDATE, key_of(f, 7), set_text(f, "b"));
    op.if_version = 1;
    const tw_item_write_result *result = write_one(f, op);
    assert_int_equal(result->code, TW_OK);
    assert_int_equal(result->version, 2);
    result = write_one(f, op);
    assert_int_equal(result->code, TW_E_CONFLICT);
    assert_int_equal(result->version, 2);
    op.if_version = -1;
    result = write_one(f, op);
    assert_int_equal(result->code, TW_OK);
    assert_int_equal(result->version, 2);
    assert_int_equal(result->count, 0);
    assert_int_equal(log_state(f).head, 2);
    op.match = one_i64(f, "proj_id", 2);
    result = write_one(f, op);
    assert_int_equal(result->code, TW_E_NOT_FOUND);
}

static void test_key_that_comes_back_goes_on_with_its_versions(void **state)
{
    fixture *f = *state;
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 7, 1, "a")));
    const tw_item_write_result *result =
        write_one(f, write_op(TW_OP_REMOVE, key_of(f, 7), (tw_bson){0}));
    assert_int_equal(result->code, TW_OK);
    assert_int_equal(get_one(f, 7)->items.count, 0);
    const tw_msg_trim trim = {0};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->store, TW_MSG_trim, &trim, WAIT_MS, &in), TW_OK);
    assert_int_equal(in->body->done.count, 2);
    result = write_one(f, write_op(TW_OP_INSERT, (tw_key){0}, document(f, 7, 1, "b")));
    assert_int_equal(result->version, 3);
    assert_int_equal(result->seqno, 3);
}

static void test_chain_refused_half_way_leaves_nothing(void **state)
{
    fixture *f = *state;
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 9, 1, "a")));
    tw_item_write_op ops[3] = {write_op(TW_OP_INSERT, (tw_key){0}, document(f, 7, 1, "a")),
                               write_op(TW_OP_INSERT, (tw_key){0}, document(f, 9, 1, "b")),
                               write_op(TW_OP_INSERT, (tw_key){0}, document(f, 8, 1, "c"))};
    ops[0].more = true;
    const tw_item_write_result *results = write_ops(f, ops, 3);
    assert_int_equal(results[0].code, TW_E_CONFLICT);
    assert_int_equal(results[1].code, TW_E_CONFLICT);
    assert_int_equal(results[2].code, TW_OK);
    assert_int_equal(results[2].seqno, 2);
    assert_int_equal(get_one(f, 7)->items.count, 0);
    assert_int_equal(gauge_of(f->store, "writes_refused_total"), 2);
}

static void test_opid_repeated_has_one_effect_across_restarts(void **state)
{
    fixture *f = *state;
    tw_item_write_op op = write_op(TW_OP_INSERT, (tw_key){0}, document(f, 0, 1, "a"));
    op.opid = TW_STR("op-1");
    tw_item_write_result first = *write_one(f, op);
    assert_int_equal(first.code, TW_OK);
    assert_int_equal(write_one(f, op)->seqno, first.seqno);
    uint64_t srv = log_state(f).srv;
    stop(f);
    start(f);
    assert_int_equal(log_state(f).srv, srv);
    const tw_item_write_result *again = write_one(f, op);
    assert_int_equal(again->code, TW_OK);
    assert_int_equal(again->seqno, first.seqno);
    assert_int_equal(again->version, 1);
    assert_int_equal(log_state(f).head, 1);
}

static void test_page_fresh_resume_left_and_drop(void **state)
{
    fixture *f = *state;
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 1, 1, "a")));
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 2, 2, "b")));
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 1, 1, "c")));
    tw_bson query_1 = topic(f, 1);
    const tw_msg_page *got = page(f, (tw_msg_page_read){.query = query_1, .fresh = true});
    assert_int_equal(got->rows.count, 1);
    assert_int_equal(got->rows.at[0].n, 3);
    assert_true(got->caught_up);
    assert_int_equal(got->after, 3);
    tw_position at = got->at.at[0];
    assert_int_equal(at.seqno, 3);
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 1, 2, "moved")));
    got = page(f, (tw_msg_page_read){.query = query_1, .resume = true, .since = {&at, 1}});
    assert_int_equal(got->rows.count, 1);
    assert_true(tw_str_equal(got->rows.at[0].type, TW_STR("remove")));
    assert_non_null(memmem(got->rows.at[0].tail.ptr, got->rows.at[0].tail.len, "\"left\"", 6));
    tw_item_write_op drop = write_op(TW_OP_DROP, (tw_key){0}, (tw_bson){0});
    assert_int_equal(write_one(f, drop)->count, 1);
    got = page(f, (tw_msg_page_read){.query = query_1, .after = 4});
    assert_int_equal(got->rows.count, 1);
    assert_true(tw_str_equal(got->rows.at[0].type, TW_STR("drop")));
    assert_int_equal(count_where(f, (tw_bson){0}), 0);
    at.seqno = 99;
    got = page(f, (tw_msg_page_read){.query = query_1, .resume = true, .since = {&at, 1}});
    assert_int_equal(got->reset, TW_RESET_AHEAD);
    const tw_msg_trim trim = {0};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->store, TW_MSG_trim, &trim, WAIT_MS, &in), TW_OK);
    at.seqno = 3;
    got = page(f, (tw_msg_page_read){.query = query_1, .resume = true, .since = {&at, 1}});
    assert_int_equal(got->reset, TW_RESET_COMPACTED);
    assert_int_equal(got->floor, 5);
}

static void test_find_filters_sorts_skips_and_continues(void **state)
{
    fixture *f = *state;
    for (int64_t i = 1; i <= 20; i++) {
        char text[8];
        tw_format(text, sizeof text, "%02d", (int)(i * 7 % 20));
        write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, i, i % 2 + 1, text)));
    }
    assert_int_equal(count_where(f, one_i64(f, "proj_id", 1)), 10);
    tw_msg_find ask = {.db = TW_STR("main"),
                       .coll = TW_STR("tasks"),
                       .query = one_i64(f, "proj_id", 2),
                       .sort = one_i64(f, "text", -1),
                       .skip = 1,
                       .limit = 3};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->reader, TW_MSG_find, &ask, WAIT_MS, &in), TW_OK);
    const tw_msg_records *records = &in->body->records;
    assert_int_equal(records->items.count, 3);
    assert_true(records->more);
    assert_true(
        tw_str_equal(tw_bson_get_str(records->items.at[0].doc, TW_STR("text")), TW_STR("17")));
    ask = (tw_msg_find){.db = TW_STR("main"), .coll = TW_STR("tasks"), .limit = 15};
    assert_int_equal(tw_caller_ask(f->reader, TW_MSG_find, &ask, WAIT_MS, &in), TW_OK);
    assert_int_equal(in->body->records.items.count, 15);
    assert_true(in->body->records.more);
    ask.after = in->body->records.after;
    assert_int_equal(tw_caller_ask(f->reader, TW_MSG_find, &ask, WAIT_MS, &in), TW_OK);
    assert_int_equal(in->body->records.items.count, 5);
    assert_false(in->body->records.more);
    ask =
        (tw_msg_find){.db = TW_STR("main"), .coll = TW_STR("tasks"), .query = one_i64(f, "_id", 4)};
    assert_int_equal(tw_caller_ask(f->reader, TW_MSG_find, &ask, WAIT_MS, &in), TW_OK);
    assert_int_equal(in->body->records.items.count, 1);
}

static void test_log_read_gives_rows_with_old_documents(void **state)
{
    fixture *f = *state;
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 1, 1, "a")));
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 1, 1, "b")));
    const tw_msg_log_read ask = {.after = 0, .rows_max = 100};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->reader, TW_MSG_log_read, &ask, WAIT_MS, &in), TW_OK);
    const tw_msg_log_rows *rows = &in->body->log_rows;
    assert_int_equal(rows->rows.count, 2);
    assert_int_equal(rows->upto, 2);
    assert_int_equal(rows->rows.at[1].prev, 1);
    assert_true(rows->rows.at[1].old.len > 0);
    assert_true((rows->rows.at[0].flags & TW_ROW_LAST) != 0);
}

static void test_disk_full_refuses_and_goes_on_when_there_is_room(void **state)
{
    fixture *f = *state;
    stop(f);
    f->store_options.bytes_max = 64 * 8192;
    start(f);
    char *text = malloc(60000);
    assert_non_null(text);
    memset(text, 'x', 59999);
    text[59999] = '\0';
    uint64_t code = TW_OK;
    int64_t id = 1;
    for (; id < 20 && code == TW_OK; id++) {
        code = write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, id, 1, text)))->code;
    }
    assert_int_equal(code, TW_E_DISK);
    tw_item_write_op three[3]; /* of one message, each refused by the commit alone */
    for (size_t i = 0; i < TW_COUNT(three); i++) {
        three[i] = write_op(TW_OP_PUT, (tw_key){0}, document(f, 50 + (int64_t)i, 1, text));
    }
    assert_int_equal(write_ops(f, three, TW_COUNT(three))[2].code, TW_E_DISK);
    assert_int_equal(gauge_of(f->store, "writes_refused_total"), 1 + TW_COUNT(three));
    free(text);
    assert_int_equal(get_one(f, id - 1)->items.count, 0);
    assert_int_equal(get_one(f, id - 2)->items.count, 1);
    stop(f);
    f->store_options.bytes_max = 0;
    start(f);
    assert_int_equal(write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 99, 1, "a")))->code,
                     TW_OK);
}

static void test_memory_log_keeps_nothing(void **state)
{
    fixture *f = *state;
    stop(f);
    f->store_options.memory = true;
    start(f);
    write_one(f, write_op(TW_OP_PUT, (tw_key){0}, document(f, 1, 1, "a")));
    assert_int_equal(get_one(f, 1)->items.count, 1);
    stop(f);
    start(f);
    assert_int_equal(get_one(f, 1)->items.count, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_insert_new_key_gets_version_1_and_is_read_back),
        T(test_insert_existing_key_conflicts_with_stored_version),
        T(test_update_changes_noop_and_conditions),
        T(test_key_that_comes_back_goes_on_with_its_versions),
        T(test_chain_refused_half_way_leaves_nothing),
        T(test_opid_repeated_has_one_effect_across_restarts),
        T(test_page_fresh_resume_left_and_drop),
        T(test_find_filters_sorts_skips_and_continues),
        T(test_log_read_gives_rows_with_old_documents),
        T(test_disk_full_refuses_and_goes_on_when_there_is_room),
        T(test_memory_log_keeps_nothing),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
