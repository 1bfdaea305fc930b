/* subscription_manager.h - options and class of the actor that holds the topics. */
#pragma once

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

typedef struct subscription_manager_options {
    const catalog *catalog; /* borrow */
    size_t topics_max;      /* at most TW_TOPICS_MAX; 0: that */
} subscription_manager_options;

extern const tw_actor_class subscription_manager_class;
