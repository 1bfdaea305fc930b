/* processor.h - the actor that has documents rewritten by services before they are told. */
#pragma once

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

typedef struct processor_options {
    const catalog *catalog; /* borrow; names the services' addresses */
    size_t readers_count;   /* log_reader.0 to log_reader.N-1 */
    uint32_t deadline_ms;   /* of one call; 0: TW_PROCESSOR_MS */
} processor_options;

extern const tw_actor_class processor_class;
