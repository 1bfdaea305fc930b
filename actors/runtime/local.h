/* local.h - what actors inside one process send each other: queues of packets, not nng's threads.
 *
 * An inbox listens at an address, links dial it, as over any other transport: a link may be there
 * first, is connected when somebody listens, loses its peer when that closes, and finds the next
 * one by itself. A request goes into the inbox's queue, an answer into its link's: one eventfd is
 * written, one thread wakes (docs/decisions/0025-requests-inside-a-process.md). Publications and
 * those who follow them meet in the same way; each follower has a queue of its own, and loses the
 * oldest when that is full (docs/decisions/0034-publications-inside-a-process.md).
 * Invariants
 * 1. All endpoints of the process stand under one lock, held for a push or a pop. After local_close
 *    nobody uses an endpoint: it waits for those who took it from under the lock to wake it.
 * 2. is_told: exactly one write to the eventfd is to come or to be read. It is set by a push into a
 *    queue whose owner may sleep, and taken back by the read that finds the queue empty.
 * 3. A request carries its link's id before its header; an answer whose link is gone is dropped. */
#pragma once

#include "actors/runtime/transport.h"

/* Opens one of the four kinds, which listens or dials later; socket->local is then own, its fd too.
 * TW_E_NO_MEMORY: nothing is open. Thread: that of the socket, as for all below; none blocks. */
tw_err local_open(transport_socket *socket, transport_kind kind);
/* TW_E_CONFLICT: somebody listens there. */
tw_err local_listen(transport_socket *socket, const char *address);
void local_unlisten(transport_socket *socket);
void local_dial(transport_socket *socket, const char *address);
void local_close(transport_socket *socket);

/* Takes the packet. TW_E_BUSY: no room, or no peer, at the moment; it is still the caller's. A
 * publication is always taken: who has no room loses the oldest, where nobody follows it is
 * gone. */
tw_err local_send(transport_socket *socket, transport_packet **packet);
/* TW_E_END: there is nothing. */
tw_err local_receive(transport_socket *socket, transport_packet **out);
/* Counts the connection that a packet came by as lost, on both sides; the link begins anew. */
void local_refuse(transport_socket *socket, const transport_packet *packet);
