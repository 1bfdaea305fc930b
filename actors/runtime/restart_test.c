/* restart_test.c - back-off and the red light, over years in no time. */
#include "actors/runtime/restart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_wait_doubles_to_its_ceiling_with_jitter(void **unused)
{
    (void)unused;
    restart_policy policy = {0};
    uint64_t full_ms = 10;
    for (int i = 0; i < 20; i++) {
        uint64_t wait_ms = restart_policy_ended(&policy, 1000, 0, (uint64_t)i * 977);
        assert_in_range(wait_ms, full_ms / 2, full_ms);
        full_ms = full_ms * 2 < 5000 ? full_ms * 2 : 5000;
    }
    uint64_t wait_ms = restart_policy_ended(&policy, 1000, 10000, 3); /* it had lived well */
    assert_in_range(wait_ms, 5, 10);
}

static void test_red_after_six_ends_in_ten_seconds_until_it_lives(void **unused)
{
    (void)unused;
    restart_policy policy = {0};
    for (uint64_t i = 0; i < TW_RESTARTS_MAX; i++) {
        restart_policy_ended(&policy, 100 + i * 2000, 1, 0);
        assert_false(restart_policy_is_red(&policy, 0));
    }
    restart_policy_ended(&policy, 10100, 1, 0);
    assert_true(restart_policy_is_red(&policy, 0));
    assert_true(restart_policy_is_red(&policy, 9999));
    assert_false(restart_policy_is_red(&policy, 10000));
    restart_policy_ended(&policy, 100000, 5000, 0); /* rare by its waits alone: still red */
    assert_true(restart_policy_is_red(&policy, 0));
    restart_policy_ended(&policy, 200000, 10000, 0);
    assert_false(restart_policy_is_red(&policy, 0));
}

static void test_slow_ends_are_never_red(void **unused)
{
    (void)unused;
    restart_policy policy = {0};
    for (uint64_t i = 0; i < 100; i++) {
        restart_policy_ended(&policy, i * 2001, 1, 0); /* the sixth comes after 10005 ms */
        assert_false(restart_policy_is_red(&policy, 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wait_doubles_to_its_ceiling_with_jitter),
        cmocka_unit_test(test_red_after_six_ends_in_ten_seconds_until_it_lives),
        cmocka_unit_test(test_slow_ends_are_never_red),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
