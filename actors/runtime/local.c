/* local.c - see local.h. */
#include "actors/runtime/local.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "protocol/limits.h"

#include "actors/runtime/publication.h"

enum {
    LOCAL_MAGIC = 0x10ca1e4d,
    INBOX_QUEUE = TW_LINKS_MAX * TW_LINK_IN_FLIGHT_MAX, /* requests: the windows of all links */
    LINK_QUEUE = 2 * TW_LINK_IN_FLIGHT_MAX, /* answers; twice, for what an ended peer left behind */
    ID_MAX = 0x7fffffff,                    /* as nng's pipes: the highest bit ends a route */
};

/* What an endpoint of each kind is: who listens is found by address, who has a queue is told. */
static const struct role {
    size_t queue; /* packets; 0: it receives nothing */
    bool listens;
} roles[] = {
    [TRANSPORT_INBOX] = {INBOX_QUEUE, true}, [TRANSPORT_LINK] = {LINK_QUEUE, false},
    [TRANSPORT_PUBLICATIONS] = {0, true},    [TRANSPORT_FOLLOW] = {TW_FOLLOW_QUEUE_MAX, false},
    [TRANSPORT_NEWEST] = {1, false},
};

struct local_endpoint {
    uint32_t magic;
    transport_kind kind;
    bool is_placed;              /* it listens or dials at address */
    bool is_told;                /* fd was written, or is about to be, and not read since */
    uint32_t id;                 /* of a link's or a follower's connection */
    struct local_endpoint *peer; /* of the same; NULL: nobody listens */
    struct local_endpoint *next; /* of all that are placed */
    transport_socket *owner;     /* borrow */
    transport_packet **queue;    /* own; a ring, and so are the packets in it */
    size_t cap, first, count;
    size_t bytes;        /* in the queue */
    atomic_uint ringers; /* threads that are about to write fd; it stays open so long */
    char address[TRANSPORT_ADDRESS_MAX];
};
typedef struct local_endpoint local_endpoint;

/* Who is to be woken when the lock is given back: a thread that is woken under it would run into
 * it, which costs two more switches of threads. */
typedef struct bells {
    local_endpoint *at[TW_ACTORS_MAX];
    size_t count;
} bells;

/* Where addresses are found: they are names of the whole process, as nng's are. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static local_endpoint *placed;
static uint32_t last_id;

static local_endpoint *endpoint_of(const transport_socket *socket)
{
    TW_ASSERT(socket->local != NULL && socket->local->magic == LOCAL_MAGIC);
    return socket->local;
}

static void ring(int fd)
{
    int failed = eventfd_write(fd, 1);
    TW_ASSERT(failed == 0 || errno == EAGAIN); /* EAGAIN: it is readable already */
}

/* ---- connections; all under the lock ---- */
static void count_gain(local_endpoint *self)
{
    atomic_fetch_add(&self->owner->pipes, 1);
    atomic_fetch_add(&self->owner->gains, 1);
    ring(self->owner->wake_fd);
}

static void count_loss(local_endpoint *self)
{
    atomic_fetch_sub(&self->owner->pipes, 1);
    atomic_fetch_add(&self->owner->losses, 1);
    ring(self->owner->wake_fd);
}

static void connect_link(local_endpoint *link, local_endpoint *inbox)
{
    TW_ASSERT(link->peer == NULL);
    last_id = last_id % ID_MAX + 1;
    link->id = last_id;
    link->peer = inbox;
    count_gain(inbox);
    count_gain(link);
}

static void disconnect_link(local_endpoint *link)
{
    TW_ASSERT(link->peer != NULL);
    count_loss(link->peer);
    count_loss(link);
    link->peer = NULL;
}

static bool is_listening(const local_endpoint *self)
{
    return roles[self->kind].listens;
}

static local_endpoint *listener_at(const char *address)
{
    for (local_endpoint *one = placed; one != NULL; one = one->next) {
        if (is_listening(one) && strcmp(one->address, address) == 0) {
            return one;
        }
    }
    return NULL;
}

static void place(local_endpoint *self, const char *address)
{
    TW_ASSERT(!self->is_placed);
    tw_format(self->address, sizeof self->address, "%s", address);
    self->is_placed = true;
    self->next = placed;
    placed = self;
}

static void unplace(local_endpoint *self)
{
    local_endpoint **at = &placed;
    while (self->is_placed && *at != self) {
        at = &(*at)->next;
    }
    if (self->is_placed) {
        *at = self->next;
    }
    self->is_placed = false;
    if (self->peer != NULL) {
        disconnect_link(self);
    }
    for (local_endpoint *one = is_listening(self) ? placed : NULL; one != NULL; one = one->next) {
        if (one->peer == self) {
            disconnect_link(one);
        }
    }
}

/* ---- queues; all under the lock ---- */
static size_t bytes_of(const transport_packet *packet)
{
    return transport_packet_body(packet).len;
}

/* The oldest; there is one. */
static transport_packet *take_first(local_endpoint *self)
{
    TW_ASSERT(self->count > 0);
    transport_packet *packet = self->queue[self->first];
    self->first = (self->first + 1) % self->cap;
    self->count--;
    self->bytes -= bytes_of(packet);
    return packet;
}

static void push(local_endpoint *self, transport_packet **packet, bells *due)
{
    TW_ASSERT(self->count < self->cap);
    self->bytes += bytes_of(*packet);
    self->queue[(self->first + self->count++) % self->cap] = *packet;
    *packet = NULL;
    if (self->is_told) {
        return;
    }
    self->is_told = true;
    if (due->count < TW_COUNT(due->at)) {
        atomic_fetch_add(&self->ringers, 1);
        due->at[due->count++] = self;
    } else {
        ring(self->owner->fd); /* more followers than a process has actors */
    }
}

static transport_packet *pop(local_endpoint *self)
{
    if (self->count > 0) {
        return take_first(self);
    }
    eventfd_t value;
    if (self->is_told && eventfd_read(self->owner->fd, &value) == 0) {
        self->is_told = false;
    } /* else who told is about to write: fd wakes once more */
    return NULL;
}

/* Gives the lock back, then wakes. */
static void unlock_and_ring(const bells *due)
{
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < due->count; i++) {
        ring(due->at[i]->owner->fd);
        atomic_fetch_sub(&due->at[i]->ringers, 1);
    }
}

static local_endpoint *link_of(const local_endpoint *inbox, uint32_t id)
{
    for (local_endpoint *one = placed; one != NULL; one = one->next) {
        if (one->peer == inbox && one->id == id) {
            return one;
        }
    }
    return NULL;
}

/* ---- sockets ---- */
tw_err local_open(transport_socket *socket, transport_kind kind)
{
    TW_ASSERT(socket->local == NULL);
    TW_ASSERT((size_t)kind < TW_COUNT(roles));
    size_t cap = roles[kind].queue;
    local_endpoint *self = tw_alloc_zero(1, sizeof *self);
    transport_packet **queue = cap == 0 ? NULL : tw_alloc_zero(cap, sizeof(transport_packet *));
    int fd = cap == 0 ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self == NULL || (cap > 0 && (queue == NULL || fd < 0))) {
        tw_free(self);
        tw_free(queue);
        if (fd >= 0) {
            close(fd);
        }
        return TW_E_NO_MEMORY;
    }
    *self = (local_endpoint){
        .magic = LOCAL_MAGIC, .kind = kind, .owner = socket, .queue = queue, .cap = cap};
    socket->local = self;
    socket->fd = fd;
    return TW_OK;
}

tw_err local_listen(transport_socket *socket, const char *address)
{
    local_endpoint *self = endpoint_of(socket);
    TW_ASSERT(is_listening(self));
    pthread_mutex_lock(&lock);
    bool is_free = listener_at(address) == NULL;
    if (is_free) {
        place(self, address);
    }
    for (local_endpoint *one = is_free ? placed : NULL; one != NULL; one = one->next) {
        if (!is_listening(one) && one->peer == NULL && strcmp(one->address, address) == 0) {
            connect_link(one, self);
        }
    }
    pthread_mutex_unlock(&lock);
    return is_free ? TW_OK : TW_E_CONFLICT;
}

void local_unlisten(transport_socket *socket)
{
    pthread_mutex_lock(&lock);
    unplace(endpoint_of(socket));
    pthread_mutex_unlock(&lock);
}

void local_dial(transport_socket *socket, const char *address)
{
    local_endpoint *self = endpoint_of(socket);
    TW_ASSERT(!is_listening(self));
    pthread_mutex_lock(&lock);
    place(self, address);
    local_endpoint *inbox = listener_at(address);
    if (inbox != NULL) {
        connect_link(self, inbox);
    }
    pthread_mutex_unlock(&lock);
}

void local_close(transport_socket *socket)
{
    local_endpoint *self = endpoint_of(socket);
    pthread_mutex_lock(&lock);
    unplace(self);
    pthread_mutex_unlock(&lock); /* from here on nobody else knows it, but who is to wake it */
    while (atomic_load(&self->ringers) > 0) {
        sched_yield(); /* between the lock and one write to fd */
    }
    while (self->count > 0) {
        transport_packet *packet = take_first(self);
        transport_packet_free(&packet);
    }
    if (socket->fd >= 0) {
        close(socket->fd);
    }
    tw_free(self->queue);
    tw_free(self);
    socket->local = NULL;
    socket->fd = -1;
}

/* ---- packets ---- */
static tw_err send_request(local_endpoint *self, transport_packet **packet, bells *due)
{
    local_endpoint *inbox = self->peer;
    if (inbox == NULL || inbox->count == inbox->cap) {
        return TW_E_BUSY; /* without a peer: its owner is about to be told so */
    }
    transport_packet_route_add(*packet, self->id);
    push(inbox, packet, due);
    return TW_OK;
}

static tw_err send_answer(local_endpoint *self, transport_packet **packet, bells *due)
{
    uint32_t id = transport_packet_route_take(*packet);
    local_endpoint *link = link_of(self, id);
    if (link == NULL) {
        transport_packet_free(packet); /* who asked is gone */
        return TW_OK;
    }
    if (link->count == link->cap) {
        transport_packet_route_add(*packet, id);
        return TW_E_BUSY;
    }
    push(link, packet, due);
    return TW_OK;
}

/* One follower's share. One that lags loses the oldest, and sees that by the next number; but one
 * packet is always taken, whatever its size. */
static void publish_to(local_endpoint *follow, transport_packet **packet, bells *due)
{
    if (follow->kind == TRANSPORT_NEWEST && follow->count > 0 &&
        bytes_of(*packet) <= PUBLICATION_HEAD_BYTES) {
        transport_packet_free(packet); /* a beat: the number is that of what waits */
        return;
    }
    while (follow->count == follow->cap ||
           (follow->count > 0 && follow->bytes + bytes_of(*packet) > TW_FOLLOW_BYTES_MAX)) {
        transport_packet *oldest = take_first(follow);
        transport_packet_free(&oldest);
    }
    push(follow, packet, due);
}

/* The last follower gets the packet itself, the others copies. */
static tw_err send_publication(const local_endpoint *self, transport_packet **packet, bells *due)
{
    local_endpoint *last = NULL;
    for (local_endpoint *one = placed; one != NULL; one = one->next) {
        transport_packet *copy = NULL;
        if (one->peer != self) {
            continue;
        }
        if (last != NULL && transport_packet_copy(&copy, *packet) == TW_OK) {
            publish_to(last, &copy, due); /* without memory it is lost, as any may be */
        }
        last = one;
    }
    if (last != NULL) {
        publish_to(last, packet, due);
    }
    transport_packet_free(packet);
    return TW_OK;
}

tw_err local_send(transport_socket *socket, transport_packet **packet)
{
    local_endpoint *self = endpoint_of(socket);
    bells due = {.count = 0};
    pthread_mutex_lock(&lock);
    tw_err err = self->kind == TRANSPORT_PUBLICATIONS ? send_publication(self, packet, &due)
                 : self->kind == TRANSPORT_INBOX      ? send_answer(self, packet, &due)
                                                      : send_request(self, packet, &due);
    unlock_and_ring(&due);
    return err;
}

tw_err local_receive(transport_socket *socket, transport_packet **out)
{
    local_endpoint *self = endpoint_of(socket);
    pthread_mutex_lock(&lock);
    transport_packet *packet = pop(self);
    pthread_mutex_unlock(&lock);
    if (packet == NULL) {
        return TW_E_END;
    }
    *out = packet;
    return TW_OK;
}

void local_refuse(transport_socket *socket, const transport_packet *packet)
{
    local_endpoint *self = endpoint_of(socket);
    pthread_mutex_lock(&lock);
    local_endpoint *link =
        is_listening(self) ? link_of(self, transport_packet_route(packet)) : self;
    local_endpoint *inbox = link == NULL ? NULL : link->peer;
    if (inbox != NULL) {
        disconnect_link(link);
        connect_link(link, inbox);
    }
    pthread_mutex_unlock(&lock);
}
