/* log_fault_test.c - the disk fails under the log: the n-th write, sync and allocation for all n up
 * to a clean run, and power cuts at any moment. Nothing acknowledged is lost, nothing is there
 * twice, nothing leaks. TIDEWIRE_FAULT_IMAGES: crash images (default 300). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/log/log_cursor.h"
#include "actors/log/log_store_priv.h"
#include "tests/support/fault_vfs.h"

enum {
    ROWS_MAX = 2000,
    COMMITS = 14,         /* of a run of the sweep */
    COMMITS_REPLAY = 120, /* of the recording */
    SWEEP_ALL = 120,      /* each n up to here, then each seventh */
    WHY = 1024,
};

typedef struct fault_run {
    char directory[64], why[WHY];
    log_store *log;
    uint64_t wrote;              /* values handed out: each is written once, under its own key */
    bool acked[ROWS_MAX];        /* by value */
    uint64_t acked_at[ROWS_MAX]; /* events recorded when it was answered */
    uint64_t asked_at[ROWS_MAX];
    uint64_t now_ms;
} fault_run;

static void set_up(fault_run *self)
{
    *self = (fault_run){.now_ms = 1000000};
    /* in memory where there is such a place: a sync costs nothing there, and is none of the test */
    tw_format(self->directory, sizeof self->directory, "%s/log-fault-XXXXXX",
              access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(self->directory));
    assert_int_equal(log_store_new(&self->log), TW_OK);
}

static void tear_down(fault_run *self)
{
    log_store_close(self->log);
    log_store_free(&self->log);
    char command[128];
    tw_format(command, sizeof command, "rm -r %s", self->directory);
    assert_int_equal(system(command), 0);
}

static tw_err open_log(fault_run *self)
{
    const log_store_options options = {.directory = self->directory};
    return log_store_open(self->log, &options, self->now_ms, self->why, WHY);
}

/* Opens as the supervisor does: again after an error. */
static void open_again(fault_run *self)
{
    tw_err err = TW_E_INTERNAL;
    for (int i = 0; i < 3 && err != TW_OK; i++) {
        log_store_close(self->log);
        err = open_log(self);
    }
    assert_int_equal(err, TW_OK);
}

/* One commit of count rows, each a key of its own, and one that all share. */
static tw_err write_rows(fault_run *self, size_t count)
{
    static uint8_t docs[16][9000];
    static uint8_t keys[16][8];
    tw_err err = TW_OK;
    uint64_t first = self->wrote;
    for (size_t i = 0; err == TW_OK && i < count; i++) {
        bool is_shared = i + 1 == count;
        uint64_t value = self->wrote++;
        assert_true(self->wrote < ROWS_MAX);
        self->asked_at[value] = fault_vfs_events();
        size_t len = value % 9 == 0 ? sizeof docs[0] : 20 + value * 37 % 700;
        memset(docs[i], (int)(value & 0xff), len);
        memcpy(docs[i], &value, sizeof value);
        uint64_t named = is_shared ? UINT32_MAX : value;
        memcpy(keys[i], &named, sizeof named);
        log_row row = {.flags = TW_ROW_PUT, .origin = LOG_ORIGIN_OWN, .key = {keys[i], 8}};
        row.doc = (tw_bson){docs[i], len};
        err =
            log_store_collection(self->log, TW_STR("d"), TW_STR("c"), TW_STR(""), true, &row.coll);
        if (err == TW_OK) {
            log_current current = log_store_current(self->log, row.coll, row.key);
            row.prev = current.n;
            row.ver = current.ver + 1;
            err = log_store_prepare(self->log, &row, (tw_bson){0});
        }
    }
    log_store_seal(self->log, 0);
    if (err == TW_OK) {
        err = log_store_commit(self->log, self->now_ms);
    }
    self->now_ms += 400;
    if (err == TW_OK) {
        log_store_clear(self->log);
        for (uint64_t value = first; value < self->wrote; value++) {
            self->acked[value] = true;
            self->acked_at[value] = fault_vfs_events();
        }
    } else if (err == TW_E_DISK) {
        log_store_undo(self->log, 0);
    }
    return err;
}

/* What the store does between commits. */
static tw_err tend(fault_run *self, size_t turn)
{
    tw_err err = turn % 3 == 2 ? log_table_checkpoint(self->log->table, turn % 2 == 0) : TW_OK;
    bool more = true;
    if (err == TW_OK && turn % 5 == 4) {
        err = log_store_raise_floor(self->log, self->now_ms, 8);
    }
    for (int i = 0; err == TW_OK && more && i < 4; i++) {
        err = log_store_step(self->log, true, &more);
    }
    return err == TW_OK && turn % 4 == 3 ? log_store_tick(self->log, self->now_ms) : err;
}

/* All that is there was written once; all that was acknowledged (before an event) is there, but for
 * versions of the shared key that the log may have swept. */
static void check(fault_run *self, uint64_t event)
{
    static unsigned found[ROWS_MAX];
    memset(found, 0, sizeof found);
    log_view view;
    log_view_init(&view, self->log);
    assert_int_equal(log_view_sync(&view), TW_OK);
    assert_int_equal(log_view_begin(&view), TW_OK);
    const log_index *index = log_store_index(self->log);
    for (uint64_t n = log_index_next(index, 0); n != UINT64_MAX; n = log_index_next(index, n)) {
        log_row row;
        uint64_t value;
        assert_int_equal(log_view_read(&view, n, &row), TW_OK);
        memcpy(&value, row.doc.ptr, sizeof value);
        assert_true(value < self->wrote);
        assert_true(self->asked_at[value] <= event);
        for (size_t i = sizeof value; i < row.doc.len; i++) {
            assert_int_equal(row.doc.ptr[i], value & 0xff);
        }
        found[value]++;
        assert_int_equal(found[value], 1);
        bool is_newest = !log_index_superseded(index, n);
        found[value] = is_newest ? 1 : 2;
    }
    assert_int_equal(log_view_end(&view), TW_OK);
    log_view_fini(&view);
    uint64_t shared = 0;
    for (uint64_t value = 0; value < self->wrote; value++) {
        bool is_due = self->acked[value] && self->acked_at[value] <= event;
        uint8_t key[8];
        uint64_t named = value;
        memcpy(key, &named, sizeof key);
        if (is_due && found[value] == 0) {
            shared++; /* only an older version of the shared key may be gone */
            assert_int_equal(log_store_current(self->log, 1, (tw_key){key, 8}).n, 0);
        }
    }
    assert_true(shared <= log_index_figures(log_store_index(self->log)).swept + self->wrote);
    uint8_t key[8];
    uint64_t named = UINT32_MAX;
    memcpy(key, &named, sizeof key);
    uint64_t newest = log_store_current(self->log, 1, (tw_key){key, 8}).n;
    for (uint64_t value = self->wrote; value > 0; value--) { /* and never its newest */
        if (self->acked[value - 1] && self->acked_at[value - 1] <= event) {
            assert_true(newest > 0 && found[value - 1] != 0);
            break;
        }
    }
}

/* A run with one fault; true when the fault was met. */
static bool run_with(fault_vfs_kind kind, uint64_t n, bool is_own_alloc)
{
    static fault_run self;
    set_up(&self);
    fault_vfs_arm(is_own_alloc ? FAULT_VFS_NONE : kind, n);
    uint64_t before = tw_alloc_count();
    tw_alloc_fail_at(is_own_alloc ? n : 0);
    if (open_log(&self) != TW_OK) {
        open_again(&self);
    }
    for (size_t i = 0; i < COMMITS; i++) {
        tw_err err = write_rows(&self, 1 + i % 7);
        if (err == TW_OK) {
            err = tend(&self, i);
        }
        if (err != TW_OK && err != TW_E_DISK) {
            open_again(&self);
        }
    }
    bool is_met = is_own_alloc ? tw_alloc_count() - before >= n : fault_vfs_fired();
    tw_alloc_fail_at(0);
    fault_vfs_arm(FAULT_VFS_NONE, 0);
    uint64_t srv = log_index_origin(log_store_index(self.log), LOG_ORIGIN_OWN)->srv;
    log_store_close(self.log);
    assert_int_equal(open_log(&self), TW_OK);
    assert_int_equal(log_index_origin(log_store_index(self.log), LOG_ORIGIN_OWN)->srv, srv);
    check(&self, UINT64_MAX);
    tear_down(&self);
    return is_met;
}

static void sweep(fault_vfs_kind kind, bool is_own_alloc)
{
    uint64_t n = 1;
    while (run_with(kind, n, is_own_alloc)) {
        n += n < SWEEP_ALL ? 1 : 7;
    }
    assert_true(n > 5);
}

static void test_failed_write_acknowledges_nothing(void **state)
{
    (void)state;
    sweep(FAULT_VFS_WRITE, false);
}

static void test_full_disk_acknowledges_nothing(void **state)
{
    (void)state;
    sweep(FAULT_VFS_FULL, false);
}

static void test_failed_sync_acknowledges_nothing(void **state)
{
    (void)state;
    sweep(FAULT_VFS_SYNC, false);
}

static void test_failed_allocation_of_sqlite_acknowledges_nothing(void **state)
{
    (void)state;
    sweep(FAULT_VFS_ALLOC, false);
}

static void test_failed_allocation_of_the_log_acknowledges_nothing(void **state)
{
    (void)state;
    sweep(FAULT_VFS_NONE, true);
}

/* RELIABILITY: unsynced sectors kept, lost, torn. */
static void test_power_cut_at_any_event_keeps_what_was_acknowledged(void **state)
{
    (void)state;
    static fault_run self, cut;
    const char *given = getenv("TIDEWIRE_FAULT_IMAGES");
    uint64_t images = 300;
    if (given != NULL) {
        assert_int_equal(tw_parse_u64(tw_str_of(given), UINT32_MAX, &images), TW_OK);
    }
    set_up(&self);
    fault_vfs_record(self.directory);
    assert_int_equal(open_log(&self), TW_OK);
    size_t first = fault_vfs_events();
    for (size_t i = 0; i < COMMITS_REPLAY; i++) {
        assert_int_equal(write_rows(&self, 1 + i % 7), TW_OK);
        assert_int_equal(tend(&self, i), TW_OK);
    }
    size_t events = fault_vfs_events();
    for (uint64_t i = 0; i < images; i++) {
        size_t at = first + (size_t)(i * 7919 % (events - first));
        set_up(&cut);
        fault_vfs_image(at, i + 1, cut.directory);
        assert_int_equal(open_log(&cut), TW_OK);
        if (strstr(cut.why, "rebuilt") != NULL) {
            fail_msg("image %llu at event %zu: %s", (unsigned long long)i, at, cut.why);
        }
        log_store *live = self.log;
        self.log = cut.log;
        check(&self, at);
        self.log = live;
        tear_down(&cut);
    }
    fault_vfs_record(NULL);
    tear_down(&self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failed_write_acknowledges_nothing),
        cmocka_unit_test(test_full_disk_acknowledges_nothing),
        cmocka_unit_test(test_failed_sync_acknowledges_nothing),
        cmocka_unit_test(test_failed_allocation_of_sqlite_acknowledges_nothing),
        cmocka_unit_test(test_failed_allocation_of_the_log_acknowledges_nothing),
        cmocka_unit_test(test_power_cut_at_any_event_keeps_what_was_acknowledged),
    };
    fault_vfs_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
