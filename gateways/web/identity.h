/* identity.h - who a connection is, where auth is configured: hello, headers, a token's end. */
#pragma once

#include "broker/why.h"

#include "gateways/web/connection.h"
#include "gateways/web/http_parse.h"

/* True when nothing may be asked yet. */
bool identity_missing(const edge *self, const connection *conn);
/* Takes a token (len 0: nobody in particular) for a connection; of one that is known already it
 * must be the same subject's. *changed: it was known, and its rights are others now. TW_E_TOKEN
 * with why; the connection is then as it was. */
tw_err identity_take(edge *self, connection *conn, tw_str token, bool *changed, broker_why *why);
/* The same of a request's head: Authorization: Bearer, or of an upgrade a subprotocol. Nothing is
 * known before, or what the request before was. */
tw_err identity_of_head(edge *self, connection *conn, const http_head *head, broker_why *why);
/* Looks at the rights anew where the policy was replaced since. True: they are others now, and what
 * its streams were told is of those before. */
bool identity_changed(edge *self, connection *conn);
/* True when the token is over. */
bool identity_over(const edge *self, const connection *conn);
void identity_gone(connection *conn);
/* True when a client offers the subprotocol that the server speaks: it alone is ever selected. */
bool identity_speaks(tw_str protocols);
/* A token among the headers; ptr NULL: none. Views into head. */
tw_str identity_token(const http_head *head);
