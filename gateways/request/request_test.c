/* request_test.c - the engine inside a host actor, against a store and readers that live in memory.
 *
 * The test speaks to the host by topic_open, whose query is the request (BSON); the host answers
 * with records, a reply each. The examples of tests/vectors/db_*.json are run here too: every
 * client's tests may use the same. */
#include "gateways/request/request.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protocol/json.h"

#include "actors/log_reader.h"
#include "actors/store.h"
#include "actors/subscription_manager.h"
#include "tests/support/fake_store.h"

enum { REPLIES_MAX = 12000, WAIT_MS = 20000, TAGS_MAX = 64, READERS = 2 };

/* Commands of the host, in topic_open.gateway. */
enum host_command {
    HOST_RUN = 1,
    HOST_RUN_SLOWLY,
    HOST_RUN_AND_FORGET,
    HOST_FIGURES,
    HOST_AS = 16
};

typedef struct host_options {
    const catalog *catalog;
    bool trusted;
    size_t running_max;
    bool real_store;
    rights *rights;          /* borrow; NULL: no auth */
    rights **rights_of_tags; /* borrow; NULL: rights for all; otherwise by HOST_AS of a command */
} host_options;

typedef struct host_request {
    tw_route route;
    bool is_used, is_slow, is_paused;
    unsigned pauses;
    tw_buf replies; /* own; BSON documents one behind the other */
    size_t count;
} host_request;

typedef struct host {
    tw_actor *actor;
    request_engine *engine;
    const host_options *options; /* borrow */
    host_request requests[TAGS_MAX];
} host;

static void answer(host *self, host_request *of)
{
    static tw_item_record records[REPLIES_MAX];
    size_t at = 0;
    for (size_t i = 0; i < of->count; i++) {
        uint32_t len;
        memcpy(&len, of->replies.ptr + at, sizeof len);
        records[i] = (tw_item_record){.doc = {(const uint8_t *)of->replies.ptr + at, len}};
        at += len;
    }
    tw_reply(self->actor, &of->route, TW_MSG_records,
             &(tw_msg_records){.after = of->pauses, .items = {records, of->count}});
    tw_buf_fini(&of->replies);
    of->is_used = false;
}

static bool on_reply(void *context, uint64_t tag, tw_bson reply, bool final)
{
    host *self = context;
    host_request *of = &self->requests[tag];
    assert_true(of->is_used);
    assert_false(of->is_paused);
    assert_true(of->count < REPLIES_MAX);
    tw_buf_add(&of->replies, reply.ptr, reply.len);
    of->count++;
    if (final) {
        answer(self, of);
    } else if (of->is_slow) {
        of->is_paused = true;
        of->pauses++;
    }
    return !of->is_paused;
}

static tw_err on_topic_open(void *arg, const tw_envelope *in)
{
    host *self = arg;
    const tw_msg_topic_open *asked = &in->body->topic_open;
    const host_options *options = self->options;
    uint64_t command = asked->gateway % HOST_AS;
    rights *who = options->rights_of_tags != NULL
                      ? options->rights_of_tags[asked->gateway / HOST_AS]
                      : options->rights;
    if (command == HOST_FIGURES) {
        request_figures figures = request_engine_figures(self->engine);
        tw_reply(self->actor, in->route, TW_MSG_done, &(tw_msg_done){.count = figures.running});
        return TW_OK;
    }
    uint64_t tag = 0;
    while (self->requests[tag].is_used) {
        tag++;
        assert_true(tag < TAGS_MAX);
    }
    host_request *of = &self->requests[tag];
    *of = (host_request){.route = *in->route, .is_used = true};
    of->is_slow = command == HOST_RUN_SLOWLY;
    tw_buf_init(&of->replies, TW_ACTOR_MESSAGE_MAX);
    request_run(self->engine, who, asked->query, on_reply, self, tag);
    if (command == HOST_RUN_AND_FORGET && of->is_used) {
        request_forget(self->engine, tag);
        answer(self, of);
    }
    return TW_OK;
}

static tw_err host_on_turn(void *arg)
{
    host *self = arg;
    for (uint64_t tag = 0; tag < TAGS_MAX; tag++) {
        host_request *of = &self->requests[tag];
        while (of->is_used && of->is_paused) {
            of->is_paused = false;
            request_resume(self->engine, tag);
        }
    }
    request_flush(self->engine);
    return TW_OK;
}

static tw_err host_init(void *arg, tw_actor *actor, const void *given)
{
    host *self = arg;
    const host_options *options = given;
    int readers[READERS] = {tw_link(actor, "log_reader.0"), tw_link(actor, "log_reader.1")};
    self->actor = actor;
    self->options = options;
    return request_engine_new(
        &self->engine, &(request_options){.actor = actor,
                                          .catalog = options->catalog,
                                          .store = tw_link(actor, "store"),
                                          .log_store = tw_link(actor, "store"),
                                          .manager = tw_link(actor, "subscription_manager"),
                                          .search = -1,
                                          .readers = readers,
                                          .readers_count = READERS,
                                          .log_readers = readers,
                                          .log_readers_count = options->real_store ? READERS : 0,
                                          .running_max = options->running_max,
                                          .trusted = options->trusted});
}

static void host_fini(void *arg)
{
    host *self = arg;
    request_engine_free(&self->engine);
    for (size_t i = 0; i < TAGS_MAX; i++) {
        if (self->requests[i].is_used) {
            tw_buf_fini(&self->requests[i].replies);
        }
    }
}

static const tw_handler host_handlers[] = {
    [TW_MSG_topic_open] = on_topic_open,
};

static const tw_actor_class host_class = {
    .name = "gateway",
    .state_size = sizeof(host),
    .init = host_init,
    .fini = host_fini,
    .handlers = host_handlers,
    .handlers_count = TW_COUNT(host_handlers),
    .on_turn = host_on_turn,
};

/* ---- a world: store, two readers, host, and the test's line to it ---- */
static const catalog_collection declared[] = {
    {.database = "main", .name = "open", .key = "_id", .version_field = "_version"},
    {.database = "main",
     .name = "hidden",
     .key = "_id",
     .version_field = "_version",
     .read_denied = true},
    {.database = "main",
     .name = "fixed",
     .key = "_id",
     .version_field = "_version",
     .write_denied = true},
    {.database = "main",
     .name = "kept",
     .key = "_id",
     .version_field = "_version",
     .remove_denied = true},
};
static const catalog known = {.magic = CATALOG_MAGIC,
                              .at = declared,
                              .count = TW_COUNT(declared),
                              .default_database = "main",
                              .default_collection = "open"};

typedef struct world {
    fake_log *log;    /* own; NULL: the real store */
    log_store *store; /* own */
    store_options store_options;
    log_reader_options reader_options;
    subscription_manager_options manager_options;
    tw_system *system;
    tw_caller *caller;
    host_options options;
    tw_arena arena;
    const tw_msg_records *replies; /* of the last request; view until the next */
    uint64_t as;                   /* whose rights the next requests have */
} world;

static void begin(world *w, host_options options)
{
    static unsigned worlds;
    char base[64];
    const char *why = NULL;
    tw_format(base, sizeof base, "inproc://request_test.%u", worlds++);
    *w = (world){.log = fake_log_new(), .options = options};
    tw_arena_init(&w->arena, 1 << 26);
    assert_int_equal(tw_system_new(&w->system, &(tw_system_options){.base = base}), TW_OK);
    if (options.real_store) {
        fake_log_free(&w->log);
        assert_int_equal(log_store_new(&w->store), TW_OK);
        w->store_options = (store_options){.log = w->store, .catalog = &known, .memory = true};
        w->reader_options = (log_reader_options){.log = w->store, .catalog = &known};
    }
    bool fake = w->log != NULL;
    const void *store = fake ? (const void *)w->log : &w->store_options;
    const void *reader = fake ? (const void *)w->log : &w->reader_options;
    assert_int_equal(tw_system_add(w->system, fake ? &fake_store_class : &store_class, -1, store),
                     TW_OK);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(
            tw_system_add(w->system, fake ? &fake_reader_class : &log_reader_class, i, reader),
            TW_OK);
    }
    w->manager_options = (subscription_manager_options){.catalog = &known};
    assert_int_equal(tw_system_add(w->system, &subscription_manager_class, -1, &w->manager_options),
                     TW_OK);
    assert_int_equal(tw_system_add(w->system, &host_class, -1, &w->options), TW_OK);
    assert_int_equal(tw_system_start(w->system, &why), TW_OK);
    assert_int_equal(tw_caller_open(&w->caller, base, "gateway", WAIT_MS), TW_OK);
}

static const host_options plain = {.catalog = &known, .running_max = 64};

static void end(world *w)
{
    tw_caller_close(&w->caller);
    tw_system_stop(w->system, 0);
    tw_system_free(&w->system);
    fake_log_free(&w->log);
    log_store_free(&w->store);
    tw_arena_fini(&w->arena);
}

static size_t run_bson(world *w, enum host_command command, tw_bson asked)
{
    const tw_envelope *in;
    tw_msg_topic_open message = {.gateway = command + w->as * HOST_AS, .query = asked};
    assert_int_equal(tw_caller_ask(w->caller, TW_MSG_topic_open, &message, WAIT_MS, &in), TW_OK);
    assert_int_equal(in->id, TW_MSG_records);
    w->replies = &in->body->records;
    return w->replies->items.count;
}

static tw_bson json(world *w, const char *text)
{
    tw_bson out;
    tw_str why = {0};
    tw_err err = tw_json_read(&w->arena, tw_str_of(text), TW_DEPTH_CLIENT_MAX, &out, &why);
    if (err != TW_OK) {
        fail_msg("%s: %.*s", text, (int)why.len, why.ptr);
    }
    return out;
}

static size_t run(world *w, const char *text)
{
    return run_bson(w, HOST_RUN, json(w, text));
}

static tw_bson reply_at(world *w, size_t i)
{
    assert_true(i < w->replies->items.count);
    return w->replies->items.at[i].doc;
}

static tw_bson last(world *w)
{
    return reply_at(w, w->replies->items.count - 1);
}

static const char *text_of(world *w, const char *name)
{
    tw_str text = tw_bson_get_str(last(w), tw_str_of(name));
    return tw_arena_format(&w->arena, "%.*s", (int)text.len, text.ptr == NULL ? "" : text.ptr);
}

#define assert_code(w, code) assert_string_equal(text_of((w), "code"), (code))

static int64_t number_of(world *w, const char *name)
{
    return tw_bson_get_i64_or(last(w), tw_str_of(name), -1);
}

static uint64_t running(world *w)
{
    const tw_envelope *in;
    tw_msg_topic_open message = {.gateway = HOST_FIGURES, .query = json(w, "{}")};
    assert_int_equal(tw_caller_ask(w->caller, TW_MSG_topic_open, &message, WAIT_MS, &in), TW_OK);
    return in->body->done.count;
}

/* A forgotten request ends when its reader has answered, which nobody waits for. */
static void assert_all_end(world *w)
{
    uint64_t left = running(w);
    for (int asked = 0; left > 0 && asked < 100000; asked++) {
        left = running(w);
    }
    assert_int_equal(left, 0);
}

/* ---- the validator ---- */
typedef struct refused_case {
    const char *asked, *code, *message, *hint;
} refused_case;

static void refuse_all(const refused_case *cases, size_t count)
{
    world w;
    begin(&w, plain);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(run(&w, cases[i].asked), 1);
        assert_string_equal(text_of(&w, "type"), "error");
        assert_code(&w, cases[i].code);
        assert_non_null(strstr(text_of(&w, "message"), cases[i].message));
        assert_non_null(strstr(text_of(&w, "hint"), cases[i].hint));
    }
    assert_int_equal(running(&w), 0);
    end(&w);
}

static void test_request_wrong_fields_refused_by_name(void **state)
{
    (void)state;
    static const refused_case cases[] = {
        {"{\"action\":\"findd\"}", "unknown", "There is no action \"findd\".", "\"find\""},
        {"{\"acton\":\"find\"}", "bad_message", "\"action\" is missing", ""},
        {"{\"action\":7}", "bad_message", "\"action\" is missing", ""},
        {"{\"action\":\"find\",\"collection\":\"a\",\"qurey\":{}}", "bad_message",
         "find has no field \"qurey\".", "\"query\""},
        {"{\"action\":\"find\"}", "bad_message", "find needs \"collection\".", ""},
        {"{\"action\":\"find\",\"collection\":\"$a\"}", "bad_message", "is not a possible", ""},
        {"{\"action\":\"find\",\"collection\":\"a\",\"limit\":0}", "bad_message",
         "\"limit\" is to be a whole number from 1 to 10000.", ""},
        {"{\"action\":\"find\",\"collection\":\"a\",\"limit\":10001}", "bad_message", "\"limit\"",
         ""},
        {"{\"action\":\"insert\",\"collection\":\"a\"}", "bad_message", "insert needs \"doc\".",
         ""},
        {"{\"action\":\"insert\",\"collection\":\"a\",\"doc\":[1]}", "bad_message", "an object",
         ""},
        {"{\"action\":\"put\",\"collection\":\"a\",\"doc\":{},\"dispatch\":1}", "bad_message",
         "true or false", ""},
        {"{\"action\":\"update\",\"collection\":\"a\",\"id\":1}", "bad_message", "needs one of",
         ""},
        {"{\"action\":\"update\",\"collection\":\"a\",\"id\":1,\"query\":{},\"fields\":{}}",
         "bad_message", "and only one", ""},
        {"{\"action\":\"getByIds\",\"ids\":[]}", "bad_message", "empty list", ""},
        {"{\"action\":\"getByIds\",\"ids\":[[1]]}", "bad_message", "cannot be an id", ""},
        {"{\"action\":\"find\",\"collection\":\"a\",\"query\":{\"$where\":\"1\"}}", "bad_filter",
         "$where", ""},
        {"{\"action\":\"find\",\"collection\":\"a\",\"fields\":{\"a\":0}}", "bad_query", "fields",
         ""},
        {"{\"action\":\"put\",\"collection\":\"a\",\"doc\":{},\"reqID\":{}}", "bad_message",
         "reqID", ""},
        {"{\"action\":\"search\",\"index\":\"a\",\"body\":{}}", "unsupported", "has no index",
         "search"},
        {"{\"action\":\"get\",\"index\":\"a\"}", "bad_message", "get needs \"id\".", ""},
        {"{\"action\":\"search\",\"body\":{},\"query\":\"x\"}", "bad_message", "exclude", ""},
        {"{\"action\":\"find\",\"collection\":\"hidden\"}", "forbidden", "may not read", ""},
        {"{\"action\":\"put\",\"collection\":\"fixed\",\"doc\":{}}", "forbidden", "may not write",
         ""},
        {"{\"action\":\"remove\",\"collection\":\"kept\",\"id\":1}", "forbidden",
         "may not remove from", "Archive"},
    };
    refuse_all(cases, TW_COUNT(cases));
}

static void test_request_wrong_wishes_refused_with_a_hint(void **state)
{
    (void)state;
    static const refused_case cases[] = {
        {"{\"action\":\"aggregate\",\"collection\":\"a\",\"pipeline\":[{\"$lookup\":{}}]}",
         "unsupported", "$lookup", "MongoDB"},
        {"{\"action\":\"aggregate\",\"collection\":\"a\"}", "bad_message",
         "aggregate needs \"pipeline\".", ""},
        {"{\"action\":\"drop\",\"collection\":\"open\"}", "forbidden", "may not drop",
         "drop_allowed"},
        {"{\"action\":\"drop_database\",\"database\":\"main\"}", "forbidden", "may not drop",
         "drop_allowed"},
        {"{\"action\":\"drop_database\"}", "bad_message", "needs \"database\".", ""},
        {"{\"action\":\"drop_database\",\"database\":\"a\",\"collection\":\"b\"}", "bad_message",
         "\"collection\"", "Use drop"},
        {"{\"action\":\"remove\",\"collection\":\"open\",\"key\":[1]}", "bad_message",
         "cannot be a key", ""},
        {"{\"action\":\"coerce_query\",\"collection\":\"a\"}", "bad_message", "needs", ""},
        {"{\"action\":\"coerce_list\"}", "bad_message", "needs", ""},
        {"{\"action\":\"get_field\",\"collection\":\"a\",\"field\":\"x\"}", "bad_message",
         "needs one of", ""},
        {"{\"action\":\"dispatch\",\"collection\":\"a\"}", "bad_message", "needs \"message\".", ""},
        {"{\"action\":\"dispatch\",\"collection\":\"fixed\",\"message\":1}", "forbidden",
         "may not write", ""},
    };
    refuse_all(cases, TW_COUNT(cases));
}

static void test_request_any_bytes_of_a_valid_document_answered(void **state)
{
    (void)state;
    world w;
    begin(&w, plain);
    /* every field of the table with a value of every type, for every action */
    static const char *const actions[] = {
        "getByIds",   "insert",        "put",      "update",       "remove",
        "batch",      "find",          "find_one", "count",        "get_field",
        "get_new_id", "detail",        "dispatch", "aggregate",    "search",
        "drop",       "drop_database", "schema",   "coerce_query", "coerce_list"};
    static const char *const fields[] = {
        "id",    "ids",        "query",  "fields",     "sort",  "limit",    "skip",     "field",
        "doc",   "operations", "update", "if_version", "opid",  "dispatch", "ops",      "atomic",
        "reqID", "database",   "key",    "message",    "value", "excluded", "pipeline", "origin"};
    static const char *const values[] = {"1",   "\"x\"",      "{}",      "[]",   "null", "true",
                                         "1.5", "{\"$x\":1}", "[1,[2]]", "\"\"", "-1"};
    for (size_t a = 0; a < TW_COUNT(actions); a++) {
        for (size_t f = 0; f < TW_COUNT(fields); f++) {
            for (size_t v = 0; v < TW_COUNT(values); v++) {
                const char *asked =
                    tw_arena_format(&w.arena, "{\"action\":\"%s\",\"collection\":\"a\",\"%s\":%s}",
                                    actions[a], fields[f], values[v]);
                assert_true(run(&w, asked) >= 1);
            }
        }
        tw_arena_reset(&w.arena);
    }
    assert_int_equal(running(&w), 0);
    end(&w);
}

/* ---- back-pressure, forgetting, faults ---- */
static void fill(world *w, int count)
{
    for (int i = 0; i < count; i++) {
        run(w, tw_arena_format(&w->arena,
                               "{\"action\":\"put\",\"collection\":\"open\",\"doc\":{\"_id\":%d,"
                               "\"even\":%s,\"pad\":\"%0900d\"}}",
                               i, i % 2 == 0 ? "true" : "false", i));
        assert_string_equal(text_of(w, "type"), "");
    }
}

static void test_request_slow_asker_gets_each_document_once_in_order(void **state)
{
    (void)state;
    world w;
    begin(&w, plain);
    fill(&w, 300);
    static const char *const asked[] = {
        "{\"action\":\"find\",\"collection\":\"open\"}",
        "{\"action\":\"find\",\"collection\":\"open\",\"sort\":{\"_id\":1}}",
    };
    for (size_t a = 0; a < TW_COUNT(asked); a++) {
        assert_int_equal(run_bson(&w, HOST_RUN_SLOWLY, json(&w, asked[a])), 301);
        assert_int_equal(w.replies->after, 300); /* a pause after each document */
        for (int i = 0; i < 300; i++) {
            tw_bson doc = tw_bson_get_doc(reply_at(&w, (size_t)i), TW_STR("doc"));
            assert_int_equal(tw_bson_get_i64_or(doc, TW_STR("_id"), -1), i);
        }
        assert_int_equal(number_of(&w, "count"), 300);
    }
    tw_buf ids;
    tw_buf_init(&ids, 1 << 20);
    tw_buf_format(&ids, "{\"action\":\"getByIds\",\"ids\":[0");
    for (int i = 1; i < 400; i++) {
        tw_buf_format(&ids, ",%d,%d", i, i); /* an id that stands twice is told once */
    }
    tw_buf_format(&ids, "]}");
    tw_buf_add_byte(&ids, '\0');
    assert_int_equal(run_bson(&w, HOST_RUN_SLOWLY, json(&w, ids.ptr)), 301);
    assert_int_equal(number_of(&w, "count"), 300);
    assert_int_equal(tw_bson_count(tw_bson_get_doc(last(&w), TW_STR("missing"))), 100);
    tw_buf_fini(&ids);
    assert_int_equal(running(&w), 0);
    end(&w);
}

static void test_request_forgotten_gives_no_reply_and_ends(void **state)
{
    (void)state;
    world w;
    begin(&w, plain);
    fill(&w, 3);
    assert_int_equal(run_bson(&w, HOST_RUN_AND_FORGET,
                              json(&w, "{\"action\":\"find\",\"collection\":\"open\"}")),
                     0);
    assert_int_equal(run_bson(&w, HOST_RUN_AND_FORGET,
                              json(&w, "{\"action\":\"put\",\"collection\":\"open\",\"doc\":"
                                       "{\"_id\":\"sent\"}}")),
                     0);
    /* the write was on its way: it stands, as a question behind it shows */
    assert_int_equal(run(&w, "{\"action\":\"put\",\"collection\":\"open\",\"doc\":{\"_id\":1}}"),
                     1);
    assert_int_equal(run(&w, "{\"action\":\"detail\",\"collection\":\"open\",\"id\":\"sent\"}"), 1);
    assert_int_equal(number_of(&w, "version"), 1);
    assert_all_end(&w);
    end(&w);
}

static void test_request_lost_answer_of_a_write_has_one_effect(void **state)
{
    (void)state;
    world w;
    begin(&w, plain);
    fill(&w, 1);
    fake_log_lose_answers(w.log, 1);
    run(&w, "{\"action\":\"update\",\"collection\":\"open\",\"id\":0,\"operations\":"
            "[[\"INC\",\"views\",1]]}");
    assert_string_equal(text_of(&w, "type"), "");
    assert_int_equal(number_of(&w, "version"), 2);
    run(&w, "{\"action\":\"get_field\",\"collection\":\"open\",\"id\":0,\"field\":\"views\"}");
    assert_int_equal(number_of(&w, "value"), 1);
    fake_log_lose_answers(w.log, 2); /* both tries: the asker is told, and may repeat by its opid */
    const char *put = "{\"action\":\"insert\",\"collection\":\"open\",\"opid\":\"once\","
                      "\"doc\":{\"_id\":\"o\"}}";
    run(&w, put);
    assert_code(&w, "unavailable");
    assert_string_equal(text_of(&w, "retry"), "backoff");
    run(&w, put);
    assert_int_equal(number_of(&w, "version"), 1);
    end(&w);
}

static void test_request_reader_away_next_one_asked(void **state)
{
    (void)state;
    world w;
    begin(&w, plain);
    fill(&w, 2);
    fake_log_fail_reads(w.log, 1);
    assert_int_equal(run(&w, "{\"action\":\"find\",\"collection\":\"open\"}"), 3);
    fake_log_fail_reads(w.log, 2);
    assert_int_equal(run(&w, "{\"action\":\"find\",\"collection\":\"open\"}"), 1);
    assert_code(&w, "unavailable");
    end(&w);
}

static void test_request_change_by_query_changes_each_match_once(void **state)
{
    (void)state;
    world w;
    begin(&w, plain);
    fill(&w, 200);
    run(&w, "{\"action\":\"update\",\"collection\":\"open\",\"query\":{\"even\":true},"
            "\"operations\":[[\"INC\",\"x\",1]],\"opid\":\"all\"}");
    assert_int_equal(number_of(&w, "count"), 100);
    run(&w, "{\"action\":\"count\",\"collection\":\"open\",\"query\":{\"x\":1}}");
    assert_int_equal(number_of(&w, "count"), 100);
    run(&w, "{\"action\":\"remove\",\"collection\":\"open\",\"query\":{\"even\":false}}");
    assert_int_equal(number_of(&w, "count"), 100);
    run(&w, "{\"action\":\"count\",\"collection\":\"open\"}");
    assert_int_equal(number_of(&w, "count"), 100);
    run(&w, "{\"action\":\"remove\",\"collection\":\"open\",\"ids\":[0,2,3]}");
    assert_int_equal(number_of(&w, "count"), 2);
    end(&w);
}

static void test_request_trusted_engine_writes_what_clients_may_not(void **state)
{
    (void)state;
    world w;
    begin(&w, (host_options){.catalog = &known, .running_max = 64, .trusted = true});
    run(&w, "{\"action\":\"put\",\"collection\":\"fixed\",\"doc\":{\"_id\":1}}");
    assert_int_equal(number_of(&w, "version"), 1);
    end(&w);
}

static void test_request_refused_write_names_the_rule_and_the_operation(void **state)
{
    (void)state;
    world w;
    begin(&w, plain);
    run(&w, "{\"action\":\"put\",\"collection\":\"open\",\"doc\":{\"break_rule\":true}}");
    assert_code(&w, "rule");
    assert_string_equal(text_of(&w, "rule"), "test.rule");
    run(&w,
        "{\"action\":\"batch\",\"collection\":\"open\",\"atomic\":true,\"ops\":["
        "{\"op\":\"put\",\"doc\":{\"_id\":1}},{\"op\":\"put\",\"doc\":{\"break_rule\":true}}]}");
    assert_code(&w, "rule");
    assert_string_equal(text_of(&w, "message"), "ops[1]: This breaks a rule.");
    assert_int_equal(fake_log_head(w.log), 0);
    end(&w);
}

static void test_request_beyond_running_max_is_busy(void **state)
{
    (void)state;
    world w;
    static const catalog strict = {.magic = CATALOG_MAGIC,
                                   .at = declared,
                                   .count = TW_COUNT(declared),
                                   .default_database = "main",
                                   .strict = true};
    begin(&w, (host_options){.catalog = &strict, .running_max = 1});
    assert_int_equal(run_bson(&w, HOST_RUN_AND_FORGET,
                              json(&w, "{\"action\":\"find\",\"collection\":\"open\"}")),
                     0);
    /* the answer to the forgotten one comes sooner or later; until then there is no room */
    while (run(&w, "{\"action\":\"count\",\"collection\":\"open\"}") == 1 &&
           strcmp(text_of(&w, "code"), "busy") == 0) {
        assert_int_equal(number_of(&w, "after_ms"), 100);
    }
    assert_int_equal(number_of(&w, "count"), 0);
    run(&w, "{\"action\":\"count\",\"collection\":\"undeclared\"}");
    assert_code(&w, "forbidden");
    run(&w, "{\"action\":\"getByIds\",\"ids\":[1]}"); /* no default collection here */
    assert_code(&w, "bad_message");
    end(&w);
}

/* ---- examples ---- */
/* Equal, with "*" of the example standing for any value; all fields of both are there, but for the
 * _version that a store keeps in its documents. */
static bool is_like(tw_bson_value want, tw_bson_value got)
{
    if (tw_str_equal(tw_bson_value_str(want), TW_STR("*"))) {
        return got.type != 0;
    }
    tw_bson a = tw_bson_value_doc(want);
    tw_bson b = tw_bson_value_doc(got);
    if (a.len == 0 || b.len == 0) {
        return want.type != 0 && got.type != 0 && tw_bson_compare(want, got) == 0;
    }
    tw_bson_iter i;
    bool has_version = tw_bson_get(b, TW_STR("_version")).type != 0;
    bool same = tw_bson_count(a) + (has_version ? 1 : 0) == tw_bson_count(b);
    for (tw_bson_iter_init(&i, a); same && tw_bson_iter_next(&i);) {
        same = is_like(i.value, tw_bson_get(b, i.name));
    }
    return same;
}

static void run_example(const char *path, bool real_store)
{
    world w;
    begin(&w, (host_options){.catalog = &known, .running_max = 64, .real_store = real_store});
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = tw_arena_zero(&w.arena, 1 << 16, 1);
    size_t len = fread(text, 1, (1 << 16) - 1, file);
    (void)fclose(file);
    assert_true(len > 0);
    tw_bson example = json(&w, text);
    tw_bson_iter step;
    tw_bson_iter_init(&step, tw_bson_get_doc(example, TW_STR("steps")));
    while (tw_bson_iter_next(&step)) {
        tw_bson one = tw_bson_value_doc(step.value);
        tw_bson wanted = tw_bson_get_doc(one, TW_STR("receive"));
        size_t count = run_bson(&w, HOST_RUN, tw_bson_get_doc(one, TW_STR("send")));
        tw_bson_iter want;
        size_t at = 0;
        for (tw_bson_iter_init(&want, wanted); tw_bson_iter_next(&want); at++) {
            tw_bson got = at < count ? reply_at(&w, at) : json(&w, "{}");
            if (!is_like(want.value, (tw_bson_value){TW_BSON_DOCUMENT, got.ptr, got.len})) {
                tw_buf out;
                tw_buf_init(&out, 1 << 16);
                tw_json_write(&out, got);
                fail_msg("%s: step %.*s, reply %zu is %.*s", path, (int)step.name.len,
                         step.name.ptr, at, (int)out.len, out.ptr);
            }
        }
        assert_int_equal(at, count);
    }
    end(&w);
}

static void test_request_examples_of_the_protocol_hold(void **state)
{
    (void)state;
    glob_t found;
    assert_int_equal(glob("tests/vectors/db_*.json", 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 5);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        run_example(found.gl_pathv[i], false);
        run_example(found.gl_pathv[i], true);
    }
    globfree(&found);
}

/* ---- rights ---- */

static rights *rights_made(world *w, const rights_rule *rules, size_t count, const char *claims)
{
    rights *out = NULL;
    const rights_table table = {.at = rules, .count = count, .default_database = "main"};
    tw_str why = {0};
    tw_bson given;
    assert_int_equal(tw_json_read(&w->arena, tw_str_of(claims), TW_DEPTH_CLIENT_MAX, &given, &why),
                     TW_OK);
    assert_int_equal(rights_new(&out, &table, given, TW_STR("roles")), TW_OK);
    return out;
}

static void test_request_every_action_has_a_verb(void **state)
{
    (void)state;
    static const struct {
        const char *action;
        unsigned verb;
    } wanted[] = {
        {"getByIds", RIGHTS_READ},
        {"insert", RIGHTS_INSERT},
        {"create", RIGHTS_INSERT},
        {"put", RIGHTS_INSERT},
        {"update", RIGHTS_UPDATE},
        {"remove", RIGHTS_REMOVE},
        {"batch", RIGHTS_PARTS},
        {"find", RIGHTS_READ},
        {"find_one", RIGHTS_READ},
        {"count", RIGHTS_READ},
        {"get_field", RIGHTS_READ},
        {"get_new_id", RIGHTS_OPEN},
        {"coerce_query", RIGHTS_READ},
        {"coerce_list", RIGHTS_OPEN},
        {"drop", RIGHTS_ADMIN},
        {"drop_database", RIGHTS_PARTS},
        {"schema", RIGHTS_PARTS},
        {"detail", RIGHTS_READ},
        {"sync", RIGHTS_PARTS},
        {"dispatch", RIGHTS_DISPATCH},
        {"aggregate", RIGHTS_READ},
        {"search", RIGHTS_SEARCH},
        {"stream_search", RIGHTS_SEARCH},
        {"keys", RIGHTS_SEARCH},
        {"facet", RIGHTS_SEARCH},
        {"stats", RIGHTS_SEARCH},
        {"histogram", RIGHTS_SEARCH},
        {"grouped_search", RIGHTS_SEARCH},
        {"fields", RIGHTS_SEARCH},
        {"commit", RIGHTS_ADMIN},
        {"reindex", RIGHTS_ADMIN},
        {"fix_ilm", RIGHTS_ADMIN},
        {"fix_replicas", RIGHTS_ADMIN},
        {"fix_shards", RIGHTS_ADMIN},
        {"wipe", RIGHTS_ADMIN},
        {"get", RIGHTS_READ},
        {"get_if_exists", RIGHTS_READ},
        {"require", RIGHTS_READ},
        {"exists", RIGHTS_READ},
        {"multiget", RIGHTS_READ},
        {"save", RIGHTS_INSERT},
        {"update", RIGHTS_UPDATE},
        {"delete", RIGHTS_REMOVE},
        {"get_bulk_plan", RIGHTS_READ},
        {"bulk", RIGHTS_PARTS},
        {"update_by_query", RIGHTS_UPDATE},
        {"delete_by_query", RIGHTS_REMOVE},
        {"archive", RIGHTS_REMOVE},
    };
    size_t count = 0;
    const char *action;
    unsigned verb;
    for (; request_verb_at(count, &action, &verb); count++) {
        assert_true(count < TW_COUNT(wanted));
        assert_string_equal(action, wanted[count].action);
        assert_int_equal(verb, wanted[count].verb);
    }
    assert_int_equal(count, TW_COUNT(wanted)); /* a new action is thought of here too */
}

/* Each door with each verb alone: it opens for those that it needs, and for no others. */
static void test_request_rights_open_the_doors_that_they_name(void **state)
{
    (void)state;
    static const struct {
        const char *asked;
        unsigned verbs; /* all of them are needed */
    } doors[] = {
        {"{\"action\":\"getByIds\",\"collection\":\"open\",\"ids\":[1]}", RIGHTS_READ},
        {"{\"action\":\"find\",\"collection\":\"open\"}", RIGHTS_READ},
        {"{\"action\":\"find_one\",\"collection\":\"open\"}", RIGHTS_READ},
        {"{\"action\":\"count\",\"collection\":\"open\"}", RIGHTS_READ},
        {"{\"action\":\"detail\",\"collection\":\"open\",\"id\":1}", RIGHTS_READ},
        {"{\"action\":\"get_field\",\"collection\":\"open\",\"id\":1,\"field\":\"a\"}",
         RIGHTS_READ},
        {"{\"action\":\"aggregate\",\"collection\":\"open\",\"pipeline\":[]}", RIGHTS_READ},
        {"{\"action\":\"get\",\"index\":\"open\",\"id\":1,\"deadline_ms\":1}", RIGHTS_READ},
        {"{\"action\":\"exists\",\"index\":\"open\",\"id\":1}", RIGHTS_READ},
        {"{\"action\":\"multiget\",\"index\":\"open\",\"ids\":[1]}", RIGHTS_READ},
        {"{\"action\":\"insert\",\"collection\":\"open\",\"doc\":{}}", RIGHTS_INSERT},
        {"{\"action\":\"put\",\"collection\":\"open\",\"doc\":{\"_id\":9}}",
         RIGHTS_INSERT | RIGHTS_UPDATE},
        {"{\"action\":\"save\",\"index\":\"open\",\"id\":9,\"doc\":{}}",
         RIGHTS_INSERT | RIGHTS_UPDATE},
        {"{\"action\":\"update\",\"collection\":\"open\",\"id\":1,\"fields\":{\"a\":2}}",
         RIGHTS_UPDATE},
        {"{\"action\":\"update\",\"collection\":\"open\",\"query\":{},\"fields\":{\"a\":2}}",
         RIGHTS_UPDATE | RIGHTS_READ},
        {"{\"action\":\"update\",\"index\":\"open\",\"id\":1,\"operations\":[[\"SET\",\"a\",1]]}",
         RIGHTS_UPDATE},
        {"{\"action\":\"remove\",\"collection\":\"open\",\"id\":8}", RIGHTS_REMOVE},
        {"{\"action\":\"remove\",\"collection\":\"open\",\"query\":{\"no\":1}}",
         RIGHTS_REMOVE | RIGHTS_READ},
        {"{\"action\":\"delete\",\"index\":\"open\",\"id\":8}", RIGHTS_REMOVE},
        {"{\"action\":\"dispatch\",\"collection\":\"open\",\"message\":1}", RIGHTS_DISPATCH},
        {"{\"action\":\"wipe\",\"index\":\"open\",\"dry_run\":true}", RIGHTS_ADMIN},
        {"{\"action\":\"batch\",\"ops\":[{\"op\":\"insert\",\"collection\":\"open\",\"doc\":{}}]}",
         RIGHTS_INSERT},
        {"{\"action\":\"batch\",\"ops\":[{\"op\":\"remove\",\"collection\":\"open\",\"id\":8}]}",
         RIGHTS_REMOVE},
        {"{\"action\":\"bulk\",\"index\":\"open\",\"bulk_plan\":[[\"delete\",8]]}", RIGHTS_REMOVE},
        {"{\"action\":\"bulk\",\"index\":\"open\",\"bulk_plan\":[[\"insert\",7,{}]]}",
         RIGHTS_INSERT},
        {"{\"action\":\"find\",\"collection\":\"other\"}", 1U << 30},
    };
    for (unsigned bit = 0; bit <= RIGHTS_VERBS; bit++) {
        world w = {0};
        tw_arena_init(&w.arena, 1 << 20);
        unsigned verbs = bit < RIGHTS_VERBS ? 1U << bit : (1U << RIGHTS_VERBS) - 1;
        const rights_rule rule = {.role = "r", .collection = "open", .verbs = verbs};
        rights *mine = rights_made(&w, &rule, 1, "{\"sub\":\"ada\",\"roles\":\"r\"}");
        tw_arena_fini(&w.arena);
        host_options options = plain;
        options.real_store = true;
        options.rights = mine;
        begin(&w, options);
        for (size_t i = 0; i < TW_COUNT(doors); i++) {
            run(&w, doors[i].asked);
            bool opens = strcmp(text_of(&w, "code"), "forbidden") != 0;
            if (opens != ((doors[i].verbs & verbs) == doors[i].verbs)) {
                fail_msg("%s with verbs %x: %s", doors[i].asked, verbs, text_of(&w, "message"));
            }
        }
        end(&w);
        rights_drop(&mine);
    }
}

/* No reply may hold what stands in records of others, or in hidden fields. */
static void assert_nothing_hidden(world *w, const char *asked)
{
    tw_buf text;
    tw_buf_init(&text, 64 << 20);
    for (size_t i = 0; i < w->replies->items.count; i++) {
        tw_json_write(&text, w->replies->items.at[i].doc);
    }
    tw_buf_add_byte(&text, '\0');
    assert_int_equal(text.err, TW_OK);
    if (strstr(text.ptr, "HIDDEN") != NULL) {
        fail_msg("%s: %.600s", asked, text.ptr);
    }
    tw_buf_fini(&text);
}

enum { OWNED = 60, ADAS = 20 };

/* Records of three owners, those of ada too with a field that her rights hide. */
static void fill_owned(world *w)
{
    static const char *const owners[] = {"ada", "bob", "eve"};
    for (int i = 0; i < OWNED; i++) {
        const char *mark = i % 3 == 0 ? "mine" : "HIDDEN";
        run(w, tw_arena_format(&w->arena,
                               "{\"action\":\"put\",\"collection\":\"open\",\"doc\":{\"_id\":%d,"
                               "\"owner\":\"%s\",\"mark\":\"%s\",\"n\":%d,\"secret\":\"HIDDEN%d\","
                               "\"deep\":{\"secret\":\"HIDDEN\",\"x\":%d}}}",
                               i, owners[i % 3], mark, i % 7, i, i));
        assert_string_equal(text_of(w, "type"), "");
    }
}

/* What ada asks, and what she is told. */
static const struct {
    const char *asked, *code; /* code "": it is answered */
    int64_t count;            /* -1: not looked at */
} doors_of_ada[] = {
    {"{\"action\":\"find\",\"collection\":\"open\"}", "", ADAS},
    {"{\"action\":\"find\",\"collection\":\"open\",\"query\":{\"owner\":\"bob\"}}", "", 0},
    {"{\"action\":\"find\",\"collection\":\"open\",\"query\":{\"$or\":[{\"owner\":\"bob\"},{"
     "\"n\":{\"$gte\":0}}]}}",
     "", ADAS},
    {"{\"action\":\"find\",\"collection\":\"open\",\"sort\":{\"n\":-1},\"limit\":5}", "", 5},
    {"{\"action\":\"find\",\"collection\":\"open\",\"fields\":[\"secret\",\"deep\"]}", "", ADAS},
    {"{\"action\":\"find\",\"collection\":\"open\",\"query\":{\"secret\":{\"$exists\":true}}}",
     "forbidden", -1},
    {"{\"action\":\"find\",\"collection\":\"open\",\"query\":{\"deep\":{\"$gt\":{}}}}", "forbidden",
     -1},
    {"{\"action\":\"find\",\"collection\":\"open\",\"sort\":{\"secret\":1}}", "forbidden", -1},
    {"{\"action\":\"find_one\",\"collection\":\"open\",\"query\":{\"owner\":\"eve\"}}", "", 0},
    {"{\"action\":\"count\",\"collection\":\"open\"}", "", ADAS},
    {"{\"action\":\"count\",\"collection\":\"open\",\"query\":{\"owner\":\"bob\"}}", "", 0},
    {"{\"action\":\"count\",\"collection\":\"open\",\"query\":{\"secret\":\"HIDDEN0\"}}",
     "forbidden", -1},
    {"{\"action\":\"getByIds\",\"collection\":\"open\",\"ids\":[0,1,2,3]}", "", 2},
    {"{\"action\":\"getByIds\",\"collection\":\"open\",\"ids\":[1,2]}", "not_found", -1},
    {"{\"action\":\"detail\",\"collection\":\"open\",\"id\":0}", "", -1},
    {"{\"action\":\"detail\",\"collection\":\"open\",\"id\":1}", "not_found", -1},
    {"{\"action\":\"get_field\",\"collection\":\"open\",\"id\":0,\"field\":\"secret\"}", "", -1},
    {"{\"action\":\"get_field\",\"collection\":\"open\",\"id\":0,\"field\":\"deep.secret\"}", "",
     -1},
    {"{\"action\":\"get_field\",\"collection\":\"open\",\"query\":{\"owner\":\"bob\"},"
     "\"field\":\"mark\"}",
     "not_found", -1},
    {"{\"action\":\"aggregate\",\"collection\":\"open\",\"pipeline\":[]}", "", ADAS},
    {"{\"action\":\"aggregate\",\"collection\":\"open\",\"pipeline\":[{\"$group\":{\"_id\":\"$"
     "owner\","
     "\"s\":{\"$push\":\"$secret\"}}}]}",
     "", 1},
    {"{\"action\":\"aggregate\",\"collection\":\"open\",\"pipeline\":[{\"$match\":{\"secret\":"
     "\"HIDDEN0\"}}]}",
     "forbidden", -1},
    {"{\"action\":\"get\",\"index\":\"open\",\"id\":0}", "", -1},
    {"{\"action\":\"get_if_exists\",\"index\":\"open\",\"id\":1}", "not_found", -1},
    {"{\"action\":\"multiget\",\"index\":\"open\",\"ids\":[0,1,2,3]}", "", -1},
    {"{\"action\":\"update\",\"collection\":\"open\",\"id\":1,\"fields\":{\"x\":1}}", "not_found",
     -1},
    {"{\"action\":\"update\",\"collection\":\"open\",\"id\":1,\"fields\":{\"x\":1},\"if_"
     "version\":7}",
     "not_found", -1},
    {"{\"action\":\"update\",\"collection\":\"open\",\"id\":0,\"fields\":{\"x\":1}}", "", 1},
    {"{\"action\":\"update\",\"collection\":\"open\",\"id\":0,\"fields\":{\"owner\":\"bob\"}}",
     "forbidden", -1},
    {"{\"action\":\"update\",\"collection\":\"open\",\"id\":0,\"update\":{\"$rename\":{\"n\":"
     "\"secret\"}}}",
     "forbidden", -1},
    {"{\"action\":\"update\",\"collection\":\"open\",\"query\":{},\"fields\":{\"y\":1}}", "", ADAS},
    {"{\"action\":\"update\",\"collection\":\"open\",\"query\":{\"secret\":\"HIDDEN0\"},"
     "\"fields\":{\"y\":1}}",
     "forbidden", -1},
    {"{\"action\":\"insert\",\"collection\":\"open\",\"doc\":{\"_id\":100,\"owner\":\"bob\"}}",
     "forbidden", -1},
    {"{\"action\":\"insert\",\"collection\":\"open\",\"doc\":{\"_id\":100,\"owner\":\"ada\","
     "\"secret\":1}}",
     "forbidden", -1},
    {"{\"action\":\"insert\",\"collection\":\"open\",\"doc\":{\"_id\":1,\"owner\":\"ada\"}}",
     "conflict", -1},
    {"{\"action\":\"insert\",\"collection\":\"open\",\"doc\":{\"_id\":100,\"owner\":\"ada\"}}", "",
     -1},
    {"{\"action\":\"put\",\"collection\":\"open\",\"doc\":{\"_id\":0,\"owner\":\"ada\"}}",
     "forbidden", -1},
    {"{\"action\":\"batch\",\"ops\":[{\"op\":\"update\",\"collection\":\"open\",\"id\":1,"
     "\"fields\":{\"x\":1}}]}",
     "", 0},
    {"{\"action\":\"bulk\",\"index\":\"open\",\"bulk_plan\":[[\"update\",1,{\"x\":1}],["
     "\"delete\",2]]}",
     "", -1},
    {"{\"action\":\"remove\",\"collection\":\"open\",\"id\":1}", "not_found", -1},
    {"{\"action\":\"remove\",\"collection\":\"open\",\"ids\":[1,2,3]}", "", 1},
    {"{\"action\":\"remove\",\"collection\":\"open\",\"query\":{}}", "", ADAS},
    {"{\"action\":\"drop\",\"collection\":\"open\"}", "forbidden", -1},
    {"{\"action\":\"wipe\",\"index\":\"open\"}", "forbidden", -1},
};

static void test_request_rights_keep_rows_and_fields_out_of_every_reply(void **state)
{
    (void)state;
    static const char *const hidden[] = {"secret", "deep.secret"};
    const rights_rule all = {.role = "root", .collection = "*", .verbs = (1U << RIGHTS_VERBS) - 1};
    rights_rule own = {.role = "own",
                       .collection = "open",
                       .verbs = (1U << RIGHTS_VERBS) - 1 - RIGHTS_ADMIN,
                       .hidden = hidden,
                       .hidden_count = 2};
    world w = {0};
    tw_arena before; /* rules are borrowed: they outlive the world */
    tw_arena_init(&w.arena, 1 << 20);
    own.filter = json(&w, "{\"owner\":\"$claims.sub\"}");
    rights *root = rights_made(&w, &all, 1, "{\"sub\":\"root\",\"roles\":\"root\"}");
    rights *ada = rights_made(&w, &own, 1, "{\"sub\":\"ada\",\"roles\":\"own\"}");
    before = w.arena;
    rights *used[] = {root, ada};
    host_options options = plain;
    options.real_store = true;
    options.rights_of_tags = used;
    begin(&w, options);
    fill_owned(&w);
    w.as = 1;
    for (size_t i = 0; i < TW_COUNT(doors_of_ada); i++) {
        run(&w, doors_of_ada[i].asked);
        if (strcmp(text_of(&w, "code"), doors_of_ada[i].code) != 0) {
            fail_msg("%s: '%s' %s", doors_of_ada[i].asked, text_of(&w, "code"),
                     text_of(&w, "message"));
        }
        assert_nothing_hidden(&w, doors_of_ada[i].asked);
        if (doors_of_ada[i].count >= 0 && number_of(&w, "count") != doors_of_ada[i].count) {
            fail_msg("%s: count %lld", doors_of_ada[i].asked, (long long)number_of(&w, "count"));
        }
        if (strcmp(doors_of_ada[i].code, "conflict") == 0) {
            assert_int_equal(number_of(&w, "version"), -1); /* of another's record */
        }
    }
    w.as = 0; /* all that is not ada's is as it was */
    run(&w, "{\"action\":\"count\",\"collection\":\"open\",\"query\":{\"_version\":1}}");
    assert_int_equal(number_of(&w, "count"), OWNED - ADAS);
    end(&w);
    tw_arena_fini(&before);
    rights_drop(&root);
    rights_drop(&ada);
}

static void test_request_opid_is_its_owners_own(void **state)
{
    (void)state;
    const rights_rule all = {.role = "*", .collection = "*", .verbs = (1U << RIGHTS_VERBS) - 1};
    world w = {0};
    tw_arena_init(&w.arena, 1 << 20);
    rights *ada = rights_made(&w, &all, 1, "{\"sub\":\"ada\"}");
    rights *bob = rights_made(&w, &all, 1, "{\"sub\":\"bob\"}");
    tw_arena_fini(&w.arena);
    rights *used[] = {ada, bob};
    host_options options = plain;
    options.real_store = true;
    options.rights_of_tags = used;
    begin(&w, options);
    const char *insert =
        "{\"action\":\"insert\",\"collection\":\"open\",\"opid\":\"one\",\"doc\":{\"a\":1}}";
    run(&w, insert);
    run(&w, insert);
    w.as = 1;
    run(&w, insert); /* not told ada's outcome: an insert of its own */
    run(&w, "{\"action\":\"count\",\"collection\":\"open\"}");
    assert_int_equal(number_of(&w, "count"), 2);
    end(&w);
    rights_drop(&ada);
    rights_drop(&bob);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_wrong_fields_refused_by_name),
        cmocka_unit_test(test_request_wrong_wishes_refused_with_a_hint),
        cmocka_unit_test(test_request_any_bytes_of_a_valid_document_answered),
        cmocka_unit_test(test_request_slow_asker_gets_each_document_once_in_order),
        cmocka_unit_test(test_request_forgotten_gives_no_reply_and_ends),
        cmocka_unit_test(test_request_lost_answer_of_a_write_has_one_effect),
        cmocka_unit_test(test_request_reader_away_next_one_asked),
        cmocka_unit_test(test_request_change_by_query_changes_each_match_once),
        cmocka_unit_test(test_request_trusted_engine_writes_what_clients_may_not),
        cmocka_unit_test(test_request_refused_write_names_the_rule_and_the_operation),
        cmocka_unit_test(test_request_beyond_running_max_is_busy),
        cmocka_unit_test(test_request_examples_of_the_protocol_hold),
        cmocka_unit_test(test_request_every_action_has_a_verb),
        cmocka_unit_test(test_request_rights_open_the_doors_that_they_name),
        cmocka_unit_test(test_request_rights_keep_rows_and_fields_out_of_every_reply),
        cmocka_unit_test(test_request_opid_is_its_owners_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
