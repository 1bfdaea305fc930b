/* load_run.c - the runs: fan-out, idle memory, storm; others in load_catch_up.c, load_search.c. */
#include "bench/load/load_run.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/load/load_peer.h"
#include "bench/load/load_run_priv.h"

enum {
    WINDOW_DELIVERIES = 262144, /* in flight where the rate is not fixed */
    WINDOW_EVENTS = 16384,      /* not answered yet, where nobody subscribes */
    IDLE_BEFORE = 64,           /* connections that pay for what is allocated once */
    WARM_MS = 1000,
    DRAIN_S = 30,
    QUIET_S = 120,
};

#define QUIET_CPU 0.03 /* of a core, in a second */

/* ---- waiting ---- */

void load_turn_for(load *self, uint64_t ns)
{
    uint64_t end = load_now_ns() + ns;
    for (uint64_t now = load_now_ns(); now < end; now = load_now_ns()) {
        load_client_turn(&self->client, end - now, NULL, NULL);
    }
}

void load_open_all(load *self, uint64_t from, uint64_t to, uint64_t seconds)
{
    load_client *client = &self->client;
    uint64_t base = client->ready + client->refused;
    uint64_t opened = 0;
    uint64_t deadline = load_now_ns() + seconds * LOAD_SECOND_NS;
    while (client->ready + client->refused - base < to - from) {
        uint64_t settled = client->ready + client->refused - base;
        while (opened < to - from && opened - settled < LOAD_AT_ONCE) {
            load_conn_open(client, &self->conns[from + opened++], false);
        }
        load_client_turn(client, 100 * LOAD_MS_NS, NULL, NULL);
        if (client->now_ns > deadline) {
            errno = 0;
            load_die("connections were not ready in time");
        }
    }
}

void load_open_publisher(load *self)
{
    uint64_t wanted = self->client.ready + 1;
    uint64_t deadline = load_now_ns() + 30 * LOAD_SECOND_NS;
    load_conn_open(&self->client, &self->publisher, true);
    while (self->client.ready < wanted && self->client.now_ns < deadline) {
        load_client_turn(&self->client, 100 * LOAD_MS_NS, NULL, NULL);
    }
    if (self->client.ready < wanted) {
        errno = 0;
        load_die("the publisher was not taken");
    }
}

void load_take_usage(load *self, load_usage *out)
{
    *out = (load_usage){.at_ns = load_now_ns(),
                        .delivered = self->client.delivered,
                        .published = self->published,
                        .acked = self->client.acked,
                        .server_s = load_pids_cpu_s(&self->options->pids),
                        .own_s = load_own_cpu_s(),
                        .machine_s = load_machine_cpu_s()};
}

/* ---- publishing ---- */

static load_event next_event(load *self, uint64_t seq, uint64_t due)
{
    load_event event = {
        .seq = (uint32_t)seq, .topic = 0, .topic_seq = (uint32_t)seq, .due_ns = due};
    uint64_t readers = self->subs - self->options->stalled;
    if (self->client.has_topics) {
        event.topic = load_topics_pick(&self->topics);
        event.topic_seq = self->topics.next[event.topic]++;
        readers = self->readers[event.topic];
    }
    self->expected += readers;
    return event;
}

static void publish(load *self, const load_event *events, size_t count)
{
    const load_adapter *adapter = self->client.adapter;
    adapter->publish(&self->client, &self->publisher, events, count);
    load_flush(&self->client, &self->publisher);
    self->published += count;
}

static uint64_t due_of(const load_client *client, uint32_t seq)
{
    return load_schedule_due(client->schedule, seq);
}

static void measure_if_due(load *self)
{
    const load_client *client = &self->client;
    if (self->from.at_ns == 0 && client->now_ns >= client->measure_from_ns) {
        load_take_usage(self, &self->from);
    }
    if (self->to.at_ns == 0 && client->now_ns >= client->measure_to_ns) {
        load_take_usage(self, &self->to);
    }
}

void load_pump_schedule(void *arg)
{
    load *self = arg;
    load_client *client = &self->client;
    load_event events[LOAD_PUBLISH_MAX];
    size_t max = self->options->single ? 1 : LOAD_PUBLISH_MAX;
    size_t count = 0;
    measure_if_due(self);
    while (self->published + count < self->total) {
        uint64_t seq = self->published + count;
        uint64_t due = load_schedule_due(&self->schedule, seq);
        if (due > client->now_ns) {
            break;
        }
        events[count++] = next_event(self, seq, due);
        if (due >= client->measure_from_ns && due < client->measure_to_ns) {
            load_histogram_add(&self->late, client->now_ns - due);
        }
        if (count == max) {
            publish(self, events, count);
            count = 0;
        }
    }
    if (count > 0) {
        publish(self, events, count);
    }
}

/* Fills the window again when a quarter of it is free: deliveries, or events not answered yet. */
static void pump_window(void *arg)
{
    load *self = arg;
    load_client *client = &self->client;
    bool deliver = self->subs > 0;
    uint64_t window = deliver ? WINDOW_DELIVERIES : WINDOW_EVENTS;
    measure_if_due(self);
    for (;;) {
        uint64_t flying =
            deliver ? self->expected - client->delivered : self->published - client->acked;
        uint64_t left = self->total - self->published;
        if (left == 0 || flying + window / 4 > window) {
            return;
        }
        load_event events[LOAD_PUBLISH_MAX];
        size_t max = self->options->single ? 1 : LOAD_PUBLISH_MAX, count = 0;
        uint64_t before = self->expected;
        while (count < max && count < left && self->expected - before < window - flying) {
            if (!deliver && count >= window - flying) {
                break;
            }
            events[count] = next_event(self, self->published + count, client->now_ns);
            count++;
        }
        publish(self, events, count);
    }
}

void load_preload(load *self, uint64_t count)
{
    load_client *client = &self->client;
    uint64_t subs = self->subs;
    uint64_t deadline = load_now_ns() + 600 * LOAD_SECOND_NS;
    uint64_t wanted = client->acked + count;
    self->total = self->published + count;
    self->subs = 0; /* nobody is there: the window is of answers */
    while (client->acked < wanted && client->rejected == 0) {
        load_client_turn(client, 10 * LOAD_MS_NS, pump_window, self);
        if (client->now_ns > deadline) {
            errno = 0;
            load_die("the records were not stored in time");
        }
    }
    self->subs = subs;
}

/* ---- fan-out ---- */

/* Warm for a second, then measured for as long as asked. */
static void begin_measure(load *self)
{
    load_client *client = &self->client;
    self->schedule.begin_ns = load_now_ns() + 20 * LOAD_MS_NS;
    self->schedule.first = self->published;
    client->measure_from_ns = self->schedule.begin_ns + WARM_MS * LOAD_MS_NS;
    client->measure_to_ns =
        client->measure_from_ns + (uint64_t)(self->options->seconds * (double)LOAD_SECOND_NS);
}

static void run_schedule(load *self)
{
    load_client *client = &self->client;
    self->schedule.period_ns = (double)LOAD_SECOND_NS / self->options->events_s;
    client->schedule = &self->schedule;
    client->due_ns = due_of;
    begin_measure(self);
    self->total = load_schedule_end(&self->schedule, client->measure_to_ns);
    while (self->published < self->total || self->to.at_ns == 0) {
        uint64_t now = load_now_ns();
        uint64_t next = self->published < self->total
                            ? load_schedule_due(&self->schedule, self->published)
                            : client->measure_to_ns;
        load_client_turn(client, next > now ? next - now : 0, load_pump_schedule, self);
    }
}

static void run_window(load *self)
{
    load_client *client = &self->client;
    begin_measure(self);
    self->total = UINT32_MAX;
    while (client->now_ns < client->measure_to_ns) {
        load_client_turn(client, 10 * LOAD_MS_NS, pump_window, self);
    }
    self->total = self->published;
    load_take_usage(self, &self->to);
}

double load_drain(load *self)
{
    load_client *client = &self->client;
    uint64_t begin = load_now_ns();
    uint64_t deadline = begin + DRAIN_S * LOAD_SECOND_NS;
    bool answered = self->subs == 0;
    while ((answered ? client->acked < self->published : client->delivered < self->expected) &&
           client->now_ns < deadline) {
        load_client_turn(client, 100 * LOAD_MS_NS, NULL, NULL);
    }
    return (double)(load_now_ns() - begin) / (double)LOAD_MS_NS;
}

void load_count_missing(load *self)
{
    load_figures *out = self->out;
    for (uint64_t i = 0; i < self->subs; i++) {
        const load_conn *conn = &self->conns[i];
        if (conn->stalled) {
            continue;
        }
        for (uint32_t s = 0; s < conn->slots_count; s++) {
            out->missing += self->topics.next[conn->slots[s].topic] - conn->slots[s].next;
        }
        out->missing += self->client.has_topics ? 0 : (double)(self->published - conn->next);
    }
    out->missing += self->subs == 0 ? (double)(self->published - self->client.acked) : 0;
}

double load_take_cpu(load *self)
{
    load_figures *out = self->out;
    double seconds = (double)(self->to.at_ns - self->from.at_ns) / (double)LOAD_SECOND_NS;
    double all = (self->to.machine_s - self->from.machine_s) / seconds;
    out->server_cpu = (self->to.server_s - self->from.server_s) / seconds;
    out->load_cpu = (self->to.own_s - self->from.own_s) / seconds;
    out->other_cpu = all - out->server_cpu - out->load_cpu;
    out->other_cpu = out->other_cpu > 0 && self->options->pids.count > 0 ? out->other_cpu : 0;
    out->rss_mb = (double)load_pids_rss(&self->options->pids) / 1e6;
    return seconds;
}

static void take_figures(load *self, double drain_ms)
{
    load_client *client = &self->client;
    load_figures *out = self->out;
    double seconds = load_take_cpu(self);
    double delivered = (double)(self->to.delivered - self->from.delivered);
    double published = (double)(self->to.published - self->from.published);
    double server_us = out->server_cpu * seconds * 1e6;
    out->delivered_s = delivered / seconds;
    out->published_s = published / seconds;
    out->acked_s = (double)(self->to.acked - self->from.acked) / seconds;
    out->us_per_delivery = delivered > 0 ? server_us / delivered : 0;
    out->us_per_event = published > 0 ? server_us / published : 0;
    if (self->options->events_s > 0) {
        out->p50_ms = load_histogram_ms(&client->latency, 0.5);
        out->p90_ms = load_histogram_ms(&client->latency, 0.9);
        out->p99_ms = load_histogram_ms(&client->latency, 0.99);
        out->p999_ms = load_histogram_ms(&client->latency, 0.999);
        out->max_ms = load_histogram_ms(&client->latency, 1);
        out->late_p99_ms = load_histogram_ms(&self->late, 0.99);
        out->ack_p50_ms = load_histogram_ms(&client->ack, 0.5);
        out->ack_p99_ms = load_histogram_ms(&client->ack, 0.99);
        out->told_p50_ms = load_histogram_ms(&client->told, 0.5);
        out->told_p99_ms = load_histogram_ms(&client->told, 0.99);
    }
    out->drain_ms = drain_ms;
    load_count_missing(self);
}

/* What is stored is indexed and swept for a while: waits until the server does next to nothing. */
static void wait_quiet(load *self)
{
    uint64_t deadline = load_now_ns() + QUIET_S * LOAD_SECOND_NS;
    double used = 1, before = load_pids_cpu_s(&self->options->pids);
    while (used > QUIET_CPU && load_now_ns() < deadline) {
        load_turn_for(self, LOAD_SECOND_NS);
        double now = load_pids_cpu_s(&self->options->pids);
        used = now - before;
        before = now;
    }
}

/* What is stored before anybody subscribes; they wait for the numbers behind it. */
static void store_before(load *self)
{
    if (self->options->documents == 0) {
        return;
    }
    load_preload(self, self->options->documents);
    wait_quiet(self);
    self->client.first_seq = (uint32_t)self->published;
    self->expected = 0;
    self->from = self->to = (load_usage){0};
    for (uint64_t i = 0; i < self->subs * self->options->each && self->client.has_topics; i++) {
        self->slots[i].next = self->topics.next[self->slots[i].topic];
    }
}

static void run_fanout(load *self)
{
    load_open_publisher(self);
    store_before(self);
    load_open_all(self, 0, self->subs, 120);
    load_turn_for(self, 200 * LOAD_MS_NS);
    if (self->options->events_s > 0) {
        run_schedule(self);
    } else {
        run_window(self);
    }
    take_figures(self, load_drain(self));
}

/* ---- connections ---- */

static void run_idle(load *self)
{
    load_take_usage(self, &self->from);
    uint64_t before = self->subs > IDLE_BEFORE ? IDLE_BEFORE : 0;
    load_open_all(self, 0, before, 60);
    load_turn_for(self, LOAD_SECOND_NS);
    double rss = (double)load_pids_rss(&self->options->pids);
    double slab = (double)load_kernel_slab();
    load_open_all(self, before, self->subs, 120);
    load_turn_for(self, (uint64_t)(self->options->seconds * (double)LOAD_SECOND_NS));
    double count = (double)(self->subs - before);
    load_take_usage(self, &self->to);
    (void)load_take_cpu(self);
    double rss_now = (double)load_pids_rss(&self->options->pids);
    self->out->rss_mb = rss_now / 1e6;
    self->out->rss_per_connection = (rss_now - rss) / count;
    self->out->slab_per_connection = ((double)load_kernel_slab() - slab) / count;
}

static void run_storm(load *self)
{
    load_take_usage(self, &self->from);
    load_open_all(self, 0, self->subs, 120);
    load_take_usage(self, &self->to);
    double seconds = load_take_cpu(self);
    self->out->connects_s = (double)self->client.ready / seconds;
}

/* ---- the run ---- */

/* Follows `each` neighbouring topics by each connection, so that topics are shared evenly. */
static void share_topics(load *self)
{
    const load_options *options = self->options;
    uint32_t count = (uint32_t)options->topics, each = (uint32_t)options->each;
    self->client.has_topics = true;
    self->client.scanned_percent = options->scanned;
    self->slots = tw_alloc_zero(self->subs * each + 1, sizeof *self->slots);
    self->readers = tw_alloc_zero(count, sizeof *self->readers);
    if (self->slots == NULL || self->readers == NULL ||
        !load_topics_init(&self->topics, count, options->zipf)) {
        load_die("no memory");
    }
    for (uint64_t i = 0; i < self->subs; i++) {
        load_conn *conn = &self->conns[i];
        conn->slots = self->slots + i * each;
        conn->slots_count = each;
        for (uint32_t s = 0; s < each; s++) {
            conn->slots[s].topic = (uint32_t)((i * each + s) % count);
            self->readers[conn->slots[s].topic] += conn->stalled ? 0 : 1;
        }
    }
}

static void show_progress(void *arg)
{
    load *self = arg;
    const load_client *client = &self->client;
    fprintf(stderr, "\r\033[K%llu connections, %llu events, %llu stored, %llu deliveries",
            (unsigned long long)client->ready, (unsigned long long)self->published,
            (unsigned long long)client->acked, (unsigned long long)client->delivered);
}

static void begin(load *self, const load_options *options, load_figures *out)
{
    *self = (load){.options = options, .out = out, .subs = options->subscribers};
    self->client.adapter = options->adapter;
    self->client.host = options->host;
    self->client.port = (uint16_t)options->port;
    self->client.secure = options->secure;
    self->client.payload_bytes = (uint32_t)options->payload;
    self->client.collection = options->collection != NULL ? options->collection : "load";
    self->client.variants = (uint32_t)options->variants;
    self->client.tick = options->progress ? show_progress : NULL;
    self->client.tick_context = self;
    self->subs = options->kind == LOAD_SEARCH ? 0 : self->subs;
    self->conns = tw_alloc_zero(self->subs + 1, sizeof *self->conns);
    if (self->conns == NULL) {
        load_die("no memory");
    }
    for (uint64_t i = 0; i < options->stalled; i++) {
        self->conns[i].stalled = true;
    }
    if (options->topics > 0) {
        share_topics(self);
    }
    load_client_init(&self->client);
}

static void end(load *self)
{
    load_figures *out = self->out;
    const load_client *client = &self->client;
    out->events = (double)self->published;
    out->deliveries = (double)client->delivered;
    out->lost = (double)client->lost;
    out->repeated = (double)client->repeated;
    out->undecoded = (double)client->undecoded;
    out->dropped = (double)client->dropped;
    out->cut = (double)client->cut;
    out->rejected = (double)client->rejected;
    out->refused = (double)client->refused;
    out->complete = true;
    if (self->options->progress) {
        fputs("\r\033[K", stderr);
    }
    for (uint64_t i = 0; i < self->subs; i++) {
        load_conn_close(&self->client, &self->conns[i]);
    }
    load_conn_close(&self->client, &self->publisher);
    load_client_fini(&self->client);
    load_topics_fini(&self->topics);
    tw_free(self->conns);
    tw_free(self->slots);
    tw_free(self->readers);
}

static void run(const load_options *options, load_figures *out)
{
    static void (*const kinds[])(load * self) = {
        [LOAD_FANOUT] = run_fanout,
        [LOAD_SLOW] = run_fanout,
        [LOAD_IDLE] = run_idle,
        [LOAD_STORM] = run_storm,
        [LOAD_SNAPSHOT] = load_run_snapshot,
        [LOAD_RESUME] = load_run_resume,
        [LOAD_SEARCH] = load_run_search,
    };
    static load self; /* too big for a stack: its histograms */
    begin(&self, options, out);
    kinds[options->kind](&self);
    end(&self);
}

static void run_apart(const load_options *options, load_figures *out)
{
    int ends[2];
    *out = (load_figures){0};
    if (pipe(ends) != 0) {
        return;
    }
    int pid = fork();
    if (pid == 0) {
        prctl(PR_SET_TIMERSLACK, 1UL); /* the default makes each timed send 50 us late */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (options->pinned) {
            load_pin(LOAD_CORE_LOAD);
        }
        run(options, out);
        bool told = write(ends[1], out, sizeof *out) == (ssize_t)sizeof *out;
        _exit(told ? 0 : 1);
    }
    close(ends[1]);
    if (pid < 0 || read(ends[0], out, sizeof *out) != (ssize_t)sizeof *out) {
        *out = (load_figures){0};
    }
    close(ends[0]);
    waitpid(pid, NULL, 0);
}

void load_run(const load_options *options, load_figures *out)
{
    if (options->kind != LOAD_SLOW) {
        run_apart(options, out);
        return;
    }
    char collection[128];
    load_options second = *options, first = *options;
    load_figures none;
    tw_format(collection, sizeof collection, "%s_slow",
              options->collection != NULL ? options->collection : "load");
    first.stalled = 0;
    second.collection = collection;
    run_apart(&first, &none);
    run_apart(&second, out);
    out->complete = out->complete && none.complete;
    out->none_p99_ms = none.p99_ms;
    out->none_rss_mb = none.rss_mb;
    out->other_cpu = out->other_cpu > none.other_cpu ? out->other_cpu : none.other_cpu;
    out->slow_ratio = none.p99_ms > 0 ? out->p99_ms / none.p99_ms : 0;
    out->lost += none.lost + none.missing;
    out->repeated += none.repeated;
    out->undecoded += none.undecoded;
    out->rejected += none.rejected;
    out->refused += none.refused;
    out->dropped += none.dropped;
}
