/* bson_validate_test.c - bytes from outside: damage of each kind, depth bombs, libbson asked. */
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
        cmocka_unit_test(test_validate_damage_is_refused),
        cmocka_unit_test(test_validate_depth_and_size_have_limits),
        cmocka_unit_test(test_validate_a_depth_bomb_does_not_recurse),
        cmocka_unit_test(test_validate_random_damage_is_never_accepted_alone),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
