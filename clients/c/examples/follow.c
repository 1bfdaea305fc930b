/* follow.c - a service that follows a collection: follow URL COLLECTION [POSITION_FILE [ROWS]]
 *
 * Prints a line per change: position, operation, key, document. With a file it goes on where it
 * stopped, after a restart of either side; it ends after ROWS changes, or never.
 * Build: gcc follow.c $(pkg-config --cflags --libs tidewire) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidewire.h>

enum { SAVE_EACH = 1000 }; /* changes; what was told after the last save is told again */

static int fail(const tidewire_error *error)
{
    fprintf(stderr, "follow: %s: %s %s\n", error->code, error->message, error->hint);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: follow URL COLLECTION [POSITION_FILE [ROWS]]\n");
        return 2;
    }
    tidewire_feed_options options = {0};
    options.after = TIDEWIRE_START;
    options.position_file = argc > 3 && argv[3][0] != '\0' ? argv[3] : NULL;
    long rows_max = argc > 4 ? strtol(argv[4], NULL, 10) : -1;
    tidewire_feed *feed;
    tidewire_error error;
    if (tidewire_feed_open(&feed, argv[1], argv[2], &options, &error) != TIDEWIRE_OK) {
        return fail(&error);
    }
    int status = 0;
    for (long rows = 0; rows != rows_max;) {
        tidewire_row row;
        tidewire_result result = tidewire_feed_next(feed, 1000, &row, &error);
        if (result == TIDEWIRE_TIMEOUT) {
            fflush(stdout);
            continue; /* nothing new, or the server is away: it goes on by itself */
        }
        if (result != TIDEWIRE_OK) {
            status = fail(&error);
            break;
        }
        printf("%llu %s %s %s\n", (unsigned long long)row.position, row.op,
               row.key.bytes != NULL ? (const char *)row.key.bytes : "-",
               row.doc.bytes != NULL ? (const char *)row.doc.bytes : "-");
        rows++;
        if (options.position_file != NULL && (rows % SAVE_EACH == 0 || rows == rows_max)) {
            fflush(stdout);
            if (tidewire_feed_save(feed, &error) != TIDEWIRE_OK) {
                status = fail(&error);
                break;
            }
        }
    }
    tidewire_feed_close(&feed);
    return status;
}
