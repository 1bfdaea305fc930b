/* tidewire_test.c - libtidewire as its users call it, against a service gateway whose store lives
 * in memory: what goes in and out, errors before and after sending, deadlines, order of keys. */
#include "clients/c/tidewire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>

#include "clients/c/service.h"
#include "gateways/service/service.h"
#include "tests/support/fake_store.h"

enum { SHORT_MS = 150, LATE_MS = 5000 /* far more than SHORT_MS on a busy machine */ };

static const catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};

typedef struct world {
    char folder[64], base[96], url[96], file[96];
    fake_log *log;
    tw_system *system;
    service_options options;
    tidewire *client;
    tidewire_error error;
} world;

static void begin_with(world *w, auth *guard, const tidewire_identity *identity)
{
    const char *why = NULL;
    const tidewire_options as = {.identity = identity};
    *w = (world){.folder = "/tmp/tidewire-client-XXXXXX", .log = fake_log_new()};
    assert_non_null(mkdtemp(w->folder));
    tw_format(w->url, sizeof w->url, "ipc://%s/service", w->folder);
    tw_format(w->file, sizeof w->file, "%s/position", w->folder);
    tw_format(w->base, sizeof w->base, "inproc://tidewire_test%s", w->folder);
    w->options =
        (service_options){.catalog = &known, .url = w->url, .readers_count = 1, .auth = guard};
    tw_system_options options = {.base = w->base};
    assert_int_equal(tw_system_new(&w->system, &options), TW_OK);
    assert_int_equal(tw_system_add(w->system, &fake_store_class, -1, w->log), TW_OK);
    assert_int_equal(tw_system_add(w->system, &fake_reader_class, 0, w->log), TW_OK);
    assert_int_equal(tw_system_add(w->system, &service_class, -1, &w->options), TW_OK);
    assert_int_equal(tw_system_start(w->system, &why), TW_OK);
    assert_int_equal(tidewire_open(&w->client, w->url, &as, &w->error), TIDEWIRE_OK);
}

static void begin(world *w)
{
    begin_with(w, NULL, NULL);
}

static void end(world *w)
{
    tidewire_close(&w->client);
    assert_null(w->client);
    tidewire_close(&w->client); /* and again */
    tw_system_stop(w->system, 0);
    tw_system_free(&w->system);
    fake_log_free(&w->log);
    (void)unlink(w->file);
    assert_int_equal(rmdir(w->folder), 0);
}

static const char *text_of(tidewire_data data)
{
    return data.bytes == NULL ? "" : data.bytes;
}

static void test_tidewire_documents_go_in_and_come_out(void **state)
{
    (void)state;
    world w;
    begin(&w);
    tidewire_data doc = tidewire_json("{\"_id\":1,\"name\":\"Ada\"}");
    assert_int_equal(tidewire_put(w.client, "c", doc, NULL, &w.error), TIDEWIRE_OK);
    assert_int_equal(tidewire_version(w.client), 1);
    assert_non_null(strstr(text_of(tidewire_reply(w.client)), "\"since\":[["));
    /* {"_id":2,"raw":bin} */
    static const char packed[] = "\x82\xa3_id\x02\xa3raw\xc4\x02\x00\xff";
    doc = tidewire_msgpack(packed, sizeof packed - 1);
    assert_int_equal(tidewire_insert(w.client, "c", doc, NULL, &w.error), TIDEWIRE_OK);
    assert_int_equal(tidewire_get(w.client, "c", tidewire_json("[1,2,3]"), NULL, &w.error),
                     TIDEWIRE_OK);
    assert_int_equal(tidewire_count(w.client), 2);
    assert_string_equal(text_of(tidewire_next(w.client)), "{\"_id\":1,\"name\":\"Ada\"}");
    assert_non_null(strstr(text_of(tidewire_next(w.client)), "\"$binary\""));
    assert_null(tidewire_next(w.client).bytes);
    assert_null(tidewire_next(w.client).bytes);
    assert_int_equal(
        tidewire_find(w.client, "none", tidewire_json("{}"), tidewire_none(), NULL, &w.error),
        TIDEWIRE_OK);
    assert_null(tidewire_next(w.client).bytes);
    assert_int_equal(tidewire_remove(w.client, "c", tidewire_json("1"), NULL, &w.error),
                     TIDEWIRE_OK);
    assert_int_equal(tidewire_ask(w.client,
                                  tidewire_json("{\"op\":\"count\",\"collection\":\"c\"}"), NULL,
                                  &w.error),
                     TIDEWIRE_OK);
    assert_int_equal(tidewire_count(w.client), 1);
    end(&w);
}

static void test_tidewire_msgpack_replies_are_maps(void **state)
{
    (void)state;
    world w;
    tidewire *other;
    tidewire_options options = {.replies = TIDEWIRE_MSGPACK};
    begin(&w);
    assert_int_equal(tidewire_open(&other, w.url, &options, &w.error), TIDEWIRE_OK);
    assert_int_equal(tidewire_put(other, "c", tidewire_json("{\"_id\":1}"), NULL, NULL),
                     TIDEWIRE_OK);
    assert_int_equal(tidewire_get(other, "c", tidewire_json("1"), NULL, NULL), TIDEWIRE_OK);
    tidewire_data doc = tidewire_next(other);
    assert_int_equal(doc.form, TIDEWIRE_MSGPACK);
    assert_int_equal(doc.len, 6);
    assert_memory_equal(doc.bytes, "\x81\xa3_id\x01", 6);
    tidewire_close(&other);
    end(&w);
}

static void test_tidewire_a_batch_tells_what_failed(void **state)
{
    (void)state;
    world w;
    begin(&w);
    tidewire_data ops = tidewire_json("[{\"op\":\"insert\",\"doc\":{\"_id\":1}},"
                                      "{\"op\":\"insert\",\"doc\":{\"_id\":1}},"
                                      "{\"op\":\"put\",\"doc\":{\"_id\":2}}]");
    assert_int_equal(tidewire_batch(w.client, "c", ops, NULL, &w.error), TIDEWIRE_OK);
    assert_int_equal(tidewire_count(w.client), 2);
    assert_int_equal(tidewire_failed(w.client), 1);
    assert_non_null(strstr(text_of(tidewire_reply(w.client)), "\"code\":\"conflict\""));
    end(&w);
}

static void test_tidewire_a_repeat_has_no_second_effect(void **state)
{
    (void)state;
    world w;
    begin(&w);
    tidewire_data doc = tidewire_json("{\"_id\":1}");
    fake_log_lose_answers(w.log, 2); /* applied, and answered unavailable: sent again by itself */
    assert_int_equal(tidewire_put(w.client, "c", doc, NULL, &w.error), TIDEWIRE_OK);
    assert_int_equal(tidewire_version(w.client), 1);
    assert_int_equal(fake_log_writes(w.log), 3);
    tidewire_call call = {.opid = "mine"};
    assert_int_equal(tidewire_put(w.client, "c", doc, &call, &w.error), TIDEWIRE_OK);
    assert_int_equal(tidewire_version(w.client), 2);
    assert_int_equal(tidewire_put(w.client, "c", doc, &call, &w.error), TIDEWIRE_OK);
    assert_int_equal(tidewire_version(w.client), 2);
    end(&w);
}

static void test_tidewire_refusals_tell_code_cause_and_hint(void **state)
{
    (void)state;
    world w;
    begin(&w);
    tidewire_data doc = tidewire_json("{\"_id\":1}");
    assert_int_equal(tidewire_insert(w.client, "c", doc, NULL, &w.error), TIDEWIRE_OK);
    assert_int_equal(w.error.result, TIDEWIRE_OK);
    assert_int_equal(tidewire_insert(w.client, "c", doc, NULL, &w.error), TIDEWIRE_REFUSED);
    assert_string_equal(w.error.code, "conflict");
    assert_int_equal(w.error.version, 1);
    assert_int_equal(w.error.retry, TIDEWIRE_RETRY_NO);
    tidewire_call call = {.if_version = 7};
    assert_int_equal(tidewire_put(w.client, "c", doc, &call, &w.error), TIDEWIRE_REFUSED);
    assert_string_equal(w.error.code, "conflict");
    tidewire_data request = tidewire_json("{\"op\":\"put\",\"collektion\":\"c\",\"doc\":{}}");
    assert_int_equal(tidewire_ask(w.client, request, NULL, &w.error), TIDEWIRE_REFUSED);
    assert_string_equal(w.error.code, "bad_message");
    assert_non_null(strstr(w.error.hint, "\"collection\""));
    request = tidewire_json("{\"op\":\"fly\"}");
    assert_int_equal(tidewire_ask(w.client, request, NULL, &w.error), TIDEWIRE_REFUSED);
    assert_string_equal(w.error.code, "unknown");
    assert_int_equal(tidewire_get(w.client, "c", tidewire_json("9"), NULL, &w.error),
                     TIDEWIRE_REFUSED);
    assert_string_equal(w.error.code, "not_found");
    end(&w);
}

static void test_tidewire_wrong_arguments_are_refused_unsent(void **state)
{
    (void)state;
    world w;
    begin(&w);
    static const struct {
        tidewire_form form;
        const char *bytes;
    } wrong[] = {
        {TIDEWIRE_JSON, NULL},      {TIDEWIRE_JSON, ""},
        {TIDEWIRE_JSON, "{"},       {TIDEWIRE_JSON, "{},\"op\":\"remove\""},
        {TIDEWIRE_JSON, "{}}"},     {TIDEWIRE_MSGPACK, "\xc1"},
        {TIDEWIRE_MSGPACK, "\x81"}, {TIDEWIRE_MSGPACK, "\x01\x01"},
    };
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        const char *bytes = wrong[i].bytes;
        tidewire_data doc = {wrong[i].form, bytes, bytes == NULL ? 0 : strlen(bytes)};
        assert_int_equal(tidewire_put(w.client, "c", doc, NULL, &w.error), TIDEWIRE_BAD_INPUT);
        assert_non_null(strstr(w.error.message, "\"doc\""));
    }
    assert_int_equal(tidewire_put(w.client, NULL, tidewire_json("{}"), NULL, &w.error),
                     TIDEWIRE_BAD_INPUT);
    assert_int_equal(
        tidewire_update(w.client, "c", tidewire_json("1"), tidewire_json("[1]"), NULL, &w.error),
        TIDEWIRE_BAD_INPUT);
    size_t size = TW_SERVICE_MESSAGE_MAX + 64;
    char *large = tw_alloc(size);
    memset(large, 'x', size);
    size_t len = tw_format(large, 64, "{\"_id\":1,\"text\":\"");
    large[len] = 'x';
    memcpy(large + size - 3, "\"}", 3);
    assert_int_equal(tidewire_put(w.client, "c", tidewire_json(large), NULL, &w.error),
                     TIDEWIRE_BAD_INPUT);
    assert_string_equal(w.error.code, "too_big");
    tw_free(large);
    assert_int_equal(fake_log_writes(w.log), 0);
    assert_int_equal(tidewire_put(w.client, "c", tidewire_json("{\"_id\":1}"), NULL, &w.error),
                     TIDEWIRE_OK);
    end(&w);
}

/* The call ends with a timeout, within its deadline, and says why. */
static void assert_timeout(const char *url, const char *why)
{
    tidewire *client;
    tidewire_feed *feed;
    tidewire_error error;
    tidewire_options options = {.deadline_ms = SHORT_MS};
    tidewire_feed_options feeding = {.deadline_ms = SHORT_MS};
    uint64_t begun = service_clock_ms();
    assert_int_equal(tidewire_open(&client, url, &options, &error), TIDEWIRE_TIMEOUT);
    assert_null(client);
    assert_non_null(strstr(error.message, why));
    assert_true(error.hint[0] != '\0' && error.retry == TIDEWIRE_RETRY_BACKOFF);
    assert_int_equal(tidewire_feed_open(&feed, url, "c", &feeding, &error), TIDEWIRE_TIMEOUT);
    assert_true(service_clock_ms() - begun < LATE_MS);
}

static void test_tidewire_nobody_there_ends_by_the_deadline(void **state)
{
    (void)state;
    char folder[] = "/tmp/tidewire-nobody-XXXXXX", url[96];
    assert_non_null(mkdtemp(folder));
    tw_format(url, sizeof url, "ipc://%s/service", folder);
    assert_timeout(url, "nobody listens there");
    nng_socket mute; /* takes requests and answers none */
    assert_int_equal(nng_rep0_open(&mute), 0);
    assert_int_equal(nng_listen(mute, url, NULL, 0), 0);
    assert_timeout(url, "no answer came");
    assert_int_equal(nng_close(mute), 0);
    assert_int_equal(rmdir(folder), 0);
    tidewire *client;
    tidewire_error error;
    static const char *const wrong[] = {"", "nonsense", "udp://127.0.0.1:1", "tcp://127.0.0.1:x"};
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        assert_int_equal(tidewire_open(&client, wrong[i], NULL, &error), TIDEWIRE_BAD_INPUT);
        assert_non_null(strstr(error.hint, "ipc:///PATH"));
    }
    assert_int_equal(tidewire_open(&client, NULL, NULL, NULL), TIDEWIRE_BAD_INPUT);
}

/* ---- publisher and feed ---- */
static void publish(world *w, tidewire_publisher *publisher, int id, int n)
{
    char text[64];
    tw_format(text, sizeof text, "{\"_id\":%d,\"n\":%d}", id, n);
    assert_int_equal(tidewire_publisher_put(publisher, tidewire_json(text), &w->error),
                     TIDEWIRE_OK);
}

static void test_tidewire_publisher_writes_each_record_once(void **state)
{
    (void)state;
    world w;
    tidewire_publisher *publisher;
    tidewire_feed *feed;
    tidewire_row row;
    begin(&w);
    tidewire_publisher_options options = {.window = 4, .batch_records = 7};
    assert_int_equal(tidewire_publisher_open(&publisher, w.url, "c", &options, &w.error),
                     TIDEWIRE_OK);
    assert_int_equal(tidewire_feed_open(&feed, w.url, "c", NULL, &w.error), TIDEWIRE_OK);
    fake_log_lose_answers(w.log, 3);
    for (int i = 0; i < 1000; i++) {
        publish(&w, publisher, i, 0);
    }
    assert_int_equal(tidewire_publisher_flush(publisher, &w.error), TIDEWIRE_OK);
    assert_int_equal(tidewire_publisher_acknowledged(publisher), 1000);
    tidewire_publisher_close(&publisher);
    bool told[1000] = {false};
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(tidewire_feed_next(feed, LATE_MS, &row, &w.error), TIDEWIRE_OK);
        assert_string_equal(row.op, "put");
        assert_int_equal(row.version, 1);
        assert_int_equal(row.position, tidewire_feed_position(feed));
        long key = strtol(text_of(row.key), NULL, 10);
        assert_true(key >= 0 && key < 1000 && !told[key]);
        told[key] = true;
    }
    assert_int_equal(tidewire_feed_next(feed, SHORT_MS, &row, &w.error), TIDEWIRE_TIMEOUT);
    assert_non_null(strstr(w.error.message, "Nothing new"));
    tidewire_feed_close(&feed);
    end(&w);
}

/* A batch that is answered `unavailable` and sent again is overtaken by those behind it. */
static void test_tidewire_publisher_keeps_the_order_of_a_key(void **state)
{
    (void)state;
    world w;
    tidewire_publisher *publisher;
    begin(&w);
    tidewire_publisher_options options = {.window = 8, .batch_records = 3};
    assert_int_equal(tidewire_publisher_open(&publisher, w.url, "c", &options, &w.error),
                     TIDEWIRE_OK);
    for (int n = 0; n < 60; n++) {
        if (n % 10 == 0) {
            fake_log_lose_answers(w.log, 1);
        }
        publish(&w, publisher, n % 4, n);
    }
    assert_int_equal(tidewire_publisher_flush(publisher, &w.error), TIDEWIRE_OK);
    assert_int_equal(tidewire_publisher_acknowledged(publisher), 60);
    tidewire_publisher_close(&publisher);
    for (int id = 0; id < 4; id++) {
        char ids[8], n[16];
        tw_format(ids, sizeof ids, "%d", id);
        tw_format(n, sizeof n, "\"n\":%d}", 56 + id);
        assert_int_equal(tidewire_get(w.client, "c", tidewire_json(ids), NULL, &w.error),
                         TIDEWIRE_OK);
        assert_non_null(strstr(text_of(tidewire_next(w.client)), n));
    }
    end(&w);
}

static void test_tidewire_publisher_tells_the_record_that_failed(void **state)
{
    (void)state;
    world w;
    tidewire_publisher *publisher;
    begin(&w);
    tidewire_publisher_options options = {.batch_records = 4};
    assert_int_equal(tidewire_publisher_open(&publisher, w.url, "c", &options, &w.error),
                     TIDEWIRE_OK);
    for (int i = 0; i < 6; i++) {
        publish(&w, publisher, i, i);
    }
    tidewire_data bad = tidewire_json("{\"_id\":9,\"break_rule\":true}");
    assert_int_equal(tidewire_publisher_put(publisher, bad, &w.error), TIDEWIRE_OK);
    assert_int_equal(tidewire_publisher_put(publisher, tidewire_json("7"), &w.error),
                     TIDEWIRE_BAD_INPUT); /* told at once, and nothing is lost by it */
    assert_int_equal(tidewire_publisher_flush(publisher, &w.error), TIDEWIRE_REFUSED);
    assert_string_equal(w.error.code, "rule");
    assert_non_null(strstr(w.error.message, "record 6"));
    assert_int_equal(tidewire_publisher_acknowledged(publisher), 4);
    assert_int_equal(tidewire_publisher_flush(publisher, &w.error), TIDEWIRE_BAD_INPUT);
    tidewire_publisher_close(&publisher);
    tidewire_publisher_options too_many = {.window = 1000};
    assert_int_equal(tidewire_publisher_open(&publisher, w.url, "c", &too_many, &w.error),
                     TIDEWIRE_BAD_INPUT);
    assert_null(publisher);
    end(&w);
}

static void test_tidewire_feed_goes_on_from_its_file(void **state)
{
    (void)state;
    world w;
    tidewire_feed *feed;
    tidewire_row row;
    begin(&w);
    tidewire_feed_options options = {.position_file = w.file, .documents = TIDEWIRE_MSGPACK};
    for (int i = 0; i < 3; i++) {
        char text[32];
        tw_format(text, sizeof text, "{\"_id\":%d}", i);
        assert_int_equal(tidewire_put(w.client, "c", tidewire_json(text), NULL, NULL), TIDEWIRE_OK);
        assert_int_equal(tidewire_feed_open(&feed, w.url, "c", &options, &w.error), TIDEWIRE_OK);
        assert_int_equal(tidewire_feed_next(feed, LATE_MS, &row, &w.error), TIDEWIRE_OK);
        char key[] = {(char)0x81, (char)0xa3, 'k', 'e', 'y', (char)i};
        assert_int_equal(row.key.len, sizeof key);
        assert_memory_equal(row.key.bytes, key, sizeof key);
        assert_int_equal(tidewire_feed_next(feed, SHORT_MS, &row, &w.error), TIDEWIRE_TIMEOUT);
        assert_int_equal(tidewire_feed_save(feed, &w.error), TIDEWIRE_OK);
        tidewire_feed_close(&feed);
    }
    static const char *const wrong[] = {"soon\n", "17\n", "7 x\n", "0 1\n", "7 1 1\n", "7 ", ""};
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        FILE *file = fopen(w.file, "w");
        assert_non_null(file);
        assert_true(fputs(wrong[i], file) >= 0 && fclose(file) == 0);
        assert_int_equal(tidewire_feed_open(&feed, w.url, "c", &options, &w.error),
                         TIDEWIRE_BAD_INPUT);
        assert_non_null(strstr(w.error.message, "holds no position"));
    }
    options.position_file = "/no/such/folder/position";
    assert_int_equal(tidewire_feed_open(&feed, w.url, "c", &options, &w.error), TIDEWIRE_OK);
    assert_int_equal(tidewire_feed_save(feed, &w.error), TIDEWIRE_FAILED);
    assert_string_equal(w.error.code, "disk");
    uint64_t srv_id = tidewire_feed_srv_id(feed);
    assert_true(srv_id != 0);
    tidewire_feed_close(&feed);
    options = (tidewire_feed_options){.after = 1};
    assert_int_equal(tidewire_feed_open(&feed, w.url, "c", &options, &w.error), TIDEWIRE_BAD_INPUT);
    assert_string_equal(w.error.code, "bad_since");
    options.after_srv_id = srv_id + 1;
    assert_int_equal(tidewire_feed_open(&feed, w.url, "c", &options, &w.error), TIDEWIRE_REFUSED);
    assert_string_equal(w.error.code, "reset");
    assert_int_equal(w.error.retry, TIDEWIRE_RETRY_NO);
    options = (tidewire_feed_options){.after = 1000000, .after_srv_id = srv_id};
    assert_int_equal(tidewire_feed_open(&feed, w.url, "c", &options, &w.error), TIDEWIRE_REFUSED);
    assert_string_equal(w.error.code, "ahead");
    end(&w);
}

/* What an application knows of its tokens. */
struct wallet {
    const char *first, *next;
    int asked, refused;
};

static const char *give(void *context, bool refused)
{
    struct wallet *self = context;
    self->asked++;
    self->refused += refused ? 1 : 0;
    return refused ? self->next : self->first;
}

static const char *sign(const auth_key_options *key, const char *claims, tw_buf *out)
{
    broker_why why;
    tw_buf_init(out, TW_TOKEN_MAX);
    assert_int_equal(auth_sign(key, tw_str_of(claims), out, &why), TW_OK);
    tw_buf_add_byte(out, '\0');
    return out->ptr;
}

static void feed_and_publish(world *w, const tidewire_identity *identity)
{
    tidewire_feed *feed;
    tidewire_row row;
    tidewire_feed_options feeding = {.identity = identity};
    assert_int_equal(tidewire_feed_open(&feed, w->url, "c", &feeding, &w->error), TIDEWIRE_OK);
    assert_int_equal(tidewire_feed_next(feed, 0, &row, &w->error), TIDEWIRE_OK);
    assert_string_equal((const char *)row.key.bytes, "1");
    tidewire_feed_close(&feed);
    tidewire_publisher *publisher;
    tidewire_publisher_options publishing = {.identity = identity};
    assert_int_equal(tidewire_publisher_open(&publisher, w->url, "c", &publishing, &w->error),
                     TIDEWIRE_OK);
    assert_int_equal(tidewire_publisher_put(publisher, tidewire_json("{\"_id\":2}"), &w->error),
                     TIDEWIRE_OK);
    assert_int_equal(tidewire_publisher_flush(publisher, &w->error), TIDEWIRE_OK);
    tidewire_publisher_close(&publisher);
}

static void test_tidewire_tokens_are_asked_for_and_renewed(void **state)
{
    (void)state;
    world w;
    tw_buf good_text, old_text;
    broker_why why;
    char file[] = "/tmp/tidewire-secret-XXXXXX";
    int fd = mkstemp(file);
    assert_int_equal(write(fd, "0123456789abcdef0123456789abcdef", 32), 32);
    close(fd);
    const auth_key_options key = {.kid = "main", .alg = "HS256", .file = file};
    const rights_rule rule = {
        .role = "*", .collection = "c", .verbs = RIGHTS_READ | RIGHTS_INSERT | RIGHTS_UPDATE};
    const auth_options options = {.keys = &key,
                                  .keys_count = 1,
                                  .issuer = "",
                                  .audience = "",
                                  .roles = "roles",
                                  .jwks = "",
                                  .jwks_ca = "",
                                  .services = true,
                                  .rules = {&rule, 1, "main"}};
    auth *guard;
    assert_int_equal(auth_new(&guard, &options, &why), TW_OK);
    const char *good = sign(&key, "{\"sub\":\"ada\",\"exp\":4000000000}", &good_text);
    const char *old = sign(&key, "{\"sub\":\"ada\",\"exp\":1000000000}", &old_text);
    tidewire_identity fixed = {.token = good};
    struct wallet wallet = {.first = old, .next = good};
    tidewire_identity giver = {.give = give, .context = &wallet};
    begin_with(&w, guard, &fixed);
    assert_int_equal(tidewire_put(w.client, "c", tidewire_json("{\"_id\":1}"), NULL, &w.error),
                     TIDEWIRE_OK);
    assert_int_equal(tidewire_put(w.client, "d", tidewire_json("{\"_id\":1}"), NULL, &w.error),
                     TIDEWIRE_REFUSED);
    assert_string_equal(w.error.code, "forbidden");
    tidewire *other;
    assert_int_equal(tidewire_open(&other, w.url, NULL, &w.error), TIDEWIRE_REFUSED);
    assert_string_equal(w.error.code, "token");
    tidewire_options as = {.identity = &giver};
    assert_int_equal(tidewire_open(&other, w.url, &as, &w.error), TIDEWIRE_OK);
    assert_int_equal(wallet.refused, 1);
    wallet.first = good;
    assert_int_equal(tidewire_get(other, "c", tidewire_json("1"), NULL, &w.error), TIDEWIRE_OK);
    assert_int_equal(wallet.refused, 1);
    assert_int_equal(wallet.asked, 3);
    wallet = (struct wallet){.first = old, .next = old}; /* asked once more, not for ever */
    assert_int_equal(tidewire_get(other, "c", tidewire_json("1"), NULL, NULL), TIDEWIRE_REFUSED);
    assert_int_equal(wallet.asked, 2);
    tidewire_close(&other);
    feed_and_publish(&w, &fixed);
    end(&w);
    auth_free(&guard);
    tw_buf_fini(&good_text);
    tw_buf_fini(&old_text);
    (void)unlink(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tidewire_documents_go_in_and_come_out),
        cmocka_unit_test(test_tidewire_msgpack_replies_are_maps),
        cmocka_unit_test(test_tidewire_a_batch_tells_what_failed),
        cmocka_unit_test(test_tidewire_a_repeat_has_no_second_effect),
        cmocka_unit_test(test_tidewire_refusals_tell_code_cause_and_hint),
        cmocka_unit_test(test_tidewire_wrong_arguments_are_refused_unsent),
        cmocka_unit_test(test_tidewire_nobody_there_ends_by_the_deadline),
        cmocka_unit_test(test_tidewire_publisher_writes_each_record_once),
        cmocka_unit_test(test_tidewire_publisher_keeps_the_order_of_a_key),
        cmocka_unit_test(test_tidewire_publisher_tells_the_record_that_failed),
        cmocka_unit_test(test_tidewire_feed_goes_on_from_its_file),
        cmocka_unit_test(test_tidewire_tokens_are_asked_for_and_renewed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
