/* fault_vfs.c - see fault_vfs.h. */
#include "tests/support/fault_vfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "protocol/base.h"

enum { SECTOR = 512, FILES = 2, IMAGE_MAX = 1 << 24 };

typedef enum event_kind { EVENT_WRITE, EVENT_SYNC, EVENT_TRUNCATE } event_kind;

typedef struct event {
    event_kind kind;
    int file; /* 0: log.db, 1: its write-ahead log */
    sqlite3_int64 at;
    size_t len;
    uint8_t *bytes; /* own */
} event;

typedef struct shim_file {
    sqlite3_file base;
    int file; /* -1: not one that is recorded */
    sqlite3_file *real;
} shim_file;

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    sqlite3_mem_methods memory;
    fault_vfs_kind kind;
    uint64_t left;
    bool fired;
    char recorded[256]; /* "" = nothing is */
    event *events;
    size_t count, cap;
} shim;

/* True when this operation is the one that fails. */
static bool is_due(fault_vfs_kind kind)
{
    if (shim.kind != kind || shim.fired || --shim.left > 0) {
        return false;
    }
    shim.fired = true;
    return true;
}

static void keep(int file, event_kind kind, sqlite3_int64 at, const void *bytes, size_t len)
{
    if (file < 0 || shim.recorded[0] == '\0') {
        return;
    }
    if (shim.count == shim.cap) {
        shim.cap = shim.cap == 0 ? 1024 : shim.cap * 2;
        shim.events = realloc(shim.events, shim.cap * sizeof *shim.events);
        TW_ASSERT(shim.events != NULL);
    }
    event *made = &shim.events[shim.count++];
    *made = (event){kind, file, at, len, NULL};
    if (bytes != NULL) {
        made->bytes = malloc(len);
        TW_ASSERT(made->bytes != NULL);
        memcpy(made->bytes, bytes, len);
    }
}

/* ---- files ---- */

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((shim_file *)file)->real;
}

static int on_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int on_read(sqlite3_file *file, void *to, int len, sqlite3_int64 at)
{
    return real_of(file)->pMethods->xRead(real_of(file), to, len, at);
}

static int on_write(sqlite3_file *file, const void *from, int len, sqlite3_int64 at)
{
    if (is_due(FAULT_VFS_WRITE)) {
        return SQLITE_IOERR_WRITE;
    }
    if (is_due(FAULT_VFS_FULL)) {
        return SQLITE_FULL;
    }
    keep(((shim_file *)file)->file, EVENT_WRITE, at, from, (size_t)len);
    return real_of(file)->pMethods->xWrite(real_of(file), from, len, at);
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    keep(((shim_file *)file)->file, EVENT_TRUNCATE, size, NULL, 0);
    return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int on_sync(sqlite3_file *file, int flags)
{
    if (is_due(FAULT_VFS_SYNC)) {
        return SQLITE_IOERR_FSYNC;
    }
    int code = real_of(file)->pMethods->xSync(real_of(file), flags);
    keep(((shim_file *)file)->file, EVENT_SYNC, 0, NULL, 0);
    return code;
}

static int on_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int on_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int on_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int on_check_lock(sqlite3_file *file, int *out)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), out);
}

static int on_control(sqlite3_file *file, int what, void *arg)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), what, arg);
}

static int on_sector_size(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int on_device(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int on_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    return real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, out);
}

static int on_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, count, flags);
}

static void on_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int on_shm_unmap(sqlite3_file *file, int is_delete)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), is_delete);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2, /* without memory maps, which the program switches off */
    .xClose = on_close,
    .xRead = on_read,
    .xWrite = on_write,
    .xTruncate = on_truncate,
    .xSync = on_sync,
    .xFileSize = on_size,
    .xLock = on_lock,
    .xUnlock = on_unlock,
    .xCheckReservedLock = on_check_lock,
    .xFileControl = on_control,
    .xSectorSize = on_sector_size,
    .xDeviceCharacteristics = on_device,
    .xShmMap = on_shm_map,
    .xShmLock = on_shm_lock,
    .xShmBarrier = on_shm_barrier,
    .xShmUnmap = on_shm_unmap,
};

static int on_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    shim_file *made = (shim_file *)file;
    made->real = (sqlite3_file *)(made + 1);
    bool is_recorded =
        path != NULL && shim.recorded[0] != '\0' && strstr(path, shim.recorded) != NULL;
    bool is_wal = is_recorded && strstr(path, "-wal") != NULL;
    made->file = !is_recorded ? -1 : is_wal ? 1 : 0;
    made->base.pMethods = NULL;
    int code = shim.real->xOpen(shim.real, path, made->real, flags, out);
    if (made->real->pMethods != NULL) {
        made->base.pMethods = &methods;
    }
    return code;
}

/* ---- allocations ---- */

static void *on_malloc(int bytes)
{
    return is_due(FAULT_VFS_ALLOC) ? NULL : shim.memory.xMalloc(bytes);
}

static void *on_realloc(void *old, int bytes)
{
    return is_due(FAULT_VFS_ALLOC) ? NULL : shim.memory.xRealloc(old, bytes);
}

void fault_vfs_install(void)
{
    int code = sqlite3_config(SQLITE_CONFIG_GETMALLOC, &shim.memory);
    sqlite3_mem_methods counted = shim.memory;
    counted.xMalloc = on_malloc;
    counted.xRealloc = on_realloc;
    if (code == SQLITE_OK) {
        code = sqlite3_config(SQLITE_CONFIG_MALLOC, &counted);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_initialize();
    }
    shim.real = sqlite3_vfs_find(NULL);
    TW_ASSERT(code == SQLITE_OK);
    TW_ASSERT(shim.real != NULL);
    shim.vfs = *shim.real;
    shim.vfs.zName = "fault";
    shim.vfs.szOsFile = (int)sizeof(shim_file) + shim.real->szOsFile;
    shim.vfs.xOpen = on_open;
    code = sqlite3_vfs_register(&shim.vfs, 1);
    TW_ASSERT(code == SQLITE_OK);
}

void fault_vfs_arm(fault_vfs_kind kind, uint64_t n)
{
    shim.kind = kind;
    shim.left = n;
    shim.fired = false;
}

bool fault_vfs_fired(void)
{
    return shim.fired;
}

/* ---- recordings ---- */

void fault_vfs_record(const char *path_part)
{
    for (size_t i = 0; i < shim.count; i++) {
        free(shim.events[i].bytes);
    }
    free(shim.events);
    shim.events = NULL;
    shim.count = shim.cap = 0;
    tw_format(shim.recorded, sizeof shim.recorded, "%s", path_part == NULL ? "" : path_part);
}

size_t fault_vfs_events(void)
{
    return shim.count;
}

static uint64_t draw(uint64_t *random, uint64_t below)
{
    *random = *random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (*random >> 33) % below;
}

typedef struct image {
    uint8_t *bytes; /* own */
    size_t size;
} image;

static void image_write(image *to, const event *from, size_t first, size_t len)
{
    size_t at = (size_t)from->at + first;
    TW_ASSERT(at + len <= IMAGE_MAX);
    memcpy(to->bytes + at, from->bytes + first, len);
    to->size = at + len > to->size ? at + len : to->size;
}

/* A write that nothing has synced. */
static void image_maybe(image *to, const event *from, uint64_t *random)
{
    switch (draw(random, 3)) {
    case 0:
        image_write(to, from, 0, from->len);
        break;
    case 1:
        for (size_t first = 0; first < from->len; first += SECTOR) {
            size_t len = from->len - first < SECTOR ? from->len - first : SECTOR;
            if (draw(random, 2) == 0) {
                image_write(to, from, first, len);
            }
        }
        break;
    default:
        break;
    }
}

static void image_file(size_t count, int file, uint64_t seed, const char *path)
{
    image to = {calloc(1, IMAGE_MAX), 0};
    TW_ASSERT(to.bytes != NULL);
    uint64_t random = seed * 2 + (uint64_t)file;
    size_t synced = 0; /* events before it are on disk */
    for (size_t i = 0; i < count; i++) {
        bool is_sync = shim.events[i].file == file && shim.events[i].kind == EVENT_SYNC;
        synced = is_sync ? i : synced;
    }
    for (size_t i = 0; i < count; i++) {
        const event *at = &shim.events[i];
        if (at->file != file) {
            continue;
        }
        if (at->kind == EVENT_TRUNCATE && (i < synced || draw(&random, 2) == 0)) {
            size_t size = (size_t)at->at;
            if (size < to.size) {
                memset(to.bytes + size, 0, to.size - size);
            }
            to.size = size;
        } else if (at->kind == EVENT_WRITE && i < synced) {
            image_write(&to, at, 0, at->len);
        } else if (at->kind == EVENT_WRITE) {
            image_maybe(&to, at, &random);
        }
    }
    int out = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    TW_ASSERT(out >= 0);
    ssize_t written = write(out, to.bytes, to.size);
    TW_ASSERT(written == (ssize_t)to.size);
    close(out);
    free(to.bytes);
}

void fault_vfs_image(size_t count, uint64_t seed, const char *directory)
{
    char path[300];
    TW_ASSERT(count <= shim.count);
    tw_format(path, sizeof path, "%s/log.db", directory);
    image_file(count, 0, seed, path);
    tw_format(path, sizeof path, "%s/log.db-wal", directory);
    image_file(count, 1, seed, path);
}
