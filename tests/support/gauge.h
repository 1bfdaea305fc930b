/* gauge.h - figures of an actor that runs, for tests. */
#pragma once

#include "actors/runtime/actor.h"

/* The gauge of that name of the actor that the caller asks; ends the program where there is none,
 * or no answer within a minute. */
int64_t gauge_of(tw_caller *caller, const char *name);
