/* manifest.h - what a client says it has of a collection, what it is to do, and sums of ranges.
 *
 * A manifest is ids with versions. Held against the records that a query has, each gives a verdict:
 * insert (the client lacks it), update (another version), same (nothing is told); what no record
 * answers to is to be removed.
 *
 * A big manifest is not sent but summed: see protocol/sync_mark.h. The 2^bits ranges of a
 * collection are the places that share their first bits; a range's sum is that of its marks.
 * Pure. */
#pragma once

#include "protocol/arena.h"
#include "protocol/bson.h"
#include "protocol/sync_mark.h"

/* ---- manifests ---- */
typedef struct manifest manifest;
typedef enum manifest_verdict { MANIFEST_SAME, MANIFEST_INSERT, MANIFEST_UPDATE } manifest_verdict;

tw_err manifest_new(manifest **out, size_t bytes_max); /* TW_E_NO_MEMORY */
void manifest_free(manifest **self);
/* Adds an id as the client spells it. A text is itself, and also the ObjectId of its 24 hex digits;
 * where all ids are text, as names in JSON are (is_name), also the whole number that it writes:
 * whichever is there, unless another id is just that. version -1: not known, so any record is
 * newer. TW_E_BAD_DOCUMENT: no id; TW_E_CONFLICT: it was added; TW_E_TOO_MANY: bytes_max;
 * TW_E_TOO_BIG: a key over TW_KEY_MAX; TW_E_NO_MEMORY. */
tw_err manifest_add(manifest *self, tw_bson_value id, bool is_name, int64_t version);
size_t manifest_count(const manifest *self);
size_t manifest_bytes(const manifest *self);
/* True where a reading of the id that was added last lies in a range: see manifest_ranges. */
bool manifest_last_in(const manifest *self, bool (*is_in)(const void *context, uint32_t place),
                      const void *context);
/* Says what a record is to the client, and notes that it is there. */
manifest_verdict manifest_judge(manifest *self, tw_key key, int64_t version);
/* The next id, from *at on, that no record answered to: view. False: no further one. */
bool manifest_next_missing(const manifest *self, size_t *at, tw_bson_value *id);

/* ---- ranges: the server's sums at the finest width, others are made of them ---- */
typedef struct manifest_ranges manifest_ranges;

enum { MANIFEST_LEAF_KEYS = 16 }; /* keys of a range that is listed, on the average */

/* Bits so that a range has about MANIFEST_LEAF_KEYS of so many records, at least bits_min. */
unsigned manifest_bits_for(uint64_t records, unsigned bits_min);
tw_err manifest_ranges_new(manifest_ranges **out, unsigned bits); /* TW_E_NO_MEMORY */
void manifest_ranges_free(manifest_ranges **self);
unsigned manifest_ranges_bits(const manifest_ranges *self);
void manifest_ranges_add(manifest_ranges *self, tw_key key, int64_t version);
/* The sum of a range of 2^bits, and how many records it has; bits at most its own. */
tw_mark manifest_ranges_sum(const manifest_ranges *self, unsigned bits, uint32_t range,
                            uint64_t *count);
/* Notes that the records of a range are to be compared one by one. */
void manifest_ranges_want(manifest_ranges *self, unsigned bits, uint32_t range);
bool manifest_ranges_wants(const void *self, uint32_t place); /* self: manifest_ranges */
