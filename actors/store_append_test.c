/* store_append_test.c - a store that is the image of a source: appends, their order, what a start
 * finds again, and what readers see before the first copy is whole. */
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

enum { WAIT_MS = 10000, SRV = 4711, LIFE = 99 };

static const catalog_collection declared[] = {{.database = "main",
                                               .name = "tasks",
                                               .key = "_id",
                                               .version_field = "_version",
                                               .shape = CATALOG_NESTED}};
static const catalog catalog_of_test = {
    .magic = CATALOG_MAGIC, .at = declared, .count = 1, .default_database = "main", .strict = true};

typedef struct fixture {
    char directory[64];
    char base[64];
    log_store *log;
    tw_system *system;
    tw_caller *store, *reader;
    store_options store_options;
    log_reader_options reader_options;
    tw_arena arena;
    uint64_t number;
} fixture;

static int fixture_number;

static void start(fixture *f)
{
    assert_int_equal(log_store_new(&f->log), TW_OK);
    f->store_options = (store_options){
        .log = f->log, .catalog = &catalog_of_test, .directory = f->directory, .image = true};
    f->reader_options = (log_reader_options){.log = f->log, .catalog = &catalog_of_test};
    tw_format(f->base, sizeof f->base, "inproc://append-test-%d-%d", (int)getpid(),
              ++fixture_number);
    const tw_system_options options = {.base = f->base};
    assert_int_equal(tw_system_new(&f->system, &options), TW_OK);
    assert_int_equal(tw_system_add(f->system, &store_class, -1, &f->store_options), TW_OK);
    assert_int_equal(tw_system_add(f->system, &log_reader_class, 0, &f->reader_options), TW_OK);
    assert_int_equal(tw_system_start(f->system, NULL), TW_OK);
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

static const tw_msg_source *ask_source(fixture *f, uint64_t srv)
{
    const tw_msg_source_ask ask = {.srv = srv, .life = LIFE};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->store, TW_MSG_source_ask, &ask, WAIT_MS, &in), TW_OK);
    f->number = in->body->source.number;
    return &in->body->source;
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    tw_format(f->directory, sizeof f->directory, "/tmp/append-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    tw_arena_init(&f->arena, 1 << 24);
    start(f);
    ask_source(f, SRV);
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
    free(f);
    return 0;
}

static tw_key key_of(fixture *f, int64_t id)
{
    uint8_t *key = tw_arena_alloc(&f->arena, 9);
    assert_non_null(key);
    key[0] = TW_BSON_INT64;
    memcpy(key + 1, &id, 8);
    return (tw_key){key, 9};
}

static tw_bson document(fixture *f, int64_t id, const char *text)
{
    tw_buf out;
    tw_bson_builder b;
    tw_buf_init(&out, 4096);
    tw_bson_begin(&b, &out);
    tw_bson_add_i64(&b, TW_STR("_id"), id);
    tw_bson_add_str(&b, TW_STR("text"), tw_str_of(text));
    tw_bson made = tw_arena_bson(&f->arena, tw_bson_end(&b));
    tw_buf_fini(&out);
    return made;
}

static tw_item_append_row put_row(fixture *f, int64_t id, const char *text, uint64_t seqno,
                                  int64_t version)
{
    return (tw_item_append_row){.flags = TW_ROW_PUT,
                                .seqno = seqno,
                                .db = TW_STR("main"),
                                .coll = TW_STR("tasks"),
                                .key = key_of(f, id),
                                .version = version,
                                .doc = document(f, id, text)};
}

static tw_item_append_row end_row(fixture *f, unsigned flags, int64_t id, uint64_t seqno)
{
    return (tw_item_append_row){.flags = flags,
                                .seqno = seqno,
                                .db = TW_STR("main"),
                                .coll = TW_STR("tasks"),
                                .key = flags == TW_ROW_DELETE ? key_of(f, id) : (tw_key){0}};
}

/* Sends an append as it stands; the answer, or the error. */
static tw_err send(fixture *f, const tw_msg_append *append, tw_msg_appended *appended)
{
    const tw_envelope *in;
    tw_err err = tw_caller_ask(f->store, TW_MSG_append, append, WAIT_MS, &in);
    if (err == TW_OK) {
        *appended = in->body->appended;
    }
    return err;
}

static tw_msg_append append_of(fixture *f, uint64_t at, const tw_item_append_row *rows,
                               size_t count)
{
    return (tw_msg_append){.srv = SRV,
                           .life = LIFE,
                           .number = f->number + 1,
                           .at = at,
                           .state = TW_STR("token"),
                           .rows = {rows, count}};
}

/* Appends and expects that so many rows were taken. */
static void take(fixture *f, uint64_t at, const tw_item_append_row *rows, size_t count,
                 size_t expected)
{
    tw_msg_append append = append_of(f, at, rows, count);
    tw_msg_appended appended;
    assert_int_equal(send(f, &append, &appended), TW_OK);
    assert_int_equal(appended.rows, expected);
    assert_int_equal(appended.at, at);
    f->number++;
}

static void become_whole(fixture *f, uint64_t at)
{
    tw_msg_append append = append_of(f, at, NULL, 0);
    tw_msg_appended appended;
    append.whole = true;
    assert_int_equal(send(f, &append, &appended), TW_OK);
    f->number++;
}

static const tw_msg_log_rows *raw_rows(fixture *f)
{
    const tw_msg_log_read ask = {.rows_max = 100, .bytes_max = 1 << 20};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->reader, TW_MSG_log_read, &ask, WAIT_MS, &in), TW_OK);
    return &in->body->log_rows;
}

static const tw_msg_log_state *log_state(fixture *f)
{
    const tw_msg_log_state_ask ask = {0};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->store, TW_MSG_log_state_ask, &ask, WAIT_MS, &in), TW_OK);
    return &in->body->log_state;
}

static tw_err read_page(fixture *f, tw_vector since, tw_msg_page *page)
{
    tw_buf out;
    tw_bson_builder b;
    broker_why why = {0};
    tw_bson canonical;
    tw_buf_init(&out, 4096);
    tw_bson_begin(&b, &out);
    tw_bson_add_str(&b, TW_STR("type"), TW_STR("subscribe"));
    tw_bson_add_str(&b, TW_STR("tasks"), TW_STR("*"));
    tw_bson asked = tw_arena_bson(&f->arena, tw_bson_end(&b));
    tw_buf_fini(&out);
    assert_int_equal(
        topic_query_of_subscribe(&catalog_of_test, NULL, &f->arena, asked, &canonical, &why),
        TW_OK);
    const tw_msg_page_read ask = {.query = canonical,
                                  .fresh = since.count == 0,
                                  .resume = since.count > 0,
                                  .since = since,
                                  .bytes_max = 1 << 20};
    const tw_envelope *in;
    tw_err err = tw_caller_ask(f->reader, TW_MSG_page_read, &ask, WAIT_MS, &in);
    if (err == TW_OK) {
        *page = in->body->page;
    }
    return err;
}

/* ---- tests ---- */

static void test_append_rows_are_stored_with_origin_and_old(void **state)
{
    fixture *f = *state;
    const tw_item_append_row rows[] = {put_row(f, 1, "a", 100, 1), put_row(f, 1, "b", 101, 2),
                                       end_row(f, TW_ROW_DELETE, 1, 102)};
    take(f, 102, rows, 3, 3);
    const tw_msg_log_rows *read = raw_rows(f);
    assert_int_equal(read->rows.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(read->rows.at[i].srv, SRV);
        assert_int_equal(read->rows.at[i].seqno, 100 + i);
        assert_true((read->rows.at[i].flags & TW_ROW_LAST) != 0);
        assert_int_equal(read->rows.at[i].version, i + 1);
        assert_int_equal(read->rows.at[i].old.len > 0, i > 0);
    }
    assert_int_equal(read->at.count, 1);
    assert_int_equal(read->at.at[0].seqno, 102);
}

static void test_append_transaction_is_marked_at_its_end_also_in_pieces(void **state)
{
    fixture *f = *state;
    tw_item_append_row rows[] = {put_row(f, 1, "a", 100, 1), put_row(f, 2, "b", 100, 1)};
    rows[0].more = true;
    take(f, 100, rows, 2, 2);
    tw_item_append_row piece = put_row(f, 3, "c", 105, 1);
    piece.more = true;
    piece.flags |= TW_ROW_MULTI;
    take(f, 104, &piece, 1, 1); /* its position is reached with the last piece */
    piece = put_row(f, 4, "d", 105, 1);
    piece.flags |= TW_ROW_MULTI;
    take(f, 105, &piece, 1, 1);
    const tw_msg_log_rows *read = raw_rows(f);
    assert_int_equal(read->rows.count, 4);
    static const bool last[] = {false, true, false, true};
    for (size_t i = 0; i < 4; i++) {
        assert_true((read->rows.at[i].flags & TW_ROW_MULTI) != 0);
        assert_int_equal((read->rows.at[i].flags & TW_ROW_LAST) != 0, last[i]);
    }
}

static void test_append_repeat_has_no_effect_and_hole_is_refused(void **state)
{
    fixture *f = *state;
    const tw_item_append_row row = put_row(f, 1, "a", 100, 1);
    tw_msg_append append = append_of(f, 100, &row, 1);
    tw_msg_appended appended;
    assert_int_equal(send(f, &append, &appended), TW_OK);
    assert_int_equal(send(f, &append, &appended), TW_OK); /* nng may send it twice */
    assert_int_equal(appended.rows, 0);
    assert_int_equal(raw_rows(f)->rows.count, 1);
    append.number += 2;
    append.at = 200;
    assert_int_equal(send(f, &append, &appended), TW_E_GAP);
    append.number--;
    append.life = LIFE + 1; /* of a tailer that has ended */
    assert_int_equal(send(f, &append, &appended), TW_E_GAP);
    append.life = LIFE;
    append.srv = SRV + 1;
    assert_int_equal(send(f, &append, &appended), TW_E_UNSUPPORTED);
}

static void test_append_that_goes_back_is_refused_whole(void **state)
{
    fixture *f = *state;
    tw_item_append_row rows[] = {put_row(f, 1, "a", 100, 1), put_row(f, 2, "b", 101, 1)};
    take(f, 101, rows, 2, 2);
    tw_msg_appended appended;
    tw_msg_append append = append_of(f, 100, NULL, 0);
    assert_int_equal(send(f, &append, &appended), TW_E_CONFLICT); /* an older token */
    rows[0].seqno = 103;
    rows[1].seqno = 102;
    append = append_of(f, 103, rows, 2);
    assert_int_equal(send(f, &append, &appended), TW_E_CONFLICT); /* rows out of order */
    rows[0].seqno = 101;
    append = append_of(f, 103, rows, 1);
    assert_int_equal(send(f, &append, &appended), TW_E_CONFLICT); /* told before */
    append = append_of(f, 103, NULL, 0);
    append.state = (tw_str){0};
    assert_int_equal(send(f, &append, &appended), TW_E_CONFLICT); /* nowhere to go on from */
    assert_int_equal(raw_rows(f)->rows.count, 2);
    rows[0].seqno = 102;
    take(f, 102, rows, 1, 1); /* the refused ones took no number */
}

/* Where the source is when the log ends at row n. */
static uint64_t position_at(fixture *f, uint32_t n)
{
    const tw_msg_log_read ask = {.rows_max = n, .bytes_max = 1 << 20};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->reader, TW_MSG_log_read, &ask, WAIT_MS, &in), TW_OK);
    assert_int_equal(in->body->log_rows.upto, n);
    assert_int_equal(in->body->log_rows.at.count, 1);
    assert_int_equal(in->body->log_rows.at.at[0].srv, SRV);
    return in->body->log_rows.at.at[0].seqno;
}

static void test_positions_are_exact_at_each_row(void **state)
{
    fixture *f = *state;
    tw_item_append_row rows[] = {put_row(f, 1, "a", 100, 1), put_row(f, 2, "b", 101, 1),
                                 put_row(f, 3, "c", 103, 1), put_row(f, 4, "d", 103, 1)};
    rows[2].more = true; /* a transaction of two */
    take(f, 103, rows, 4, 4);
    take(f, 150, NULL, 0, 0); /* the source moved without rows */
    const tw_item_append_row later = put_row(f, 5, "e", 160, 1);
    take(f, 160, &later, 1, 1);
    for (int life = 0; life < 2; life++) {
        assert_int_equal(position_at(f, 1), 100);
        assert_int_equal(position_at(f, 2), 101);
        assert_int_equal(position_at(f, 3), 102); /* the rest of 103 stands behind it */
        assert_int_equal(position_at(f, 4), life == 0 ? 150 : 103);
        assert_int_equal(position_at(f, 5), 160);
        stop(f);
        start(f);
        ask_source(f, SRV);
    }
}

static void test_versions_never_go_back(void **state)
{
    fixture *f = *state;
    const tw_item_append_row rows[] = {
        put_row(f, 1, "a", 100, 5),
        put_row(f, 1, "b", 101, 5), /* a writer who does not count */
        put_row(f, 1, "c", 102, 3), /* one who puts an older number */
        put_row(f, 1, "c", 103, 3), /* the same document again */
        end_row(f, TW_ROW_DELETE, 1, 104),
        put_row(f, 1, "d", 105, 1), /* it comes back */
        put_row(f, 1, "e", 106, 9),
    };
    take(f, 106, rows, 7, 7);
    static const int64_t versions[] = {5, 101, 102, 102, 103, 105, 106};
    const tw_msg_log_rows *read = raw_rows(f);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(read->rows.at[i].version, versions[i]);
    }
}

/* {$set: {name: text}} */
static tw_bson set_of(fixture *f, const char *name, const char *text)
{
    tw_buf out;
    tw_bson_builder b;
    tw_buf_init(&out, 4096);
    tw_bson_begin(&b, &out);
    tw_bson_open_doc(&b, TW_STR("$set"));
    tw_bson_add_str(&b, tw_str_of(name), tw_str_of(text));
    tw_bson_close(&b);
    tw_bson made = tw_arena_bson(&f->arena, tw_bson_end(&b));
    tw_buf_fini(&out);
    return made;
}

static tw_str text_of(const tw_msg_log_rows *read, size_t i, const char *name)
{
    assert_true(i < read->rows.count);
    return tw_bson_get_str(read->rows.at[i].doc, tw_str_of(name));
}

static void test_change_makes_the_version_from_the_one_before(void **state)
{
    fixture *f = *state;
    tw_item_append_row rows[] = {
        put_row(f, 1, "one", 100, 1),     put_row(f, 1, "newest", 101, 9),
        put_row(f, 1, "newest", 102, 9),  put_row(f, 2, "looked up", 103, 1),
        put_row(f, 3, "nothing", 104, 1), put_row(f, 1, "healed", 105, 1),
    };
    rows[1].change = set_of(f, "text", "two");
    rows[2].change = set_of(f, "more", "three");
    rows[2].doc = (tw_bson){0};                    /* gone when it was looked up */
    rows[3].change = set_of(f, "text", "of whom"); /* the log has no record 2 */
    rows[4].change = rows[3].change;
    rows[4].doc = (tw_bson){0};
    rows[5].change = set_of(f, "text.a", "x"); /* not a document: what was looked up is told */
    take(f, 105, rows, 6, 5);
    const tw_msg_log_rows *read = raw_rows(f);
    assert_true(tw_str_equal(text_of(read, 0, "text"), TW_STR("one")));
    assert_true(tw_str_equal(text_of(read, 1, "text"), TW_STR("two")));
    assert_true(tw_str_equal(text_of(read, 2, "text"), TW_STR("two")));
    assert_true(tw_str_equal(text_of(read, 2, "more"), TW_STR("three")));
    assert_true(tw_str_equal(text_of(read, 3, "text"), TW_STR("looked up")));
    assert_true(tw_str_equal(text_of(read, 4, "text"), TW_STR("healed")));
}

static void test_scan_rows_yield_to_what_the_stream_told_and_to_equals(void **state)
{
    fixture *f = *state;
    const tw_item_append_row before[] = {
        put_row(f, 1, "old", 100, 1), put_row(f, 2, "same", 101, 1), put_row(f, 3, "gone", 102, 1)};
    take(f, 102, before, 3, 3);
    const tw_item_append_row live[] = {put_row(f, 4, "live", 110, 1),
                                       end_row(f, TW_ROW_DELETE, 3, 111)};
    take(f, 111, live, 2, 2);
    tw_item_append_row scan[] = {put_row(f, 1, "new", 120, 1), put_row(f, 2, "same", 120, 1),
                                 put_row(f, 3, "gone", 120, 1), put_row(f, 4, "stale", 120, 1)};
    for (size_t i = 0; i < 4; i++) {
        scan[i].scan = true;
        scan[i].flags |= TW_ROW_SYNTHETIC;
    }
    tw_msg_append append = append_of(f, 120, scan, 4);
    append.scan_from = 3; /* it began when three rows were there */
    tw_msg_appended appended;
    assert_int_equal(send(f, &append, &appended), TW_OK);
    assert_int_equal(appended.rows, 1); /* the first alone differs and is not newer */
    const tw_msg_log_rows *read = raw_rows(f);
    assert_int_equal(read->rows.at[5].seqno, 120);
    assert_true((read->rows.at[5].flags & TW_ROW_SYNTHETIC) != 0);
}

static void test_drops_are_one_row_a_collection_and_outdated_ones_are_left_out(void **state)
{
    fixture *f = *state;
    const tw_item_append_row rows[] = {put_row(f, 1, "a", 100, 1), end_row(f, TW_ROW_DROP, 0, 101),
                                       end_row(f, TW_ROW_DROP, 0, 102), /* there is none */
                                       put_row(f, 1, "b", 103, 1)};
    take(f, 103, rows, 4, 3);
    tw_item_append_row drop = end_row(f, TW_ROW_DROP, 0, 104);
    drop.scan = true;
    tw_msg_append append = append_of(f, 104, &drop, 1);
    append.scan_from = 2; /* the collection was made anew since the scan began */
    tw_msg_appended appended;
    assert_int_equal(send(f, &append, &appended), TW_OK);
    assert_int_equal(appended.rows, 0);
    f->number++;
    drop.coll = (tw_str){0}; /* of the database */
    drop.scan = false;
    drop.seqno = 105;
    take(f, 105, &drop, 1, 1);
    const tw_msg_log_rows *read = raw_rows(f);
    assert_int_equal(read->rows.at[1].flags & TW_ROW_DROP_DB, 0);
    assert_int_equal(read->rows.at[3].flags & (TW_ROW_DROP | TW_ROW_DROP_DB),
                     TW_ROW_DROP | TW_ROW_DROP_DB);
}

static void test_rows_of_collections_that_are_not_declared_are_left_out(void **state)
{
    fixture *f = *state;
    tw_item_append_row rows[] = {put_row(f, 1, "a", 100, 1), put_row(f, 2, "b", 101, 1)};
    rows[0].coll = TW_STR("secret");
    take(f, 101, rows, 2, 1);
}

static void test_start_goes_on_from_what_was_committed(void **state)
{
    fixture *f = *state;
    const tw_item_append_row row = put_row(f, 1, "a", 100, 1);
    take(f, 100, &row, 1, 1);
    take(f, 150, NULL, 0, 0); /* the position alone moved */
    stop(f);
    start(f);
    const tw_msg_source *source = ask_source(f, SRV);
    assert_int_equal(source->number, 2);
    assert_int_equal(source->at, 150);
    assert_int_equal(source->rows, 1);
    assert_false(source->foreign);
    assert_false(source->whole);
    assert_int_equal(source->state.len, 5);
    assert_memory_equal(source->state.ptr, "token", 5);
    assert_int_equal(log_state(f)->at.at[0].seqno, 150);
    const tw_item_append_row next = put_row(f, 2, "b", 151, 1);
    take(f, 151, &next, 1, 1);
}

static void test_log_of_another_origin_is_told_as_foreign(void **state)
{
    fixture *f = *state;
    const tw_item_append_row row = put_row(f, 1, "a", 100, 1);
    take(f, 100, &row, 1, 1);
    assert_true(ask_source(f, SRV + 1)->foreign);
    assert_false(ask_source(f, SRV)->foreign);
}

static void test_pages_wait_for_the_whole_image_and_its_floor(void **state)
{
    fixture *f = *state;
    tw_msg_page page;
    const tw_item_append_row row = put_row(f, 1, "a", 100, 1);
    take(f, 100, &row, 1, 1);
    assert_true(log_state(f)->partial);
    assert_int_equal(read_page(f, (tw_vector){0}, &page), TW_E_UNAVAILABLE);
    become_whole(f, 200);
    assert_false(log_state(f)->partial);
    assert_int_equal(read_page(f, (tw_vector){0}, &page), TW_OK);
    assert_int_equal(page.rows.count, 1);
    assert_true(page.caught_up);
    assert_int_equal(page.at.at[0].seqno, 200);
    /* What was deleted in the deployment before the copy was never in this log: positions from
     * other nodes below it start over. */
    tw_position since = {SRV, 150};
    assert_int_equal(read_page(f, (tw_vector){&since, 1}, &page), TW_OK);
    assert_int_equal(page.reset, TW_RESET_COMPACTED);
    since.seqno = 200;
    assert_int_equal(read_page(f, (tw_vector){&since, 1}, &page), TW_OK);
    assert_int_equal(page.reset, TW_RESET_NONE);
    stop(f);
    start(f);
    assert_true(ask_source(f, SRV)->whole);
    assert_int_equal(read_page(f, (tw_vector){&since, 1}, &page), TW_OK);
    assert_int_equal(page.reset, TW_RESET_NONE);
}

static void test_write_to_an_image_is_refused(void **state)
{
    fixture *f = *state;
    const tw_item_write_op op = {.op = TW_OP_PUT,
                                 .db = TW_STR("main"),
                                 .coll = TW_STR("tasks"),
                                 .doc = document(f, 1, "a"),
                                 .if_version = -1};
    const tw_msg_write write = {.ops = {&op, 1}};
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(f->store, TW_MSG_write, &write, WAIT_MS, &in), TW_E_UNSUPPORTED);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_append_rows_are_stored_with_origin_and_old),
        T(test_append_transaction_is_marked_at_its_end_also_in_pieces),
        T(test_append_repeat_has_no_effect_and_hole_is_refused),
        T(test_append_that_goes_back_is_refused_whole),
        T(test_positions_are_exact_at_each_row),
        T(test_versions_never_go_back),
        T(test_change_makes_the_version_from_the_one_before),
        T(test_scan_rows_yield_to_what_the_stream_told_and_to_equals),
        T(test_drops_are_one_row_a_collection_and_outdated_ones_are_left_out),
        T(test_rows_of_collections_that_are_not_declared_are_left_out),
        T(test_start_goes_on_from_what_was_committed),
        T(test_log_of_another_origin_is_told_as_foreign),
        T(test_pages_wait_for_the_whole_image_and_its_floor),
        T(test_write_to_an_image_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
