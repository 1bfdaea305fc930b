/* progress.c - see progress.h. Draws on stderr, so that a pipe of stdout stays clean. */
#include "cli/progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { DRAW_MS = 100, BAR = 24 };

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void progress_begin(progress *self, const char *what, const char *unit, uint64_t total)
{
    *self = (progress){.what = what, .unit = unit, .total = total, .began_ms = clock_ms()};
    self->terminal = isatty(STDERR_FILENO) == 1;
}

uint64_t progress_elapsed_ms(const progress *self)
{
    return clock_ms() - self->began_ms;
}

void progress_show(progress *self, uint64_t done, uint64_t at)
{
    uint64_t now = clock_ms();
    if (!self->terminal || now < self->shown_ms + DRAW_MS) {
        return;
    }
    self->shown_ms = now;
    uint64_t elapsed = now - self->began_ms + 1;
    unsigned long long rate = done * 1000 / elapsed;
    if (self->total == 0) {
        fprintf(stderr, "\r\033[K%s %llu %s, %llu/s", self->what, (unsigned long long)done,
                self->unit, rate);
        return;
    }
    at = at > self->total ? self->total : at;
    unsigned filled = (unsigned)(at * BAR / self->total);
    uint64_t left_s = at == 0 ? 0 : elapsed * (self->total - at) / at / 1000;
    fprintf(stderr, "\r\033[K%s [", self->what);
    for (unsigned i = 0; i < BAR; i++) {
        fputc(i < filled ? '#' : '.', stderr);
    }
    fprintf(stderr, "] %3u %%  %llu %s, %llu/s, %llu s left", (unsigned)(at * 100 / self->total),
            (unsigned long long)done, self->unit, rate, (unsigned long long)left_s);
}

void progress_end(progress *self)
{
    if (self->terminal) {
        fprintf(stderr, "\r\033[K");
    }
}
