/* fault_vfs.h - a VFS of SQLite's for tests, over the one of the system: its n-th write or sync
 * fails, SQLite's n-th allocation fails, and all that is written can be recorded, to make the files
 * that a power cut would leave.
 *
 * It becomes the default of the process, so the program's own code opens its files through it.
 * Thread: one; one recording at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum fault_vfs_kind {
    FAULT_VFS_NONE,
    FAULT_VFS_WRITE, /* an I/O error */
    FAULT_VFS_FULL,  /* no room */
    FAULT_VFS_SYNC,
    FAULT_VFS_ALLOC,
} fault_vfs_kind;

/* Before anything else of SQLite is called. */
void fault_vfs_install(void);
/* The n-th operation of the kind from now on fails, once. */
void fault_vfs_arm(fault_vfs_kind kind, uint64_t n);
bool fault_vfs_fired(void); /* since it was armed */
/* Records writes, syncs and truncations of log.db and its write-ahead log, in files whose paths
 * contain the text. NULL: ends it and forgets. */
void fault_vfs_record(const char *path_part);
size_t fault_vfs_events(void); /* recorded so far */
/* Writes log.db and log.db-wal into a directory as a power cut behind the count-th event may leave
 * them: what was synced is whole; of each write since, by the seed, all, nothing, or some of its
 * sectors of 512 bytes arrived. */
void fault_vfs_image(size_t count, uint64_t seed, const char *directory);
