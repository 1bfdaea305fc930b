/* errors_test.c - every result has a code, a text, a retry, a number; its code finds it. */
#include "protocol/errors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_errors_every_row_is_complete_and_found_by_its_code(void **state)
{
    (void)state;
    for (int i = TW_OK; i < TW_ERRORS_END; i++) {
        tw_err err = (tw_err)i;
        const char *retry = tw_err_retry(err);
        assert_true(strlen(tw_err_code(err)) > 0);
        assert_true(strlen(tw_err_text(err)) > 0);
        assert_true(strcmp(retry, "no") == 0 || strcmp(retry, "now") == 0 ||
                    strcmp(retry, "backoff") == 0);
        assert_int_equal(tw_err_by_code(tw_err_code(err)), err); /* so codes are unique too */
        assert_true(err == TW_OK || (tw_err_number(err) >= 4400 && tw_err_number(err) <= 4508));
    }
}

static void test_errors_known_row_has_its_values(void **state)
{
    (void)state;
    assert_string_equal(tw_err_code(TW_OK), "ok");
    assert_int_equal(tw_err_number(TW_OK), 0);
    assert_string_equal(tw_err_code(TW_E_SLOW), "slow");
    assert_int_equal(tw_err_number(TW_E_SLOW), 4508);
    assert_string_equal(tw_err_retry(TW_E_SLOW), "now");
}

static void test_errors_outside_the_table_is_internal(void **state)
{
    (void)state;
    assert_string_equal(tw_err_code(TW_ERRORS_END), "internal");
    assert_string_equal(tw_err_code((tw_err)1000), "internal");
    assert_int_equal(tw_err_number((tw_err)1000), 4500);
    assert_int_equal(tw_err_by_code("no_such_code"), TW_E_INTERNAL);
    assert_int_equal(tw_err_by_code(NULL), TW_E_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_every_row_is_complete_and_found_by_its_code),
        cmocka_unit_test(test_errors_known_row_has_its_values),
        cmocka_unit_test(test_errors_outside_the_table_is_internal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
