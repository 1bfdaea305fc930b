/* tls_link.c - see tls_link.h.
 *
 * 1. read_ahead stays off: OpenSSL then takes from the socket what belongs to one record, so that
 *    an epoll, which knows the socket alone, tells of all that is still to be read.
 * 2. Buffers are given back between records (SSL_MODE_RELEASE_BUFFERS): a connection that is silent
 *    keeps none of its 34 KiB.
 * 3. There is no renegotiation, so a write never waits for a read, except at a peer that sends
 *    parts of a message of the protocol itself: it is let go. */
#include "gateways/web/tls_link.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

struct tls_link {
    const tls_link_options *options; /* borrow */
    SSL_CTX *context;                /* own */
    uint8_t gathered[TLS_LINK_RECORD];
};

/* ---- the certificate ---- */

/* What OpenSSL says was wrong; its queue is empty after that. */
static const char *openssl_reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return text == NULL ? "it is not PEM" : text;
}

static int no_password(char *buffer, int size, int rwflag, void *user)
{
    (void)buffer;
    (void)size;
    (void)rwflag;
    (void)user;
    return -1;
}

/* The key of a file that its owner alone may read. NULL: *why. */
static EVP_PKEY *read_key(const char *path, broker_why *why)
{
    struct stat about;
    FILE *in = fopen(path, "re");
    if (in == NULL || fstat(fileno(in), &about) != 0) {
        (void)broker_refuse(why, TW_E_BAD_CONFIG, "tls.key: %s cannot be read: %s", path,
                            strerror(errno));
        if (in != NULL) {
            fclose(in);
        }
        return NULL;
    }
    EVP_PKEY *key = NULL;
    if ((about.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        (void)broker_refuse(why, TW_E_BAD_CONFIG,
                            "tls.key: %s holds a secret and others may read it: chmod 600 it",
                            path);
    } else {
        ERR_clear_error();
        key = PEM_read_PrivateKey(in, NULL, no_password, NULL);
        if (key == NULL) {
            (void)broker_refuse(why, TW_E_BAD_CONFIG,
                                "tls.key: %s is no private key in PEM without a password: %s", path,
                                openssl_reason());
        }
    }
    fclose(in);
    return key;
}

/* http/1.1 is all that is spoken; a client that offers other protocols alone is told so. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    (void)ssl;
    (void)arg;
    static const unsigned char known[] = "\x08http/1.1";
    unsigned char *chosen = NULL;
    int found = SSL_select_next_proto(&chosen, out_len, known, sizeof(known) - 1, in, in_len);
    *out = chosen;
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static SSL_CTX *new_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
        SSL_CTX_free(context);
        return NULL;
    }
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* tickets hold sessions */
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    return context;
}

static tw_err read_files(SSL_CTX *context, const tls_link_options *options, broker_why *why)
{
    EVP_PKEY *key = read_key(options->key, why);
    if (key == NULL) {
        return TW_E_BAD_CONFIG;
    }
    ERR_clear_error();
    tw_err err = TW_OK;
    if (SSL_CTX_use_certificate_chain_file(context, options->cert) != 1) {
        err = broker_refuse(why, TW_E_BAD_CONFIG, "tls.cert: %s holds no certificate in PEM: %s",
                            options->cert, openssl_reason());
    } else if (SSL_CTX_use_PrivateKey(context, key) != 1 ||
               SSL_CTX_check_private_key(context) != 1) {
        ERR_clear_error();
        err = broker_refuse(why, TW_E_BAD_CONFIG,
                            "tls.key: %s is not the key of the certificate in %s", options->key,
                            options->cert);
    }
    EVP_PKEY_free(key);
    return err;
}

tw_err tls_link_reload(tls_link *self, broker_why *why)
{
    SSL_CTX *context = new_context();
    if (context == NULL) {
        ERR_clear_error();
        return TW_E_NO_MEMORY;
    }
    tw_err err = read_files(context, self->options, why);
    if (err != TW_OK) {
        SSL_CTX_free(context);
        return err;
    }
    SSL_CTX_free(self->context); /* connections hold it, too */
    self->context = context;
    return TW_OK;
}

tw_err tls_link_new(tls_link **out, const tls_link_options *options, broker_why *why)
{
    tls_link *self = tw_alloc_zero(1, sizeof(*self));
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->options = options;
    tw_err err = tls_link_reload(self, why);
    if (err != TW_OK) {
        tls_link_free(&self);
        return err;
    }
    *out = self;
    return TW_OK;
}

void tls_link_free(tls_link **self)
{
    if (*self != NULL) {
        SSL_CTX_free((*self)->context);
        tw_free(*self);
        *self = NULL;
    }
}

/* ---- connections ---- */

tls_socket *tls_socket_new(tls_link *self, int fd)
{
    SSL *socket = SSL_new(self->context);
    if (socket == NULL || SSL_set_fd(socket, fd) != 1) {
        SSL_free(socket);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_accept_state(socket);
    return socket;
}

void tls_socket_free(tls_socket **socket)
{
    SSL_free(*socket);
    *socket = NULL;
}

/* What a call that did not succeed waits for. Errors of OpenSSL stand in a queue of the thread,
 * which each call begins with empty. */
static tls_step step_of(const tls_socket *socket, int result)
{
    int error = SSL_get_error(socket, result);
    if (error == SSL_ERROR_WANT_READ) {
        return TLS_WANTS_READ;
    }
    if (error == SSL_ERROR_WANT_WRITE) {
        return TLS_WANTS_WRITE;
    }
    int reason = ERR_GET_REASON(ERR_peek_last_error());
    ERR_clear_error();
    return error == SSL_ERROR_SSL && reason == SSL_R_HTTP_REQUEST ? TLS_HTTP : TLS_ENDED;
}

tls_step tls_socket_handshake(tls_socket *socket)
{
    ERR_clear_error();
    int result = SSL_do_handshake(socket);
    return result == 1 ? TLS_DONE : step_of(socket, result);
}

tls_step tls_socket_read(tls_socket *socket, uint8_t *out, size_t size, size_t *got)
{
    TW_ASSERT(size >= TLS_LINK_RECORD);
    ERR_clear_error();
    int result = SSL_read_ex(socket, out, size, got);
    if (result != 1) {
        *got = 0;
        return step_of(socket, result);
    }
    TW_ASSERT(SSL_pending(socket) == 0); /* invariant 1 */
    return TLS_DONE;
}

/* Bytes of the next record, where they stand or gathered: iov from `skip` on. */
static const void *next_record(tls_link *self, const struct iovec *iov, size_t count, size_t skip,
                               size_t *len)
{
    size_t room = TLS_LINK_RECORD;
    const uint8_t *first = (const uint8_t *)iov->iov_base + skip;
    size_t first_len = iov->iov_len - skip;
    if (count == 1 || first_len >= room) {
        *len = first_len < room ? first_len : room;
        return first;
    }
    memcpy(self->gathered, first, first_len);
    size_t used = first_len;
    for (size_t i = 1; i < count && used < room; i++) {
        size_t some = iov[i].iov_len < room - used ? iov[i].iov_len : room - used;
        memcpy(self->gathered + used, iov[i].iov_base, some);
        used += some;
    }
    *len = used;
    return self->gathered;
}

tls_step tls_socket_write(tls_link *self, tls_socket *socket, const struct iovec *iov, size_t count,
                          size_t *sent)
{
    size_t skip = 0;
    *sent = 0;
    while (count > 0) {
        size_t len;
        size_t done = 0;
        const void *record = next_record(self, iov, count, skip, &len);
        ERR_clear_error();
        int result = SSL_write_ex(socket, record, len, &done);
        if (result != 1) {
            tls_step step = step_of(socket, result);
            return step == TLS_WANTS_WRITE ? step : TLS_ENDED; /* invariant 3 */
        }
        *sent += done;
        skip += done;
        while (count > 0 && skip >= iov->iov_len) {
            skip -= iov->iov_len;
            iov++;
            count--;
        }
    }
    return TLS_DONE;
}

void tls_socket_shutdown(tls_socket *socket)
{
    ERR_clear_error();
    (void)SSL_shutdown(socket); /* what cannot be sent now is not waited for */
    ERR_clear_error();
}
