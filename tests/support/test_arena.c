/* test_arena.c - one arena for a program of tests. */
#include "tests/support/test_arena.h"

enum { MEMORY_MAX = 256 << 20 };

tw_arena arena;

int arena_set_up(void **state)
{
    (void)state;
    tw_arena_init(&arena, MEMORY_MAX);
    return 0;
}

int arena_tear_down(void **state)
{
    (void)state;
    tw_arena_fini(&arena);
    return 0;
}
