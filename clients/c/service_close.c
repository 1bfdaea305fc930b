/* service_close.c - see service_close.h.
 *
 * nng 1.5.2 reads a message in two steps. A connection that is closed on our side between the two
 * begins the second with an operation that is stopped already, which nng never answers; its one
 * thread that takes connections apart waits for that answer, for this socket and for all others. */
#include "clients/c/service_close.h"

#include <pthread.h>
#include <time.h>

#include "protocol/base.h"

/* One closing, shared by its thread and the caller: the last one frees it. */
typedef struct closing {
    nng_socket socket;
    bool has_ended; /* the thread has no use for it any more */
    bool is_left;   /* nor has the caller */
} closing;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below, and of every closing */
static pthread_cond_t ended;                             /* by the monotonic clock */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static unsigned left;

static void init(void)
{
    pthread_condattr_t attributes;
    bool good = pthread_condattr_init(&attributes) == 0 &&
                pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
                pthread_cond_init(&ended, &attributes) == 0;
    TW_ASSERT(good); /* none of them can fail with these arguments */
    (void)pthread_condattr_destroy(&attributes);
}

static void *close_socket(void *arg)
{
    closing *self = arg;
    (void)nng_close(self->socket); /* an error: it is closed already */
    pthread_mutex_lock(&lock);
    self->has_ended = true;
    bool is_last = self->is_left;
    left -= is_last ? 1 : 0;
    pthread_cond_broadcast(&ended);
    pthread_mutex_unlock(&lock);
    if (is_last) {
        tw_free(self);
    }
    return NULL;
}

/* The closing's thread, which nobody joins. False: there is none. */
static bool begin(closing *self)
{
    pthread_t thread;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    bool good = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
                pthread_create(&thread, &attributes, close_socket, self) == 0;
    (void)pthread_attr_destroy(&attributes);
    return good;
}

static struct timespec time_after(uint32_t ms)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

bool service_close_within(nng_socket socket, uint32_t within_ms)
{
    (void)pthread_once(&once, init);
    closing *self = tw_alloc_zero(1, sizeof *self);
    if (self == NULL) {
        return false; /* no memory for a thread: it stays open */
    }
    *self = (closing){.socket = socket};
    struct timespec until = time_after(within_ms);
    pthread_mutex_lock(&lock);
    bool is_stuck = left > 0;
    if (!begin(self)) {
        pthread_mutex_unlock(&lock);
        tw_free(self);
        return false;
    }
    int failed = 0;
    while (!self->has_ended && !is_stuck && failed == 0) {
        failed = pthread_cond_timedwait(&ended, &lock, &until);
    }
    bool is_closed = self->has_ended;
    self->is_left = !is_closed;
    left += is_closed ? 0 : 1;
    pthread_mutex_unlock(&lock);
    if (is_closed) {
        tw_free(self);
    }
    return is_closed;
}

unsigned service_close_left(void)
{
    pthread_mutex_lock(&lock);
    unsigned count = left;
    pthread_mutex_unlock(&lock);
    return count;
}
