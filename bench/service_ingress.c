/* service_ingress.c - G14: records that services write through the service socket, in batches of
 * 16 KiB, beside bare nng PUSH/PULL of the same bytes, interleaved in one run over ipc: a ladder
 * that says what each step from bytes to records on disk costs.
 *
 * service_ingress [records] [rounds]
 *   bare       PUSH to PULL in another thread: received, not read
 *   read       the same, and each message read by the codec of the service socket
 *   asked      REQ to REP in another thread, each message answered at once, not read
 *   checked    the program: read, each operation checked, refused at its last one, so not written
 *   told       the program: unstored messages (dispatch), each the list of the records of a batch,
 *              until a websocket's follower has got them
 *   memory     the program with --memory: read, validated, applied, acknowledged; nothing on disk
 *   unindexed  the program without the embedded search: each acknowledgement is on disk
 *   durable    the program as it is shipped: each acknowledgement is on disk
 *   json, msgpack   the same durable program, by libtidewire's publisher from records in that form
 *   sqlite     no program: a bare loop inserts the same rows, a commit for each window
 * asked to durable send requests that were made before, a window of 8 at once. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

#include "protocol/arena.h"
#include "protocol/base.h"
#include "protocol/codec.h"

#include "actors/log/log_table.h"
#include "bench/load/load_peer.h"
#include "bench/sqlite_link.h"
#include "clients/c/tidewire.h"
#include "clients/c/websocket.h"

enum {
    BATCH_BYTES = 16384,
    WINDOW = 8,
    ROUNDS_MAX = 15,
    RECORD_MAX = 256,
    OPID_DIGITS = 16,
    TOLD_AHEAD = 16,    /* messages that a follower may be behind: who has no room gets none */
    PATIENCE_MS = 60000 /* until a follower has heard */
};

/* What a message asks for: a batch of puts; the same with a last operation that there is not; the
 * records as one unstored message. */
typedef enum message_form { BATCH, WRONG, UNSTORED, FORMS } message_form;

typedef struct message {
    char *bytes; /* own */
    size_t len, opid_at;
    uint64_t records;
} message;

typedef struct work {
    message *messages[FORMS]; /* own */
    size_t count;
    uint64_t records;
    char folder[64];
    int port; /* of the program's websockets */
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

static void add_text(tw_buf *out, const char *text)
{
    tw_buf_add_byte(out, (char)(0xa0 | strlen(text)));
    tw_buf_add_str(out, tw_str_of(text));
}

static void add_list(tw_buf *out, const char *name, uint64_t count)
{
    char head[] = {(char)0xdc, (char)(count >> 8), (char)count};
    add_text(out, name);
    tw_buf_add(out, head, sizeof head);
}

/* {"op":OP,"collection":"c",NAME:...} and room for a fourth; what stands there is filled in later,
 * another in each message. */
static void add_head(tw_buf *out, message *m, const char *op, const char *name)
{
    tw_buf_add_byte(out, (char)0x84);
    add_text(out, "op");
    add_text(out, op);
    add_text(out, "collection");
    add_text(out, "c");
    add_text(out, name);
    tw_buf_add_byte(out, (char)(0xa0 | OPID_DIGITS));
    m->opid_at = out->len;
    tw_buf_add(out, "0000000000000000", OPID_DIGITS);
}

/* A request of records of BATCH_BYTES as put operations, in one of its forms. */
static void make_message(message *m, message_form as, uint64_t *next, uint64_t end)
{
    char record[RECORD_MAX];
    tw_buf list, out;
    size_t puts = 0; /* bytes as puts: each form has the same records */
    tw_buf_init(&list, (size_t)2 * BATCH_BYTES);
    tw_buf_init(&out, (size_t)3 * BATCH_BYTES);
    while (*next < end && puts < BATCH_BYTES) {
        size_t len = pack_record(record, (*next)++);
        if (as != UNSTORED) {
            tw_buf_add(&list,
                       "\x82\xa2op\xa3put\xa3"
                       "doc",
                       12);
        }
        tw_buf_add(&list, record, len);
        puts += 12 + len;
        m->records++;
    }
    if (as == WRONG) {
        tw_buf_add(&list, "\x81\xa2op\xa4none", 9);
    }
    add_head(&out, m, as == UNSTORED ? "dispatch" : "batch", as == UNSTORED ? "reqID" : "opid");
    add_list(&out, as == UNSTORED ? "message" : "ops", m->records + (as == WRONG ? 1 : 0));
    tw_buf_add(&out, list.ptr, list.len);
    must(out.err == TW_OK && list.err == TW_OK, "making a message");
    m->bytes = out.ptr;
    m->len = out.len;
    tw_buf_fini(&list);
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

/* ---- requests, a window of them at once ---- */
static void receive(nng_aio *aio, message_form as)
{
    nng_aio_wait(aio);
    must(nng_aio_result(aio) == 0, "an answer");
    nng_msg *answer = nng_aio_get_msg(aio);
    const char *wanted = as == WRONG ? "\xa2ok\xc2" : "\xa2ok\xc3";
    bool good = nng_msg_len(answer) > 4 && memcmp((char *)nng_msg_body(answer) + 1, wanted, 4) == 0;
    if (!good) {
        fprintf(stderr, "%.*s\n", (int)nng_msg_len(answer), (const char *)nng_msg_body(answer));
    }
    must(good, "a request");
    nng_msg_free(answer);
}

/* heard: how many a follower got, who is not to be left behind; NULL: there is none. */
static double ask_all(work *w, const char *url, message_form as, atomic_size_t *heard)
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
            receive(aio, as);
        }
        while (heard != NULL && i < w->count && i >= atomic_load(heard) + TOLD_AHEAD) {
            sched_yield();
        }
        if (i < w->count) {
            nng_aio_set_msg(aio, msg_of(&w->messages[as][i], ++opid));
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

/* ---- bare ---- */
typedef struct puller {
    nng_socket socket;
    size_t count;
    bool reads, answers;
} puller;

static void *pull_all(void *arg)
{
    puller *p = arg;
    tw_arena arena;
    tw_arena_init(&arena, (size_t)64 * BATCH_BYTES);
    for (size_t i = 0; i < p->count; i++) {
        nng_msg *msg;
        must(nng_recvmsg(p->socket, &msg, 0) == 0, "receiving");
        tw_bson read;
        tw_str body = {nng_msg_body(msg), nng_msg_len(msg)};
        must(!p->reads || tw_msgpack_to_bson(&arena, body, TW_DEPTH_CLIENT_MAX, &read) == TW_OK,
             "reading");
        tw_arena_reset(&arena);
        nng_msg_clear(msg);
        if (p->answers) {
            must(nng_msg_append(msg, "\x81\xa2ok\xc3", 5) == 0, "memory");
            must(nng_sendmsg(p->socket, msg, 0) == 0, "answering");
        } else {
            nng_msg_free(msg);
        }
    }
    tw_arena_fini(&arena);
    return NULL;
}

static double push_all(work *w, const char *url, bool reads)
{
    nng_socket push;
    puller pull = {.count = w->count, .reads = reads};
    pthread_t thread;
    must(nng_pull0_open(&pull.socket) == 0 && nng_listen(pull.socket, url, NULL, 0) == 0, "pull");
    must(nng_push0_open(&push) == 0 && nng_dial(push, url, NULL, 0) == 0, "push");
    must(pthread_create(&thread, NULL, pull_all, &pull) == 0, "a thread");
    double start = now_s();
    for (size_t i = 0; i < w->count; i++) {
        must(nng_sendmsg(push, msg_of(&w->messages[BATCH][i], i), 0) == 0, "push");
    }
    must(pthread_join(thread, NULL) == 0, "join");
    double took = now_s() - start;
    nng_close(push);
    nng_close(pull.socket);
    return took;
}

static double run_bare(work *w, const char *url)
{
    return push_all(w, url, false);
}

static double run_read(work *w, const char *url)
{
    return push_all(w, url, true);
}

static double run_asked(work *w, const char *url)
{
    puller rep = {.count = w->count, .answers = true};
    pthread_t thread;
    must(nng_rep0_open(&rep.socket) == 0 && nng_listen(rep.socket, url, NULL, 0) == 0, "rep");
    must(pthread_create(&thread, NULL, pull_all, &rep) == 0, "a thread");
    double took = ask_all(w, url, BATCH, NULL);
    must(pthread_join(thread, NULL) == 0, "join");
    nng_close(rep.socket);
    return took;
}

/* {"_id":n,"n":n,"text":...} as BSON and what the log writes behind it, for the bare loop. */
static double run_sqlite(work *w, const char *url)
{
    static const uint8_t like[] = "\x2e\0\0\0\x10_id\0\0\0\0\0\x10n\0\0\0\0\0\x02text\0\x0f\0\0\0"
                                  "record 0000000\0\0";
    uint64_t window = WINDOW * w->messages[BATCH][0].records;
    (void)url;
    bare_log *log = bare_log_open(w->folder, false);
    double start = now_s();
    for (uint64_t row = 0; row < w->records;) {
        bare_log_begin(log);
        for (uint64_t i = 0; i < window && row < w->records; i++, row++) {
            uint8_t key[9] = {0x12};
            uint8_t body[sizeof like + 11] = {0};
            memcpy(key + 1, &row, sizeof row);
            memcpy(body, like, sizeof like);
            memcpy(body + 9, &row, 4);
            bare_log_add(log, row + 1, 0, key, sizeof key, body, sizeof body - 1);
        }
        bare_log_commit(log);
    }
    double took = now_s() - start;
    bare_log_close(&log);
    return took;
}

/* ---- the program ---- */
static double run_requests(work *w, const char *url)
{
    return ask_all(w, url, BATCH, NULL);
}

static double run_checked(work *w, const char *url)
{
    return ask_all(w, url, WRONG, NULL);
}

/* A websocket that follows the collection, and counts what is told of it. */
typedef struct follower {
    websocket_client *client;
    size_t count;
    atomic_size_t heard;
} follower;

static bool begins(tw_str text, const char *with)
{
    return text.len >= strlen(with) && memcmp(text.ptr, with, strlen(with)) == 0;
}

static void *follow(void *arg)
{
    follower *self = arg;
    while (atomic_load(&self->heard) < self->count) {
        tw_str text;
        must(websocket_client_receive(self->client, PATIENCE_MS, &text) == TW_OK, "following");
        if (begins(text, "{\"type\":\"dispatch\"")) {
            atomic_fetch_add(&self->heard, 1);
        }
    }
    return NULL;
}

static double run_told(work *w, const char *url)
{
    char to[64], why[512];
    tw_str text = {0};
    pthread_t thread;
    follower self = {.count = w->count};
    tw_format(to, sizeof to, "ws://127.0.0.1:%d/ws", w->port);
    must(websocket_client_open(&self.client, to, NULL, PATIENCE_MS, why, sizeof why) == TW_OK &&
             websocket_client_send(
                 self.client, TW_STR("{\"type\":\"subscribe\",\"mux_id\":1,\"c\":\"*\"}")) == TW_OK,
         "subscribing");
    while (!begins(text, "{\"type\":\"sync\"")) {
        must(websocket_client_receive(self.client, PATIENCE_MS, &text) == TW_OK, "the sync");
    }
    must(pthread_create(&thread, NULL, follow, &self) == 0, "a thread");
    double start = now_s();
    (void)ask_all(w, url, UNSTORED, &self.heard);
    must(pthread_join(thread, NULL) == 0, "join");
    double took = now_s() - start;
    websocket_client_close(&self.client);
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

/* A rung of the ladder. option: of the program; NULL: there is none. stores: it has the records
 * when it ends. */
typedef struct rung {
    const char *name;
    measured run;
    const char *option;
    bool serves, stores;
} rung;

static const rung rungs[] = {
    {"bare", run_bare, NULL, false, false},
    {"read", run_read, NULL, false, false},
    {"asked", run_asked, NULL, false, false},
    {"checked", run_checked, NULL, true, false},
    {"told", run_told, NULL, true, false},
    {"memory", run_requests, "--memory", true, true},
    {"unindexed", run_requests, "--only=store,subscription_manager,service", true, true},
    {"durable", run_requests, NULL, true, true},
    {"json", run_json, NULL, true, true},
    {"msgpack", run_msgpack, NULL, true, true},
    {"sqlite", run_sqlite, NULL, false, false},
};

/* Starts Tidewire, runs against it, ends it. */
static double served(work *w, const rung *of, int number)
{
    char url[128], data[128], service[160], listen[64];
    const char *binary = getenv("TIDEWIRE_BIN");
    w->port = load_free_port();
    tw_format(url, sizeof url, "ipc://%s/service%d", w->folder, number);
    tw_format(data, sizeof data, "--data=%s/data%d", w->folder, number);
    tw_format(service, sizeof service, "--service=%s", url);
    tw_format(listen, sizeof listen, "--listen=127.0.0.1:%d", w->port);
    bool is_memory = of->option != NULL && strcmp(of->option, "--memory") == 0;
    const char *const args[] = {"tidewire",
                                "serve",
                                listen,
                                "--admin=",
                                service,
                                "--log-level=error",
                                is_memory ? of->option : data,
                                is_memory ? NULL : of->option,
                                NULL};
    pid_t child = start(binary != NULL ? binary : "zig-out/bin/tidewire", args);
    tidewire *client;
    tidewire_error error;
    must(tidewire_open(&client, url, NULL, &error) == TIDEWIRE_OK, "the program's start");
    double took = of->run(w, url);
    must(tidewire_ask(client, tidewire_json("{\"op\":\"count\",\"collection\":\"c\"}"), NULL,
                      &error) == TIDEWIRE_OK &&
             tidewire_count(client) == (of->stores ? w->records : 0),
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

static void make_messages(work *w)
{
    for (message_form as = 0; as < FORMS; as++) {
        size_t count = 0;
        w->messages[as] = tw_alloc_zero(w->records, sizeof *w->messages[as]);
        must(w->messages[as] != NULL, "memory");
        for (uint64_t next = 0; next < w->records;) {
            make_message(&w->messages[as][count++], as, &next, w->records);
        }
        w->count = count;
    }
}

static void free_messages(work *w)
{
    for (message_form as = 0; as < FORMS; as++) {
        for (size_t i = 0; i < w->count; i++) {
            tw_free(w->messages[as][i].bytes);
        }
        tw_free(w->messages[as]);
    }
}

int main(int argc, char **argv)
{
    work w = {.records = argc > 1 ? strtoull(argv[1], NULL, 10) : 500000,
              .folder = "/tmp/tidewire-ingress-XXXXXX"};
    int rounds = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 5;
    double rates[TW_COUNT(rungs)][ROUNDS_MAX];
    must(rounds > 0 && rounds <= ROUNDS_MAX && w.records > 0, "reading the arguments");
    must(mkdtemp(w.folder) != NULL, "a folder");
    log_table_library_start();
    make_messages(&w);
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < TW_COUNT(rungs); i++) {
            char url[128];
            int number = round * (int)TW_COUNT(rungs) + (int)i;
            tw_format(url, sizeof url, "ipc://%s/bare%d", w.folder, number);
            double took = rungs[i].serves ? served(&w, &rungs[i], number) : rungs[i].run(&w, url);
            rates[i][round] = (double)w.records / took;
        }
    }
    printf("%llu records of %llu a message, %d rounds; records/s, the middle of them\n",
           (unsigned long long)w.records, (unsigned long long)w.messages[BATCH][0].records, rounds);
    for (size_t i = 0; i < TW_COUNT(rungs); i++) {
        qsort(rates[i], (size_t)rounds, sizeof(double), by_size);
        double middle = rates[i][rounds / 2];
        printf("%-9s %10.0f  %.3f of bare\n", rungs[i].name, middle, middle / rates[0][rounds / 2]);
    }
    free_messages(&w);
    wait_end(start("rm", (const char *const[]){"rm", "-rf", w.folder, NULL}));
    return 0;
}
