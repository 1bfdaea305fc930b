/* errors.h - the one table of results: name, wire code, close number, retry, text.
 *
 * The code goes to clients in {"type":"error","code":...}; the number is used where a websocket is
 * closed for it; retry tells a client what to do (no, now, backoff). */
#pragma once

#define TW_ERRORS(X)                                                                               \
    /* name, code, close number, retry, what it means */                                           \
    X(BAD_MESSAGE, "bad_message", 4400, "no", "The message cannot be understood.")                 \
    X(BAD_SINCE, "bad_since", 4400, "no", "since is not a vector of [srv_id, seqno] pairs.")       \
    X(BAD_FILTER, "bad_filter", 4400, "no", "The filter has a clause that is not supported.")      \
    X(BAD_QUERY, "bad_query", 4400, "no", "The query cannot be understood.")                       \
    X(BAD_UPDATE, "bad_update", 4400, "no", "The update cannot be applied.")                       \
    X(BAD_DOCUMENT, "bad_document", 4400, "no", "The document is not acceptable.")                 \
    X(BAD_CONFIG, "bad_config", 4400, "no", "The configuration has an error.")                     \
    X(DEPTH, "depth", 4400, "no", "The value is nested too deeply.")                               \
    X(UNKNOWN, "unknown", 4400, "no", "There is no such action, type or event.")                   \
    X(UNSUPPORTED, "unsupported", 4400, "no", "This is not offered here.")                         \
    X(TOKEN, "token", 4401, "no", "The token is missing, wrong or expired.")                       \
    X(FORBIDDEN, "forbidden", 4403, "no", "The rights do not allow this.")                         \
    X(RULE, "rule", 4403, "no", "The write breaks a rule of its collection.")                      \
    X(INIT_TIMEOUT, "init_timeout", 4408, "now", "Nothing was heard in time.")                     \
    X(MUX_IN_USE, "mux_in_use", 4409, "no", "This mux_id names an open stream.")                   \
    X(NO_STREAM, "no_stream", 4400, "no", "This mux_id names no open stream.")                     \
    X(TOO_BIG, "too_big", 4413, "no", "The message or its result is larger than allowed.")         \
    X(TOO_MANY, "too_many", 4429, "no", "More items than allowed.")                                \
    X(RATE, "rate", 4429, "backoff", "Too many requests.")                                         \
    X(NOT_FOUND, "not_found", 4400, "no", "Nothing has this id.")                                  \
    X(CONFLICT, "conflict", 4409, "no", "The record exists, or its version is another.")           \
    X(TOO_COSTLY, "too_costly", 4400, "no", "The query needs more work than allowed.")             \
    X(BUSY, "busy", 4503, "backoff", "No room for more work at the moment.")                       \
    X(TIMEOUT, "timeout", 4503, "backoff", "No answer came in time.")                              \
    X(UNAVAILABLE, "unavailable", 4503, "backoff", "A part of the server is not available.")       \
    X(SEARCH_UNAVAILABLE, "search_unavailable", 4503, "backoff", "The search engine is away.")     \
    X(DRAINING, "draining", 4503, "backoff", "The server is going down.")                          \
    X(DISK, "disk", 4503, "backoff", "The disk is full or fails.")                                 \
    X(CORRUPT, "corrupt", 4500, "backoff", "Stored data is damaged; the store rebuilds it.")       \
    X(NO_MEMORY, "no_memory", 4503, "backoff", "There is no memory left for this.")                \
    X(SLOW, "slow", 4508, "now", "The connection did not read for too long.")                      \
    X(INTERNAL, "internal", 4500, "backoff", "A defect of the server.")                            \
    X(GAP, "gap", 4500, "now", "Publications were lost; read the log instead.")                    \
    X(AHEAD, "ahead", 4400, "no", "since is ahead of what this server has.")                       \
    X(COMPACTED, "compacted", 4400, "no", "since is below the log's floor.")                       \
    X(RESET, "reset", 4400, "no", "The position is of another log.")                               \
    X(END, "end", 4500, "no", "There is nothing more to read.")

/* Clang honours the attribute on the type: an ignored result is an error. gcc has no such place. */
#if defined(__clang__)
#define TW_MUST_USE __attribute__((warn_unused_result))
#else
#define TW_MUST_USE
#endif

typedef enum TW_MUST_USE tw_err {
    TW_OK = 0,
#define X(name, code, number, retry, text) TW_E_##name,
    TW_ERRORS(X)
#undef X
        TW_ERRORS_END
} tw_err;

const char *tw_err_code(tw_err err);     /* "bad_message"; "ok" for TW_OK */
const char *tw_err_text(tw_err err);     /* one sentence */
const char *tw_err_retry(tw_err err);    /* "no", "now" or "backoff" */
unsigned tw_err_number(tw_err err);      /* 4400 .. 4508 */
tw_err tw_err_by_code(const char *code); /* TW_E_INTERNAL for an unknown one */
