/* position_test.c - since as clients write it, vectors, and MongoDB's cluster time. */
#include "broker/position.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/messages.h"

enum { BYTES_MAX = 1 << 20 };

/* ---- since: a list of pairs is built as the array of the field "since" ---- */

struct fixture {
    tw_arena arena;
    tw_buf buf;
    tw_bson_builder builder;
};

static int set_up(void **state)
{
    struct fixture *fixture = tw_alloc_zero(1, sizeof *fixture);
    tw_arena_init(&fixture->arena, BYTES_MAX);
    tw_buf_init(&fixture->buf, BYTES_MAX);
    tw_bson_begin(&fixture->builder, &fixture->buf);
    tw_bson_open_array(&fixture->builder, TW_STR("since"));
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    tw_buf_fini(&fixture->buf);
    tw_arena_fini(&fixture->arena);
    tw_free(fixture);
    return 0;
}

static void add_pair(struct fixture *to, int64_t srv, int64_t seqno)
{
    tw_bson_open_array(&to->builder, TW_STR(""));
    tw_bson_add_i64(&to->builder, TW_STR(""), srv);
    tw_bson_add_i64(&to->builder, TW_STR(""), seqno);
    tw_bson_close(&to->builder);
}

static tw_err parse(struct fixture *from, tw_vector *out)
{
    tw_bson_close(&from->builder);
    tw_bson doc = tw_bson_end(&from->builder);
    const char *why = NULL;
    *out = (tw_vector){NULL, 77};
    tw_err err = position_vector_parse(&from->arena, tw_bson_get(doc, TW_STR("since")), out, &why);
    assert_true((err == TW_E_BAD_SINCE) == (why != NULL));
    assert_true(err == TW_OK || out->count == 77); /* untouched */
    return err;
}

static void test_position_parse_sorts_the_pairs(void **state)
{
    tw_vector vector;
    add_pair(*state, 9, 1);
    add_pair(*state, 0, 0);
    add_pair(*state, (int64_t)TW_SEQNO_MAX, (int64_t)TW_SEQNO_MAX);
    add_pair(*state, 5, 7);
    assert_int_equal(parse(*state, &vector), TW_OK);
    static const tw_position expected[] = {{0, 0}, {5, 7}, {9, 1}, {TW_SEQNO_MAX, TW_SEQNO_MAX}};
    assert_int_equal(vector.count, 4);
    assert_memory_equal(vector.at, expected, sizeof expected);
}

static void test_position_parse_empty_array_is_an_empty_vector(void **state)
{
    tw_vector vector;
    assert_int_equal(parse(*state, &vector), TW_OK);
    assert_int_equal(vector.count, 0);
}

static void test_position_parse_whole_doubles_count_as_numbers(void **state)
{
    struct fixture *fixture = *state;
    tw_vector vector;
    tw_bson_open_array(&fixture->builder, TW_STR(""));
    tw_bson_add_double(&fixture->builder, TW_STR(""), 3.0);
    tw_bson_add_double(&fixture->builder, TW_STR(""), 9007199254740991.0);
    tw_bson_close(&fixture->builder);
    assert_int_equal(parse(fixture, &vector), TW_OK);
    assert_int_equal(position_vector_get(vector, 3), TW_SEQNO_MAX);
}

static void test_position_parse_negative_is_refused(void **state)
{
    tw_vector vector;
    add_pair(*state, 1, -1);
    assert_int_equal(parse(*state, &vector), TW_E_BAD_SINCE);
}

static void test_position_parse_2_to_53_is_refused(void **state)
{
    tw_vector vector;
    add_pair(*state, (int64_t)TW_SEQNO_MAX + 1, 1);
    assert_int_equal(parse(*state, &vector), TW_E_BAD_SINCE);
}

static void test_position_parse_origin_twice_is_refused(void **state)
{
    tw_vector vector;
    add_pair(*state, 1, 5);
    add_pair(*state, 2, 5);
    add_pair(*state, 1, 6);
    assert_int_equal(parse(*state, &vector), TW_E_BAD_SINCE);
}

static void test_position_parse_most_origins_are_read(void **state)
{
    tw_vector vector;
    for (int i = TW_ORIGINS_MAX; i > 0; i--) {
        add_pair(*state, i, i);
    }
    assert_int_equal(parse(*state, &vector), TW_OK);
    assert_int_equal(vector.count, TW_ORIGINS_MAX);
    assert_int_equal(position_vector_get(vector, TW_ORIGINS_MAX), TW_ORIGINS_MAX);
}

static void test_position_parse_one_origin_too_many_is_refused(void **state)
{
    tw_vector vector;
    for (int i = 0; i <= TW_ORIGINS_MAX; i++) {
        add_pair(*state, i, i);
    }
    assert_int_equal(parse(*state, &vector), TW_E_BAD_SINCE);
}

static void test_position_parse_half_a_number_is_refused(void **state)
{
    struct fixture *fixture = *state;
    tw_vector vector;
    tw_bson_open_array(&fixture->builder, TW_STR(""));
    tw_bson_add_i64(&fixture->builder, TW_STR(""), 1);
    tw_bson_add_double(&fixture->builder, TW_STR(""), 1.5);
    tw_bson_close(&fixture->builder);
    assert_int_equal(parse(fixture, &vector), TW_E_BAD_SINCE);
}

static void test_position_parse_text_in_a_pair_is_refused(void **state)
{
    struct fixture *fixture = *state;
    tw_vector vector;
    tw_bson_open_array(&fixture->builder, TW_STR(""));
    tw_bson_add_i64(&fixture->builder, TW_STR(""), 1);
    tw_bson_add_str(&fixture->builder, TW_STR(""), TW_STR("1"));
    tw_bson_close(&fixture->builder);
    assert_int_equal(parse(fixture, &vector), TW_E_BAD_SINCE);
}

static void test_position_parse_three_numbers_are_refused(void **state)
{
    struct fixture *fixture = *state;
    tw_vector vector;
    tw_bson_open_array(&fixture->builder, TW_STR(""));
    for (int i = 0; i < 3; i++) {
        tw_bson_add_i64(&fixture->builder, TW_STR(""), i);
    }
    tw_bson_close(&fixture->builder);
    assert_int_equal(parse(fixture, &vector), TW_E_BAD_SINCE);
}

static void test_position_parse_one_number_is_refused(void **state)
{
    struct fixture *fixture = *state;
    tw_vector vector;
    tw_bson_open_array(&fixture->builder, TW_STR(""));
    tw_bson_add_i64(&fixture->builder, TW_STR(""), 1);
    tw_bson_close(&fixture->builder);
    assert_int_equal(parse(fixture, &vector), TW_E_BAD_SINCE);
}

static void test_position_parse_flat_numbers_are_refused(void **state)
{
    struct fixture *fixture = *state;
    tw_vector vector;
    tw_bson_add_i64(&fixture->builder, TW_STR(""), 1);
    tw_bson_add_i64(&fixture->builder, TW_STR(""), 2);
    assert_int_equal(parse(fixture, &vector), TW_E_BAD_SINCE);
}

static void test_position_parse_no_array_is_refused(void **state)
{
    struct fixture *fixture = *state;
    tw_vector vector;
    const char *why = NULL;
    static const uint8_t empty[] = {5, 0, 0, 0, 0};
    static const tw_bson_value values[] = {
        {0, NULL, 0}, {TW_BSON_NULL, NULL, 0}, {TW_BSON_DOCUMENT, empty, sizeof empty}};
    for (size_t i = 0; i < TW_COUNT(values); i++) {
        assert_int_equal(position_vector_parse(&fixture->arena, values[i], &vector, &why),
                         TW_E_BAD_SINCE);
        assert_non_null(why);
    }
}

static void test_position_parse_without_memory_says_so(void **state)
{
    tw_vector vector;
    add_pair(*state, 1, 2);
    tw_alloc_fail_at(1); /* the builder has its memory; the arena has none yet */
    assert_int_equal(parse(*state, &vector), TW_E_NO_MEMORY);
}

/* ---- vectors ---- */

static void test_position_get_and_covers_absent_origin_is_0(void **state)
{
    (void)state;
    static const tw_position at[] = {{2, 10}, {4, 20}};
    tw_vector vector = {at, 2};
    assert_int_equal(position_vector_get(vector, 2), 10);
    assert_int_equal(position_vector_get(vector, 4), 20);
    assert_int_equal(position_vector_get(vector, 1), 0);
    assert_int_equal(position_vector_get(vector, 3), 0);
    assert_int_equal(position_vector_get(vector, 5), 0);
    assert_int_equal(position_vector_get((tw_vector){NULL, 0}, 2), 0);
    assert_true(position_vector_covers(vector, (tw_position){2, 10}));
    assert_true(position_vector_covers(vector, (tw_position){2, 9}));
    assert_false(position_vector_covers(vector, (tw_position){2, 11}));
    assert_true(position_vector_covers(vector, (tw_position){3, 0}));
    assert_false(position_vector_covers(vector, (tw_position){3, 1}));
}

static void test_position_merge_takes_the_higher_of_each(void **state)
{
    struct fixture *fixture = *state;
    static const tw_position a[] = {{1, 10}, {3, 30}};
    static const tw_position b[] = {{1, 9}, {2, 20}, {3, 31}};
    static const tw_position expected[] = {{1, 10}, {2, 20}, {3, 31}};
    tw_vector none = {NULL, 0};
    tw_vector out;
    tw_arena *arena = &fixture->arena;
    assert_int_equal(position_vector_merge(arena, (tw_vector){a, 2}, (tw_vector){b, 3}, &out),
                     TW_OK);
    assert_int_equal(out.count, 3);
    assert_memory_equal(out.at, expected, sizeof expected);
    assert_int_equal(position_vector_merge(arena, none, none, &out), TW_OK);
    assert_int_equal(out.count, 0);
    assert_int_equal(position_vector_merge(arena, none, (tw_vector){a, 2}, &out), TW_OK);
    assert_int_equal(out.count, 2);
    tw_arena empty;
    tw_arena_init(&empty, 0);
    assert_int_equal(position_vector_merge(&empty, none, (tw_vector){a, 2}, &out), TW_E_NO_MEMORY);
    assert_int_equal(out.count, 2);
}

static void test_position_set_raises_and_refuses_when_full(void **state)
{
    struct fixture *fixture = *state;
    position_set set = {.count = 0};
    for (uint64_t i = TW_ORIGINS_MAX; i > 0; i--) {
        assert_int_equal(position_set_raise(&set, (tw_position){2 * i, i}), TW_OK);
    }
    assert_int_equal(position_set_raise(&set, (tw_position){3, 1}), TW_E_TOO_MANY);
    assert_int_equal(position_set_raise(&set, (tw_position){4, 9}), TW_OK);
    assert_int_equal(position_set_raise(&set, (tw_position){4, 8}), TW_OK); /* never lowered */
    tw_vector view = position_set_view(&set);
    assert_int_equal(view.count, TW_ORIGINS_MAX);
    assert_int_equal(position_vector_get(view, 4), 9);
    for (size_t i = 1; i < view.count; i++) {
        assert_true(view.at[i - 1].srv < view.at[i].srv);
    }
    static const tw_position other[] = {{1, 1}};
    tw_vector out;
    assert_int_equal(position_vector_merge(&fixture->arena, view, (tw_vector){other, 1}, &out),
                     TW_E_TOO_MANY);
}

/* ---- cluster time ---- */

static void test_position_of_cluster_time_at_the_edges(void **state)
{
    (void)state;
    static const struct {
        uint32_t seconds;
        uint32_t increment;
        uint64_t seqno;
    } cases[] = {
        {0, 5, 0},
        {1577836799, UINT32_MAX, 0}, /* the last second before the epoch */
        {1577836800, 0, 0},
        {1577836800, 1, 1},
        {1577836800, 2097151, 2097151},
        {1577836800, 2097152, 2097151}, /* clamped, below the next second */
        {1577836800, UINT32_MAX, 2097151},
        {1577836801, 0, 2097152},
        {1700000000, 7, 122163200ull * 2097152 + 7},
        {UINT32_MAX, UINT32_MAX, 2717130495ull * 2097152 + 2097151},
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        uint64_t seqno = position_of_cluster_time(cases[i].seconds, cases[i].increment);
        assert_int_equal(seqno, cases[i].seqno);
        assert_true(seqno <= TW_SEQNO_MAX);
    }
}

#define POSITION_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POSITION_TEST(test_position_parse_sorts_the_pairs),
        POSITION_TEST(test_position_parse_empty_array_is_an_empty_vector),
        POSITION_TEST(test_position_parse_whole_doubles_count_as_numbers),
        POSITION_TEST(test_position_parse_negative_is_refused),
        POSITION_TEST(test_position_parse_2_to_53_is_refused),
        POSITION_TEST(test_position_parse_origin_twice_is_refused),
        POSITION_TEST(test_position_parse_most_origins_are_read),
        POSITION_TEST(test_position_parse_one_origin_too_many_is_refused),
        POSITION_TEST(test_position_parse_half_a_number_is_refused),
        POSITION_TEST(test_position_parse_text_in_a_pair_is_refused),
        POSITION_TEST(test_position_parse_three_numbers_are_refused),
        POSITION_TEST(test_position_parse_one_number_is_refused),
        POSITION_TEST(test_position_parse_flat_numbers_are_refused),
        POSITION_TEST(test_position_parse_no_array_is_refused),
        POSITION_TEST(test_position_parse_without_memory_says_so),
        cmocka_unit_test(test_position_get_and_covers_absent_origin_is_0),
        POSITION_TEST(test_position_merge_takes_the_higher_of_each),
        POSITION_TEST(test_position_set_raises_and_refuses_when_full),
        cmocka_unit_test(test_position_of_cluster_time_at_the_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
