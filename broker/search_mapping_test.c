/* search_mapping_test.c - fields as they are declared and learnt, and values as fields see them. */
#include "broker/search_mapping.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/limits.h"

#include "tests/support/bson_text.h"
#include "tests/support/test_arena.h"

static search_mapping mapping_of(const char *text)
{
    search_mapping mapping;
    assert_int_equal(search_mapping_init(&mapping, &arena, bson_text(&arena, text)), TW_OK);
    return mapping;
}

static void expect(const search_mapping *mapping, const char *name, search_type type,
                   const char *path)
{
    const search_field *field = search_mapping_find(mapping, tw_str_of(name));
    if (field == NULL) {
        fail_msg("no field %s", name);
        return;
    }
    assert_int_equal(field->type, type);
    assert_true(tw_str_equal(field->path, tw_str_of(path)));
}

static void test_mapping_declared_has_its_fields(void **state)
{
    (void)state;
    search_mapping mapping = mapping_of(
        "{'properties':{'t':{'type':'text','fields':{'raw':{'type':'keyword','ignore_above':9}}},"
        "'n':{'type':'short'},'f':{'type':'half_float'},'d':{'type':'date'},"
        "'o':{'properties':{'in':{'type':'boolean'}}},'g':{'type':'geo_point'},"
        "'off':{'type':'keyword','index':false},'l':{'type':'keyword','meta':{'list':'true'}}}}");
    expect(&mapping, "t", SEARCH_TEXT, "t");
    expect(&mapping, "t.raw", SEARCH_KEYWORD, "t");
    assert_int_equal(search_mapping_find(&mapping, TW_STR("t.raw"))->ignore_above, 9);
    expect(&mapping, "n", SEARCH_LONG, "n");
    expect(&mapping, "f", SEARCH_DOUBLE, "f");
    expect(&mapping, "d", SEARCH_DATE, "d");
    expect(&mapping, "o.in", SEARCH_BOOLEAN, "o.in");
    expect(&mapping, "g", SEARCH_OPAQUE, "g");
    expect(&mapping, "off", SEARCH_OPAQUE, "off");
    assert_true(search_mapping_find(&mapping, TW_STR("l"))->list);
    assert_null(search_mapping_find(&mapping, TW_STR("o")));
    assert_null(search_mapping_find(&mapping, TW_STR("raw")));
}

static void test_mapping_learns_as_dynamic_mapping_does_and_keeps_it(void **state)
{
    (void)state;
    search_mapping mapping = mapping_of("{'properties':{'n':{'type':'keyword'}}}");
    tw_bson doc =
        bson_text(&arena, "{'_id':'x','n':5,'i':1,'f':1.5,'b':true,'s':'word','d':'2024-02-29',"
                          "'null':null,'o':{'list':[{'p':'q'}]}}");
    assert_int_equal(search_mapping_learn(&mapping, doc), TW_OK);
    expect(&mapping, "n", SEARCH_KEYWORD, "n");
    expect(&mapping, "i", SEARCH_LONG, "i");
    expect(&mapping, "f", SEARCH_DOUBLE, "f");
    expect(&mapping, "b", SEARCH_BOOLEAN, "b");
    expect(&mapping, "s", SEARCH_TEXT, "s");
    expect(&mapping, "s.keyword", SEARCH_KEYWORD, "s");
    expect(&mapping, "d", SEARCH_DATE, "d");
    expect(&mapping, "o.list.p", SEARCH_TEXT, "o.list.p");
    assert_null(search_mapping_find(&mapping, TW_STR("null")));
    assert_null(search_mapping_find(&mapping, TW_STR("_id")));
    size_t count = mapping.count;
    assert_int_equal(search_mapping_learn(&mapping, bson_text(&arena, "{'i':'text now','s':3}")),
                     TW_OK);
    expect(&mapping, "i", SEARCH_LONG, "i");
    assert_int_equal(mapping.count, count);
}

static void test_mapping_that_is_not_dynamic_learns_nothing(void **state)
{
    (void)state;
    static const char *const declared[] = {"{'dynamic':false}", "{'dynamic':'strict'}",
                                           "{'dynamic':'false'}"};
    for (size_t i = 0; i < TW_COUNT(declared); i++) {
        search_mapping mapping = mapping_of(declared[i]);
        assert_int_equal(search_mapping_learn(&mapping, bson_text(&arena, "{'a':1}")), TW_OK);
        assert_int_equal(mapping.count, 0);
    }
    search_mapping mapping = mapping_of("{'dynamic':'true'}");
    assert_int_equal(search_mapping_learn(&mapping, bson_text(&arena, "{'a':1}")), TW_OK);
    assert_int_equal(mapping.count, 1);
}

static void test_mapping_is_bounded(void **state)
{
    (void)state;
    search_mapping mapping = mapping_of("{}");
    for (int i = 0; i < SEARCH_FIELDS_MAX + 5; i++) {
        char name[16];
        tw_str told = {name, tw_format(name, sizeof name, "f%d", i)};
        search_field *field = search_mapping_add(&mapping, told, told, TW_STR("long"));
        assert_true((field != NULL) == (i < SEARCH_FIELDS_MAX));
    }
    assert_int_equal(mapping.count, SEARCH_FIELDS_MAX);
    expect(&mapping, "f999", SEARCH_LONG, "f999");
    assert_ptr_equal(search_mapping_add(&mapping, TW_STR("f3"), TW_STR("f3"), TW_STR("text")),
                     search_mapping_find(&mapping, TW_STR("f3")));
}

static bool count_and_stop(void *context, tw_str path, tw_bson_value value)
{
    (void)path;
    (void)value;
    return ++*(int *)context < 3;
}

static void test_walk_enters_lists_and_objects_and_ends_when_told(void **state)
{
    (void)state;
    tw_bson doc = bson_text(&arena, "{'a':[{'b':1},{'b':[2,3]},{'c':4},5],'a.b':6}");
    int seen = 0;
    search_walk(doc, TW_STR("a.b"), count_and_stop, &seen);
    assert_int_equal(seen, 3); /* 1, 2, 3, and then it ends */
    seen = -10;
    search_walk(doc, TW_STR("a.b"), count_and_stop, &seen);
    assert_int_equal(seen, -6); /* the dotted name too */
    seen = -10;
    search_walk(doc, TW_STR(""), count_and_stop, &seen);
    assert_int_equal(seen, -4); /* every scalar */
    seen = 0;
    search_walk(doc, TW_STR("a.x"), count_and_stop, &seen);
    assert_int_equal(seen, 0);
}

static void test_dates_are_read_and_written_as_engines_do(void **state)
{
    (void)state;
    static const struct {
        const char *text, *low, *high; /* NULL: no date */
    } cases[] = {
        {"1970", "1970-01-01T00:00:00.000Z", "1970-12-31T23:59:59.999Z"},
        {"2024-02", "2024-02-01T00:00:00.000Z", "2024-02-29T23:59:59.999Z"},
        {"2023-12", "2023-12-01T00:00:00.000Z", "2023-12-31T23:59:59.999Z"},
        {"2024-02-29", "2024-02-29T00:00:00.000Z", "2024-02-29T23:59:59.999Z"},
        {"1969-12-31T23", "1969-12-31T23:00:00.000Z", "1969-12-31T23:59:59.999Z"},
        {"2024-01-01T10:20:30.5Z", "2024-01-01T10:20:30.500Z", "2024-01-01T10:20:30.500Z"},
        {"2024-01-01T00:30+01:00", "2023-12-31T23:30:00.000Z", "2023-12-31T23:30:59.999Z"},
        {"2024-01-01T00:30-0530", "2024-01-01T06:00:00.000Z", "2024-01-01T06:00:59.999Z"},
        {"86400000", "1970-01-02T00:00:00.000Z", "1970-01-02T00:00:00.000Z"},
        {"2024-13-01", NULL, NULL},
        {"2024-01-01T24:00", NULL, NULL},
        {"2024-1-1", NULL, NULL},
        {"tomorrow", NULL, NULL},
        {"2024-01-01T00:30+1", NULL, NULL},
        {"", NULL, NULL},
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        for (int upper = 0; upper < 2; upper++) {
            const char *wanted = upper != 0 ? cases[i].high : cases[i].low;
            double ms = 0;
            char out[40];
            bool read_it =
                search_number_of_text(SEARCH_DATE, tw_str_of(cases[i].text), upper != 0, &ms);
            if (read_it != (wanted != NULL)) {
                fail_msg("\"%s\" is %s date", cases[i].text, read_it ? "a" : "no");
            }
            if (wanted != NULL) {
                search_date_write(ms, out);
                assert_string_equal(out, wanted);
            }
        }
    }
    for (int64_t day = -800000; day < 3000000; day += 997) { /* there and back */
        int64_t year;
        unsigned month;
        unsigned mday;
        search_civil_of(day, &year, &month, &mday);
        assert_int_equal(search_day_of(year, month, mday), day);
    }
}

static void test_numbers_and_keywords_of_values(void **state)
{
    (void)state;
    static const struct {
        search_type type;
        const char *text;
        bool good;
        double number;
    } numbers[] = {
        {SEARCH_LONG, "12", true, 12},      {SEARCH_DOUBLE, "-1.5e3", true, -1500},
        {SEARCH_LONG, "", false, 0},        {SEARCH_LONG, "0x10", false, 0},
        {SEARCH_DOUBLE, "nan", false, 0},   {SEARCH_DOUBLE, "1e999", false, 0},
        {SEARCH_LONG, " 1", false, 0},      {SEARCH_BOOLEAN, "true", true, 1},
        {SEARCH_BOOLEAN, "false", true, 0}, {SEARCH_BOOLEAN, "yes", false, 0},
        {SEARCH_KEYWORD, "1", false, 0},
    };
    for (size_t i = 0; i < TW_COUNT(numbers); i++) {
        double number = 0;
        bool good =
            search_number_of_text(numbers[i].type, tw_str_of(numbers[i].text), false, &number);
        assert_true(good == numbers[i].good);
        assert_true(!good || number == numbers[i].number);
    }
    tw_bson doc = bson_text(&arena, "{'t':'x','b':false,'i':7,'f':0.5,'n':null}");
    static const struct {
        const char *name, *text; /* NULL: none */
    } keywords[] = {{"t", "x"}, {"b", "false"}, {"i", "7"}, {"f", "0.5"}, {"n", NULL}};
    for (size_t i = 0; i < TW_COUNT(keywords); i++) {
        char scratch[64];
        tw_str text = search_keyword_of(tw_bson_get(doc, tw_str_of(keywords[i].name)), scratch);
        assert_true(keywords[i].text == NULL ? text.ptr == NULL
                                             : tw_str_equal(text, tw_str_of(keywords[i].text)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mapping_declared_has_its_fields),
        cmocka_unit_test(test_mapping_learns_as_dynamic_mapping_does_and_keeps_it),
        cmocka_unit_test(test_mapping_that_is_not_dynamic_learns_nothing),
        cmocka_unit_test(test_mapping_is_bounded),
        cmocka_unit_test(test_walk_enters_lists_and_objects_and_ends_when_told),
        cmocka_unit_test(test_dates_are_read_and_written_as_engines_do),
        cmocka_unit_test(test_numbers_and_keywords_of_values),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
