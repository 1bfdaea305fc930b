/* topic_index_range.c - who asks for a range of values, found by what a document spans.
 *
 * For each path and bracket a treap of ranges, ordered by their lower bound; each node knows the
 * highest upper bound at it and below, so a look-up visits those that it meets and the paths to
 * them. A document meets a range when its lowest value there is not above the range and its highest
 * not below it: one value or an array alike, whichever elements meet the two bounds.
 * Bounds are an order that is never finer than the filter's, so nothing is missed; what is told
 * beyond that (numbers over 2^53 that differ by one, an open bound met exactly) the filter refuses.
 *                          Source  Seidel, Aragon: Randomized search trees; interval trees: CLRS */
#include <math.h>

#include "broker/topic_index_priv.h"

enum { NUMBER, TEXT, OBJECT_ID, TRUTH, DATE, TIMESTAMP };

/* Of values of a bracket; the whole of it where the value has no place. */
static const index_bound lowest = {0, {NULL, 0}};
static const index_bound highest = {UINT64_MAX, {NULL, 0}};

static int compare(const index_bound *a, const index_bound *b)
{
    if (a->key != b->key) {
        return a->key < b->key ? -1 : 1;
    }
    size_t both = a->text.len < b->text.len ? a->text.len : b->text.len;
    int order = both == 0 ? 0 : memcmp(a->text.ptr, b->text.ptr, both);
    return order != 0 ? order : (a->text.len > b->text.len) - (a->text.len < b->text.len);
}

/* ---- values ---- */

/* The bits of a double, so turned that they have its order. */
static uint64_t key_of_double(double real)
{
    uint64_t bits;
    real = real == 0 ? 0.0 : real; /* one zero */
    memcpy(&bits, &real, sizeof bits);
    return (bits >> 63) != 0 ? ~bits : bits | (uint64_t)1 << 63;
}

static uint64_t key_of_text(const void *bytes, size_t len)
{
    uint8_t begin[8] = {0};
    uint64_t key;
    if (len > 0) {
        memcpy(begin, bytes, len < sizeof begin ? len : sizeof begin);
    }
    memcpy(&key, begin, sizeof key);
    return __builtin_bswap64(key);
}

/* False: it has no place among the numbers. */
static bool number_of(tw_arena *scratch, tw_bson_value value, double *out)
{
    tw_key key;
    if (value.type == TW_BSON_DECIMAL128) {
        if (tw_key_of_value(scratch, value, &key) != TW_OK || key.ptr[0] != TW_BSON_INT64) {
            return false;
        }
        value = tw_key_value(key);
    }
    *out = tw_bson_value_double(value);
    return !isnan(*out);
}

int index_bracket_of(uint8_t type)
{
    switch (type) {
    case TW_BSON_DOUBLE:
    case TW_BSON_INT32:
    case TW_BSON_INT64:
    case TW_BSON_DECIMAL128:
        return NUMBER;
    case TW_BSON_STRING:
    case TW_BSON_SYMBOL:
        return TEXT;
    case TW_BSON_OBJECT_ID:
        return OBJECT_ID;
    case TW_BSON_BOOL:
        return TRUTH;
    case TW_BSON_DATE:
        return DATE;
    case TW_BSON_TIMESTAMP:
        return TIMESTAMP;
    default:
        return -1;
    }
}

int index_reach_of(tw_arena *scratch, tw_bson_value value, index_reach *out)
{
    double real;
    uint64_t bits = 0;
    index_bound at = {0};
    int bracket = index_bracket_of(value.type);
    TW_ASSERT(out != NULL);
    switch (bracket) {
    case NUMBER:
        if (!number_of(scratch, value, &real)) {
            *out = (index_reach){lowest, highest};
            return bracket;
        }
        at.key = key_of_double(real);
        break;
    case TEXT:
        at.text = tw_bson_value_str(value);
        at.key = key_of_text(at.text.ptr, at.text.len);
        break;
    case OBJECT_ID:
        at.text = (tw_str){(const char *)value.ptr, value.len};
        at.key = key_of_text(value.ptr, value.len);
        break;
    case TRUTH:
        at.key = *value.ptr != 0;
        break;
    case DATE:
    case TIMESTAMP:
        memcpy(&bits, value.ptr, sizeof bits);
        at.key = bracket == DATE ? bits ^ (uint64_t)1 << 63 : bits;
        break;
    default:
        return bracket;
    }
    *out = (index_reach){at, at};
    return bracket;
}

/* ---- the treap; recursion is as deep as the tree, some 50 of 100,000 by chance ---- */

static bool is_before(const index_ranged *a, const index_ranged *b)
{
    int order = compare(&a->reach.low, &b->reach.low);
    return order != 0 ? order < 0 : (uintptr_t)a < (uintptr_t)b;
}

static void renew(index_ranged *node)
{
    const index_ranged *const below[] = {node->left, node->right};
    node->highest = node->reach.high;
    for (size_t i = 0; i < TW_COUNT(below); i++) {
        if (below[i] != NULL && compare(&below[i]->highest, &node->highest) > 0) {
            node->highest = below[i]->highest;
        }
    }
}

static void split(index_ranged *node, const index_ranged *at, index_ranged **before,
                  index_ranged **behind)
{
    if (node == NULL) {
        *before = NULL;
        *behind = NULL;
        return;
    }
    if (is_before(node, at)) {
        split(node->right, at, &node->right, behind);
        *before = node;
    } else {
        split(node->left, at, before, &node->left);
        *behind = node;
    }
    renew(node);
}

static index_ranged *merge(index_ranged *before, index_ranged *behind)
{
    if (before == NULL || behind == NULL) {
        return before != NULL ? before : behind;
    }
    if (before->chance > behind->chance) {
        before->right = merge(before->right, behind);
        renew(before);
        return before;
    }
    behind->left = merge(before, behind->left);
    renew(behind);
    return behind;
}

static index_ranged *insert(index_ranged *node, index_ranged *made)
{
    TW_ASSERT(node != made);
    if (node == NULL || made->chance > node->chance) {
        split(node, made, &made->left, &made->right);
        renew(made);
        return made;
    }
    if (is_before(made, node)) {
        node->left = insert(node->left, made);
    } else {
        node->right = insert(node->right, made);
    }
    renew(node);
    return node;
}

static index_ranged *take_out(index_ranged *node, const index_ranged *gone)
{
    TW_ASSERT(node != NULL); /* only what was put in is taken out */
    if (node == gone) {
        return merge(node->left, node->right);
    }
    if (is_before(gone, node)) {
        node->left = take_out(node->left, gone);
    } else {
        node->right = take_out(node->right, gone);
    }
    renew(node);
    return node;
}

static uint32_t draw(topic_index_collection *collection)
{
    uint32_t x = collection->chance;
    TW_ASSERT(x != 0);
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    collection->chance = x;
    return x;
}

/* ---- entries ---- */

topic_index_entry *index_join_range(topic_index *index, topic_index_collection *collection,
                                    uint16_t path, const query_need *need)
{
    index_reach low = {lowest, highest};
    index_reach high = {lowest, highest};
    index_ranged *made = tw_alloc_zero(1, sizeof *made);
    TW_ASSERT(need->kind == QUERY_NEED_RANGE);
    TW_ASSERT(need->low.type != 0 || need->high.type != 0);
    if (made == NULL) {
        return NULL;
    }
    int bracket = -1;
    if (need->low.type != 0) {
        bracket = index_reach_of(&index->scratch, need->low, &low);
    }
    if (need->high.type != 0) {
        bracket = index_reach_of(&index->scratch, need->high, &high);
    }
    TW_ASSERT(bracket >= 0 && bracket < INDEX_BRACKETS);
    made->entry.kind = QUERY_NEED_RANGE;
    made->entry.bracket = (uint8_t)bracket;
    made->entry.path = path;
    made->chance = draw(collection);
    made->reach = (index_reach){low.low, high.high};
    index_ranged **tree = &collection->paths[path].trees[bracket];
    *tree = insert(*tree, made);
    return &made->entry;
}

void index_leave_range(topic_index_collection *collection, topic_index_entry *entry)
{
    index_ranged *gone = (index_ranged *)entry;
    index_ranged **tree = &collection->paths[entry->path].trees[entry->bracket];
    TW_ASSERT(*tree != NULL);
    *tree = take_out(*tree, gone);
    tw_free(gone);
}

/* ---- look-ups ---- */

void index_see_range(index_finding *finding, tw_bson_value value)
{
    index_reach met;
    int bracket = index_reach_of(&finding->index->scratch, value, &met);
    if (bracket < 0) {
        return;
    }
    index_reach *seen = &finding->reach[bracket];
    if (!finding->has_reach[bracket]) {
        finding->has_reach[bracket] = true;
        *seen = met;
        return;
    }
    seen->low = compare(&met.low, &seen->low) < 0 ? met.low : seen->low;
    seen->high = compare(&met.high, &seen->high) > 0 ? met.high : seen->high;
}

static void tell_met(index_finding *finding, const index_ranged *node, const index_reach *seen)
{
    while (node != NULL && compare(&node->highest, &seen->low) >= 0) {
        tell_met(finding, node->left, seen);
        if (compare(&node->reach.low, &seen->high) > 0) {
            return; /* nor do those behind it */
        }
        if (compare(&node->reach.high, &seen->low) >= 0) {
            index_tell(finding, node->entry.member);
        }
        node = node->right;
    }
}

void index_tell_ranges(index_finding *finding)
{
    const index_path *path = finding->path;
    for (uint8_t i = 0; i < INDEX_BRACKETS; i++) {
        if (!finding->has_reach[i] && path->of_kind[QUERY_NEED_ABSENT] > 0) {
            index_tell_bucket(finding, index_hash(path, QUERY_NEED_ABSENT, &i, sizeof i));
        }
        if (finding->has_reach[i]) {
            finding->has_reach[i] = false;
            tell_met(finding, finding->path->trees[i], &finding->reach[i]);
        }
    }
}
