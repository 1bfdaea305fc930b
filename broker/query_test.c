/* query_test.c - the filter language; `query_test --probe` answers for a comparison with a server.
 *
 * A probe reads lines of JSON from stdin:
 *   {"filter": {...}, "docs": [...]}    answers  {"matches": [true, ...]} or {"error": "..."}
 *   {"update": {...}, "docs": [...]}    answers  {"docs": [{...} or null where refused, ...]} */
#include "broker/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protocol/limits.h"

#include "broker/update.h"

#include "tests/support/bson_text.h"
#include "tests/support/test_arena.h"

/* 1: matches, 0: does not, -1: the filter is refused. */
static int matches(const char *filter, const char *doc)
{
    query *compiled = NULL;
    broker_why why = {0};
    tw_err err = query_compile(bson_text(&arena, filter), &compiled, &why);
    if (err != TW_OK) {
        assert_int_equal(err, TW_E_BAD_FILTER);
        assert_true(why.text[0] != '\0');
        assert_null(compiled);
        return -1;
    }
    int result = query_match(compiled, bson_text(&arena, doc)) ? 1 : 0;
    query_free(&compiled);
    return result;
}

typedef struct sample {
    const char *filter;
    const char *doc;
    int matches;
} sample;

static void check_all(const sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int got = matches(samples[i].filter, samples[i].doc);
        if (got != samples[i].matches) {
            fail_msg("%s on %s: %d", samples[i].filter, samples[i].doc, got);
        }
    }
}

static void test_query_comparisons_follow_brackets_and_arrays(void **state)
{
    (void)state;
    static const sample samples[] = {
        {"{}", "{'a':1}", 1},
        {"{'a':1}", "{'a':1.0}", 1},
        {"{'a':1}", "{'a':'1'}", 0},
        {"{'a':1}", "{'a':[2,1]}", 1},
        {"{'a':[2,1]}", "{'a':[2,1]}", 1},
        {"{'a':[2,1]}", "{'a':[[2,1]]}", 1},
        {"{'a':[1]}", "{'a':1}", 0},
        {"{'a':{'b':1}}", "{'a':{'b':1}}", 1},
        {"{'a':{'b':1}}", "{'a':{'b':1,'c':2}}", 0},
        {"{'a':null}", "{}", 1},
        {"{'a':null}", "{'a':null}", 1},
        {"{'a':null}", "{'a':0}", 0},
        {"{'a.b':null}", "{'a':[]}", 0},
        {"{'a.b':null}", "{'a':[{}]}", 1},
        {"{'a.b':null}", "{'a':[1]}", 0},
        {"{'a':{'$lte':null}}", "{}", 1},
        {"{'a':{'$gt':1}}", "{'a':[0,2]}", 1},
        {"{'a':{'$gt':1}}", "{'a':'x'}", 0},
        {"{'a':{'$gt':1,'$lt':2}}", "{'a':[0,3]}", 1},
        {"{'a':{'$ne':1}}", "{'a':[1,2]}", 0},
        {"{'a':{'$ne':1}}", "{}", 1},
        {"{'a':{'$in':[1,null]}}", "{}", 1},
        {"{'a':{'$nin':[1,null]}}", "{}", 0},
        {"{'a':{'$in':[]}}", "{'a':1}", 0},
        {"{'a':{'$lt':{'$numberDouble':'NaN'}}}", "{'a':1}", 0},
        {"{'a':{'$lte':{'$numberDouble':'NaN'}}}", "{'a':{'$numberDouble':'NaN'}}", 1},
        {"{'a':{'$lt':5}}", "{'a':{'$numberDouble':'NaN'}}", 0},
        {"{'a':{'$gt':{'$date':'2020-01-01T00:00:00Z'}}}", "{'a':{'$date':'2021-01-01T00:00:00Z'}}",
         1},
        {"{'a':{'$oid':'0123456789abcdef01234567'}}", "{'a':{'$oid':'0123456789abcdef01234567'}}",
         1},
    };
    check_all(samples, TW_COUNT(samples));
}

static void test_query_paths_fan_out_over_arrays(void **state)
{
    (void)state;
    static const sample samples[] = {
        {"{'a.b':1}", "{'a':{'b':1}}", 1},
        {"{'a.b':2}", "{'a':[{'b':1},{'b':2}]}", 1},
        {"{'a.b':2}", "{'a':[[{'b':2}]]}", 0},
        {"{'a.1':2}", "{'a':[1,2]}", 1},
        {"{'a.1':2}", "{'a':[2,1]}", 0},
        {"{'a.1':2}", "{'a':{'1':2}}", 1},
        {"{'a.0.b':1}", "{'a':[{'b':1}]}", 1},
        {"{'a.0':1}", "{'a':[[1]]}", 0},
        {"{'a.0.0':1}", "{'a':[[1]]}", 1},
        {"{'a.b.c':3}", "{'a':[{'b':[{'c':3}]}]}", 1},
        {"{'a.b':{'$exists':false}}", "{'a':[]}", 1},
        {"{'a.b':{'$exists':true}}", "{'a':[{'c':1},{'b':1}]}", 1},
        {"{'a':{'$size':2}}", "{'a':[1,2]}", 1},
        {"{'a':{'$size':2}}", "{'a':[[1,2]]}", 0},
        {"{'a.b':{'$size':1}}", "{'a':[{'b':[1]}]}", 1},
    };
    check_all(samples, TW_COUNT(samples));
}

static void test_query_operators_hold(void **state)
{
    (void)state;
    static const sample samples[] = {
        {"{'a':{'$exists':true}}", "{'a':null}", 1},
        {"{'a':{'$exists':0}}", "{'a':null}", 0},
        {"{'a':{'$type':'string'}}", "{'a':'x'}", 1},
        {"{'a':{'$type':['int','null']}}", "{'a':null}", 1},
        {"{'a':{'$type':'array'}}", "{'a':[1]}", 1},
        {"{'a':{'$type':'number'}}", "{'a':[1.5]}", 1},
        {"{'a':{'$type':'nosuch'}}", "{'a':1}", -1},
        {"{'a':{'$all':[1,2]}}", "{'a':[2,1,3]}", 1},
        {"{'a':{'$all':[1,2]}}", "{'a':[1]}", 0},
        {"{'a':{'$all':[]}}", "{'a':[]}", 0},
        {"{'a':{'$all':[{'$elemMatch':{'b':1}},{'$elemMatch':{'b':2}}]}}",
         "{'a':[{'b':1},{'b':2}]}", 1},
        {"{'a':{'$elemMatch':{'$gt':1,'$lt':3}}}", "{'a':[0,2]}", 1},
        {"{'a':{'$elemMatch':{'$gt':1,'$lt':3}}}", "{'a':[0,4]}", 0},
        {"{'a':{'$elemMatch':{'$gt':1}}}", "{'a':2}", 0},
        {"{'a':{'$elemMatch':{'b':1,'c':2}}}", "{'a':[{'b':1},{'c':2}]}", 0},
        {"{'a':{'$elemMatch':{'b':1,'c':2}}}", "{'a':[{'b':1,'c':2}]}", 1},
        {"{'a':{'$elemMatch':{'$or':[{'b':1},{'b':2}]}}}", "{'a':[{'b':2}]}", 1},
        {"{'a':{'$elemMatch':{}}}", "{'a':[1]}", 0},
        {"{'a':{'$elemMatch':{'$not':{'$gt':1}}}}", "{'a':[5,0]}", 1},
        {"{'a':{'$not':{'$gt':1}}}", "{}", 1},
        {"{'a':{'$not':{'$gt':1,'$lt':3}}}", "{'a':2}", 0},
        {"{'$or':[{'a':1},{'b':1}]}", "{'b':1}", 1},
        {"{'$nor':[{'a':1},{'b':1}]}", "{'c':1}", 1},
        {"{'$and':[{'a':1},{'b':1}]}", "{'a':1}", 0},
        {"{'a':{'$regex':'^x.*y$'}}", "{'a':'xaby'}", 1},
        {"{'a':{'$regex':'B','$options':'i'}}", "{'a':['q','abc']}", 1},
        {"{'a':{'$not':{'$regex':'b'}}}", "{'a':'abc'}", 0},
        {"{'a':{'$in':[{'$regularExpression':{'pattern':'^x','options':''}},3]}}", "{'a':'xy'}", 1},
    };
    check_all(samples, TW_COUNT(samples));
}

static void test_query_refuses_what_it_does_not_know_by_name(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{'$where':'1'}",
        "{'a':{'$foo':1}}",
        "{'$expr':{}}",
        "{'a':{'$gt':1,'b':2}}",
        "{'$or':[]}",
        "{'$and':{}}",
        "{'$or':[1]}",
        "{'a':{'$in':1}}",
        "{'a':{'$in':[{'$gt':1}]}}",
        "{'a':{'$size':-1}}",
        "{'a':{'$size':'x'}}",
        "{'a':{'$all':1}}",
        "{'a':{'$not':1}}",
        "{'a':{'$elemMatch':1}}",
        "{'a':{'$options':'i'}}",
        "{'a':{'$regex':'(a+)+'}}",
        "{'a':{'$regex':'('}}",
    };
    for (size_t i = 0; i < TW_COUNT(bad); i++) {
        if (matches(bad[i], "{}") != -1) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
    query *compiled = NULL;
    broker_why why = {0};
    assert_int_equal(query_compile(bson_text(&arena, "{'a':{'b.c':{'$gt':1}},'x.y':{'$foo':1}}"),
                                   &compiled, &why),
                     TW_E_BAD_FILTER);
    assert_non_null(strstr(why.text, "$foo"));
    assert_non_null(strstr(why.text, "x.y"));
}

static void test_query_over_a_limit_is_refused(void **state)
{
    (void)state;
    char text[8192];
    size_t len = tw_format(text, sizeof text, "{'$or':[{'a':0}");
    for (int i = 0; i < 40; i++) {
        len += tw_format(text + len, sizeof text - len, ",{'a':%d}", i);
    }
    tw_format(text + len, sizeof text - len, "]}");
    assert_int_equal(matches(text, "{}"), -1);
    len = tw_format(text, sizeof text, "{'a':{'$in':[0");
    for (int i = 0; i < 256; i++) {
        len += tw_format(text + len, sizeof text - len, ",1");
    }
    tw_format(text + len, sizeof text - len, "]}}");
    assert_int_equal(matches(text, "{}"), -1);
    len = tw_format(text, sizeof text, "{'a':");
    for (int i = 0; i < TW_FILTER_DEPTH_MAX + 1; i++) {
        len += tw_format(text + len, sizeof text - len, "{'$not':");
    }
    len += tw_format(text + len, sizeof text - len, "{'$gt':1}");
    memset(text + len, '}', TW_FILTER_DEPTH_MAX + 2);
    text[len + TW_FILTER_DEPTH_MAX + 2] = '\0';
    assert_int_equal(matches(text, "{}"), -1);
    query *joined = NULL;
    assert_int_equal(query_compile_joined((tw_bson){0}, &joined, NULL), TW_OK);
    assert_true(query_matches_all(joined));
    query_free(&joined);
}

static void test_query_equalities_are_those_every_match_has(void **state)
{
    (void)state;
    query *compiled = NULL;
    query_equality at;
    tw_bson filter = bson_text(&arena, "{'$and':[{'p':7},{'a.b':'x','c':{'$gt':1}}],'n':null,"
                                       "'d':{'$eq':2.5},'$or':[{'e':1}],'f':{'$ne':1}}");
    assert_int_equal(query_compile(filter, &compiled, NULL), TW_OK);
    static const char *const paths[] = {"p", "a.b", "d"};
    for (size_t i = 0; i < TW_COUNT(paths); i++) {
        assert_true(query_equality_at(compiled, i, &at));
        assert_true(tw_str_equal(at.path, tw_str_of(paths[i])));
    }
    assert_false(query_equality_at(compiled, TW_COUNT(paths), &at));
    assert_false(query_matches_all(compiled));
    query_free(&compiled);
}

static void test_query_regex_out_of_steps_is_counted(void **state)
{
    (void)state;
    query *compiled = NULL;
    char text[4096] = "{'a':'";
    memset(text + 6, 'a', 4000);
    memcpy(text + 4006, "'}", 3);
    tw_bson doc = bson_text(&arena, text);
    assert_int_equal(query_compile(bson_text(&arena, "{'a':{'$regex':'a*a*a*a*a*[bc]d?[bc]'}}"),
                                   &compiled, NULL),
                     TW_OK);
    assert_false(query_match(compiled, doc));
    assert_int_equal(query_costly(compiled), 1);
    query_free(&compiled);
}

static void test_query_without_memory_leaves_nothing(void **state)
{
    (void)state;
    tw_bson filter = bson_text(&arena, "{'a':1,'b':{'$regex':'x'},'c':{'$in':[1,2]}}");
    tw_err err = TW_E_NO_MEMORY;
    for (uint64_t nth = 1; err == TW_E_NO_MEMORY; nth++) {
        query *compiled = NULL;
        uint64_t before = tw_alloc_count();
        tw_alloc_fail_at(nth);
        err = query_compile(filter, &compiled, NULL);
        tw_alloc_fail_at(0);
        assert_true(err == TW_OK ? compiled != NULL : compiled == NULL);
        assert_true(tw_alloc_count() >= before);
        query_free(&compiled);
        assert_true(nth < 100);
    }
    assert_int_equal(err, TW_OK);
}

/* ---- the probe ---- */

static void probe_filter(tw_bson line, tw_bson docs)
{
    query *compiled = NULL;
    broker_why why = {0};
    tw_buf out;
    tw_buf_init(&out, 1 << 20);
    if (query_compile(tw_bson_get_doc(line, TW_STR("filter")), &compiled, &why) != TW_OK) {
        tw_buf_add_str(&out, TW_STR("{\"error\":"));
        tw_json_write_str(&out, tw_str_of(why.text));
        tw_buf_add_str(&out, TW_STR("}"));
    } else {
        tw_bson_iter iter;
        const char *comma = "";
        tw_buf_add_str(&out, TW_STR("{\"matches\":["));
        for (tw_bson_iter_init(&iter, docs); tw_bson_iter_next(&iter); comma = ",") {
            bool held = query_match(compiled, tw_bson_value_doc(iter.value));
            tw_buf_format(&out, "%s%s", comma, held ? "true" : "false");
        }
        tw_buf_add_str(&out, TW_STR("]}"));
    }
    printf("%.*s\n", (int)out.len, out.ptr);
    tw_buf_fini(&out);
    query_free(&compiled);
}

static void probe_update(tw_bson line, tw_bson docs)
{
    tw_buf out;
    tw_bson_iter iter;
    const char *comma = "";
    tw_buf_init(&out, 1 << 24);
    tw_buf_add_str(&out, TW_STR("{\"docs\":["));
    for (tw_bson_iter_init(&iter, docs); tw_bson_iter_next(&iter); comma = ",") {
        tw_bson changed;
        broker_why why = {0};
        tw_err err =
            update_apply(&arena, tw_bson_value_doc(iter.value),
                         tw_bson_get_doc(line, TW_STR("update")), TW_STR("_id"), 0, &changed, &why);
        tw_buf_add_str(&out, tw_str_of(comma));
        if (err == TW_OK) {
            tw_json_write(&out, changed);
        } else {
            tw_buf_add_str(&out, TW_STR("null"));
        }
    }
    tw_buf_add_str(&out, TW_STR("]}"));
    printf("%.*s\n", (int)out.len, out.ptr);
    tw_buf_fini(&out);
}

static int probe(void)
{
    char *text = NULL;
    size_t cap = 0;
    ssize_t len;
    tw_arena_init(&arena, 256 << 20);
    while ((len = getline(&text, &cap, stdin)) > 0) {
        tw_bson line;
        if (tw_json_read(&arena, (tw_str){text, (size_t)len}, TW_DEPTH_MAX, &line, NULL) != TW_OK) {
            printf("{\"error\":\"no JSON\"}\n");
        } else if (tw_bson_get_doc(line, TW_STR("update")).len > 0) {
            probe_update(line, tw_bson_get_doc(line, TW_STR("docs")));
        } else {
            probe_filter(line, tw_bson_get_doc(line, TW_STR("docs")));
        }
        tw_arena_reset(&arena);
    }
    free(text);
    tw_arena_fini(&arena);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--probe") == 0) {
        return probe();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query_comparisons_follow_brackets_and_arrays),
        cmocka_unit_test(test_query_paths_fan_out_over_arrays),
        cmocka_unit_test(test_query_operators_hold),
        cmocka_unit_test(test_query_refuses_what_it_does_not_know_by_name),
        cmocka_unit_test(test_query_over_a_limit_is_refused),
        cmocka_unit_test(test_query_equalities_are_those_every_match_has),
        cmocka_unit_test(test_query_regex_out_of_steps_is_counted),
        cmocka_unit_test(test_query_without_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
