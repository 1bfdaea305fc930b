/* log_row.h - one row of the log, as the table, the index and the writer hand it to each other. */
#pragma once

#include "protocol/base.h"
#include "protocol/limits.h"
#include "protocol/messages.h"

/* Scopes are small numbers; two have a meaning of their own. */
enum {
    LOG_SCOPE_NONE = 0, /* the collection has no scope, or the document no such field */
    LOG_SCOPE_WILD = 1, /* the field's value may equal several scopes (an array, ...) */
    LOG_SCOPE_FIRST = 2,
};

enum {
    LOG_ORIGIN_OWN = 1,       /* id of the log's own origin: its seqno is n */
    LOG_CHUNK_ROWS = 256,     /* rows whose bits stand together, and are swept together */
    LOG_KEY_BYTES_MAX = 2048, /* bytes of a stored key: TW_KEY_MAX and its type */
};

typedef struct log_row {
    uint64_t n;
    uint32_t coll;  /* incarnation of the collection */
    uint32_t flags; /* enum tw_row_flags */
    int64_t ver;
    uint32_t scope;
    uint32_t lscope; /* scope of the replaced version where it differs; else 0 */
    uint64_t prev;   /* n of the row that this one supersedes; 0: none */
    uint32_t origin; /* id in the table of origins, not the srv_id */
    uint64_t seqno;
    tw_key key;
    tw_bson doc; /* len 0 unless a put */
    tw_str by;   /* who wrote it, as the writer said; at most TW_OPID_MAX bytes */
    uint64_t time_ms;
} log_row;
