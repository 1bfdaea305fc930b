/* fault_test.c - a point kills the process at the pass that was asked for, and at no other. */
#include "protocol/fault.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Passes point `here` so often with spec armed; true when the process died of it. */
static int dies(const char *spec, int passes)
{
    pid_t child = fork();
    if (child == 0) {
        tw_fault_arm(spec);
        for (int i = 0; i < passes; i++) {
            tw_fault("there");
            tw_fault("here");
        }
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void test_fault_kills_at_the_counted_pass(void **state)
{
    (void)state;
    assert_false(dies("here:3", 2));
    assert_true(dies("here:3", 3));
    assert_false(dies("nowhere:1", 3));
}

static void test_fault_spec_that_is_wrong_is_off(void **state)
{
    (void)state;
    assert_false(dies(NULL, 3));
    assert_false(dies("here", 3));
    assert_false(dies("here:0", 3));
    assert_false(dies("here:x", 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fault_kills_at_the_counted_pass),
        cmocka_unit_test(test_fault_spec_that_is_wrong_is_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
