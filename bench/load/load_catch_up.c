/* load_catch_up.c - the runs of those who catch up: a snapshot, and a resume after a break. */
#include <errno.h>

#include "bench/load/load_run_priv.h"

enum {
    CATCH_UP_S = 300,
    GREETINGS = 16, /* events that tell a subscriber where it is, where no answer does */
};

/* Opens all connections; returns when each was told `target` events, while events go on where the
 * run has a rate. */
static void catch_up(load *self)
{
    load_client *client = &self->client;
    uint64_t opened = 0, base = client->ready + client->refused;
    bool live = self->options->kind == LOAD_SNAPSHOT && self->options->events_s > 0;
    uint64_t deadline = load_now_ns() + CATCH_UP_S * LOAD_SECOND_NS;
    self->total = live ? UINT32_MAX : self->published;
    self->schedule = (load_schedule){.begin_ns = load_now_ns(),
                                     .period_ns = live ? 1e9 / self->options->events_s : 1e9,
                                     .first = self->published};
    load_take_usage(self, &self->from);
    while (client->caught_up + client->refused < self->subs) {
        uint64_t settled = client->ready + client->refused - base;
        while (opened < self->subs && opened - settled < LOAD_AT_ONCE) {
            load_conn_open(client, &self->conns[opened++], false);
        }
        uint64_t now = load_now_ns(), next = load_schedule_due(&self->schedule, self->published);
        uint64_t wait = live && next < now + 100 * LOAD_MS_NS ? next : now + 100 * LOAD_MS_NS;
        load_client_turn(client, wait > now ? wait - now : 0, live ? load_pump_schedule : NULL,
                         self);
        if (client->now_ns > deadline) {
            errno = 0;
            load_die("not all have caught up in time");
        }
    }
    load_take_usage(self, &self->to);
    self->total = self->published;
    self->expected = self->subs * (self->published - client->first_seq);
}

static void take_figures(load *self, uint64_t delivered_before)
{
    load_client *client = &self->client;
    load_figures *out = self->out;
    double seconds = load_take_cpu(self);
    out->server_s = self->to.server_s - self->from.server_s;
    out->catch_up_s = (double)(self->to.delivered - delivered_before) / seconds;
    out->catch_up_p50_ms = load_histogram_ms(&client->catch_up, 0.5);
    out->catch_up_p99_ms = load_histogram_ms(&client->catch_up, 0.99);
    client->delivered -= delivered_before; /* what is awaited is what came since */
    out->drain_ms = load_drain(self);
    load_count_missing(self);
}

void load_run_snapshot(load *self)
{
    load_client *client = &self->client;
    load_open_publisher(self);
    load_preload(self, self->options->documents);
    client->from_start = true;
    client->target = self->options->documents;
    catch_up(self);
    take_figures(self, 0);
}

void load_run_resume(load *self)
{
    load_client *client = &self->client;
    load_open_publisher(self);
    load_open_all(self, 0, self->subs, 120);
    if (client->adapter->resumes_by_path) {
        load_preload(self, GREETINGS);
        self->expected = self->subs * self->published;
        (void)load_drain(self);
    }
    for (uint64_t i = 0; i < self->subs; i++) {
        load_conn_close(client, &self->conns[i]);
    }
    tw_format(client->since, sizeof client->since, "%s",
              client->position[0] != '\0' ? client->position : "number");
    client->first_seq = (uint32_t)self->published;
    load_preload(self, self->options->documents);
    client->target = self->published;
    uint64_t before = client->delivered;
    catch_up(self);
    take_figures(self, before);
}
