/* websocket_frame_test.c - frames whole, fragmented, cut at each byte, and broken in each way. */
#include "gateways/wire/websocket_frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Appends a masked client frame. */
static void frame(tw_buf *out, unsigned first, const char *payload, size_t len)
{
    static const uint8_t mask[4] = {0x12, 0x00, 0xff, 0x81};
    tw_buf_add_byte(out, (char)first);
    if (len < 126) {
        tw_buf_add_byte(out, (char)(0x80U | len));
    } else {
        tw_buf_add_byte(out, (char)(0x80U | (len < 65536 ? 126U : 127U)));
        for (int shift = len < 65536 ? 8 : 56; shift >= 0; shift -= 8) {
            tw_buf_add_byte(out, (char)(len >> shift & 0xffU));
        }
    }
    tw_buf_add(out, mask, sizeof(mask));
    for (size_t i = 0; i < len; i++) {
        tw_buf_add_byte(out, (char)((uint8_t)payload[i] ^ mask[i % 4]));
    }
}

/* What a reader makes of bytes given in pieces of step: one letter an event, then its payload. */
static void read_all(const tw_buf *bytes, size_t step, tw_buf *told, unsigned *number)
{
    websocket_reader reader;
    websocket_reader_init(&reader);
    char *copy = malloc(bytes->len);
    memcpy(copy, bytes->ptr, bytes->len);
    bool over = false;
    for (size_t at = 0; at < bytes->len && !over; at += step) {
        uint8_t *from = (uint8_t *)copy + at;
        uint8_t *end = from + (bytes->len - at < step ? bytes->len - at : step);
        websocket_event event = WEBSOCKET_TEXT;
        while (!over && event != WEBSOCKET_MORE) {
            tw_str payload = {"", 0};
            event = websocket_next(&reader, &from, end, &payload);
            if (event != WEBSOCKET_MORE) {
                tw_buf_add_byte(told, "?TBpPCX!"[event]);
                tw_buf_add_str(told, payload);
            }
            over = event == WEBSOCKET_CLOSE || event == WEBSOCKET_BROKEN;
        }
    }
    *number = reader.close_number;
    free(copy);
    websocket_reader_fini(&reader);
}

static void assert_told(const tw_buf *bytes, const char *expected, unsigned close_number)
{
    for (size_t step = 1; step <= bytes->len; step += step < 16 ? 1 : bytes->len / 4 + 1) {
        tw_buf told;
        tw_buf_init(&told, 1 << 20);
        unsigned number = 0;
        read_all(bytes, step, &told, &number);
        tw_buf_add_byte(&told, 0);
        assert_string_equal(told.ptr, expected);
        assert_int_equal(number, close_number);
        tw_buf_fini(&told);
    }
}

static void test_frames_cut_at_each_byte_are_the_same(void **state)
{
    (void)state;
    tw_buf bytes;
    tw_buf_init(&bytes, 1 << 20);
    frame(&bytes, 0x81, "one", 3);
    frame(&bytes, 0x01, "t", 1);
    frame(&bytes, 0x89, "ping", 4); /* between fragments */
    frame(&bytes, 0x00, "", 0);
    frame(&bytes, 0x80, "wo \xc3\xa4", 5);
    frame(&bytes, 0x82, "bin", 3);
    frame(&bytes, 0x8a, "", 0);
    frame(&bytes, 0x81, "", 0);
    frame(&bytes, 0x88,
          "\x03\xe9"
          "bye",
          5);
    assert_told(&bytes,
                "ToneppingTtwo \xc3\xa4"
                "BbinPTC\x03\xe9"
                "bye",
                1001);
    tw_buf_fini(&bytes);
}

static void test_frames_at_the_message_limit_pass_and_beyond_are_refused(void **state)
{
    (void)state;
    static char big[TW_MESSAGE_MAX + 1];
    memset(big, 'a', sizeof(big));
    tw_buf bytes;
    tw_buf_init(&bytes, 1 << 20);
    frame(&bytes, 0x81, big, TW_MESSAGE_MAX);
    tw_buf told;
    tw_buf_init(&told, 1 << 20);
    unsigned number = 0;
    read_all(&bytes, 1000, &told, &number);
    assert_int_equal(told.len, 1 + TW_MESSAGE_MAX);
    tw_buf_clear(&bytes);
    frame(&bytes, 0x81, big, TW_MESSAGE_MAX + 1);
    assert_told(&bytes, "X", WEBSOCKET_CLOSE_TOO_BIG); /* the length alone tells */
    tw_buf_clear(&bytes);
    frame(&bytes, 0x01, big, TW_MESSAGE_MAX);
    frame(&bytes, 0x80, big, 1);
    tw_buf_clear(&told);
    read_all(&bytes, 70000, &told, &number);
    assert_int_equal(number, tw_err_number(TW_E_TOO_BIG));
    tw_buf_clear(&bytes);
    frame(&bytes, 0x01, "", 0);
    for (int i = 0; i < TW_MESSAGE_FRAGMENTS_MAX; i++) {
        frame(&bytes, 0x00, "", 0);
    }
    tw_buf_clear(&told);
    read_all(&bytes, 70000, &told, &number);
    assert_int_equal(number, WEBSOCKET_CLOSE_TOO_BIG);
    tw_buf_fini(&told);
    tw_buf_fini(&bytes);
}

static void test_frames_that_break_the_rules_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        unsigned number;
    } broken[] = {
        {"\x81\x01x", 3, 1002},                                         /* not masked */
        {"\xc1\x81\1\2\3\4x", 7, 1002},                                 /* reserved bit */
        {"\x83\x81\1\2\3\4x", 7, 1002},                                 /* unknown opcode */
        {"\x8b\x81\1\2\3\4x", 7, 1002},                                 /* unknown control */
        {"\x09\x81\1\2\3\4x", 7, 1002},                                 /* a ping in fragments */
        {"\x89\xfe\0\x7e", 4, 1002},                                    /* a ping of 126 bytes */
        {"\x80\x81\1\2\3\4x", 7, 1002},                                 /* continues nothing */
        {"\x81\xfe\0\x05\1\2\3\4", 8, 1002},                            /* 5 in two bytes */
        {"\x81\xff\0\0\0\0\0\0\0\5\1\2\3\4", 14, 1002},                 /* 5 in eight bytes */
        {"\x81\xff\x40\0\0\0\0\0\0\0\1\2\3\4", 14, 1009},               /* 2^62 */
        {"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\2\3\4", 14, 1002}, /* 2^64 - 1 */
        {"\x81\x82\0\0\0\0\xc0\x80", 8, 1007},                          /* overlong */
        {"\x81\x83\0\0\0\0\xed\xa0\x80", 9, 1007},                      /* a surrogate */
        {"\x88\x81\0\0\0\0x", 7, 1002},                                 /* half a close number */
        {"\x88\x82\0\0\0\0\x03\xed", 8, 1002},                          /* 1005 is not to be sent */
        {"\x01\x81\0\0\0\0x\x81\x81\0\0\0\0x", 14, 1002}, /* a message inside a message */
    };
    for (size_t i = 0; i < TW_COUNT(broken); i++) {
        tw_buf bytes;
        tw_buf_init(&bytes, 64);
        tw_buf_add(&bytes, broken[i].bytes, broken[i].len);
        tw_buf told;
        tw_buf_init(&told, 1024);
        unsigned number = 0;
        read_all(&bytes, 1, &told, &number);
        if (number != broken[i].number || told.ptr[0] != 'X') {
            fail_msg("frame %zu: %u", i, number);
        }
        tw_buf_fini(&told);
        tw_buf_fini(&bytes);
    }
}

static void test_header_of_each_length(void **state)
{
    (void)state;
    static const size_t lens[] = {0, 125, 126, 65535, 65536, 16777216};
    static const size_t expected[] = {2, 2, 4, 4, 10, 10};
    for (size_t i = 0; i < TW_COUNT(lens); i++) {
        uint8_t out[WEBSOCKET_HEADER_MAX];
        size_t len = websocket_header(out, WEBSOCKET_OP_TEXT, lens[i]);
        assert_int_equal(len, expected[i]);
        assert_int_equal(len, websocket_header_len(lens[i]));
        uint64_t told = len == 2 ? out[1] : 0;
        for (size_t k = 2; k < len; k++) {
            told = told << 8 | out[k];
        }
        assert_int_equal(told, lens[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_cut_at_each_byte_are_the_same),
        cmocka_unit_test(test_frames_at_the_message_limit_pass_and_beyond_are_refused),
        cmocka_unit_test(test_frames_that_break_the_rules_are_refused),
        cmocka_unit_test(test_header_of_each_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
