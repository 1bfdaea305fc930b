/* change_event_test.c - events of a change stream, as a server sends them and as none should. */
#include "broker/change_event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/json.h"
#include "protocol/messages.h"

#include "broker/position.h"

enum { SECONDS = 1795822855, BYTES_MAX = 1 << 20 };

static tw_arena arena;

static int set_up(void **state)
{
    (void)state;
    tw_arena_init(&arena, BYTES_MAX);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tw_arena_fini(&arena);
    return 0;
}

static tw_bson read_json(const char *json)
{
    tw_bson doc;
    assert_int_equal(tw_json_read(&arena, tw_str_of(json), TW_DEPTH_CLIENT_MAX, &doc, NULL), TW_OK);
    return doc;
}

#define EVENT(type, increment, rest)                                                               \
    "{\"_id\":{\"_data\":\"82\"},\"operationType\":\"" type                                        \
    "\",\"clusterTime\":{\"$timestamp\":{\"t\":1795822855,\"i\":" #increment "}}," rest "}"
#define NS  "\"ns\":{\"db\":\"main\",\"coll\":\"people\"}"
#define KEY ",\"documentKey\":{\"_id\":7}"

static change_event read_event(const char *json)
{
    change_event event = {0};
    broker_why why = {0};
    tw_err err = change_event_read(read_json(json), &event, &why);
    if (err != TW_OK) {
        print_error("%s\n", why.text);
    }
    assert_int_equal(err, TW_OK);
    return event;
}

static void test_each_type_has_its_kind(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        change_kind kind;
    } cases[] = {
        {EVENT("insert", 1, NS KEY ",\"fullDocument\":{\"_id\":7}"), CHANGE_PUT},
        {EVENT("replace", 1, NS KEY ",\"fullDocument\":{\"_id\":7}"), CHANGE_PUT},
        {EVENT("update", 1, NS KEY ",\"fullDocument\":{\"_id\":7}"), CHANGE_PUT},
        {EVENT("update", 1, NS KEY ",\"fullDocument\":null"), CHANGE_LOOK_UP},
        {EVENT("update", 1, NS KEY), CHANGE_LOOK_UP},
        {EVENT("insert", 1, NS KEY), CHANGE_LOOK_UP},
        {EVENT("delete", 1, NS KEY), CHANGE_DELETE},
        {EVENT("drop", 1, NS), CHANGE_DROP},
        {EVENT("rename", 1, NS ",\"to\":{\"db\":\"main\",\"coll\":\"folk\"}"), CHANGE_RENAME},
        {EVENT("dropDatabase", 1, "\"ns\":{\"db\":\"main\"}"), CHANGE_DROP_DB},
        {EVENT("invalidate", 1, "\"x\":1"), CHANGE_INVALIDATE},
        {EVENT("createIndexes", 1, NS), CHANGE_NOTHING},
        {EVENT("a type of tomorrow", 1, "\"x\":1"), CHANGE_NOTHING},
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        change_event event = read_event(cases[i].json);
        assert_int_equal(event.kind, cases[i].kind);
        assert_int_equal(event.seqno, position_of_cluster_time(SECONDS, 1));
        assert_int_equal(event.doc.len > 0, event.kind == CHANGE_PUT);
        assert_true(event.token.len > 0);
    }
}

static void test_update_tells_what_it_set_unless_that_depends_on_the_document(void **state)
{
    (void)state;
    change_event event =
        read_event(EVENT("update", 1,
                         NS KEY ",\"updateDescription\":{\"updatedFields\":{\"a\":1,\"b.c\":2},"
                                "\"removedFields\":[\"d\"],\"truncatedArrays\":[]}"));
    assert_int_equal(event.kind, CHANGE_LOOK_UP);
    assert_int_equal(tw_bson_count(event.set), 2);
    assert_int_equal(tw_bson_count(event.removed), 1);
    event = read_event(EVENT("update", 1,
                             NS KEY ",\"updateDescription\":{\"updatedFields\":{\"a\":1},"
                                    "\"truncatedArrays\":[{\"field\":\"list\",\"newSize\":3}]}"));
    assert_int_equal(event.kind, CHANGE_LOOK_UP);
    assert_int_equal(event.set.len, 0);
    assert_int_equal(event.removed.len, 0);
}

static void test_fields_are_views_of_the_event(void **state)
{
    (void)state;
    change_event event =
        read_event(EVENT("rename", 9,
                         NS ",\"to\":{\"db\":\"b\",\"coll\":\"folk\"},\"txnNumber\":3,\"wallTime\":"
                            "{\"$date\":\"2026-11-27T00:00:00Z\"}"));
    assert_true(tw_str_equal(event.db, TW_STR("main")));
    assert_true(tw_str_equal(event.coll, TW_STR("people")));
    assert_true(tw_str_equal(event.to_db, TW_STR("b")));
    assert_true(tw_str_equal(event.to_coll, TW_STR("folk")));
    assert_true(event.in_transaction);
    assert_int_equal(event.wall_ms, 1795737600000);
    event = read_event(EVENT("delete", 9, NS KEY));
    int64_t id;
    assert_true(tw_bson_value_i64(event.id, &id));
    assert_int_equal(id, 7);
    assert_false(event.in_transaction);
    assert_int_equal(event.wall_ms, 0);
    event = read_event(EVENT("dropDatabase", 9, "\"ns\":{\"db\":\"main\",\"coll\":\"$cmd\"}"));
    assert_int_equal(event.coll.len, 0); /* of all of it */
}

static void test_what_is_no_event_is_refused_with_a_cause(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "{}",
        "{\"_id\":{\"_data\":\"82\"}}",
        "{\"operationType\":\"insert\"}",
        "{\"_id\":{\"_data\":\"82\"},\"operationType\":\"insert\"}",
        "{\"_id\":1,\"operationType\":\"insert\",\"clusterTime\":{\"$timestamp\":{\"t\":1795822855,"
        "\"i\":1}}}",
        "{\"_id\":{\"a\":1},\"operationType\":\"drop\",\"clusterTime\":{\"$timestamp\":{\"t\":"
        "1577836799,\"i\":1}}," NS "}",
        "{\"_id\":{\"a\":1},\"operationType\":\"drop\",\"clusterTime\":5," NS "}",
        EVENT("insert", 1, NS),
        EVENT("insert", 1, "\"ns\":{\"db\":\"main\"}" KEY),
        EVENT("drop", 1, "\"ns\":{\"coll\":\"people\"}"),
        EVENT("rename", 1, NS),
        EVENT("dropDatabase", 1, "\"ns\":5"),
    };
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        change_event event = {.seqno = 77};
        broker_why why = {0};
        assert_int_equal(change_event_read(read_json(wrong[i]), &event, &why), TW_E_BAD_DOCUMENT);
        assert_true(why.text[0] != '\0');
        assert_int_equal(event.seqno, 77); /* untouched */
    }
}

static void test_position_grows_with_the_clock_and_fits_53_bits(void **state)
{
    (void)state;
    static const struct {
        uint32_t seconds, increment;
    } clock[] = {{1577836800, 1},  {1577836800, 2},  {1577836801, 0},         {SECONDS, 1},
                 {SECONDS, 10266}, {SECONDS + 1, 1}, {UINT32_MAX, UINT32_MAX}};
    uint64_t last = 0;
    for (size_t i = 0; i < TW_COUNT(clock); i++) {
        uint64_t seqno = position_of_cluster_time(clock[i].seconds, clock[i].increment);
        assert_true(seqno > last && seqno <= TW_SEQNO_MAX);
        last = seqno;
    }
}

static void test_token_of_a_real_server_carries_its_position(void **state)
{
    (void)state;
    tw_bson token = read_json("{\"_data\":\"82635019A0000000012B0229296E04\"}");
    assert_int_equal(change_token_seqno(token), position_of_cluster_time(0x635019a0, 1));
    token = read_json("{\"_data\":\"82635019a00000000f\"}");
    assert_int_equal(change_token_seqno(token), position_of_cluster_time(0x635019a0, 15));
    static const char *const others[] = {
        "{}",
        "{\"_data\":5}",
        "{\"_data\":\"82635019A00000000\"}",
        "{\"_data\":\"82635019G000000001\"}",
        "{\"_data\":\"3700000010730002000000117400090000\"}",
    };
    for (size_t i = 0; i < TW_COUNT(others); i++) {
        assert_int_equal(change_token_seqno(read_json(others[i])), 0);
    }
}

static void test_version_is_the_field_or_the_position(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int64_t version;
    } cases[] = {{"{\"_version\":3}", 3},
                 {"{\"_version\":3.0}", 3},
                 {"{\"_version\":0}", 50},
                 {"{\"_version\":-1}", 50},
                 {"{}", 50},
                 {"{\"_version\":\"3\"}", 50},
                 {"{\"_version\":1.5}", 50},
                 {"{\"_version\":null}", 50}};
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        assert_int_equal(change_version(read_json(cases[i].json), TW_STR("_version"), 50),
                         cases[i].version);
    }
}

static void test_group_ends_where_the_position_changes(void **state)
{
    (void)state;
    change_event events[6] = {{.seqno = 1}, {.seqno = 2}, {.seqno = 2},
                              {.seqno = 2}, {.seqno = 3}, {.seqno = 3}};
    assert_int_equal(change_group_end(events, 6, 0), 1);
    assert_int_equal(change_group_end(events, 6, 1), 4);
    assert_int_equal(change_group_end(events, 6, 4), 6);
    assert_int_equal(change_group_end(events, 1, 0), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_each_type_has_its_kind),
        T(test_fields_are_views_of_the_event),
        T(test_update_tells_what_it_set_unless_that_depends_on_the_document),
        T(test_what_is_no_event_is_refused_with_a_cause),
        T(test_position_grows_with_the_clock_and_fits_53_bits),
        T(test_token_of_a_real_server_carries_its_position),
        T(test_version_is_the_field_or_the_position),
        T(test_group_ends_where_the_position_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
