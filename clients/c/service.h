/* service.h - requests to the service socket: what libtidewire (tidewire.h) and the feed stand on.
 *
 * Requests and replies are msgpack maps on the wire, BSON here. A request that was sent is repeated
 * by itself, byte for byte, when its server goes away or asks for patience, until its deadline; so
 * a write must carry an opid. Thread: one at a time for a client and all that was opened of it;
 * different clients are independent. Calls block up to their deadline, close for a moment. */
#pragma once

#include <nng/nng.h>

#include "protocol/bson.h"
#include "protocol/limits.h"

/* Why a call failed. code: of the server, or of this side where no answer came. */
typedef struct service_failure {
    tw_err code;
    char name[TW_MUX_ID_MAX];        /* the code's word; a later server may have more of them */
    char message[TW_ERROR_TEXT_MAX]; /* the cause, for people */
    char hint[TW_ERROR_TEXT_MAX];    /* what to do; "" where nothing is known */
    char retry[TW_SHOWN_INPUT_MAX];  /* no, now, backoff */
    int64_t version;                 /* conflict: the version that stands; else 0 */
} service_failure;

/* Who asks, where the server wants to know. */
typedef struct service_identity {
    const char *token; /* copied; NULL: give says it */
    /* The token of the next request, a view until the next call; refused: the server has refused
     * the last one. NULL: none. Called by the thread that asks. */
    const char *(*give)(void *context, bool refused);
    void *context;
} service_identity;

typedef struct service_client {
    char *token; /* own; NULL: give says it, or there is none */
    const char *(*give)(void *context, bool refused);
    void *give_context;
    char *url; /* own */
    nng_socket socket;
    nng_dialer dialer;
    uint64_t random;         /* state of the back-off's jitter */
    uint64_t repeats;        /* requests sent again because the server asked for patience */
    service_failure failure; /* of the last call that failed */
} service_client;

/* One request under way. Several of one client may be: the answers come in any order. */
typedef struct service_call {
    service_client *client; /* borrow; outlives the call */
    nng_ctx context;
    nng_aio *aio;   /* own */
    nng_msg *last;  /* own; the answer that reply points into */
    tw_buf asked;   /* own; the request as BSON, without a token */
    tw_buf request; /* own; as it is sent, and sent again */
    tw_arena arena; /* own; the answer as BSON */
    bool is_sent;
    uint64_t deadline_ms; /* by service_clock_ms */
} service_call;

/* Milliseconds of a clock that never goes back. */
uint64_t service_clock_ms(void);

/* Connects to url (ipc:///path, tcp://host:port, inproc://name) in the background, and goes on
 * trying for as long as it is open. TW_E_BAD_MESSAGE: no such address; TW_E_NO_MEMORY. failure says
 * it in words, and is all there is when *out is NULL. identity NULL: requests carry no token. */
tw_err service_client_open(service_client **out, const char *url, const service_identity *identity,
                           service_failure *failure);
/* Every call and feed of it is closed before. */
void service_client_close(service_client **client);

tw_err service_call_init(service_call *call, service_client *client);
void service_call_fini(service_call *call);
/* Takes a request that replaces call->request, and puts it on its way; blocks while nobody is
 * connected. TW_E_TOO_BIG: over TW_SERVICE_MESSAGE_MAX, not sent; TW_E_TIMEOUT; the client's
 * failure tells why. */
tw_err service_call_begin(service_call *call, tw_bson request, uint64_t deadline_ms);
/* Waits for the answer. TW_OK: it says ok (a batch may count some as failed even so). Otherwise the
 * code of its refusal (a refused token is asked for anew, once), TW_E_TIMEOUT or TW_E_BAD_MESSAGE
 * (it is no answer), with client->failure;
 * reply then is what was said, or empty. A view until the next begin. */
tw_err service_call_end(service_call *call, tw_bson *reply);
/* Both. */
tw_err service_call_ask(service_call *call, tw_bson request, uint64_t deadline_ms, tw_bson *reply);

/* Notes a failure of this side: code, and the cause in words; hint may be NULL. Returns code. */
tw_err service_fail(service_failure *failure, tw_err code, const char *hint, const char *format,
                    ...) TW_PRINTF(4, 5);
/* What nng's number means here. */
tw_err service_failure_of(int rv);
/* A dialer with the bounds of every connection of this client, started in the background. */
int service_dial(nng_socket socket, const char *url, nng_dialer *out);
/* An operation id that nobody else has: 16 hex digits and a NUL. TW_E_INTERNAL: no random bytes. */
tw_err service_opid(char out[17]);
