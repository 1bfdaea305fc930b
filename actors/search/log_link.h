/* log_link.h - the log as those see it that follow it: which log it is, its newest row that was
 * heard of, and one read at a time.
 *
 * A part of its actor's state. The actor gives the store's publications to log_link_heard, gaps and
 * ticks to log_link_ask, and reads on after each of these and in on_told. Nothing depends on
 * publications: one says no more than that there is something new. */
#pragma once

#include "actors/runtime/actor.h"

typedef struct log_link_options {
    uint64_t rows_max, bytes_max; /* of one read */
    uint32_t every_ms; /* publications are heard no more often, but before each request */
    /* The store has told which log it has, and its head: there may be something to read. */
    void (*on_told)(void *state);
    /* Rows that were asked for: a log_rows, valid until it returns. Another read may be begun. */
    void (*on_rows)(void *state, const tw_envelope *in);
} log_link_options;

typedef struct log_link {
    uint32_t magic;
    tw_actor *actor;
    const log_link_options *options; /* borrow */
    int store, reader;               /* links */
    uint64_t srv;  /* the log's own, of which the row numbers are; 0: not known yet */
    uint64_t head; /* the newest row that was heard of */
    bool asking, reading;
} log_link;

/* Follows the store; to be called by the actor's init. options: borrowed, for the actor's life.
 * TW_E_INTERNAL: the actor has no room for another link. */
tw_err log_link_init(log_link *self, tw_actor *actor, const log_link_options *options);

/* Asks the store which log it has and how far it is, unless that is asked already. An answer that
 * does not come is nothing: ask again, at a later tick. */
void log_link_ask(log_link *self);

/* Takes a publication of the store. One of another log leads to log_link_ask. */
void log_link_heard(log_link *self, const tw_msg_log_batch *batch);

/* Asks a reader for the rows behind `after`, unless rows are on their way. A read that fails is
 * forgotten: read again, at a later tick. */
void log_link_read(log_link *self, uint64_t after);
