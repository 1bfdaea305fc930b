/* config_test.c - the configuration: what wins, what is refused and with which words. */
#include "cli/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "protocol/json.h"
#include "protocol/limits.h"

enum { WHY_MAX = 65536, OUT_MAX = 1 << 20 };

static char file[] = "/tmp/tidewire-config-XXXXXX";

struct fixture {
    config config;
    tw_buf why;
    tw_buf out;
    tw_err err;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    tw_buf_init(&f->why, WHY_MAX);
    tw_buf_init(&f->out, OUT_MAX);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    config_free(&f->config);
    tw_buf_fini(&f->why);
    tw_buf_fini(&f->out);
    free(f);
    return 0;
}

static tw_err load_with(struct fixture *f, const char *yaml, const char *const *flags)
{
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    fputs(yaml, out);
    fclose(out);
    config_free(&f->config);
    tw_buf_clear(&f->why);
    f->err = config_load(&f->config, file, flags, &f->why);
    tw_buf_add_byte(&f->why, '\0');
    return f->err;
}

static tw_err load(struct fixture *f, const char *yaml)
{
    return load_with(f, yaml, NULL);
}

/* The complaint begins with the file's name, then this. */
static void assert_refused(struct fixture *f, const char *yaml, const char *words)
{
    assert_int_equal(load(f, yaml), TW_E_BAD_CONFIG);
    assert_memory_equal(f->why.ptr, file, strlen(file));
    assert_string_equal(f->why.ptr + strlen(file), words);
    assert_null(f->config.memory);
}

static void test_config_none_gives_defaults(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(config_load(&f->config, NULL, NULL, &f->why), TW_OK);
    assert_string_equal(f->config.option.listen, "127.0.0.1:8090");
    assert_int_equal(f->config.option.readers, 2);
    assert_false(f->config.option.memory);
    assert_int_equal(f->config.option.log_bytes, 4294967296);
    assert_int_equal(f->config.catalog.count, 0);
    assert_string_equal(f->config.catalog.default_database, "main");
    assert_null(f->config.catalog.default_collection);
    assert_null(f->config.file);
}

static void test_config_empty_file_gives_defaults(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(load(f, ""), TW_OK);
    assert_string_equal(f->config.option.data, "./tidewire-data");
    assert_string_equal(f->config.file, file);
}

static void test_config_file_below_environment_below_flags(void **state)
{
    struct fixture *f = *state;
    static const char yaml[] = "server:\n  listen: file:1\n  data: file\n  admin: file:2\n";
    static const char *const flags[] = {"listen", "flag:1", NULL};
    setenv("TIDEWIRE_SERVER_LISTEN", "env:1", 1);
    setenv("TIDEWIRE_SERVER_DATA", "env", 1);
    assert_int_equal(load_with(f, yaml, flags), TW_OK);
    assert_string_equal(f->config.option.listen, "flag:1");
    assert_string_equal(f->config.option.data, "env");
    assert_string_equal(f->config.option.admin, "file:2");
    config_write(&f->config, true, &f->out);
    tw_buf_add_byte(&f->out, '\0');
    assert_non_null(strstr(f->out.ptr, "listen: \"flag:1\"  # from: command line\n"));
    assert_non_null(strstr(f->out.ptr, "data: \"env\"  # from: environment\n"));
    assert_non_null(strstr(f->out.ptr, "admin: \"file:2\"  # from: file\n"));
    assert_non_null(strstr(f->out.ptr, "readers: 2  # from: default\n"));
    unsetenv("TIDEWIRE_SERVER_LISTEN");
    unsetenv("TIDEWIRE_SERVER_DATA");
}

static void test_config_as_json_tells_origins_and_masks_passwords(void **state)
{
    struct fixture *f = *state;
    static const char *const flags[] = {"origins",
                                        "http://ada:s3cr:et@one.example/x, http://two.example",
                                        "preset", "report", NULL};
    assert_int_equal(load_with(f, "server:\n  data: file\n", flags), TW_OK);
    config_write_json(&f->config, &f->out);
    tw_buf_add_byte(&f->out, '\0');
    assert_int_equal(f->out.err, TW_OK);
    const char *json = f->out.ptr;
    assert_null(strstr(json, "s3cr"));
    assert_non_null(strstr(json, "\"value\":\"http://ada:***@one.example/x, http://two.example\""));
    assert_non_null(strstr(json, "\"key\":\"data\",\"origin\":\"file\""));
    assert_non_null(strstr(json, "\"key\":\"readers\",\"origin\":\"default\""));
    assert_non_null(
        strstr(json, "{\"name\":\"entries\",\"database\":\"main\",\"key\":\"version_uuid\""));
}

static void test_config_bad_environment_is_named(void **state)
{
    struct fixture *f = *state;
    setenv("TIDEWIRE_ACTORS_READERS", "5", 1);
    assert_int_equal(load(f, ""), TW_E_BAD_CONFIG);
    assert_string_equal(f->why.ptr, "TIDEWIRE_ACTORS_READERS: actors.readers is '5', allowed is a "
                                    "number from 1 to 4\n");
    unsetenv("TIDEWIRE_ACTORS_READERS");
}

static void test_config_unknown_key_tells_line_and_nearest(void **state)
{
    struct fixture *f = *state;
    assert_refused(f, "server:\n  listen: 'a:1'\n  # a remark\n  orgins: x\n",
                   ":4: unknown key 'orgins'; did you mean 'origins'?\n");
    assert_refused(f, "server:\n  colour: red\n", ":2: unknown key 'colour'\n");
    assert_refused(f, "colections:\n  - name: a\n",
                   ":1: unknown key 'colections'; did you mean 'collections'?\n");
    assert_refused(f, "collections:\n  - name: a\n    filtre: '{}'\n",
                   ":3: unknown key 'filtre'; did you mean 'filter'?\n");
    assert_refused(f, "store:\n  listen: 'a:1'\n",
                   ":2: unknown key 'listen'; it belongs to 'server'\n");
    assert_refused(f, "databases:\n  - name: a\n    version: 1\n    message: b\n",
                   ":4: unknown key 'message'; it belongs to 'collections'\n");
    assert_refused(f, "server:\n  listen: 'a:1'\n  mesage: b\n", ":3: unknown key 'mesage'\n");
    assert_refused(f, "server:\n  auth: b\n", ":2: unknown key 'auth'; it is a section\n");
}

static void test_config_bad_value_tells_line_and_range(void **state)
{
    struct fixture *f = *state;
    assert_refused(f, "store:\n\n  log_age_s: nine\n",
                   ":3: store.log_age_s is 'nine', allowed is a number from 1 to 31536000\n");
    assert_refused(f, "actors:\n  readers: 5\n",
                   ":2: actors.readers is '5', allowed is a number from 1 to 4\n");
    assert_refused(f, "actors:\n  readers: -1\n",
                   ":2: actors.readers is '-1', allowed is a number from 1 to 4\n");
    assert_refused(f, "server: {listen: a}\n",
                   ":1: server.listen has 1 bytes, allowed are 3 to 255\n");
    assert_refused(f, "server:\n  memory: maybe\n",
                   ":2: server.memory is 'maybe', allowed are true and false\n");
}

static void test_config_no_yaml_tells_line(void **state)
{
    struct fixture *f = *state;
    assert_refused(f, "server:\n  listen: [1]\n",
                   ":2: Expecting STRING, got event: SEQUENCE_START\n");
    assert_refused(f, "- a\n", ":1: Expecting MAPPING, got event: SEQUENCE_START\n");
    assert_refused(f, "server:\n  data: a\n  data: b\n", ":2: Mapping field already seen: data\n");
    assert_int_equal(load(f, "server: [\n"), TW_E_BAD_CONFIG);
    assert_int_equal(load(f, "\x01"), TW_E_BAD_CONFIG);
}

static void test_config_missing_file_is_told(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(config_load(&f->config, "/nowhere/x.yaml", NULL, &f->why), TW_E_BAD_CONFIG);
    tw_buf_add_byte(&f->why, '\0');
    assert_string_equal(f->why.ptr,
                        "/nowhere/x.yaml: cannot be opened; check the path given to --config\n");
}

static const char declared[] =
    "store:\n  database: prod\n  strict: true\n  default_collection: movies\n"
    "collections:\n"
    "  - name: movies\n"
    "    filter: '{\"name\": \"O''Hara: #1\"}'\n"
    "    scope: {param: project_id, field: proj_id}\n"
    "    fields: [name, 'a b', 'x: y']\n"
    "    key_any: true\n    read_denied: true\n"
    "  - name: movies\n    database: other\n    key: uuid\n    version: v\n"
    "    shape: flat\n    rules: comment\n    message: film\n    processor: ipc:///tmp/p\n"
    "    remove_denied: true\n    write_denied: true\n";

static void assert_declared(const config *given)
{
    assert_int_equal(given->catalog.count, 2);
    assert_true(given->catalog.strict);
    assert_string_equal(given->catalog.default_collection, "movies");
    const catalog_collection *at = catalog_find(&given->catalog, TW_STR("prod"), TW_STR("movies"));
    assert_non_null(at);
    assert_string_equal(at->key, "_id");
    assert_string_equal(at->version_field, "_version");
    assert_string_equal(at->scope_param, "project_id");
    assert_string_equal(at->scope_field, "proj_id");
    assert_int_equal(at->fields_count, 3);
    assert_string_equal(at->fields[2], "x: y");
    assert_true(at->key_any && at->read_denied && !at->write_denied && !at->remove_denied);
    tw_str name = tw_bson_get_str(at->filter, TW_STR("name"));
    assert_true(tw_str_equal(name, TW_STR("O'Hara: #1")));
    at = catalog_find(&given->catalog, TW_STR("other"), TW_STR("movies"));
    assert_non_null(at);
    assert_string_equal(at->key, "uuid");
    assert_string_equal(at->version_field, "v");
    assert_string_equal(at->message, "film");
    assert_string_equal(at->processor, "ipc:///tmp/p");
    assert_int_equal(at->shape, CATALOG_FLAT);
    assert_int_equal(at->rule, CATALOG_COMMENT);
    assert_true(at->remove_denied && at->write_denied && !at->key_any && !at->read_denied);
}

static void test_config_collections_are_read_written_and_read_again(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(load(f, declared), TW_OK);
    assert_declared(&f->config);
    config_write(&f->config, false, &f->out);
    tw_buf_add_byte(&f->out, '\0');
    assert_int_equal(load(f, f->out.ptr), TW_OK);
    assert_declared(&f->config);
}

static const char realtime[] =
    "databases:\n"
    "  - name: crm\n    version: 12\n    collections:\n"
    "      - {name: person, keyPath: _id}\n"
    "      - {name: company, keyPath: tax_id}\n"
    "  - name: shop\n    version: 1\n    drop_denied: true\n    collections: [{name: person}]\n"
    "collections:\n  - name: audit\n    database: crm\n    read_denied: true\n";

static void assert_realtime(const config *given)
{
    const catalog *known = &given->catalog;
    assert_int_equal(known->databases_count, 2);
    assert_int_equal(known->count, 4);
    const catalog_database *crm = catalog_database_find(known, TW_STR("crm"));
    assert_non_null(crm);
    assert_int_equal(crm->version, 12);
    assert_true(!crm->drop_denied && catalog_database_find(known, TW_STR("shop"))->drop_denied);
    assert_string_equal(catalog_find(known, TW_STR("crm"), TW_STR("company"))->key, "tax_id");
    assert_string_equal(catalog_find(known, TW_STR("shop"), TW_STR("person"))->key, "_id");
    assert_true(catalog_find(known, TW_STR("crm"), TW_STR("person"))->drop_allowed);
    assert_false(catalog_find(known, TW_STR("shop"), TW_STR("person"))->drop_allowed);
    assert_true(catalog_find(known, TW_STR("crm"), TW_STR("audit"))->read_denied);
    /* a schema is closed: what it does not name is not there; other databases are open */
    assert_null(catalog_rules(known, TW_STR("crm"), TW_STR("other")));
    assert_non_null(catalog_rules(known, TW_STR("main"), TW_STR("other")));
    assert_null(catalog_database_find(known, TW_STR("")));
}

static void test_config_databases_are_read_written_and_read_again(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(load(f, realtime), TW_OK);
    assert_realtime(&f->config);
    config_write(&f->config, false, &f->out);
    tw_buf_add_byte(&f->out, '\0');
    assert_int_equal(load(f, f->out.ptr), TW_OK);
    assert_realtime(&f->config);
}

static void test_config_bad_database_is_refused(void **state)
{
    static const struct {
        const char *yaml, *why;
    } rows[] = {
        {"  - name: a\n    version: 1\n  - name: a\n    version: 2\n",
         "database a is declared twice\n"},
        {"  - name: $a\n    version: 1\n", "database '$a': not a name for a database\n"},
        {"  - name: a\n    version: x\n",
         "database a: version is 'x', allowed is a whole number\n"},
        {"  - name: a\n    version: -1\n",
         "database a: version is '-1', allowed is a whole number\n"},
        {"  - name: a\n    version: 1\n    collections: [{name: c}, {name: c}]\n",
         "collection c is declared twice\n"},
        {"  - name: main\n    version: 1\n    collections: [{name: entries}]\n",
         "collection entries is declared twice\n"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        char yaml[256];
        tw_format(yaml, sizeof yaml, "store: {preset: report}\ndatabases:\n%s", rows[i].yaml);
        assert_int_equal(load(f, yaml), TW_E_BAD_CONFIG);
        assert_string_equal(f->why.ptr, rows[i].why);
    }
    assert_refused(f, "databases:\n  - name: a\n", ":2: Missing required mapping field: version\n");
    assert_refused(f,
                   "databases:\n  - name: a\n    version: 1\n    collections:\n"
                   "      - name: c\n        keypath: x\n",
                   ":6: unknown key 'keypath'; did you mean 'keyPath'?\n");
}

static void test_config_preset_declares_and_is_written_as_preset(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(load(f, "store:\n  preset: report\ncollections:\n  - name: movies\n"), TW_OK);
    assert_int_equal(f->config.catalog.count, 4);
    assert_non_null(catalog_find(&f->config.catalog, TW_STR("main"), TW_STR("entries")));
    config_write(&f->config, false, &f->out);
    tw_buf_add_byte(&f->out, '\0');
    assert_int_equal(load(f, f->out.ptr), TW_OK);
    assert_int_equal(f->config.catalog.count, 4);
    assert_int_equal(load(f, "store:\n  preset: reprot\n"), TW_E_BAD_CONFIG);
    assert_string_equal(f->why.ptr, "store.preset is 'reprot', allowed is: report\n");
}

static void test_config_bad_collection_is_refused(void **state)
{
    static const struct {
        const char *yaml, *why;
    } rows[] = {
        {"  - name: a\n  - name: a\n", "collection a is declared twice\n"},
        {"  - name: entries\n", "collection entries is declared twice\n"},
        {"  - name: a$b\n", "collection 'a$b': not a name for a collection\n"},
        {"  - name: a\n    shape: round\n",
         "collection a: shape is 'round', allowed are: nested flat\n"},
        {"  - name: a\n    rules: none\n",
         "collection a: rules is 'none', allowed are: free entry thread comment\n"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        char yaml[256];
        tw_format(yaml, sizeof yaml, "store: {preset: report}\ncollections:\n%s", rows[i].yaml);
        assert_int_equal(load(f, yaml), TW_E_BAD_CONFIG);
        assert_string_equal(f->why.ptr, rows[i].why);
    }
    assert_int_equal(load(f, "collections:\n  - name: a\n    filter: '{'\n"), TW_E_BAD_CONFIG);
    assert_memory_equal(f->why.ptr, "collection a: filter: ", 22);
    assert_int_equal(load(f, "collections:\n  - name: a\n    filter: '{\"b\": {\"$foo\": 1}}'\n"),
                     TW_E_BAD_CONFIG);
    assert_memory_equal(f->why.ptr, "collection a: filter: ", 22);
    assert_non_null(strstr(f->why.ptr, "$foo"));
    assert_refused(f, "collections:\n  - key: x\n", ":2: Missing required mapping field: name\n");
    assert_refused(f, "collections:\n  - name: a\n    scope: {param: x}\n",
                   ":3: Missing required mapping field: field\n");
}

/* Each allocation fails in turn: an error or a whole configuration, never half of one. */
static void test_config_mongo_uri_names_the_database_and_hides_its_password(void **state)
{
    struct fixture *f = *state;
    static const char *const flags[] = {"mongo", "mongodb://u:s3cret@h:1/crm?w=2", NULL};
    assert_int_equal(load_with(f, "", flags), TW_OK);
    assert_string_equal(f->config.option.mongo_uri, "mongodb://u:s3cret@h:1/crm?w=2");
    assert_string_equal(f->config.catalog.default_database, "crm");
    config_write(&f->config, true, &f->out);
    tw_buf_add_byte(&f->out, '\0');
    assert_non_null(strstr(f->out.ptr, "uri: \"mongodb://u:***@h:1/crm?w=2\""));
    assert_null(strstr(f->out.ptr, "s3cret"));
}

static void test_config_mongo_uri_is_read_from_its_file(void **state)
{
    struct fixture *f = *state;
    char path[256];
    tw_format(path, sizeof path, "%s.uri", file);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs("  mongodb://h/\nmore\n", out);
    fclose(out);
    const char *const flags[] = {"mongo-uri-file", path, "mongo-database", "x", NULL};
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(load_with(f, "", flags), TW_E_BAD_CONFIG);
    assert_non_null(strstr(f->why.ptr, "others may read it: chmod 600 it"));
    tw_buf_clear(&f->why);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(load_with(f, "", flags), TW_OK);
    assert_string_equal(f->config.option.mongo_uri, "mongodb://h/");
    assert_string_equal(f->config.catalog.default_database, "x");
    unlink(path);
    config_free(&f->config);
    assert_int_equal(load_with(f, "", flags), TW_E_BAD_CONFIG);
    assert_non_null(strstr(f->why.ptr, "cannot be opened"));
    static const char *const other[] = {"mongo", "http://h", NULL};
    assert_int_equal(load_with(f, "", other), TW_E_BAD_CONFIG);
}

static void test_config_no_memory_is_an_error(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(load(f, declared), TW_OK);
    for (uint64_t nth = 1; nth < 40; nth++) {
        config_free(&f->config);
        tw_buf_clear(&f->why);
        tw_alloc_fail_at(nth);
        f->err = config_load(&f->config, file, NULL, &f->why);
        tw_alloc_fail_at(0);
        if (f->err == TW_OK) {
            assert_declared(&f->config);
        } else {
            assert_null(f->config.memory);
        }
    }
    assert_int_equal(f->err, TW_OK);
}

static void test_config_search_is_read_written_and_read_again(void **state)
{
    struct fixture *f = *state;
    static const char good[] =
        "search:\n  urls: http://127.0.0.1:9200\n  replicas: 2\n"
        "collections:\n  - name: Books\n    store: search\n    search:\n      index: books-v1\n"
        "      mapping: '{\"properties\":{\"n\":{\"type\":\"long\"}}}'\n      shards: 3\n"
        "      archive: old\n      lifecycle: weekly\n"
        "  - name: old\n    store: search\n    search: {replicas: 0}\n  - name: plain\n";
    assert_int_equal(load(f, good), TW_OK);
    for (int round = 0; round < 2; round++) {
        const catalog_collection *books = &f->config.catalog.at[0];
        assert_true(books->searched && books->search_store);
        assert_string_equal(books->search_index, "books-v1");
        assert_true(tw_bson_get_doc(books->search_mapping, TW_STR("properties")).len > 0);
        assert_int_equal(books->search_shards, 3);
        assert_int_equal(books->search_replicas, -1);
        assert_string_equal(books->search_archive, "old");
        assert_string_equal(books->search_lifecycle, "weekly");
        assert_string_equal(f->config.catalog.at[1].search_index, "old");
        assert_int_equal(f->config.catalog.at[1].search_replicas, 0);
        assert_false(f->config.catalog.at[2].searched);
        assert_int_equal(f->config.option.search_replicas, 2);
        tw_buf_clear(&f->out);
        config_write(&f->config, false, &f->out);
        tw_buf_add_byte(&f->out, '\0');
        assert_int_equal(load(f, f->out.ptr), TW_OK);
    }
}

static void test_config_bad_search_is_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *yaml, *named;
    } refused[] = {
        {"collections:\n  - name: a\n    store: search\n", "needs a key search"},
        {"collections:\n  - name: a\n    store: disk\n", "store is 'disk'"},
        {"collections:\n  - name: Big\n    search: {shards: 1}\n", "no name for an index"},
        {"collections:\n  - name: a\n    search: {index: _a}\n", "no name for an index"},
        {"collections:\n  - name: a\n    search: {mapping: '['}\n", "mapping"},
        {"collections:\n  - name: a\n    search: {shards: many}\n", "shards is 'many'"},
        {"collections:\n  - name: a\n    search: {archive: a}\n", "archive is 'a'"},
        {"collections:\n  - name: a\n    search: {archive: b}\n  - name: b\n    store: search\n"
         "    search: {shards: 1}\n",
         "store: log"},
        {"collections:\n  - name: a\n    search: {maping: '{}'}\n", "mapping"},
        {"search:\n  urlz: x\n", "urls"},
    };
    for (size_t i = 0; i < TW_COUNT(refused); i++) {
        assert_int_equal(load(f, refused[i].yaml), TW_E_BAD_CONFIG);
        if (strstr(f->why.ptr, refused[i].named) == NULL) {
            fail_msg("%s: %s", refused[i].yaml, f->why.ptr);
        }
    }
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(file);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static void test_config_limits_are_those_of_the_table(void **state)
{
    (void)state;
    config loaded;
    tw_buf why;
    tw_buf_init(&why, 4096);
    assert_int_equal(config_load(&loaded, NULL, NULL, &why), TW_OK);
    const config_options *option = &loaded.option;
    assert_int_equal(option->limit_address, TW_ADDRESS_CONNECTIONS);
    assert_int_equal(option->limit_user, TW_USER_CONNECTIONS);
    assert_int_equal(option->limit_accepts, TW_ACCEPTS_S);
    assert_int_equal(option->limit_messages, TW_MESSAGES_S);
    assert_int_equal(option->limit_subscribes, TW_SUBSCRIBES_S);
    assert_int_equal(option->limit_searches, TW_SEARCHES_S);
    assert_int_equal(option->limit_searching, TW_SEARCHES_AT_ONCE);
    config_free(&loaded);
    tw_buf_fini(&why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_config_none_gives_defaults),
        TEST(test_config_empty_file_gives_defaults),
        TEST(test_config_file_below_environment_below_flags),
        TEST(test_config_as_json_tells_origins_and_masks_passwords),
        TEST(test_config_bad_environment_is_named),
        TEST(test_config_unknown_key_tells_line_and_nearest),
        TEST(test_config_bad_value_tells_line_and_range),
        TEST(test_config_no_yaml_tells_line),
        TEST(test_config_missing_file_is_told),
        TEST(test_config_collections_are_read_written_and_read_again),
        TEST(test_config_databases_are_read_written_and_read_again),
        TEST(test_config_bad_database_is_refused),
        TEST(test_config_preset_declares_and_is_written_as_preset),
        TEST(test_config_bad_collection_is_refused),
        TEST(test_config_mongo_uri_names_the_database_and_hides_its_password),
        TEST(test_config_mongo_uri_is_read_from_its_file),
        TEST(test_config_search_is_read_written_and_read_again),
        TEST(test_config_bad_search_is_refused),
        TEST(test_config_no_memory_is_an_error),
        cmocka_unit_test(test_config_limits_are_those_of_the_table),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
