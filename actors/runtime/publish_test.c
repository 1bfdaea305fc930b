/* publish_test.c - who wants the newest publication alone: it is woken for few of them, and knows
 * before each request what was published before it. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "actors/runtime/actor.h"

enum { WAIT_MS = 60000, HOUR_MS = 3600000, SOON_MS = 5, MANY = 500 };

typedef struct world {
    uint32_t every_ms;
    bool until_handled; /* it is published until the follower has handled one of them */
    atomic_bool is_publishing;
    _Atomic uint64_t published;
    _Atomic uint64_t last, handled, gaps, too_soon; /* of the follower */
    tw_system *system;                              /* own */
    tw_caller *publisher, *follower;                /* own */
} world;

typedef struct double_actor {
    tw_actor *actor;
    world *world;
    uint64_t handled_ms; /* the follower's turn in which it handled the last */
} double_actor;

static void double_make(void *arg, tw_actor *actor, const void *options)
{
    union {
        const void *given;
        world *world;
    } same = {.given = options};
    *(double_actor *)arg = (double_actor){.actor = actor, .world = same.world};
}

/* ---- publishes as many numbers as it is told, and answers then ---- */
static tw_err publisher_init(void *arg, tw_actor *actor, const void *options)
{
    double_make(arg, actor, options);
    return TW_OK;
}

static tw_err publisher_on_topics_keep(void *arg, const tw_envelope *in)
{
    double_actor *self = arg;
    world *w = self->world;
    uint64_t before = atomic_load(&w->handled), published = 0;
    atomic_store(&w->is_publishing, true);
    for (uint64_t i = 0; i < in->body->topics_keep.gateway ||
                         (w->until_handled && atomic_load(&w->handled) == before);
         i++) {
        published = atomic_load(&w->published) + 1;
        tw_publish(self->actor, TW_MSG_done, &(tw_msg_done){.count = published});
        atomic_store(&w->published, published);
    }
    atomic_store(&w->is_publishing, false);
    tw_reply(self->actor, in->route, TW_MSG_done, &(tw_msg_done){.count = published});
    return TW_OK;
}

static const tw_handler publisher_handlers[] = {[TW_MSG_topics_keep] = publisher_on_topics_keep};
static const tw_actor_class publisher_class = {.name = "store",
                                               .state_size = sizeof(double_actor),
                                               .init = publisher_init,
                                               .handlers = publisher_handlers,
                                               .handlers_count = TW_COUNT(publisher_handlers),
                                               .publishes = true};

/* ---- follows, and answers with the last number that it has heard ---- */
static tw_err follower_init(void *arg, tw_actor *actor, const void *options)
{
    double_make(arg, actor, options);
    tw_follow_newest(actor, "store", ((double_actor *)arg)->world->every_ms);
    return TW_OK;
}

static tw_err follower_on_done(void *arg, const tw_envelope *in)
{
    double_actor *self = arg;
    assert_null(in->route);
    world *w = self->world;
    uint64_t count = in->body->done.count, now_ms = tw_now_ms(self->actor);
    assert_true(count > atomic_load(&w->last));
    while (atomic_load(&w->is_publishing) && atomic_load(&w->published) <= count) {
        sched_yield(); /* a newer one is there before this one is handled */
    }
    bool is_first = self->handled_ms == 0;
    atomic_fetch_add(&w->too_soon, !is_first && now_ms < self->handled_ms + w->every_ms ? 1 : 0);
    self->handled_ms = now_ms;
    atomic_fetch_add(&w->handled, 1);
    atomic_store(&w->last, count);
    return TW_OK;
}

static tw_err follower_on_topics_keep(void *arg, const tw_envelope *in)
{
    double_actor *self = arg;
    uint64_t last = atomic_load(&self->world->last);
    tw_reply(self->actor, in->route, TW_MSG_done, &(tw_msg_done){.count = last});
    return TW_OK;
}

static void follower_on_gap(void *arg, const char *source)
{
    double_actor *self = arg;
    assert_string_equal(source, "store");
    atomic_fetch_add(&self->world->gaps, 1);
}

static const tw_handler follower_handlers[] = {
    [TW_MSG_done] = follower_on_done, [TW_MSG_topics_keep] = follower_on_topics_keep};
static const tw_actor_class follower_class = {.name = "gateway",
                                              .state_size = sizeof(double_actor),
                                              .init = follower_init,
                                              .handlers = follower_handlers,
                                              .handlers_count = TW_COUNT(follower_handlers),
                                              .on_gap = follower_on_gap};

/* ---- a world ---- */
static void begin(world *w, uint32_t every_ms)
{
    *w = (world){.every_ms = every_ms};
    assert_int_equal(tw_system_new(&w->system, &(tw_system_options){0}), TW_OK);
    assert_int_equal(tw_system_add(w->system, &publisher_class, -1, w), TW_OK);
    assert_int_equal(tw_system_add(w->system, &follower_class, -1, w), TW_OK);
    assert_int_equal(tw_system_start(w->system, NULL), TW_OK);
    const char *base = tw_system_base(w->system);
    assert_int_equal(tw_caller_open(&w->publisher, base, "store", WAIT_MS), TW_OK);
    assert_int_equal(tw_caller_open(&w->follower, base, "gateway", WAIT_MS), TW_OK);
}

static void end(world *w)
{
    tw_caller_close(&w->publisher);
    tw_caller_close(&w->follower);
    tw_system_stop(w->system, 0);
    tw_system_free(&w->system);
}

static uint64_t ask(tw_caller *caller, uint64_t number)
{
    const tw_envelope *in;
    assert_int_equal(tw_caller_ask(caller, TW_MSG_topics_keep,
                                   &(tw_msg_topics_keep){.gateway = number}, WAIT_MS, &in),
                     TW_OK);
    return in->body->done.count;
}

static void test_newest_is_known_before_each_request_and_wakes_seldom(void **unused)
{
    (void)unused;
    world w;
    begin(&w, HOUR_MS);
    for (uint64_t turn = 1; turn <= 3; turn++) {
        assert_int_equal(ask(w.publisher, MANY), turn * MANY);
        assert_int_equal(ask(w.follower, 0), turn * MANY);
        assert_int_equal(ask(w.follower, 0), turn * MANY); /* nothing came in between */
    }
    assert_in_range(atomic_load(&w.handled), 3, 4); /* of 1,500; one may have woken it */
    assert_int_equal(atomic_load(&w.gaps), 1);      /* the publisher's beginning */
    end(&w);
}

static void test_newest_wakes_again_when_its_rest_is_over(void **unused)
{
    (void)unused;
    world w;
    struct timespec now;
    begin(&w, SOON_MS);
    w.until_handled = true;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t until_s = now.tv_sec + WAIT_MS / 1000;
    for (uint64_t turn = 1; turn <= 3; turn++) {
        uint64_t published = ask(w.publisher, MANY);
        while (atomic_load(&w.last) < published) { /* nobody asks the follower */
            clock_gettime(CLOCK_MONOTONIC, &now);
            assert_true(now.tv_sec < until_s);
        }
    }
    assert_int_equal(atomic_load(&w.too_soon), 0); /* one alone each time that it was woken */
    assert_int_equal(atomic_load(&w.gaps), 1);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_newest_is_known_before_each_request_and_wakes_seldom),
        cmocka_unit_test(test_newest_wakes_again_when_its_rest_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
