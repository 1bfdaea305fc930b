/* local.h - inboxes and links inside one process: queues of packets, instead of nng's threads.
 *
 * An inbox listens at an address, links dial it, as over any other transport: a link may be there
 * first, is connected when somebody listens, loses its peer when that closes, and finds the next
 * one by itself. A request goes into the inbox's queue, an answer into its link's: one eventfd is
 * written, one thread wakes (docs/decisions/0025-requests-inside-a-process.md).
 * Invariants
 * 1. All endpoints of the process stand under one lock, held for a push or a pop: an endpoint is
 *    never used after local_close.
 * 2. The eventfd is written exactly while the queue is not empty, as far as its owner can see.
 * 3. A request carries its link's id before its header; an answer whose link is gone is dropped. */
#pragma once

#include "actors/runtime/transport.h"

/* Opens an inbox (listens later) or a link (dials later); socket->local is then own, its fd too.
 * TW_E_NO_MEMORY: nothing is open. Thread: that of the socket, as for all below; none blocks. */
tw_err local_open(transport_socket *socket, bool is_inbox);
/* TW_E_CONFLICT: somebody listens there. */
tw_err local_listen(transport_socket *socket, const char *address);
void local_unlisten(transport_socket *socket);
void local_dial(transport_socket *socket, const char *address);
void local_close(transport_socket *socket);

/* Takes the packet. TW_E_BUSY: no room, or no peer, at the moment; it is still the caller's. */
tw_err local_send(transport_socket *socket, transport_packet **packet);
/* TW_E_END: there is nothing. */
tw_err local_receive(transport_socket *socket, transport_packet **out);
/* Counts the connection that a packet came by as lost, on both sides; the link begins anew. */
void local_refuse(transport_socket *socket, const transport_packet *packet);
