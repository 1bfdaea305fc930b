/* random_doc.h - seeded documents over all BSON types, with the values that break encoders. */
#pragma once

#include "protocol/bson.h"

typedef struct random_doc {
    uint64_t state; /* the seed, never 0; moves with each draw */
    int depth_max;  /* levels below the outermost */
    int fields_max;
} random_doc;

uint64_t random_doc_draw(random_doc *self, uint64_t below);
/* Appends one document to out; a view, valid until out grows. */
tw_bson random_doc_make(random_doc *self, tw_buf *out);
/* A double: special, short decimal, whole, near a power of two or ten, or any bits; may be NaN. */
double random_doc_double(random_doc *self);
