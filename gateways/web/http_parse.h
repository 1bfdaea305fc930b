/* http_parse.h - the head of an HTTP/1.x request, strictly read. Pure.
 * Source  RFC 9110, RFC 9112 */
#pragma once

#include "protocol/base.h"

/* Fields that may carry a token are not counted by the first: they have room of their own. */
enum { HTTP_HEAD_MAX = 4096, HTTP_TOKENS_MAX = 8704, HTTP_FIELDS_MAX = 100 };

/* Views into the bytes parsed; ptr NULL: absent. */
typedef struct http_head {
    tw_str method;
    tw_str path;  /* as sent, up to the ? */
    tw_str query; /* behind the ? */
    tw_str host;
    tw_str origin;
    tw_str upgrade;
    tw_str content_type;
    tw_str if_match;
    tw_str websocket_key;
    tw_str websocket_version;
    tw_str authorization;
    tw_str protocols; /* Sec-WebSocket-Protocol */
    tw_str forwarded; /* the last X-Forwarded-For: some proxies add a line, others to the line */
    uint64_t content_length;
    bool upgrades;   /* Connection names upgrade */
    bool keep_alive; /* the connection may serve another request */
    bool http10;
    bool expects_continue;
    size_t len; /* bytes of the head, its empty line included */
} http_head;

/* 0: incomplete, more bytes are needed. 200: *out is filled. Otherwise the status to refuse with:
 * 400 malformed, 411 chunked body, 431 too large, 505 another version. */
int http_parse(tw_str bytes, http_head *out);

bool http_token_equal(tw_str a, const char *b); /* ASCII case ignored */
/* Decodes %xx of a path segment or query value into out (at least in.len bytes); false: malformed,
 * or a NUL. */
bool http_decode(tw_str in, char *out, size_t *len);
/* The value of name in a query string, still encoded; ptr NULL: absent. */
tw_str http_query_get(tw_str query, const char *name);
