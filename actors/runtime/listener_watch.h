/* listener_watch.h - notices that a listener of nng no longer accepts.
 *
 * nng 1.5.2: a peer that connects over ipc or tcp and is gone before the greeting is written
 * (EPIPE) ends the accept of the listener for ever: later peers connect, are greeted, send, and are
 * never heard, as no pipe is made of them. So each such listener is visited now and then, over a
 * plain socket of the kernel: one that has made no pipe for LISTENER_WATCH_MISSES_MAX steps of a
 * visit is dead. Not over a socket of nng, whose nng_close may wait for ever for its own threads
 * (nng's issue 1543).
 *
 * Thread: one at a time; never blocks. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    LISTENER_WATCH_ADDRESS_MAX = 256,
    LISTENER_WATCH_MISSES_MAX = 3, /* steps; a busy machine may be late by one or two */
    LISTENER_WATCH_GREETING = 8,   /* bytes: NUL "SP" NUL, protocol, two NULs, big-endian */
};

/* What the asker says it is: the other side of the listener's protocol, as numbered by SP. */
typedef enum listener_watch_peer {
    LISTENER_WATCH_SUB = 0x21, /* of a PUB */
    LISTENER_WATCH_REQ = 0x30, /* of a REP */
} listener_watch_peer;

typedef struct listener_watch {
    int fd; /* own; -1: nothing is asked */
    listener_watch_peer peer;
    uint64_t gains;  /* pipes of the listener's socket when the visit began */
    unsigned misses; /* steps in a row of a visit that is not noticed */
    unsigned heard;  /* bytes of it */
    bool is_said;    /* our own greeting was sent */
    char address[LISTENER_WATCH_ADDRESS_MAX];
} listener_watch;

/* Begins to watch over the listener at ipc://PATH or tcp://HOST:PORT; other kinds need none. */
void listener_watch_begin(listener_watch *self, listener_watch_peer peer, const char *address);
/* Takes a step, about once a second; gains = pipes that the listener's socket has made in its life.
 * True: the listener is dead, and is to be replaced; watching goes on. */
bool listener_watch_step(listener_watch *self, uint64_t gains);
void listener_watch_end(listener_watch *self);
