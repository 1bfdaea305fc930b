/* codec.c - messages as msgpack: the expansions of messages.h that write and read them.
 *
 * A message is [version, id, request, fields...], an item [fields...], a vector a list of
 * [srv, seqno]. Writing goes through msgpack-c. Reading does not: msgpack-c trusts counts, so that
 * five bytes make it reserve gigabytes; and a tree of objects would be built to be walked once.
 * The cursor below checks each field where it stands.
 *
 * Invariants of reading
 * 1. at <= end, and no byte at or behind end is read.
 * 2. A count is checked against its limit, then against the bytes left (an item has a header and
 *    one byte for each of its fields at least), and only then is memory asked for.
 * 3. The first failure is kept in err and ends the reading.
 *
 * To add a kind of field: a type in messages.h, write_<kind>, read_<kind>, the kind's line in the
 * tests (codec_test.c) and in tools/protocol_doc.c. */
#include "protocol/codec.h"

#include <msgpack.h>

#include "protocol/codec_priv.h"

enum { ENVELOPE_FIELDS = 3 }; /* version, id, request */

#define F_COUNT(kind, name, max, unit, doc) +1
#define L_COUNT(item, name, max, unit, doc) +1

/* ---- msgpack-c into a buffer: the packer is built in place, so its callback is inlined ---- */

static int append(void *data, const char *bytes, size_t len)
{
    tw_buf *out = data;
    if (out->err == TW_OK && len > 0 && len <= out->cap - out->len) { /* mostly: without a call */
        memcpy(out->ptr + out->len, bytes, len);
        out->len += len;
        return 0;
    }
    tw_buf_add_growing(out, bytes, len);
    return out->err == TW_OK ? 0 : -1;
}

#define PACKER(out) (&(msgpack_packer){.data = (out), .callback = append})

void codec_pack_nil(tw_buf *out)
{
    msgpack_pack_nil(PACKER(out));
}

void codec_pack_bool(tw_buf *out, bool value)
{
    if (value) {
        msgpack_pack_true(PACKER(out));
    } else {
        msgpack_pack_false(PACKER(out));
    }
}

void codec_pack_i64(tw_buf *out, int64_t value)
{
    msgpack_pack_int64(PACKER(out), value);
}

void codec_pack_double(tw_buf *out, double value)
{
    msgpack_pack_double(PACKER(out), value);
}

void codec_pack_str(tw_buf *out, tw_str text)
{
    msgpack_pack_str(PACKER(out), text.len);
    append(out, text.ptr, text.len);
}

void codec_pack_bin(tw_buf *out, const void *bytes, size_t len)
{
    msgpack_pack_bin(PACKER(out), len);
    append(out, bytes, len);
}

void codec_pack_array(tw_buf *out, size_t count)
{
    msgpack_pack_array(PACKER(out), count);
}

void codec_pack_map(tw_buf *out, size_t count)
{
    msgpack_pack_map(PACKER(out), count);
}

void codec_pack_ext(tw_buf *out, int8_t type, const void *bytes, size_t len)
{
    msgpack_pack_ext(PACKER(out), len, type);
    append(out, bytes, len);
}

/* ---- what reading and writing both check ---- */

/* True for no document, or for one whose outer length and last byte are right. */
static bool is_whole_bson(tw_bson doc)
{
    if (doc.len == 0) {
        return true;
    }
    if (doc.len < 5) {
        return false;
    }
    const uint8_t *p = doc.ptr; /* the lowest byte first */
    uint64_t outer = (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16;
    return (outer | (uint64_t)p[3] << 24) == doc.len && p[doc.len - 1] == 0;
}

/* True when at, the next component of a vector behind before, is in order and in range. */
static bool is_next_position(const tw_position *before, const tw_position *at)
{
    bool is_in_range = at->srv <= TW_SEQNO_MAX && at->seqno <= TW_SEQNO_MAX;
    return is_in_range && (before == NULL || before->srv < at->srv);
}

/* ---- writing ---- */

static void write_u64(tw_buf *out, uint64_t max, uint64_t value)
{
    TW_ASSERT(value <= max);
    msgpack_pack_uint64(PACKER(out), value);
}

static void write_i64(tw_buf *out, uint64_t max, int64_t value)
{
    TW_ASSERT((value < 0 ? 0 - (uint64_t)value : (uint64_t)value) <= max);
    codec_pack_i64(out, value);
}

static void write_flag(tw_buf *out, uint64_t max, bool value)
{
    TW_ASSERT((uint64_t)value <= max);
    codec_pack_bool(out, value);
}

static void write_str(tw_buf *out, uint64_t max, tw_str text)
{
    TW_ASSERT(text.len <= max);
    codec_pack_str(out, text);
}

static void write_bytes(tw_buf *out, uint64_t max, tw_bytes bytes)
{
    TW_ASSERT(bytes.len <= max);
    codec_pack_bin(out, bytes.ptr, bytes.len);
}

static void write_bson(tw_buf *out, uint64_t max, tw_bson doc)
{
    TW_ASSERT(doc.len <= max);
    TW_ASSERT(is_whole_bson(doc));
    codec_pack_bin(out, doc.ptr, doc.len);
}

static void write_key(tw_buf *out, uint64_t max, tw_key key)
{
    TW_ASSERT(key.len <= max);
    codec_pack_bin(out, key.ptr, key.len);
}

static void write_vector(tw_buf *out, uint64_t max, tw_vector vector)
{
    TW_ASSERT(vector.count <= max);
    codec_pack_array(out, vector.count);
    for (size_t i = 0; i < vector.count; i++) {
        const tw_position *at = &vector.at[i];
        TW_ASSERT(is_next_position(i == 0 ? NULL : at - 1, at));
        codec_pack_array(out, 2);
        write_u64(out, TW_SEQNO_MAX, at->srv);
        write_u64(out, TW_SEQNO_MAX, at->seqno);
    }
}

#define F_WRITE(kind, name, max, unit, doc) write_##kind(out, (uint64_t)(max), from->name);
#define L_WRITE(item, name, max, unit, doc) write_list_##item(out, (uint64_t)(max), &from->name);
#define I_WRITE(item, doc)                                                                         \
    static void write_list_##item(tw_buf *out, uint64_t max, const tw_list_##item *list)           \
    {                                                                                              \
        TW_ASSERT(list->count <= max);                                                             \
        codec_pack_array(out, list->count);                                                        \
        for (size_t i = 0; i < list->count; i++) {                                                 \
            const tw_item_##item *from = &list->at[i];                                             \
            codec_pack_array(out, 0 TW_ITEM_##item(F_COUNT, L_COUNT));                             \
            TW_ITEM_##item(F_WRITE, L_WRITE)                                                       \
        }                                                                                          \
    }
TW_ITEMS(I_WRITE)

#define M_WRITE(id, message, sender, doc)                                                          \
    static void write_##message(tw_buf *out, const void *body)                                     \
    {                                                                                              \
        const tw_msg_##message *from = body;                                                       \
        TW_FIELDS_##message(F_WRITE, L_WRITE)                                                      \
    }
TW_MESSAGES(M_WRITE)

/* ---- reading ---- */

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    tw_arena *arena; /* borrow; lists go there */
    tw_err err;
};

static bool fail(struct cursor *in, tw_err err)
{
    in->err = err;
    return false;
}

static inline size_t left(const struct cursor *in)
{
    return (size_t)(in->end - in->at);
}

/* Reads the byte that tells a value's type. */
static inline bool read_head(struct cursor *in, uint8_t *out)
{
    if (in->at == in->end) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    *out = *in->at++;
    return true;
}

/* Reads a number of 1, 2, 4 or 8 bytes. */
static inline bool read_number(struct cursor *in, size_t width, uint64_t *out)
{
    if (left(in) < width) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    *out = codec_load(in->at, width);
    in->at += width;
    return true;
}

/* Reads what stands behind a head of the unsigned kinds 0xcc to 0xcf. */
static inline bool read_unsigned(struct cursor *in, uint8_t head, uint64_t *out)
{
    switch (head) {
    case 0xcc:
        return read_number(in, 1, out);
    case 0xcd:
        return read_number(in, 2, out);
    case 0xce:
        return read_number(in, 4, out);
    case 0xcf:
        return read_number(in, 8, out);
    default:
        return fail(in, TW_E_BAD_MESSAGE);
    }
}

static inline bool read_u64(struct cursor *in, uint64_t max, uint64_t *out)
{
    uint8_t head;
    if (!read_head(in, &head)) {
        return false;
    }
    if (head < 0x80) {
        *out = head;
    } else if (!read_unsigned(in, head, out)) {
        return false;
    }
    return *out <= max || fail(in, TW_E_BAD_MESSAGE);
}

/* Reads what stands behind a head of the signed kinds 0xd0 to 0xd3. */
static bool read_signed(struct cursor *in, uint8_t head, int64_t *out)
{
    size_t width = (size_t)1 << (head - 0xd0);
    uint64_t bits;
    if (!read_number(in, width, &bits)) {
        return false;
    }
    uint64_t sign = (uint64_t)1 << (8 * width - 1);
    bits = (bits ^ sign) - sign; /* extends the sign to all 64 bits */
    memcpy(out, &bits, sizeof bits);
    return true;
}

static bool read_i64(struct cursor *in, uint64_t max, int64_t *out)
{
    uint8_t head;
    if (!read_head(in, &head)) {
        return false;
    }
    uint64_t size; /* the magnitude */
    if (head >= 0xe0 || (head >= 0xd0 && head <= 0xd3)) {
        if (head >= 0xe0) {
            *out = (int8_t)head;
        } else if (!read_signed(in, head, out)) {
            return false;
        }
        size = *out < 0 ? 0 - (uint64_t)*out : (uint64_t)*out;
    } else {
        size = head;
        if (head >= 0x80 && !read_unsigned(in, head, &size)) {
            return false;
        }
        *out = (int64_t)size; /* checked next: max is at most INT64_MAX */
    }
    return size <= max || fail(in, TW_E_BAD_MESSAGE);
}

static bool read_flag(struct cursor *in, uint64_t max, bool *out)
{
    uint8_t head;
    if (!read_head(in, &head)) {
        return false;
    }
    *out = head == 0xc3;
    return ((head == 0xc2 || head == 0xc3) && *out <= max) || fail(in, TW_E_BAD_MESSAGE);
}

/* Gives the next len bytes as a view, at most max. */
static inline bool read_span(struct cursor *in, uint64_t len, uint64_t max, const uint8_t **out)
{
    if (len > max || len > left(in)) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    *out = in->at;
    in->at += len;
    return true;
}

static bool read_str(struct cursor *in, uint64_t max, tw_str *out)
{
    uint8_t head;
    if (!read_head(in, &head)) {
        return false;
    }
    uint64_t len = head & 0x1f;
    if ((head & 0xe0) != 0xa0) {
        if (head < 0xd9 || head > 0xdb) {
            return fail(in, TW_E_BAD_MESSAGE);
        }
        if (!read_number(in, (size_t)1 << (head - 0xd9), &len)) {
            return false;
        }
    }
    const uint8_t *at;
    if (!read_span(in, len, max, &at)) {
        return false;
    }
    *out = (tw_str){(const char *)at, len};
    return true;
}

static inline bool read_bin(struct cursor *in, uint64_t max, const uint8_t **at, size_t *len)
{
    uint8_t head;
    if (!read_head(in, &head)) {
        return false;
    }
    if (head < 0xc4 || head > 0xc6) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    uint64_t told;
    if (!read_number(in, (size_t)1 << (head - 0xc4), &told) || !read_span(in, told, max, at)) {
        return false;
    }
    *len = told;
    return true;
}

static bool read_bytes(struct cursor *in, uint64_t max, tw_bytes *out)
{
    const uint8_t *at;
    if (!read_bin(in, max, &at, &out->len)) {
        return false;
    }
    out->ptr = (const char *)at;
    return true;
}

static bool read_key(struct cursor *in, uint64_t max, tw_key *out)
{
    return read_bin(in, max, &out->ptr, &out->len);
}

static bool read_bson(struct cursor *in, uint64_t max, tw_bson *out)
{
    if (!read_bin(in, max, &out->ptr, &out->len)) {
        return false;
    }
    return is_whole_bson(*out) || fail(in, TW_E_BAD_MESSAGE);
}

/* Reads the head of an array. */
static inline bool read_array(struct cursor *in, uint64_t *out)
{
    uint8_t head;
    if (!read_head(in, &head)) {
        return false;
    }
    if ((head & 0xf0) == 0x90) {
        *out = head & 0x0f;
        return true;
    }
    if (head != 0xdc && head != 0xdd) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    return read_number(in, head == 0xdc ? 2 : 4, out);
}

/* Reads the head of an array that has exactly count elements. */
static inline bool read_tuple(struct cursor *in, uint64_t count)
{
    uint64_t found;
    return read_array(in, &found) && (found == count || fail(in, TW_E_BAD_MESSAGE));
}

/* Reads the head of a list and asks for its memory, *out, which is NULL for an empty list. An item
 * has item_bytes_min bytes in the message at least, and item_size in memory. */
static bool read_list(struct cursor *in, uint64_t max, size_t item_bytes_min, size_t item_size,
                      size_t *count, void **out)
{
    uint64_t found;
    if (!read_array(in, &found)) {
        return false;
    }
    if (found > max) {
        return fail(in, TW_E_TOO_MANY);
    }
    if (found > left(in) / item_bytes_min) {
        return fail(in, TW_E_BAD_MESSAGE);
    }
    *count = found;
    *out = NULL;
    if (found > 0) {
        *out = tw_arena_alloc(in->arena, found * item_size);
        return *out != NULL || fail(in, TW_E_NO_MEMORY);
    }
    return true;
}

static bool read_vector(struct cursor *in, uint64_t max, tw_vector *out)
{
    void *memory;
    if (!read_list(in, max, 3, sizeof(tw_position), &out->count, &memory)) {
        return false;
    }
    tw_position *at = memory;
    out->at = at;
    for (size_t i = 0; i < out->count; i++) {
        if (!read_tuple(in, 2) || !read_u64(in, TW_SEQNO_MAX, &at[i].srv) ||
            !read_u64(in, TW_SEQNO_MAX, &at[i].seqno)) {
            return false;
        }
        if (!is_next_position(i == 0 ? NULL : &at[i - 1], &at[i])) {
            return fail(in, TW_E_BAD_MESSAGE);
        }
    }
    return true;
}

#define F_READ(kind, name, max, unit, doc) &&read_##kind(in, (uint64_t)(max), &to->name)
#define L_READ(item, name, max, unit, doc) &&read_list_##item(in, (uint64_t)(max), &to->name)
#define I_READ(item, doc)                                                                          \
    static bool read_item_##item(struct cursor *in, tw_item_##item *to)                            \
    {                                                                                              \
        return read_tuple(in, 0 TW_ITEM_##item(F_COUNT, L_COUNT)) TW_ITEM_##item(F_READ, L_READ);  \
    }                                                                                              \
    static bool read_list_##item(struct cursor *in, uint64_t max, tw_list_##item *out)             \
    {                                                                                              \
        size_t item_bytes_min = 1 TW_ITEM_##item(F_COUNT, L_COUNT);                                \
        void *memory;                                                                              \
        if (!read_list(in, max, item_bytes_min, sizeof(tw_item_##item), &out->count, &memory)) {   \
            return false;                                                                          \
        }                                                                                          \
        tw_item_##item *at = memory;                                                               \
        out->at = at;                                                                              \
        for (size_t i = 0; i < out->count; i++) {                                                  \
            if (!read_item_##item(in, &at[i])) {                                                   \
                return false;                                                                      \
            }                                                                                      \
        }                                                                                          \
        return true;                                                                               \
    }
TW_ITEMS(I_READ)

#define M_READ(id, message, sender, doc)                                                           \
    static bool read_##message(struct cursor *in, void *body)                                      \
    {                                                                                              \
        tw_msg_##message *to = body;                                                               \
        return true TW_FIELDS_##message(F_READ, L_READ);                                           \
    }
TW_MESSAGES(M_READ)

/* ---- the table of messages, and what is told of it ---- */

struct message_row {
    const char *name; /* NULL: no message has this id */
    size_t fields;    /* of its own, without the envelope's */
    void (*write)(tw_buf *out, const void *body);
    bool (*read)(struct cursor *in, void *body);
};

static const struct message_row rows[TW_MSG_ID_END] = {
#define M(id, message, sender, doc)                                                                \
    [id] = {#message, 0 TW_FIELDS_##message(F_COUNT, L_COUNT), write_##message, read_##message},
    TW_MESSAGES(M)
#undef M
};

static const struct message_row *row_of(uint64_t id)
{
    return id < TW_COUNT(rows) && rows[id].name != NULL ? &rows[id] : NULL;
}

const char *tw_message_name(tw_msg_id id)
{
    const struct message_row *row = row_of((uint64_t)id);
    return row == NULL ? "?" : row->name;
}

void tw_message_encode(tw_buf *out, tw_msg_id id, uint64_t request, const void *body)
{
    const struct message_row *row = row_of((uint64_t)id);
    TW_ASSERT(row != NULL);
    TW_ASSERT(body != NULL);
    size_t before = out->len;
    codec_pack_array(out, ENVELOPE_FIELDS + row->fields);
    write_u64(out, UINT64_MAX, TW_MESSAGES_VERSION);
    write_u64(out, UINT64_MAX, (uint64_t)id);
    write_u64(out, UINT64_MAX, request);
    row->write(out, body);
    if (out->err != TW_OK) {
        out->len = before; /* a part of a message is of no use */
    }
}

tw_err tw_message_decode(tw_arena *arena, tw_str bytes, tw_msg_id *id, uint64_t *request,
                         tw_body *body)
{
    *id = TW_MSG_none;
    *request = 0;
    if (bytes.len == 0) {
        return TW_E_BAD_MESSAGE;
    }
    const uint8_t *at = (const uint8_t *)bytes.ptr;
    struct cursor in = {.at = at, .end = at + bytes.len, .arena = arena};
    uint64_t count;
    uint64_t version;
    uint64_t found;
    if (!read_array(&in, &count) || !read_u64(&in, TW_MESSAGES_VERSION, &version) ||
        !read_u64(&in, TW_MSG_ID_END, &found) || !read_u64(&in, UINT64_MAX, request)) {
        return in.err;
    }
    const struct message_row *row = row_of(found);
    if (version != TW_MESSAGES_VERSION || row == NULL || count != ENVELOPE_FIELDS + row->fields) {
        return TW_E_BAD_MESSAGE;
    }
    if (!row->read(&in, body)) {
        return in.err;
    }
    if (in.at != in.end) {
        return TW_E_BAD_MESSAGE;
    }
    *id = (tw_msg_id)found;
    return TW_OK;
}
