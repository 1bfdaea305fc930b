/* log_cut.c - see log_cut.h. */
#include "actors/log/log_cut.h"

#include <stdlib.h>

void log_cut_init(log_cut *cut, uint64_t at, uint64_t generation)
{
    *cut = (log_cut){.at = at, .generation = generation, .upto = at};
}

void log_cut_fini(log_cut *cut)
{
    tw_free(cut->hidden);
    *cut = (log_cut){0};
}

static tw_err add(log_cut *cut, uint64_t n)
{
    if (cut->count == cut->cap) {
        size_t cap = cut->cap == 0 ? 256 : cut->cap * 2;
        uint64_t *grown = tw_realloc(cut->hidden, cap * sizeof *grown);
        if (grown == NULL) {
            return TW_E_NO_MEMORY;
        }
        cut->hidden = grown;
        cut->cap = cap;
    }
    cut->hidden[cut->count++] = n;
    return TW_OK;
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

tw_err log_cut_extend(log_cut *cut, log_view *view, uint64_t head)
{
    TW_ASSERT(cut->upto >= cut->at);
    if (head <= cut->upto) {
        return TW_OK;
    }
    tw_err err = log_view_begin(view);
    if (err != TW_OK) {
        return err;
    }
    log_row row;
    size_t before = cut->count;
    uint64_t n = cut->upto + 1; /* 0: the scan goes on */
    while ((err = log_table_scan_head(view->table, n, head, &row)) == TW_OK) {
        n = 0;
        if (row.prev == 0 || row.prev > cut->at) {
            continue;
        }
        err = cut->count == LOG_CUT_MAX ? TW_E_GAP : add(cut, row.prev);
        if (err != TW_OK) {
            break;
        }
    }
    if (err == TW_E_GAP) {
        tw_format(view->why, sizeof view->why, "too much has changed since the sync began");
    } else if (err == TW_E_INTERNAL || err == TW_E_BUSY) {
        err = TW_E_UNAVAILABLE;
    }
    tw_err end = log_view_end(view);
    err = err == TW_E_END ? end : err;
    if (err != TW_OK) {
        cut->count = before; /* it is looked through again */
        return err;
    }
    if (cut->count > before) { /* there may be no array yet */
        qsort(cut->hidden, cut->count, sizeof *cut->hidden, compare);
    }
    cut->upto = head;
    return TW_OK;
}

bool log_cut_has(const log_cut *cut, uint64_t n)
{
    return cut->count > 0 &&
           bsearch(&n, cut->hidden, cut->count, sizeof *cut->hidden, compare) != NULL;
}
