/* bench.c - runs a workload of bench/load against a running server, or one that it starts. */
#include "cli/bench.h"

#include <argp.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "protocol/limits.h"
#include "protocol/version.h"

#include "bench/load/load_peer.h"
#include "bench/load/load_run.h"
#include "cli/verb.h"

enum { SAVED_MAX = 1 << 20, FOLDER_BYTES = 128, PATH_MAX_BYTES = 4096 };

static const struct workload {
    const char *name, *what, *skipped; /* skipped: what it lacks without --url; NULL: nothing */
    enum load_kind kind;
    uint64_t connections, rate, topics, each, documents, scanned, stalled_percent;
    bool zipf;
} workloads[] = {
    {.name = "fanout",
     .what = "one publisher, every connection gets every event",
     .kind = LOAD_FANOUT,
     .connections = 1000,
     .rate = 100},
    {.name = "topics",
     .what = "many topics, each connection follows ten; events by Zipf's law",
     .kind = LOAD_FANOUT,
     .connections = 2000,
     .rate = 1000,
     .topics = 10000,
     .each = 10,
     .zipf = true},
    {.name = "snapshot",
     .what = "connections are told what is stored, while writes go on",
     .kind = LOAD_SNAPSHOT,
     .connections = 10,
     .rate = 1000,
     .documents = 100000},
    {.name = "resume",
     .what = "connections come back after events that they missed",
     .kind = LOAD_RESUME,
     .connections = 1000,
     .documents = 5000},
    {.name = "idle",
     .what = "memory of connections that only stand",
     .kind = LOAD_IDLE,
     .connections = 5000},
    {.name = "storm", .what = "all connections at once", .kind = LOAD_STORM, .connections = 10000},
    {.name = "write",
     .what = "durable writes: the answer, and the event at one subscriber",
     .kind = LOAD_FANOUT,
     .connections = 1,
     .rate = 1000},
    {.name = "filters",
     .what = "each subscription a filter of its own; one in ten by no index",
     .kind = LOAD_FANOUT,
     .connections = 100,
     .rate = 1000,
     .topics = 10000,
     .each = 100,
     .scanned = 10},
    {.name = "slow",
     .what = "one reader in a hundred stalls: what do the others notice?",
     .kind = LOAD_SLOW,
     .connections = 1000,
     .rate = 100,
     .stalled_percent = 1},
    {.name = "tls",
     .what = "fanout over TLS, of a server that has it (--url wss://...)",
     .skipped = "it needs --url wss://ADDRESS:PORT",
     .kind = LOAD_FANOUT,
     .connections = 1000,
     .rate = 100},
    {.name = "search",
     .what = "searches in flight",
     .kind = LOAD_SEARCH,
     .connections = 4,
     .documents = 20000},
    {.name = "ingest", .what = "durable writes, as fast as they are answered", .kind = LOAD_FANOUT},
};

struct bench {
    const struct workload *work;
    const char *url, *json, *compare;
    uint64_t connections, rate, seconds, payload, topics, each, documents, scanned, stalled, pid;
    bool single, fastest;
    load_options options;
    load_peer server;
    bool started; /* the server is our own */
    char folder[FOLDER_BYTES], collection[64];
};

/* ---- options ---- */

enum {
    KEY_RATE = 256,
    KEY_FASTEST,
    KEY_SECONDS,
    KEY_PAYLOAD,
    KEY_TOPICS,
    KEY_EACH,
    KEY_DOCUMENTS,
    KEY_SCANNED,
    KEY_STALLED,
    KEY_SINGLE,
    KEY_JSON,
    KEY_COMPARE,
    KEY_PID,
};

static const struct argp_option options[] = {
    {"url", 'u', "URL", 0, "A running server; without it one is started, and ended", 1},
    {"pid", KEY_PID, "N", 0, "Its process, where it is on this machine: its CPU is told too", 1},
    {"connections", 'c', "N", 0, "Connections; of search: searches in flight", 2},
    {"rate", KEY_RATE, "N", 0, "Events a second", 2},
    {"fastest", KEY_FASTEST, NULL, 0, "As fast as it goes, instead of a rate", 2},
    {"seconds", KEY_SECONDS, "N", 0, "Measured, behind one that is not (5)", 2},
    {"payload", KEY_PAYLOAD, "N", 0, "Bytes of an event (128)", 2},
    {"topics", KEY_TOPICS, "N", 0, "Distinct filters", 2},
    {"each", KEY_EACH, "N", 0, "Filters that a connection follows", 2},
    {"documents", KEY_DOCUMENTS, "N", 0, "Records stored before, or missed", 2},
    {"scanned", KEY_SCANNED, "PERCENT", 0, "Filters that no index can find", 2},
    {"stalled", KEY_STALLED, "N", 0, "Connections that never read (of slow: 1 %)", 2},
    {"single", KEY_SINGLE, NULL, 0, "One event a message, not all that are due", 2},
    {"json", KEY_JSON, "FILE", 0, "Saves the figures", 3},
    {"compare", KEY_COMPARE, "FILE", 0, "Shows them beside those saved there", 3},
    {0},
};

static const struct number_option {
    int key;
    size_t at;
    uint64_t max;
} numbers[] = {
    {'c', offsetof(struct bench, connections), LOAD_SUBSCRIBERS_MAX},
    {KEY_RATE, offsetof(struct bench, rate), 100000000},
    {KEY_SECONDS, offsetof(struct bench, seconds), 3600},
    {KEY_PAYLOAD, offsetof(struct bench, payload), LOAD_PAYLOAD_MAX},
    {KEY_TOPICS, offsetof(struct bench, topics), LOAD_TOPICS_MAX},
    {KEY_EACH, offsetof(struct bench, each), TW_STREAMS_PER_CONNECTION_MAX},
    {KEY_DOCUMENTS, offsetof(struct bench, documents), LOAD_DOCUMENTS_MAX},
    {KEY_SCANNED, offsetof(struct bench, scanned), 100},
    {KEY_STALLED, offsetof(struct bench, stalled), LOAD_SUBSCRIBERS_MAX},
    {KEY_PID, offsetof(struct bench, pid), INT32_MAX},
};

static void take_workload(struct bench *self, const char *name, struct argp_state *state)
{
    for (size_t i = 0; i < TW_COUNT(workloads); i++) {
        if (strcmp(workloads[i].name, name) == 0) {
            self->work = &workloads[i];
            return;
        }
    }
    argp_error(state, "there is no workload '%s': --help lists them", name);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct bench *self = state->input;
    for (size_t i = 0; i < TW_COUNT(numbers); i++) {
        if (numbers[i].key == key) {
            uint64_t value = 0;
            if (tw_parse_u64(tw_str_of(arg), numbers[i].max, &value) != TW_OK) {
                argp_error(state, "'%s' is no number from 0 to %llu", arg,
                           (unsigned long long)numbers[i].max);
            }
            memcpy((char *)self + numbers[i].at, &value, sizeof value);
            return 0;
        }
    }
    switch (key) {
    case 'u':
        self->url = arg;
        return 0;
    case KEY_FASTEST:
        self->fastest = true;
        return 0;
    case KEY_SINGLE:
        self->single = true;
        return 0;
    case KEY_JSON:
        self->json = arg;
        return 0;
    case KEY_COMPARE:
        self->compare = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (self->work != NULL) {
            argp_error(state, "'%s' is not expected here", arg);
        }
        take_workload(self, arg, state);
        return 0;
    case ARGP_KEY_END:
        if (self->work == NULL) {
            argp_error(state, "name a workload: --help lists them");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The workloads, below the options. */
static char *help(int key, const char *text, void *input)
{
    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC) {
        return (char *)(uintptr_t)text;
    }
    char *out = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&out, &size);
    if (to == NULL) {
        return (char *)(uintptr_t)text;
    }
    fputs("Workloads:\n", to);
    for (size_t i = 0; i < TW_COUNT(workloads); i++) {
        fprintf(to, "  %-10s %s\n", workloads[i].name, workloads[i].what);
    }
    fputs("\nExamples:\n  tidewire bench fanout\n"
          "  tidewire bench write --rate 5000 --json before.json\n"
          "  tidewire bench write --rate 5000 --compare before.json\n"
          "  tidewire bench storm --url ws://127.0.0.1:8090 --connections 5000\n",
          to);
    fclose(to);
    return out;
}

/* ---- the server ---- */

/* ws://HOST:PORT or wss://, of IPv4. */
static int read_url(struct bench *self)
{
    char host[256], port[16] = "80";
    self->options.secure = strncmp(self->url, "wss://", 6) == 0;
    if (!self->options.secure && strncmp(self->url, "ws://", 5) != 0) {
        return cli_fail("bench", "ws://127.0.0.1:8090", "'%s' is no URL of a websocket", self->url);
    }
    if (self->work->skipped != NULL && !self->options.secure) {
        return cli_fail("bench", self->work->skipped, "'%s' is without TLS", self->url);
    }
    const char *at = strstr(self->url, "://") + 3;
    size_t len = strcspn(at, ":/");
    tw_format(host, sizeof host, "%.*s", (int)len, at);
    if (at[len] == ':') {
        tw_format(port, sizeof port, "%.*s", (int)strcspn(at + len + 1, "/"), at + len + 1);
    }
    const struct addrinfo wanted = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, port, &wanted, &found) != 0) {
        return cli_fail("bench", "ws://127.0.0.1:8090", "'%s' is no address", self->url);
    }
    struct sockaddr_in to;
    memcpy(&to, found->ai_addr, sizeof to);
    freeaddrinfo(found);
    self->options.host = ntohl(to.sin_addr.s_addr);
    self->options.port = ntohs(to.sin_port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool up = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
    close(fd);
    return up ? 0
              : cli_fail("bench", "Is the server running? Without --url one is started",
                         "cannot connect to %s", self->url);
}

/* One of our own, alone on a core where there are two. */
static int start_server(struct bench *self)
{
    char program[PATH_MAX_BYTES], data[FOLDER_BYTES + 8], listen[32];
    const char *temporary = getenv("TMPDIR");
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    program[len > 0 ? len : 0] = '\0';
    tw_format(self->folder, sizeof self->folder, "%s/tidewire-bench-XXXXXX",
              temporary != NULL ? temporary : "/tmp");
    if (len <= 0 || mkdtemp(self->folder) == NULL) {
        return cli_fail("bench", "Set TMPDIR to a folder on a disk with room",
                        "no folder for a server: %s", self->folder);
    }
    self->options.port = load_free_port();
    self->options.pinned = sysconf(_SC_NPROCESSORS_ONLN) > 1;
    tw_format(data, sizeof data, "%s/data", self->folder);
    tw_format(listen, sizeof listen, "127.0.0.1:%d", self->options.port);
    const char *const arguments[] = {program,   "serve", "--data",    data,   "--listen", listen,
                                     "--admin", "",      "--service", "none", NULL};
    self->started = load_peer_spawn(&self->server, arguments, self->options.port, self->folder,
                                    self->options.pinned);
    self->options.pids = self->server.pids;
    return self->started ? 0 : 1;
}

static void end_server(struct bench *self)
{
    if (self->started) {
        load_peer_stop(&self->server);
    }
    if (self->folder[0] != '\0') {
        load_remove_folder(self->folder);
    }
}

/* ---- the run ---- */

static void fill(struct bench *self)
{
    const struct workload *work = self->work;
    load_options *to = &self->options;
    uint64_t rate = self->rate != UINT64_MAX ? self->rate : work->rate;
    *to = (load_options){.adapter = load_adapter_find("tidewire"), .kind = work->kind};
    to->subscribers = self->connections != UINT64_MAX ? self->connections : work->connections;
    to->events_s = self->fastest ? 0 : (double)rate;
    to->seconds = (double)self->seconds;
    to->payload = self->payload;
    to->single = self->single;
    to->topics = self->topics != UINT64_MAX ? self->topics : work->topics;
    to->each = self->each != UINT64_MAX ? self->each : work->each;
    to->each = to->each > to->topics ? to->topics : to->each;
    to->zipf = work->zipf;
    to->scanned = (uint32_t)(self->scanned != UINT64_MAX ? self->scanned : work->scanned);
    to->documents = self->documents != UINT64_MAX ? self->documents : work->documents;
    to->stalled = (to->subscribers * work->stalled_percent + 99) / 100;
    to->stalled = self->stalled != UINT64_MAX ? self->stalled : to->stalled;
    to->progress = isatty(STDERR_FILENO) == 1;
    if (self->url != NULL) { /* what is stored there is not ours */
        tw_format(self->collection, sizeof self->collection, "bench_%llx",
                  (unsigned long long)load_now_ns());
        to->collection = self->collection;
    }
    if (self->pid != UINT64_MAX) {
        to->pids = (load_pids){.ids = {(int)self->pid}, .count = 1};
    }
}

static int check(const struct bench *self)
{
    const load_options *given = &self->options;
    if (given->payload < LOAD_PAYLOAD_MIN) {
        return cli_fail("bench", "They hold a number, a topic and a time",
                        "--payload is %d at least", LOAD_PAYLOAD_MIN);
    }
    if (given->seconds < 1) {
        return cli_fail("bench", "", "--seconds is 1 at least");
    }
    bool needs = given->kind != LOAD_FANOUT || given->topics > 0;
    if (needs && given->subscribers == 0) {
        return cli_fail("bench", "", "%s needs --connections", self->work->name);
    }
    if (given->stalled >= given->subscribers && given->stalled > 0) {
        return cli_fail("bench", "", "--stalled must leave some that read");
    }
    bool stored =
        given->kind == LOAD_SNAPSHOT || given->kind == LOAD_RESUME || given->kind == LOAD_SEARCH;
    if (stored && given->documents == 0) {
        return cli_fail("bench", "", "%s needs --documents", self->work->name);
    }
    return given->topics > 0 && given->each == 0
               ? cli_fail("bench", "", "--topics needs --each: those a connection follows")
               : 0;
}

static int save(const struct bench *self, const load_figures *figures, const char *limit)
{
    const load_options *given = &self->options;
    FILE *out = strcmp(self->json, "-") == 0 ? stdout : fopen(self->json, "w");
    if (out == NULL) {
        return cli_fail("bench", "Give another file with --json", "%s cannot be written",
                        self->json);
    }
    fprintf(out,
            "{\"workload\":\"%s\",\"version\":\"%s\",\"connections\":%llu,\"rate\":%.0f,"
            "\"seconds\":%.0f,\"payload\":%llu,\"topics\":%llu,\"each\":%llu,\"documents\":%llu,"
            "\"stalled\":%llu,",
            self->work->name, TW_VERSION, (unsigned long long)given->subscribers, given->events_s,
            given->seconds, (unsigned long long)given->payload, (unsigned long long)given->topics,
            (unsigned long long)given->each, (unsigned long long)given->documents,
            (unsigned long long)given->stalled);
    if (figures == NULL) {
        fprintf(out, "\"skipped\":\"%s\"}\n", self->work->skipped);
    } else {
        fprintf(out, "\"limit\":\"%s\",\"figures\":", limit);
        load_figures_json(figures, out);
        fputs("}\n", out);
    }
    bool good = ferror(out) == 0 && (out == stdout || fclose(out) == 0);
    return good ? 0 : cli_fail("bench", "Is the disk full?", "%s cannot be written", self->json);
}

static int read_saved(const struct bench *self, load_figures *out)
{
    static char text[SAVED_MAX];
    FILE *file = fopen(self->compare, "r");
    size_t len = file == NULL ? 0 : fread(text, 1, sizeof text, file);
    if (file != NULL) {
        fclose(file);
    }
    if (file == NULL || !load_figures_read((tw_str){text, len}, out)) {
        return cli_fail("bench", "--compare takes a file that --json wrote",
                        file == NULL ? "%s cannot be read" : "there are no figures in %s",
                        self->compare);
    }
    return 0;
}

static int run(struct bench *self, const load_figures *saved)
{
    load_figures figures;
    const load_options *given = &self->options;
    FILE *people = self->json != NULL && strcmp(self->json, "-") == 0 ? stderr : stdout;
    load_run(given, &figures);
    if (!figures.complete) {
        return cli_fail("bench", "What was wrong stands above; tidewire doctor may tell more",
                        "the run did not come to its end");
    }
    const char *limit = load_figures_limit(&figures, given->events_s, figures.published_s);
    fprintf(people, "%s: %s\n", self->work->name, self->work->what);
    load_figures_show(&figures, saved, people);
    fprintf(people, "limit: %s\n",
            given->pids.count == 0 ? "not known without the server's process (--pid)" : limit);
    if (self->url != NULL && figures.events > 0) {
        fprintf(people, "its records stand in the collection %s\n", self->collection);
    }
    int status = self->json != NULL ? save(self, &figures, limit) : 0;
    if (status == 0 && !load_figures_clean(&figures)) {
        status = cli_fail("bench", "See the figures that are to be 0",
                          "events were lost, repeated or refused");
    }
    return status;
}

int cli_bench(int argc, char **argv)
{
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "WORKLOAD",
        .doc = "Measures how many events a server delivers, how late, and at what cost.\v",
        .help_filter = help,
    };
    static struct bench self;
    load_figures saved;
    self = (struct bench){.connections = UINT64_MAX,
                          .rate = UINT64_MAX,
                          .topics = UINT64_MAX,
                          .each = UINT64_MAX,
                          .documents = UINT64_MAX,
                          .scanned = UINT64_MAX,
                          .stalled = UINT64_MAX,
                          .pid = UINT64_MAX,
                          .seconds = 5,
                          .payload = 128};
    argp_parse(&argp, argc, argv, 0, NULL, &self);
    fill(&self);
    if (self.work->skipped != NULL && self.url == NULL) {
        printf("%s: skipped: %s\n", self.work->name, self.work->skipped);
        return self.json != NULL ? save(&self, NULL, "") : 0;
    }
    if (check(&self) != 0 || (self.compare != NULL && read_saved(&self, &saved) != 0)) {
        return 1;
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    signal(SIGPIPE, SIG_IGN);
    int status = self.url != NULL ? read_url(&self) : start_server(&self);
    if (status == 0) {
        status = run(&self, self.compare != NULL ? &saved : NULL);
    }
    end_server(&self);
    return status;
}
