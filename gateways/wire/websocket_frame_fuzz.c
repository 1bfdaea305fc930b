/* websocket_frame_fuzz.c - any bytes, cut anywhere (the first byte says where), into the reader. */
#include "gateways/wire/websocket_frame.h"

#include "protocol/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    size_t step = (size_t)data[0] + 1;
    uint8_t *copy = tw_alloc(size);
    TW_ASSERT(copy != NULL);
    memcpy(copy, data, size);
    websocket_reader reader;
    websocket_reader_init(&reader);
    bool over = false;
    for (size_t at = 1; at < size && !over; at += step) {
        uint8_t *from = copy + at;
        uint8_t *end = copy + (size - at < step ? size : at + step);
        websocket_event event = WEBSOCKET_TEXT;
        while (!over && event != WEBSOCKET_MORE) {
            tw_str payload = {NULL, 0};
            event = websocket_next(&reader, &from, end, &payload);
            TW_ASSERT(payload.len <= TW_MESSAGE_MAX);
            TW_ASSERT(event != WEBSOCKET_TEXT || tw_utf8_valid(payload));
            over = event == WEBSOCKET_CLOSE || event == WEBSOCKET_BROKEN;
        }
    }
    websocket_reader_fini(&reader);
    tw_free(copy);
    return 0;
}
