/* load_tls.c - see load_tls.h. TLS 1.3 alone, so that all servers speak the same. */
#include "bench/load/load_tls.h"

#include <errno.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "bench/load/load_client.h"

load_tls *load_tls_new(void)
{
    SSL_CTX *self = SSL_CTX_new(TLS_client_method());
    if (self == NULL || SSL_CTX_set_min_proto_version(self, TLS1_3_VERSION) != 1) {
        load_die("OpenSSL");
    }
    SSL_CTX_set_mode(self, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                               SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(self, SSL_VERIFY_NONE, NULL);
    return self;
}

void load_tls_free(load_tls **self)
{
    SSL_CTX_free(*self);
    *self = NULL;
}

load_tls_conn *load_tls_open(load_tls *self, int fd)
{
    SSL *conn = SSL_new(self);
    if (conn == NULL || SSL_set_fd(conn, fd) != 1) {
        load_die("OpenSSL");
    }
    SSL_set_connect_state(conn);
    return conn;
}

void load_tls_close(load_tls_conn **conn)
{
    SSL_free(*conn);
    *conn = NULL;
}

int load_tls_shake(load_tls_conn *conn)
{
    ERR_clear_error();
    int result = SSL_do_handshake(conn);
    if (result == 1) {
        return 1;
    }
    int error = SSL_get_error(conn, result);
    return error == SSL_ERROR_WANT_READ ? 0 : -1; /* what a hello takes, an empty socket has */
}

ssize_t load_tls_send(load_tls_conn *conn, const void *ptr, size_t len)
{
    ERR_clear_error();
    size_t done = 0;
    int result = SSL_write_ex(conn, ptr, len, &done);
    if (result == 1) {
        return (ssize_t)done;
    }
    errno = SSL_get_error(conn, result) == SSL_ERROR_WANT_WRITE ? EAGAIN : EPIPE;
    return -1;
}

ssize_t load_tls_receive(load_tls_conn *conn, uint8_t *out, size_t size)
{
    size_t got = 0;
    for (;;) {
        size_t some = 0;
        ERR_clear_error();
        int result = SSL_read_ex(conn, out + got, size - got, &some);
        got += some;
        if (result != 1) {
            int error = SSL_get_error(conn, result);
            errno = error == SSL_ERROR_WANT_READ ? EAGAIN : ECONNRESET;
            return got > 0 ? (ssize_t)got : error == SSL_ERROR_ZERO_RETURN ? 0 : -1;
        }
        if (got == size) {
            return (ssize_t)got; /* the rest stands in the socket: records are read one by one */
        }
    }
}
