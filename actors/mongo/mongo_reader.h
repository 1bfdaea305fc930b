/* mongo_reader.h - options and class of the actors that read records from MongoDB. */
#pragma once

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

struct mongo_link;

typedef struct mongo_reader_options {
    struct mongo_link *link; /* borrow; of this process */
    const catalog *catalog;  /* borrow */
} mongo_reader_options;

extern const tw_actor_class mongo_reader_class;
