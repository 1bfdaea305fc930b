/* system.c - all actors of a process: start, health, restart, stop.
 *
 * Start and stop are handshakes over one lock and one condition; no loop waits for a time. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "actors/runtime/log.h"
#include "actors/runtime/run.h"

enum { SYSTEM_MAGIC = 0x5957e301, BASE_MAX = 128, THREAD_NAME_MAX = 16, MS_PER_S = 1000 };

struct tw_system {
    uint32_t magic;
    char base[BASE_MAX];
    tw_system_options options;
    system_gate gate;
    tw_actor *actors[TW_ACTORS_MAX]; /* own; in order of addition */
    size_t actors_count;
    size_t started_count; /* threads that run or have to be joined: the first of actors */
    char why[ACTOR_REASON_MAX + ACTOR_NAME_MAX];
};

/* ---- the thread of an actor ---- */

static void phase_set(tw_actor *actor, actor_phase phase)
{
    pthread_mutex_lock(&actor->gate->lock);
    actor->phase = phase;
    actor->phase_ms = run_clock_ms();
    actor->ready_ms = phase == ACTOR_RUNNING ? actor->phase_ms : actor->ready_ms;
    pthread_cond_broadcast(&actor->gate->changed);
    pthread_mutex_unlock(&actor->gate->lock);
}

/* Notes why a life ended; returns how long to wait for the next. */
static uint64_t life_note_end(tw_actor *actor, bool was_ready)
{
    TW_ASSERT(actor->ending_err != TW_OK);
    uint64_t now_ms = run_clock_ms();
    pthread_mutex_lock(&actor->gate->lock);
    uint64_t lived_ms = was_ready ? now_ms - actor->ready_ms : 0;
    uint64_t wait_ms = restart_policy_ended(&actor->restarts, now_ms, lived_ms, tw_random(actor));
    actor->ended_err = actor->ending_err;
    tw_format(actor->ended_why, sizeof actor->ended_why, "%s", actor->ending_why);
    actor->phase = ACTOR_WAITING;
    actor->phase_ms = now_ms;
    actor->is_ill = false;
    actor->status[0] = '\0';
    pthread_cond_broadcast(&actor->gate->changed);
    pthread_mutex_unlock(&actor->gate->lock);
    tw_log(TW_LOG_WARN, actor->name, "ended: %s; starts again in %llu ms", actor->ending_why,
           (unsigned long long)wait_ms);
    return wait_ms;
}

/* Waits for the next start; returns early when the system stops. */
static void restart_wait(tw_actor *actor, uint64_t wait_ms)
{
    uint64_t until_ms = run_clock_ms() + wait_ms;
    while (!atomic_load(&actor->stop_wanted)) {
        if (atomic_load(&actor->drain_wanted)) {
            tw_actor_drained(actor); /* it has nothing to finish */
        }
        uint64_t now_ms = run_clock_ms();
        if (now_ms >= until_ms) {
            return;
        }
        struct pollfd woken = {.fd = actor->wake_fd, .events = POLLIN};
        int ready = poll(&woken, 1, (int)(until_ms - now_ms));
        TW_ASSERT(ready >= 0 || errno == EINTR);
        eventfd_t value;
        if (ready > 0) {
            int failed = eventfd_read(actor->wake_fd, &value);
            TW_ASSERT(failed == 0 || errno == EAGAIN);
        }
    }
}

static void *actor_main(void *arg)
{
    tw_actor *actor;
    TW_CAST(actor, arg, ACTOR_MAGIC);
    char name[THREAD_NAME_MAX];
    tw_format(name, sizeof name, "%s", actor->name);
    pthread_setname_np(pthread_self(), name);
    bool has_ever_run = false;
    while (!atomic_load(&actor->stop_wanted)) {
        tw_err err = run_life_begin(actor);
        bool is_ready = err == TW_OK;
        if (!is_ready && !has_ever_run) { /* the system does not start */
            pthread_mutex_lock(&actor->gate->lock);
            actor->ended_err = err;
            tw_format(actor->ended_why, sizeof actor->ended_why, "%s", actor->ending_why);
            pthread_mutex_unlock(&actor->gate->lock);
            break;
        }
        if (is_ready) {
            has_ever_run = true;
            phase_set(actor, ACTOR_RUNNING);
            err = run_life(actor);
            run_life_finish(actor);
            phase_set(actor, ACTOR_CLOSING);
            run_life_end(actor);
        }
        if (err == TW_OK) {
            break; /* stop is wanted */
        }
        uint64_t wait_ms = life_note_end(actor, is_ready);
        restart_wait(actor, wait_ms);
    }
    phase_set(actor, ACTOR_ENDED);
    return NULL;
}

/* ---- new, add, free ---- */

static void gate_init(system_gate *gate)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int failed = pthread_mutex_init(&gate->lock, NULL);
    TW_ASSERT(failed == 0); /* glibc's take no resources */
    failed = pthread_cond_init(&gate->changed, &attr);
    TW_ASSERT(failed == 0);
    pthread_condattr_destroy(&attr);
}

tw_err tw_system_new(tw_system **out, const tw_system_options *options)
{
    TW_ASSERT(out != NULL);
    TW_ASSERT(options != NULL);
    tw_system *system = tw_alloc_zero(1, sizeof *system);
    if (system == NULL) {
        return TW_E_NO_MEMORY;
    }
    system->magic = SYSTEM_MAGIC;
    system->options = *options;
    system->options.stop_ms = options->stop_ms != 0 ? options->stop_ms : TW_STOP_MS;
    system->options.close_ms = options->close_ms != 0 ? options->close_ms : TW_CLOSE_MS;
    if (options->base == NULL) {
        uint64_t random[2]; /* two systems of a process must not meet */
        ssize_t got = getrandom(random, sizeof random, 0);
        TW_ASSERT(got == (ssize_t)sizeof random);
        tw_format(system->base, sizeof system->base, "inproc://tidewire-%016llx%016llx",
                  (unsigned long long)random[0], (unsigned long long)random[1]);
    } else if (strlen(options->base) < sizeof system->base) {
        tw_format(system->base, sizeof system->base, "%s", options->base);
    } else {
        tw_free(system);
        return TW_E_BAD_CONFIG;
    }
    tw_err err = transport_base_prepare(system->base);
    if (err != TW_OK) {
        tw_free(system);
        return err;
    }
    gate_init(&system->gate);
    *out = system;
    return TW_OK;
}

const char *tw_system_base(const tw_system *system)
{
    TW_ASSERT(system != NULL && system->magic == SYSTEM_MAGIC);
    return system->base;
}

tw_err tw_system_add(tw_system *system, const tw_actor_class *class, int instance,
                     const void *options)
{
    TW_ASSERT(system != NULL && system->magic == SYSTEM_MAGIC);
    TW_ASSERT(class != NULL);
    TW_ASSERT(system->started_count == 0);
    if (system->actors_count == TW_ACTORS_MAX) {
        return TW_E_TOO_MANY;
    }
    tw_actor *actor = tw_alloc_zero(1, sizeof *actor);
    if (actor == NULL) {
        return TW_E_NO_MEMORY;
    }
    actor->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (actor->wake_fd < 0) {
        tw_free(actor);
        return TW_E_NO_MEMORY;
    }
    actor->magic = ACTOR_MAGIC;
    if (instance < 0) {
        tw_format(actor->name, sizeof actor->name, "%s", class->name);
    } else {
        tw_format(actor->name, sizeof actor->name, "%s.%d", class->name, instance);
    }
    TW_ASSERT(run_name_is_right(actor->name));
    actor->class = class;
    actor->options = options;
    actor->base = system->base;
    actor->drop_every = system->options.drop_every;
    actor->seed = system->options.fault_seed;
    actor->gate = &system->gate;
    actor->epoll_fd = -1;
    actor->timer_fd = -1;
    actor->idle_slot = -1;
    system->actors[system->actors_count++] = actor;
    return TW_OK;
}

void tw_system_free(tw_system **system)
{
    TW_ASSERT(system != NULL);
    tw_system *freed = *system;
    if (freed == NULL) {
        return;
    }
    TW_ASSERT(freed->magic == SYSTEM_MAGIC);
    if (tw_system_stop(freed, 0) != TW_STOPPED) {
        *system = NULL; /* the threads that are left use it until the process ends */
        return;
    }
    for (size_t i = 0; i < freed->actors_count; i++) {
        close(freed->actors[i]->wake_fd);
        tw_free(freed->actors[i]);
    }
    pthread_cond_destroy(&freed->gate.changed);
    pthread_mutex_destroy(&freed->gate.lock);
    tw_free(freed);
    *system = NULL;
}

/* ---- start ---- */

/* Signals are for the thread that made the system: actors, and nng's threads, which the first actor
 * brings, inherit a mask without any. */
static bool actor_thread_create(tw_actor *actor)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    phase_set(actor, ACTOR_STARTING); /* those who are there may ask for the health already */
    bool is_made = pthread_create(&actor->thread, NULL, actor_main, actor) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_made;
}

/* Starts one and waits until it is ready or has failed. */
static tw_err actor_start(tw_system *system, tw_actor *actor)
{
    TW_ASSERT(actor == system->actors[system->started_count]);
    if (!actor_thread_create(actor)) {
        tw_format(system->why, sizeof system->why, "%s: no thread", actor->name);
        return TW_E_NO_MEMORY;
    }
    system->started_count++;
    tw_err err = TW_OK;
    pthread_mutex_lock(&system->gate.lock);
    while (actor->phase == ACTOR_STARTING) {
        pthread_cond_wait(&system->gate.changed, &system->gate.lock);
    }
    if (actor->phase == ACTOR_ENDED) {
        err = actor->ended_err;
        tw_format(system->why, sizeof system->why, "%s: %s", actor->name, actor->ended_why);
        TW_ASSERT(err != TW_OK);
    }
    pthread_mutex_unlock(&system->gate.lock);
    return err;
}

tw_err tw_system_start(tw_system *system, const char **why)
{
    TW_ASSERT(system != NULL && system->magic == SYSTEM_MAGIC);
    TW_ASSERT(system->started_count == 0);
    tw_err err = TW_OK;
    for (size_t i = 0; i < system->actors_count && err == TW_OK; i++) {
        err = actor_start(system, system->actors[i]);
    }
    if (err != TW_OK) {
        tw_system_stop(system, 0);
    }
    if (why != NULL) {
        *why = system->why;
    }
    return err;
}

/* ---- stop ---- */

static void actor_wake(tw_actor *actor)
{
    int failed = eventfd_write(actor->wake_fd, 1);
    TW_ASSERT(failed == 0 || errno == EAGAIN);
}

/* What is waited for; under the gate's lock. */
static bool is_drained(const tw_actor *actor)
{
    return actor->is_drained || actor->phase >= ACTOR_CLOSING;
}

/* An actor that is to stop has no further life: what closes then has given its state back. */
static bool is_finished(const tw_actor *actor)
{
    return actor->phase >= ACTOR_CLOSING;
}

static bool is_ended(const tw_actor *actor)
{
    return actor->phase == ACTOR_ENDED;
}

/* Waits for it until the time; false: it has not come. */
static bool actor_wait(const tw_actor *actor, bool (*is_so)(const tw_actor *), uint64_t until_ms)
{
    struct timespec until = {.tv_sec = (time_t)(until_ms / MS_PER_S),
                             .tv_nsec = (long)(until_ms % MS_PER_S) * 1000000};
    bool is_late = false;
    pthread_mutex_lock(&actor->gate->lock);
    while (!is_so(actor) && !is_late) {
        is_late = pthread_cond_timedwait(&actor->gate->changed, &actor->gate->lock, &until) != 0;
    }
    bool has_come = is_so(actor);
    pthread_mutex_unlock(&actor->gate->lock);
    return has_come;
}

/* Has each finish what it has begun, the next only then: those that were started earlier serve it
 * until it is done. */
static void system_drain(tw_system *system, uint32_t drain_ms)
{
    uint64_t until_ms = run_clock_ms() + drain_ms;
    for (size_t i = system->started_count; i > 0 && drain_ms > 0; i--) {
        tw_actor *actor = system->actors[i - 1];
        atomic_store(&actor->drain_wanted, true);
        actor_wake(actor);
        (void)actor_wait(actor, is_drained, until_ms); /* late: it is stopped all the same */
    }
}

tw_stopped tw_system_stop(tw_system *system, uint32_t drain_ms)
{
    TW_ASSERT(system != NULL && system->magic == SYSTEM_MAGIC);
    TW_ASSERT(system->started_count <= system->actors_count);
    system_drain(system, drain_ms);
    uint64_t until_ms = run_clock_ms() + system->options.stop_ms;
    for (size_t i = system->started_count; i > 0; i--) {
        tw_actor *actor = system->actors[i - 1];
        atomic_store(&actor->stop_wanted, true);
        actor_wake(actor);
        if (!actor_wait(actor, is_finished, until_ms)) {
            tw_log(TW_LOG_ERROR, actor->name, "did not end within %u ms", system->options.stop_ms);
            return TW_STOPPED_NOT; /* those that were started earlier may still serve it */
        }
    }
    until_ms = run_clock_ms() + system->options.close_ms;
    while (system->started_count > 0) {
        tw_actor *actor = system->actors[system->started_count - 1];
        if (!actor_wait(actor, is_ended, until_ms)) {
            tw_log(TW_LOG_WARN, actor->name, "nng did not close its sockets within %u ms",
                   system->options.close_ms);
            return TW_STOPPED_UNCLOSED;
        }
        int failed = pthread_join(actor->thread, NULL);
        TW_ASSERT(failed == 0);
        system->started_count--;
    }
    return TW_STOPPED;
}

/* ---- health ---- */

void tw_system_health(const tw_system *system, char *out, size_t size)
{
    TW_ASSERT(system != NULL && system->magic == SYSTEM_MAGIC);
    TW_ASSERT(size > 0);
    out[0] = '\0';
    if (system->actors_count == 0) {
        return;
    }
    pthread_mutex_t *lock = &system->actors[0]->gate->lock; /* the lock is not const, its user is */
    uint64_t now_ms = run_clock_ms();
    pthread_mutex_lock(lock);
    for (size_t i = 0; i < system->actors_count && out[0] == '\0'; i++) {
        const tw_actor *actor = system->actors[i];
        uint64_t lived_ms = actor->phase == ACTOR_RUNNING ? now_ms - actor->ready_ms : 0;
        if (restart_policy_is_red(&actor->restarts, lived_ms)) {
            tw_format(out, size, "%s was restarted %llu times: %s", actor->name,
                      (unsigned long long)actor->restarts.count, actor->ended_why);
        } else if (actor->is_ill) {
            tw_format(out, size, "%s: %s", actor->name, actor->status);
        } else if (actor->phase == ACTOR_CLOSING &&
                   now_ms - actor->phase_ms >= system->options.close_ms) {
            tw_format(out, size, "%s: nng does not close its sockets; start this process again",
                      actor->name);
        }
    }
    pthread_mutex_unlock(lock);
}
