/* path.h - the values at a dotted path, as the filter language sees them.
 *
 * Arrays on the way fan out: "a.b" of {a: [{b: 1}, {b: 2}]} is 1 and 2; a number is also an index.
 *                             Source  MongoDB manual, query on arrays and on embedded documents */
#pragma once

#include "protocol/bson.h"

/* Told each value; type 0: nothing stands there. Return true to end the walk. */
typedef bool (*path_visit)(void *context, tw_bson_value value);

/* Visits each value at path until visit returns true, and returns that. An array at the end of the
 * path gives its elements and then itself when spread is set, only itself otherwise. Depth is
 * bounded
 * by the dots of the path. Thread: any; never allocates. */
bool path_walk(tw_bson doc, tw_str path, bool spread, path_visit visit, void *context);

/* The same where the first name has been looked up: its value (type 0: none), and the rest of the
 * path (behind: there is one). */
bool path_walk_behind(tw_bson_value value, bool behind, tw_str rest, bool spread, path_visit visit,
                      void *context);

/* Cuts the first name off a path: "a.b.c" gives "a" and leaves "b.c"; false when nothing is left
 * behind it. */
bool path_cut(tw_str path, tw_str *head, tw_str *rest);
