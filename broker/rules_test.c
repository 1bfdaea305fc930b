/* rules_test.c - the report preset: what is refused by which name, what the server adds. */
#include "broker/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/bson_text.h"

static tw_arena arena;
static catalog_collection preset[3];

static int setup(void **state)
{
    (void)state;
    tw_arena_init(&arena, 16 << 20);
    catalog_report_preset("main", preset);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tw_arena_fini(&arena);
    return 0;
}

/* Knows versions v1 of entry e1 and w1 of entry e2. */
static bool lookup(void *context, tw_key key, tw_arena *memory, tw_bson *out)
{
    (void)context;
    tw_str id = tw_bson_value_str(tw_key_value(key));
    if (tw_str_equal(id, TW_STR("v1"))) {
        *out = bson_text(memory, "{'version_uuid':'v1','entry_uuid':'e1'}");
        return true;
    }
    *out = bson_text(memory, "{'version_uuid':'w1','entry_uuid':'e2'}");
    return tw_str_equal(id, TW_STR("w1"));
}

static const char *rule_of(int collection, const char *doc, const char *old, tw_bson *out)
{
    static broker_why why;
    why = (broker_why){0};
    tw_bson before = old == NULL ? (tw_bson){0} : bson_text(&arena, old);
    tw_err err = rules_check(&preset[collection], &arena, bson_text(&arena, doc), before,
                             (tw_position){3, 40}, 1700000000123, lookup, NULL, out, &why);
    assert_true(err == TW_OK || err == TW_E_RULE);
    assert_int_equal(err == TW_OK, why.rule[0] == '\0');
    return why.rule;
}

#define ENTRY "'proj_id':7,'report_uuid':'r','entry_uuid':'e1','version_uuid':'v2'"

static void test_rules_each_refusal_has_its_name(void **state)
{
    (void)state;
    static const struct {
        int collection;
        const char *doc;
        const char *rule;
    } samples[] = {
        {0, "{" ENTRY ",'clip_id':'1','content':{'a':'b'},'modifies':null,'reason':null}", ""},
        {0, "{" ENTRY ",'clip_id':'1','content':{}}", ""},
        {0, "{'report_uuid':'r','entry_uuid':'e1','version_uuid':'v2'}", "entry.proj_id"},
        {0, "{'proj_id':7,'report_uuid':'r','entry_uuid':'','version_uuid':'v2'}",
         "entry.entry_uuid"},
        {0, "{" ENTRY ",'clip_id':null,'content':{}}", "entry.clip_id"},
        {0, "{" ENTRY ",'clip_id':'1','content':{'a':null}}", "entry.content"},
        {0, "{" ENTRY ",'clip_id':'1','content':{},'reason':'x'}", "entry.reason"},
        {0, "{" ENTRY ",'modifies':['v1'],'reason':'x','clip_id':null,'content':{'a':null}}", ""},
        {0, "{" ENTRY ",'modifies':['v1'],'reason':'x','clip_id':null,'content':null}", ""},
        {0, "{" ENTRY ",'modifies':['v1'],'reason':null}", "entry.reason"},
        {0, "{" ENTRY ",'modifies':[],'reason':'x'}", "entry.modifies"},
        {0, "{" ENTRY ",'modifies':['v9'],'reason':'x'}", "entry.modifies_unknown"},
        {0, "{" ENTRY ",'modifies':['v1','w1'],'reason':'x'}", "entry.modifies_other_entry"},
        {0, "{" ENTRY ",'clip_id':'1','content':{},'archivetime':[[1]]}", "entry.archivetime"},
        {1, "{'proj_id':7,'links':[]}", ""},
        {1, "{'proj_id':7,'links':[['report','r'],['entity','x']],'thread_uuid':'t'}", ""},
        {1, "{'proj_id':7}", "thread.links"},
        {1, "{'proj_id':7,'links':[['nosuch','r']]}", "thread.link_type"},
        {1, "{'proj_id':7,'links':[['report']]}", "thread.links"},
        {1, "{'proj_id':7,'links':[],'thread_uuid':5}", "thread.thread_uuid"},
        {1, "{'links':[]}", "thread.proj_id"},
        {2,
         "{'proj_id':7,'comment_uuid':'c','thread_uuid':'t','authortime':'2022-01-01T17:05:00Z'}",
         ""},
        {2,
         "{'proj_id':7,'comment_uuid':'c','thread_uuid':'t','authortime':"
         "'2022-01-01T17:05:00.5+01:00'}",
         ""},
        {2, "{'proj_id':7,'comment_uuid':'c','thread_uuid':'t','authortime':'yesterday'}",
         "comment.authortime"},
        {2,
         "{'proj_id':7,'comment_uuid':'c','thread_uuid':'t','authortime':'2022-13-01T17:05:00Z'}",
         "comment.authortime"},
        {2, "{'proj_id':7,'thread_uuid':'t','authortime':'2022-01-01T17:05:00Z'}",
         "comment.comment_uuid"},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        tw_bson out;
        const char *rule = rule_of(samples[i].collection, samples[i].doc, NULL, &out);
        if (strcmp(rule, samples[i].rule) != 0) {
            fail_msg("%s: \"%s\"", samples[i].doc, rule);
        }
    }
}

static void test_rules_add_keys_and_the_time_of_submission(void **state)
{
    (void)state;
    tw_bson out;
    rule_of(2,
            "{'proj_id':7,'comment_uuid':'c','thread_uuid':'t','submissiontime':'x',"
            "'authortime':'2022-01-01T17:05:00Z','_content':[1,2]}",
            NULL, &out);
    assert_int_equal(tw_bson_get(out, TW_STR("_id")).type, TW_BSON_OBJECT_ID);
    assert_true(tw_str_equal(tw_bson_get_str(out, TW_STR("submissiontime")),
                             TW_STR("2023-11-14T22:13:20.123Z")));
    assert_int_equal(tw_bson_get(out, TW_STR("_content")).type, 0);
    rule_of(1, "{'proj_id':7,'links':[],'thread_uuid':null}", NULL, &out);
    assert_int_equal(tw_bson_get_str(out, TW_STR("thread_uuid")).len, 24);
    assert_int_equal(tw_bson_count(out), 3);
}

static void test_rules_only_archivetime_changes_and_does_not_move_the_record(void **state)
{
    (void)state;
    static const char old[] = "{" ENTRY ",'clip_id':'1','content':{},'_version':1}";
    tw_bson out;
    assert_string_equal(rule_of(0, "{" ENTRY ",'clip_id':'2','content':{}}", old, &out),
                        "entry.immutable");
    assert_string_equal(
        rule_of(0, "{" ENTRY ",'clip_id':'1','content':{},'archivetime':[[3,40]]}", old, &out), "");
    assert_true(rules_archived(out, (tw_position){3, 99}));
    assert_false(rules_edited_after_archive(out, (tw_position){3, 99}));
    tw_bson early = bson_text(&arena, "{'archivetime':[[3,39],[4,99]]}");
    assert_false(rules_archived(early, (tw_position){3, 40}));
    assert_true(rules_edited_after_archive(early, (tw_position){3, 40}));
    assert_false(rules_edited_after_archive(bson_text(&arena, "{}"), (tw_position){3, 40}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_each_refusal_has_its_name),
        cmocka_unit_test(test_rules_add_keys_and_the_time_of_submission),
        cmocka_unit_test(test_rules_only_archivetime_changes_and_does_not_move_the_record),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
