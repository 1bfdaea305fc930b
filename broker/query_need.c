/* query_need.c - what a filter demands of the documents that match it: addresses for an index.
 *
 * Under $and the cheapest child's needs are enough, under $or those of all children together.
 * Bounds on both sides of a path are one range, also where an array may meet them by two elements:
 * a range is met by one value not below it and one not above it.
 * What $elemMatch asks of fields is asked of the whole path. An array inside the array counts there
 * as a document of its indices, where the whole path does not lead: so that is a need of its own.
 * A negation turns $and into $or and a bound into that of the other side, or no value of its
 * bracket at all. Other negated leaves demand nothing that an index could find; query_vetoes_of
 * tells what they exclude. Inside $elemMatch no negation does: other elements may stand beside. */
#include "protocol/limits.h"

#include "broker/query_priv.h"

typedef struct chooser {
    const query *query;
    tw_arena *arena;
    query_need_cost cost;
    void *context;
    tw_err err;
} chooser;

/* Where in the filter: what stands before paths, whether elements are asked, not documents, and
 * whether an odd number of negations stands above. */
typedef struct place {
    tw_str prefix;
    bool of_elements;
    bool is_negated;
} place;

static query_needs needs_of(chooser *self, uint16_t at, place in);

static tw_str join_path(chooser *self, tw_str prefix, tw_str path)
{
    if (prefix.len == 0) {
        return path;
    }
    char *joined = tw_arena_alloc(self->arena, prefix.len + 1 + path.len);
    if (joined == NULL) {
        self->err = TW_E_NO_MEMORY;
        return prefix;
    }
    memcpy(joined, prefix.ptr, prefix.len);
    joined[prefix.len] = '.';
    if (path.len > 0) {
        memcpy(joined + prefix.len + 1, path.ptr, path.len);
    }
    return (tw_str){joined, prefix.len + 1 + path.len};
}

/* Adds to an address; false: it is none then. */
static bool add_need(chooser *self, query_needs *to, query_need need)
{
    size_t cost = self->cost == NULL ? 0 : self->cost(self->context, &need);
    if (self->err != TW_OK || cost == SIZE_MAX || to->count == TW_TOPIC_NEEDS_MAX) {
        return false;
    }
    if ((to->count & (to->count + 1)) == 0 || to->count == 0) { /* room is 1, 3, 7 ... */
        query_need *grown = tw_arena_alloc(self->arena, (2 * to->count + 1) * sizeof *grown);
        if (grown == NULL) {
            self->err = TW_E_NO_MEMORY;
            return false;
        }
        if (to->count > 0) {
            memcpy(grown, to->at, to->count * sizeof *grown);
        }
        to->at = grown;
    }
    to->at[to->count++] = need;
    to->cost = to->cost + cost < to->cost ? SIZE_MAX : to->cost + cost;
    return true;
}

static bool is_ordered(tw_bson_value value)
{
    switch (value.type) {
    case TW_BSON_DOUBLE:
    case TW_BSON_INT32:
    case TW_BSON_INT64:
    case TW_BSON_DECIMAL128:
    case TW_BSON_STRING:
    case TW_BSON_SYMBOL:
    case TW_BSON_OBJECT_ID:
    case TW_BSON_BOOL:
    case TW_BSON_DATE:
    case TW_BSON_TIMESTAMP:
        return true;
    default:
        return false;
    }
}

static query_need need_of_equality(tw_str path, tw_bson_value value)
{
    int64_t whole;
    query_need need = {.kind = QUERY_NEED_VALUE, .path = path, .value = value};
    switch (value.type) {
    case TW_BSON_DOUBLE: /* one that is not whole, or too large, is a range of one point */
    case TW_BSON_DECIMAL128:
        if (!tw_bson_value_i64(value, &whole)) {
            need.kind = QUERY_NEED_RANGE;
            need.low = value;
            need.high = value;
        }
        break;
    case TW_BSON_MIN_KEY:
    case TW_BSON_MAX_KEY:
    case TW_BSON_DOCUMENT:
    case TW_BSON_ARRAY:
    case TW_BSON_CODE_SCOPE:
        need.kind = QUERY_NEED_TYPE;
        need.type = value.type;
        break;
    default:
        break;
    }
    return need;
}

/* $gt and its kin alone, or with one for the other side; false: no need. */
static bool need_of_order(tw_str path, const query_node *node, query_need *out)
{
    bool is_low = node->kind == QUERY_GT || node->kind == QUERY_GTE;
    bool may_equal = node->kind == QUERY_GTE || node->kind == QUERY_LTE;
    *out = (query_need){.kind = QUERY_NEED_RANGE, .path = path, .value = node->value};
    if (is_ordered(node->value)) {
        out->low = is_low ? node->value : (tw_bson_value){0};
        out->high = is_low ? (tw_bson_value){0} : node->value;
        return true;
    }
    switch (node->value.type) {
    case TW_BSON_NULL:
        out->kind = QUERY_NEED_VALUE;
        return may_equal;
    case TW_BSON_MIN_KEY: /* every value has an order to these */
    case TW_BSON_MAX_KEY:
        return false;
    default: /* brackets of one type */
        out->kind = QUERY_NEED_TYPE;
        out->type = node->value.type;
        return true;
    }
}

static bool add_regex(chooser *self, tw_str path, const query_node *node, query_needs *to)
{
    regex_literals *found = tw_arena_alloc(self->arena, sizeof *found);
    if (found == NULL) {
        self->err = TW_E_NO_MEMORY;
        return false;
    }
    if (!regex_literals_of(node->regex, found)) {
        return false;
    }
    bool added = true;
    for (size_t i = 0; i < found->count && added; i++) {
        added = add_need(self, to,
                         (query_need){.kind = QUERY_NEED_TEXT,
                                      .path = path,
                                      .literal = {found->at[i], found->len[i]}});
    }
    if (added && node->value.type == TW_BSON_REGEX) { /* it equals itself */
        added = add_need(self, to, need_of_equality(path, node->value));
    }
    return added;
}

static bool add_in(chooser *self, tw_str path, const query_node *node, query_needs *to)
{
    tw_bson_iter iter;
    bool added = true;
    TW_ASSERT(node->kind == QUERY_IN);
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(node->value));
         added && tw_bson_iter_next(&iter);) {
        added = iter.value.type == TW_BSON_REGEX ||
                add_need(self, to, need_of_equality(path, iter.value));
    }
    for (uint16_t i = node->first; added && i != QUERY_NONE; i = self->query->nodes[i].next) {
        added = add_regex(self, path, &self->query->nodes[i], to);
    }
    return added;
}

static bool add_types(chooser *self, tw_str path, uint32_t types, query_needs *to)
{
    static const uint8_t beyond[] = {TW_BSON_MIN_KEY, TW_BSON_MAX_KEY};
    bool added = true;
    TW_ASSERT(types != 0);
    for (uint8_t type = 1; type <= TW_BSON_DECIMAL128 + TW_COUNT(beyond) && added; type++) {
        uint8_t at = type <= TW_BSON_DECIMAL128 ? type : beyond[type - TW_BSON_DECIMAL128 - 1];
        if ((query_type_bit(at) & types) != 0) {
            added =
                add_need(self, to, (query_need){.kind = QUERY_NEED_TYPE, .path = path, .type = at});
        }
    }
    return added;
}

/* True where the last name of a path may be an index: then elements of an array there are not
 * visited. */
static bool ends_in_index(tw_str path)
{
    size_t at = path.len;
    while (at > 0 && path.ptr[at - 1] != '.') {
        at--;
    }
    return at < path.len && path.ptr[at] >= '0' && path.ptr[at] <= '9';
}

static bool add_elements(chooser *self, tw_str path, const query_node *node, place in,
                         query_needs *to)
{
    bool of_fields = node->kind == QUERY_ELEM_FIELDS;
    if (!in.of_elements && (of_fields || !ends_in_index(path))) {
        place inside = {.prefix = of_fields ? path : in.prefix, .of_elements = !of_fields};
        *to = needs_of(self, node->first, inside);
        query_need nested = {.kind = QUERY_NEED_NESTED, .path = path};
        if (to->count > 0 && (!of_fields || add_need(self, to, nested))) {
            return true;
        }
        *to = (query_needs){0};
    }
    return add_need(self, to,
                    (query_need){.kind = QUERY_NEED_TYPE, .path = path, .type = TW_BSON_ARRAY});
}

/* What a leaf demands that must not hold: all values beyond its bound, or none of its bracket. */
static query_needs needs_of_negated(chooser *self, const query_node *node, place in)
{
    query_needs found = {0};
    query_need need = {.kind = QUERY_NEED_ABSENT, .path = node->path};
    bool added = false;
    bool is_order = node->kind >= QUERY_GT && node->kind <= QUERY_LTE;
    if (in.of_elements || in.prefix.len > 0) {
        return found;
    }
    if (is_order && is_ordered(node->value)) {
        bool was_low = node->kind == QUERY_GT || node->kind == QUERY_GTE;
        query_need beyond = {.kind = QUERY_NEED_RANGE, .path = node->path};
        beyond.low = was_low ? (tw_bson_value){0} : node->value;
        beyond.high = was_low ? node->value : (tw_bson_value){0};
        need.value = node->value;
        added = add_need(self, &found, beyond) && add_need(self, &found, need);
    } else if (node->kind == QUERY_EXISTS) {
        added = add_need(self, &found, need);
    }
    return added ? found : (query_needs){0};
}

static query_needs needs_of_leaf(chooser *self, const query_node *node, place in)
{
    query_needs found = {0};
    query_need need;
    bool added = false;
    tw_str path = join_path(self, in.prefix, node->path);
    switch ((query_kind)node->kind) {
    case QUERY_EQ:
        added = add_need(self, &found, need_of_equality(path, node->value));
        break;
    case QUERY_GT:
    case QUERY_GTE:
    case QUERY_LT:
    case QUERY_LTE:
        added = need_of_order(path, node, &need) && add_need(self, &found, need);
        break;
    case QUERY_IN:
        added = add_in(self, path, node, &found);
        break;
    case QUERY_EXISTS:
        added = add_need(self, &found, (query_need){.kind = QUERY_NEED_SOME, .path = path});
        break;
    case QUERY_TYPE:
        added = add_types(self, path, node->types, &found);
        break;
    case QUERY_SIZE:
        need = (query_need){.kind = QUERY_NEED_SIZE, .path = path, .size = node->size};
        added = add_need(self, &found, need);
        break;
    case QUERY_REGEX:
        added = add_regex(self, path, node, &found);
        break;
    case QUERY_ELEM_FIELDS:
    case QUERY_ELEM_VALUE:
        added = add_elements(self, path, node, in, &found);
        break;
    case QUERY_AND:
    case QUERY_OR:
    case QUERY_NOR:
    case QUERY_NOT:
    case QUERY_NOTHING:
        break; /* nothing to find: it is scanned */
    }
    return added ? found : (query_needs){0};
}

/* A bound and the first one of the other side at the same path, as one range. */
static query_needs needs_of_pair(chooser *self, const query_node *low, place in)
{
    query_needs found = {0};
    TW_ASSERT(low->kind == QUERY_GT || low->kind == QUERY_GTE);
    for (uint16_t i = low->next; i != QUERY_NONE; i = self->query->nodes[i].next) {
        const query_node *high = &self->query->nodes[i];
        if ((high->kind == QUERY_LT || high->kind == QUERY_LTE) &&
            tw_str_equal(low->path, high->path) && is_ordered(low->value) &&
            tw_bson_bracket(low->value.type) == tw_bson_bracket(high->value.type)) {
            query_need need = {.kind = QUERY_NEED_RANGE,
                               .path = join_path(self, in.prefix, low->path),
                               .low = low->value,
                               .high = high->value};
            (void)add_need(self, &found, need);
            break;
        }
    }
    return found;
}

static void keep_cheaper(query_needs *best, query_needs other)
{
    if (other.count > 0 && (best->count == 0 || other.cost < best->cost)) {
        *best = other;
    }
}

/* All of the children hold: the cheapest one's needs are enough. */
static query_needs needs_of_all(chooser *self, const query_node *node, place in)
{
    query_needs found = {0};
    for (uint16_t i = node->first; i != QUERY_NONE; i = self->query->nodes[i].next) {
        const query_node *child = &self->query->nodes[i];
        keep_cheaper(&found, needs_of(self, i, in));
        if (!in.is_negated && (child->kind == QUERY_GT || child->kind == QUERY_GTE)) {
            keep_cheaper(&found, needs_of_pair(self, child, in));
        }
    }
    return found;
}

/* One of the children holds: the needs of all, or none. */
static query_needs needs_of_any(chooser *self, const query_node *node, place in)
{
    query_needs found = {0};
    for (uint16_t i = node->first; i != QUERY_NONE; i = self->query->nodes[i].next) {
        query_needs of_child = needs_of(self, i, in);
        bool added = of_child.count > 0;
        for (size_t k = 0; k < of_child.count && added; k++) {
            added = add_need(self, &found, of_child.at[k]);
        }
        if (!added) {
            return (query_needs){0};
        }
    }
    return found;
}

/* Recursion is bounded by the filter's depth. */
static query_needs needs_of(chooser *self, uint16_t at, place in)
{
    TW_ASSERT(at < self->query->nodes_count);
    const query_node *node = &self->query->nodes[at];
    bool negates = node->kind == QUERY_NOT || node->kind == QUERY_NOR;
    if (node->kind != QUERY_AND && node->kind != QUERY_OR && !negates) {
        return in.is_negated ? needs_of_negated(self, node, in) : needs_of_leaf(self, node, in);
    }
    bool all = (node->kind == QUERY_AND || negates) != in.is_negated;
    if (negates) { /* none of the children holds: all of their negations do */
        in.is_negated = !in.is_negated;
    }
    return all ? needs_of_all(self, node, in) : needs_of_any(self, node, in);
}

tw_err query_needs_of(const query *self, tw_arena *arena, query_need_cost cost, void *context,
                      query_needs *out)
{
    TW_ASSERT(self != NULL && self->magic == QUERY_MAGIC);
    TW_ASSERT(out != NULL);
    chooser found = {.query = self, .arena = arena, .cost = cost, .context = context};
    *out = needs_of(&found, self->root, (place){0});
    return found.err;
}

/* ---- what no match meets ---- */

/* The one leaf under NOTs and ANDs of one child, or NULL. */
static const query_node *only_leaf(const query *self, uint16_t at)
{
    const query_node *node = &self->nodes[at];
    while (node->kind == QUERY_AND && node->first != QUERY_NONE && node->first == node->last) {
        node = &self->nodes[node->first];
    }
    return node->kind == QUERY_AND ? NULL : node;
}

static void add_vetoes_of_leaf(chooser *self, const query_node *leaf, query_needs *to)
{
    query_need need = {.path = leaf->path};
    tw_bson_iter iter;
    switch ((query_kind)leaf->kind) {
    case QUERY_EQ:
        need = need_of_equality(leaf->path, leaf->value);
        if (need.kind == QUERY_NEED_VALUE) {
            (void)add_need(self, to, need);
        }
        break;
    case QUERY_IN:
        for (tw_bson_iter_init(&iter, tw_bson_value_doc(leaf->value)); tw_bson_iter_next(&iter);) {
            need = need_of_equality(leaf->path, iter.value);
            if (need.kind == QUERY_NEED_VALUE && iter.value.type != TW_BSON_REGEX) {
                (void)add_need(self, to, need);
            }
        }
        break;
    case QUERY_EXISTS:
        need.kind = QUERY_NEED_SOME;
        (void)add_need(self, to, need);
        break;
    case QUERY_TYPE:
        (void)add_types(self, leaf->path, leaf->types, to);
        break;
    default: /* what the walk of an index visits beyond the filter's would exclude too much */
        break;
    }
}

static void add_vetoes(chooser *self, uint16_t at, query_needs *to)
{
    const query_node *node = &self->query->nodes[at];
    bool negates = node->kind == QUERY_NOT || node->kind == QUERY_NOR;
    if (node->kind != QUERY_AND && !negates) {
        return;
    }
    for (uint16_t i = node->first; i != QUERY_NONE; i = self->query->nodes[i].next) {
        const query_node *leaf = negates ? only_leaf(self->query, i) : NULL;
        if (leaf != NULL) {
            add_vetoes_of_leaf(self, leaf, to);
        } else if (!negates) {
            add_vetoes(self, i, to);
        }
    }
}

tw_err query_vetoes_of(const query *self, tw_arena *arena, query_needs *out)
{
    TW_ASSERT(self != NULL && self->magic == QUERY_MAGIC);
    TW_ASSERT(out != NULL);
    chooser found = {.query = self, .arena = arena};
    *out = (query_needs){0};
    add_vetoes(&found, self->root, out);
    return found.err;
}

/* The first regular expression under the ANDs from at, or NULL. */
static const query_node *first_regex(const query *self, uint16_t at)
{
    const query_node *node = &self->nodes[at];
    const query_node *found = node->kind == QUERY_REGEX ? node : NULL;
    if (node->kind != QUERY_AND) {
        return found;
    }
    for (uint16_t i = node->first; i != QUERY_NONE && found == NULL; i = self->nodes[i].next) {
        found = first_regex(self, i);
    }
    return found;
}

bool query_screen_of(const query *self, tw_str *path, const regex_screen **screen, bool *or_same)
{
    TW_ASSERT(self != NULL && self->magic == QUERY_MAGIC);
    TW_ASSERT(path != NULL && screen != NULL && or_same != NULL);
    const query_node *node = first_regex(self, self->root);
    if (node == NULL) {
        return false;
    }
    *path = node->path;
    *screen = regex_screen_of(node->regex);
    *or_same = node->value.type == TW_BSON_REGEX;
    return true;
}
