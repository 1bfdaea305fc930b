/* nearest.h - "did you mean": the known name that is nearest to a mistyped one. */
#pragma once

#include <stddef.h>

/* The name with the smallest edit distance, NULL when none is nearer than a third of its length. */
const char *nearest_name(const char *typed, const char *const *names, size_t count);
