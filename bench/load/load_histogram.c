/* load_histogram.c - the quantiles of what was counted. */
#include "bench/load/load_histogram.h"

double load_histogram_ms(const load_histogram *self, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)self->count);
    uint64_t seen = 0;
    for (uint64_t i = 0; i < LOAD_HISTOGRAM_BUCKETS && self->count > 0; i++) {
        seen += self->buckets[i];
        if (seen > wanted || seen == self->count) {
            uint64_t shift = i >> LOAD_HISTOGRAM_BITS;
            shift = shift > 0 ? shift - 1 : 0;
            uint64_t low = (i - (shift << LOAD_HISTOGRAM_BITS)) << shift;
            uint64_t upper = low + (1ULL << shift) - 1;
            return (double)(upper < self->max_ns ? upper : self->max_ns) / 1e6;
        }
    }
    return 0;
}
