/* bson_key_test.c - the order of values, canonical keys, ids and new ObjectIds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"

#include "tests/support/bson_text.h"
#include "tests/support/random_doc.h"
#include "tests/support/test_arena.h"

enum { MEMORY_MAX = 64 << 20, RANDOM_DOCS = 300, OIDS = 1000 };

/* The value of a JSON text, ' for ". */
static tw_bson_value value_of(const char *json)
{
    tw_bson doc = bson_text(&arena, tw_arena_format(&arena, "{'v':%s}", json));
    return tw_bson_get(doc, TW_STR("v"));
}

static int sign_of(int order)
{
    return (order > 0) - (order < 0);
}

/* ---- order ---- */

/* Ascending; texts of one row are equal. Source: MongoDB manual, comparison and sort order. */
static const char *const ascending[][4] = {
    {"{'$minKey':1}"},
    {"{'$undefined':true}"},
    {"null"},
    {"{'$numberDouble':'NaN'}", "{'$numberDecimal':'NaN'}"},
    {"{'$numberDouble':'-Infinity'}", "{'$numberDecimal':'-Infinity'}"},
    {"{'$numberDecimal':'-1E+400'}"},
    {"-1.7976931348623157e308"},
    {"-9223372036854777856.0"},
    {"-9223372036854775808", "-9223372036854775808.0", "{'$numberDecimal':'-9223372036854775808'}"},
    {"-9223372036854775807"},
    {"-9007199254740994.0"},
    {"-9007199254740993"},
    {"-9007199254740992", "-9007199254740992.0"},
    {"-2"},
    {"-1.5", "{'$numberDecimal':'-1.5'}"},
    {"-1", "-1.0", "{'$numberLong':'-1'}", "{'$numberDecimal':'-1.000'}"},
    {"-5e-324"},
    {"0", "-0.0", "0.0", "{'$numberDecimal':'-0E+10'}"},
    {"{'$numberDecimal':'1E-6000'}"},
    {"5e-324"},
    {"{'$numberDecimal':'0.1'}"}, /* the double 0.1 is a little more */
    {"0.1"},
    {"0.5", "{'$numberDecimal':'0.50'}"},
    {"1"},
    {"{'$numberDecimal':'1.000000000000000000000000000000001'}"},
    {"1.0000000000000002"},
    {"9007199254740991"},
    {"9007199254740992", "9007199254740992.0"},
    {"9007199254740993", "{'$numberDecimal':'9007199254740993'}"},
    {"9007199254740994", "9007199254740994.0"},
    {"9223372036854774784.0"},
    {"9223372036854775806"},
    {"9223372036854775807"},
    {"9223372036854775808.0", "{'$numberDecimal':'9223372036854775808'}"},
    {"1e23"}, /* the double is 99999999999999991611392 */
    {"{'$numberDecimal':'1E+23'}", "{'$numberDecimal':'100000E+18'}"},
    {"1.7976931348623157e308"},
    {"{'$numberDecimal':'9.999999999999999999999999999999999E+6144'}"},
    {"{'$numberDouble':'Infinity'}", "{'$numberDecimal':'Infinity'}"},
    {"''", "{'$symbol':''}"},
    {"'\\u0000'"},
    {"'A'"},
    {"'a'", "{'$symbol':'a'}"},
    {"'a\\u0000'"},
    {"'aa'"},
    {"'b'"},
    {"'\\u00e9'"},
    {"{}"},
    {"{'b':1}", "{'b':1.0}"}, /* bracket of the value, then name, then value */
    {"{'b':1,'a':0}"},
    {"{'b':2}"},
    {"{'a':'x'}"},
    {"{'a':{}}"},
    {"{'a':{'c':1}}"},
    {"[]"},
    {"[1]"},
    {"[1,2]"},
    {"[2]"},
    {"['x']"},
    {"[[]]"},
    {"{'$binary':{'base64':'','subType':'00'}}"},
    {"{'$binary':{'base64':'/w==','subType':'00'}}"},
    {"{'$binary':{'base64':'AA==','subType':'01'}}"},
    {"{'$binary':{'base64':'AAA=','subType':'00'}}"},
    {"{'$oid':'000000000000000000000001'}"},
    {"{'$oid':'010000000000000000000000'}"},
    {"false"},
    {"true"},
    {"{'$date':{'$numberLong':'-9223372036854775808'}}"},
    {"{'$date':{'$numberLong':'-1'}}"},
    {"{'$date':'1970-01-01T00:00:00Z'}"},
    {"{'$date':'2020-01-01T00:00:00Z'}"},
    {"{'$timestamp':{'t':1,'i':4294967295}}"},
    {"{'$timestamp':{'t':2,'i':0}}"},
    {"{'$timestamp':{'t':4294967295,'i':0}}"},
    {"{'$regularExpression':{'pattern':'a','options':'x'}}"},
    {"{'$regularExpression':{'pattern':'ab','options':''}}"},
    {"{'$regularExpression':{'pattern':'ab','options':'i'}}"},
    {"{'$dbPointer':{'$ref':'b','$id':{'$oid':'000000000000000000000000'}}}"},
    {"{'$dbPointer':{'$ref':'aa','$id':{'$oid':'000000000000000000000000'}}}"},
    {"{'$code':'aa'}"},
    {"{'$code':'b'}"},
    {"{'$code':'aa','$scope':{}}"},
    {"{'$code':'aa','$scope':{'x':1}}"},
    {"{'$code':'b','$scope':{}}"},
    {"{'$maxKey':1}"},
};

static void test_compare_each_pair_is_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < TW_COUNT(ascending); i++) {
        for (size_t k = 0; k < TW_COUNT(ascending); k++) {
            for (size_t n = 0; n < 16; n++) {
                const char *x = ascending[i][n / 4];
                const char *y = ascending[k][n % 4];
                int expected = (i > k) - (i < k);
                if (x == NULL || y == NULL) {
                    continue;
                }
                if (sign_of(tw_bson_compare(value_of(x), value_of(y))) != expected) {
                    fail_msg("%s and %s: expected %d", x, y, expected);
                }
            }
        }
        tw_arena_reset(&arena);
    }
}

static void test_compare_absent_is_below_null(void **state)
{
    (void)state;
    tw_bson_value none = {0};
    assert_true(tw_bson_compare(none, value_of("null")) < 0);
    assert_int_equal(tw_bson_compare(none, none), 0);
    assert_int_equal(tw_bson_compare(none, value_of("{'$undefined':true}")), 0);
}

/* Encodings of Decimal128 that no writer uses: a coefficient that is too wide means 0. */
static void test_compare_decimal_of_wide_coefficient_is_zero(void **state)
{
    (void)state;
    uint8_t wide[16] = {1, 2, 3, [14] = 0, [15] = 0x6c};
    uint8_t many[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x41, 0x30};
    tw_bson_value zero = value_of("0");
    assert_int_equal(tw_bson_compare((tw_bson_value){TW_BSON_DECIMAL128, wide, 16}, zero), 0);
    assert_int_equal(tw_bson_compare((tw_bson_value){TW_BSON_DECIMAL128, many, 16}, zero), 0);
}

static void test_compare_random_documents_is_a_total_order(void **state)
{
    (void)state;
    tw_buf out;
    tw_buf_init(&out, MEMORY_MAX);
    random_doc maker = {.state = 7, .depth_max = 3, .fields_max = 5};
    tw_bson_value at[RANDOM_DOCS];
    size_t count = 0;
    while (count < TW_COUNT(at)) {
        tw_buf_clear(&out);
        tw_bson doc = tw_arena_bson(&arena, random_doc_make(&maker, &out));
        tw_bson_iter iter;
        for (tw_bson_iter_init(&iter, doc); count < TW_COUNT(at) && tw_bson_iter_next(&iter);) {
            at[count++] = iter.value;
        }
    }
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(tw_bson_compare(at[i], at[i]), 0);
        for (size_t k = 0; k < i; k++) {
            int order = sign_of(tw_bson_compare(at[i], at[k]));
            assert_int_equal(order, -sign_of(tw_bson_compare(at[k], at[i])));
            int third = sign_of(tw_bson_compare(at[k], at[i / 2]));
            if (order == third && order != 0) { /* i > k > i / 2, or the other way round */
                assert_int_equal(sign_of(tw_bson_compare(at[i], at[i / 2])), order);
            }
        }
    }
    tw_buf_fini(&out);
}

/* ---- keys ---- */

static tw_key key_of(const char *json)
{
    tw_key key;
    assert_int_equal(tw_key_of_value(&arena, value_of(json), &key), TW_OK);
    return key;
}

static void test_key_equal_ids_are_equal_bytes(void **state)
{
    static const char *const same[][5] = {
        {"1", "1.0", "{'$numberLong':'1'}", "{'$numberDecimal':'1.00'}", "{'$numberDecimal':'1'}"},
        {"0", "-0.0", "{'$numberLong':'0'}", "{'$numberDecimal':'-0.00'}", "0.0"},
        {"-9223372036854775808", "-9223372036854775808.0",
         "{'$numberDecimal':'-9223372036854775808'}", "-9223372036854775808",
         "-9.223372036854775808e18"},
        {"1e3", "1000", "{'$numberDecimal':'1E+3'}", "1000.0", "{'$numberDecimal':'10E+2'}"},
        {"'a'", "{'$symbol':'a'}", "'a'", "'a'", "'\\u0061'"},
        {"{'x':1,'y':{'z':2}}", "{'x':1.0,'y':{'z':2}}", "{'x':1,'y':{'z':2.0}}",
         "{'x':{'$numberLong':'1'},'y':{'z':2}}", "{'x':1,'y':{'z':{'$numberDecimal':'2.0'}}}"},
    };
    (void)state;
    for (size_t i = 0; i < TW_COUNT(same); i++) {
        for (size_t k = 1; k < TW_COUNT(same[i]); k++) {
            if (!tw_key_equal(key_of(same[i][0]), key_of(same[i][k]))) {
                fail_msg("%s and %s", same[i][0], same[i][k]);
            }
        }
    }
}

static void test_key_other_ids_are_other_bytes(void **state)
{
    static const char *const other[] = {
        "1",
        "1.5",
        "9007199254740992",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808.0",
        "'1'",
        "true",
        "'a'",
        "'a\\u0000'",
        "{'x':1}",
        "{'x':1,'y':2}",
        "{'y':2,'x':1}",
        "{'$oid':'000000000000000000000001'}",
        "'000000000000000000000001'",
        "{'$date':{'$numberLong':'1'}}",
        "{'$timestamp':{'t':0,'i':1}}",
        "{'$numberDouble':'NaN'}",
        "{'$numberDouble':'Infinity'}",
        "{'$minKey':1}",
        "{'$maxKey':1}",
        "{'$binary':{'base64':'','subType':'00'}}",
        "{'$binary':{'base64':'','subType':'04'}}",
    };
    (void)state;
    for (size_t i = 0; i < TW_COUNT(other); i++) {
        for (size_t k = 0; k < i; k++) {
            assert_false(tw_key_equal(key_of(other[i]), key_of(other[k])));
        }
    }
}

static void test_key_has_its_type_first_and_gives_its_value(void **state)
{
    (void)state;
    tw_key key = key_of("7");
    assert_int_equal(key.len, 9);
    assert_memory_equal(key.ptr, "\x12\x07\0\0\0\0\0\0\0", 9);
    assert_int_equal(tw_bson_compare(tw_key_value(key), value_of("7")), 0);
    key = key_of("'ab'");
    assert_int_equal(key.len, 8);
    assert_memory_equal(key.ptr, "\x02\x03\0\0\0ab\0", 8);
    assert_int_equal(tw_key_value((tw_key){0}).type, 0);
}

/* The many NaNs of doubles are one key. */
static void test_key_nan_has_one_form(void **state)
{
    (void)state;
    const uint64_t odd = 0xfff8000000000001u;
    tw_key key;
    tw_bson_value value = {TW_BSON_DOUBLE, (const uint8_t *)&odd, sizeof odd};
    assert_int_equal(tw_key_of_value(&arena, value, &key), TW_OK);
    assert_true(tw_key_equal(key, key_of("{'$numberDouble':'NaN'}")));
}

static void test_key_of_what_is_no_id_is_refused(void **state)
{
    static const char *const wrong[] = {
        "null",
        "[1]",
        "{'$undefined':true}",
        "{'$regularExpression':{'pattern':'a','options':''}}",
        "{'$code':'a'}",
    };
    (void)state;
    tw_key key;
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        assert_int_equal(tw_key_of_value(&arena, value_of(wrong[i]), &key), TW_E_BAD_DOCUMENT);
    }
    assert_int_equal(tw_key_of_value(&arena, (tw_bson_value){0}, &key), TW_E_BAD_DOCUMENT);
}

static tw_err key_of_text(size_t len)
{
    char json[2 * TW_KEY_MAX];
    memset(json, 'x', sizeof json);
    json[0] = json[len + 1] = '\'';
    json[len + 2] = '\0';
    tw_key key;
    return tw_key_of_value(&arena, value_of(json), &key);
}

static void test_key_too_long_is_refused(void **state)
{
    (void)state;
    assert_int_equal(key_of_text(TW_KEY_MAX - 6), TW_OK); /* type, length, NUL */
    assert_int_equal(key_of_text(TW_KEY_MAX - 5), TW_E_TOO_BIG);
    char json[8 * TW_KEY_MAX];
    size_t len = tw_format(json, sizeof json, "{'a':0");
    for (int i = 0; i < TW_KEY_MAX / 12; i++) { /* int32 here, int64 in the key */
        len += tw_format(json + len, sizeof json - len, ",'f%d':1", i);
    }
    (void)tw_format(json + len, sizeof json - len, "}");
    tw_key key;
    assert_int_equal(tw_key_of_value(&arena, value_of(json), &key), TW_E_TOO_BIG);
}

static void test_key_no_memory_is_an_error(void **state)
{
    (void)state;
    tw_bson_value values[] = {value_of("1"), value_of("'a'"), value_of("{'a':1}")};
    for (size_t i = 0; i < TW_COUNT(values); i++) {
        tw_arena none;
        tw_key key;
        tw_arena_init(&none, 1);
        assert_int_equal(tw_key_of_value(&none, values[i], &key), TW_E_NO_MEMORY);
        tw_arena_fini(&none);
    }
}

static void test_key_of_id_hex_is_an_object_id_or_a_string(void **state)
{
    (void)state;
    static const char hex[] = "'5f43A1c0e4b0a1b2c3d4e5f6'";
    tw_key key, also;
    assert_int_equal(tw_key_of_id(&arena, value_of(hex), &key, &also), TW_OK);
    assert_true(tw_key_equal(key, key_of("{'$oid':'5f43a1c0e4b0a1b2c3d4e5f6'}")));
    assert_true(tw_key_equal(also, key_of(hex)));
    static const char *const plain[] = {"'5f43a1c0e4b0a1b2c3d4e5f'", "'5f43a1c0e4b0a1b2c3d4e5fg'",
                                        "7", "{'$oid':'5f43a1c0e4b0a1b2c3d4e5f6'}", "{'a':1}"};
    for (size_t i = 0; i < TW_COUNT(plain); i++) {
        assert_int_equal(tw_key_of_id(&arena, value_of(plain[i]), &key, &also), TW_OK);
        assert_true(tw_key_equal(key, key_of(plain[i])));
        assert_int_equal(also.len, 0);
    }
    assert_int_equal(tw_key_of_id(&arena, value_of("[1]"), &key, &also), TW_E_BAD_DOCUMENT);
}

static void test_key_in_a_document_is_small_again(void **state)
{
    (void)state;
    tw_buf out;
    tw_bson_builder b;
    tw_buf_init(&out, 4096);
    tw_bson_begin(&b, &out);
    tw_bson_add_key(&b, TW_STR("a"), key_of("7.0"));
    tw_bson_add_key(&b, TW_STR("b"), key_of("9007199254740993"));
    tw_bson_add_key(&b, TW_STR("c"), key_of("{'$oid':'5f43a1c0e4b0a1b2c3d4e5f6'}"));
    tw_bson doc = tw_bson_end(&b);
    assert_int_equal(tw_bson_get(doc, TW_STR("a")).type, TW_BSON_INT32);
    assert_string_equal(bson_shown(&arena, doc), "{\"a\":7,\"b\":9007199254740993,"
                                                 "\"c\":{\"$oid\":\"5f43a1c0e4b0a1b2c3d4e5f6\"}}");
    tw_buf_fini(&out);
}

/* ---- new ObjectIds ---- */

static int compare_oids(const void *a, const void *b)
{
    return memcmp(a, b, 12);
}

static void test_oid_new_ids_differ_and_share_time_and_process(void **state)
{
    (void)state;
    static uint8_t oids[OIDS][12];
    for (size_t i = 0; i < OIDS; i++) {
        tw_oid_new(oids[i]);
        assert_memory_equal(oids[i] + 4, oids[0] + 4, 5);
    }
    qsort(oids, OIDS, sizeof oids[0], compare_oids);
    for (size_t i = 1; i < OIDS; i++) {
        assert_memory_not_equal(oids[i - 1], oids[i], 12);
    }
    assert_true(oids[OIDS - 1][3] - oids[0][3] <= 5 || oids[OIDS - 1][2] != oids[0][2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare_each_pair_is_in_order),
        cmocka_unit_test(test_compare_absent_is_below_null),
        cmocka_unit_test(test_compare_decimal_of_wide_coefficient_is_zero),
        cmocka_unit_test(test_compare_random_documents_is_a_total_order),
        cmocka_unit_test(test_key_equal_ids_are_equal_bytes),
        cmocka_unit_test(test_key_other_ids_are_other_bytes),
        cmocka_unit_test(test_key_has_its_type_first_and_gives_its_value),
        cmocka_unit_test(test_key_nan_has_one_form),
        cmocka_unit_test(test_key_of_what_is_no_id_is_refused),
        cmocka_unit_test(test_key_too_long_is_refused),
        cmocka_unit_test(test_key_no_memory_is_an_error),
        cmocka_unit_test(test_key_of_id_hex_is_an_object_id_or_a_string),
        cmocka_unit_test(test_key_in_a_document_is_small_again),
        cmocka_unit_test(test_oid_new_ids_differ_and_share_time_and_process),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
