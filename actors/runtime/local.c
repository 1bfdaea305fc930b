/* local.c - see local.h. */
#include "actors/runtime/local.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "protocol/limits.h"

enum {
    LOCAL_MAGIC = 0x10ca1e4d,
    INBOX_QUEUE = TW_LINKS_MAX * TW_LINK_IN_FLIGHT_MAX, /* requests: the windows of all links */
    LINK_QUEUE = 2 * TW_LINK_IN_FLIGHT_MAX, /* answers; twice, for what an ended peer left behind */
    ID_MAX = 0x7fffffff,                    /* as nng's pipes: the highest bit ends a route */
};

struct local_endpoint {
    uint32_t magic;
    bool is_inbox, is_placed;    /* placed: it listens or dials at address */
    bool is_told;                /* fd was written and not read since */
    uint32_t id;                 /* of a link's connection */
    struct local_endpoint *peer; /* of a link; NULL: nobody listens */
    struct local_endpoint *next; /* of all that are placed */
    transport_socket *owner;     /* borrow */
    transport_packet **queue;    /* own; a ring, and so are the packets in it */
    size_t cap, first, count;
    char address[TRANSPORT_ADDRESS_MAX];
};
typedef struct local_endpoint local_endpoint;

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

static local_endpoint *listener_at(const char *address)
{
    for (local_endpoint *one = placed; one != NULL; one = one->next) {
        if (one->is_inbox && strcmp(one->address, address) == 0) {
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
    for (local_endpoint *one = self->is_inbox ? placed : NULL; one != NULL; one = one->next) {
        if (one->peer == self) {
            disconnect_link(one);
        }
    }
}

/* ---- queues; all under the lock ---- */
static void push(local_endpoint *self, transport_packet **packet)
{
    TW_ASSERT(self->count < self->cap);
    self->queue[(self->first + self->count++) % self->cap] = *packet;
    *packet = NULL;
    if (!self->is_told) {
        self->is_told = true;
        ring(self->owner->fd);
    }
}

static transport_packet *pop(local_endpoint *self)
{
    if (self->count > 0) {
        transport_packet *packet = self->queue[self->first];
        self->first = (self->first + 1) % self->cap;
        self->count--;
        return packet;
    }
    eventfd_t value;
    int failed = self->is_told ? eventfd_read(self->owner->fd, &value) : 0;
    TW_ASSERT(failed == 0);
    self->is_told = false;
    return NULL;
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
tw_err local_open(transport_socket *socket, bool is_inbox)
{
    TW_ASSERT(socket->local == NULL);
    local_endpoint *self = tw_alloc_zero(1, sizeof *self);
    size_t cap = is_inbox ? INBOX_QUEUE : LINK_QUEUE;
    transport_packet **queue = tw_alloc_zero(cap, sizeof(transport_packet *));
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self == NULL || queue == NULL || fd < 0) {
        tw_free(self);
        tw_free(queue);
        if (fd >= 0) {
            close(fd);
        }
        return TW_E_NO_MEMORY;
    }
    *self = (local_endpoint){
        .magic = LOCAL_MAGIC, .is_inbox = is_inbox, .owner = socket, .queue = queue, .cap = cap};
    socket->local = self;
    socket->fd = fd;
    return TW_OK;
}

tw_err local_listen(transport_socket *socket, const char *address)
{
    local_endpoint *self = endpoint_of(socket);
    TW_ASSERT(self->is_inbox);
    pthread_mutex_lock(&lock);
    bool is_free = listener_at(address) == NULL;
    if (is_free) {
        place(self, address);
    }
    for (local_endpoint *one = is_free ? placed : NULL; one != NULL; one = one->next) {
        if (!one->is_inbox && one->peer == NULL && strcmp(one->address, address) == 0) {
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
    TW_ASSERT(!self->is_inbox);
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
    pthread_mutex_unlock(&lock); /* from here on nobody else knows it */
    for (; self->count > 0; self->count--) {
        transport_packet_free(&self->queue[self->first]);
        self->first = (self->first + 1) % self->cap;
    }
    close(socket->fd);
    tw_free(self->queue);
    tw_free(self);
    socket->local = NULL;
    socket->fd = -1;
}

/* ---- packets ---- */
static tw_err send_request(local_endpoint *self, transport_packet **packet)
{
    local_endpoint *inbox = self->peer;
    if (inbox == NULL || inbox->count == inbox->cap) {
        return TW_E_BUSY; /* without a peer: its owner is about to be told so */
    }
    transport_packet_route_add(*packet, self->id);
    push(inbox, packet);
    return TW_OK;
}

static tw_err send_answer(local_endpoint *self, transport_packet **packet)
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
    push(link, packet);
    return TW_OK;
}

tw_err local_send(transport_socket *socket, transport_packet **packet)
{
    local_endpoint *self = endpoint_of(socket);
    pthread_mutex_lock(&lock);
    tw_err err = self->is_inbox ? send_answer(self, packet) : send_request(self, packet);
    pthread_mutex_unlock(&lock);
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
    local_endpoint *link = self->is_inbox ? link_of(self, transport_packet_route(packet)) : self;
    local_endpoint *inbox = link == NULL ? NULL : link->peer;
    if (inbox != NULL) {
        disconnect_link(link);
        connect_link(link, inbox);
    }
    pthread_mutex_unlock(&lock);
}
