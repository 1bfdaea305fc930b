/* tally_test.c - counts held against a plain list, through growth, removal and a full table. */
#include "gateways/web/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 64, STEPS = 200000 };

static void test_tally_as_a_plain_list(void **state)
{
    (void)state;
    tally it;
    uint32_t plain[KEYS] = {0};
    size_t alive = 0;
    uint64_t chance = 88172645463325252ULL;
    assert_int_equal(tally_init(&it, KEYS / 2, 7), TW_OK);
    for (int i = 0; i < STEPS; i++) {
        chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
        size_t which = (size_t)(chance >> 8) % KEYS;
        tally_key key = {{which + 1, which * which}};
        if ((chance & 1) != 0) {
            uint32_t count = tally_add(&it, key);
            bool full = plain[which] == 0 && alive == KEYS / 2;
            assert_int_equal(count, full ? 0 : plain[which] + 1);
            alive += count == 1 ? 1 : 0;
            plain[which] = full ? 0 : count;
        } else if (plain[which] > 0) {
            tally_drop(&it, key);
            alive -= --plain[which] == 0 ? 1 : 0;
        }
        assert_int_equal(it.keys, alive);
    }
    for (size_t which = 0; which < KEYS; which++) {
        assert_int_equal(tally_of(&it, (tally_key){{which + 1, which * which}}), plain[which]);
    }
    tally_fini(&it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tally_as_a_plain_list)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
