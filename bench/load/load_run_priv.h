/* load_run_priv.h - what the parts of load_run.c share. */
#pragma once

#include "bench/load/load_run.h"
#include "bench/load/load_schedule.h"

enum {
    LOAD_PUBLISH_MAX = 512, /* events of one write */
    LOAD_AT_ONCE = 256,     /* connections in their handshake */
};

#define LOAD_SECOND_NS UINT64_C(1000000000)
#define LOAD_MS_NS     UINT64_C(1000000)

typedef struct load_usage {
    uint64_t at_ns;
    uint64_t delivered, published, acked;
    double server_s, own_s, machine_s;
} load_usage;

typedef struct load {
    load_client client;
    const load_options *options;
    load_figures *out;
    uint64_t subs;
    load_conn *conns; /* own */
    load_slot *slots; /* own; subs * each of them */
    load_conn publisher;
    load_topics topics;
    uint64_t *readers;         /* own; of each topic, those who read */
    uint64_t published, total; /* events */
    uint64_t expected;         /* deliveries of what was published */
    load_schedule schedule;
    load_histogram late;
    load_usage from, to;
} load;

void load_turn_for(load *self, uint64_t ns);
/* Opens connections [from, to) and waits until each is ready or refused. */
void load_open_all(load *self, uint64_t from, uint64_t to, uint64_t seconds);
void load_open_publisher(load *self);
void load_take_usage(load *self, load_usage *out);
/* Publishes `count` events as fast as the server answers for them. */
void load_preload(load *self, uint64_t count);
/* All that is due by the schedule, in one write or in one each. For load_client_turn. */
void load_pump_schedule(void *arg);
/* Waits until all was delivered, 30 s at most; returns the ms it took. */
double load_drain(load *self);
void load_count_missing(load *self);
/* Cores that were used between `from` and `to`; returns the seconds. */
double load_take_cpu(load *self);

void load_run_snapshot(load *self);
void load_run_resume(load *self);
void load_run_search(load *self);
