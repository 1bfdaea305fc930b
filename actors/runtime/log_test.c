/* log_test.c - one line a call, cut, without control bytes. */
#include "actors/runtime/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "protocol/limits.h"

static int saved_fd;
static int pipe_fds[2];

static int capture_begin(void **unused)
{
    (void)unused;
    saved_fd = dup(STDERR_FILENO);
    return pipe(pipe_fds) != 0 || dup2(pipe_fds[1], STDERR_FILENO) < 0 ? -1 : 0;
}

static int capture_end(void **unused)
{
    (void)unused;
    dup2(saved_fd, STDERR_FILENO);
    close(saved_fd);
    close(pipe_fds[0]);
    return close(pipe_fds[1]);
}

static void test_line_has_time_level_and_no_control_bytes(void **unused)
{
    (void)unused;
    tw_log(TW_LOG_DEBUG, "store", "not shown");
    tw_log(TW_LOG_WARN, "store", "a%cb\nforged", 27);
    char line[TW_LOG_LINE_MAX];
    ssize_t len = read(pipe_fds[0], line, sizeof line - 1);
    assert_true(len > 26);
    line[len] = '\0';
    assert_int_equal(line[10], 'T');
    assert_int_equal(line[23], 'Z');
    assert_string_equal(line + 24, " warn  store: a?b?forged\n");
}

static void test_line_too_long_is_cut(void **unused)
{
    (void)unused;
    char text[2 * TW_LOG_LINE_MAX];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    tw_log_set_level(TW_LOG_DEBUG);
    tw_log(TW_LOG_DEBUG, "store", "%s", text);
    char line[2 * TW_LOG_LINE_MAX];
    ssize_t len = read(pipe_fds[0], line, sizeof line);
    assert_int_equal(len, TW_LOG_LINE_MAX);
    assert_int_equal(line[len - 1], '\n');
    assert_int_equal(line[len - 2], 'x');
}

static void test_warning_said_again_is_counted_and_not_told(void **unused)
{
    (void)unused;
    for (int i = 0; i < 100; i++) {
        tw_log(TW_LOG_WARN, "repeated", "%d rows refused", i);
    }
    tw_log(TW_LOG_INFO, "repeated", "7 rows refused"); /* news are no warnings: each is told */
    tw_log(TW_LOG_INFO, "repeated", "8 rows refused");
    char lines[8 * TW_LOG_LINE_MAX];
    ssize_t len = read(pipe_fds[0], lines, sizeof lines - 1);
    assert_true(len > 0);
    lines[len] = '\0';
    const char *second = strchr(lines, '\n') + 1;
    const char *third = strchr(second, '\n') + 1;
    assert_string_equal(third + 24, " info  repeated: 8 rows refused\n");
    assert_memory_equal(second + 24, " info  repeated: 7 rows refused\n", 32);
    assert_memory_equal(lines + 24, " warn  repeated: 0 rows refused\n", 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_line_has_time_level_and_no_control_bytes,
                                        capture_begin, capture_end),
        cmocka_unit_test_setup_teardown(test_line_too_long_is_cut, capture_begin, capture_end),
        cmocka_unit_test_setup_teardown(test_warning_said_again_is_counted_and_not_told,
                                        capture_begin, capture_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
