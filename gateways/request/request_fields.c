/* request_fields.c - the strict validator: what a request may hold, from the tables of
 * request_priv.h and request_actions.c. What it refuses it names, and it says what was likely
 * meant. */
#include "gateways/request/request_priv.h"

typedef struct field_row {
    const char *name;
    size_t name_len;
    request_kind kind;
    uint64_t min;
    uint64_t max;
} field_row;

static const field_row field_rows[FIELDS_COUNT] = {
#define F(field, name, kind, min, max)                                                             \
    [FIELD_##field] = {name, sizeof(name) - 1, kind, (uint64_t)(min), (uint64_t)(max)},
    REQUEST_FIELDS(F)
#undef F
};

enum { NEAREST_MAX = 32, NEAREST_DISTANCE = 2 }; /* longer names are not compared */

tw_str request_action_name(tw_bson asked)
{
    tw_str name = tw_bson_get_str(asked, TW_STR("action"));
    return name.ptr != NULL ? name : tw_bson_get_str(asked, TW_STR("op"));
}

request_shown request_show(tw_str text)
{
    request_shown out;
    size_t len = text.len < TW_SHOWN_INPUT_MAX ? text.len : TW_SHOWN_INPUT_MAX;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        out.text[i] = (char)(c >= 0x20 && c < 0x7f && c != '"' && c != '\\' ? c : '?');
    }
    memcpy(out.text + len, len < text.len ? "..." : "", len < text.len ? 4 : 1);
    return out;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Edits (one letter more, less or other) that make one name of the other, case aside. */
static size_t distance(tw_str a, tw_str b)
{
    size_t row[NEAREST_MAX + 1];
    for (size_t j = 0; j <= b.len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t above = row[j];
            size_t best = diagonal + (lower(a.ptr[i - 1]) == lower(b.ptr[j - 1]) ? 0 : 1);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[b.len];
}

const char *request_nearest(tw_str given, const char *const *names, size_t count)
{
    const char *nearest = NULL;
    size_t least = NEAREST_DISTANCE + 1;
    if (given.len > NEAREST_MAX) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        tw_str name = tw_str_of(names[i]);
        if (name.len > NEAREST_MAX) {
            continue;
        }
        size_t edits = distance(given, name);
        if (edits < least && edits < name.len) { /* not everything is a spelling of "id" */
            least = edits;
            nearest = names[i];
        }
    }
    return nearest;
}

/* All that an action may be given; FIELDS_ANY stays what it is. */
static uint64_t allowed_of(const request_action *action)
{
    uint64_t index = action->search != SEARCH_NONE ? FIELD_BIT(index) : 0;
    return action->allowed | FIELDS_COMMON | index;
}

static tw_err refuse_unknown(const request_action *action, tw_str name, request_why *why)
{
    const char *names[FIELDS_COUNT];
    size_t count = 0;
    for (size_t i = 0; i < FIELDS_COUNT; i++) {
        if ((allowed_of(action) >> i & 1) != 0) {
            names[count++] = field_rows[i].name;
        }
    }
    const char *nearest = request_nearest(name, names, count);
    if (nearest != NULL) {
        tw_format(why->hint, sizeof why->hint, "Did you mean \"%s\"?", nearest);
    }
    return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "%s has no field \"%s\".", action->name,
                         request_show(name).text);
}

static bool is_scalar(uint8_t type)
{
    switch (type) {
    case TW_BSON_DOUBLE:
    case TW_BSON_STRING:
    case TW_BSON_BINARY:
    case TW_BSON_OBJECT_ID:
    case TW_BSON_BOOL:
    case TW_BSON_DATE:
    case TW_BSON_NULL:
    case TW_BSON_INT32:
    case TW_BSON_INT64:
    case TW_BSON_DECIMAL128:
        return true;
    default: /* a byte from outside, not an enum */
        return false;
    }
}

static tw_err check_text(const field_row *row, tw_bson_value value, request_why *why)
{
    tw_str text = tw_bson_value_str(value);
    if (text.ptr == NULL) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "\"%s\" is to be text.", row->name);
    }
    if (row->kind == KIND_NAME && catalog_check_name(text) != TW_OK) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "\"%s\" is not a possible %s.",
                             request_show(text).text, row->name);
    }
    if (text.len < row->min || text.len > row->max || memchr(text.ptr, 0, text.len) != NULL) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE,
                             "\"%s\" is to be text of %llu to %llu bytes.", row->name,
                             (unsigned long long)row->min, (unsigned long long)row->max);
    }
    return TW_OK;
}

static tw_err check_number(const field_row *row, tw_bson_value value, request_why *why)
{
    int64_t number = -1;
    if (!tw_bson_value_i64(value, &number) || number < 0 || (uint64_t)number < row->min ||
        (uint64_t)number > row->max) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE,
                             "\"%s\" is to be a whole number from %llu to %llu.", row->name,
                             (unsigned long long)row->min, (unsigned long long)row->max);
    }
    return TW_OK;
}

static tw_err check_items(const field_row *row, tw_bson_value value, request_why *why)
{
    size_t count = tw_bson_count(tw_bson_value_doc(value));
    if (count < row->min) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "\"%s\" is an empty list.", row->name);
    }
    if (count > row->max) {
        return broker_refuse(&why->why, TW_E_TOO_MANY, "\"%s\" holds at most %llu items, not %zu.",
                             row->name, (unsigned long long)row->max, count);
    }
    return TW_OK;
}

static tw_err check_size(const field_row *row, tw_bson_value value, request_why *why)
{
    if (value.len > row->max) {
        return broker_refuse(&why->why, TW_E_TOO_BIG, "\"%s\" is larger than %llu bytes.",
                             row->name, (unsigned long long)row->max);
    }
    return TW_OK;
}

static tw_err check_value(const field_row *row, tw_bson_value value, request_why *why)
{
    bool list = value.type == TW_BSON_ARRAY;
    bool doc = value.type == TW_BSON_DOCUMENT;
    const char *wanted = NULL;
    switch (row->kind) {
    case KIND_TEXT:
    case KIND_NAME:
        return check_text(row, value, why);
    case KIND_NUMBER:
        return check_number(row, value, why);
    case KIND_BOOL:
        wanted = value.type == TW_BSON_BOOL ? NULL : "true or false";
        break;
    case KIND_DOC:
        wanted = doc ? NULL : "an object";
        break;
    case KIND_LIST:
        wanted = list ? NULL : "a list";
        break;
    case KIND_IDS:
        wanted = list || is_scalar(value.type) ? NULL : "an id or a list of ids";
        break;
    case KIND_QUERY:
        wanted = doc || list || is_scalar(value.type) ? NULL : "a filter, an id or a list of ids";
        break;
    case KIND_TOLD:
        wanted = doc || list || value.type == TW_BSON_STRING ? NULL : "a list of names";
        break;
    case KIND_SCALAR:
        wanted = is_scalar(value.type) ? NULL : "text or a number";
        break;
    case KIND_SEARCH:
        wanted = doc || value.type == TW_BSON_STRING ? NULL : "text, or an object";
        break;
    case KIND_TEXTS:
        wanted = doc || list || value.type == TW_BSON_STRING ? NULL : "text or a list";
        break;
    case KIND_ANY:
        break;
    }
    if (wanted != NULL) {
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "\"%s\" is to be %s.", row->name, wanted);
    }
    if (row->kind == KIND_LIST || (row->kind == KIND_IDS && list)) {
        return check_items(row, value, why);
    }
    if (row->kind == KIND_SCALAR) { /* 4 bytes of length and the NUL of a string are not counted */
        return check_size(&(field_row){row->name, 0, row->kind, 0, row->max + 5}, value, why);
    }
    return row->kind == KIND_BOOL || row->kind == KIND_IDS ? TW_OK : check_size(row, value, why);
}

static size_t field_of(const request_action *action, tw_str name)
{
    uint64_t allowed = allowed_of(action);
    for (size_t i = 0; i < FIELDS_COUNT; i++) {
        if ((allowed >> i & 1) != 0 && field_rows[i].name_len == name.len &&
            memcmp(field_rows[i].name, name.ptr, name.len) == 0) {
            return i;
        }
    }
    return FIELDS_COUNT;
}

/* Names of a set of fields, for an error: "id", "ids" or "query". */
static void name_fields(uint64_t set, char *out, size_t size)
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < FIELDS_COUNT; i++) {
        if ((set >> i & 1) != 0) {
            set &= ~(1ULL << i);
            const char *before = len == 0 ? "" : set == 0 ? " or " : ", ";
            len += tw_format(out + len, size - len, "%s\"%s\"", before, field_rows[i].name);
        }
    }
}

static tw_err check_demands(const request_action *action, const request_given *given,
                            request_why *why)
{
    char names[128];
    uint64_t lacking = action->required & ~given->set;
    if (lacking != 0) {
        name_fields(lacking & (~lacking + 1), names, sizeof names);
        return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "%s needs %s.", action->name, names);
    }
    for (size_t i = 0; i < TW_COUNT(action->one_of); i++) {
        uint64_t set = action->one_of[i];
        uint64_t found = given->set & set;
        if (set != 0 && (found == 0 || (found & (found - 1)) != 0)) {
            name_fields(set, names, sizeof names);
            return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "%s needs one of %s%s.", action->name,
                                 names, found == 0 ? "" : ", and only one");
        }
    }
    return TW_OK;
}

tw_err request_fields_read(const request_action *action, tw_bson asked, request_given *out,
                           request_why *why)
{
    memset(out, 0, sizeof *out);
    tw_bson_iter iter;
    tw_err err = TW_OK;
    tw_bson_iter_init(&iter, asked);
    while (err == TW_OK && tw_bson_iter_next(&iter)) {
        size_t field = field_of(action, iter.name);
        if (field == FIELDS_COUNT) {
            if (action->allowed != FIELDS_ANY) {
                return refuse_unknown(action, iter.name, why);
            }
            continue;
        }
        if ((out->set >> field & 1) != 0) {
            if (action->allowed == FIELDS_ANY) {
                continue; /* one name, two meanings: not looked at */
            }
            return broker_refuse(&why->why, TW_E_BAD_MESSAGE, "\"%s\" is given twice.",
                                 field_rows[field].name);
        }
        if (action->allowed != FIELDS_ANY || (FIELDS_COMMON >> field & 1) != 0) {
            err = check_value(&field_rows[field], iter.value, why);
        }
        out->at[field] = iter.value;
        out->set |= 1ULL << field;
    }
    return err == TW_OK ? check_demands(action, out, why) : err;
}
