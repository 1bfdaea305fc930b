/* publication_test.c - what a follower makes of the numbers it sees. */
#include "actors/runtime/publication.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_head_write_then_read_is_the_same(void **unused)
{
    (void)unused;
    char bytes[PUBLICATION_HEAD_BYTES + 2] = {0};
    publication_head head = {.life = 0xfedcba9876543210, .number = 258};
    publication_head_write(head, bytes);
    bytes[PUBLICATION_HEAD_BYTES] = 'x';
    publication_head read;
    tw_str message;
    assert_int_equal(publication_head_read((tw_str){bytes, sizeof bytes - 1}, &read, &message),
                     TW_OK);
    assert_true(read.life == head.life && read.number == head.number);
    assert_true(tw_str_equal(message, TW_STR("x")));
    assert_int_equal((unsigned char)bytes[0], 0xfe); /* big-endian */
}

static void test_head_cut_or_without_life_is_refused(void **unused)
{
    (void)unused;
    char bytes[PUBLICATION_HEAD_BYTES] = {0};
    publication_head read;
    tw_str message;
    for (size_t len = 0; len <= sizeof bytes; len++) { /* whole, it has life 0 */
        assert_int_equal(publication_head_read((tw_str){bytes, len}, &read, &message),
                         TW_E_BAD_MESSAGE);
    }
}

/* Each row is what comes next, and what is to be made of it. */
static void test_reader_judges_each_order_of_arrival(void **unused)
{
    (void)unused;
    static const struct {
        publication_head head;
        bool is_beat;
        publication_verdict verdict;
        uint64_t lost;
    } rows[] = {
        {{7, 5}, false, PUBLICATION_GAP, 0}, /* the first ever */
        {{7, 6}, false, PUBLICATION_NEXT, 0},
        {{7, 6}, false, PUBLICATION_REPEATED, 0},
        {{7, 4}, false, PUBLICATION_REPEATED, 0},
        {{7, 6}, true, PUBLICATION_NEXT, 0},
        {{7, 9}, false, PUBLICATION_GAP, 2},
        {{7, 10}, true, PUBLICATION_GAP, 1},
        {{7, 11}, false, PUBLICATION_NEXT, 0},
        {{8, 1}, false, PUBLICATION_GAP, 1},
        {{8, 2}, false, PUBLICATION_NEXT, 0},
        {{9, 0}, true, PUBLICATION_GAP, 1},
        {{9, 1}, false, PUBLICATION_NEXT, 0},
        {{9, UINT64_MAX}, false, PUBLICATION_GAP, UINT64_MAX - 2},
    };
    publication_reader reader = {0};
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        uint64_t lost;
        assert_int_equal(publication_reader_take(&reader, rows[i].head, rows[i].is_beat, &lost),
                         rows[i].verdict);
        assert_true(lost == rows[i].lost);
    }
}

static void test_beat_is_due_after_silence_and_for_who_has_come(void **unused)
{
    (void)unused;
    publication_beat beat = {.due_ms = 500};
    assert_false(publication_beat_is_due(&beat, 0, 499));
    assert_true(publication_beat_is_due(&beat, 0, 500));
    beat.due_ms = 1000;
    assert_true(publication_beat_is_due(&beat, 1, 501)); /* somebody came */
    assert_false(publication_beat_is_due(&beat, 1, 502));
    assert_true(publication_beat_is_due(&beat, 3, 503));
    assert_false(publication_beat_is_due(&beat, 3, 504));
    beat = (publication_beat){.due_ms = UINT64_MAX}; /* of one that does not publish */
    assert_false(publication_beat_is_due(&beat, 1, 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_write_then_read_is_the_same),
        cmocka_unit_test(test_head_cut_or_without_life_is_refused),
        cmocka_unit_test(test_reader_judges_each_order_of_arrival),
        cmocka_unit_test(test_beat_is_due_after_silence_and_for_who_has_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
