/* Tests of serve_check: what serve would refuse is refused before, and nothing is made. */
#include "cli/serve/serve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "protocol/base.h"

enum { PATH_LEN = 128, YAML_LEN = 1024 };

typedef struct fixture {
    char directory[64], file[PATH_LEN], secret[PATH_LEN], data[PATH_LEN];
} fixture;

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    tw_format(f->directory, sizeof f->directory, "/tmp/serve-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    tw_format(f->file, sizeof f->file, "%s/tidewire.yaml", f->directory);
    tw_format(f->secret, sizeof f->secret, "%s/secret", f->directory);
    tw_format(f->data, sizeof f->data, "%s/data", f->directory);
    write_file(f->secret, "0123456789abcdef0123456789abcdef", 0600);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    (void)unlink(f->file);
    (void)unlink(f->secret);
    int failed = rmdir(f->directory); /* there is nothing else in it */
    free(f);
    return failed;
}

/* Checks the configuration `text` and `end`. words: what is told; NULL: it is good. */
static void check(const fixture *f, const char *text, const char *end, const char *words)
{
    char yaml[YAML_LEN];
    char told[YAML_LEN];
    tw_format(yaml, sizeof yaml, "%s%s\n", text, end);
    write_file(f->file, yaml, 0600);
    const config_args args = {.file = f->file, .flags = {"data", f->data}, .flags_count = 2};
    int pipe_fds[2];
    int saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(pipe_fds), 0);
    assert_true(dup2(pipe_fds[1], STDERR_FILENO) >= 0);
    close(pipe_fds[1]);
    int status = serve_check("check-config", &args);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    ssize_t len = read(pipe_fds[0], told, sizeof told - 1); /* fewer than a pipe holds */
    close(pipe_fds[0]);
    assert_true(len >= 0);
    told[len] = '\0';
    if (words == NULL) {
        assert_string_equal(told, "");
    } else if (strstr(told, words) == NULL) {
        fail_msg("'%s' does not tell '%s'", told, words);
    }
    assert_int_equal(status, words == NULL ? 0 : 1);
}

static const char key[] = "auth:\n  keys:\n    - alg: HS256\n      file: ";
static const char password[] = "search:\n  urls: http://127.0.0.1:1\n  user: a\n  password_file: ";

static void test_check_good_makes_nothing(void **state)
{
    const fixture *f = *state;
    check(f, "server:\n  listen: 127.0.0.1:1", "", NULL);
    check(f, key, f->secret, NULL);
    check(f, "mongo:\n  uri: mongodb://127.0.0.1:1/x?replicaSet=a", "", NULL);
    check(f, password, f->secret, NULL);
}

static void test_check_addresses(void **state)
{
    const fixture *f = *state;
    check(f, "server:\n  listen: nope", "", "'nope' is not ADDRESS:PORT");
    check(f, "server:\n  admin: 0.0.0.0:8091", "", "for loopback only");
    check(f, "server:\n  listen: 0.0.0.0:8090", "", "would let everybody in");
    check(f, "limits:\n  exempt: here", "", "'here' is neither an address nor a network");
    check(f, "mongo:\n  uri: mongodb://127.0.0.1:1/x?w=0", "", "w=0");
    check(f, "server:\n  log_level: loud", "", "there is no log level 'loud'");
}

static void test_check_keys_and_secrets(void **state)
{
    const fixture *f = *state;
    check(f, key, "/nowhere/key", "/nowhere/key cannot be read");
    write_file(f->secret, "0123456789abcdef0123456789abcdef", 0644);
    check(f, key, f->secret, "holds a secret and others may read it");
    check(f, password, f->secret, "holds a secret and others may read it");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_check_good_makes_nothing),
        T(test_check_addresses),
        T(test_check_keys_and_secrets),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
