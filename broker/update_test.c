/* update_test.c - what each operator does, and what is refused. */
#include "broker/update.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/catalog.h"
#include "broker/regex.h"

#include "tests/support/bson_text.h"
#include "tests/support/test_arena.h"

/* The changed document as JSON; NULL where it is refused. */
static const char *changed(const char *doc, const char *update)
{
    tw_bson out;
    broker_why why = {0};
    tw_err err = update_apply(&arena, bson_text(&arena, doc), bson_text(&arena, update),
                              TW_STR("_id"), 1500, &out, &why);
    if (err != TW_OK) {
        assert_true(why.text[0] != '\0');
        return NULL;
    }
    return bson_shown(&arena, out);
}

static void test_update_operators_change_documents(void **state)
{
    (void)state;
    static const struct {
        const char *doc;
        const char *update;
        const char *result; /* NULL: refused */
    } samples[] = {
        {"{'a':1}", "{'$set':{'b.c':2,'a':3}}", "{'a':3,'b':{'c':2}}"},
        {"{'a':[1]}", "{'$set':{'a.2':3}}", "{'a':[1,null,3]}"},
        {"{'a':1}", "{'$set':{'a.b':2}}", NULL},
        {"{'a':null}", "{'$set':{'a.b':2}}", NULL},
        {"{'a':{'b':1,'c':2}}", "{'$unset':{'a.b':1,'x.y':1}}", "{'a':{'c':2}}"},
        {"{'a':[1,2]}", "{'$unset':{'a.0':1}}", "{'a':[null,2]}"},
        {"{'a':1}", "{'$inc':{'a':2,'b':-1}}", "{'a':3,'b':-1}"},
        {"{'a':2147483647}", "{'$inc':{'a':1}}", "{'a':2147483648}"},
        {"{'a':{'$numberLong':'9223372036854775807'}}", "{'$inc':{'a':1}}", NULL},
        {"{'a':'x'}", "{'$inc':{'a':1}}", NULL},
        {"{'a':1}", "{'$inc':{'a':'x'}}", NULL},
        {"{'a':3}", "{'$mul':{'a':2,'b':7}}", "{'a':6,'b':0}"},
        {"{'a':3}", "{'$min':{'a':2},'$max':{'b':1}}", "{'a':2,'b':1}"},
        {"{'a':1,'b':2}", "{'$rename':{'a':'c.d','x':'y'}}", "{'b':2,'c':{'d':1}}"},
        {"{'a':[{'b':1}]}", "{'$rename':{'a.0.b':'c'}}", NULL},
        {"{'a':[1]}", "{'$push':{'a':[2],'b':1}}", "{'a':[1,[2]],'b':[1]}"},
        {"{'a':1}", "{'$push':{'a':1}}", NULL},
        {"{'a':[3]}", "{'$push':{'a':{'$each':[1,2],'$sort':1,'$slice':-2}}}", "{'a':[2,3]}"},
        {"{'a':[3]}", "{'$push':{'a':{'$each':[1],'$position':0}}}", "{'a':[1,3]}"},
        {"{'a':[3]}", "{'$push':{'a':{'$position':0}}}", NULL},
        {"{'a':[1]}", "{'$addToSet':{'a':{'$each':[1,2,2]}}}", "{'a':[1,2]}"},
        {"{'a':[1,2,3]}", "{'$pull':{'a':{'$gte':2}}}", "{'a':[1]}"},
        {"{'a':[{'b':1,'c':1},{'b':2}]}", "{'$pull':{'a':{'b':1}}}", "{'a':[{'b':2}]}"},
        {"{'a':[1,2]}", "{'$pop':{'a':-1}}", "{'a':[2]}"},
        {"{'a':1}", "{'$setOnInsert':{'b':1}}", "{'a':1}"},
        {"{'a':1}", "{'$currentDate':{'b':true}}",
         "{'a':1,'b':{'$date':'1970-01-01T00:00:01.500Z'}}"},
        {"{'a':1}", "{'$set':{'a':1,'a.b':2}}", NULL},
        {"{'a':1}", "{'$set':{'a':1},'$inc':{'a':2}}", NULL},
        {"{'a':1}", "{'a':2}", NULL},
        {"{'a':1}", "{'$foo':{'a':2}}", NULL},
        {"{'a':1}", "{'$set':{'a.$.b':2}}", NULL},
        {"{'a':1}", "{'$set':{'':2}}", NULL},
        {"{'_id':1}", "{'$set':{'_id':2}}", NULL},
        {"{'_id':1}", "{'$set':{'_id':1}}", "{'_id':1}"},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        const char *got = changed(samples[i].doc, samples[i].update);
        const char *wanted = samples[i].result == NULL
                                 ? NULL
                                 : bson_shown(&arena, bson_text(&arena, samples[i].result));
        if ((got == NULL) != (wanted == NULL) || (got != NULL && strcmp(got, wanted) != 0)) {
            fail_msg("%s of %s: %s", samples[i].update, samples[i].doc, got);
        }
    }
}

static void test_update_of_the_other_two_forms(void **state)
{
    (void)state;
    tw_bson out;
    broker_why why = {0};
    assert_int_equal(update_of_fields(&arena, bson_text(&arena, "{'a':1}"), &out, &why), TW_OK);
    assert_string_equal(bson_shown(&arena, out), "{\"$set\":{\"a\":1}}");
    tw_bson list =
        bson_text(&arena, "{'o':[['INC','views',1],['DEC','left',2],['APPEND','t','x'],"
                          "['APPEND','t','y'],['REMOVE','r',1],['DELETE','d'],"
                          "['APPEND_IF_MISSING','s',1],['SET','a',{'b':1}],['MAX','m',2],"
                          "['MIN','n',3]]}");
    assert_int_equal(update_of_operations(&arena, tw_bson_get_doc(list, TW_STR("o")), &out, &why),
                     TW_OK);
    assert_string_equal(
        bson_shown(&arena, out),
        "{\"$set\":{\"a\":{\"b\":1}},\"$inc\":{\"views\":1,\"left\":-2},\"$max\":{\"m\":2},"
        "\"$min\":{\"n\":3},\"$push\":{\"t\":{\"$each\":[\"x\",\"y\"]}},"
        "\"$addToSet\":{\"s\":{\"$each\":[1]}},\"$pull\":{\"r\":{\"$in\":[1]}},"
        "\"$unset\":{\"d\":true}}");
    static const char *const bad[] = {"{'o':[]}", "{'o':[['SET','a']]}", "{'o':[['NOSUCH','a',1]]}",
                                      "{'o':[['DEC','a','x']]}", "{'o':[5]}"};
    for (size_t i = 0; i < TW_COUNT(bad); i++) {
        tw_bson given = tw_bson_get_doc(bson_text(&arena, bad[i]), TW_STR("o"));
        assert_int_equal(update_of_operations(&arena, given, &out, &why), TW_E_BAD_UPDATE);
    }
}

static void test_update_without_memory_is_an_error(void **state)
{
    (void)state;
    tw_bson doc = bson_text(&arena, "{'a':[1,2,{'b':3}]}");
    tw_bson update =
        bson_text(&arena, "{'$push':{'a':1},'$pull':{'c':{'$gt':1}},'$set':{'d.e':1}}");
    tw_err err = TW_E_NO_MEMORY;
    for (uint64_t nth = 1; err == TW_E_NO_MEMORY && nth < 200; nth++) {
        tw_bson out;
        tw_arena own;
        tw_arena_init(&own, 1 << 20);
        tw_alloc_fail_at(nth);
        err = update_apply(&own, doc, update, TW_STR("_id"), 0, &out, NULL);
        tw_alloc_fail_at(0);
        tw_arena_fini(&own);
    }
    assert_int_equal(err, TW_OK);
}

/* ---- the small ones: regex, names, what is shown ---- */

static void test_regex_refuses_what_is_exponential(void **state)
{
    (void)state;
    static const char *const bad[] = {"(a+)+",   "(a*)*b", "((a{2,})x)*", "(a)\\1", "(?<n>a)\\k<n>",
                                      "(?R)",    "(?1)",   "(*UTF)a",     "(",      "a)(?:b",
                                      "(?(1)a)", "a\\C",   "([a-z]+x)+"};
    static const char *const good[] = {
        "(ab)+", "a+b*", "^(\\d{2}-)*$", "[)(+*]+",     "\\(a+\\)+", "(a|b)*c",
        "(?i)x", "a{3}", "(?:a?b)+",     "\\Q(a+)+\\E", "{x"};
    regex *made = NULL;
    for (size_t i = 0; i < TW_COUNT(bad); i++) {
        if (regex_new(tw_str_of(bad[i]), TW_STR(""), &made, NULL) != TW_E_BAD_FILTER) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
    for (size_t i = 0; i < TW_COUNT(good); i++) {
        broker_why why = {0};
        if (regex_new(tw_str_of(good[i]), TW_STR(""), &made, &why) != TW_OK) {
            fail_msg("refused: %s: %s", good[i], why.text);
        }
        regex_free(&made);
    }
    assert_int_equal(regex_new(TW_STR("a"), TW_STR("g"), &made, NULL), TW_E_BAD_FILTER);
    assert_int_equal(regex_new(TW_STR("a b # c)"), TW_STR("x"), &made, NULL), TW_OK);
    assert_int_equal(regex_match(made, TW_STR("zzab")), REGEX_YES);
    regex_free(&made);
}

static void test_names_and_shown_input(void **state)
{
    (void)state;
    char shown[BROKER_SHOWN_MAX];
    static char longer[TW_NAME_MAX + 1];
    memset(longer, 'n', sizeof longer);
    assert_int_equal(catalog_check_name(TW_STR("entries")), TW_OK);
    assert_int_equal(catalog_check_name(TW_STR("")), TW_E_BAD_MESSAGE);
    assert_int_equal(catalog_check_name(TW_STR("a$b")), TW_E_BAD_MESSAGE);
    assert_int_equal(catalog_check_name(TW_STR("a\0b")), TW_E_BAD_MESSAGE);
    assert_int_equal(catalog_check_name(TW_STR("system.users")), TW_E_BAD_MESSAGE);
    assert_int_equal(catalog_check_name((tw_str){longer, sizeof longer}), TW_E_BAD_MESSAGE);
    assert_string_equal(broker_show(TW_STR("a\"\n\xc3\xa4"), shown), "a\\x22\\x0a\\xc3\\xa4");
    memset(longer, '\n', sizeof longer);
    assert_int_equal(strlen(broker_show((tw_str){longer, sizeof longer}, shown)),
                     TW_SHOWN_INPUT_MAX * 4 + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_update_operators_change_documents),
        cmocka_unit_test(test_update_of_the_other_two_forms),
        cmocka_unit_test(test_update_without_memory_is_an_error),
        cmocka_unit_test(test_regex_refuses_what_is_exponential),
        cmocka_unit_test(test_names_and_shown_input),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
