/* embedded_search.h - options and class of the actor that answers searches without a server. */
#pragma once

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

typedef struct embedded_search_options {
    const catalog *catalog; /* borrow */
    const char *directory;  /* borrow; where search.db lies */
    bool memory;            /* nothing is kept */
    uint32_t fresh_ms;      /* tests: how long a search waits to see all; 0: 100 */
} embedded_search_options;

extern const tw_actor_class embedded_search_class;
