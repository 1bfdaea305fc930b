/* guard.h - the hot paths whose instructions are counted, each over input that never changes. */
#pragma once

#include "protocol/arena.h"
#include "protocol/bson.h"
#include "protocol/messages.h"

#include "broker/topic_query.h"

/* A path: set_up makes its input, round runs it once; all rounds do the same work. */
typedef struct guard_path {
    const char *name;
    void (*set_up)(void);
    void (*round)(void);
    void (*tear_down)(void); /* NULL: there is nothing but memory */
} guard_path;

/* Ends with a path without a name. */
extern const guard_path guard_codec_paths[];
extern const guard_path guard_broker_paths[];
extern const guard_path guard_streams_paths[];
extern const guard_path guard_log_paths[];

/* Memory of the set-up, until the program ends; and of one round. */
extern tw_arena guard_kept;
extern tw_arena guard_temporary;

/* Ends the program where something did not do its work: a path that fails is fast. */
void guard_must(bool good, const char *what);
/* The n-th document: the usual fields, about 300 bytes, in guard_kept. */
tw_bson guard_document(unsigned n);
/* The row that replaces version of the n-th document. */
tw_item_log_row guard_row(unsigned n, unsigned owner);
/* The canonical query of a `subscribe`, in guard_kept. */
tw_bson guard_query(const catalog *known, const char *subscribe);
