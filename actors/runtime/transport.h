/* transport.h - the sockets of actors. transport.c is the runtime's only user of nng.
 * Inside one process (inproc://) everything goes by queues instead (local.h).
 *
 * Four kinds, all polled by their descriptor and never blocking:
 *   inbox         raw REP: requests arrive in any number, each with its route in the header;
 *                 answers go out in any order
 *   link          raw REQ: requests to one actor; never sent twice, which cooked REQ would do
 *   publications  PUB: to whoever follows; a follower that lags loses the oldest, silently
 *   follow        SUB: of one actor, everything
 *   newest        SUB: of one actor, what it said last
 * Invariants
 * 1. A socket is used by the one thread that opened it; only `pipes` and `losses` are written by
 *    threads of nng, which then wake that thread by wake_fd.
 * 2. Nobody depends on transport_close returning: see there.
 * 3. Every listener and dialer refuses messages over TW_ACTOR_MESSAGE_MAX; nng has none itself. */
#pragma once

#include <stdatomic.h>

#include "protocol/base.h"

typedef enum transport_kind {
    TRANSPORT_INBOX,
    TRANSPORT_LINK,
    TRANSPORT_PUBLICATIONS,
    TRANSPORT_FOLLOW,
    TRANSPORT_NEWEST,
} transport_kind;

enum {
    TRANSPORT_ADDRESS_MAX = 256, /* bytes of an address with its end; nng's limit is lower */
    TRANSPORT_REQUEST_BYTES = 4, /* of a request's number in a link's header */
};

/* Stays where it is while it is open: nng's threads hold its address. */
typedef struct transport_socket {
    uint32_t id;                  /* nng's; 0: not open, or local */
    struct local_endpoint *local; /* own; NULL: nng's */
    uint32_t listener;            /* nng's; 0: does not listen */
    int fd;                       /* readable: there is something to receive; -1 for publications */
    int wake_fd;                  /* borrow: an eventfd, written when a pipe comes or goes */
    atomic_int pipes;             /* that are connected */
    atomic_uint gains;            /* pipes that have come since the socket was opened */
    atomic_uint losses;           /* pipes that have ended since the socket was opened */
} transport_socket;

static inline bool transport_is_open(const transport_socket *socket)
{
    return socket->id != 0 || socket->local != NULL;
}

/* A message on its way; own. The struct is nng's. */
typedef struct transport_packet transport_packet;

/* Checks base ("inproc://x", "ipc:///dir", "tcp://host:port") and makes the folder of an ipc one,
 * for its owner alone. TW_E_BAD_CONFIG, TW_E_DISK. Thread: any; may block on the disk. */
tw_err transport_base_prepare(const char *base);

/* Writes where an actor's inbox (or its publications) is. TW_E_BAD_CONFIG: too long, or tcp and the
 * name is not in tw_actor_names. Thread: any. */
tw_err transport_address(const char *base, const char *name, bool is_publications,
                         char out[TRANSPORT_ADDRESS_MAX]);

/* Opens, for addresses that begin as base does, without one yet. On error nothing is open.
 * TW_E_NO_MEMORY, TW_E_UNAVAILABLE. */
tw_err transport_open(transport_socket *socket, transport_kind kind, const char *base, int wake_fd);
/* Listens; a stale file of an ipc address is replaced. TW_E_CONFLICT: in use. */
tw_err transport_listen(transport_socket *socket, const char *address);
/* Closes the listener, and with it the connections that came by it; the socket stays. */
void transport_unlisten(transport_socket *socket);
/* Connects as soon as somebody listens there, again after each loss, by itself. */
tw_err transport_dial(transport_socket *socket, const char *address);
/* Closes; when it returns no thread of nng knows the socket. Accepts one that is not open.
 * nng 1.5.2 may wait here for ever, over ipc and tcp: where a connection is closed just after the
 * head of a message was read, the reading of its body is neither begun nor told to have failed, and
 * nng's one thread that takes connections apart waits for it (decisions/0031). */
void transport_close(transport_socket *socket);

/* Makes a packet of a header (route or request number; may be empty) and of two parts of body,
 * which are copied. TW_E_NO_MEMORY. */
tw_err transport_packet_new(transport_packet **out, tw_str header, tw_str prefix, tw_str body);
tw_err transport_packet_copy(transport_packet **out, const transport_packet *packet);
void transport_packet_free(transport_packet **packet);
tw_str transport_packet_header(const transport_packet *packet); /* view */
tw_str transport_packet_body(const transport_packet *packet);   /* view */
/* The first word of a header: the connection that a request came by, and its answer goes to. */
void transport_packet_route_add(transport_packet *packet, uint32_t id);
uint32_t transport_packet_route_take(transport_packet *packet);
uint32_t transport_packet_route(const transport_packet *packet); /* 0: it has none */

/* Sends: takes the packet. TW_E_BUSY: no room at the moment; TW_E_UNAVAILABLE: closed. Never
 * blocks. */
tw_err transport_send(transport_socket *socket, transport_packet **packet);
/* Receives; TW_E_END: there is nothing. Never blocks. */
tw_err transport_receive(transport_socket *socket, transport_packet **out);
/* Closes the connection that a packet came by: its peer sent what cannot be understood. */
void transport_refuse(transport_socket *socket, const transport_packet *packet);
