/* search_mapping.h - the fields of a collection as a search sees them: names, types, figures.
 *
 * Declared ones come from the collection's mapping (text, keyword, the numbers, date, boolean,
 * completion, objects of those, multi-fields); others are learnt from the documents as an engine's
 * dynamic mapping does: text with a .keyword beside it, long, double, date (text that is an
 * ISO 8601 date too), boolean. A type once learnt stays. "dynamic": false or "strict" in the
 * mapping learns nothing. At most SEARCH_FIELDS_MAX fields; what comes beyond is not searched.
 *
 * Numbers and dates are compared as doubles: exact to 2^53. */
#pragma once

#include "protocol/arena.h"
#include "protocol/bson.h"

enum {
    SEARCH_FIELDS_MAX = 1000, /* of one collection, as engines have by default */
    SEARCH_KEYWORD_MAX = 256, /* bytes of a text that is learnt as a keyword too */
    SEARCH_LEVELS_MAX = 20,   /* of objects in a document; deeper fields are not searched */
};

typedef enum search_type {
    SEARCH_UNKNOWN, /* judged by each value: no mapping tells */
    SEARCH_TEXT,
    SEARCH_KEYWORD,
    SEARCH_LONG,
    SEARCH_DOUBLE,
    SEARCH_DATE,
    SEARCH_BOOLEAN,
    SEARCH_COMPLETION,
    SEARCH_OPAQUE, /* stored only */
} search_type;

typedef struct search_field {
    tw_str name;
    tw_str path; /* in the document: without the multi-field's own name */
    tw_str told; /* type as it was declared: "integer" */
    search_type type;
    size_t ignore_above;  /* of keywords; 0: none */
    uint64_t number;      /* the index' name for it; 0: none yet */
    uint64_t docs, terms; /* documents that have it, terms in all of them */
    bool list;            /* declared so, by meta */
    bool changed;         /* since the owner saved it */
} search_field;

typedef struct search_mapping {
    tw_arena *arena; /* borrow: names live there, as long as the mapping */
    search_field *at;
    size_t count, cap;
    uint16_t *slots; /* own hash of names: index + 1 */
    bool learns;
} search_mapping;

/* TW_E_NO_MEMORY. declared len 0: all is learnt. */
tw_err search_mapping_init(search_mapping *self, tw_arena *arena, tw_bson declared);
search_field *search_mapping_find(const search_mapping *self, tw_str name);
/* Adds a field as the index has kept it; NULL: no room. Fields move when one is added. */
search_field *search_mapping_add(search_mapping *self, tw_str name, tw_str path, tw_str told);
/* Makes fields of what a document brings that is new. TW_E_NO_MEMORY */
tw_err search_mapping_learn(search_mapping *self, tw_bson doc);

/* Calls fn for each scalar (and each null) at a path, arrays fanned out, objects entered; an empty
 * path: for all of the document. fn returns false to end. */
typedef bool (*search_visit)(void *context, tw_str path, tw_bson_value value);
void search_walk(tw_bson doc, tw_str path, search_visit fn, void *context);

/* The number that a value is in a field of this type: dates in ms, booleans 0 and 1. upper: of a
 * date without time its last millisecond. False: it is none. */
bool search_number_of(search_type type, tw_bson_value value, bool upper, double *out);
bool search_number_of_text(search_type type, tw_str text, bool upper, double *out);
/* The text that a value is in a keyword field, in scratch where it has to be made. */
tw_str search_keyword_of(tw_bson_value value, char scratch[64]);
/* A date as an engine writes it: 2024-01-01T00:00:00.000Z */
void search_date_write(double ms, char out[40]);
/* Years, months, days of a day's number since 1970, and back. */
void search_civil_of(int64_t day, int64_t *year, unsigned *month, unsigned *mday);
int64_t search_day_of(int64_t year, unsigned month, unsigned mday);
