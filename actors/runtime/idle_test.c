/* idle_test.c - what waits for a free core runs when there is one, and in time when there is none.
 * Whether a core is free is the test's word, as the machine that it runs on may never be. */
#include "actors/runtime/idle.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/limits.h"

#include "actors/runtime/actor.h"

enum { WAIT_MS = 60000, FAR_MS = 3600000, SOON_MS = 10 };

/* Answers topics_keep when a core is free, after `gateway` milliseconds at the latest. */
typedef struct patient {
    tw_actor *actor;
    tw_route route;
    uint64_t fired;
} patient;

static tw_err patient_init(void *arg, tw_actor *actor, const void *options)
{
    (void)options;
    *(patient *)arg = (patient){.actor = actor};
    return TW_OK;
}

static void on_idle(void *arg, uint64_t tag)
{
    patient *self = arg;
    assert_int_equal(tag, 7);
    self->fired++;
    tw_reply(self->actor, &self->route, TW_MSG_done, &(tw_msg_done){.count = self->fired});
}

static tw_err on_topics_keep(void *arg, const tw_envelope *in)
{
    patient *self = arg;
    self->route = *in->route;
    tw_idle_set(self->actor, tw_now_ms(self->actor) + FAR_MS * 2ULL, on_idle, 7);
    tw_idle_set(self->actor, tw_now_ms(self->actor) + in->body->topics_keep.gateway, on_idle, 7);
    return TW_OK;
}

static const tw_handler handlers[] = {[TW_MSG_topics_keep] = on_topics_keep};
static const tw_actor_class patient_class = {.name = "gateway",
                                             .state_size = sizeof(patient),
                                             .init = patient_init,
                                             .handlers = handlers,
                                             .handlers_count = TW_COUNT(handlers),
                                             .waits_for_idle = true};

/* Has an actor wait so long at most; returns when it was called, which is once. */
static void wait_for_idle(uint64_t at_most_ms)
{
    tw_system *system;
    tw_caller *caller;
    const tw_envelope *in;
    assert_int_equal(tw_system_new(&system, &(tw_system_options){0}), TW_OK);
    assert_int_equal(tw_system_add(system, &patient_class, -1, NULL), TW_OK);
    assert_int_equal(tw_system_start(system, NULL), TW_OK);
    assert_int_equal(tw_caller_open(&caller, tw_system_base(system), "gateway", WAIT_MS), TW_OK);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(tw_caller_ask(caller, TW_MSG_topics_keep,
                                       &(tw_msg_topics_keep){.gateway = at_most_ms}, WAIT_MS, &in),
                         TW_OK);
        assert_int_equal(in->body->done.count, i);
    }
    tw_caller_close(&caller);
    tw_system_stop(system, 0);
    tw_system_free(&system);
}

static void test_free_core_calls_at_once(void **unused)
{
    (void)unused;
    idle_set_lateness(LLONG_MAX);
    wait_for_idle(FAR_MS);
}

static void test_core_that_is_never_free_calls_in_time(void **unused)
{
    (void)unused;
    idle_set_lateness(-1);
    wait_for_idle(SOON_MS);
}

static void test_slots_are_bounded_and_used_again(void **unused)
{
    (void)unused;
    int slots[TW_ACTORS_MAX];
    int fds[TW_ACTORS_MAX];
    int slot;
    int fd;
    for (size_t i = 0; i < TW_COUNT(slots); i++) {
        assert_int_equal(idle_slot_take(&slots[i], &fds[i]), TW_OK);
        assert_true(i == 0 || fds[i] != fds[i - 1]);
    }
    assert_int_equal(idle_slot_take(&slot, &fd), TW_E_TOO_MANY);
    idle_slot_give(slots[5]);
    assert_int_equal(idle_slot_take(&slot, &fd), TW_OK);
    assert_int_equal(slot, slots[5]);
    assert_int_equal(fd, fds[5]);
    for (size_t i = 0; i < TW_COUNT(slots); i++) {
        idle_slot_give(slots[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_free_core_calls_at_once),
        cmocka_unit_test(test_core_that_is_never_free_calls_in_time),
        cmocka_unit_test(test_slots_are_bounded_and_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
