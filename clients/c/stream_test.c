/* stream_test.c - what a stream does without a server: the scenarios have one. */
#include "clients/c/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Nobody listens there: a privileged port of this host that no service has. */
static const char url[] = "ws://127.0.0.1:1/ws";

#define SUBSCRIBE TW_STR("{\"type\":\"subscribe\",\"collection\":\"movies\"}")

static void assert_refused(tw_str subscribe, const char *since, tw_err expected)
{
    stream *opened = NULL;
    assert_int_equal(stream_open(&opened, url, NULL, subscribe, since), expected);
    assert_null(opened);
}

static void assert_since(const char *given, const char *expected)
{
    stream *opened = NULL;
    assert_int_equal(stream_open(&opened, url, NULL, SUBSCRIBE, given), TW_OK);
    tw_str since = stream_since(opened);
    assert_int_equal(since.len, strlen(expected));
    assert_memory_equal(since.ptr, expected, since.len);
    stream_close(&opened);
    assert_null(opened);
}

static void test_stream_subscribe_that_is_no_object_is_refused(void **state)
{
    (void)state;
    assert_refused(TW_STR(""), NULL, TW_E_BAD_MESSAGE);
    assert_refused(TW_STR("[]"), NULL, TW_E_BAD_MESSAGE);
    assert_refused(TW_STR("{"), NULL, TW_E_BAD_MESSAGE);
    assert_refused(TW_STR("{}"), NULL, TW_E_BAD_MESSAGE);
    assert_refused(TW_STR("{\"a\":1} x"), NULL, TW_E_BAD_MESSAGE);
    assert_refused(TW_STR("{\"a\":1,\"mux_id\":2}"), NULL, TW_E_BAD_MESSAGE);
    assert_refused(TW_STR("{\"a\":1,\"since\":[]}"), NULL, TW_E_BAD_MESSAGE);
    assert_refused(TW_STR("{\"a\":1,\"query\":\"x\"}"), NULL, TW_E_BAD_MESSAGE);
}

static void test_stream_since_is_kept_as_a_vector(void **state)
{
    (void)state;
    assert_since(NULL, "[]");
    assert_since("[]", "[]");
    assert_since("now", "[]"); /* none yet */
    assert_since(" [[1, 2]] ", "[[1,2]]");
    assert_since("[[7,9007199254740991],[3,0]]", "[[7,9007199254740991],[3,0]]");
    assert_since("[[1,2],[1,5],[1,3]]", "[[1,5]]"); /* the highest of an origin counts */
}

static void test_stream_since_that_is_no_vector_is_refused(void **state)
{
    static const char *const wrong[] = {
        "",
        "5",
        "{}",
        "null",
        "[5]",
        "[[1]]",
        "[[1,2,3]]",
        "[[1,\"2\"]]",
        "[[1,-2]]",
        "[[-1,2]]",
        "[[1,2]",
        "[[1,1.5]]",
        "[{\"0\":1,\"1\":2}]",
        "[[9007199254740992,1]]",
        "[],\"x\":1",
    };
    (void)state;
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        assert_refused(SUBSCRIBE, wrong[i], TW_E_BAD_SINCE);
    }
    tw_buf many;
    tw_buf_init(&many, 4096);
    for (int i = 0; i <= 64; i++) {
        tw_buf_format(&many, "%s[%d,1]", i == 0 ? "[" : ",", i + 1);
    }
    tw_buf_add(&many, "]", 2);
    assert_refused(SUBSCRIBE, many.ptr, TW_E_BAD_SINCE);
    tw_buf_fini(&many);
}

static void test_stream_without_server_tells_it_once_and_keeps_since(void **state)
{
    (void)state;
    stream *opened = NULL;
    stream_event event;
    assert_int_equal(stream_open(&opened, url, NULL, SUBSCRIBE, "[[1,2]]"), TW_OK);
    assert_int_equal(stream_next(opened, 5000, &event), TW_OK);
    assert_int_equal(event.kind, STREAM_LOST);
    assert_true(event.text.len > 0);
    assert_int_equal(event.frame.len, 0);
    assert_int_equal(stream_next(opened, 1, &event), TW_E_TIMEOUT);
    tw_str since = stream_since(opened);
    assert_memory_equal(since.ptr, "[[1,2]]", since.len);
    stream_close(&opened);
    stream_close(&opened); /* of none is nothing */
}

static void test_stream_no_memory_is_an_error(void **state)
{
    (void)state;
    stream *opened = NULL;
    tw_err err = TW_E_NO_MEMORY;
    for (uint64_t nth = 1; err != TW_OK; nth++) {
        tw_alloc_fail_at(nth);
        err = stream_open(&opened, url, NULL, SUBSCRIBE, "[[1,2]]");
        tw_alloc_fail_at(0);
        assert_true(err == TW_OK || err == TW_E_NO_MEMORY);
        assert_true((err == TW_OK) == (opened != NULL));
    }
    stream_close(&opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_subscribe_that_is_no_object_is_refused),
        cmocka_unit_test(test_stream_since_is_kept_as_a_vector),
        cmocka_unit_test(test_stream_since_that_is_no_vector_is_refused),
        cmocka_unit_test(test_stream_without_server_tells_it_once_and_keeps_since),
        cmocka_unit_test(test_stream_no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
