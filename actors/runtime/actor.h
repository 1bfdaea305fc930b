/* actor.h - what an actor is, and all that one may do: the machine's public face.
 *
 * An actor is a class (handlers, init, fini) run by one thread, which alone touches its state. It
 * has an inbox (nng REP) where requests arrive, may have followers (nng PUB), may ask others (nng
 * REQ, a link each) and follow others (nng SUB). One epoll descriptor holds everything that can
 * wake it: the receive descriptors of its sockets, its next timer, a wake-up. The default loop
 * waits on that descriptor; an actor whose library owns a loop (libwebsockets, curl) gives `wait`
 * and has the library wait on tw_actor_fd().
 *
 * Rules of life
 * 1. init returned TW_OK = ready: its inbox listens and is answered. tw_system_start returns when
 *    every actor is ready; tw_system_stop when every thread is joined. Nobody sleeps for it.
 * 2. Links to actors that are not there yet, or no longer, are no error: asks to them fail with
 *    TW_E_UNAVAILABLE, and the link comes up by itself.
 * 3. An operating error out of `init` or `on_turn`, or tw_actor_fail, ends that actor; it is
 *    started again from nothing with back-off (10 ms doubling to 5 s, jitter). More than
 *    TW_RESTARTS_MAX in 10 s: the system's health is red and says why.
 * 4. A handler never blocks. A turn handles at most 256 messages, then timers, then on_turn runs.
 * 5. After fini nothing calls the class any more: asks that are still open when an actor ends or
 *    stops are dropped without on_answer, as fini has given back what their context points to.
 * 6. All functions below with a tw_actor argument: on the actor's own thread only, unless they say
 *    otherwise. */
#pragma once

#include "protocol/messages.h"

typedef struct tw_actor tw_actor;   /* one running actor */
typedef struct tw_system tw_system; /* all actors of this process */

/* Where an answer goes; copy it to answer later. Opaque: the route of a raw REP socket. */
typedef struct tw_route {
    uint8_t bytes[64]; /* nng header: pipe id and request ids */
    uint8_t len;
    uint64_t request; /* the asker's number, echoed in the answer */
} tw_route;

/* A message that has come, valid until the handler returns (its arena is then reset). */
typedef struct tw_envelope {
    tw_actor *actor;
    tw_msg_id id;
    const tw_body *body;
    tw_arena *arena;       /* of this message: temporary memory of the handler */
    const tw_route *route; /* of a request; NULL for publications and answers */
    tw_str bytes;          /* the encoded message, to keep or pass on */
} tw_envelope;

/* An error returned by a handler of a request is answered by the runtime as `error` with it. */
typedef tw_err (*tw_handler)(void *state, const tw_envelope *in);
/* The answer to an ask. err TW_OK: in is the answer (never an `error` message, those arrive as
 * their code; in->body->error then tells why). Otherwise in may be NULL: TW_E_TIMEOUT,
 * TW_E_UNAVAILABLE (the peer went away; the request may or may not have had its effect), TW_E_BUSY
 * (link's queue full). */
typedef void (*tw_on_answer)(void *state, void *context, uint64_t tag, tw_err err,
                             const tw_envelope *in);
/* Publications of source were lost, or its publisher began anew (restarted: in both cases read
 * again whatever was missed). Called before the batch that showed it is delivered. */
typedef void (*tw_on_gap)(void *state, const char *source);
typedef void (*tw_on_timer)(void *state, uint64_t tag);

typedef struct tw_actor_class {
    const char *name;
    size_t state_size; /* bytes, zeroed, given to every function as state */
    /* options: as given to tw_system_add; borrow until the system ends. */
    tw_err (*init)(void *state, tw_actor *actor, const void *options);
    void (*fini)(void *state);  /* NULL: nothing but memory of the actor to give back */
    const tw_handler *handlers; /* by tw_msg_id; NULL = not understood, answered by `unknown` */
    size_t handlers_count;
    tw_on_gap on_gap;               /* needed by those who follow */
    tw_err (*on_turn)(void *state); /* after all that was due was handled */
    /* Own loop: waits once, at most timeout_ms (-1: no bound), and returns when tw_actor_fd is
     * readable. */
    void (*wait)(void *state, int timeout_ms);
    void (*on_drain)(void *state); /* asked to finish; call tw_actor_drained */
    /* Own figures, at most 250. */
    void (*gauges)(void *state, tw_buf *scratch, tw_arena *arena, tw_list_gauge *out);
    bool publishes;      /* has a PUB socket */
    bool waits_for_idle; /* uses tw_idle_set */
} tw_actor_class;

/* ---- who am I, what time is it ---- */
const char *tw_actor_name(const tw_actor *actor); /* "log_reader.1" */
uint64_t tw_now_ms(const tw_actor *actor);        /* monotonic, taken once a turn */
uint64_t tw_unix_ms(const tw_actor *actor);       /* wall clock, taken once a turn */
uint64_t tw_random(tw_actor *actor);              /* 64 bits; seeded once an actor */
/* A pollable descriptor, readable when tw_actor_turn has something to do. For `wait` loops. */
int tw_actor_fd(const tw_actor *actor);
/* For `wait` loops: called by them when tw_actor_fd is readable; the runtime calls it after `wait`
 * too, so that a wait which returns early loses nothing. */
void tw_actor_turn(tw_actor *actor);
/* Ends this actor with a reason; it is restarted (rule 3). The handler should return at once. */
void tw_actor_fail(tw_actor *actor, tw_err err, const char *format, ...) TW_PRINTF(3, 4);
void tw_actor_drained(tw_actor *actor);
/* Says what this actor is at, told as its state instead of "running" (cut at TW_NAME_MAX bytes).
 * ill: it cannot do its work: the system's health is red with these words until it says otherwise
 * or its life ends. Cheap where nothing changed. */
void tw_actor_status(tw_actor *actor, bool ill, const char *format, ...) TW_PRINTF(3, 4);

/* ---- answering ---- */
/* Answers a request; from its handler (in->route) or later (a copied route). Never blocks. */
void tw_reply(tw_actor *actor, const tw_route *route, tw_msg_id id, const void *body);
void tw_reply_error(tw_actor *actor, const tw_route *route, tw_err code, const char *format, ...)
    TW_PRINTF(4, 5);

/* ---- asking ---- */
/* A link to an actor by name ("store", "log_reader.0"); made in init. -1: TW_LINKS_MAX reached. */
int tw_link(tw_actor *actor, const char *to);
/* Sends a request over a link; at most TW_LINK_IN_FLIGHT_MAX are unanswered, others wait their turn
 * (bounded by TW_MAILBOX_MAX, beyond: answered TW_E_BUSY from the next turn). on_answer is called
 * exactly once, on this thread, never from inside tw_ask (rule 5 for the end). context and tag are
 * the caller's. Encoding happens at once: body may go. A link that is down keeps asks for 500 ms,
 * as a restart takes less; after that they fail with TW_E_UNAVAILABLE at the next turn. */
void tw_ask(tw_actor *actor, int link, tw_msg_id id, const void *body, uint32_t timeout_ms,
            tw_on_answer on_answer, void *context, uint64_t tag);
/* True when the peer of the link is connected. */
bool tw_link_up(const tw_actor *actor, int link);

/* ---- publications ---- */
/* Publishes to the followers: [publisher's life, batch number, message]. Followers see lost
 * numbers, the loss of the very last too, as the number is repeated every 500 ms of silence.
 * Never blocks, may be dropped where a follower lags: nobody may depend on its delivery. */
void tw_publish(tw_actor *actor, tw_msg_id id, const void *body);
/* Follows an actor's publications; they arrive at the handlers of the class with route NULL. Its
 * first sign of life always calls on_gap. */
void tw_follow(tw_actor *actor, const char *source);
/* The same for who wants to know the newest alone: of those that wait it gets no other, and one
 * wakes it no sooner than every_ms after another did. What waits is handled before each request, so
 * that nothing is missed that was published before it. on_gap is called when a publisher begins and
 * when its last word was lost, not for what was left out. */
void tw_follow_newest(tw_actor *actor, const char *source, uint32_t every_ms);

/* ---- timers ---- */
/* Calls fn(state, tag) once, not before at_ms (tw_now_ms's clock). Setting the same (fn, tag) again
 * moves it. TW_TIMERS_MAX of them. */
void tw_timer_set(tw_actor *actor, uint64_t at_ms, tw_on_timer fn, uint64_t tag);
void tw_timer_cancel(tw_actor *actor, tw_on_timer fn, uint64_t tag);
/* Calls fn(state, tag) once, when a core is free: no thread of normal priority, of any process,
 * wants it; at at_ms at the latest, so that work which gives way to all others still has a share.
 * Not before the next turn. A timer, but for this: set again it moves, and it may be cancelled. One
 * at a time for an actor, whose class says waits_for_idle. */
void tw_idle_set(tw_actor *actor, uint64_t at_ms, tw_on_timer fn, uint64_t tag);

/* ---- the system: all actors of one process. Thread: the one that made it, unless noted ---- */
typedef struct tw_system_options {
    /* Base of all addresses: "inproc://tidewire-<random>" (default when NULL), "ipc:///dir",
     * "tcp://127.0.0.1:7100". The inbox and the publications of an actor are at: base/NAME and
     * base/NAME.pub (inproc, ipc); for tcp at port + 2 * index and + 1, index = position in
     * tw_actor_names. */
    const char *base;
    uint64_t drop_every; /* tests: discard every k-th publication that is received; 0: none */
    uint64_t fault_seed;
    uint32_t stop_ms;  /* tests: 0: TW_STOP_MS */
    uint32_t close_ms; /* tests: 0: TW_CLOSE_MS */
} tw_system_options;

/* Names of all actors of the program, in the order that gives tcp ports; ends with NULL. */
extern const char *const tw_actor_names[];

tw_err tw_system_new(tw_system **out, const tw_system_options *options);
/* Where its actors are: what tw_caller_open wants as base. View of the system. Thread: any. */
const char *tw_system_base(const tw_system *system);
/* Adds an actor; instance -1: the name alone, otherwise "name.instance". Before start. */
tw_err tw_system_add(tw_system *system, const tw_actor_class *class, int instance,
                     const void *options);
/* Starts every actor in order of addition; returns when all are ready, or the first error with *why
 * (may be NULL; borrow until free) after stopping those already started. */
tw_err tw_system_start(tw_system *system, const char **why);
typedef enum tw_stopped {
    TW_STOPPED,          /* every thread is joined */
    TW_STOPPED_UNCLOSED, /* all state is given back, but nng does not close an actor's sockets */
    TW_STOPPED_NOT,      /* an actor, told in the log, did not end; those added before it run on */
} tw_stopped;
/* Asks every actor to drain (reverse order), waits at most drain_ms for all, then stops and joins
 * them in reverse order. Bounded: at TW_STOP_MS and at TW_CLOSE_MS threads are left behind, and the
 * process should end. May be called again, and then waits again. */
tw_stopped tw_system_stop(tw_system *system, uint32_t drain_ms);
/* Stops at once, then frees; what threads that are left behind use stays allocated. */
void tw_system_free(tw_system **system);

/* Health: "" when green, otherwise the reason: restarts, an actor's own word, sockets that nng does
 * not close. Copies into out. Thread: any. */
void tw_system_health(const tw_system *system, char *out, size_t size);

/* ---- a caller that is no actor: main, cli, tests. Blocks; one thread at a time per caller ---- */
typedef struct tw_caller tw_caller;
/* base as in tw_system_options; to = actor's name. Waits up to timeout_ms for the connection. */
tw_err tw_caller_open(tw_caller **out, const char *base, const char *to, uint32_t timeout_ms);
/* Asks and waits. *in is valid until the next call. An `error` answer gives its code. */
tw_err tw_caller_ask(tw_caller *caller, tw_msg_id id, const void *body, uint32_t timeout_ms,
                     const tw_envelope **in);
void tw_caller_close(tw_caller **caller);
