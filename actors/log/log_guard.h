/* log_guard.h - one process on one directory, and a log that is told from a copy of it, or from
 * one that has lost its newest rows.
 *
 * The side file says which file the log is (inode, time of birth), its srv_id, and its head. It is
 * written behind each commit, before anything is answered, and not synced: a killed process leaves
 * it as new as the log, a power cut leaves it behind at most. So a log whose head is lower than
 * what stands there has lost rows that were acknowledged, also where what is left is in order: the
 * write-ahead log ends, for SQLite, where its first damaged frame stands. */
#pragma once

#include "protocol/base.h"

typedef struct log_guard {
    int lock;                  /* descriptor; -1: none */
    int seen;                  /* descriptor of the side file; -1: none */
    uint64_t inode, born, srv; /* of the file that was last written about; inode 0: none */
} log_guard;

/* Takes the directory, which is made when it is not there. TW_E_BUSY: why tells the holder's pid;
 * TW_E_DISK: it cannot be made or written. Thread: the store's; blocks for the disk. */
tw_err log_guard_open(log_guard *guard, const char *directory, char *why, size_t size);
void log_guard_close(log_guard *guard);
/* What was last written about the file: false when there is nothing, or it does not fit the file
 * (another inode, or a head that the file does not have): then it is a copy. */
bool log_guard_fits(const log_guard *guard, const char *file, uint64_t srv, uint64_t head);
void log_guard_write(log_guard *guard, const char *file, uint64_t srv, uint64_t head);
/* The same file has another head. Behind each commit: one pwrite, about 1 us. */
void log_guard_raise(log_guard *guard, uint64_t head);
/* True when the side file tells of a log with this srv_id, whatever became of its file. */
bool log_guard_knows(const log_guard *guard, uint64_t srv);
