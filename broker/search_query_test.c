/* search_query_test.c - what a query finds, what it may not be, how text becomes terms, and that
 * what an index was given for a document is what is taken out of it. */
#include "broker/search_query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/limits.h"

#include "broker/search_text.h"

#include "tests/support/bson_text.h"
#include "tests/support/test_arena.h"

static const char mapping_text[] =
    "{'properties':{'t':{'type':'text','fields':{'raw':{'type':'keyword'}}},'n':{'type':'long'},"
    "'k':{'type':'keyword'},'d':{'type':'date'},'b':{'type':'boolean'}}}";
static const char doc_text[] =
    "{'t':'The Quick brown fox, can\\u2019t 3.14 \\u00c9t\\u00e9','n':[1,7],'k':'Big Ben',"
    "'d':'2024-02-29','b':true,'o':{'p':'inner word'},'list':['one two','three']}";

static const struct {
    const char *query;
    bool matches;
} cases[] = {
    {"{'match':{'t':'QUICK'}}", true},
    {"{'match':{'t':'slow fox'}}", true},
    {"{'match':{'t':{'query':'slow fox','operator':'and'}}}", false},
    {"{'match':{'t':{'query':'slow bronze fox','minimum_should_match':'67%'}}}", false},
    {"{'match':{'t':{'query':'slow brown fox','minimum_should_match':2}}}", true},
    {"{'match':{'t':'\\u00c9T\\u00c9'}}", true},
    {"{'match':{'t':'can'}}", false},
    {"{'match':{'t':'3.14'}}", true},
    {"{'match':{'t.raw':'quick'}}", false},
    {"{'match':{'n':'7'}}", true},
    {"{'match':{'k':'Big Ben'}}", true},
    {"{'match':{'k':'Big'}}", false},
    {"{'match':{'nothing':'x'}}", false},
    {"{'match_phrase':{'t':'quick brown'}}", true},
    {"{'match_phrase':{'t':'brown quick'}}", false},
    {"{'match_phrase':{'t':{'query':'quick fox','slop':1}}}", true},
    {"{'match_phrase_prefix':{'t':'quick bro'}}", true},
    {"{'match_phrase':{'list':'two three'}}", false},
    {"{'multi_match':{'query':'inner'}}", true},
    {"{'multi_match':{'query':'quick','fields':['k','t^3']}}", true},
    {"{'multi_match':{'query':'quick','fields':['k']}}", false},
    {"{'term':{'k':'Big Ben'}}", true},
    {"{'term':{'t':'Quick'}}", false},
    {"{'term':{'b':true}}", true},
    {"{'term':{'d':'2024-02'}}", true},
    {"{'terms':{'n':[3,7]}}", true},
    {"{'range':{'n':{'gt':7}}}", false},
    {"{'range':{'n':{'gte':7}}}", true},
    {"{'range':{'d':{'lte':'2024-02-29'}}}", true},
    {"{'range':{'d':{'gt':'2024-02-29'}}}", false},
    {"{'range':{'k':{'gte':'Big','lt':'Bih'}}}", true},
    {"{'exists':{'field':'o'}}", true},
    {"{'exists':{'field':'q'}}", false},
    {"{'prefix':{'t':'qui'}}", true},
    {"{'prefix':{'k':'Big B'}}", true},
    {"{'ids':{'values':['id']}}", true},
    {"{'ids':{'values':['other']}}", false},
    {"{'bool':{'must_not':{'term':{'n':1}}}}", false},
    {"{'bool':{'must':{'match_all':{}},'should':{'match_none':{}}}}", true},
    {"{'bool':{'should':[{'match_none':{}},{'match':{'t':'fox'}}],'minimum_should_match':2}}",
     false},
    {"{'constant_score':{'filter':{'term':{'n':1}}}}", true},
    {"{'query_string':{'query':'t:quick AND n:[1 TO 3]'}}", true},
    {"{'query_string':{'query':'t:quick AND NOT fox'}}", false},
    {"{'query_string':{'query':'t:(slow OR br?wn) -k:nothing'}}", true},
    {"{'query_string':{'query':'+slow quick'}}", false},
    {"{'query_string':{'query':'\\\"quick fox\\\"~2 && _exists_:d'}}", true},
    {"{'query_string':{'query':'n:>=7 d:{2025 TO *}','default_operator':'and'}}", false},
    {"{'query_string':{'query':'k:Big\\\\ Ben'}}", true},
    {"{'simple_query_string':{'query':'quick -fox','default_operator':'and'}}", false},
    {"{'simple_query_string':{'query':'(slow | qui*) + \\\"brown fox\\\"'}}", true},
    {"{'simple_query_string':{'query':'((( \\\" fox'}}", true},
};

static search_mapping *mapping_of(tw_bson doc)
{
    search_mapping *mapping = tw_arena_zero(&arena, 1, sizeof *mapping);
    assert_int_equal(search_mapping_init(mapping, &arena, bson_text(&arena, mapping_text)), TW_OK);
    assert_int_equal(search_mapping_learn(mapping, doc), TW_OK);
    for (size_t i = 0; i < mapping->count; i++) {
        mapping->at[i].number = i + 1;
    }
    return mapping;
}

static void test_query_cases_with_and_without_an_index(void **state)
{
    (void)state;
    tw_bson doc = bson_text(&arena, doc_text);
    search_mapping *mapping = mapping_of(doc);
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        broker_why why = {.text = ""};
        search_query *query = NULL;
        double score = 0;
        tw_bson outer = bson_text(&arena, tw_arena_format(&arena, "{'q':%s}", cases[i].query));
        tw_bson_value asked = tw_bson_get(outer, TW_STR("q"));
        tw_err err = search_query_compile(&arena, asked, mapping, &query, &why);
        if (err != TW_OK ||
            search_query_match(query, doc, TW_STR("id"), &score) != cases[i].matches) {
            fail_msg("%s: %s %s", cases[i].query, tw_err_code(err), why.text);
        }
        assert_true(!cases[i].matches || score > 0);
        bool typed = strstr(cases[i].query, "'d'") != NULL ||
                     strstr(cases[i].query, "d:") != NULL ||
                     strstr(cases[i].query, "raw") != NULL || strstr(cases[i].query, "k") != NULL;
        if (!typed) { /* types that no value tells */
            assert_int_equal(search_query_compile(&arena, asked, NULL, &query, &why), TW_OK);
            if (search_query_match(query, doc, TW_STR("id"), NULL) != cases[i].matches) {
                fail_msg("%s: without a mapping", cases[i].query);
            }
        }
    }
}

static void test_query_refusals_name_the_clause(void **state)
{
    (void)state;
    static const struct {
        const char *query, *word;
    } refused[] = {
        {"{'nested':{'path':'p','query':{'match_all':{}}}}", "nested"},
        {"{'match':{'t':{'query':'x','fuzziness':1}}}", "fuzziness"},
        {"{'multi_match':{'query':'x','type':'cross_fields'}}", "cross_fields"},
        {"{'query_string':{'query':'a AND'}}", "missing"},
        {"{'query_string':{'query':'(a'}}", "parenthesis"},
        {"{'query_string':{'query':'a)'}}", "parenthesis"},
        {"{'query_string':{'query':'n:[1 TO'}}", "range"},
        {"{'query_string':{'query':'\\\"a'}}", "quote"},
        {"{'query_string':{'query':'a~'}}", "fuzzy"},
        {"{'query_string':{'query':'OR a'}}", "AND and OR"},
        {"{'query_string':{'query':'t:'}}", "missing"},
        {"{'match':{'n':'seven'}}", "seven"},
        {"{'range':{'d':{'gte':'now-1d'}}}", "date math"},
        {"{'range':{'d':{'gte':'2024-13-01'}}}", "2024-13-01"},
    };
    search_mapping *mapping = mapping_of(bson_text(&arena, "{}"));
    for (size_t i = 0; i < TW_COUNT(refused); i++) {
        broker_why why = {.text = ""};
        search_query *query = NULL;
        tw_bson outer = bson_text(&arena, tw_arena_format(&arena, "{'q':%s}", refused[i].query));
        tw_err err =
            search_query_compile(&arena, tw_bson_get(outer, TW_STR("q")), mapping, &query, &why);
        if (err != TW_E_BAD_QUERY || strstr(why.text, refused[i].word) == NULL) {
            fail_msg("%s: %s %s", refused[i].query, tw_err_code(err), why.text);
        }
    }
}

static void test_text_terms_are_those_of_a_standard_analyzer(void **state)
{
    (void)state;
    static const struct {
        const char *text, *terms;
    } texts[] = {
        {"The QUICK-brown_fox", "the|quick|brown_fox|"},
        {"can't U.S.A. 3.14 1,000 a.1", "can't|u.s.a|3.14|1,000|a|1|"},
        {"\xc3\x89t\xc3\xa9 \xce\xa3\xce\x91 \xd0\x96\xd0\xb6",
         "\xc3\xa9t\xc3\xa9|\xcf\x83\xce\xb1|\xd0\xb6\xd0\xb6|"},
        {"\xe6\x9d\xb1\xe4\xba\xac ab", "\xe6\x9d\xb1|\xe4\xba\xac|ab|"},
        {"_ __ \xff a\xff b", "a|b|"},
        {"", ""},
    };
    for (size_t i = 0; i < TW_COUNT(texts); i++) {
        search_text words;
        char all[256] = "";
        size_t len = 0;
        search_text_init(&words, tw_str_of(texts[i].text), 0);
        while (search_text_next(&words)) {
            len += tw_format(all + len, sizeof all - len, "%.*s|", (int)words.len, words.term);
        }
        assert_string_equal(all, texts[i].terms);
    }
}

static void test_wildcards_fit_letters_and_runs(void **state)
{
    (void)state;
    assert_true(search_wild_fits(TW_STR("a*c?e"), TW_STR("abbbcde")));
    assert_true(search_wild_fits(TW_STR("?x"), TW_STR("\xc3\xa9x")));
    assert_true(search_wild_fits(TW_STR("a\\*b"), TW_STR("a*b")));
    assert_false(search_wild_fits(TW_STR("a\\*b"), TW_STR("axb")));
    assert_false(search_wild_fits(TW_STR("a*c"), TW_STR("ab")));
}

static void test_index_terms_taken_out_are_those_put_in(void **state)
{
    (void)state;
    tw_bson doc = bson_text(&arena, doc_text);
    search_mapping *mapping = mapping_of(doc);
    tw_buf in;
    tw_buf out;
    tw_buf_init(&in, 65536);
    tw_buf_init(&out, 65536);
    search_terms_add(mapping, doc, 1, &in);
    const search_field *field = search_mapping_find(mapping, TW_STR("t"));
    assert_int_equal(field->docs, 1);
    assert_int_equal(field->terms, 7);
    search_terms_add(mapping, doc, -1, &out);
    assert_int_equal(field->docs, 0);
    assert_int_equal(field->terms, 0);
    assert_true(in.len > 0 && tw_str_equal(tw_buf_str(&in), tw_buf_str(&out)));
    tw_buf_fini(&in);
    tw_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query_cases_with_and_without_an_index),
        cmocka_unit_test(test_query_refusals_name_the_clause),
        cmocka_unit_test(test_text_terms_are_those_of_a_standard_analyzer),
        cmocka_unit_test(test_wildcards_fit_letters_and_runs),
        cmocka_unit_test(test_index_terms_taken_out_are_those_put_in),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
