/* regex.h - $regex with a bound on its work: PCRE2, whose language is MongoDB's.
 *
 * Refused: back-references, recursion, conditions, verbs, and a repeat inside a repeat ((a+)+),
 * since they are where matching becomes exponential. What remains is bounded by TW_REGEX_STEPS_MAX
 * steps beside one for each byte of text; memory for a match is on the stack. */
#pragma once

#include "protocol/base.h"

#include "broker/why.h"

typedef struct regex regex;

typedef enum regex_result { REGEX_NO, REGEX_YES, REGEX_COSTLY } regex_result;

/* options: letters of "imsx". TW_E_BAD_FILTER with why; TW_E_NO_MEMORY. *out is the caller's. */
tw_err regex_new(tw_str pattern, tw_str options, regex **out, broker_why *why);
void regex_free(regex **regex);
/* True when the pattern occurs in text. Text over TW_REGEX_SUBJECT_MAX bytes: REGEX_NO.
 * Thread: any number at once. */
regex_result regex_match(const regex *regex, tw_str text);

/* What a text must have to be matched, cheaper to test than to match: so many bytes, and one of a
 * set of bytes, in the first place where the pattern is anchored. */
typedef struct regex_screen {
    uint64_t bytes[4]; /* bits; all set: any */
    uint32_t len_min;
    bool is_anchored;
} regex_screen;
const regex_screen *regex_screen_of(const regex *regex); /* lives as long as the expression */

/* Texts of which one stands in whatever matches, with ASCII letters in lower case; each has two
 * bytes or more. */
enum { REGEX_LITERALS_MAX = 8, REGEX_LITERAL_BYTES = 24 };
typedef struct regex_literals {
    size_t count;
    size_t len[REGEX_LITERALS_MAX];
    char at[REGEX_LITERALS_MAX][REGEX_LITERAL_BYTES];
} regex_literals;
/* Reads them off the pattern. False: none is certain; *out is then undefined. Thread: any. */
bool regex_literals_of(const regex *regex, regex_literals *out);
/* The same of a pattern that regex_new takes; options as there. */
bool regex_literals_read(tw_str pattern, tw_str options, regex_literals *out);
