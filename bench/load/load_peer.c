/* load_peer.c - see load_peer.h. */
#include "bench/load/load_peer.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base.h"

enum { START_MS = 30000, NAP_MS = 20, PATH_BYTES = 256, NOT_INSTALLED = 77 };

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = NAP_MS * 1000000L}, NULL);
}

bool load_pin(unsigned core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0;
}

static void script_of(const char *name, char out[PATH_BYTES])
{
    tw_format(out, PATH_BYTES, "bench/peers/%s", name);
}

/* In the child: the program, its outputs to `output`. */
static _Noreturn void become(const char *const *arguments, int output)
{
    dup2(output, 1);
    dup2(output, 2);
    execv(arguments[0], (char *const *)(uintptr_t)arguments);
    _exit(NOT_INSTALLED);
}

bool load_peer_version(const char *name, char *out, size_t size)
{
    char path[PATH_BYTES];
    int ends[2];
    script_of(name, path);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    int pid = fork();
    if (pid == 0) {
        become((const char *const[]){path, "version", NULL}, ends[1]);
    }
    close(ends[1]);
    size_t len = 0;
    ssize_t got;
    while (len + 1 < size && (got = read(ends[0], out + len, size - 1 - len)) > 0) {
        len += (size_t)got;
    }
    close(ends[0]);
    out[len] = '\0';
    out[strcspn(out, "\n")] = '\0';
    int status = 0;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The processes of a group: a server may have workers. */
static void find_group(int group, load_pids *out)
{
    DIR *all = opendir("/proc");
    *out = (load_pids){0};
    for (struct dirent *one; all != NULL && (one = readdir(all)) != NULL;) {
        int id = atoi(one->d_name); /* tidy: 0 where it is no number, which is no process */
        if (id > 0 && getpgid(id) == group && out->count < LOAD_PIDS_MAX) {
            out->ids[out->count++] = id;
        }
    }
    if (all != NULL) {
        closedir(all);
    }
}

static bool listens(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool up = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;
    close(fd);
    return up;
}

bool load_peer_start(load_peer *out, const char *name, int port, const char *folder)
{
    char number[16], path[PATH_BYTES];
    script_of(name, path);
    tw_format(number, sizeof(number), "%d", port);
    return load_peer_spawn(out, (const char *const[]){path, number, folder, NULL}, port, folder,
                           true);
}

/* Asked is how fast a server is, not how fast it lets a peer be. */
static void lift_limits(void)
{
    static const char *const limits[] = {
        "TIDEWIRE_LIMITS_MESSAGES_S", "TIDEWIRE_LIMITS_ACCEPTS_S", "TIDEWIRE_LIMITS_SUBSCRIBES_S",
        "TIDEWIRE_LIMITS_SEARCHES_S", "TIDEWIRE_LIMITS_SEARCHES",
    };
    for (size_t i = 0; i < TW_COUNT(limits); i++) {
        setenv(limits[i], "0", 1);
    }
}

bool load_peer_spawn(load_peer *out, const char *const *arguments, int port, const char *folder,
                     bool pinned)
{
    char path[PATH_BYTES];
    tw_format(path, sizeof(path), "%s/log", folder);
    (void)mkdir(folder, 0700);
    *out = (load_peer){.group = fork()};
    if (out->group == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        lift_limits();
        if (pinned) {
            load_pin(LOAD_CORE_SERVER);
        }
        become(arguments, open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600));
    }
    setpgid(out->group, out->group);
    for (int waited = 0; waited < START_MS; waited += NAP_MS) {
        if (listens(port)) {
            find_group(out->group, &out->pids);
            return true;
        }
        if (waitpid(out->group, NULL, WNOHANG) == out->group) {
            break;
        }
        nap();
    }
    fprintf(stderr, "%s does not listen; see %s\n", arguments[0], path);
    load_peer_stop(out);
    return false;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)about, (void)kind, (void)where;
    if (remove(path) != 0) {
        fprintf(stderr, "%s is left\n", path);
    }
    return 0;
}

void load_remove_folder(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int load_free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && bind(fd, (struct sockaddr *)&at, len) == 0 &&
                getsockname(fd, (struct sockaddr *)&at, &len) == 0;
    close(fd);
    return good ? ntohs(at.sin_port) : 0;
}

void load_peer_stop(load_peer *self)
{
    kill(-self->group, SIGKILL);
    waitpid(self->group, NULL, 0);
}
