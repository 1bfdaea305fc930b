/* pipeline_test.c - which pipelines pass, and what is said of the others. */
#include "broker/pipeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/limits.h"

#include "tests/support/bson_text.h"

static bool may_read(void *context, tw_str coll)
{
    size_t *asked = context;
    (*asked)++;
    return !tw_str_equal(coll, TW_STR("secret"));
}

static tw_err check(const char *pipeline, broker_why *why)
{
    tw_arena arena;
    size_t asked = 0;
    tw_arena_init(&arena, 1 << 20);
    *why = (broker_why){0};
    const char *text = tw_arena_format(&arena, "{'p':%s}", pipeline);
    tw_bson stages = tw_bson_get_doc(bson_text(&arena, text), TW_STR("p"));
    tw_err err = pipeline_check(stages, may_read, &asked, why);
    assert_true((err == TW_OK) == (why->text[0] == '\0'));
    tw_arena_fini(&arena);
    return err;
}

static void test_pipeline_stages_of_the_list_pass(void **state)
{
    (void)state;
    static const char *const samples[] = {
        "[]",
        "[{'$match':{'a':1}},{'$group':{'_id':'$a','n':{'$sum':1}}},{'$sort':{'n':-1}}]",
        "[{'$project':{'a':1}},{'$addFields':{'b':1}},{'$set':{'c':1}},{'$unset':'c'}]",
        "[{'$limit':1},{'$skip':1},{'$count':'n'},{'$unwind':'$a'},{'$sample':{'size':2}}]",
        "[{'$bucket':{'groupBy':'$a','boundaries':[0,1]}},{'$bucketAuto':{'groupBy':'$a'}}]",
        "[{'$replaceRoot':{'newRoot':'$a'}},{'$replaceWith':'$a'},{'$sortByCount':'$a'}]",
        "[{'$facet':{'x':[{'$match':{}}],'y':[{'$count':'n'}]}}]",
        "[{'$lookup':{'from':'b','localField':'a','foreignField':'_id','as':'l'}}]",
        "[{'$lookup':{'from':'b','pipeline':[{'$match':{'$expr':{'$eq':['$a',1]}}}],'as':'l'}}]",
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        broker_why why;
        assert_int_equal(check(samples[i], &why), TW_OK);
    }
}

static void test_pipeline_others_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *pipeline;
        const char *named; /* stands in the cause */
        tw_err err;
    } samples[] = {
        {"[{'$out':'x'}]", "$out", TW_E_BAD_QUERY},
        {"[{'$merge':{'into':'x'}}]", "$merge", TW_E_BAD_QUERY},
        {"[{'$match':{'$where':'true'}}]", "$where", TW_E_BAD_QUERY},
        {"[{'$project':{'x':{'$function':{'body':'f'}}}}]", "$function", TW_E_BAD_QUERY},
        {"[{'$group':{'_id':1,'x':{'$accumulator':{}}}}]", "$accumulator", TW_E_BAD_QUERY},
        {"[{'$collStats':{}}]", "$collStats", TW_E_BAD_QUERY},
        {"[{'$currentOp':{}}]", "$currentOp", TW_E_BAD_QUERY},
        {"[{'$unionWith':'b'}]", "$unionWith", TW_E_BAD_QUERY},
        {"[{'$graphLookup':{'from':'b'}}]", "$graphLookup", TW_E_BAD_QUERY},
        {"[{'$indexStats':{}}]", "$indexStats", TW_E_BAD_QUERY},
        {"[{'$changeStream':{}}]", "$changeStream", TW_E_BAD_QUERY},
        {"[{'$facet':{'x':[{'$out':'y'}]}}]", "$out", TW_E_BAD_QUERY},
        {"[{'$facet':{'x':[{'$unionWith':'y'}]}}]", "$unionWith", TW_E_BAD_QUERY},
        {"[{'$facet':{'x':1}}]", "$facet", TW_E_BAD_QUERY},
        {"[{'$facet':1}]", "$facet", TW_E_BAD_QUERY},
        {"[{'$lookup':{'from':'secret','as':'l'}}]", "secret", TW_E_FORBIDDEN},
        {"[{'$lookup':{'from':'b','pipeline':[{'$lookup':{'from':'secret'}}]}}]", "secret",
         TW_E_FORBIDDEN},
        {"[{'$facet':{'x':[{'$lookup':{'from':'secret'}}]}}]", "secret", TW_E_FORBIDDEN},
        {"[{'$lookup':{'from':{'db':'other','coll':'b'}}}]", "from", TW_E_BAD_QUERY},
        {"[{'$lookup':{'from':'b','pipeline':1}}]", "pipeline", TW_E_BAD_QUERY},
        {"[{'$match':{},'$out':'x'}]", "$out", TW_E_BAD_QUERY},
        {"[{}]", "one name", TW_E_BAD_QUERY},
        {"[1]", "one name", TW_E_BAD_QUERY},
        {"[{'match':{}}]", "match", TW_E_BAD_QUERY},
        {"[{'$match':{'a':{'$code':'x'}}}]", "Code", TW_E_BAD_QUERY},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        broker_why why;
        assert_int_equal(check(samples[i].pipeline, &why), samples[i].err);
        assert_non_null(strstr(why.text, samples[i].named));
    }
}

static void test_pipeline_too_long_or_too_deep_is_refused(void **state)
{
    (void)state;
    char text[8192] = "[";
    size_t len = 1;
    for (int i = 0; i <= TW_PIPELINE_STAGES_MAX; i++) {
        len += tw_format(text + len, sizeof text - len, "%s{'$limit':1}", i == 0 ? "" : ",");
    }
    tw_format(text + len, sizeof text - len, "]");
    broker_why why;
    assert_int_equal(check(text, &why), TW_E_TOO_MANY);
    len = tw_format(text, sizeof text, "[{'$match':");
    for (int i = 0; i < TW_DEPTH_CLIENT_MAX; i++) {
        len += tw_format(text + len, sizeof text - len, "{'a':");
    }
    len += tw_format(text + len, sizeof text - len, "1");
    for (int i = 0; i < TW_DEPTH_CLIENT_MAX; i++) {
        len += tw_format(text + len, sizeof text - len, "}");
    }
    tw_format(text + len, sizeof text - len, "}]");
    assert_int_equal(check(text, &why), TW_E_DEPTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipeline_stages_of_the_list_pass),
        cmocka_unit_test(test_pipeline_others_are_refused_by_name),
        cmocka_unit_test(test_pipeline_too_long_or_too_deep_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
