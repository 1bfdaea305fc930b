/* mongo_link_test.c - what needs no server: URIs, the meaning of errors, records, expected
 * writes. */
#include "actors/mongo/mongo_link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/bson_text.h"

static int setup(void **state)
{
    (void)state;
    mongo_link_library_start();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mongo_link_library_end();
    return 0;
}

static void test_mongo_link_bad_uris_are_refused_without_their_password(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "localhost:27017",
        "http://localhost",
        "mongodb://",
        "mongodb://user:s3cret%zz@host/",
        "mongodb://host:port/",
        "mongodb://host/?w=0",
    };
    for (size_t i = 0; i < TW_COUNT(bad); i++) {
        char why[TW_ERROR_TEXT_MAX] = "";
        if (mongo_link_check(bad[i], why, sizeof why) != TW_E_BAD_CONFIG) {
            fail_msg("\"%s\" was taken", bad[i]);
        }
        assert_true(strlen(why) > 10);
        assert_null(strstr(why, "s3cret"));
    }
    static const char *const good[] = {
        "mongodb://localhost",
        "mongodb://a:1,b:2/crm?replicaSet=rs0&tls=true",
        "mongodb://user:p%40ss@host/?authSource=admin&w=2",
        "mongodb+srv://cluster.example.org/",
    };
    for (size_t i = 0; i < TW_COUNT(good); i++) {
        char why[TW_ERROR_TEXT_MAX] = "";
        assert_int_equal(mongo_link_check(good[i], why, sizeof why), TW_OK);
    }
}

static void test_mongo_link_names_its_hosts_and_connects_to_nothing(void **state)
{
    (void)state;
    mongo_link *link = NULL;
    char why[TW_ERROR_TEXT_MAX] = "";
    assert_int_equal(
        mongo_link_new(&link, "mongodb://u:p@192.0.2.1:9,192.0.2.2:8/x", why, sizeof why), TW_OK);
    assert_string_equal(mongo_link_hosts(link), "192.0.2.1:9,192.0.2.2:8");
    mongoc_client_t *client = mongo_link_take(link, MONGO_LINK_WRITES);
    assert_non_null(client);
    const mongoc_write_concern_t *concern = mongoc_client_get_write_concern(client);
    assert_true(mongoc_write_concern_get_wmajority(concern));
    assert_true(mongoc_write_concern_get_journal(concern));
    mongo_link_give_back(link, MONGO_LINK_WRITES, &client);
    assert_null(client);
    mongo_link_free(&link);
    assert_null(link);
    assert_int_equal(mongo_link_new(&link, "mongodb://h/?w=0", why, sizeof why), TW_E_BAD_CONFIG);
    assert_null(link);
}

static void test_mongo_link_errors_have_a_meaning(void **state)
{
    (void)state;
    static const struct {
        uint32_t domain, code;
        tw_err err;
        bool doubtful;
    } samples[] = {
        {MONGOC_ERROR_SERVER_SELECTION, 13053, TW_E_UNAVAILABLE, false},
        {MONGOC_ERROR_STREAM, 4, TW_E_UNAVAILABLE, true},
        {MONGOC_ERROR_SERVER, 10107, TW_E_UNAVAILABLE, false},
        {MONGOC_ERROR_SERVER, 189, TW_E_UNAVAILABLE, true},
        {MONGOC_ERROR_SERVER, 50, TW_E_TOO_COSTLY, true},
        {MONGOC_ERROR_SERVER, 13, TW_E_FORBIDDEN, false},
        {MONGOC_ERROR_SERVER, 11000, TW_E_CONFLICT, false},
        {MONGOC_ERROR_SERVER, 121, TW_E_BAD_DOCUMENT, false},
        {MONGOC_ERROR_SERVER, 112, TW_E_BUSY, false},
        {MONGOC_ERROR_SERVER, 999999, TW_E_INTERNAL, false},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        char text[TW_ERROR_TEXT_MAX];
        bson_error_t error = {0};
        bson_set_error(&error, samples[i].domain, samples[i].code, "cause %zu", i);
        assert_int_equal(mongo_link_error(&error, NULL, text, sizeof text), samples[i].err);
        assert_non_null(strstr(text, "MongoDB: cause"));
        assert_int_equal(mongo_link_is_doubtful(&error), samples[i].doubtful);
    }
    bson_error_t unknown = {.domain = MONGOC_ERROR_SERVER, .code = 999999};
    bson_t *reply = BCON_NEW("errorLabels", "[", BCON_UTF8("RetryableWriteError"), "]");
    char text[TW_ERROR_TEXT_MAX];
    assert_int_equal(mongo_link_error(&unknown, reply, text, sizeof text), TW_E_UNAVAILABLE);
    bson_destroy(reply);
}

static void test_mongo_link_away_is_tried_now_and_then(void **state)
{
    (void)state;
    mongo_link_health health = {0};
    char text[TW_ERROR_TEXT_MAX] = "";
    assert_false(mongo_link_is_down(&health, text));
    mongo_link_tried(&health, "test", TW_E_UNAVAILABLE, "no server");
    assert_true(mongo_link_is_down(&health, text));
    assert_string_equal(text, "no server");
    assert_int_equal(health.failures, 1);
    mongo_link_tried(&health, "test", TW_E_CONFLICT, "");
    assert_false(mongo_link_is_down(&health, text));
    assert_string_equal(health.why, "");
}

static void test_mongo_link_record_leaves_out_the_copy_of_the_key(void **state)
{
    (void)state;
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    catalog_collection rules = catalog_undeclared;
    static const struct {
        const char *key_field, *stored, *doc;
        int64_t version;
    } samples[] = {
        {"_id", "{'_id':1,'a':2,'_version':5}", "{'_id':1,'a':2,'_version':5}", 5},
        {"_id", "{'_id':1}", "{'_id':1}", 0},
        {"_id", "{'_id':1,'_version':'x'}", "{'_id':1,'_version':'x'}", 0},
        {"uuid", "{'_id':'u','uuid':'u','_version':2}", "{'uuid':'u','_version':2}", 2},
        {"uuid", "{'_id':'u','uuid':'other'}", "{'_id':'u','uuid':'other'}", 0},
        {"uuid", "{'_id':'u'}", "{'_id':'u'}", 0},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        tw_key key;
        int64_t version;
        tw_bson doc;
        rules.key = samples[i].key_field;
        assert_int_equal(mongo_link_record(&rules, &arena, bson_text(&arena, samples[i].stored),
                                           &key, &version, &doc),
                         TW_OK);
        assert_int_equal(version, samples[i].version);
        tw_bson wanted = bson_text(&arena, samples[i].doc);
        assert_string_equal(bson_shown(&arena, doc), bson_shown(&arena, wanted));
    }
    tw_key key;
    int64_t version;
    tw_bson doc;
    assert_int_equal(mongo_link_record(&catalog_undeclared, &arena,
                                       bson_text(&arena, "{'_id':[1]}"), &key, &version, &doc),
                     TW_E_BAD_DOCUMENT);
    tw_arena_fini(&arena);
}

static void test_mongo_link_reserved_databases(void **state)
{
    (void)state;
    assert_true(mongo_link_is_reserved(TW_STR("tidewire")));
    assert_true(mongo_link_is_reserved(TW_STR("admin")));
    assert_true(mongo_link_is_reserved(TW_STR("config")));
    assert_true(mongo_link_is_reserved(TW_STR("local")));
    assert_false(mongo_link_is_reserved(TW_STR("main")));
    assert_false(mongo_link_is_reserved(TW_STR("tidewire2")));
}

static void test_mongo_link_expected_writes_are_taken_once(void **state)
{
    (void)state;
    mongo_link *link = NULL;
    char why[TW_ERROR_TEXT_MAX], out[TW_OPID_MAX];
    static const uint8_t bytes[] = {TW_BSON_STRING, 'k'};
    const tw_key key = {bytes, sizeof bytes};
    const tw_str db = TW_STR("d"), coll = TW_STR("c");
    assert_int_equal(mongo_link_new(&link, "mongodb://192.0.2.1", why, sizeof why), TW_OK);
    assert_int_equal(mongo_link_expected(link, db, coll, key, 2, out), 0);
    mongo_link_expect(link, db, coll, key, 2, TW_STR("r1"));
    mongo_link_expect(link, db, coll, key, 0, TW_STR("r2"));
    mongo_link_expect(link, db, coll, key, 3, TW_STR(""));
    assert_int_equal(mongo_link_expected(link, db, coll, key, 1, out), 0);
    assert_int_equal(mongo_link_expected(link, db, coll, key, 3, out), 0);
    assert_int_equal(mongo_link_expected(link, db, TW_STR("e"), key, 2, out), 0);
    assert_int_equal(mongo_link_expected(link, db, coll, key, 2, out), 2);
    assert_memory_equal(out, "r1", 2);
    assert_int_equal(mongo_link_expected(link, db, coll, key, 2, out), 0);
    mongo_link_expect_no_more(link, db, coll, key, 0);
    assert_int_equal(mongo_link_expected(link, db, coll, key, 0, out), 0);
    for (int64_t i = 1; i <= 2 * MONGO_LINK_EXPECTED_MAX; i++) { /* the oldest make room */
        mongo_link_expect(link, db, coll, key, i, TW_STR("r"));
        assert_int_equal(mongo_link_expected(link, db, coll, key, i, out), 1);
        mongo_link_expect(link, db, coll, key, i, TW_STR("r"));
    }
    mongo_link_free(&link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mongo_link_bad_uris_are_refused_without_their_password),
        cmocka_unit_test(test_mongo_link_names_its_hosts_and_connects_to_nothing),
        cmocka_unit_test(test_mongo_link_errors_have_a_meaning),
        cmocka_unit_test(test_mongo_link_away_is_tried_now_and_then),
        cmocka_unit_test(test_mongo_link_record_leaves_out_the_copy_of_the_key),
        cmocka_unit_test(test_mongo_link_reserved_databases),
        cmocka_unit_test(test_mongo_link_expected_writes_are_taken_once),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
