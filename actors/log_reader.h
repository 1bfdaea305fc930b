/* log_reader.h - options and class of the actors that read the log: pages, records, raw rows. */
#pragma once

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

#include "actors/log/log_store.h"

typedef struct log_reader_options {
    log_store *log;         /* borrow; the store of this process opens it */
    const catalog *catalog; /* borrow */
    uint32_t idle_ms;       /* a result that nobody fetches is kept so long; 0: the default */
} log_reader_options;

extern const tw_actor_class log_reader_class;
