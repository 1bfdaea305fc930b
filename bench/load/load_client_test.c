/* load_client_test.c - streams in frames of any length, and connections without websockets. */
#include "bench/load/load_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/load/load_adapter.h"

enum { PAYLOAD = 128, EVENTS = 60000, PIECE = 70001, DEADLINE_S = 60 };

/* What a server sends: one message an event, by what `before` and `after` of it are. */
static load_bytes messages_of(const char *before, const char *after)
{
    load_client client = {.payload_bytes = PAYLOAD};
    load_bytes all = {0};
    for (uint32_t i = 0; i < EVENTS; i++) {
        load_conn writer = {.plain = true};
        const load_event event = {.seq = i, .topic_seq = i, .due_ns = 1};
        load_adapter_find("raw")->publish(&client, &writer, &event, 1);
        load_bytes_add(&all, before, strlen(before));
        load_bytes_add(&all, writer.out.ptr, writer.out.len);
        load_bytes_add(&all, after, strlen(after));
        tw_free(writer.out.ptr);
    }
    return all;
}

/* The head of an unmasked binary frame of so many bytes. */
static void add_frame_head(load_bytes *out, uint64_t len)
{
    uint8_t head[10] = {0x82, 127};
    for (unsigned i = 0; i < 8; i++) {
        head[2 + i] = (uint8_t)(len >> (8 * (7 - i)));
    }
    load_bytes_add(out, head, sizeof head);
}

/* In a process of its own: takes one connection, reads its first words, sends all, waits. */
static int serve(const load_bytes *all, uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    *port = ntohs(at.sin_port);
    int pid = fork();
    if (pid == 0) {
        char text[4096];
        int fd = accept(listener, NULL, NULL);
        bool good = recv(fd, text, sizeof text, 0) > 0;
        for (size_t sent = 0; good && sent < all->len;) {
            size_t piece = all->len - sent < PIECE ? all->len - sent : PIECE;
            ssize_t gone = send(fd, all->ptr + sent, piece, MSG_NOSIGNAL);
            good = gone > 0;
            sent += good ? (size_t)gone : 0;
        }
        while (good && recv(fd, text, sizeof text, 0) > 0) {
        }
        _exit(good ? 0 : 1);
    }
    close(listener);
    return pid;
}

static void read_all(const char *adapter, const load_bytes *all)
{
    static load_client client;
    load_conn conn = {0};
    client = (load_client){.adapter = load_adapter_find(adapter), .payload_bytes = PAYLOAD};
    int pid = serve(all, &client.port), status = 0;
    load_client_init(&client);
    load_conn_open(&client, &conn, false);
    uint64_t deadline = load_now_ns() + DEADLINE_S * UINT64_C(1000000000);
    while (client.delivered < EVENTS && conn.state != LOAD_CLOSED && client.now_ns < deadline) {
        load_client_turn(&client, 100000000, NULL, NULL);
    }
    assert_int_equal(client.delivered, EVENTS);
    assert_int_equal(client.lost + client.repeated + client.undecoded + client.rejected, 0);
    assert_int_equal(client.ready, 1);
    load_conn_close(&client, &conn);
    load_client_fini(&client);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* nats-server puts all that waits into one frame: here 9 MB, more than is ever kept. */
static void test_a_frame_of_a_stream_may_be_of_any_length(void **state)
{
    (void)state;
    load_bytes events = messages_of("MSG load 1 128\r\n", "\r\n"), all = {0};
    static const char hello[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    static const char pong[] = "PONG\r\n";
    load_bytes_add(&all, hello, sizeof hello - 1);
    add_frame_head(&all, events.len + sizeof pong - 1);
    load_bytes_add(&all, pong, sizeof pong - 1);
    load_bytes_add(&all, events.ptr, events.len);
    assert_true(events.len > UINT64_C(8) << 20);
    read_all("nats", &all);
    tw_free(events.ptr);
    tw_free(all.ptr);
}

static void test_redis_is_read_without_frames(void **state)
{
    (void)state;
    load_bytes all = {0};
    load_bytes events = messages_of("*3\r\n$7\r\nmessage\r\n$4\r\nload\r\n$128\r\n", "\r\n");
    static const char subscribed[] = "*3\r\n$9\r\nsubscribe\r\n$4\r\nload\r\n:1\r\n";
    load_bytes_add(&all, subscribed, sizeof subscribed - 1);
    load_bytes_add(&all, events.ptr, events.len);
    read_all("redis", &all);
    tw_free(events.ptr);
    tw_free(all.ptr);
}

/* A maximum by the answers of SET; an error is told, and is no answer. */
static void test_redis_answers_are_counted(void **state)
{
    (void)state;
    static load_client client;
    client = (load_client){.payload_bytes = PAYLOAD};
    load_conn conn = {.plain = true, .publishes = true, .state = LOAD_READY};
    uint8_t text[] = "+OK\r\n:0\r\n+OK\r\n-ERR gone\r\n+OK";
    const load_adapter *redis = load_adapter_find("redis");
    assert_int_equal(redis->received(&client, &conn, text, sizeof text - 1), sizeof text - 4);
    assert_int_equal(client.acked, 2);
    assert_int_equal(client.rejected, 1);
}

/* Requests are answered by heads with bodies of a told length, whole or in parts. */
static void test_nchan_answers_are_counted(void **state)
{
    (void)state;
    static load_client client;
    client = (load_client){.payload_bytes = PAYLOAD};
    load_conn conn = {.plain = true, .publishes = true, .state = LOAD_READY};
    uint8_t text[] = "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello"
                     "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
                     "HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nhel";
    const load_adapter *nchan = load_adapter_find("nchan-topics");
    size_t whole = (size_t)(strstr((char *)text, "HTTP/1.1 202") - (char *)text);
    assert_int_equal(nchan->received(&client, &conn, text, sizeof text - 1), whole);
    assert_int_equal(client.acked, 1);
    assert_int_equal(client.rejected, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_frame_of_a_stream_may_be_of_any_length),
        cmocka_unit_test(test_redis_is_read_without_frames),
        cmocka_unit_test(test_redis_answers_are_counted),
        cmocka_unit_test(test_nchan_answers_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
