/* load_round_trip.c - what the machine itself takes from one core to another and back. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/load/load_peer.h"
#include "bench/load/load_run.h"

enum { BYTES = 128 };

static bool pass(int fd, bool first)
{
    char bytes[BYTES] = {0};
    bool sent = !first || send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) == BYTES;
    return sent && recv(fd, bytes, sizeof bytes, MSG_WAITALL) == BYTES &&
           (first || send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) == BYTES);
}

/* Two ends of one TCP connection. */
static bool connect_pair(int ends[2])
{
    const int one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ends[1] = -1;
    bool good = listener >= 0 && ends[0] >= 0 && bind(listener, (struct sockaddr *)&at, len) == 0 &&
                listen(listener, 1) == 0 &&
                getsockname(listener, (struct sockaddr *)&at, &len) == 0 &&
                connect(ends[0], (struct sockaddr *)&at, len) == 0;
    ends[1] = good ? accept(listener, NULL, NULL) : -1;
    close(listener);
    for (int i = 0; i < 2 && ends[1] >= 0; i++) {
        (void)setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    return ends[1] >= 0;
}

/* In a child of its own, which alone is pinned. Returns us. */
static double measure(int fd, size_t rounds)
{
    static load_histogram times;
    times = (load_histogram){0};
    for (size_t i = 0; i < rounds; i++) {
        uint64_t begin = load_now_ns();
        if (!pass(fd, true)) {
            return 0;
        }
        load_histogram_add(&times, load_now_ns() - begin);
    }
    return load_histogram_ms(&times, 0.5) * 1000;
}

double load_round_trip_us(size_t rounds)
{
    int ends[2], results[2];
    if (!connect_pair(ends) || pipe(results) != 0) {
        return 0;
    }
    double us = 0;
    int pids[2];
    for (int i = 0; i < 2; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            bool good = load_pin(i == 0 ? LOAD_CORE_LOAD : LOAD_CORE_SERVER);
            for (size_t r = 0; i == 1 && r < rounds && good; r++) {
                good = pass(ends[1], false);
            }
            us = i == 0 && good ? measure(ends[0], rounds) : 0;
            _exit(i == 1 || write(results[1], &us, sizeof us) == (ssize_t)sizeof us ? 0 : 1);
        }
    }
    close(ends[0]);
    close(ends[1]);
    close(results[1]);
    if (read(results[0], &us, sizeof us) != (ssize_t)sizeof us) {
        us = 0;
    }
    close(results[0]);
    waitpid(pids[0], NULL, 0);
    waitpid(pids[1], NULL, 0);
    return us;
}
