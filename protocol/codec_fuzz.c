/* codec_fuzz.c - any bytes are refused or read; what was read can be written and read again. */
#include "protocol/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_BYTES_MAX = 64 << 20 };

/* Decodes bytes and writes the message to out. False when it is refused. */
static bool pass_through(tw_str bytes, tw_buf *out)
{
    tw_arena arena;
    tw_arena_init(&arena, FUZZ_BYTES_MAX);
    tw_msg_id id;
    uint64_t request;
    tw_body body;
    bool is_right = tw_message_decode(&arena, bytes, &id, &request, &body) == TW_OK;
    if (is_right) {
        tw_message_encode(out, id, request, &body);
        TW_ASSERT(out->err == TW_OK);
    }
    tw_arena_fini(&arena);
    return is_right;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_buf once;
    tw_buf_init(&once, FUZZ_BYTES_MAX);
    tw_buf twice;
    tw_buf_init(&twice, FUZZ_BYTES_MAX);
    if (pass_through((tw_str){(const char *)data, size}, &once)) {
        bool is_right = pass_through(tw_buf_str(&once), &twice);
        TW_ASSERT(is_right);
        TW_ASSERT(once.len <= size); /* never longer than what was accepted */
        TW_ASSERT(tw_str_equal(tw_buf_str(&once), tw_buf_str(&twice)));
    }
    tw_buf_fini(&once);
    tw_buf_fini(&twice);
    return 0;
}
