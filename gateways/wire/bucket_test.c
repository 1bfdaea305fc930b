/* bucket_test.c - what a bucket gives, refuses and pays back. */
#include "gateways/wire/bucket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const bucket_rate ten = {.per_s = 10, .burst = 3};

static void test_bucket_burst_then_rate(void **state)
{
    (void)state;
    bucket it = {0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(bucket_take(&it, ten, 5000), 0);
    }
    assert_int_equal(bucket_take(&it, ten, 5000), 100);
    assert_int_equal(bucket_take(&it, ten, 5001), 99); /* a refusal takes nothing */
    assert_int_equal(bucket_take(&it, ten, 5099), 1);
    assert_int_equal(bucket_take(&it, ten, 5100), 0);
    assert_int_equal(bucket_take(&it, ten, 5100), 100);
}

static void test_bucket_full_again_but_not_fuller(void **state)
{
    (void)state;
    bucket it = {0};
    for (uint64_t now_ms = 1; now_ms < UINT64_MAX / 2; now_ms = now_ms * 3 + 1000000) {
        for (int i = 0; i < 3; i++) {
            assert_int_equal(bucket_take(&it, ten, now_ms), 0);
        }
        assert_int_not_equal(bucket_take(&it, ten, now_ms), 0);
    }
}

static void test_bucket_debt_is_paid(void **state)
{
    (void)state;
    bucket it = {0};
    for (int i = 0; i < 3; i++) {
        assert_true(bucket_charge(&it, ten, 1000));
    }
    for (int i = 0; i < 5; i++) {
        assert_false(bucket_charge(&it, ten, 1000));
    }
    assert_int_equal(bucket_take(&it, ten, 1000), 600);
    assert_false(bucket_is_good(&it, ten, 1599));
    assert_true(bucket_is_good(&it, ten, 1600));
}

static void test_bucket_without_rate_has_no_limit(void **state)
{
    (void)state;
    bucket it = {0};
    const bucket_rate none = {0};
    for (int i = 0; i < 100; i++) {
        assert_int_equal(bucket_take(&it, none, 1), 0);
        assert_true(bucket_charge(&it, none, 1));
    }
    assert_true(bucket_is_good(&it, none, 1));
}

static void test_bucket_clock_that_stands_or_goes_back(void **state)
{
    (void)state;
    bucket it = {0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(bucket_take(&it, ten, 5000), 0);
    }
    assert_int_equal(bucket_take(&it, ten, 4000), 100);
    assert_int_equal(bucket_take(&it, ten, 5050), 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bucket_burst_then_rate),
        cmocka_unit_test(test_bucket_full_again_but_not_fuller),
        cmocka_unit_test(test_bucket_debt_is_paid),
        cmocka_unit_test(test_bucket_without_rate_has_no_limit),
        cmocka_unit_test(test_bucket_clock_that_stands_or_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
