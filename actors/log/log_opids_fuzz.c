/* log_opids_fuzz.c - any bytes are refused or are ids, which come out again when packed. */
#include "actors/log/log_opids.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_str group = {(const char *)data, size};
    tw_buf packed;
    tw_buf_init(&packed, 4096);
    log_opid opid;
    size_t at = 0;
    while (log_opids_unpack(group, &at, &opid) == TW_OK) {
        log_opid again;
        size_t end = 0;
        tw_buf_clear(&packed);
        log_opids_pack(&packed, &opid);
        tw_err err = log_opids_unpack(tw_buf_str(&packed), &end, &again);
        TW_ASSERT(packed.err == TW_OK);
        TW_ASSERT(err == TW_OK);
        TW_ASSERT(end == packed.len);
        TW_ASSERT(tw_str_equal(again.id, opid.id) && tw_key_equal(again.key, opid.key));
        TW_ASSERT(again.version == opid.version && again.seqno == opid.seqno);
    }
    tw_buf_fini(&packed);
    return 0;
}
