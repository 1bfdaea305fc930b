/* query_compile.c - from a filter's BSON to nodes; every refusal names the clause and its path.
 *
 * Two sets of bounds: those that a client's own filter must keep (query_compile), and wider ones
 * for what the server joins in front of it (query_compile_joined). */
#include <math.h>

#include "broker/query_priv.h"

typedef struct compiler {
    query_node nodes[QUERY_NODES_CEILING];
    uint16_t count;
    uint16_t nodes_max;
    int depth_max;
    broker_why *why;
} compiler;

/* One operator inside {path: {$op: value}}; its nodes go under parent. */
typedef tw_err (*parse_operator)(compiler *self, uint16_t parent, tw_str path, query_kind kind,
                                 tw_bson_value value, int depth);

static tw_err refuse(compiler *self, tw_str path, const char *what)
{
    char shown[BROKER_SHOWN_MAX];
    TW_ASSERT(self != NULL);
    TW_ASSERT(what != NULL);
    return broker_refuse(self->why, TW_E_BAD_FILTER, "at \"%s\": %s", broker_show(path, shown),
                         what);
}

static tw_err refuse_operator(compiler *self, tw_str path, tw_str name)
{
    char shown[BROKER_SHOWN_MAX];
    char shown_name[BROKER_SHOWN_MAX];
    TW_ASSERT(self != NULL);
    TW_ASSERT(name.ptr != NULL || name.len == 0);
    return broker_refuse(self->why, TW_E_BAD_FILTER, "at \"%s\": %s is not supported",
                         broker_show(path, shown), broker_show(name, shown_name));
}

static bool begins_with_dollar(tw_str name)
{
    return name.len > 0 && name.ptr[0] == '$';
}

/* {$op: ...}: a document whose first name is an operator. */
static bool is_operators(tw_bson_value value)
{
    tw_bson_iter iter;
    if (value.type != TW_BSON_DOCUMENT) {
        return false;
    }
    tw_bson_iter_init(&iter, tw_bson_value_doc(value));
    return tw_bson_iter_next(&iter) && begins_with_dollar(iter.name);
}

/* Puts a node under parent (QUERY_NONE: under none). */
static tw_err add_node(compiler *self, uint16_t parent, query_node node, uint16_t *out)
{
    TW_ASSERT(self->count <= self->nodes_max);
    TW_ASSERT(parent == QUERY_NONE || parent < self->count);
    if (self->count == self->nodes_max) {
        return broker_refuse(self->why, TW_E_BAD_FILTER, "the filter has over %d clauses",
                             TW_FILTER_NODES_MAX);
    }
    uint16_t at = self->count++;
    node.first = QUERY_NONE;
    node.last = QUERY_NONE;
    node.next = QUERY_NONE;
    self->nodes[at] = node;
    if (parent != QUERY_NONE) {
        query_node *above = &self->nodes[parent];
        if (above->last == QUERY_NONE) {
            above->first = at;
        } else {
            self->nodes[above->last].next = at;
        }
        above->last = at;
    }
    if (out != NULL) {
        *out = at;
    }
    return TW_OK;
}

static tw_err add_negation(compiler *self, uint16_t parent, tw_str path, uint16_t *out)
{
    TW_ASSERT(out != NULL);
    return add_node(self, parent, (query_node){.kind = QUERY_NOT, .path = path}, out);
}

/* value: the BSON regex that it came from, or type 0. */
static tw_err add_regex(compiler *self, uint16_t parent, tw_str path, tw_bson_value value,
                        tw_str pattern, tw_str options)
{
    uint16_t at;
    tw_err err = add_node(self, parent,
                          (query_node){.kind = QUERY_REGEX, .path = path, .value = value}, &at);
    if (err != TW_OK) {
        return err;
    }
    broker_why inner = {0};
    err = regex_new(pattern, options, &self->nodes[at].regex, &inner);
    if (err == TW_E_BAD_FILTER) {
        return refuse(self, path, inner.text);
    }
    TW_ASSERT((err == TW_OK) == (self->nodes[at].regex != NULL));
    return err;
}

/* The two texts of a BSON regex. */
static void split_regex(tw_bson_value value, tw_str *pattern, tw_str *options)
{
    TW_ASSERT(value.type == TW_BSON_REGEX);
    const char *text = (const char *)value.ptr;
    *pattern = (tw_str){text, strnlen(text, value.len)};
    size_t behind = pattern->len < value.len ? pattern->len + 1 : value.len;
    *options = (tw_str){text + behind, strnlen(text + behind, value.len - behind)};
    TW_ASSERT(pattern->len + options->len <= value.len);
}

static tw_err add_regex_value(compiler *self, uint16_t parent, tw_str path, tw_bson_value value)
{
    tw_str pattern;
    tw_str options;
    TW_ASSERT(value.type == TW_BSON_REGEX);
    split_regex(value, &pattern, &options);
    return add_regex(self, parent, path, value, pattern, options);
}

/* ---- operators ---- */

static tw_err parse_compare(compiler *self, uint16_t parent, tw_str path, query_kind kind,
                            tw_bson_value value, int depth)
{
    (void)depth;
    TW_ASSERT(kind >= QUERY_EQ && kind <= QUERY_LTE);
    if (value.type == TW_BSON_UNDEFINED) {
        return refuse(self, path, "undefined cannot be compared to");
    }
    if (value.type == TW_BSON_REGEX && kind != QUERY_EQ) {
        return refuse(self, path, "a regular expression has no order");
    }
    return add_node(self, parent, (query_node){.kind = (uint8_t)kind, .path = path, .value = value},
                    NULL);
}

static tw_err parse_ne(compiler *self, uint16_t parent, tw_str path, query_kind kind,
                       tw_bson_value value, int depth)
{
    uint16_t negation;
    if (value.type == TW_BSON_REGEX) {
        return refuse(self, path, "$ne takes no regular expression; use $not");
    }
    tw_err err = add_negation(self, parent, path, &negation);
    return err != TW_OK ? err : parse_compare(self, negation, path, kind, value, depth);
}

static tw_err parse_in(compiler *self, uint16_t parent, tw_str path, query_kind kind,
                       tw_bson_value value, int depth)
{
    uint16_t at;
    (void)depth;
    TW_ASSERT(kind == QUERY_IN);
    if (value.type != TW_BSON_ARRAY) {
        return refuse(self, path, "$in and $nin need an array");
    }
    if (tw_bson_count(tw_bson_value_doc(value)) > TW_FILTER_IN_MAX) {
        return refuse(self, path, "too many values in $in or $nin");
    }
    tw_err err =
        add_node(self, parent, (query_node){.kind = QUERY_IN, .path = path, .value = value}, &at);
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value));
         err == TW_OK && tw_bson_iter_next(&iter);) {
        if (iter.value.type == TW_BSON_REGEX) {
            err = add_regex_value(self, at, path, iter.value);
        } else if (is_operators(iter.value) || iter.value.type == TW_BSON_UNDEFINED) {
            err = refuse(self, path, "$in and $nin take plain values");
        }
    }
    return err;
}

static tw_err parse_nin(compiler *self, uint16_t parent, tw_str path, query_kind kind,
                        tw_bson_value value, int depth)
{
    uint16_t negation;
    tw_err err = add_negation(self, parent, path, &negation);
    return err != TW_OK ? err : parse_in(self, negation, path, kind, value, depth);
}

static tw_err parse_exists(compiler *self, uint16_t parent, tw_str path, query_kind kind,
                           tw_bson_value value, int depth)
{
    (void)depth;
    TW_ASSERT(kind == QUERY_EXISTS);
    bool wanted = tw_bson_value_bool_or(value, value.type != TW_BSON_NULL);
    if (!wanted) {
        tw_err err = add_negation(self, parent, path, &parent);
        if (err != TW_OK) {
            return err;
        }
    }
    return add_node(self, parent, (query_node){.kind = QUERY_EXISTS, .path = path}, NULL);
}

static uint32_t type_bits(tw_bson_value value)
{
    static const struct {
        const char *name;
        uint8_t type;
    } names[] = {
        {"double", TW_BSON_DOUBLE},       {"string", TW_BSON_STRING},
        {"object", TW_BSON_DOCUMENT},     {"array", TW_BSON_ARRAY},
        {"binData", TW_BSON_BINARY},      {"undefined", TW_BSON_UNDEFINED},
        {"objectId", TW_BSON_OBJECT_ID},  {"bool", TW_BSON_BOOL},
        {"date", TW_BSON_DATE},           {"null", TW_BSON_NULL},
        {"regex", TW_BSON_REGEX},         {"dbPointer", TW_BSON_DBPOINTER},
        {"javascript", TW_BSON_CODE},     {"symbol", TW_BSON_SYMBOL},
        {"int", TW_BSON_INT32},           {"javascriptWithScope", TW_BSON_CODE_SCOPE},
        {"timestamp", TW_BSON_TIMESTAMP}, {"long", TW_BSON_INT64},
        {"decimal", TW_BSON_DECIMAL128},  {"minKey", TW_BSON_MIN_KEY},
        {"maxKey", TW_BSON_MAX_KEY},
    };
    int64_t number;
    if (tw_bson_value_i64(value, &number)) {
        if (number == -1) {
            return query_type_bit(TW_BSON_MIN_KEY);
        }
        return number > 0 && number <= TW_BSON_MAX_KEY ? query_type_bit((uint8_t)number) : 0;
    }
    tw_str text = tw_bson_value_str(value);
    if (text.ptr != NULL && tw_str_equal(text, TW_STR("number"))) {
        return query_type_bit(TW_BSON_DOUBLE) | query_type_bit(TW_BSON_INT32) |
               query_type_bit(TW_BSON_INT64) | query_type_bit(TW_BSON_DECIMAL128);
    }
    for (size_t i = 0; text.ptr != NULL && i < TW_COUNT(names); i++) {
        if (tw_str_equal(text, tw_str_of(names[i].name))) {
            return query_type_bit(names[i].type);
        }
    }
    return 0;
}

static tw_err parse_type(compiler *self, uint16_t parent, tw_str path, query_kind kind,
                         tw_bson_value value, int depth)
{
    (void)depth;
    TW_ASSERT(kind == QUERY_TYPE);
    uint32_t types = 0;
    if (value.type == TW_BSON_ARRAY) {
        tw_bson_iter iter;
        for (tw_bson_iter_init(&iter, tw_bson_value_doc(value)); tw_bson_iter_next(&iter);) {
            uint32_t bits = type_bits(iter.value);
            if (bits == 0) {
                return refuse(self, path, "$type names an unknown type");
            }
            types |= bits;
        }
    } else {
        types = type_bits(value);
    }
    if (types == 0) {
        return refuse(self, path, "$type needs the name or number of a type, or a list of them");
    }
    return add_node(self, parent, (query_node){.kind = QUERY_TYPE, .path = path, .types = types},
                    NULL);
}

static tw_err parse_size(compiler *self, uint16_t parent, tw_str path, query_kind kind,
                         tw_bson_value value, int depth)
{
    int64_t size;
    (void)depth;
    TW_ASSERT(kind == QUERY_SIZE);
    if (!tw_bson_value_i64(value, &size) || size < 0) {
        return refuse(self, path, "$size needs a whole number, 0 or more");
    }
    return add_node(self, parent, (query_node){.kind = QUERY_SIZE, .path = path, .size = size},
                    NULL);
}

static tw_err parse_document(compiler *self, uint16_t parent, tw_bson doc, int depth);
static tw_err parse_operators(compiler *self, uint16_t parent, tw_str path, tw_bson doc, int depth);

static tw_err check_depth(compiler *self, tw_str path, int depth)
{
    TW_ASSERT(depth >= 0);
    return depth > self->depth_max ? refuse(self, path, "the filter is nested too deeply") : TW_OK;
}

static tw_err parse_elem_match(compiler *self, uint16_t parent, tw_str path, query_kind kind,
                               tw_bson_value value, int depth)
{
    static const char *const of_documents[] = {"$and", "$or", "$nor"};
    TW_ASSERT(kind == QUERY_ELEM_FIELDS);
    if (value.type != TW_BSON_DOCUMENT) {
        return refuse(self, path, "$elemMatch needs a document");
    }
    tw_bson inner = tw_bson_value_doc(value);
    bool values = is_operators(value);
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, inner);
    if (values && tw_bson_iter_next(&iter)) {
        for (size_t i = 0; i < TW_COUNT(of_documents); i++) {
            values = values && !tw_str_equal(iter.name, tw_str_of(of_documents[i]));
        }
    }
    uint16_t at;
    uint16_t all;
    query_kind found = values ? QUERY_ELEM_VALUE : QUERY_ELEM_FIELDS;
    tw_err err = check_depth(self, path, depth + 1);
    if (err == TW_OK) {
        err = add_node(self, parent, (query_node){.kind = (uint8_t)found, .path = path}, &at);
    }
    if (err == TW_OK) {
        err = add_node(self, at, (query_node){.kind = QUERY_AND}, &all);
    }
    if (err != TW_OK) {
        return err;
    }
    return values ? parse_operators(self, all, path, inner, depth + 1)
                  : parse_document(self, all, inner, depth + 1);
}

static tw_err parse_all(compiler *self, uint16_t parent, tw_str path, query_kind kind,
                        tw_bson_value value, int depth)
{
    TW_ASSERT(kind == QUERY_EQ);
    if (value.type != TW_BSON_ARRAY) {
        return refuse(self, path, "$all needs an array");
    }
    tw_bson list = tw_bson_value_doc(value);
    size_t count = tw_bson_count(list);
    if (count > TW_FILTER_IN_MAX) {
        return refuse(self, path, "too many values in $all");
    }
    if (count == 0) {
        return add_node(self, parent, (query_node){.kind = QUERY_NOTHING, .path = path}, NULL);
    }
    size_t of_elements = 0;
    tw_err err = TW_OK;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, list); err == TW_OK && tw_bson_iter_next(&iter);) {
        if (is_operators(iter.value)) {
            tw_bson_value inner = tw_bson_get(tw_bson_value_doc(iter.value), TW_STR("$elemMatch"));
            if (inner.type == 0 || tw_bson_count(tw_bson_value_doc(iter.value)) != 1) {
                return refuse(self, path, "$all takes plain values or $elemMatch");
            }
            of_elements++;
            err = parse_elem_match(self, parent, path, QUERY_ELEM_FIELDS, inner, depth);
        } else if (iter.value.type == TW_BSON_REGEX) {
            err = add_regex_value(self, parent, path, iter.value);
        } else {
            err = parse_compare(self, parent, path, QUERY_EQ, iter.value, depth);
        }
    }
    if (err == TW_OK && of_elements != 0 && of_elements != count) {
        return refuse(self, path, "$all takes plain values or $elemMatch, not both");
    }
    return err;
}

static tw_err parse_not(compiler *self, uint16_t parent, tw_str path, query_kind kind,
                        tw_bson_value value, int depth)
{
    uint16_t negation;
    uint16_t all;
    TW_ASSERT(kind == QUERY_NOT);
    tw_err err = check_depth(self, path, depth + 1);
    if (err == TW_OK) {
        err = add_negation(self, parent, path, &negation);
    }
    if (err != TW_OK) {
        return err;
    }
    if (value.type == TW_BSON_REGEX) {
        return add_regex_value(self, negation, path, value);
    }
    if (!is_operators(value)) {
        return refuse(self, path, "$not needs operators or a regular expression");
    }
    err = add_node(self, negation, (query_node){.kind = QUERY_AND}, &all);
    return err != TW_OK ? err
                        : parse_operators(self, all, path, tw_bson_value_doc(value), depth + 1);
}

/* $regex with the $options beside it. */
static tw_err parse_regex(compiler *self, uint16_t parent, tw_str path, tw_bson siblings)
{
    tw_bson_value given = tw_bson_get(siblings, TW_STR("$regex"));
    tw_bson_value options = tw_bson_get(siblings, TW_STR("$options"));
    tw_str pattern = tw_bson_value_str(given);
    tw_str letters = TW_STR("");
    TW_ASSERT(self != NULL);
    if (given.type == TW_BSON_REGEX) {
        split_regex(given, &pattern, &letters);
        if (options.type != 0 && letters.len > 0) {
            return refuse(self, path, "options stand both in $regex and in $options");
        }
    } else if (pattern.ptr == NULL) {
        return refuse(self, path, "$regex needs a text");
    }
    if (options.type != 0) {
        letters = tw_bson_value_str(options);
        if (letters.ptr == NULL) {
            return refuse(self, path, "$options needs a text");
        }
    }
    return add_regex(self, parent, path, (tw_bson_value){0}, pattern, letters);
}

static const struct {
    const char *name;
    parse_operator parse;
    query_kind kind;
} operators[] = {
    {"$eq", parse_compare, QUERY_EQ},
    {"$ne", parse_ne, QUERY_EQ},
    {"$gt", parse_compare, QUERY_GT},
    {"$gte", parse_compare, QUERY_GTE},
    {"$lt", parse_compare, QUERY_LT},
    {"$lte", parse_compare, QUERY_LTE},
    {"$in", parse_in, QUERY_IN},
    {"$nin", parse_nin, QUERY_IN},
    {"$exists", parse_exists, QUERY_EXISTS},
    {"$type", parse_type, QUERY_TYPE},
    {"$size", parse_size, QUERY_SIZE},
    {"$all", parse_all, QUERY_EQ},
    {"$not", parse_not, QUERY_NOT},
    {"$elemMatch", parse_elem_match, QUERY_ELEM_FIELDS},
};

static tw_err parse_one(compiler *self, uint16_t parent, tw_str path, tw_str name,
                        tw_bson_value value, int depth)
{
    TW_ASSERT(parent < self->count);
    for (size_t i = 0; i < TW_COUNT(operators); i++) {
        if (tw_str_equal(name, tw_str_of(operators[i].name))) {
            return operators[i].parse(self, parent, path, operators[i].kind, value, depth);
        }
    }
    return refuse_operator(self, path, name);
}

/* {$op: value, ...} at a path. */
static tw_err parse_operators(compiler *self, uint16_t parent, tw_str path, tw_bson doc, int depth)
{
    tw_err err = TW_OK;
    tw_bson_iter iter;
    TW_ASSERT(parent < self->count);
    TW_ASSERT(doc.len > 0);
    for (tw_bson_iter_init(&iter, doc); err == TW_OK && tw_bson_iter_next(&iter);) {
        if (tw_str_equal(iter.name, TW_STR("$regex"))) {
            err = parse_regex(self, parent, path, doc);
        } else if (tw_str_equal(iter.name, TW_STR("$options"))) {
            if (tw_bson_get(doc, TW_STR("$regex")).type == 0) {
                err = refuse(self, path, "$options without $regex");
            }
        } else {
            err = parse_one(self, parent, path, iter.name, iter.value, depth);
        }
    }
    return err;
}

/* ---- documents ---- */

static tw_err parse_logical(compiler *self, uint16_t parent, tw_str name, query_kind kind,
                            tw_bson_value value, int depth)
{
    uint16_t at;
    TW_ASSERT(kind == QUERY_AND || kind == QUERY_OR || kind == QUERY_NOR);
    tw_bson list = tw_bson_value_doc(value);
    if (value.type != TW_BSON_ARRAY || tw_bson_count(list) == 0) {
        return refuse(self, name, "needs an array that is not empty");
    }
    tw_err err = check_depth(self, name, depth + 1);
    if (err == TW_OK) {
        err = add_node(self, parent, (query_node){.kind = (uint8_t)kind}, &at);
    }
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, list); err == TW_OK && tw_bson_iter_next(&iter);) {
        if (iter.value.type != TW_BSON_DOCUMENT) {
            return refuse(self, name, "needs documents");
        }
        uint16_t under = at;
        if (kind != QUERY_AND) { /* and inside and is one and */
            err = add_node(self, at, (query_node){.kind = QUERY_AND}, &under);
        }
        if (err == TW_OK) {
            err = parse_document(self, under, tw_bson_value_doc(iter.value), depth + 1);
        }
    }
    return err;
}

static tw_err parse_field(compiler *self, uint16_t parent, tw_str path, tw_bson_value value,
                          int depth)
{
    TW_ASSERT(parent < self->count);
    TW_ASSERT(value.type != 0);
    if (value.type == TW_BSON_REGEX) {
        return add_regex_value(self, parent, path, value);
    }
    if (is_operators(value)) {
        return parse_operators(self, parent, path, tw_bson_value_doc(value), depth);
    }
    return parse_compare(self, parent, path, QUERY_EQ, value, depth);
}

static tw_err parse_document(compiler *self, uint16_t parent, tw_bson doc, int depth)
{
    static const struct {
        const char *name;
        query_kind kind;
    } logical[] = {{"$and", QUERY_AND}, {"$or", QUERY_OR}, {"$nor", QUERY_NOR}};
    tw_err err = TW_OK;
    tw_bson_iter iter;
    TW_ASSERT(parent < self->count);
    TW_ASSERT(depth <= self->depth_max);
    for (tw_bson_iter_init(&iter, doc); err == TW_OK && tw_bson_iter_next(&iter);) {
        if (!begins_with_dollar(iter.name)) {
            err = parse_field(self, parent, iter.name, iter.value, depth);
            continue;
        }
        err = TW_E_UNKNOWN;
        for (size_t i = 0; i < TW_COUNT(logical); i++) {
            if (tw_str_equal(iter.name, tw_str_of(logical[i].name))) {
                err = parse_logical(self, parent, iter.name, logical[i].kind, iter.value, depth);
            }
        }
        if (err == TW_E_UNKNOWN) {
            err = refuse_operator(self, TW_STR(""), iter.name);
        }
    }
    return err;
}

/* ---- equalities ---- */

/* A value that every equal value has the same key as. Decimals are left out: their equals may be
 * spelled in many ways. */
static bool is_indexable(tw_bson_value value)
{
    switch (value.type) {
    case TW_BSON_DOUBLE:
        return !isnan(tw_bson_value_double(value));
    case TW_BSON_STRING:
    case TW_BSON_OBJECT_ID:
    case TW_BSON_BOOL:
    case TW_BSON_DATE:
    case TW_BSON_INT32:
    case TW_BSON_INT64:
        return true;
    default:
        return false;
    }
}

/* Collects the equalities under an AND; keys live in arena until query_finish copies them. */
static tw_err collect_equalities(const compiler *self, uint16_t at, tw_arena *arena,
                                 query_equality *out, uint16_t *count)
{
    TW_ASSERT(at < self->count);
    TW_ASSERT(*count <= QUERY_NODES_CEILING);
    const query_node *node = &self->nodes[at];
    if (node->kind == QUERY_AND) {
        for (uint16_t i = node->first; i != QUERY_NONE; i = self->nodes[i].next) {
            tw_err err = collect_equalities(self, i, arena, out, count);
            if (err != TW_OK) {
                return err;
            }
        }
        return TW_OK;
    }
    if (node->kind != QUERY_EQ || !is_indexable(node->value)) {
        return TW_OK;
    }
    tw_key key;
    tw_err err = tw_key_of_value(arena, node->value, &key);
    if (err == TW_OK) {
        out[(*count)++] = (query_equality){.path = node->path, .value = key};
    }
    return err == TW_E_NO_MEMORY ? err : TW_OK; /* too long for a key: not for an index */
}

/* ---- the whole ---- */

/* Moves what was compiled into memory of its right size. */
static tw_err finish(const compiler *self, uint8_t *filter, query **out)
{
    TW_ASSERT(self->count > 0);
    query_equality found[QUERY_NODES_CEILING];
    uint16_t count = 0;
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    tw_err err = collect_equalities(self, 0, &arena, found, &count);
    size_t keys_len = 0;
    for (uint16_t i = 0; i < count; i++) {
        keys_len += found[i].value.len;
    }
    size_t nodes_len = self->count * sizeof(query_node);
    size_t equalities_len = count * sizeof(query_equality);
    query *made = NULL;
    if (err == TW_OK) {
        /* one piece: the widest alignment first */
        made = tw_alloc(sizeof *made + sizeof(atomic_uint_fast64_t) + nodes_len + equalities_len +
                        keys_len);
        err = made == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    if (err == TW_OK) {
        uint8_t *at = (uint8_t *)(made + 1);
        *made =
            (query){.magic = QUERY_MAGIC, .nodes_count = self->count, .equalities_count = count};
        made->filter = filter;
        made->costly = (atomic_uint_fast64_t *)(void *)at;
        atomic_init(made->costly, 0);
        at += sizeof(atomic_uint_fast64_t);
        made->nodes = memcpy(at, self->nodes, nodes_len);
        at += nodes_len;
        made->equalities = (query_equality *)(void *)at;
        made->keys = at + equalities_len;
        at = made->keys;
        for (uint16_t i = 0; i < count; i++) {
            memcpy(at, found[i].value.ptr, found[i].value.len);
            made->equalities[i] =
                (query_equality){.path = found[i].path, .value = {at, found[i].value.len}};
            at += found[i].value.len;
        }
        *out = made;
    }
    tw_arena_fini(&arena);
    return err;
}

static void free_regexes(query_node *nodes, size_t count)
{
    TW_ASSERT(nodes != NULL);
    for (size_t i = 0; i < count; i++) {
        regex_free(&nodes[i].regex);
    }
}

static tw_err compile_filter(tw_bson filter, compiler *self, query **out)
{
    static const uint8_t empty[5] = {5, 0, 0, 0, 0};
    TW_ASSERT(out != NULL);
    TW_ASSERT(self->count == 0);
    *out = NULL;
    if (filter.len == 0) {
        filter = (tw_bson){empty, sizeof empty};
    }
    uint8_t *copy = tw_alloc(filter.len);
    if (copy == NULL) {
        return TW_E_NO_MEMORY;
    }
    memcpy(copy, filter.ptr, filter.len);
    tw_err err = add_node(self, QUERY_NONE, (query_node){.kind = QUERY_AND}, NULL);
    if (err == TW_OK) {
        err = parse_document(self, 0, (tw_bson){copy, filter.len}, 0);
    }
    if (err == TW_OK) {
        err = finish(self, copy, out);
    }
    if (err != TW_OK) {
        free_regexes(self->nodes, self->count);
        tw_free(copy);
    }
    return err;
}

tw_err query_compile(tw_bson filter, query **out, broker_why *why)
{
    TW_ASSERT(out != NULL);
    TW_ASSERT(filter.ptr != NULL || filter.len == 0);
    *out = NULL;
    if (filter.len > TW_QUERY_MAX) {
        return broker_refuse(why, TW_E_BAD_FILTER, "the filter has over %d bytes", TW_QUERY_MAX);
    }
    compiler self;
    self.count = 0;
    self.nodes_max = TW_FILTER_NODES_MAX + 1; /* the root is no clause */
    self.depth_max = TW_FILTER_DEPTH_MAX;
    self.why = why;
    return compile_filter(filter, &self, out);
}

tw_err query_compile_joined(tw_bson filter, query **out, broker_why *why)
{
    TW_ASSERT(out != NULL);
    TW_ASSERT(filter.ptr != NULL || filter.len == 0);
    *out = NULL;
    if (filter.len > TW_TOPIC_QUERY_MAX) {
        return broker_refuse(why, TW_E_BAD_FILTER, "the filter has over %d bytes",
                             TW_TOPIC_QUERY_MAX);
    }
    compiler self;
    self.count = 0;
    self.nodes_max = QUERY_NODES_CEILING;
    self.depth_max = QUERY_DEPTH_CEILING;
    self.why = why;
    return compile_filter(filter, &self, out);
}

void query_free(query **self)
{
    TW_ASSERT(self != NULL);
    if (*self == NULL) {
        return;
    }
    TW_ASSERT((*self)->magic == QUERY_MAGIC);
    free_regexes((*self)->nodes, (*self)->nodes_count);
    tw_free((*self)->filter);
    (*self)->magic = 0;
    tw_free(*self);
    *self = NULL;
}
