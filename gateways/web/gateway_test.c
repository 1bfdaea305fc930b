/* gateway_test.c - the gateway as an actor, over real sockets, with nobody behind it: handshakes,
 * frames, Origin and Host, refusals, health, draining. */
#include "gateways/web/gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/runtime/log.h"

enum { ANSWER_MAX = 65536, WAIT_S = 5 };

#define GET "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n"

struct stage {
    tw_system *system;
    gateway_ports ports;
    catalog catalog;
    gateway_options options;
};

static void stage_open(struct stage *self)
{
    memset(self, 0, sizeof(*self));
    tw_log_set_level(TW_LOG_ERROR);
    self->catalog = (catalog){.magic = CATALOG_MAGIC, .default_database = "main"};
    self->options = (gateway_options){
        .catalog = &self->catalog,
        .listen_address = "127.0.0.1",
        .admin_address = "127.0.0.1",
        .readers_count = 1,
        .ports = &self->ports,
    };
    assert_int_equal(tw_system_new(&self->system, &(tw_system_options){.base = NULL}), TW_OK);
    assert_int_equal(tw_system_add(self->system, &gateway_class, -1, &self->options), TW_OK);
    const char *why = "";
    assert_int_equal(tw_system_start(self->system, &why), TW_OK);
}

static void stage_close(struct stage *self)
{
    tw_system_stop(self->system, 5000);
    tw_system_free(&self->system);
}

static int dial(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval wait = {.tv_sec = WAIT_S};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)(void *)&to, sizeof(to)), 0);
    return fd;
}

static void say(int fd, const void *bytes, size_t len)
{
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Reads until `until` has come, or the end; the text is static. */
static const char *hear(int fd, const char *until)
{
    static char text[ANSWER_MAX];
    size_t len = 0;
    text[0] = 0;
    while (len < sizeof(text) - 1) {
        ssize_t got = recv(fd, text + len, sizeof(text) - 1 - len, 0);
        if (got <= 0) {
            break;
        }
        for (ssize_t i = 0; i < got; i++, len++) {
            text[len] = text[len] == 0 ? ' ' : text[len]; /* frame headers hold zeros */
        }
        text[len] = 0;
        if (until != NULL && strstr(text, until) != NULL) {
            break;
        }
    }
    return text;
}

static const char *ask(int port, const char *request)
{
    int fd = dial(port);
    say(fd, request, strlen(request));
    const char *answer = hear(fd, NULL);
    close(fd);
    return answer;
}

static int open_websocket(int port)
{
    static const char handshake[] =
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    int fd = dial(port);
    say(fd, handshake, strlen(handshake));
    assert_non_null(strstr(hear(fd, "\r\n\r\n"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")); /* RFC 6455 */
    return fd;
}

static void say_frame(int fd, const char *text)
{
    uint8_t frame[4096] = {0x81};
    size_t len = strlen(text);
    size_t head = len < 126 ? 2 : 4;
    frame[1] = (uint8_t)(0x80U | (len < 126 ? len : 126U));
    if (head == 4) {
        frame[2] = (uint8_t)(len >> 8);
        frame[3] = (uint8_t)(len & 0xffU);
    }
    static const uint8_t mask[4] = {1, 2, 3, 4};
    memcpy(frame + head, mask, 4);
    for (size_t i = 0; i < len; i++) {
        frame[head + 4 + i] = (uint8_t)text[i] ^ mask[i % 4];
    }
    say(fd, frame, head + 4 + len);
}

static void test_gateway_speaks_the_protocol(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage);
    int port = atomic_load(&stage.ports.listen);
    int fd = open_websocket(port);
    say_frame(fd, "{\"type\":\"hello\"}");
    assert_non_null(strstr(hear(fd, "\"collections\":["), "\"type\":\"welcome\",\"protocol\":1"));
    say_frame(fd, "{\"type\":\"subscribe\",\"mux_id\":5}");
    assert_non_null(strstr(hear(fd, "}"), "\"mux_id\":5,\"code\":\"bad_message\""));
    say_frame(fd, "{\"type\":\"close\",\"mux_id\":\"x\"}");
    assert_non_null(strstr(hear(fd, "}"), "\"mux_id\":\"x\",\"code\":\"no_stream\""));
    say_frame(fd, "{\"type\":\"subscribe\",\"mux_id\":6,\"a\":\"*\"}");
    say_frame(fd, "{\"type\":\"subscribe\",\"mux_id\":6,\"a\":\"*\"}");
    assert_non_null(strstr(hear(fd, "}"), "\"code\":\"mux_in_use\""));
    say_frame(fd, "{\"event\":\"DB_RECORD_PUT\"}");
    assert_non_null(strstr(hear(fd, "}"), "\"event\":\"DB_RECORD_PUT\",\"code\":\"bad_message\""));
    say_frame(fd, "nonsense");
    say_frame(fd, "{\"type\":\"nonsense\"}");
    say_frame(fd, "{}");
    assert_non_null(strstr(hear(fd, NULL), "too many bad messages")); /* and the end */
    close(fd);
    stage_close(&stage);
}

/* Hints that help: none is better than one that misleads. */
static void test_gateway_hints_fit_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *said, *told, *hint; /* hint NULL: none */
    } wrong[] = {
        {"[]", "no JSON object", "\"hint\":\"one JSON object per frame\""},
        {" 7", "no JSON object", "\"hint\":\"one JSON object per frame\""},
        {"{\"a\":1,\"a\":2}", "\"message\":", NULL},
        {"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "nested too deeply",
         "\"hint\":\"32 levels of objects and arrays are the most\""},
        {"{\"event\":\"DB_SCHEMA\",\"db\":\"a\",\"nothing\":1}", "has no field", NULL},
        {"{\"type\":\"subscribe\",\"mux_id\":1,\"c\":\"*\",\"since\":7}",
         "\"message\":\"since: not an array of [srv_id, seqno] pairs\"", NULL},
    };
    struct stage stage;
    stage_open(&stage);
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        int fd = open_websocket(atomic_load(&stage.ports.listen));
        say_frame(fd, wrong[i].said);
        const char *told = hear(fd, "}");
        bool fits = wrong[i].hint == NULL ? strstr(told, "\"hint\"") == NULL
                                          : strstr(told, wrong[i].hint) != NULL;
        if (strstr(told, wrong[i].told) == NULL || !fits) {
            fail_msg("%s: %s", wrong[i].said, told);
        }
        close(fd);
    }
    stage_close(&stage);
}

static void test_gateway_tells_a_name_that_is_none(void **state)
{
    (void)state;
    catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};
    gateway_options options = {
        .catalog = &known, .listen_address = "a..b", .listen_port = 1, .readers_count = 1};
    tw_system *system;
    const char *why = "";
    assert_int_equal(tw_system_new(&system, &(tw_system_options){.base = NULL}), TW_OK);
    assert_int_equal(tw_system_add(system, &gateway_class, -1, &options), TW_OK);
    assert_int_equal(tw_system_start(system, &why), TW_E_UNAVAILABLE);
    assert_non_null(strstr(why, "cannot listen at a..b:1: "));
    assert_null(strstr(why, strerror(EADDRNOTAVAIL)));
    tw_system_free(&system);
}

static void test_gateway_refuses_broken_frames(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage);
    int port = atomic_load(&stage.ports.listen);
    static const struct {
        const char *bytes;
        size_t len;
        unsigned number;
    } broken[] = {
        {"\x81\x02{}", 4, 1002},                          /* not masked */
        {"\xc1\x82\x01\x02\x03\x04zz", 8, 1002},          /* reserved bit */
        {"\x81\xff\x40\0\0\0\0\0\0\0\1\2\3\4", 14, 1009}, /* 2^62 bytes */
        {"\x81\x82\0\0\0\0\xff\xff", 8, 1007},            /* no UTF-8 */
        {"\x82\x82\0\0\0\0{}", 8, 1003},                  /* binary */
        {"\x80\x82\0\0\0\0{}", 8, 1002},                  /* continues nothing */
    };
    for (size_t i = 0; i < TW_COUNT(broken); i++) {
        int fd = open_websocket(port);
        say(fd, broken[i].bytes, broken[i].len);
        uint8_t answer[256] = {0};
        ssize_t got = recv(fd, answer, sizeof(answer), MSG_WAITALL); /* up to the end */
        assert_true(got >= 4);
        if (answer[0] != 0x88) {
            fail_msg("frame %zu: %.*s", i, (int)got, (const char *)answer);
        }
        assert_int_equal(answer[2] << 8 | answer[3], broken[i].number);
        close(fd);
    }
    stage_close(&stage);
}

static void test_gateway_checks_origin_and_host(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage);
    int port = atomic_load(&stage.ports.listen);
    int admin = atomic_load(&stage.ports.admin);
    static const struct {
        bool admin;
        const char *path, *host, *more, *answer;
    } asked[] = {
        {false, "/healthz", "localhost:1", "", "HTTP/1.1 200"},
        {false, "/healthz", "localhost", "Origin: http://localhost:3000\r\n", "HTTP/1.1 200"},
        {false, "/healthz", "localhost", "Origin: https://evil.example\r\n", "HTTP/1.1 403"},
        {false, "/healthz", "localhost", "Origin: null\r\n", "HTTP/1.1 403"},
        {false, "/healthz", "evil.example", "Origin: http://evil.example\r\n", "HTTP/1.1 403"},
        {false, "/healthz", "127.evil.example", "", "HTTP/1.1 403"},
        {false, "/readyz", "localhost", "", "HTTP/1.1 503"},
        {false, "/ws", "localhost", "", "HTTP/1.1 426"},
        {false, "/metrics", "localhost", "", "HTTP/1.1 404"},
        {false, "/api/v1/a/b/c", "localhost", "", "HTTP/1.1 405"},
        {true, "/metrics", "127.0.0.1", "", "HTTP/1.1 200"},
        {true, "/connz", "[::1]:80", "", "\"kind\":\"http\""},
        {true, "/streamz", "localhost", "", "\"topics\":[]"},
        {true, "/varz", "localhost", "", "\"health\":\"green\""},
        {true, "/actorz", "localhost", "", "\"actors\":[]"},
        {true, "/configz", "localhost", "", "\"configuration\":null"},
        {false, "/configz", "localhost", "", "HTTP/1.1 404"},
        {false, "/", "localhost", "", "Content-Security-Policy: default-src 'none'; script-src"},
        {false, "/", "localhost", "", "Tidewire serves here"},
        {false, "/inspector/", "localhost", "", "HTTP/1.1 404"},
        {false, "/demo/", "localhost", "", "HTTP/1.1 404"}, /* without --demo */
        {true, "/", "localhost", "", "Location: /inspector/"},
        {true, "/inspector", "localhost", "", "Location: /inspector/"},
        {true, "/inspector/../demo/index.html", "localhost", "", "HTTP/1.1 404"},
        {true, "/demo/", "localhost", "", "HTTP/1.1 404"},
        {true, "/metrics", "evil.example", "", "HTTP/1.1 403"},
        {true, "/ws", "localhost", "", "HTTP/1.1 404"},
    };
    for (size_t i = 0; i < TW_COUNT(asked); i++) {
        char request[512];
        tw_format(request, sizeof(request), GET, asked[i].path, asked[i].host, asked[i].more);
        const char *answer = ask(asked[i].admin ? admin : port, request);
        if (strstr(answer, asked[i].answer) == NULL) {
            fail_msg("%s of %s: %s", asked[i].path, asked[i].host, answer);
        }
    }
    assert_non_null(strstr(ask(port, "GET /\r\n\r\n"), "HTTP/1.1 400"));
    stage_close(&stage);
}

static void test_gateway_answers_pipelined_requests_in_order(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage);
    const char *answer =
        ask(atomic_load(&stage.ports.listen),
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
            "GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const char *first = strstr(answer, "HTTP/1.1 200");
    assert_non_null(first);
    assert_non_null(strstr(first, "HTTP/1.1 404"));
    stage_close(&stage);
}

static void test_gateway_drains_with_a_last_word(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage);
    int fd = open_websocket(atomic_load(&stage.ports.listen));
    say_frame(fd, "{\"type\":\"hello\"}");
    assert_non_null(strstr(hear(fd, "\"collections\":["), "welcome"));
    tw_system_stop(stage.system, 3000);
    assert_non_null(strstr(hear(fd, NULL), "\"code\":\"draining\""));
    close(fd);
    tw_system_free(&stage.system);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gateway_speaks_the_protocol),
        cmocka_unit_test(test_gateway_hints_fit_what_is_wrong),
        cmocka_unit_test(test_gateway_tells_a_name_that_is_none),
        cmocka_unit_test(test_gateway_refuses_broken_frames),
        cmocka_unit_test(test_gateway_checks_origin_and_host),
        cmocka_unit_test(test_gateway_answers_pipelined_requests_in_order),
        cmocka_unit_test(test_gateway_drains_with_a_last_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
