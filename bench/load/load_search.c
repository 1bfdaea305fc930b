/* load_search.c - the run of searches: each word is in one of so many records. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/load_run_priv.h"

enum {
    RECORDS_EACH = 100,   /* that have the same word */
    ROWS = 10,            /* that a search is told */
    IN_FLIGHT_MAX = 1024, /* searches */
    INDEXED_S = 120,
};

typedef struct searching {
    load *run;
    uint64_t asked, answered;
    uint64_t sent_ns[IN_FLIGHT_MAX]; /* by number, modulo */
    uint64_t total;                  /* hits of the last answer */
} searching;

static void ask(searching *self, uint32_t word)
{
    load *run = self->run;
    char text[256];
    uint64_t number = self->asked++;
    self->sent_ns[number % IN_FLIGHT_MAX] = load_now_ns();
    size_t len = tw_format(text, sizeof text,
                           "{\"action\":\"search\",\"reqID\":%llu,\"index\":\"%s\","
                           "\"query\":\"w:word%u\",\"rows\":%d}",
                           (unsigned long long)number, run->client.collection, word, ROWS);
    load_send(&run->client, &run->publisher, 0x1, text, len);
}

static bool on_reply(void *arg, const char *text, size_t len)
{
    static const char begin[] = "{\"action\":\"search\",\"reqID\":";
    searching *self = arg;
    load_client *client = &self->run->client;
    if (len < sizeof begin || memcmp(text, begin, sizeof begin - 1) != 0) {
        return false;
    }
    uint64_t number = strtoull(text + sizeof begin - 1, NULL, 10);
    uint64_t sent = self->sent_ns[number % IN_FLIGHT_MAX];
    const char *total = memmem(text, len, "\"total\":", 8);
    self->total = total == NULL ? 0 : strtoull(total + 8, NULL, 10);
    self->answered++;
    if (sent >= client->measure_from_ns && sent < client->measure_to_ns) {
        load_histogram_add(&client->latency, client->now_ns - sent);
    }
    return true;
}

/* The index follows the log: waits until it has the last record. */
static void wait_indexed(searching *self, uint32_t words, uint64_t documents)
{
    load_client *client = &self->run->client;
    uint64_t wanted = documents / words;
    uint64_t deadline = load_now_ns() + INDEXED_S * LOAD_SECOND_NS;
    while (self->total < wanted && client->rejected == 0) {
        uint64_t answered = self->answered;
        ask(self, words - 1);
        while (self->answered == answered && client->rejected == 0 && client->now_ns < deadline) {
            load_client_turn(client, 100 * LOAD_MS_NS, NULL, NULL);
        }
        if (client->now_ns >= deadline) {
            errno = 0;
            load_die("the records were not found in time");
        }
    }
}

void load_run_search(load *self)
{
    static searching state;
    load_client *client = &self->client;
    uint64_t documents = self->options->documents;
    uint32_t words = documents > RECORDS_EACH ? (uint32_t)(documents / RECORDS_EACH) : 1;
    uint64_t flying_max = self->options->subscribers;
    state = (searching){.run = self};
    client->words = words;
    client->on_reply = on_reply;
    client->reply_context = &state;
    load_open_publisher(self);
    load_preload(self, words * (documents / words));
    wait_indexed(&state, words, documents);
    client->measure_from_ns = load_now_ns();
    client->measure_to_ns =
        client->measure_from_ns + (uint64_t)(self->options->seconds * (double)LOAD_SECOND_NS);
    uint64_t answered = state.answered, missed = 0;
    load_take_usage(self, &self->from);
    while (client->now_ns < client->measure_to_ns && client->rejected == 0) {
        while (state.asked - state.answered < flying_max) {
            ask(&state, (uint32_t)(state.asked * 2654435761U % words));
        }
        uint64_t before = state.answered;
        load_client_turn(client, 100 * LOAD_MS_NS, NULL, NULL);
        missed += state.answered > before && state.total != documents / words ? 1 : 0;
    }
    load_take_usage(self, &self->to);
    double seconds = load_take_cpu(self);
    self->out->searches_s = (double)(state.answered - answered) / seconds;
    self->out->p50_ms = load_histogram_ms(&client->latency, 0.5);
    self->out->p90_ms = load_histogram_ms(&client->latency, 0.9);
    self->out->p99_ms = load_histogram_ms(&client->latency, 0.99);
    self->out->max_ms = load_histogram_ms(&client->latency, 1);
    self->out->missing = (double)missed; /* answers without all their hits */
}
