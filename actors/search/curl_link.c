/* curl_link.c - see curl_link.h. What libcurl leaves to its user, and where it is done here:
 * a bound on replies (write callback: MAXFILESIZE does nothing for chunked ones), no proxy from the
 * environment, no waiting for 100 Continue, no signals, no protocols but HTTP. */
#include "actors/search/curl_link.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <curl/curl.h>

#include "protocol/limits.h"

#include "actors/runtime/log.h"

enum {
    CURL_LINK_MAGIC = 0x4c0471f3,
    TRANSFER_MAGIC = 0x4c0471f4,
    BREAKER_FAILURES = 5,   /* in a row */
    BREAKER_FIRST_MS = 500, /* doubled at each probe that fails */
    BREAKER_MAX_MS = 10000,
    PROBE_MS = 2000,     /* for the answer of a probe */
    HOST_REST_MS = 1000, /* a node that failed is asked last for so long */
    RETRY_FIRST_MS = 50,
    CONNECT_MS = 1000,
    EVENTS_MAX = 64,           /* taken at once; the rest waits in the kernel */
    SPARE_MAX = 64,            /* transfers kept for reuse */
    SPARE_BYTES_MAX = 1048576, /* of their buffers */
};

typedef struct transfer {
    uint32_t magic;
    CURL *easy;                 /* own */
    struct curl_slist *headers; /* own */
    struct transfer *next, **link;
    curl_link *owner;
    curl_on_reply on_reply; /* NULL: a probe */
    void *context;
    char method[8];
    tw_buf path, body, reply, url;
    bool lines, idempotent, too_big, started;
    unsigned attempts;
    uint64_t deadline_ms, start_ms; /* start_ms: of a call that waits for its retry */
    size_t reply_max, host;
    char error[CURL_ERROR_SIZE];
} transfer;

typedef struct host {
    const char *url; /* own */
    bool near;       /* on this machine: to compress costs more than to send */
    uint64_t rests_until_ms;
} host;

struct curl_link {
    uint32_t magic;
    tw_actor *actor;
    CURLM *multi;   /* own */
    int epoll_fd;   /* own; curl's sockets and the actor's descriptor */
    int64_t due_ms; /* when curl wants to be called; -1: not by the time */
    tw_arena arena;
    host hosts[TW_SEARCH_HOSTS_MAX];
    size_t hosts_count, host_next;
    const char *user_password, *authorization, *ca_file;
    transfer *running; /* own; at curl, or waiting for a retry */
    transfer *spare;   /* own */
    size_t spare_count;
    unsigned failures;               /* in a row */
    char away[CURL_ERROR_SIZE + 32]; /* why it is open, in words */
    bool open, probing;
    uint64_t open_ms; /* how long it stays open this time */
    uint64_t probe_at_ms;
    curl_figures figures;
};

/* ---- transfers ---- */
static size_t on_bytes(char *bytes, size_t size, size_t count, void *context)
{
    transfer *self;
    TW_CAST(self, context, TRANSFER_MAGIC);
    size_t len = size * count;
    self->owner->figures.bytes_in += len;
    if (self->reply.len + len > self->reply_max) {
        self->too_big = true;
        return 0; /* ends the transfer */
    }
    tw_buf_add(&self->reply, bytes, len);
    return self->reply.err == TW_OK ? len : 0;
}

static void transfer_release(transfer **at)
{
    transfer *self = *at;
    *at = NULL;
    curl_easy_cleanup(self->easy);
    curl_slist_free_all(self->headers);
    tw_buf_fini(&self->path);
    tw_buf_fini(&self->body);
    tw_buf_fini(&self->reply);
    tw_buf_fini(&self->url);
    tw_free(self);
}

static transfer *transfer_take(curl_link *link)
{
    transfer *self = link->spare;
    if (self != NULL) {
        link->spare = self->next;
        link->spare_count--;
    } else {
        self = tw_alloc_zero(1, sizeof *self);
        if (self == NULL) {
            return NULL;
        }
        self->magic = TRANSFER_MAGIC;
        self->owner = link;
        self->easy = curl_easy_init();
        tw_buf_init(&self->path, TW_MESSAGE_MAX * 2);
        tw_buf_init(&self->url, TW_MESSAGE_MAX * 2);
        tw_buf_init(&self->body, TW_ACTOR_MESSAGE_MAX * 2);
        tw_buf_init(&self->reply, TW_DOCUMENT_MAX);
        if (self->easy == NULL) {
            transfer_release(&self);
            return NULL;
        }
    }
    self->next = link->running;
    self->link = &link->running;
    if (self->next != NULL) {
        self->next->link = &self->next;
    }
    link->running = self;
    link->figures.running++;
    return self;
}

static void transfer_give_back(transfer *self)
{
    curl_link *link = self->owner;
    *self->link = self->next;
    if (self->next != NULL) {
        self->next->link = self->link;
    }
    link->figures.running--;
    if (link->spare_count >= SPARE_MAX || self->reply.cap + self->body.cap > SPARE_BYTES_MAX) {
        transfer_release(&self);
        return;
    }
    tw_buf_clear(&self->reply);
    self->next = link->spare;
    link->spare = self;
    link->spare_count++;
}

/* ---- nodes ---- */
/* The next one that does not rest; all rest: the one that has rested longest. */
static size_t choose_host(curl_link *link, uint64_t now_ms)
{
    size_t best = link->host_next % link->hosts_count;
    for (size_t i = 0; i < link->hosts_count; i++) {
        size_t at = (link->host_next + i) % link->hosts_count;
        if (link->hosts[at].rests_until_ms <= now_ms) {
            best = at;
            break;
        }
        if (link->hosts[at].rests_until_ms < link->hosts[best].rests_until_ms) {
            best = at;
        }
    }
    link->host_next = best + 1;
    return best;
}

/* ---- the circuit ---- */
static void succeeded(curl_link *link)
{
    link->failures = 0;
    if (link->open) {
        link->open = false;
        tw_log(TW_LOG_INFO, tw_actor_name(link->actor), "the search cluster answers again");
    }
    link->open_ms = 0;
}

static void failed(curl_link *link, const char *why, bool probe)
{
    uint64_t now_ms = tw_now_ms(link->actor);
    link->failures++;
    link->figures.failures++;
    if (!probe && (link->open || link->failures < BREAKER_FAILURES)) {
        return;
    }
    if (!link->open) {
        link->open = true;
        link->figures.opened++;
        tw_format(link->away, sizeof link->away, "The search cluster is away: %s", why);
        tw_log(TW_LOG_WARN, tw_actor_name(link->actor), "the search cluster is away: %s", why);
    }
    uint64_t next = link->open_ms == 0 ? BREAKER_FIRST_MS : link->open_ms * 2;
    link->open_ms = next < BREAKER_MAX_MS ? next : BREAKER_MAX_MS;
    link->probe_at_ms = now_ms + link->open_ms - tw_random(link->actor) % (link->open_ms / 4);
}

/* ---- the end of a transfer ---- */
static void finish(transfer *self, tw_err err, const char *why)
{
    curl_link *link = self->owner;
    long status = 0;
    char *type = NULL;
    struct curl_header *product = NULL;
    if (err == TW_OK) {
        (void)curl_easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &status);
        (void)curl_easy_getinfo(self->easy, CURLINFO_CONTENT_TYPE, &type);
        (void)curl_easy_header(self->easy, "X-elastic-product", 0, CURLH_HEADER, -1, &product);
    }
    uint64_t now_ms = tw_now_ms(link->actor);
    uint64_t wait_ms = link->open && link->probe_at_ms > now_ms ? link->probe_at_ms - now_ms : 0;
    curl_reply reply = {
        .err = err,
        .status = (int)status,
        .body = tw_buf_str(&self->reply),
        .type = type == NULL ? "" : type,
        .server = product == NULL ? "" : product->value,
        .after_ms = wait_ms < BREAKER_FIRST_MS ? BREAKER_FIRST_MS : wait_ms,
        .why = why,
    };
    if (self->on_reply != NULL) {
        self->on_reply(self->context, &reply);
    }
    transfer_give_back(self);
}

static bool worth_a_retry(const transfer *self, CURLcode code, long status)
{
    if (self->attempts > TW_SEARCH_RETRIES_MAX || self->too_big || self->on_reply == NULL) {
        return false;
    }
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST) {
        return true; /* nothing was sent */
    }
    if (!self->idempotent || code == CURLE_OPERATION_TIMEDOUT) {
        return false;
    }
    return code != CURLE_OK || status == 429 || (status >= 502 && status <= 504);
}

static void settle(transfer *self, CURLcode code)
{
    curl_link *link = self->owner;
    uint64_t now_ms = tw_now_ms(link->actor);
    bool probe = self->on_reply == NULL;
    long status = 0;
    (void)curl_easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &status);
    const char *why = self->error[0] != '\0' ? self->error : curl_easy_strerror(code);
    bool away = (code != CURLE_OK && !self->too_big) || (status >= 502 && status <= 504);
    if (away) {
        link->hosts[self->host].rests_until_ms = now_ms + HOST_REST_MS;
        failed(link, code == CURLE_OK ? "it answers 502 to 504" : why, probe);
    } else {
        link->hosts[self->host].rests_until_ms = 0;
        succeeded(link);
    }
    if (probe) {
        link->probing = false;
    }
    if (worth_a_retry(self, code, status) && !link->open) {
        uint64_t span_ms = (uint64_t)RETRY_FIRST_MS << self->attempts;
        uint64_t start_ms = now_ms + span_ms / 2 + tw_random(link->actor) % span_ms;
        if (start_ms + RETRY_FIRST_MS < self->deadline_ms) {
            self->start_ms = start_ms;
            self->started = false;
            link->figures.retries++;
            return;
        }
    }
    if (self->too_big) {
        finish(self, TW_E_TOO_BIG, "The cluster's reply is larger than allowed.");
    } else if (code == CURLE_OPERATION_TIMEDOUT) {
        link->figures.timeouts++;
        finish(self, TW_E_TIMEOUT, "The search cluster did not answer in time.");
    } else if (code != CURLE_OK) {
        finish(self, TW_E_SEARCH_UNAVAILABLE, why);
    } else {
        finish(self, TW_OK, "");
    }
}

/* ---- the start ---- */
#define SET(option, value)                                                                         \
    good = good && curl_easy_setopt(self->easy, (option), (value)) == CURLE_OK

static bool set_headers(transfer *self)
{
    const char *const wanted[] = {
        "Expect:", /* a body over 1 MiB would wait for 100 Continue */
        self->lines ? "Content-Type: application/x-ndjson" : "Content-Type: application/json",
        self->owner->authorization,
    };
    curl_slist_free_all(self->headers);
    self->headers = NULL;
    for (size_t i = 0; i < TW_COUNT(wanted); i++) {
        struct curl_slist *longer =
            wanted[i] == NULL ? self->headers : curl_slist_append(self->headers, wanted[i]);
        if (longer == NULL) {
            return false;
        }
        self->headers = longer;
    }
    return true;
}

static bool prepare(transfer *self, uint64_t left_ms)
{
    const curl_link *link = self->owner;
    curl_easy_reset(self->easy); /* keeps the connections, which are the multi handle's */
    tw_buf_clear(&self->url);
    tw_buf_format(&self->url, "%s", link->hosts[self->host].url);
    tw_buf_add_str(&self->url, tw_buf_str(&self->path));
    tw_buf_add_byte(&self->url, '\0');
    bool good = self->url.err == TW_OK && set_headers(self);
    long connect_ms = left_ms < CONNECT_MS ? (long)left_ms : CONNECT_MS;
    self->error[0] = '\0';
    SET(CURLOPT_PRIVATE, self);
    SET(CURLOPT_URL, self->url.ptr);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_PROXY, ""); /* none from the environment */
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    SET(CURLOPT_ACCEPT_ENCODING, link->hosts[self->host].near ? NULL : "gzip");
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_TIMEOUT_MS, (long)left_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    SET(CURLOPT_ERRORBUFFER, self->error);
    SET(CURLOPT_WRITEFUNCTION, on_bytes);
    SET(CURLOPT_WRITEDATA, self);
    SET(CURLOPT_HTTPHEADER, self->headers);
    if (link->user_password != NULL) {
        SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        SET(CURLOPT_USERPWD, link->user_password);
    }
    if (link->ca_file != NULL) {
        SET(CURLOPT_CAINFO, link->ca_file);
    }
    if (strcmp(self->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (self->body.len > 0) {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)self->body.len);
        SET(CURLOPT_POSTFIELDS, self->body.ptr);
        SET(CURLOPT_CUSTOMREQUEST, self->method);
    } else if (strcmp(self->method, "GET") != 0) {
        SET(CURLOPT_CUSTOMREQUEST, self->method);
    }
    return good;
}
#undef SET

static void start(transfer *self)
{
    curl_link *link = self->owner;
    uint64_t now_ms = tw_now_ms(link->actor);
    if (now_ms >= self->deadline_ms) {
        finish(self, TW_E_TIMEOUT, "The search cluster did not answer in time.");
        return;
    }
    if (link->open && self->on_reply != NULL) {
        link->figures.rejected++;
        finish(self, TW_E_SEARCH_UNAVAILABLE, link->away);
        return;
    }
    self->started = true;
    self->attempts++;
    self->too_big = false;
    tw_buf_clear(&self->reply);
    self->host = choose_host(link, now_ms);
    if (!prepare(self, self->deadline_ms - now_ms) ||
        curl_multi_add_handle(link->multi, self->easy) != CURLM_OK) {
        finish(self, TW_E_NO_MEMORY, "There is no memory for another call to the cluster.");
    }
}

static transfer *make(curl_link *link, const curl_call *call)
{
    transfer *self = transfer_take(link);
    if (self == NULL) {
        return NULL;
    }
    tw_format(self->method, sizeof self->method, "%s", call->method);
    tw_buf_clear(&self->path);
    tw_buf_clear(&self->body);
    tw_buf_clear(&self->reply);
    tw_buf_add_str(&self->path, tw_str_of(call->path));
    tw_buf_add_str(&self->body, call->body);
    self->lines = call->lines;
    self->idempotent = call->idempotent;
    self->started = false;
    self->attempts = 0;
    self->start_ms = 0;
    self->deadline_ms = call->deadline_ms;
    self->reply_max = call->reply_max;
    self->on_reply = NULL;
    return self;
}

void curl_link_send(curl_link *link, const curl_call *call, curl_on_reply on_reply, void *context)
{
    TW_ASSERT(link != NULL && link->magic == CURL_LINK_MAGIC);
    TW_ASSERT(on_reply != NULL && call->path[0] == '/');
    link->figures.calls++;
    transfer *self = make(link, call);
    if (self == NULL || self->path.err != TW_OK || self->body.err != TW_OK) {
        curl_reply reply = {.err = TW_E_NO_MEMORY, .type = "", .server = "", .why = "No memory."};
        if (self != NULL) {
            transfer_give_back(self);
        }
        on_reply(context, &reply);
        return;
    }
    self->on_reply = on_reply;
    self->context = context;
}

/* ---- the loop ---- */
static void probe(curl_link *link)
{
    uint64_t now_ms = tw_now_ms(link->actor);
    curl_call call = {
        .method = "GET", .path = "/", .deadline_ms = now_ms + PROBE_MS, .reply_max = 65536};
    transfer *self = make(link, &call);
    link->probing = self != NULL;
    link->probe_at_ms = now_ms + BREAKER_FIRST_MS; /* where there was no memory */
}

/* Starts what is due; returns ms until the next is, -1: nothing waits. */
static int start_due(curl_link *link)
{
    uint64_t now_ms = tw_now_ms(link->actor);
    int64_t wait_ms = -1;
    if (link->open && !link->probing) {
        if (link->probe_at_ms <= now_ms) {
            probe(link);
        } else {
            wait_ms = (int64_t)(link->probe_at_ms - now_ms);
        }
    }
    transfer *next = NULL;
    for (transfer *self = link->running; self != NULL; self = next) {
        next = self->next;
        if (self->started) {
            continue;
        }
        if (self->start_ms <= now_ms) {
            start(self);
            continue;
        }
        int64_t left_ms = (int64_t)(self->start_ms - now_ms);
        wait_ms = wait_ms < 0 || left_ms < wait_ms ? left_ms : wait_ms;
    }
    return wait_ms > 1000 ? 1000 : (int)wait_ms;
}

/* curl says which socket it waits for, and how. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *known)
{
    (void)easy;
    curl_link *link;
    TW_CAST(link, context, CURL_LINK_MAGIC);
    struct epoll_event event = {.events = (what & CURL_POLL_IN ? EPOLLIN : 0U) |
                                          (what & CURL_POLL_OUT ? EPOLLOUT : 0U),
                                .data.fd = fd};
    if (what == CURL_POLL_REMOVE) { /* it may be closed already: then the kernel forgot it */
        (void)(epoll_ctl(link->epoll_fd, EPOLL_CTL_DEL, fd, NULL) == 0);
        return 0;
    }
    int verb = known == NULL ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    int failed = epoll_ctl(link->epoll_fd, verb, fd, &event);
    if (failed != 0 && errno == (known == NULL ? EEXIST : ENOENT)) {
        verb = known == NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
        failed = epoll_ctl(link->epoll_fd, verb, fd, &event);
    }
    bool kept = curl_multi_assign(link->multi, fd, link) == CURLM_OK; /* from now on it is known */
    return failed == 0 && kept ? 0 : -1;
}

static int on_due(CURLM *multi, long wait_ms, void *context)
{
    (void)multi;
    curl_link *link;
    TW_CAST(link, context, CURL_LINK_MAGIC);
    link->due_ms = wait_ms < 0 ? -1 : (int64_t)tw_now_ms(link->actor) + wait_ms;
    return 0;
}

static void take_finished(curl_link *link)
{
    int left = 0;
    for (CURLMsg *told; (told = curl_multi_info_read(link->multi, &left)) != NULL;) {
        transfer *self;
        char *private = NULL;
        if (told->msg != CURLMSG_DONE) {
            continue;
        }
        CURLcode code = told->data.result; /* told goes with the handle */
        (void)curl_easy_getinfo(told->easy_handle, CURLINFO_PRIVATE, &private);
        TW_CAST(self, (void *)private, TRANSFER_MAGIC);
        (void)curl_multi_remove_handle(link->multi, self->easy);
        settle(self, code);
    }
}

/* Lets curl do what the time asks for: a start too is due at once. */
static void carry_on(curl_link *link)
{
    int running = 0;
    if (link->due_ms >= 0 && link->due_ms <= (int64_t)tw_now_ms(link->actor)) {
        link->due_ms = -1;
        (void)(curl_multi_socket_action(link->multi, CURL_SOCKET_TIMEOUT, 0, &running) == CURLM_OK);
    }
    take_finished(link);
}

static void take_events(curl_link *link, const struct epoll_event *events, int count)
{
    int running = 0;
    for (int i = 0; i < count; i++) {
        if (events[i].data.fd == tw_actor_fd(link->actor)) {
            continue; /* the runtime's turn comes after the wait */
        }
        int what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                   (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        (void)(curl_multi_socket_action(link->multi, events[i].data.fd, what, &running) ==
               CURLM_OK);
    }
}

void curl_link_wait(curl_link *link, int timeout_ms)
{
    TW_ASSERT(link != NULL && link->magic == CURL_LINK_MAGIC);
    enum { LONGEST_MS = 1000 };
    struct epoll_event events[EVENTS_MAX];
    int64_t wait_ms = timeout_ms < 0 || timeout_ms > LONGEST_MS ? LONGEST_MS : timeout_ms;
    int start_ms = start_due(link);
    carry_on(link);
    wait_ms = start_ms >= 0 && start_ms < wait_ms ? start_ms : wait_ms;
    if (link->due_ms >= 0) {
        int64_t left_ms = link->due_ms - (int64_t)tw_now_ms(link->actor);
        left_ms = left_ms < 0 ? 0 : left_ms;
        wait_ms = left_ms < wait_ms ? left_ms : wait_ms;
    }
    int count = epoll_wait(link->epoll_fd, events, EVENTS_MAX, (int)wait_ms);
    TW_ASSERT(count >= 0 || errno == EINTR);
    take_events(link, events, count < 0 ? 0 : count);
    carry_on(link);
}

/* ---- life ---- */
static bool is_near(const char *url)
{
    static const char *const names[] = {"127.", "localhost:", "localhost/", "[::1]"};
    const char *name = strstr(url, "://") + strlen("://");
    for (size_t i = 0; i < TW_COUNT(names); i++) {
        if (strncmp(name, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

static tw_err copy_options(curl_link *link, const curl_link_options *options, const char **why)
{
    if (options->hosts_count == 0 || options->hosts_count > TW_SEARCH_HOSTS_MAX) {
        *why = "one to sixteen URLs are needed";
        return TW_E_BAD_CONFIG;
    }
    for (size_t i = 0; i < options->hosts_count; i++) {
        const char *url = options->hosts[i];
        if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
            *why = "a URL is to begin with http:// or https://";
            return TW_E_BAD_CONFIG;
        }
        link->hosts[i].url = tw_arena_format(&link->arena, "%s", url);
        link->hosts[i].near = is_near(url);
    }
    link->hosts_count = options->hosts_count;
    if (options->user != NULL) {
        link->user_password = tw_arena_format(&link->arena, "%s:%s", options->user,
                                              options->password == NULL ? "" : options->password);
    }
    if (options->api_key != NULL) {
        link->authorization =
            tw_arena_format(&link->arena, "Authorization: ApiKey %s", options->api_key);
    }
    if (options->ca_file != NULL) {
        link->ca_file = tw_arena_format(&link->arena, "%s", options->ca_file);
    }
    return TW_OK;
}

static bool watch(curl_link *link)
{
    int fd = tw_actor_fd(link->actor);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    link->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return link->epoll_fd >= 0 && epoll_ctl(link->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 &&
           curl_multi_setopt(link->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
           curl_multi_setopt(link->multi, CURLMOPT_SOCKETDATA, link) == CURLM_OK &&
           curl_multi_setopt(link->multi, CURLMOPT_TIMERFUNCTION, on_due) == CURLM_OK &&
           curl_multi_setopt(link->multi, CURLMOPT_TIMERDATA, link) == CURLM_OK;
}

tw_err curl_link_new(curl_link **out, tw_actor *actor, const curl_link_options *options,
                     const char **why)
{
    *out = NULL;
    *why = "";
    curl_link *link = tw_alloc_zero(1, sizeof *link);
    if (link == NULL) {
        return TW_E_NO_MEMORY;
    }
    link->magic = CURL_LINK_MAGIC;
    link->actor = actor;
    link->epoll_fd = -1;
    link->due_ms = -1;
    tw_arena_init(&link->arena, TW_MESSAGE_MAX);
    tw_err err = copy_options(link, options, why);
    if (err == TW_OK && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        err = TW_E_NO_MEMORY;
    }
    link->multi = err == TW_OK ? curl_multi_init() : NULL;
    if (err == TW_OK && (link->multi == NULL || !watch(link) ||
                         curl_multi_setopt(link->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
                                           (long)options->connections) != CURLM_OK ||
                         curl_multi_setopt(link->multi, CURLMOPT_MAXCONNECTS,
                                           (long)options->connections) != CURLM_OK)) {
        err = TW_E_NO_MEMORY;
    }
    if (err != TW_OK) {
        curl_link_free(&link);
        return err;
    }
    *out = link;
    return TW_OK;
}

void curl_link_free(curl_link **at)
{
    curl_link *link = *at;
    *at = NULL;
    if (link == NULL) {
        return;
    }
    TW_ASSERT(link->magic == CURL_LINK_MAGIC);
    while (link->running != NULL) {
        transfer *self = link->running;
        link->running = self->next;
        if (self->started) {
            (void)curl_multi_remove_handle(link->multi, self->easy);
        }
        transfer_release(&self);
    }
    while (link->spare != NULL) {
        transfer *self = link->spare;
        link->spare = self->next;
        transfer_release(&self);
    }
    if (link->multi != NULL) {
        (void)curl_multi_cleanup(link->multi);
    }
    if (link->epoll_fd >= 0) {
        close(link->epoll_fd); /* after curl, which takes its sockets out of it */
    }
    tw_arena_fini(&link->arena);
    tw_free(link);
}

curl_figures curl_link_figures(const curl_link *link)
{
    curl_figures told = link->figures;
    told.open = link->open;
    return told;
}

void curl_link_encode(tw_buf *out, tw_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.';
        if (plain) {
            tw_buf_add_byte(out, (char)c);
        } else {
            tw_buf_format(out, "%%%02X", c);
        }
    }
}
