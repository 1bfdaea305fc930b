/* regex.h - $regex with a bound on its work: PCRE2, whose language is MongoDB's.
 *
 * Refused: back-references, recursion, conditions, verbs, and a repeat inside a repeat ((a+)+),
 * since
 * they are where matching becomes exponential. What remains is bounded by TW_REGEX_STEPS_MAX steps
 * beside one for each byte of text; memory for a match is on the stack. */
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
