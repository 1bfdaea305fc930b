/* record_reader.h - records out of a file: NDJSON (mongoexport's too), a JSON array, CSV.
 *
 * The format is told by the first bytes: `[` = an array, `{` = one object after the other (white
 * space between them, so NDJSON, pretty printed objects and mongoexport files), else CSV with a
 * header. CSV: RFC 4180 quoting; a cell that is a JSON number, true, false or null becomes one,
 * an empty cell is left out, all else is text. Dotted header names make nested documents no more
 * than plain names. */
#pragma once

#include <stdio.h>

#include "protocol/base.h"

typedef enum record_format { RECORDS_AUTO, RECORDS_JSON, RECORDS_CSV } record_format;

typedef struct record_reader {
    FILE *in; /* borrow */
    record_format format;
    bool array; /* inside a JSON array */
    bool ended;
    uint64_t bytes; /* read so far */
    uint64_t line;  /* where the record began, from 1 */
    uint64_t line_now;
    tw_buf text;   /* own: the record as JSON */
    tw_buf header; /* own: CSV names, each as JSON text with a NUL behind it */
    size_t columns;
} record_reader;

/* TW_E_BAD_MESSAGE: the beginning is none of the formats. */
tw_err record_reader_init(record_reader *reader, FILE *in, record_format format);
void record_reader_fini(record_reader *reader);
/* The next record's JSON text, valid until the next call. TW_E_END at the end; TW_E_BAD_MESSAGE:
 * the record cannot be delimited (why tells); TW_E_TOO_BIG: over TW_MESSAGE_MAX. After an error
 * the reader stands behind what it could skip, or at the end. */
tw_err record_reader_next(record_reader *reader, tw_str *json, const char **why);
