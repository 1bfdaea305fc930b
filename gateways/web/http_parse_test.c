/* http_parse_test.c - heads that are good, cut, too large and ambiguous. */
#include "gateways/web/http_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char good[] = "PATCH /api/v1/a%20b/c%2Fd?limit=3&skip=%31&x HTTP/1.1\r\n"
                           "Host: localhost:80\r\nORIGIN:  http://a.example \r\n"
                           "Connection: keep-alive , Upgrade\r\nUpgrade: websocket\r\n"
                           "If-Match: \"4\"\r\nContent-Length: 17\r\n\r\n";

static void test_http_head_is_read_as_it_is(void **state)
{
    (void)state;
    http_head head;
    assert_int_equal(http_parse(tw_str_of(good), &head), 200);
    assert_int_equal(head.len, strlen(good));
    assert_true(tw_str_equal(head.method, TW_STR("PATCH")));
    assert_true(tw_str_equal(head.path, TW_STR("/api/v1/a%20b/c%2Fd")));
    assert_true(tw_str_equal(head.origin, TW_STR("http://a.example")));
    assert_true(tw_str_equal(http_query_get(head.query, "limit"), TW_STR("3")));
    assert_true(tw_str_equal(http_query_get(head.query, "skip"), TW_STR("%31")));
    assert_null(http_query_get(head.query, "x").ptr);
    assert_true(head.upgrades && head.keep_alive && !head.http10);
    assert_int_equal(head.content_length, 17);
    char out[64];
    size_t len = 0;
    assert_true(http_decode(TW_STR("a%20b%2f"), out, &len));
    assert_int_equal(len, 4);
    assert_memory_equal(out, "a b/", 4);
    assert_false(http_decode(TW_STR("%0"), out, &len));
    assert_false(http_decode(TW_STR("%00"), out, &len));
    assert_false(http_decode(TW_STR("%zz"), out, &len));
}

static void test_http_head_cut_anywhere_is_incomplete(void **state)
{
    (void)state;
    for (size_t len = 0; len < strlen(good); len++) {
        http_head head;
        assert_int_equal(http_parse((tw_str){good, len}, &head), 0);
    }
}

static void test_http_head_that_is_wrong_is_refused(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *text;
    } wrong[] = {
        {400, "GET / HTTP/1.1\r\n\r\n"}, /* no Host */
        {400, "GET / HTTP/1.1\nHost: a\r\n\r\n"},
        {400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {400, "GET nothing HTTP/1.1\r\nHost: a\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n"},
        {400, "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {411, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"},
    };
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        http_head head;
        int status = http_parse(tw_str_of(wrong[i].text), &head);
        if (status != wrong[i].status) {
            fail_msg("head %zu: %d", i, status);
        }
    }
    static char large[HTTP_HEAD_MAX + 1];
    memset(large, 'a', sizeof(large) - 1);
    memcpy(large, "GET / HTTP/1.1\r\nHost: ", 22);
    http_head head;
    assert_int_equal(http_parse((tw_str){large, HTTP_HEAD_MAX - 1}, &head), 0);
    assert_int_equal(http_parse((tw_str){large, HTTP_HEAD_MAX}, &head), 431);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_head_is_read_as_it_is),
        cmocka_unit_test(test_http_head_cut_anywhere_is_incomplete),
        cmocka_unit_test(test_http_head_that_is_wrong_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
