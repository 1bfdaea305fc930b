/* database.h - the realtime database (DESIGN 6.7): events of clients, and what answers them.
 *
 * An event is a request of the engine in other words: its answer is a DB_DONE with `of` = the
 * event. What others wrote comes by the connection's stream of the database (streams_listen). */
#pragma once

#include "gateways/web/connection.h"

/* Runs an event of a websocket client. False: there is no such event; nothing was answered. */
bool database_event(edge *self, connection *conn, tw_bson message, tw_str event);
void database_gone(connection *conn);
/* Names of all events, for a hint. */
extern const char database_events[];
