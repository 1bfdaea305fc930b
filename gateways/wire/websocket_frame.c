/* websocket_frame.c - RFC 6455 frames, read byte-exact.
 *
 * 1. A header is collected until whole, then judged before any payload is taken: reserved bits, an
 *    unknown opcode, a missing mask, a length not in its shortest form or above the limit end the
 *    connection at once.
 * 2. A message that lies whole in the bytes given is handed out from there, without a copy; only
 * one
 *    that is cut or fragmented is collected in reader->message, whose memory goes back afterwards.
 * */
#include "gateways/wire/websocket_frame.h"

#include "protocol/utf8.h"

static_assert(TW_MESSAGE_MAX <= UINT32_MAX, "a message's length fits the reader");

void websocket_reader_init(websocket_reader *reader)
{
    memset(reader, 0, sizeof(*reader));
    tw_buf_init(&reader->message, TW_MESSAGE_MAX);
}

void websocket_reader_fini(websocket_reader *reader)
{
    tw_buf_fini(&reader->message);
}

bool websocket_reader_inside(const websocket_reader *reader)
{
    return reader->message_opcode != 0 || reader->in_payload || reader->header_len > 0;
}

static websocket_event broken(websocket_reader *reader, unsigned number)
{
    reader->close_number = (uint16_t)number;
    return WEBSOCKET_BROKEN;
}

/* Bytes that the header needs, as far as its first two bytes tell. */
static size_t header_needs(const websocket_reader *reader)
{
    if (reader->header_len < 2) {
        return 2;
    }
    size_t len7 = reader->header[1] & 0x7fU;
    return 2 + (len7 == 126 ? 2U : len7 == 127 ? 8U : 0U) + ((reader->header[1] & 0x80U) ? 4U : 0U);
}

static uint8_t opcode_of(const websocket_reader *reader)
{
    return reader->header[0] & 0x0fU;
}

static bool is_final(const websocket_reader *reader)
{
    return (reader->header[0] & 0x80U) != 0;
}

/* Judges the first two bytes, as early as they are there. 0, or the close number. */
static unsigned judge_start(const websocket_reader *reader)
{
    uint8_t opcode = opcode_of(reader);
    if ((reader->header[0] & 0x70U) != 0 || (reader->header[1] & 0x80U) == 0) {
        return WEBSOCKET_CLOSE_PROTOCOL; /* no extension was agreed; clients must mask */
    }
    if (opcode >= WEBSOCKET_OP_CLOSE) {
        bool known = opcode <= WEBSOCKET_OP_PONG;
        bool small = (reader->header[1] & 0x7fU) <= WEBSOCKET_CONTROL_MAX;
        return known && small && is_final(reader) ? 0 : WEBSOCKET_CLOSE_PROTOCOL;
    }
    if (opcode > WEBSOCKET_OP_BINARY) {
        return WEBSOCKET_CLOSE_PROTOCOL;
    }
    bool continues = opcode == WEBSOCKET_OP_CONTINUATION;
    return continues == (reader->message_opcode != 0) ? 0 : WEBSOCKET_CLOSE_PROTOCOL;
}

/* Judges a whole header and begins its payload. 0, or the close number. */
static unsigned begin_payload(websocket_reader *reader)
{
    uint64_t len = reader->header[1] & 0x7fU;
    uint64_t least = 0;
    if (len >= 126) {
        size_t bytes = len == 126 ? 2 : 8;
        least = len == 126 ? 126 : 65536;
        len = 0;
        for (size_t i = 0; i < bytes; i++) {
            len = len << 8 | reader->header[2 + i];
        }
    }
    if (len < least || len > INT64_MAX) {
        return WEBSOCKET_CLOSE_PROTOCOL;
    }
    if (opcode_of(reader) < WEBSOCKET_OP_CLOSE) {
        if (len > TW_MESSAGE_MAX || ++reader->fragments > TW_MESSAGE_FRAGMENTS_MAX) {
            return WEBSOCKET_CLOSE_TOO_BIG;
        }
        if (reader->message.len + len > TW_MESSAGE_MAX) {
            return tw_err_number(TW_E_TOO_BIG);
        }
        if (reader->message_opcode == 0) {
            reader->message_opcode = opcode_of(reader);
        }
    }
    reader->left = len;
    reader->mask_at = 0;
    reader->control_len = 0;
    reader->in_payload = true;
    return 0;
}

static void unmask(websocket_reader *reader, uint8_t *bytes, size_t len)
{
    const uint8_t *mask = reader->header + header_needs(reader) - 4;
    size_t i = 0;
    if (reader->mask_at == 0) { /* the common case, eight bytes a step */
        uint64_t wide;
        memcpy(&wide, mask, 4);
        memcpy((uint8_t *)&wide + 4, mask, 4);
        for (; i + 8 <= len; i += 8) {
            uint64_t eight;
            memcpy(&eight, bytes + i, 8);
            eight ^= wide;
            memcpy(bytes + i, &eight, 8);
        }
    }
    for (; i < len; i++) {
        bytes[i] ^= mask[(reader->mask_at + i) & 3U];
    }
    reader->mask_at = (uint8_t)((reader->mask_at + len) & 3U);
}

static websocket_event close_of(websocket_reader *reader, tw_str payload)
{
    reader->close_number = WEBSOCKET_CLOSE_NORMAL;
    if (payload.len == 0) {
        return WEBSOCKET_CLOSE;
    }
    if (payload.len == 1) {
        return broken(reader, WEBSOCKET_CLOSE_PROTOCOL);
    }
    unsigned number = (unsigned)(uint8_t)payload.ptr[0] << 8 | (uint8_t)payload.ptr[1];
    bool allowed =
        (number >= 1000 && number <= 1014 && number != 1004 && number != 1005 && number != 1006) ||
        (number >= 3000 && number <= 4999);
    if (!allowed) {
        return broken(reader, WEBSOCKET_CLOSE_PROTOCOL);
    }
    if (!tw_utf8_valid((tw_str){payload.ptr + 2, payload.len - 2})) {
        return broken(reader, WEBSOCKET_CLOSE_BAD_TEXT);
    }
    reader->close_number = (uint16_t)number;
    return WEBSOCKET_CLOSE;
}

/* A control frame is complete; a message that is open stays so. */
static websocket_event end_control(websocket_reader *reader, tw_str *payload)
{
    uint8_t opcode = opcode_of(reader);
    *payload = (tw_str){(const char *)reader->control, reader->control_len};
    reader->in_payload = false;
    reader->header_len = 0;
    if (opcode == WEBSOCKET_OP_CLOSE) {
        return close_of(reader, *payload);
    }
    return opcode == WEBSOCKET_OP_PING ? WEBSOCKET_PING : WEBSOCKET_PONG;
}

/* A data frame is complete; whole is its payload when it was never collected. */
static websocket_event end_data(websocket_reader *reader, tw_str whole, tw_str *payload)
{
    bool final = is_final(reader);
    reader->in_payload = false;
    reader->header_len = 0;
    if (!final) {
        return WEBSOCKET_MORE;
    }
    *payload = whole.ptr != NULL ? whole : tw_buf_str(&reader->message);
    reader->gave_message = true;
    websocket_event event =
        reader->message_opcode == WEBSOCKET_OP_TEXT ? WEBSOCKET_TEXT : WEBSOCKET_BINARY;
    reader->message_opcode = 0;
    reader->fragments = 0;
    if (event == WEBSOCKET_TEXT && !tw_utf8_valid(*payload)) {
        return broken(reader, WEBSOCKET_CLOSE_BAD_TEXT);
    }
    return event;
}

/* Takes payload bytes. MORE: the caller goes on while there are bytes. */
static websocket_event take_payload(websocket_reader *reader, uint8_t **at, uint8_t *end,
                                    tw_str *payload)
{
    size_t here = (size_t)(end - *at);
    size_t len = reader->left < here ? (size_t)reader->left : here;
    uint8_t *bytes = *at;
    unmask(reader, bytes, len);
    *at += len;
    reader->left -= len;
    if (opcode_of(reader) >= WEBSOCKET_OP_CLOSE) {
        memcpy(reader->control + reader->control_len, bytes, len);
        reader->control_len = (uint8_t)(reader->control_len + len);
        return reader->left == 0 ? end_control(reader, payload) : WEBSOCKET_MORE;
    }
    if (reader->left == 0 && is_final(reader) && reader->message.len == 0 && len > 0) {
        return end_data(reader, (tw_str){(const char *)bytes, len}, payload);
    }
    tw_buf_add(&reader->message, bytes, len);
    if (reader->message.err != TW_OK) {
        return WEBSOCKET_NO_MEMORY; /* too big was refused by begin_payload */
    }
    return reader->left == 0 ? end_data(reader, (tw_str){NULL, 0}, payload) : WEBSOCKET_MORE;
}

websocket_event websocket_next(websocket_reader *reader, uint8_t **at, uint8_t *end,
                               tw_str *payload)
{
    if (reader->gave_message) {
        tw_buf_fini(&reader->message); /* an idle connection pins nothing */
        tw_buf_init(&reader->message, TW_MESSAGE_MAX);
        reader->gave_message = false;
    }
    while (*at < end || (reader->in_payload && reader->left == 0)) {
        if (reader->in_payload) {
            websocket_event event = take_payload(reader, at, end, payload);
            if (event != WEBSOCKET_MORE) {
                return event;
            }
            continue;
        }
        reader->header[reader->header_len++] = *(*at)++;
        unsigned number = reader->header_len == 2 ? judge_start(reader) : 0;
        if (number == 0 && reader->header_len == header_needs(reader)) {
            number = begin_payload(reader);
        }
        if (number != 0) {
            return broken(reader, number);
        }
    }
    return WEBSOCKET_MORE;
}

size_t websocket_header_len(size_t len)
{
    return len < 126 ? 2 : len < 65536 ? 4 : 10;
}

size_t websocket_header(uint8_t out[WEBSOCKET_HEADER_MAX], websocket_opcode opcode, size_t len)
{
    out[0] = (uint8_t)(0x80U | (unsigned)opcode);
    size_t bytes = websocket_header_len(len);
    if (bytes == 2) {
        out[1] = (uint8_t)len;
        return bytes;
    }
    out[1] = bytes == 4 ? 126 : 127;
    for (size_t i = bytes - 1; i >= 2; i--) {
        out[i] = (uint8_t)(len & 0xffU);
        len >>= 8;
    }
    return bytes;
}
