/* search_proxy.c - what does a search cost through the server, beside the same one straight to the
 * cluster, and beside a relay that copies bytes unread, the least that anything in between can
 * cost?
 *
 *   search_proxy CLUSTER INDEX TIDEWIRE COLLECTION [searches]
 *   search_proxy http://127.0.0.1:9200 movies http://127.0.0.1:8090 movies
 *
 * COLLECTION is declared with the key search, title text and group keyword, n integer; 10,000
 * documents are written to it through the server. One run, the ways in turn, search by search, each
 * over one connection that is kept alive, by the same libcurl; then the same with 16 connections.
 * Goal: the median through the server at most 1.15 times the straight one, throughput at least its
 * 1.15th part. Exit 1 when a search fails. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include "bench/bench.h"

enum {
    SEARCHES = 1000,
    SEARCHES_MAX = 100000,
    WARM = 100,
    AT_ONCE = 16,
    ROUNDS = 3,
    DOCUMENTS = 10000,
    BATCH = 500,
    PAIRS_MAX = 64,
};
#define GOAL 1.15

static const struct {
    const char *name, *body;
} cases[] = {
    {"10 hits", "{\"query\":{\"match\":{\"title\":\"book\"}},\"size\":10}"},
    {"100 hits", "{\"query\":{\"match\":{\"title\":\"w1 w2 w3 w4\"}},\"size\":100}"},
    {"aggregates", "{\"query\":{\"match\":{\"title\":\"w1 w2 w3 w4 w5 w6 w7 w8\"}},\"size\":20,"
                   "\"aggs\":{\"groups\":{\"terms\":{\"field\":\"group\"},\"aggs\":{\"n\":{"
                   "\"stats\":{\"field\":\"n\"}}}},\"steps\":{\"histogram\":{\"field\":\"n\","
                   "\"interval\":100}}}}"},
};

enum { STRAIGHT, RELAYED, TIDEWIRE, WAYS };

typedef struct way {
    const char *name;
    char url[1024];
    CURL *easy[AT_ONCE];
    CURLM *multi; /* keeps the connections of many at once */
    struct curl_slist *headers;
    double took[SEARCHES_MAX]; /* s */
    double batch;              /* s, of AT_ONCE */
    size_t bytes;
    long bad;
} way;

static way ways[WAYS] = {{.name = "straight"}, {.name = "relay"}, {.name = "tidewire"}};

/* ---- the relay: a process of its own, that knows bytes only ---- */
static int connect_to(unsigned short port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    must(fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0, "connecting the relay");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static int listen_at(unsigned short *port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    must(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 64) == 0 &&
             getsockname(fd, (struct sockaddr *)&at, &size) == 0,
         "listening");
    *port = ntohs(at.sin_port);
    return fd;
}

static void relay(int listener, unsigned short port)
{
    static char bytes[1 << 16];
    struct pollfd fds[1 + 2 * PAIRS_MAX] = {{.fd = listener, .events = POLLIN}};
    nfds_t count = 1;
    for (;;) {
        if (poll(fds, count, -1) < 0) {
            continue;
        }
        for (nfds_t i = 1; i < count; i++) { /* 1 and 2 are a pair, 3 and 4 */
            int to = fds[((i - 1) ^ 1) + 1].fd;
            ssize_t got = fds[i].revents != 0 ? recv(fds[i].fd, bytes, sizeof bytes, 0) : 0;
            for (ssize_t at = 0; got > 0 && at < got;) {
                ssize_t sent = send(to, bytes + at, (size_t)(got - at), MSG_NOSIGNAL);
                at += sent < 0 ? got : sent;
            }
            if (fds[i].revents != 0 && got <= 0) {
                shutdown(to, SHUT_RDWR);
                fds[i].events = 0;
                fds[i].fd = -1;
            }
        }
        if (fds[0].revents != 0 && count + 2 <= 1 + 2 * PAIRS_MAX) {
            int one = 1;
            int fd = accept(listener, NULL, NULL);
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
            fds[count++] = (struct pollfd){.fd = connect_to(port), .events = POLLIN};
        }
    }
}

/* ---- calls ---- */
static size_t on_bytes(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes;
    *(size_t *)context += size * count;
    return size * count;
}

static void open_way(way *self)
{
    self->headers = curl_slist_append(NULL, "Content-Type: application/json");
    self->multi = curl_multi_init();
    for (size_t i = 0; i < AT_ONCE; i++) {
        CURL *easy = self->easy[i] = curl_easy_init();
        must(easy != NULL && self->headers != NULL &&
                 curl_easy_setopt(easy, CURLOPT_URL, self->url) == CURLE_OK &&
                 curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
                 curl_easy_setopt(easy, CURLOPT_HTTPHEADER, self->headers) == CURLE_OK &&
                 curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes) == CURLE_OK &&
                 curl_easy_setopt(easy, CURLOPT_WRITEDATA, &self->bytes) == CURLE_OK,
             "setting libcurl up");
    }
}

static void set_body(way *self, const char *body)
{
    for (size_t i = 0; i < AT_ONCE; i++) {
        must(curl_easy_setopt(self->easy[i], CURLOPT_COPYPOSTFIELDS, body) == CURLE_OK, "a body");
    }
    self->bytes = 0;
    self->batch = 0;
}

static void judge(way *self, CURL *easy, CURLcode code)
{
    long status = 0;
    if (code != CURLE_OK || curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK ||
        status != 200) {
        self->bad++;
    }
}

static void search(way *self, size_t at)
{
    double begin = now_s();
    judge(self, self->easy[0], curl_easy_perform(self->easy[0]));
    self->took[at] = now_s() - begin;
}

/* count searches, AT_ONCE of them under way; returns s. */
static double search_many(way *self, size_t count)
{
    CURLM *multi = self->multi;
    size_t begun = 0;
    size_t done = 0;
    double begin = now_s();
    for (; begun < AT_ONCE; begun++) {
        curl_multi_add_handle(multi, self->easy[begun]);
    }
    while (done < count) {
        int running;
        int left;
        curl_multi_perform(multi, &running);
        for (CURLMsg *told; (told = curl_multi_info_read(multi, &left)) != NULL;) {
            CURL *easy = told->easy_handle;
            judge(self, easy, told->data.result);
            curl_multi_remove_handle(multi, easy);
            done++;
            if (begun < count) {
                begun++;
                curl_multi_add_handle(multi, easy);
            }
        }
        if (done < count) {
            curl_multi_poll(multi, NULL, 0, 1000, NULL);
        }
    }
    return now_s() - begin;
}

/* ---- the documents ---- */
static void fill(const char *tidewire, const char *collection)
{
    static char body[1 << 20];
    char url[1024];
    way writer = {.name = "fill"};
    snprintf(url, sizeof url, "%s/api/v1/search/%s/bulk", tidewire, collection);
    snprintf(writer.url, sizeof writer.url, "%s", url);
    open_way(&writer);
    unsigned seed = 1;
    for (size_t id = 0; id < DOCUMENTS;) {
        size_t len = (size_t)snprintf(body, sizeof body, "{\"bulk_plan\":[");
        for (size_t i = 0; i < BATCH; i++, id++) {
            len += (size_t)snprintf(body + len, sizeof body - len,
                                    "%s[\"upsert\",\"d%zu\",{\"n\":%zu,\"group\":\"g%zu\","
                                    "\"title\":\"%s",
                                    i == 0 ? "" : ",", id, id, id % 20, id % 100 ? "" : "book ");
            for (size_t word = 0; word < 30; word++) {
                seed = seed * 1103515245U + 12345U;
                len += (size_t)snprintf(body + len, sizeof body - len, "w%u ", seed / 65536 % 2000);
            }
            len += (size_t)snprintf(body + len, sizeof body - len, "\"}]");
        }
        snprintf(body + len, sizeof body - len, "]}");
        set_body(&writer, body);
        search(&writer, 0);
    }
    must(writer.bad == 0, "writing the documents");
    for (size_t i = 0; i < AT_ONCE; i++) {
        curl_easy_cleanup(writer.easy[i]);
    }
    curl_multi_cleanup(writer.multi);
    curl_slist_free_all(writer.headers);
}

static size_t append(char *bytes, size_t size, size_t count, void *context)
{
    char *text = context;
    size_t len = strlen(text);
    size_t room = 255 - len;
    size_t taken = size * count < room ? size * count : room;
    memcpy(text + len, bytes, taken);
    text[len + taken] = '\0';
    return size * count;
}

/* The index follows; then nothing is merged or refreshed while it is measured. */
static void await_documents(const char *cluster, const char *index)
{
    char url[1024];
    char text[256];
    char wanted[64];
    CURL *easy = curl_easy_init();
    snprintf(url, sizeof url, "%s/%s/_count?q=n:*", cluster, index);
    snprintf(wanted, sizeof wanted, "\"count\":%d,", DOCUMENTS);
    double until = now_s() + 60;
    do {
        text[0] = '\0';
        curl_easy_setopt(easy, CURLOPT_URL, url);
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, append);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, text);
        must(curl_easy_perform(easy) == CURLE_OK && now_s() < until, "waiting for the index");
    } while (strstr(text, wanted) == NULL);
    curl_easy_cleanup(easy);
}

/* ---- figures ---- */
static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void measure(const char *name, const char *body, size_t count)
{
    char wrapped[2048];
    snprintf(wrapped, sizeof wrapped, "{\"body\":%s}", body);
    for (size_t k = 0; k < WAYS; k++) {
        set_body(&ways[k], k == TIDEWIRE ? wrapped : body);
    }
    for (size_t i = 0; i < WARM + count; i++) {
        for (size_t k = 0; k < WAYS; k++) {
            search(&ways[(i + k) % WAYS], i < WARM ? 0 : i - WARM);
        }
    }
    for (size_t i = 0; i < (size_t)ROUNDS * WAYS; i++) {
        ways[i % WAYS].batch += search_many(&ways[i % WAYS], count);
    }
    double plain = 0;
    for (size_t k = 0; k < WAYS; k++) {
        way *self = &ways[k];
        qsort(self->took, count, sizeof self->took[0], compare);
        double p50 = self->took[count / 2];
        plain = k == STRAIGHT ? p50 : plain;
        printf("%-10s %-8s p50 %.3f ms (%.2f x)  p99 %.3f ms   16 at once: %.0f/s (%.2f x)   "
               "%zu bytes a reply\n",
               name, self->name, p50 * 1e3, p50 / plain, self->took[count * 99 / 100] * 1e3,
               (double)(count * ROUNDS) / self->batch, self->batch / ways[STRAIGHT].batch,
               self->bytes / (count * (ROUNDS + 1) + WARM));
    }
}

int main(int argc, char **argv)
{
    size_t count = argc > 5 ? strtoul(argv[5], NULL, 10) : SEARCHES;
    const char *colon = argc > 1 ? strrchr(argv[1], ':') : NULL;
    if (argc < 5 || count < AT_ONCE || count > SEARCHES_MAX || colon == NULL) {
        fprintf(stderr, "search_proxy CLUSTER INDEX TIDEWIRE COLLECTION [searches]\n");
        return 2;
    }
    unsigned short port;
    int listener = listen_at(&port);
    pid_t child = fork();
    if (child == 0) {
        relay(listener, (unsigned short)strtoul(colon + 1, NULL, 10));
    }
    must(child > 0, "starting the relay");
    close(listener);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    snprintf(ways[STRAIGHT].url, sizeof ways[0].url, "%s/%s/_search", argv[1], argv[2]);
    snprintf(ways[RELAYED].url, sizeof ways[0].url, "http://127.0.0.1:%u/%s/_search", port,
             argv[2]);
    snprintf(ways[TIDEWIRE].url, sizeof ways[0].url, "%s/api/v1/search/%s/search", argv[3],
             argv[4]);
    fill(argv[3], argv[4]);
    await_documents(argv[1], argv[2]);
    long bad = 0;
    for (size_t k = 0; k < WAYS; k++) {
        open_way(&ways[k]);
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        measure(cases[i].name, cases[i].body, count);
    }
    for (size_t k = 0; k < WAYS; k++) {
        bad += ways[k].bad;
        for (size_t i = 0; i < AT_ONCE; i++) {
            curl_easy_cleanup(ways[k].easy[i]);
        }
        curl_multi_cleanup(ways[k].multi);
        curl_slist_free_all(ways[k].headers);
    }
    printf("goal %.2f x; %ld searches failed\n", GOAL, bad);
    kill(child, SIGTERM);
    return bad > 0 ? 1 : 0;
}
