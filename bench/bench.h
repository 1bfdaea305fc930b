/* bench.h - what the programs of bench/ share: a clock, and an end with one line where something
 * did not work. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Monotonic. */
static inline double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Ends the program with 2 where something did not work, as nothing is measured then. what:
 * "opening the log". */
static inline void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s: %s failed\n", program_invocation_short_name, what);
        exit(2);
    }
}
