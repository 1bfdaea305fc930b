/* bucket.h - a token bucket: how much of something a peer may do, by the clock that it is given.
 *
 * A bucket of zeros is full at its first use. Rates and bursts are arguments, so that a bucket
 * costs two words where there are many. rate 0: there is no limit, nothing is counted.
 * Thread: one at a time. */
#pragma once

#include "protocol/base.h"

typedef struct bucket {
    int64_t level;  /* thousandths of a piece; below 0: a debt */
    uint64_t at_ms; /* when level was right; 0: never used */
} bucket;

typedef struct bucket_rate {
    uint32_t per_s; /* pieces that come back in a second; 0: no limit */
    uint32_t burst; /* pieces of a full bucket */
} bucket_rate;

/* Takes a piece. Returns 0, or the ms after which there is one again: then nothing was taken. */
uint64_t bucket_take(bucket *self, bucket_rate rate, uint64_t now_ms);
/* Takes a piece that is not there either. False: the bucket is in debt now. */
bool bucket_charge(bucket *self, bucket_rate rate, uint64_t now_ms);
/* True when a debt is paid: there is a piece to take. */
bool bucket_is_good(bucket *self, bucket_rate rate, uint64_t now_ms);
