/* load_schedule.c - see load_schedule.h. */
#include "bench/load/load_schedule.h"

#include <math.h>

uint64_t load_schedule_due(const load_schedule *self, uint64_t seq)
{
    return self->begin_ns + (uint64_t)((double)(seq - self->first) * self->period_ns);
}

uint64_t load_schedule_end(const load_schedule *self, uint64_t ns)
{
    if (ns <= self->begin_ns) {
        return self->first;
    }
    return self->first + (uint64_t)ceil((double)(ns - self->begin_ns) / self->period_ns);
}

bool load_topics_init(load_topics *self, uint32_t count, bool zipf)
{
    *self = (load_topics){.count = count, .random = 88172645463325252};
    self->next = tw_alloc_zero(count, sizeof *self->next);
    self->shares = zipf ? tw_alloc_zero(count, sizeof *self->shares) : NULL;
    if (self->next == NULL || (zipf && self->shares == NULL)) {
        load_topics_fini(self);
        return false;
    }
    double sum = 0;
    for (uint32_t i = 0; zipf && i < count; i++) {
        sum += 1.0 / (double)(i + 1);
        self->shares[i] = sum;
    }
    for (uint32_t i = 0; zipf && i < count; i++) {
        self->shares[i] /= sum;
    }
    return true;
}

void load_topics_fini(load_topics *self)
{
    tw_free(self->next);
    tw_free(self->shares);
    *self = (load_topics){0};
}

uint32_t load_topics_pick(load_topics *self)
{
    self->random ^= self->random << 13;
    self->random ^= self->random >> 7;
    self->random ^= self->random << 17;
    if (self->shares == NULL) {
        return (uint32_t)(self->random % self->count);
    }
    double share = (double)(self->random >> 11) / 9007199254740992.0; /* 53 bits: 0 to 1 */
    uint32_t low = 0, high = self->count - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (self->shares[middle] > share) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}
