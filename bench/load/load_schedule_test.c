/* load_schedule_test.c */
#include "bench/load/load_schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { TOPICS = 1000, PICKS = 200000 };

/* Due times do not drift: event k of 3 a second is due at begin + k/3 s, however large k is. */
static void test_schedule_is_absolute(void **state)
{
    (void)state;
    const load_schedule schedule = {.begin_ns = 5000000000, .period_ns = 1e9 / 3, .first = 100};
    assert_int_equal(load_schedule_due(&schedule, 100), 5000000000);
    assert_int_equal(load_schedule_due(&schedule, 103), 6000000000);
    uint64_t late = load_schedule_due(&schedule, 100 + 3000000);
    assert_true(late >= 5000000000 + 999999999999900 && late <= 5000000000 + 1000000000000100);
}

/* Exactly those below the end are due before it. */
static void test_schedule_end_is_the_first_that_is_not_due(void **state)
{
    (void)state;
    const load_schedule schedule = {.begin_ns = 1000, .period_ns = 333.25, .first = 7};
    assert_int_equal(load_schedule_end(&schedule, 0), 7);
    assert_int_equal(load_schedule_end(&schedule, 1000), 7);
    for (uint64_t ns = 1001; ns < 20000; ns += 37) {
        uint64_t end = load_schedule_end(&schedule, ns);
        assert_true(load_schedule_due(&schedule, end - 1) < ns);
        assert_true(load_schedule_due(&schedule, end) + 1 >= ns);
    }
}

static void count_picks(bool zipf, uint32_t counts[TOPICS])
{
    load_topics topics;
    assert_true(load_topics_init(&topics, TOPICS, zipf));
    for (uint32_t i = 0; i < TOPICS; i++) {
        counts[i] = 0;
    }
    for (int i = 0; i < PICKS; i++) {
        uint32_t topic = load_topics_pick(&topics);
        assert_true(topic < TOPICS);
        counts[topic]++;
    }
    load_topics_fini(&topics);
}

static void test_topics_by_zipf_halve_at_the_second(void **state)
{
    (void)state;
    static uint32_t counts[TOPICS];
    count_picks(true, counts);
    /* Of 1,000 topics the first has 1/7.485 of all. */
    assert_in_range(counts[0], 25384, 28056); /* 26,720, give or take 5 % */
    assert_in_range(counts[1], counts[0] * 9 / 20, counts[0] * 11 / 20);
    assert_in_range(counts[9], counts[0] * 2 / 25, counts[0] * 3 / 25);
}

static void test_topics_evenly_are_even(void **state)
{
    (void)state;
    static uint32_t counts[TOPICS];
    count_picks(false, counts);
    for (uint32_t i = 0; i < TOPICS; i++) {
        assert_in_range(counts[i], PICKS / TOPICS / 2, PICKS / TOPICS * 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule_is_absolute),
        cmocka_unit_test(test_schedule_end_is_the_first_that_is_not_due),
        cmocka_unit_test(test_topics_by_zipf_halve_at_the_second),
        cmocka_unit_test(test_topics_evenly_are_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
