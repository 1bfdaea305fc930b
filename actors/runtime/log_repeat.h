/* log_repeat.h - lines that are said again and again: told once, then counted, then told seldom.
 *
 * The first is told. Equal ones are counted for TW_LOG_REPEAT_MIN_MS, then one is told with their
 * number; each time they are counted twice as long, up to TW_LOG_REPEAT_MAX_MS. One that was not
 * said for TW_LOG_REPEAT_NEW_MS is new again. Pure: time is data. Not for several threads. */
#pragma once

#include "protocol/base.h"
#include "protocol/limits.h"

typedef struct log_repeat {
    uint64_t hash; /* of what is equal; see log_repeat_hash */
    uint64_t told_ms, said_ms;
    uint64_t pause_ms;                /* after told_ms; 0: the place is free */
    uint64_t untold;                  /* how often it was said since told_ms */
    char line[TW_ERROR_TEXT_MAX + 1]; /* as it was said last, cut */
} log_repeat;

typedef struct log_repeats {
    log_repeat at[TW_LOG_REPEATS_MAX];
} log_repeats;

/* Equal for lines that differ in numbers alone: "12 rows refused" and "9 rows refused"; digits
 * within a name count. */
uint64_t log_repeat_hash(const char *line);
/* The line is said. True: it is to be told, and before it *times equal ones were not. When there is
 * no place, the line that was not said for longest is forgotten with its count. */
bool log_repeats_say(log_repeats *self, uint64_t now_ms, const char *line, uint64_t *times);
/* A line whose count is due although it is not said any more; its *times count as told. Valid until
 * the next call; NULL: there is none. */
const char *log_repeats_due(log_repeats *self, uint64_t now_ms, uint64_t *times);
