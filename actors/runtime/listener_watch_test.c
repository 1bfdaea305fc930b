/* listener_watch_test.c - the watch against listeners that greet, are silent, talk nonsense, or are
 * not there. */
#include "actors/runtime/listener_watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "protocol/base.h"

static const uint8_t rep_greeting[8] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};

typedef struct world {
    char directory[64], address[96];
    int listener;
    uint64_t gains; /* as many pipes as the listener's socket is said to have made */
    listener_watch watch;
} world;

static void begin(world *w, bool listens)
{
    tw_format(w->directory, sizeof w->directory, "/tmp/tidewire-watch-XXXXXX");
    assert_non_null(mkdtemp(w->directory));
    tw_format(w->address, sizeof w->address, "ipc://%s/x", w->directory);
    w->listener = -1;
    w->gains = 7;
    if (listens) {
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        tw_format(at.sun_path, sizeof at.sun_path, "%s", w->address + strlen("ipc://"));
        w->listener = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_true(w->listener >= 0);
        assert_int_equal(bind(w->listener, (struct sockaddr *)&at, sizeof at), 0);
        assert_int_equal(listen(w->listener, 8), 0);
    }
    listener_watch_begin(&w->watch, LISTENER_WATCH_REQ, w->address);
}

static void end(world *w)
{
    listener_watch_end(&w->watch);
    if (w->listener >= 0) {
        close(w->listener);
        unlink(w->address + strlen("ipc://"));
    }
    rmdir(w->directory);
}

/* Steps until it says dead, at most so many; the number of steps, 0: it never did. */
static int steps_to_death(world *w, int most)
{
    for (int step = 1; step <= most; step++) {
        if (listener_watch_step(&w->watch, w->gains)) {
            return step;
        }
    }
    return 0;
}

static void test_watch_greeting_listener_is_alive(void **state)
{
    (void)state;
    world w;
    begin(&w, true);
    for (int round = 0; round < 20; round++) {
        assert_false(listener_watch_step(&w.watch, w.gains)); /* connects and greets */
        int peer = accept(w.listener, NULL, NULL);
        assert_true(peer >= 0);
        uint8_t theirs[8];
        assert_int_equal(recv(peer, theirs, sizeof theirs, MSG_WAITALL), 8);
        assert_int_equal(theirs[5], 0x30);
        assert_int_equal(send(peer, rep_greeting, 3, 0), 3); /* a greeting may come in pieces */
        assert_false(listener_watch_step(&w.watch, w.gains));
        assert_int_equal(send(peer, rep_greeting + 3, 5, 0), 5);
        w.gains++;
        assert_false(listener_watch_step(&w.watch, w.gains)); /* noticed: it goes */
        assert_int_equal(recv(peer, theirs, sizeof theirs, 0), 0);
        close(peer);
    }
    end(&w);
}

static void test_watch_silent_listener_is_dead_and_watched_on(void **state)
{
    (void)state;
    world w;
    begin(&w, true);
    assert_int_equal(steps_to_death(&w, 100), 1 + LISTENER_WATCH_MISSES_MAX);
    assert_int_equal(steps_to_death(&w, 100), 1 + LISTENER_WATCH_MISSES_MAX);
    end(&w);
}

/* What nng 1.5.2 does behind a rude peer. */
static void test_watch_greeted_without_a_pipe_is_dead(void **state)
{
    (void)state;
    world w;
    begin(&w, true);
    assert_false(listener_watch_step(&w.watch, w.gains));
    int peer = accept(w.listener, NULL, NULL);
    assert_int_equal(send(peer, rep_greeting, 8, 0), 8);
    assert_int_equal(steps_to_death(&w, 100), LISTENER_WATCH_MISSES_MAX);
    close(peer);
    end(&w);
}

static void test_watch_absent_listener_is_dead(void **state)
{
    (void)state;
    world w;
    begin(&w, false);
    assert_int_equal(steps_to_death(&w, 100), LISTENER_WATCH_MISSES_MAX);
    end(&w);
}

static void test_watch_nonsense_is_no_greeting(void **state)
{
    (void)state;
    world w;
    begin(&w, true);
    assert_false(listener_watch_step(&w.watch, w.gains));
    int peer = accept(w.listener, NULL, NULL);
    assert_int_equal(send(peer, "HTTP/1.1", 8, 0), 8);
    assert_int_equal(steps_to_death(&w, 100), LISTENER_WATCH_MISSES_MAX);
    close(peer);
    end(&w);
}

static void test_watch_inproc_needs_none(void **state)
{
    (void)state;
    listener_watch watch;
    listener_watch_begin(&watch, LISTENER_WATCH_SUB, "inproc://somewhere");
    for (int i = 0; i < 10; i++) {
        assert_false(listener_watch_step(&watch, 0));
    }
    listener_watch_end(&watch);
}

static void test_watch_tcp_nobody_listens_is_dead(void **state)
{
    (void)state;
    world w = {.listener = -1};
    listener_watch_begin(&w.watch, LISTENER_WATCH_REQ, "tcp://127.0.0.1:1");
    assert_true(steps_to_death(&w, 100) > 0);
    listener_watch_end(&w.watch);
    listener_watch_begin(&w.watch, LISTENER_WATCH_REQ, "tcp://[::1]:1");
    listener_watch_step(&w.watch, w.gains);
    listener_watch_end(&w.watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watch_greeting_listener_is_alive),
        cmocka_unit_test(test_watch_silent_listener_is_dead_and_watched_on),
        cmocka_unit_test(test_watch_greeted_without_a_pipe_is_dead),
        cmocka_unit_test(test_watch_absent_listener_is_dead),
        cmocka_unit_test(test_watch_nonsense_is_no_greeting),
        cmocka_unit_test(test_watch_inproc_needs_none),
        cmocka_unit_test(test_watch_tcp_nobody_listens_is_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
