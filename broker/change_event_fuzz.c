/* change_event_fuzz.c - any bytes as an event: read, or refused with a cause. */
#include "broker/change_event.h"

#include "protocol/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_bson event;
    change_event read = {0};
    broker_why why = {0};
    if (size > 65536) {
        return 0;
    }
    if (tw_bson_validate(data, size, TW_DEPTH_MAX, &event) != TW_OK) {
        /* A driver hands over what it did not check either: nothing is read past its end. */
        event = (tw_bson){data, size};
    }
    (void)!change_event_read(event, &read, &why);
    if (read.seqno > 0) {
        TW_ASSERT(read.seqno <= TW_SEQNO_MAX);
        TW_ASSERT(read.token.len > 0);
        TW_ASSERT(read.kind != CHANGE_PUT || read.doc.len > 0);
        TW_ASSERT(change_version(read.doc, TW_STR("_version"), read.seqno) >= 1);
        TW_ASSERT(change_token_seqno(read.token) <= TW_SEQNO_MAX);
        TW_ASSERT(change_group_end(&read, 1, 0) == 1);
    } else {
        TW_ASSERT(why.text[0] != '\0');
    }
    return 0;
}
