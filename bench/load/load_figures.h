/* load_figures.h - what a run tells: the one table of figures, as text, as JSON, beside another.
 *
 * A figure that a workload has no use for is 0 and is not shown; counts of what went wrong are
 * always shown where a workload delivers. Thread: one at a time. */
#pragma once

#include <stdio.h>

#include "protocol/base.h"

/* F(name, unit, better, bad, doc)   better: 1 more, -1 less, 0 neither; bad: it must be 0 */
#define LOAD_FIGURES(F)                                                                            \
    F(delivered_s, "/s", 1, 0, "deliveries")                                                       \
    F(published_s, "/s", 1, 0, "events published")                                                 \
    F(acked_s, "/s", 1, 0, "events answered as stored")                                            \
    F(us_per_delivery, "us", -1, 0, "server CPU a delivery")                                       \
    F(us_per_event, "us", -1, 0, "server CPU an event")                                            \
    F(p50_ms, "ms", -1, 0, "latency from due to received, median")                                 \
    F(p90_ms, "ms", -1, 0, "the same, 90 %")                                                       \
    F(p99_ms, "ms", -1, 0, "the same, 99 %")                                                       \
    F(p999_ms, "ms", -1, 0, "the same, 99.9 %")                                                    \
    F(max_ms, "ms", -1, 0, "the same, the longest")                                                \
    F(ack_p50_ms, "ms", -1, 0, "from due to the answer that it is stored, median")                 \
    F(ack_p99_ms, "ms", -1, 0, "the same, 99 %")                                                   \
    F(told_p50_ms, "ms", -1, 0, "from that answer to the event at a subscriber, median")           \
    F(told_p99_ms, "ms", -1, 0, "the same, 99 %")                                                  \
    F(none_p99_ms, "ms", -1, 0, "latency while nobody is stalled, 99 %")                           \
    F(slow_ratio, "x", -1, 0, "latency (99 %) with stalled readers against none")                  \
    F(none_rss_mb, "MB", -1, 0, "memory of the server while nobody is stalled")                    \
    F(catch_up_p50_ms, "ms", -1, 0, "from connecting until caught up, median")                     \
    F(catch_up_p99_ms, "ms", -1, 0, "the same, 99 %")                                              \
    F(catch_up_s, "/s", 1, 0, "events told to those who caught up")                                \
    F(server_s, "s", -1, 0, "CPU of the server for it")                                            \
    F(searches_s, "/s", 1, 0, "searches")                                                          \
    F(connects_s, "/s", 1, 0, "connections until each is subscribed")                              \
    F(rss_per_connection, "B", -1, 0, "memory of the server a connection")                         \
    F(slab_per_connection, "B", -1, 0, "kernel memory a connection, both ends")                    \
    F(rss_mb, "MB", -1, 0, "memory of the server")                                                 \
    F(drain_ms, "ms", -1, 0, "until all was there, after the last was sent")                       \
    F(late_p99_ms, "ms", 0, 0, "the load itself was late, 99 %")                                   \
    F(server_cpu, "cores", 0, 0, "used by the server")                                             \
    F(load_cpu, "cores", 0, 0, "used by this load")                                                \
    F(other_cpu, "cores", 0, 0, "used by others")                                                  \
    F(events, "", 0, 0, "events published in all")                                                 \
    F(deliveries, "", 0, 0, "deliveries in all")                                                   \
    F(lost, "", -1, 1, "numbers that were skipped")                                                \
    F(missing, "", -1, 1, "that did not come until the end")                                       \
    F(repeated, "", -1, 1, "that came again")                                                      \
    F(undecoded, "", -1, 1, "messages that were not understood")                                   \
    F(rejected, "", -1, 1, "events that the server refused")                                       \
    F(refused, "", -1, 1, "connections that the server refused")                                   \
    F(dropped, "", -1, 1, "connections that the server ended")                                     \
    F(cut, "", 0, 0, "stalled connections that the server ended")

typedef struct load_figures {
    bool complete; /* the run came to its end */
#define LOAD_FIGURE_MEMBER(name, unit, better, bad, doc) double name;
    LOAD_FIGURES(LOAD_FIGURE_MEMBER)
#undef LOAD_FIGURE_MEMBER
} load_figures;

typedef struct load_figure {
    const char *name, *unit, *doc;
    int better;
    bool bad;
    size_t at; /* of the double in load_figures */
} load_figure;

enum { LOAD_LIMIT_PERCENT = 95 }; /* of a core: who used so much was the limit */

extern const load_figure load_figure_table[];
extern const size_t load_figures_count;

double load_figure_value(const load_figures *figures, const load_figure *figure);
/* The member-wise median of runs; counts of what went wrong are summed. */
void load_figures_median(const load_figures *runs, size_t count, load_figures *out);
/* True where nothing was lost, repeated, refused or misunderstood. */
bool load_figures_clean(const load_figures *figures);
/* "the rate" (it was held), "server", "load", "both" or "neither". rate: wanted, a second; 0:
 * none. */
const char *load_figures_limit(const load_figures *figures, double rate, double reached);
/* {"name":value,...}, without those that are 0, but with all that must be 0. */
void load_figures_json(const load_figures *figures, FILE *out);
/* Reads what load_figures_json wrote, out of the member "figures" of a JSON text. False: there is
 * none, or it is no JSON. */
bool load_figures_read(tw_str text, load_figures *out);
/* For people; saved: shown beside, with the ratio, or NULL. */
void load_figures_show(const load_figures *figures, const load_figures *saved, FILE *out);
