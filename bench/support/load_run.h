/* load_run.h - one run of a workload against a server that listens: fan-out, idle memory, storm.
 *
 * Fixed rates follow an absolute schedule: event k is due at begin + k * period, carries that time,
 * and is late where anything was slow, the load too: late_p99_ms tells its share. As fast as it
 * goes = a closed window of deliveries in flight, whose latency says nothing about the server. */
#pragma once

#include "bench/support/load_adapter.h"
#include "bench/support/load_process.h"

enum load_kind { LOAD_FANOUT, LOAD_IDLE, LOAD_STORM };

typedef struct load_options {
    const load_adapter *adapter;
    load_pids pids; /* of the server */
    int port;
    enum load_kind kind;
    uint64_t subscribers;
    uint64_t rate; /* deliveries a second; 0: as fast as it goes */
    double seconds;
    uint64_t payload; /* bytes */
    bool single;      /* one event a write, not all that are due */
} load_options;

typedef struct load_figures {
    bool complete; /* the run came to its end */
    double delivered_s, published_s;
    double server_cpu, load_cpu, other_cpu; /* cores */
    double us_per_delivery;                 /* of the server's CPU */
    double p50_ms, p99_ms, p999_ms, max_ms;
    double late_p99_ms; /* the load's own */
    double ack_p50_ms, ack_p99_ms;
    double drain_ms; /* until all was there, after the last was due */
    double rss_mb, rss_per_connection, slab_per_connection;
    double connects_s;
    uint64_t lost, missing, repeated, undecoded, dropped, rejected, refused;
} load_figures;

/* In a process of its own, on LOAD_CORE_LOAD. What was wrong is told on stderr. */
void load_run(const load_options *options, load_figures *out);
