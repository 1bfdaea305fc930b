/* config_fuzz.c - any bytes as a configuration file: refused with words, or a whole configuration
 * that is the same after it was written and read again. */
#include "cli/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    WHY_MAX = 65536,
    OUT_MAX = 16 << 20,
    YAML_MAX = 65536 /* bytes worth the time of libyaml */
};

static tw_err load(const char *file, const void *bytes, size_t len, config *out, tw_buf *why)
{
    FILE *to = fopen(file, "w");
    TW_ASSERT(to != NULL);
    size_t written = fwrite(bytes, 1, len, to);
    TW_ASSERT(written == len);
    fclose(to);
    return config_load(out, file, NULL, why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char file[64];
    tw_format(file, sizeof file, "/tmp/tidewire-config-fuzz-%ld.yaml", (long)getpid());
    config first, again;
    tw_buf why, once, twice;
    tw_buf_init(&why, WHY_MAX);
    tw_buf_init(&once, OUT_MAX);
    tw_buf_init(&twice, OUT_MAX);
    if (size > YAML_MAX) {
        return 0;
    }
    if (load(file, data, size, &first, &why) == TW_OK) {
        config_write(&first, false, &once);
        TW_ASSERT(once.err == TW_OK);
        tw_err err = load(file, once.ptr, once.len, &again, &why);
        TW_ASSERT(err == TW_OK);
        config_write(&again, false, &twice);
        TW_ASSERT(tw_str_equal(tw_buf_str(&once), tw_buf_str(&twice)));
        config_free(&first);
        config_free(&again);
    } else {
        TW_ASSERT(why.len > 0 || why.err != TW_OK);
    }
    tw_buf_fini(&why);
    tw_buf_fini(&once);
    tw_buf_fini(&twice);
    unlink(file);
    return 0;
}
