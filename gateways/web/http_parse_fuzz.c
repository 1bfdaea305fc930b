/* http_parse_fuzz.c - any bytes as the head of a request. */
#include "gateways/web/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    http_head head;
    int status = http_parse((tw_str){(const char *)data, size}, &head);
    TW_ASSERT(status != 0 || size < HTTP_HEAD_MAX);
    if (status == 200) {
        TW_ASSERT(head.len <= size && head.path.len > 0);
        char out[HTTP_HEAD_MAX];
        size_t len = 0;
        TW_ASSERT(!http_decode(head.path, out, &len) || len <= head.path.len);
        (void)http_query_get(head.query, "limit");
    }
    return 0;
}
