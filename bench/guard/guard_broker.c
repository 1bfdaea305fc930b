/* guard_broker.c - from a row to what is told: matching, rendering, publishing. */
#include "protocol/codec.h"
#include "protocol/limits.h"

#include "broker/topic_set.h"

#include "bench/guard/guard.h"

enum { TOPICS = 1000, ROWS = 32 };

static const catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};
static topic_set *set;
static topic_query *asked;
static tw_item_log_row rows[ROWS];
static tw_buf out;

/* Half of the rows have an owner that topics ask for; kind and views then decide. */
static void set_up_topics(void)
{
    tw_buf_init(&out, 1 << 24);
    guard_must(topic_set_new(&set, &known, TW_TOPICS_MAX) == TW_OK, "the topics");
    for (unsigned i = 0; i < TOPICS; i++) {
        uint64_t topic;
        const char *subscribe =
            tw_arena_format(&guard_kept,
                            "{\"offers\":{\"filter\":{\"owner\":\"user%u\",\"kind\":\"k%u\","
                            "\"views\":{\"$gte\":%u}}}}",
                            i / 2, i % 2, 100000 + i);
        guard_must(topic_set_open(set, 1, guard_query(&known, subscribe), &topic, NULL) == TW_OK,
                   "opening a topic");
    }
    for (unsigned i = 0; i < ROWS; i++) {
        rows[i] = guard_row(i + 1, i * 31);
    }
}

static void match(void)
{
    topic_set_stats before = topic_set_figures(set);
    for (unsigned i = 0; i < ROWS; i++) {
        topic_set_events events = {0};
        tw_arena_reset(&guard_temporary);
        guard_must(topic_set_apply(set, &guard_temporary, &rows[i], &events) == TW_OK, "matching");
    }
    guard_must(topic_set_figures(set).tested > before.tested, "testing queries");
}

static void set_up_publish(void)
{
    set_up_topics();
    uint64_t topic;
    static const char *const asks[] = {
        "{\"offers\":\"*\"}",
        "{\"offers\":{\"filter\":{\"active\":true}}}",
        "{\"offers\":{\"filter\":{\"price\":{\"$lt\":2000}},\"fields\":[\"title\",\"price\"]}}",
    };
    for (size_t i = 0; i < TW_COUNT(asks); i++) {
        guard_must(topic_set_open(set, 1, guard_query(&known, asks[i]), &topic, NULL) == TW_OK,
                   "opening a topic");
    }
}

/* As the subscription manager does: a batch of rows becomes an encoded topic_batch. */
static void publish(void)
{
    topic_set_events events = {0};
    tw_position at = {1, ROWS};
    tw_arena_reset(&guard_temporary);
    for (unsigned i = 0; i < ROWS; i++) {
        guard_must(topic_set_apply(set, &guard_temporary, &rows[i], &events) == TW_OK, "matching");
    }
    guard_must(events.count >= 2 * ROWS, "telling");
    tw_msg_topic_batch batch = {0, ROWS, {&at, 1}, {events.at, events.count}};
    tw_buf_clear(&out);
    tw_message_encode(&out, TW_MSG_topic_batch, 0, &batch);
    guard_must(out.err == TW_OK, "encoding");
}

static void set_up_render(void)
{
    set_up_topics();
    guard_must(topic_query_compile(&known, guard_query(&known, "{\"offers\":\"*\"}"), &asked,
                                   NULL) == TW_OK,
               "compiling");
}

static void render(void)
{
    tw_buf_clear(&out);
    for (unsigned i = 0; i < ROWS; i++) {
        const topic_change change = {.at = {1, rows[i].seqno},
                                     .flags = rows[i].flags,
                                     .key = rows[i].key,
                                     .version = rows[i].version,
                                     .doc = rows[i].doc};
        topic_query_render(&known, &asked->parts[0], TW_MEANS_PUT, &change, &out);
    }
    guard_must(out.err == TW_OK && out.len > ROWS * 100, "rendering");
}

const guard_path guard_broker_paths[] = {
    {"match", set_up_topics, match, NULL},
    {"publish", set_up_publish, publish, NULL},
    {"render", set_up_render, render, NULL},
    {0},
};
