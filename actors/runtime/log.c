/* log.c - one line, one write: lines of several threads never mix. */
#include "actors/runtime/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "protocol/limits.h"

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

void tw_log(tw_log_level level, const char *who, const char *format, ...)
{
    TW_ASSERT((size_t)level < TW_COUNT(level_names));
    TW_ASSERT(who != NULL);
    if ((int)level > atomic_load_explicit(&level_shown, memory_order_relaxed)) {
        return;
    }
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char line[TW_LOG_LINE_MAX];
    size_t len = tw_format(line, sizeof line,
                           "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %s: ", utc.tm_year + 1900,
                           utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                           now.tv_nsec / 1000000, level_names[level], who);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + len, sizeof line - len, format, args);
    va_end(args);
    size_t room = sizeof line - len - 1;
    len += more < 0 ? 0 : (size_t)more < room ? (size_t)more : room;
    line_clean(line, len);
    line[len] = '\n'; /* in place of the final NUL */
    ssize_t written = write(STDERR_FILENO, line, len + 1);
    (void)written; /* a log that cannot be written has nowhere to say so */
}
