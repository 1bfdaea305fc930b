/* position.h - positions and vectors of them: what a client knows, what a log holds.
 *
 * A vector is sorted by srv and names each srv once; every function here gives and expects that.
 * An origin that a vector does not name stands at 0, before its first change. */
#pragma once

#include "protocol/arena.h"
#include "protocol/bson.h"
#include "protocol/limits.h"

/* Reads since as a client gives it.
 * since    [[srv, seqno], ...]: whole numbers from 0 to 2^53-1 of any BSON type, in any order, no
 *          srv twice, at most TW_ORIGINS_MAX pairs; the empty array is an empty vector
 * out      sorted; view into arena
 * Errors   TW_E_BAD_SINCE with a cause in *why (constant text), TW_E_NO_MEMORY; *out is untouched
 * Thread   any; never blocks */
tw_err position_vector_parse(tw_arena *arena, tw_bson_value since, tw_vector *out,
                             const char **why);

uint64_t position_vector_get(tw_vector vector, uint64_t srv); /* 0 when absent */
/* True when vector has seen position, or something later of the same origin. */
bool position_vector_covers(tw_vector vector, tw_position position);
/* The higher of both for each origin; view into arena. TW_E_TOO_MANY: over TW_ORIGINS_MAX origins
 * together, TW_E_NO_MEMORY; *out is then untouched. */
tw_err position_vector_merge(tw_arena *arena, tw_vector a, tw_vector b, tw_vector *out);

/* A vector that grows, in the holder's own memory. All zero = empty. */
typedef struct position_set {
    tw_position at[TW_ORIGINS_MAX]; /* as a vector's */
    size_t count;
} position_set;

/* Raises the origin's component to position, never lowers it. TW_E_TOO_MANY: a new origin and no
 * room; nothing changed. */
tw_err position_set_raise(position_set *set, tw_position position);
tw_vector position_set_view(const position_set *set); /* view; valid until the next raise */

/* The seqno of a MongoDB clusterTime: (seconds - 1577836800) * 2^21 + increment, so that every node
 * gives the same change the same position, below 2^53 until 2106. An increment over 2^21-1 counts
 * as 2^21-1 (the highest that was seen is 10,266 in a second). Seconds before 2020-01-01 give 0,
 * "before the first": input with such a clock has no position; the caller must refuse it. */
uint64_t position_of_cluster_time(uint32_t seconds, uint32_t increment);
