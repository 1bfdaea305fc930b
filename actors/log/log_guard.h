/* log_guard.h - one process on one directory, and a log that is told from a copy of it. */
#pragma once

#include "protocol/base.h"

typedef struct log_guard {
    int lock; /* descriptor; -1: none */
    int seen; /* descriptor of the side file; -1: none */
} log_guard;

/* Takes the directory, which is made when it is not there. TW_E_BUSY: why tells the holder's pid;
 * TW_E_DISK: it cannot be made or written. Thread: the store's; blocks for the disk. */
tw_err log_guard_open(log_guard *guard, const char *directory, char *why, size_t size);
void log_guard_close(log_guard *guard);
/* What was last written about the file: false when there is nothing, or it does not fit the file
 * (another inode, or a head that the file does not have): then it is a copy. */
bool log_guard_fits(const log_guard *guard, const char *file, uint64_t srv, uint64_t head);
void log_guard_write(log_guard *guard, const char *file, uint64_t srv, uint64_t head);
