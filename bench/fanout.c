/* fanout.c - one publisher, many subscribers: how many deliveries, how late, at what CPU?
 *
 * usage: fanout [options]      script/build bench -- fanout      --help tells the options
 * Tidewire in its defaults (each event is a record, on disk before it is told) beside the servers
 * of bench/peers, which keep nothing; script/install bench installs them, one that is absent is
 * skipped by name. Each server runs alone on core 0, the load on core 1. Rounds are interleaved,
 * the median of the rounds is shown. Every delivery is decoded and counted per connection.
 *
 * A maximum is the server's only while the server used up its core: ">=" stands before those that
 * were not, and the last column says who was the limit. A fixed rate that was not reached has no
 * latency. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "protocol/base.h"

#include "bench/support/load_peer.h"
#include "bench/support/load_run.h"

enum { ROUNDS_MAX = 15, PORT_FIRST = 42100, PORT_LAST = 44000, VERSION_BYTES = 128 };

#define LIMIT_SHARE 0.95 /* of a core: who used so much was the limit */

static const struct peer {
    const char *name;
    const char *adapter;
} peers[] = {
    {"tidewire", "tidewire"}, {"nats", "nats"},   {"uwebsockets", "raw"},
    {"mosquitto", "mqtt"},    {"nchan", "nchan"}, {"ws", "raw"},
};

static const struct workload {
    const char *name;
    const char *text;
    enum load_kind kind;
    uint64_t subscribers;
    uint64_t rate; /* deliveries a second; 0: as fast as it goes */
} workloads[] = {
    {"max100", "100 subscribers, as fast as it goes", LOAD_FANOUT, 100, 0},
    {"max1000", "1,000 subscribers, as fast as it goes", LOAD_FANOUT, 1000, 0},
    {"1m", "1,000 subscribers, 1M deliveries/s", LOAD_FANOUT, 1000, 1000000},
    {"100k", "1,000 subscribers, 100k deliveries/s", LOAD_FANOUT, 1000, 100000},
    {"idle", "5,000 idle connections with one stream", LOAD_IDLE, 5000, 0},
    {"storm", "15,000 connections that come at once", LOAD_STORM, 15000, 0},
};

typedef struct fanout {
    uint64_t rounds, seconds, payload;
    bool single;
    const char *peers, *only; /* lists by name; NULL: all */
    FILE *csv;                /* own; or NULL */
    int port;
    char folder[64];
    load_figures runs[TW_COUNT(peers)][ROUNDS_MAX];
    size_t counts[TW_COUNT(peers)];
    bool installed[TW_COUNT(peers)];
} fanout;

/* "a,b": is name one of them? */
static bool listed(const char *list, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = list; at != NULL && *at != '\0';) {
        size_t size = strcspn(at, ",");
        if (size == len && memcmp(at, name, len) == 0) {
            return true;
        }
        at += size + (at[size] == ',' ? 1 : 0);
    }
    return list == NULL;
}

/* ---- one run ---- */

static void write_csv(fanout *self, const struct workload *work, const struct peer *peer,
                      uint64_t round, const load_figures *figures)
{
    if (self->csv == NULL) {
        return;
    }
    fprintf(self->csv,
            "%s,%s,%llu,%.0f,%.0f,%.3f,%.3f,%.3f,%.4f,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,%.1f,%.0f,%.0f,"
            "%llu,%llu,%llu,%llu,%llu,%llu,%llu\n",
            work->name, peer->name, (unsigned long long)round, figures->delivered_s,
            figures->published_s, figures->server_cpu, figures->load_cpu, figures->other_cpu,
            figures->us_per_delivery, figures->p50_ms, figures->p99_ms, figures->max_ms,
            figures->late_p99_ms, figures->ack_p99_ms, figures->drain_ms, figures->rss_mb,
            figures->rss_per_connection, figures->connects_s, (unsigned long long)figures->lost,
            (unsigned long long)figures->missing, (unsigned long long)figures->repeated,
            (unsigned long long)figures->undecoded, (unsigned long long)figures->dropped,
            (unsigned long long)figures->rejected, (unsigned long long)figures->refused);
    fflush(self->csv);
}

static void run_one(fanout *self, const struct workload *work, size_t which, uint64_t round)
{
    const struct peer *peer = &peers[which];
    char folder[128];
    load_peer server;
    self->port = self->port < PORT_LAST ? self->port + 1 : PORT_FIRST;
    tw_format(folder, sizeof(folder), "%s/%s", self->folder, peer->name);
    if (!load_peer_start(&server, peer->name, self->port, folder)) {
        return;
    }
    const load_options options = {
        .adapter = load_adapter_find(peer->adapter),
        .pids = server.pids,
        .port = self->port,
        .kind = work->kind,
        .subscribers = work->subscribers,
        .rate = work->rate,
        .seconds = (double)self->seconds,
        .payload = self->payload,
        .single = self->single,
    };
    load_figures *figures = &self->runs[which][self->counts[which]];
    load_run(&options, figures);
    load_peer_stop(&server);
    char command[256];
    tw_format(command, sizeof(command), "rm -rf '%s'", folder);
    if (system(command) != 0) {
        fprintf(stderr, "fanout: %s is left\n", folder);
    }
    if (figures->complete) {
        self->counts[which]++;
        write_csv(self, work, peer, round, figures);
    }
}

/* ---- the table ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of a member of all runs of a peer. */
static double median_at(const fanout *self, size_t which, size_t member)
{
    double values[ROUNDS_MAX];
    size_t count = self->counts[which];
    for (size_t i = 0; i < count; i++) {
        memcpy(&values[i], (const char *)&self->runs[which][i] + member, sizeof(double));
    }
    qsort(values, count, sizeof(*values), by_value);
    return count == 0 ? 0 : values[count / 2];
}

#define MEDIAN(self, which, member) median_at(self, which, offsetof(load_figures, member))

static const char *limit_of(double server, double load)
{
    if (server >= LIMIT_SHARE) {
        return load >= LIMIT_SHARE ? "both" : "server";
    }
    return load >= LIMIT_SHARE ? "load" : "neither";
}

static void show_fanout(const fanout *self, const struct workload *work, size_t which)
{
    unsigned long long lost = 0, repeated = 0, bad = 0;
    double low = 1e18, high = 0;
    for (size_t i = 0; i < self->counts[which]; i++) {
        const load_figures *one = &self->runs[which][i];
        lost += one->lost + one->missing;
        repeated += one->repeated;
        bad += one->undecoded + one->dropped + one->rejected;
        low = one->delivered_s < low ? one->delivered_s : low;
        high = one->delivered_s > high ? one->delivered_s : high;
    }
    double server = MEDIAN(self, which, server_cpu), load = MEDIAN(self, which, load_cpu);
    double rate = MEDIAN(self, which, delivered_s);
    bool held = work->rate > 0 && rate >= 0.98 * (double)work->rate;
    bool own_limit = work->rate > 0 || server >= LIMIT_SHARE;
    printf("  %-12s %s%6.2fM/s (%.2f-%.2f)  %.3f us  server %3.0f %%  load %3.0f %%  "
           "others %2.0f %%",
           peers[which].name, own_limit ? "  " : ">=", rate / 1e6, low / 1e6, high / 1e6,
           MEDIAN(self, which, us_per_delivery), server * 100, load * 100,
           MEDIAN(self, which, other_cpu) * 100);
    if (held) {
        printf("  p50 %.1f p99 %.1f ms (sent late %.1f)", MEDIAN(self, which, p50_ms),
               MEDIAN(self, which, p99_ms), MEDIAN(self, which, late_p99_ms));
    } else if (work->rate > 0) {
        printf("  falls behind");
    }
    printf("  lost %llu repeated %llu bad %llu  limit: %s\n", lost, repeated, bad,
           held ? "the rate" : limit_of(server, load));
}

static void show(const fanout *self, const struct workload *work, size_t which)
{
    unsigned long long refused = 0;
    for (size_t i = 0; i < self->counts[which]; i++) {
        refused += self->runs[which][i].refused + self->runs[which][i].dropped;
    }
    if (!self->installed[which]) {
        printf("  %-12s skipped: not installed\n", peers[which].name);
    } else if (self->counts[which] == 0) {
        printf("  %-12s failed\n", peers[which].name);
    } else if (work->kind == LOAD_FANOUT) {
        show_fanout(self, work, which);
    } else if (work->kind == LOAD_IDLE) {
        printf("  %-12s %6.2f KB RSS and %.2f KB of the kernel's a connection, refused %llu\n",
               peers[which].name, MEDIAN(self, which, rss_per_connection) / 1000,
               MEDIAN(self, which, slab_per_connection) / 1000, refused);
    } else {
        double server = MEDIAN(self, which, server_cpu), load = MEDIAN(self, which, load_cpu);
        printf(
            "  %-12s %6.0f connects/s  server %3.0f %%  load %3.0f %%  refused %llu  limit: %s\n",
            peers[which].name, MEDIAN(self, which, connects_s), server * 100, load * 100, refused,
            limit_of(server, load));
    }
    fflush(stdout);
}

static bool run_workload(fanout *self, const struct workload *work)
{
    bool good = true;
    memset(self->counts, 0, sizeof(self->counts));
    printf("%s: %s\n", work->name, work->text);
    for (uint64_t round = 0; round < self->rounds; round++) {
        for (size_t i = 0; i < TW_COUNT(peers); i++) {
            if (listed(self->peers, peers[i].name) && self->installed[i]) {
                run_one(self, work, i, round);
            }
        }
    }
    for (size_t i = 0; i < TW_COUNT(peers); i++) {
        if (listed(self->peers, peers[i].name)) {
            show(self, work, i);
            good = good && (self->counts[i] > 0 || !self->installed[i]);
        }
    }
    return good;
}

/* ---- options ---- */

static _Noreturn void usage(int status)
{
    fputs("usage: fanout [options]\n"
          "  --peers A,B     of tidewire nats uwebsockets mosquitto nchan ws; all\n"
          "  --only A,B      of max100 max1000 1m 100k idle storm; all\n"
          "  --rounds N      interleaved; 3\n"
          "  --seconds N     measured in each, behind one second that is not; 4\n"
          "  --payload N     bytes of an event; 128\n"
          "  --single        the publisher writes each event by itself, not all that are due\n"
          "  --csv FILE      a row for each run\n",
          status == 0 ? stdout : stderr);
    exit(status);
}

static void read_options(fanout *self, int argc, char **argv)
{
    static const struct option named[] = {
        {"peers", 1, NULL, 'p'},   {"only", 1, NULL, 'o'},    {"rounds", 1, NULL, 'r'},
        {"seconds", 1, NULL, 's'}, {"payload", 1, NULL, 'b'}, {"single", 0, NULL, '1'},
        {"csv", 1, NULL, 'c'},     {"help", 0, NULL, 'h'},    {NULL, 0, NULL, 0},
    };
    uint64_t *numbers[] = {['r'] = &self->rounds, ['s'] = &self->seconds, ['b'] = &self->payload};
    int which;
    while ((which = getopt_long(argc, argv, "", named, NULL)) != -1) {
        if (which == 'p') {
            self->peers = optarg;
        } else if (which == 'o') {
            self->only = optarg;
        } else if (which == '1') {
            self->single = true;
        } else if (which == 'c') {
            self->csv = fopen(optarg, "w");
            if (self->csv == NULL) {
                perror(optarg);
                exit(1);
            }
        } else if (which == 'h' || which == '?' ||
                   tw_parse_u64(tw_str_of(optarg), UINT16_MAX, numbers[which]) != TW_OK) {
            usage(which == 'h' ? 0 : 2);
        }
    }
    if (optind != argc || self->rounds == 0 || self->rounds > ROUNDS_MAX || self->seconds == 0 ||
        self->payload < LOAD_PAYLOAD_MIN || self->payload > LOAD_PAYLOAD_MAX) {
        usage(2);
    }
}

/* What the figures hold for: machine and versions. */
static void show_machine(fanout *self)
{
    struct utsname system;
    char line[256], model[256] = "unknown CPU";
    FILE *info = fopen("/proc/cpuinfo", "r");
    while (info != NULL && fgets(line, sizeof(line), info) != NULL) {
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
            tw_format(model, sizeof(model), "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n"),
                      strchr(line, ':') + 2);
            break;
        }
    }
    if (info != NULL) {
        fclose(info);
    }
    uname(&system);
    printf("%s, %ld cores, Linux %s; %llu bytes, %llu rounds of %llu s\n", model,
           sysconf(_SC_NPROCESSORS_ONLN), system.release, (unsigned long long)self->payload,
           (unsigned long long)self->rounds, (unsigned long long)self->seconds);
    for (size_t i = 0; i < TW_COUNT(peers); i++) {
        char version[VERSION_BYTES];
        self->installed[i] = load_peer_version(peers[i].name, version, sizeof(version));
        if (self->installed[i] && listed(self->peers, peers[i].name)) {
            printf("  %-12s %s\n", peers[i].name, version);
        }
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static fanout self = {.rounds = 3, .seconds = 4, .payload = 128, .port = PORT_FIRST};
    read_options(&self, argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    tw_format(self.folder, sizeof(self.folder), "/tmp/tidewire-bench-XXXXXX");
    if (mkdtemp(self.folder) == NULL) {
        perror(self.folder);
        return 1;
    }
    if (!load_pin(LOAD_CORE_LOAD)) {
        fputs("fanout: needs two cores, one for the server\n", stderr);
        return 1;
    }
    show_machine(&self);
    if (self.csv != NULL) {
        fputs("workload,peer,round,delivered_s,published_s,server_cpu,load_cpu,other_cpu,"
              "us_per_delivery,p50_ms,p99_ms,max_ms,late_p99_ms,ack_p99_ms,drain_ms,rss_mb,"
              "rss_per_connection,connects_s,lost,missing,repeated,undecoded,dropped,rejected,"
              "refused\n",
              self.csv);
    }
    bool good = true;
    for (size_t i = 0; i < TW_COUNT(workloads); i++) {
        if (listed(self.only, workloads[i].name)) {
            good = run_workload(&self, &workloads[i]) && good;
        }
    }
    rmdir(self.folder);
    return good ? 0 : 1;
}
