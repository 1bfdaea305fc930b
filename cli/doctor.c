/* doctor.c - tidewire doctor: looks at what commonly goes wrong, and says what to do about it. */
#include "cli/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "actors/mongo/mongo_link.h"
#include "actors/mongo/mongo_probe.h"
#include "cli/config_args.h"
#include "cli/verb.h"
#include "clients/c/websocket.h"

enum {
    CONNECT_MS = 3000,
    SEARCH_MS = 15000,         /* the server's own deadline for a search is shorter */
    FILES_WANTED = 4096,       /* descriptors: each client is one */
    DISK_WANTED = 1 << 30,     /* bytes: a log of LOG_AGE_S of modest traffic */
    CLOCK_SANE_S = 1735689600, /* 2025-01-01: a clock before it was never set */
};

struct doctor {
    config_args args;
    cli_common common;
    char url[512]; /* of the configured server */
    unsigned bad, doubtful;
};

static error_t parse_doctor(int key, char *arg, struct argp_state *state)
{
    struct doctor *self = state->input;
    (void)arg;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = &self->args;
        state->child_inputs[1] = &self->common;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static void good(const char *what, const char *value)
{
    printf("good      %-22s %s\n", what, value);
}

static void doubtful(struct doctor *self, const char *what, const char *value, const char *advice)
{
    printf("doubtful  %-22s %s\n          %-22s %s\n", what, value, "", advice);
    self->doubtful++;
}

static void bad(struct doctor *self, const char *what, const char *value, const char *advice)
{
    printf("BAD       %-22s %s\n          %-22s %s\n", what, value, "", advice);
    self->bad++;
}

static void look_at_machine(struct doctor *self)
{
    char text[128];
    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    tw_format(text, sizeof(text), "%llu", (unsigned long long)files.rlim_cur);
    if (files.rlim_cur < FILES_WANTED) {
        doubtful(self, "open files", text, "raise it: ulimit -n 20000 (each client needs one)");
    } else {
        good("open files", text);
    }
    time_t now;
    if (time(&now) < CLOCK_SANE_S) {
        bad(self, "clock", "not set", "set the machine's time: log ages and dates depend on it");
    } else {
        good("clock", "set");
    }
}

static void look_at_data(struct doctor *self, const config *loaded)
{
    char text[256];
    const char *data = loaded->option.data;
    struct statvfs disk;
    if (access(data, F_OK) != 0) {
        good("data directory", "not there yet; made by the first start");
        return;
    }
    if (access(data, W_OK | X_OK) != 0) {
        bad(self, "data directory", data,
            "this user may not write there: chown it, or give --data");
        return;
    }
    good("data directory", data);
    if (statvfs(data, &disk) == 0) {
        unsigned long long free_bytes = (unsigned long long)disk.f_bavail * disk.f_frsize;
        tw_format(text, sizeof(text), "%llu MiB free", free_bytes >> 20);
        if (free_bytes < DISK_WANTED) {
            doubtful(self, "disk", text, "writes are refused with `disk` when it is full");
        } else {
            good("disk", text);
        }
    }
}

/* A search of everything that finds nothing to show: does the cluster answer? */
static void look_at_search(struct doctor *self, websocket_client *client, tw_arena *arena)
{
    char text[256];
    tw_str frame = {0};
    tw_bson reply = {0};
    tw_err err =
        websocket_client_send(client, TW_STR("{\"action\":\"search\",\"body\":{\"size\":0}}"));
    if (err == TW_OK) {
        err = websocket_client_receive(client, SEARCH_MS, &frame);
    }
    if (err == TW_OK) {
        err = tw_json_read(arena, frame, TW_DEPTH_MAX, &reply, NULL);
    }
    if (err != TW_OK) {
        bad(self, "search", "no answer to a search", "look at the server's log");
        return;
    }
    if (!tw_str_equal(tw_bson_get_str(reply, TW_STR("type")), TW_STR("error"))) {
        good("search", "the cluster answers");
        return;
    }
    tw_str why = tw_bson_get_str(reply, TW_STR("message"));
    tw_str code = tw_bson_get_str(reply, TW_STR("code"));
    tw_format(text, sizeof(text), "%.*s", (int)why.len, why.len == 0 ? "" : why.ptr);
    if (tw_str_equal(code, TW_STR("not_found"))) {
        doubtful(self, "search", text, "declare a collection with the key search");
    } else {
        bad(self, "search", text, "is the cluster up, are search.urls and the credentials right?");
    }
}

/* Where the configured server listens, unless --url or TIDEWIRE_URL names another. */
static void find_server(struct doctor *self, const config *loaded)
{
    const char *listen = loaded->option.listen;
    const char *port = strrchr(listen, ':');
    if (strcmp(self->common.url, CLI_URL) != 0 || port == NULL) {
        return;
    }
    size_t len = (size_t)(port - listen);
    bool is_any =
        strncmp(listen, "0.0.0.0:", len + 1) == 0 || strncmp(listen, "[::]:", len + 1) == 0;
    tw_format(self->url, sizeof self->url, "%s://%.*s%s",
              loaded->option.tls_cert[0] != '\0' ? "wss" : "ws", is_any ? 9 : (int)len,
              is_any ? "127.0.0.1" : listen, port);
    self->common.url = self->url;
}

static void look_at_server(struct doctor *self, const config *loaded)
{
    char url[1024], why[256], text[512];
    websocket_client *client = NULL;
    websocket_client_who who = cli_who(&self->common);
    tw_err err = websocket_client_open(&client, cli_path(&self->common, "/ws", url, sizeof(url)),
                                       &who, CONNECT_MS, why, sizeof(why));
    if (err != TW_OK) {
        tw_format(text, sizeof text, "%s: %s", self->common.url, why);
        bad(self, "server", text, "start one with: tidewire serve   (or give --url)");
        return;
    }
    tw_str frame = {0};
    tw_bson welcome = {0};
    tw_arena arena;
    tw_arena_init(&arena, 16 << 20);
    err = websocket_client_send(client, TW_STR("{\"type\":\"hello\"}"));
    if (err == TW_OK) {
        err = websocket_client_receive(client, CONNECT_MS, &frame);
    }
    if (err == TW_OK) {
        err = tw_json_read(&arena, frame, TW_DEPTH_MAX, &welcome, NULL);
    }
    if (err != TW_OK ||
        !tw_str_equal(tw_bson_get_str(welcome, TW_STR("type")), TW_STR("welcome"))) {
        bad(self, "server", "does not welcome a client", "look at the server's log");
    } else {
        tw_format(text, sizeof(text), "srv_id %lld, protocol %lld",
                  (long long)tw_bson_get_i64_or(welcome, TW_STR("srv_id"), 0),
                  (long long)tw_bson_get_i64_or(welcome, TW_STR("protocol"), 0));
        good("server", text);
        if (loaded->option.search_urls[0] != '\0') {
            look_at_search(self, client, &arena);
        }
    }
    tw_arena_fini(&arena);
    websocket_client_close(&client);
}

static void look_at_auth(struct doctor *self, const config *loaded)
{
    char text[128];
    auth *made = NULL;
    broker_why why = {0};
    const auth_options *given = &loaded->auth;
    if (!auth_is_wanted(given)) {
        good("auth", "none: for loopback, where everybody may do everything");
        return;
    }
    if (auth_new(&made, given, &why) != TW_OK) {
        bad(self, "auth", why.text, "look at auth.keys: docs/AUTH.md");
        return;
    }
    if (auth_has_set(made) && auth_fetch(made, &why) != TW_OK) {
        bad(self, "auth.jwks", why.text, "until it can be read its keys' tokens are refused");
    } else if (auth_has_set(made)) {
        good("auth.jwks", given->jwks);
    }
    auth_free(&made);
    tw_format(text, sizeof text, "%zu keys of files, %zu rules", given->keys_count,
              given->rules.count);
    if (given->rules.count == 0) {
        doubtful(self, "auth", text, "without rules nobody may do anything: docs/AUTH.md");
    } else {
        good("auth", text);
    }
}

static void take_finding(void *context, mongo_finding finding, const char *what, const char *value,
                         const char *advice)
{
    struct doctor *self = context;
    switch (finding) {
    case MONGO_GOOD:
        good(what, value);
        return;
    case MONGO_DOUBTFUL:
        doubtful(self, what, value, advice);
        return;
    case MONGO_BAD:
        bad(self, what, value, advice);
        return;
    }
}

/* The store as the actors would see it. */
static void look_at_store(struct doctor *self, const config *loaded)
{
    const config_options *option = &loaded->option;
    if (option->mongo_uri[0] == '\0') {
        good("store", "embedded");
        return;
    }
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    mongo_link_library_start();
    mongo_probe(option->mongo_uri, option->database,
                (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000, take_finding, self);
    mongo_link_library_end();
}

int cli_doctor(int argc, char **argv)
{
    const struct argp_child children[] = {
        {config_args_argp(), 0, NULL, 0}, {&cli_common_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {
        .parser = parse_doctor,
        .doc = "Looks at the machine, the data and the server, and says what to do about what is "
               "wrong."
               "\vExamples:\n  tidewire doctor\n  tidewire doctor --config tidewire.yaml\n",
        .children = children};
    struct doctor self = {0};
    config loaded;
    cli_common_init(&self.common);
    argp_parse(&argp, argc, argv, 0, NULL, &self);
    if (config_args_load(&self.args, "doctor", &loaded) != 0) {
        return 1;
    }
    good("configuration", loaded.file == NULL ? "defaults" : loaded.file);
    look_at_machine(&self);
    look_at_data(&self, &loaded);
    look_at_auth(&self, &loaded);
    look_at_store(&self, &loaded);
    find_server(&self, &loaded);
    look_at_server(&self, &loaded);
    printf("%u bad, %u doubtful\n", self.bad, self.doubtful);
    config_free(&loaded);
    return self.bad == 0 ? 0 : 1;
}
