/* log.c - one line, one write: lines of several threads never mix. Warnings and errors that are
 * said again and again are told seldom (log_repeat.h). */
#include "actors/runtime/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "protocol/limits.h"

#include "actors/runtime/log_repeat.h"

enum { TIME_LEN = 25, MS_PER_S = 1000, NS_PER_MS = 1000000 };

/* One for the process, as its stderr is; lock is held for a look at TW_LOG_REPEATS_MAX lines. */
static struct {
    pthread_mutex_t lock;
    log_repeats repeats;
} told = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Mutable, as the operator may change it while the program runs; relaxed order suffices, since
 * nothing else is published with it. */
static atomic_int level_shown = TW_LOG_INFO;

static const char *const level_names[] = {
    [TW_LOG_ERROR] = "error",
    [TW_LOG_WARN] = "warn ",
    [TW_LOG_INFO] = "info ",
    [TW_LOG_DEBUG] = "debug",
};

void tw_log_set_level(tw_log_level level)
{
    TW_ASSERT((size_t)level < TW_COUNT(level_names));
    atomic_store_explicit(&level_shown, (int)level, memory_order_relaxed);
}

/* Control bytes would let an input forge lines or command the terminal: each becomes '?'. */
static void line_clean(char *line, size_t len)
{
    TW_ASSERT(line != NULL);
    TW_ASSERT(len < TW_LOG_LINE_MAX);
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)line[i];
        if (byte < 0x20 || byte == 0x7f) {
            line[i] = '?';
        }
    }
}

/* said: "warn  store: ..."; times: equal lines that were not told, 0: none. */
static void line_write(const char *said, uint64_t times)
{
    struct timespec now;
    struct tm utc;
    char line[TW_LOG_LINE_MAX];
    char more[64] = "";
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    if (times > 0) {
        tw_format(more, sizeof more, " (the same %llu times more)", (unsigned long long)times);
    }
    size_t len = tw_format(line, sizeof line, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ ",
                           utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                           utc.tm_sec, now.tv_nsec / NS_PER_MS);
    TW_ASSERT(len == TIME_LEN);
    len += tw_format(line + len, sizeof line - len - strlen(more), "%s", said);
    len += tw_format(line + len, sizeof line - len, "%s", more);
    line_clean(line, len);
    line[len] = '\n'; /* in place of the final NUL */
    ssize_t written = write(STDERR_FILENO, line, len + 1);
    (void)written; /* a log that cannot be written has nowhere to say so */
}

/* Whether a warning is told, and how often it was not before. A count that is due is told first. */
static bool warning_is_told(const char *said, uint64_t *times)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * MS_PER_S + (uint64_t)now.tv_nsec / NS_PER_MS;
    pthread_mutex_lock(&told.lock);
    bool is_told = log_repeats_say(&told.repeats, now_ms, said, times);
    uint64_t due_times;
    const char *due;
    while ((due = log_repeats_due(&told.repeats, now_ms, &due_times)) != NULL) {
        line_write(due, due_times);
    }
    pthread_mutex_unlock(&told.lock);
    return is_told;
}

void tw_log(tw_log_level level, const char *who, const char *format, ...)
{
    TW_ASSERT((size_t)level < TW_COUNT(level_names));
    TW_ASSERT(who != NULL);
    if ((int)level > atomic_load_explicit(&level_shown, memory_order_relaxed)) {
        return;
    }
    char said[TW_LOG_LINE_MAX];
    size_t len = tw_format(said, sizeof said, "%s %s: ", level_names[level], who);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(said + len, sizeof said - len, format, args);
    va_end(args);
    uint64_t times = 0;
    if (level > TW_LOG_WARN || warning_is_told(said, &times)) {
        line_write(said, times);
    }
}
