/* curl_link.h - HTTP to the nodes of one cluster, over one libcurl multi handle, in an actor's
 * loop.
 *
 * A call has one deadline, whatever happens on the way: idempotent ones are tried at most
 * TW_SEARCH_RETRIES_MAX times more, with jitter, on a lost connection and on 429, 502, 503, 504,
 * each time at the next node; what never left this machine may be tried again always. A node that
 * failed is left alone for a while. After BREAKER_FAILURES failures in a row the circuit is open:
 * calls fail at once, until a probe (GET /) is answered; the probe goes out by itself.
 *
 * A reply is counted as it comes, unpacked, so that no body is held beyond its bound.
 * Thread: the actor's own. */
#pragma once

#include "actors/runtime/actor.h"

typedef struct curl_link curl_link;

typedef struct curl_link_options {
    const char *const *hosts; /* "http://127.0.0.1:9200", without a slash behind it; borrow */
    size_t hosts_count;
    const char *user; /* NULL: none; with password: basic authentication */
    const char *password;
    const char *api_key; /* NULL: none */
    const char *ca_file; /* NULL: the system's */
    size_t connections;
} curl_link_options;

typedef struct curl_call {
    const char *method;
    const char *path; /* "/index/_search?x=y", encoded */
    tw_str body;      /* len 0: none; copied */
    bool lines;       /* body is lines of JSON */
    bool idempotent;
    uint64_t deadline_ms; /* by tw_now_ms */
    size_t reply_max;     /* bytes */
} curl_call;

typedef struct curl_reply {
    tw_err err; /* TW_OK: an answer came, whatever its status; SEARCH_UNAVAILABLE, TIMEOUT,
                   TOO_BIG */
    int status;
    tw_str body;        /* view; valid until the callback returns */
    const char *type;   /* Content-Type; "" */
    const char *server; /* X-elastic-product; "" */
    uint64_t after_ms;  /* with SEARCH_UNAVAILABLE: when to try again */
    const char *why;    /* of an error, for a person */
} curl_reply;

/* Called once for each call, from curl_link_wait; from curl_link_send itself only where there is no
 * memory: let it be the last thing that a function does. */
typedef void (*curl_on_reply)(void *context, const curl_reply *reply);

typedef struct curl_figures {
    uint64_t calls, retries, failures, timeouts, rejected, opened, bytes_in;
    uint64_t running;
    bool open;
} curl_figures;

/* options' texts are copied. *why: text for a person. TW_E_BAD_CONFIG, TW_E_NO_MEMORY. */
tw_err curl_link_new(curl_link **out, tw_actor *actor, const curl_link_options *options,
                     const char **why);
void curl_link_free(curl_link **link); /* calls without reply are forgotten */
void curl_link_send(curl_link *link, const curl_call *call, curl_on_reply on_reply, void *context);
/* Waits for sockets and for the actor's own descriptor, at most timeout_ms (-1: no bound), and
 * carries on. */
void curl_link_wait(curl_link *link, int timeout_ms);
curl_figures curl_link_figures(const curl_link *link);
/* Appends text as a part of a path, encoded. */
void curl_link_encode(tw_buf *out, tw_str text);
