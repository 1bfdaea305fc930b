/* tidy_test.c - plants a violation of every rule of tidy.c in a tree of its own and demands that
 * it is reported, under its rule and no other; and that the tree without it passes. A check that
 * cannot fail is decoration.
 *
 * Runs with the path of the tidy program as its argument. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { OUTPUT_BYTES_MAX = 64 << 10, PATH_BYTES = 512 };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct source {
    const char *path;
    const char *text;
};

/* A tree that breaks no rule, though it comes close to each of them. */
static const struct source clean[] = {
    {"main.c",
     "#include <stdio.h>\n\n#include \"actors/store.h\"\n#include \"gateways/web/http.h\"\n\n"
     "int main(void)\n{\n    printf(\"x\");\n    return 0;\n}\n"},
    {"protocol/base.h", "#pragma once\nstatic_assert(1, \"x\");\n"},
    {"protocol/messages.h", "#pragma once\n#include \"protocol/base.h\"\n"
                            "#define TW_MESSAGES(M) \\\n    M(1, topic_open, g, \"x\") \\\n"
                            "    M(2, topic_opened, s, \"M(1, topic_open, g)\")\n"},
    {"protocol/codec.c", "#include <msgpack.h>\n\n#include \"protocol/messages.h\"\n"},
    {"protocol/codec_fuzz.c", "#include \"protocol/base.h\"\n"},
    {"broker/topic.h", "#pragma once\n#include \"protocol/base.h\"\n"},
    {"broker/topic.c", "#include \"broker/topic.h\"\n/* sprintf(x) in a comment */\n"
                       "int f(void)\n{\n    return now->time(NULL) + \"assert(1)\"[0];\n}\n"},
    {"broker/topic_test.c", "#include <pthread.h>\n\n#include \"actors/store.h\"\n\n"
                            "int main(void)\n{\n    return printf(\"x\") + !malloc(1);\n}\n"},
    {"actors/runtime/actor.h", "#pragma once\n#include <pthread.h>\n\n#include "
                               "\"protocol/base.h\"\n"},
    {"actors/runtime/pool.c", "#include \"actors/runtime/actor.h\"\n\nenum { POOL_MAGIC = 0x11 };\n"
                              "void *g(void)\n{\n    return malloc(1);\n}\n"},
    {"actors/store.h", "#pragma once\n#include \"actors/runtime/actor.h\"\n"},
    {"actors/store.c", "#include \"actors/store.h\"\n\n#include \"actors/mongo/mongo_link.h\"\n"
                       "#include \"actors/store_priv.h\"\n\nenum { STORE_MAGIC = 0x12 };\n"
                       "void h(void)\n{\n"
                       "    free(malloc(1)); /* "
                       "tidy: before the pool is there */\n}\n"},
    {"actors/store_read.c", "#include \"actors/store_priv.h\"\n"},
    {"actors/store_priv.h", "#pragma once\n"},
    {"actors/mongo/mongo_link.h", "#pragma once\n#include <mongoc/mongoc.h>\n"},
    {"gateways/web/http.h", "#pragma once\n"},
    {"gateways/web/http.c", "#include \"gateways/web/http.h\"\n\n#include <libwebsockets.h>\n\n"
                            "#include \"gateways/request/request.h\"\n"},
    {"gateways/request/request.h", "#pragma once\n"},
    {"cli/watch.c", "#include <stdio.h>\n\n#include \"clients/c/client.h\"\n\n"
                    "int watch(void)\n{\n    return printf(\"x\");\n}\n"},
    {"clients/c/client.h", "#pragma once\n"},
    {"tests/corpus/codec/one", "seed"},
    {"tests/regress/0001_x.c", "#include \"broker/topic.h\"\n"},
    {"web/demo/index.html", "<p>\n"},
    {".gitignore", "*.db\nzig-out/\n"},
    {"data.db", "zig-out/x.c is skipped, too"},
    {"zig-out/x.c", "#include \"nowhere.h\"\n"},
    {"tools/long_functions.txt", "# none\n"},
};

/* Added to the clean tree, or in place of its file of that path. With `times`, `line` is repeated
 * so often between text and tail. */
struct plant {
    const char *name;
    const char *rule;
    const char *path;
    const char *text;
    const char *line;
    int times;
    const char *tail;
    const char *beside; /* a second file, where one is not enough */
    const char *beside_text;
};

#define REPEAT(n, r, p, t, l, i, e)                                                                \
    {                                                                                              \
        .name = n, .rule = r, .path = p, .text = t, .line = l, .times = i, .tail = e               \
    }
#define LISTED(n, r, p, t, l, i, e, b, bt)                                                         \
    {                                                                                              \
        .name = n, .rule = r, .path = p, .text = t, .line = l, .times = i, .tail = e, .beside = b, \
        .beside_text = bt                                                                          \
    }
#define ONE(n, r, p, t)                                                                            \
    {                                                                                              \
        .name = n, .rule = r, .path = p, .text = t                                                 \
    }

static const struct plant plants[] = {
    ONE("broker_includes_actor", "include-direction", "broker/x.c",
        "#include \"actors/store.h\"\n"),
    ONE("protocol_includes_broker", "include-direction", "protocol/x.c",
        "#include \"broker/topic.h\"\n"),
    ONE("runtime_includes_broker", "include-direction", "actors/runtime/x.c",
        "#include \"broker/topic.h\"\n"),
    ONE("actor_includes_actor", "include-direction", "actors/x.c", "#include \"actors/store.h\"\n"),
    ONE("actor_includes_gateway", "include-direction", "actors/x.c",
        "#include \"gateways/web/http.h\"\n"),
    ONE("gateway_includes_actor", "include-direction", "gateways/web/x.c",
        "#include \"actors/store.h\"\n"),
    ONE("gateway_includes_gateway", "include-direction", "gateways/service/x.c",
        "#include \"gateways/web/http.h\"\n"),
    ONE("stranger_includes_private", "include-direction", "actors/x.c",
        "#include \"actors/store_priv.h\"\n"),
    ONE("command_includes_actor", "include-direction", "cli/x.c", "#include \"actors/store.h\"\n"),
    ONE("command_includes_gateway", "include-direction", "cli/x.c",
        "#include \"gateways/web/http.h\"\n"),
    ONE("doctor_includes_gateway", "include-direction", "cli/doctor.c",
        "#include \"gateways/web/http.h\"\n"),
    ONE("library_in_wiring", "header-home", "cli/serve/x.c", "#include <nng/nng.h>\n"),
    ONE("client_includes_broker", "include-direction", "clients/c/x.c",
        "#include \"broker/topic.h\"\n"),
    ONE("include_without_root", "include-direction", "broker/x.c", "#include \"topic.h\"\n"),
    ONE("msgpack_in_broker", "header-home", "broker/x.c", "#include <msgpack.h>\n"),
    ONE("nng_in_actor", "header-home", "actors/x.c", "#include <nng/nng.h>\n"),
    ONE("websockets_in_actor", "header-home", "actors/x.c", "#include <libwebsockets.h>\n"),
    ONE("mongoc_in_store", "header-home", "actors/store_x.c", "#include <mongoc/mongoc.h>\n"),
    ONE("bson_in_broker", "header-home", "broker/x.c", "#include <bson/bson.h>\n"),
    ONE("curl_in_gateway", "header-home", "gateways/web/x.c", "#include <curl/curl.h>\n"),
    ONE("sqlite_in_actor", "header-home", "actors/x.c", "#include <sqlite3.h>\n"),
    ONE("cyaml_in_protocol", "header-home", "protocol/x.c", "#include <cyaml/cyaml.h>\n"),
    ONE("openssl_in_http", "header-home", "gateways/web/http_x.c", "#include <openssl/evp.h>\n"),
    ONE("openssl_in_command", "header-home", "cli/x.c", "#include <openssl/ssl.h>\n"),
    ONE("threads_in_actor", "header-home", "actors/x.c", "#include <pthread.h>\n"),
    ONE("clock_in_broker", "header-home", "broker/x.c", "#include <time.h>\n"),
    ONE("sockets_in_broker", "header-home", "broker/x.c", "#include <sys/socket.h>\n"),
    ONE("sprintf", "banned-call", "cli/x.c", "int f(void)\n{\n    return sprintf(a, b);\n}\n"),
    ONE("strcpy_in_test", "banned-call", "tests/support/x.c", "void *f(void) { strcpy (a, b); }\n"),
    ONE("atoi", "banned-call", "cli/x.c", "int f(void)\n{\n    return atoi(b);\n}\n"),
    ONE("assert", "banned-call", "actors/x.c", "void f(void)\n{\n    assert(1);\n}\n"),
    ONE("sleep_in_test", "banned-call", "tests/support/x.c", "void f(void)\n{\n    sleep(1);\n}\n"),
    ONE("time", "banned-call", "actors/x.c", "void f(void)\n{\n    g = time(NULL);\n}\n"),
    ONE("malloc_in_actor", "banned-call", "actors/x.c", "void f(void)\n{\n    g = malloc(1);\n}\n"),
    ONE("strdup_in_broker", "banned-call", "broker/x.c",
        "void f(void)\n{\n    g = strdup(h);\n}\n"),
    ONE("thread_in_gateway", "banned-call", "gateways/web/x.c",
        "void f(void)\n{\n    pthread_mutex_lock(g);\n}\n"),
    ONE("printf_in_gateway", "banned-call", "gateways/web/x.c",
        "void f(void)\n{\n    printf(\"x\");\n}\n"),
    ONE("source_without_folder", "dead-file", "lost/x.c", "int lost;\n"),
    ONE("source_at_root", "dead-file", "x.c", "int lost;\n"),
    ONE("header_without_user", "dead-file", "broker/x.h", "#pragma once\n"),
    ONE("corpus_without_target", "dead-file", "tests/corpus/nothing/one", "seed"),
    ONE("page_without_root", "dead-file", "web/x.js", "let x;\n"),
    ONE("magic_twice", "duplicate-magic", "actors/x.c", "enum { X_MAGIC = 0x12 };\n"),
    ONE("magic_macro_twice", "duplicate-magic", "actors/x.c", "#define X_MAGIC 0x12\n"),
    ONE("magic_too_large", "duplicate-magic", "actors/x.c", "enum { X_MAGIC = 0x80000001 };\n"),
    ONE("message_id_twice", "duplicate-message", "protocol/messages.h",
        "#pragma once\n#include \"protocol/base.h\"\n#define X(M) M(1, a, g, \"\") M(1, b, g, "
        "\"\")\n"),
    ONE("message_name_twice", "duplicate-message", "protocol/messages.h",
        "#pragma once\n#include \"protocol/base.h\"\n#define X(M) M(1, a, g, \"\") M(2, a, g, "
        "\"\")\n"),
    REPEAT("line_101", "columns", "broker/x.c", "/*", "x", 97, "*/\n"),
    REPEAT("line_101_python", "columns", "tests/x.py", "#", "x", 100, "\n"),
    REPEAT("blob", "blob", "docs/x.bin", "", "0123456789abcdef", (256 << 10) / 16, "x"),
    ONE("debt_without_issue", "needswork", "broker/x.c",
        "/* NEEDSWORK: x */\n"),                                    /* tidy: a planted violation */
    ONE("debt_slang", "needswork", "broker/x.c", "/* TODO x */\n"), /* tidy: a planted violation */
    REPEAT("function_71_lines", "long-function", "broker/x.c", "int f(void)\n{\n", "    g();\n", 68,
           "}\n"),
    LISTED("listed_function_grew", "long-function", "broker/x.c", "int f(void)\n{\n", "    g();\n",
           88, "}\n", "tools/long_functions.txt", "broker/x.c f 90\n"),
    LISTED("listed_function_shrank", "long-function", "broker/x.c", "int f(void)\n{\n",
           "    g();\n", 80, "}\n", "tools/long_functions.txt", "broker/x.c f 90\n"),
    ONE("listed_function_gone", "long-function", "tools/long_functions.txt", "broker/x.c f 90\n"),
    ONE("header_unguarded", "pragma-once", "gateways/web/http.h", "int x;\n"),
    ONE("path_of_machine", "machine-path", "tests/x.py",
        "x = '/home/somebody/x'\n"), /* tidy: a planted violation */
    ONE("exception_without_reason", "exception", "broker/x.c",
        "void f(void)\n{\n    g = strdup(h); /* "
        "tidy: */\n}\n"),
    ONE("exception_without_use", "exception", "broker/x.c",
        "int x; /* "
        "tidy: there is nothing here */\n"),
};

/* Must pass, though each is close to a planted one. */
static const struct plant passes[] = {
    ONE("clean_tree", NULL, "main.c", NULL),
    REPEAT("line_100", NULL, "broker/x.c", "/*", "x", 96, "*/\n"),
    REPEAT("line_100_utf8", NULL, "broker/x.c", "/*", "\xc3\xa9", 96, "*/\n"),
    REPEAT("function_70_lines", NULL, "broker/x.c", "int f(void)\n{\n", "    g();\n", 67, "}\n"),
    LISTED("listed_function_same", NULL, "broker/x.c", "int f(void)\n{\n", "    g();\n", 87, "}\n",
           "tools/long_functions.txt", "broker/x.c f 90\n"),
    REPEAT("blob_256_kib", NULL, "docs/x.bin", "", "0123456789abcdef", (256 << 10) / 16, ""),
    ONE("debt_with_issue", NULL, "broker/x.c", "/* NEEDSWORK(#12): x */\n"),
    ONE("wiring_includes_all", NULL, "cli/serve/x.c",
        "#include \"actors/store.h\"\n#include \"gateways/web/http.h\"\n"),
    ONE("doctor_includes_actor", NULL, "cli/doctor.c", "#include \"actors/store.h\"\n"),
    ONE("version_includes_library", NULL, "cli/version.c", "#include <nng/nng.h>\n"),
    ONE("temporary_pattern", NULL, "tests/support/x.c", "const char *f = \"/tmp/x-XXXXXX\";\n"),
    ONE("exception_above", NULL, "broker/x.c",
        "void f(void)\n{\n    /* "
        "tidy: a test of the line above */\n    g = strdup(h);\n}\n"),
};

static const char *tidy_program;

static void write_source(const char *root, const char *path, const struct plant *plant,
                         const char *text)
{
    char full[PATH_BYTES];
    assert_true(snprintf(full, sizeof full, "%s/%s", root, path) < (int)sizeof full);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    FILE *stream = fopen(full, "wb");
    assert_non_null(stream);
    fputs(text, stream);
    for (int i = 0; plant != NULL && i < plant->times; i++) {
        fputs(plant->line, stream);
    }
    if (plant != NULL && plant->tail != NULL) {
        fputs(plant->tail, stream);
    }
    assert_int_equal(fclose(stream), 0);
}

static void make_tree(char *root, const struct plant *plant)
{
    assert_non_null(mkdtemp(root));
    for (size_t i = 0; i < COUNT(clean); i++) {
        write_source(root, clean[i].path, NULL, clean[i].text);
    }
    if (plant->text != NULL) {
        write_source(root, plant->path, plant, plant->text);
    }
    if (plant->beside != NULL) {
        write_source(root, plant->beside, NULL, plant->beside_text);
    }
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

/* Runs tidy over a fresh tree. Returns its exit code; `output` gets all that it printed. */
static int run_tidy(const struct plant *plant, char output[OUTPUT_BYTES_MAX])
{
    char root[] = "/tmp/tidy-test-XXXXXX";
    char command[PATH_BYTES * 2];
    make_tree(root, plant);
    snprintf(command, sizeof command, "'%s' '%s' 2>&1", tidy_program, root);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t got = fread(output, 1, OUTPUT_BYTES_MAX - 1, pipe);
    output[got] = '\0';
    int status = pclose(pipe);
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* The planted violation is reported under its rule, and every other rule still holds. */
static void test_tidy_planted_reported(void **state)
{
    const struct plant *plant = *state;
    static char output[OUTPUT_BYTES_MAX];
    char wanted[128];
    int code = run_tidy(plant, output);
    if (code != 1) {
        print_error("%s\n", output);
    }
    assert_int_equal(code, 1);
    snprintf(wanted, sizeof wanted, ": %s: ", plant->rule);
    assert_non_null(strstr(output, wanted));
    int broken = 0;
    for (const char *p = output; (p = strstr(p, "not ok ")) != NULL; p++) {
        const char *rule = strstr(p, " - ") + 3;
        assert_memory_equal(rule, plant->rule, strlen(plant->rule));
        broken++;
    }
    assert_int_equal(broken, 1);
}

static void test_tidy_clean_passes(void **state)
{
    static char output[OUTPUT_BYTES_MAX];
    int code = run_tidy(*state, output);
    if (code != 0) {
        print_error("%s\n", output);
    }
    assert_int_equal(code, 0);
}

/* Every rule that tidy knows has a plant here. */
static void test_tidy_every_rule_planted(void **state)
{
    (void)state;
    static char output[OUTPUT_BYTES_MAX];
    assert_int_equal(run_tidy(&passes[0], output), 0);
    for (const char *p = output; (p = strstr(p, "ok ")) != NULL; p++) {
        const char *rule = strstr(p, " - ") + 3;
        size_t length = strcspn(rule, ":");
        size_t found = 0;
        for (size_t i = 0; i < COUNT(plants); i++) {
            found += strlen(plants[i].rule) == length && memcmp(plants[i].rule, rule, length) == 0;
        }
        assert_true(found > 0);
    }
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[COUNT(plants) + COUNT(passes) + 1];
    size_t count = 0;
    if (argc != 2) {
        fputs("usage: tidy_test TIDY\n", stderr);
        return 2;
    }
    tidy_program = argv[1];
    for (size_t i = 0; i < COUNT(plants); i++) {
        tests[count++] = (struct CMUnitTest){.name = plants[i].name,
                                             .test_func = test_tidy_planted_reported,
                                             .initial_state = (void *)(uintptr_t)&plants[i]};
    }
    for (size_t i = 0; i < COUNT(passes); i++) {
        tests[count++] = (struct CMUnitTest){.name = passes[i].name,
                                             .test_func = test_tidy_clean_passes,
                                             .initial_state = (void *)(uintptr_t)&passes[i]};
    }
    tests[count++] = (struct CMUnitTest){.name = "every_rule_planted",
                                         .test_func = test_tidy_every_rule_planted};
    return _cmocka_run_group_tests("tidy", tests, count, NULL, NULL);
}
