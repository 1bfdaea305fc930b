/* search_query_match.c - a compiled query against one document, and its score.
 *
 * Lucene's BM25: idf = ln(1 + (N - n + 0.5) / (n + 0.5)), a term gives 2.2 idf tf / (tf + k1 (1 - b
 * + b length / average)). The length of a field is kept in a byte there, exact to 40 terms; the
 * same rounding is done here, so that orders agree. */
#include <math.h>
#include <stdlib.h>

#include "broker/search_query_priv.h"

enum { GAP = 100 /* between the values of a list, as engines keep */ };

typedef struct holder {
    tw_bson doc;
    tw_str id;
} holder;

/* ---- wildcards ---- */
bool search_wild_fits(tw_str pattern, tw_str text)
{
    size_t p = 0;
    size_t t = 0;
    size_t star = SIZE_MAX;
    size_t mark = 0;
    while (t < text.len) {
        bool escaped = p + 1 < pattern.len && pattern.ptr[p] == '\\';
        size_t at = p + (escaped ? 1 : 0);
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = p++;
            mark = t;
        } else if (at < pattern.len &&
                   (pattern.ptr[at] == text.ptr[t] || (!escaped && pattern.ptr[p] == '?'))) {
            p = at + 1;
            t++;
            while (!escaped && pattern.ptr[at] == '?' && t < text.len &&
                   (text.ptr[t] & 0xc0) == 0x80) {
                t++; /* the rest of a letter */
            }
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++mark;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*') {
        p++;
    }
    return p == pattern.len;
}

/* ---- texts ---- */
typedef struct place {
    uint16_t term;
    uint32_t position;
} place;

typedef struct text_state {
    const search_node *node;
    uint32_t length;   /* terms of the field */
    uint32_t position; /* where the next value begins */
    uint32_t found[SEARCH_TERMS_MAX];
    bool any; /* a value that is no text was met and is right */
    size_t places_count;
    place places[SEARCH_PLACES_MAX];
    search_text words;
} text_state;

static bool begins(tw_str text, tw_str with)
{
    return text.len >= with.len && memcmp(text.ptr, with.ptr, with.len) == 0;
}

static bool take_text(void *context, tw_str path, tw_bson_value value)
{
    (void)path;
    text_state *self = context;
    const search_node *node = self->node;
    char scratch[64];
    double number;
    double wanted;
    tw_str text = search_keyword_of(value, scratch);
    if (node->type == SEARCH_UNKNOWN && tw_bson_value_str(value).ptr == NULL) {
        search_type type = value.type == TW_BSON_DATE   ? SEARCH_DATE
                           : value.type == TW_BSON_BOOL ? SEARCH_BOOLEAN
                                                        : SEARCH_DOUBLE;
        self->any = self->any ||
                    (search_number_of(type, value, false, &number) &&
                     search_number_of_text(type, node->raw, false, &wanted) && number == wanted);
        if (value.type != TW_BSON_OBJECT_ID) {
            return true;
        }
    }
    if (text.ptr == NULL) {
        return true;
    }
    search_text_init(&self->words, text, self->position);
    while (search_text_next(&self->words)) {
        tw_str term = search_text_term(&self->words);
        self->length++;
        for (size_t i = 0; i < node->terms_count; i++) {
            bool last = node->last_prefix && i + 1 == node->terms_count;
            if (!(last ? begins(term, node->terms[i]) : tw_str_equal(term, node->terms[i]))) {
                continue;
            }
            self->found[i]++;
            if (node->kind == SEARCH_PHRASE && self->places_count < SEARCH_PLACES_MAX) {
                self->places[self->places_count++] = (place){(uint16_t)i, self->words.position};
            }
        }
    }
    self->position = self->words.position + 1 + GAP;
    return true;
}

/* Times that the terms stand in their order, not further apart than slop; the further, the less. */
static double count_phrases(const text_state *self)
{
    const search_node *node = self->node;
    double count = 0;
    for (size_t i = 0; i < self->places_count; i++) {
        if (self->places[i].term != 0) {
            continue;
        }
        int64_t low = 0;
        int64_t high = 0;
        bool whole = true;
        for (size_t t = 1; t < node->terms_count && whole; t++) {
            int64_t wanted = (int64_t)self->places[i].position + node->places[t] - node->places[0];
            int64_t best = INT64_MAX;
            for (size_t k = 0; k < self->places_count; k++) {
                int64_t off = (int64_t)self->places[k].position - wanted;
                if (self->places[k].term == t && llabs(off) < llabs(best)) {
                    best = off;
                }
            }
            whole = best != INT64_MAX;
            low = best < low ? best : low;
            high = best > high ? best : high;
        }
        count += whole && high - low <= (int64_t)node->slop ? 1 / (1 + (double)(high - low)) : 0;
    }
    return count;
}

/* A length as one byte keeps it: exact below 24, then four bits of it. */
static double kept_length(uint32_t length)
{
    const uint32_t exact = 24;
    if (length < exact) {
        return length;
    }
    uint32_t rest = length - exact;
    int shift = 0;
    while (rest >> shift > 15) {
        shift++;
    }
    return (double)(exact + (rest >> shift << shift));
}

static double gain(const search_node *node, double weight, double times, double length)
{
    double average = node->average > 0 ? node->average : 1;
    return node->weighed
               ? weight * times /
                     (times + 1.2 * (1 - 0.75 + 0.75 * kept_length((uint32_t)length) / average))
               : 1;
}

static bool match_text(const search_node *node, const holder *held, double *score)
{
    text_state self;
    self.node = node;
    self.length = self.position = 0;
    self.any = false;
    self.places_count = 0;
    memset(self.found, 0,
           (node->terms_count + 1 > SEARCH_TERMS_MAX ? SEARCH_TERMS_MAX : node->terms_count + 1) *
               sizeof *self.found);
    search_walk(held->doc, node->path, take_text, &self);
    *score = self.any ? 1 : 0;
    if (node->kind == SEARCH_PHRASE) {
        double times = count_phrases(&self);
        double weight = 0;
        for (size_t i = 0; i < node->terms_count && node->weights != NULL; i++) {
            weight += node->weights[i];
        }
        *score += times > 0 ? gain(node, weight, times, self.length) : 0;
        return times > 0 || self.any;
    }
    int hits = 0;
    for (size_t i = 0; i < node->terms_count; i++) {
        if (self.found[i] > 0) {
            hits++;
            double weight = node->weights == NULL ? 1 : node->weights[i];
            *score += gain(node, weight, self.found[i], self.length);
        }
    }
    return (hits > 0 && hits >= node->least) || self.any;
}

/* ---- values ---- */
typedef struct value_state {
    const search_node *node;
    bool found;
    size_t which;
    double times;
    search_text words;
} value_state;

static bool in_range(const search_node *node, double number)
{
    return (number > node->low || (number == node->low && !node->low_open)) &&
           (number < node->high || (number == node->high && !node->high_open));
}

static bool in_words(const search_node *node, tw_str text)
{
    int low = node->low_text.ptr == NULL ? 1 : tw_str_compare(text, node->low_text);
    int high = node->high_text.ptr == NULL ? -1 : tw_str_compare(text, node->high_text);
    return low >= (node->low_open ? 1 : 0) && high <= (node->high_open ? -1 : 0);
}

static bool fits_number(const search_node *node, tw_bson_value value)
{
    search_type type = node->type != SEARCH_UNKNOWN ? node->type
                       : value.type == TW_BSON_DATE ? SEARCH_DATE
                       : value.type == TW_BSON_BOOL ? SEARCH_BOOLEAN
                                                    : SEARCH_DOUBLE;
    double number;
    if (type == SEARCH_KEYWORD || type == SEARCH_TEXT ||
        !search_number_of(type, value, false, &number)) {
        return false;
    }
    if (node->kind == SEARCH_RANGE) {
        return node->low_text.ptr == NULL && node->high_text.ptr == NULL && in_range(node, number);
    }
    for (size_t i = 0; i < node->numbers_count; i++) {
        if (node->numbers[i] == number) {
            return true;
        }
    }
    return false;
}

/* A text held against a range, words or a pattern. */
static bool fits_text(value_state *self, tw_str text)
{
    const search_node *node = self->node;
    if (node->kind == SEARCH_RANGE) {
        return (node->low_text.ptr != NULL || node->high_text.ptr != NULL) && in_words(node, text);
    }
    if (node->kind == SEARCH_WILD) {
        return search_wild_fits(node->pattern, text);
    }
    for (size_t i = 0; i < node->terms_count; i++) {
        if (tw_str_equal(node->terms[i], text)) {
            self->which = i;
            return true;
        }
    }
    return false;
}

static bool take_value(void *context, tw_str path, tw_bson_value value)
{
    (void)path;
    value_state *self = context;
    const search_node *node = self->node;
    char scratch[64];
    if (value.type == TW_BSON_NULL || value.type == TW_BSON_UNDEFINED) {
        return true;
    }
    if (node->kind == SEARCH_EXISTS) {
        self->found = true;
        return false;
    }
    tw_str text = search_keyword_of(value, scratch);
    bool analysed =
        node->type == SEARCH_TEXT || (node->type == SEARCH_UNKNOWN && node->kind != SEARCH_TERM);
    if (fits_number(node, value)) {
        self->found = true;
    } else if (text.ptr != NULL && analysed) {
        search_text_init(&self->words, text, 0);
        while (!self->found && search_text_next(&self->words)) {
            self->found = fits_text(self, search_text_term(&self->words));
        }
    }
    bool whole = node->type == SEARCH_KEYWORD || node->type == SEARCH_UNKNOWN ||
                 node->type == SEARCH_COMPLETION;
    if (!self->found && text.ptr != NULL && whole &&
        (node->ignore_above == 0 || text.len <= node->ignore_above)) {
        self->found = fits_text(self, text);
    }
    return !self->found;
}

static bool match_value(const search_node *node, const holder *held, double *score)
{
    value_state self;
    self.node = node;
    self.found = false;
    self.which = SIZE_MAX;
    search_walk(held->doc, node->path, take_value, &self);
    if (node->kind == SEARCH_EXISTS && !self.found) { /* an object with anything in it */
        tw_bson_value inner = tw_bson_get_path(held->doc, node->path);
        self.found = inner.type == TW_BSON_DOCUMENT && tw_bson_count(tw_bson_value_doc(inner)) > 0;
    }
    bool weighed = self.which != SIZE_MAX && node->weights != NULL && node->kind == SEARCH_TERM;
    *score = weighed ? gain(node, node->weights[self.which], 1, 1) : 1;
    return self.found;
}

static bool match_ids(const search_node *node, const holder *held, double *score)
{
    *score = 1;
    for (size_t i = 0; i < node->terms_count; i++) {
        if (tw_str_equal(node->terms[i], held->id)) {
            return true;
        }
    }
    return false;
}

/* ---- the tree; its depth is that of the query ---- */
static bool match(const search_node *node, const holder *held, double *score);

static bool match_bool(const search_node *node, const holder *held, double *score)
{
    int should = 0;
    *score = 0;
    for (const search_node *each = node->first; each != NULL; each = each->next) {
        double one = 0;
        bool fits = match(each, held, &one);
        switch (each->role) {
        case SEARCH_MUST:
        case SEARCH_FILTER:
            if (!fits) {
                return false;
            }
            *score += each->role == SEARCH_MUST ? one : 0;
            break;
        case SEARCH_NOT:
            if (fits) {
                return false;
            }
            break;
        case SEARCH_SHOULD:
            should += fits ? 1 : 0;
            *score += fits ? one : 0;
            break;
        }
    }
    return should >= node->least;
}

static bool match_best(const search_node *node, const holder *held, double *score)
{
    double best = 0;
    double sum = 0;
    bool any = false;
    for (const search_node *each = node->first; each != NULL; each = each->next) {
        double one = 0;
        if (match(each, held, &one)) {
            any = true;
            best = one > best ? one : best;
            sum += one;
        }
    }
    *score = best + node->tie * (sum - best);
    return any;
}

static bool match(const search_node *node, const holder *held, double *score)
{
    bool fits = false;
    *score = 1;
    switch (node->kind) {
    case SEARCH_ALL:
        fits = true;
        break;
    case SEARCH_NONE:
        break;
    case SEARCH_IDS:
        fits = match_ids(node, held, score);
        break;
    case SEARCH_MATCH:
    case SEARCH_PHRASE:
        fits = match_text(node, held, score);
        break;
    case SEARCH_TERM:
    case SEARCH_RANGE:
    case SEARCH_EXISTS:
    case SEARCH_WILD:
        fits = match_value(node, held, score);
        break;
    case SEARCH_BOOL:
        fits = match_bool(node, held, score);
        break;
    case SEARCH_BEST:
        fits = match_best(node, held, score);
        break;
    case SEARCH_CONST:
        fits = match(node->first, held, score);
        *score = 1;
        break;
    }
    *score *= node->boost;
    return fits;
}

bool search_query_match(const search_query *query, tw_bson doc, tw_str id, double *score)
{
    holder held = {doc, id};
    double unused;
    return match(query->root, &held, score == NULL ? &unused : score);
}

/* ---- weights ---- */
static void weigh(search_node *node, const search_mapping *mapping, search_df df, void *context)
{
    const search_field *field =
        node->field.len == 0 ? NULL : search_mapping_find(mapping, node->field);
    if (field != NULL && field->docs > 0 && node->weights != NULL) {
        double docs = (double)field->docs;
        node->average = (double)field->terms / docs;
        node->weighed = true;
        for (size_t i = 0; i < node->terms_count; i++) {
            double in = (double)df(context, field, node->terms[i]);
            in = in > docs ? docs : in;
            node->weights[i] = 2.2 * log(1 + (docs - in + 0.5) / (in + 0.5));
        }
    }
    for (search_node *each = node->first; each != NULL; each = each->next) {
        weigh(each, mapping, df, context);
    }
}

void search_query_weigh(search_query *query, const search_mapping *mapping, search_df df,
                        void *context)
{
    weigh(query->root, mapping, df, context);
}

/* ---- highlighting ---- */
static bool asks(const search_node *node, tw_str field, bool any_field, tw_str term)
{
    bool here = any_field || tw_str_equal(node->field, field);
    if (here && node->kind == SEARCH_WILD) {
        return search_wild_fits(node->pattern, term);
    }
    for (size_t i = 0; here && i < node->terms_count; i++) {
        bool last = node->last_prefix && i + 1 == node->terms_count;
        if (last ? begins(term, node->terms[i]) : tw_str_equal(term, node->terms[i])) {
            return true;
        }
    }
    for (const search_node *each = node->first; each != NULL; each = each->next) {
        if (each->role != SEARCH_NOT && asks(each, field, any_field, term)) {
            return true;
        }
    }
    return false;
}

bool search_query_asks(const search_query *query, tw_str field, bool any_field, tw_str term)
{
    return asks(query->root, field, any_field, term);
}

static bool needs_id(const search_node *node)
{
    bool needs = node->kind == SEARCH_IDS;
    for (const search_node *each = node->first; each != NULL && !needs; each = each->next) {
        needs = needs_id(each);
    }
    return needs;
}

bool search_query_needs_id(const search_query *query)
{
    return needs_id(query->root);
}
