/* mongo_tail.c - the change tailer beside a bare loop of libmongoc: how many events, how late?
 *
 * usage: mongo_tail [events|latency] [URI]      zig build bench -- mongo_tail
 * Without a word both are measured; without URI tests/support/mongo.sh starts a server
 * (TIDEWIRE_MONGO_KIND=py|rs). Both read the same stream of the same server in one run, rounds
 * interleaved; the median is shown.
 *   events   EVENTS inserts that happened while nobody listened: a loop of
 *            mongoc_change_stream_next that counts them, and the tailer with the store, until they
 *            are on disk in the log
 *   latency  inserts at RATE a second: the clock of the writer before each, and when a bare loop
 *            and a subscriber of zig-out/bin/tidewire have it, both at once */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mongoc/mongoc.h>

#include "actors/runtime/log.h"

#include "actors/log_reader.h"
#include "actors/mongo/change_tailer.h"
#include "actors/store.h"
#include "clients/c/stream.h"

enum { ROUNDS = 5, EVENTS = 20000, RATE = 200, SAMPLES = 2000, WAIT_MS = 60000, PORT = 42790 };

static const catalog catalog_of_bench = {.magic = CATALOG_MAGIC, .default_database = "main"};
static char directory[] = "/tmp/tidewire-bench-XXXXXX";

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void nap_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "mongo_tail: %s\n", what);
        exit(1);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *values, size_t count, double at)
{
    qsort(values, count, sizeof *values, by_value);
    size_t index = (size_t)(at * (double)count);
    return values[index < count ? index : count - 1];
}

/* ---- the deployment ---- */

static void insert_many(mongoc_client_t *client, int64_t first, int count)
{
    mongoc_collection_t *people = mongoc_client_get_collection(client, "main", "people");
    char text[151];
    memset(text, 'x', 150);
    text[150] = '\0';
    for (int done = 0; done < count;) {
        bson_error_t error;
        mongoc_bulk_operation_t *bulk =
            mongoc_collection_create_bulk_operation_with_opts(people, NULL);
        for (int i = 0; i < 1000 && done < count; i++, done++) {
            bson_t *doc = BCON_NEW("_id", BCON_INT64(first + done), "text", BCON_UTF8(text));
            mongoc_bulk_operation_insert(bulk, doc);
            bson_destroy(doc);
        }
        must(mongoc_bulk_operation_execute(bulk, NULL, &error) != 0, "inserts fail");
        mongoc_bulk_operation_destroy(bulk);
    }
    mongoc_collection_destroy(people);
}

static void drop(mongoc_client_t *client, const char *name)
{
    mongoc_database_t *database = mongoc_client_get_database(client, name);
    (void)mongoc_database_drop(database, NULL);
    mongoc_database_destroy(database);
}

/* ---- events ---- */

static mongoc_change_stream_t *watch(mongoc_client_t *client, const bson_t *token)
{
    bson_t options = BSON_INITIALIZER, pipeline = BSON_INITIALIZER;
    BSON_APPEND_INT64(&options, "maxAwaitTimeMS", 250);
    if (token != NULL) {
        BSON_APPEND_DOCUMENT(&options, "resumeAfter", token);
    }
    mongoc_change_stream_t *watched = mongoc_client_watch(client, &pipeline, &options);
    bson_destroy(&options);
    bson_destroy(&pipeline);
    return watched;
}

/* Reads EVENTS events from the token on, which then stands behind them. Seconds. */
static double read_bare(mongoc_client_t *client, bson_t **token, int events)
{
    double begun = now_s();
    mongoc_change_stream_t *watched = watch(client, *token);
    const bson_t *event;
    bson_error_t error;
    for (int count = 0; count < events;) {
        bson_iter_t iter, coll;
        if (mongoc_change_stream_next(watched, &event)) { /* tailers write barriers, too */
            count += bson_iter_init(&iter, event) &&
                     bson_iter_find_descendant(&iter, "ns.coll", &coll) &&
                     strcmp(bson_iter_utf8(&coll, NULL), "people") == 0;
        } else {
            must(!mongoc_change_stream_error_document(watched, &error, NULL), "the stream fails");
        }
    }
    double took = now_s() - begun;
    if (*token != NULL) {
        bson_destroy(*token);
    }
    *token = bson_copy(mongoc_change_stream_get_resume_token(watched));
    mongoc_change_stream_destroy(watched);
    return took;
}

/* Runs store and tailer until the log has `rows` rows and is whole. Rows a second, from the first
 * that is there on: a bare loop has its connection already, too. */
static double run_tailer(mongo_link *link, uint64_t rows)
{
    log_store *log;
    tw_system *system;
    tw_caller *store;
    const char *why = "";
    tw_log_set_level(TW_LOG_WARN);
    must(log_store_new(&log) == TW_OK, "no memory");
    store_options of_store = {
        .log = log, .catalog = &catalog_of_bench, .directory = directory, .image = true};
    log_reader_options of_reader = {.log = log, .catalog = &catalog_of_bench};
    change_tailer_options of_tailer = {link, &catalog_of_bench};
    must(tw_system_new(&system, &(tw_system_options){0}) == TW_OK, "no system");
    must(tw_system_add(system, &store_class, -1, &of_store) == TW_OK, "no store");
    must(tw_system_add(system, &log_reader_class, 0, &of_reader) == TW_OK, "no reader");
    must(tw_system_add(system, &change_tailer_class, -1, &of_tailer) == TW_OK, "no tailer");
    double begun = now_s();
    must(tw_system_start(system, &why) == TW_OK, why);
    must(tw_caller_open(&store, tw_system_base(system), "store", WAIT_MS) == TW_OK, "no caller");
    uint64_t before = 0, first = 0;
    for (bool done = false, known = false; !done; known = true) {
        const tw_envelope *in;
        const tw_msg_log_state_ask ask = {0};
        must(tw_caller_ask(store, TW_MSG_log_state_ask, &ask, WAIT_MS, &in) == TW_OK, "no state");
        uint64_t head = in->body->log_state.head;
        before = known ? before : head;
        if (first == 0 && head > before) {
            first = head;
            begun = now_s();
        }
        done = head >= rows && !in->body->log_state.partial;
        must(done || now_s() - begun < WAIT_MS / 1000, "the tailer does not come to its end");
        if (!done) {
            nap_ms(1);
        }
    }
    double took = now_s() - begun;
    double rate = took > 0 ? (double)(rows - first) / took : 0;
    tw_caller_close(&store);
    tw_system_stop(system, 1000);
    tw_system_free(&system);
    log_store_free(&log);
    return rate;
}

static void measure_events(mongoc_client_t *client, mongo_link *link)
{
    double bare[ROUNDS], tailer[ROUNDS];
    bson_t *token = NULL;
    uint64_t rows = 0;
    run_tailer(link, 0); /* the first copy, of nothing */
    for (int round = -1; round < ROUNDS; round++) {
        int events = round < 0 ? 1 : EVENTS; /* the first gives the token */
        mongoc_change_stream_t *first = round < 0 ? watch(client, NULL) : NULL;
        const bson_t *event;
        if (first != NULL) {
            (void)mongoc_change_stream_next(first, &event);
        }
        insert_many(client, (int64_t)rows, events);
        rows += (uint64_t)events;
        if (first != NULL) {
            while (!mongoc_change_stream_next(first, &event)) {
            }
            token = bson_copy(mongoc_change_stream_get_resume_token(first));
            mongoc_change_stream_destroy(first);
            run_tailer(link, rows);
            continue;
        }
        if (round % 2 == 0) {
            bare[round] = (double)EVENTS / read_bare(client, &token, EVENTS);
            tailer[round] = run_tailer(link, rows);
        } else {
            tailer[round] = run_tailer(link, rows);
            bare[round] = (double)EVENTS / read_bare(client, &token, EVENTS);
        }
        printf("  round %d: bare %8.0f events/s   tailer, on disk %8.0f events/s\n", round + 1,
               bare[round], tailer[round]);
    }
    double b = quantile(bare, ROUNDS, 0.5), t = quantile(tailer, ROUNDS, 0.5);
    printf("events   bare %.0f/s, tailer %.0f/s: %.2f times (goal 0.8)\n", b, t, t / b);
    bson_destroy(token);
}

/* ---- latency ---- */

struct latency {
    const char *uri;
    double sent[SAMPLES], bare[SAMPLES], subscriber[SAMPLES];
    atomic_int ready;
};

static void *write_at_rate(void *context)
{
    struct latency *self = context;
    mongoc_client_t *client = mongoc_client_new(self->uri);
    mongoc_collection_t *people = mongoc_client_get_collection(client, "main", "timed");
    while (atomic_load(&self->ready) < 2) {
        nap_ms(5);
    }
    double begun = now_s();
    for (int i = 0; i < SAMPLES; i++) {
        double wait = begun + (double)i / (double)RATE - now_s();
        if (wait > 0) {
            nap_ms((long)(wait * 1000));
        }
        bson_t *doc = BCON_NEW("_id", BCON_INT32(i), "text", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        self->sent[i] = now_s();
        must(mongoc_collection_insert_one(people, doc, NULL, NULL, NULL), "an insert fails");
        bson_destroy(doc);
    }
    mongoc_collection_destroy(people);
    mongoc_client_destroy(client);
    return NULL;
}

static void *read_bare_live(void *context)
{
    struct latency *self = context;
    mongoc_client_t *client = mongoc_client_new(self->uri);
    mongoc_change_stream_t *watched = watch(client, NULL);
    const bson_t *event;
    (void)mongoc_change_stream_next(watched, &event);
    atomic_fetch_add(&self->ready, 1);
    for (int count = 0; count < SAMPLES;) {
        bson_iter_t iter, id;
        if (mongoc_change_stream_next(watched, &event) && bson_iter_init(&iter, event) &&
            bson_iter_find_descendant(&iter, "documentKey._id", &id) &&
            BSON_ITER_HOLDS_INT32(&id)) {
            self->bare[bson_iter_int32(&id)] = now_s();
            count++;
        }
    }
    mongoc_change_stream_destroy(watched);
    mongoc_client_destroy(client);
    return NULL;
}

static int start_tidewire(const char *uri)
{
    int pid = fork();
    if (pid == 0) {
        char listen_at[64], data[128];
        int log = open("/dev/null", O_WRONLY);
        dup2(log, 1);
        dup2(log, 2);
        snprintf(listen_at, sizeof listen_at, "127.0.0.1:%d", PORT);
        snprintf(data, sizeof data, "%s/served", directory);
        execl("zig-out/bin/tidewire", "tidewire", "serve", "--mongo", uri, "--listen", listen_at,
              "--admin", "", "--data", data, "--service", "none", (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void read_subscriber(struct latency *self)
{
    char url[64];
    stream *followed;
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/ws", PORT);
    tw_err err =
        stream_open(&followed, url, NULL,
                    TW_STR("{\"type\":\"subscribe\",\"collections\":{\"timed\":\"*\"}}"), NULL);
    must(err == TW_OK, "no stream");
    bool synced = false;
    for (int count = 0; count < SAMPLES;) {
        stream_event event;
        err = stream_next(followed, WAIT_MS, &event);
        must(err == TW_OK, "the subscriber hears nothing");
        if (event.kind == STREAM_SYNCED && !synced) {
            synced = true;
            atomic_fetch_add(&self->ready, 1);
        } else if (event.kind == STREAM_EVENT) {
            int64_t id = tw_bson_get_i64_or(event.frame, TW_STR("key"), -1);
            must(id >= 0 && id < SAMPLES, "an event of another collection");
            self->subscriber[id] = now_s();
            count++;
        }
    }
    stream_close(&followed);
}

static void measure_latency(const char *uri)
{
    struct latency *self = calloc(1, sizeof *self);
    pthread_t writer, reader;
    must(self != NULL, "no memory");
    self->uri = uri;
    int pid = start_tidewire(uri);
    pthread_create(&writer, NULL, write_at_rate, self);
    pthread_create(&reader, NULL, read_bare_live, self);
    read_subscriber(self);
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    double bare[SAMPLES], subscriber[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) {
        bare[i] = (self->bare[i] - self->sent[i]) * 1000;
        subscriber[i] = (self->subscriber[i] - self->sent[i]) * 1000;
    }
    static const double at[] = {0.5, 0.9, 0.99};
    for (size_t i = 0; i < TW_COUNT(at); i++) {
        double b = quantile(bare, SAMPLES, at[i]), s = quantile(subscriber, SAMPLES, at[i]);
        printf("latency  p%.0f: bare %.2f ms, subscriber %.2f ms: %.2f times%s\n", at[i] * 100, b,
               s, s / b, i == 0 ? " (goal 1.5)" : "");
    }
    free(self);
}

/* ---- the run ---- */

static const char *start_server(void)
{
    static char uri[512];
    FILE *from = popen("TIDEWIRE_MONGO_NAME=bench tests/support/mongo.sh start", "r");
    must(from != NULL && fgets(uri, sizeof uri, from) != NULL && pclose(from) == 0,
         "no server can be had: give a URI");
    uri[strcspn(uri, "\n")] = '\0';
    snprintf(uri + strlen(uri), sizeof uri - strlen(uri), "&retryWrites=false");
    return uri;
}

int main(int argc, char **argv)
{
    char why[256];
    mongo_link *link;
    bool is_word = argc > 1 && strstr(argv[1], "://") == NULL;
    const char *given = is_word ? argv[2] : argc > 1 ? argv[1] : NULL; /* argv ends with NULL */
    bool wants_events = !is_word || strcmp(argv[1], "events") == 0;
    bool wants_latency = !is_word || strcmp(argv[1], "latency") == 0;
    must(wants_events || wants_latency, "what is measured is events or latency");
    const char *uri = given != NULL ? given : start_server();
    setvbuf(stdout, NULL, _IOLBF, 0); /* what is known so far, into a file too */
    must(mkdtemp(directory) != NULL, "no directory");
    mongo_link_library_start();
    must(mongo_link_new(&link, uri, why, sizeof why) == TW_OK, why);
    mongoc_client_t *client = mongoc_client_new(uri);
    drop(client, "main");
    drop(client, "tidewire");
    printf("%s, %d rounds of %d events, %d inserts at %d/s\n", uri, ROUNDS, EVENTS, SAMPLES, RATE);
    if (wants_events) {
        measure_events(client, link);
        drop(client, "main");
    }
    if (wants_latency) {
        measure_latency(uri);
    }
    mongoc_client_destroy(client);
    mongo_link_free(&link);
    mongo_link_library_end();
    if (given == NULL) {
        must(system("TIDEWIRE_MONGO_NAME=bench tests/support/mongo.sh stop") == 0, "no stop");
    }
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? 0 : 1;
}
