/* nearest_test.c - what counts as a typing error, and what does not. */
#include "cli/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char *const names[] = {"listen", "log_level", "collections", "database", "demo"};

static const char *nearest(const char *typed)
{
    return nearest_name(typed, names, sizeof names / sizeof names[0]);
}

static void test_nearest_typing_error_finds_name(void **state)
{
    (void)state;
    assert_string_equal(nearest("colections"), "collections"); /* a letter missing */
    assert_string_equal(nearest("collectionss"), "collections");
    assert_string_equal(nearest("log_levle"), "log_level");
    assert_string_equal(nearest("dataBase"), "database");
    assert_string_equal(nearest("listen"), "listen");
}

static void test_nearest_other_word_finds_none(void **state)
{
    (void)state;
    assert_null(nearest("port"));
    assert_null(nearest(""));
    assert_null(nearest("dmeo_x"));
    assert_null(nearest_name("listen", names, 0));
}

static void test_nearest_equal_distances_take_the_first(void **state)
{
    (void)state;
    static const char *const alike[] = {"abcx", "abcy"};
    assert_string_equal(nearest_name("abcz", alike, 2), "abcx");
}

static void test_nearest_long_name_is_compared_by_its_beginning(void **state)
{
    (void)state;
    char typed[500];
    memset(typed, 'a', sizeof typed - 1);
    typed[sizeof typed - 1] = '\0';
    const char *const one[] = {typed};
    assert_ptr_equal(nearest_name(typed, one, 1), typed);
    assert_null(nearest(typed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nearest_typing_error_finds_name),
        cmocka_unit_test(test_nearest_other_word_finds_none),
        cmocka_unit_test(test_nearest_equal_distances_take_the_first),
        cmocka_unit_test(test_nearest_long_name_is_compared_by_its_beginning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
