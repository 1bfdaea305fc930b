/* embedded_search_test.c - a search that comes while the index is a little behind: it waits for
 * what was published before it, so long and no longer. The store and the reader are the test's, so
 * that it is the test that says when rows come. */
#include "actors/search/embedded_search.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "protocol/bson.h"
#include "protocol/messages.h"

#include "tests/support/gauge.h"

enum { WAIT_MS = 60000, ROWS = 3, LOG = 5, LOOK_MS = 1, NO_ANSWER = -1 };

typedef struct world {
    _Atomic bool released; /* rows are given to who asks */
    _Atomic bool asks;     /* the asker is to search */
    _Atomic int64_t total; /* of its answer */
    catalog catalog;
    embedded_search_options options;
    tw_system *system; /* own */
    tw_caller *search; /* own */
} world;

typedef struct double_actor {
    tw_actor *actor;
    world *world;
    int link;
    tw_route asked[8]; /* of rows that are held back */
    size_t asked_count;
} double_actor;

static void double_make(void *arg, tw_actor *actor, const void *options)
{
    union {
        const void *given;
        world *world;
    } same = {.given = options};
    *(double_actor *)arg = (double_actor){.actor = actor, .world = same.world};
}

/* ---- the store: it has ROWS rows ---- */
static tw_err store_init(void *arg, tw_actor *actor, const void *options)
{
    double_make(arg, actor, options);
    return TW_OK;
}

static tw_err on_log_state(void *arg, const tw_envelope *in)
{
    double_actor *self = arg;
    tw_reply(self->actor, in->route, TW_MSG_log_state,
             &(tw_msg_log_state){.srv = LOG, .own = LOG, .head = ROWS});
    return TW_OK;
}

static const tw_handler store_handlers[] = {[TW_MSG_log_state_ask] = on_log_state};
static const tw_actor_class store_double = {.name = "store",
                                            .state_size = sizeof(double_actor),
                                            .init = store_init,
                                            .handlers = store_handlers,
                                            .handlers_count = TW_COUNT(store_handlers),
                                            .publishes = true};

/* ---- the reader: it holds the rows back until they are released ---- */
static void give_rows(double_actor *self, const tw_route *route)
{
    tw_item_log_row rows[ROWS];
    tw_arena arena;
    tw_buf text;
    tw_arena_init(&arena, 65536);
    tw_buf_init(&text, 65536);
    for (uint64_t n = 1; n <= ROWS; n++) {
        tw_bson_builder b;
        tw_buf_clear(&text);
        tw_bson_begin(&b, &text);
        tw_bson_add_i64(&b, TW_STR("_id"), (int64_t)n);
        tw_bson_add_str(&b, TW_STR("text"), TW_STR("green"));
        tw_bson doc = tw_arena_bson(&arena, tw_bson_end(&b));
        tw_item_log_row *row = &rows[n - 1];
        *row = (tw_item_log_row){.n = n,
                                 .srv = LOG,
                                 .seqno = n,
                                 .flags = TW_ROW_PUT,
                                 .version = 1,
                                 .db = TW_STR("main"),
                                 .coll = TW_STR("docs"),
                                 .doc = doc};
        assert_int_equal(tw_key_of_value(&arena, tw_bson_get(doc, TW_STR("_id")), &row->key),
                         TW_OK);
    }
    tw_reply(self->actor, route, TW_MSG_log_rows,
             &(tw_msg_log_rows){.srv = LOG, .head = ROWS, .upto = ROWS, .rows = {rows, ROWS}});
    tw_arena_fini(&arena);
    tw_buf_fini(&text);
}

static void on_look(void *arg, uint64_t tag)
{
    (void)tag;
    double_actor *self = arg;
    while (atomic_load(&self->world->released) && self->asked_count > 0) {
        give_rows(self, &self->asked[--self->asked_count]);
    }
    tw_timer_set(self->actor, tw_now_ms(self->actor) + LOOK_MS, on_look, 0);
}

static tw_err reader_init(void *arg, tw_actor *actor, const void *options)
{
    double_make(arg, actor, options);
    tw_timer_set(actor, tw_now_ms(actor), on_look, 0);
    return TW_OK;
}

static tw_err on_log_read(void *arg, const tw_envelope *in)
{
    double_actor *self = arg;
    assert_int_equal(in->body->log_read.after, 0);
    assert_true(self->asked_count < TW_COUNT(self->asked)); /* each times out */
    self->asked[self->asked_count++] = *in->route;
    return TW_OK;
}

static const tw_handler reader_handlers[] = {[TW_MSG_log_read] = on_log_read};
static const tw_actor_class reader_double = {.name = "log_reader",
                                             .state_size = sizeof(double_actor),
                                             .init = reader_init,
                                             .handlers = reader_handlers,
                                             .handlers_count = TW_COUNT(reader_handlers)};

/* ---- who searches ---- */
static void on_answer(void *arg, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)context;
    (void)tag;
    double_actor *self = arg;
    assert_int_equal(err, TW_OK);
    assert_int_equal(in->id, TW_MSG_search_answer);
    tw_bson result = in->body->search_answer.result;
    atomic_store(&self->world->total, tw_bson_get_i64_or(result, TW_STR("total"), NO_ANSWER));
}

static void on_look_whether_to_ask(void *arg, uint64_t tag)
{
    (void)tag;
    double_actor *self = arg;
    if (!atomic_exchange(&self->world->asks, false)) {
        tw_timer_set(self->actor, tw_now_ms(self->actor) + LOOK_MS, on_look_whether_to_ask, 0);
        return;
    }
    tw_buf text;
    tw_bson_builder b;
    tw_item_search_target target = {.db = TW_STR("main"), .coll = TW_STR("docs")};
    tw_buf_init(&text, 65536);
    tw_bson_begin(&b, &text);
    tw_bson_add_str(&b, TW_STR("query"), TW_STR("text:green"));
    tw_ask(self->actor, self->link, TW_MSG_search_ask,
           &(tw_msg_search_ask){.function = TW_STR("search"),
                                .targets = {&target, 1},
                                .args = tw_bson_end(&b),
                                .deadline_ms = WAIT_MS},
           WAIT_MS, on_answer, NULL, 0);
    tw_buf_fini(&text);
}

static tw_err asker_init(void *arg, tw_actor *actor, const void *options)
{
    double_make(arg, actor, options);
    ((double_actor *)arg)->link = tw_link(actor, "embedded_search");
    tw_timer_set(actor, tw_now_ms(actor), on_look_whether_to_ask, 0);
    return TW_OK;
}

static const tw_actor_class asker_double = {
    .name = "gateway", .state_size = sizeof(double_actor), .init = asker_init};

/* ---- a world ---- */
/* directory NULL: the index is in memory. */
static void begin_in(world *w, uint32_t fresh_ms, const char *directory)
{
    *w = (world){.catalog = {.magic = CATALOG_MAGIC, .default_database = "main", .embedded = true}};
    w->options = (embedded_search_options){.catalog = &w->catalog,
                                           .directory = directory == NULL ? "" : directory,
                                           .memory = directory == NULL,
                                           .fresh_ms = fresh_ms};
    atomic_store(&w->total, NO_ANSWER);
    assert_int_equal(tw_system_new(&w->system, &(tw_system_options){0}), TW_OK);
    assert_int_equal(tw_system_add(w->system, &store_double, -1, w), TW_OK);
    assert_int_equal(tw_system_add(w->system, &reader_double, 0, w), TW_OK);
    assert_int_equal(tw_system_add(w->system, &embedded_search_class, -1, &w->options), TW_OK);
    assert_int_equal(tw_system_add(w->system, &asker_double, -1, w), TW_OK);
    assert_int_equal(tw_system_start(w->system, NULL), TW_OK);
    const char *base = tw_system_base(w->system);
    assert_int_equal(tw_caller_open(&w->search, base, "embedded_search", WAIT_MS), TW_OK);
}

static void begin(world *w, uint32_t fresh_ms)
{
    begin_in(w, fresh_ms, NULL);
}

static void end(world *w)
{
    tw_caller_close(&w->search);
    tw_system_stop(w->system, 0);
    tw_system_free(&w->system);
}

static int64_t now_s(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return now.tv_sec;
}

/* Asks again until it is so. */
static void await_gauge(world *w, const char *name, int64_t wanted)
{
    int64_t until_s = now_s() + WAIT_MS / 1000;
    while (gauge_of(w->search, name) != wanted) {
        assert_true(now_s() < until_s);
    }
}

static int64_t await_total(const world *w)
{
    int64_t until_s = now_s() + WAIT_MS / 1000;
    while (atomic_load(&w->total) == NO_ANSWER) {
        assert_true(now_s() < until_s);
    }
    return atomic_load(&w->total);
}

static void test_search_waits_for_what_was_published_before_it(void **unused)
{
    (void)unused;
    world w;
    begin(&w, WAIT_MS);
    await_gauge(&w, "index_behind_rows", ROWS);
    atomic_store(&w.asks, true);
    await_gauge(&w, "search_running", 1); /* one that did not wait would not be seen */
    assert_int_equal(gauge_of(w.search, "index_behind_rows"), ROWS);
    assert_int_equal(atomic_load(&w.total), NO_ANSWER);
    atomic_store(&w.released, true);
    await_gauge(&w, "search_answered_total", 1);
    assert_int_equal(await_total(&w), ROWS);
    end(&w);
}

static void test_search_waits_no_longer_than_its_bound(void **unused)
{
    (void)unused;
    world w;
    begin(&w, 1);
    await_gauge(&w, "index_behind_rows", ROWS);
    atomic_store(&w.asks, true);
    await_gauge(&w, "search_answered_total", 1);
    assert_int_equal(await_total(&w), 0); /* what is there: nothing, as no row has come */
    assert_int_equal(gauge_of(w.search, "index_behind_rows"), ROWS);
    end(&w);
}

static void remove_directory(const char *directory)
{
    static const char *const files[] = {"search.db", "search.db-wal", "search.db-shm"};
    for (size_t i = 0; i < TW_COUNT(files); i++) {
        char path[128];
        tw_format(path, sizeof path, "%s/%s", directory, files[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(directory), 0);
}

/* No file may grow: what a full disk is to SQLite. */
static void test_full_disk_is_waited_for_and_health_is_green_with_the_first_write(void **unused)
{
    (void)unused;
    world w;
    struct rlimit before;
    char health[512];
    char directory[] = "/tmp/embedded-search-test-XXXXXX";
    assert_non_null(mkdtemp(directory));
    begin_in(&w, 1, directory);
    await_gauge(&w, "index_behind_rows", ROWS);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, before.rlim_max}), 0);
    atomic_store(&w.released, true);
    await_gauge(&w, "index_waits_for_room", 1);
    tw_system_health(w.system, health, sizeof health);
    assert_non_null(strstr(health, "embedded_search: the index waits for room: search.db: "));
    atomic_store(&w.asks, true); /* searches go on */
    await_gauge(&w, "search_answered_total", 1);
    assert_int_equal(await_total(&w), 0);
    assert_int_equal(gauge_of(w.search, "index_behind_rows"), ROWS);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    await_gauge(&w, "index_behind_rows", 0);
    tw_system_health(w.system, health, sizeof health);
    assert_string_equal(health, "");
    assert_int_equal(gauge_of(w.search, "index_waits_for_room"), 0);
    assert_int_equal(gauge_of(w.search, "index_documents"), ROWS);    /* each once */
    assert_int_equal(gauge_of(w.search, "search_answered_total"), 1); /* it is the same life */
    end(&w);
    remove_directory(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_waits_for_what_was_published_before_it),
        cmocka_unit_test(test_search_waits_no_longer_than_its_bound),
        cmocka_unit_test(test_full_disk_is_waited_for_and_health_is_green_with_the_first_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
