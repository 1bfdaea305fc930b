/* log_opids.h - which operation ids are remembered, and in which group each is stored.
 *
 * The ids of one commit are one group: a row of the table, their results packed behind each other.
 * In memory stands a hash of each id, so that an id that is new - nearly all are - costs no look
 * into the table, and one that is known costs one. Thread: the store's. */
#pragma once

#include "actors/log/log_table.h"

typedef struct log_opid_slot {
    uint32_t hash;  /* 0: empty */
    uint32_t group; /* the lower half of its number */
} log_opid_slot;

typedef struct log_opids {
    uint64_t seed;        /* ids come from outside: they must not choose their slots */
    log_opid_slot *slots; /* own */
    size_t mask;
    size_t count;
} log_opids;

tw_err log_opids_init(log_opids *opids, uint64_t seed); /* TW_E_NO_MEMORY */
void log_opids_fini(log_opids *opids);
uint32_t log_opids_hash(const log_opids *opids, tw_str id); /* never 0 */
/* Makes room, so that as many additions cannot fail. TW_E_NO_MEMORY: nothing changed. */
tw_err log_opids_reserve(log_opids *opids, size_t more);
void log_opids_add(log_opids *opids, uint32_t hash, uint64_t group); /* room was made */
void log_opids_remove(log_opids *opids, uint32_t hash, uint64_t group);
/* Has the memory fetch where an id of this hash would stand; for those that are looked up soon. */
void log_opids_expect(const log_opids *opids, uint32_t hash);
/* Groups that may hold an id of this hash, one a call: *at begins at 0. newest: the newest group,
 * which all are within 2^32 of. False: there are no more. */
bool log_opids_next(const log_opids *opids, uint32_t hash, uint64_t newest, size_t *at,
                    uint64_t *group);

/* ---- a group as bytes ---- */
void log_opids_pack(tw_buf *out, const log_opid *opid);
/* The id at *at, which moves behind it; views into group. TW_E_END: no more, TW_E_CORRUPT. */
tw_err log_opids_unpack(tw_str group, size_t *at, log_opid *out);
