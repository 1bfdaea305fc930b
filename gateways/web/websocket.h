/* websocket.h - what a client says over a websocket, and how it is answered (DESIGN 6). */
#pragma once

#include "gateways/web/connection.h"

/* Makes a websocket of a connection whose handshake was sent. False: no memory. */
bool websocket_begin(edge *edge, connection *conn, tw_str path);
void websocket_bytes(edge *edge, connection *conn, uint8_t *bytes, size_t len);
/* A reply of a request; false: pause it until the queue has drained. */
bool websocket_reply(edge *edge, connection *conn, tw_bson reply);
/* Says goodbye with a number of the RFC or of errors.h, and ends the connection. */
void websocket_close(edge *edge, connection *conn, unsigned number, const char *text);
/* The server goes down: a last error with after_ms, then 4503. */
void websocket_drain(edge *edge, connection *conn, uint64_t after_ms);
void websocket_look_at(edge *edge, connection *conn, uint64_t now_ms); /* pings and deadlines */
void websocket_gone(edge *edge, connection *conn);
