/* local_copy.h - a client's copy of a collection in a file: NDJSON, a record a line.
 *
 * {"key":K,"version":V,"doc":{...}}, in any order; doc may be missing (a manifest alone). A first
 * line {"since":[[srv_id,seqno],...]} tells up to where the copy is right. The file is read whole
 * and replaced whole: a new file takes the old one's name. */
#pragma once

#include "protocol/arena.h"
#include "protocol/base.h"
#include "protocol/sync_mark.h"

typedef struct local_record {
    tw_str key;  /* JSON text; view into memory */
    tw_str line; /* without the newline; view into memory */
    int64_t version;
    uint32_t place;
    tw_mark mark;
    bool gone;
} local_record;

typedef struct local_copy {
    tw_arena memory;       /* own */
    local_record *records; /* own */
    size_t count, cap;
    uint32_t *slots; /* own; index + 1 by key */
    size_t slots_count;
    char why[256]; /* of the last error */
} local_copy;

void local_copy_init(local_copy *copy);
void local_copy_fini(local_copy *copy);
/* A file that is not there is an empty copy. False: why. */
bool local_copy_read(local_copy *copy, const char *path);
bool local_copy_write(local_copy *copy, const char *path, tw_str since);
/* Puts or replaces a record; doc len 0: without one. False: why. */
bool local_copy_put(local_copy *copy, tw_bson_value key, int64_t version, tw_bson doc);
void local_copy_remove(local_copy *copy, tw_bson_value key);
