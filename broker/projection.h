/* projection.h - which fields of a document are told: a list of dotted names, _id always first. */
#pragma once

#include "protocol/bson.h"

typedef struct projection {
    tw_str names[256]; /* TW_FIELDS_MAX; views into the array given */
    size_t count;      /* 0: the whole document */
} projection;

/* From a BSON array of names or an object {name: 1 or true}; len 0 = whole. {name: 0} is refused,
 * as are more than TW_FIELDS_MAX: TW_E_BAD_QUERY. */
tw_err projection_init(projection *projection, tw_bson fields);
/* Appends the projected document to out as BSON; key is the name of the key field (always told). */
void projection_apply(const projection *projection, tw_str key, tw_bson doc, tw_buf *out);
