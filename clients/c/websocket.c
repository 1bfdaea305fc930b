/* websocket.c - see websocket.h. libwebsockets does the protocol; this file waits for it. */
#include "clients/c/websocket.h"

#include <stdlib.h>

#include <libwebsockets.h>

#include "protocol/limits.h"

enum {
    WEBSOCKET_CLIENT_MAGIC = 0x3eb50c7e,
    INBOUND_MAX = 64 * 1024 * 1024, /* bytes of one message: a document of 16 MiB, as JSON, fits */
    URL_MAX = 1024,
};

#ifndef LWS_PROTOCOL_LIST_TERM
#define LWS_PROTOCOL_LIST_TERM                                                                     \
    {                                                                                              \
        NULL, NULL, 0, 0, 0, NULL, 0                                                               \
    }
#endif

struct websocket_client {
    uint32_t magic;
    struct lws_context *context; /* own */
    struct lws *wsi;             /* NULL: not connected, or ended */
    websocket_client_who who;    /* borrow until connected */
    bool established, ended;
    bool timed_out;
    unsigned close_code;
    char why[256];
    lws_sorted_usec_list_t timer;
    tw_buf in;         /* messages that have come: 4 bytes of length, then the text */
    size_t in_taken;   /* bytes of in already given to the caller */
    size_t message_at; /* where the message that is arriving begins in in */
    tw_buf out;        /* frames to be sent: LWS_PRE room, 4 bytes of length before each */
    size_t out_sent;
};

static void note(struct websocket_client *self, const char *text, size_t len)
{
    tw_format(self->why, sizeof(self->why), "%.*s", (int)len, text);
}

static int on_received(struct websocket_client *self, const void *bytes, size_t len)
{
    if (lws_is_first_fragment(self->wsi)) {
        if (self->in_taken == self->in.len) {
            tw_buf_clear(&self->in);
            self->in_taken = 0;
        }
        self->message_at = self->in.len;
        uint32_t unfinished = 0;
        tw_buf_add(&self->in, &unfinished, sizeof(unfinished));
    }
    tw_buf_add(&self->in, bytes, len);
    if (self->in.err != TW_OK) {
        note(self, "a message was too big", 21);
        return -1;
    }
    if (lws_is_final_fragment(self->wsi) && lws_remaining_packet_payload(self->wsi) == 0) {
        uint32_t size = (uint32_t)(self->in.len - self->message_at - sizeof(size)) + 1;
        memcpy(self->in.ptr + self->message_at, &size, sizeof(size));
    }
    return 0;
}

static int on_writeable(struct websocket_client *self)
{
    if (self->out_sent == self->out.len) {
        tw_buf_clear(&self->out);
        self->out_sent = 0;
        return 0;
    }
    uint32_t size;
    memcpy(&size, self->out.ptr + self->out_sent, sizeof(size));
    unsigned char *text = (unsigned char *)self->out.ptr + self->out_sent + sizeof(size) + LWS_PRE;
    if (lws_write(self->wsi, text, size, LWS_WRITE_TEXT) < (int)size) {
        return -1;
    }
    self->out_sent += sizeof(size) + LWS_PRE + size;
    lws_callback_on_writable(self->wsi);
    return 0;
}

/* at: where libwebsockets writes the handshake, with room for len bytes. */
static int add_token(const struct websocket_client *self, struct lws *wsi, void *at, size_t len)
{
    char bearer[TW_TOKEN_MAX + 16];
    unsigned char **to = at;
    static const char name[] = "authorization:";
    if (self->who.token == NULL || self->who.token[0] == '\0') {
        return 0;
    }
    size_t size = tw_format(bearer, sizeof bearer, "Bearer %s", self->who.token);
    return lws_add_http_header_by_name(wsi, (const unsigned char *)name,
                                       (const unsigned char *)bearer, (int)size, to, *to + len);
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    (void)user;
    static char untrusted[] = "no TLS: its certificate is another's or signed by nobody known "
                              "here (--ca FILE), or it speaks none";
    static char refused[] = "the server refuses the token: it is missing, wrong or expired";
    struct websocket_client *self = lws_context_user(lws_get_context(wsi));
    switch ((int)reason) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        self->established = true;
        return 0;
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return add_token(self, wsi, in, len);
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        if (lws_http_client_http_response(wsi) == 401) {
            in = refused;
            len = sizeof refused - 1;
        } else if (in != NULL && memmem(in, len, "SSL", 3) != NULL) { /* a number of OpenSSL's */
            in = untrusted;
            len = sizeof untrusted - 1;
        }
        note(self, in == NULL ? "no connection" : in, in == NULL ? 13 : len);
        self->ended = true;
        self->wsi = NULL;
        return 0;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return on_received(self, in, len);
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return on_writeable(self);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        if (len >= 2) {
            const unsigned char *code = in;
            self->close_code = (unsigned)(code[0] << 8 | code[1]);
            note(self, (const char *)in + 2, len - 2);
        }
        return 0;
    case LWS_CALLBACK_CLIENT_CLOSED:
        self->ended = true;
        self->wsi = NULL;
        return 0;
    default:
        return 0;
    }
}

static const struct lws_protocols protocols[] = {
    {"tidewire", on_event, 0, TW_SOCKET_WRITE_MAX, 0, NULL, 0},
    LWS_PROTOCOL_LIST_TERM,
};

static void on_time(lws_sorted_usec_list_t *timer)
{
    struct websocket_client *self = lws_container_of(timer, struct websocket_client, timer);
    self->timed_out = true;
    lws_cancel_service(self->context);
}

/* Serves the socket until done(self), the connection's end or the time is up. */
static void serve(struct websocket_client *self, uint32_t timeout_ms,
                  bool (*done)(const struct websocket_client *))
{
    self->timed_out = false;
    lws_sul_schedule(self->context, 0, &self->timer, on_time, (lws_usec_t)timeout_ms * 1000 + 1);
    while (!done(self) && !self->ended && !self->timed_out) {
        lws_service(self->context, 0);
    }
    lws_sul_schedule(self->context, 0, &self->timer, on_time, LWS_SET_TIMER_USEC_CANCEL);
}

static bool is_established(const struct websocket_client *self)
{
    return self->established;
}

/* Length of the next whole message plus 1; 0: none is there. */
static uint32_t next_size(const struct websocket_client *self)
{
    uint32_t size = 0;
    if (self->in_taken < self->in.len) {
        memcpy(&size, self->in.ptr + self->in_taken, sizeof(size));
    }
    return size;
}

static bool has_message(const struct websocket_client *self)
{
    return next_size(self) != 0;
}

static tw_err connect_to(struct websocket_client *self, char *url)
{
    const char *scheme, *address, *path;
    int port;
    if (lws_parse_uri(url, &scheme, &address, &port, &path) != 0) {
        return TW_E_BAD_MESSAGE;
    }
    bool tls = strcmp(scheme, "wss") == 0 || strcmp(scheme, "https") == 0;
    const int unchecked = !self->who.any_certificate
                              ? 0
                              : LCCSCF_ALLOW_SELFSIGNED | LCCSCF_ALLOW_EXPIRED |
                                    LCCSCF_ALLOW_INSECURE | LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK;
    char full_path[URL_MAX];
    tw_format(full_path, sizeof(full_path), "/%s", *path == '\0' ? "ws" : path);
    struct lws_client_connect_info info = {
        .context = self->context,
        .address = address,
        .port = port,
        .path = full_path,
        .host = address,
        .ssl_connection = tls ? LCCSCF_USE_SSL | unchecked : 0,
        .local_protocol_name = protocols[0].name,
        .pwsi = &self->wsi,
    };
    (void)lws_client_connect_via_info(&info); /* a failure also comes as CONNECTION_ERROR */
    return TW_OK;
}

tw_err websocket_client_open(websocket_client **out, const char *url,
                             const websocket_client_who *who, uint32_t timeout_ms, char *why,
                             size_t why_size)
{
    char copy[URL_MAX];
    tw_format(why, why_size, "%s", "");
    if (tw_format(copy, sizeof(copy), "%s", url) >= sizeof(copy) - 1 ||
        strstr(url, "://") == NULL) {
        tw_format(why, why_size, "'%.80s' is not an url such as ws://127.0.0.1:8090", url);
        return TW_E_BAD_MESSAGE;
    }
    struct websocket_client *self = tw_alloc_zero(1, sizeof(*self));
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->magic = WEBSOCKET_CLIENT_MAGIC;
    self->who = who != NULL ? *who : (websocket_client_who){0};
    tw_buf_init(&self->in, INBOUND_MAX);
    tw_buf_init(&self->out, INBOUND_MAX);
    lws_set_log_level(0, NULL);
    const struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .user = self,
        .pt_serv_buf_size = TW_SOCKET_WRITE_MAX,
        .client_ssl_ca_filepath =
            self->who.ca_file != NULL && self->who.ca_file[0] != '\0' ? self->who.ca_file : NULL,
        .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
    };
    self->context = lws_create_context(&info);
    tw_err err = self->context == NULL ? TW_E_NO_MEMORY : connect_to(self, copy);
    if (err == TW_OK) {
        serve(self, timeout_ms, is_established);
        err = self->established ? TW_OK : self->ended ? TW_E_UNAVAILABLE : TW_E_TIMEOUT;
    }
    if (err != TW_OK) {
        tw_format(why, why_size, "%s", self->why[0] != '\0' ? self->why : tw_err_text(err));
        websocket_client_close(&self);
        return err;
    }
    *out = self;
    return TW_OK;
}

void websocket_client_close(websocket_client **client)
{
    struct websocket_client *self = *client;
    if (self == NULL) {
        return;
    }
    TW_ASSERT(self->magic == WEBSOCKET_CLIENT_MAGIC);
    if (self->context != NULL) {
        lws_context_destroy(self->context);
    }
    tw_buf_fini(&self->in);
    tw_buf_fini(&self->out);
    tw_free(self);
    *client = NULL;
}

tw_err websocket_client_send(websocket_client *self, tw_str text)
{
    if (self->ended || self->wsi == NULL) {
        return TW_E_UNAVAILABLE;
    }
    static const char room[LWS_PRE];
    uint32_t size = (uint32_t)text.len;
    tw_buf_add(&self->out, &size, sizeof(size));
    tw_buf_add(&self->out, room, sizeof(room));
    tw_buf_add_str(&self->out, text);
    if (self->out.err != TW_OK) {
        return self->out.err;
    }
    lws_callback_on_writable(self->wsi);
    return TW_OK;
}

tw_err websocket_client_receive(websocket_client *self, uint32_t timeout_ms, tw_str *out)
{
    if (!has_message(self) && !self->ended) {
        serve(self, timeout_ms, has_message);
    }
    uint32_t size = next_size(self);
    if (size == 0) {
        return self->ended ? TW_E_UNAVAILABLE : TW_E_TIMEOUT;
    }
    *out = (tw_str){self->in.ptr + self->in_taken + sizeof(size), size - 1};
    self->in_taken += sizeof(size) + size - 1;
    return TW_OK;
}

unsigned websocket_client_close_code(const websocket_client *self)
{
    return self->close_code;
}
