/* config_fuzz.c - any bytes as a configuration file: refused with words, or a whole configuration
 * that is the same after it was written and read again. */
#include "cli/config.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    WHY_MAX = 65536,
    OUT_MAX = 16 << 20,
    YAML_MAX = 65536 /* bytes worth the time of libyaml */
};

/* config_load reads a file by its name: this one lies in memory. */
static tw_err load(int fd, const void *bytes, size_t len, config *out, tw_buf *why)
{
    char file[64];
    tw_format(file, sizeof file, "/proc/self/fd/%d", fd);
    ssize_t written = pwrite(fd, bytes, len, 0);
    TW_ASSERT(written == (ssize_t)len);
    int cut = ftruncate(fd, (off_t)len);
    TW_ASSERT(cut == 0);
    return config_load(out, file, NULL, why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    config first, again;
    tw_buf why, once, twice;
    tw_buf_init(&why, WHY_MAX);
    tw_buf_init(&once, OUT_MAX);
    tw_buf_init(&twice, OUT_MAX);
    if (size > YAML_MAX) {
        return 0;
    }
    int fd = memfd_create("config", MFD_CLOEXEC);
    TW_ASSERT(fd >= 0);
    if (load(fd, data, size, &first, &why) == TW_OK) {
        config_write(&first, false, &once);
        TW_ASSERT(once.err == TW_OK);
        tw_err err = load(fd, once.ptr, once.len, &again, &why);
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
    close(fd);
    return 0;
}
