/* guard.c - runs one hot path a fixed number of times, so that callgrind counts its instructions.
 *
 * guard               prints the names of the paths
 * guard PATH [more]   runs it; more: per cent of rounds more, which is the slow-down that
 *                     bench/guard/guard.py plants to see that it is noticed
 *
 * Only guard_measured is counted (callgrind --toggle-collect). Nothing in here depends on time or
 * chance: getrandom and time are the program's own. */
#include "bench/guard/guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "protocol/json.h"
#include "protocol/limits.h"

enum { ROUNDS = 100, MORE_MAX = 100 };

tw_arena guard_kept;
tw_arena guard_temporary;

void guard_must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "guard: %s failed\n", what);
        exit(1);
    }
}

/* In place of the C library's: ids that are drawn take part in hashes, and in encoded lengths. */
ssize_t getrandom(void *out, size_t len, unsigned flags)
{
    (void)flags;
    memset(out, 0x2a, len);
    return (ssize_t)len;
}

time_t time(time_t *out)
{
    if (out != NULL) {
        *out = 1700000000;
    }
    return 1700000000;
}

tw_bson guard_document(unsigned n)
{
    tw_bson doc = {0};
    const char *text = tw_arena_format(
        &guard_kept,
        "{\"_id\":{\"$oid\":\"5f8d0c2e01020304%08x\"},\"title\":\"Three rooms with a view of the "
        "harbour\",\"owner\":\"user%u\",\"kind\":\"k%u\",\"proj_id\":%u,\"views\":129417,"
        "\"price\":1249.5,\"active\":true,\"created\":{\"$date\":1700000000123},\"address\":"
        "{\"street\":\"Lange Stra\xc3\x9f"
        "e 12\",\"city\":\"Bremen\"},\"tags\":[\"new\",\"garden\"],\"agent\":null,\"seqno\":"
        "1125899906842624,\"_version\":3}",
        n, n % 1000, n % 7, n % 100);
    guard_must(tw_json_read(&guard_kept, tw_str_of(text), TW_DEPTH_MAX, &doc, NULL) == TW_OK,
               "the document");
    return doc;
}

tw_item_log_row guard_row(unsigned n, unsigned owner)
{
    tw_item_log_row row = {.n = n, .srv = 1, .seqno = n, .flags = TW_ROW_PUT | TW_ROW_LAST};
    row.db = TW_STR("main");
    row.coll = TW_STR("offers");
    row.version = 3;
    row.prev = n / 2;
    row.time_ms = 1700000000000;
    row.doc = guard_document(owner);
    row.old = guard_document(owner + 7000);
    guard_must(tw_key_of_value(&guard_kept, tw_bson_get(row.doc, TW_STR("_id")), &row.key) == TW_OK,
               "the key");
    return row;
}

tw_bson guard_query(const catalog *known, const char *subscribe)
{
    tw_bson message = {0};
    tw_bson canonical = {0};
    broker_why why;
    guard_must(tw_json_read(&guard_kept, tw_str_of(subscribe), TW_DEPTH_MAX, &message, NULL) ==
                   TW_OK,
               "the subscribe");
    guard_must(topic_query_of_subscribe(known, NULL, &guard_kept, message, &canonical, &why) ==
                   TW_OK,
               "the query");
    return canonical;
}

/* By name and by a call of its own: what callgrind switches on at. */
__attribute__((noinline)) void guard_measured(const guard_path *path, unsigned rounds);

void guard_measured(const guard_path *path, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        path->round();
    }
}

static const guard_path *const rooms[] = {guard_codec_paths, guard_broker_paths,
                                          guard_streams_paths, guard_log_paths};

static const guard_path *find_or_list(const char *wanted)
{
    for (size_t i = 0; i < TW_COUNT(rooms); i++) {
        for (const guard_path *path = rooms[i]; path->name != NULL; path++) {
            if (wanted == NULL) {
                printf("%s\n", path->name);
            } else if (strcmp(path->name, wanted) == 0) {
                return path;
            }
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        find_or_list(NULL);
        return 0;
    }
    const guard_path *path = find_or_list(argv[1]);
    uint64_t more = 0;
    guard_must(path != NULL, "finding the path");
    guard_must(argc < 3 || tw_parse_u64(tw_str_of(argv[2]), MORE_MAX, &more) == TW_OK,
               "reading the per cent");
    tw_arena_init(&guard_kept, 1 << 26);
    tw_arena_init(&guard_temporary, 1 << 26);
    path->set_up();
    for (int i = 0; i < 3; i++) {
        path->round(); /* memory that is kept has its size from here on */
    }
    guard_measured(path, ROUNDS + ROUNDS * (unsigned)more / 100);
    if (path->tear_down != NULL) {
        path->tear_down();
    }
    return 0;
}
