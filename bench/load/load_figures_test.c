/* load_figures_test.c */
#include "bench/load/load_figures.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_figures_come_back_from_json(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    const load_figures figures = {.delivered_s = 1234567, .p99_ms = 0.125, .lost = 3};
    load_figures back;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    fputs("{\"workload\":\"fanout\",\"figures\":", out);
    load_figures_json(&figures, out);
    fputs("}", out);
    fclose(out);
    assert_true(load_figures_read((tw_str){text, len}, &back));
    assert_true(fabs(back.delivered_s - 1234567) < 1e-6 && fabs(back.p99_ms - 0.125) < 1e-9);
    assert_true(fabs(back.lost - 3) < 1e-9 && fabs(back.p50_ms) < 1e-12);
    free(text);
    assert_false(load_figures_read(TW_STR("{\"workload\":\"fanout\"}"), &back));
    assert_false(load_figures_read(TW_STR("not JSON"), &back));
}

static void test_median_takes_the_middle_and_sums_what_is_lost(void **state)
{
    (void)state;
    const load_figures runs[] = {{.p99_ms = 9, .lost = 1}, {.p99_ms = 1}, {.p99_ms = 2, .lost = 2}};
    load_figures median;
    load_figures_median(runs, 3, &median);
    assert_true(fabs(median.p99_ms - 2) < 1e-9 && fabs(median.lost - 3) < 1e-9);
    assert_false(load_figures_clean(&median));
    assert_true(load_figures_clean(&runs[1]));
}

static void test_limit_names_who_used_its_core(void **state)
{
    (void)state;
    const load_figures server = {.server_cpu = 0.99, .load_cpu = 0.5};
    const load_figures load = {.server_cpu = 0.5, .load_cpu = 0.99};
    assert_string_equal(load_figures_limit(&server, 0, 0), "server");
    assert_string_equal(load_figures_limit(&load, 0, 0), "load");
    assert_string_equal(load_figures_limit(&server, 100, 99.5), "the rate");
    assert_string_equal(load_figures_limit(&server, 100, 50), "server");
}

static void test_compared_figures_tell_their_ratio(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    const load_figures is = {.p99_ms = 4, .delivered_s = 200},
                       was = {.p99_ms = 2, .delivered_s = 100};
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    load_figures_show(&is, &was, out);
    fclose(out);
    const char *latency = strstr(text, "p99_ms"), *rate = strstr(text, "delivered_s");
    assert_non_null(latency);
    assert_non_null(rate);
    assert_non_null(strstr(latency, "2.00x, worse"));
    assert_non_null(strstr(rate, "2.00x, better"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures_come_back_from_json),
        cmocka_unit_test(test_median_takes_the_middle_and_sums_what_is_lost),
        cmocka_unit_test(test_limit_names_who_used_its_core),
        cmocka_unit_test(test_compared_figures_tell_their_ratio),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
