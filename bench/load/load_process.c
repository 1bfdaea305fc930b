/* load_process.c - reads clocks of processes, /proc/PID/statm, /proc/stat and
 * /proc/meminfo. */
#include "bench/load/load_process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base.h"

static bool read_file(const char *path, char *text, size_t max)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t len = read(fd, text, max - 1);
    close(fd);
    text[len > 0 ? len : 0] = '\0';
    return len > 0;
}

double load_pids_cpu_s(const load_pids *self)
{
    double sum = 0;
    for (size_t i = 0; i < self->count; i++) {
        clockid_t clock; /* counts ns: /proc/PID/stat counts hundredths of a second */
        struct timespec used;
        if (clock_getcpuclockid(self->ids[i], &clock) == 0 && clock_gettime(clock, &used) == 0) {
            sum += (double)used.tv_sec + (double)used.tv_nsec / 1e9;
        }
    }
    return sum;
}

uint64_t load_pids_rss(const load_pids *self)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < self->count; i++) {
        char path[64], text[256];
        unsigned long pages;
        tw_format(path, sizeof path, "/proc/%d/statm", self->ids[i]);
        if (read_file(path, text, sizeof text) && sscanf(text, "%*u %lu", &pages) == 1) {
            sum += (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
        }
    }
    return sum;
}

double load_machine_cpu_s(void)
{
    char text[512];
    unsigned long long user, nice, system, irq, softirq;
    if (!read_file("/proc/stat", text, sizeof text) ||
        sscanf(text, "cpu %llu %llu %llu %*u %*u %llu %llu", &user, &nice, &system, &irq,
               &softirq) != 5) {
        return 0;
    }
    return (double)(user + nice + system + irq + softirq) / (double)sysconf(_SC_CLK_TCK);
}

double load_own_cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

uint64_t load_kernel_slab(void)
{
    char text[4096];
    unsigned long long kib;
    const char *line = read_file("/proc/meminfo", text, sizeof text) ? strstr(text, "\nSlab:") : 0;
    return line != NULL && sscanf(line, "\nSlab: %llu", &kib) == 1 ? (uint64_t)kib << 10 : 0;
}
