/* load_histogram.h - times in ns, counted in log-linear buckets under 1 % wide; 0 ns to 2^40 ns.
 *
 * Zeroed memory is an empty histogram. Thread: one at a time. */
#pragma once

#include <stdint.h>

enum {
    LOAD_HISTOGRAM_BITS = 7, /* buckets of one octave: 2^7, so each is 1/128 wide */
    LOAD_HISTOGRAM_OCTAVES = 34,
    LOAD_HISTOGRAM_BUCKETS = (LOAD_HISTOGRAM_OCTAVES + 1) << LOAD_HISTOGRAM_BITS,
};

typedef struct load_histogram {
    uint64_t count;
    uint64_t max_ns;
    uint64_t buckets[LOAD_HISTOGRAM_BUCKETS];
} load_histogram;

static inline void load_histogram_add(load_histogram *self, uint64_t ns)
{
    unsigned high = 63U - (unsigned)__builtin_clzll(ns | 1);
    unsigned shift = high > LOAD_HISTOGRAM_BITS ? high - LOAD_HISTOGRAM_BITS : 0;
    uint64_t bucket = ((uint64_t)shift << LOAD_HISTOGRAM_BITS) + (ns >> shift);
    if (bucket >= LOAD_HISTOGRAM_BUCKETS) {
        bucket = LOAD_HISTOGRAM_BUCKETS - 1;
    }
    self->buckets[bucket]++;
    self->count++;
    self->max_ns = ns > self->max_ns ? ns : self->max_ns;
}

/* The time that `share` (0 to 1) of all counted were within, in ms; 0 where nothing was counted. */
double load_histogram_ms(const load_histogram *self, double share);
