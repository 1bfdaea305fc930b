/* errors.c - the table of errors.h as arrays. */
#include "protocol/errors.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

struct error_row {
    const char *code;
    const char *retry;
    const char *text;
    unsigned number;
};

#define X(name, code, number, retry, text) {code, retry, text, number},
static const struct error_row rows[] = {{"ok", "no", "Done.", 0}, TW_ERRORS(X)};
#undef X

static_assert(sizeof rows / sizeof rows[0] == TW_ERRORS_END, "a row for each result");

/* A number from the wire may be none of the table: that is a defect of its sender. */
static const struct error_row *row_of(tw_err err)
{
    unsigned index = (unsigned)err;
    return &rows[index < (unsigned)TW_ERRORS_END ? index : (unsigned)TW_E_INTERNAL];
}

const char *tw_err_code(tw_err err)
{
    return row_of(err)->code;
}

const char *tw_err_text(tw_err err)
{
    return row_of(err)->text;
}

const char *tw_err_retry(tw_err err)
{
    return row_of(err)->retry;
}

unsigned tw_err_number(tw_err err)
{
    return row_of(err)->number;
}

tw_err tw_err_by_code(const char *code)
{
    for (size_t i = 0; code != NULL && i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].code, code) == 0) {
            return (tw_err)i;
        }
    }
    return TW_E_INTERNAL;
}
