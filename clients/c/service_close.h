/* service_close.h - closing a socket of nng within a time, as nng 1.5.2 may wait for ever. */
#pragma once

#include <nng/nng.h>

#include "protocol/limits.h"

/* Closes a socket on a thread of its own, and waits for it for within_ms at most. False: it goes on
 * there, and what it does not finish is left to the end of the process; nng then takes no
 * connection of this process apart any more, so later sockets are closed without waiting until it
 * does. Nothing else may use the socket. Thread: any. */
bool service_close_within(nng_socket socket, uint32_t within_ms);
/* Sockets that were left to their threads and are not closed yet. Thread: any. */
unsigned service_close_left(void);
