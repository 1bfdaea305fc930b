/* progress.h - a bar for long work: rate and time left on a terminal, nothing elsewhere. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct progress {
    const char *what; /* "importing" */
    const char *unit; /* "records" */
    uint64_t total;   /* of `at`; 0: unknown */
    uint64_t began_ms, shown_ms;
    bool terminal;
} progress;

void progress_begin(progress *progress, const char *what, const char *unit, uint64_t total);
/* done: what is counted for the rate; at: where in total (bytes read, say). Draws at most ten times
 * a second. */
void progress_show(progress *progress, uint64_t done, uint64_t at);
/* Clears the bar. */
void progress_end(progress *progress);
uint64_t progress_elapsed_ms(const progress *progress);
