/* bson_build_test.c - documents built field by field, against libbson and against themselves. */
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

enum { MEMORY_MAX = 64 << 20, RANDOM_DOCS = 2000 };

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build_each_type_is_what_libbson_builds),
        cmocka_unit_test(test_build_documents_vectors_and_absent_ones),
        cmocka_unit_test(test_build_too_deep_or_too_big_is_an_error),
        cmocka_unit_test(test_build_random_documents_again_gives_the_same_bytes),
        cmocka_unit_test(test_build_no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
