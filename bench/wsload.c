/* wsload.c - the workloads of bench/load against Tidewire and the servers of bench/peers.
 *
 * usage: wsload [options]      script/build bench -- wsload      --help tells the options
 * Tidewire in its defaults (each event is a record, on disk before it is told) beside servers that
 * are each in their best form; script/install bench installs them, one that is absent is skipped
 * by name. Each server runs alone on core 0, the load on core 1. Rounds are interleaved, the median
 * of the rounds is shown. Every delivery is decoded and counted per connection.
 *
 * A maximum is the server's only while the server used up its core: ">=" stands before those that
 * were not, and the last column says who was the limit. A fixed rate that was not reached has no
 * latency. A run that others disturbed (more than 15 % of a core) is run again, three times at
 * most; what they used is told. bench/report.py runs all of it and holds it against the goals. */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base.h"

#include "bench/load/load_peer.h"
#include "bench/load/load_run.h"

enum {
    EXCHANGES = 4000, /* for the machine's round trip */
    ROUNDS_MAX = 15,
    PEERS_MAX = 20,
    VERSION_BYTES = 128,
    IDLE_TRIES = 20, /* looks of a second each, until the machine is idle */
};

#define OTHERS_MAX 0.15 /* of a core, used by anything else: the run is disturbed */

static const struct peer {
    const char *name; /* in tables */
    const char *script;
    const char *adapter;
} peers[] = {
    {"tidewire", "tidewire", "tidewire"},
    {"nats", "nats", "nats"},
    {"uwebsockets", "uwebsockets", "raw"},
    {"mosquitto", "mosquitto", "mqtt"},
    {"nchan", "nchan", "nchan"},
    {"ws", "ws", "raw"},
    {"nchan-resume", "nchan", "nchan-meta"},
    {"nchan-all", "nchan", "nchan-all"},
    {"nchan-topics", "nchan", "nchan-topics"},
    {"mosquitto-retained", "mosquitto", "mqtt-retain"},
    {"jetstream", "jetstream", "jetstream"},
    {"jetstream-sync", "jetstream-sync", "jetstream"},
    {"redis", "redis", "redis"},
    {"tidewire-processes", "tidewire-processes", "tidewire"},
    {"tidewire-tls", "tidewire-tls", "tidewire"},
    {"nats-tls", "nats-tls", "nats"},
    {"uwebsockets-tls", "uwebsockets-tls", "raw"},
    {"mosquitto-tls", "mosquitto-tls", "mqtt"},
    {"tidewire-gateways", "tidewire-gateways", "tidewire"},
};

#define BROADCAST "tidewire,nats,uwebsockets,mosquitto,nchan,ws"
#define TOPICS    "tidewire,uwebsockets,nats,mosquitto,nchan-topics"
#define LOGS      "tidewire,jetstream,mosquitto-retained,nchan-all"
#define RESUMES   "tidewire,jetstream,nchan-resume"
#define DURABLE   "tidewire,jetstream-sync,redis"
#define SECURE                                                                                     \
    "tidewire,tidewire-tls,nats,nats-tls,uwebsockets,uwebsockets-tls,mosquitto,mosquitto-tls"
#define OWN "tidewire,tidewire-processes,tidewire-gateways"

/* The peers are those whose adapter knows the workload; the others are told in
 * docs/BENCHMARKS.md. */
static const struct workload {
    const char *name, *text, *peers;
    enum load_kind kind;
    uint64_t subscribers;
    double events_s; /* 0: as fast as it goes */
    uint64_t topics, each, documents, scanned, stalled;
    bool zipf;
} workloads[] = {
    {"max100", "W1: 100 subscribers, as fast as it goes", BROADCAST, LOAD_FANOUT, 100, 0, 0, 0, 0,
     0, 0, false},
    {"max1000", "W1: 1,000 subscribers, as fast as it goes", BROADCAST, LOAD_FANOUT, 1000, 0, 0, 0,
     0, 0, 0, false},
    {"1m", "W1: 1,000 subscribers, 1M deliveries/s", BROADCAST, LOAD_FANOUT, 1000, 1000, 0, 0, 0, 0,
     0, false},
    {"100k", "W1: 1,000 subscribers, 100k deliveries/s", BROADCAST, LOAD_FANOUT, 1000, 100, 0, 0, 0,
     0, 0, false},
    {"topics", "W2: 10,000 topics, 2,000 connections of 10, 1,000 events/s by Zipf", TOPICS,
     LOAD_FANOUT, 2000, 1000, 10000, 10, 0, 0, 0, true},
    {"snapshot1k", "W3: 100 connections are told 1,000 records, under 1k writes/s", LOGS,
     LOAD_SNAPSHOT, 100, 1000, 0, 0, 1000, 0, 0, false},
    {"snapshot100k", "W3: 10 connections are told 100,000 records, under 1k writes/s", LOGS,
     LOAD_SNAPSHOT, 10, 1000, 0, 0, 100000, 0, 0, false},
    {"resume", "W4: 1,000 connections come back after 5,000 events", RESUMES, LOAD_RESUME, 1000, 0,
     0, 0, 5000, 0, 0, false},
    {"idle", "W5: 5,000 idle connections with one stream", BROADCAST, LOAD_IDLE, 5000, 0, 0, 0, 0,
     0, 0, false},
    {"idle3", "W5: 5,000 idle connections with three streams", TOPICS, LOAD_IDLE, 5000, 0, 100, 3,
     0, 0, 0, false},
    {"storm", "W6: 15,000 connections that come at once", BROADCAST, LOAD_STORM, 15000, 0, 0, 0, 0,
     0, 0, false},
    {"write1k", "W7: 1,000 durable writes/s, one subscriber", DURABLE, LOAD_FANOUT, 1, 1000, 0, 0,
     0, 0, 0, false},
    {"write5k", "W7: 5,000 durable writes/s, one subscriber", DURABLE, LOAD_FANOUT, 1, 5000, 0, 0,
     0, 0, 0, false},
    {"write15k", "W7: 15,000 durable writes/s, one subscriber", DURABLE, LOAD_FANOUT, 1, 15000, 0,
     0, 0, 0, 0, false},
    {"writemax", "W7: durable writes, as fast as they are answered", DURABLE, LOAD_FANOUT, 0, 0, 0,
     0, 0, 0, 0, false},
    {"write", "W7: 20 durable writes/s, one subscriber: from answer to event", "tidewire",
     LOAD_FANOUT, 1, 20, 0, 0, 0, 0, 0, false},
    {"filters1", "W8: 10,000 filters, 1 % of them by an index, 1k events/s", "tidewire",
     LOAD_FANOUT, 100, 1000, 10000, 100, 0, 99, 0, false},
    {"filters10", "W8: 10,000 filters, 10 % of them by an index, 1k events/s", "tidewire",
     LOAD_FANOUT, 100, 1000, 10000, 100, 0, 90, 0, false},
    {"filters50", "W8: 10,000 filters, 50 % of them by an index, 1k events/s", "tidewire",
     LOAD_FANOUT, 100, 1000, 10000, 100, 0, 50, 0, false},
    {"filters90", "W8: 100,000 filters, 90 % of them by an index, 1k events/s", "tidewire",
     LOAD_FANOUT, 200, 1000, 100000, 500, 0, 10, 0, false},
    {"slow", "W9: 1,000 subscribers, 100k deliveries/s, 1 % stalled, beside none", BROADCAST,
     LOAD_SLOW, 1000, 100, 0, 0, 0, 0, 10, false},
    {"tls100", "W10: 100 subscribers, as fast as it goes, plain and by TLS 1.3", SECURE,
     LOAD_FANOUT, 100, 0, 0, 0, 0, 0, 0, false},
    {"tls1000", "W10: 1,000 subscribers, as fast as it goes, plain and by TLS 1.3", SECURE,
     LOAD_FANOUT, 1000, 0, 0, 0, 0, 0, 0, false},
    {"tls100k", "W10: 1,000 subscribers, 100k deliveries/s, plain and by TLS 1.3", SECURE,
     LOAD_FANOUT, 1000, 100, 0, 0, 0, 0, 0, false},
    {"gateways", "one gateway and two, 1,000 subscribers; two share the cores with the load",
     "tidewire,tidewire-gateways", LOAD_FANOUT, 1000, 0, 0, 0, 0, 0, 0, false},
    {"cost", "growth: 100 events/s, all that else is by options", OWN, LOAD_FANOUT, 1, 100, 0, 0, 0,
     0, 0, false},
};

enum { NOT_GIVEN = UINT32_MAX }; /* the workload's own */

typedef struct wsload {
    uint64_t rounds, seconds, payload, tries, first_round;
    uint64_t subscribers, rate, topics, each, documents, variants; /* or NOT_GIVEN */
    bool single, wait;
    double round_trip_us;
    const char *peers, *only; /* lists by name; NULL: all */
    FILE *json;               /* own; or NULL */
    int port;
    char folder[64], machine[512];
    load_figures runs[PEERS_MAX][ROUNDS_MAX];
    size_t counts[PEERS_MAX];
    char versions[PEERS_MAX][VERSION_BYTES]; /* empty: not installed */
} wsload;

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

static bool takes_part(const wsload *self, const struct workload *work, size_t which)
{
    const char *name = peers[which].name;
    return listed(work->peers, name) && listed(self->peers, name);
}

/* ---- one run ---- */

static uint64_t given_or(uint64_t given, uint64_t otherwise)
{
    return given != NOT_GIVEN ? given : otherwise;
}

static bool is_secure(const char *script)
{
    size_t len = strlen(script);
    return len > 4 && strcmp(script + len - 4, "-tls") == 0;
}

static load_options options_of(const wsload *self, const struct workload *work, size_t which)
{
    uint64_t subscribers = given_or(self->subscribers, work->subscribers);
    return (load_options){
        .adapter = load_adapter_find(peers[which].adapter),
        .port = self->port,
        .secure = is_secure(peers[which].script),
        .kind = work->kind,
        .subscribers = subscribers,
        .events_s = self->rate != NOT_GIVEN ? (double)self->rate : work->events_s,
        .seconds = (double)self->seconds,
        .payload = self->payload,
        .single = self->single,
        .topics = given_or(self->topics, work->topics),
        .each = given_or(self->each, work->each),
        .documents = given_or(self->documents, work->documents),
        .variants = given_or(self->variants, 0),
        .scanned = (uint32_t)work->scanned,
        .stalled = work->stalled < subscribers ? work->stalled : subscribers / 2,
        .zipf = work->zipf,
        .pinned = true,
    };
}

static void write_json(const wsload *self, const struct workload *work, size_t which,
                       uint64_t round, const load_figures *figures)
{
    if (self->json == NULL) {
        return;
    }
    const load_options given = options_of(self, work, which), *options = &given;
    fprintf(
        self->json,
        "{\"workload\":\"%s\",\"text\":\"%s\",\"peer\":\"%s\",\"version\":\"%s\",\"round\":%llu,"
        "\"subscribers\":%llu,\"rate\":%.0f,\"payload\":%llu,\"topics\":%llu,\"each\":%llu,"
        "\"documents\":%llu,\"variants\":%llu,\"seconds\":%llu,\"round_trip_us\":%.1f,"
        "\"machine\":\"%s\",\"figures\":",
        work->name, work->text, peers[which].name, self->versions[which], (unsigned long long)round,
        (unsigned long long)options->subscribers, options->events_s,
        (unsigned long long)options->payload, (unsigned long long)options->topics,
        (unsigned long long)options->each, (unsigned long long)options->documents,
        (unsigned long long)options->variants, (unsigned long long)self->seconds,
        self->round_trip_us, self->machine);
    load_figures_json(figures, self->json);
    fputs("}\n", self->json);
    fflush(self->json);
}

static bool run_one(wsload *self, const struct workload *work, size_t which, load_figures *figures)
{
    load_peer server;
    char folder[128];
    self->port = load_free_port();
    tw_format(folder, sizeof(folder), "%s/%s", self->folder, peers[which].name);
    if (!load_peer_start(&server, peers[which].script, self->port, folder)) {
        return false;
    }
    load_options options = options_of(self, work, which);
    options.pids = server.pids;
    load_run(&options, figures);
    load_peer_stop(&server);
    load_remove_folder(folder);
    return figures->complete;
}

static void run_round(wsload *self, const struct workload *work, size_t which, uint64_t round)
{
    load_figures *figures = &self->runs[which][self->counts[which]];
    bool good = false;
    for (uint64_t tries = 0; tries < self->tries; tries++) {
        good = run_one(self, work, which, figures);
        if (!good || figures->other_cpu <= OTHERS_MAX) {
            break;
        }
        fprintf(stderr, "wsload: %s: others used %.0f %% of a core\n", peers[which].name,
                figures->other_cpu * 100);
    }
    if (good) {
        self->counts[which]++;
        write_json(self, work, which, self->first_round + round, figures);
    }
}

/* ---- the table ---- */

static void show_fanout(const wsload *self, const struct workload *work, size_t which,
                        const load_figures *is)
{
    double low = 1e18, high = 0;
    bool deliver = work->subscribers > 0;
    for (size_t i = 0; i < self->counts[which]; i++) {
        const load_figures *one = &self->runs[which][i];
        double rate = deliver ? one->delivered_s : one->acked_s;
        low = rate < low ? rate : low;
        high = rate > high ? rate : high;
    }
    const char *limit = load_figures_limit(is, work->events_s, is->published_s);
    bool held = strcmp(limit, "the rate") == 0;
    bool own_limit = work->events_s > 0 || is->server_cpu * 100 >= (double)LOAD_LIMIT_PERCENT;
    printf("  %-14s %s%9.0f/s (%.0f-%.0f)  %.3f us a delivery, %.2f an event  server %3.0f %%  "
           "load %3.0f %%  others %2.0f %%",
           peers[which].name, own_limit ? "  " : ">=", deliver ? is->delivered_s : is->acked_s, low,
           high, is->us_per_delivery, is->us_per_event, is->server_cpu * 100, is->load_cpu * 100,
           is->other_cpu * 100);
    if (held) {
        printf("  p50 %.2f p99 %.2f ms (sent late %.2f)", is->p50_ms, is->p99_ms, is->late_p99_ms);
        if (is->ack_p99_ms > 0) {
            printf("  stored p50 %.2f p99 %.2f ms, told p50 %.3f", is->ack_p50_ms, is->ack_p99_ms,
                   is->told_p50_ms);
        }
        if (work->kind == LOAD_SLOW) {
            printf("  p99 without stalled %.2f ms, %.2fx; RSS %.0f, %.0f MB", is->none_p99_ms,
                   is->slow_ratio, is->rss_mb, is->none_rss_mb);
        }
    } else if (work->events_s > 0) {
        printf("  falls behind");
    }
    printf("  limit: %s", limit);
}

static void show(const wsload *self, const struct workload *work, size_t which)
{
    load_figures is;
    load_figures_median(self->runs[which], self->counts[which], &is);
    if (self->versions[which][0] == '\0') {
        printf("  %-14s skipped: not installed\n", peers[which].name);
        return;
    }
    if (self->counts[which] == 0) {
        printf("  %-14s failed\n", peers[which].name);
        return;
    }
    switch (work->kind) {
    case LOAD_FANOUT:
    case LOAD_SLOW:
        show_fanout(self, work, which, &is);
        break;
    case LOAD_IDLE:
        printf("  %-14s %6.2f KB RSS and %.2f KB of the kernel's a connection", peers[which].name,
               is.rss_per_connection / 1000, is.slab_per_connection / 1000);
        break;
    case LOAD_STORM:
        printf("  %-14s %6.0f connects/s  server %3.0f %%  load %3.0f %%  limit: %s",
               peers[which].name, is.connects_s, is.server_cpu * 100, is.load_cpu * 100,
               load_figures_limit(&is, 0, 0));
        break;
    case LOAD_SNAPSHOT:
    case LOAD_RESUME:
    case LOAD_SEARCH:
        printf("  %-14s caught up p50 %.1f p99 %.1f ms  %.0f events/s  server %.2f s, %3.0f %%  "
               "load %3.0f %%  limit: %s",
               peers[which].name, is.catch_up_p50_ms, is.catch_up_p99_ms, is.catch_up_s,
               is.server_s, is.server_cpu * 100, is.load_cpu * 100, load_figures_limit(&is, 0, 0));
        break;
    }
    printf("  lost %.0f repeated %.0f refused %.0f bad %.0f\n", is.lost + is.missing, is.repeated,
           is.refused, is.undecoded + is.dropped + is.rejected);
}

static bool run_workload(wsload *self, const struct workload *work)
{
    bool good = true;
    memset(self->counts, 0, sizeof(self->counts));
    printf("%s: %s\n", work->name, work->text);
    for (uint64_t round = 0; round < self->rounds; round++) {
        for (size_t i = 0; i < TW_COUNT(peers); i++) {
            if (takes_part(self, work, i) && self->versions[i][0] != '\0') {
                run_round(self, work, i, round);
            }
        }
    }
    for (size_t i = 0; i < TW_COUNT(peers); i++) {
        if (takes_part(self, work, i)) {
            show(self, work, i);
            good = good && (self->counts[i] > 0 || self->versions[i][0] == '\0');
        }
    }
    fflush(stdout);
    return good;
}

/* ---- options ---- */

static _Noreturn void usage(int status)
{
    FILE *out = status == 0 ? stdout : stderr;
    fputs("usage: wsload [options]\n"
          "  --peers A,B      some of those below; all\n"
          "  --only A,B       workloads; all\n"
          "  --rounds N       interleaved; 3\n"
          "  --seconds N      measured in each, behind one second that is not; 4\n"
          "  --payload N      bytes of an event; 128\n"
          "  --tries N        of a run that others disturb; 3\n"
          "  --subscribers N, --rate N, --topics N, --each N, --documents N\n"
          "                   instead of the workload's; rate: events a second, 0: no limit\n"
          "  --variants N     different filters that all match every event (Tidewire)\n"
          "  --round N        the number of the first round, in the JSON; 0\n"
          "  --no-wait        do not wait until the machine is idle\n"
          "  --single         the publisher writes each event by itself, not all that are due\n"
          "  --json FILE      an object for each run, one a line, added to FILE\n"
          "workloads\n",
          out);
    for (size_t i = 0; i < TW_COUNT(workloads); i++) {
        fprintf(out, "  %-13s %s\n                  %s\n", workloads[i].name, workloads[i].text,
                workloads[i].peers);
    }
    exit(status);
}

static void read_options(wsload *self, int argc, char **argv)
{
    static const struct option named[] = {
        {"peers", 1, NULL, 'p'},    {"only", 1, NULL, 'o'},        {"rounds", 1, NULL, 'r'},
        {"seconds", 1, NULL, 's'},  {"payload", 1, NULL, 'b'},     {"single", 0, NULL, '1'},
        {"json", 1, NULL, 'j'},     {"subscribers", 1, NULL, 'n'}, {"rate", 1, NULL, 'e'},
        {"topics", 1, NULL, 't'},   {"each", 1, NULL, 'f'},        {"documents", 1, NULL, 'd'},
        {"variants", 1, NULL, 'v'}, {"round", 1, NULL, 'i'},       {"tries", 1, NULL, 'a'},
        {"no-wait", 0, NULL, 'w'},  {"help", 0, NULL, 'h'},        {NULL, 0, NULL, 0},
    };
    uint64_t *numbers[] = {
        ['r'] = &self->rounds,      ['s'] = &self->seconds,   ['b'] = &self->payload,
        ['n'] = &self->subscribers, ['e'] = &self->rate,      ['t'] = &self->topics,
        ['f'] = &self->each,        ['d'] = &self->documents, ['v'] = &self->variants,
        ['i'] = &self->first_round, ['a'] = &self->tries,
    };
    int which;
    while ((which = getopt_long(argc, argv, "", named, NULL)) != -1) {
        if (which == 'p') {
            self->peers = optarg;
        } else if (which == 'o') {
            self->only = optarg;
        } else if (which == '1') {
            self->single = true;
        } else if (which == 'w') {
            self->wait = false;
        } else if (which == 'j') {
            self->json = fopen(optarg, "a");
            if (self->json == NULL) {
                perror(optarg);
                exit(1);
            }
        } else if (which == 'h' || which == '?' ||
                   tw_parse_u64(tw_str_of(optarg), LOAD_DOCUMENTS_MAX, numbers[which]) != TW_OK) {
            usage(which == 'h' ? 0 : 2);
        }
    }
    if (optind != argc || self->rounds == 0 || self->rounds > ROUNDS_MAX || self->seconds == 0 ||
        self->tries == 0 ||
        (self->subscribers != NOT_GIVEN && self->subscribers > LOAD_SUBSCRIBERS_MAX) ||
        (self->topics != NOT_GIVEN && self->topics > LOAD_TOPICS_MAX) ||
        self->payload < LOAD_PAYLOAD_MIN || self->payload > LOAD_PAYLOAD_MAX) {
        usage(2);
    }
}

/* ---- the machine ---- */

/* What the figures hold for: machine and versions. */
static void show_machine(wsload *self)
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
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    uname(&system);
    tw_format(self->machine, sizeof(self->machine), "%s, %ld cores, Linux %s, %llu open files",
              model, sysconf(_SC_NPROCESSORS_ONLN), system.release,
              (unsigned long long)files.rlim_cur);
    printf("%s; %llu bytes, %llu rounds of %llu s\n", self->machine,
           (unsigned long long)self->payload, (unsigned long long)self->rounds,
           (unsigned long long)self->seconds);
    for (size_t i = 0; i < TW_COUNT(peers); i++) {
        char *version = self->versions[i];
        if (!listed(self->peers, peers[i].name) ||
            !load_peer_version(peers[i].script, version, VERSION_BYTES)) {
            version[0] = '\0';
        } else {
            printf("  %-14s %s\n", peers[i].name, version);
        }
    }
    fflush(stdout);
}

/* Waits until the machine is idle for a second. False: it does not become so; told, and run. */
static bool wait_idle(void)
{
    double used = 0;
    for (int i = 0; i < IDLE_TRIES; i++) {
        double before = load_machine_cpu_s();
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
        used = load_machine_cpu_s() - before;
        if (used <= OTHERS_MAX) {
            return true;
        }
    }
    printf("the machine is not idle: %.0f %% of a core are used; each run tells what others used\n",
           used * 100);
    return false;
}

int main(int argc, char **argv)
{
    static wsload self = {.rounds = 3,
                          .seconds = 4,
                          .payload = 128,
                          .tries = 3,
                          .wait = true,
                          .subscribers = NOT_GIVEN,
                          .rate = NOT_GIVEN,
                          .topics = NOT_GIVEN,
                          .each = NOT_GIVEN,
                          .documents = NOT_GIVEN,
                          .variants = NOT_GIVEN};
    static_assert(TW_COUNT(peers) <= PEERS_MAX, "a row of figures for each peer");
    read_options(&self, argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    tw_format(self.folder, sizeof(self.folder), "%s/tidewire-bench-XXXXXX",
              getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    if (mkdtemp(self.folder) == NULL) {
        perror(self.folder);
        return 1;
    }
    if (!load_pin(LOAD_CORE_LOAD)) {
        fputs("wsload: cores 0 and 1 cannot both be had: server and load share what there is\n",
              stderr);
    }
    show_machine(&self);
    if (self.wait) {
        (void)wait_idle();
    }
    self.round_trip_us = load_round_trip_us(EXCHANGES);
    printf("a round trip of 128 bytes from core to core: %.0f us\n", self.round_trip_us);
    bool good = true;
    for (size_t i = 0; i < TW_COUNT(workloads); i++) {
        if (listed(self.only, workloads[i].name)) {
            good = run_workload(&self, &workloads[i]) && good;
        }
    }
    rmdir(self.folder);
    return good ? 0 : 1;
}
