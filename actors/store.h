/* store.h - options and class of the actor that owns the log: the one writer. */
#pragma once

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

#include "actors/log/log_store.h"

typedef struct store_options {
    log_store *log;            /* borrow; made by main, shared with the log_readers */
    const catalog *catalog;    /* borrow */
    const char *directory;     /* borrow; unread with memory */
    bool memory;               /* nothing is kept */
    uint64_t srv_id;           /* of a log that is created now; 0: drawn */
    uint64_t age_ms;           /* superseded rows are kept so long; 0: TW_LOG_AGE_S */
    uint64_t superseded_bytes; /* and at most so many bytes; 0: TW_LOG_SUPERSEDED_BYTES */
    uint64_t bytes_max;        /* of the file; 0: as the disk allows */
    bool image;                /* of a source: rows come by append, write is refused */
} store_options;

extern const tw_actor_class store_class;
