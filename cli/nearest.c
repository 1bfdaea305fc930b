/* nearest.c - see nearest.h. Levenshtein's distance by two rows. */
#include "cli/nearest.h"

#include <string.h>

enum { NAME_LEN_MAX = 63 }; /* longer names are compared by their beginnings */

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

static size_t distance(const char *a, const char *b)
{
    size_t a_len = strnlen(a, NAME_LEN_MAX);
    size_t b_len = strnlen(b, NAME_LEN_MAX);
    size_t row[NAME_LEN_MAX + 1];
    for (size_t j = 0; j <= b_len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t above = row[j];
            row[j] = smallest(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[b_len];
}

const char *nearest_name(const char *typed, const char *const *names, size_t count)
{
    const char *best = NULL;
    size_t best_distance = 0;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(typed, names[i]);
        if (d <= strlen(names[i]) / 3 && (best == NULL || d < best_distance)) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}
