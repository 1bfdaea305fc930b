/* shared.h - immutable counted bytes for fan-out, and the one lock that actors may share.
 *
 * tw_shared: made once, then only read; add a holder, never copy. Inside one process only.
 * tw_rwlock: for a structure that one actor writes and others of the same process read (the log's
 * index). Writers are preferred; hold it for microseconds and never across a call that blocks. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "protocol/base.h"

typedef struct tw_shared {
    atomic_uint holders;
    size_t len;
    size_t cap;
    char bytes[];
} tw_shared;

tw_shared *tw_shared_new(size_t cap); /* len 0, one holder; NULL = no memory */
tw_shared *tw_shared_hold(tw_shared *shared);
void tw_shared_drop(tw_shared **shared); /* nulls; frees with the last holder */

typedef struct tw_rwlock {
    pthread_rwlock_t lock;
} tw_rwlock;

void tw_rwlock_init(tw_rwlock *lock);
void tw_rwlock_fini(tw_rwlock *lock);
void tw_rwlock_read(tw_rwlock *lock);
void tw_rwlock_write(tw_rwlock *lock);
void tw_rwlock_done(tw_rwlock *lock);
