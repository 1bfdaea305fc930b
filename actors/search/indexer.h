/* indexer.h - options and class of the actor that keeps indices equal to the log. */
#pragma once

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

typedef struct indexer_options {
    const catalog *catalog; /* borrow */
    const char *engine;     /* "es_proxy" or "embedded_search" */
} indexer_options;

extern const tw_actor_class indexer_class;
