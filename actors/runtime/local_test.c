/* local_test.c - inboxes, links, publications inside a process: who finds whom, what is lost,
 * full. */
#include "actors/runtime/local.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "protocol/limits.h"

#define BASE    "inproc://local-test"
#define ADDRESS BASE "/inbox"

static int wake_fd;

static int setup(void **state)
{
    (void)state;
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return wake_fd < 0;
}

static int teardown(void **state)
{
    (void)state;
    close(wake_fd);
    return 0;
}

static void open_socket(transport_socket *socket, transport_kind kind)
{
    assert_int_equal(transport_open(socket, kind, BASE, wake_fd), TW_OK);
    assert_non_null(socket->local);
}

static tw_err send_text(transport_socket *socket, tw_str header, const char *text)
{
    transport_packet *packet = NULL;
    assert_int_equal(transport_packet_new(&packet, header, TW_STR(""), tw_str_of(text)), TW_OK);
    tw_err err = transport_send(socket, &packet);
    assert_true((packet == NULL) == (err == TW_OK)); /* taken, or still ours */
    transport_packet_free(&packet);
    return err;
}

/* Takes what came; "" = nothing. The header is kept for the answer. */
static bool take(transport_socket *socket, const char *wanted, char header[64], size_t *len)
{
    transport_packet *packet = NULL;
    if (transport_receive(socket, &packet) != TW_OK) {
        return wanted[0] == '\0';
    }
    tw_str route = transport_packet_header(packet);
    assert_true(route.len <= 64);
    memcpy(header, route.ptr, route.len);
    *len = route.len;
    bool same = tw_str_equal(transport_packet_body(packet), tw_str_of(wanted));
    transport_packet_free(&packet);
    return same;
}

static void test_link_before_its_inbox_is_connected_when_it_listens(void **state)
{
    (void)state;
    transport_socket link;
    transport_socket inbox;
    transport_socket second;
    char header[64];
    size_t len = 0;
    open_socket(&link, TRANSPORT_LINK);
    assert_int_equal(transport_dial(&link, ADDRESS), TW_OK);
    assert_int_equal(atomic_load(&link.pipes), 0);
    assert_int_equal(send_text(&link, TW_STR("\x80zzz"), "early"), TW_E_BUSY);
    open_socket(&inbox, TRANSPORT_INBOX);
    open_socket(&second, TRANSPORT_INBOX);
    assert_int_equal(transport_listen(&inbox, ADDRESS), TW_OK);
    assert_int_equal(transport_listen(&second, ADDRESS), TW_E_CONFLICT);
    assert_int_equal(atomic_load(&link.pipes), 1);
    assert_int_equal(atomic_load(&inbox.gains), 1);
    assert_int_equal(send_text(&link, TW_STR("\x80zzz"), "ask"), TW_OK);
    assert_true(take(&inbox, "ask", header, &len));
    assert_int_equal(len, 8);
    assert_true(take(&inbox, "", header, &len));
    assert_int_equal(send_text(&inbox, (tw_str){header, len}, "answer"), TW_OK);
    assert_true(take(&link, "answer", header, &len));
    assert_int_equal(len, 4); /* the request's number alone */
    transport_close(&second);
    transport_close(&inbox);
    transport_close(&link);
}

static void test_inbox_that_closes_is_a_loss_and_the_next_one_is_found(void **state)
{
    (void)state;
    transport_socket link;
    transport_socket inbox;
    char header[64];
    size_t len = 0;
    open_socket(&inbox, TRANSPORT_INBOX);
    assert_int_equal(transport_listen(&inbox, ADDRESS), TW_OK);
    open_socket(&link, TRANSPORT_LINK);
    assert_int_equal(transport_dial(&link, ADDRESS), TW_OK);
    assert_int_equal(send_text(&link, TW_STR("\x80zzz"), "lost"), TW_OK);
    transport_close(&inbox); /* with what it has not read */
    assert_int_equal(atomic_load(&link.pipes), 0);
    assert_int_equal(atomic_load(&link.losses), 1);
    open_socket(&inbox, TRANSPORT_INBOX);
    assert_int_equal(transport_listen(&inbox, ADDRESS), TW_OK);
    assert_int_equal(atomic_load(&link.pipes), 1);
    assert_true(take(&inbox, "", header, &len));
    assert_int_equal(send_text(&link, TW_STR("\x80zzz"), "again"), TW_OK);
    assert_true(take(&inbox, "again", header, &len));
    transport_close(&link);
    assert_int_equal(atomic_load(&inbox.losses), 1);
    assert_int_equal(send_text(&inbox, (tw_str){header, len}, "to nobody"), TW_OK);
    transport_close(&inbox);
}

static void test_refused_packet_cuts_its_link_alone_and_it_begins_anew(void **state)
{
    (void)state;
    transport_socket links[2];
    transport_socket inbox;
    char header[64];
    size_t len = 0;
    open_socket(&inbox, TRANSPORT_INBOX);
    assert_int_equal(transport_listen(&inbox, ADDRESS), TW_OK);
    for (size_t i = 0; i < 2; i++) {
        open_socket(&links[i], TRANSPORT_LINK);
        assert_int_equal(transport_dial(&links[i], ADDRESS), TW_OK);
    }
    assert_int_equal(send_text(&links[1], TW_STR("\x80zzz"), "garbage"), TW_OK);
    transport_packet *packet = NULL;
    assert_int_equal(transport_receive(&inbox, &packet), TW_OK);
    tw_str route = transport_packet_header(packet);
    len = route.len;
    memcpy(header, route.ptr, len);
    transport_refuse(&inbox, packet);
    transport_packet_free(&packet);
    assert_int_equal(atomic_load(&links[0].losses), 0);
    assert_int_equal(atomic_load(&links[1].losses), 1);
    assert_int_equal(atomic_load(&links[1].pipes), 1);
    assert_int_equal(send_text(&inbox, (tw_str){header, len}, "late"), TW_OK); /* dropped */
    assert_true(take(&links[1], "", header, &len));
    for (size_t i = 0; i < 2; i++) {
        transport_close(&links[i]);
    }
    transport_close(&inbox);
}

static void test_full_queues_are_busy_until_they_are_read(void **state)
{
    (void)state;
    transport_socket link;
    transport_socket inbox;
    char header[64];
    size_t len = 0;
    size_t sent = 0;
    open_socket(&inbox, TRANSPORT_INBOX);
    assert_int_equal(transport_listen(&inbox, ADDRESS), TW_OK);
    open_socket(&link, TRANSPORT_LINK);
    assert_int_equal(transport_dial(&link, ADDRESS), TW_OK);
    while (send_text(&link, TW_STR("\x80zzz"), "ask") == TW_OK) {
        sent++;
    }
    assert_true(sent >= (size_t)TW_LINK_IN_FLIGHT_MAX);
    assert_true(take(&inbox, "ask", header, &len));
    assert_int_equal(send_text(&link, TW_STR("\x80zzz"), "last"), TW_OK);
    size_t answered = 0;
    while (send_text(&inbox, (tw_str){header, len}, "answer") == TW_OK) {
        answered++;
    }
    assert_true(answered >= (size_t)TW_LINK_IN_FLIGHT_MAX);
    char other[64];
    size_t other_len = 0;
    for (size_t i = 0; i < answered; i++) {
        assert_true(take(&link, "answer", other, &other_len));
    }
    assert_true(take(&link, "", other, &other_len));
    for (size_t i = 1; i < sent; i++) {
        assert_true(take(&inbox, "ask", other, &other_len));
    }
    assert_true(take(&inbox, "last", other, &other_len));
    transport_close(&link);
    transport_close(&inbox);
}

#define FOLLOWED BASE "/store.pub"

static void test_publication_reaches_each_follower_and_nobody_is_no_error(void **state)
{
    (void)state;
    transport_socket source;
    transport_socket follows[TW_ACTORS_MAX + 1]; /* more than are woken behind the lock */
    char header[64];
    size_t len = 0;
    open_socket(&source, TRANSPORT_PUBLICATIONS);
    assert_int_equal(source.fd, -1);
    open_socket(&follows[0], TRANSPORT_FOLLOW);
    assert_int_equal(transport_dial(&follows[0], FOLLOWED), TW_OK);
    assert_int_equal(transport_listen(&source, FOLLOWED), TW_OK);
    assert_int_equal(atomic_load(&follows[0].pipes), 1);
    for (size_t i = 1; i < TW_COUNT(follows); i++) {
        open_socket(&follows[i], TRANSPORT_FOLLOW);
        assert_int_equal(transport_dial(&follows[i], FOLLOWED), TW_OK);
    }
    assert_int_equal(atomic_load(&source.pipes), TW_ACTORS_MAX + 1);
    assert_int_equal(send_text(&source, TW_STR(""), "first"), TW_OK);
    assert_int_equal(send_text(&source, TW_STR(""), "second"), TW_OK);
    for (size_t i = 0; i < TW_COUNT(follows); i++) {
        eventfd_t told = 0;
        assert_int_equal(eventfd_read(follows[i].fd, &told), 0);
        assert_int_equal(told, 1); /* once for both */
        assert_int_equal(eventfd_write(follows[i].fd, told), 0);
        assert_true(take(&follows[i], "first", header, &len));
        assert_int_equal(len, 0);
        assert_true(take(&follows[i], "second", header, &len));
        assert_true(take(&follows[i], "", header, &len));
        assert_int_not_equal(eventfd_read(follows[i].fd, &told), 0);
        transport_close(&follows[i]);
    }
    assert_int_equal(send_text(&source, TW_STR(""), "to nobody"), TW_OK);
    transport_close(&source);
}

static void test_follower_finds_the_next_publisher_and_keeps_what_came(void **state)
{
    (void)state;
    transport_socket source;
    transport_socket follow;
    char header[64];
    size_t len = 0;
    open_socket(&source, TRANSPORT_PUBLICATIONS);
    assert_int_equal(transport_listen(&source, FOLLOWED), TW_OK);
    open_socket(&follow, TRANSPORT_FOLLOW);
    assert_int_equal(transport_dial(&follow, FOLLOWED), TW_OK);
    assert_int_equal(send_text(&source, TW_STR(""), "of the first"), TW_OK);
    transport_close(&source);
    assert_int_equal(atomic_load(&follow.losses), 1);
    open_socket(&source, TRANSPORT_PUBLICATIONS);
    assert_int_equal(transport_listen(&source, FOLLOWED), TW_OK);
    assert_int_equal(atomic_load(&follow.gains), 2);
    assert_int_equal(send_text(&source, TW_STR(""), "of the next"), TW_OK);
    assert_true(take(&follow, "of the first", header, &len));
    assert_true(take(&follow, "of the next", header, &len));
    transport_refuse(&follow, NULL); /* it begins anew, without the others */
    assert_int_equal(atomic_load(&follow.losses), 2);
    assert_int_equal(atomic_load(&follow.pipes), 1);
    transport_close(&follow);
    assert_int_equal(atomic_load(&source.pipes), 0);
    transport_close(&source);
}

static void test_follower_that_lags_loses_the_oldest_by_count_and_by_bytes(void **state)
{
    (void)state;
    transport_socket source;
    transport_socket lagging;
    char text[16];
    char header[64];
    size_t len = 0;
    open_socket(&source, TRANSPORT_PUBLICATIONS);
    assert_int_equal(transport_listen(&source, FOLLOWED), TW_OK);
    open_socket(&lagging, TRANSPORT_FOLLOW);
    assert_int_equal(transport_dial(&lagging, FOLLOWED), TW_OK);
    for (int i = 0; i < TW_FOLLOW_QUEUE_MAX + 2; i++) {
        tw_format(text, sizeof text, "%d", i);
        assert_int_equal(send_text(&source, TW_STR(""), text), TW_OK);
    }
    for (int i = 2; i < TW_FOLLOW_QUEUE_MAX + 2; i++) {
        tw_format(text, sizeof text, "%d", i);
        assert_true(take(&lagging, text, header, &len));
    }
    assert_true(take(&lagging, "", header, &len));
    char *big = tw_alloc(TW_ACTOR_MESSAGE_MAX);
    assert_non_null(big);
    memset(big, 'x', TW_ACTOR_MESSAGE_MAX - 1);
    big[TW_ACTOR_MESSAGE_MAX - 1] = '\0';
    size_t fit = TW_FOLLOW_BYTES_MAX / (TW_ACTOR_MESSAGE_MAX - 1);
    for (size_t i = 0; i <= fit; i++) {
        big[0] = (char)('0' + (char)i);
        assert_int_equal(send_text(&source, TW_STR(""), big), TW_OK);
    }
    for (size_t i = 1; i <= fit; i++) {
        big[0] = (char)('0' + (char)i);
        assert_true(take(&lagging, big, header, &len));
    }
    assert_true(take(&lagging, "", header, &len));
    tw_free(big);
    transport_close(&lagging);
    transport_close(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_link_before_its_inbox_is_connected_when_it_listens,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_inbox_that_closes_is_a_loss_and_the_next_one_is_found,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_packet_cuts_its_link_alone_and_it_begins_anew,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_queues_are_busy_until_they_are_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_publication_reaches_each_follower_and_nobody_is_no_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_follower_finds_the_next_publisher_and_keeps_what_came,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_follower_that_lags_loses_the_oldest_by_count_and_by_bytes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
