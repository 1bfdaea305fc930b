/* http_priv.h - for http.c, http_admin.c and http_pages.c: a connection while it speaks HTTP. */
#pragma once

#include "gateways/web/http.h"
#include "gateways/web/http_parse.h"

enum { HTTP_REPLY_MAX = TW_DOCUMENT_MAX }; /* bytes of a reply's body; then too_big */

typedef enum http_shape {
    HTTP_DOCUMENT, /* the body is the reply's doc */
    HTTP_REPLY,    /* the body is the reply */
    HTTP_LIST,     /* {"docs":[...], and what the last reply tells} */
} http_shape;

struct http_state {
    tw_buf input; /* own; bytes that were not understood yet */
    tw_buf body;  /* own; of the answer being made */
    bool running; /* an answer is being made: what follows waits */
    bool in_body; /* the head is whole, its body is not */
    bool keep_alive;
    bool head_only; /* HEAD */
    bool is_cross;  /* asked by a page of an allowed origin, which is to be let read the answer */
    uint8_t shape;
    uint16_t good;                /* status when it goes well */
    size_t docs;                  /* in body */
    uint16_t wait;                /* actors that have not told their state */
    uint64_t count, live, silent; /* summed up for a page of all gateways; those without answer */
    bool prometheus;
    bool of_streams; /* the page tells streams, not connections */
    bool with_health;
    const char *more_head; /* lines for the next answer, each with its end; NULL: none */
};

/* Answers the request that runs: type NULL: JSON. */
void http_answer(edge *self, connection *conn, int status, const char *type, tw_str body);
void http_answer_refusal(edge *self, connection *conn, int status, const wire_refusal *refusal);
void http_answer_error(edge *self, connection *conn, int status, tw_err err, const char *message);
bool http_is_loopback(tw_str host); /* localhost, 127.x, ::1, with or without port */
void http_health(edge *self, connection *conn, bool ready);

/* Answers with a page of the program, a redirect to one, or why there is none. */
void http_page(edge *self, connection *conn, tw_str path);
int http_public_port(const edge *self); /* of the websocket */

/* Answers what only the admin listener offers; false: there is no such page. */
bool http_admin(edge *self, connection *conn, const http_head *head);
