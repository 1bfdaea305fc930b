/* wire.c - error messages, frames and the prefix of events. */
#include "gateways/wire/wire.h"

#include "protocol/limits.h"

#include "gateways/wire/websocket_frame.h"

enum { WIRE_BACKOFF_MS = 1000 }; /* told where a code says backoff and nobody knows better */

static tw_str cut(tw_str text)
{
    return (tw_str){text.ptr, text.len < TW_ERROR_TEXT_MAX ? text.len : TW_ERROR_TEXT_MAX};
}

void wire_error(tw_buf *out, const wire_refusal *refusal)
{
    tw_str message =
        refusal->message.len > 0 ? refusal->message : tw_str_of(tw_err_text(refusal->code));
    const char *retry = tw_err_retry(refusal->code);
    tw_buf_add_str(out, TW_STR("{\"type\":\"error\""));
    if (refusal->mux_id.ptr != NULL) {
        tw_buf_add_str(out, TW_STR(",\"mux_id\":"));
        tw_buf_add_str(out, refusal->mux_id);
    }
    if (refusal->req_id.ptr != NULL) {
        tw_buf_add_str(out, TW_STR(",\"reqID\":"));
        tw_buf_add_str(out, refusal->req_id);
    }
    if (refusal->event.ptr != NULL) {
        tw_buf_add_str(out, TW_STR(",\"event\":"));
        tw_json_write_str(out, cut(refusal->event));
    }
    if (refusal->db.ptr != NULL) {
        tw_buf_add_str(out, TW_STR(",\"db\":"));
        tw_json_write_str(out, cut(refusal->db));
    }
    tw_buf_add_str(out, TW_STR(",\"code\":"));
    tw_json_write_str(out, tw_str_of(tw_err_code(refusal->code)));
    tw_buf_add_str(out, TW_STR(",\"message\":"));
    tw_json_write_str(out, cut(message));
    if (refusal->hint.len > 0) {
        tw_buf_add_str(out, TW_STR(",\"hint\":"));
        tw_json_write_str(out, cut(refusal->hint));
    }
    tw_buf_add_str(out, TW_STR(",\"retry\":"));
    tw_json_write_str(out, tw_str_of(retry));
    uint64_t after_ms = refusal->after_ms;
    if (after_ms == 0 && strcmp(retry, "backoff") == 0) {
        after_ms = WIRE_BACKOFF_MS;
    }
    if (after_ms > 0) {
        tw_buf_add_str(out, TW_STR(",\"after_ms\":"));
        tw_buf_add_u64(out, after_ms);
    }
    tw_buf_add_byte(out, '}');
}

tw_shared *wire_frame(tw_str payload)
{
    uint8_t header[WEBSOCKET_HEADER_MAX];
    size_t header_len = websocket_header(header, WEBSOCKET_OP_TEXT, payload.len);
    tw_shared *frame = tw_shared_new(header_len + payload.len);
    if (frame == NULL) {
        return NULL;
    }
    memcpy(frame->bytes, header, header_len);
    memcpy(frame->bytes + header_len, payload.ptr, payload.len);
    frame->len = header_len + payload.len;
    return frame;
}

tw_err wire_mux_id(tw_buf *out, tw_bson_value value)
{
    if (value.type != TW_BSON_STRING && !tw_bson_value_is_number(value)) {
        return TW_E_BAD_MESSAGE;
    }
    size_t before = out->len;
    if (value.type == TW_BSON_STRING && value.len > TW_MUX_ID_MAX + 5) {
        return TW_E_BAD_MESSAGE; /* a BSON string is its text with length and NUL */
    }
    tw_json_write_value(out, value);
    if (out->err != TW_OK) {
        return out->err == TW_E_NO_MEMORY ? TW_E_NO_MEMORY : TW_E_BAD_MESSAGE;
    }
    return out->len - before <= TW_MUX_ID_MAX ? TW_OK : TW_E_BAD_MESSAGE;
}

static size_t digits_of(uint64_t value, char out[20])
{
    char reverse[20];
    size_t len = 0;
    do {
        reverse[len++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    for (size_t i = 0; i < len; i++) {
        out[i] = reverse[len - 1 - i];
    }
    return len;
}

#define TYPE_HEAD "\"type\":"
#define MUX_HEAD  "\"mux_id\":"
#define PREV_HEAD "\"prev\":"

/* Each part that is there ends with a comma: the tail is never empty. */
static size_t payload_len(const wire_event *event)
{
    char digits[20];
    size_t len = 1 + event->tail.len;
    if (event->type.len > 0) {
        len += sizeof(TYPE_HEAD) + event->type.len;
    }
    if (event->mux_id.len > 0) {
        len += sizeof(MUX_HEAD) + event->mux_id.len;
    }
    if (event->prev > 0) {
        len += sizeof(PREV_HEAD) + digits_of(event->prev, digits);
    }
    return len;
}

size_t wire_event_len(const wire_event *event)
{
    size_t len = payload_len(event);
    return websocket_header_len(len) + len;
}

static char *put(char *to, const char *bytes, size_t len)
{
    memcpy(to, bytes, len);
    return to + len;
}

static char *put_part(char *to, const char *head, tw_str value)
{
    to = put(to, head, strlen(head));
    to = put(to, value.ptr, value.len);
    *to++ = ',';
    return to;
}

char *wire_event_put(char *to, const wire_event *event)
{
    uint8_t header[WEBSOCKET_HEADER_MAX];
    size_t header_len = websocket_header(header, WEBSOCKET_OP_TEXT, payload_len(event));
    to = put(to, (const char *)header, header_len);
    *to++ = '{';
    if (event->type.len > 0) {
        to = put_part(to, TYPE_HEAD, event->type);
    }
    if (event->mux_id.len > 0) {
        to = put_part(to, MUX_HEAD, event->mux_id);
    }
    if (event->prev > 0) {
        char digits[20];
        to = put_part(to, PREV_HEAD, (tw_str){digits, digits_of(event->prev, digits)});
    }
    return put(to, event->tail.ptr, event->tail.len);
}
