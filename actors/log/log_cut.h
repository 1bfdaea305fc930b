/* log_cut.h - the log as it was at one row, however far it has gone on since.
 *
 * A cut at row W is: every row up to W that no row up to W supersedes. The index tells only that a
 * row is superseded, not by which row; so the rows above W are looked through once, and those up to
 * W that they supersede are noted: they still stand in the cut. A cut is exact while the log's
 * floor has not passed W, since what was replaced above the floor is kept. Thread: the reader's. */
#pragma once

#include "actors/log/log_cursor.h"

enum { LOG_CUT_MAX = 1048576 }; /* rows noted of one cut, 8 MiB; then it is refused */

typedef struct log_cut {
    uint64_t at; /* W */
    uint64_t generation;
    uint64_t upto;    /* rows up to here were looked through */
    uint64_t used;    /* by the reader: count of the last use */
    uint64_t *hidden; /* own; rows up to W that rows above W supersede, ascending */
    size_t count, cap;
} log_cut;

void log_cut_init(log_cut *cut, uint64_t at, uint64_t generation);
void log_cut_fini(log_cut *cut);
/* Looks through the rows up to head. TW_E_GAP: the cut is too old, why tells; TW_E_UNAVAILABLE,
 * TW_E_DISK, TW_E_CORRUPT, TW_E_NO_MEMORY as of the view. */
tw_err log_cut_extend(log_cut *cut, log_view *view, uint64_t head);
/* True when a row that is superseded by now was not at the cut. */
bool log_cut_has(const log_cut *cut, uint64_t n);
