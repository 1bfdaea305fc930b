/* run.c - the life of an actor: what it begins with, its turns, what it leaves. */
#include "actors/runtime/run.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "actors/runtime/log.h"

enum {
    MS_PER_S = 1000,
    NS_PER_MS = 1000000,
    NS_PER_US = 1000,
    ARENA_BYTES_MAX = 8 * TW_ACTOR_MESSAGE_MAX, /* memory stays within 8 times what was received */
    SCRATCH_BYTES_MAX = 65536,
    ENCODED_KEEP_BYTES = 1048576, /* a bigger message gives its memory back */
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    int failed = clock_gettime(clock, &now);
    TW_ASSERT(failed == 0); /* both clocks are always there */
    return (uint64_t)now.tv_sec * MS_PER_S * NS_PER_MS + (uint64_t)now.tv_nsec;
}

uint64_t run_clock_ms(void)
{
    return clock_ns(CLOCK_MONOTONIC) / NS_PER_MS;
}

bool run_name_is_right(const char *name)
{
    size_t len = name == NULL ? 0 : strlen(name);
    return len > 0 && len < ACTOR_NAME_MAX && strchr(name, '/') == NULL;
}

bool run_is_worth_a_line(uint64_t count)
{
    return (count & (count - 1)) == 0;
}

/* ---- who am I, what time is it ---- */

const char *tw_actor_name(const tw_actor *actor)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    return actor->name;
}

uint64_t tw_now_ms(const tw_actor *actor)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    return actor->now_ms;
}

uint64_t tw_unix_ms(const tw_actor *actor)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    return actor->unix_ms;
}

/* SplitMix64 (Steele, Lea, Flood 2014): a counter through a mixing function; every seed is good. */
uint64_t tw_random(tw_actor *actor)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    actor->random_state += 0x9e3779b97f4a7c15ULL;
    uint64_t z = actor->random_state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

int tw_actor_fd(const tw_actor *actor)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    return actor->epoll_fd;
}

void tw_actor_fail(tw_actor *actor, tw_err err, const char *format, ...)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    TW_ASSERT(err != TW_OK);
    if (actor->is_ending) {
        return; /* the first reason is the one */
    }
    actor->is_ending = true;
    actor->ending_err = err;
    va_list args;
    va_start(args, format);
    int written = vsnprintf(actor->ending_why, sizeof actor->ending_why, format, args);
    va_end(args);
    TW_ASSERT(written >= 0);
    /* A `wait` in which this is called has to return. */
    int failed = eventfd_write(actor->wake_fd, 1);
    TW_ASSERT(failed == 0 || errno == EAGAIN);
}

void tw_actor_drained(tw_actor *actor)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    pthread_mutex_lock(&actor->gate->lock);
    actor->is_drained = true;
    pthread_cond_broadcast(&actor->gate->changed);
    pthread_mutex_unlock(&actor->gate->lock);
}

void tw_actor_status(tw_actor *actor, bool ill, const char *format, ...)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    char status[sizeof actor->status];
    va_list args;
    va_start(args, format);
    int written = vsnprintf(status, sizeof status, format, args);
    va_end(args);
    TW_ASSERT(written >= 0);
    if (ill == actor->is_ill && strcmp(status, actor->status) == 0) {
        return; /* this thread alone writes them */
    }
    pthread_mutex_lock(&actor->gate->lock);
    memcpy(actor->status, status, sizeof status);
    actor->is_ill = ill;
    pthread_mutex_unlock(&actor->gate->lock);
}

void tw_timer_set(tw_actor *actor, uint64_t at_ms, tw_on_timer fn, uint64_t tag)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    timers_set(&actor->timers, at_ms, fn, tag);
}

void tw_timer_cancel(tw_actor *actor, tw_on_timer fn, uint64_t tag)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    timers_cancel(&actor->timers, fn, tag);
}

void tw_idle_set(tw_actor *actor, uint64_t at_ms, tw_on_timer fn, uint64_t tag)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    TW_ASSERT(actor->idle_slot >= 0);
    actor->idle_fn = fn;
    actor->idle_tag = tag;
    timers_set(&actor->timers, at_ms, fn, tag);
    idle_slot_ask(actor->idle_slot);
}

tw_err run_encode(tw_actor *actor, tw_msg_id id, uint64_t request, const void *body, tw_str *out)
{
    TW_ASSERT(body != NULL);
    TW_ASSERT(out != NULL);
    if (actor->encoded.cap > ENCODED_KEEP_BYTES) {
        tw_buf_fini(&actor->encoded);
    }
    tw_buf_clear(&actor->encoded);
    tw_message_encode(&actor->encoded, id, request, body);
    *out = tw_buf_str(&actor->encoded);
    return actor->encoded.err;
}

/* ---- a life begins and ends ---- */

tw_err run_watch(tw_actor *actor, int fd, uint32_t source)
{
    TW_ASSERT(fd >= 0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = source};
    int failed = epoll_ctl(actor->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    return failed == 0 ? TW_OK : TW_E_NO_MEMORY;
}

void run_unwatch(tw_actor *actor, int fd)
{
    int failed = epoll_ctl(actor->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    TW_ASSERT(failed == 0); /* it was watched */
}

static void time_take(tw_actor *actor)
{
    actor->now_ms = run_clock_ms();
    actor->unix_ms = clock_ns(CLOCK_REALTIME) / NS_PER_MS;
}

/* Descriptors, memory and sockets, without addresses yet. */
static tw_err life_prepare(tw_actor *actor)
{
    TW_ASSERT(actor->state == NULL);
    actor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    actor->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    actor->state = tw_alloc_zero(1, actor->class->state_size);
    if (actor->epoll_fd < 0 || actor->timer_fd < 0 || actor->state == NULL) {
        return TW_E_NO_MEMORY;
    }
    tw_err err = run_watch(actor, actor->wake_fd, SOURCE_WAKE);
    if (err == TW_OK) {
        err = run_watch(actor, actor->timer_fd, SOURCE_TIMER);
    }
    if (err == TW_OK) {
        err = transport_open(&actor->inbox, TRANSPORT_INBOX, actor->base, actor->wake_fd);
    }
    if (err == TW_OK) {
        err = run_watch(actor, actor->inbox.fd, SOURCE_INBOX);
    }
    if (err == TW_OK && actor->class->waits_for_idle) {
        err = idle_slot_take(&actor->idle_slot, &actor->idle_fd);
        err = err == TW_OK ? run_watch(actor, actor->idle_fd, SOURCE_IDLE) : err;
    }
    return err == TW_OK ? publish_life_begin(actor) : err;
}

/* From here on it is answered. */
static tw_err life_listen(tw_actor *actor)
{
    char address[TRANSPORT_ADDRESS_MAX];
    tw_err err = transport_address(actor->base, actor->name, false, address);
    if (err == TW_OK) {
        err = transport_listen(&actor->inbox, address);
    }
    if (err == TW_OK) {
        guard_begin(actor, &actor->guards[0], &actor->inbox, LISTENER_WATCH_REQ, address);
    }
    if (err == TW_OK && actor->class->publishes) {
        err = transport_address(actor->base, actor->name, true, address);
        if (err == TW_OK) {
            err = transport_listen(&actor->publications, address);
        }
        if (err == TW_OK) {
            guard_begin(actor, &actor->guards[1], &actor->publications, LISTENER_WATCH_SUB,
                        address);
        }
    }
    if (err != TW_OK) {
        tw_actor_fail(actor, err, "cannot listen at %s/%s: %s", actor->base, actor->name,
                      tw_err_text(err));
    }
    return err;
}

static void seed_draw(tw_actor *actor)
{
    if (actor->seed != 0) {
        actor->random_state = tw_hash(actor->name, strlen(actor->name), actor->seed);
        return;
    }
    ssize_t got = getrandom(&actor->random_state, sizeof actor->random_state, 0);
    TW_ASSERT(got == (ssize_t)sizeof actor->random_state); /* short reads: over 256 bytes */
}

tw_err run_life_begin(tw_actor *actor)
{
    TW_ASSERT(actor->magic == ACTOR_MAGIC);
    TW_ASSERT(actor->links_count == 0);
    actor->is_ending = false;
    actor->is_drain_told = false;
    actor->armed_ms = UINT64_MAX;
    actor->ask_due_ms = UINT64_MAX;
    actor->retry_ms = UINT64_MAX;
    actor->timers = (timers){0};
    actor->idle_fn = NULL;
    tw_arena_init(&actor->arena, ARENA_BYTES_MAX);
    tw_buf_init(&actor->encoded, TW_ACTOR_MESSAGE_MAX);
    tw_buf_init(&actor->scratch, SCRATCH_BYTES_MAX);
    time_take(actor);
    seed_draw(actor);
    tw_err err = life_prepare(actor);
    bool is_inited = false;
    if (err == TW_OK) {
        err = actor->class->init(actor->state, actor, actor->options);
        is_inited = err == TW_OK;
    }
    if (err == TW_OK && !actor->is_ending) {
        err = life_listen(actor);
    }
    if (err != TW_OK) {
        tw_actor_fail(actor, err, "cannot start: %s", tw_err_text(err));
    }
    if (!actor->is_ending) {
        return TW_OK;
    }
    if (!is_inited) { /* an init that fails has undone itself: no fini */
        tw_free(actor->state);
        actor->state = NULL;
    }
    run_life_finish(actor);
    run_life_end(actor);
    return actor->ending_err;
}

static void fd_close(int *fd)
{
    TW_ASSERT(fd != NULL);
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

/* Links and timers are still there. */
void run_life_finish(tw_actor *actor)
{
    TW_ASSERT(actor->magic == ACTOR_MAGIC);
    if (actor->state != NULL && actor->class->fini != NULL) {
        actor->class->fini(actor->state);
    }
    for (size_t i = 0; i < TW_COUNT(actor->guards); i++) {
        guard_end(&actor->guards[i]);
    }
    tw_free(actor->state);
    actor->state = NULL;
}

void run_life_end(tw_actor *actor)
{
    TW_ASSERT(actor->state == NULL);
    reply_life_end(actor);
    ask_life_end(actor);
    publish_life_end(actor);
    transport_close(&actor->inbox);
    tw_arena_fini(&actor->arena);
    tw_buf_fini(&actor->encoded);
    tw_buf_fini(&actor->scratch);
    if (actor->idle_slot >= 0) {
        idle_slot_give(actor->idle_slot);
        actor->idle_slot = -1;
    }
    fd_close(&actor->timer_fd);
    fd_close(&actor->epoll_fd);
}

/* ---- a turn ---- */

/* Takes at most max messages of what a descriptor belongs to. */
static size_t source_receive(tw_actor *actor, uint32_t source, size_t max)
{
    TW_ASSERT(max > 0);
    if (source >= SOURCE_FOLLOW) {
        TW_ASSERT(source - SOURCE_FOLLOW < (uint32_t)actor->follows_count);
        return follow_receive(actor, actor->follows[source - SOURCE_FOLLOW], max);
    }
    if (source >= SOURCE_LINK) {
        TW_ASSERT(source - SOURCE_LINK < (uint32_t)actor->links_count);
        return ask_receive(actor, actor->links[source - SOURCE_LINK], max);
    }
    if (source == SOURCE_INBOX) {
        return inbox_receive(actor, max);
    }
    eventfd_t value; /* a count of expirations or of wake-ups: that there was one is all we need */
    if (source == SOURCE_TIMER) {
        actor->armed_ms = UINT64_MAX;
        ssize_t got = read(actor->timer_fd, &value, sizeof value);
        TW_ASSERT(got == (ssize_t)sizeof value || errno == EAGAIN);
    } else if (source == SOURCE_IDLE) {
        int failed = eventfd_read(actor->idle_fd, &value);
        TW_ASSERT(failed == 0 || errno == EAGAIN);
        if (actor->idle_fn != NULL) { /* NULL: meant for who had the slot before */
            timers_hasten(&actor->timers, actor->now_ms, actor->idle_fn, actor->idle_tag);
        }
    } else {
        int failed = eventfd_read(actor->wake_fd, &value);
        TW_ASSERT(failed == 0 || errno == EAGAIN);
    }
    return 0;
}

/* Handles what has come, a part of each source in turn, so that a flood on one delays the others by
 * its part only. */
static void turn_receive(tw_actor *actor, const struct epoll_event *events, int count)
{
    TW_ASSERT(count <= SOURCES_MAX);
    size_t left = TURN_MESSAGES_MAX;
    bool is_more = true;
    while (is_more && left > 0 && !actor->is_ending) {
        is_more = false;
        for (int i = 0; i < count && left > 0 && !actor->is_ending; i++) {
            size_t max = left < SOURCE_MESSAGES_MAX ? left : SOURCE_MESSAGES_MAX;
            size_t taken = source_receive(actor, events[i].data.u32, max);
            TW_ASSERT(taken <= max);
            left -= taken;
            is_more = is_more || taken == max;
        }
    }
}

static void turn_timers(tw_actor *actor)
{
    TW_ASSERT(actor->is_in_turn);
    uint64_t serial_max = actor->timers.serial;
    tw_on_timer fn;
    uint64_t tag;
    while (!actor->is_ending && timers_take(&actor->timers, actor->now_ms, serial_max, &fn, &tag)) {
        fn(actor->state, tag);
    }
}

static void turn_drain(tw_actor *actor)
{
    TW_ASSERT(actor->is_in_turn);
    if (!atomic_load(&actor->drain_wanted) || actor->is_drain_told || actor->is_ending) {
        return;
    }
    actor->is_drain_told = true;
    if (actor->class->on_drain != NULL) {
        actor->class->on_drain(actor->state);
    } else {
        tw_actor_drained(actor); /* it has nothing that takes time to finish */
    }
}

/* When the next turn is due if nothing comes. UINT64_MAX: never. */
static uint64_t next_ms(const tw_actor *actor)
{
    uint64_t next = timers_next(&actor->timers);
    uint64_t asks = ask_next_ms(actor);
    next = asks < next ? asks : next;
    for (size_t i = 0; i < TW_COUNT(actor->guards); i++) {
        const guard *watch = &actor->guards[i];
        next = watch->guarded != NULL && watch->due_ms < next ? watch->due_ms : next;
    }
    for (int i = 0; i < actor->follows_count; i++) {
        uint64_t rests = actor->follows[i]->rests_ms;
        next = rests != 0 && rests < next ? rests : next;
    }
    return actor->beat.due_ms < next ? actor->beat.due_ms : next;
}

static void turn_arm(tw_actor *actor)
{
    uint64_t next = next_ms(actor);
    if (next == actor->armed_ms) {
        return;
    }
    actor->armed_ms = next;
    struct itimerspec at = {0}; /* zero disarms */
    if (next != UINT64_MAX) {
        uint64_t ms = next > 0 ? next : 1; /* what is past fires at once */
        at.it_value.tv_sec = (time_t)(ms / MS_PER_S);
        at.it_value.tv_nsec = (long)(ms % MS_PER_S) * NS_PER_MS;
    }
    int failed = timerfd_settime(actor->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
    TW_ASSERT(failed == 0);
}

static void turn(tw_actor *actor, int timeout_ms)
{
    TW_ASSERT(!actor->is_in_turn); /* a turn inside a handler would reorder messages */
    struct epoll_event events[SOURCES_MAX];
    int count = epoll_wait(actor->epoll_fd, events, SOURCES_MAX, timeout_ms);
    TW_ASSERT(count >= 0 || errno == EINTR);
    actor->is_in_turn = true;
    time_take(actor);
    uint64_t begun_ns = clock_ns(CLOCK_MONOTONIC);
    turn_receive(actor, events, count < 0 ? 0 : count);
    ask_turn(actor);
    reply_turn(actor);
    turn_timers(actor);
    follow_turn(actor);
    publish_turn(actor);
    for (size_t i = 0; i < TW_COUNT(actor->guards); i++) {
        guard_turn(actor, &actor->guards[i]);
    }
    turn_drain(actor);
    if (actor->class->on_turn != NULL && !actor->is_ending) {
        tw_err err = actor->class->on_turn(actor->state);
        if (err != TW_OK) {
            tw_actor_fail(actor, err, "%s", tw_err_text(err));
        }
    }
    turn_arm(actor);
    uint64_t took_us = (clock_ns(CLOCK_MONOTONIC) - begun_ns) / NS_PER_US;
    actor->turn_us_max = took_us > actor->turn_us_max ? took_us : actor->turn_us_max;
    actor->is_in_turn = false;
}

void tw_actor_turn(tw_actor *actor)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    turn(actor, 0);
}

tw_err run_life(tw_actor *actor)
{
    TW_ASSERT(actor->state != NULL);
    bool has_wait = actor->class->wait != NULL;
    turn(actor, 0); /* arms the timers of init */
    while (!actor->is_ending && !atomic_load(&actor->stop_wanted)) {
        if (has_wait) {
            uint64_t next = next_ms(actor);
            uint64_t left = next > run_clock_ms() ? next - run_clock_ms() : 0;
            actor->class->wait(actor->state,
                               next == UINT64_MAX || left > INT32_MAX ? -1 : (int)left);
        }
        turn(actor, has_wait ? 0 : -1);
    }
    return actor->is_ending ? actor->ending_err : TW_OK;
}
