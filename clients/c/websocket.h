/* websocket.h - a blocking client of the websocket edge, for command lines and tests.
 *
 * One connection, JSON text frames in both directions. It does not reconnect: the caller does, with
 * the `since` of its last sync (see stream.h of this folder for a stream that does it all).
 * Thread: one at a time. */
#pragma once

#include "protocol/base.h"

typedef struct websocket_client websocket_client;

/* Who asks, and whom it believes. All borrow; NULL and "" alike: not given. */
typedef struct websocket_client_who {
    const char *token;    /* sent as Authorization: Bearer */
    const char *ca_file;  /* of wss: certificates that may sign the server's; else the system's */
    bool any_certificate; /* of wss: nothing is checked, so anybody may answer */
} websocket_client_who;

/* url    "ws://127.0.0.1:8090/ws" or wss://; https and http are read as their websocket kin
 * who    borrow until the call returns; NULL: nobody in particular
 * TW_E_UNAVAILABLE: nobody listens, or the server refused (websocket_client_reason tells);
 * TW_E_TIMEOUT; TW_E_BAD_MESSAGE: not an url. */
tw_err websocket_client_open(websocket_client **out, const char *url,
                             const websocket_client_who *who, uint32_t timeout_ms, char *why,
                             size_t why_size);
void websocket_client_close(websocket_client **client);
/* Queues a text frame and sends it as the socket takes it (while receiving). TW_E_TOO_BIG,
 * TW_E_UNAVAILABLE when the connection has ended. */
tw_err websocket_client_send(websocket_client *client, tw_str text);
/* The next whole text message; the view is valid until the next call. TW_E_TIMEOUT: none came in
 * time; TW_E_UNAVAILABLE: the connection has ended (all messages before it were given). */
tw_err websocket_client_receive(websocket_client *client, uint32_t timeout_ms, tw_str *out);
/* Number of the server's close frame, 0 when there was none. */
unsigned websocket_client_close_code(const websocket_client *client);
