/* msgpack_bson_test.c - maps of the service socket: every type both ways, strictness, bombs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/bson.h"
#include "protocol/codec.h"
#include "protocol/limits.h"

enum { BYTES_MAX = 64 << 20 };

#define MSGPACK(text) ((tw_str){"" text, sizeof(text) - 1})

/* ---- each row is written and read ---- */

/* A document of one value, and its only msgpack form. value holds the value's BSON bytes. */
static const struct {
    const char *what;
    uint8_t type;
    const char *value;
    size_t len;
    tw_str msgpack;
} rows[] = {
#define ROW(what, type, value, msgpack)                                                            \
    {                                                                                              \
        what, type, value, sizeof(value) - 1,                                                      \
        {                                                                                          \
            "" msgpack, sizeof(msgpack) - 1                                                        \
        }                                                                                          \
    }
    ROW("null", TW_BSON_NULL, "", "\x81\xa1v\xc0"),
    ROW("true", TW_BSON_BOOL, "\x01", "\x81\xa1v\xc3"),
    ROW("false", TW_BSON_BOOL, "\x00", "\x81\xa1v\xc2"),
    ROW("1", TW_BSON_INT32, "\x01\0\0\0", "\x81\xa1v\x01"),
    ROW("-1", TW_BSON_INT32, "\xff\xff\xff\xff", "\x81\xa1v\xff"),
    ROW("-128", TW_BSON_INT32, "\x80\xff\xff\xff", "\x81\xa1v\xd0\x80"),
    ROW("2^31-1", TW_BSON_INT32, "\xff\xff\xff\x7f", "\x81\xa1v\xce\x7f\xff\xff\xff"),
    ROW("2^31", TW_BSON_INT64, "\0\0\0\x80\0\0\0\0", "\x81\xa1v\xce\x80\0\0\0"),
    ROW("2^53+1", TW_BSON_INT64, "\x01\0\0\0\0\0\x20\0", "\x81\xa1v\xcf\0\x20\0\0\0\0\0\x01"),
    ROW("least", TW_BSON_INT64, "\0\0\0\0\0\0\0\x80", "\x81\xa1v\xd3\x80\0\0\0\0\0\0\0"),
    ROW("1.0", TW_BSON_DOUBLE, "\0\0\0\0\0\0\xf0\x3f", "\x81\xa1v\xcb\x3f\xf0\0\0\0\0\0\0"),
    ROW("-0.0", TW_BSON_DOUBLE, "\0\0\0\0\0\0\0\x80", "\x81\xa1v\xcb\x80\0\0\0\0\0\0\0"),
    ROW("NaN", TW_BSON_DOUBLE, "\0\0\0\0\0\0\xf8\x7f", "\x81\xa1v\xcb\x7f\xf8\0\0\0\0\0\0"),
    ROW("text", TW_BSON_STRING, "\x03\0\0\0hi\0", "\x81\xa1v\xa2hi"),
    ROW("text with NUL", TW_BSON_STRING, "\x04\0\0\0h\0i\0", "\x81\xa1v\xa3h\0i"),
    ROW("empty text", TW_BSON_STRING, "\x01\0\0\0\0", "\x81\xa1v\xa0"),
    ROW("document", TW_BSON_DOCUMENT,
        "\x0c\0\0\0\x10"
        "a\0\x05\0\0\0\0",
        "\x81\xa1v\x81\xa1"
        "a\x05"),
    ROW("empty document", TW_BSON_DOCUMENT, "\x05\0\0\0\0", "\x81\xa1v\x80"),
    ROW("array", TW_BSON_ARRAY,
        "\x0f\0\0\0\x0a"
        "0\0\x10"
        "1\0\x05\0\0\0\0",
        "\x81\xa1v\x92\xc0\x05"),
    ROW("empty array", TW_BSON_ARRAY, "\x05\0\0\0\0", "\x81\xa1v\x90"),
    ROW("operator", TW_BSON_DOCUMENT, "\x0f\0\0\0\x10$set\0\x05\0\0\0\0",
        "\x81\xa1v\x81\xa4$set\x05"),
    ROW("bytes", TW_BSON_BINARY, "\x02\0\0\0\0xy", "\x81\xa1v\xc4\x02xy"),
    ROW("no bytes", TW_BSON_BINARY, "\0\0\0\0\0", "\x81\xa1v\xc4\0"),
    ROW("ObjectId", TW_BSON_OBJECT_ID, "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67",
        "\x81\xa1v\x81\xa4$oid\xb8"
        "0123456789abcdef01234567"),
    ROW("epoch", TW_BSON_DATE, "\0\0\0\0\0\0\0\0", "\x81\xa1v\xd6\xff\0\0\0\0"),
    ROW("1 ms", TW_BSON_DATE, "\x01\0\0\0\0\0\0\0", "\x81\xa1v\xd7\xff\x00\x3d\x09\0\0\0\0\0"),
    ROW("2^32 s", TW_BSON_DATE, "\0\0\0\0\xe8\x03\0\0", "\x81\xa1v\xd7\xff\0\0\0\x01\0\0\0\0"),
    ROW("-1 ms", TW_BSON_DATE, "\xff\xff\xff\xff\xff\xff\xff\xff",
        "\x81\xa1v\xc7\x0c\xff\x3b\x8b\x87\xc0\xff\xff\xff\xff\xff\xff\xff\xff"),
    ROW("UUID", TW_BSON_BINARY, "\x01\0\0\0\x80x",
        "\x81\xa1v\x81\xa7$binary\x82\xa6"
        "base64\xa4"
        "eA==\xa7subType\xa2"
        "80"),
    ROW("Decimal128", TW_BSON_DECIMAL128, "\x0f\0\0\0\0\0\0\0\0\0\0\0\0\0\x3e\x30",
        "\x81\xa1v\x81\xae$numberDecimal\xa3"
        "1.5"),
    ROW("timestamp", TW_BSON_TIMESTAMP, "\x02\0\0\0\xff\0\0\x80",
        "\x81\xa1v\x81\xaa$timestamp\x82\xa1t\xce\x80\0\0\xff\xa1i\x02"),
    ROW("regex", TW_BSON_REGEX, "a.b\0i\0",
        "\x81\xa1v\x81\xb2$regularExpression\x82\xa7pattern\xa3"
        "a.b\xa7options\xa1i"),
    ROW("code", TW_BSON_CODE, "\x02\0\0\0f\0",
        "\x81\xa1v\x81\xa5$code\xa1"
        "f"),
    ROW("code with scope", TW_BSON_CODE_SCOPE,
        "\x16\0\0\0\x02\0\0\0f\0\x0c\0\0\0\x10"
        "a\0\x05\0\0\0\0",
        "\x81\xa1v\x82\xa5$code\xa1"
        "f\xa6$scope\x81\xa1"
        "a\x05"),
    ROW("symbol", TW_BSON_SYMBOL, "\x02\0\0\0s\0", "\x81\xa1v\x81\xa7$symbol\xa1s"),
    ROW("DBPointer", TW_BSON_DBPOINTER,
        "\x02\0\0\0c\0\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67",
        "\x81\xa1v\x81\xaa$dbPointer\x82\xa4$ref\xa1"
        "c\xa3$id\x81\xa4$oid\xb8"
        "0123456789abcdef01234567"),
    ROW("MinKey", TW_BSON_MIN_KEY, "", "\x81\xa1v\x81\xa7$minKey\x01"),
    ROW("MaxKey", TW_BSON_MAX_KEY, "", "\x81\xa1v\x81\xa7$maxKey\x01"),
    ROW("undefined", TW_BSON_UNDEFINED, "", "\x81\xa1v\x81\xaa$undefined\xc3"),
};

/* Reads msgpack from its exact size on the heap, so that a read of one byte too many is seen. */
static tw_err read_map(tw_arena *arena, tw_str msgpack, int depth_max, tw_bson *out)
{
    char *exact = tw_alloc(msgpack.len);
    assert_non_null(exact);
    memcpy(exact, msgpack.ptr, msgpack.len);
    tw_err err = tw_msgpack_to_bson(arena, (tw_str){exact, msgpack.len}, depth_max, out);
    tw_free(exact);
    return err;
}

static void test_msgpack_every_type_goes_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        tw_arena arena;
        tw_arena_init(&arena, BYTES_MAX);
        tw_buf built;
        tw_buf_init(&built, BYTES_MAX);
        tw_buf packed;
        tw_buf_init(&packed, BYTES_MAX);
        tw_bson_builder builder;
        tw_bson_begin(&builder, &built);
        const uint8_t *value = (const uint8_t *)rows[i].value;
        tw_bson_add_value(&builder, TW_STR("v"), (tw_bson_value){rows[i].type, value, rows[i].len});
        tw_bson doc = tw_bson_end(&builder);
        tw_msgpack_from_bson(&packed, doc);
        if (packed.err != TW_OK || !tw_str_equal(tw_buf_str(&packed), rows[i].msgpack)) {
            fail_msg("%s: written otherwise", rows[i].what);
        }
        tw_bson read;
        tw_err err = read_map(&arena, rows[i].msgpack, TW_DEPTH_CLIENT_MAX, &read);
        /* two deprecated types are only written: the JSON reader does not know their forms */
        bool is_read = rows[i].type != TW_BSON_CODE_SCOPE && rows[i].type != TW_BSON_DBPOINTER;
        if (is_read &&
            (err != TW_OK || read.len != doc.len || memcmp(read.ptr, doc.ptr, doc.len) != 0)) {
            fail_msg("%s: read otherwise (%s)", rows[i].what, tw_err_code(err));
        }
        tw_buf_fini(&packed);
        tw_buf_fini(&built);
        tw_arena_fini(&arena);
    }
}

static void test_msgpack_cut_at_any_byte_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        for (size_t len = 0; len < rows[i].msgpack.len; len++) {
            tw_arena arena;
            tw_arena_init(&arena, BYTES_MAX);
            tw_bson read;
            tw_str cut = {rows[i].msgpack.ptr, len};
            assert_int_equal(read_map(&arena, cut, TW_DEPTH_CLIENT_MAX, &read), TW_E_BAD_MESSAGE);
            tw_arena_fini(&arena);
        }
    }
}

/* ---- what is refused, and other spellings that are not ---- */

static const struct {
    const char *what;
    tw_str msgpack;
    tw_err err;
} spellings[] = {
#define CASE(what, msgpack, err)                                                                   \
    {                                                                                              \
        what, {"" msgpack, sizeof(msgpack) - 1}, err                                               \
    }
    CASE("empty map", "\x80", TW_OK),
    CASE("map 16", "\xde\0\x01\xa1v\xc0", TW_OK),
    CASE("map 32", "\xdf\0\0\0\x01\xa1v\xc0", TW_OK),
    CASE("text 8, 16, 32", "\x82\xd9\x01v\xda\0\x01x\xa1w\xdb\0\0\0\x01x", TW_OK),
    CASE("wide ints",
         "\x84\xa1"
         "a\xcc\x05\xa1"
         "b\xd1\xff\xff\xa1"
         "c\xd2\0\0\0\x05\xa1"
         "d\xcd\0\x05",
         TW_OK),
    CASE("float 32", "\x81\xa1v\xca\x3f\x80\0\0", TW_OK),
    CASE("empty name", "\x81\xa0\xc0", TW_OK),
    CASE("$oid at the top is a name", "\x81\xa4$oid\x05", TW_OK),
    CASE("$numberLong",
         "\x81\xa1v\x81\xab$numberLong\xa1"
         "5",
         TW_OK),
    CASE("array at the top", "\x91\x80", TW_E_BAD_MESSAGE),
    CASE("number at the top", "\x05", TW_E_BAD_MESSAGE),
    CASE("a byte more", "\x80\x80", TW_E_BAD_MESSAGE),
    CASE("0xc1", "\x81\xa1v\xc1", TW_E_BAD_MESSAGE),
    CASE("number as name", "\x81\x05\xc0", TW_E_BAD_MESSAGE),
    CASE("bytes as name", "\x81\xc4\x01v\xc0", TW_E_BAD_MESSAGE),
    CASE("NUL in name",
         "\x81\xa3"
         "a\0b\xc0",
         TW_E_BAD_MESSAGE),
    CASE("name twice", "\x82\xa1v\xc0\xa1v\xc0", TW_E_BAD_MESSAGE),
    CASE("name twice inside", "\x81\xa1v\x82\xa1v\xc0\xa1v\xc0", TW_E_BAD_MESSAGE),
    CASE("same name on two levels", "\x81\xa1v\x81\xa1v\xc0", TW_OK),
    CASE("name twice of ten",
         "\x8a\xa1"
         "a\xc0\xa1"
         "b\xc0\xa1"
         "c\xc0\xa1"
         "d\xc0\xa1"
         "e\xc0\xa1"
         "f\xc0\xa1g\xc0\xa1h\xc0\xa1i\xc0\xa1"
         "c\xc0",
         TW_E_BAD_MESSAGE),
    CASE("ten names",
         "\x8a\xa1"
         "a\xc0\xa1"
         "b\xc0\xa2"
         "cc\xc0\xa1"
         "d\xc0\xa1"
         "e\xc0\xa1"
         "f\xc0\xa1g\xc0\xa1h\xc0\xa1i\xc0\xa1"
         "c\xc0",
         TW_OK),
    CASE("2^63", "\x81\xa1v\xcf\x80\0\0\0\0\0\0\0", TW_E_BAD_MESSAGE),
    CASE("broken UTF-8", "\x81\xa1v\xa2\xc3(", TW_E_BAD_MESSAGE),
    CASE("surrogate", "\x81\xa1v\xa3\xed\xa0\x80", TW_E_BAD_MESSAGE),
    CASE("broken UTF-8 in name", "\x81\xa2\xc3(\xc0", TW_E_BAD_MESSAGE),
    CASE("other ext", "\x81\xa1v\xd6\x01\0\0\0\0", TW_E_BAD_MESSAGE),
    CASE("timestamp of 1 byte", "\x81\xa1v\xd4\xff\0", TW_E_BAD_MESSAGE),
    CASE("10^9 ns", "\x81\xa1v\xc7\x0c\xff\x3b\x9a\xca\0\0\0\0\0\0\0\0\0", TW_E_BAD_MESSAGE),
    CASE("year 3*10^8", "\x81\xa1v\xc7\x0c\xff\0\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
         TW_E_BAD_MESSAGE),
    CASE("$oid with more",
         "\x81\xa1v\x82\xa4$oid\xb8"
         "0123456789abcdef01234567\xa1x\xc0",
         TW_E_BAD_MESSAGE),
    CASE("$oid too short",
         "\x81\xa1v\x81\xa4$oid\xb7"
         "0123456789abcdef0123456",
         TW_E_BAD_MESSAGE),
    CASE("$oid not hex",
         "\x81\xa1v\x81\xa4$oid\xb8"
         "0123456789abcdef0123456g",
         TW_E_BAD_MESSAGE),
    CASE("$numberDecimal of no number", "\x81\xa1v\x81\xae$numberDecimal\xa1x", TW_E_BAD_MESSAGE),
    CASE("2^32-1 pairs", "\xdf\xff\xff\xff\xff\xa1v\xc0", TW_E_BAD_MESSAGE),
    CASE("2^32-1 elements", "\x81\xa1v\xdd\xff\xff\xff\xff\xc0", TW_E_BAD_MESSAGE),
    CASE("2^32-1 bytes", "\x81\xa1v\xc6\xff\xff\xff\xff\xc0", TW_E_BAD_MESSAGE),
};

static void test_msgpack_spellings_are_read_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < TW_COUNT(spellings); i++) {
        tw_arena arena;
        tw_arena_init(&arena, BYTES_MAX);
        tw_bson read;
        tw_err err = read_map(&arena, spellings[i].msgpack, TW_DEPTH_CLIENT_MAX, &read);
        if (err != spellings[i].err) {
            fail_msg("%s: %s", spellings[i].what, tw_err_code(err));
        }
        tw_arena_fini(&arena);
    }
}

/* A map of depth levels: the outermost, then arrays. */
static void nest(tw_buf *out, int depth)
{
    tw_buf_add_str(out, MSGPACK("\x81\xa1v"));
    for (int i = 2; i <= depth; i++) {
        tw_buf_add_byte(out, i == depth ? '\x90' : '\x91');
    }
}

static void test_msgpack_deeper_than_allowed_is_refused(void **state)
{
    (void)state;
    static const struct {
        int depth;
        tw_err err;
    } cases[] = {{2, TW_OK},
                 {TW_DEPTH_CLIENT_MAX, TW_OK},
                 {TW_DEPTH_CLIENT_MAX + 1, TW_E_DEPTH},
                 {100000, TW_E_DEPTH}};
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        tw_arena arena;
        tw_arena_init(&arena, BYTES_MAX);
        tw_buf packed;
        tw_buf_init(&packed, BYTES_MAX);
        nest(&packed, cases[i].depth);
        tw_bson read;
        assert_int_equal(read_map(&arena, tw_buf_str(&packed), TW_DEPTH_CLIENT_MAX, &read),
                         cases[i].err);
        tw_buf_fini(&packed);
        tw_arena_fini(&arena);
    }
}

static void test_msgpack_every_failed_allocation_is_told(void **state)
{
    (void)state;
    tw_str map = MSGPACK("\x82\xa1v\x81\xae$numberDecimal\xa3"
                         "1.5\xa1w\x91\x81\xa1x\xc0");
    tw_err err = TW_E_NO_MEMORY;
    for (uint64_t nth = 1; err != TW_OK; nth++) {
        assert_true(nth < 100);
        tw_arena arena;
        tw_arena_init(&arena, BYTES_MAX);
        tw_bson read = {NULL, 77};
        tw_alloc_fail_at(nth);
        err = tw_msgpack_to_bson(&arena, map, TW_DEPTH_CLIENT_MAX, &read);
        tw_alloc_fail_at(0);
        assert_true(err == TW_OK || err == TW_E_NO_MEMORY);
        assert_true(err == TW_OK || read.len == 77);
        tw_arena_fini(&arena);
    }
}

static void test_msgpack_write_without_room_takes_the_map_back(void **state)
{
    (void)state;
    static const uint8_t doc[] = {12, 0, 0, 0, TW_BSON_INT32, 'a', 0, 5, 0, 0, 0, 0};
    tw_buf out;
    tw_buf_init(&out, 6);
    tw_buf_add_str(&out, TW_STR("abc"));
    tw_msgpack_from_bson(&out, (tw_bson){doc, sizeof doc});
    assert_int_equal(out.err, TW_E_TOO_BIG);
    assert_int_equal(out.len, 3);
    tw_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_msgpack_every_type_goes_both_ways),
        cmocka_unit_test(test_msgpack_cut_at_any_byte_is_refused),
        cmocka_unit_test(test_msgpack_spellings_are_read_or_refused),
        cmocka_unit_test(test_msgpack_deeper_than_allowed_is_refused),
        cmocka_unit_test(test_msgpack_every_failed_allocation_is_told),
        cmocka_unit_test(test_msgpack_write_without_room_takes_the_map_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
