/* update_server_test.c - what of an update a MongoDB server is given; that both then mean the same
 * is compared with a server in tests/scenario/test_mongo_data.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/update.h"

#include "tests/support/bson_text.h"

static void test_update_for_server_sets_the_version_and_nothing_else_of_it(void **state)
{
    (void)state;
    static const struct {
        const char *update;
        const char *given; /* NULL: the document is to be replaced */
    } samples[] = {
        {"{'$set':{'a':1}}", "{'$set':{'a':1,'_version':7}}"},
        {"{'$inc':{'n':2}}", "{'$inc':{'n':2},'$set':{'_version':7}}"},
        {"{'$set':{'a':1,'_version':3}}", "{'$set':{'a':1,'_version':7}}"},
        {"{'$inc':{'_version':5,'n':1}}", "{'$inc':{'n':1},'$set':{'_version':7}}"},
        {"{'$unset':{'_version':1},'$push':{'l':1}}", "{'$push':{'l':1},'$set':{'_version':7}}"},
        {"{'$set':{'_version.x':1,'_versions':2}}", "{'$set':{'_versions':2,'_version':7}}"},
        {"{'$setOnInsert':{'a':1},'$inc':{'n':1}}", "{'$inc':{'n':1},'$set':{'_version':7}}"},
        {"{'$rename':{'a':'b'}}", "{'$rename':{'a':'b'},'$set':{'_version':7}}"},
        {"{'$rename':{'a':'_version'}}", NULL},
        {"{'$rename':{'_version':'b','c':'d'}}", NULL},
        {"{'$set':{'_version':3}}", NULL},
        {"{'$setOnInsert':{'a':1}}", NULL},
        {"{}", NULL},
    };
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        tw_bson out;
        bool same = update_for_server(&arena, bson_text(&arena, samples[i].update),
                                      TW_STR("_version"), 7, &out);
        assert_int_equal(same, samples[i].given != NULL);
        if (same) {
            tw_bson wanted = bson_text(&arena, samples[i].given);
            assert_string_equal(bson_shown(&arena, out), bson_shown(&arena, wanted));
        }
    }
    tw_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_update_for_server_sets_the_version_and_nothing_else_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
