/* load_tls.h - the client's side of TLS for load_client.c. Nothing blocks, no certificate is looked
 * at. Errors of sending and receiving are told as by send and recv: -1 with errno EAGAIN where the
 * socket is to be waited for. Not thread safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct ssl_ctx_st load_tls;  /* OpenSSL's: what all connections share */
typedef struct ssl_st load_tls_conn; /* OpenSSL's: of one */

load_tls *load_tls_new(void); /* ends the program where there is no memory */
void load_tls_free(load_tls **self);
load_tls_conn *load_tls_open(load_tls *self, int fd); /* fd stays the caller's */
void load_tls_close(load_tls_conn **conn);
/* 1: done; 0: again when the socket can be read; -1: it failed. */
int load_tls_shake(load_tls_conn *conn);
ssize_t load_tls_send(load_tls_conn *conn, const void *ptr, size_t len);
/* Reads until `size` bytes or all that had come; 0: the server ended it. */
ssize_t load_tls_receive(load_tls_conn *conn, uint8_t *out, size_t size);
