/* secret.c - see secret.h. */
#include "cli/secret.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/verb.h"

int secret_read(const char *verb, const char *file, const char *variable, char *out, size_t size)
{
    struct stat about;
    out[0] = '\0';
    if (file[0] == '\0') {
        const char *given = getenv(variable);
        if (given != NULL && strlen(given) >= size) {
            return cli_fail(verb, "", "%s is longer than %zu bytes", variable, size - 1);
        }
        tw_format(out, size, "%s", given == NULL ? "" : given);
        return 0;
    }
    FILE *in = fopen(file, "r");
    if (in == NULL || fstat(fileno(in), &about) != 0) {
        int why = errno;
        if (in != NULL) {
            fclose(in);
        }
        return cli_fail(verb, "", "%s cannot be read: %s", file, strerror(why));
    }
    if ((about.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        fclose(in);
        return cli_fail(verb, "chmod 600 it", "%s holds a secret and others may read it", file);
    }
    size_t len = fread(out, 1, size, in);
    fclose(in);
    bool whole = len < size;
    out[whole ? len : 0] = '\0';
    out[strcspn(out, "\r\n")] = '\0';
    if (out[0] == '\0') {
        return cli_fail(verb, "", "%s is empty, or longer than %zu bytes", file, size - 1);
    }
    return 0;
}
