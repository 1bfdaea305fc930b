/* admission.h - who may come in, and how much of everything one connection may ask.
 *
 * Connections are counted by address and by user; accepts, messages, subscribes and searches by
 * buckets (gateways/wire/bucket.h) on the actor's clock. Nothing that was taken is thrown away:
 * a peer that asks too fast is not read until it may again, and what is refused is told with the
 * time after which it may be asked again. See docs/decisions/0026. */
#pragma once

#include "gateways/web/connection.h"

typedef enum admission {
    ADMISSION_GRANTED,
    ADMISSION_REFUSED, /* one too many of its address: it is told so, and ends */
    ADMISSION_DROPPED, /* too many of those as well: nothing is told */
} admission;

tw_err admission_init(edge *self);
void admission_fini(edge *self);

/* May another connection be accepted now? False: they wait in the kernel until the next tick. */
bool admission_may_accept(edge *self, int tag);
/* Looks at the peer of a connection that was accepted, and counts it. */
admission admission_enter(edge *self, connection *conn, const struct sockaddr *from);
/* A request came with this X-Forwarded-For (ptr NULL: none). From a proxy that is believed it is
 * counted as one of that address from now on. False: there are too many of it; it is to be told. */
bool admission_forwarded(edge *self, connection *conn, tw_str list);
void admission_leave(edge *self, connection *conn);
/* Counts a websocket whose user is known now, once. False: its user has too many already. */
bool admission_enter_user(edge *self, connection *conn);

/* A message or a request came. Beyond the rate the socket is not read until admission_tick. */
void admission_charge(edge *self, connection *conn);
/* Lets those read on whose time has come. */
void admission_tick(edge *self);
/* Ms after which a subscribe (a search of the engine) may be asked; 0: it may now, and is counted.
 */
uint64_t admission_subscribe(edge *self, connection *conn);
uint64_t admission_search(edge *self, connection *conn);
