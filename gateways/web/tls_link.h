/* tls_link.h - TLS on the sockets of lws_link.c, by OpenSSL directly (docs/decisions/0033).
 *
 * Nothing blocks: each function does what the socket allows and says what it waits for. A record is
 * written from where the bytes stand, or gathered where they stand in pieces, at most
 * TLS_LINK_RECORD at a time. Thread: the one that made the link; each gateway has its own. */
#pragma once

#include <sys/uio.h>

#include "broker/why.h"

enum { TLS_LINK_RECORD = 16384 }; /* bytes: what one record carries, by the standard */

typedef struct tls_link tls_link; /* a certificate with its key, for new connections */
typedef struct ssl_st tls_socket; /* OpenSSL's, of one connection */
typedef struct tls_link_options {
    const char *cert; /* file: the certificate, then those that lead to a root; PEM */
    const char *key;  /* file of its key, PEM without a password, mode 0600 or stricter */
} tls_link_options;

typedef enum tls_step {
    TLS_DONE,
    TLS_WANTS_READ,
    TLS_WANTS_WRITE,
    TLS_ENDED, /* the peer left, or speaks no TLS that is acceptable */
    TLS_HTTP,  /* of a handshake: the peer began to speak HTTP without TLS */
} tls_step;

/* options: borrow as long as the link lives. TW_E_BAD_CONFIG with why: a file that cannot be read,
 * a key that others may read or that does not fit. */
tw_err tls_link_new(tls_link **out, const tls_link_options *options, broker_why *why);
/* Reads both files again; connections that there are keep what they have. On an error, of the same
 * kind, nothing has changed. */
tw_err tls_link_reload(tls_link *self, broker_why *why);
void tls_link_free(tls_link **self); /* accepts NULL; after its sockets */

/* For a connection that was accepted; fd stays the caller's. NULL: no memory. */
tls_socket *tls_socket_new(tls_link *self, int fd);
tls_step tls_socket_handshake(tls_socket *socket); /* again when the socket is ready, until done */
/* Reads at most what one record carries; size >= TLS_LINK_RECORD, so that nothing stays behind
 * which no descriptor would tell. */
tls_step tls_socket_read(tls_socket *socket, uint8_t *out, size_t size, size_t *got);
/* *sent: bytes that will not be asked for again. What is not sent is to come again, the same bytes
 * first: a record of them may be half written. */
tls_step tls_socket_write(tls_link *self, tls_socket *socket, const struct iovec *iov, size_t count,
                          size_t *sent);
void tls_socket_shutdown(tls_socket *socket); /* tells the peer that nothing follows */
void tls_socket_free(tls_socket **socket);
