/* search_text.h - how text becomes terms, for the index and for every matcher alike.
 *
 * Close to an engine's standard analyzer (Unicode annex 29, lower case, nothing else): a term is a
 * run of letters, digits and `_`; an apostrophe, a colon or a point stays between two letters, a
 * point, comma, semicolon or apostrophe between two digits; each ideograph and each hiragana sign
 * is a term of its own; at 255 bytes a term is cut in two. Diacritics stay. Lower case is that of
 * the Latin, Greek, Cyrillic, Armenian and full-width letters; pictographs are no terms. Pure;
 * bytes that are not UTF-8 separate. */
#pragma once

#include "protocol/base.h"

enum { SEARCH_TERM_MAX = 255 }; /* bytes */

typedef struct search_text {
    const char *at, *end, *begin;
    uint32_t position; /* of the term; the first is 0 */
    size_t from, upto; /* its bytes in the text */
    size_t len;        /* of term */
    char term[SEARCH_TERM_MAX + 5];
} search_text;

void search_text_init(search_text *self, tw_str text, uint32_t first_position);
bool search_text_next(search_text *self);
static inline tw_str search_text_term(const search_text *self)
{
    return (tw_str){self->term, self->len};
}
/* Lower case of a whole text, at most size bytes; returns its length. */
size_t search_text_lower(tw_str text, char *out, size_t size);
