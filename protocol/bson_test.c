/* bson_test.c - walking, reading, building and validating documents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <bson/bson.h>
#include <cmocka.h>

#include "protocol/limits.h"

#include "tests/support/bson_text.h"
#include "tests/support/random_doc.h"

enum { MEMORY_MAX = 64 << 20, RANDOM_DOCS = 2000, DAMAGES = 20 };

static tw_arena arena;
static tw_buf out;

static int set_up(void **state)
{
    (void)state;
    tw_arena_init(&arena, MEMORY_MAX);
    tw_buf_init(&out, MEMORY_MAX);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tw_arena_fini(&arena);
    tw_buf_fini(&out);
    return 0;
}

static bool same_bytes(tw_bson a, tw_bson b)
{
    return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

/* ---- reading ---- */

static void test_get_finds_fields_by_name_and_path(void **state)
{
    (void)state;
    tw_bson doc = bson_text(&arena, "{'a':1,'b':{'c':[{'d':'x'},7],'':2},'a.b':3}");
    assert_int_equal(tw_bson_get_i64_or(doc, TW_STR("a"), -1), 1);
    assert_int_equal(tw_bson_get(doc, TW_STR("A")).type, 0);
    assert_int_equal(tw_bson_get(doc, TW_STR("a.b")).type, TW_BSON_INT32);
    assert_int_equal(tw_bson_get_path(doc, TW_STR("a")).type, TW_BSON_INT32);
    assert_int_equal(tw_bson_get_path(doc, TW_STR("a.b")).type, 0); /* 1 has no fields */
    tw_str text = tw_bson_value_str(tw_bson_get_path(doc, TW_STR("b.c.0.d")));
    assert_true(tw_str_equal(text, TW_STR("x")));
    assert_int_equal(tw_bson_get_path(doc, TW_STR("b.c.1")).type, TW_BSON_INT32);
    assert_int_equal(tw_bson_get_path(doc, TW_STR("b.c.2")).type, 0);
    assert_int_equal(tw_bson_get_path(doc, TW_STR("b.c.d")).type, 0); /* arrays do not fan out */
    assert_int_equal(tw_bson_get_path(doc, TW_STR("b.")).type, TW_BSON_INT32);
    assert_int_equal(tw_bson_get_path(doc, TW_STR("")).type, 0);
    assert_int_equal(tw_bson_get_path((tw_bson){0}, TW_STR("a.b")).type, 0);
    assert_int_equal(tw_bson_count(doc), 3);
}

static void test_get_a_name_that_stands_twice_gives_the_first(void **state)
{
    (void)state;
    tw_bson_builder b;
    tw_buf_clear(&out);
    tw_bson_begin(&b, &out);
    tw_bson_add_i64(&b, TW_STR("a"), 1);
    tw_bson_add_i64(&b, TW_STR("a"), 2);
    tw_bson doc = tw_bson_end(&b);
    assert_int_equal(tw_bson_get_i64_or(doc, TW_STR("a"), 0), 1);
    assert_int_equal(tw_bson_validate(doc.ptr, doc.len, TW_DEPTH_MAX, &doc), TW_OK);
}

static void test_value_other_types_give_the_fallback(void **state)
{
    (void)state;
    tw_bson doc = bson_text(&arena, "{'n':1.5,'w':2.0,'t':'x','y':{'$symbol':'s'},'b':false,'d':{},"
                                    "'a':[],'big':1e300,'nan':{'$numberDouble':'NaN'},'z':0}");
    assert_int_equal(tw_bson_get_i64_or(doc, TW_STR("n"), -1), -1);
    assert_int_equal(tw_bson_get_i64_or(doc, TW_STR("w"), -1), 2);
    assert_int_equal(tw_bson_get_i64_or(doc, TW_STR("t"), -1), -1);
    assert_int_equal(tw_bson_get_i64_or(doc, TW_STR("big"), -1), -1);
    assert_int_equal(tw_bson_get_i64_or(doc, TW_STR("nan"), -1), -1);
    assert_null(tw_bson_get_str(doc, TW_STR("n")).ptr);
    assert_true(tw_str_equal(tw_bson_get_str(doc, TW_STR("y")), TW_STR("s")));
    assert_false(tw_bson_get_bool_or(doc, TW_STR("b"), true));
    assert_true(tw_bson_get_bool_or(doc, TW_STR("n"), false));
    assert_false(tw_bson_get_bool_or(doc, TW_STR("z"), true));
    assert_true(tw_bson_get_bool_or(doc, TW_STR("t"), true));
    assert_int_equal(tw_bson_get_doc(doc, TW_STR("d")).len, 5);
    assert_int_equal(tw_bson_get_doc(doc, TW_STR("a")).len, 5);
    assert_int_equal(tw_bson_get_doc(doc, TW_STR("t")).len, 0);
    assert_true(tw_bson_value_double(tw_bson_get(doc, TW_STR("n"))) == 1.5);
    assert_true(tw_bson_value_double(tw_bson_get(doc, TW_STR("t"))) == 0);
    assert_false(tw_bson_value_is_number(tw_bson_get(doc, TW_STR("t"))));
}

static void test_value_whole_doubles_at_the_edges_of_int64(void **state)
{
    static const struct {
        double from;
        bool whole;
        int64_t to;
    } rows[] = {
        {-9223372036854775808.0, true, INT64_MIN},
        {9223372036854775808.0, false, 0},
        {9223372036854774784.0, true, 9223372036854774784},
        {-9223372036854777856.0, false, 0},
        {-0.0, true, 0},
        {9007199254740992.0, true, 9007199254740992},
        {4503599627370495.5, false, 0},
    };
    (void)state;
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        int64_t to;
        tw_bson_value value = {TW_BSON_DOUBLE, (const uint8_t *)&rows[i].from, 8};
        assert_int_equal(tw_bson_value_i64(value, &to), rows[i].whole);
        if (rows[i].whole) {
            assert_int_equal(to, rows[i].to);
        }
    }
}

/* ---- building ---- */

static void test_build_each_type_is_what_libbson_builds(void **state)
{
    (void)state;
    const bson_oid_t oid = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}};
    bson_t *expected = bson_new();
    bson_t child, deeper;
    BSON_APPEND_UTF8(expected, "s", "h\xc3\xa9");
    BSON_APPEND_INT32(expected, "i", -1);
    BSON_APPEND_INT64(expected, "l", 2147483648);
    BSON_APPEND_DOUBLE(expected, "d", 0.5);
    BSON_APPEND_BOOL(expected, "t", true);
    BSON_APPEND_NULL(expected, "n");
    BSON_APPEND_DATE_TIME(expected, "w", -5);
    BSON_APPEND_OID(expected, "o", &oid);
    BSON_APPEND_BINARY(expected, "b", BSON_SUBTYPE_USER, (const uint8_t *)"abc", 3);
    BSON_APPEND_BINARY(expected, "b2", BSON_SUBTYPE_BINARY_DEPRECATED, (const uint8_t *)"abc", 3);
    BSON_APPEND_DOCUMENT_BEGIN(expected, "doc", &child);
    BSON_APPEND_ARRAY_BEGIN(&child, "a", &deeper);
    BSON_APPEND_INT32(&deeper, "0", 7);
    BSON_APPEND_UTF8(&deeper, "1", "");
    bson_append_array_end(&child, &deeper);
    bson_append_document_end(expected, &child);

    tw_bson_builder b;
    tw_buf_clear(&out);
    tw_bson_begin(&b, &out);
    tw_bson_add_str(&b, TW_STR("s"), TW_STR("h\xc3\xa9"));
    tw_bson_add_i64(&b, TW_STR("i"), -1);
    tw_bson_add_i64(&b, TW_STR("l"), 2147483648);
    tw_bson_add_double(&b, TW_STR("d"), 0.5);
    tw_bson_add_bool(&b, TW_STR("t"), true);
    tw_bson_add_null(&b, TW_STR("n"));
    tw_bson_add_date(&b, TW_STR("w"), -5);
    tw_bson_add_oid(&b, TW_STR("o"), oid.bytes);
    tw_bson_add_bin(&b, TW_STR("b"), 0x80, "abc", 3);
    tw_bson_add_bin(&b, TW_STR("b2"), 2, "abc", 3);
    tw_bson_open_doc(&b, TW_STR("doc"));
    tw_bson_open_array(&b, TW_STR("a"));
    tw_bson_add_i64(&b, TW_STR("ignored"), 7);
    tw_bson_add_str(&b, TW_STR("ignored"), TW_STR(""));
    tw_bson_close(&b);
    tw_bson_close(&b);
    tw_bson doc = tw_bson_end(&b);
    assert_int_equal(out.err, TW_OK);
    assert_true(same_bytes(doc, (tw_bson){bson_get_data(expected), expected->len}));
    bson_destroy(expected);
}

static void test_build_documents_vectors_and_absent_ones(void **state)
{
    (void)state;
    tw_bson doc = bson_text(&arena, "{'x':[1,{'y':2}]}");
    const tw_position at[] = {{1, 9007199254740991}, {2, 5}};
    tw_bson_builder b;
    tw_buf_clear(&out);
    tw_buf_add_byte(&out, 'z'); /* a document may begin anywhere in a buffer */
    tw_bson_begin(&b, &out);
    tw_bson_add_all(&b, doc);
    tw_bson_add_doc(&b, TW_STR("doc"), doc);
    tw_bson_add_array(&b, TW_STR("array"), tw_bson_get_doc(doc, TW_STR("x")));
    tw_bson_add_doc(&b, TW_STR("none"), (tw_bson){0});
    tw_bson_add_vector(&b, TW_STR("v"), (tw_vector){at, 2});
    tw_bson_add_vector(&b, TW_STR("w"), (tw_vector){0});
    tw_bson built = tw_bson_end(&b);
    assert_int_equal(tw_bson_validate(built.ptr, built.len, 4, &built), TW_OK);
    assert_string_equal(
        bson_shown(&arena, built),
        "{\"x\":[1,{\"y\":2}],\"doc\":{\"x\":[1,{\"y\":2}]},\"array\":[1,{\"y\":2}],"
        "\"none\":{},\"v\":[[1,9007199254740991],[2,5]],\"w\":[]}");
}

static void test_build_too_deep_or_too_big_is_an_error(void **state)
{
    (void)state;
    tw_bson_builder b;
    tw_buf_clear(&out);
    tw_bson_begin(&b, &out);
    for (int i = 0; i < 300; i++) {
        tw_bson_open_array(&b, TW_STR("a"));
    }
    tw_bson_add_null(&b, TW_STR("a"));
    for (int i = 0; i < 300; i++) {
        tw_bson_close(&b);
    }
    assert_int_equal(tw_bson_end(&b).len, 0);
    assert_int_equal(out.err, TW_E_DEPTH);

    tw_buf small;
    tw_buf_init(&small, 16);
    tw_bson_begin(&b, &small);
    tw_bson_add_str(&b, TW_STR("a"), TW_STR("more than sixteen bytes"));
    assert_int_equal(tw_bson_end(&b).len, 0);
    assert_int_equal(small.err, TW_E_TOO_BIG);
    tw_buf_fini(&small);
}

/* Builds the fields of a document one by one. */
static void copy_fields(tw_bson_builder *b, tw_bson doc)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        if (iter.value.type == TW_BSON_DOCUMENT) {
            tw_bson_open_doc(b, iter.name);
            copy_fields(b, tw_bson_value_doc(iter.value));
            tw_bson_close(b);
        } else {
            tw_bson_add_value(b, iter.name, iter.value);
        }
    }
}

static void test_build_random_documents_again_gives_the_same_bytes(void **state)
{
    (void)state;
    random_doc maker = {.state = 11, .depth_max = 5, .fields_max = 8};
    tw_buf copy;
    tw_buf_init(&copy, MEMORY_MAX);
    for (int i = 0; i < RANDOM_DOCS; i++) {
        tw_bson_builder b;
        tw_buf_clear(&out);
        tw_buf_clear(&copy);
        tw_bson doc = random_doc_make(&maker, &out);
        tw_bson_begin(&b, &copy);
        copy_fields(&b, doc);
        assert_true(same_bytes(tw_bson_end(&b), doc));
    }
    tw_buf_fini(&copy);
}

static void test_build_no_memory_is_an_error(void **state)
{
    (void)state;
    tw_bson_builder b;
    tw_buf none;
    tw_buf_init(&none, MEMORY_MAX);
    tw_alloc_fail_at(1);
    tw_bson_begin(&b, &none);
    tw_bson_open_doc(&b, TW_STR("a"));
    tw_bson_add_i64(&b, TW_STR("b"), 1);
    tw_bson_close(&b);
    assert_int_equal(tw_bson_end(&b).len, 0);
    tw_alloc_fail_at(0);
    assert_int_equal(none.err, TW_E_NO_MEMORY);
    tw_buf_fini(&none);
}

/* ---- validation ---- */

static tw_err validate(tw_str bytes)
{
    tw_bson doc = {(const uint8_t *)"untouched", 9};
    tw_err err = tw_bson_validate(bytes.ptr, bytes.len, TW_DEPTH_MAX, &doc);
    assert_int_equal(doc.len, err == TW_OK ? bytes.len : 9);
    return err;
}

#define BYTES(literal) ((tw_str){"" literal, sizeof(literal) - 1})

static void test_validate_damage_is_refused(void **state)
{
    static const struct {
        const char *what;
        tw_str bytes;
    } rows[] = {
        {"nothing", BYTES("")},
        {"too short", BYTES("\4\0\0\0")},
        {"length too large", BYTES("\6\0\0\0\0")},
        {"length too small", BYTES("\5\0\0\0\0\0")},
        {"length negative", BYTES("\xff\xff\xff\xff\0")},
        {"no end mark", BYTES("\5\0\0\0\1")},
        {"unknown type", BYTES("\x08\0\0\0\x20"
                               "a\0\0")},
        {"name without end", BYTES("\x08\0\0\0\x0a"
                                   "ab\0")},
        {"name that is no UTF-8", BYTES("\x08\0\0\0\x0a\xff\0\0")},
        {"int32 cut", BYTES("\x0b\0\0\0\x10"
                            "a\0\1\1\1\0")},
        {"bool of 2", BYTES("\x09\0\0\0\x08"
                            "a\0\2\0")},
        {"text of length 0", BYTES("\x0c\0\0\0\x02"
                                   "a\0\0\0\0\0\0")},
        {"text without NUL", BYTES("\x0e\0\0\0\x02"
                                   "a\0\2\0\0\0xx\0")},
        {"text longer than the rest", BYTES("\x0e\0\0\0\x02"
                                            "a\0\x7f\0\0\0x\0\0")},
        {"text that is no UTF-8", BYTES("\x0e\0\0\0\x02"
                                        "a\0\2\0\0\0\xc0\0\0")},
        {"code that is no UTF-8", BYTES("\x0e\0\0\0\x0d"
                                        "a\0\2\0\0\0\xff\0\0")},
        {"pattern that is no UTF-8", BYTES("\x0b\0\0\0\x0b"
                                           "a\0\xff\0\0\0")},
        {"options that are no UTF-8", BYTES("\x0b\0\0\0\x0b"
                                            "a\0\0\xff\0\0")},
        {"pattern without end", BYTES("\x09\0\0\0\x0b"
                                      "a\0x\0")},
        {"binary with a negative length", BYTES("\x0d\0\0\0\x05"
                                                "a\0\xff\xff\xff\xff\0\0")},
        {"binary 2 with a wrong inner length", BYTES("\x11\0\0\0\x05"
                                                     "a\0\4\0\0\0\2\1\0\0\0\0")},
        {"inner document too long", BYTES("\x0d\0\0\0\x03"
                                          "a\0\6\0\0\0\0\0")},
        {"inner document without end mark", BYTES("\x0d\0\0\0\x03"
                                                  "a\0\5\0\0\0\1\0")},
        {"scope cut", BYTES("\x16\0\0\0\x0f"
                            "a\0\x0e\0\0\0\2\0\0\0x\0\0\0\0\0\0")},
        {"DBPointer cut", BYTES("\x0e\0\0\0\x0c"
                                "a\0\1\0\0\0\0\0\0")},
        {"fields behind the end mark", BYTES("\x09\0\0\0\0\x0a"
                                             "a\0\0")},
    };
    (void)state;
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        if (validate(rows[i].bytes) != TW_E_BAD_DOCUMENT) {
            fail_msg("%s is accepted", rows[i].what);
        }
    }
    assert_int_equal(validate(BYTES("\5\0\0\0\0")), TW_OK);
    assert_int_equal(validate(BYTES("\x0f\0\0\0\x02"
                                    "a\0\3\0\0\0x\0\0\0")),
                     TW_OK); /* a NUL inside text is text */
}

static tw_bson nested(int levels)
{
    char json[4096];
    size_t len = 0;
    for (int i = 1; i < levels; i++) {
        len += tw_format(json + len, sizeof json - len, i == 1 ? "{'a':" : "[");
    }
    len += tw_format(json + len, sizeof json - len, levels == 1 ? "{}" : "[]");
    for (int i = levels - 1; i > 0; i--) {
        len += tw_format(json + len, sizeof json - len, i == 1 ? "}" : "]");
    }
    return bson_text(&arena, json);
}

static void test_validate_depth_and_size_have_limits(void **state)
{
    (void)state;
    tw_bson doc, same;
    for (int levels = 1; levels < 40; levels++) {
        doc = nested(levels);
        assert_int_equal(tw_bson_validate(doc.ptr, doc.len, levels, &same), TW_OK);
        assert_int_equal(tw_bson_validate(doc.ptr, doc.len, levels - 1, &same), TW_E_DEPTH);
    }
    doc = nested(1);
    size_t beyond = (size_t)TW_DOCUMENT_MAX + 1; /* told by the length alone */
    assert_int_equal(tw_bson_validate(doc.ptr, beyond, TW_DEPTH_MAX, &same), TW_E_TOO_BIG);
}

/* A megabyte of opened documents: libbson's bson_validate ends the process with it. */
static void test_validate_a_depth_bomb_does_not_recurse(void **state)
{
    (void)state;
    enum { LEVELS = 131072, LEVEL = 8 };
    uint8_t *bomb = tw_alloc_zero(LEVELS, LEVEL);
    assert_non_null(bomb);
    size_t len = (size_t)(LEVELS - 1) * LEVEL + 5;
    for (size_t i = 0; i < LEVELS; i++) {
        uint8_t *at = bomb + 7 * i;
        uint32_t inner = (uint32_t)(len - LEVEL * i);
        memcpy(at, &inner, sizeof inner);
        if (i + 1 < LEVELS) {
            at[4] = TW_BSON_DOCUMENT;
            at[5] = 'a';
        }
    }
    tw_bson doc;
    assert_int_equal(tw_bson_validate(bomb, len, TW_DEPTH_MAX, &doc), TW_E_DEPTH);
    tw_free(bomb);
}

/* What libbson's own check refuses is refused here too. The copy has exactly its size, so that the
 * address sanitizer sees a read beyond it. */
static void test_validate_random_damage_is_never_accepted_alone(void **state)
{
    (void)state;
    random_doc maker = {.state = 23, .depth_max = 3, .fields_max = 5};
    for (int i = 0; i < RANDOM_DOCS; i++) {
        tw_buf_clear(&out);
        tw_bson doc = random_doc_make(&maker, &out);
        for (int k = 0; k <= DAMAGES; k++) {
            size_t len = k % 4 == 3 ? (size_t)random_doc_draw(&maker, doc.len + 1) : doc.len;
            uint8_t *bytes = tw_alloc(len == 0 ? 1 : len);
            assert_non_null(bytes);
            memcpy(bytes, doc.ptr, len);
            if (k > 0 && len > 0) {
                bytes[random_doc_draw(&maker, len)] = (uint8_t)random_doc_draw(&maker, 256);
            }
            bson_t view;
            tw_bson same;
            tw_err err = tw_bson_validate(bytes, len, TW_DEPTH_MAX, &same);
            assert_true(k > 0 || err == TW_OK);
            if (err == TW_OK) {
                assert_true(bson_init_static(&view, bytes, len));
                int flags = BSON_VALIDATE_UTF8 | BSON_VALIDATE_UTF8_ALLOW_NULL;
                assert_true(bson_validate(&view, (bson_validate_flags_t)flags, NULL));
            }
            tw_bson_iter iter; /* damaged or not, it stays inside */
            for (tw_bson_iter_init(&iter, (tw_bson){bytes, len}); tw_bson_iter_next(&iter);) {
                assert_true(iter.at < bytes + len);
            }
            tw_free(bytes);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get_finds_fields_by_name_and_path),
        cmocka_unit_test(test_get_a_name_that_stands_twice_gives_the_first),
        cmocka_unit_test(test_value_other_types_give_the_fallback),
        cmocka_unit_test(test_value_whole_doubles_at_the_edges_of_int64),
        cmocka_unit_test(test_build_each_type_is_what_libbson_builds),
        cmocka_unit_test(test_build_documents_vectors_and_absent_ones),
        cmocka_unit_test(test_build_too_deep_or_too_big_is_an_error),
        cmocka_unit_test(test_build_random_documents_again_gives_the_same_bytes),
        cmocka_unit_test(test_build_no_memory_is_an_error),
        cmocka_unit_test(test_validate_damage_is_refused),
        cmocka_unit_test(test_validate_depth_and_size_have_limits),
        cmocka_unit_test(test_validate_a_depth_bomb_does_not_recurse),
        cmocka_unit_test(test_validate_random_damage_is_never_accepted_alone),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
