/* wsload.c - the load program: what does a websocket server deliver, hold and stand?
 *
 * usage: wsload WORKLOAD ADAPTER PORT [options]        bench/run.py starts servers and calls it
 *   fanout    one publisher, --subs readers; --rate deliveries a second for --seconds, or as many
 *             as a closed window lets through (--rate 0)
 *   idle      resident memory of the server for each of --subs connections that wait
 *   storm     --subs connections that come at once, --at-once of them in their handshake
 *   snapshot  --records are written, then read by one stream from the start (tidewire only)
 * One thread. Fixed rates follow an absolute schedule: event k is due at begin + k * period, carries
 * that time, and is late where anything was slow, this program too: late_p99_ms tells its share.
 * A closed window's latency says nothing about the server. Prints one line of name=value. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "bench/support/load_adapter.h"
#include "bench/support/load_process.h"

enum {
    WINDOW_DELIVERIES = 262144, /* in flight where the rate is not fixed */
    PUBLISH_MAX = 512,          /* events of one write */
    SNAPSHOT_IN_FLIGHT = 8000,
    IDLE_BEFORE = 64, /* connections that pay for what is allocated once */
    SECOND_NS = 1000000000,
    MS_NS = 1000000,
};

typedef struct usage {
    uint64_t at_ns;
    uint64_t delivered, published;
    double server_s, own_s, machine_s;
} usage;

typedef struct load {
    load_client client;
    load_pids pids;
    uint64_t subs, rate, seconds, payload, records, at_once, stalled, warm_ms, drain_s;
    bool single;      /* one event a write */
    load_conn *conns; /* own */
    load_conn publisher;
    uint64_t published, total; /* events */
    load_histogram late;
    usage from, to;
} load;

static void print_number(const char *name, double value)
{
    printf(" %s=%.*f", name, value < 10 ? 3 : value < 1000 ? 1 : 0, value);
}

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
        while (opened < to - from && opened - settled < self->at_once) {
            load_conn *conn = &self->conns[from + opened++];
            conn->stalled = from + opened <= self->stalled;
            load_conn_open(client, conn, false);
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
                   .server_s = load_pids_cpu_s(&self->pids),
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
    size_t max = self->single ? 1 : PUBLISH_MAX;
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
    uint64_t readers = self->subs - self->stalled;
    uint64_t window = WINDOW_DELIVERIES / readers;
    uint64_t flying = self->published - client->delivered / readers;
    if (self->from.at_ns == 0 && client->now_ns >= client->measure_from_ns) {
        take_usage(self, &self->from);
    }
    if (client->now_ns >= client->measure_to_ns || flying + window / 4 > window) {
        return;
    }
    load_event events[PUBLISH_MAX];
    for (uint64_t room = window - flying; room > 0;) {
        size_t count = room < PUBLISH_MAX ? (size_t)room : PUBLISH_MAX;
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
    double events_s = (double)self->rate / (double)self->subs;
    client->period_ns = SECOND_NS / events_s;
    client->due_ns = due_of;
    client->begin_ns = load_now_ns() + 20 * MS_NS;
    client->measure_from_ns = client->begin_ns + self->warm_ms * MS_NS;
    client->measure_to_ns = client->measure_from_ns + self->seconds * SECOND_NS;
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
    client->measure_from_ns = client->begin_ns + self->warm_ms * MS_NS;
    client->measure_to_ns = client->measure_from_ns + self->seconds * SECOND_NS;
    while (client->now_ns < client->measure_to_ns) {
        load_client_turn(client, 10 * MS_NS, pump_window, self);
    }
    take_usage(self, &self->to);
}

/* Returns the ms until all was delivered, from the moment that the last was due. */
static double drain(load *self)
{
    load_client *client = &self->client;
    uint64_t wanted = self->published * (self->subs - self->stalled);
    uint64_t begin = load_now_ns();
    uint64_t deadline = begin + self->drain_s * SECOND_NS;
    while (client->delivered < wanted && client->now_ns < deadline) {
        load_client_turn(client, 100 * MS_NS, NULL, NULL);
    }
    return (double)(load_now_ns() - begin) / MS_NS;
}

static void print_figures(load *self, double drain_ms)
{
    load_client *client = &self->client;
    double seconds = (double)(self->to.at_ns - self->from.at_ns) / SECOND_NS;
    double server = (self->to.server_s - self->from.server_s) / seconds;
    double own = (self->to.own_s - self->from.own_s) / seconds;
    double all = (self->to.machine_s - self->from.machine_s) / seconds;
    double delivered = (double)(self->to.delivered - self->from.delivered);
    uint64_t missing = 0;
    for (uint64_t i = self->stalled; i < self->subs; i++) {
        missing += self->published - self->conns[i].next;
    }
    print_number("delivered_s", delivered / seconds);
    print_number("published_s", (double)(self->to.published - self->from.published) / seconds);
    print_number("server_cpu", server);
    print_number("load_cpu", own);
    print_number("other_cpu", all > server + own ? all - server - own : 0);
    print_number("us_per_delivery", delivered > 0 ? server * seconds * 1e6 / delivered : 0);
    print_number("p50_ms", load_histogram_ms(&client->latency, 0.5));
    print_number("p99_ms", load_histogram_ms(&client->latency, 0.99));
    print_number("p999_ms", load_histogram_ms(&client->latency, 0.999));
    print_number("max_ms", load_histogram_ms(&client->latency, 1));
    print_number("late_p99_ms", load_histogram_ms(&self->late, 0.99));
    print_number("ack_p50_ms", load_histogram_ms(&client->ack, 0.5));
    print_number("ack_p99_ms", load_histogram_ms(&client->ack, 0.99));
    print_number("drain_ms", drain_ms);
    print_number("rss_mb", (double)load_pids_rss(&self->pids) / 1e6);
    printf(" lost=%llu missing=%llu repeated=%llu undecoded=%llu dropped=%llu rejected=%llu",
           (unsigned long long)client->lost, (unsigned long long)missing,
           (unsigned long long)client->repeated, (unsigned long long)client->undecoded,
           (unsigned long long)client->dropped, (unsigned long long)client->rejected);
}

static void run_fanout(load *self)
{
    open_all(self, 0, self->subs, 60);
    open_publisher(self);
    turn_for(self, 200 * MS_NS);
    if (self->rate > 0) {
        run_schedule(self);
    } else {
        run_window(self);
    }
    print_figures(self, drain(self));
}

/* ---- connections ---- */

static void run_idle(load *self)
{
    open_all(self, 0, IDLE_BEFORE, 60);
    turn_for(self, SECOND_NS);
    double rss = (double)load_pids_rss(&self->pids);
    double slab = (double)load_kernel_slab();
    open_all(self, IDLE_BEFORE, self->subs, 120);
    turn_for(self, self->seconds * SECOND_NS);
    double count = (double)(self->subs - IDLE_BEFORE);
    print_number("rss_per_conn", ((double)load_pids_rss(&self->pids) - rss) / count);
    print_number("slab_per_conn", ((double)load_kernel_slab() - slab) / count);
    print_number("rss_mb", (double)load_pids_rss(&self->pids) / 1e6);
    printf(" refused=%llu dropped=%llu", (unsigned long long)self->client.refused,
           (unsigned long long)self->client.dropped);
}

static void run_storm(load *self)
{
    take_usage(self, &self->from);
    open_all(self, 0, self->subs, 120);
    take_usage(self, &self->to);
    double seconds = (double)(self->to.at_ns - self->from.at_ns) / SECOND_NS;
    print_number("connects_s", (double)self->client.ready / seconds);
    print_number("seconds", seconds);
    print_number("server_cpu", (self->to.server_s - self->from.server_s) / seconds);
    print_number("load_cpu", (self->to.own_s - self->from.own_s) / seconds);
    printf(" refused=%llu", (unsigned long long)self->client.refused);
}

/* ---- snapshot ---- */

static void write_records(load *self)
{
    load_client *client = &self->client;
    load_event events[PUBLISH_MAX];
    uint64_t deadline = load_now_ns() + 600ULL * SECOND_NS;
    while (client->acked < self->records) {
        while (self->published < self->records &&
               self->published - client->acked < SNAPSHOT_IN_FLIGHT) {
            uint64_t left = self->records - self->published;
            size_t count = left < PUBLISH_MAX ? (size_t)left : PUBLISH_MAX;
            for (size_t i = 0; i < count; i++) {
                events[i] = (load_event){(uint32_t)(self->published + i), client->now_ns};
            }
            publish(self, events, count);
        }
        load_client_turn(client, 100 * MS_NS, NULL, NULL);
        if (client->rejected > 0 || client->now_ns > deadline) {
            errno = 0;
            load_die("the records were not taken");
        }
    }
}

static void run_snapshot(load *self)
{
    load_client *client = &self->client;
    open_publisher(self);
    uint64_t begin = load_now_ns();
    write_records(self);
    print_number("written_s", (double)self->records * SECOND_NS / (double)(load_now_ns() - begin));
    turn_for(self, SECOND_NS);
    uint64_t before = load_pids_rss(&self->pids), peak = before, sampled = 0;
    uint64_t wanted = client->ready + 1;
    take_usage(self, &self->from);
    client->from_start = true;
    load_conn_open(client, &self->conns[0], false);
    while (client->ready < wanted && client->dropped + client->refused == 0) {
        load_client_turn(client, 10 * MS_NS, NULL, NULL);
        if (client->now_ns - sampled > 10 * MS_NS) {
            uint64_t rss = load_pids_rss(&self->pids);
            peak = rss > peak ? rss : peak;
            sampled = client->now_ns;
        }
    }
    take_usage(self, &self->to);
    double seconds = (double)(self->to.at_ns - self->from.at_ns) / SECOND_NS;
    print_number("records_s", (double)client->delivered / seconds);
    print_number("sync_s", seconds);
    print_number("server_cpu", (self->to.server_s - self->from.server_s) / seconds);
    print_number("load_cpu", (self->to.own_s - self->from.own_s) / seconds);
    print_number("rss_before_mb", (double)before / 1e6);
    print_number("rss_peak_mb", (double)peak / 1e6);
    printf(" lost=%llu missing=%llu repeated=%llu undecoded=%llu", (unsigned long long)client->lost,
           (unsigned long long)(self->records - self->conns[0].next),
           (unsigned long long)client->repeated, (unsigned long long)client->undecoded);
}

/* ---- options ---- */

static _Noreturn void usage_die(void)
{
    fputs("usage: wsload fanout|idle|storm|snapshot raw|nchan|nats|mqtt|tidewire PORT\n"
          "  --pids A,B --subs N --rate DELIVERIES_S --seconds N --payload BYTES --records N\n"
          "  --at-once N --stalled N --warm-ms N --drain-s N --single\n",
          stderr);
    exit(2);
}

static void read_options(load *self, int argc, char **argv)
{
    static const struct option named[] = {
        {"pids", 1, NULL, 'p'},    {"subs", 1, NULL, 'n'},    {"rate", 1, NULL, 'r'},
        {"seconds", 1, NULL, 's'}, {"payload", 1, NULL, 'b'}, {"records", 1, NULL, 'c'},
        {"at-once", 1, NULL, 'a'}, {"stalled", 1, NULL, 't'}, {"warm-ms", 1, NULL, 'w'},
        {"drain-s", 1, NULL, 'd'}, {"single", 0, NULL, '1'},  {NULL, 0, NULL, 0},
    };
    uint64_t *numbers[] = {
        ['n'] = &self->subs,    ['r'] = &self->rate,    ['s'] = &self->seconds,
        ['b'] = &self->payload, ['c'] = &self->records, ['a'] = &self->at_once,
        ['t'] = &self->stalled, ['w'] = &self->warm_ms, ['d'] = &self->drain_s,
    };
    int which;
    while ((which = getopt_long(argc, argv, "", named, NULL)) != -1) {
        if (which == 'p') {
            if (!load_pids_read(&self->pids, optarg)) {
                usage_die();
            }
        } else if (which == '1') {
            self->single = true;
        } else if (which == '?' ||
                   tw_parse_u64(tw_str_of(optarg), UINT32_MAX, numbers[which]) != TW_OK) {
            usage_die();
        }
    }
}

static const struct {
    const char *name;
    void (*run)(load *self);
} workloads[] = {
    {"fanout", run_fanout},
    {"idle", run_idle},
    {"storm", run_storm},
    {"snapshot", run_snapshot},
};

int main(int argc, char **argv)
{
    static load self = {.subs = 1000,
                        .seconds = 4,
                        .payload = 128,
                        .records = 100000,
                        .at_once = 256,
                        .warm_ms = 1000,
                        .drain_s = 10};
    read_options(&self, argc, argv);
    uint64_t port = 0;
    size_t which = 0;
    if (argc - optind != 3) {
        usage_die();
    }
    while (which < TW_COUNT(workloads) && strcmp(workloads[which].name, argv[optind]) != 0) {
        which++;
    }
    self.client.adapter = load_adapter_find(argv[optind + 1]);
    if (which == TW_COUNT(workloads) || self.client.adapter == NULL ||
        tw_parse_u64(tw_str_of(argv[optind + 2]), UINT16_MAX, &port) != TW_OK ||
        self.payload < LOAD_PAYLOAD_MIN || self.payload > LOAD_PAYLOAD_MAX ||
        self.subs <= (which == 1 ? IDLE_BEFORE : 0) + self.stalled) {
        usage_die();
    }
    prctl(PR_SET_TIMERSLACK, 1UL); /* the default makes each timed send 50 us late */
    self.client.port = (uint16_t)port;
    self.client.payload_bytes = (uint32_t)self.payload;
    self.conns = tw_alloc_zero(self.subs, sizeof *self.conns);
    if (self.conns == NULL) {
        load_die("no memory");
    }
    load_client_init(&self.client);
    printf("workload=%s adapter=%s subs=%llu rate=%llu payload=%llu", argv[optind],
           argv[optind + 1], (unsigned long long)self.subs, (unsigned long long)self.rate,
           (unsigned long long)self.payload);
    workloads[which].run(&self);
    printf("\n");
    for (uint64_t i = 0; i < self.subs; i++) {
        load_conn_close(&self.client, &self.conns[i]);
    }
    load_conn_close(&self.client, &self.publisher);
    load_client_fini(&self.client);
    tw_free(self.conns);
    return 0;
}
