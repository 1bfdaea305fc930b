/* log_repeat_test.c - what is told of lines that are said again and again: hours in no time. */
#include "actors/runtime/log_repeat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static int set_up(void **state)
{
    *state = calloc(1, sizeof(log_repeats));
    return *state == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

static void test_numbers_alone_make_no_difference(void **unused)
{
    (void)unused;
    uint64_t hash = log_repeat_hash("warn  store: disk: 12 rows refused");
    assert_int_equal(log_repeat_hash("warn  store: disk: 1 rows refused"), hash);
    assert_int_not_equal(log_repeat_hash("warn  indexer: disk: 12 rows refused"), hash);
    assert_int_not_equal(log_repeat_hash("error store: disk: 12 rows refused"), hash);
    assert_int_not_equal(log_repeat_hash("a: left out of main.orders_1"),
                         log_repeat_hash("a: left out of main.orders_2"));
    assert_int_not_equal(log_repeat_hash("a: left out of 2x"),
                         log_repeat_hash("a: left out of 3x"));
    assert_int_equal(log_repeat_hash("17"), log_repeat_hash("4"));
}

/* Five lines a second for an hour: 18,000, each of which is told or counted. */
static void test_flood_is_told_seldom_and_counted_whole(void **state)
{
    uint64_t told = 0;
    uint64_t counted = 0;
    uint64_t last_ms = 0;
    uint64_t pause_ms = 0;
    uint64_t times;
    for (uint64_t ms = 0; ms < 3600000; ms += 200) {
        if (log_repeats_say(*state, 1000 + ms, "warn  a: full", &times)) {
            assert_true(told == 0 || ms - last_ms > pause_ms || pause_ms == TW_LOG_REPEAT_MAX_MS);
            pause_ms = told == 0 ? 0 : ms - last_ms;
            last_ms = ms;
            counted += times;
            told++;
        }
        assert_null(log_repeats_due(*state, 1000 + ms, &times));
    }
    assert_in_range(told, 8, 15);
    const char *rest = log_repeats_due(*state, 3600000 + 1000 + TW_LOG_REPEAT_NEW_MS, &times);
    assert_string_equal(rest, "warn  a: full");
    assert_int_equal(told + counted + times, 18000);
    assert_null(log_repeats_due(*state, 7200000, &times));
}

static void test_line_unheard_for_a_while_is_new(void **state)
{
    uint64_t times;
    assert_true(log_repeats_say(*state, 1000, "a", &times));
    assert_false(log_repeats_say(*state, 2000, "a", &times));
    assert_true(log_repeats_say(*state, 2000, "b", &times)); /* another is no repeat */
    assert_true(log_repeats_say(*state, 2000 + TW_LOG_REPEAT_NEW_MS, "a", &times));
    assert_int_equal(times, 1);
    assert_false(log_repeats_say(*state, 2000 + TW_LOG_REPEAT_NEW_MS + 1, "a", &times));
    assert_true(log_repeats_say(*state, 2001 + TW_LOG_REPEAT_NEW_MS + TW_LOG_REPEAT_MIN_MS, "a",
                                &times)); /* the pause begins anew, too */
}

static void test_line_unheard_for_longest_gives_its_place(void **state)
{
    uint64_t times;
    char line[16];
    assert_true(log_repeats_say(*state, 1, "kept", &times));
    for (unsigned i = 0; i < 3 * TW_LOG_REPEATS_MAX; i++) {
        tw_format(line, sizeof line, "line%u", i);
        assert_true(log_repeats_say(*state, 10 + 2 * i, line, &times));
        assert_false(log_repeats_say(*state, 11 + 2 * i, "kept", &times));
    }
    assert_false(log_repeats_say(*state, 5000, line, &times));
    assert_true(log_repeats_say(*state, 5000, "line0", &times));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_numbers_alone_make_no_difference),
        T(test_flood_is_told_seldom_and_counted_whole),
        T(test_line_unheard_for_a_while_is_new),
        T(test_line_unheard_for_longest_gives_its_place),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
