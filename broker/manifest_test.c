/* manifest_test.c - 10,000 random manifests against a model, ids in their spellings, ranges. */
#include "broker/manifest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protocol/limits.h"

#include "tests/support/bson_text.h"
#include "tests/support/test_arena.h"

enum { MANIFESTS = 10000, KEYS = 24 };

static uint64_t draws = 88172645463325252ULL;
static unsigned draw(unsigned below)
{
    draws ^= draws << 13;
    draws ^= draws >> 7;
    draws ^= draws << 17;
    return (unsigned)(draws >> 33) % below;
}

static tw_bson_value value_of(const char *json)
{
    return tw_bson_get(bson_text(&arena, tw_arena_format(&arena, "{'v':%s}", json)), TW_STR("v"));
}

static tw_key key_of(tw_bson_value value)
{
    tw_key key;
    assert_int_equal(tw_key_of_value(&arena, value, &key), TW_OK);
    return key;
}

/* A key of each kind. */
static tw_bson_value nth_key(unsigned i)
{
    switch (i % 4) {
    case 0:
        return value_of(tw_arena_format(&arena, "'k%u'", i));
    case 1:
        return value_of(tw_arena_format(&arena, "%u", i));
    case 2:
        return value_of(tw_arena_format(&arena, "{'$oid':'%024x'}", i));
    default:
        return value_of(tw_arena_format(&arena, "%u.5", i));
    }
}

/* One manifest: what the client has after the verdicts is what is stored; same says nothing. */
static void hold_one(void)
{
    int64_t stored[KEYS], held[KEYS], had[KEYS];
    manifest *have = NULL;
    tw_arena_reset(&arena);
    assert_int_equal(manifest_new(&have, TW_MANIFEST_BYTES_MAX), TW_OK);
    size_t count = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        stored[i] = draw(3) == 0 ? 0 : 1 + (int64_t)draw(4); /* 0: not there */
        held[i] = draw(3) == 0 ? 0 : 1 + (int64_t)draw(4);
        had[i] = held[i];
        if (held[i] > 0) {
            assert_int_equal(manifest_add(have, nth_key(i), false, held[i]), TW_OK);
            count++;
        }
    }
    assert_int_equal(manifest_count(have), count);
    for (unsigned i = 0; i < KEYS; i++) {
        if (stored[i] == 0) {
            continue;
        }
        manifest_verdict verdict = manifest_judge(have, key_of(nth_key(i)), stored[i]);
        assert_int_equal(verdict, had[i] == 0           ? MANIFEST_INSERT
                                  : had[i] == stored[i] ? MANIFEST_SAME
                                                        : MANIFEST_UPDATE);
        held[i] = verdict == MANIFEST_SAME ? held[i] : stored[i];
    }
    size_t at = 0;
    tw_bson_value id;
    while (manifest_next_missing(have, &at, &id)) {
        unsigned i = 0;
        while (i < KEYS && !tw_key_equal(key_of(nth_key(i)), key_of(id))) {
            i++;
        }
        assert_true(i < KEYS && held[i] > 0 && stored[i] == 0);
        held[i] = 0;
    }
    assert_memory_equal(held, stored, sizeof held);
    manifest_free(&have);
}

static void test_verdicts_of_random_manifests_make_the_stored_set(void **state)
{
    (void)state;
    for (int i = 0; i < MANIFESTS; i++) {
        hold_one();
    }
}

static manifest_verdict judge(manifest *have, const char *key, int64_t version)
{
    return manifest_judge(have, key_of(value_of(key)), version);
}

static void test_ids_in_any_spelling(void **state)
{
    (void)state;
    static const char hex[] = "'00112233445566778899aabb'";
    manifest *have = NULL;
    assert_int_equal(manifest_new(&have, TW_MANIFEST_BYTES_MAX), TW_OK);
    assert_int_equal(manifest_add(have, value_of(hex), true, 2), TW_OK);
    assert_int_equal(judge(have, "{'$oid':'00112233445566778899aabb'}", 2), MANIFEST_SAME);
    assert_int_equal(judge(have, hex, 2), MANIFEST_SAME);
    assert_int_equal(manifest_add(have, value_of(hex), true, 2), TW_E_CONFLICT);
    assert_int_equal(manifest_add(have, value_of("'7'"), true, 1), TW_OK);
    assert_int_equal(judge(have, "7", 1), MANIFEST_SAME);
    assert_int_equal(judge(have, "'7'", 1), MANIFEST_SAME);
    assert_int_equal(manifest_add(have, value_of("'007'"), true, 1), TW_OK);
    assert_int_equal(manifest_add(have, value_of("'8'"), false, 1), TW_OK); /* a text alone */
    assert_int_equal(judge(have, "8", 1), MANIFEST_INSERT);
    assert_int_equal(manifest_add(have, value_of("8"), false, 3), TW_OK);
    assert_int_equal(judge(have, "8", 3), MANIFEST_SAME);
    assert_int_equal(judge(have, "8.0", 3), MANIFEST_SAME);
    assert_int_equal(manifest_add(have, value_of("'x'"), false, -1), TW_OK); /* not known */
    assert_int_equal(judge(have, "'x'", 0), MANIFEST_UPDATE);
    assert_int_equal(manifest_add(have, value_of("[1]"), false, 1), TW_E_BAD_DOCUMENT);
    manifest_free(&have);
    manifest_free(&have); /* accepts NULL */
}

/* An id that is exactly a key wins it from another way to read an id, in either order. */
static void test_an_exact_id_wins(void **state)
{
    (void)state;
    static const char hex[] = "'00112233445566778899aabb'";
    static const char oid[] = "{'$oid':'00112233445566778899aabb'}";
    for (int order = 0; order < 2; order++) {
        manifest *have = NULL;
        assert_int_equal(manifest_new(&have, TW_MANIFEST_BYTES_MAX), TW_OK);
        assert_int_equal(manifest_add(have, value_of(order == 0 ? hex : oid), false, 1), TW_OK);
        assert_int_equal(manifest_add(have, value_of(order == 0 ? oid : hex), false, 2), TW_OK);
        assert_int_equal(judge(have, oid, order == 0 ? 2 : 1), MANIFEST_SAME);
        assert_int_equal(judge(have, hex, order == 0 ? 1 : 2), MANIFEST_SAME);
        manifest_free(&have);
    }
}

static void test_a_manifest_is_bounded(void **state)
{
    (void)state;
    manifest *have = NULL;
    tw_err err = TW_OK;
    unsigned count = 0;
    assert_int_equal(manifest_new(&have, 65536), TW_OK);
    for (; err == TW_OK && count < 10000; count++) {
        err = manifest_add(have, value_of(tw_arena_format(&arena, "%u", count)), false, 1);
    }
    assert_int_equal(err, TW_E_TOO_MANY);
    assert_true(manifest_bytes(have) <= 65536);
    assert_int_equal(judge(have, "0", 1), MANIFEST_SAME); /* what was taken stands */
    manifest_free(&have);
}

static void test_memory_that_fails_loses_nothing(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth < 40; nth++) {
        manifest *have = NULL;
        tw_arena_reset(&arena);
        tw_bson_value first = value_of("'a'");
        tw_alloc_fail_at(nth);
        tw_err err = manifest_new(&have, TW_MANIFEST_BYTES_MAX);
        for (unsigned i = 0; err == TW_OK && i < 600; i++) {
            uint8_t bytes[4] = {(uint8_t)i, (uint8_t)(i >> 8), 0, 0};
            err = manifest_add(have, (tw_bson_value){TW_BSON_INT32, bytes, 4}, false, 1);
        }
        tw_alloc_fail_at(0);
        assert_true(err == TW_OK || err == TW_E_NO_MEMORY);
        if (have != NULL) {
            assert_int_equal(manifest_add(have, first, false, 1), TW_OK);
        }
        manifest_free(&have);
    }
}

static void test_ranges_sum_whatever_the_width(void **state)
{
    (void)state;
    manifest_ranges *ranges = NULL;
    tw_mark all = {0, 0};
    assert_int_equal(manifest_bits_for(0, 0), 0);
    assert_int_equal(manifest_bits_for(1000000, 4), 16);
    assert_int_equal(manifest_bits_for(UINT64_MAX, 4), TW_MANIFEST_BITS_MAX);
    assert_int_equal(manifest_bits_for(3, 9), 9);
    assert_int_equal(manifest_ranges_new(&ranges, 6), TW_OK);
    for (unsigned i = 0; i < 500; i++) {
        tw_key key = key_of(nth_key(i));
        tw_mark mark = tw_sync_mark(key, i);
        manifest_ranges_add(ranges, key, i);
        all.high += mark.high;
        all.low += mark.low;
    }
    for (unsigned bits = 0; bits <= 6; bits++) {
        tw_mark sum = {0, 0};
        uint64_t count = 0;
        for (uint32_t r = 0; r < 1U << bits; r++) {
            uint64_t in = 0;
            tw_mark part = manifest_ranges_sum(ranges, bits, r, &in);
            sum.high += part.high;
            sum.low += part.low;
            count += in;
        }
        assert_true(sum.high == all.high && sum.low == all.low);
        assert_int_equal(count, 500);
    }
    manifest_ranges_want(ranges, 2, 3);
    assert_true(manifest_ranges_wants(ranges, 0xc0000000U));
    assert_true(manifest_ranges_wants(ranges, UINT32_MAX));
    assert_false(manifest_ranges_wants(ranges, 0xbfffffffU));
    manifest_ranges_free(&ranges);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts_of_random_manifests_make_the_stored_set),
        cmocka_unit_test(test_ids_in_any_spelling),
        cmocka_unit_test(test_an_exact_id_wins),
        cmocka_unit_test(test_a_manifest_is_bounded),
        cmocka_unit_test(test_memory_that_fails_loses_nothing),
        cmocka_unit_test(test_ranges_sum_whatever_the_width),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
