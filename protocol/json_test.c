/* json_test.c - JSON against libbson over generated documents, and each rule of json.h. */
#include "protocol/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <bson/bson.h>
#include <cmocka.h>

#include "protocol/json_priv.h"
#include "protocol/limits.h"

#include "tests/support/random_doc.h"

enum { DOCS = 100000, DOUBLES = 200000, OUT_MAX = 4 << 20 };

static const int64_t DATE_END_MS = 253402300800000;

/* ---- helpers ---- */

/* Drops white space outside strings, in place; returns the new length. */
static size_t squeeze(char *text)
{
    size_t to = 0;
    bool is_inside = false;
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (is_inside && text[i] == '\\') {
            text[to++] = text[i++];
        } else if (text[i] == '"') {
            is_inside = !is_inside;
        }
        if (is_inside || strchr(" \n\t", text[i]) == NULL) {
            text[to++] = text[i];
        }
    }
    text[to] = '\0';
    return to;
}

static bool is_number_char(char c)
{
    return c != '\0' && strchr("0123456789+-.eE", c) != NULL;
}

/* Equal, but for the spelling of doubles and for dates beyond the year 9999? */
static bool is_same_json(const char *ours, const char *theirs)
{
    const char *a = ours;
    const char *b = theirs;
    while (*a != '\0' || *b != '\0') {
        if (*a == *b && !is_number_char(*a)) {
            a++;
            b++;
        } else if (is_number_char(*a) && is_number_char(*b)) {
            char *a_end;
            char *b_end;
            double x = strtod(a, &a_end);
            double y = strtod(b, &b_end);
            size_t len = (size_t)(a_end - a);
            bool is_whole = memchr(a, '.', len) == NULL && memchr(a, 'e', len) == NULL;
            if (a_end == a || b_end == b) { /* a lone sign or letter of a text */
                a_end = (char *)(uintptr_t)a + 1;
                b_end = (char *)(uintptr_t)b + 1;
                if (*a != *b) {
                    return false;
                }
            } else if (is_whole ? len != (size_t)(b_end - b) || memcmp(a, b, len) != 0
                                : memcmp(&x, &y, sizeof x) != 0) {
                return false;
            }
            a = a_end;
            b = b_end;
        } else if (a - ours > 8 && memcmp(a - 8, "\"$date\":", 8) == 0 && *b == '"') {
            long long ms = strtoll(a + 16, NULL, 10);
            if (ms < DATE_END_MS) {
                return false;
            }
            a = strchr(a, '}') + 1;
            b = strchr(b + 1, '"') + 1;
        } else {
            return false;
        }
    }
    return true;
}

static tw_str write_doc(tw_buf *out, tw_bson doc)
{
    tw_buf_clear(out);
    tw_json_write(out, doc);
    assert_int_equal(out->err, TW_OK);
    tw_str text = tw_buf_str(out);
    tw_buf_add_byte(out, '\0');
    return text;
}

static tw_err read_text(tw_arena *arena, tw_str text, tw_bson *out)
{
    tw_str why = {0};
    tw_err err = tw_json_read(arena, text, TW_DEPTH_MAX, out, &why);
    assert_true((err == TW_OK) == (why.ptr == NULL));
    return err;
}

/* Reads text, writes it again and compares with wanted. */
static void assert_reads_as(const char *text, const char *wanted)
{
    tw_arena arena;
    tw_arena_init(&arena, OUT_MAX);
    tw_buf out;
    tw_buf_init(&out, OUT_MAX);
    tw_bson doc;
    tw_err err = read_text(&arena, tw_str_of(text), &doc);
    if (err != TW_OK) {
        fail_msg("%s: %s", text, tw_err_code(err));
    }
    assert_string_equal(write_doc(&out, doc).ptr, wanted);
    tw_buf_fini(&out);
    tw_arena_fini(&arena);
}

static void assert_refused(tw_str text, tw_err wanted)
{
    tw_arena arena;
    tw_arena_init(&arena, OUT_MAX);
    tw_bson doc = {0};
    tw_err err = read_text(&arena, text, &doc);
    if (err != wanted) {
        fail_msg("%.*s: %s", (int)text.len, text.ptr, tw_err_code(err));
    }
    assert_null(doc.ptr);
    tw_arena_fini(&arena);
}

/* A text whose objects and arrays stand in each other; odd levels are arrays. */
static tw_str nested(char *out, int levels)
{
    size_t len = 0;
    for (int i = 0; i < levels; i++) {
        len += tw_format(out + len, 8, "%s", i == 0 ? "{\"a\":" : i % 2 == 1 ? "[" : "{\"b\":");
    }
    out[len++] = '1';
    for (int i = levels - 1; i >= 0; i--) {
        out[len++] = i % 2 == 1 ? ']' : '}';
    }
    return (tw_str){out, len};
}

/* ---- against libbson ---- */

static void test_write_generated_documents_as_libbson(void **state)
{
    (void)state;
    random_doc random = {.state = 20240229, .depth_max = 4, .fields_max = 7};
    tw_buf bytes, text;
    tw_buf_init(&bytes, OUT_MAX);
    tw_buf_init(&text, OUT_MAX);
    for (int i = 0; i < DOCS; i++) {
        tw_buf_clear(&bytes);
        tw_bson doc = random_doc_make(&random, &bytes);
        tw_str ours = write_doc(&text, doc);
        bson_t same;
        assert_true(bson_init_static(&same, doc.ptr, doc.len));
        char *theirs = bson_as_relaxed_extended_json(&same, NULL);
        assert_non_null(theirs);
        (void)squeeze(theirs);
        if (!is_same_json(ours.ptr, theirs)) {
            fail_msg("document %d\nours   %s\ntheirs %s", i, ours.ptr, theirs);
        }
        bson_free(theirs);
    }
    tw_buf_fini(&bytes);
    tw_buf_fini(&text);
}

/* What we write we read back as the same bytes; NaN has one form, so documents are compared as text
 * where they differ. libbson reads the same document, where it reads it at all. */
static void test_read_generated_documents_gives_them_back(void **state)
{
    (void)state;
    random_doc random = {.state = 77, .depth_max = 4, .fields_max = 7};
    tw_buf bytes, once, twice;
    tw_buf_init(&bytes, OUT_MAX);
    tw_buf_init(&once, OUT_MAX);
    tw_buf_init(&twice, OUT_MAX);
    tw_arena arena;
    tw_arena_init(&arena, OUT_MAX);
    int by_libbson = 0;
    for (int i = 0; i < DOCS / 2; i++) {
        tw_buf_clear(&bytes);
        tw_arena_reset(&arena);
        tw_bson doc = random_doc_make(&random, &bytes);
        tw_str text = write_doc(&once, doc);
        tw_bson back;
        assert_int_equal(read_text(&arena, text, &back), TW_OK);
        tw_bson checked;
        assert_int_equal(tw_bson_validate(back.ptr, back.len, TW_DEPTH_MAX, &checked), TW_OK);
        assert_string_equal(text.ptr, write_doc(&twice, back).ptr);
        bson_t *theirs = bson_new_from_json((const uint8_t *)text.ptr, (ssize_t)text.len, NULL);
        if (theirs != NULL) {
            by_libbson++;
            /* libbson 1.23.1 gives code and pointers in arrays a wrong index: names there differ */
            tw_bson same = {bson_get_data(theirs), theirs->len};
            assert_int_equal(same.len, back.len);
            assert_string_equal(once.ptr, write_doc(&twice, same).ptr);
            bson_destroy(theirs);
        }
    }
    assert_true(by_libbson > DOCS / 4);
    tw_buf_fini(&bytes);
    tw_buf_fini(&once);
    tw_buf_fini(&twice);
    tw_arena_fini(&arena);
}

/* ---- numbers ---- */

static int digits_in(const char *text)
{
    int count = 0;
    int zeros = 0; /* at the end of what was seen */
    for (; *text != '\0' && *text != 'e'; text++) {
        if (*text >= '1' && *text <= '9') {
            count += zeros + 1;
            zeros = 0;
        } else if (*text == '0' && count > 0) {
            zeros++;
        }
    }
    return count;
}

static void test_double_is_shortest_and_reads_back(void **state)
{
    (void)state;
    random_doc random = {.state = 5};
    for (int i = 0; i < DOUBLES; i++) {
        double value = random_doc_double(&random);
        if (!isfinite(value)) {
            continue;
        }
        char text[JSON_DOUBLE_MAX + 1];
        char by_trial[40];
        *json_double_write(text, value) = '\0';
        double back = strtod(text, NULL);
        assert_memory_equal(&back, &value, sizeof back);
        assert_non_null(strpbrk(text, ".e"));
        for (int digits = 0; digits < 17; digits++) {
            tw_format(by_trial, sizeof by_trial, "%.*e", digits, value);
            if (strtod(by_trial, NULL) == value) {
                break;
            }
        }
        if (digits_in(text) > digits_in(by_trial)) {
            fail_msg("%s could be %s", text, by_trial);
        }
        bool is_whole;
        tw_err err = json_number_double(tw_str_of(text), &back);
        assert_int_equal(err, TW_OK);
        assert_memory_equal(&back, &value, sizeof back);
        assert_int_equal(json_number_len(tw_str_of(text), &is_whole), strlen(text));
        assert_false(is_whole);
    }
}

static void test_double_has_known_spellings(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0.0, "0.0"},
                 {-0.0, "-0.0"},
                 {1, "1.0"},
                 {-12.5, "-12.5"},
                 {0.1, "0.1"},
                 {1e-5, "0.00001"},
                 {1e-6, "1e-6"},
                 {1.5e-6, "1.5e-6"},
                 {5e-324, "5e-324"},
                 {1.7976931348623157e308, "1.7976931348623157e+308"},
                 {1e16, "10000000000000000.0"},
                 {12345678901234567.0, "12345678901234568.0"},
                 {1e17, "1e+17"},
                 {1e23, "1e+23"},
                 {9007199254740993.0, "9007199254740992.0"}};
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        char text[JSON_DOUBLE_MAX + 1];
        *json_double_write(text, cases[i].value) = '\0';
        assert_string_equal(text, cases[i].text);
    }
}

/* Sums of money and the like: one or two digits behind the point. */
static void test_double_of_hundredths_is_as_it_is_written(void **state)
{
    (void)state;
    char text[JSON_DOUBLE_MAX + 1];
    char wanted[40];
    uint64_t step = 1;
    for (uint64_t all = 1; all < 2000000000000000; all += step) {
        double value = (double)all / 100;
        tw_format(wanted, sizeof wanted, "%llu.%02llu", (unsigned long long)(all / 100),
                  (unsigned long long)(all % 100));
        size_t len = strlen(wanted);
        wanted[len - 1] = wanted[len - 1] == '0' ? '\0' : wanted[len - 1];
        *json_double_write(text, value) = '\0';
        assert_string_equal(text, wanted);
        *json_double_write(text, -value) = '\0';
        assert_string_equal(text + 1, wanted);
        step = all < 300000 ? 1 : 1 + all / 99991;
    }
}

static void test_read_numbers_by_rule(void **state)
{
    (void)state;
    assert_reads_as("{\"a\":[0,-0,-0.0,1.0,1e2,1E+2,0.5]}",
                    "{\"a\":[0,0,-0.0,1.0,100.0,100.0,0.5]}");
    assert_reads_as("{\"a\":[2147483647,2147483648,-2147483648,-2147483649]}",
                    "{\"a\":[2147483647,2147483648,-2147483648,-2147483649]}");
    assert_reads_as("{\"a\":[9007199254740993,9223372036854775807,-9223372036854775808]}",
                    "{\"a\":[9007199254740993,9223372036854775807,-9223372036854775808]}");
    assert_reads_as("{\"a\":[9223372036854775808,100000000000000000000,1e-999]}",
                    "{\"a\":[9.223372036854776e+18,1e+20,0.0]}");
    static const char *const bad[] = {"{\"a\":1e999}", "{\"a\":01}",       "{\"a\":+1}",
                                      "{\"a\":.5}",    "{\"a\":1.}",       "{\"a\":1e}",
                                      "{\"a\":-}",     "{\"a\":--1}",      "{\"a\":NaN}",
                                      "{\"a\":0x1}",   "{\"a\":Infinity}", "{\"a\":1 2}"};
    for (size_t i = 0; i < TW_COUNT(bad); i++) {
        assert_refused(tw_str_of(bad[i]), TW_E_BAD_MESSAGE);
    }
}

static void test_read_long_number_is_exact(void **state)
{
    (void)state;
    char text[512];
    size_t len = tw_format(text, sizeof text, "{\"a\":0.1%0300d}", 0);
    assert_true(len > 300);
    assert_reads_as(text, "{\"a\":0.1}");
}

/* ---- text ---- */

static void test_read_refuses_what_is_no_json_object(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "1",
                                      "[1]",
                                      "null",
                                      "\"a\"",
                                      "{",
                                      "{\"a\"",
                                      "{\"a\":",
                                      "{\"a\":1",
                                      "{\"a\":1,",
                                      "{\"a\":1,}",
                                      "{\"a\":[1,]}",
                                      "{,}",
                                      "{\"a\":1}x",
                                      "{\"a\":1}{}",
                                      "{\"a\":1},",
                                      "{'a':1}",
                                      "{a:1}",
                                      "{/**/}",
                                      "{\"a\":tru}",
                                      "{\"a\":nul",
                                      "{\"a\":truee}",
                                      "\xef\xbb\xbf{}",
                                      "{\"a\":\"\t\"}",
                                      "{\"a\":\"\n\"}",
                                      "{\"a\":\"\\x\"}",
                                      "{\"a\":\"\\u12g4\"}",
                                      "{\"a\":\"\\u12\"}",
                                      "{\"a\":\"",
                                      "{\"a\":\"\\",
                                      "{\"a\":\"\\u",
                                      "{\"a\" 1}",
                                      "{\"a\":}",
                                      "{\"a\":[1 2]}",
                                      "{\"a\":1 \"b\":2}",
                                      "{]",
                                      "{\"a\":[}",
                                      "{\"a\":\"\\ud83d\\",
                                      "{\"a\":1\v}"};
    for (size_t i = 0; i < TW_COUNT(bad); i++) {
        assert_refused(tw_str_of(bad[i]), TW_E_BAD_MESSAGE);
    }
    assert_refused(TW_STR("{}\0"), TW_E_BAD_MESSAGE);
}

static void test_read_takes_white_space_around(void **state)
{
    (void)state;
    assert_reads_as(" \t\r\n{ \"a\" : [ 1 , { } , [ ] ] , \"b\" : null } \n",
                    "{\"a\":[1,{},[]],\"b\":null}");
    assert_reads_as("{}", "{}");
}

static void test_read_refuses_names_that_stand_twice(void **state)
{
    (void)state;
    assert_refused(TW_STR("{\"a\":1,\"a\":2}"), TW_E_BAD_MESSAGE);
    assert_refused(TW_STR("{\"x\":[{\"a\":1,\"b\":1,\"\\u0061\":2}]}"), TW_E_BAD_MESSAGE);
    assert_reads_as("{\"a\":{\"a\":1},\"b\":{\"a\":1},\"\":1}",
                    "{\"a\":{\"a\":1},\"b\":{\"a\":1},\"\":1}");
    for (int twice = 0; twice < 2; twice++) { /* many names: the sorted way */
        tw_buf text;
        tw_buf_init(&text, OUT_MAX);
        tw_buf_add_byte(&text, '{');
        for (int i = 0; i < 5000; i++) {
            tw_buf_format(&text, "\"n%d\":%d,", i * 7919 % 5000, i);
        }
        tw_buf_add_str(&text, twice == 1 ? TW_STR("\"n77\":0}") : TW_STR("\"n\":0}"));
        tw_arena arena;
        tw_arena_init(&arena, OUT_MAX);
        tw_bson doc;
        assert_int_equal(read_text(&arena, tw_buf_str(&text), &doc),
                         twice == 1 ? TW_E_BAD_MESSAGE : TW_OK);
        tw_arena_fini(&arena);
        tw_buf_fini(&text);
    }
}

static void test_read_strings_by_rule(void **state)
{
    (void)state;
    assert_reads_as(
        "{\"a\":\"\\u0000\\u0041\\u00e9\\u20ac\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\\"\\\\\"}",
        "{\"a\":\"\\u0000A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80/\\b\\f\\n\\r\\t\\\"\\\\\"}");
    assert_reads_as("{\"\\u00e9\\n\":1}", "{\"\xc3\xa9\\n\":1}");
    static const char *const bad[] = {"{\"a\\u0000\":1}",
                                      "{\"a\":\"\\ud800\"}",
                                      "{\"a\":\"\\udc00\"}",
                                      "{\"a\":\"\\ud800x\"}",
                                      "{\"a\":\"\\ud800\\n\"}",
                                      "{\"a\":\"\\ud800\\ud800\"}",
                                      "{\"a\":\"\x80\"}",
                                      "{\"a\":\"\xc3\"}",
                                      "{\"a\":\"\xed\xa0\x80\"}",
                                      "{\"a\":\"\xc0\x80\"}",
                                      "{\"a\":\"\xf5\x80\x80\x80\"}",
                                      "{\"\xff\":1}"};
    for (size_t i = 0; i < TW_COUNT(bad); i++) {
        assert_refused(tw_str_of(bad[i]), TW_E_BAD_MESSAGE);
    }
}

/* ---- blocks ---- */

typedef size_t copy_left(char *to, const char *from, size_t left);

static size_t copy_word_left(char *to, const char *from, size_t left)
{
    return json_store_word(to, json_load_left(from, left));
}

static size_t copy_block_left(char *to, const char *from, size_t left)
{
    return left == JSON_BLOCK ? json_copy_plain(to, from) : json_copy_plain_left(to, from, left);
}

/* Each byte at each place of what is left of a block, in memory that ends behind it. */
static void check_blocks(copy_left *copy, size_t block)
{
    for (size_t left = 0; left <= block; left++) {
        char *from = malloc(left + 1); /* a spare byte in front: the block is at an odd place */
        assert_non_null(from);
        for (size_t at = 0; at < left; at++) {
            for (int byte = 0; byte < 256; byte++) {
                char to[JSON_BLOCK] = {0};
                const char zeros[JSON_BLOCK] = {0};
                memset(from + 1, 'a', left);
                from[1 + at] = (char)byte;
                size_t plain = copy(to, from + 1, left);
                assert_int_equal(plain, json_is_plain((char)byte) ? left : at);
                assert_memory_equal(to, from + 1, left);
                assert_memory_equal(to + left, zeros, block - left);
            }
        }
        char to[JSON_BLOCK];
        memset(from + 1, 'a', left);
        assert_int_equal(copy(to, from + 1, left), left);
        free(from);
    }
}

static void test_blocks_are_plain_up_to_the_first_byte_that_is_not(void **state)
{
    (void)state;
    check_blocks(copy_word_left, JSON_WORD);
    check_blocks(copy_block_left, JSON_BLOCK);
}

/* ---- strings ---- */

/* A text of ASCII and bytes above it that are no UTF-8, as JSON; returns its length. */
static size_t spell(char *out, const char *text, size_t len)
{
    char *to = out;
    *to++ = '"';
    for (size_t i = 0; i < len; i++) {
        const char *found = text[i] == 0 ? NULL : strchr("\"\"\\\\\bb\ff\nn\rr\tt", text[i]);
        if (json_is_plain(text[i])) {
            *to++ = text[i];
        } else if ((unsigned char)text[i] >= 0x80) {
            memcpy(to, "\xef\xbf\xbd", 3);
            to += 3;
        } else if (found != NULL) {
            *to++ = '\\';
            *to++ = found[1];
        } else {
            to += tw_format(to, 7, "\\u%04x", (unsigned)(unsigned char)text[i]);
        }
    }
    *to++ = '"';
    return (size_t)(to - out);
}

/* {text: text}, or {a: text} where text is no name, in memory that ends where the document does. */
static void check_text(tw_buf *bytes, tw_buf *out, tw_str text)
{
    char spelled[512], wanted[1200];
    bool is_name = text.len == 0 || memchr(text.ptr, 0, text.len) == NULL;
    tw_bson_builder b;
    tw_buf_clear(bytes);
    tw_bson_begin(&b, bytes);
    tw_bson_add_str(&b, is_name ? text : TW_STR("a"), text);
    tw_bson made = tw_bson_end(&b);
    char *own = malloc(made.len);
    assert_non_null(own);
    memcpy(own, made.ptr, made.len);
    size_t len = spell(spelled, text.ptr, text.len);
    size_t wanted_len = tw_format(wanted, sizeof wanted, "{%.*s:%.*s}", is_name ? (int)len : 3,
                                  is_name ? spelled : "\"a\"", (int)len, spelled);
    tw_buf_clear(out);
    tw_json_write(out, (tw_bson){(const uint8_t *)own, made.len});
    assert_int_equal(out->err, TW_OK);
    assert_int_equal(out->len, wanted_len);
    assert_memory_equal(out->ptr, wanted, wanted_len);
    free(own);
}

static void test_write_texts_of_each_length_with_each_byte(void **state)
{
    (void)state;
    tw_buf bytes, out;
    tw_buf_init(&bytes, OUT_MAX);
    tw_buf_init(&out, OUT_MAX);
    for (size_t len = 0; len <= 70; len++) {
        char text[72];
        memset(text, 'y', len);
        check_text(&bytes, &out, (tw_str){text, len});
        for (size_t at = 0; at < len; at++) {
            for (int byte = 0; byte < 256; byte++) {
                text[at] = (char)byte;
                check_text(&bytes, &out, (tw_str){text, len});
            }
            text[at] = 'y';
        }
    }
    tw_buf_fini(&bytes);
    tw_buf_fini(&out);
}

/* What is common at each distance from the end of the memory: names, then values of fixed size. */
static void test_write_names_near_the_end_of_memory(void **state)
{
    (void)state;
    static const char name[] = "a_name_that_is_longer_than_one_block_and_than_two";
    tw_buf bytes, out;
    tw_buf_init(&bytes, OUT_MAX);
    tw_buf_init(&out, OUT_MAX);
    for (size_t len = 0; len < sizeof name; len++) {
        for (int kind = 0; kind < 3; kind++) {
            static const char *const values[] = {"null", "true", "7"};
            char wanted[100];
            tw_bson_builder b;
            tw_str is = {name, len};
            tw_buf_clear(&bytes);
            tw_bson_begin(&b, &bytes);
            if (kind == 0) {
                tw_bson_add_null(&b, is);
            } else if (kind == 1) {
                tw_bson_add_bool(&b, is, true);
            } else {
                tw_bson_add_i64(&b, is, 7);
            }
            tw_bson made = tw_bson_end(&b);
            uint8_t *own = malloc(made.len);
            assert_non_null(own);
            memcpy(own, made.ptr, made.len);
            tw_format(wanted, sizeof wanted, "{\"%.*s\":%s}", (int)len, name, values[kind]);
            assert_string_equal(write_doc(&out, (tw_bson){own, made.len}).ptr, wanted);
            memset(own + 5 + len, 'x', made.len - 5 - len); /* no end of the name: damage */
            assert_string_equal(write_doc(&out, (tw_bson){own, made.len}).ptr, "{}");
            free(own);
        }
    }
    tw_buf_fini(&bytes);
    tw_buf_fini(&out);
}

/* Each special byte at each place of strings of each length: the blocks and their ends. */
static void test_strings_of_all_lengths_pass_through(void **state)
{
    (void)state;
    static const char *const specials[] = {"\"", "\\", "\x01", "\xc3\xa9", "\x7f", "x"};
    tw_buf text;
    tw_buf_init(&text, OUT_MAX);
    tw_arena arena;
    tw_arena_init(&arena, OUT_MAX);
    for (size_t len = 0; len < 40; len++) {
        for (size_t at = 0; at <= len; at++) {
            for (size_t i = 0; i < TW_COUNT(specials); i++) {
                char value[48];
                memset(value, 'y', len);
                memcpy(value + at, specials[i], strlen(specials[i]));
                memset(value + at + strlen(specials[i]), 'z', len - at);
                tw_str given = {value, len + strlen(specials[i])};
                tw_buf_clear(&text);
                tw_buf_add_byte(&text, '{');
                tw_json_write_str(&text, given);
                tw_buf_add_byte(&text, ':');
                tw_json_write_str(&text, given);
                tw_buf_add_byte(&text, '}');
                tw_arena_reset(&arena);
                tw_bson doc;
                assert_int_equal(read_text(&arena, tw_buf_str(&text), &doc), TW_OK);
                assert_true(tw_str_equal(tw_bson_get_str(doc, given), given));
                tw_str again = write_doc(&text, doc);
                assert_int_equal(again.ptr[1], '"');
                assert_int_equal(again.len % 2, 1); /* {s:s} */
            }
        }
    }
    tw_arena_fini(&arena);
    tw_buf_fini(&text);
}

static void test_write_str_replaces_what_is_not_utf8(void **state)
{
    (void)state;
    tw_buf out;
    tw_buf_init(&out, OUT_MAX);
    tw_json_write_str(&out, TW_STR("a\xff\xc3\xa9\xe2\x82"));
    tw_buf_add_byte(&out, '\0');
    assert_string_equal(out.ptr, "\"a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\"");
    tw_buf_clear(&out);
    tw_json_write_str(&out, (tw_str){0});
    assert_int_equal(out.len, 2);
    tw_buf_fini(&out);
}

/* ---- operators and forms ---- */

static void test_read_keeps_operators(void **state)
{
    (void)state;
    static const char *const kept[] = {
        "{\"f\":{\"age\":{\"$gt\":5,\"$lte\":7}}}",
        "{\"$set\":{\"a\":1},\"$unset\":{\"b\":\"\"},\"$inc\":{\"c\":-1}}",
        "{\"f\":{\"$regex\":\"x\",\"$options\":\"i\"}}",
        "{\"f\":{\"$options\":\"i\",\"$regex\":\"x\"}}",
        "{\"f\":{\"$not\":{\"$regex\":\"a\"}}}",
        "{\"f\":{\"$type\":\"int\"}}",
        "{\"f\":{\"$type\":5}}",
        "{\"f\":{\"$type\":[\"int\",2]}}",
        "{\"f\":{\"$type\":\"00\",\"$exists\":true}}",
        "{\"$currentDate\":{\"a\":{\"$type\":\"date\"}}}",
        "{\"f\":{\"$in\":[1,\"a\",null]}}",
        "{\"f\":{\"$nin\":[]}}",
        "{\"f\":{\"$exists\":true}}",
        "{\"$or\":[{\"a\":1},{\"b\":{\"$ne\":2}}]}",
        "{\"f\":{\"$elemMatch\":{\"$gte\":1}}}",
        "{\"f\":{\"$size\":2,\"$all\":[1]}}",
        "{\"f\":{\"$ref\":\"c\",\"$id\":1,\"$db\":\"d\"}}",
        "{\"$push\":{\"a\":{\"$each\":[1],\"$slice\":-5,\"$sort\":1,\"$position\":0}}}",
        "{\"f\":{\"$unknown\":{\"$oid2\":1}}}",
        "{\"f\":{\"a\":1,\"$oid\":\"x\"}}",
        "{\"$oid\":\"x\"}",
        "{\"$date\":1,\"a\":2}",
        "{\"f\":{\"$regex\":{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"\"}}}}",
    };
    for (size_t i = 0; i < TW_COUNT(kept); i++) {
        assert_reads_as(kept[i], kept[i]);
    }
}

static void test_read_forms_of_extended_json(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"$oid\":\"5F0000000000000000000aBc\"}", "{\"$oid\":\"5f0000000000000000000abc\"}"},
        {"{\"$numberInt\":\"-5\"}", "-5"},
        {"{\"$numberLong\":\"5\"}", "5"},
        {"{\"$numberDouble\":\"1\"}", "1.0"},
        {"{\"$numberDouble\":\"-0.0\"}", "-0.0"},
        {"{\"$numberDouble\":\"NaN\"}", "{\"$numberDouble\":\"NaN\"}"},
        {"{\"$numberDouble\":\"-Infinity\"}", "{\"$numberDouble\":\"-Infinity\"}"},
        {"{\"$numberDecimal\":\"1.50\"}", "{\"$numberDecimal\":\"1.50\"}"},
        {"{\"$date\":\"2020-02-29T00:00:00Z\"}", "{\"$date\":\"2020-02-29T00:00:00Z\"}"},
        {"{\"$date\":\"2020-02-29T01:30+01:30\"}", "{\"$date\":\"2020-02-29T00:00:00Z\"}"},
        {"{\"$date\":\"2020-02-28T23:00:00.5009-0100\"}",
         "{\"$date\":\"2020-02-29T00:00:00.500Z\"}"},
        {"{\"$date\":\"1969-12-31T23:59:59.999Z\"}", "{\"$date\":{\"$numberLong\":\"-1\"}}"},
        {"{\"$date\":\"0000-03-01T00:00:00Z\"}",
         "{\"$date\":{\"$numberLong\":\"-62162035200000\"}}"},
        {"{\"$date\":{\"$numberLong\":\"5\"}}", "{\"$date\":\"1970-01-01T00:00:00.005Z\"}"},
        {"{\"$date\":5}", "{\"$date\":\"1970-01-01T00:00:00.005Z\"}"},
        {"{\"$timestamp\":{\"i\":2,\"t\":4294967295}}",
         "{\"$timestamp\":{\"t\":4294967295,\"i\":2}}"},
        {"{\"$binary\":{\"subType\":\"0\",\"base64\":\"QUI=\"}}",
         "{\"$binary\":{\"base64\":\"QUI=\",\"subType\":\"00\"}}"},
        {"{\"$binary\":\"QUI=\",\"$type\":\"80\"}",
         "{\"$binary\":{\"base64\":\"QUI=\",\"subType\":\"80\"}}"},
        {"{\"$binary\":{\"base64\":\"\",\"subType\":\"02\"}}",
         "{\"$binary\":{\"base64\":\"\",\"subType\":\"02\"}}"},
        {"{\"$uuid\":\"00112233-4455-6677-8899-aabbccddeeff\"}",
         "{\"$binary\":{\"base64\":\"ABEiM0RVZneImaq7zN3u/w==\",\"subType\":\"04\"}}"},
        {"{\"$regularExpression\":{\"options\":\"xi\",\"pattern\":\"a/\"}}",
         "{\"$regularExpression\":{\"pattern\":\"a/\",\"options\":\"ix\"}}"},
        {"{\"$symbol\":\"s\"}", "{\"$symbol\":\"s\"}"},
        {"{\"$code\":\"f\"}", "{\"$code\":\"f\"}"},
        {"{\"$code\":\"f\",\"$scope\":{\"a\":1}}", "{\"$code\":\"f\",\"$scope\":{\"a\":1}}"},
        {"{\"$dbPointer\":{\"$ref\":\"c\",\"$id\":{\"$oid\":\"5f0000000000000000000abc\"}}}",
         "{\"$dbPointer\":{\"$ref\":\"c\",\"$id\":{\"$oid\":\"5f0000000000000000000abc\"}}}"},
        {"{\"$undefined\":true}", "{\"$undefined\":true}"},
        {"{\"$minKey\":1}", "{\"$minKey\":1}"},
        {"{\"$maxKey\":1}", "{\"$maxKey\":1}"}};
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        char text[256];
        char wanted[256];
        tw_format(text, sizeof text, "{\"v\":%s,\"w\":[%s]}", cases[i][0], cases[i][0]);
        tw_format(wanted, sizeof wanted, "{\"v\":%s,\"w\":[%s]}", cases[i][1], cases[i][1]);
        assert_reads_as(text, wanted);
    }
}

static const char *const malformed_forms[] = {
    "{\"$oid\":\"zz\"}",
    "{\"$oid\":\"5f0000000000000000000abg\"}",
    "{\"$oid\":5}",
    "{\"$oid\":null}",
    "{\"$oid\":\"5f0000000000000000000abc\",\"x\":1}",
    "{\"$oid\":{\"$oid\":{\"$oid\":\"a\"}}}",
    "{\"$oid\":\"\\u0000\\u0000\\u0000\"}",
    "{\"$numberInt\":\"2147483648\"}",
    "{\"$numberInt\":5}",
    "{\"$numberInt\":\"1.0\"}",
    "{\"$numberLong\":\"9223372036854775808\"}",
    "{\"$numberLong\":\"\"}",
    "{\"$numberLong\":\"1 \"}",
    "{\"$numberLong\":5}",
    "{\"$numberDouble\":\"x\"}",
    "{\"$numberDouble\":1.5}",
    "{\"$numberDouble\":\"1e999\"}",
    "{\"$numberDecimal\":\"x\"}",
    "{\"$numberDecimal\":1}",
    "{\"$date\":\"2020-01-01\"}",
    "{\"$date\":\"2021-02-29T00:00:00Z\"}",
    "{\"$date\":true}",
    "{\"$date\":\"2020-13-01T00:00:00Z\"}",
    "{\"$date\":\"2020-01-01T24:00:00Z\"}",
    "{\"$date\":\"2020-01-01T00:60:00Z\"}",
    "{\"$date\":\"2020-01-01T00:00:60Z\"}",
    "{\"$date\":\"2020-01-01T00:00:00.Z\"}",
    "{\"$date\":\"2020-01-01T00:00:00\"}",
    "{\"$date\":\"2020-01-01T00:00:00Zx\"}",
    "{\"$date\":\"2020-01-01T00:00:00+1\"}",
    "{\"$date\":1.5}",
    "{\"$timestamp\":{\"t\":1}}",
    "{\"$timestamp\":{\"t\":-1,\"i\":0}}",
    "{\"$timestamp\":5}",
    "{\"$timestamp\":{\"t\":1,\"i\":4294967296}}",
    "{\"$timestamp\":{\"t\":1,\"i\":1,\"x\":1}}",
    "{\"$timestamp\":{\"t\":1.0,\"i\":1}}",
    "{\"$binary\":{\"base64\":\"A\",\"subType\":\"00\"}}",
    "{\"$binary\":{\"base64\":\"QUJ=\",\"subType\":\"00\"}}",
    "{\"$binary\":\"QUI=\"}",
    "{\"$binary\":{\"base64\":\"Q===\",\"subType\":\"00\"}}",
    "{\"$binary\":{\"base64\":\"QUI=\"}}",
    "{\"$binary\":{\"base64\":\"QU=I\",\"subType\":\"00\"}}",
    "{\"$uuid\":\"x\"}",
    "{\"$binary\":{\"base64\":\"QUI=\",\"subType\":\"000\"}}",
    "{\"$binary\":{\"base64\":\"QUI=\",\"subType\":\"x\"}}",
    "{\"$uuid\":\"00112233x4455-6677-8899-aabbccddeeff\"}",
    "{\"$uuid\":\"0011223-34455-6677-8899-aabbccddeeff\"}",
    "{\"$regularExpression\":\"a\"}",
    "{\"$regularExpression\":{\"pattern\":\"a\"}}",
    "{\"$regularExpression\":{\"pattern\":\"a\\u0000\",\"options\":\"\"}}",
    "{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"ii\"}}",
    "{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"g\"}}",
    "{\"$symbol\":1}",
    "{\"$code\":1}",
    "{\"$code\":\"f\",\"$scope\":1}",
    "{\"$code\":\"f\",\"x\":{}}",
    "{\"$dbPointer\":{\"$ref\":\"c\",\"$id\":1}}",
    "{\"$dbPointer\":1}",
    "{\"$undefined\":false}",
    "{\"$undefined\":1}",
    "{\"$minKey\":2}",
    "{\"$maxKey\":true}",
    "{\"$maxKey\":1,\"x\":1}"};

static void test_read_refuses_malformed_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < TW_COUNT(malformed_forms); i++) {
        char text[160];
        size_t len = tw_format(text, sizeof text, "{\"v\":%s}", malformed_forms[i]);
        assert_refused((tw_str){text, len}, TW_E_BAD_MESSAGE);
    }
}

/* ---- bounds ---- */

static void test_read_and_write_bound_the_depth(void **state)
{
    (void)state;
    char text[2048];
    tw_arena arena;
    tw_arena_init(&arena, OUT_MAX);
    tw_bson doc;
    tw_str why;
    assert_int_equal(tw_json_read(&arena, nested(text, 32), 32, &doc, NULL), TW_OK);
    assert_int_equal(tw_json_read(&arena, nested(text, 33), 32, &doc, &why), TW_E_DEPTH);
    assert_non_null(memmem(why.ptr, why.len, "deeply", 6));
    assert_int_equal(tw_json_read(&arena, nested(text, 101), 100, &doc, NULL), TW_E_DEPTH);
    assert_int_equal(tw_json_read(&arena, nested(text, 100), 100, &doc, NULL), TW_OK);
    tw_bson checked;
    assert_int_equal(tw_bson_validate(doc.ptr, doc.len, 100, &checked), TW_OK);
    assert_int_equal(tw_bson_validate(doc.ptr, doc.len, 99, &checked), TW_E_DEPTH);
    tw_buf out;
    tw_buf_init(&out, OUT_MAX);
    assert_true(tw_str_equal(write_doc(&out, doc), nested(text, 100)));
    tw_buf deeper;
    tw_bson_builder b;
    tw_buf_init(&deeper, OUT_MAX);
    tw_bson_begin(&b, &deeper);
    tw_bson_add_doc(&b, TW_STR("a"), doc);
    tw_buf_clear(&out);
    tw_buf_add_byte(&out, 'x');
    tw_json_write(&out, tw_bson_end(&b));
    assert_int_equal(out.err, TW_E_DEPTH);
    assert_int_equal(out.len, 1); /* what was there stays */
    tw_buf_fini(&deeper);
    tw_buf_fini(&out);
    tw_arena_fini(&arena);
}

static void test_read_forms_cost_no_level(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "{\"a\":{\"$date\":{\"$numberLong\":\"-1\"}}}",
        "{\"a\":{\"$binary\":{\"base64\":\"QUI=\",\"subType\":\"00\"}}}",
        "{\"\":{\"$dbPointer\":{\"$ref\":\"\",\"$id\":{\"$oid\":\"5f0000000000000000000abc\"}}}}"};
    tw_arena arena;
    tw_arena_init(&arena, OUT_MAX);
    tw_bson doc;
    for (size_t i = 0; i < TW_COUNT(forms); i++) {
        assert_int_equal(tw_json_read(&arena, tw_str_of(forms[i]), 1, &doc, NULL), TW_OK);
    }
    tw_str scoped = TW_STR("{\"a\":{\"$code\":\"f\",\"$scope\":{}}}");
    assert_int_equal(tw_json_read(&arena, scoped, 1, &doc, NULL), TW_E_DEPTH);
    assert_int_equal(tw_json_read(&arena, scoped, 2, &doc, NULL), TW_OK);
    tw_arena_fini(&arena);
}

static void test_read_endless_nesting_is_refused(void **state)
{
    (void)state;
    static const char *const starts[] = {"{\"a\":", "{\"$date\":", "{\"$code\":\"f\",\"$scope\":"};
    for (size_t i = 0; i < TW_COUNT(starts); i++) {
        tw_buf text;
        tw_buf_init(&text, OUT_MAX);
        for (int k = 0; k < 10000; k++) {
            tw_buf_add_str(&text, tw_str_of(starts[i]));
        }
        assert_refused(tw_buf_str(&text), i == 0 ? TW_E_DEPTH : TW_E_BAD_MESSAGE);
        tw_buf_fini(&text);
    }
}

static void test_read_every_failed_allocation_is_no_memory(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\":{\"$oid\":\"5f0000000000000000000abc\"},\"b\":[1,2,3,4,5,6,7,8],"
        "\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1,\"k\":1,"
        "\"l\":1,\"m\":0.1000000000000000000000000000000000000000000000000000000"
        "000000000000000000}";
    int failed = 0;
    for (uint64_t nth = 1; nth < 20; nth++) {
        tw_arena arena;
        tw_arena_init(&arena, OUT_MAX);
        tw_bson doc = {0};
        tw_alloc_fail_at(nth);
        tw_err err = tw_json_read(&arena, TW_STR(text), TW_DEPTH_MAX, &doc, NULL);
        tw_alloc_fail_at(0);
        assert_true(err == TW_OK || err == TW_E_NO_MEMORY);
        assert_true((err == TW_OK) == (doc.ptr != NULL));
        failed += err != TW_OK;
        tw_arena_fini(&arena);
    }
    assert_true(failed >= 4);
}

/* Every bound from 0 up: too big, untouched, until it fits exactly. */
static void test_write_respects_every_bound(void **state)
{
    (void)state;
    random_doc random = {.state = 31, .depth_max = 3, .fields_max = 5};
    tw_buf bytes, whole;
    tw_buf_init(&bytes, OUT_MAX);
    tw_buf_init(&whole, OUT_MAX);
    for (int i = 0; i < 40; i++) {
        tw_buf_clear(&bytes);
        tw_bson doc = random_doc_make(&random, &bytes);
        tw_str wanted = write_doc(&whole, doc);
        size_t from = wanted.len > 200 ? wanted.len - 200 : 0;
        for (size_t max = from + 1; max <= wanted.len + 1; max++) {
            tw_buf out;
            tw_buf_init(&out, max);
            tw_buf_add_byte(&out, '#');
            tw_json_write(&out, doc);
            assert_true(out.cap <= max);
            assert_int_equal(out.err, max == wanted.len + 1 ? TW_OK : TW_E_TOO_BIG);
            assert_int_equal(out.len, max == wanted.len + 1 ? max : 1);
            assert_int_equal(out.ptr[0], '#');
            tw_buf_fini(&out);
        }
    }
    tw_buf_fini(&bytes);
    tw_buf_fini(&whole);
}

static void test_write_failed_allocation_leaves_the_buffer(void **state)
{
    (void)state;
    tw_buf bytes;
    tw_buf_init(&bytes, OUT_MAX);
    tw_bson_builder b;
    tw_bson_begin(&b, &bytes);
    char text[3000];
    memset(text, 'x', sizeof text);
    tw_bson_add_str(&b, TW_STR("a"), (tw_str){text, sizeof text});
    tw_bson doc = tw_bson_end(&b);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        tw_buf out;
        tw_buf_init(&out, OUT_MAX);
        tw_alloc_fail_at(nth);
        tw_json_write(&out, doc);
        tw_alloc_fail_at(0);
        assert_int_equal(out.err, TW_E_NO_MEMORY);
        assert_int_equal(out.len, 0);
        tw_buf_fini(&out);
    }
    tw_buf_fini(&bytes);
}

/* ---- the smaller writers ---- */

static void test_write_parts(void **state)
{
    (void)state;
    tw_arena arena;
    tw_arena_init(&arena, OUT_MAX);
    tw_buf out;
    tw_buf_init(&out, OUT_MAX);
    tw_bson doc;
    assert_int_equal(read_text(&arena, TW_STR("{\"a\":1,\"b\":[2.5]}"), &doc), TW_OK);
    tw_json_write_fields(&out, doc);
    tw_buf_add_byte(&out, '|');
    tw_json_write_fields(&out, (tw_bson){0});
    tw_json_write_value(&out, tw_bson_get(doc, TW_STR("b")));
    tw_json_write_value(&out, (tw_bson_value){0});
    tw_key key;
    assert_int_equal(tw_key_of_value(&arena, tw_bson_get(doc, TW_STR("a")), &key), TW_OK);
    tw_json_write_key(&out, key);
    const tw_position at[] = {{0, 14}, {1, 99}};
    tw_json_write_vector(&out, (tw_vector){at, TW_COUNT(at)});
    tw_json_write_vector(&out, (tw_vector){0});
    tw_json_write(&out, (tw_bson){0});
    tw_buf_add_byte(&out, '\0');
    assert_int_equal(out.err, TW_OK);
    assert_string_equal(out.ptr, "\"a\":1,\"b\":[2.5]|[2.5]null1[[0,14],[1,99]][]{}");
    tw_buf_fini(&out);
    tw_arena_fini(&arena);
}

static void test_write_without_leaves_out_a_name_at_the_top_alone(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"{\"_content\":1}", "{}"},
        {"{\"_content\":{\"x\":1},\"a\":2}", "{\"a\":2}"},
        {"{\"a\":[1,\"b\"],\"_content\":\"long\"}", "{\"a\":[1,\"b\"]}"},
        {"{\"a\":1,\"_content\":null,\"b\":true}", "{\"a\":1,\"b\":true}"},
        {"{\"_conten\":1,\"_contents\":2,\"_\":3,\"\":4}",
         "{\"_conten\":1,\"_contents\":2,\"_\":3,\"\":4}"},
        {"{\"a\":{\"_content\":1}}", "{\"a\":{\"_content\":1}}"},
        {"{}", "{}"},
    };
    tw_arena arena;
    tw_arena_init(&arena, OUT_MAX);
    tw_buf out;
    tw_buf_init(&out, OUT_MAX);
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        tw_bson doc;
        tw_buf_clear(&out);
        assert_int_equal(read_text(&arena, tw_str_of(cases[i].in), &doc), TW_OK);
        tw_json_write_without(&out, doc, TW_STR("_content"));
        tw_buf_add_byte(&out, '\0');
        assert_int_equal(out.err, TW_OK);
        assert_string_equal(out.ptr, cases[i].out);
    }
    tw_buf_fini(&out);
    tw_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_generated_documents_as_libbson),
        cmocka_unit_test(test_read_generated_documents_gives_them_back),
        cmocka_unit_test(test_double_is_shortest_and_reads_back),
        cmocka_unit_test(test_double_has_known_spellings),
        cmocka_unit_test(test_double_of_hundredths_is_as_it_is_written),
        cmocka_unit_test(test_read_numbers_by_rule),
        cmocka_unit_test(test_read_long_number_is_exact),
        cmocka_unit_test(test_read_refuses_what_is_no_json_object),
        cmocka_unit_test(test_read_takes_white_space_around),
        cmocka_unit_test(test_read_refuses_names_that_stand_twice),
        cmocka_unit_test(test_read_strings_by_rule),
        cmocka_unit_test(test_blocks_are_plain_up_to_the_first_byte_that_is_not),
        cmocka_unit_test(test_write_texts_of_each_length_with_each_byte),
        cmocka_unit_test(test_write_names_near_the_end_of_memory),
        cmocka_unit_test(test_strings_of_all_lengths_pass_through),
        cmocka_unit_test(test_write_str_replaces_what_is_not_utf8),
        cmocka_unit_test(test_read_keeps_operators),
        cmocka_unit_test(test_read_forms_of_extended_json),
        cmocka_unit_test(test_read_refuses_malformed_forms),
        cmocka_unit_test(test_read_and_write_bound_the_depth),
        cmocka_unit_test(test_read_forms_cost_no_level),
        cmocka_unit_test(test_read_endless_nesting_is_refused),
        cmocka_unit_test(test_read_every_failed_allocation_is_no_memory),
        cmocka_unit_test(test_write_respects_every_bound),
        cmocka_unit_test(test_write_failed_allocation_leaves_the_buffer),
        cmocka_unit_test(test_write_parts),
        cmocka_unit_test(test_write_without_leaves_out_a_name_at_the_top_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
