/* replay.c - runs a fuzz target over its stored inputs, as an ordinary test without libFuzzer.
 *
 * The build links it with each x_fuzz.c; the argument is the folder of seeds and of inputs that
 * once crashed it (tests/corpus/x), which may be missing. The empty input is always tried. Output
 * is TAP, so that every stored input counts as one test; a crash leaves the plan unfulfilled,
 * which the runner reports as a failure. Inputs are copied to the heap at their exact size, so
 * that the address sanitizer sees a read of one byte too many. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REPLAY_INPUT_BYTES_MAX = 16 << 20 };

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Runs one stored file. Returns 0 when it was read and the target came back. */
static int replay_file(const char *dir, const char *name)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s", dir, name);
    struct stat info;
    if (length < 0 || (size_t)length >= sizeof path || stat(path, &info) != 0 ||
        !S_ISREG(info.st_mode) || info.st_size > REPLAY_INPUT_BYTES_MAX) {
        return -1;
    }
    size_t size = (size_t)info.st_size;
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size == 0 ? 1 : size);
    int result = -1;
    if (file != NULL && data != NULL && fread(data, 1, size, file) == size) {
        result = LLVMFuzzerTestOneInput(data, size) == 0 ? 0 : -1;
    }
    free(data);
    if (file != NULL) {
        fclose(file);
    }
    return result;
}

int main(int argc, char **argv)
{
    struct dirent **entries = NULL;
    int count = argc > 1 ? scandir(argv[1], &entries, is_visible, alphasort) : 0;
    if (count < 0) {
        count = 0; /* no corpus yet */
    }
    int failed = 0;
    printf("1..%d\n", count + 1);
    fflush(stdout);
    uint8_t *empty = malloc(1);
    int result = empty == NULL ? -1 : LLVMFuzzerTestOneInput(empty, 0);
    free(empty);
    printf("%s 1 - empty input\n", result == 0 ? "ok" : "not ok");
    failed += result != 0;
    for (int i = 0; i < count; i++) {
        fflush(stdout); /* a crash must not take back what passed */
        fprintf(stderr, "# replay %s\n", entries[i]->d_name);
        result = replay_file(argv[1], entries[i]->d_name);
        printf("%s %d - %s\n", result == 0 ? "ok" : "not ok", i + 2, entries[i]->d_name);
        failed += result != 0;
        free(entries[i]);
    }
    free(entries);
    return failed == 0 ? 0 : 1;
}
