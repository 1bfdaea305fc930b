/* listener_watch.c - see listener_watch.h. A visit: connect, greet, hear, see the pipe, go. */
#include "actors/runtime/listener_watch.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/base.h"

#define IPC_PREFIX "ipc://"
#define TCP_PREFIX "tcp://"

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

void listener_watch_begin(listener_watch *self, listener_watch_peer peer, const char *address)
{
    TW_ASSERT(address != NULL);
    TW_ASSERT(strlen(address) < sizeof self->address);
    *self = (listener_watch){.fd = -1, .peer = peer};
    if (begins_with(address, IPC_PREFIX) || begins_with(address, TCP_PREFIX)) {
        tw_format(self->address, sizeof self->address, "%s", address);
    }
}

/* 0: connected or connecting; else errno. */
static int connect_to(listener_watch *self, int family, const struct sockaddr *to, socklen_t len)
{
    self->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (self->fd < 0) {
        return errno;
    }
    if (connect(self->fd, to, len) == 0 || errno == EINPROGRESS) {
        return 0;
    }
    int error = errno;
    close(self->fd);
    self->fd = -1;
    return error;
}

static int connect_ipc(listener_watch *self, const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof to.sun_path) {
        return ENAMETOOLONG;
    }
    tw_format(to.sun_path, sizeof to.sun_path, "%s", path);
    return connect_to(self, AF_UNIX, (const struct sockaddr *)&to, sizeof to);
}

/* Hosts are numbers or localhost: nobody is asked for a name. */
static int connect_tcp(listener_watch *self, const char *host_port)
{
    char host[LISTENER_WATCH_ADDRESS_MAX];
    tw_format(host, sizeof host, "%s", host_port);
    char *colon = strrchr(host, ':');
    if (colon == NULL) {
        return EINVAL;
    }
    *colon = '\0';
    char *name = host;
    size_t len = strlen(name);
    if (len > 2 && name[0] == '[' && name[len - 1] == ']') {
        name[len - 1] = '\0';
        name++;
    }
    const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(name, colon + 1, &wanted, &found) != 0) {
        return EINVAL;
    }
    int error = connect_to(self, found->ai_family, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return error;
}

static void hang_up(listener_watch *self)
{
    if (self->fd >= 0) {
        close(self->fd);
    }
    self->fd = -1;
    self->heard = 0;
    self->is_said = false;
}

/* True: a whole greeting of SP came. Ours is sent first, so that nng sees a peer come and go, and
 * not one of those that end its accept. */
static bool has_greeted(listener_watch *self)
{
    static const uint8_t sp[4] = {0, 'S', 'P', 0};
    if (!self->is_said) {
        const uint8_t ours[LISTENER_WATCH_GREETING] = {0, 'S', 'P', 0, 0, (uint8_t)self->peer};
        self->is_said = send(self->fd, ours, sizeof ours, MSG_NOSIGNAL) == sizeof ours;
    }
    uint8_t theirs[LISTENER_WATCH_GREETING];
    size_t left = sizeof theirs - self->heard;
    ssize_t got = recv(self->fd, theirs + self->heard, left, 0);
    if (got <= 0) {
        return false;
    }
    bool is_sp = self->heard > 0 ||
                 memcmp(theirs, sp, (size_t)got < sizeof sp ? (size_t)got : sizeof sp) == 0;
    if (!is_sp) {
        return false; /* somebody else listens there: as silent as a dead one */
    }
    self->heard += (unsigned)got;
    return self->heard == sizeof theirs;
}

static void ask(listener_watch *self)
{
    int error = begins_with(self->address, IPC_PREFIX)
                    ? connect_ipc(self, self->address + strlen(IPC_PREFIX))
                    : connect_tcp(self, self->address + strlen(TCP_PREFIX));
    if (error == 0) {
        (void)has_greeted(self); /* over ipc it may be there at once */
        return;
    }
    /* Nobody listens, or the backlog is full as nobody accepts. Want of descriptors is no sign. */
    bool is_sign = error == ECONNREFUSED || error == ENOENT || error == EAGAIN;
    self->misses += is_sign ? 1 : 0;
}

/* To leave before the greetings are exchanged would do to the listener what is feared. */
static bool is_noticed(listener_watch *self, uint64_t gains)
{
    bool greeted = self->heard == LISTENER_WATCH_GREETING || has_greeted(self);
    return greeted && self->is_said && gains != self->gains;
}

bool listener_watch_step(listener_watch *self, uint64_t gains)
{
    if (self->address[0] == '\0') {
        return false;
    }
    if (self->fd < 0) {
        self->gains = gains;
        ask(self);
    } else if (is_noticed(self, gains)) {
        hang_up(self);
        self->misses = 0;
    } else {
        self->misses++;
    }
    if (self->misses < LISTENER_WATCH_MISSES_MAX) {
        return false;
    }
    hang_up(self);
    self->misses = 0;
    return true;
}

void listener_watch_end(listener_watch *self)
{
    if (self->address[0] != '\0') {
        hang_up(self);
        self->address[0] = '\0';
    }
}
