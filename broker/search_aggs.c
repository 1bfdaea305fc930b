/* search_aggs.c - see search_aggs.h. Each kind is a row of the table at the end. */
#include "broker/search_aggs.h"

#include <math.h>
#include <stdlib.h>

#include "protocol/limits.h"

#define DAY_MS 86400000.0

enum { SLOTS = 1024, MANY = TW_SEARCH_BUCKETS_MAX };

typedef struct agg agg;
typedef struct state state;
typedef struct bucket bucket;

typedef struct kind {
    const char *name;
    const char *known; /* parameters that are carried out */
    bool buckets, numbers, sets;
    void (*write)(const struct agg *self, state *held, tw_bson_builder *b, struct search_aggs *all);
} kind;

struct agg {
    const kind *kind;
    tw_str name, path;
    search_type type;
    size_t ignore_above;
    bool known; /* the field is */
    double interval, offset;
    char calendar; /* M y; 0: fixed */
    double bound_low, bound_high;
    bool bounded;
    int64_t size, least;
    bool by_key, ascending;
    search_query *filter;
    agg *first, *next; /* children, siblings */
    size_t place;      /* among its siblings */
};

struct bucket {
    bucket *next, *same; /* of the state; of one slot */
    double number;
    tw_str text;
    uint64_t count;
    state *states; /* of the children */
    uint64_t seen; /* document that was counted last */
};

/* An aggregation within one bucket of the one around it. */
struct state {
    uint64_t count, docs;
    double sum, min, max;
    bucket *first, **end;
    bucket **slots; /* NULL: none yet */
    size_t buckets;
};

struct search_aggs {
    tw_arena *arena;
    agg *first;
    size_t count;
    state *states;
    size_t buckets;
    uint64_t seen;
    tw_bson doc;
    tw_str id;
    tw_err err;
};

static state *states_new(tw_arena *arena, size_t count)
{
    state *made = tw_arena_zero(arena, count + 1, sizeof *made);
    for (size_t i = 0; made != NULL && i < count; i++) {
        made[i].min = INFINITY;
        made[i].max = -INFINITY;
    }
    return made;
}

static size_t count_of(const agg *first)
{
    size_t count = 0;
    for (; first != NULL; first = first->next) {
        count++;
    }
    return count;
}

/* ---- taking ---- */
static void take_list(search_aggs *all, const agg *first, state *states);

static bucket *bucket_of(search_aggs *all, const agg *self, state *held, double number, tw_str text)
{
    uint64_t hash =
        text.ptr != NULL ? tw_hash(text.ptr, text.len, 3) : tw_hash(&number, sizeof number, 3);
    if (held->slots == NULL) {
        held->slots = tw_arena_zero(all->arena, SLOTS, sizeof *held->slots);
        held->end = &held->first;
        if (held->slots == NULL) {
            all->err = TW_E_TOO_COSTLY;
            return NULL;
        }
    }
    bucket **slot = &held->slots[hash & (SLOTS - 1)];
    for (bucket *at = *slot; at != NULL; at = at->same) {
        if (text.ptr != NULL ? tw_str_equal(at->text, text) : at->number == number) {
            return at;
        }
    }
    bool full = ++all->buckets > (self->kind->sets ? 100U * MANY : MANY);
    bucket *made = full ? NULL : tw_arena_zero(all->arena, 1, sizeof *made);
    state *states = made == NULL ? NULL : states_new(all->arena, count_of(self->first));
    tw_str kept = tw_arena_str(all->arena, text);
    if (states == NULL || (text.ptr != NULL && text.len > 0 && kept.ptr == NULL)) {
        all->err = TW_E_TOO_COSTLY;
        return NULL;
    }
    *made = (bucket){.number = number, .text = kept, .states = states, .same = *slot};
    *slot = made;
    *held->end = made;
    held->end = &made->next;
    held->buckets++;
    return made;
}

static double month_begin(double ms, char unit)
{
    int64_t year;
    unsigned month;
    unsigned mday;
    search_civil_of((int64_t)floor(ms / DAY_MS), &year, &month, &mday);
    month = unit == 'y' ? 1 : unit == 'q' ? (month - 1) / 3 * 3 + 1 : month;
    return (double)search_day_of(year, month, 1) * DAY_MS;
}

static double next_begin(const agg *self, double from)
{
    int64_t year;
    unsigned month;
    unsigned mday;
    if (self->calendar == 0) {
        return from + self->interval;
    }
    search_civil_of((int64_t)floor(from / DAY_MS), &year, &month, &mday);
    month += self->calendar == 'y' ? 12 : self->calendar == 'q' ? 3 : 1;
    return (double)search_day_of(year + (month - 1) / 12, (month - 1) % 12 + 1, 1) * DAY_MS;
}

static double step_of(const agg *self, double number)
{
    return self->calendar != 0
               ? month_begin(number, self->calendar)
               : floor((number - self->offset) / self->interval) * self->interval + self->offset;
}

typedef struct taker {
    search_aggs *all;
    const agg *self;
    state *held;
    bool met;
} taker;

static bool take_value(void *context, tw_str path, tw_bson_value value)
{
    (void)path;
    taker *at = context;
    const agg *self = at->self;
    double number = 0;
    char scratch[64];
    tw_str text = {NULL, 0};
    if (value.type == TW_BSON_NULL || value.type == TW_BSON_UNDEFINED) {
        return true;
    }
    if (self->type == SEARCH_KEYWORD || self->type == SEARCH_TEXT) {
        text = search_keyword_of(value, scratch);
        if (text.ptr == NULL || (self->ignore_above > 0 && text.len > self->ignore_above)) {
            return true;
        }
    } else if (!search_number_of(self->type, value, false, &number)) {
        return true;
    }
    at->met = true;
    if (!self->kind->buckets && !self->kind->sets) {
        at->held->count++;
        at->held->sum += number;
        at->held->min = number < at->held->min ? number : at->held->min;
        at->held->max = number > at->held->max ? number : at->held->max;
        return true;
    }
    number = self->interval > 0 || self->calendar != 0 ? step_of(self, number) : number;
    bucket *one = bucket_of(at->all, self, at->held, number + 0.0, text);
    if (one != NULL && one->seen != at->all->seen) {
        one->seen = at->all->seen;
        one->count++;
        take_list(at->all, self->first, one->states);
    }
    return at->all->err == TW_OK;
}

/* filter and missing have one bucket: the state's first. */
static void take_single(search_aggs *all, const agg *self, state *held)
{
    bucket *one = bucket_of(all, self, held, 0, (tw_str){NULL, 0});
    if (one != NULL) {
        one->count++;
        take_list(all, self->first, one->states);
    }
}

static void take_list(search_aggs *all, const agg *first, state *states)
{
    for (const agg *self = first; self != NULL && all->err == TW_OK; self = self->next) {
        state *held = &states[self->place];
        taker at = {all, self, held, false};
        if (self->filter != NULL) {
            if (search_query_match(self->filter, all->doc, all->id, NULL)) {
                take_single(all, self, held);
            }
            continue;
        }
        bool missing = strcmp(self->kind->name, "missing") == 0;
        if (self->known) {
            search_walk(all->doc, self->path, take_value, &at);
        }
        if (missing && !at.met) {
            take_single(all, self, held);
        }
    }
}

tw_err search_aggs_take(search_aggs *self, tw_bson doc, tw_str id)
{
    self->seen++;
    self->doc = doc;
    self->id = id;
    take_list(self, self->first, self->states);
    return self->err;
}

/* ---- writing ---- */
static void write_list(search_aggs *all, const agg *first, state *states, tw_bson_builder *b);

static void add_number(tw_bson_builder *b, const char *name, double value)
{
    if (!isfinite(value)) {
        tw_bson_add_null(b, tw_str_of(name));
    } else {
        tw_bson_add_double(b, tw_str_of(name), value);
    }
}

static void add_text_beside(const agg *self, tw_bson_builder *b, const char *name, double value)
{
    char text[40];
    if (self->type == SEARCH_DATE && isfinite(value)) {
        search_date_write(value, text);
        tw_bson_add_str(b, tw_str_of(name), tw_str_of(text));
    } else if (self->type == SEARCH_BOOLEAN && isfinite(value)) {
        tw_bson_add_str(b, tw_str_of(name), value != 0 ? TW_STR("true") : TW_STR("false"));
    }
}

static void write_number(const agg *self, state *held, tw_bson_builder *b, search_aggs *all)
{
    (void)all;
    const char *name = self->kind->name;
    double value = strcmp(name, "min") == 0   ? held->min
                   : strcmp(name, "max") == 0 ? held->max
                   : strcmp(name, "sum") == 0 ? held->sum
                                              : held->sum / (double)held->count;
    add_number(b, "value", value);
    add_text_beside(self, b, "value_as_string", value);
}

static void write_count(const agg *self, state *held, tw_bson_builder *b, search_aggs *all)
{
    (void)all;
    tw_bson_add_i64(b, TW_STR("value"), (int64_t)(self->kind->sets ? held->buckets : held->count));
}

static void write_stats(const agg *self, state *held, tw_bson_builder *b, search_aggs *all)
{
    (void)all;
    tw_bson_add_i64(b, TW_STR("count"), (int64_t)held->count);
    add_number(b, "min", held->min);
    add_number(b, "max", held->max);
    add_number(b, "avg", held->count == 0 ? INFINITY : held->sum / (double)held->count);
    add_number(b, "sum", held->sum);
    if (self->type == SEARCH_DATE) {
        add_text_beside(self, b, "min_as_string", held->min);
        add_text_beside(self, b, "max_as_string", held->max);
    }
}

static void write_single(const agg *self, state *held, tw_bson_builder *b, search_aggs *all)
{
    bucket *one = held->first;
    state *states = one != NULL ? one->states : states_new(all->arena, count_of(self->first));
    tw_bson_add_i64(b, TW_STR("doc_count"), one == NULL ? 0 : (int64_t)one->count);
    if (states == NULL) {
        all->err = TW_E_NO_MEMORY;
        return;
    }
    write_list(all, self->first, states, b);
}

static void write_bucket(const agg *self, const bucket *one, tw_bson_builder *b, search_aggs *all)
{
    tw_bson_open_doc(b, TW_STR(""));
    if (one->text.ptr != NULL) {
        tw_bson_add_str(b, TW_STR("key"), one->text);
    } else if (self->type == SEARCH_DOUBLE || (self->interval > 0 && self->type == SEARCH_LONG)) {
        tw_bson_add_double(b, TW_STR("key"), one->number);
    } else {
        tw_bson_add_i64(b, TW_STR("key"), (int64_t)one->number);
    }
    add_text_beside(self, b, "key_as_string", one->number);
    tw_bson_add_i64(b, TW_STR("doc_count"), (int64_t)one->count);
    write_list(all, self->first, one->states, b);
    tw_bson_close(b);
}

static int compare_keys(const bucket *a, const bucket *b)
{
    int order = tw_str_compare(a->text, b->text);
    return order != 0 ? order : (a->number > b->number) - (a->number < b->number);
}

static int by_key(const void *a, const void *b)
{
    return compare_keys(*(bucket *const *)a, *(bucket *const *)b);
}

static int by_count(const void *left, const void *right)
{
    const bucket *a = *(bucket *const *)left;
    const bucket *b = *(bucket *const *)right;
    return a->count != b->count ? (a->count < b->count ? 1 : -1) : compare_keys(a, b);
}

static int by_count_up(const void *left, const void *right)
{
    const bucket *a = *(bucket *const *)left;
    const bucket *b = *(bucket *const *)right;
    return a->count != b->count ? (a->count > b->count ? 1 : -1) : compare_keys(a, b);
}

static bucket **sorted(search_aggs *all, const state *held,
                       int (*order)(const void *, const void *))
{
    bucket **list = tw_arena_zero(all->arena, held->buckets + 1, sizeof(bucket *));
    size_t count = 0;
    if (list == NULL) {
        all->err = TW_E_NO_MEMORY;
        return NULL;
    }
    for (bucket *at = held->first; at != NULL; at = at->next) {
        list[count++] = at;
    }
    qsort(list, count, sizeof *list, order);
    return list;
}

static void write_terms(const agg *self, state *held, tw_bson_builder *b, search_aggs *all)
{
    bucket **list = sorted(all, held,
                           self->by_key      ? by_key
                           : self->ascending ? by_count_up
                                             : by_count);
    int64_t told = 0;
    uint64_t others = 0;
    tw_bson_add_i64(b, TW_STR("doc_count_error_upper_bound"), 0);
    tw_bson_open_array(b, TW_STR("buckets"));
    for (size_t i = 0; list != NULL && i < held->buckets; i++) {
        bool back = self->by_key && !self->ascending;
        const bucket *one = list[back ? held->buckets - 1 - i : i];
        if ((int64_t)one->count < self->least) {
            continue;
        }
        if (told == self->size) {
            others += one->count;
            continue;
        }
        told++;
        write_bucket(self, one, b, all);
    }
    tw_bson_close(b);
    tw_bson_add_i64(b, TW_STR("sum_other_doc_count"), (int64_t)others);
}

/* All steps from the first to the last, the empty ones too where no least count is asked. */
static void write_steps(const agg *self, state *held, tw_bson_builder *b, search_aggs *all)
{
    bucket **list = sorted(all, held, by_key);
    size_t count = held->buckets;
    size_t at = 0;
    size_t told = 0;
    double next = count > 0 ? list[0]->number : INFINITY;
    double last = count > 0 ? list[count - 1]->number : -INFINITY;
    if (self->bounded && self->least == 0) {
        next = fmin(next, step_of(self, self->bound_low));
        last = fmax(last, step_of(self, self->bound_high));
    }
    tw_bson_open_array(b, TW_STR("buckets"));
    for (; list != NULL && next <= last && all->err == TW_OK; next = next_begin(self, next)) {
        bool here = at < count && list[at]->number <= next + fabs(self->interval) * 1e-9;
        if (++told > MANY) {
            all->err = TW_E_TOO_COSTLY;
        } else if (here) {
            next = list[at]->number;
            if ((int64_t)list[at]->count >= self->least) {
                write_bucket(self, list[at], b, all);
            }
            at++;
        } else if (self->least == 0) {
            bucket empty = {.number = next,
                            .states = states_new(all->arena, count_of(self->first))};
            if (empty.states != NULL) {
                write_bucket(self, &empty, b, all);
            }
        } else if (at < count) { /* over the gap */
            next = list[at]->number;
            told--;
            write_bucket(self, list[at], b, all);
            at++;
        }
    }
    tw_bson_close(b);
}

static void write_list(search_aggs *all, const agg *first, state *states, tw_bson_builder *b)
{
    for (const agg *self = first; self != NULL; self = self->next) {
        tw_bson_open_doc(b, self->name);
        self->kind->write(self, &states[self->place], b, all);
        tw_bson_close(b);
    }
}

tw_err search_aggs_write(search_aggs *self, tw_bson_builder *b)
{
    write_list(self, self->first, self->states, b);
    return self->err;
}

/* ---- compiling ---- */
static const kind kinds[] = {
    {"terms", "field size order min_doc_count shard_size", true, false, false, write_terms},
    {"histogram", "field interval offset min_doc_count extended_bounds", true, true, false,
     write_steps},
    {"date_histogram", "field calendar_interval fixed_interval min_doc_count extended_bounds", true,
     true, false, write_steps},
    {"stats", "field", false, true, false, write_stats},
    {"min", "field", false, true, false, write_number},
    {"max", "field", false, true, false, write_number},
    {"avg", "field", false, true, false, write_number},
    {"sum", "field", false, true, false, write_number},
    {"value_count", "field", false, false, false, write_count},
    {"cardinality", "field precision_threshold", false, false, true, write_count},
    {"missing", "field", false, false, false, write_single},
    {"filter", NULL, false, false, false, write_single},
};

typedef struct compiler {
    tw_arena *arena;
    const search_mapping *const *mappings;
    size_t count;
    broker_why *why;
} compiler;

static tw_err refuse(compiler *self, tw_str around, tw_str name, const char *what)
{
    char shown[BROKER_SHOWN_MAX];
    char of[BROKER_SHOWN_MAX];
    return broker_refuse(self->why, TW_E_BAD_QUERY, "aggs: %s: \"%s\" %s", broker_show(around, of),
                         broker_show(name, shown), what);
}

static tw_err find_field(compiler *self, agg *out, tw_bson params)
{
    tw_str name = tw_bson_get_str(params, TW_STR("field"));
    tw_str around = tw_str_of(out->kind->name);
    if (name.ptr == NULL) {
        return refuse(self, around, TW_STR("field"), "is missing.");
    }
    for (size_t i = 0; i < self->count && !out->known; i++) {
        const search_field *field = search_mapping_find(self->mappings[i], name);
        if (field != NULL) {
            out->known = true;
            out->path = field->path;
            out->type = field->type;
            out->ignore_above = field->ignore_above;
        }
    }
    bool text =
        out->type == SEARCH_TEXT || out->type == SEARCH_COMPLETION || out->type == SEARCH_OPAQUE;
    bool missing = strcmp(out->kind->name, "missing") == 0;
    if (out->known && text && !missing) {
        return refuse(self, around, name, "is text, which has no values; use its keyword field.");
    }
    if (out->known && out->kind->numbers && out->type == SEARCH_KEYWORD) {
        return refuse(self, around, name, "holds no numbers.");
    }
    return TW_OK;
}

/* "1d", "90m", "month": milliseconds, or a letter of the calendar. */
static bool read_interval(tw_str text, agg *out)
{
    static const struct {
        const char *name;
        double ms;
        char calendar;
    } units[] = {{"ms", 1, 0},         {"s", 1000, 0},         {"m", 60000, 0},
                 {"h", 3600000, 0},    {"d", 86400000, 0},     {"w", 604800000, 0},
                 {"M", 0, 'M'},        {"q", 0, 'q'},          {"y", 0, 'y'},
                 {"second", 1000, 0},  {"minute", 60000, 0},   {"hour", 3600000, 0},
                 {"day", 86400000, 0}, {"week", 604800000, 0}, {"month", 0, 'M'},
                 {"quarter", 0, 'q'},  {"year", 0, 'y'}};
    size_t digits = 0;
    uint64_t count = 1;
    if (text.ptr == NULL) {
        return false;
    }
    while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9') {
        digits++;
    }
    if (digits > 0 && tw_parse_u64((tw_str){text.ptr, digits}, 1000000, &count) != TW_OK) {
        return false;
    }
    for (size_t i = 0; i < TW_COUNT(units) && count > 0; i++) {
        if (tw_str_equal((tw_str){text.ptr + digits, text.len - digits},
                         tw_str_of(units[i].name))) {
            out->interval = units[i].ms * (double)count;
            out->calendar = units[i].calendar;
            /* weeks begin on Mondays, the first of 1970 was a Thursday */
            out->offset = units[i].ms == 604800000 ? -3.0 * 86400000 : 0;
            return out->calendar == 0 || count == 1;
        }
    }
    return false;
}

static tw_err read_steps(compiler *self, agg *out, tw_bson params)
{
    tw_str around = tw_str_of(out->kind->name);
    tw_bson bounds = tw_bson_get_doc(params, TW_STR("extended_bounds"));
    tw_str fixed = tw_bson_get_str(params, TW_STR("fixed_interval"));
    tw_str calendar = tw_bson_get_str(params, TW_STR("calendar_interval"));
    out->least = tw_bson_get_i64_or(params, TW_STR("min_doc_count"), 0);
    if (out->kind->name[0] == 'h') {
        out->interval = tw_bson_value_double(tw_bson_get(params, TW_STR("interval")));
        out->offset = tw_bson_value_double(tw_bson_get(params, TW_STR("offset")));
        if (!(out->interval > 0) || !isfinite(out->interval)) {
            return refuse(self, around, TW_STR("interval"), "is to be above 0.");
        }
        out->offset = fmod(out->offset, out->interval);
    } else if (!read_interval(fixed.ptr != NULL ? fixed : calendar, out)) {
        return refuse(self, around, TW_STR("interval"), "is to be like 1d, 12h or month.");
    }
    search_type type = out->known ? out->type : SEARCH_DOUBLE;
    out->bounded =
        search_number_of(type, tw_bson_get(bounds, TW_STR("min")), false, &out->bound_low) &&
        search_number_of(type, tw_bson_get(bounds, TW_STR("max")), false, &out->bound_high);
    return TW_OK;
}

static tw_err read_terms(compiler *self, agg *out, tw_bson params)
{
    tw_bson_value order = tw_bson_get(params, TW_STR("order"));
    out->size = tw_bson_get_i64_or(params, TW_STR("size"), 10);
    out->least = tw_bson_get_i64_or(params, TW_STR("min_doc_count"), 1);
    if (order.type == 0) {
        return TW_OK;
    }
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, tw_bson_value_doc(order));
    bool one = order.type == TW_BSON_DOCUMENT && tw_bson_iter_next(&iter);
    if (!one ||
        (!tw_str_equal(iter.name, TW_STR("_key")) && !tw_str_equal(iter.name, TW_STR("_count")))) {
        return refuse(self, TW_STR("terms"), TW_STR("order"), "is by _count or _key here.");
    }
    out->by_key = tw_str_equal(iter.name, TW_STR("_key"));
    out->ascending = tw_str_equal(tw_bson_value_str(iter.value), TW_STR("asc"));
    return TW_OK;
}

static tw_err compile_kind(compiler *self, agg *out, tw_str kind_name, tw_bson_value value)
{
    tw_bson params = tw_bson_value_doc(value);
    tw_bson_iter iter;
    for (size_t i = 0; i < TW_COUNT(kinds); i++) {
        if (tw_str_equal(kind_name, tw_str_of(kinds[i].name))) {
            out->kind = &kinds[i];
        }
    }
    if (out->kind == NULL) {
        return refuse(self, TW_STR("aggregation"), kind_name,
                      "is not supported by the embedded search.");
    }
    if (out->kind->known == NULL) {
        return search_query_compile(self->arena, value, self->count == 1 ? self->mappings[0] : NULL,
                                    &out->filter, self->why);
    }
    for (tw_bson_iter_init(&iter, params); tw_bson_iter_next(&iter);) {
        if (!tw_str_in_list(iter.name, out->kind->known, ' ')) {
            return refuse(self, kind_name, iter.name, "is not supported by the embedded search.");
        }
    }
    tw_err err = find_field(self, out, params);
    if (err == TW_OK && out->kind->write == write_steps) {
        err = read_steps(self, out, params);
    } else if (err == TW_OK && out->kind->write == write_terms) {
        err = read_terms(self, out, params);
    }
    return err;
}

static tw_err compile_list(compiler *self, tw_bson aggs, agg **first, int depth)
{
    tw_bson_iter iter;
    tw_err err = TW_OK;
    size_t place = 0;
    for (tw_bson_iter_init(&iter, aggs); err == TW_OK && tw_bson_iter_next(&iter);) {
        agg *one = tw_arena_zero(self->arena, 1, sizeof *one);
        tw_bson_iter each;
        if (one == NULL || depth > TW_SEARCH_AGGS_DEPTH_MAX) {
            return one == NULL ? TW_E_NO_MEMORY : TW_E_DEPTH;
        }
        one->name = iter.name;
        one->place = place++;
        for (tw_bson_iter_init(&each, tw_bson_value_doc(iter.value));
             err == TW_OK && tw_bson_iter_next(&each);) {
            if (tw_str_in_list(each.name, "aggs aggregations", ' ')) {
                err = compile_list(self, tw_bson_value_doc(each.value), &one->first, depth + 1);
            } else if (one->kind != NULL) {
                err = refuse(self, iter.name, each.name, "is one kind too many.");
            } else {
                err = compile_kind(self, one, each.name, each.value);
            }
        }
        if (err == TW_OK && one->kind == NULL) {
            err = refuse(self, TW_STR("aggregation"), iter.name, "has no kind.");
        }
        *first = one;
        first = &one->next;
    }
    return err;
}

tw_err search_aggs_compile(tw_arena *arena, tw_bson aggs, const search_mapping *const *mappings,
                           size_t count, search_aggs **out, broker_why *why)
{
    compiler self = {arena, mappings, count, why};
    search_aggs *made = tw_arena_zero(arena, 1, sizeof *made);
    *out = NULL;
    if (made == NULL) {
        return TW_E_NO_MEMORY;
    }
    made->arena = arena;
    tw_err err = compile_list(&self, aggs, &made->first, 1);
    if (err == TW_OK) {
        made->states = states_new(arena, count_of(made->first));
        err = made->states == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    *out = err == TW_OK ? made : NULL;
    return err;
}
