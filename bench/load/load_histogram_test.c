/* load_histogram_test.c */
#include "bench/load/load_histogram.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/base.h"

static load_histogram times;

static void test_histogram_empty_is_zero(void **state)
{
    (void)state;
    times = (load_histogram){0};
    assert_true(fabs(load_histogram_ms(&times, 0.99)) < 1e-12);
}

/* Quantiles of 1..100000 us are within 1 % of the exact ones. */
static void test_histogram_quantiles_are_within_one_percent(void **state)
{
    (void)state;
    times = (load_histogram){0};
    for (uint64_t us = 1; us <= 100000; us++) {
        load_histogram_add(&times, us * 1000);
    }
    static const double shares[] = {0.01, 0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < TW_COUNT(shares); i++) {
        double exact = shares[i] * 100.0;
        double got = load_histogram_ms(&times, shares[i]);
        assert_true(fabs(got - exact) <= exact * 0.01 + 0.001);
    }
    assert_true(fabs(load_histogram_ms(&times, 1) - 100.0) < 1e-9); /* the longest, exactly */
}

static void test_histogram_one_outlier_is_the_longest_alone(void **state)
{
    (void)state;
    times = (load_histogram){0};
    for (int i = 0; i < 999; i++) {
        load_histogram_add(&times, 1000000);
    }
    load_histogram_add(&times, 5000000000);
    assert_true(load_histogram_ms(&times, 0.99) < 1.02);
    assert_true(fabs(load_histogram_ms(&times, 1) - 5000) < 1e-6);
}

static void test_histogram_beyond_its_range_is_counted(void **state)
{
    (void)state;
    times = (load_histogram){0};
    load_histogram_add(&times, UINT64_MAX);
    load_histogram_add(&times, 0);
    assert_int_equal(times.count, 2);
    assert_int_equal(times.max_ns, UINT64_MAX);
    assert_true(fabs(load_histogram_ms(&times, 0)) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histogram_empty_is_zero),
        cmocka_unit_test(test_histogram_quantiles_are_within_one_percent),
        cmocka_unit_test(test_histogram_one_outlier_is_the_longest_alone),
        cmocka_unit_test(test_histogram_beyond_its_range_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
