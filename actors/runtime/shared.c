/* shared.c - counted bytes for fan-out, and the one lock that actors may share. */
#include "actors/runtime/shared.h"

tw_shared *tw_shared_new(size_t cap)
{
    TW_ASSERT(cap < SIZE_MAX - sizeof(tw_shared));
    tw_shared *shared = tw_alloc(sizeof *shared + cap);
    if (shared == NULL) {
        return NULL;
    }
    atomic_init(&shared->holders, 1);
    shared->len = 0;
    shared->cap = cap;
    return shared;
}

tw_shared *tw_shared_hold(tw_shared *shared)
{
    TW_ASSERT(shared != NULL);
    unsigned before = atomic_fetch_add_explicit(&shared->holders, 1, memory_order_relaxed);
    TW_ASSERT(before > 0); /* who holds it may pass it on; nobody else knows it */
    return shared;
}

void tw_shared_drop(tw_shared **shared)
{
    TW_ASSERT(shared != NULL);
    tw_shared *dropped = *shared;
    *shared = NULL;
    if (dropped == NULL) {
        return;
    }
    /* Release: what this holder read is read; acquire: the last one frees after all of them. */
    unsigned before = atomic_fetch_sub_explicit(&dropped->holders, 1, memory_order_acq_rel);
    TW_ASSERT(before > 0);
    if (before == 1) {
        tw_free(dropped);
    }
}

void tw_rwlock_init(tw_rwlock *lock)
{
    TW_ASSERT(lock != NULL);
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    /* glibc prefers readers by default, and a steady stream of pages would keep a commit away. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    int failed = pthread_rwlock_init(&lock->lock, &attr);
    TW_ASSERT(failed == 0); /* glibc's takes no resources */
    pthread_rwlockattr_destroy(&attr);
}

void tw_rwlock_fini(tw_rwlock *lock)
{
    TW_ASSERT(lock != NULL);
    int failed = pthread_rwlock_destroy(&lock->lock);
    TW_ASSERT(failed == 0); /* else somebody still holds it */
}

void tw_rwlock_read(tw_rwlock *lock)
{
    TW_ASSERT(lock != NULL);
    int failed = pthread_rwlock_rdlock(&lock->lock);
    TW_ASSERT(failed == 0);
}

void tw_rwlock_write(tw_rwlock *lock)
{
    TW_ASSERT(lock != NULL);
    int failed = pthread_rwlock_wrlock(&lock->lock);
    TW_ASSERT(failed == 0); /* EDEADLK: held by this thread already */
}

void tw_rwlock_done(tw_rwlock *lock)
{
    TW_ASSERT(lock != NULL);
    int failed = pthread_rwlock_unlock(&lock->lock);
    TW_ASSERT(failed == 0);
}
