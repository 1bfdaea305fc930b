/* log_opids_test.c - the table against a plain list; groups cut at each byte. */
#include "actors/log/log_opids.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { IDS = 5000, STEPS = 40000 };

static uint64_t drawn = 88172645463325252ULL;

static uint64_t draw(void)
{
    drawn ^= drawn << 13;
    drawn ^= drawn >> 7;
    drawn ^= drawn << 17;
    return drawn;
}

/* True when the table names this group for this hash. */
static bool names(const log_opids *opids, uint32_t hash, uint64_t newest, uint64_t wanted)
{
    size_t at = 0;
    uint64_t group;
    while (log_opids_next(opids, hash, newest, &at, &group)) {
        if (group == wanted) {
            return true;
        }
    }
    return false;
}

static void test_table_knows_what_was_added_and_not_removed(void **state)
{
    (void)state;
    static bool is_in[IDS];
    static uint32_t hashes[IDS];
    log_opids opids;
    assert_int_equal(log_opids_init(&opids, 7), TW_OK);
    for (size_t i = 0; i < IDS; i++) {
        hashes[i] = (uint32_t)(draw() % 600) + 1; /* chains that run into each other */
    }
    size_t count = 0;
    for (size_t step = 0; step < STEPS; step++) {
        size_t i = draw() % IDS;
        if (is_in[i]) {
            log_opids_remove(&opids, hashes[i], i + 1);
        } else {
            assert_int_equal(log_opids_reserve(&opids, 1), TW_OK);
            log_opids_add(&opids, hashes[i], i + 1);
        }
        is_in[i] = !is_in[i];
        count += is_in[i] ? 1u : (size_t)-1;
        assert_int_equal(opids.count, count);
        size_t other = draw() % IDS;
        assert_int_equal(names(&opids, hashes[other], IDS, other + 1), is_in[other]);
    }
    for (size_t i = 0; i < IDS; i++) {
        assert_int_equal(names(&opids, hashes[i], IDS, i + 1), is_in[i]);
    }
    log_opids_fini(&opids);
}

static void test_group_beyond_32_bits_is_given_whole(void **state)
{
    (void)state;
    log_opids opids;
    assert_int_equal(log_opids_init(&opids, 7), TW_OK);
    uint64_t newest = (5ULL << 32) + 10;
    log_opids_add(&opids, 3, newest);
    log_opids_add(&opids, 4, newest - 100); /* before the lower half began anew */
    assert_true(names(&opids, 3, newest, newest));
    assert_true(names(&opids, 4, newest, newest - 100));
    log_opids_fini(&opids);
}

static void test_no_memory_to_grow_leaves_the_table(void **state)
{
    (void)state;
    log_opids opids;
    assert_int_equal(log_opids_init(&opids, 7), TW_OK);
    log_opids_add(&opids, 9, 1);
    tw_alloc_fail_at(1);
    assert_int_equal(log_opids_reserve(&opids, IDS), TW_E_NO_MEMORY);
    tw_alloc_fail_at(0);
    assert_true(names(&opids, 9, 1, 1));
    log_opids_fini(&opids);
}

static void test_group_gives_back_its_ids_and_no_more_when_it_is_cut(void **state)
{
    (void)state;
    static const uint8_t key[] = {8, 1, 2, 3};
    const log_opid in[] = {
        {.id = TW_STR("a"), .key = {key, 4}, .version = 1, .seqno = 2, .count = 3},
        {.id = TW_STR("another one"), .version = INT64_MAX, .seqno = TW_SEQNO_MAX, .count = 1},
        {.id = TW_STR("c"), .key = {key, 2}, .version = 0, .seqno = 0, .count = 0},
    };
    tw_buf group;
    tw_buf_init(&group, 4096);
    size_t ends[3];
    for (size_t i = 0; i < TW_COUNT(in); i++) {
        log_opids_pack(&group, &in[i]);
        ends[i] = group.len;
    }
    for (size_t len = 0; len <= group.len; len++) {
        size_t at = 0;
        size_t count = 0;
        log_opid out;
        tw_err err;
        while ((err = log_opids_unpack((tw_str){group.ptr, len}, &at, &out)) == TW_OK) {
            assert_true(tw_str_equal(out.id, in[count].id));
            assert_true(tw_key_equal(out.key, in[count].key));
            assert_int_equal(out.version, in[count].version);
            assert_int_equal(out.seqno, in[count].seqno);
            assert_int_equal(out.count, in[count].count);
            assert_int_equal(at, ends[count]);
            count++;
        }
        bool is_whole = len == 0 || len == ends[0] || len == ends[1] || len == ends[2];
        assert_int_equal(err, is_whole ? TW_E_END : TW_E_CORRUPT);
    }
    tw_buf_fini(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_knows_what_was_added_and_not_removed),
        cmocka_unit_test(test_group_beyond_32_bits_is_given_whole),
        cmocka_unit_test(test_no_memory_to_grow_leaves_the_table),
        cmocka_unit_test(test_group_gives_back_its_ids_and_no_more_when_it_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
