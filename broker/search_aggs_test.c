/* search_aggs_test.c - what each aggregation gives for known documents, and what is refused. */
#include "broker/search_aggs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "tests/support/bson_text.h"
#include "tests/support/test_arena.h"

static const char *const docs[] = {
    "{'k':'a','n':1,'d':'2024-01-31','b':true}",
    "{'k':['a','b'],'n':[7,12],'d':'2024-03-01T12:00:00Z'}",
    "{'k':'b','n':2.5,'d':'2024-03-02'}",
    "{'k':'a','t':'some words'}",
    "{}",
};

static search_mapping mapping_of(const char *text)
{
    search_mapping mapping;
    assert_int_equal(search_mapping_init(&mapping, &arena, bson_text(&arena, text)), TW_OK);
    return mapping;
}

static tw_err compile(const char *aggs, search_aggs **out, broker_why *why)
{
    static search_mapping mapping;
    static const search_mapping *const mappings[] = {&mapping};
    mapping = mapping_of("{'properties':{'k':{'type':'keyword'},'n':{'type':'double'},"
                         "'d':{'type':'date'},'b':{'type':'boolean'},'t':{'type':'text'}}}");
    return search_aggs_compile(&arena, bson_text(&arena, aggs), mappings, 1, out, why);
}

/* The result as JSON with ' for ". */
static const char *result_of(const char *asked)
{
    search_aggs *aggs = NULL;
    broker_why why = {.text = ""};
    tw_buf built;
    tw_buf json;
    tw_bson_builder b;
    if (compile(asked, &aggs, &why) != TW_OK) {
        fail_msg("%s: %s", asked, why.text);
    }
    for (size_t i = 0; i < TW_COUNT(docs); i++) {
        char id[8];
        size_t len = tw_format(id, sizeof id, "d%zu", i);
        assert_int_equal(search_aggs_take(aggs, bson_text(&arena, docs[i]), (tw_str){id, len}),
                         TW_OK);
    }
    tw_buf_init(&built, 1 << 20);
    tw_buf_init(&json, 1 << 20);
    tw_bson_begin(&b, &built);
    assert_int_equal(search_aggs_write(aggs, &b), TW_OK);
    tw_json_write(&json, tw_bson_end(&b));
    char *out = tw_arena_alloc(&arena, json.len + 1);
    assert_non_null(out);
    for (size_t i = 0; i < json.len; i++) {
        out[i] = json.ptr[i] == '"' ? '\'' : json.ptr[i];
    }
    out[json.len] = '\0';
    tw_buf_fini(&built);
    tw_buf_fini(&json);
    return out;
}

static void test_aggs_of_known_documents_give_known_results(void **state)
{
    (void)state;
    static const struct {
        const char *asked, *result;
    } cases[] = {
        {"{'x':{'min':{'field':'n'}}}", "{'x':{'value':1.0}}"},
        {"{'x':{'max':{'field':'n'}}}", "{'x':{'value':12.0}}"},
        {"{'x':{'sum':{'field':'n'}}}", "{'x':{'value':22.5}}"},
        {"{'x':{'avg':{'field':'n'}}}", "{'x':{'value':5.625}}"},
        {"{'x':{'stats':{'field':'n'}}}",
         "{'x':{'count':4,'min':1.0,'max':12.0,'avg':5.625,'sum':22.5}}"},
        {"{'x':{'value_count':{'field':'k'}}}", "{'x':{'value':5}}"},
        {"{'x':{'cardinality':{'field':'k'}}}", "{'x':{'value':2}}"},
        {"{'x':{'missing':{'field':'k'}}}", "{'x':{'doc_count':1}}"},
        {"{'x':{'filter':{'term':{'k':'b'}},'aggs':{'m':{'max':{'field':'n'}}}}}",
         "{'x':{'doc_count':2,'m':{'value':12.0}}}"},
        {"{'x':{'terms':{'field':'k'}}}",
         "{'x':{'doc_count_error_upper_bound':0,'buckets':[{'key':'a','doc_count':3},"
         "{'key':'b','doc_count':2}],'sum_other_doc_count':0}}"},
        {"{'x':{'terms':{'field':'k','size':1}}}",
         "{'x':{'doc_count_error_upper_bound':0,'buckets':[{'key':'a','doc_count':3}],"
         "'sum_other_doc_count':2}}"},
        {"{'x':{'terms':{'field':'k','order':{'_key':'desc'}}}}",
         "{'x':{'doc_count_error_upper_bound':0,'buckets':[{'key':'b','doc_count':2},"
         "{'key':'a','doc_count':3}],'sum_other_doc_count':0}}"},
        {"{'x':{'histogram':{'field':'n','interval':5}}}",
         "{'x':{'buckets':[{'key':0.0,'doc_count':2},{'key':5.0,'doc_count':1},"
         "{'key':10.0,'doc_count':1}]}}"},
        {"{'x':{'histogram':{'field':'n','interval':5,'offset':2,'min_doc_count':1}}}",
         "{'x':{'buckets':[{'key':-3.0,'doc_count':1},{'key':2.0,'doc_count':1},"
         "{'key':7.0,'doc_count':1},{'key':12.0,'doc_count':1}]}}"},
        {"{'x':{'date_histogram':{'field':'d','calendar_interval':'month'}}}",
         "{'x':{'buckets':[{'key':1704067200000,'key_as_string':'2024-01-01T00:00:00.000Z',"
         "'doc_count':1},{'key':1706745600000,'key_as_string':'2024-02-01T00:00:00.000Z',"
         "'doc_count':0},{'key':1709251200000,'key_as_string':'2024-03-01T00:00:00.000Z',"
         "'doc_count':2}]}}"},
        {"{'x':{'date_histogram':{'field':'d','fixed_interval':'1d','min_doc_count':1}}}",
         "{'x':{'buckets':[{'key':1706659200000,'key_as_string':'2024-01-31T00:00:00.000Z',"
         "'doc_count':1},{'key':1709251200000,'key_as_string':'2024-03-01T00:00:00.000Z',"
         "'doc_count':1},{'key':1709337600000,'key_as_string':'2024-03-02T00:00:00.000Z',"
         "'doc_count':1}]}}"},
        {"{'x':{'sum':{'field':'unknown'}},'y':{'terms':{'field':'b'}}}",
         "{'x':{'value':0.0},'y':{'doc_count_error_upper_bound':0,'buckets':[{'key':1,"
         "'key_as_string':'true','doc_count':1}],'sum_other_doc_count':0}}"},
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        assert_string_equal(result_of(cases[i].asked), cases[i].result);
    }
}

static void test_aggs_that_cannot_be_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *asked, *named;
    } cases[] = {
        {"{'x':{'terms':{}}}", "field"},
        {"{'x':{'terms':{'field':'t'}}}", "keyword"},
        {"{'x':{'stats':{'field':'k'}}}", "holds no numbers"},
        {"{'x':{'percentiles':{'field':'n'}}}", "percentiles"},
        {"{'x':{'terms':{'field':'k','script':'1'}}}", "script"},
        {"{'x':{'terms':{'field':'k','order':{'m':'asc'}}}}", "order"},
        {"{'x':{'histogram':{'field':'n','interval':0}}}", "interval"},
        {"{'x':{'histogram':{'field':'n','interval':-5}}}", "interval"},
        {"{'x':{'date_histogram':{'field':'d','calendar_interval':'fortnight'}}}", "interval"},
        {"{'x':{'date_histogram':{'field':'d','calendar_interval':'2M'}}}", "interval"},
        {"{'x':{'min':{'field':'n'},'max':{'field':'n'}}}", "one kind too many"},
        {"{'x':{}}", "no kind"},
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        search_aggs *aggs = NULL;
        broker_why why = {.text = ""};
        assert_int_equal(compile(cases[i].asked, &aggs, &why), TW_E_BAD_QUERY);
        if (strstr(why.text, cases[i].named) == NULL) {
            fail_msg("%s: %s", cases[i].asked, why.text);
        }
    }
}

static void test_aggs_over_the_bound_of_buckets_are_too_costly(void **state)
{
    (void)state;
    search_aggs *aggs = NULL;
    broker_why why = {.text = ""};
    tw_err err = compile("{'x':{'terms':{'field':'k'}}}", &aggs, &why);
    assert_int_equal(err, TW_OK);
    size_t taken = 0;
    for (; taken <= TW_SEARCH_BUCKETS_MAX && err == TW_OK; taken++) {
        char text[64];
        tw_format(text, sizeof text, "{'k':'w%zu'}", taken);
        err = search_aggs_take(aggs, bson_text(&arena, text), TW_STR("id"));
    }
    assert_int_equal(err, TW_E_TOO_COSTLY);
    assert_true(taken >= TW_SEARCH_BUCKETS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aggs_of_known_documents_give_known_results),
        cmocka_unit_test(test_aggs_that_cannot_be_are_refused_by_name),
        cmocka_unit_test(test_aggs_over_the_bound_of_buckets_are_too_costly),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
