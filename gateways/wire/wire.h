/* wire.h - the small JSON messages that the gateway writes itself, and frames around them. */
#pragma once

#include "protocol/json.h"

#include "actors/runtime/shared.h"

typedef struct wire_refusal {
    tw_str mux_id; /* JSON text; ptr NULL: none */
    tw_str req_id; /* JSON text; ptr NULL: none */
    tw_str event;  /* of the realtime database; ptr NULL: none */
    tw_str db;     /* of the realtime database; ptr NULL: none */
    tw_err code;
    tw_str message;    /* empty: the code's own sentence */
    tw_str hint;       /* empty: none */
    uint64_t after_ms; /* 0: a default where the code says backoff */
} wire_refusal;

/* Appends {"type":"error",...} (DESIGN 6.1). Text is cut at TW_ERROR_TEXT_MAX. */
void wire_error(tw_buf *out, const wire_refusal *refusal);

/* One text frame of payload, or NULL without memory. */
tw_shared *wire_frame(tw_str payload);

/* Writes a mux_id as JSON text: a number or a string of at most TW_MUX_ID_MAX bytes. */
tw_err wire_mux_id(tw_buf *out, tw_bson_value value);

/* Bytes of a stream's event as a frame, and the frame itself at to (its end is returned):
 * {"type":T,"mux_id":M,"prev":P,<tail>. type is JSON text with quotes; what is empty or 0 is left
 * out. */
typedef struct wire_event {
    tw_str type;
    tw_str mux_id;
    uint64_t prev;
    tw_str tail;
} wire_event;
size_t wire_event_len(const wire_event *event); /* header included */
char *wire_event_put(char *to, const wire_event *event);
