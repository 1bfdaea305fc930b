/* arena_test.c - alignment, bounds, growth, what a reset keeps, and copies without memory. */
#include "protocol/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_arena_alloc_any_size_is_aligned_and_disjoint(void **state)
{
    (void)state;
    tw_arena arena;
    tw_arena_init(&arena, 4 << 20);
    unsigned char *seen[200];
    for (size_t i = 0; i < TW_COUNT(seen); i++) {
        size_t bytes = i * i; /* up to 40 KB: several blocks, and large ones between small ones */
        seen[i] = tw_arena_alloc(&arena, bytes);
        assert_non_null(seen[i]);
        assert_int_equal((uintptr_t)seen[i] % 16, 0);
        memset(seen[i], (int)i, bytes);
    }
    for (size_t i = 0; i < TW_COUNT(seen); i++) {
        for (size_t k = 0; k < i * i; k += 97) {
            assert_int_equal(seen[i][k], i);
        }
    }
    tw_arena_fini(&arena);
    assert_null(arena.first);
}

static void test_arena_alloc_beyond_max_gives_null_until_reset(void **state)
{
    (void)state;
    tw_arena arena;
    tw_arena_init(&arena, 64);
    assert_non_null(tw_arena_alloc(&arena, 33)); /* counts as 48 */
    assert_null(tw_arena_alloc(&arena, 17));
    assert_non_null(tw_arena_alloc(&arena, 16));
    assert_null(tw_arena_alloc(&arena, 0)); /* nothing needs an address too */
    assert_int_equal(arena.used, 64);
    tw_arena_reset(&arena);
    assert_int_equal(arena.used, 0);
    assert_non_null(tw_arena_alloc(&arena, 64));
    tw_arena_fini(&arena);
}

static void test_arena_alloc_huge_sizes_do_not_wrap(void **state)
{
    (void)state;
    tw_arena arena;
    tw_arena_init(&arena, SIZE_MAX);
    assert_null(tw_arena_alloc(&arena, SIZE_MAX));
    assert_null(tw_arena_alloc(&arena, SIZE_MAX - 15));
    assert_null(tw_arena_zero(&arena, SIZE_MAX / 2, 3));
    tw_arena_fini(&arena);
}

static void test_arena_reset_keeps_one_block(void **state)
{
    (void)state;
    tw_arena arena;
    tw_arena_init(&arena, 8 << 20);
    for (int i = 0; i < 1000; i++) {
        assert_non_null(tw_arena_alloc(&arena, 1000));
    }
    tw_arena_reset(&arena);
    assert_non_null(arena.first);
    uint64_t before = tw_alloc_count();
    for (int i = 0; i < 60; i++) { /* 60 KB fit the block of 64 KiB that was kept */
        assert_non_null(tw_arena_alloc(&arena, 1000));
    }
    assert_int_equal(tw_alloc_count(), before);
    tw_arena_reset(&arena);
    tw_arena_fini(&arena);
    tw_arena_init(&arena, 8 << 20);
    assert_non_null(tw_arena_alloc(&arena, 1 << 20));
    tw_arena_reset(&arena); /* only a large block: none is kept */
    assert_null(arena.first);
    tw_arena_fini(&arena);
}

static void test_arena_zero_is_cleared_after_use(void **state)
{
    (void)state;
    tw_arena arena;
    tw_arena_init(&arena, 4096);
    memset(tw_arena_alloc(&arena, 256), 0xff, 256);
    tw_arena_reset(&arena);
    const unsigned char *bytes = tw_arena_zero(&arena, 32, 8);
    for (size_t i = 0; i < 256; i++) {
        assert_int_equal(bytes[i], 0);
    }
    tw_arena_fini(&arena);
}

static void test_arena_copies_are_equal_and_elsewhere(void **state)
{
    (void)state;
    tw_arena arena;
    tw_arena_init(&arena, 4096);
    const uint8_t doc[] = {5, 0, 0, 0, 0};
    const tw_position at[] = {{1, 2}, {3, 4}};
    tw_str text = tw_arena_str(&arena, TW_STR("text"));
    assert_true(tw_str_equal(text, TW_STR("text")));
    tw_bson bson = tw_arena_bson(&arena, (tw_bson){doc, sizeof doc});
    assert_ptr_not_equal(bson.ptr, doc);
    assert_memory_equal(bson.ptr, doc, sizeof doc);
    tw_key key = tw_arena_key(&arena, (tw_key){doc, 3});
    assert_true(tw_key_equal(key, (tw_key){doc, 3}));
    tw_vector vector = tw_arena_vector(&arena, (tw_vector){at, 2});
    assert_int_equal(vector.count, 2);
    assert_memory_equal(vector.at, at, sizeof at);
    assert_int_equal(tw_arena_str(&arena, (tw_str){NULL, 0}).len, 0);
    assert_string_equal(tw_arena_format(&arena, "%s-%d", "a", 12), "a-12");
    tw_arena_fini(&arena);
}

static void test_arena_without_memory_says_so(void **state)
{
    (void)state;
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    tw_alloc_fail_at(1);
    assert_null(tw_arena_alloc(&arena, 1));
    tw_alloc_fail_at(1);
    assert_null(tw_arena_zero(&arena, 1, 1));
    tw_alloc_fail_at(1);
    tw_str text = tw_arena_str(&arena, TW_STR("text"));
    assert_null(text.ptr);
    assert_int_equal(text.len, 4);
    tw_alloc_fail_at(1);
    assert_string_equal(tw_arena_format(&arena, "%d", 1), "");
    assert_int_equal(arena.used, 0);
    assert_non_null(tw_arena_alloc(&arena, 1));
    tw_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_alloc_any_size_is_aligned_and_disjoint),
        cmocka_unit_test(test_arena_alloc_beyond_max_gives_null_until_reset),
        cmocka_unit_test(test_arena_alloc_huge_sizes_do_not_wrap),
        cmocka_unit_test(test_arena_reset_keeps_one_block),
        cmocka_unit_test(test_arena_zero_is_cleared_after_use),
        cmocka_unit_test(test_arena_copies_are_equal_and_elsewhere),
        cmocka_unit_test(test_arena_without_memory_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
