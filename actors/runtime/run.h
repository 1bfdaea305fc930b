/* run.h - one actor from inside: its life, its links, what it publishes and follows. For the files
 * of this folder; everybody else sees actor.h.
 *
 * Invariants
 * 1. A field is touched by the actor's thread alone, except the atomics and what stands under gate.
 * 2. Everything of a life (sockets, links, timers, state) is made by life_begin and given back by
 *    life_end; a life that ends leaves nothing to the next but the counters.
 * 3. An ask is in exactly one list: a link's waiting, a link's in_flight, or the actor's settled.
 *    It leaves it by ask_settle and is answered by ask_deliver, once. What is still in a list when
 *    the life ends is dropped: fini has given back what the context points to. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "protocol/arena.h"
#include "protocol/codec.h"

#include "actors/runtime/actor.h"
#include "actors/runtime/idle.h"
#include "actors/runtime/listener_watch.h"
#include "actors/runtime/publication.h"
#include "actors/runtime/restart.h"
#include "actors/runtime/timer.h"
#include "actors/runtime/transport.h"

enum {
    ACTOR_MAGIC = 0x7ac70a11,
    ACTOR_REASON_MAX = 256,   /* bytes of why an actor ended, with its end */
    ACTOR_NAME_MAX = 64,      /* bytes of a name, with its end */
    TURN_MESSAGES_MAX = 256,  /* handled in one turn; the rest waits in nng */
    SOURCE_MESSAGES_MAX = 32, /* of one socket before the others have theirs */
    SEND_RETRY_MS = 1,        /* nng had no room: it is emptied within microseconds */
    GUARD_MS = 1000,          /* between two steps of a guard */
    BEAT_MS = 500,            /* a lost last publication is seen after so much silence */
    LINK_GRACE_MS = 500,      /* asks wait so long for a link that is down, then fail at once */
    ASKS_PER_BLOCK = 64,      /* asks are allocated in blocks that stay until the life ends */
    ASK_BLOCKS_MAX = 1024,    /* an ask's index fits 16 bits */
    LATE_REPLIES_MAX = 4096,  /* that nng had no room for; beyond: dropped, asker times out */
};

/* What a descriptor that wakes an actor belongs to. */
enum {
    SOURCE_WAKE = 0,
    SOURCE_TIMER = 1,
    SOURCE_INBOX = 2,
    SOURCE_IDLE = 3,
    SOURCE_LINK = 0x100,   /* + its index */
    SOURCE_FOLLOW = 0x200, /* + its index */
    SOURCES_MAX = 4 + 2 * TW_LINKS_MAX,
};
static_assert((int)TRANSPORT_ADDRESS_MAX <= (int)LISTENER_WATCH_ADDRESS_MAX, "any address fits");
static_assert((int)TW_LINKS_MAX <= (int)SOURCE_FOLLOW - (int)SOURCE_LINK, "sources are distinct");

typedef enum ask_state { ASK_FREE, ASK_WAITING, ASK_IN_FLIGHT, ASK_SETTLED } ask_state;

typedef struct ask {
    struct ask *prev;
    struct ask *next;
    ask_state state;
    uint32_t index;   /* its place; the low 16 bits of request */
    int link;         /* index in links */
    unsigned losses;  /* of the link's socket when it was sent: older means the peer is gone */
    uint64_t request; /* the number that the answer carries */
    uint64_t deadline_ms;
    tw_err err;               /* of a settled one */
    transport_packet *packet; /* own; until it is sent */
    tw_on_answer on_answer;
    void *context; /* borrow: the asker's */
    uint64_t tag;
} ask;

typedef struct ask_list {
    ask *first;
    ask *last;
    size_t count;
} ask_list;

typedef struct ask_link {
    char name[ACTOR_NAME_MAX];
    transport_socket socket; /* own */
    ask_list waiting;        /* not sent yet */
    ask_list in_flight;      /* at most TW_LINK_IN_FLIGHT_MAX */
    unsigned losses;         /* as many of the socket's as were attended to */
    bool is_up;
    uint64_t down_since_ms;
} ask_link;

typedef struct followed {
    char source[ACTOR_NAME_MAX];
    transport_socket socket; /* own */
    publication_reader reader;
    bool is_newest;    /* of what it says, the last alone */
    uint32_t every_ms; /* it wakes the actor no more often; 0: each time */
    uint64_t rests_ms; /* it wakes nobody until then; 0: it does */
} followed;

/* Watches over a listener; see guard.c. */
typedef struct guard {
    transport_socket *guarded; /* borrow; NULL: nothing to watch */
    listener_watch watch;
    uint64_t due_ms; /* the next step */
    char address[TRANSPORT_ADDRESS_MAX];
} guard;

/* How the system sees its actors. One lock for all of them: it is held for a few instructions. */
typedef struct system_gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
} system_gate;

typedef enum actor_phase {
    ACTOR_NEW,
    ACTOR_STARTING,
    ACTOR_RUNNING,
    ACTOR_WAITING, /* for its next start */
    ACTOR_CLOSING, /* its state is given back, its sockets are being closed */
    ACTOR_ENDED,   /* its thread is over */
} actor_phase;

struct tw_actor {
    uint32_t magic;
    /* ---- who; set before the thread starts, then only read ---- */
    char name[ACTOR_NAME_MAX];
    const tw_actor_class *class;
    const void *options; /* borrow */
    const char *base;    /* borrow: the system's */
    uint64_t drop_every;
    uint64_t seed;     /* of tw_random; 0: from the kernel */
    system_gate *gate; /* borrow: the system's */
    /* ---- between the threads ---- */
    pthread_t thread;
    atomic_bool stop_wanted;
    atomic_bool drain_wanted;
    int wake_fd; /* own; eventfd, for the actor's whole time */
    /* ---- under gate->lock ---- */
    actor_phase phase;
    uint64_t phase_ms; /* when it began */
    bool is_drained;
    uint64_t ready_ms; /* when the last life was ready */
    restart_policy restarts;
    tw_err ended_err;
    char ended_why[ACTOR_REASON_MAX];
    bool is_ill;                  /* its own word */
    char status[TW_NAME_MAX + 1]; /* "" = running */
    /* ---- all lives: the actor's thread ---- */
    uint64_t random_state;
    /* ---- this life ---- */
    int epoll_fd; /* own */
    int timer_fd; /* own */
    uint64_t armed_ms;
    uint64_t now_ms;
    uint64_t unix_ms;
    bool is_in_turn;
    bool is_drain_told;
    bool is_ending;
    tw_err ending_err;
    char ending_why[ACTOR_REASON_MAX];
    void *state; /* own */
    tw_arena arena;
    tw_buf encoded; /* the message being sent */
    tw_buf scratch; /* of gauges */
    timers timers;
    int idle_slot;       /* own; -1: the class needs none */
    int idle_fd;         /* borrow: the slot's */
    tw_on_timer idle_fn; /* the timer that a free core hastens */
    uint64_t idle_tag;
    transport_socket inbox;
    transport_socket publications;
    guard guards[2];               /* of these two */
    publication_head published;    /* the last one */
    publication_beat beat;         /* when to repeat its number */
    ask_link *links[TW_LINKS_MAX]; /* own */
    int links_count;
    followed *follows[TW_LINKS_MAX]; /* own */
    int follows_count;
    ask *ask_blocks[ASK_BLOCKS_MAX]; /* own */
    uint32_t ask_blocks_count;
    ask *ask_free;    /* by next */
    ask_list settled; /* to be answered without a message, at the next turn */
    size_t asks_waiting;
    uint64_t ask_serial;
    uint64_t ask_due_ms; /* no ask is due before */
    uint64_t retry_ms;   /* nng had no room: try again then; UINT64_MAX: nothing to retry */
    transport_packet **late_replies; /* own; answers that nng had no room for, in order */
    size_t late_replies_count;
    const tw_route *route; /* of the request being handled; NULL: none */
    bool is_replied;
    /* ---- figures ---- */
    uint64_t handled;
    uint64_t gaps;
    uint64_t refused;         /* messages that could not be understood */
    uint64_t received;        /* publications, for drop_every */
    uint64_t replies_dropped; /* no room, or no memory */
    uint64_t turn_us_max;
    uint64_t relistened; /* listeners of nng that had died */
};

/* ---- run.c ---- */
uint64_t run_clock_ms(void);
/* A name and an address both fit: "store", "log_reader.1". */
bool run_name_is_right(const char *name);
/* Makes a life; on error it has undone itself. The reason is in ending_why. */
tw_err run_life_begin(tw_actor *actor);
/* Turns until stop is wanted (TW_OK) or the life ends by an error. */
tw_err run_life(tw_actor *actor);
/* Has the class give back its own; after that nothing calls it any more. */
void run_life_finish(tw_actor *actor);
/* Closes the sockets of a finished life, which may last for ever (transport_close); frees it. */
void run_life_end(tw_actor *actor);
/* Adds a descriptor to those that wake the actor. */
tw_err run_watch(tw_actor *actor, int fd, uint32_t source);
void run_unwatch(tw_actor *actor, int fd);
/* Encodes into actor->encoded; the view is valid until the next encoding. */
tw_err run_encode(tw_actor *actor, tw_msg_id id, uint64_t request, const void *body, tw_str *out);
/* Logs a count at 1, 2, 4, 8 ...: a flood must not become a flood of lines. */
bool run_is_worth_a_line(uint64_t count);

/* ---- ask.c ---- */
/* Takes what has come by a link, at most max. Returns how many messages that was. */
size_t ask_receive(tw_actor *actor, ask_link *link, size_t max);
/* Attends to lost links and expired asks, then sends what has room; callbacks may be called. */
void ask_turn(tw_actor *actor);
/* When ask_turn is due at the latest. */
uint64_t ask_next_ms(const tw_actor *actor);
/* Closes the links and forgets every ask. */
void ask_life_end(tw_actor *actor);
/* The code of an `error` message, as the enum. */
tw_err ask_error_code(uint64_t code);

/* ---- reply.c ---- */
/* Sends the answers that nng had no room for. */
void reply_turn(tw_actor *actor);
void reply_life_end(tw_actor *actor);
/* What the runtime answers itself, for every actor. */
void reply_actor_state(tw_actor *actor, const tw_envelope *in);

/* ---- publish.c ---- */
/* Takes what has come from a source, at most max. Returns how many messages that was. */
size_t follow_receive(tw_actor *actor, followed *follow, size_t max);
/* Takes the newest of each source that is followed by tw_follow_newest. */
void follow_take_newest(tw_actor *actor);
/* Has those wake the actor again whose rest is over. */
void follow_turn(tw_actor *actor);
tw_err publish_life_begin(tw_actor *actor);
void publish_life_end(tw_actor *actor);
/* Repeats the last number when it is time. */
void publish_turn(tw_actor *actor);

/* ---- inbox.c ---- */
size_t inbox_receive(tw_actor *actor, size_t max);
/* Gives a message to its handler; route NULL for a publication. */
void inbox_dispatch(tw_actor *actor, const tw_envelope *in);

/* ---- guard.c ---- */
/* Begins to watch over a socket that listens at address; inproc needs none. */
void guard_begin(tw_actor *actor, guard *watch, transport_socket *guarded, listener_watch_peer peer,
                 const char *address);
/* Takes the step that is due. */
void guard_turn(tw_actor *actor, guard *watch);
void guard_end(guard *watch);
