/* http.h - HTTP/1.1 on both listeners: handshakes, REST, health, pages; figures on the admin's. */
#pragma once

#include "gateways/web/connection.h"

void http_bytes(edge *edge, connection *conn, const uint8_t *bytes, size_t len);
/* Tells one who speaks without TLS where TLS is spoken, and ends it. */
void http_refuse_plain(edge *edge, connection *conn);
void http_go_on(edge *edge, connection *conn); /* an answer has left: the next request */
/* A reply of the request that runs; false: pause it until the queue has drained. */
bool http_reply(edge *edge, connection *conn, tw_bson reply, bool final);
/* Tells one too many of its address that it is, before it has asked anything, and ends it. */
void http_refuse_address(edge *edge, connection *conn);
/* What this gateway has to show of its connections, or of its streams, into items and page (whose
 * items are a view of it). TW_E_TOO_BIG, TW_E_NO_MEMORY. */
tw_err http_show(edge *edge, bool of_streams, tw_buf *items, tw_msg_gateway_page *page);
void http_gone(connection *conn);
