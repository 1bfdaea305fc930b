/* timer_test.c - timers fire in order, once, and can be moved. */
#include "actors/runtime/timer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void fn_a(void *state, uint64_t tag)
{
    *(uint64_t *)state += tag;
}

static void fn_b(void *state, uint64_t tag)
{
    *(uint64_t *)state -= tag;
}

static void test_set_moves_and_cancel_forgets(void **unused)
{
    (void)unused;
    timers self = {0};
    assert_true(timers_next(&self) == UINT64_MAX);
    timers_set(&self, 50, fn_a, 1);
    timers_set(&self, 40, fn_b, 1); /* another function: another timer */
    timers_set(&self, 60, fn_a, 1); /* the first one, moved */
    assert_int_equal(self.count, 2);
    assert_int_equal(timers_next(&self), 40);
    timers_cancel(&self, fn_b, 1);
    timers_cancel(&self, fn_b, 1);
    assert_int_equal(timers_next(&self), 60);
}

static void test_take_gives_what_is_due_in_order(void **unused)
{
    (void)unused;
    timers self = {0};
    for (uint64_t tag = 0; tag < TW_TIMERS_MAX; tag++) {
        timers_set(&self, 100 - tag / 2, fn_a, tag);
    }
    uint64_t serial_max = self.serial;
    tw_on_timer fn;
    uint64_t tag;
    uint64_t sum = 0;
    uint64_t taken = 0;
    while (timers_take(&self, 80, serial_max, &fn, &tag)) {
        fn(&sum, tag);
        assert_int_equal(tag, taken % 2 == 0 ? 62 - taken : 64 - taken); /* 62 63 60 61 ... */
        taken++;
        timers_set(&self, 0, fn_b, tag); /* set while taking: not for this turn */
    }
    assert_int_equal(taken, 24);
    assert_int_equal(timers_next(&self), 0);
    assert_true(timers_take(&self, 0, self.serial, &fn, &tag));
    assert_ptr_equal(fn, fn_b);
    fn(&sum, tag);
}

static void test_hastened_is_due_sooner_and_never_later(void **unused)
{
    (void)unused;
    timers self = {0};
    timers_hasten(&self, 5, fn_a, 1); /* is not set */
    assert_int_equal(self.count, 0);
    timers_set(&self, 50, fn_a, 1);
    timers_hasten(&self, 60, fn_a, 1);
    assert_int_equal(timers_next(&self), 50);
    timers_hasten(&self, 20, fn_a, 2); /* another */
    timers_hasten(&self, 30, fn_a, 1);
    assert_int_equal(timers_next(&self), 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_moves_and_cancel_forgets),
        cmocka_unit_test(test_take_gives_what_is_due_in_order),
        cmocka_unit_test(test_hastened_is_due_sooner_and_never_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
