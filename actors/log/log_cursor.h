/* log_cursor.h - reading the log: scans by row number, and the cursor rule that makes one forward
 * scan snapshot, resume and live at once.
 *
 * The rule for a row that matches: told as a put unless a newer row that is told supersedes it. For
 * one that does not: told as a leave where the version before it matched, also when it is itself
 * superseded. Puts may be squashed, leaves never.
 *
 * Silent rows (TW_ROW_SILENT, written with dispatch: false)
 * 1. A snapshot shows the newest version of a key, silent or not: of those up to W0, its head.
 * 2. Streams behind their snapshot are told of silent rows never: neither live, nor as they catch
 *    up. So they squash nothing: a put is squashed for a newer row that is told, and a reader ends
 *    with the last version that is told (or that its snapshot showed), as one does that was never
 *    away. Page sizes and pauses change nothing of it.
 * 3. A row that is told, and does not match, is a leave where any version matched from the last
 *    that is told on: the reader may hold that one, or a silent one that its snapshot showed. That
 *    is so while the log has them: what left by a silent row that the floor has passed may stay.
 * 4. A reader that names no position of an origin has nothing of it: until it has caught up, the
 *    origin's silent rows are told to it as all others, or its first copy would lack them.
 * 5. A silent drop is not told; what its collection held before it is not told any more either.
 *
 * A view is one reader's own connection. It follows the store through restarts: what was read
 * across one is thrown away with TW_E_UNAVAILABLE. Thread: the reader's own; blocks for the disk.
 * */
#pragma once

#include "actors/log/log_store.h"

typedef struct log_view {
    log_store *store; /* borrow */
    log_table *table; /* own; NULL: not opened yet */
    uint64_t generation;
    char why[512]; /* of the last error */
} log_view;

void log_view_init(log_view *view, log_store *store);
void log_view_fini(log_view *view);
/* Opens the connection, anew after a restart of the store. TW_E_UNAVAILABLE: the log is closed. */
tw_err log_view_sync(log_view *view);
/* A read transaction; end says TW_E_UNAVAILABLE when the store was opened anew meanwhile. */
tw_err log_view_begin(log_view *view);
tw_err log_view_end(log_view *view);
/* The row that the index names: TW_E_NOT_FOUND when it is being swept, else missing is damage. */
tw_err log_view_read(log_view *view, uint64_t n, log_row *out);
tw_err log_view_scan(log_view *view, uint64_t n, log_row *out);

/* ---- scans ---- */
typedef struct log_part {
    tw_str db, name;
    tw_str scope_field; /* as the catalog has it; len 0: none */
    tw_key scope;       /* only rows that may have this scope; len 0: all */
} log_part;

typedef struct log_found {
    uint64_t n;
    uint32_t part;
    bool superseded;
    bool covered; /* superseded by a row that is told */
    bool hidden;  /* a snapshot does not show it */
} log_found;

typedef struct log_scan {
    const log_part *parts;
    size_t parts_count;
    uint64_t after;       /* in and out: rows above it; then the last that was looked at */
    uint64_t newest_upto; /* of rows up to here only those that a snapshot shows */
    uint64_t w0;          /* head of the snapshot; UINT64_MAX: what is newest now */
    uint64_t cut;         /* collections as they were at this row, and rows up to it; 0: now, all */
    bool drops;           /* drops too */
    bool every;           /* rows of all collections, drops too; parts are unread, part is 0 */
    size_t looked;        /* in and out: entries of the index looked at */
    size_t looked_max;
} log_scan;

/* Under the lock: collects up to max rows in order of n; true when the head was reached (after is
 * then the head). */
bool log_scan_collect(log_scan *scan, log_index *index, log_found *found, size_t max,
                      size_t *count);

/* ---- pages ---- */
typedef struct log_page {
    /* asked */
    bool fresh, resume, now;
    tw_vector since;
    uint64_t after, w0; /* and answered: for the next page */
    /* answered */
    enum tw_reset reset;
    uint64_t floor, srv; /* with a reset */
    bool follows;        /* with a reset: the origin is another's, which this log follows */
    uint64_t head;
    bool caught_up;
    tw_position at[TW_ORIGINS_MAX]; /* positions at after */
    size_t at_count;
    /* for the taker, of the row in hand */
    bool old_told; /* the client's since covers the version before: it was told that one */
    char db[TW_NAME_MAX + 1], coll[TW_NAME_MAX + 1]; /* where part_of is set */
} log_page;

/* What the asker makes of rows. */
typedef struct log_page_taker {
    void *context;
    /* enum tw_meaning or 0; old len 0: none; live false: a snapshot, nothing leaves */
    unsigned (*meaning)(void *context, size_t part, const log_row *row, tw_bson old, uint64_t srv,
                        bool live);
    /* Takes an event; false: the page is full, the row is not taken. Views live until it returns.
     * */
    bool (*take)(void *context, size_t part, unsigned meaning, const log_row *row, uint64_t srv);
    /* Set: rows of all collections are read, those that come into being later too, and this names
     * the part of each; negative: none. Under the log's lock. */
    int (*part_of)(void *context, tw_str db, tw_str coll);
} log_page_taker;

/* Reads a page. With a reset nothing was taken that counts. TW_E_UNAVAILABLE (ask again),
 * TW_E_CORRUPT (told to the store), TW_E_NO_MEMORY, TW_E_DISK. */
tw_err log_page_read(log_view *view, tw_arena *arena, const log_part *parts, size_t parts_count,
                     const log_page_taker *taker, log_page *page);
