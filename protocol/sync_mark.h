/* sync_mark.h - places and marks of records: how a big manifest is summed instead of sent.
 *
 * Each key has a place, 32 bits of its hash; the 2^bits ranges of a collection are the places that
 * share their first bits. Each (key, version) has a mark of two times 32 bits; a range's sum is the
 * sum of its marks, each half for itself modulo 2^32, in any order. Equal sums are taken for equal
 * ranges: a difference goes unseen once in 2^64 by chance; marks are no protection against one who
 * looks for collisions among its own records.
 *   text of a key   "s" and the text; "o" and 24 hex digits of an ObjectId; "i" and a whole number;
 *                   "j" and the JSON text that `key` of a message has for all others
 *   hash            FNV-1a of 64 bits over the text; hi, lo: its halves
 *   place           mix(lo ^ mix(hi))
 *   mark            of the text, a byte 0 and the version as decimal: low = mix(lo ^ mix(hi)),
 *                   high = mix(hi + low modulo 2^32); written as 16 hex digits, high first
 *   mix(h)          h ^= h >> 16, h *= 0x85ebca6b, h ^= h >> 13, h *= 0xc2b2ae35, h ^= h >> 16
 * tests/vectors/sync_marks.json has examples for every client.
 *      Source  FNV-1a: its authors' internet draft; mix: MurmurHash3's finalizer
 * Thread: any */
#pragma once

#include "protocol/base.h"
#include "protocol/bson.h"

typedef struct tw_mark {
    uint32_t high, low;
} tw_mark;

uint32_t tw_sync_place(tw_key key);
tw_mark tw_sync_mark(tw_key key, int64_t version);
