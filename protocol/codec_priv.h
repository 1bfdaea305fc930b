/* codec_priv.h - for codec.c, codec_map_in.c and codec_map_out.c alone: msgpack values in a buffer.
 *
 * Errors are in out->err, as with every append to a tw_buf. Lengths are at most UINT32_MAX, which
 * TW_ACTOR_MESSAGE_MAX keeps far away. */
#pragma once

#include "protocol/base.h"

/* Words of the maps, both ways. */
enum {
    EXT_TIMESTAMP = -1, /* msgpack's own extension */
    NS_PER_MS = 1000000,
    MS_PER_S = 1000,
    OID_BYTES = 12,
    OID_DIGITS = 24,
};

void codec_pack_nil(tw_buf *out);
void codec_pack_bool(tw_buf *out, bool value);
void codec_pack_i64(tw_buf *out, int64_t value);
void codec_pack_double(tw_buf *out, double value);
void codec_pack_str(tw_buf *out, tw_str text);
void codec_pack_bin(tw_buf *out, const void *bytes, size_t len);
void codec_pack_array(tw_buf *out, size_t count);
void codec_pack_map(tw_buf *out, size_t count);
void codec_pack_ext(tw_buf *out, int8_t type, const void *bytes, size_t len);

/* The first width bytes of at as a number, the highest byte first. width is at most 8. */
static inline uint64_t codec_load(const uint8_t *at, size_t width)
{
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++) {
        value = value << 8 | at[i];
    }
    return value;
}
