/* service_ingress.c - G14: records that services write through the service socket, in batches of
 * 16 KiB, beside bare nng PUSH/PULL of the same bytes, interleaved in one run over ipc.
 *
 * service_ingress [records] [rounds]
 *   bare       PUSH to PULL in another thread: received, not read
 *   memory     the program with --memory: read, validated, applied, acknowledged; nothing on disk
 *   durable    the program as it is shipped: each acknowledgement is on disk
 *   json, msgpack   the same durable program, by libtidewire's publisher from records in that form;
 *              the other two send requests that were made before, a window of 8 at once */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/reqrep0/req.h>

#include "protocol/base.h"

#include "clients/c/tidewire.h"

enum { BATCH_BYTES = 16384, WINDOW = 8, ROUNDS_MAX = 15, RECORD_MAX = 256, OPID_DIGITS = 16 };

typedef struct message {
    char *bytes; /* own */
    size_t len, opid_at;
    uint64_t records;
} message;

typedef struct work {
    message *messages; /* own */
    size_t count;
    uint64_t records;
    char folder[64];
} work;

typedef double (*measured)(work *w, const char *url);

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "service_ingress: %s failed\n", what);
        exit(1);
    }
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* {"_id":id,"n":id,"text":"record 0000000"} as msgpack. */
static size_t pack_record(char out[RECORD_MAX], uint64_t id)
{
    unsigned char number[5] = {0xce, (unsigned char)(id >> 24), (unsigned char)(id >> 16),
                               (unsigned char)(id >> 8), (unsigned char)id};
    char *at = out;
    memcpy(at, "\x83\xa3_id", 5);
    memcpy(at + 5, number, 5);
    memcpy(at + 10, "\xa1n", 2);
    memcpy(at + 12, number, 5);
    memcpy(at + 17, "\xa4text\xae", 6);
    at += 23;
    return 23 + tw_format(at, RECORD_MAX - 23, "record %07llu", (unsigned long long)id);
}

/* A request of put operations of BATCH_BYTES; its opid is filled in when it is sent. */
static void make_message(message *m, uint64_t *next, uint64_t end)
{
    char record[RECORD_MAX];
    tw_buf ops, out;
    tw_buf_init(&ops, (size_t)2 * BATCH_BYTES);
    while (*next < end && ops.len < BATCH_BYTES) {
        size_t len = pack_record(record, (*next)++);
        tw_buf_add(&ops,
                   "\x82\xa2op\xa3put\xa3"
                   "doc",
                   12);
        tw_buf_add(&ops, record, len);
        m->records++;
    }
    tw_buf_init(&out, (size_t)3 * BATCH_BYTES);
    tw_buf_add(&out,
               "\x84\xa2op\xa5"
               "batch\xaa"
               "collection\xa1"
               "c\xa4"
               "opid\xb0",
               29);
    m->opid_at = out.len;
    tw_buf_add(&out, "0000000000000000", OPID_DIGITS);
    char count[] = {(char)0xa3,      'o', 'p', 's', (char)0xdc, (char)(m->records >> 8),
                    (char)m->records};
    tw_buf_add(&out, count, sizeof count);
    tw_buf_add(&out, ops.ptr, ops.len);
    must(out.err == TW_OK && ops.err == TW_OK, "making a message");
    m->bytes = out.ptr;
    m->len = out.len;
    tw_buf_fini(&ops);
}

static nng_msg *msg_of(const message *m, uint64_t opid)
{
    nng_msg *msg;
    char text[OPID_DIGITS + 1];
    must(nng_msg_alloc(&msg, m->len) == 0, "memory");
    memcpy(nng_msg_body(msg), m->bytes, m->len);
    tw_format(text, sizeof text, "%016llx", (unsigned long long)opid);
    memcpy((char *)nng_msg_body(msg) + m->opid_at, text, OPID_DIGITS);
    return msg;
}

/* ---- bare ---- */
typedef struct puller {
    nng_socket socket;
    size_t count;
} puller;

static void *pull_all(void *arg)
{
    puller *p = arg;
    for (size_t i = 0; i < p->count; i++) {
        nng_msg *msg;
        must(nng_recvmsg(p->socket, &msg, 0) == 0, "pull");
        nng_msg_free(msg);
    }
    return NULL;
}

static double run_bare(work *w, const char *url)
{
    nng_socket push;
    puller pull = {.count = w->count};
    pthread_t thread;
    must(nng_pull0_open(&pull.socket) == 0 && nng_listen(pull.socket, url, NULL, 0) == 0, "pull");
    must(nng_push0_open(&push) == 0 && nng_dial(push, url, NULL, 0) == 0, "push");
    must(pthread_create(&thread, NULL, pull_all, &pull) == 0, "a thread");
    double start = now_s();
    for (size_t i = 0; i < w->count; i++) {
        must(nng_sendmsg(push, msg_of(&w->messages[i], i), 0) == 0, "push");
    }
    must(pthread_join(thread, NULL) == 0, "join");
    double took = now_s() - start;
    nng_close(push);
    nng_close(pull.socket);
    return took;
}

/* ---- the program ---- */
static void receive(nng_aio *aio)
{
    nng_aio_wait(aio);
    must(nng_aio_result(aio) == 0, "an answer");
    nng_msg *answer = nng_aio_get_msg(aio);
    must(nng_msg_len(answer) > 4 && memcmp((char *)nng_msg_body(answer) + 1, "\xa2ok\xc3", 4) == 0,
         "a batch");
    nng_msg_free(answer);
}

static double run_requests(work *w, const char *url)
{
    static uint64_t opid; /* of all rounds */
    nng_socket s;
    nng_ctx contexts[WINDOW];
    nng_aio *aios[WINDOW];
    must(nng_req0_open(&s) == 0 && nng_dial(s, url, NULL, 0) == 0, "connecting");
    for (size_t i = 0; i < WINDOW; i++) {
        must(nng_ctx_open(&contexts[i], s) == 0 && nng_aio_alloc(&aios[i], NULL, NULL) == 0,
             "memory");
    }
    double start = now_s();
    for (size_t i = 0; i < w->count + WINDOW; i++) {
        nng_aio *aio = aios[i % WINDOW];
        if (i >= WINDOW && i - WINDOW < w->count) {
            receive(aio);
        }
        if (i < w->count) {
            nng_aio_set_msg(aio, msg_of(&w->messages[i], ++opid));
            nng_ctx_send(contexts[i % WINDOW], aio);
            nng_aio_wait(aio);
            must(nng_aio_result(aio) == 0, "sending");
            nng_ctx_recv(contexts[i % WINDOW], aio);
        }
    }
    double took = now_s() - start;
    for (size_t i = 0; i < WINDOW; i++) {
        nng_aio_free(aios[i]);
    }
    nng_close(s);
    return took;
}

static double run_publisher(work *w, const char *url, tidewire_form form)
{
    tidewire_publisher *publisher;
    tidewire_error error;
    tidewire_publisher_options options = {.batch_bytes = BATCH_BYTES, .window = WINDOW};
    must(tidewire_publisher_open(&publisher, url, "c", &options, &error) == TIDEWIRE_OK, "opening");
    double start = now_s();
    for (uint64_t id = 0; id < w->records; id++) {
        char record[RECORD_MAX];
        tidewire_data doc = {form, record, 0};
        doc.len =
            form == TIDEWIRE_MSGPACK
                ? pack_record(record, id)
                : tw_format(record, sizeof record,
                            "{\"_id\":%llu,\"n\":%llu,\"text\":\"record %07llu\"}",
                            (unsigned long long)id, (unsigned long long)id, (unsigned long long)id);
        must(tidewire_publisher_put(publisher, doc, &error) == TIDEWIRE_OK, "put");
    }
    must(tidewire_publisher_flush(publisher, &error) == TIDEWIRE_OK, "flush");
    double took = now_s() - start;
    tidewire_publisher_close(&publisher);
    return took;
}

static double run_json(work *w, const char *url)
{
    return run_publisher(w, url, TIDEWIRE_JSON);
}

static double run_msgpack(work *w, const char *url)
{
    return run_publisher(w, url, TIDEWIRE_MSGPACK);
}

/* Starts a program with its output left out. */
static pid_t start(const char *binary, const char *const *args)
{
    union {
        const char *const *given;
        char *const *wanted;
    } words = {.given = args}; /* posix_spawn writes none of them */
    posix_spawn_file_actions_t files;
    pid_t child = -1;
    must(posix_spawn_file_actions_init(&files) == 0 &&
             posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) ==
                 0 &&
             posix_spawnp(&child, binary, &files, NULL, words.wanted, environ) == 0 &&
             posix_spawn_file_actions_destroy(&files) == 0,
         "starting a program");
    return child;
}

static void wait_end(pid_t child)
{
    int status;
    must(waitpid(child, &status, 0) == child && status == 0, "ending a program");
}

/* Starts Tidewire, runs against it, ends it. */
static double served(work *w, measured run, bool is_memory, int number)
{
    char url[128], data[128], service[160];
    const char *binary = getenv("TIDEWIRE_BIN");
    tw_format(url, sizeof url, "ipc://%s/service%d", w->folder, number);
    tw_format(data, sizeof data, "--data=%s/data%d", w->folder, number);
    tw_format(service, sizeof service, "--service=%s", url);
    const char *const args[] = {
        "tidewire",          "serve", "--listen=127.0.0.1:0",        "--admin=",
        "--log-level=error", service, is_memory ? "--memory" : data, NULL};
    pid_t child = start(binary != NULL ? binary : "zig-out/bin/tidewire", args);
    tidewire *client;
    tidewire_error error;
    must(tidewire_open(&client, url, NULL, &error) == TIDEWIRE_OK, "the program's start");
    double took = run(w, url);
    must(tidewire_ask(client, tidewire_json("{\"op\":\"count\",\"collection\":\"c\"}"), NULL,
                      &error) == TIDEWIRE_OK &&
             tidewire_count(client) == w->records,
         "the count of what was written");
    tidewire_close(&client);
    must(kill(child, SIGTERM) == 0, "ending the program");
    wait_end(child);
    return took;
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

int main(int argc, char **argv)
{
    work w = {.records = argc > 1 ? strtoull(argv[1], NULL, 10) : 500000,
              .folder = "/tmp/tidewire-ingress-XXXXXX"};
    int rounds = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 5;
    enum { BARE, MEMORY, DURABLE, JSON, MSGPACK, KINDS };
    static const char *const names[KINDS] = {"bare", "memory", "durable", "json", "msgpack"};
    static const measured runs[KINDS] = {run_bare, run_requests, run_requests, run_json,
                                         run_msgpack};
    double rates[KINDS][ROUNDS_MAX];
    must(rounds > 0 && rounds <= ROUNDS_MAX && w.records > 0, "reading the arguments");
    must(mkdtemp(w.folder) != NULL, "a folder");
    w.messages = calloc(w.records, sizeof *w.messages);
    must(w.messages != NULL, "memory");
    for (uint64_t next = 0; next < w.records;) {
        make_message(&w.messages[w.count++], &next, w.records);
    }
    for (int round = 0; round < rounds; round++) {
        for (int kind = 0; kind < KINDS; kind++) {
            char url[128];
            tw_format(url, sizeof url, "ipc://%s/bare%d", w.folder, round);
            double took = kind == BARE
                              ? run_bare(&w, url)
                              : served(&w, runs[kind], kind == MEMORY, round * KINDS + kind);
            rates[kind][round] = (double)w.records / took;
        }
    }
    printf("%llu records of %llu a message, %d rounds; records/s, the middle of them\n",
           (unsigned long long)w.records, (unsigned long long)w.messages[0].records, rounds);
    for (int kind = 0; kind < KINDS; kind++) {
        qsort(rates[kind], (size_t)rounds, sizeof(double), by_size);
        double middle = rates[kind][rounds / 2];
        printf("%-8s %10.0f  %.3f of bare\n", names[kind], middle,
               middle / rates[BARE][rounds / 2]);
    }
    for (size_t i = 0; i < w.count; i++) {
        tw_free(w.messages[i].bytes);
    }
    free(w.messages);
    wait_end(start("rm", (const char *const[]){"rm", "-rf", w.folder, NULL}));
    return 0;
}
