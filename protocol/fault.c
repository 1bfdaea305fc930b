/* fault.c - see fault.h. */
#include "protocol/fault.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base.h"

enum { FAULT_UNKNOWN, FAULT_OFF, FAULT_ARMED };

/* The one mutable global of protocol/: a point may stand anywhere, so nobody could hand it over. */
static struct {
    atomic_int state;
    char name[64];
    atomic_uint_fast64_t left;
} fault;

void tw_fault_arm(const char *spec)
{
    const char *colon = spec == NULL ? NULL : strchr(spec, ':');
    uint64_t count = 1;
    size_t len = colon == NULL ? 0 : (size_t)(colon - spec);
    if (len == 0 || len >= sizeof fault.name ||
        tw_parse_u64(tw_str_of(colon + 1), UINT32_MAX, &count) != TW_OK || count == 0) {
        atomic_store(&fault.state, FAULT_OFF);
        return;
    }
    memcpy(fault.name, spec, len);
    fault.name[len] = '\0';
    atomic_store(&fault.left, count);
    atomic_store(&fault.state, FAULT_ARMED);
}

void tw_fault(const char *point)
{
    int state = atomic_load_explicit(&fault.state, memory_order_acquire);
    if (state == FAULT_OFF) {
        return;
    }
    if (state == FAULT_UNKNOWN) {
        static atomic_flag reading = ATOMIC_FLAG_INIT;
        if (atomic_flag_test_and_set(&reading)) {
            return; /* another thread is at it */
        }
        tw_fault_arm(getenv("TIDEWIRE_FAULT"));
    }
    if (atomic_load(&fault.state) != FAULT_ARMED || strcmp(point, fault.name) != 0) {
        return;
    }
    if (atomic_fetch_sub(&fault.left, 1) == 1) {
        (void)raise(SIGKILL);
    }
}
