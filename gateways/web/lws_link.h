/* lws_link.h - the gateway's loop: libwebsockets', with the sockets of connections in an epoll of
 * its own.
 *
 * HTTP and frames are read by the gateway itself (see websocket_frame.h for why). Plain sockets are
 * read and written by the system's calls: lws 4.1.6 polls every socket in each turn, and a partial
 * lws_write copies the rest to the heap and stops reading that socket while its poll spins on what
 * could be read. A listener may speak TLS (tls_link.h): its connections are read and written by the
 * same functions, and are told once their handshake is done. Thread: the one that made it. */
#pragma once

#include <sys/uio.h>

#include "protocol/base.h"

#include "gateways/web/tls_link.h"

typedef struct lws_link lws_link;
struct sockaddr;                      /* of the system */
typedef struct lws_socket lws_socket; /* a connection, as the loop knows it */

typedef struct lws_link_handler {
    void *context;
    /* May another connection be accepted on this listener? False: they wait in the kernel until
     * lws_link_resume. */
    bool (*may_accept)(void *context, int tag);
    /* A connection of peer came on the listener of this tag. Returns the caller's object for it, or
     * NULL: it is closed. The socket is given by on_open right after, or on_close when that failed.
     *  */
    void *(*on_accept)(void *context, int tag, const struct sockaddr *peer);
    void (*on_open)(void *context, void *connection, lws_socket *socket);
    /* Bytes may be changed in place. False: close it now. */
    bool (*on_bytes)(void *context, void *connection, uint8_t *bytes, size_t len);
    bool (*on_writable)(void *context, void *connection);
    /* In place of a handshake it began to speak HTTP without TLS. From here on it is plain. */
    void (*on_plain)(void *context, void *connection);
    void (*on_close)(void *context, void *connection); /* exactly once; the socket is gone */
} lws_link_handler;

/* connections_max: beyond it accepting pauses and the kernel's backlog holds what comes.
 * Sets the process's soft limit of descriptors to process_max connections, of all loops of the
 * process, and some: lws's tables are as big. */
tw_err lws_link_new(lws_link **out, const lws_link_handler *handler, size_t connections_max,
                    size_t process_max);
/* Closes all; on_close is called for each connection. Accepts NULL. */
void lws_link_free(lws_link **link);

typedef struct lws_link_figures {
    size_t handshakes; /* that are under way */
    uint64_t handshakes_done, handshakes_failed;
} lws_link_figures;

typedef struct lws_link_address {
    const char *host; /* borrow until the call returns */
    int port;         /* 0: any */
    int tag;          /* for on_accept */
    bool shared;      /* others of this user listen here too: the kernel spreads connections */
    tls_link *tls;    /* borrow until after lws_link_free; NULL: plain */
} lws_link_address;

/* Listens; *bound is the port. TW_E_UNAVAILABLE with *why: the address is taken or wrong. */
tw_err lws_link_listen(lws_link *link, const lws_link_address *at, int *bound, const char **why);
void lws_link_stop_listening(lws_link *link);
/* Wakes the loop when fd (not owned: it is duplicated) is readable. */
tw_err lws_link_watch(lws_link *link, int fd);
/* One turn of the loop; waits at most timeout_ms, -1: until something comes. */
void lws_link_service(lws_link *link, int timeout_ms);
/* Tries to accept again where descriptors had run out, accepting was too fast, or handshakes were
 * too many. At each tick. */
void lws_link_resume(lws_link *link);
lws_link_figures lws_link_tell(const lws_link *link);

/* Writes; *sent is what the kernel took, maybe 0. TW_E_UNAVAILABLE: the peer is gone. */
tw_err lws_link_write(lws_socket *socket, const struct iovec *iov, size_t count, size_t *sent);
void lws_link_read(lws_socket *socket, bool on); /* off: what comes waits in the kernel */
void lws_link_want_write(lws_socket *socket);    /* on_writable once, when there is room */
void lws_link_shutdown(lws_socket *socket);      /* nothing more is sent; the peer sees the end */
void lws_link_close(lws_socket *socket);         /* soon, from the loop; on_close follows */

/* Sec-WebSocket-Accept of a key; out is terminated. */
void lws_link_accept_key(tw_str key, char out[32]);
