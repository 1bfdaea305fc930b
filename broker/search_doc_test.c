/* search_doc_test.c - keys become ids and back, documents become plain JSON, filters clauses. */
#include "broker/search_doc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/search_filter.h"

#include "tests/support/bson_text.h"
#include "tests/support/test_arena.h"

static void test_search_id_of_each_key_is_its_own_and_turns_back(void **state)
{
    (void)state;
    static const struct {
        const char *doc, *id;
    } samples[] = {
        {"{'k':'plain text/?&'}", "plain text/?&"},
        {"{'k':1}", "1"},
        {"{'k':-17}", "-17"},
        {"{'k':'1'}", "~s1"},
        {"{'k':'-17'}", "~s-17"},
        {"{'k':'01'}", "01"},
        {"{'k':'-0'}", "-0"},
        {"{'k':''}", "~s"},
        {"{'k':'~j1'}", "~s~j1"},
        {"{'k':{'$oid':'0123456789abcdef01234567'}}", "0123456789abcdef01234567"},
        {"{'k':'0123456789abcdef01234567'}", "~s0123456789abcdef01234567"},
        {"{'k':1.5}", "~j1.5"},
        {"{'k':true}", "~jtrue"},
        {"{'k':{'a':1}}", "~j{'a':1}"},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        tw_bson doc = bson_text(&arena, samples[i].doc);
        tw_key key;
        tw_key back;
        tw_str id;
        assert_int_equal(tw_key_of_value(&arena, tw_bson_get(doc, TW_STR("k")), &key), TW_OK);
        assert_int_equal(search_id_of_key(&arena, key, &id), TW_OK);
        char shown[64] = "";
        for (size_t c = 0; c < id.len; c++) {
            shown[c] = id.ptr[c] == '"' ? '\'' : id.ptr[c];
        }
        assert_string_equal(shown, samples[i].id);
        assert_int_equal(search_key_of_id(&arena, id, &back), TW_OK);
        assert_true(tw_key_equal(key, back));
    }
}

static void test_search_id_too_long_is_refused(void **state)
{
    (void)state;
    char text[SEARCH_ID_MAX + 2];
    memset(text, 'x', sizeof text);
    tw_buf built;
    tw_bson_builder b;
    tw_key key;
    tw_str id = {NULL, 0};
    tw_buf_init(&built, 4096);
    tw_bson_begin(&b, &built);
    tw_bson_add_str(&b, TW_STR("k"), (tw_str){text, sizeof text});
    tw_bson doc = tw_bson_end(&b);
    assert_int_equal(tw_key_of_value(&arena, tw_bson_get(doc, TW_STR("k")), &key), TW_OK);
    assert_int_equal(search_id_of_key(&arena, key, &id), TW_E_TOO_BIG);
    tw_buf_fini(&built);
}

static const char *quoted(const tw_buf *json)
{
    for (size_t i = 0; i < json->len; i++) {
        json->ptr[i] = json->ptr[i] == '"' ? '\'' : json->ptr[i];
    }
    return tw_arena_format(&arena, "%.*s", (int)json->len, json->ptr);
}

static void test_search_doc_is_plain_json(void **state)
{
    (void)state;
    tw_buf json;
    tw_buf_init(&json, 65536);
    search_doc_write(
        &json,
        bson_text(&arena, "{'_id':1,'_version':3,'_tw':9,'a':{'$oid':'0123456789abcdef01234567'},"
                          "'d':{'$date':'2020-01-02T03:04:05Z'},'n':{'$numberDecimal':'1.50'},"
                          "'l':[1,{'x':null}],'b':{'$binary':{'base64':'AQID','subType':'00'}},"
                          "'f':{'$numberDouble':'NaN'},'g':{'$numberLong':'9007199254740993'},"
                          "'far':{'$date':{'$numberLong':'253402300800000'}},'t':'x'}"),
        TW_STR("1"), 3);
    assert_string_equal(quoted(&json),
                        "{'a':'0123456789abcdef01234567','d':'2020-01-02T03:04:05Z','n':'1.50',"
                        "'l':[1,{'x':null}],'b':'AQID','f':null,'g':9007199254740993,"
                        "'far':253402300800000,'t':'x','_tw':{'id':'1','v':3}}");
    tw_buf_fini(&json);
}

static void test_search_filter_becomes_clauses_or_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *clause; /* NULL: refused */
    } samples[] = {
        {"{}", "{'q':{'bool':{'filter':[]}}}"},
        {"{'a':1}", "{'q':{'bool':{'filter':[{'term':{'a':1}}]}}}"},
        {"{'a':null}", "{'q':{'bool':{'filter':[{'bool':{'must_not':[{'exists':{'field':'a'}}]}}]}"
                       "}}"},
        {"{'a':{'$gte':1,'$lt':5}}",
         "{'q':{'bool':{'filter':[{'range':{'a':{'gte':1}}},{'range':{'a':{'lt':5}}}]}}}"},
        {"{'a':{'$ne':1}}", "{'q':{'bool':{'filter':[{'bool':{'must_not':[{'term':{'a':1}}]}}]}}}"},
        {"{'a':{'$in':[1,2]}}",
         "{'q':{'bool':{'filter':[{'bool':{'should':[{'term':{'a':1}},{'term':{'a':2}}],"
         "'minimum_should_match':1}}]}}}"},
        {"{'$or':[{'a':1},{'b':2}]}",
         "{'q':{'bool':{'filter':[{'bool':{'should':[{'bool':{'filter':[{'term':{'a':1}}]}},"
         "{'bool':{'filter':[{'term':{'b':2}}]}}],'minimum_should_match':1}}]}}}"},
        {"{'a':{'$exists':false}}",
         "{'q':{'bool':{'filter':[{'bool':{'must_not':[{'exists':{'field':'a'}}]}}]}}}"},
        {"{'a':{'$not':{'$gt':1}}}",
         "{'q':{'bool':{'filter':[{'bool':{'must_not':[{'bool':{'filter':[{'range':{'a':{'gt':1}}}"
         "]}}]}}]}}}"},
        {"{'a':{'$regex':'x'}}", NULL},
        {"{'a':{'$elemMatch':{'b':1}}}", NULL},
        {"{'$where':'1'}", NULL},
        {"{'a':{'b':1}}", NULL},
        {"{'a':[1]}", NULL},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        tw_buf text;
        tw_buf json;
        tw_bson_builder b;
        broker_why why = {.text = ""};
        tw_buf_init(&text, 65536);
        tw_buf_init(&json, 65536);
        tw_bson_begin(&b, &text);
        tw_err err = search_filter_add(&b, TW_STR("q"), bson_text(&arena, samples[i].filter), &why);
        if (samples[i].clause == NULL) {
            assert_int_equal(err, TW_E_UNSUPPORTED);
            assert_true(why.text[0] != '\0');
        } else {
            assert_int_equal(err, TW_OK);
            search_json(&json, tw_bson_end(&b));
            assert_string_equal(quoted(&json), samples[i].clause);
        }
        tw_buf_fini(&text);
        tw_buf_fini(&json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_id_of_each_key_is_its_own_and_turns_back),
        cmocka_unit_test(test_search_id_too_long_is_refused),
        cmocka_unit_test(test_search_doc_is_plain_json),
        cmocka_unit_test(test_search_filter_becomes_clauses_or_is_refused),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
