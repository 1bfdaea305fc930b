/* Tests of the table of actors: which the program has, and what brings each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/serve/serve_priv.h"

/* What a configuration without any key gives, as far as the table looks at it. */
static config_options defaults(void)
{
    return (config_options){
        .readers = 2,
        .gateways = 1,
        .service = "",
        .mongo_uri = "",
        .mongo_readers = 4,
        .search_urls = "",
        .only = "",
    };
}

/* The names of all actors that the program has, in order, with blanks. */
static const char *names_of(const config_options *option, char out[1024])
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; tw_actor_names[i] != NULL; i++) {
        if (serve_has_actor(option, tw_actor_names[i])) {
            tw_format(out + len, 1024 - len, "%s ", tw_actor_names[i]);
            len += strlen(out + len);
        }
    }
    return out;
}

static void test_serve_has_actor_embedded(void **state)
{
    (void)state;
    char names[1024];
    config_options option = defaults();
    assert_string_equal(names_of(&option, names),
                        "store log_reader.0 log_reader.1 subscription_manager gateway service "
                        "embedded_search processor ");
    option.service = "none";
    assert_false(serve_has_actor(&option, "service"));
}

static void test_serve_has_actor_everything(void **state)
{
    (void)state;
    char names[1024];
    config_options option = defaults();
    option.mongo_uri = "mongodb://127.0.0.1";
    option.mongo_readers = 1;
    option.search_urls = "http://127.0.0.1:9200";
    option.readers = 1;
    option.gateways = 3;
    assert_string_equal(names_of(&option, names),
                        "store log_reader.0 subscription_manager gateway service mongo_writer "
                        "change_tailer es_proxy indexer processor mongo_reader.0 gateway.1 "
                        "gateway.2 ");
}

/* Names that are none, though they begin or end as one does. */
static void test_serve_has_actor_strangers(void **state)
{
    (void)state;
    const config_options option = defaults();
    static const char *const strangers[] = {"",          "stor",         "stores",    "store.0",
                                            "gateway.0", "log_reader.2", "log_reader"};
    for (size_t i = 0; i < TW_COUNT(strangers); i++) {
        assert_false(serve_has_actor(&option, strangers[i]));
    }
}

static void test_serve_is_wanted_whole_names(void **state)
{
    (void)state;
    struct program *program = tw_alloc_zero(1, sizeof *program);
    assert_non_null(program);
    program->config.option = defaults();
    assert_true(serve_is_wanted(program, "store"));
    program->config.option.only = "gateway.1,service";
    assert_true(serve_is_wanted(program, "gateway.1"));
    assert_true(serve_is_wanted(program, "service"));
    assert_false(serve_is_wanted(program, "gateway"));
    assert_false(serve_is_wanted(program, "gateway.11"));
    assert_false(serve_is_wanted(program, "store"));
    program->actor = "store"; /* which is said more plainly than --only */
    assert_true(serve_is_wanted(program, "store"));
    assert_false(serve_is_wanted(program, "service"));
    tw_free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serve_has_actor_embedded),
        cmocka_unit_test(test_serve_has_actor_everything),
        cmocka_unit_test(test_serve_has_actor_strangers),
        cmocka_unit_test(test_serve_is_wanted_whole_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
