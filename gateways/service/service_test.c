/* service_test.c - the service gateway from outside, by the C client: requests, limits, garbage,
 * and the feed with losses. The store and its readers live in memory. */
#include "gateways/service/service.h"

#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

#include "protocol/json.h"

#include "clients/c/service_feed.h"
#include "gateways/service/service_socket.h"
#include "tests/support/fake_store.h"

enum { WAIT_MS = 20000, FEED_SHORT_MS = 50, REFUSED_MS = 1000 };

static const catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};

typedef struct world {
    char folder[64], base[96], url[96];
    fake_log *log;
    tw_system *system;
    service_options options;
    service_client *client;
    service_call call;
    tw_arena arena;
} world;

static uint64_t soon(void)
{
    return service_clock_ms() + WAIT_MS;
}

static void start(world *w, uint64_t drop_every)
{
    const char *why = NULL;
    tw_format(w->base, sizeof w->base, "inproc://service_test%s", w->folder);
    tw_system_options options = {.base = w->base, .drop_every = drop_every};
    assert_int_equal(tw_system_new(&w->system, &options), TW_OK);
    assert_int_equal(tw_system_add(w->system, &fake_store_class, -1, w->log), TW_OK);
    assert_int_equal(tw_system_add(w->system, &fake_reader_class, 0, w->log), TW_OK);
    assert_int_equal(tw_system_add(w->system, &fake_reader_class, 1, w->log), TW_OK);
    assert_int_equal(tw_system_add(w->system, &service_class, -1, &w->options), TW_OK);
    assert_int_equal(tw_system_start(w->system, &why), TW_OK);
}

static void begin(world *w, uint64_t drop_every)
{
    *w = (world){.folder = "/tmp/tidewire-service-XXXXXX", .log = fake_log_new()};
    assert_non_null(mkdtemp(w->folder));
    tw_format(w->url, sizeof w->url, "ipc://%s/service", w->folder);
    w->options = (service_options){.catalog = &known, .url = w->url, .readers_count = 2};
    tw_arena_init(&w->arena, 1 << 27);
    start(w, drop_every);
    service_failure failure;
    assert_int_equal(service_client_open(&w->client, w->url, NULL, &failure), TW_OK);
    assert_int_equal(service_call_init(&w->call, w->client), TW_OK);
}

static void end(world *w)
{
    service_call_fini(&w->call);
    service_client_close(&w->client);
    tw_system_stop(w->system, 0);
    tw_system_free(&w->system);
    fake_log_free(&w->log);
    tw_arena_fini(&w->arena);
    assert_int_equal(rmdir(w->folder), 0); /* the sockets' files are gone */
}

static tw_bson json(world *w, const char *text)
{
    tw_bson out;
    tw_str why = {0};
    tw_err err = tw_json_read(&w->arena, tw_str_of(text), TW_DEPTH_MAX, &out, &why);
    assert_int_equal(err, TW_OK);
    return out;
}

static tw_err ask(world *w, const char *text, tw_bson *reply)
{
    return service_call_ask(&w->call, json(w, text), soon(), reply);
}

/* The same with one more field: name and value, whatever bytes it holds. */
static tw_err ask_with(world *w, const char *text, const char *name, tw_bson_value value,
                       tw_bson *reply)
{
    tw_buf built;
    tw_bson_builder b;
    tw_buf_init(&built, 1 << 24);
    tw_bson_begin(&b, &built);
    tw_bson_add_all(&b, json(w, text));
    tw_bson_add_value(&b, tw_str_of(name), value);
    tw_err err = service_call_ask(&w->call, tw_bson_end(&b), soon(), reply);
    tw_buf_fini(&built);
    return err;
}

static void test_service_actions_answered_once(void **state)
{
    (void)state;
    world w;
    tw_bson reply;
    begin(&w, 0);
    tw_bson doc = json(&w, "{\"_id\":1,\"at\":{\"$date\":\"2026-01-01T00:00:00Z\"},"
                           "\"ref\":{\"$oid\":\"5f0000000000000000000001\"}}");
    tw_bson_value value = {TW_BSON_DOCUMENT, doc.ptr, doc.len};
    static const char put[] = "{\"op\":\"put\",\"collection\":\"c\",\"opid\":\"first\"}";
    assert_int_equal(ask_with(&w, put, "doc", value, &reply), TW_OK);
    assert_int_equal(tw_bson_get_i64_or(reply, TW_STR("version"), 0), 1);
    assert_int_equal(tw_bson_count(tw_bson_get_doc(reply, TW_STR("since"))), 1);
    assert_int_equal(ask_with(&w, put, "doc", value, &reply), TW_OK);
    assert_int_equal(tw_bson_get_i64_or(reply, TW_STR("version"), 0), 1); /* the same once more */

    assert_int_equal(ask(&w, "{\"op\":\"getByIds\",\"collection\":\"c\",\"ids\":[1,2]}", &reply),
                     TW_OK);
    tw_bson docs = tw_bson_get_doc(reply, TW_STR("docs"));
    tw_bson_value got = tw_bson_get(docs, TW_STR("0"));
    assert_int_equal(tw_bson_compare(got, value), 0);
    assert_int_equal(tw_bson_count(tw_bson_get_doc(reply, TW_STR("missing"))), 1);

    assert_int_equal(ask(&w, "{\"op\":\"find\",\"collection\":\"none\"}", &reply), TW_OK);
    assert_int_equal(tw_bson_count(tw_bson_get_doc(reply, TW_STR("docs"))), 0);
    assert_int_equal(ask(&w, "{\"action\":\"count\",\"collection\":\"c\",\"reqID\":\"r\"}", &reply),
                     TW_OK);
    assert_int_equal(tw_bson_get_i64_or(reply, TW_STR("count"), 0), 1);
    assert_true(tw_str_equal(tw_bson_get_str(reply, TW_STR("reqID")), TW_STR("r")));
    assert_int_equal(
        ask(&w, "{\"op\":\"insert\",\"collection\":\"c\",\"doc\":{\"_id\":1}}", &reply),
        TW_E_CONFLICT);
    assert_int_equal(tw_bson_get_i64_or(reply, TW_STR("version"), 0), 1);
    assert_int_equal(ask(&w, "{\"op\":\"fly\"}", &reply), TW_E_UNKNOWN);
    assert_int_equal(ask(&w, "{}", &reply), TW_E_BAD_MESSAGE);
    end(&w);
}

static tw_bson_value batch_of(world *w, int from, int count)
{
    tw_buf text;
    tw_buf_init(&text, 1 << 22);
    tw_buf_format(&text, "{\"ops\":[");
    for (int i = 0; i < count; i++) {
        tw_buf_format(&text, "%s{\"op\":\"put\",\"doc\":{\"_id\":%d,\"text\":\"record %d\"}}",
                      i == 0 ? "" : ",", from + i, from + i);
    }
    tw_buf_add(&text, "]}", 3);
    tw_bson_value ops = tw_bson_get(json(w, text.ptr), TW_STR("ops"));
    tw_buf_fini(&text);
    return ops;
}

static void test_service_batch_is_one_message_to_the_store(void **state)
{
    (void)state;
    world w;
    tw_bson reply;
    begin(&w, 0);
    static const char *const kinds[] = {"{\"op\":\"batch\",\"collection\":\"c\"}",
                                        "{\"op\":\"batch\",\"collection\":\"c\",\"atomic\":true}"};
    for (size_t i = 0; i < TW_COUNT(kinds); i++) {
        assert_int_equal(ask_with(&w, kinds[i], "ops", batch_of(&w, 0, 2000), &reply), TW_OK);
        assert_int_equal(tw_bson_get_i64_or(reply, TW_STR("count"), 0), 2000);
        assert_int_equal(tw_bson_count(tw_bson_get_doc(reply, TW_STR("results"))), 2000);
    }
    assert_int_equal(fake_log_writes(w.log), 2);
    assert_int_equal(fake_log_ops(w.log), 4000);
    end(&w);
}

/* Sends raw bytes; true: an answer came, which is then read. */
static bool send_raw(nng_socket s, const void *bytes, size_t len, char *out, size_t size)
{
    nng_msg *msg;
    assert_int_equal(nng_msg_alloc(&msg, 0), 0);
    assert_int_equal(nng_msg_append(msg, bytes, len), 0);
    assert_int_equal(nng_sendmsg(s, msg, 0), 0);
    if (nng_recvmsg(s, &msg, 0) != 0) {
        return false;
    }
    tw_format(out, size, "%.*s", (int)nng_msg_len(msg), (const char *)nng_msg_body(msg));
    nng_msg_free(msg);
    return true;
}

static void test_service_garbage_refused_or_pipe_closed(void **state)
{
    (void)state;
    world w;
    tw_bson reply;
    char out[256];
    nng_socket s;
    begin(&w, 0);
    assert_int_equal(nng_req0_open(&s), 0);
    assert_int_equal(nng_socket_set_ms(s, NNG_OPT_RECVTIMEO, WAIT_MS), 0);
    assert_int_equal(nng_dial(s, w.url, NULL, 0), 0);
    static const char *const garbage[] = {
        "", "\xc1", "\x81", "\x90", "\xdf\xff\xff\xff\xff", "{}", "\x81\xa2op", "\x81\x01\x02"};
    for (size_t i = 0; i < TW_COUNT(garbage); i++) {
        assert_true(send_raw(s, garbage[i], strlen(garbage[i]), out, sizeof out));
        assert_non_null(strstr(out, "code"));
    }
    char deep[200];
    memset(deep, 0x91, sizeof deep);
    memcpy(deep, "\x81\xa1q", 3);
    assert_true(send_raw(s, deep, sizeof deep, out, sizeof out));
    assert_int_equal(nng_close(s), 0);
    assert_int_equal(ask(&w, "{\"op\":\"get_new_id\"}", &reply), TW_OK);
    end(&w);
}

/* What may leave nng's threads stuck or its memory lost runs in a process that ends by _exit. */
static void run_apart(char *argument)
{
    char name[] = "service_test";
    char *const args[] = {name, argument, NULL};
    pid_t child;
    int status = -1;
    assert_int_equal(posix_spawn(&child, "/proc/self/exe", NULL, NULL, args, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* nng closes the pipe, without a word and without harm to others. The sender's nng then meets the
 * end of the pipe between two parts of what it sends, where it may hang (decisions/0031). */
static void send_too_large(void)
{
    world w;
    tw_bson reply;
    char out[256];
    nng_socket s;
    begin(&w, 0);
    bool is_right = nng_req0_open(&s) == 0 && nng_socket_set_ms(s, NNG_OPT_RECVTIMEO, 200) == 0 &&
                    nng_dial(s, w.url, NULL, 0) == 0;
    char *large = tw_alloc_zero(TW_SERVICE_MESSAGE_MAX + 1, 1);
    is_right = is_right && !send_raw(s, large, TW_SERVICE_MESSAGE_MAX + 1, out, sizeof out);
    is_right = is_right && ask(&w, "{\"op\":\"get_new_id\"}", &reply) == TW_OK;
    char path[128];
    static const char *const names[] = {"service", "service.feed"};
    for (size_t i = 0; i < TW_COUNT(names); i++) {
        tw_format(path, sizeof path, "%s/%s", w.folder, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(w.folder);
    _exit(is_right ? 0 : 1);
}

static void test_service_message_too_large_cuts_its_sender_alone(void **state)
{
    (void)state;
    char argument[] = "--large";
    run_apart(argument);
}

/* Connects and is gone before it is greeted. */
static void connect_rudely(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    tw_format(to.sun_path, sizeof to.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    (void)connect(fd, (const struct sockaddr *)&to, sizeof to); /* refused: it is dead already */
    (void)close(fd);
}

/* Whether a peer is early enough to do harm is chance, so many come. nng leaks what it had begun
 * for them, and a process that ends by _exit is not asked for it. */
static void be_visited_rudely(void)
{
    world w;
    char path[128];
    begin(&w, 0);
    tw_format(path, sizeof path, "%s/service", w.folder);
    for (int i = 0; i < 300; i++) {
        connect_rudely(path);
    }
    tw_err err = TW_E_TIMEOUT;
    for (int tries = 0; err != TW_OK && tries < 40; tries++) { /* each waits for an answer */
        service_client *client = NULL;
        service_call call;
        service_failure failure;
        tw_bson reply;
        assert_int_equal(service_client_open(&client, w.url, NULL, &failure), TW_OK);
        assert_int_equal(service_call_init(&call, client), TW_OK);
        err = service_call_ask(&call, json(&w, "{\"op\":\"get_new_id\"}"), service_clock_ms() + 500,
                               &reply);
        service_call_fini(&call);
        service_client_close(&client);
    }
    end(&w);
    _exit(err == TW_OK ? 0 : 1);
}

static void test_service_rude_peers_do_not_end_the_listener(void **state)
{
    (void)state;
    char argument[] = "--rude";
    run_apart(argument);
}

static void test_service_ipc_file_is_for_this_user_alone(void **state)
{
    (void)state;
    world w;
    struct stat info;
    char path[128];
    tw_bson reply;
    begin(&w, 0);
    /* Connected: what nng holds for a client that is closed while it is greeted, it loses. */
    assert_int_equal(ask(&w, "{\"op\":\"get_new_id\"}", &reply), TW_OK);
    static const char *const names[] = {"service", "service.feed"};
    for (size_t i = 0; i < TW_COUNT(names); i++) {
        tw_format(path, sizeof path, "%s/%s", w.folder, names[i]);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 0777, 0600);
    }
    end(&w);
}

static void test_service_url_off_loopback_refused(void **state)
{
    (void)state;
    char out[SERVICE_URL_MAX];
    assert_int_equal(service_feed_url("tcp://127.0.0.1:7000", out), TW_OK);
    assert_string_equal(out, "tcp://127.0.0.1:7001");
    assert_int_equal(service_feed_url("ipc:///run/x", out), TW_OK);
    assert_string_equal(out, "ipc:///run/x.feed");
    static const char *const wrong[] = {
        "tcp://0.0.0.0:7000", "tcp://*:7000",     "tcp://10.0.0.1:1",      "tcp://127.0.0.1",
        "tcp://127.0.0.1:0",  "ws://localhost:1", "tcp://127.0.0.1:65535", "",
        "ipc://relative"};
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        assert_int_equal(service_feed_url(wrong[i], out), TW_E_BAD_CONFIG);
    }
    service_socket *socket;
    char why[256] = "";
    assert_int_equal(service_socket_open(&socket, "tcp://0.0.0.0:7000", why, sizeof why),
                     TW_E_BAD_CONFIG);
    assert_int_equal(service_socket_open(&socket, "ipc:///no/such/folder/x", why, sizeof why),
                     TW_E_UNAVAILABLE);
    assert_non_null(strstr(why, "ipc:///no/such/folder/x"));
}

/* ---- feed ---- */
static tw_err open_feed(world *w, service_feed **out, const char *database, const char *collection,
                        uint64_t after)
{
    service_failure failure = {.code = TW_OK};
    service_feed_options options = {.database = database, .collection = collection, .after = after};
    tw_err err = service_feed_open(out, w->url, &options, soon(), &failure);
    assert_int_equal(failure.code, err);
    assert_true(err == TW_OK || failure.message[0] != '\0');
    return err;
}

/* The ids 0 .. count - 1 come in order, each once. */
static void assert_feed(service_feed *feed, int from, int count)
{
    for (int i = from; i < from + count; i++) {
        tw_bson row;
        assert_int_equal(service_feed_next(feed, soon(), &row), TW_OK);
        assert_int_equal(tw_bson_get_i64_or(row, TW_STR("key"), -1), i);
    }
}

static void put_many(world *w, int from, int count)
{
    tw_bson reply;
    for (int i = from; i < from + count; i++) {
        const char *text =
            tw_arena_format(&w->arena,
                            "{\"op\":\"batch\",\"ops\":["
                            "{\"op\":\"put\",\"collection\":\"c\",\"doc\":{\"_id\":%d}},"
                            "{\"op\":\"put\",\"collection\":\"d\",\"doc\":{\"_id\":%d}},"
                            "{\"op\":\"put\",\"collection\":\"c\",\"doc\":{\"_id\":-1},"
                            "\"dispatch\":false}]}",
                            i, i);
        assert_int_equal(ask(w, text, &reply), TW_OK);
    }
}

/* Closes a feed when nothing is left under way: nng 1.5.2 may hang in closing what still receives
 * (docs/decisions/0031-a-stop-that-does-not-trust-nng.md). */
static void close_feed(service_feed **feed)
{
    tw_bson row;
    assert_int_equal(service_feed_next(*feed, service_clock_ms() + FEED_SHORT_MS, &row),
                     TW_E_TIMEOUT);
    service_feed_close(feed);
}

static void test_service_feed_tells_each_row_once_and_resumes(void **state)
{
    (void)state;
    world w;
    service_feed *feed;
    service_feed *now;
    begin(&w, 0);
    put_many(&w, 0, 20);
    assert_int_equal(open_feed(&w, &feed, NULL, "c", 0), TW_OK);
    assert_int_equal(open_feed(&w, &now, "main", "d", SERVICE_FEED_NOW), TW_OK);
    assert_feed(feed, 0, 20); /* what is stored; silent rows are left out */
    put_many(&w, 20, 20);
    assert_feed(feed, 20, 20);
    assert_feed(now, 20, 20);
    uint64_t position = service_feed_position(feed);
    close_feed(&feed);
    put_many(&w, 40, 5);
    assert_int_equal(open_feed(&w, &feed, NULL, "c", position), TW_OK);
    assert_feed(feed, 40, 5);
    assert_feed(now, 40, 5);
    close_feed(&feed);
    close_feed(&now);
    assert_int_equal(open_feed(&w, &feed, NULL, "c", 1000000), TW_E_AHEAD);
    assert_int_equal(open_feed(&w, &feed, NULL, "$c", 0), TW_E_BAD_MESSAGE);
    end(&w);
}

static void test_service_feed_lost_publications_read_again(void **state)
{
    (void)state;
    world w;
    service_feed *feed;
    begin(&w, 3); /* each third publication of the store is lost on its way to the gateway */
    assert_int_equal(open_feed(&w, &feed, NULL, "c", 0), TW_OK);
    for (int i = 0; i < 200; i += 20) {
        put_many(&w, i, 20);
        assert_feed(feed, i, 20);
    }
    close_feed(&feed);
    end(&w);
}

static void test_service_feed_slow_follower_loses_nothing(void **state)
{
    (void)state;
    world w;
    service_feed *feed;
    tw_bson reply;
    begin(&w, 0);
    assert_int_equal(open_feed(&w, &feed, NULL, "c", SERVICE_FEED_NOW), TW_OK);
    for (int i = 0; i < 700; i++) { /* more messages than the queues of both ends hold */
        const char *text = tw_arena_format(
            &w.arena, "{\"op\":\"put\",\"collection\":\"c\",\"doc\":{\"_id\":%d}}", i);
        assert_int_equal(ask(&w, text, &reply), TW_OK);
    }
    assert_feed(feed, 0, 700);
    assert_true(service_feed_replays(feed) > 1);
    close_feed(&feed);
    end(&w);
}

static void test_service_replay_wrong_fields_refused(void **state)
{
    (void)state;
    world w;
    tw_bson reply;
    begin(&w, 0);
    static const char *const wrong[] = {
        "{\"op\":\"replay\"}",
        "{\"op\":\"replay\",\"collection\":\"c\",\"after\":-1}",
        "{\"op\":\"replay\",\"collection\":\"c\",\"after\":\"1\"}",
        "{\"op\":\"replay\",\"collection\":\"c\",\"srv_id\":-1,\"after\":1}",
        "{\"op\":\"replay\",\"collection\":\"c\",\"srv_id\":\"7\",\"after\":1}",
        "{\"op\":\"replay\",\"collection\":\"c\",\"limit\":0}",
        "{\"op\":\"replay\",\"collection\":\"c\",\"limit\":4097}",
        "{\"op\":\"replay\",\"collection\":\"c\",\"reqID\":[]}",
        "{\"op\":\"replay\",\"collection\":\"c\",\"database\":\"\"}",
        "{\"op\":\"replay\",\"collection\":\"c\",\"form\":1}",
    };
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        assert_int_equal(ask(&w, wrong[i], &reply), TW_E_BAD_MESSAGE);
    }
    put_many(&w, 0, 3);
    fake_log_fail_reads(w.log, 1); /* the next reader is asked */
    assert_int_equal(
        ask(&w, "{\"op\":\"replay\",\"collection\":\"c\",\"after\":0,\"limit\":2}", &reply), TW_OK);
    assert_int_equal(tw_bson_count(tw_bson_get_doc(reply, TW_STR("rows"))), 2);
    assert_int_equal(tw_bson_get_i64_or(reply, TW_STR("upto"), 0), 4);
    int64_t srv_id = tw_bson_get_i64_or(reply, TW_STR("srv_id"), 0);
    assert_int_equal(srv_id, 7); /* of the store in memory */
    static const char same[] = "{\"op\":\"replay\",\"collection\":\"c\",\"srv_id\":7,\"after\":1}";
    assert_int_equal(ask(&w, same, &reply), TW_OK);
    static const char other[] = "{\"op\":\"replay\",\"collection\":\"c\",\"srv_id\":8,\"after\":1}";
    assert_int_equal(ask(&w, other, &reply), TW_E_RESET);
    static const char replay[] = "{\"op\":\"replay\",\"collection\":\"c\",\"after\":0}";
    fake_log_fail_reads(w.log, 3); /* the client is patient */
    assert_int_equal(ask(&w, replay, &reply), TW_OK);
    assert_true(w.client->repeats > 0);
    fake_log_fail_reads(w.log, 1000);
    assert_int_equal(
        service_call_ask(&w.call, json(&w, replay), service_clock_ms() + REFUSED_MS, &reply),
        TW_E_UNAVAILABLE);
    assert_string_equal(w.client->failure.retry, "backoff");
    end(&w);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--rude") == 0) {
        be_visited_rudely();
    }
    if (argc == 2 && strcmp(argv[1], "--large") == 0) {
        send_too_large();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_service_actions_answered_once),
        cmocka_unit_test(test_service_batch_is_one_message_to_the_store),
        cmocka_unit_test(test_service_garbage_refused_or_pipe_closed),
        cmocka_unit_test(test_service_message_too_large_cuts_its_sender_alone),
        cmocka_unit_test(test_service_rude_peers_do_not_end_the_listener),
        cmocka_unit_test(test_service_ipc_file_is_for_this_user_alone),
        cmocka_unit_test(test_service_url_off_loopback_refused),
        cmocka_unit_test(test_service_feed_tells_each_row_once_and_resumes),
        cmocka_unit_test(test_service_feed_lost_publications_read_again),
        cmocka_unit_test(test_service_feed_slow_follower_loses_nothing),
        cmocka_unit_test(test_service_replay_wrong_fields_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
