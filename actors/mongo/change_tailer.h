/* change_tailer.h - options and class of the actor that brings MongoDB's changes into the log. */
#pragma once

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

#include "actors/mongo/mongo_link.h"

typedef struct change_tailer_options {
    mongo_link *link;       /* borrow */
    const catalog *catalog; /* borrow */
} change_tailer_options;

extern const tw_actor_class change_tailer_class;
