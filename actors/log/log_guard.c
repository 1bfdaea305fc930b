/* log_guard.c - see log_guard.h. The side file is one record of fixed size, written in place: it
 * may be behind the log, which is no harm, but never ahead of what is on disk. */
#include "actors/log/log_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct seen_record {
    uint64_t inode, born; /* inodes are given again; born: ns, 0 where it is not known */
    uint64_t srv, head, check;
} seen_record;

static bool identify(const char *file, seen_record *out)
{
    struct statx status;
    if (statx(AT_FDCWD, file, 0, STATX_INO | STATX_BTIME, &status) != 0) {
        return false;
    }
    bool has_birth = (status.stx_mask & STATX_BTIME) != 0;
    out->inode = status.stx_ino;
    out->born =
        has_birth ? (uint64_t)status.stx_btime.tv_sec * 1000000000 + status.stx_btime.tv_nsec : 0;
    return true;
}

static uint64_t seen_check(const seen_record *record)
{
    return tw_hash(record, offsetof(seen_record, check), 5);
}

static tw_err refuse_lock(log_guard *guard, const char *path, char *why, size_t size)
{
    char pid[32] = "";
    ssize_t got = pread(guard->lock, pid, sizeof pid - 1, 0);
    pid[got > 0 ? got : 0] = '\0';
    pid[strcspn(pid, "\n")] = '\0';
    tw_format(why, size, "%s is held by process %s", path, pid[0] == '\0' ? "(unknown)" : pid);
    log_guard_close(guard);
    return TW_E_BUSY;
}

tw_err log_guard_open(log_guard *guard, const char *directory, char *why, size_t size)
{
    TW_ASSERT(guard != NULL && directory != NULL);
    char path[4096];
    *guard = (log_guard){.lock = -1, .seen = -1};
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        tw_format(why, size, "%s: %s", directory, strerror(errno));
        return TW_E_DISK;
    }
    tw_format(path, sizeof path, "%s/lock", directory);
    guard->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (guard->lock >= 0 && flock(guard->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        return refuse_lock(guard, path, why, size);
    }
    char pid[32];
    size_t len = tw_format(pid, sizeof pid, "%ld\n", (long)getpid());
    bool written = guard->lock >= 0 && ftruncate(guard->lock, 0) == 0 &&
                   pwrite(guard->lock, pid, len, 0) == (ssize_t)len;
    if (written) {
        tw_format(path, sizeof path, "%s/log.seen", directory);
        guard->seen = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    if (guard->seen < 0) {
        tw_format(why, size, "%s: %s", path, strerror(errno));
        log_guard_close(guard);
        return TW_E_DISK;
    }
    return TW_OK;
}

void log_guard_close(log_guard *guard)
{
    if (guard->seen >= 0) {
        close(guard->seen);
    }
    if (guard->lock >= 0) {
        close(guard->lock); /* and with it the lock */
    }
    *guard = (log_guard){.lock = -1, .seen = -1};
}

static bool read_seen(const log_guard *guard, seen_record *out)
{
    return pread(guard->seen, out, sizeof *out, 0) == (ssize_t)sizeof *out &&
           out->check == seen_check(out);
}

bool log_guard_fits(const log_guard *guard, const char *file, uint64_t srv, uint64_t head)
{
    seen_record record, now;
    if (!read_seen(guard, &record) || !identify(file, &now)) {
        return false;
    }
    return record.inode == now.inode && record.born == now.born && record.srv == srv &&
           record.head <= head;
}

bool log_guard_knows(const log_guard *guard, uint64_t srv)
{
    seen_record record;
    return guard->seen >= 0 && read_seen(guard, &record) && record.srv == srv;
}

void log_guard_write(log_guard *guard, const char *file, uint64_t srv, uint64_t head)
{
    seen_record now;
    guard->inode = 0;
    if (guard->seen < 0 || !identify(file, &now)) {
        return; /* the next start then takes a new srv_id: safe */
    }
    guard->inode = now.inode;
    guard->born = now.born;
    guard->srv = srv;
    log_guard_raise(guard, head);
}

void log_guard_raise(log_guard *guard, uint64_t head)
{
    if (guard->inode == 0) {
        return;
    }
    seen_record record = {guard->inode, guard->born, guard->srv, head, 0};
    record.check = seen_check(&record);
    if (pwrite(guard->seen, &record, sizeof record, 0) != (ssize_t)sizeof record) {
        (void)ftruncate(guard->seen, 0); /* half a record is none */
    }
}
