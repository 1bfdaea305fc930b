/* session.h - requests of a verb to the server's data access, one after the other. */
#pragma once

#include "protocol/json.h"
#include "protocol/limits.h"

#include "cli/verb.h"
#include "clients/c/websocket.h"

typedef struct cli_session {
    const char *verb;
    websocket_client *client; /* own */
    tw_arena arena;           /* of the reply */
    uint64_t requests;
} cli_session;

/* Connects; prints what is wrong and returns 1 when that fails, else 0. */
int cli_session_open(cli_session *session, const char *verb, const cli_common *common);
void cli_session_close(cli_session *session);
/* Sends {"action":...,"reqID":N, fields}; fields is JSON without braces, may be empty. Returns the
 * number sent as reqID, 0 when the connection ended (told). */
uint64_t cli_session_send(cli_session *session, const char *action, tw_str fields);
/* The next reply (any reqID): text and BSON are views until the next call. False when none came in
 * 30 s or the connection ended (told). */
bool cli_session_next(cli_session *session, tw_str *text, tw_bson *reply);
/* Prints an error reply for a person and returns 1. */
int cli_session_refused(cli_session *session, tw_bson reply);
