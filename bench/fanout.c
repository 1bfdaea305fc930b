/* fanout.c - one publisher, many subscribers: how many deliveries, how late, at what memory?
 *
 * usage: fanout [--long]      zig build bench -- fanout
 * Tidewire (zig-out/bin/tidewire, its defaults: each event is on disk before it is told) beside
 * nats-server and mosquitto, each with a websocket listener, each alone on core 0, the load on core
 * 1.
 * A peer that is not installed is skipped by name. Rounds are interleaved; the median of the rounds
 * is shown. ">=" = the load was at its own limit (over 90 % of its core).
 *   W1  1,000 subscribers at 1,000 events a second (1M deliveries), then as fast as it goes
 *   W5  memory of an idle connection with one stream */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/support/wsload.h"

enum { ROUNDS_MAX = 5, PEERS = 3, PORT_FIRST = 42100, START_MS = 10000, PAYLOAD = 128 };

static char directory[] = "/tmp/tidewire-bench-XXXXXX";

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

static void pin(unsigned core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0) {
        fprintf(stderr, "fanout: cannot be pinned to core %u: figures are noisier\n", core);
    }
}

/* ---- servers ---- */
static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *out = fopen(path, "w");
    if (out == NULL || fputs(text, out) < 0 || fclose(out) != 0) {
        perror(path);
        exit(1);
    }
}

static void run_tidewire(int port)
{
    char listen_at[64], data[128];
    snprintf(listen_at, sizeof(listen_at), "127.0.0.1:%d", port);
    snprintf(data, sizeof(data), "%s/data-%d", directory, port);
    execl("zig-out/bin/tidewire", "tidewire", "serve", "--listen", listen_at, "--admin", "",
          "--data", data, "--service", "none", (char *)NULL);
}

static void run_nats(int port)
{
    char text[512], path[256];
    snprintf(text, sizeof(text),
             "port: -1\nhost: 127.0.0.1\nmax_pending: 1GB\nwrite_deadline: 60s\n"
             "websocket { listen: \"127.0.0.1:%d\", no_tls: true }\n",
             port);
    write_file("nats.conf", text);
    snprintf(path, sizeof(path), "%s/nats.conf", directory);
    execlp("nats-server", "nats-server", "-c", path, (char *)NULL);
}

static void run_mosquitto(int port)
{
    char text[512], path[256];
    snprintf(text, sizeof(text),
             "listener %d 127.0.0.1\nlistener %d 127.0.0.1\nprotocol websockets\n"
             "allow_anonymous true\nmax_queued_messages 0\nuser root\n",
             port + 500, port);
    write_file("mosquitto.conf", text);
    snprintf(path, sizeof(path), "%s/mosquitto.conf", directory);
    execl("/usr/sbin/mosquitto", "mosquitto", "-c", path, (char *)NULL);
}

static const struct peer {
    const wsload_adapter *adapter;
    const char *program;
    void (*run)(int port);
} peers[PEERS] = {
    {&wsload_tidewire, "zig-out/bin/tidewire", run_tidewire},
    {&wsload_nats, "/usr/sbin/nats-server", run_nats},
    {&wsload_mqtt, "/usr/sbin/mosquitto", run_mosquitto},
};

static int start_server(const struct peer *peer, int port)
{
    int pid = fork();
    if (pid == 0) {
        int log = open("/dev/null", O_WRONLY);
        dup2(log, 1);
        dup2(log, 2);
        pin(0);
        peer->run(port);
        _exit(127);
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int waited = 0; waited < START_MS; waited += 20) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        int up = connect(fd, (struct sockaddr *)&to, sizeof(to));
        close(fd);
        if (up == 0) {
            nap();
            return pid;
        }
        nap();
    }
    fprintf(stderr, "fanout: %s does not listen\n", peer->adapter->name);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return -1;
}

static void stop_server(int pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ---- runs ---- */
static const struct workload {
    const char *name;
    unsigned subscribers;
    double rate; /* events a second; 0: as fast as it goes */
    bool idle;
} workloads[] = {
    {"1,000 subscribers, 1M deliveries/s", 1000, 1000, false},
    {"1,000 subscribers, as fast as it goes", 1000, 0, false},
    {"100 subscribers, as fast as it goes", 100, 0, false},
    {"5,000 idle connections with one stream", 5000, 0, true},
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof(*values), by_value);
    return count == 0 ? 0 : values[count / 2];
}

static int run_one(const struct workload *work, const struct peer *peer, int port, double seconds,
                   wsload_figures *out)
{
    int pid = start_server(peer, port);
    if (pid < 0) {
        return -1;
    }
    const wsload_options options = {
        .adapter = peer->adapter,
        .port = port,
        .server_pid = pid,
        .subscribers = work->subscribers,
        .payload = PAYLOAD,
        .rate = work->rate,
        .seconds = seconds,
        .idle_only = work->idle,
    };
    int status = wsload_run(&options, out);
    stop_server(pid);
    return status;
}

static void show(const struct workload *work, const struct peer *peer, const wsload_figures *runs,
                 int count)
{
    double rate[ROUNDS_MAX], p50[ROUNDS_MAX], p99[ROUNDS_MAX], cpu[ROUNDS_MAX], rss[ROUNDS_MAX];
    double connect[ROUNDS_MAX];
    unsigned long long lost = 0;
    bool limited = false;
    for (int i = 0; i < count; i++) {
        rate[i] = (double)runs[i].delivered / (runs[i].seconds > 0 ? runs[i].seconds : 1) / 1e6;
        p50[i] = runs[i].p50_ms;
        p99[i] = runs[i].p99_ms;
        cpu[i] = runs[i].server_cpu;
        rss[i] = (double)(runs[i].server_rss_kb - runs[i].server_rss_before_kb) / work->subscribers;
        connect[i] = work->subscribers / runs[i].connect_s;
        lost += runs[i].lost + runs[i].repeated;
        limited = limited || runs[i].own_cpu > 0.9;
    }
    printf("  %-12s", peer->adapter->name);
    if (work->idle) {
        printf(" %6.2f KB RSS a connection, %6.0f connects/s\n", median(rss, count),
               median(connect, count));
    } else if (work->rate > 0) {
        printf(" %5.2fM/s  p50 %6.2f ms  p99 %6.2f ms  server %3.0f %%  lost or repeated %llu\n",
               median(rate, count), median(p50, count), median(p99, count),
               median(cpu, count) * 100, lost);
    } else {
        printf(" %s%5.2fM deliveries/s  server %3.0f %%  lost or repeated %llu\n",
               limited ? ">=" : "  ", median(rate, count), median(cpu, count) * 100, lost);
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    bool is_long = argc > 1 && strcmp(argv[1], "--long") == 0;
    int rounds = is_long ? 5 : 3;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    if (mkdtemp(directory) == NULL) {
        perror(directory);
        return 1;
    }
    pin(1);
    int port = PORT_FIRST, failed = 0;
    for (size_t w = 0; w < sizeof(workloads) / sizeof(workloads[0]); w++) {
        wsload_figures runs[PEERS][ROUNDS_MAX];
        int counts[PEERS] = {0};
        printf("%s\n", workloads[w].name);
        for (int round = 0; round < rounds; round++) {
            for (int p = 0; p < PEERS; p++) {
                if (access(peers[p].program, X_OK) == 0 &&
                    run_one(&workloads[w], &peers[p], port++, is_long ? 4 : 2,
                            &runs[p][counts[p]]) == 0) {
                    counts[p]++;
                }
            }
        }
        for (int p = 0; p < PEERS; p++) {
            if (counts[p] > 0) {
                show(&workloads[w], &peers[p], runs[p], counts[p]);
            } else {
                bool there = access(peers[p].program, X_OK) == 0;
                printf("  %-12s %s\n", peers[p].adapter->name,
                       there ? "failed" : "skipped: not installed");
                failed += there;
            }
        }
    }
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    return system(command) != 0 || failed != 0;
}
