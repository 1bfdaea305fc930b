/* websocket_frame.h - RFC 6455 frames: strictly read from a client, made for one.
 *
 * The gateway reads frames itself: libwebsockets 4.1.6 accepts unmasked client frames and lengths
 * of 2^62, pins a receive buffer to every connection, and tells the mask bit nowhere. Pure: no I/O.
 * Source  RFC 6455, sections 5 and 7.4 */
#pragma once

#include "protocol/base.h"
#include "protocol/limits.h"

enum {
    WEBSOCKET_HEADER_MAX = 10,        /* bytes of a server's frame header */
    WEBSOCKET_CLIENT_HEADER_MAX = 14, /* with mask */
    WEBSOCKET_CONTROL_MAX = 125,      /* payload of a control frame */
};

typedef enum websocket_opcode {
    WEBSOCKET_OP_CONTINUATION = 0,
    WEBSOCKET_OP_TEXT = 1,
    WEBSOCKET_OP_BINARY = 2,
    WEBSOCKET_OP_CLOSE = 8,
    WEBSOCKET_OP_PING = 9,
    WEBSOCKET_OP_PONG = 10,
} websocket_opcode;

/* Close numbers of the RFC; those of ours stand in errors.h. */
enum {
    WEBSOCKET_CLOSE_NORMAL = 1000,
    WEBSOCKET_CLOSE_PROTOCOL = 1002,
    WEBSOCKET_CLOSE_UNSUPPORTED = 1003, /* binary */
    WEBSOCKET_CLOSE_BAD_TEXT = 1007,
    WEBSOCKET_CLOSE_TOO_BIG = 1009,
};

typedef enum websocket_event {
    WEBSOCKET_MORE,   /* all bytes are taken in; nothing is complete */
    WEBSOCKET_TEXT,   /* a whole message, valid UTF-8 */
    WEBSOCKET_BINARY, /* a whole message */
    WEBSOCKET_PING,   /* its payload is to be sent back */
    WEBSOCKET_PONG,
    WEBSOCKET_CLOSE,  /* the peer says goodbye; close_number is its own or 1000 */
    WEBSOCKET_BROKEN, /* the connection cannot go on; close_number says why */
    WEBSOCKET_NO_MEMORY,
} websocket_event;

typedef struct websocket_reader {
    tw_buf message;        /* own; an unfinished message, empty memory between messages */
    uint64_t left;         /* payload bytes of the current frame that are still to come */
    uint32_t fragments;    /* frames of the current message */
    uint16_t close_number; /* with CLOSE and BROKEN */
    uint8_t header[WEBSOCKET_CLIENT_HEADER_MAX];
    uint8_t header_len;     /* bytes of the next header that are here */
    uint8_t message_opcode; /* 0: no message is open */
    uint8_t mask_at;        /* which mask byte is next */
    uint8_t control_len;
    bool in_payload;   /* the header is complete */
    bool gave_message; /* message was handed out by the last event and is to be cleared */
    uint8_t control[WEBSOCKET_CONTROL_MAX];
} websocket_reader;

void websocket_reader_init(websocket_reader *reader);
void websocket_reader_fini(websocket_reader *reader);

/* Takes bytes from *at on until something is complete or end is reached; call again until it gives
 * MORE. Payloads are unmasked in place: the bytes are changed.
 * payload  of TEXT, BINARY, PING, PONG; view into the bytes or the reader, until the next call
 * After CLOSE, BROKEN and NO_MEMORY the reader takes nothing more.
 * Bounds   TW_MESSAGE_MAX, TW_MESSAGE_FRAGMENTS_MAX (1009; 4413 where the sum passes it) */
websocket_event websocket_next(websocket_reader *reader, uint8_t **at, uint8_t *end,
                               tw_str *payload);
/* A message has begun and is not complete (for its deadline). */
bool websocket_reader_inside(const websocket_reader *reader);

/* Writes the header of an unfragmented server frame; returns its bytes, 2, 4 or 10. */
size_t websocket_header(uint8_t out[WEBSOCKET_HEADER_MAX], websocket_opcode opcode, size_t len);
size_t websocket_header_len(size_t len);
