/* why.c - the cause of a refusal; what was sent is shown cut and escaped (TW_SHOWN_INPUT_MAX). */
#include "broker/why.h"

#include <stdarg.h>
#include <stdio.h>

tw_err broker_refuse(broker_why *why, tw_err err, const char *format, ...)
{
    TW_ASSERT(err != TW_OK);
    TW_ASSERT(format != NULL);
    if (why == NULL) {
        return err;
    }
    va_list args;
    va_start(args, format);
    if (vsnprintf(why->text, sizeof why->text, format, args) < 0) {
        why->text[0] = '\0';
    }
    va_end(args);
    why->rule[0] = '\0';
    return err;
}

const char *broker_show(tw_str input, char out[BROKER_SHOWN_MAX])
{
    static const char digits[] = "0123456789abcdef";
    TW_ASSERT(input.ptr != NULL || input.len == 0);
    TW_ASSERT(out != NULL);
    size_t at = 0;
    for (size_t i = 0; i < input.len; i++) {
        if (i == TW_SHOWN_INPUT_MAX) {
            memcpy(out + at, "...", 3);
            at += 3;
            break;
        }
        unsigned char byte = (unsigned char)input.ptr[i];
        if (byte >= 0x20 && byte < 0x7f && byte != '\\' && byte != '"') {
            out[at++] = (char)byte;
        } else {
            out[at++] = '\\';
            out[at++] = 'x';
            out[at++] = digits[byte >> 4];
            out[at++] = digits[byte & 15];
        }
    }
    out[at] = '\0';
    return out;
}
