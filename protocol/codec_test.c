/* codec_test.c - every message of the table there and back; refusals; what is never trusted.
 *
 * The generators are expansions of messages.h: a new message is covered without a line here. */
#include "protocol/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ARENA_MAX = 64 << 20, MESSAGE_BYTES_MAX = 1 << 20, LENGTH_MAX = 300, ROUNDS = 40 };

/* ---- generated values: bounds and the edges of msgpack's widths before anything else ---- */

struct source {
    uint64_t state;
    tw_arena arena;
};

static uint64_t draw(struct source *from)
{
    from->state = from->state * 6364136223846793005u + 1442695040888963407u;
    return tw_hash(&from->state, sizeof from->state, 0);
}

static uint64_t make_u64(struct source *from, uint64_t max)
{
    static const uint64_t edges[] = {0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, 0xffffffff};
    uint64_t kind = draw(from) % 16;
    uint64_t value = kind < TW_COUNT(edges) ? edges[kind] : kind < 12 ? max : draw(from);
    return value <= max ? value : max == UINT64_MAX ? value : value % (max + 1);
}

static int64_t make_i64(struct source *from, uint64_t max)
{
    int64_t size = (int64_t)make_u64(from, max);
    return draw(from) % 2 == 0 ? size : -size;
}

static bool make_flag(struct source *from, uint64_t max)
{
    return draw(from) % 2 == 0 && max > 0;
}

/* Bytes of a drawn length from least to max, which is seldom more than LENGTH_MAX. */
static uint8_t *make_memory(struct source *from, uint64_t least, uint64_t max, size_t *len)
{
    uint64_t most = max < LENGTH_MAX || draw(from) % 64 == 0 ? max : LENGTH_MAX;
    most = most < 70000 ? most : 70000; /* enough for lengths of 32 bits */
    *len = draw(from) % 4 == 0 ? most : least + draw(from) % (most - least + 1);
    uint8_t *bytes = tw_arena_alloc(&from->arena, *len);
    assert_non_null(bytes);
    memset(bytes, 'a' + (int)(draw(from) % 26), *len);
    return bytes;
}

static tw_str make_str(struct source *from, uint64_t max)
{
    size_t len;
    uint8_t *bytes = make_memory(from, 0, max, &len);
    return (tw_str){(const char *)bytes, len};
}

static tw_bytes make_bytes(struct source *from, uint64_t max)
{
    return make_str(from, max);
}

static tw_key make_key(struct source *from, uint64_t max)
{
    size_t len;
    uint8_t *bytes = make_memory(from, 0, max, &len);
    return (tw_key){bytes, len};
}

static tw_bson make_bson(struct source *from, uint64_t max)
{
    if (draw(from) % 4 == 0) {
        return (tw_bson){NULL, 0};
    }
    size_t len;
    uint8_t *bytes = make_memory(from, 5, max, &len);
    for (size_t i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(len >> 8 * i);
    }
    bytes[len - 1] = 0;
    return (tw_bson){bytes, len};
}

static tw_vector make_vector(struct source *from, uint64_t max)
{
    size_t count = (size_t)make_u64(from, max);
    tw_position *at = tw_arena_alloc(&from->arena, count * sizeof *at);
    assert_non_null(at);
    for (size_t i = 0; i < count; i++) {
        at[i].srv = (i == 0 ? 0 : at[i - 1].srv + 1) + draw(from) % (TW_SEQNO_MAX / (max + 1) - 1);
        at[i].seqno = make_u64(from, TW_SEQNO_MAX);
    }
    return (tw_vector){at, count};
}

#define F_MAKE(kind, name, max, unit, doc) to->name = make_##kind(from, (uint64_t)(max));
#define L_MAKE(item, name, max, unit, doc) to->name = make_list_##item(from, (uint64_t)(max));
#define I_MAKE(item, doc)                                                                          \
    static tw_list_##item make_list_##item(struct source *from, uint64_t max)                      \
    {                                                                                              \
        size_t count = (size_t)(draw(from) % (draw(from) % 16 == 0 ? 40 : 4));                     \
        count = count < max ? count : max;                                                         \
        tw_item_##item *items = tw_arena_alloc(&from->arena, count * sizeof *items);               \
        assert_non_null(items);                                                                    \
        for (size_t i = 0; i < count; i++) {                                                       \
            tw_item_##item *to = &items[i];                                                        \
            TW_ITEM_##item(F_MAKE, L_MAKE)                                                         \
        }                                                                                          \
        return (tw_list_##item){items, count};                                                     \
    }
TW_ITEMS(I_MAKE)

#define M_MAKE(id, message, sender, doc)                                                           \
    static void make_##message(struct source *from, tw_body *body)                                 \
    {                                                                                              \
        tw_msg_##message *to = &body->message;                                                     \
        TW_FIELDS_##message(F_MAKE, L_MAKE)                                                        \
    }
TW_MESSAGES(M_MAKE)

static const struct {
    tw_msg_id id;
    const char *name;
    void (*make)(struct source *from, tw_body *body);
} messages[] = {
#define M(id, message, sender, doc) {TW_MSG_##message, #message, make_##message},
    TW_MESSAGES(M)
#undef M
};

/* ---- there and back ---- */

/* Decodes; what is accepted is written into again. bytes is copied to the heap at its exact size,
 * so that the address sanitizer sees a read of one byte too many. */
static tw_err decode(tw_str bytes, tw_msg_id *id, tw_buf *again)
{
    char *exact = tw_alloc(bytes.len);
    memcpy(exact, bytes.ptr, bytes.len);
    tw_arena arena;
    tw_arena_init(&arena, ARENA_MAX);
    uint64_t request;
    tw_body body;
    tw_err err = tw_message_decode(&arena, (tw_str){exact, bytes.len}, id, &request, &body);
    assert_true((err == TW_OK) == (*id != TW_MSG_none));
    if (err == TW_OK) {
        tw_message_encode(again, *id, request, &body);
        assert_int_equal(again->err, TW_OK);
    }
    tw_arena_fini(&arena);
    tw_free(exact);
    return err;
}

/* Runs check on ROUNDS generated examples of each message. */
static void for_each_example(void (*check)(struct source *from, tw_msg_id id, tw_str bytes))
{
    tw_buf out;
    tw_buf_init(&out, 64 << 20);
    for (size_t i = 0; i < TW_COUNT(messages); i++) {
        struct source from = {.state = i};
        tw_arena_init(&from.arena, ARENA_MAX);
        for (int round = 0; round < ROUNDS; round++) {
            tw_body body;
            tw_arena_reset(&from.arena);
            tw_buf_clear(&out);
            messages[i].make(&from, &body);
            tw_message_encode(&out, messages[i].id, draw(&from), &body);
            assert_int_equal(out.err, TW_OK);
            check(&from, messages[i].id, tw_buf_str(&out));
        }
        tw_arena_fini(&from.arena);
    }
    tw_buf_fini(&out);
}

static void check_round_trip(struct source *from, tw_msg_id id, tw_str bytes)
{
    (void)from;
    tw_buf again;
    tw_buf_init(&again, 64 << 20);
    tw_msg_id found;
    assert_int_equal(decode(bytes, &found, &again), TW_OK);
    assert_int_equal(found, id);
    assert_true(tw_str_equal(bytes, tw_buf_str(&again)));
    tw_buf_fini(&again);
}

static void test_codec_every_message_survives_a_round_trip(void **state)
{
    (void)state;
    for_each_example(check_round_trip);
}

static void check_cuts(struct source *from, tw_msg_id id, tw_str bytes)
{
    (void)id;
    size_t step = bytes.len < 2000 ? 1 : 1 + draw(from) % (bytes.len / 200);
    for (size_t len = 0; len < bytes.len; len += step) {
        tw_msg_id found;
        assert_int_equal(decode((tw_str){bytes.ptr, len}, &found, NULL), TW_E_BAD_MESSAGE);
    }
}

static void test_codec_message_cut_at_any_byte_is_refused(void **state)
{
    (void)state;
    for_each_example(check_cuts);
}

static void check_flips(struct source *from, tw_msg_id id, tw_str bytes)
{
    (void)id;
    tw_buf changed;
    tw_buf_init(&changed, 64 << 20);
    tw_buf_add_str(&changed, bytes);
    tw_buf again;
    tw_buf_init(&again, 64 << 20);
    for (int i = 0; i < 100; i++) {
        size_t at = draw(from) % (draw(from) % 2 == 0 && bytes.len > 64 ? 64 : bytes.len);
        changed.ptr[at] ^= (char)(1 << draw(from) % 8);
        tw_msg_id found;
        tw_buf_clear(&again);
        (void)!decode(tw_buf_str(&changed), &found, &again); /* either way, but without a crash */
        changed.ptr[at] = bytes.ptr[at];
    }
    tw_buf_add_byte(&changed, 0);
    tw_msg_id found;
    assert_int_equal(decode(tw_buf_str(&changed), &found, NULL), TW_E_BAD_MESSAGE);
    tw_buf_fini(&again);
    tw_buf_fini(&changed);
}

static void test_codec_flipped_bits_are_refused_or_valid(void **state)
{
    (void)state;
    for_each_example(check_flips);
}

static void test_codec_names_are_those_of_the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < TW_COUNT(messages); i++) {
        assert_string_equal(tw_message_name(messages[i].id), messages[i].name);
    }
    assert_string_equal(tw_message_name(TW_MSG_none), "?");
    assert_string_equal(tw_message_name(TW_MSG_ID_END), "?");
    assert_string_equal(tw_message_name((tw_msg_id)9), "?");
}

/* ---- bytes that were written by hand ---- */

static void test_codec_encode_gives_the_documented_bytes(void **state)
{
    (void)state;
    static const tw_position at[] = {{1, 300}, {2, 0}};
    static const uint8_t doc[] = {5, 0, 0, 0, 0};
    static const tw_item_record item = {
        .key = {(const uint8_t *)"k", 1}, .version = -1, .srv = 2, .seqno = 65536, .doc = {doc, 5}};
    tw_msg_records records = {.after = 128, .more = true, .at = {at, 2}, .items = {&item, 1}};
    static const uint8_t expected[] = {
        0x98, 0x01, 24,   0xcd, 0x01, 0x00,                   /* version, id, request 256 */
        0xcc, 0x80, 0xc4, 0x00, 0xc3,                         /* after, after_key, more */
        0x92, 0x92, 0x01, 0xcd, 0x01, 0x2c, 0x92, 0x02, 0x00, /* at */
        0x91, 0x95, 0xc4, 0x01, 'k',  0xff, 0x02, 0xce, 0x00, 0x01, 0x00, 0x00, /* the item */
        0xc4, 0x05, 5,    0,    0,    0,    0};
    tw_buf out;
    tw_buf_init(&out, 1000);
    tw_message_encode(&out, TW_MSG_records, 256, &records);
    assert_int_equal(out.len, sizeof expected);
    assert_memory_equal(out.ptr, expected, sizeof expected);
    tw_buf_fini(&out);
}

#define BYTES(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

/* done is [1, 2, request, count]; log_state_ask [1, 13, request, flag]; trim [1, 17, request, u64];
 * topic_open [1, 30, request, gateway, query]; counted [1, 26, request, count]. */
static const struct {
    const char *what;
    const uint8_t *bytes;
    size_t len;
    tw_err err;
} refusals[] = {
    {"right", BYTES(0x94, 1, 2, 7, 5), TW_OK},
    {"right, in more bytes than needed",
     BYTES(0xdc, 0, 4, 1, 2, 0xcd, 0, 7, 0xcf, 0, 0, 0, 0, 0, 0, 0, 5), TW_OK},
    {"no array", BYTES(0x84, 1, 2, 7, 5), TW_E_BAD_MESSAGE},
    {"version", BYTES(0x94, 2, 2, 7, 5), TW_E_BAD_MESSAGE},
    {"version 0", BYTES(0x94, 0, 2, 7, 5), TW_E_BAD_MESSAGE},
    {"id 0", BYTES(0x94, 1, 0, 7, 5), TW_E_BAD_MESSAGE},
    {"unused id", BYTES(0x94, 1, 9, 7, 5), TW_E_BAD_MESSAGE},
    {"id beyond the table", BYTES(0x94, 1, 64, 7, 5), TW_E_BAD_MESSAGE},
    {"a field less", BYTES(0x93, 1, 2, 7), TW_E_BAD_MESSAGE},
    {"a field more", BYTES(0x95, 1, 2, 7, 5, 5), TW_E_BAD_MESSAGE},
    {"a byte more", BYTES(0x94, 1, 2, 7, 5, 5), TW_E_BAD_MESSAGE},
    {"negative", BYTES(0x94, 1, 2, 7, 0xff), TW_E_BAD_MESSAGE},
    {"signed kind for u64", BYTES(0x94, 1, 2, 7, 0xd0, 5), TW_E_BAD_MESSAGE},
    {"text for u64", BYTES(0x94, 1, 2, 7, 0xa1, '5'), TW_E_BAD_MESSAGE},
    {"2^53", BYTES(0x94, 1, 2, 7, 0xcf, 0, 0x20, 0, 0, 0, 0, 0, 0), TW_E_BAD_MESSAGE},
    {"2^53-1", BYTES(0x94, 1, 2, 7, 0xcf, 0, 0x1f, 255, 255, 255, 255, 255, 255), TW_OK},
    {"nil for a flag", BYTES(0x94, 1, 13, 7, 0xc0), TW_E_BAD_MESSAGE},
    {"1 for a flag", BYTES(0x94, 1, 13, 7, 1), TW_E_BAD_MESSAGE},
    {"empty document", BYTES(0x95, 1, 30, 7, 0, 0xc4, 5, 5, 0, 0, 0, 0), TW_OK},
    {"no document", BYTES(0x95, 1, 30, 7, 0, 0xc4, 0), TW_OK},
    {"outer length too large", BYTES(0x95, 1, 30, 7, 0, 0xc4, 5, 6, 0, 0, 0, 0), TW_E_BAD_MESSAGE},
    {"outer length too small", BYTES(0x95, 1, 30, 7, 0, 0xc4, 6, 5, 0, 0, 0, 0, 0),
     TW_E_BAD_MESSAGE},
    {"no 0 at the end", BYTES(0x95, 1, 30, 7, 0, 0xc4, 5, 5, 0, 0, 0, 1), TW_E_BAD_MESSAGE},
    {"a document of 4 bytes", BYTES(0x95, 1, 30, 7, 0, 0xc4, 4, 4, 0, 0, 0), TW_E_BAD_MESSAGE},
    {"text for a document", BYTES(0x95, 1, 30, 7, 0, 0xa5, 5, 0, 0, 0, 0), TW_E_BAD_MESSAGE},
    {"longer than allowed", BYTES(0x95, 1, 30, 7, 0, 0xc6, 0, 1, 0, 1, 0), TW_E_BAD_MESSAGE},
    {"4 GiB told", BYTES(0x95, 1, 30, 7, 0, 0xc6, 255, 255, 255, 255), TW_E_BAD_MESSAGE},
};

static void test_codec_decode_refuses_what_is_not_exact(void **state)
{
    (void)state;
    tw_buf again;
    tw_buf_init(&again, 1000);
    for (size_t i = 0; i < TW_COUNT(refusals); i++) {
        tw_msg_id id;
        tw_str bytes = {(const char *)refusals[i].bytes, refusals[i].len};
        tw_err err = decode(bytes, &id, &again);
        if (err != refusals[i].err) {
            fail_msg("%s: %s", refusals[i].what, tw_err_code(err));
        }
    }
    tw_buf_fini(&again);
}

/* Decodes and tells the memory that it took. */
static tw_err decode_counting(const uint8_t *bytes, size_t len, size_t arena_max, size_t *used)
{
    tw_arena arena;
    tw_arena_init(&arena, arena_max);
    tw_msg_id id;
    uint64_t request;
    tw_body body;
    tw_err err =
        tw_message_decode(&arena, (tw_str){(const char *)bytes, len}, &id, &request, &body);
    *used = arena.used;
    tw_arena_fini(&arena);
    return err;
}

static void test_codec_decode_counts_take_no_memory_before_the_bytes_are_there(void **state)
{
    (void)state;
    const struct {
        const uint8_t *bytes;
        size_t len;
        tw_err err;
    } cases[] = {
        {BYTES(0x94, 1, 10, 7, 0xdd, 0, 0, 16, 0), TW_E_BAD_MESSAGE},     /* 4096 operations */
        {BYTES(0x94, 1, 10, 7, 0xdd, 0, 0, 16, 1), TW_E_TOO_MANY},        /* 4097 */
        {BYTES(0x94, 1, 10, 7, 0xdd, 255, 255, 255, 255), TW_E_TOO_MANY}, /* 2^32 - 1 */
        {BYTES(0x94, 1, 10, 7, 0x91, 0x9b, 1, 1, 1, 1, 1, 1), TW_E_BAD_MESSAGE}, /* 8 of 12 bytes */
        {BYTES(0x97, 1, 33, 7, 0, 0, 0x9f, 1, 1), TW_E_BAD_MESSAGE},             /* 15 origins */
        {BYTES(0x96, 1, 33, 7, 0, 0, 0xdc, 0, 65), TW_E_BAD_MESSAGE},            /* a field less */
        {BYTES(0x97, 1, 33, 7, 0, 0, 0xdc, 0, 65), TW_E_TOO_MANY},               /* 65 origins */
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        size_t used;
        assert_int_equal(decode_counting(cases[i].bytes, cases[i].len, ARENA_MAX, &used),
                         cases[i].err);
        assert_int_equal(used, 0);
    }
}

static void test_codec_decode_vector_out_of_order_is_refused(void **state)
{
    (void)state;
    size_t used;
    static const uint8_t right[] = {0x97, 1, 33, 7, 0, 0, 0x92, 0x92, 1, 9, 0x92, 2, 9, 0x90};
    static const uint8_t twice[] = {0x97, 1, 33, 7, 0, 0, 0x92, 0x92, 1, 9, 0x92, 1, 9, 0x90};
    static const uint8_t falling[] = {0x97, 1, 33, 7, 0, 0, 0x92, 0x92, 2, 9, 0x92, 1, 9, 0x90};
    assert_int_equal(decode_counting(right, sizeof right, ARENA_MAX, &used), TW_OK);
    assert_int_equal(decode_counting(twice, sizeof twice, ARENA_MAX, &used), TW_E_BAD_MESSAGE);
    assert_int_equal(decode_counting(falling, sizeof falling, ARENA_MAX, &used), TW_E_BAD_MESSAGE);
    assert_int_equal(decode_counting(right, sizeof right, 16, &used), TW_E_NO_MEMORY);
    tw_alloc_fail_at(1);
    assert_int_equal(decode_counting(right, sizeof right, ARENA_MAX, &used), TW_E_NO_MEMORY);
}

/* ---- encoding that cannot be ---- */

static void test_codec_encode_without_room_takes_the_message_back(void **state)
{
    (void)state;
    tw_msg_error error = {.why = TW_STR("a text that is too long")};
    tw_buf out;
    tw_buf_init(&out, 20);
    tw_buf_add_str(&out, TW_STR("head"));
    tw_message_encode(&out, TW_MSG_error, 1, &error);
    assert_int_equal(out.err, TW_E_TOO_BIG);
    assert_true(tw_str_equal(tw_buf_str(&out), TW_STR("head")));
    tw_buf_fini(&out);
}

/* True when encoding the body ends the process by an assertion. */
static bool encode_dies(tw_msg_id id, const void *body)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        close(STDERR_FILENO);
        tw_buf out;
        tw_buf_init(&out, MESSAGE_BYTES_MAX);
        tw_message_encode(&out, id, 1, body);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void test_codec_encode_beyond_a_bound_is_a_bug(void **state)
{
    (void)state;
    static const char text[TW_ERROR_TEXT_MAX + 1];
    static const uint8_t damaged[] = {6, 0, 0, 0, 0};
    static const tw_position twice[] = {{1, 1}, {1, 2}};
    assert_true(encode_dies(TW_MSG_error, &(tw_msg_error){.why = {text, sizeof text}}));
    assert_false(encode_dies(TW_MSG_error, &(tw_msg_error){.why = {text, sizeof text - 1}}));
    assert_true(encode_dies(TW_MSG_done, &(tw_msg_done){.count = TW_SEQNO_MAX + 1}));
    assert_true(encode_dies(TW_MSG_topic_open, &(tw_msg_topic_open){.query = {damaged, 5}}));
    assert_true(encode_dies(TW_MSG_topic_batch, &(tw_msg_topic_batch){.at = {twice, 2}}));
    assert_true(encode_dies(TW_MSG_write, &(tw_msg_write){.ops.count = TW_WRITE_OPS_MAX + 1}));
    assert_true(encode_dies(TW_MSG_none, &(tw_msg_done){.count = 0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codec_every_message_survives_a_round_trip),
        cmocka_unit_test(test_codec_message_cut_at_any_byte_is_refused),
        cmocka_unit_test(test_codec_flipped_bits_are_refused_or_valid),
        cmocka_unit_test(test_codec_names_are_those_of_the_table),
        cmocka_unit_test(test_codec_encode_gives_the_documented_bytes),
        cmocka_unit_test(test_codec_decode_refuses_what_is_not_exact),
        cmocka_unit_test(test_codec_decode_counts_take_no_memory_before_the_bytes_are_there),
        cmocka_unit_test(test_codec_decode_vector_out_of_order_is_refused),
        cmocka_unit_test(test_codec_encode_without_room_takes_the_message_back),
        cmocka_unit_test(test_codec_encode_beyond_a_bound_is_a_bug),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
