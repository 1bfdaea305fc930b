/* actor_names.c - every actor of the program. The place of a name gives its tcp ports, so that
 * processes agree on them without being told: append, never reorder. */
#include "actors/runtime/actor.h"

const char *const tw_actor_names[] = {
    "store",           "log_reader.0",
    "log_reader.1",    "log_reader.2",
    "log_reader.3",    "subscription_manager",
    "gateway",         "service",
    "mongo_reader",    "mongo_writer",
    "change_tailer",   "es_proxy",
    "embedded_search", "indexer",
    "supervisor",      "processor",
    "mongo_reader.0",  "mongo_reader.1",
    "mongo_reader.2",  "mongo_reader.3",
    "gateway.1",       "gateway.2",
    "gateway.3",       "gateway.4",
    "gateway.5",       "gateway.6",
    "gateway.7",       NULL,
};
