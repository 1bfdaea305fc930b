/* base_test.c - memory that fails on purpose, buffers, numbers, the hash, the end on a bug. */
#include "protocol/base.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- memory ---- */

static void test_alloc_nth_fails_alone(void **state)
{
    (void)state;
    uint64_t before = tw_alloc_count();
    tw_alloc_fail_at(2);
    void *first = tw_alloc(10);
    void *second = tw_alloc(10);
    void *third = tw_alloc_zero(10, 10);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    assert_int_equal(tw_alloc_count() - before, 3);
    tw_alloc_fail_at(1);
    assert_null(tw_realloc(third, 1000)); /* the old block stays */
    third = tw_realloc(third, 1000);
    assert_non_null(third);
    tw_alloc_fail_at(1);
    tw_alloc_fail_at(0); /* taken back */
    void *fourth = tw_alloc(0);
    assert_non_null(fourth);
    tw_free(first);
    tw_free(third);
    tw_free(fourth);
    tw_free(NULL);
}

static void test_alloc_zero_wrapping_product_gives_null(void **state)
{
    (void)state;
    volatile size_t half = SIZE_MAX / 2; /* hidden from the compiler, which would warn */
    assert_null(tw_alloc_zero(half, 3));
    void *nothing = tw_alloc_zero(0, 8);
    assert_non_null(nothing);
    tw_free(nothing);
}

static void *allocate_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10000; i++) {
        tw_free(tw_alloc(8));
    }
    return NULL;
}

static void test_alloc_count_is_exact_across_threads(void **state)
{
    (void)state;
    uint64_t before = tw_alloc_count();
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, allocate_often, NULL), 0);
    allocate_often(NULL);
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(tw_alloc_count() - before, 20000);
}

/* ---- buffers ---- */

static void test_buf_appends_are_in_order(void **state)
{
    (void)state;
    tw_buf buf;
    tw_buf_init(&buf, 1000);
    tw_buf_add_str(&buf, TW_STR("a="));
    tw_buf_add_u64(&buf, UINT64_MAX);
    tw_buf_add_byte(&buf, ' ');
    tw_buf_add_i64(&buf, INT64_MIN);
    tw_buf_add_byte(&buf, ' ');
    tw_buf_add_i64(&buf, 0);
    tw_buf_format(&buf, " %s:%d", "x", 7);
    tw_buf_add(&buf, NULL, 0);
    assert_int_equal(buf.err, TW_OK);
    assert_true(tw_str_equal(tw_buf_str(&buf),
                             TW_STR("a=18446744073709551615 -9223372036854775808 0 x:7")));
    tw_buf_clear(&buf);
    assert_int_equal(buf.len, 0);
    assert_true(buf.cap > 0);
    tw_buf_fini(&buf);
    assert_null(buf.ptr);
}

static void test_buf_beyond_max_keeps_what_was_and_the_error(void **state)
{
    (void)state;
    tw_buf buf;
    tw_buf_init(&buf, 10);
    tw_buf_format(&buf, "%s", "12345678");
    tw_buf_add_i64(&buf, -12); /* three bytes: refused whole */
    assert_int_equal(buf.err, TW_E_TOO_BIG);
    assert_int_equal(buf.len, 8);
    tw_buf_add_byte(&buf, 'x'); /* would fit, but the error stays */
    assert_int_equal(buf.len, 8);
    tw_buf_format(&buf, "%d", 1);
    assert_false(tw_buf_reserve(&buf, 0));
    assert_memory_equal(buf.ptr, "12345678", 8);
    tw_buf_clear(&buf);
    tw_buf_format(&buf, "%s", "1234567890"); /* exactly max */
    assert_int_equal(buf.err, TW_OK);
    assert_int_equal(buf.len, 10);
    tw_buf_fini(&buf);
}

static void test_buf_without_memory_keeps_what_was(void **state)
{
    (void)state;
    tw_buf buf;
    tw_buf_init(&buf, 1 << 20);
    tw_buf_add_str(&buf, TW_STR("before"));
    tw_alloc_fail_at(1);
    assert_false(tw_buf_reserve(&buf, 100000));
    assert_int_equal(buf.err, TW_E_NO_MEMORY);
    assert_memory_equal(buf.ptr, "before", 6);
    tw_buf_clear(&buf);
    assert_true(tw_buf_reserve(&buf, 100000));
    assert_true(buf.cap >= 100000);
    tw_buf_fini(&buf);
}

static void test_buf_grows_byte_by_byte_to_its_bound(void **state)
{
    (void)state;
    tw_buf buf;
    tw_buf_init(&buf, 5000);
    for (int i = 0; i < 6000; i++) {
        tw_buf_add_byte(&buf, (char)i);
    }
    assert_int_equal(buf.len, 5000);
    assert_int_equal(buf.err, TW_E_TOO_BIG);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(buf.ptr[i], (char)i);
    }
    tw_buf_fini(&buf);
}

/* ---- text and numbers ---- */

static void test_format_is_cut_and_terminated(void **state)
{
    (void)state;
    char out[5];
    assert_int_equal(tw_format(out, sizeof out, "%s", "abc"), 3);
    assert_string_equal(out, "abc");
    assert_int_equal(tw_format(out, sizeof out, "%s", "abcdefgh"), 4);
    assert_string_equal(out, "abcd");
    assert_int_equal(tw_format(out, 0, "x"), 0);
}

static void check_digits(uint64_t value)
{
    char text[TW_DIGITS_MAX + 1];
    char wanted[TW_DIGITS_MAX + 1];
    *tw_digits_write(text, value) = '\0';
    tw_format(wanted, sizeof wanted, "%llu", (unsigned long long)value);
    assert_string_equal(text, wanted);
    for (size_t less = 0; less < 2;
         less++) { /* with room for just these digits, and for one less */
        tw_buf buf;
        tw_buf_init(&buf, strlen(wanted) - less);
        tw_buf_add_u64(&buf, value);
        assert_int_equal(buf.err, less == 0 ? TW_OK : TW_E_TOO_BIG);
        assert_int_equal(buf.len, less == 0 ? strlen(wanted) : 0);
        assert_memory_equal(buf.ptr == NULL ? "" : buf.ptr, wanted, buf.len);
        tw_buf_fini(&buf);
    }
}

static void test_digits_are_those_of_printf(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < 20100; value++) {
        check_digits(value);
    }
    uint64_t random = 1;
    for (uint64_t ten = 1; ten <= UINT64_MAX / 10; ten *= 10) {
        for (uint64_t digit = 1; digit < 10; digit++) {
            check_digits(ten * digit - 1);
            check_digits(ten * digit);
            check_digits(ten * digit + 1);
        }
        for (int i = 0; i < 200; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            check_digits(random / ten);
        }
    }
    check_digits(UINT64_MAX);
    check_digits(UINT64_MAX - 1);
    check_digits(10000000000000000000u);
    check_digits(9999999999999999999u);
}

static void test_parse_u64_takes_whole_numbers_only(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t max;
        bool is_right;
        uint64_t value;
    } cases[] = {
        {"0", 0, true, 0},
        {"007", 7, true, 7},
        {"8", 7, false, 0},
        {"1", 0, false, 0},
        {"10", 9, false, 0},
        {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, false, 0},
        {"99999999999999999999999", UINT64_MAX, false, 0},
        {"9007199254740991", 9007199254740991, true, 9007199254740991},
        {"9007199254740992", 9007199254740991, false, 0},
        {"", 9, false, 0},
        {"-1", 9, false, 0},
        {"+1", 9, false, 0},
        {" 1", 9, false, 0},
        {"1 ", 9, false, 0},
        {"0x1", 99, false, 0},
        {"1e1", 99, false, 0},
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        uint64_t value = 77;
        tw_err err = tw_parse_u64(tw_str_of(cases[i].text), cases[i].max, &value);
        assert_int_equal(err, cases[i].is_right ? TW_OK : TW_E_BAD_MESSAGE);
        assert_int_equal(value, cases[i].is_right ? cases[i].value : 77);
    }
}

static void test_str_in_list_takes_whole_words_only(void **state)
{
    (void)state;
    assert_true(tw_str_in_list(TW_STR("asc"), "asc desc", ' '));
    assert_true(tw_str_in_list(TW_STR("desc"), "asc desc", ' '));
    assert_true(tw_str_in_list(TW_STR("asc"), "asc", ' '));
    assert_true(tw_str_in_list(TW_STR("a b"), "c,a b,", ','));
    static const char *const strangers[] = {"", "as", "ascd", "asc desc", "esc", " "};
    for (size_t i = 0; i < TW_COUNT(strangers); i++) {
        assert_false(tw_str_in_list(tw_str_of(strangers[i]), "asc desc", ' '));
    }
    assert_false(tw_str_in_list(TW_STR(""), "", ' '));
    assert_false(tw_str_in_list(TW_STR(""), "a  b", ' '));
}

static void test_str_compare_orders_by_bytes_then_length(void **state)
{
    (void)state;
    static const char *const ordered[] = {"", "a", "aa", "ab", "b", "\xc3\xa9"};
    for (size_t i = 0; i < TW_COUNT(ordered); i++) {
        for (size_t j = 0; j < TW_COUNT(ordered); j++) {
            int order = tw_str_compare(tw_str_of(ordered[i]), tw_str_of(ordered[j]));
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
    }
    assert_int_equal(tw_str_compare((tw_str){NULL, 0}, TW_STR("")), 0);
}

/* ---- the hash ---- */

static void test_hash_depends_on_each_bit_length_and_seed(void **state)
{
    (void)state;
    unsigned char bytes[100] = {0};
    for (size_t len = 0; len <= sizeof bytes; len++) {
        uint64_t whole = tw_hash(bytes, len, 1);
        assert_int_equal(whole, tw_hash(bytes, len, 1));
        assert_true(whole != tw_hash(bytes, len, 2));
        assert_true(len == 0 || whole != tw_hash(bytes, len - 1, 1));
        for (size_t bit = 0; bit < 8 * len; bit++) {
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
            int changed = __builtin_popcountll(whole ^ tw_hash(bytes, len, 1));
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
            assert_in_range(changed, 8, 56); /* 32 on average; 6 deviations */
        }
    }
}

static void test_hash_spreads_counting_keys(void **state)
{
    (void)state;
    enum { SLOTS = 4096, KEYS = 4 * SLOTS };
    static unsigned slots[SLOTS];
    for (uint64_t i = 0; i < KEYS; i++) {
        slots[tw_hash(&i, sizeof i, 0) % SLOTS]++;
    }
    for (size_t i = 0; i < SLOTS; i++) {
        assert_in_range(slots[i], 0, 20); /* 4 on average */
    }
}

/* ---- the end ---- */

static void test_assert_failed_prints_the_place_and_aborts(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        dup2(ends[1], STDERR_FILENO);
        tw_assert_failed("file.c", 12, "a == b");
    }
    close(ends[1]);
    char text[200] = {0};
    size_t len = 0;
    for (ssize_t got = 1; got > 0 && len < sizeof text - 1;) {
        got = read(ends[0], text + len, sizeof text - 1 - len);
        len += got > 0 ? (size_t)got : 0;
    }
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "file.c:12: assertion failed: a == b\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_nth_fails_alone),
        cmocka_unit_test(test_alloc_zero_wrapping_product_gives_null),
        cmocka_unit_test(test_alloc_count_is_exact_across_threads),
        cmocka_unit_test(test_buf_appends_are_in_order),
        cmocka_unit_test(test_buf_beyond_max_keeps_what_was_and_the_error),
        cmocka_unit_test(test_buf_without_memory_keeps_what_was),
        cmocka_unit_test(test_buf_grows_byte_by_byte_to_its_bound),
        cmocka_unit_test(test_format_is_cut_and_terminated),
        cmocka_unit_test(test_digits_are_those_of_printf),
        cmocka_unit_test(test_parse_u64_takes_whole_numbers_only),
        cmocka_unit_test(test_str_in_list_takes_whole_words_only),
        cmocka_unit_test(test_str_compare_orders_by_bytes_then_length),
        cmocka_unit_test(test_hash_depends_on_each_bit_length_and_seed),
        cmocka_unit_test(test_hash_spreads_counting_keys),
        cmocka_unit_test(test_assert_failed_prints_the_place_and_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
