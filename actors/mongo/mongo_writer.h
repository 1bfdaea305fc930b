/* mongo_writer.h - options and class of the actor that writes to MongoDB. */
#pragma once

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

struct mongo_link;

typedef struct mongo_writer_options {
    struct mongo_link *link; /* borrow; of this process */
    const catalog *catalog;  /* borrow */
    const char *base;        /* borrow; of the actors: where the log's readers are */
    const char *node;        /* borrow; names this writer among those of the deployment */
    bool post_images;        /* collections that it creates keep them */
} mongo_writer_options;

extern const tw_actor_class mongo_writer_class;
