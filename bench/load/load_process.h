/* load_process.h - what processes used of the CPU and of memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOAD_PIDS_MAX = 8 };

typedef struct load_pids {
    int ids[LOAD_PIDS_MAX];
    size_t count;
} load_pids;

/* CPU seconds of all, since each began; an ended process counts 0. */
double load_pids_cpu_s(const load_pids *self);
/* Resident bytes of all. */
uint64_t load_pids_rss(const load_pids *self);
/* CPU seconds that the whole machine has been busy with. */
double load_machine_cpu_s(void);
/* CPU seconds of this process. */
double load_own_cpu_s(void);
/* Bytes in the kernel's slabs: sockets are there and in no RSS. */
uint64_t load_kernel_slab(void);
