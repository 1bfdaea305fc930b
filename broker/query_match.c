/* query_match.c - holding a document against a compiled filter.
 *
 * A leaf is held against each value that its path leads to and is true when one of them fulfils it;
 * $ne, $nin and $not are the plain negation of that, so they are true when none does. Comparisons
 * hold within a type bracket only. Nothing is allocated. Recursion is bounded by the filter's
 * depth.
 *                                    Source  MongoDB manual, query and projection operators */
#include <math.h>

#include "broker/path.h"
#include "broker/query_priv.h"

uint32_t query_type_bit(uint8_t type)
{
    switch (type) {
    case 0:
        return 0;
    case TW_BSON_MIN_KEY:
        return 1U << 20;
    case TW_BSON_MAX_KEY:
        return 1U << 21;
    default:
        return type <= TW_BSON_DECIMAL128 ? 1U << type : 0;
    }
}

static bool is_nan(tw_bson_value value)
{
    return value.type == TW_BSON_DOUBLE && isnan(tw_bson_value_double(value));
}

static bool order_fulfils(query_kind kind, int order)
{
    switch (kind) {
    case QUERY_EQ:
        return order == 0;
    case QUERY_GT:
        return order > 0;
    case QUERY_GTE:
        return order >= 0;
    case QUERY_LT:
        return order < 0;
    case QUERY_LTE:
        return order <= 0;
    case QUERY_AND:
    case QUERY_OR:
    case QUERY_NOR:
    case QUERY_NOT:
    case QUERY_NOTHING:
    case QUERY_IN:
    case QUERY_EXISTS:
    case QUERY_TYPE:
    case QUERY_SIZE:
    case QUERY_REGEX:
    case QUERY_ELEM_FIELDS:
    case QUERY_ELEM_VALUE:
        break;
    }
    TW_ASSERT(false);
    return false;
}

static bool compares(query_kind kind, tw_bson_value value, tw_bson_value wanted)
{
    bool may_equal = kind == QUERY_EQ || kind == QUERY_GTE || kind == QUERY_LTE;
    TW_ASSERT(wanted.type != 0);
    if (wanted.type == TW_BSON_MIN_KEY || wanted.type == TW_BSON_MAX_KEY) {
        if (value.type == wanted.type) {
            return may_equal;
        }
        return order_fulfils(kind, wanted.type == TW_BSON_MIN_KEY ? 1 : -1);
    }
    if (value.type == 0) {
        return wanted.type == TW_BSON_NULL && may_equal;
    }
    if (value.type != wanted.type && tw_bson_bracket(value.type) != tw_bson_bracket(wanted.type)) {
        return false;
    }
    if ((value.type == TW_BSON_UNDEFINED) != (wanted.type == TW_BSON_UNDEFINED)) {
        return false;
    }
    if (is_nan(value) || is_nan(wanted)) {
        return may_equal && is_nan(value) && is_nan(wanted);
    }
    return order_fulfils(kind, tw_bson_compare(value, wanted));
}

static bool regex_holds(const query *self, const query_node *node, tw_bson_value value)
{
    TW_ASSERT(node->kind == QUERY_REGEX);
    TW_ASSERT(node->regex != NULL);
    if (value.type == TW_BSON_REGEX) {
        return node->value.type == TW_BSON_REGEX && tw_bson_compare(value, node->value) == 0;
    }
    tw_str text = tw_bson_value_str(value);
    if (text.ptr == NULL) {
        return false;
    }
    regex_result result = regex_match(node->regex, text);
    if (result == REGEX_COSTLY) {
        atomic_fetch_add_explicit(self->costly, 1, memory_order_relaxed);
    }
    return result == REGEX_YES;
}

static bool single(const query *self, uint16_t at, tw_bson_value value);
static bool holds(const query *self, uint16_t at, tw_bson doc);

static bool in_holds(const query *self, const query_node *node, tw_bson_value value)
{
    TW_ASSERT(node->kind == QUERY_IN);
    TW_ASSERT(node->value.type == TW_BSON_ARRAY);
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(node->value)); tw_bson_iter_next(&iter);) {
        if (iter.value.type != TW_BSON_REGEX && compares(QUERY_EQ, value, iter.value)) {
            return true;
        }
    }
    for (uint16_t i = node->first; i != QUERY_NONE; i = self->nodes[i].next) {
        if (regex_holds(self, &self->nodes[i], value)) {
            return true;
        }
    }
    return false;
}

static bool elements_hold(const query *self, const query_node *node, tw_bson_value array)
{
    TW_ASSERT(node->kind == QUERY_ELEM_FIELDS || node->kind == QUERY_ELEM_VALUE);
    TW_ASSERT(node->first != QUERY_NONE);
    if (array.type != TW_BSON_ARRAY) {
        return false;
    }
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(array)); tw_bson_iter_next(&iter);) {
        bool found;
        if (node->kind == QUERY_ELEM_VALUE) {
            found = single(self, node->first, iter.value);
        } else { /* an array counts as a document of its indices */
            found = (iter.value.type == TW_BSON_DOCUMENT || iter.value.type == TW_BSON_ARRAY) &&
                    holds(self, node->first, tw_bson_value_doc(iter.value));
        }
        if (found) {
            return true;
        }
    }
    return false;
}

/* Holds one value against a node: what stands at a leaf's path, or an element of $elemMatch. */
static bool single(const query *self, uint16_t at, tw_bson_value value)
{
    TW_ASSERT(at < self->nodes_count);
    const query_node *node = &self->nodes[at];
    switch ((query_kind)node->kind) {
    case QUERY_AND:
        for (uint16_t i = node->first; i != QUERY_NONE; i = self->nodes[i].next) {
            if (!single(self, i, value)) {
                return false;
            }
        }
        return true;
    case QUERY_NOT:
        return !single(self, node->first, value);
    case QUERY_EQ:
    case QUERY_GT:
    case QUERY_GTE:
    case QUERY_LT:
    case QUERY_LTE:
        return compares((query_kind)node->kind, value, node->value);
    case QUERY_IN:
        return in_holds(self, node, value);
    case QUERY_EXISTS:
        return value.type != 0;
    case QUERY_TYPE:
        return (query_type_bit(value.type) & node->types) != 0;
    case QUERY_SIZE:
        return value.type == TW_BSON_ARRAY &&
               (int64_t)tw_bson_count(tw_bson_value_doc(value)) == node->size;
    case QUERY_REGEX:
        return regex_holds(self, node, value);
    case QUERY_ELEM_FIELDS:
    case QUERY_ELEM_VALUE:
        return elements_hold(self, node, value);
    case QUERY_NOTHING:
        return false;
    case QUERY_OR:
    case QUERY_NOR:
        break; /* the compiler puts them over documents only */
    }
    TW_ASSERT(false);
    return false;
}

typedef struct leaf {
    const query *query;
    uint16_t at;
} leaf;

static bool visit_leaf(void *context, tw_bson_value value)
{
    const leaf *held = context;
    return single(held->query, held->at, value);
}

static bool any_child(const query *self, const query_node *node, tw_bson doc, bool wanted)
{
    TW_ASSERT(node->kind <= QUERY_NOR);
    for (uint16_t i = node->first; i != QUERY_NONE; i = self->nodes[i].next) {
        if (holds(self, i, doc) == wanted) {
            return true;
        }
    }
    return false;
}

static bool holds(const query *self, uint16_t at, tw_bson doc)
{
    TW_ASSERT(at < self->nodes_count);
    const query_node *node = &self->nodes[at];
    switch ((query_kind)node->kind) {
    case QUERY_AND:
        return !any_child(self, node, doc, false);
    case QUERY_OR:
        return any_child(self, node, doc, true);
    case QUERY_NOR:
        return !any_child(self, node, doc, true);
    case QUERY_NOT:
        return !holds(self, node->first, doc);
    case QUERY_NOTHING:
        return false;
    case QUERY_EQ:
    case QUERY_GT:
    case QUERY_GTE:
    case QUERY_LT:
    case QUERY_LTE:
    case QUERY_IN:
    case QUERY_EXISTS:
    case QUERY_TYPE:
    case QUERY_SIZE:
    case QUERY_REGEX:
    case QUERY_ELEM_FIELDS:
    case QUERY_ELEM_VALUE:
        break;
    }
    bool spread = node->kind != QUERY_SIZE && node->kind != QUERY_ELEM_FIELDS &&
                  node->kind != QUERY_ELEM_VALUE;
    leaf held = {.query = self, .at = at};
    return path_walk(doc, node->path, spread, visit_leaf, &held);
}

bool query_match(const query *self, tw_bson doc)
{
    TW_ASSERT(self != NULL && self->magic == QUERY_MAGIC);
    TW_ASSERT(doc.ptr != NULL);
    return query_matches_all(self) || holds(self, self->root, doc);
}

bool query_matches_all(const query *self)
{
    TW_ASSERT(self != NULL && self->magic == QUERY_MAGIC);
    const query_node *root = &self->nodes[self->root];
    return root->kind == QUERY_AND && root->first == QUERY_NONE;
}

uint64_t query_costly(const query *self)
{
    TW_ASSERT(self != NULL && self->magic == QUERY_MAGIC);
    return atomic_load_explicit(self->costly, memory_order_relaxed);
}

bool query_equality_at(const query *self, size_t index, query_equality *out)
{
    TW_ASSERT(self != NULL && self->magic == QUERY_MAGIC);
    TW_ASSERT(out != NULL);
    if (index >= self->equalities_count) {
        return false;
    }
    *out = self->equalities[index];
    return true;
}
