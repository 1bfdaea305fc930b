/* load_run.c - see load_run.h. */
#include "bench/support/load_run.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/support/load_peer.h"

enum {
    WINDOW_DELIVERIES = 262144, /* in flight where the rate is not fixed */
    PUBLISH_MAX = 512,          /* events of one write */
    AT_ONCE = 256,              /* connections in their handshake */
    IDLE_BEFORE = 64,           /* connections that pay for what is allocated once */
    WARM_MS = 1000,
    DRAIN_S = 30,
};

static const uint64_t SECOND_NS = 1000000000;
static const uint64_t MS_NS = 1000000;

typedef struct usage {
    uint64_t at_ns;
    uint64_t delivered, published;
    double server_s, own_s, machine_s;
} usage;

typedef struct load {
    load_client client;
    const load_options *options;
    load_figures *out;
    uint64_t subs;
    load_conn *conns; /* own */
    load_conn publisher;
    uint64_t published, total; /* events */
    load_histogram late;
    usage from, to;
} load;

/* ---- waiting ---- */

static void turn_for(load *self, uint64_t ns)
{
    uint64_t end = load_now_ns() + ns;
    for (uint64_t now = load_now_ns(); now < end; now = load_now_ns()) {
        load_client_turn(&self->client, end - now, NULL, NULL);
    }
}

/* Opens connections [from, to) and waits until each is ready or refused. */
static void open_all(load *self, uint64_t from, uint64_t to, uint64_t seconds)
{
    load_client *client = &self->client;
    uint64_t base = client->ready + client->refused;
    uint64_t opened = 0;
    uint64_t deadline = load_now_ns() + seconds * SECOND_NS;
    while (client->ready + client->refused - base < to - from) {
        uint64_t settled = client->ready + client->refused - base;
        while (opened < to - from && opened - settled < AT_ONCE) {
            load_conn_open(client, &self->conns[from + opened++], false);
        }
        load_client_turn(client, 100 * MS_NS, NULL, NULL);
        if (client->now_ns > deadline) {
            errno = 0;
            load_die("connections were not ready in time");
        }
    }
}

static void open_publisher(load *self)
{
    uint64_t wanted = self->client.ready + 1;
    uint64_t deadline = load_now_ns() + 10ULL * SECOND_NS;
    load_conn_open(&self->client, &self->publisher, true);
    while (self->client.ready < wanted && self->client.now_ns < deadline) {
        load_client_turn(&self->client, 100 * MS_NS, NULL, NULL);
    }
    if (self->client.ready < wanted) {
        errno = 0;
        load_die("the publisher was not taken");
    }
}

static void take_usage(load *self, usage *out)
{
    *out = (usage){.at_ns = load_now_ns(),
                   .delivered = self->client.delivered,
                   .published = self->published,
                   .server_s = load_pids_cpu_s(&self->options->pids),
                   .own_s = load_own_cpu_s(),
                   .machine_s = load_machine_cpu_s()};
}

/* ---- publishing ---- */

static void publish(load *self, load_event *events, size_t count)
{
    const load_adapter *adapter = self->client.adapter;
    adapter->publish(&self->client, &self->publisher, events, count);
    load_flush(&self->client, &self->publisher);
    self->published += count;
}

static uint64_t due_of(const load_client *client, uint32_t seq)
{
    return client->begin_ns + (uint64_t)((double)seq * client->period_ns);
}

/* All that is due, in one write or in one each. */
static void pump_schedule(void *arg)
{
    load *self = arg;
    load_client *client = &self->client;
    load_event events[PUBLISH_MAX];
    size_t max = self->options->single ? 1 : PUBLISH_MAX;
    size_t count = 0;
    if (self->from.at_ns == 0 && client->now_ns >= client->measure_from_ns) {
        take_usage(self, &self->from);
    }
    if (self->to.at_ns == 0 && client->now_ns >= client->measure_to_ns) {
        take_usage(self, &self->to);
    }
    while (self->published + count < self->total) {
        uint32_t seq = (uint32_t)(self->published + count);
        uint64_t due = due_of(client, seq);
        if (due > client->now_ns) {
            break;
        }
        events[count++] = (load_event){seq, due};
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

/* Fills the window again when a quarter of it is free. */
static void pump_window(void *arg)
{
    load *self = arg;
    load_client *client = &self->client;
    uint64_t readers = self->subs;
    uint64_t window = WINDOW_DELIVERIES / readers;
    uint64_t flying = self->published - client->delivered / readers;
    if (self->from.at_ns == 0 && client->now_ns >= client->measure_from_ns) {
        take_usage(self, &self->from);
    }
    if (client->now_ns >= client->measure_to_ns || flying + window / 4 > window) {
        return;
    }
    load_event events[PUBLISH_MAX];
    size_t max = self->options->single ? 1 : PUBLISH_MAX;
    for (uint64_t room = window - flying; room > 0;) {
        size_t count = room < max ? (size_t)room : max;
        for (size_t i = 0; i < count; i++) {
            events[i] = (load_event){(uint32_t)(self->published + i), client->now_ns};
        }
        publish(self, events, count);
        room -= count;
    }
}

/* ---- fan-out ---- */

static void run_schedule(load *self)
{
    load_client *client = &self->client;
    double events_s = (double)self->options->rate / (double)self->subs;
    client->period_ns = (double)SECOND_NS / events_s;
    client->due_ns = due_of;
    client->begin_ns = load_now_ns() + 20 * MS_NS;
    client->measure_from_ns = client->begin_ns + WARM_MS * MS_NS;
    client->measure_to_ns =
        client->measure_from_ns + (uint64_t)(self->options->seconds * (double)SECOND_NS);
    self->total =
        (uint64_t)((double)(client->measure_to_ns - client->begin_ns) / client->period_ns);
    while (self->published < self->total || self->to.at_ns == 0) {
        uint64_t now = load_now_ns();
        uint64_t next = self->published < self->total ? due_of(client, (uint32_t)self->published)
                                                      : client->measure_to_ns;
        load_client_turn(client, next > now ? next - now : 0, pump_schedule, self);
    }
}

static void run_window(load *self)
{
    load_client *client = &self->client;
    client->begin_ns = load_now_ns();
    client->measure_from_ns = client->begin_ns + WARM_MS * MS_NS;
    client->measure_to_ns =
        client->measure_from_ns + (uint64_t)(self->options->seconds * (double)SECOND_NS);
    while (client->now_ns < client->measure_to_ns) {
        load_client_turn(client, 10 * MS_NS, pump_window, self);
    }
    take_usage(self, &self->to);
}

/* Returns the ms until all was delivered, from the moment that the last was due. */
static double drain(load *self)
{
    load_client *client = &self->client;
    uint64_t wanted = self->published * self->subs;
    uint64_t begin = load_now_ns();
    uint64_t deadline = begin + DRAIN_S * SECOND_NS;
    while (client->delivered < wanted && client->now_ns < deadline) {
        load_client_turn(client, 100 * MS_NS, NULL, NULL);
    }
    return (double)(load_now_ns() - begin) / (double)MS_NS;
}

static void take_figures(load *self, double drain_ms)
{
    load_client *client = &self->client;
    load_figures *out = self->out;
    double seconds = (double)(self->to.at_ns - self->from.at_ns) / (double)SECOND_NS;
    double all = (self->to.machine_s - self->from.machine_s) / seconds;
    double delivered = (double)(self->to.delivered - self->from.delivered);
    out->server_cpu = (self->to.server_s - self->from.server_s) / seconds;
    out->load_cpu = (self->to.own_s - self->from.own_s) / seconds;
    out->other_cpu = all - out->server_cpu - out->load_cpu;
    out->other_cpu = out->other_cpu > 0 ? out->other_cpu : 0;
    out->delivered_s = delivered / seconds;
    out->published_s = (double)(self->to.published - self->from.published) / seconds;
    out->us_per_delivery = delivered > 0 ? out->server_cpu * seconds * 1e6 / delivered : 0;
    out->p50_ms = load_histogram_ms(&client->latency, 0.5);
    out->p99_ms = load_histogram_ms(&client->latency, 0.99);
    out->p999_ms = load_histogram_ms(&client->latency, 0.999);
    out->max_ms = load_histogram_ms(&client->latency, 1);
    out->late_p99_ms = load_histogram_ms(&self->late, 0.99);
    out->ack_p50_ms = load_histogram_ms(&client->ack, 0.5);
    out->ack_p99_ms = load_histogram_ms(&client->ack, 0.99);
    out->drain_ms = drain_ms;
    out->rss_mb = (double)load_pids_rss(&self->options->pids) / 1e6;
    for (uint64_t i = 0; i < self->subs; i++) {
        out->missing += self->published - self->conns[i].next;
    }
}

static void run_fanout(load *self)
{
    open_all(self, 0, self->subs, 60);
    open_publisher(self);
    turn_for(self, 200 * MS_NS);
    if (self->options->rate > 0) {
        run_schedule(self);
    } else {
        run_window(self);
    }
    take_figures(self, drain(self));
}

/* ---- connections ---- */

static void run_idle(load *self)
{
    open_all(self, 0, IDLE_BEFORE, 60);
    turn_for(self, SECOND_NS);
    double rss = (double)load_pids_rss(&self->options->pids);
    double slab = (double)load_kernel_slab();
    open_all(self, IDLE_BEFORE, self->subs, 120);
    turn_for(self, (uint64_t)(self->options->seconds * (double)SECOND_NS));
    double count = (double)(self->subs - IDLE_BEFORE);
    double rss_now = (double)load_pids_rss(&self->options->pids);
    self->out->rss_mb = rss_now / 1e6;
    self->out->rss_per_connection = (rss_now - rss) / count;
    self->out->slab_per_connection = ((double)load_kernel_slab() - slab) / count;
}

static void run_storm(load *self)
{
    take_usage(self, &self->from);
    open_all(self, 0, self->subs, 120);
    take_usage(self, &self->to);
    double seconds = (double)(self->to.at_ns - self->from.at_ns) / (double)SECOND_NS;
    self->out->connects_s = (double)self->client.ready / seconds;
    self->out->server_cpu = (self->to.server_s - self->from.server_s) / seconds;
    self->out->load_cpu = (self->to.own_s - self->from.own_s) / seconds;
}

/* ---- the run ---- */

static void run(const load_options *options, load_figures *out)
{
    static void (*const kinds[])(load * self) = {
        [LOAD_FANOUT] = run_fanout, [LOAD_IDLE] = run_idle, [LOAD_STORM] = run_storm};
    static load self;
    self.options = options;
    self.out = out;
    self.subs = options->subscribers;
    self.client.adapter = options->adapter;
    self.client.port = (uint16_t)options->port;
    self.client.payload_bytes = (uint32_t)options->payload;
    self.conns = tw_alloc_zero(self.subs, sizeof *self.conns);
    if (self.conns == NULL) {
        load_die("no memory");
    }
    load_client_init(&self.client);
    kinds[options->kind](&self);
    out->lost = self.client.lost;
    out->repeated = self.client.repeated;
    out->undecoded = self.client.undecoded;
    out->dropped = self.client.dropped;
    out->rejected = self.client.rejected;
    out->refused = self.client.refused;
    out->complete = true;
    for (uint64_t i = 0; i < self.subs; i++) {
        load_conn_close(&self.client, &self.conns[i]);
    }
    load_conn_close(&self.client, &self.publisher);
    load_client_fini(&self.client);
    tw_free(self.conns);
}

void load_run(const load_options *options, load_figures *out)
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
        load_pin(LOAD_CORE_LOAD);
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
