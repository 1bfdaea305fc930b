/* bson_test.c - reading, building, keys, order and validation of BSON documents. */
#include "protocol/bson.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "tests/support/random_doc.h"

enum { DOCS = 20000, OUT_MAX = 1 << 20, THREADS = 4, IDS = 20000, OID_LEN = 12 };

struct fixture {
    tw_arena arena;
    tw_buf buf;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    tw_arena_init(&f->arena, OUT_MAX);
    tw_buf_init(&f->buf, OUT_MAX);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    tw_arena_fini(&f->arena);
    tw_buf_fini(&f->buf);
    free(f);
    return 0;
}

static tw_bson doc_of(struct fixture *f, const char *json)
{
    tw_bson doc = {0};
    tw_str why = {0};
    tw_err err = tw_json_read(&f->arena, tw_str_of(json), TW_DEPTH_MAX, &doc, &why);
    if (err != TW_OK) {
        fail_msg("%s: %.*s", json, (int)why.len, why.ptr);
    }
    return doc;
}

/* The value that stands in {"v":json}. */
static tw_bson_value value_of(struct fixture *f, const char *json)
{
    char text[512];
    tw_format(text, sizeof text, "{\"v\":%s}", json);
    return tw_bson_get(doc_of(f, text), TW_STR("v"));
}

static void assert_json(struct fixture *f, tw_bson doc, const char *wanted)
{
    tw_buf out;
    (void)f;
    tw_buf_init(&out, OUT_MAX);
    tw_json_write(&out, doc);
    tw_buf_add_byte(&out, '\0');
    assert_string_equal(out.ptr, wanted);
    tw_buf_fini(&out);
}

/* ---- reading ---- */

static void test_get_finds_fields_and_paths(void **state)
{
    struct fixture *f = *state;
    tw_bson doc =
        doc_of(f, "{\"a\":{\"b\":[{\"c\":7}]},\"s\":\"x\",\"t\":true,\"d\":2.0,\"n\":null}");
    assert_int_equal(tw_bson_get(doc, TW_STR("s")).type, TW_BSON_STRING);
    assert_int_equal(tw_bson_get(doc, TW_STR("z")).type, 0);
    int64_t number = 0;
    assert_true(tw_bson_value_i64(tw_bson_get_path(doc, TW_STR("a.b.0.c")), &number));
    assert_int_equal(number, 7);
    static const char *const absent[] = {"a.b.1.c", "a.b.c", "s.x", "a.", ".a", "", "a..b"};
    for (size_t i = 0; i < TW_COUNT(absent); i++) {
        assert_int_equal(tw_bson_get_path(doc, tw_str_of(absent[i])).type, 0);
    }
    assert_true(tw_str_equal(tw_bson_get_str(doc, TW_STR("s")), TW_STR("x")));
    assert_null(tw_bson_get_str(doc, TW_STR("t")).ptr);
    assert_int_equal(tw_bson_get_i64_or(doc, TW_STR("d"), -1), 2);
    assert_int_equal(tw_bson_get_i64_or(doc, TW_STR("s"), -1), -1);
    assert_true(tw_bson_get_bool_or(doc, TW_STR("t"), false));
    assert_true(tw_bson_get_bool_or(doc, TW_STR("d"), false));
    assert_true(tw_bson_get_bool_or(doc, TW_STR("n"), true));
    assert_int_equal(tw_bson_count(tw_bson_get_doc(doc, TW_STR("a"))), 1);
    assert_int_equal(tw_bson_get_doc(doc, TW_STR("s")).len, 0);
    assert_int_equal(tw_bson_count(doc), 5);
    assert_int_equal(tw_bson_count((tw_bson){0}), 0);
}

/* Names are looked through a word at a time: all lengths, and so near the end that none is left. */
static void test_iter_gives_names_of_any_length(void **state)
{
    struct fixture *f = *state;
    static const char letters[] = "\x01\x80\xff"
                                  "abcdefghijklmnopqrstuvwxyz";
    for (size_t len = 0; len < sizeof letters - 1; len++) {
        tw_bson_builder b;
        tw_bson_iter iter;
        tw_str name = {letters, len};
        tw_buf_clear(&f->buf);
        tw_bson_begin(&b, &f->buf);
        tw_bson_add_null(&b, name);
        tw_bson_add_bool(&b, name, true);
        tw_bson doc = tw_bson_end(&b);
        tw_bson_iter_init(&iter, doc);
        assert_true(tw_bson_iter_next(&iter) && tw_str_equal(iter.name, name));
        assert_true(tw_bson_iter_next(&iter) && tw_str_equal(iter.name, name));
        assert_false(tw_bson_iter_next(&iter));
        uint8_t *cut = malloc(5 + len + 1); /* of its own: what reads beyond it is seen */
        assert_non_null(cut);
        memcpy(cut, doc.ptr, 5 + len);
        cut[5 + len] = 'x'; /* where the NUL of the name was */
        tw_bson_iter_init(&iter, (tw_bson){cut, 5 + len + 1});
        assert_false(tw_bson_iter_next(&iter));
        free(cut);
    }
}

static void test_value_i64_takes_whole_numbers_alone(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *json;
        bool is_whole;
        int64_t value;
    } cases[] = {{"1", true, 1},
                 {"-2.0", true, -2},
                 {"-0.0", true, 0},
                 {"1.5", false, 0},
                 {"1e300", false, 0},
                 {"9.223372036854775e18", true, 9223372036854774784},
                 {"9.223372036854776e18", false, 0},
                 {"-9.223372036854775808e18", true, INT64_MIN},
                 {"{\"$numberDouble\":\"NaN\"}", false, 0},
                 {"\"1\"", false, 0},
                 {"true", false, 0}};
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        int64_t value = 0;
        assert_int_equal(tw_bson_value_i64(value_of(f, cases[i].json), &value), cases[i].is_whole);
        assert_true(!cases[i].is_whole || value == cases[i].value);
    }
    assert_true(tw_bson_value_double(value_of(f, "2.5")) == 2.5);
    assert_true(tw_bson_value_double(value_of(f, "\"x\"")) == 0);
    assert_true(tw_bson_value_is_number(value_of(f, "4294967296")));
    assert_false(tw_bson_value_is_number(value_of(f, "{\"$numberDecimal\":\"1\"}")));
}

/* ---- building ---- */

static void test_build_writes_each_type(void **state)
{
    struct fixture *f = *state;
    static const uint8_t oid[OID_LEN] = {0x5f};
    const tw_position at[] = {{1, 2}, {(uint64_t)1 << 52, 4}};
    tw_bson inner = doc_of(f, "{\"x\":1}");
    tw_bson_builder b;
    tw_bson_begin(&b, &f->buf);
    tw_bson_add_i64(&b, TW_STR("i"), 1);
    tw_bson_add_i64(&b, TW_STR("l"), (int64_t)1 << 40);
    tw_bson_add_double(&b, TW_STR("d"), 1.5);
    tw_bson_add_bool(&b, TW_STR("b"), true);
    tw_bson_add_null(&b, TW_STR("n"));
    tw_bson_add_date(&b, TW_STR("t"), 0);
    tw_bson_add_oid(&b, TW_STR("o"), oid);
    tw_bson_add_bin(&b, TW_STR("y"), 0, "ab", 2);
    tw_bson_add_bin(&b, TW_STR("z"), 2, "ab", 2);
    tw_bson_add_str(&b, TW_STR("s"), TW_STR("text"));
    tw_bson_add_doc(&b, TW_STR("e"), (tw_bson){0});
    tw_bson_add_doc(&b, TW_STR("f"), inner);
    tw_bson_add_array(&b, TW_STR("g"), (tw_bson){0});
    tw_bson_add_vector(&b, TW_STR("v"), (tw_vector){at, TW_COUNT(at)});
    tw_bson_open_array(&b, TW_STR("a"));
    tw_bson_add_i64(&b, TW_STR("ignored"), 5);
    tw_bson_open_doc(&b, TW_STR("ignored"));
    tw_bson_add_all(&b, inner);
    tw_bson_close(&b);
    tw_bson_close(&b);
    tw_key key;
    assert_int_equal(tw_key_of_value(&f->arena, value_of(f, "7.0"), &key), TW_OK);
    tw_bson_add_key(&b, TW_STR("k"), key);
    tw_bson doc = tw_bson_end(&b);
    tw_bson checked;
    assert_int_equal(tw_bson_validate(doc.ptr, doc.len, TW_DEPTH_MAX, &checked), TW_OK);
    assert_int_equal(tw_bson_get(doc, TW_STR("i")).type, TW_BSON_INT32);
    assert_int_equal(tw_bson_get(doc, TW_STR("l")).type, TW_BSON_INT64);
    assert_int_equal(tw_bson_get(doc, TW_STR("k")).type, TW_BSON_INT32);
    assert_json(f, doc,
                "{\"i\":1,\"l\":1099511627776,\"d\":1.5,\"b\":true,\"n\":null,"
                "\"t\":{\"$date\":\"1970-01-01T00:00:00Z\"},"
                "\"o\":{\"$oid\":\"5f0000000000000000000000\"},"
                "\"y\":{\"$binary\":{\"base64\":\"YWI=\",\"subType\":\"00\"}},"
                "\"z\":{\"$binary\":{\"base64\":\"YWI=\",\"subType\":\"02\"}},"
                "\"s\":\"text\",\"e\":{},\"f\":{\"x\":1},\"g\":[],"
                "\"v\":[[1,2],[4503599627370496,4]],\"a\":[5,{\"x\":1}],\"k\":7}");
}

static void test_build_beyond_a_bound_is_an_error(void **state)
{
    (void)state;
    tw_buf out;
    tw_bson_builder b;
    tw_buf_init(&out, OUT_MAX);
    tw_bson_begin(&b, &out);
    for (int i = 0; i < 200; i++) {
        tw_bson_open_doc(&b, TW_STR("a"));
    }
    for (int i = 0; i < 200; i++) {
        tw_bson_close(&b);
    }
    assert_int_equal(tw_bson_end(&b).len, 0);
    assert_int_equal(out.err, TW_E_DEPTH);
    tw_buf_fini(&out);
    tw_buf_init(&out, 30);
    tw_bson_begin(&b, &out);
    tw_bson_add_str(&b, TW_STR("a"), TW_STR("a text that is too long for this"));
    assert_int_equal(tw_bson_end(&b).len, 0);
    assert_int_equal(out.err, TW_E_TOO_BIG);
    tw_buf_fini(&out);
}

/* ---- validation ---- */

static void test_validate_takes_generated_documents(void **state)
{
    struct fixture *f = *state;
    random_doc random = {.state = 12345, .depth_max = 4, .fields_max = 6};
    for (int i = 0; i < DOCS; i++) {
        tw_buf_clear(&f->buf);
        tw_bson doc = random_doc_make(&random, &f->buf);
        tw_bson checked;
        assert_int_equal(tw_bson_validate(doc.ptr, doc.len, TW_DEPTH_MAX, &checked), TW_OK);
        assert_ptr_equal(checked.ptr, doc.ptr);
        assert_int_equal(tw_bson_validate(doc.ptr, doc.len - 1, TW_DEPTH_MAX, &checked),
                         TW_E_BAD_DOCUMENT);
    }
}

/* A changed byte: refused, or a document that all who walk it can walk to its end. */
static void test_validate_damaged_documents_are_refused_or_whole(void **state)
{
    struct fixture *f = *state;
    random_doc random = {.state = 999, .depth_max = 3, .fields_max = 5};
    tw_buf json;
    tw_buf_init(&json, OUT_MAX);
    int refused = 0;
    for (int i = 0; i < DOCS; i++) {
        tw_buf_clear(&f->buf);
        tw_buf_clear(&json);
        tw_bson doc = random_doc_make(&random, &f->buf);
        size_t at = random_doc_draw(&random, doc.len);
        f->buf.ptr[at] = (char)random_doc_draw(&random, 256);
        tw_bson checked;
        if (tw_bson_validate(doc.ptr, doc.len, TW_DEPTH_MAX, &checked) != TW_OK) {
            refused++;
        }
        tw_json_write(&json, doc); /* damage is no crash, whoever forgot to ask */
        assert_int_equal(json.err, TW_OK);
    }
    assert_true(refused > DOCS / 10);
    tw_buf_fini(&json);
}

static void test_validate_refuses_each_damage(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"", 0},
        {"\5\0\0\0", 4},
        {"\5\0\0\0\1", 5},                          /* no closing 0 */
        {"\6\0\0\0\0", 5},                          /* a wrong length */
        {"\377\377\377\377\0", 5},                  /* a negative one */
        {"\6\0\0\0\0\0", 6},                        /* bytes behind the end */
        {"\11\0\0\0\10a\0\7\0", 9},                 /* a boolean of 7 */
        {"\11\0\0\0\10\377\0\1\0", 9},              /* a name that is no UTF-8 */
        {"\10\0\0\0\40a\0\0", 8},                   /* an unknown type */
        {"\10\0\0\0\12aa\0", 8},                    /* a name without end */
        {"\16\0\0\0\2a\0\2\0\0\0\377\0\0", 14},     /* text that is no UTF-8 */
        {"\16\0\0\0\2a\0\2\0\0\0xx\0", 14},         /* text without NUL */
        {"\16\0\0\0\2a\0\3\0\0\0x\0\0", 14},        /* text that is too long */
        {"\14\0\0\0\2a\0\0\0\0\0\0", 12},           /* text of no byte */
        {"\16\0\0\0\15a\0\2\0\0\0\377\0\0", 14},    /* code that is no UTF-8 */
        {"\13\0\0\0\13a\0\377\0\0\0", 11},          /* a pattern that is no UTF-8 */
        {"\13\0\0\0\13a\0x\0\377\0", 11},           /* options that are no UTF-8 */
        {"\12\0\0\0\13a\0x\0\0", 10},               /* options without end */
        {"\21\0\0\0\5a\0\4\0\0\0\2\7\0\0\0\0", 17}, /* the inner length of subtype 2 */
        {"\16\0\0\0\5a\0\5\0\0\0\0\0\0", 14},       /* binary that is too long */
        {"\15\0\0\0\3a\0\6\0\0\0\0\0", 13},         /* an inner document too long */
        {"\15\0\0\0\3a\0\4\0\0\0\0\0", 13},         /* one too short */
        {"\26\0\0\0\17a\0\16\0\0\0\377\0\0\0\0\5\0\0\0\0\0", 22} /* code with scope, damaged */};
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        tw_bson doc = {0};
        uint8_t *copy = malloc(cases[i].len + 1); /* at its size, for the address sanitizer */
        assert_non_null(copy);
        memcpy(copy, cases[i].bytes, cases[i].len);
        tw_err err = tw_bson_validate(copy, cases[i].len, TW_DEPTH_MAX, &doc);
        if (err != TW_E_BAD_DOCUMENT || doc.ptr != NULL) {
            fail_msg("case %zu: %s", i, tw_err_code(err));
        }
        free(copy);
    }
}

static void test_validate_bounds_depth_and_size(void **state)
{
    (void)state;
    enum { LEVELS = 100000 };
    size_t len = 5 + (LEVELS - 1) * 8;
    uint8_t *bytes = calloc(1, len);
    assert_non_null(bytes);
    for (size_t i = 0, at = 0; i < LEVELS; i++, at += 7) {
        uint32_t size = (uint32_t)(len - 8 * i);
        memcpy(bytes + at, &size, sizeof size);
        if (i + 1 < LEVELS) {
            memcpy(bytes + at + 4, "\3a", 2);
        }
    }
    tw_bson doc;
    assert_int_equal(tw_bson_validate(bytes, len, 1000000, &doc), TW_E_DEPTH);
    free(bytes);
    assert_int_equal(tw_bson_validate("", (size_t)TW_DOCUMENT_MAX + 1, 10, &doc), TW_E_TOO_BIG);
}

/* ---- keys ---- */

static tw_key key_of(struct fixture *f, const char *json)
{
    tw_key key = {0};
    assert_int_equal(tw_key_of_value(&f->arena, value_of(f, json), &key), TW_OK);
    return key;
}

static void test_key_of_equal_values_is_equal_bytes(void **state)
{
    struct fixture *f = *state;
    static const char *const equal[][2] = {
        {"1", "1.0"},
        {"0", "-0.0"},
        {"4294967296", "4294967296.0"},
        {"5", "{\"$numberDecimal\":\"5.00\"}"},
        {"-500", "{\"$numberDecimal\":\"-5E+2\"}"},
        {"0", "{\"$numberDecimal\":\"-0E+5000\"}"},
        {"\"a\"", "{\"$symbol\":\"a\"}"},
        {"{\"$numberDouble\":\"NaN\"}", "{\"$numberDouble\":\"NaN\"}"},
        {"{\"a\":1,\"b\":[2,{\"c\":3}]}", "{\"a\":1.0,\"b\":[2.0,{\"c\":3.0}]}"}};
    static const char *const other[][2] = {{"1", "2"},
                                           {"1", "\"1\""},
                                           {"1", "true"},
                                           {"1.5", "1"},
                                           {"{\"a\":1}", "{\"b\":1}"},
                                           {"{\"$numberDecimal\":\"9223372036854775808\"}", "1"},
                                           {"{\"$numberDecimal\":\"1E+6000\"}", "1"},
                                           {"\"\"", "{\"$minKey\":1}"}};
    for (size_t i = 0; i < TW_COUNT(equal); i++) {
        assert_true(tw_key_equal(key_of(f, equal[i][0]), key_of(f, equal[i][1])));
    }
    for (size_t i = 0; i < TW_COUNT(other); i++) {
        assert_false(tw_key_equal(key_of(f, other[i][0]), key_of(f, other[i][1])));
    }
    assert_int_equal(key_of(f, "7").ptr[0], TW_BSON_INT64);
    double nan = -NAN;
    tw_key odd;
    tw_bson_value value = {TW_BSON_DOUBLE, (const uint8_t *)&nan, sizeof nan};
    assert_int_equal(tw_key_of_value(&f->arena, value, &odd), TW_OK);
    assert_true(tw_key_equal(odd, key_of(f, "{\"$numberDouble\":\"NaN\"}")));
}

static void test_key_refuses_what_cannot_be_one(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {
        "null", "[1]", "{\"$undefined\":true}", "{\"$code\":\"x\"}",
        "{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"\"}}"};
    tw_key key = {0};
    for (size_t i = 0; i < TW_COUNT(bad); i++) {
        assert_int_equal(tw_key_of_value(&f->arena, value_of(f, bad[i]), &key), TW_E_BAD_DOCUMENT);
    }
    assert_int_equal(tw_key_of_value(&f->arena, (tw_bson_value){0}, &key), TW_E_BAD_DOCUMENT);
    char text[TW_KEY_MAX];
    memset(text, 'x', sizeof text);
    for (size_t len = TW_KEY_MAX - 10; len < TW_KEY_MAX;
         len++) { /* type, length and NUL: 6 bytes */
        tw_buf_clear(&f->buf);
        tw_bson_builder b;
        tw_bson_begin(&b, &f->buf);
        tw_bson_add_str(&b, TW_STR("v"), (tw_str){text, len});
        tw_bson doc = tw_bson_end(&b);
        tw_err wanted = len + 6 <= TW_KEY_MAX ? TW_OK : TW_E_TOO_BIG;
        assert_int_equal(tw_key_of_value(&f->arena, tw_bson_get(doc, TW_STR("v")), &key), wanted);
        tw_bson_value whole = {TW_BSON_DOCUMENT, doc.ptr, doc.len};
        assert_int_equal(tw_key_of_value(&f->arena, whole, &key), TW_E_TOO_BIG);
    }
    tw_arena none;
    tw_arena_init(&none, 0);
    assert_int_equal(tw_key_of_value(&none, value_of(f, "1"), &key), TW_E_NO_MEMORY);
}

static void test_key_of_id_reads_hex_as_object_id_first(void **state)
{
    struct fixture *f = *state;
    tw_key key, also;
    tw_bson_value hex = value_of(f, "\"5f00000000000000000000Ab\"");
    assert_int_equal(tw_key_of_id(&f->arena, hex, &key, &also), TW_OK);
    assert_true(tw_key_equal(key, key_of(f, "{\"$oid\":\"5f00000000000000000000ab\"}")));
    assert_true(tw_key_equal(also, key_of(f, "\"5f00000000000000000000Ab\"")));
    static const char *const single[] = {"\"5f00000000000000000000a\"",
                                         "\"zf00000000000000000000ab\"", "7",
                                         "{\"$oid\":\"5f00000000000000000000ab\"}"};
    for (size_t i = 0; i < TW_COUNT(single); i++) {
        tw_bson_value id = value_of(f, single[i]);
        assert_int_equal(tw_key_of_id(&f->arena, id, &key, &also), TW_OK);
        assert_true(tw_key_equal(key, key_of(f, single[i])));
        assert_int_equal(also.len, 0);
    }
    assert_int_equal(tw_key_of_id(&f->arena, value_of(f, "null"), &key, &also), TW_E_BAD_DOCUMENT);
    assert_int_equal(tw_key_value(key_of(f, "\"a\"")).type, TW_BSON_STRING);
    assert_int_equal(tw_key_value((tw_key){0}).type, 0);
}

/* ---- new ids ---- */

static void *make_ids(void *arg)
{
    uint8_t(*ids)[OID_LEN] = arg;
    for (int i = 0; i < IDS; i++) {
        tw_oid_new(ids[i]);
    }
    return NULL;
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, OID_LEN);
}

static void test_oid_new_is_unique_across_threads(void **state)
{
    (void)state;
    static uint8_t ids[THREADS * IDS][OID_LEN];
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, make_ids, ids + i * IDS), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_memory_equal(ids[0] + 4, ids[THREADS * IDS - 1] + 4, 5);
    qsort(ids, TW_COUNT(ids), OID_LEN, by_bytes);
    for (size_t i = 1; i < TW_COUNT(ids); i++) {
        assert_true(memcmp(ids[i - 1], ids[i], OID_LEN) != 0);
    }
}

/* ---- order ---- */

/* Each row is below the next; values within a row are equal. */
static const char *const rows[][3] = {
    {"{\"$minKey\":1}"},
    {"{\"$undefined\":true}"},
    {"null"},
    {"{\"$numberDouble\":\"NaN\"}", "{\"$numberDecimal\":\"NaN\"}"},
    {"{\"$numberDouble\":\"-Infinity\"}", "{\"$numberDecimal\":\"-Infinity\"}"},
    {"{\"$numberDecimal\":\"-1E+6000\"}"},
    {"-1.7976931348623157e308"},
    {"-9.223372036854776e18", "-9223372036854775808",
     "{\"$numberDecimal\":\"-9223372036854775808\"}"},
    {"-9223372036854775807"},
    {"-1.5", "{\"$numberDecimal\":\"-1.50\"}"},
    {"-1"},
    {"{\"$numberDecimal\":\"-1E-6000\"}"},
    {"0", "-0.0", "{\"$numberDecimal\":\"-0E+3\"}"},
    {"5e-324"},
    {"{\"$numberDecimal\":\"0.1\"}"},
    {"0.1"}, /* a little above one tenth */
    {"1", "1.0", "{\"$numberDecimal\":\"1.000\"}"},
    {"9007199254740992", "9007199254740992.0"},
    {"9007199254740993", "{\"$numberDecimal\":\"9007199254740993\"}"},
    {"9223372036854775807"},
    {"9.223372036854776e18", "{\"$numberDecimal\":\"9223372036854775808\"}"},
    {"{\"$numberDecimal\":\"9999999999999999999999999999999998\"}"},
    {"{\"$numberDecimal\":\"9999999999999999999999999999999999\"}"},
    {"{\"$numberDecimal\":\"1.000000000000000000000000000000001E+300\"}"},
    {"1e300"}, /* a little above, as a double is */
    {"{\"$numberDouble\":\"Infinity\"}", "{\"$numberDecimal\":\"Infinity\"}"},
    {"\"\""},
    {"\"a\"", "{\"$symbol\":\"a\"}"},
    {"\"a\\u0000\""},
    {"\"b\""},
    {"\"\\u00e9\""},
    {"{}"},
    {"{\"b\":1}"},
    {"{\"b\":1,\"a\":1}", "{\"b\":1.0,\"a\":1}"},
    {"{\"b\":2}"},
    {"{\"c\":1}"},
    {"{\"a\":\"x\"}"}, /* the type counts before the name */
    {"[]"},
    {"[1]"},
    {"[1,0]"},
    {"[2]"},
    {"[\"a\"]"},
    {"[[1]]"},
    {"{\"$binary\":{\"base64\":\"/w==\",\"subType\":\"80\"}}"},
    {"{\"$binary\":{\"base64\":\"AAA=\",\"subType\":\"00\"}}"},
    {"{\"$binary\":{\"base64\":\"AAE=\",\"subType\":\"00\"}}"},
    {"{\"$binary\":{\"base64\":\"AAA=\",\"subType\":\"05\"}}"},
    {"{\"$oid\":\"000000000000000000000001\"}"},
    {"{\"$oid\":\"ff0000000000000000000000\"}"},
    {"false"},
    {"true"},
    {"{\"$date\":{\"$numberLong\":\"-1\"}}"},
    {"{\"$date\":0}"},
    {"{\"$timestamp\":{\"t\":1,\"i\":5}}"},
    {"{\"$timestamp\":{\"t\":4294967295,\"i\":0}}"},
    {"{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"\"}}"},
    {"{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"i\"}}"},
    {"{\"$regularExpression\":{\"pattern\":\"ab\",\"options\":\"\"}}"},
    {"{\"$dbPointer\":{\"$ref\":\"z\",\"$id\":{\"$oid\":\"000000000000000000000001\"}}}"},
    {"{\"$dbPointer\":{\"$ref\":\"aa\",\"$id\":{\"$oid\":\"000000000000000000000001\"}}}"},
    {"{\"$code\":\"aa\"}"},
    {"{\"$code\":\"b\"}"},
    {"{\"$code\":\"aa\",\"$scope\":{\"a\":1}}"},
    {"{\"$code\":\"aa\",\"$scope\":{\"a\":2}}"},
    {"{\"$code\":\"b\",\"$scope\":{}}"},
    {"{\"$maxKey\":1}"}};

static void test_compare_orders_as_mongodb(void **state)
{
    struct fixture *f = *state;
    enum { ROWS = TW_COUNT(rows) };
    static tw_bson_value values[ROWS][3];
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t k = 0; k < 3 && rows[i][k] != NULL; k++) {
            values[i][k] = value_of(f, rows[i][k]);
        }
    }
    for (size_t i = 0; i < ROWS * 3; i++) {
        for (size_t k = 0; k < ROWS * 3; k++) {
            if (rows[i / 3][i % 3] == NULL || rows[k / 3][k % 3] == NULL) {
                continue;
            }
            int order = tw_bson_compare(values[i / 3][i % 3], values[k / 3][k % 3]);
            int wanted = (i / 3 > k / 3) - (i / 3 < k / 3);
            if ((order > 0) - (order < 0) != wanted) {
                fail_msg("%s against %s: %d", rows[i / 3][i % 3], rows[k / 3][k % 3], order);
            }
        }
    }
    assert_int_equal(tw_bson_compare((tw_bson_value){0}, values[1][0]), 0); /* absent, undefined */
}

static void test_compare_is_an_order_of_generated_values(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 150 };
    static tw_bson_value values[COUNT];
    random_doc random = {.state = 4242, .depth_max = 2, .fields_max = 6};
    size_t count = 0;
    while (count < COUNT) {
        tw_buf_clear(&f->buf);
        tw_bson doc = tw_arena_bson(&f->arena, random_doc_make(&random, &f->buf));
        tw_bson_iter iter;
        for (tw_bson_iter_init(&iter, doc); count < COUNT && tw_bson_iter_next(&iter);) {
            values[count++] = iter.value;
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(tw_bson_compare(values[i], values[i]), 0);
        for (size_t k = 0; k < COUNT; k++) {
            int order = tw_bson_compare(values[i], values[k]);
            int back = tw_bson_compare(values[k], values[i]);
            assert_int_equal((order > 0) - (order < 0), (back < 0) - (back > 0));
            for (size_t m = 0; m < COUNT && order <= 0; m++) {
                if (tw_bson_compare(values[k], values[m]) <= 0) {
                    assert_true(tw_bson_compare(values[i], values[m]) <= 0);
                }
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_get_finds_fields_and_paths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_iter_gives_names_of_any_length, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_value_i64_takes_whole_numbers_alone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_build_writes_each_type, set_up, tear_down),
        cmocka_unit_test(test_build_beyond_a_bound_is_an_error),
        cmocka_unit_test_setup_teardown(test_validate_takes_generated_documents, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_validate_damaged_documents_are_refused_or_whole,
                                        set_up, tear_down),
        cmocka_unit_test(test_validate_refuses_each_damage),
        cmocka_unit_test(test_validate_bounds_depth_and_size),
        cmocka_unit_test_setup_teardown(test_key_of_equal_values_is_equal_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key_refuses_what_cannot_be_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key_of_id_reads_hex_as_object_id_first, set_up,
                                        tear_down),
        cmocka_unit_test(test_oid_new_is_unique_across_threads),
        cmocka_unit_test_setup_teardown(test_compare_orders_as_mongodb, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_compare_is_an_order_of_generated_values, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
