/* sync_mark_test.c - the vectors that all clients share, computed by another program. */
#include "protocol/sync_mark.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "protocol/arena.h"
#include "protocol/json.h"

static tw_bson read_vectors(tw_arena *arena, char *bytes, size_t size)
{
    FILE *in = fopen("tests/vectors/sync_marks.json", "r");
    tw_bson all;
    assert_non_null(in);
    size_t len = fread(bytes, 1, size, in);
    assert_int_equal(fclose(in), 0);
    assert_int_equal(tw_json_read(arena, (tw_str){bytes, len}, 32, &all, NULL), TW_OK);
    return all;
}

static void test_marks_of_the_vectors(void **state)
{
    (void)state;
    static char bytes[65536];
    char text[32];
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    tw_bson all = read_vectors(&arena, bytes, sizeof bytes);
    tw_mark sum = {0, 0};
    size_t count = 0;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, tw_bson_get_doc(all, TW_STR("marks"))); tw_bson_iter_next(&iter);
         count++) {
        tw_bson row = tw_bson_value_doc(iter.value);
        tw_key key;
        assert_int_equal(tw_key_of_value(&arena, tw_bson_get(row, TW_STR("key")), &key), TW_OK);
        tw_format(text, sizeof text, "%08x", tw_sync_place(key));
        assert_true(tw_str_equal(tw_bson_get_str(row, TW_STR("place")), tw_str_of(text)));
        tw_mark mark = tw_sync_mark(key, tw_bson_get_i64_or(row, TW_STR("version"), -1));
        tw_format(text, sizeof text, "%08x%08x", mark.high, mark.low);
        assert_true(tw_str_equal(tw_bson_get_str(row, TW_STR("mark")), tw_str_of(text)));
        sum.high += mark.high;
        sum.low += mark.low;
    }
    assert_int_equal(count, 12);
    tw_format(text, sizeof text, "%08x%08x", sum.high, sum.low);
    assert_true(tw_str_equal(tw_bson_get_str(all, TW_STR("sum")), tw_str_of(text)));
    tw_arena_fini(&arena);
}

/* Neighbouring ids and versions: places fill ranges evenly, and changes of several records in one
 * range do not cancel each other. */
static void test_marks_of_neighbours_are_far_apart(void **state)
{
    (void)state;
    enum { IDS = 65536, RANGES = 4096 };
    static unsigned counts[RANGES];
    static uint64_t changes[IDS];
    tw_arena arena;
    tw_arena_init(&arena, 64 << 20);
    for (int32_t i = 0; i < IDS; i++) {
        tw_key key;
        uint8_t bytes[4] = {(uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16), 0};
        assert_int_equal(
            tw_key_of_value(&arena, (tw_bson_value){TW_BSON_INT32, bytes, sizeof bytes}, &key),
            TW_OK);
        counts[tw_sync_place(key) >> 20]++;
        tw_mark before = tw_sync_mark(key, 3);
        tw_mark after = tw_sync_mark(key, 4);
        changes[i] = (uint64_t)(after.high - before.high) << 32 | (after.low - before.low);
    }
    for (size_t i = 0; i < RANGES; i++) {
        assert_in_range(counts[i], 1, 48); /* 16 on the average */
    }
    for (size_t i = 0; i < 4096; i++) { /* no two of them undo each other, nor are the same */
        for (size_t k = i + 1; k < 4096; k++) {
            uint64_t undone = (uint64_t)(uint32_t)(0 - (uint32_t)(changes[k] >> 32)) << 32 |
                              (uint32_t)(0 - (uint32_t)changes[k]);
            assert_true(changes[i] != changes[k] && changes[i] != undone);
        }
    }
    tw_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_marks_of_the_vectors),
        cmocka_unit_test(test_marks_of_neighbours_are_far_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
