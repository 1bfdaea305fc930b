/* json_read_test.c - our reader and libbson's over generated texts; why theirs is not used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <bson/bson.h>
#include <cmocka.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "tests/support/random_doc.h"

enum { MEMORY_MAX = 64 << 20, TEXTS = 20000, DAMAGES = 4, DEPTH = 4, FIELDS_MAX = 6 };

static tw_arena arena;
static tw_buf text;

static int set_up(void **state)
{
    (void)state;
    tw_arena_init(&arena, MEMORY_MAX);
    tw_buf_init(&text, MEMORY_MAX);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tw_arena_fini(&arena);
    tw_buf_fini(&text);
    return 0;
}

static bson_t *libbson_read(tw_str json)
{
    return bson_new_from_json((const uint8_t *)json.ptr, (ssize_t)json.len, NULL);
}

/* ---- what libbson's reader does: the reasons of docs/decisions/0002-json-reader.md ---- */

static void test_libbson_takes_or_changes_what_is_refused_here(void **state)
{
    static const struct {
        const char *json, *as;
    } rows[] = {
        {"{\"a\":1,\"a\":2}", "{ \"a\" : 1, \"a\" : 2 }"},
        {"{\"a\":1}{\"b\":2}", "{ \"a\" : 1 }"},
        {"[1,2]", "{ \"0\" : 1, \"1\" : 2 }"},
        {"{\"a\":NaN}", "{ \"a\" : { \"$numberDouble\" : \"NaN\" } }"},
        {"{\"a\":Infinity}", "{ \"a\" : { \"$numberDouble\" : \"Infinity\" } }"},
    };
    (void)state;
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        tw_bson doc;
        tw_str json = tw_str_of(rows[i].json);
        assert_int_equal(tw_json_read(&arena, json, TW_DEPTH_MAX, &doc, NULL), TW_E_BAD_MESSAGE);
        bson_t *theirs = libbson_read(json);
        assert_non_null(theirs);
        char *shown = bson_as_relaxed_extended_json(theirs, NULL);
        assert_string_equal(shown, rows[i].as);
        bson_free(shown);
        bson_destroy(theirs);
    }
}

static void test_libbson_changes_or_refuses_operators_and_large_numbers(void **state)
{
    static const struct {
        const char *json;
        bool is_read; /* by libbson, as something else */
    } rows[] = {
        {"{\"f\":{\"$type\":5}}", false},
        {"{\"$currentDate\":{\"a\":{\"$type\":\"date\"}}}", false},
        {"{\"f\":{\"$regex\":\"x\",\"$options\":\"i\"}}", true},
        {"{\"f\":99999999999999999999}", true},
    };
    (void)state;
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        tw_bson doc;
        tw_str json = tw_str_of(rows[i].json);
        assert_int_equal(tw_json_read(&arena, json, TW_DEPTH_MAX, &doc, NULL), TW_OK);
        bson_t *theirs = libbson_read(json);
        assert_int_equal(theirs != NULL, rows[i].is_read);
        if (theirs != NULL) {
            assert_true(theirs->len != doc.len ||
                        memcmp(bson_get_data(theirs), doc.ptr, doc.len) != 0);
            bson_destroy(theirs);
        }
    }
}

/* ---- generated texts ---- */

static void add_space(random_doc *random)
{
    static const char *const spaces[] = {"", "", "", " ", "\n", "\t", "\r\n  "};
    tw_buf_add_str(&text, tw_str_of(spaces[random_doc_draw(random, TW_COUNT(spaces))]));
}

static void add_string(random_doc *random, uint64_t unique)
{
    static const char *const pieces[] = {
        "a",
        "key",
        " ",
        "\\n",
        "\\\"",
        "\\\\",
        "\\/",
        "\\u0041",
        "\\u00e9",
        "\\u20AC",
        "\\ud83d\\ude00",
        "\xc3\xa9",
        "\xe2\x82\xac",
        "\xf0\x9f\x98\x80",
        "$",
        ".",
        "/",
        "\\t",
        "\\b",
        "\x7f",
        "0123456789abcdef",
    };
    tw_buf_add_byte(&text, '"');
    if (unique > 0) { /* a name: none stands twice in an object */
        tw_buf_format(&text, "%llu", (unsigned long long)unique);
    }
    for (uint64_t i = random_doc_draw(random, 4); i > 0; i--) {
        tw_buf_add_str(&text, tw_str_of(pieces[random_doc_draw(random, TW_COUNT(pieces))]));
    }
    tw_buf_add_byte(&text, '"');
}

static void add_scalar(random_doc *random)
{
    static const char *const scalars[] = {
        "true",
        "false",
        "null",
        "0",
        "-0",
        "-0.0",
        "2147483647",
        "2147483648",
        "-2147483649",
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "1e2",
        "1E+2",
        "1.5e-7",
        "0.1",
        "123456789.123456789",
        "5e-324",
        "1.7976931348623157e308",
        "0.30000000000000004",
        "1e22",
        "1e23",
        "{\"$oid\":\"5f43a1c0e4b0a1b2c3d4e5f6\"}",
        "{\"$date\":\"2020-02-29T12:34:56.789Z\"}",
        "{\"$date\" : \"2021-01-01T00:30:00+0130\"}",
        "{\"$date\":{\"$numberLong\":\"-1\"}}",
        "{\"$numberLong\":\"5\"}",
        "{ \"$numberInt\" : \"-7\" }",
        "{\"$numberDouble\":\"-Infinity\"}",
        "{\"$numberDecimal\":\"1.50E+3\"}",
        "{\"$binary\":{\"base64\":\"AQIDBA==\",\"subType\":\"80\"}}",
        "{\"$timestamp\":{\"t\":4294967295,\"i\":1}}",
        "{\"$regularExpression\":{\"pattern\":\"a\\\\d\",\"options\":\"ix\"}}",
        "{\"$undefined\":true}",
        "{\"$minKey\":1}",
        "{\"$maxKey\":1}",
    };
    if (random_doc_draw(random, 3) == 0) {
        add_string(random, 0);
    } else if (random_doc_draw(random, 4) == 0) {
        tw_buf_add_i64(&text,
                       (int64_t)random_doc_draw(random, UINT64_MAX) >> random_doc_draw(random, 64));
    } else {
        tw_buf_add_str(&text, tw_str_of(scalars[random_doc_draw(random, TW_COUNT(scalars))]));
    }
}

static void add_value(random_doc *random, int depth);

static void add_container(random_doc *random, bool array, int depth)
{
    uint64_t count = random_doc_draw(random, FIELDS_MAX);
    tw_buf_add_byte(&text, array ? '[' : '{');
    add_space(random);
    for (uint64_t i = 0; i < count; i++) {
        if (!array) {
            add_string(random, i + 1);
            add_space(random);
            tw_buf_add_byte(&text, ':');
            add_space(random);
        }
        add_value(random, depth);
        add_space(random);
        if (i + 1 < count) {
            tw_buf_add_byte(&text, ',');
            add_space(random);
        }
    }
    tw_buf_add_byte(&text, array ? ']' : '}');
}

static void add_value(random_doc *random, int depth)
{
    if (depth < DEPTH && random_doc_draw(random, 4) == 0) {
        add_container(random, random_doc_draw(random, 2) == 0, depth + 1);
    } else {
        add_scalar(random);
    }
}

static tw_str make_text(random_doc *random)
{
    tw_buf_clear(&text);
    add_space(random);
    add_container(random, false, 0);
    add_space(random);
    assert_int_equal(text.err, TW_OK);
    return tw_buf_str(&text);
}

static void assert_same(tw_str json, tw_bson ours, const bson_t *theirs)
{
    if (theirs == NULL || theirs->len != ours.len ||
        memcmp(bson_get_data(theirs), ours.ptr, ours.len) != 0) {
        fail_msg("libbson reads another document or none: %.*s", (int)json.len, json.ptr);
    }
}

static void test_read_generated_texts_as_libbson(void **state)
{
    (void)state;
    random_doc random = {.state = 31, .depth_max = 1, .fields_max = 1};
    for (int i = 0; i < TEXTS; i++) {
        tw_bson ours;
        tw_str why = {0};
        tw_arena_reset(&arena);
        tw_str json = make_text(&random);
        if (tw_json_read(&arena, json, TW_DEPTH_MAX, &ours, &why) != TW_OK) {
            fail_msg("%.*s: %.*s", (int)why.len, why.ptr, (int)json.len, json.ptr);
        }
        bson_t *theirs = libbson_read(json);
        assert_same(json, ours, theirs);
        bson_destroy(theirs);
    }
}

/* Digits enough for a whole number beyond int64, which libbson reads as another number. */
static bool has_long_number(tw_str json)
{
    size_t run = 0;
    for (size_t i = 0; i < json.len && run < 19; i++) {
        run = json.ptr[i] >= '0' && json.ptr[i] <= '9' ? run + 1 : 0;
    }
    return run >= 19;
}

/* One byte is another: what is still read here is read by libbson too, as the same document. */
static void test_read_damaged_texts_no_other_than_libbson(void **state)
{
    (void)state;
    random_doc random = {.state = 37, .depth_max = 1, .fields_max = 1};
    static const char bytes[] = "{}[]\",:\\ 019eE+-.tfnu\n\x80\xc3$x";
    size_t both = 0;
    for (int i = 0; i < TEXTS / DAMAGES; i++) {
        tw_str json = make_text(&random);
        for (int k = 0; k < DAMAGES; k++) {
            tw_bson ours;
            tw_arena_reset(&arena);
            text.ptr[random_doc_draw(&random, text.len)] =
                bytes[random_doc_draw(&random, sizeof bytes - 1)];
            if (tw_json_read(&arena, json, TW_DEPTH_MAX, &ours, NULL) != TW_OK ||
                has_long_number(json)) {
                continue;
            }
            bson_t *theirs = libbson_read(json);
            assert_same(json, ours, theirs);
            bson_destroy(theirs);
            both++;
        }
    }
    assert_true(both > TEXTS / 20);
}

/* Canonical Extended JSON tells each type, so documents come back as they were. */
static void test_read_canonical_texts_of_libbson_gives_the_document(void **state)
{
    (void)state;
    random_doc random = {.state = 41, .depth_max = 4, .fields_max = 7};
    tw_buf bytes, shown, again;
    tw_buf_init(&bytes, MEMORY_MAX);
    tw_buf_init(&shown, MEMORY_MAX);
    tw_buf_init(&again, MEMORY_MAX);
    for (int i = 0; i < TEXTS; i++) {
        bson_t view;
        tw_bson ours;
        tw_buf_clear(&bytes);
        tw_buf_clear(&shown);
        tw_buf_clear(&again);
        tw_arena_reset(&arena);
        tw_bson doc = random_doc_make(&random, &bytes);
        assert_true(bson_init_static(&view, doc.ptr, doc.len));
        size_t len;
        char *json = bson_as_canonical_extended_json(&view, &len);
        assert_non_null(json);
        assert_int_equal(tw_json_read(&arena, (tw_str){json, len}, TW_DEPTH_MAX, &ours, NULL),
                         TW_OK);
        assert_int_equal(ours.len, doc.len);
        tw_json_write(&shown, doc); /* NaNs and Decimal128 have several forms in BSON */
        tw_json_write(&again, ours);
        assert_true(tw_str_equal(tw_buf_str(&shown), tw_buf_str(&again)));
        bson_free(json);
    }
    tw_buf_fini(&bytes);
    tw_buf_fini(&shown);
    tw_buf_fini(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_libbson_takes_or_changes_what_is_refused_here),
        cmocka_unit_test(test_libbson_changes_or_refuses_operators_and_large_numbers),
        cmocka_unit_test(test_read_generated_texts_as_libbson),
        cmocka_unit_test(test_read_damaged_texts_no_other_than_libbson),
        cmocka_unit_test(test_read_canonical_texts_of_libbson_gives_the_document),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
