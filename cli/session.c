/* session.c - see session.h. */
#include "cli/session.h"

#include <stdio.h>

enum {
    CONNECT_MS = 5000,
    REPLY_MS = 30000,         /* longer than any time limit of the server */
    REPLY_MEMORY = 128 << 20, /* bytes of a reply as BSON */
};

int cli_session_open(cli_session *session, const char *verb, const cli_common *common)
{
    char url[1024], why[256];
    *session = (cli_session){.verb = verb};
    tw_arena_init(&session->arena, REPLY_MEMORY);
    websocket_client_who who = cli_who(common);
    tw_err err = websocket_client_open(&session->client, cli_path(common, "/db", url, sizeof(url)),
                                       &who, CONNECT_MS, why, sizeof(why));
    if (err != TW_OK) {
        return cli_fail(verb, "Is the server running? Start one with: tidewire serve",
                        "cannot connect to %s: %s", common->url, why);
    }
    return 0;
}

void cli_session_close(cli_session *session)
{
    websocket_client_close(&session->client);
    tw_arena_fini(&session->arena);
}

uint64_t cli_session_send(cli_session *session, const char *action, tw_str fields)
{
    tw_buf text;
    tw_buf_init(&text, TW_MESSAGE_MAX);
    uint64_t number = ++session->requests;
    tw_buf_format(&text, "{\"action\":\"%s\",\"reqID\":%llu", action, (unsigned long long)number);
    if (fields.len > 0) {
        tw_buf_add_byte(&text, ',');
        tw_buf_add_str(&text, fields);
    }
    tw_buf_add_byte(&text, '}');
    tw_err err = text.err;
    if (err == TW_OK) {
        err = websocket_client_send(session->client, tw_buf_str(&text));
    }
    tw_buf_fini(&text);
    if (err != TW_OK) {
        (void)cli_fail(session->verb, "", "the request could not be sent: %s", tw_err_text(err));
        return 0;
    }
    return number;
}

bool cli_session_next(cli_session *session, tw_str *text, tw_bson *reply)
{
    tw_err err = websocket_client_receive(session->client, REPLY_MS, text);
    if (err == TW_OK) {
        tw_arena_reset(&session->arena);
        err = tw_json_read(&session->arena, *text, TW_DEPTH_MAX, reply, NULL);
    }
    if (err != TW_OK) {
        (void)cli_fail(session->verb, "Look at the server's log, or: tidewire doctor",
                       "no reply: %s",
                       err == TW_E_UNAVAILABLE ? "the connection ended" : tw_err_text(err));
    }
    return err == TW_OK;
}

int cli_session_refused(cli_session *session, tw_bson reply)
{
    tw_str code = tw_bson_get_str(reply, TW_STR("code"));
    tw_str message = tw_bson_get_str(reply, TW_STR("message"));
    tw_str hint = tw_bson_get_str(reply, TW_STR("hint"));
    char advice[TW_ERROR_TEXT_MAX];
    tw_format(advice, sizeof(advice), "%.*s", (int)hint.len, hint.ptr == NULL ? "" : hint.ptr);
    return cli_fail(session->verb, advice, "%.*s: %.*s", (int)code.len, code.ptr, (int)message.len,
                    message.ptr);
}
