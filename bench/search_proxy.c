/* search_proxy.c - what does a search cost through the server, beside the same one straight to the
 * cluster?
 *
 *   search_proxy CLUSTER/INDEX TIDEWIRE COLLECTION [searches]
 *   search_proxy http://127.0.0.1:9200/tidewire-movies http://127.0.0.1:8090 movies
 *
 * One run, both ways in turn, search by search, each over one connection that is kept alive, by the
 * same libcurl. Both ask for the same ten documents of a word. Goal: the median through the server
 * at most 1.15 times the straight one. Exit 1 when it is not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <curl/curl.h>

enum { SEARCHES = 1000, SEARCHES_MAX = 100000, WARM = 100 };
#define GOAL 1.15

typedef struct way {
    const char *name;
    char url[1024];
    CURL *easy;
    struct curl_slist *headers;
    double took[SEARCHES_MAX]; /* s */
    size_t bytes;
    long bad;
} way;

static double now_s(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes;
    *(size_t *)context += size * count;
    return size * count;
}

static int open_way(way *self, const char *body)
{
    self->easy = curl_easy_init();
    self->headers = curl_slist_append(NULL, "Content-Type: application/json");
    return self->easy == NULL || self->headers == NULL ||
           curl_easy_setopt(self->easy, CURLOPT_URL, self->url) != CURLE_OK ||
           curl_easy_setopt(self->easy, CURLOPT_PROXY, "") != CURLE_OK ||
           curl_easy_setopt(self->easy, CURLOPT_HTTPHEADER, self->headers) != CURLE_OK ||
           curl_easy_setopt(self->easy, CURLOPT_POSTFIELDS, body) != CURLE_OK ||
           curl_easy_setopt(self->easy, CURLOPT_WRITEFUNCTION, on_bytes) != CURLE_OK ||
           curl_easy_setopt(self->easy, CURLOPT_WRITEDATA, &self->bytes) != CURLE_OK;
}

static void search(way *self, size_t at)
{
    long status = 0;
    double begin = now_s();
    if (curl_easy_perform(self->easy) != CURLE_OK ||
        curl_easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK ||
        status != 200) {
        self->bad++;
    }
    self->took[at] = now_s() - begin;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(way *self, size_t count)
{
    double sum = 0;
    qsort(self->took, count, sizeof self->took[0], compare);
    for (size_t i = 0; i < count; i++) {
        sum += self->took[i];
    }
    printf("%-9s p50 %.3f ms  p99 %.3f ms  %.0f searches/s  %zu bytes a reply\n", self->name,
           self->took[count / 2] * 1e3, self->took[count * 99 / 100] * 1e3, (double)count / sum,
           self->bytes / (count + WARM));
    return self->took[count / 2];
}

int main(int argc, char **argv)
{
    static way ways[2] = {{.name = "straight"}, {.name = "tidewire"}};
    static const char straight[] = "{\"query\":{\"match\":{\"title\":\"book\"}},\"size\":10}";
    static const char through[] =
        "{\"body\":{\"query\":{\"match\":{\"title\":\"book\"}},\"size\":10}}";
    size_t count = argc > 4 ? strtoul(argv[4], NULL, 10) : SEARCHES;
    if (argc < 4 || count == 0 || count > SEARCHES_MAX) {
        fprintf(stderr, "search_proxy CLUSTER/INDEX TIDEWIRE COLLECTION [searches]\n");
        return 2;
    }
    snprintf(ways[0].url, sizeof ways[0].url, "%s/_search", argv[1]);
    snprintf(ways[1].url, sizeof ways[1].url, "%s/api/v1/search/%s/search", argv[2], argv[3]);
    if (open_way(&ways[0], straight) || open_way(&ways[1], through)) {
        fprintf(stderr, "libcurl could not be set up\n");
        return 2;
    }
    for (size_t i = 0; i < WARM + count; i++) {
        for (size_t k = 0; k < 2; k++) {
            search(&ways[(i + k) % 2], i < WARM ? 0 : i - WARM);
        }
    }
    double plain = median(&ways[0], count);
    double ratio = median(&ways[1], count) / plain;
    long bad = ways[0].bad + ways[1].bad;
    printf("ratio of the medians %.2f (goal %.2f), %ld searches failed\n", ratio, GOAL, bad);
    for (size_t k = 0; k < 2; k++) {
        curl_easy_cleanup(ways[k].easy);
        curl_slist_free_all(ways[k].headers);
    }
    return bad > 0 || ratio > GOAL ? 1 : 0;
}
