/* search_body_test.c - what may stand in a search body, what is refused by its name, and that what
 * was rebuilt is what was asked. */
#include "broker/search_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/json.h"

#include "broker/search_doc.h"

#include "tests/support/bson_text.h"
#include "tests/support/test_arena.h"

/* The rebuilt body and query as JSON, with ' for "; NULL: refused, with a cause. */
static const char *rebuilt(const char *body, tw_err *err, broker_why *why)
{
    tw_buf text;
    tw_buf json;
    tw_bson_builder b;
    search_body found;
    *why = (broker_why){.text = ""};
    tw_buf_init(&text, 1 << 20);
    tw_buf_init(&json, 1 << 20);
    tw_bson_begin(&b, &text);
    *err = search_body_add(&b, bson_text(&arena, body), &found, why);
    if (*err == TW_OK && found.query.type != 0) {
        *err = search_body_add_query(&b, TW_STR("query"), found.query, why);
    }
    const char *out = NULL;
    if (*err == TW_OK) {
        search_json(&json, tw_bson_end(&b));
        for (size_t i = 0; i < json.len; i++) {
            json.ptr[i] = json.ptr[i] == '"' ? '\'' : json.ptr[i];
        }
        out = tw_arena_format(&arena, "%.*s", (int)json.len, json.ptr);
    }
    tw_buf_fini(&text);
    tw_buf_fini(&json);
    return out;
}

static void test_search_body_allowed_is_rebuilt(void **state)
{
    (void)state;
    static const struct {
        const char *body, *result;
    } samples[] = {
        {"{}", "{}"},
        {"{'query':{'multi_match':{'query':'hello'}}}",
         "{'query':{'multi_match':{'query':'hello'}}}"},
        {"{'query':{'match':{'a.b':{'query':'x','operator':'and'}}},'size':5,'from':10}",
         "{'size':5,'from':10,'query':{'match':{'a.b':{'query':'x','operator':'and'}}}}"},
        {"{'query':{'bool':{'must':{'term':{'a':1}},'filter':[{'terms':{'b':[1,2]}},"
         "{'range':{'c':{'gte':1,'lt':5}}}],'must_not':[{'exists':{'field':'d'}}],"
         "'minimum_should_match':1}}}",
         "{'query':{'bool':{'must':{'term':{'a':1}},'filter':[{'terms':{'b':[1,2]}},"
         "{'range':{'c':{'gte':1,'lt':5}}}],'must_not':[{'exists':{'field':'d'}}],"
         "'minimum_should_match':1}}}"},
        {"{'query':{'query_string':{'query':'a AND b:c*'}}}",
         "{'query':{'query_string':{'query':'a AND b:c*','allow_leading_wildcard':false}}}"},
        {"{'query':{'nested':{'path':'p','query':{'match_all':{}}}},'track_total_hits':true}",
         "{'track_total_hits':true,'query':{'nested':{'path':'p','query':"
         "{'match_all':{}}}}}"},
        {"{'_source':['a','b'],'sort':['a',{'b':'desc'},{'c':{'order':'asc'}}]}",
         "{'_source':{'includes':['a','b'],'excludes':['_tw']},"
         "'sort':['a',{'b':'desc'},{'c':{'order':'asc'}}]}"},
        {"{'_source':{'includes':'a','excludes':['b']},'sort':'x desc'}",
         "{'_source':{'includes':'a','excludes':['_tw','b']},'sort':[{'x':'desc'}]}"},
        {"{'_source':false,'search_after':[1,'a']}", "{'_source':false,'search_after':[1,'a']}"},
        {"{'highlight':{'fields':{'t':{'fragment_size':10}},'pre_tags':['<']}}",
         "{'highlight':{'fields':{'t':{'fragment_size':10}},'pre_tags':['<']}}"},
        {"{'aggs':{'a':{'terms':{'field':'f','order':{'_count':'asc'}},'aggs':{'b':{'avg':"
         "{'field':'n'}}}}}}",
         "{'aggs':{'a':{'terms':{'field':'f','order':{'_count':'asc'}},'aggs':{'b':"
         "{'avg':{'field':'n'}}}}}}"},
        {"{'aggs':{'r':{'range':{'field':'n','ranges':[{'to':5},{'from':5}]}},"
         "'f':{'filters':{'filters':{'x':{'term':{'a':1}}}}},'g':{'filter':{'match_all':{}}}}}",
         "{'aggs':{'r':{'range':{'field':'n','ranges':[{'to':5},{'from':5}]}},"
         "'f':{'filters':{'filters':{'x':{'term':{'a':1}}}}},'g':{'filter':"
         "{'match_all':{}}}}}"},
        {"{'suggest':{'s':{'prefix':'ab','completion':{'field':'c','size':5}}}}",
         "{'suggest':{'s':{'prefix':'ab','completion':{'field':'c','size':5}}}}"},
        {"{'collapse':{'field':'g','inner_hits':{'name':'n','size':2,'sort':'a'}}}",
         "{'collapse':{'field':'g','inner_hits':{'name':'n','size':2,'sort':['a']}}}"},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        tw_err err;
        broker_why why;
        const char *out = rebuilt(samples[i].body, &err, &why);
        if (out == NULL) {
            fail_msg("%s: %s", samples[i].body, why.text);
        }
        assert_string_equal(out, samples[i].result);
    }
}

static const struct {
    const char *body;
    tw_err err;
    const char *named;
} refused[] = {
    {"{'script_fields':{'x':{'script':'1'}}}", TW_E_BAD_QUERY, "script_fields"},
    {"{'runtime_mappings':{}}", TW_E_BAD_QUERY, "runtime_mappings"},
    {"{'pit':{'id':'x'}}", TW_E_BAD_QUERY, "pit"},
    {"{'scroll':'1m'}", TW_E_BAD_QUERY, "scroll"},
    {"{'rescore':{}}", TW_E_BAD_QUERY, "rescore"},
    {"{'query':{'script':{'script':'1'}}}", TW_E_BAD_QUERY, "script"},
    {"{'query':{'script_score':{'query':{'match_all':{}}}}}", TW_E_BAD_QUERY, "script_score"},
    {"{'query':{'function_score':{}}}", TW_E_BAD_QUERY, "function_score"},
    {"{'query':{'terms':{'a':{'index':'other','id':'1','path':'x'}}}}", TW_E_BAD_QUERY, "look-ups"},
    {"{'query':{'more_like_this':{'like':[{'_index':'other'}]}}}", TW_E_BAD_QUERY,
     "more_like_this"},
    {"{'query':{'percolate':{'field':'q','index':'other'}}}", TW_E_BAD_QUERY, "percolate"},
    {"{'query':{'geo_shape':{'l':{'indexed_shape':{'index':'o'}}}}}", TW_E_BAD_QUERY, "geo_shape"},
    {"{'query':{'regexp':{'a':'.*'}}}", TW_E_BAD_QUERY, "regexp"},
    {"{'query':{'wildcard':{'a':'*x'}}}", TW_E_BAD_QUERY, "wildcard"},
    {"{'query':{'fuzzy':{'a':'x'}}}", TW_E_BAD_QUERY, "fuzzy"},
    {"{'query':{'has_child':{'type':'x','query':{'match_all':{}}}}}", TW_E_BAD_QUERY, "has_child"},
    {"{'query':{'match':{'a':{'query':'x','fuzziness':'AUTO'}}}}", TW_E_BAD_QUERY, "fuzziness"},
    {"{'query':{'match':{'a':{'query':{'x':1}}}}}", TW_E_BAD_QUERY, "query"},
    {"{'query':{'prefix':{'a':'x'}}}", TW_E_BAD_QUERY, "prefix"},
    {"{'query':{'bool':{'must':[{'script':{}}]}}}", TW_E_BAD_QUERY, "script"},
    {"{'query':{'match_all':{},'match_none':{}}}", TW_E_BAD_QUERY, "one clause"},
    {"{'query':{}}", TW_E_BAD_QUERY, "one clause"},
    {"{'query':[]}", TW_E_BAD_QUERY, "one clause"},
    {"{'query':{'query_string':{'query':'a:/b.*/'}}}", TW_E_BAD_QUERY, "regular"},
    {"{'query':{'query_string':{'query':'a','fuzzy_prefix_length':1}}}", TW_E_BAD_QUERY,
     "fuzzy_prefix_length"},
    {"{'size':101}", TW_E_BAD_QUERY, "size"},
    {"{'from':9995,'size':10}", TW_E_BAD_QUERY, "from + size"},
    {"{'from':-1}", TW_E_BAD_QUERY, "from"},
    {"{'sort':{'_script':{'script':'1'}}}", TW_E_BAD_QUERY, "_script"},
    {"{'sort':[{'_geo_distance':{}}]}", TW_E_BAD_QUERY, "_geo_distance"},
    {"{'sort':'a sideways'}", TW_E_BAD_QUERY, "a sideways"},
    {"{'aggs':{'a':{'scripted_metric':{}}}}", TW_E_BAD_QUERY, "scripted_metric"},
    {"{'aggs':{'a':{'terms':{'field':'f','script':'1'}}}}", TW_E_BAD_QUERY, "script"},
    {"{'aggs':{'a':{'terms':{'field':'f','include':'.*'}}}}", TW_E_BAD_QUERY, "include"},
    {"{'aggs':{'a':{'terms':{'field':'f','size':10001}}}}", TW_E_TOO_COSTLY, "size"},
    {"{'aggs':{'a':{'global':{}}}}", TW_E_BAD_QUERY, "global"},
    {"{'aggs':{'a':{'top_hits':{}}}}", TW_E_BAD_QUERY, "top_hits"},
    {"{'aggs':{'a':{'filter':{'script':{}}}}}", TW_E_BAD_QUERY, "script"},
    {"{'aggs':{'a':{'filter':{'match_all':{}},'aggs':{'b':{'filter':{'match_all':{}},'aggs':"
     "{'c':{'filter':{'match_all':{}},'aggs':{'d':{'avg':{'field':'x'}}}}}}}}}}",
     TW_E_DEPTH, "nested"},
    {"{'highlight':{'highlight_query':{'match_all':{}}}}", TW_E_BAD_QUERY, "highlight_query"},
    {"{'suggest':{'s':{'text':'a','term':{'field':'f'}}}}", TW_E_BAD_QUERY, "term"},
    {"{'collapse':{'field':'f','inner_hits':{'name':'x','script_fields':{}}}}", TW_E_BAD_QUERY,
     "script_fields"},
    {"{'_source':{'excludes':{'a':1}}}", TW_E_BAD_QUERY, "excludes"},
    {"{'track_total_hits':'x'}", TW_E_BAD_QUERY, "track_total_hits"},
    {"{'search_after':{'a':1}}", TW_E_BAD_QUERY, "search_after"},
};

static void test_search_body_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < TW_COUNT(refused); i++) {
        tw_err err;
        broker_why why;
        const char *out = rebuilt(refused[i].body, &err, &why);
        if (out != NULL || strstr(why.text, refused[i].named) == NULL) {
            fail_msg("%s: %s, %s", refused[i].body, out == NULL ? "refused" : out, why.text);
        }
        assert_int_equal(err, refused[i].err);
    }
}

static void test_search_body_bounds_hold(void **state)
{
    (void)state;
    tw_buf text;
    tw_err err;
    broker_why why;
    tw_buf_init(&text, 1 << 20);
    tw_buf_add_str(&text, TW_STR("{'query':{'bool':{'should':["));
    for (int i = 0; i < TW_SEARCH_CLAUSES_MAX; i++) {
        tw_buf_format(&text, "%s{'term':{'a':%d}}", i == 0 ? "" : ",", i);
    }
    tw_buf_add(&text, "]}}}", 5);
    assert_null(rebuilt(text.ptr, &err, &why)); /* with the bool one too many */
    assert_int_equal(err, TW_E_TOO_COSTLY);
    tw_buf_clear(&text);
    tw_buf_add_str(&text, TW_STR("{'query':"));
    for (int i = 0; i < TW_SEARCH_DEPTH_MAX / 2; i++) {
        tw_buf_add_str(&text, TW_STR("{'bool':{'must':"));
    }
    tw_buf_add_str(&text, TW_STR("{'match_all':{}}"));
    for (int i = 0; i < TW_SEARCH_DEPTH_MAX / 2; i++) {
        tw_buf_add_str(&text, TW_STR("}}"));
    }
    tw_buf_add(&text, "}", 2);
    assert_non_null(rebuilt(text.ptr, &err, &why));
    tw_buf_clear(&text);
    tw_buf_add_str(&text, TW_STR("{'query':{'query_string':{'query':'"));
    for (int i = 0; i <= SEARCH_STRING_TERMS; i++) {
        tw_buf_format(&text, "t%d ", i);
    }
    tw_buf_add(&text, "'}}}", 5);
    assert_null(rebuilt(text.ptr, &err, &why));
    assert_int_equal(err, TW_E_TOO_COSTLY);
    tw_buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_body_allowed_is_rebuilt),
        cmocka_unit_test(test_search_body_refused_by_name),
        cmocka_unit_test(test_search_body_bounds_hold),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
