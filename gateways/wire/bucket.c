/* bucket.c - see bucket.h. */
#include "gateways/wire/bucket.h"

enum { PIECE = 1000 }; /* so that a rate per second is one per ms of these */

static void fill(bucket *self, bucket_rate rate, uint64_t now_ms)
{
    int64_t full = (int64_t)rate.burst * PIECE;
    TW_ASSERT(rate.burst > 0);
    if (self->at_ms == 0) {
        self->level = full;
    } else if (now_ms > self->at_ms) {
        uint64_t passed_ms = now_ms - self->at_ms;
        uint64_t missing = (uint64_t)(full - self->level);
        bool fills = passed_ms >= missing / rate.per_s + 1; /* no product that could overflow */
        self->level = fills ? full : self->level + (int64_t)(passed_ms * rate.per_s);
    }
    self->level = self->level > full ? full : self->level;
    self->at_ms = now_ms > self->at_ms ? now_ms : self->at_ms;
}

uint64_t bucket_take(bucket *self, bucket_rate rate, uint64_t now_ms)
{
    if (rate.per_s == 0) {
        return 0;
    }
    fill(self, rate, now_ms);
    if (self->level >= PIECE) {
        self->level -= PIECE;
        return 0;
    }
    return ((uint64_t)(PIECE - self->level) + rate.per_s - 1) / rate.per_s;
}

bool bucket_charge(bucket *self, bucket_rate rate, uint64_t now_ms)
{
    if (rate.per_s == 0) {
        return true;
    }
    fill(self, rate, now_ms);
    self->level -= PIECE;
    return self->level >= 0;
}

bool bucket_is_good(bucket *self, bucket_rate rate, uint64_t now_ms)
{
    if (rate.per_s == 0) {
        return true;
    }
    fill(self, rate, now_ms);
    return self->level >= PIECE;
}
