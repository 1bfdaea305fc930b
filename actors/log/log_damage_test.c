/* log_damage_test.c - damaged files: nothing false is served, and nobody's position means another
 * history than the one it was given in.
 *
 * Each run, from a seed: a process writes a log (versions, tombstones, long bodies, operation ids,
 * checkpoints, floors, sweeps) and is killed; a file is damaged; a second process opens the log,
 * holds it against what was written, writes 100 records, is killed; a third one reads as clients
 * do that were there before. TIDEWIRE_DAMAGE_RUNS: runs (default 150). TIDEWIRE_DAMAGE_SEED: one
 * run alone, which says what it did. */
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

#include "actors/log/log_cursor.h"
#include "actors/log/log_store_priv.h"

enum {
    KEYS = 60,
    NEW_KEYS = 100, /* written after the damage, under keys of their own */
    KEYS_ALL = KEYS + NEW_KEYS,
    COMMITS_MAX = 90,
    ROWS_MAX = 8,
    PAGE = 8192,
    LONG_BODY = 20000,
    NOW_MS = 1000000,
    WHY = 1024,
};

typedef struct damage_op {
    uint8_t key;
    bool deletes;
    uint32_t value; /* in the document; 0: a tombstone */
    uint32_t len;
} damage_op;

typedef struct damage_state { /* of each key: value of its document, 0 = none */
    uint32_t values[KEYS_ALL];
    uint32_t lens[KEYS_ALL];
} damage_state;

typedef struct damage_run {
    uint64_t seed, random;
    bool tells;
    char directory[64], why[WHY];
    damage_op ops[COMMITS_MAX * ROWS_MAX + NEW_KEYS + 1]; /* by n */
    size_t commit_rows[COMMITS_MAX];
    uint8_t commit_then[COMMITS_MAX]; /* what follows the commit */
    size_t commits;
    uint64_t head;
    damage_state truth;
    uint64_t client_at; /* position of a client from before the damage */
    /* found by the second process, read by the third */
    uint64_t srv_before, srv_after;
    log_store *log;
    tw_arena arena;
} damage_run;

enum { THEN_NOTHING, THEN_CHECKPOINT, THEN_TRIM, THEN_TICK, THEN_BACKUP };

/* In a child: says what is wrong and ends it. */
#define CHECK(self, condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "seed %llu, line %d: %s (%s)\n", (unsigned long long)(self)->seed,     \
                    __LINE__, #condition, (self)->why);                                            \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static uint64_t draw(damage_run *self, uint64_t below)
{
    self->random ^= self->random << 13;
    self->random ^= self->random >> 7;
    self->random ^= self->random << 17;
    return self->random % below;
}

/* ---- the first process ---- */

static void plan(damage_run *self)
{
    self->commits = 20 + draw(self, COMMITS_MAX - 20);
    size_t backup_at = draw(self, self->commits / 2);
    for (size_t i = 0; i < self->commits; i++) {
        self->commit_rows[i] = 1 + draw(self, ROWS_MAX);
        for (size_t k = 0; k < self->commit_rows[i]; k++) {
            damage_op *op = &self->ops[++self->head];
            *op = (damage_op){.key = (uint8_t)draw(self, KEYS), .value = (uint32_t)self->head};
            op->deletes = draw(self, 8) == 0;
            op->len = (uint32_t)(draw(self, 25) == 0 ? 4097 + draw(self, LONG_BODY - 4097)
                                                     : 4 + draw(self, 600));
            self->truth.values[op->key] = op->deletes ? 0 : op->value;
            self->truth.lens[op->key] = op->deletes ? 0 : op->len;
        }
        uint64_t then = draw(self, 14);
        self->commit_then[i] = then < 1   ? THEN_CHECKPOINT
                               : then < 3 ? THEN_TRIM
                               : then < 5 ? THEN_TICK
                                          : THEN_NOTHING;
        if (i == backup_at) {
            self->commit_then[i] = THEN_BACKUP;
        }
    }
    self->client_at = 1 + draw(self, self->head);
}

static void open_log(damage_run *self)
{
    const log_store_options options = {.directory = self->directory};
    CHECK(self, log_store_new(&self->log) == TW_OK);
    CHECK(self, log_store_open(self->log, &options, NOW_MS, self->why, WHY) == TW_OK);
}

static uint64_t srv_of(damage_run *self)
{
    return log_index_origin(log_store_index(self->log), LOG_ORIGIN_OWN)->srv;
}

static void fill(uint8_t *bytes, const damage_op *op)
{
    memset(bytes, (int)(op->value * 7 & 0xff), op->len);
    memcpy(bytes, &op->value, sizeof op->value);
}

static tw_err prepare(damage_run *self, const damage_op *op)
{
    uint8_t *key = tw_arena_alloc(&self->arena, 2);
    uint8_t *bytes = tw_arena_alloc(&self->arena, op->len);
    CHECK(self, key != NULL && bytes != NULL);
    key[0] = 8;
    key[1] = op->key;
    fill(bytes, op);
    log_row row = {.flags = op->deletes ? TW_ROW_DELETE : TW_ROW_PUT,
                   .origin = LOG_ORIGIN_OWN,
                   .key = {key, 2}};
    row.doc = op->deletes ? row.doc : (tw_bson){bytes, op->len};
    CHECK(self, log_store_collection(self->log, TW_STR("d"), TW_STR("c"), TW_STR("s"), true,
                                     &row.coll) == TW_OK);
    uint8_t scope[2] = {8, op->key % 5};
    CHECK(self, log_store_scope(self->log, (tw_key){scope, 2}, &row.scope) == TW_OK);
    log_current current = log_store_current(self->log, row.coll, row.key);
    row.prev = current.n;
    row.ver = current.ver + 1;
    tw_bson old = {0};
    tw_err err = TW_OK;
    if (current.n != 0 && !current.deleted) {
        err = log_store_document(self->log, &self->arena, current.n, &old);
    }
    return err == TW_OK ? log_store_prepare(self->log, &row, old) : err;
}

static tw_err commit(damage_run *self, const damage_op *ops, size_t count)
{
    tw_err err = TW_OK;
    for (size_t i = 0; err == TW_OK && i < count; i++) {
        err = prepare(self, &ops[i]);
    }
    log_store_seal(self->log, 0);
    char id[32];
    size_t len = tw_format(id, sizeof id, "op-%u", ops[0].value);
    const log_opid opid = {.id = {id, len}, .seqno = ops[0].value, .count = 1};
    if (err == TW_OK) {
        err = log_store_remember(self->log, &opid);
    }
    if (err == TW_OK) {
        err = log_store_commit(self->log, NOW_MS);
    }
    if (err == TW_OK) {
        log_store_clear(self->log);
    }
    tw_arena_reset(&self->arena);
    return err;
}

static void copy_file(const damage_run *self, const char *from, const char *to, const char *how)
{
    char command[300];
    tw_format(command, sizeof command, "cp %s %s/%s %s/%s", how, self->directory, from,
              self->directory, to);
    if (system(command) != 0) {
        fprintf(stderr, "%s failed\n", command);
        _exit(1);
    }
}

static void follow(damage_run *self, unsigned what)
{
    bool more = true;
    switch (what) {
    case THEN_CHECKPOINT:
        CHECK(self, log_table_checkpoint(self->log->table, draw(self, 2) == 0) == TW_OK);
        break;
    case THEN_TRIM:
        CHECK(self, log_store_raise_floor(self->log, NOW_MS, draw(self, 60)) == TW_OK);
        for (uint64_t i = draw(self, 12); more && i > 0; i--) {
            CHECK(self, log_store_step(self->log, true, &more) == TW_OK);
        }
        break;
    case THEN_TICK:
        CHECK(self, log_store_tick(self->log, NOW_MS) == TW_OK);
        break;
    case THEN_BACKUP:
        CHECK(self, log_table_checkpoint(self->log->table, true) == TW_OK);
        copy_file(self, "log.db", "backup", "");
        break;
    default:
        break;
    }
}

static void first_process(damage_run *self)
{
    open_log(self);
    self->srv_before = srv_of(self);
    const damage_op *next = self->ops + 1;
    for (size_t i = 0; i < self->commits; i++) {
        CHECK(self, commit(self, next, self->commit_rows[i]) == TW_OK);
        next += self->commit_rows[i];
        follow(self, self->commit_then[i]);
    }
}

/* ---- damage ---- */

static off_t size_of(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 ? status.st_size : 0;
}

static void overwrite(const char *path, off_t at, const void *bytes, size_t len)
{
    int file = open(path, O_RDWR);
    if (file >= 0) {
        (void)!pwrite(file, bytes, len, at);
        close(file);
    }
}

static void zero_page(damage_run *self, const char *path, off_t header, off_t page)
{
    static const uint8_t zeros[PAGE + 24];
    off_t pages = (size_of(path) - header) / page;
    if (pages > 0) {
        off_t which = (off_t)draw(self, (uint64_t)pages);
        overwrite(path, header + which * page, zeros, (size_t)page);
    }
}

static void flip_bit(damage_run *self, const char *path)
{
    off_t size = size_of(path);
    uint8_t byte = 0;
    int file = open(path, O_RDONLY);
    if (file < 0 || size == 0) {
        close(file);
        return;
    }
    off_t at = (off_t)draw(self, (uint64_t)size);
    (void)!pread(file, &byte, 1, at);
    close(file);
    byte = (uint8_t)(byte ^ 1u << draw(self, 8));
    overwrite(path, at, &byte, 1);
}

static void cut(damage_run *self, const char *path)
{
    off_t size = size_of(path);
    if (size > 0) {
        (void)!truncate(path, (off_t)draw(self, (uint64_t)size));
    }
}

static void garbage(damage_run *self, const char *path, off_t at, size_t len)
{
    static uint8_t bytes[3 * PAGE];
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)draw(self, 256);
    }
    overwrite(path, at, bytes, len);
}

static const char *const damages[] = {
    "none",           "zeroed page", "flipped bit",   "cut file",        "cut wal",
    "garbage header", "restored",    "restored anew", "deleted",         "flipped bit in wal",
    "zeroed frame",   "garbage",     "deleted wal",   "seen is garbage", "restored, no wal",
    "zeroed page",    "flipped bit",
};

static void damage(damage_run *self, size_t which)
{
    char db[96], wal[96], seen[96];
    tw_format(db, sizeof db, "%s/log.db", self->directory);
    tw_format(wal, sizeof wal, "%s/log.db-wal", self->directory);
    tw_format(seen, sizeof seen, "%s/log.seen", self->directory);
    const char *name = damages[which];
    if (strcmp(name, "zeroed page") == 0) {
        zero_page(self, db, 0, PAGE);
    } else if (strcmp(name, "flipped bit") == 0) {
        flip_bit(self, db);
    } else if (strcmp(name, "cut file") == 0) {
        cut(self, db);
    } else if (strcmp(name, "cut wal") == 0) {
        cut(self, wal);
    } else if (strcmp(name, "garbage header") == 0) {
        garbage(self, db, 0, 1 + draw(self, 200));
    } else if (strncmp(name, "restored", 8) == 0) {
        copy_file(self, "backup", "log.db", strstr(name, "anew") ? "--remove-destination" : "-f");
    } else if (strcmp(name, "deleted") == 0) {
        unlink(db);
    } else if (strcmp(name, "flipped bit in wal") == 0) {
        flip_bit(self, wal);
    } else if (strcmp(name, "zeroed frame") == 0) {
        zero_page(self, wal, 32, PAGE + 24);
    } else if (strcmp(name, "garbage") == 0 && size_of(db) > 0) {
        garbage(self, db, (off_t)draw(self, (uint64_t)size_of(db)), 1 + draw(self, 3 * PAGE - 1));
    } else if (strcmp(name, "seen is garbage") == 0) {
        garbage(self, seen, 0, 1 + draw(self, 40));
    }
    if (strstr(name, "deleted wal") != NULL || strstr(name, "no wal") != NULL) {
        unlink(wal);
    }
}

/* ---- what a client is told ---- */

typedef struct damage_client {
    damage_run *run;
    damage_state held;
    unsigned told[KEYS_ALL];
    size_t budget;
} damage_client;

static unsigned meaning(void *context, size_t part, const log_row *row, tw_bson old, uint64_t srv,
                        bool live)
{
    (void)context;
    (void)part;
    (void)srv;
    if (row->doc.len > 0) {
        return TW_MEANS_PUT;
    }
    return live && old.len > 0 ? TW_MEANS_DELETED : 0;
}

static void check_row(damage_run *self, const log_row *row)
{
    CHECK(self, row->key.len == 2 && row->key.ptr[0] == 8 && row->key.ptr[1] < KEYS_ALL);
    if ((row->flags & TW_ROW_PUT) == 0) {
        return;
    }
    uint32_t value = 0;
    CHECK(self, row->doc.len >= sizeof value);
    memcpy(&value, row->doc.ptr, sizeof value);
    CHECK(self, value > 0 && value < TW_COUNT(self->ops));
    const damage_op *op = &self->ops[value];
    uint8_t *bytes = tw_arena_alloc(&self->arena, op->len);
    CHECK(self, bytes != NULL && row->doc.len == op->len && row->key.ptr[1] == op->key);
    fill(bytes, op);
    CHECK(self, memcmp(bytes, row->doc.ptr, op->len) == 0);
}

static bool take(void *context, size_t part, unsigned means, const log_row *row, uint64_t srv)
{
    (void)part;
    (void)srv;
    damage_client *client = context;
    if (client->budget == 0) {
        return false;
    }
    client->budget--;
    check_row(client->run, row);
    uint8_t key = row->key.ptr[1];
    client->told[key]++;
    client->held.values[key] = 0;
    if (means == TW_MEANS_PUT) {
        memcpy(&client->held.values[key], row->doc.ptr, sizeof client->held.values[key]);
    }
    return true;
}

/* Reads up to the head. TW_E_CORRUPT: damage was found (and told to the store). */
static tw_err read_all(damage_run *self, damage_client *client, log_page *page)
{
    log_view view;
    const log_part part = {.db = TW_STR("d"), .name = TW_STR("c"), .scope_field = TW_STR("s")};
    const log_page_taker taker = {.context = client, .meaning = meaning, .take = take};
    log_view_init(&view, self->log);
    tw_err err = log_view_sync(&view);
    client->run = self;
    while (err == TW_OK && page->reset == TW_RESET_NONE && !page->caught_up) {
        client->budget = 1 + draw(self, 40);
        err = log_page_read(&view, &self->arena, &part, 1, &taker, page);
        page->fresh = page->resume = false;
        tw_arena_reset(&self->arena);
    }
    if (err != TW_OK) {
        tw_format(self->why, sizeof self->why, "%s", view.why);
    }
    log_view_fini(&view);
    return err;
}

/* ---- the second process ---- */

/* Every row that the index has is what was written. */
static tw_err read_rows(damage_run *self)
{
    log_view view;
    log_row row;
    log_view_init(&view, self->log);
    tw_err err = log_view_sync(&view);
    if (err == TW_OK) {
        err = log_view_begin(&view);
    }
    for (uint64_t n = log_index_next(log_store_index(self->log), 0); err == TW_OK && n < UINT64_MAX;
         n = log_index_next(log_store_index(self->log), n)) {
        err = log_view_read(&view, n, &row);
        if (err == TW_OK) {
            const damage_op *op = &self->ops[n];
            CHECK(self, row.n == n && n <= self->head);
            CHECK(self, row.key.len == 2 && row.key.ptr[1] == op->key);
            CHECK(self, ((row.flags & TW_ROW_DELETE) != 0) == op->deletes);
            check_row(self, &row);
            tw_arena_reset(&self->arena);
        }
    }
    if (err == TW_OK) {
        err = log_view_end(&view);
    }
    log_view_fini(&view);
    return err;
}

/* What is served under the old srv_id is all that was acknowledged. */
static void check_whole(damage_run *self, const damage_client *fresh)
{
    const log_index *index = log_store_index(self->log);
    CHECK(self, log_index_head(index) == self->head);
    for (uint64_t n = log_index_floor(index) + 1; n <= self->head; n++) {
        CHECK(self, log_index_present(index, n));
    }
    CHECK(self, memcmp(fresh->held.values, self->truth.values, sizeof self->truth.values) == 0);
    tw_arena opid_arena;
    tw_err err;
    tw_arena_init(&opid_arena, 1 << 20);
    uint64_t n = 1;
    for (size_t i = 0; i < self->commits; i++) {
        char id[32];
        size_t len = tw_format(id, sizeof id, "op-%u", self->ops[n].value);
        const log_opid *found =
            log_store_find_opid(self->log, &opid_arena, (tw_str){id, len}, &err);
        CHECK(self, (err == TW_OK && found != NULL && found->seqno == n) || err == TW_E_CORRUPT);
        n += self->commit_rows[i];
    }
    tw_arena_fini(&opid_arena);
}

static damage_client fresh_client(damage_run *self, tw_err *err)
{
    damage_client client = {0};
    log_page page = {.fresh = true};
    *err = read_all(self, &client, &page);
    return client;
}

static void second_process(damage_run *self)
{
    open_log(self);
    if (self->tells) {
        fprintf(stderr, "opened: %s\n", self->why);
    }
    tw_err err = read_rows(self);
    damage_client fresh = {0};
    if (err == TW_OK) {
        fresh = fresh_client(self, &err);
    }
    if (err != TW_OK) {
        CHECK(self, err == TW_E_CORRUPT && log_store_is_damaged(self->log));
        log_store_close(self->log);
        const log_store_options options = {.directory = self->directory};
        CHECK(self, log_store_open(self->log, &options, NOW_MS, self->why, WHY) == TW_OK);
        CHECK(self, srv_of(self) != self->srv_before && self->why[0] != '\0');
        CHECK(self, read_rows(self) == TW_OK);
        fresh = fresh_client(self, &err);
        CHECK(self, err == TW_OK);
    }
    if (srv_of(self) == self->srv_before) {
        check_whole(self, &fresh);
    }
    self->truth = fresh.held; /* what is left of it */
    uint64_t since[2] = {srv_of(self), log_index_head(log_store_index(self->log))};
    for (uint32_t i = 0; i < NEW_KEYS; i++) {
        damage_op *op = &self->ops[self->head + 1 + i];
        *op = (damage_op){(uint8_t)(KEYS + i), false, (uint32_t)self->head + 1 + i, 100};
        err = commit(self, op, 1);
        if (err != TW_OK) { /* as the store does: damage that a write finds */
            CHECK(self, err == TW_E_CORRUPT);
            log_store_report_damage(self->log);
            log_store_close(self->log);
            const log_store_options options = {.directory = self->directory};
            CHECK(self, log_store_open(self->log, &options, NOW_MS, self->why, WHY) == TW_OK);
            CHECK(self, srv_of(self) != since[0]);
            CHECK(self, commit(self, op, 1) == TW_OK);
        }
    }
    uint64_t after = srv_of(self);
    char path[96];
    tw_format(path, sizeof path, "%s/told", self->directory);
    int file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
    CHECK(self, pwrite(file, since, sizeof since, 0) == sizeof since);
    CHECK(self, pwrite(file, &after, sizeof after, 16) == sizeof after);
    CHECK(self, pwrite(file, &self->truth, sizeof self->truth, 24) == sizeof self->truth);
    close(file);
}

/* ---- the third process ---- */

static void resume(damage_run *self, uint64_t srv, uint64_t seqno, damage_client *client,
                   log_page *page)
{
    const tw_position since = {srv, seqno};
    *client = (damage_client){0};
    *page = (log_page){.resume = true, .since = {&since, 1}};
    CHECK(self, read_all(self, client, page) == TW_OK);
    if (page->reset != TW_RESET_NONE) {
        *client = (damage_client){0};
        *page = (log_page){.fresh = true};
        CHECK(self, read_all(self, client, page) == TW_OK);
    }
}

static void third_process(damage_run *self)
{
    char path[96];
    uint64_t since[3];
    damage_state expected;
    tw_format(path, sizeof path, "%s/told", self->directory);
    int file = open(path, O_RDONLY);
    CHECK(self, pread(file, since, sizeof since, 0) == sizeof since);
    CHECK(self, pread(file, &expected, sizeof expected, 24) == sizeof expected);
    close(file);
    for (uint32_t i = 0; i < NEW_KEYS; i++) {
        expected.values[KEYS + i] = (uint32_t)self->head + 1 + i;
        self->ops[self->head + 1 + i] =
            (damage_op){(uint8_t)(KEYS + i), false, expected.values[KEYS + i], 100};
    }
    open_log(self);
    CHECK(self, srv_of(self) == since[2]);
    damage_client client;
    log_page page;
    resume(self, since[0], since[1], &client, &page);
    for (size_t i = 0; i < NEW_KEYS; i++) {
        CHECK(self, client.told[KEYS + i] == 1);
    }
    tw_err err;
    damage_client fresh = fresh_client(self, &err);
    CHECK(self, err == TW_OK);
    CHECK(self, since[2] != since[0] ||
                    memcmp(fresh.held.values, expected.values, sizeof expected.values) == 0);
    /* One from before the damage: what it missed where the history is the same, else all. */
    resume(self, self->srv_before, self->client_at, &client, &page);
    bool is_same = since[2] == self->srv_before && page.w0 == 0;
    for (size_t i = 0; i < KEYS_ALL; i++) {
        uint32_t last = fresh.held.values[i];
        bool is_due = last > 0 && (!is_same || last > self->client_at);
        CHECK(self, !is_due || (client.held.values[i] == last && client.told[i] > 0));
        CHECK(self, i < KEYS || client.told[i] == 1);
    }
}

/* ---- a run ---- */

static void in_child(damage_run *self, void (*process)(damage_run *))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        tw_arena_init(&self->arena, 1 << 26);
        process(self);
        (void)raise(SIGKILL);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        fail_msg("seed %llu: status %d", (unsigned long long)self->seed, status);
    }
}

static void one_run(uint64_t seed, bool tells)
{
    static damage_run self;
    self = (damage_run){.seed = seed, .random = seed * 0x9e3779b97f4a7c15ULL + 1, .tells = tells};
    /* in memory where there is such a place: a sync costs nothing there, and is none of the test */
    tw_format(self.directory, sizeof self.directory, "%s/log-damage-XXXXXX",
              access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(self.directory));
    plan(&self);
    in_child(&self, first_process);
    char path[96];
    tw_format(path, sizeof path, "%s/log.seen", self.directory);
    uint64_t seen[3] = {0}; /* inode, born, srv */
    int file = open(path, O_RDONLY);
    assert_int_equal(pread(file, seen, sizeof seen, 0), sizeof seen);
    close(file);
    self.srv_before = seen[2];
    size_t which = seed % TW_COUNT(damages);
    if (tells) {
        fprintf(stderr, "%s: %s, %llu rows\n", self.directory, damages[which],
                (unsigned long long)self.head);
    }
    damage(&self, which);
    in_child(&self, second_process);
    in_child(&self, third_process);
    char command[128];
    tw_format(command, sizeof command, "rm -r %s", self.directory);
    assert_int_equal(system(command), 0);
}

static uint64_t setting(const char *name, uint64_t without)
{
    const char *given = getenv(name);
    uint64_t value = without;
    if (given != NULL) {
        assert_int_equal(tw_parse_u64(tw_str_of(given), UINT32_MAX, &value), TW_OK);
    }
    return value;
}

static void test_damaged_file_serves_nothing_false_and_old_positions_start_over(void **state)
{
    (void)state;
    uint64_t only = setting("TIDEWIRE_DAMAGE_SEED", 0);
    if (only != 0) {
        one_run(only, true);
        return;
    }
    uint64_t first = setting("TIDEWIRE_DAMAGE_FIRST", 1);
    uint64_t runs = setting("TIDEWIRE_DAMAGE_RUNS", 150);
    for (uint64_t seed = first; seed < first + runs; seed++) {
        one_run(seed, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged_file_serves_nothing_false_and_old_positions_start_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
