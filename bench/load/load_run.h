/* load_run.h - one run of a workload against a server that listens.
 *
 * Fixed rates follow an absolute schedule: event k is due at begin + k * period, carries that time,
 * and is late where anything was slow, the load too: late_p99_ms tells its share. As fast as it
 * goes = a closed window of deliveries in flight, whose latency says nothing about the server.
 *
 * LOAD_FANOUT    events to subscribers; with topics, to those of the event's topic; without
 *                subscribers, until they are answered as stored; behind `documents` that are
 *                stored before
 * LOAD_SLOW      the same twice, without and with `stalled` of the subscribers never reading
 * LOAD_IDLE      memory of connections that only stand
 * LOAD_STORM     all connections at once, until each is subscribed
 * LOAD_SNAPSHOT  all connect at once and are told `documents`, while events go on
 * LOAD_RESUME    all are away while `documents` events come, then come back at once
 * LOAD_SEARCH    searches in `documents` records, `subscribers` of them in flight */
#pragma once

#include "bench/load/load_adapter.h"
#include "bench/load/load_figures.h"
#include "bench/load/load_process.h"

enum load_kind {
    LOAD_FANOUT,
    LOAD_SLOW,
    LOAD_IDLE,
    LOAD_STORM,
    LOAD_SNAPSHOT,
    LOAD_RESUME,
    LOAD_SEARCH,
};

enum {
    LOAD_SUBSCRIBERS_MAX = 60000, /* of one load: descriptors */
    LOAD_TOPICS_MAX = 1 << 20,
    LOAD_DOCUMENTS_MAX = 100000000,
};

typedef struct load_options {
    const load_adapter *adapter;
    load_pids pids; /* of the server; none: what it uses is not told */
    uint32_t host;  /* IPv4, host order; 0: 127.0.0.1 */
    int port;
    bool secure;            /* by TLS; no certificate is looked at */
    const char *collection; /* NULL: load */
    enum load_kind kind;
    uint64_t subscribers; /* connections */
    double events_s;      /* 0: as fast as it goes */
    double seconds;
    uint64_t payload;  /* bytes */
    bool single;       /* one event a write, not all that are due */
    uint64_t topics;   /* 0: one, which all follow */
    uint64_t each;     /* topics that a connection follows */
    bool zipf;         /* events fall on topics by Zipf's law (1.0), not evenly */
    uint64_t variants; /* different filters, all of which match every event; 0: one */
    uint32_t scanned;  /* percent of the topics that no index can find */
    uint64_t stalled;  /* of the subscribers */
    uint64_t documents;
    bool pinned;   /* the load stays on LOAD_CORE_LOAD */
    bool progress; /* drawn on stderr */
} load_options;

/* In a process of its own. What was wrong is told on stderr, and out->complete is then false. */
void load_run(const load_options *options, load_figures *out);
/* us that one of `rounds` exchanges of 128 bytes over loopback takes between two cores; the median;
 * 0 where there is one core. */
double load_round_trip_us(size_t rounds);
