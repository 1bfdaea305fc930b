/* idle.c - see idle.h. */
#include "actors/runtime/idle.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "protocol/limits.h"

#include "actors/runtime/log.h"

enum {
    NICE_LOWEST = 19,
    NS_PER_S = 1000000000,
    SAMPLE_NS = 200000, /* from one look at the core to the next */
    LATE_NS = 200000,   /* let later than by this: others use it */
};

static struct idle_slot {
    bool is_taken; /* under lock */
    int fd;        /* 0: not made yet; then it stays, and is read without the lock */
    atomic_bool is_asked;
} slots[TW_ACTORS_MAX];

static atomic_llong late_ns = LATE_NS;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* never taken by the idle thread */
static int bell = -1;                                    /* made once, before the thread */

static void ring(int fd)
{
    int failed = eventfd_write(fd, 1);
    TW_ASSERT(failed == 0 || errno == EAGAIN); /* EAGAIN: it is readable already */
}

static int64_t now_ns(void)
{
    struct timespec now;
    int failed = clock_gettime(CLOCK_MONOTONIC, &now);
    TW_ASSERT(failed == 0);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Looks at the core at a moment that has nothing to do with what runs there. That this thread runs
 * at all says little: a core that is used to 99 % has moments for it, a hundred in a second. */
static bool is_free(void)
{
    int64_t from = now_ns();
    nanosleep(&(struct timespec){.tv_nsec = SAMPLE_NS}, NULL);
    int64_t late = atomic_load(&late_ns);
    return late >= 0 && now_ns() - from - SAMPLE_NS <= late;
}

static bool is_anyone_waiting(void)
{
    bool is_waiting = false;
    for (size_t i = 0; i < TW_COUNT(slots); i++) {
        is_waiting = is_waiting || atomic_load(&slots[i].is_asked);
    }
    return is_waiting;
}

static void *idle_main(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "idle");
    const struct sched_param none = {0};
    (void)prctl(PR_SET_TIMERSLACK, 1UL); /* else it is late by 50 us by itself */
    if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &none) != 0 &&
        setpriority(PRIO_PROCESS, (id_t)gettid(), NICE_LOWEST) != 0) {
        tw_log(TW_LOG_WARN, "runtime", "no thread of low priority: the index gives way to nobody");
    }
    for (;;) {
        eventfd_t value;
        int failed = eventfd_read(bell, &value); /* blocks */
        TW_ASSERT(failed == 0 || errno == EINTR);
        while (is_anyone_waiting() && !is_free()) {
        }
        for (size_t i = 0; i < TW_COUNT(slots); i++) {
            if (atomic_exchange(&slots[i].is_asked, false)) {
                ring(slots[i].fd);
            }
        }
    }
    return NULL;
}

/* It is never stopped: on a busy machine, who joined it would wait for a free core. */
static bool start(void)
{
    sigset_t all;
    sigset_t before;
    pthread_t thread;
    bell = eventfd(0, EFD_CLOEXEC);
    if (bell < 0) {
        return false;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_made = pthread_create(&thread, NULL, idle_main, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!is_made) {
        close(bell);
        bell = -1;
        return false;
    }
    pthread_detach(thread);
    return true;
}

tw_err idle_slot_take(int *slot, int *fd)
{
    TW_ASSERT(slot != NULL && fd != NULL);
    tw_err err = TW_OK;
    size_t at = 0;
    pthread_mutex_lock(&lock);
    if (bell < 0 && !start()) {
        err = TW_E_NO_MEMORY;
    }
    while (err == TW_OK && at < TW_COUNT(slots) && slots[at].is_taken) {
        at++;
    }
    if (err == TW_OK && at == TW_COUNT(slots)) {
        err = TW_E_TOO_MANY;
    }
    if (err == TW_OK && slots[at].fd == 0) {
        int made = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        slots[at].fd = made < 0 ? 0 : made;
        err = made < 0 ? TW_E_NO_MEMORY : TW_OK;
    }
    if (err == TW_OK) {
        slots[at].is_taken = true;
        *slot = (int)at;
        *fd = slots[at].fd;
    }
    pthread_mutex_unlock(&lock);
    return err;
}

void idle_slot_give(int slot)
{
    TW_ASSERT(slot >= 0 && slot < (int)TW_COUNT(slots));
    pthread_mutex_lock(&lock);
    TW_ASSERT(slots[slot].is_taken);
    slots[slot].is_taken = false;
    pthread_mutex_unlock(&lock);
}

void idle_slot_ask(int slot)
{
    TW_ASSERT(slot >= 0 && slot < (int)TW_COUNT(slots));
    atomic_store(&slots[slot].is_asked, true);
    ring(bell);
}

void idle_set_lateness(int64_t ns)
{
    atomic_store(&late_ns, ns);
}
