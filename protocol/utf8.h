/* utf8.h - one question: is this UTF-8 (RFC 3629: no surrogates, no overlong forms)? */
#pragma once

#include "protocol/base.h"

/* Length of the sequence of two to four bytes at the beginning, 0 when it is none. The first byte
 * is not ASCII; left > 0. */
static inline size_t tw_utf8_len(const uint8_t *at, size_t left)
{
    uint8_t first = at[0];
    size_t len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || len > left) {
        return 0;
    }
    uint8_t least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < least || at[1] > most) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

static inline bool tw_utf8_valid(tw_str text)
{
    const uint8_t *at = (const uint8_t *)text.ptr;
    for (size_t i = 0; i < text.len;) {
        uint64_t word;
        if (text.len - i >= sizeof word) {
            memcpy(&word, at + i, sizeof word);
            if ((word & 0x8080808080808080u) == 0) {
                i += sizeof word;
                continue;
            }
        }
        if (at[i] < 0x80) {
            i++;
            continue;
        }
        size_t len = tw_utf8_len(at + i, text.len - i);
        if (len == 0) {
            return false;
        }
        i += len;
    }
    return true;
}
