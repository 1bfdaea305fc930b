/* search_mapping.c - see search_mapping.h. */
#include "broker/search_mapping.h"

#include <math.h>
#include <stdlib.h>

#include "protocol/limits.h"

enum { SLOTS = 2048, FIRST = 32, NAME_MAX_BYTES = 512, DAY_MS = 86400000 };

static const struct {
    const char *name;
    search_type type;
} types[] = {
    {"text", SEARCH_TEXT},
    {"keyword", SEARCH_KEYWORD},
    {"long", SEARCH_LONG},
    {"integer", SEARCH_LONG},
    {"short", SEARCH_LONG},
    {"byte", SEARCH_LONG},
    {"double", SEARCH_DOUBLE},
    {"float", SEARCH_DOUBLE},
    {"half_float", SEARCH_DOUBLE},
    {"date", SEARCH_DATE},
    {"boolean", SEARCH_BOOLEAN},
    {"completion", SEARCH_COMPLETION},
    {"match_only_text", SEARCH_TEXT},
};

static search_type type_named(tw_str name)
{
    for (size_t i = 0; i < TW_COUNT(types); i++) {
        if (tw_str_equal(name, tw_str_of(types[i].name))) {
            return types[i].type;
        }
    }
    return SEARCH_OPAQUE;
}

static size_t slot_of(const search_mapping *self, tw_str name)
{
    size_t slot = (size_t)tw_hash(name.ptr, name.len, 7) & (SLOTS - 1);
    while (self->slots[slot] != 0 && !tw_str_equal(self->at[self->slots[slot] - 1].name, name)) {
        slot = (slot + 1) & (SLOTS - 1);
    }
    return slot;
}

search_field *search_mapping_find(const search_mapping *self, tw_str name)
{
    uint16_t at = self->slots[slot_of(self, name)];
    return at == 0 ? NULL : &self->at[at - 1];
}

search_field *search_mapping_add(search_mapping *self, tw_str name, tw_str path, tw_str told)
{
    size_t slot = slot_of(self, name);
    if (self->slots[slot] != 0) {
        return &self->at[self->slots[slot] - 1];
    }
    if (self->count == SEARCH_FIELDS_MAX || name.len > NAME_MAX_BYTES) {
        return NULL;
    }
    search_field field = {.name = tw_arena_str(self->arena, name),
                          .path = tw_arena_str(self->arena, path),
                          .told = tw_arena_str(self->arena, told),
                          .type = type_named(told),
                          .changed = true};
    if (field.name.ptr == NULL || field.path.ptr == NULL || field.told.ptr == NULL) {
        return NULL;
    }
    if (self->count == self->cap) {
        size_t cap = self->cap == 0 ? FIRST : self->cap * 2;
        search_field *grown = tw_arena_alloc(self->arena, cap * sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        for (size_t i = 0; i < self->count; i++) {
            grown[i] = self->at[i];
        }
        self->at = grown;
        self->cap = cap;
    }
    self->at[self->count++] = field;
    self->slots[slot] = (uint16_t)self->count;
    return &self->at[self->count - 1];
}

/* ---- what was declared ---- */
static void declare(search_mapping *self, tw_bson properties, tw_str above, tw_str parent,
                    int depth)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, properties); tw_bson_iter_next(&iter);) {
        tw_bson spec = tw_bson_value_doc(iter.value);
        const char *name = tw_arena_format(
            self->arena, "%.*s%s%.*s", (int)above.len, above.len == 0 ? "" : above.ptr,
            above.len == 0 ? "" : ".", (int)iter.name.len, iter.name.ptr);
        tw_str told = tw_bson_get_str(spec, TW_STR("type"));
        tw_str path = parent.len > 0 ? parent : tw_str_of(name);
        if (told.ptr != NULL && !tw_str_equal(told, TW_STR("object")) &&
            !tw_str_equal(told, TW_STR("nested"))) {
            search_field *field = search_mapping_add(self, tw_str_of(name), path, told);
            if (field != NULL) {
                tw_bson meta = tw_bson_get_doc(spec, TW_STR("meta"));
                field->ignore_above = (size_t)tw_bson_get_i64_or(spec, TW_STR("ignore_above"), 0);
                field->list = tw_str_equal(tw_bson_get_str(meta, TW_STR("list")), TW_STR("true"));
                field->type =
                    tw_bson_get_bool_or(spec, TW_STR("index"), true) ? field->type : SEARCH_OPAQUE;
            }
        }
        if (depth < SEARCH_LEVELS_MAX) {
            declare(self, tw_bson_get_doc(spec, TW_STR("properties")), tw_str_of(name),
                    (tw_str){NULL, 0}, depth + 1);
            declare(self, tw_bson_get_doc(spec, TW_STR("fields")), tw_str_of(name), path,
                    depth + 1);
        }
    }
}

tw_err search_mapping_init(search_mapping *self, tw_arena *arena, tw_bson declared)
{
    tw_bson_value dynamic = tw_bson_get(declared, TW_STR("dynamic"));
    tw_str text = tw_bson_value_str(dynamic);
    *self = (search_mapping){.arena = arena};
    self->learns = dynamic.type == 0 || tw_bson_value_bool_or(dynamic, false) ||
                   tw_str_equal(text, TW_STR("true"));
    self->slots = tw_arena_zero(arena, SLOTS, sizeof *self->slots);
    if (self->slots == NULL) {
        return TW_E_NO_MEMORY;
    }
    declare(self, tw_bson_get_doc(declared, TW_STR("properties")), (tw_str){NULL, 0},
            (tw_str){NULL, 0}, 0);
    return TW_OK;
}

/* ---- what is learnt ---- */
static const char *type_learnt(tw_bson_value value)
{
    double ms;
    switch (value.type) {
    case TW_BSON_STRING:
    case TW_BSON_SYMBOL:
        return tw_bson_value_str(value).len >= 10 &&
                       search_number_of_text(SEARCH_DATE, tw_bson_value_str(value), false, &ms)
                   ? "date"
                   : "text";
    case TW_BSON_INT32:
    case TW_BSON_INT64:
        return "long";
    case TW_BSON_DOUBLE:
        return "float";
    case TW_BSON_BOOL:
        return "boolean";
    case TW_BSON_DATE:
        return "date";
    case TW_BSON_OBJECT_ID:
    case TW_BSON_DECIMAL128:
        return "text";
    default: /* a byte of a document, not an enum: null, binary, code */
        return NULL;
    }
}

static bool learn_value(void *context, tw_str path, tw_bson_value value)
{
    search_mapping *self = context;
    const char *told = type_learnt(value);
    if (told == NULL || path.len == 0 || search_mapping_find(self, path) != NULL) {
        return true;
    }
    if (search_mapping_add(self, path, path, tw_str_of(told)) != NULL &&
        strcmp(told, "text") == 0) {
        char name[NAME_MAX_BYTES + 16];
        size_t len = tw_format(name, sizeof name, "%.*s.keyword", (int)path.len, path.ptr);
        search_field *keyword =
            search_mapping_add(self, (tw_str){name, len}, path, TW_STR("keyword"));
        if (keyword != NULL) {
            keyword->ignore_above = SEARCH_KEYWORD_MAX;
        }
    }
    return true;
}

tw_err search_mapping_learn(search_mapping *self, tw_bson doc)
{
    if (self->learns) {
        search_walk(doc, (tw_str){NULL, 0}, learn_value, self);
    }
    return TW_OK;
}

/* ---- walking ---- */
typedef struct walker {
    search_visit fn;
    void *context;
    tw_str wanted; /* len 0: everything */
    bool ended;
    char name[NAME_MAX_BYTES + 1];
} walker;

static void walk(walker *self, tw_bson doc, size_t above, bool array, tw_str wanted, int depth);

static void walk_value(walker *self, tw_bson_value value, size_t len, tw_str rest, int depth)
{
    tw_bson inner = tw_bson_value_doc(value);
    bool all = self->wanted.len == 0;
    if (value.type == TW_BSON_DOCUMENT || value.type == TW_BSON_ARRAY) {
        if (depth < SEARCH_LEVELS_MAX) {
            walk(self, inner, len, value.type == TW_BSON_ARRAY, rest, depth + 1);
        }
    } else if (all || rest.len == 0) {
        self->ended =
            !self->fn(self->context, all ? (tw_str){self->name, len} : self->wanted, value);
    }
}

static void walk(walker *self, tw_bson doc, size_t above, bool array, tw_str wanted, int depth)
{
    tw_bson_iter iter;
    bool all = self->wanted.len == 0;
    for (tw_bson_iter_init(&iter, doc); !self->ended && tw_bson_iter_next(&iter);) {
        tw_str name = iter.name;
        if (array) {
            walk_value(self, iter.value, above, wanted, depth);
        } else if (all) {
            size_t len = above + name.len + (above > 0 ? 1 : 0);
            bool own = depth == 0 && (tw_str_equal(name, TW_STR("_id")) ||
                                      tw_str_equal(name, TW_STR("_version")));
            if (len > NAME_MAX_BYTES || name.len == 0 || own) {
                continue;
            }
            self->name[above] = '.';
            memcpy(self->name + len - name.len, name.ptr, name.len);
            walk_value(self, iter.value, len, wanted, depth);
        } else if (name.len > 0 && wanted.len >= name.len &&
                   memcmp(name.ptr, wanted.ptr, name.len) == 0 &&
                   (wanted.len == name.len || wanted.ptr[name.len] == '.')) {
            size_t used = name.len + (wanted.len == name.len ? 0 : 1);
            walk_value(self, iter.value, 0, (tw_str){wanted.ptr + used, wanted.len - used}, depth);
        }
    }
}

void search_walk(tw_bson doc, tw_str path, search_visit fn, void *context)
{
    walker self = {.fn = fn, .context = context, .wanted = path};
    walk(&self, doc, 0, false, path, 0);
}

/* ---- values ---- */
int64_t search_day_of(int64_t year, unsigned month, unsigned mday)
{
    year -= month <= 2 ? 1 : 0;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t yoe = year - era * 400;
    int64_t doy = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + (int64_t)mday - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

void search_civil_of(int64_t day, int64_t *year, unsigned *month, unsigned *mday)
{
    day += 719468;
    int64_t era = (day >= 0 ? day : day - 146096) / 146097;
    int64_t doe = day - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *mday = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    *month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    *year = yoe + era * 400 + (*month <= 2 ? 1 : 0);
}

static bool digits(const char **at, const char *end, size_t count, int64_t *out)
{
    int64_t value = 0;
    if ((size_t)(end - *at) < count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        char c = (*at)[i];
        if (c < '0' || c > '9') {
            return false;
        }
        value = value * 10 + (c - '0');
    }
    *at += count;
    *out = value;
    return true;
}

/* Z, +01:00, -0530 or nothing. */
static bool read_zone(const char *at, const char *end, int64_t *ms)
{
    int64_t hours = 0;
    int64_t minutes = 0;
    *ms = 0;
    if (at == end || (*at == 'Z' && at + 1 == end)) {
        return true;
    }
    int64_t sign = *at == '-' ? -1 : 1;
    if ((*at != '+' && *at != '-') || (at++, !digits(&at, end, 2, &hours))) {
        return false;
    }
    at += at < end && *at == ':' ? 1 : 0;
    if (!digits(&at, end, 2, &minutes) || at != end) {
        return false;
    }
    *ms = sign * (hours * 60 + minutes) * 60000;
    return true;
}

/* yyyy[-MM[-dd[THH[:mm[:ss[.SSS]]][zone]]]] */
static bool read_date(tw_str text, bool upper, double *out)
{
    static const char marks[] = "--T::";
    int64_t part[7] = {0, 1, 1, 0, 0, 0, 0};
    const char *at = text.ptr;
    const char *end = text.ptr + text.len;
    size_t count = 1;
    if (!digits(&at, end, 4, &part[0])) {
        return false;
    }
    while (at < end && count < 6) {
        char mark = marks[count - 1];
        if (*at != mark) {
            break;
        }
        at++;
        if (!digits(&at, end, 2, &part[count])) {
            return false;
        }
        count++;
    }
    if (count == 6 && at < end && (*at == '.' || *at == ',')) {
        int64_t scale = 100;
        for (at++; at < end && *at >= '0' && *at <= '9'; at++, scale /= 10) {
            part[6] += (*at - '0') * scale;
        }
        count = 7;
    }
    int64_t zone = 0;
    bool fits = part[1] >= 1 && part[1] <= 12 && part[2] >= 1 && part[2] <= 31 && part[3] <= 23 &&
                part[4] <= 59 && part[5] <= 59;
    if (!fits || (count < 4 && at != end) || !read_zone(at, end, &zone)) {
        return false;
    }
    int64_t day = search_day_of(part[0], (unsigned)part[1], (unsigned)part[2]);
    int64_t ms = ((day * 24 + part[3]) * 60 + part[4]) * 60000 + part[5] * 1000 + part[6];
    if (upper && count < 7) {
        static const int64_t steps[] = {0, 0, 0, DAY_MS, 3600000, 60000, 1000};
        int64_t next =
            count == 1 ? search_day_of(part[0] + 1, 1, 1) * DAY_MS
            : count == 2
                ? search_day_of(part[0] + part[1] / 12, (unsigned)(part[1] % 12 + 1), 1) * DAY_MS
                : ms + steps[count];
        ms = next - 1;
    }
    *out = (double)(ms - zone);
    return true;
}

static bool read_number(tw_str text, double *out)
{
    char copy[64];
    char *ended;
    if (text.len == 0 || text.len >= sizeof copy || text.ptr[0] == ' ') {
        return false;
    }
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    *out = strtod(copy, &ended);
    return ended == copy + text.len && isfinite(*out) && strpbrk(copy, "xXnN") == NULL;
}

bool search_number_of_text(search_type type, tw_str text, bool upper, double *out)
{
    switch (type) {
    case SEARCH_LONG:
    case SEARCH_DOUBLE:
        return read_number(text, out);
    case SEARCH_DATE:
        return read_date(text, upper, out) || (text.len > 4 && read_number(text, out));
    case SEARCH_BOOLEAN:
        *out = tw_str_equal(text, TW_STR("true")) ? 1 : 0;
        return *out == 1 || tw_str_equal(text, TW_STR("false")) || text.len == 0;
    case SEARCH_UNKNOWN:
    case SEARCH_TEXT:
    case SEARCH_KEYWORD:
    case SEARCH_COMPLETION:
    case SEARCH_OPAQUE:
        break;
    }
    return false;
}

bool search_number_of(search_type type, tw_bson_value value, bool upper, double *out)
{
    tw_str text = tw_bson_value_str(value);
    if (text.ptr != NULL) {
        return search_number_of_text(type, text, upper, out);
    }
    if (type == SEARCH_BOOLEAN) {
        *out = tw_bson_value_bool_or(value, false) ? 1 : 0;
        return value.type == TW_BSON_BOOL;
    }
    if (value.type == TW_BSON_DATE && type == SEARCH_DATE) {
        int64_t ms;
        memcpy(&ms, value.ptr, sizeof ms);
        *out = (double)ms;
        return true;
    }
    *out = tw_bson_value_double(value);
    return tw_bson_value_is_number(value) && isfinite(*out) &&
           (type == SEARCH_LONG || type == SEARCH_DOUBLE || type == SEARCH_DATE);
}

tw_str search_keyword_of(tw_bson_value value, char scratch[64])
{
    tw_str text = tw_bson_value_str(value);
    int64_t whole;
    if (text.ptr != NULL) {
        return text;
    }
    if (value.type == TW_BSON_BOOL) {
        return tw_bson_value_bool_or(value, false) ? TW_STR("true") : TW_STR("false");
    }
    if (value.type == TW_BSON_OBJECT_ID) {
        for (size_t i = 0; i < 12; i++) {
            tw_format(scratch + 2 * i, 3, "%02x", value.ptr[i]);
        }
        return (tw_str){scratch, 24};
    }
    if (value.type == TW_BSON_DATE) {
        int64_t ms;
        memcpy(&ms, value.ptr, sizeof ms);
        search_date_write((double)ms, scratch);
        return tw_str_of(scratch);
    }
    if (tw_bson_value_i64(value, &whole)) {
        return (tw_str){scratch, tw_format(scratch, 64, "%lld", (long long)whole)};
    }
    if (tw_bson_value_is_number(value)) {
        return (tw_str){scratch, tw_format(scratch, 64, "%.15g", tw_bson_value_double(value))};
    }
    return (tw_str){NULL, 0};
}

void search_date_write(double ms, char out[40])
{
    double limit = 8.64e15;
    int64_t whole = (int64_t)(ms > limit ? limit : ms < -limit ? -limit : ms);
    int64_t day = whole / DAY_MS - (whole % DAY_MS < 0 ? 1 : 0);
    int64_t rest = whole - day * DAY_MS;
    int64_t year;
    unsigned month;
    unsigned mday;
    search_civil_of(day, &year, &month, &mday);
    tw_format(out, 40, "%04lld-%02u-%02uT%02d:%02d:%02d.%03dZ", (long long)year, month, mday,
              (int)(rest / 3600000), (int)(rest / 60000 % 60), (int)(rest / 1000 % 60),
              (int)(rest % 1000));
}
