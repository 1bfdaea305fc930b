/* restart.c - back-off and the red light. */
#include "actors/runtime/restart.h"

enum { WAIT_MIN_MS = 10, WAIT_MAX_MS = 5000, WINDOW_MS = 10000 };

uint64_t restart_policy_ended(restart_policy *self, uint64_t now_ms, uint64_t lived_ms,
                              uint64_t random)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(self->wait_ms <= WAIT_MAX_MS);
    if (lived_ms >= WINDOW_MS) {
        self->wait_ms = 0;
        self->is_red = false;
    }
    uint64_t doubled = self->wait_ms == 0 ? WAIT_MIN_MS : 2 * self->wait_ms;
    self->wait_ms = doubled < WAIT_MAX_MS ? doubled : WAIT_MAX_MS;
    /* The ring holds one end more than is allowed; when it is full, the next place in it is the
     * oldest, and its age tells how long all of them took. */
    uint64_t size = TW_COUNT(self->ended_ms);
    self->ended_ms[self->count % size] = now_ms;
    self->count++;
    if (self->count >= size && now_ms - self->ended_ms[self->count % size] <= WINDOW_MS) {
        self->is_red = true;
    }
    return self->wait_ms / 2 + random % (self->wait_ms / 2 + 1);
}

bool restart_policy_is_red(const restart_policy *self, uint64_t lived_ms)
{
    TW_ASSERT(self != NULL);
    return self->is_red && lived_ms < WINDOW_MS;
}
