/* test_arena.h - one arena for a program of tests: made before the first, freed behind the last by
 * cmocka_run_group_tests(tests, arena_set_up, arena_tear_down). */
#pragma once

#include "protocol/arena.h"

extern tw_arena arena;

int arena_set_up(void **state);
int arena_tear_down(void **state);
