/* load_figures.c - see load_figures.h. */
#include "bench/load/load_figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/bson.h"
#include "protocol/json.h"

enum { RUNS_MAX = 64, READ_MEMORY = 1 << 22, DEPTH_MAX = 16 };

const load_figure load_figure_table[] = {
#define ROW(name, unit, better, bad, doc)                                                          \
    {#name, unit, doc, better, (bad) != 0, offsetof(load_figures, name)},
    LOAD_FIGURES(ROW)
#undef ROW
};
const size_t load_figures_count = TW_COUNT(load_figure_table);

double load_figure_value(const load_figures *figures, const load_figure *figure)
{
    double value;
    memcpy(&value, (const char *)figures + figure->at, sizeof value);
    return value;
}

static void set(load_figures *figures, const load_figure *figure, double value)
{
    memcpy((char *)figures + figure->at, &value, sizeof value);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void load_figures_median(const load_figures *runs, size_t count, load_figures *out)
{
    *out = (load_figures){.complete = count > 0};
    count = count < RUNS_MAX ? count : RUNS_MAX;
    for (size_t f = 0; f < load_figures_count && count > 0; f++) {
        double values[RUNS_MAX], sum = 0;
        for (size_t i = 0; i < count; i++) {
            values[i] = load_figure_value(&runs[i], &load_figure_table[f]);
            sum += values[i];
        }
        qsort(values, count, sizeof *values, by_value);
        set(out, &load_figure_table[f], load_figure_table[f].bad ? sum : values[count / 2]);
    }
}

bool load_figures_clean(const load_figures *figures)
{
    for (size_t f = 0; f < load_figures_count; f++) {
        if (load_figure_table[f].bad && load_figure_value(figures, &load_figure_table[f]) > 0) {
            return false;
        }
    }
    return true;
}

const char *load_figures_limit(const load_figures *figures, double rate, double reached)
{
    const double full = (double)LOAD_LIMIT_PERCENT / 100.0;
    if (rate > 0 && reached >= 0.98 * rate) {
        return "the rate";
    }
    if (figures->server_cpu >= full) {
        return figures->load_cpu >= full ? "both" : "server";
    }
    return figures->load_cpu >= full ? "load" : "neither";
}

void load_figures_json(const load_figures *figures, FILE *out)
{
    const char *between = "{";
    for (size_t f = 0; f < load_figures_count; f++) {
        const load_figure *figure = &load_figure_table[f];
        double value = load_figure_value(figures, figure);
        if (figure->bad || fabs(value) > 0) {
            fprintf(out, "%s\"%s\":%.10g", between, figure->name, value);
            between = ",";
        }
    }
    fputs("}", out);
}

bool load_figures_read(tw_str text, load_figures *out)
{
    tw_arena arena;
    tw_bson whole;
    *out = (load_figures){0};
    tw_arena_init(&arena, READ_MEMORY);
    if (tw_json_read(&arena, text, DEPTH_MAX, &whole, NULL) == TW_OK) {
        tw_bson found = tw_bson_value_doc(tw_bson_get(whole, TW_STR("figures")));
        out->complete = found.len > 0;
        for (size_t f = 0; f < load_figures_count && out->complete; f++) {
            const load_figure *figure = &load_figure_table[f];
            tw_bson_value value = tw_bson_get(found, tw_str_of(figure->name));
            set(out, figure, tw_bson_value_double(value));
        }
    }
    tw_arena_fini(&arena);
    return out->complete;
}

/* 1234567 as 1,234,567; small ones with what counts of them. */
static void number_text(double value, char out[40])
{
    if (fabs(value) < 10) {
        tw_format(out, 40, fabs(value - floor(value)) > 0 ? "%.3f" : "%.0f", value);
        return;
    }
    if (fabs(value) < 1000) {
        tw_format(out, 40, fabs(value - floor(value)) > 0 ? "%.1f" : "%.0f", value);
        return;
    }
    char digits[32];
    size_t len = tw_format(digits, sizeof digits, "%.0f", value), at = 0;
    for (size_t i = 0; i < len; i++) {
        out[at++] = digits[i];
        if ((len - 1 - i) % 3 == 0 && i + 1 < len) {
            out[at++] = ',';
        }
    }
    out[at] = '\0';
}

static void show_saved(const load_figure *figure, double value, double was, FILE *out)
{
    char text[40];
    number_text(was, text);
    fprintf(out, "  was %s", text);
    if (fabs(was) > 0) {
        double ratio = value / was;
        const char *word = "";
        if (figure->better != 0 && fabs(ratio - 1) > 0.03) {
            word = (ratio > 1) == (figure->better > 0) ? ", better" : ", worse";
        }
        fprintf(out, ", %.2fx%s", ratio, word);
    }
}

void load_figures_show(const load_figures *figures, const load_figures *saved, FILE *out)
{
    for (size_t f = 0; f < load_figures_count; f++) {
        const load_figure *figure = &load_figure_table[f];
        double value = load_figure_value(figures, figure);
        double was = saved == NULL ? 0 : load_figure_value(saved, figure);
        if (!figure->bad && !(fabs(value) > 0) && !(fabs(was) > 0)) {
            continue;
        }
        char text[40];
        number_text(value, text);
        fprintf(out, "  %-20s %14s %-5s  %s", figure->name, text, figure->unit, figure->doc);
        if (saved != NULL) {
            show_saved(figure, value, was, out);
        }
        fputc('\n', out);
    }
}
