/* log_link_test.c - a follower beside a store and a reader whose answers the test decides: what it
 * holds of the log, and that it has one question of a kind on its way. */
#include "actors/search/log_link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { WAIT_MS = 60000, ROWS_MAX = 3, OTHER = 9 };

/* What the store is to say; atomic: the test changes it, the store's thread reads it. */
typedef struct told_log {
    _Atomic uint64_t own, head;
    _Atomic int state_fails, read_fails; /* so many answers are errors */
    _Atomic uint64_t asked, reads;
} told_log;

typedef struct double_actor {
    tw_actor *actor;
    told_log *log;
} double_actor;

static bool take_failure(_Atomic int *fails)
{
    if (atomic_load(fails) == 0) {
        return false;
    }
    atomic_fetch_sub(fails, 1);
    return true;
}

static tw_err double_init(void *arg, tw_actor *actor, const void *options)
{
    union {
        const void *given;
        told_log *log;
    } same = {.given = options};
    *(double_actor *)arg = (double_actor){actor, same.log};
    return TW_OK;
}

static tw_err on_log_state(void *arg, const tw_envelope *in)
{
    double_actor *self = arg;
    atomic_fetch_add(&self->log->asked, 1);
    if (take_failure(&self->log->state_fails)) {
        return TW_E_UNAVAILABLE;
    }
    /* srv is the source's: no row number is of it */
    tw_msg_log_state state = {
        .srv = 77, .own = atomic_load(&self->log->own), .head = atomic_load(&self->log->head)};
    tw_reply(self->actor, in->route, TW_MSG_log_state, &state);
    return TW_OK;
}

static tw_err on_log_read(void *arg, const tw_envelope *in)
{
    double_actor *self = arg;
    const tw_msg_log_read *read = &in->body->log_read;
    atomic_fetch_add(&self->log->reads, 1);
    if (take_failure(&self->log->read_fails)) {
        return TW_E_UNAVAILABLE;
    }
    uint64_t head = atomic_load(&self->log->head);
    uint64_t to = read->after + read->rows_max < head ? read->after + read->rows_max : head;
    tw_reply(self->actor, in->route, TW_MSG_log_rows,
             &(tw_msg_log_rows){.srv = atomic_load(&self->log->own), .head = head, .upto = to});
    return TW_OK;
}

static const tw_handler store_handlers[] = {[TW_MSG_log_state_ask] = on_log_state};
static const tw_actor_class store_double = {.name = "store",
                                            .state_size = sizeof(double_actor),
                                            .init = double_init,
                                            .handlers = store_handlers,
                                            .handlers_count = TW_COUNT(store_handlers),
                                            .publishes = true};
static const tw_handler reader_handlers[] = {[TW_MSG_log_read] = on_log_read};
static const tw_actor_class reader_double = {.name = "log_reader",
                                             .state_size = sizeof(double_actor),
                                             .init = double_init,
                                             .handlers = reader_handlers,
                                             .handlers_count = TW_COUNT(reader_handlers)};

/* ---- the follower: the test speaks to it by topic_batch, whose prev_head is a command ---- */
enum command { ASK, ASK_TWICE, READ, HEAR, HEAR_OTHER, TELL };

typedef struct follower {
    tw_actor *actor;
    log_link link;
    uint64_t applied, told;
} follower;

static void read_on(follower *self)
{
    if (self->applied < self->link.head) {
        log_link_read(&self->link, self->applied);
        log_link_read(&self->link, self->applied); /* is on its way */
    }
}

static void on_told(void *state)
{
    follower *self = state;
    self->told++;
    read_on(self);
}

static void on_rows(void *state, const tw_envelope *in)
{
    follower *self = state;
    assert_int_equal(in->id, TW_MSG_log_rows);
    assert_false(self->link.reading); /* so the next one may begin here */
    self->applied = in->body->log_rows.upto;
    read_on(self);
}

/* Answers with what it holds: how often it was told, how far it is, which log, its head. */
static tw_err on_command(void *arg, const tw_envelope *in)
{
    follower *self = arg;
    const tw_msg_topic_batch *asked = &in->body->topic_batch;
    switch ((enum command)asked->prev_head) {
    case ASK_TWICE:
        log_link_ask(&self->link);
        log_link_ask(&self->link);
        break;
    case ASK:
        log_link_ask(&self->link);
        break;
    case READ:
        read_on(self);
        break;
    case HEAR:
        log_link_heard(&self->link,
                       &(tw_msg_log_batch){.srv = self->link.srv, .head = asked->head});
        break;
    case HEAR_OTHER:
        log_link_heard(&self->link, &(tw_msg_log_batch){.srv = OTHER, .head = asked->head});
        break;
    case TELL:
        break;
    }
    tw_position held = {self->link.srv, self->link.head};
    tw_reply(
        self->actor, in->route, TW_MSG_topic_batch,
        &(tw_msg_topic_batch){.prev_head = self->told, .head = self->applied, .at = {&held, 1}});
    return TW_OK;
}

static void on_gap(void *state, const char *source)
{
    (void)state;
    assert_string_equal(source, "store"); /* it asks on command alone: so the test can count */
}

static const log_link_options followed = {
    .rows_max = ROWS_MAX, .bytes_max = 65536, .on_told = on_told, .on_rows = on_rows};

static tw_err follower_init(void *arg, tw_actor *actor, const void *options)
{
    (void)options;
    follower *self = arg;
    *self = (follower){.actor = actor};
    return log_link_init(&self->link, actor, &followed);
}

static const tw_handler follower_handlers[] = {[TW_MSG_topic_batch] = on_command};
static const tw_actor_class follower_class = {.name = "gateway",
                                              .state_size = sizeof(follower),
                                              .init = follower_init,
                                              .handlers = follower_handlers,
                                              .handlers_count = TW_COUNT(follower_handlers),
                                              .on_gap = on_gap};

/* ---- a world ---- */
typedef struct world {
    told_log log;
    tw_system *system; /* own */
    tw_caller *caller; /* own */
} world;

static void begin(world *w, uint64_t head)
{
    static unsigned worlds;
    char base[64];
    const char *why = NULL;
    tw_format(base, sizeof base, "inproc://log_link_test.%u", worlds++);
    *w = (world){.system = NULL};
    atomic_store(&w->log.own, 5);
    atomic_store(&w->log.head, head);
    assert_int_equal(tw_system_new(&w->system, &(tw_system_options){.base = base}), TW_OK);
    assert_int_equal(tw_system_add(w->system, &store_double, -1, &w->log), TW_OK);
    assert_int_equal(tw_system_add(w->system, &reader_double, 0, &w->log), TW_OK);
    assert_int_equal(tw_system_add(w->system, &follower_class, -1, NULL), TW_OK);
    assert_int_equal(tw_system_start(w->system, &why), TW_OK);
    assert_int_equal(tw_caller_open(&w->caller, base, "gateway", WAIT_MS), TW_OK);
}

static void end(world *w)
{
    tw_caller_close(&w->caller);
    tw_system_stop(w->system, 0);
    tw_system_free(&w->system);
}

typedef struct held {
    uint64_t told, applied, srv, head;
} held;

static held command(world *w, enum command what, uint64_t head)
{
    const tw_envelope *in;
    tw_msg_topic_batch asked = {.prev_head = what, .head = head};
    assert_int_equal(tw_caller_ask(w->caller, TW_MSG_topic_batch, &asked, WAIT_MS, &in), TW_OK);
    assert_int_equal(in->id, TW_MSG_topic_batch);
    const tw_msg_topic_batch *told = &in->body->topic_batch;
    return (held){told->prev_head, told->head, told->at.at[0].srv, told->at.at[0].seqno};
}

/* Each question is a message of its own, so what is waited for comes after some of them. */
static held until(world *w, uint64_t told, uint64_t applied)
{
    held now;
    do {
        now = command(w, TELL, 0);
    } while (now.told < told || now.applied < applied);
    return now;
}

static void test_follower_told_the_head_reads_to_it_page_by_page(void **unused)
{
    (void)unused;
    world w;
    begin(&w, 8);
    assert_int_equal(command(&w, TELL, 0).srv, 0); /* not known before it is asked for */
    command(&w, ASK, 0);
    held now = until(&w, 1, 8);
    assert_int_equal(now.srv, 5); /* its own, not its source's */
    assert_int_equal(now.head, 8);
    assert_int_equal(atomic_load(&w.log.reads), 3); /* each once: of 3, 3 and 2 rows */
    atomic_store(&w.log.head, 10);
    assert_int_equal(command(&w, HEAR, 9).head, 9);
    command(&w, READ, 0);
    now = until(&w, 1, 10); /* a page tells the head too */
    assert_int_equal(now.head, 10);
    assert_int_equal(now.told, 1);
    assert_int_equal(command(&w, HEAR, 4).head, 10); /* an old one takes nothing back */
    end(&w);
}

static void test_question_asked_twice_is_on_its_way_once(void **unused)
{
    (void)unused;
    world w;
    begin(&w, 0);
    command(&w, ASK_TWICE, 0);
    until(&w, 1, 0);
    assert_int_equal(atomic_load(&w.log.asked), 1);
    command(&w, ASK, 0);
    until(&w, 2, 0);
    assert_int_equal(atomic_load(&w.log.asked), 2);
    end(&w);
}

static void test_answer_that_fails_may_be_asked_for_again(void **unused)
{
    (void)unused;
    world w;
    begin(&w, 2);
    atomic_store(&w.log.state_fails, 1);
    command(&w, ASK, 0);
    while (atomic_load(&w.log.state_fails) > 0) {
        command(&w, TELL, 0);
    }
    do {
        command(&w, ASK, 0); /* nothing happens while the first is on its way */
    } while (command(&w, TELL, 0).told == 0);
    until(&w, 1, 2);
    atomic_store(&w.log.read_fails, 1);
    command(&w, HEAR, 3);
    atomic_store(&w.log.head, 3);
    do {
        command(&w, READ, 0);
    } while (command(&w, TELL, 0).applied < 3);
    assert_true(atomic_load(&w.log.reads) >= 3); /* one to 2, the one that failed, one to 3 */
    end(&w);
}

static void test_batch_of_another_log_is_asked_about_and_not_believed(void **unused)
{
    (void)unused;
    world w;
    begin(&w, 8);
    command(&w, ASK, 0);
    until(&w, 1, 8);
    atomic_store(&w.log.head, 6);
    atomic_store(&w.log.own, OTHER);
    command(&w, HEAR_OTHER, 100);
    held now = until(&w, 2, 0);
    assert_int_equal(now.srv, OTHER);
    assert_int_equal(now.head, 6); /* the new one's, though it is the smaller one */
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_follower_told_the_head_reads_to_it_page_by_page),
        cmocka_unit_test(test_question_asked_twice_is_on_its_way_once),
        cmocka_unit_test(test_answer_that_fails_may_be_asked_for_again),
        cmocka_unit_test(test_batch_of_another_log_is_asked_about_and_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
