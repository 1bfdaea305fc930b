/* stream.h - one resumable stream over a websocket: it reconnects and goes on where it was.
 *
 * After a break it subscribes again with the vector of its last sync and of the live events
 * behind it, backs off with full jitter (50 ms doubling to 5 s), and leaves out what it has
 * already given to its user: each change is told once. Where the server must start over (reset,
 * as where the rights have changed), and after a first copy that broke off, the user is told by
 * STREAM_RESET: forget what you have, everything comes again. Thread: one at a time. Blocks in
 * stream_next only. */
#pragma once

#include "protocol/arena.h"
#include "protocol/bson.h"

#include "clients/c/websocket.h"

typedef struct stream stream;

typedef enum stream_kind {
    STREAM_EVENT,   /* a record, entry, ... or remove, drop */
    STREAM_SYNCED,  /* all that is stored has been told; count = events since the (re)subscribe */
    STREAM_RESET,   /* forget everything; a whole copy follows */
    STREAM_LOST,    /* the connection broke; it is tried again (text tells why) */
    STREAM_BACK,    /* connected again */
    STREAM_REFUSED, /* the server refused the subscribe; the stream is over */
} stream_kind;

typedef struct stream_event {
    stream_kind kind;
    tw_str text;    /* the frame as it came; or the reason; view until the next call */
    tw_bson frame;  /* the same as BSON; len 0 where there is none; view until the next call */
    uint64_t count; /* STREAM_SYNCED */
} stream_event;

/* subscribe  JSON object of the subscribe without mux_id, since and query ({"type":"subscribe",
 * ...}); copied, as is what stands in who (NULL: nobody in particular). since: JSON vector to begin
 * from, "now" for what happens from here on, or NULL: all that is stored. The first connection is
 * tried in stream_next. TW_E_BAD_MESSAGE: not a JSON object, or it has none of its fields or one of
 * those three; TW_E_DEPTH; TW_E_TOO_BIG; TW_E_BAD_SINCE: no vector. */
tw_err stream_open(stream **out, const char *url, const websocket_client_who *who, tw_str subscribe,
                   const char *since);
void stream_close(stream **stream);
/* The next event; TW_E_TIMEOUT: none came in time. */
tw_err stream_next(stream *stream, uint32_t timeout_ms, stream_event *out);
/* The vector to resume from, as JSON text; "[]" before the first sync. View until the next call. */
tw_str stream_since(stream *stream);
