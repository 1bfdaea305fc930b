/* log_store_test.c - what must hold around the file: locks, copies, damage, numbers, the ring. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "protocol/fault.h"

#include "actors/log/log_cursor.h"
#include "actors/log/log_store_priv.h"

enum { NOW_MS = 1000000, WHY = 1024 };

typedef struct fixture {
    char directory[64];
    char why[WHY];
    log_store *log;
    uint64_t srv;
} fixture;

static void open_log(fixture *f)
{
    const log_store_options options = {.directory = f->directory};
    assert_int_equal(log_store_new(&f->log), TW_OK);
    assert_int_equal(log_store_open(f->log, &options, NOW_MS, f->why, WHY), TW_OK);
    f->srv = log_index_origin(log_store_index(f->log), LOG_ORIGIN_OWN)->srv;
}

static void close_log(fixture *f)
{
    log_store_close(f->log);
    log_store_free(&f->log);
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    tw_format(f->directory, sizeof f->directory, "/tmp/log-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    open_log(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    close_log(f);
    char command[128];
    tw_format(command, sizeof command, "rm -r %s", f->directory);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* Puts a document of len bytes under a key. */
static tw_err put(fixture *f, uint8_t key, size_t len, uint8_t fill)
{
    static uint8_t bytes[100000];
    assert_true(len <= sizeof bytes);
    memset(bytes, fill, len);
    uint8_t key_bytes[2] = {8, key};
    log_row row = {.flags = TW_ROW_PUT | TW_ROW_LAST,
                   .origin = LOG_ORIGIN_OWN,
                   .key = {key_bytes, 2},
                   .doc = {bytes, len}};
    assert_int_equal(
        log_store_collection(f->log, TW_STR("d"), TW_STR("c"), TW_STR(""), true, &row.coll), TW_OK);
    log_current current = log_store_current(f->log, row.coll, row.key);
    row.prev = current.n;
    row.ver = current.ver + 1;
    assert_int_equal(log_store_prepare(f->log, &row, (tw_bson){0}), TW_OK);
    tw_err err = log_store_commit(f->log, NOW_MS);
    if (err == TW_OK) {
        log_store_clear(f->log);
    } else {
        log_store_undo(f->log, 0);
    }
    return err;
}

static uint64_t rows_of(const fixture *f)
{
    return log_index_figures(log_store_index(f->log)).rows;
}

static void path_of(const fixture *f, const char *name, char *out, size_t size)
{
    tw_format(out, size, "%s/%s", f->directory, name);
}

static void flip(const char *path, off_t from_end)
{
    int file = open(path, O_RDWR);
    assert_true(file >= 0);
    off_t at = lseek(file, 0, SEEK_END) - from_end;
    uint8_t byte;
    assert_int_equal(pread(file, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(file, &byte, 1, at), 1);
    close(file);
}

static void test_second_process_is_refused_with_the_holders_pid(void **state)
{
    fixture *f = *state;
    log_store *other;
    const log_store_options options = {.directory = f->directory};
    assert_int_equal(log_store_new(&other), TW_OK);
    assert_int_equal(log_store_open(other, &options, NOW_MS, f->why, WHY), TW_E_BUSY);
    char pid[32];
    tw_format(pid, sizeof pid, "process %d", (int)getpid());
    assert_non_null(strstr(f->why, pid));
    log_store_free(&other);
}

static void test_reopened_log_keeps_srv_rows_and_numbers(void **state)
{
    fixture *f = *state;
    for (uint8_t i = 0; i < 10; i++) {
        assert_int_equal(put(f, i % 3, 100, i), TW_OK);
    }
    uint64_t srv = f->srv;
    close_log(f);
    open_log(f);
    assert_string_equal(f->why, "");
    assert_int_equal(f->srv, srv);
    assert_int_equal(rows_of(f), 10);
    assert_int_equal(log_index_head(log_store_index(f->log)), 10);
    assert_int_equal(log_index_figures(log_store_index(f->log)).records, 3);
}

static void copy_file(const fixture *f, const char *from, const char *to, bool in_place)
{
    char command[300];
    tw_format(command, sizeof command, "%s %s/%s %s/%s",
              in_place ? "cp -f" : "cp --remove-destination", f->directory, from, f->directory, to);
    assert_int_equal(system(command), 0);
}

static void test_restored_copy_gets_another_srv_id(void **state)
{
    fixture *f = *state;
    assert_int_equal(put(f, 1, 100, 1), TW_OK);
    close_log(f);
    copy_file(f, "log.db", "backup", false);
    open_log(f);
    uint64_t srv = f->srv;
    assert_int_equal(put(f, 2, 100, 1), TW_OK);
    close_log(f);
    copy_file(f, "backup", "log.db", true); /* same inode: the head tells */
    open_log(f);
    assert_int_not_equal(f->srv, srv);
    assert_non_null(strstr(f->why, "copy"));
    srv = f->srv;
    close_log(f);
    copy_file(f, "log.db", "backup", false);
    copy_file(f, "backup", "log.db", false); /* same head: the inode tells */
    open_log(f);
    assert_int_not_equal(f->srv, srv);
}

static void test_flipped_bit_is_found_at_the_start_and_the_rest_kept(void **state)
{
    fixture *f = *state;
    for (uint8_t i = 0; i < 20; i++) {
        assert_int_equal(put(f, i, 200, i), TW_OK);
    }
    uint64_t srv = f->srv;
    close_log(f);
    char path[128];
    path_of(f, "log.db", path, sizeof path);
    int file = open(path, O_RDWR);
    assert_true(file >= 0);
    static uint8_t all[1 << 20];
    ssize_t len = pread(file, all, sizeof all, 0);
    uint8_t wanted[64];
    memset(wanted, 7, sizeof wanted);
    uint8_t *at = memmem(all, (size_t)len, wanted, sizeof wanted);
    assert_non_null(at);
    uint8_t flipped = *at ^ 1;
    assert_int_equal(pwrite(file, &flipped, 1, at - all), 1);
    close(file);
    open_log(f);
    assert_int_not_equal(f->srv, srv);
    assert_non_null(strstr(f->why, "row 8"));
    assert_int_equal(rows_of(f), 19);
    assert_int_equal(log_index_head(log_store_index(f->log)), 20);
    assert_int_equal(log_index_floor(log_store_index(f->log)), 20);
    assert_int_equal(put(f, 99, 10, 1), TW_OK);
    assert_int_equal(log_index_head(log_store_index(f->log)), 21);
}

static void test_cut_file_is_rebuilt_from_what_is_left(void **state)
{
    fixture *f = *state;
    for (uint8_t i = 0; i < 200; i++) {
        assert_int_equal(put(f, i, 3000, i), TW_OK);
    }
    close_log(f);
    char path[128];
    path_of(f, "log.db", path, sizeof path);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(truncate(path, status.st_size * 3 / 4 / 8192 * 8192), 0);
    open_log(f);
    assert_non_null(strstr(f->why, "rebuilt"));
    assert_true(rows_of(f) > 50 && rows_of(f) < 200);
    flip(path, 1); /* the tail of a page: whatever it holds, the next start must not crash */
    close_log(f);
    open_log(f);
}

static void test_damage_that_a_reader_finds_is_told_and_rebuilt(void **state)
{
    fixture *f = *state;
    assert_int_equal(put(f, 1, 50000, 1), TW_OK);
    assert_int_equal(put(f, 2, 100, 2), TW_OK);
    close_log(f);
    char path[128];
    path_of(f, "log.db", path, sizeof path);
    int file = open(path, O_RDWR);
    static uint8_t all[1 << 20];
    ssize_t len = pread(file, all, sizeof all, 0);
    uint8_t wanted[4000];
    memset(wanted, 1, sizeof wanted);
    uint8_t *at = memmem(all, (size_t)len, wanted, sizeof wanted);
    assert_non_null(at);
    uint8_t flipped = 0x55;
    assert_int_equal(pwrite(file, &flipped, 1, at - all + 1000), 1);
    close(file);
    open_log(f);
    assert_string_equal(f->why, ""); /* long bodies are not read at the start */
    uint64_t srv = f->srv;
    log_view view;
    log_row row;
    log_view_init(&view, f->log);
    assert_int_equal(log_view_sync(&view), TW_OK);
    assert_int_equal(log_view_begin(&view), TW_OK);
    assert_int_equal(log_view_read(&view, 2, &row), TW_OK);
    assert_int_equal(log_view_read(&view, 1, &row), TW_E_CORRUPT);
    assert_non_null(strstr(view.why, "row 1"));
    assert_int_equal(log_view_end(&view), TW_OK);
    assert_true(log_store_is_damaged(f->log));
    const log_store_options options = {.directory = f->directory};
    log_store_close(f->log);
    assert_int_equal(log_view_sync(&view), TW_E_UNAVAILABLE);
    assert_int_equal(log_store_open(f->log, &options, NOW_MS, f->why, WHY), TW_OK);
    assert_int_equal(log_view_sync(&view), TW_OK);
    log_view_fini(&view);
    assert_int_not_equal(log_index_origin(log_store_index(f->log), LOG_ORIGIN_OWN)->srv, srv);
    assert_int_equal(rows_of(f), 1);
}

static void test_numbers_are_not_given_twice_after_all_rows_are_swept(void **state)
{
    fixture *f = *state;
    for (uint8_t i = 0; i < 5; i++) {
        assert_int_equal(put(f, 1, 10, i), TW_OK);
    }
    assert_int_equal(log_store_raise_floor(f->log, NOW_MS, 0), TW_OK);
    bool more = true;
    while (more) {
        assert_int_equal(log_store_step(f->log, true, &more), TW_OK);
    }
    assert_int_equal(rows_of(f), 1);
    close_log(f);
    open_log(f);
    assert_int_equal(put(f, 1, 10, 9), TW_OK);
    assert_int_equal(log_index_head(log_store_index(f->log)), 6);
}

static tw_err remove_key(fixture *f, uint8_t key)
{
    uint8_t key_bytes[2] = {8, key};
    log_row row = {
        .flags = TW_ROW_DELETE | TW_ROW_LAST, .origin = LOG_ORIGIN_OWN, .key = {key_bytes, 2}};
    assert_int_equal(
        log_store_collection(f->log, TW_STR("d"), TW_STR("c"), TW_STR(""), false, &row.coll),
        TW_OK);
    log_current current = log_store_current(f->log, row.coll, row.key);
    row.prev = current.n;
    row.ver = current.ver + 1;
    assert_int_equal(log_store_prepare(f->log, &row, (tw_bson){0}), TW_OK);
    tw_err err = log_store_commit(f->log, NOW_MS);
    log_store_clear(f->log);
    return err;
}

/* The suffix rule: the version stands among living rows, its tombstone among dead ones. */
static void test_swept_tombstone_does_not_bring_its_key_back(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 255; i++) {
        assert_int_equal(put(f, (uint8_t)i, 10, 1), TW_OK);
    }
    assert_int_equal(remove_key(f, 7), TW_OK);
    for (int i = 0; i < 400; i++) {
        assert_int_equal(put(f, 255, 10, 1), TW_OK);
    }
    assert_int_equal(log_store_raise_floor(f->log, NOW_MS, 0), TW_OK);
    bool more = true;
    while (more) {
        assert_int_equal(log_store_step(f->log, true, &more), TW_OK);
    }
    assert_true(log_index_figures(log_store_index(f->log)).swept > 200);
    close_log(f);
    open_log(f);
    assert_int_equal(log_index_figures(log_store_index(f->log)).records, 255);
    assert_int_equal(put(f, 7, 10, 1), TW_OK);
    uint8_t key_bytes[2] = {8, 7};
    assert_int_equal(log_store_current(f->log, 1, (tw_key){key_bytes, 2}).ver, 3);
}

static void test_kill_at_each_point_keeps_what_was_committed(void **state)
{
    fixture *f = *state;
    static const char *const points[] = {"store_before_begin:1", "store_after_insert:1",
                                         "store_before_commit:1", "store_after_commit:1"};
    uint64_t srv = f->srv;
    uint64_t head = 0;
    close_log(f);
    for (size_t i = 0; i < TW_COUNT(points); i++) {
        pid_t child = fork();
        if (child == 0) {
            open_log(f);
            (void)!put(f, 1, 100, 1);
            tw_fault_arm(points[i]);
            (void)!put(f, 2, 100, 1);
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        open_log(f);
        head += i == TW_COUNT(points) - 1 ? 2 : 1;
        assert_int_equal(log_index_head(log_store_index(f->log)), head);
        assert_int_equal(f->srv, srv);
        close_log(f);
    }
    open_log(f);
}

/* A rebuild that is killed anywhere is gone on with by the next start: no good row is lost. */
static void test_kill_in_a_rebuild_loses_no_good_row(void **state)
{
    fixture *f = *state;
    static const char *const points[] = {"store_rebuild_copy:1",  "store_rebuild_copy:150",
                                         "store_rebuild_made:1",  "store_rebuild_ready:1",
                                         "store_rebuild_aside:1", "store_rebuild_aside:2",
                                         "store_rebuild_aside:3", "store_rebuild_aside:4"};
    for (uint8_t i = 0; i < 200; i++) {
        assert_int_equal(put(f, i, 300, i), TW_OK);
    }
    char path[128];
    path_of(f, "log.db", path, sizeof path);
    uint64_t srv = f->srv;
    uint64_t rows = 200;
    for (size_t i = 0; i < TW_COUNT(points); i++) {
        close_log(f);
        int file = open(path, O_RDWR);
        assert_true(file >= 0);
        static uint8_t all[1 << 20];
        ssize_t len = pread(file, all, sizeof all, 0);
        uint8_t wanted[64];
        memset(wanted, (int)(10 + 7 * i), sizeof wanted);
        uint8_t *at = memmem(all, (size_t)len, wanted, sizeof wanted);
        assert_non_null(at);
        while (at != NULL) { /* the row, and what a page that was split has left of it */
            *at ^= 1;
            assert_int_equal(pwrite(file, at, 1, at - all), 1);
            at = memmem(at, (size_t)(all + len - at), wanted, sizeof wanted);
        }
        close(file);
        rows--;
        pid_t child = fork();
        if (child == 0) {
            tw_fault_arm(points[i]);
            open_log(f);
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        open_log(f);
        assert_int_equal(rows_of(f), rows);
        assert_int_equal(log_index_head(log_store_index(f->log)), 200);
        assert_int_not_equal(f->srv, srv);
        srv = f->srv;
    }
}

static void test_configured_srv_id_is_not_taken_again_after_its_log_is_gone(void **state)
{
    fixture *f = *state;
    const log_store_options options = {.directory = f->directory, .srv_id = f->srv};
    char path[128];
    close_log(f);
    path_of(f, "log.db", path, sizeof path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(log_store_new(&f->log), TW_OK);
    assert_int_equal(log_store_open(f->log, &options, NOW_MS, f->why, WHY), TW_OK);
    assert_int_not_equal(log_index_origin(log_store_index(f->log), LOG_ORIGIN_OWN)->srv,
                         options.srv_id);
    assert_non_null(strstr(f->why, "configured"));
}

static void test_ring_wraps_and_gives_only_what_it_has(void **state)
{
    (void)state;
    log_ring ring;
    uint8_t bytes[600];
    tw_bson found;
    assert_int_equal(log_ring_init(&ring, 4096), TW_OK);
    for (uint64_t n = 1; n <= 3000; n++) {
        size_t len = 1 + n * 37 % 500;
        memset(bytes, (int)(n & 0xff), len);
        log_ring_add(&ring, n, (tw_bson){bytes, n % 11 == 0 ? 0 : len});
        for (uint64_t old = n > 40 ? n - 40 : 1; old <= n; old++) {
            if (log_ring_find(&ring, old, &found)) {
                assert_int_equal(found.len, 1 + old * 37 % 500);
                assert_int_equal(found.ptr[0], old & 0xff);
                assert_int_equal(found.ptr[found.len - 1], old & 0xff);
            }
        }
        assert_true(n % 11 == 0 || log_ring_find(&ring, n, &found));
    }
    log_ring_fini(&ring);
}

/* Remembers count ids that begin with this number, by a commit of their own. */
static void remember(fixture *f, uint32_t first, uint32_t count, uint64_t unix_ms)
{
    static char texts[LOG_PREPARED_MAX][16];
    for (uint32_t i = 0; i < count; i++) {
        size_t len = tw_format(texts[i], sizeof texts[i], "id-%u", first + i);
        const log_opid opid = {.id = {texts[i], len}, .seqno = first + i, .count = 1};
        assert_int_equal(log_store_remember(f->log, &opid), TW_OK);
    }
    assert_int_equal(log_store_commit(f->log, unix_ms), TW_OK);
    log_store_clear(f->log);
}

/* What an id did; 0: it is not known. */
static uint64_t seqno_of(fixture *f, uint32_t number)
{
    char text[16];
    size_t len = tw_format(text, sizeof text, "id-%u", number);
    tw_arena arena;
    tw_arena_init(&arena, 4096);
    tw_err err;
    const log_opid *found = log_store_find_opid(f->log, &arena, (tw_str){text, len}, &err);
    assert_int_equal(err, TW_OK);
    uint64_t seqno = found == NULL ? 0 : found->seqno;
    tw_arena_fini(&arena);
    return seqno;
}

static void test_opids_are_known_before_and_after_the_commit_and_a_restart(void **state)
{
    fixture *f = *state;
    remember(f, 1, 100, NOW_MS);
    remember(f, 1000, 1, NOW_MS);
    const log_opid kept = {.id = TW_STR("id-7000"), .seqno = 7000};
    const log_opid undone = {.id = TW_STR("id-7001"), .seqno = 7001};
    assert_int_equal(log_store_remember(f->log, &kept), TW_OK);
    assert_int_equal(log_store_remember(f->log, &undone), TW_OK);
    assert_int_equal(seqno_of(f, 7001), 7001);
    log_store_forget(f->log, 1);
    assert_int_equal(seqno_of(f, 7001), 0);
    assert_int_equal(seqno_of(f, 7000), 7000);
    assert_int_equal(log_store_commit(f->log, NOW_MS), TW_OK);
    log_store_clear(f->log);
    for (int life = 0; life < 2; life++) {
        for (uint32_t i = 1; i <= 100; i++) {
            assert_int_equal(seqno_of(f, i), i);
        }
        assert_int_equal(seqno_of(f, 1000), 1000);
        assert_int_equal(seqno_of(f, 7000), 7000);
        assert_int_equal(seqno_of(f, 7001), 0);
        close_log(f);
        open_log(f);
    }
}

static void test_opids_that_are_old_or_too_many_are_forgotten(void **state)
{
    fixture *f = *state;
    remember(f, 1, 1, NOW_MS);
    for (uint32_t first = 10; first < 40; first++) {
        remember(f, first, 1, NOW_MS);
    }
    uint32_t next = 100;
    while (f->log->known.count + TW_BATCH_ROWS_MAX <= TW_OPIDS_MAX) {
        remember(f, next, TW_BATCH_ROWS_MAX, NOW_MS + 1);
        next += TW_BATCH_ROWS_MAX;
    }
    assert_int_equal(seqno_of(f, 1), 1);
    remember(f, next, TW_BATCH_ROWS_MAX, NOW_MS + 2); /* the small groups go, and a large one */
    assert_true(f->log->known.count <= TW_OPIDS_MAX);
    assert_int_equal(seqno_of(f, 1), 0);
    assert_int_equal(seqno_of(f, 39), 0);
    assert_int_equal(seqno_of(f, 100), 0);
    assert_int_equal(seqno_of(f, 100 + TW_BATCH_ROWS_MAX), 100 + TW_BATCH_ROWS_MAX);
    assert_int_equal(seqno_of(f, next), next);
    uint64_t age_ms = TW_OPID_AGE_S * 1000ULL;
    for (int ticks = 0; ticks < 10; ticks++) {
        assert_int_equal(log_store_tick(f->log, NOW_MS + 2 + age_ms), TW_OK);
    }
    assert_int_equal(seqno_of(f, 100 + TW_BATCH_ROWS_MAX), 0);
    assert_int_equal(seqno_of(f, next), next);
    assert_int_equal(f->log->known.count, TW_BATCH_ROWS_MAX);
    close_log(f);
    open_log(f);
    assert_int_equal(seqno_of(f, next), next);
    assert_int_equal(f->log->known.count, TW_BATCH_ROWS_MAX);
}

static void test_opids_whose_rows_are_kept_outlive_a_rebuild(void **state)
{
    fixture *f = *state;
    for (uint8_t i = 0; i < 5; i++) {
        assert_int_equal(put(f, i, 100, i), TW_OK);
    }
    remember(f, 1, 3, NOW_MS);
    remember(f, 100, 2, NOW_MS); /* no rows have these numbers */
    remember(f, 4, 1, NOW_MS);
    uint64_t srv = f->srv;
    log_store_report_damage(f->log);
    log_store_close(f->log);
    const log_store_options options = {.directory = f->directory};
    assert_int_equal(log_store_open(f->log, &options, NOW_MS, f->why, WHY), TW_OK);
    f->srv = log_index_origin(log_store_index(f->log), LOG_ORIGIN_OWN)->srv;
    assert_int_not_equal(f->srv, srv);
    for (uint32_t i = 1; i <= 4; i++) {
        assert_int_equal(seqno_of(f, i), i);
    }
    assert_int_equal(seqno_of(f, 100), 0);
    remember(f, 200, 1, NOW_MS);
    close_log(f);
    open_log(f);
    assert_string_equal(f->why, ""); /* its groups are without a hole again */
    assert_int_equal(seqno_of(f, 4), 4);
    assert_int_equal(seqno_of(f, 200), 200);
}

static void test_group_of_opids_that_is_missing_is_damage(void **state)
{
    fixture *f = *state;
    char path[128];
    log_table *table;
    for (uint32_t i = 1; i <= 3; i++) {
        remember(f, i, 1, NOW_MS);
    }
    uint64_t srv = f->srv;
    close_log(f);
    path_of(f, "log.db", path, sizeof path);
    assert_int_equal(log_table_open(&table, path, LOG_TABLE_WRITER, f->why, WHY), TW_OK);
    assert_int_equal(log_table_begin(table), TW_OK);
    assert_int_equal(log_table_forget_opids(table, 2), TW_OK);
    assert_int_equal(log_table_commit(table), TW_OK);
    log_table_close(&table);
    open_log(f);
    assert_non_null(strstr(f->why, "operation ids"));
    assert_int_not_equal(f->srv, srv);
}

/* A later program's file must not be taken for one of ours, nor changed. */
static void test_log_of_a_later_format_is_refused_untouched(void **state)
{
    fixture *f = *state;
    enum { VERSION_AT = 60 }; /* user_version in SQLite's header, four bytes, the highest first */
    static const uint8_t later[4] = {0, 0, 0, 2}, ours[4] = {0, 0, 0, 1};
    char path[128];
    uint64_t srv = f->srv;
    remember(f, 1, 1, NOW_MS);
    close_log(f);
    path_of(f, "log.db", path, sizeof path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, later, sizeof later, VERSION_AT), sizeof later);
    assert_int_equal(log_store_new(&f->log), TW_OK);
    const log_store_options options = {.directory = f->directory};
    assert_int_equal(log_store_open(f->log, &options, NOW_MS, f->why, WHY), TW_E_UNSUPPORTED);
    assert_non_null(strstr(f->why, "is of format 2, of a later tidewire"));
    close_log(f);
    assert_int_equal(pwrite(fd, ours, sizeof ours, VERSION_AT), sizeof ours);
    close(fd);
    open_log(f);
    assert_string_equal(f->why, "");
    assert_int_equal(f->srv, srv);
    assert_int_equal(seqno_of(f, 1), 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_second_process_is_refused_with_the_holders_pid),
        T(test_reopened_log_keeps_srv_rows_and_numbers),
        T(test_restored_copy_gets_another_srv_id),
        T(test_flipped_bit_is_found_at_the_start_and_the_rest_kept),
        T(test_cut_file_is_rebuilt_from_what_is_left),
        T(test_damage_that_a_reader_finds_is_told_and_rebuilt),
        T(test_numbers_are_not_given_twice_after_all_rows_are_swept),
        T(test_swept_tombstone_does_not_bring_its_key_back),
        T(test_kill_at_each_point_keeps_what_was_committed),
        T(test_kill_in_a_rebuild_loses_no_good_row),
        T(test_configured_srv_id_is_not_taken_again_after_its_log_is_gone),
        T(test_opids_are_known_before_and_after_the_commit_and_a_restart),
        T(test_opids_that_are_old_or_too_many_are_forgotten),
        T(test_opids_whose_rows_are_kept_outlive_a_rebuild),
        T(test_group_of_opids_that_is_missing_is_damage),
        T(test_log_of_a_later_format_is_refused_untouched),
        cmocka_unit_test(test_ring_wraps_and_gives_only_what_it_has),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
