/* auth_test.c - claims and times, key files, and who nobody is. */
#include "gateways/auth/auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { NOW_S = 1800000000, LEEWAY_S = 30 };

static char file[64];
static auth_key_options key = {.kid = "main", .alg = "HS256", .file = file};
static const rights_rule rules[] = {
    {.role = "reader", .collection = "notes", .verbs = RIGHTS_READ},
    {.role = "anonymous", .collection = "news", .verbs = RIGHTS_READ},
};
static auth_options options = {
    .keys = &key,
    .keys_count = 1,
    .jwks = "",
    .jwks_ca = "",
    .issuer = "https://id.example",
    .audience = "tidewire",
    .roles = "realm.roles",
    .leeway_s = LEEWAY_S,
    .rules = {.at = rules, .count = 2, .default_database = "main"},
};

static void write_file(const char *text, mode_t mode)
{
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
    assert_int_equal(chmod(file, mode), 0);
}

static int setup(void **state)
{
    (void)state;
    tw_format(file, sizeof file, "auth_test.%d.key", (int)getpid());
    write_file("0123456789abcdef0123456789abcdef\n", 0600);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return unlink(file);
}

static tw_err identify(auth *self, const char *claims, auth_identity *out, broker_why *why)
{
    tw_buf token;
    *why = (broker_why){0};
    tw_buf_init(&token, 65536);
    assert_int_equal(auth_sign(&key, tw_str_of(claims), &token, why), TW_OK);
    tw_err err = auth_identify(self, tw_buf_str(&token), NOW_S, out, why);
    tw_buf_fini(&token);
    return err;
}

#define OURS "\"iss\":\"https://id.example\",\"aud\":\"tidewire\","

static void test_auth_claims_and_times_looked_at(void **state)
{
    (void)state;
    static const struct {
        const char *claims, *because; /* NULL: good */
    } cases[] = {
        {"{" OURS "\"exp\":1800000060}", NULL},
        {"{" OURS "\"exp\":1799999971}", NULL}, /* within the leeway */
        {"{" OURS "\"exp\":1799999970}", "expired"},
        {"{" OURS "\"exp\":1800000060.5}", NULL},
        {"{" OURS "\"a\":1}", "(exp)"},
        {"{" OURS "\"exp\":\"1800000060\"}", "(exp)"},
        {"{" OURS "\"exp\":null}", "(exp)"},
        {"{" OURS "\"exp\":-1}", "(exp)"},
        {"{" OURS "\"exp\":1e300}", "(exp)"},
        {"{" OURS "\"exp\":1800000060,\"nbf\":1800000030}", NULL},
        {"{" OURS "\"exp\":1800000060,\"nbf\":1800000031}", "(nbf)"},
        {"{" OURS "\"exp\":1800000060,\"nbf\":\"soon\"}", "(nbf)"},
        {"{\"iss\":\"https://id.example.evil\",\"aud\":\"tidewire\",\"exp\":1800000060}", "(iss)"},
        {"{\"aud\":\"tidewire\",\"exp\":1800000060}", "(iss)"},
        {"{\"iss\":[\"https://id.example\"],\"aud\":\"tidewire\",\"exp\":1800000060}", "(iss)"},
        {"{\"iss\":\"https://id.example\",\"exp\":1800000060}", "(aud)"},
        {"{\"iss\":\"https://id.example\",\"aud\":\"other\",\"exp\":1800000060}", "(aud)"},
        {"{\"iss\":\"https://id.example\",\"aud\":[\"a\",\"tidewire\"],\"exp\":1800000060}", NULL},
        {"{\"iss\":\"https://id.example\",\"aud\":[\"a\"],\"exp\":1800000060}", "(aud)"},
    };
    auth *self = NULL;
    broker_why why = {0};
    assert_int_equal(auth_new(&self, &options, &why), TW_OK);
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        auth_identity who = {0};
        tw_err err = identify(self, cases[i].claims, &who, &why);
        if (cases[i].because == NULL) {
            assert_int_equal(err, TW_OK);
            assert_false(auth_identity_over(self, &who, NOW_S));
            assert_true(auth_identity_over(self, &who, who.expires_s + LEEWAY_S));
        } else {
            assert_int_equal(err, TW_E_TOKEN);
            assert_non_null(strstr(why.text, cases[i].because));
            assert_null(who.rights);
        }
        auth_identity_fini(&who);
    }
    auth_free(&self);
}

static bool may_read(const auth_identity *who, const char *coll)
{
    tw_arena arena;
    rights_grant grant;
    tw_arena_init(&arena, 65536);
    assert_int_equal(
        rights_of(who->rights, &arena, TW_STR("main"), tw_str_of(coll), RIGHTS_READ, &grant),
        TW_OK);
    tw_arena_fini(&arena);
    return grant.allowed;
}

static void test_auth_roles_of_a_path_and_nobody(void **state)
{
    (void)state;
    auth *self = NULL;
    auth_identity who = {0};
    broker_why why = {0};
    assert_int_equal(auth_new(&self, &options, &why), TW_OK);
    const char *reader =
        "{" OURS "\"exp\":1800000060,\"sub\":\"ada\",\"realm\":{\"roles\":[\"x\",\"reader\"]}}";
    assert_int_equal(identify(self, reader, &who, &why), TW_OK);
    assert_true(may_read(&who, "notes"));
    assert_false(may_read(&who, "news")); /* a role that a token cannot name */
    assert_true(tw_str_equal(rights_subject(who.rights), TW_STR("ada")));
    auth_identity_fini(&who);
    const char *liar = "{" OURS "\"exp\":1800000060,\"realm\":{\"roles\":[\"anonymous\",\"*\",5]}}";
    assert_int_equal(identify(self, liar, &who, &why), TW_OK);
    assert_false(may_read(&who, "news"));
    assert_false(may_read(&who, "notes"));
    auth_identity_fini(&who);
    assert_int_equal(auth_identify(self, (tw_str){NULL, 0}, NOW_S, &who, &why), TW_OK);
    assert_true(may_read(&who, "news"));
    assert_false(may_read(&who, "notes"));
    assert_false(auth_identity_over(self, &who, UINT64_MAX / 2));
    auth_identity_fini(&who);
    auth_free(&self);
    auth_options closed = options;
    closed.rules.count = 1;
    assert_int_equal(auth_new(&self, &closed, &why), TW_OK);
    assert_int_equal(auth_identify(self, (tw_str){NULL, 0}, NOW_S, &who, &why), TW_E_TOKEN);
    auth_free(&self);
}

static void test_auth_key_files_that_are_not_fit_refused(void **state)
{
    (void)state;
    auth *self = NULL;
    broker_why why = {0};
    write_file("0123456789abcdef0123456789abcdef\n", 0640);
    assert_int_equal(auth_new(&self, &options, &why), TW_E_BAD_CONFIG);
    assert_non_null(strstr(why.text, "chmod 600"));
    write_file("short\n", 0600);
    assert_int_equal(auth_new(&self, &options, &why), TW_E_BAD_CONFIG);
    assert_non_null(strstr(why.text, "32 to"));
    write_file("0123456789abcdef0123456789abcdef\n", 0600);
    const auth_key_options wrong[] = {
        {.kid = "a", .alg = "none", .file = file},
        {.kid = "a", .alg = "RS256", .file = file},
        {.kid = "a", .alg = "HS256", .file = "no_such_file.key"},
    };
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        auth_options other = options;
        other.keys = &wrong[i];
        assert_int_equal(auth_new(&self, &other, &why), TW_E_BAD_CONFIG);
        assert_null(self);
    }
    const auth_key_options twice[] = {key, key};
    auth_options both = options;
    both.keys = twice;
    both.keys_count = 2;
    assert_int_equal(auth_new(&self, &both, &why), TW_E_BAD_CONFIG);
    assert_non_null(strstr(why.text, "twice"));
}

static int freed;

static void count_free(void *memory)
{
    (void)memory;
    freed++;
}

static void test_auth_reload_replaces_or_keeps(void **state)
{
    (void)state;
    auth *self;
    auth_identity who;
    rights *now = NULL;
    broker_why why;
    static const rights_rule none[] = {{.role = "x", .collection = "y", .verbs = RIGHTS_READ}};
    auth_options other = options;
    auth_options broken = options;
    const auth_key_options nowhere = {.kid = "main", .alg = "HS256", .file = "/nowhere"};
    write_file("0123456789abcdef0123456789abcdef\n", 0600);
    assert_int_equal(auth_new(&self, &options, &why), TW_OK);
    const char *claims = "{\"iss\":\"https://id.example\",\"aud\":\"tidewire\",\"exp\":4000000000,"
                         "\"sub\":\"ada\",\"realm\":{\"roles\":[\"reader\"]}}";
    assert_int_equal(identify(self, claims, &who, &why), TW_OK);
    unsigned generation = auth_generation(self);
    broken.keys = &nowhere;
    assert_int_equal(auth_reload(self, &broken, self, count_free, &why), TW_E_BAD_CONFIG);
    assert_non_null(strstr(why.text, "/nowhere"));
    assert_int_equal(auth_generation(self), generation);
    assert_int_equal(auth_rights(self, &who, &now), TW_OK);
    assert_true(rights_equal(now, who.rights));
    rights_drop(&now);
    other.rules = (rights_table){.at = none, .count = 1, .default_database = "main"};
    assert_int_equal(auth_reload(self, &other, self, count_free, &why), TW_OK);
    assert_int_not_equal(auth_generation(self), generation);
    assert_int_equal(auth_rights(self, &who, &now), TW_OK);
    assert_false(rights_equal(now, who.rights));
    assert_false(rights_any(now));
    assert_true(rights_any(who.rights)); /* held, as they were */
    assert_int_equal(freed, 0);
    assert_int_equal(auth_reload(self, &options, self, count_free, &why), TW_OK);
    assert_int_equal(freed, 1); /* what the first reload took; the refused one took nothing */
    rights_drop(&now);
    assert_int_equal(auth_rights(self, &who, &now), TW_OK);
    assert_true(rights_equal(now, who.rights));
    rights_drop(&now);
    auth_identity_fini(&who);
    auth_free(&self);
    assert_int_equal(freed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auth_claims_and_times_looked_at),
        cmocka_unit_test(test_auth_roles_of_a_path_and_nobody),
        cmocka_unit_test(test_auth_key_files_that_are_not_fit_refused),
        cmocka_unit_test(test_auth_reload_replaces_or_keeps),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
