/* publish.c - publishes records in batches: publish URL COLLECTION [COUNT [DEADLINE_MS]]
 *
 * With COUNT it makes that many records {"_id":i,"n":i,"text":...}; with none or -, it reads JSON
 * objects, one a line. Killing the server meanwhile does no harm: what is not acknowledged is sent
 * again. Build: gcc publish.c $(pkg-config --cflags --libs tidewire) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidewire.h>

static int fail(const tidewire_error *error)
{
    fprintf(stderr, "publish: %s: %s %s\n", error->code, error->message, error->hint);
    return 1;
}

/* The next record, or NULL. */
static const char *next_record(char **line, size_t *size, long *made, long count)
{
    if (count >= 0) {
        if (*made == count) {
            return NULL;
        }
        snprintf(*line, *size, "{\"_id\":%ld,\"n\":%ld,\"text\":\"record %ld\"}", *made, *made,
                 *made);
        *made += 1;
        return *line;
    }
    ssize_t len = getline(line, size, stdin);
    return len > 0 ? *line : NULL;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: publish URL COLLECTION [COUNT|- [DEADLINE_MS]]\n");
        return 2;
    }
    long count = argc > 3 && strcmp(argv[3], "-") != 0 ? strtol(argv[3], NULL, 10) : -1;
    tidewire_publisher_options options = {0};
    options.deadline_ms = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 0;
    tidewire_publisher *publisher;
    tidewire_error error;
    if (tidewire_publisher_open(&publisher, argv[1], argv[2], &options, &error) != TIDEWIRE_OK) {
        return fail(&error);
    }
    size_t size = 256;
    char *line = malloc(size);
    long made = 0;
    tidewire_result result = line != NULL ? TIDEWIRE_OK : TIDEWIRE_FAILED;
    const char *record;
    while (result == TIDEWIRE_OK && (record = next_record(&line, &size, &made, count)) != NULL) {
        result = tidewire_publisher_put(publisher, tidewire_json(record), &error);
    }
    if (result == TIDEWIRE_OK) {
        result = tidewire_publisher_flush(publisher, &error);
    }
    int status = result == TIDEWIRE_OK ? 0 : fail(&error);
    printf("%llu acknowledged\n", (unsigned long long)tidewire_publisher_acknowledged(publisher));
    tidewire_publisher_close(&publisher);
    free(line);
    return status;
}
