/* aggregate_test.c - pipelines against what MongoDB's manual says of them. */
#include "broker/aggregate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protocol/limits.h"

#include "broker/query.h"

#include "tests/support/bson_text.h"
#include "tests/support/test_arena.h"

static const char *const sales[] = {
    "{'_id':1,'item':'a','price':10,'n':2,'day':{'m':1}}",
    "{'_id':2,'item':'b','price':20,'n':1,'day':{'m':1}}",
    "{'_id':3,'item':'b','price':5.5,'n':10,'day':{'m':2}}",
    "{'_id':4,'item':'a','price':10,'n':5,'tag':'x'}",
    "{'_id':5,'price':null,'n':1,'tag':'x'}",
};

/* The pipeline's documents as JSON in brackets, or "CODE: why". */
static const char *result(const char *pipeline, const char *const *docs, size_t count)
{
    aggregate *self = NULL;
    broker_why why = {0};
    char wrapped[2048];
    tw_format(wrapped, sizeof wrapped, "{'p':%s}", pipeline);
    tw_bson given = tw_bson_get_doc(bson_text(&arena, wrapped), TW_STR("p"));
    tw_err err = aggregate_new(&self, given, &why);
    bool enough = false;
    query *leading = NULL; /* whoever finds the documents applies it */
    if (err == TW_OK) {
        err = query_compile(aggregate_filter(self), &leading, &why);
    }
    for (size_t i = 0; err == TW_OK && i < count && !enough; i++) {
        tw_bson doc = bson_text(&arena, docs[i]);
        err = query_match(leading, doc) ? aggregate_add(self, doc, &enough, &why) : TW_OK;
    }
    query_free(&leading);
    if (err == TW_OK) {
        err = aggregate_end(self, &why);
    }
    if (err != TW_OK) {
        assert_true(why.text[0] != '\0');
        aggregate_free(&self);
        return tw_arena_format(&arena, "%s: %s", tw_err_code(err), why.text);
    }
    const char *out = "";
    for (size_t i = 0; i < aggregate_count(self); i++) {
        out = tw_arena_format(&arena, "%s%s", out, bson_shown(&arena, aggregate_at(self, i)));
    }
    aggregate_free(&self);
    return out;
}

typedef struct sample {
    const char *pipeline, *told;
} sample;

static void check(const sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *got = result(samples[i].pipeline, sales, TW_COUNT(sales));
        const char *wanted = tw_arena_format(&arena, "%s", samples[i].told);
        for (char *at = (char *)(uintptr_t)wanted; *at != '\0'; at++) {
            *at = (char)(*at == '\'' ? '"' : *at);
        }
        if (strcmp(got, wanted) != 0) {
            fail_msg("%s\n  gave  %s\n  not   %s", samples[i].pipeline, got, wanted);
        }
    }
}

static void test_aggregate_stages_pass_on_as_mongodb_does(void **state)
{
    (void)state;
    static const sample samples[] = {
        {"[{'$match':{'tag':'x'}},{'$project':{'n':1}}]", "{'_id':4,'n':5}{'_id':5,'n':1}"},
        {"[{'$match':{'n':{'$gt':1}}},{'$match':{'item':'a'}},{'$project':{'n':1,'_id':0}}]",
         "{'n':2}{'n':5}"},
        {"[{'$sort':{'item':1,'price':-1}},{'$project':{'_id':1}}]",
         "{'_id':5}{'_id':1}{'_id':4}{'_id':2}{'_id':3}"},
        {"[{'$sort':{'day.m':-1}},{'$limit':2},{'$project':{'_id':1}}]", "{'_id':3}{'_id':1}"},
        {"[{'$skip':1},{'$limit':2},{'$project':{'_id':1}}]", "{'_id':2}{'_id':3}"},
        {"[{'$match':{'n':1}},{'$count':'all'}]", "{'all':2}"},
        {"[{'$match':{'n':77}},{'$count':'all'}]", ""},
        {"[{'$limit':1},{'$project':{'price':0,'day':0}}]", "{'_id':1,'item':'a','n':2}"},
        {"[{'$limit':1},{'$project':{'day.m':1,'what':'$item','v':{'$literal':'$x'},'_id':0}}]",
         "{'day':{'m':1},'what':'a','v':'$x'}"},
        {"[{'$limit':1},{'$project':{'_id':1,'price':0,'day':0,'n':0}}]", "{'_id':1,'item':'a'}"},
        {"[{'$limit':1},{'$project':{'_id':'$item'}}]", "{'_id':'a'}"},
        {"[{'$limit':1},{'$project':{'gone':'$nothing'}}]", "{'_id':1}"},
        {"[{'$limit':1},{'$project':{'_id':0}}]", "{'item':'a','price':10,'n':2,'day':{'m':1}}"},
    };
    check(samples, TW_COUNT(samples));
}

static void test_aggregate_groups_gather_as_mongodb_does(void **state)
{
    (void)state;
    static const sample samples[] = {
        {"[{'$group':{'_id':'$item','n':{'$sum':'$n'},'all':{'$sum':1}}}]",
         "{'_id':'a','n':7,'all':2}{'_id':'b','n':11,'all':2}{'_id':null,'n':1,'all':1}"},
        {"[{'$group':{'_id':null,'a':{'$avg':'$price'},'lo':{'$min':'$price'},'hi':{'$max':'$price'"
         "}}}]",
         "{'_id':null,'a':11.375,'lo':5.5,'hi':20}"},
        {"[{'$group':{'_id':'$item','p':{'$push':'$price'},'s':{'$addToSet':'$price'}}}]",
         "{'_id':'a','p':[10,10],'s':[10]}{'_id':'b','p':[20,5.5],'s':[20,5.5]}"
         "{'_id':null,'p':[null],'s':[null]}"},
        {"[{'$sort':{'n':1}},{'$group':{'_id':'$item','f':{'$first':'$n'},'l':{'$last':'$n'}}}]",
         "{'_id':'b','f':1,'l':10}{'_id':null,'f':1,'l':1}{'_id':'a','f':2,'l':5}"},
        {"[{'$group':{'_id':{'i':'$item','m':'$day.m'},'c':{'$sum':1}}},{'$match':{'_id.i':'b'}}]",
         "{'_id':{'i':'b','m':1},'c':1}{'_id':{'i':'b','m':2},'c':1}"},
        {"[{'$group':{'_id':'$tag','x':{'$sum':'$item'},'y':{'$avg':'$item'},'z':{'$max':'$no'}}}]",
         "{'_id':null,'x':0,'y':null,'z':null}{'_id':'x','x':0,'y':null,'z':null}"},
        {"[{'$group':{'_id':'$item','n':{'$sum':'$n'}}},{'$sort':{'n':-1}},{'$limit':1}]",
         "{'_id':'b','n':11}"},
        {"[{'$group':{'_id':'$item'}},{'$count':'kinds'}]", "{'kinds':3}"},
    };
    check(samples, TW_COUNT(samples));
}

static void test_aggregate_equal_numbers_are_one_group_and_sums_do_not_wrap(void **state)
{
    (void)state;
    static const char *const docs[] = {"{'a':1,'n':9223372036854775807}",
                                       "{'a':1.0,'n':9223372036854775807}", "{'a':'1','n':0.5}"};
    const char *got = result("[{'$group':{'_id':'$a','s':{'$sum':'$n'}}}]", docs, TW_COUNT(docs));
    assert_string_equal(got, "{\"_id\":1,\"s\":1.8446744073709552e+19}{\"_id\":\"1\",\"s\":0.5}");
}

static void test_aggregate_what_is_not_offered_is_named(void **state)
{
    (void)state;
    static const sample samples[] = {
        {"[{'$lookup':{}}]", "unsupported: there is no stage $lookup"},
        {"[{'$match':{'$where':'1'}}]", "bad_filter: "},
        {"[{'$match':7}]", "bad_query: $match"},
        {"[{}]", "bad_query: a stage is"},
        {"[7]", "bad_query: a stage is"},
        {"[{'$limit':1,'$skip':1}]", "bad_query: a stage is"},
        {"[{'$limit':0}]", "bad_query: $limit"},
        {"[{'$limit':'1'}]", "bad_query: $limit"},
        {"[{'$skip':-1}]", "bad_query: $skip"},
        {"[{'$count':''}]", "bad_query: $count"},
        {"[{'$count':'$a'}]", "bad_query: $count"},
        {"[{'$sort':{}}]", "bad_query: $sort"},
        {"[{'$sort':{'a':2}}]", "bad_query: $sort"},
        {"[{'$project':{}}]", "bad_query: $project"},
        {"[{'$project':{'a':1,'b':0}}]", "bad_query: $project either"},
        {"[{'$project':{'a.b':0}}]", "bad_query: $project: a dotted"},
        {"[{'$project':{'a':{'$add':[1,2]}}}]", "unsupported: $project"},
        {"[{'$project':{'a':'$$ROOT'}}]", "unsupported: $project"},
        {"[{'$group':{'n':{'$sum':1}}}]", "bad_query: $group needs _id"},
        {"[{'$group':{'_id':1,'n':1}}]", "bad_query: $group: n takes"},
        {"[{'$group':{'_id':1,'n':{'$stdDevPop':'$a'}}}]", "unsupported: there is no accumulator"},
        {"[{'$group':{'_id':{'$add':[1]}}}]", "unsupported: $group: _id"},
        {"[{'$group':{'_id':1,'n':{'$sum':{'$add':[1]}}}}]", "unsupported: $sum"},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        const char *got = result(samples[i].pipeline, sales, TW_COUNT(sales));
        if (strncmp(got, samples[i].told, strlen(samples[i].told)) != 0) {
            fail_msg("%s gave %s", samples[i].pipeline, got);
        }
    }
    const char *many = "[{'$skip':0},{'$skip':0},{'$skip':0},{'$skip':0},{'$skip':0},{'$skip':0},"
                       "{'$skip':0},{'$skip':0},{'$skip':0},{'$skip':0},{'$skip':0},{'$skip':0},"
                       "{'$skip':0},{'$skip':0},{'$skip':0},{'$skip':0},{'$skip':0}]";
    assert_memory_equal(result(many, sales, 1), "too_many", 8);
}

static void test_aggregate_bounds_are_told(void **state)
{
    (void)state;
    aggregate *self = NULL;
    broker_why why = {0};
    bool enough = false;
    tw_bson given = tw_bson_get_doc(
        bson_text(&arena, "{'p':[{'$group':{'_id':1,'s':{'$addToSet':'$a'}}}]}"), TW_STR("p"));
    assert_int_equal(aggregate_new(&self, given, &why), TW_OK);
    tw_err err = TW_OK;
    for (int i = 0; i < 1002 && err == TW_OK; i++) {
        char doc[64];
        tw_format(doc, sizeof doc, "{'a':%d}", i % 1001);
        err = aggregate_add(self, bson_text(&arena, doc), &enough, &why);
    }
    assert_int_equal(err, TW_E_TOO_COSTLY);
    aggregate_free(&self);
    given = tw_bson_get_doc(bson_text(&arena, "{'p':[]}"), TW_STR("p"));
    assert_int_equal(aggregate_new(&self, given, &why), TW_OK);
    tw_bson doc = bson_text(&arena, "{'a':1}");
    err = TW_OK;
    int count = 0;
    for (; count <= TW_FIND_MAX && err == TW_OK; count++) {
        err = aggregate_add(self, doc, &enough, &why);
    }
    assert_int_equal(err, TW_E_TOO_COSTLY);
    assert_int_equal(count, TW_FIND_MAX + 1);
    aggregate_free(&self);
    given = tw_bson_get_doc(bson_text(&arena, "{'p':[{'$limit':2}]}"), TW_STR("p"));
    assert_int_equal(aggregate_new(&self, given, &why), TW_OK);
    assert_int_equal(aggregate_add(self, doc, &enough, &why), TW_OK);
    assert_false(enough);
    assert_int_equal(aggregate_add(self, doc, &enough, &why), TW_OK);
    assert_true(enough);
    aggregate_free(&self);
}

/* Each allocation fails in turn: an error, and nothing is left behind. */
static void test_aggregate_without_memory_is_an_error(void **state)
{
    (void)state;
    static const char pipeline[] = "{'p':[{'$match':{'n':{'$gt':0}}},{'$sort':{'n':1}},"
                                   "{'$group':{'_id':'$item','s':{'$push':'$n'}}}]}";
    tw_bson given = tw_bson_get_doc(bson_text(&arena, pipeline), TW_STR("p"));
    tw_bson doc = bson_text(&arena, sales[0]);
    tw_err err = TW_E_NO_MEMORY;
    for (uint64_t nth = 1; nth < 200 && err != TW_OK; nth++) {
        aggregate *self = NULL;
        broker_why why = {0};
        bool enough = false;
        tw_alloc_fail_at(nth);
        err = aggregate_new(&self, given, &why);
        err = err == TW_OK ? aggregate_add(self, doc, &enough, &why) : err;
        err = err == TW_OK ? aggregate_end(self, &why) : err;
        tw_alloc_fail_at(0);
        aggregate_free(&self);
    }
    assert_int_equal(err, TW_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aggregate_stages_pass_on_as_mongodb_does),
        cmocka_unit_test(test_aggregate_groups_gather_as_mongodb_does),
        cmocka_unit_test(test_aggregate_equal_numbers_are_one_group_and_sums_do_not_wrap),
        cmocka_unit_test(test_aggregate_what_is_not_offered_is_named),
        cmocka_unit_test(test_aggregate_bounds_are_told),
        cmocka_unit_test(test_aggregate_without_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
