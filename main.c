/* main.c - the wiring: the only file that names every actor and gateway, and the verbs that run
 * them.
 *
 *   tidewire serve        all actors as threads of this process
 *   tidewire actor NAME   one actor (the store brings its readers, the gateway its service and
 *                         processor; gateway.1 and others that share its port, nothing)
 *   tidewire version      its version, and those of the linked libraries
 *   tidewire VERB         see cli/verbs.c */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>
#include <cyaml/cyaml.h>
#include <libwebsockets.h>
#include <mongoc/mongoc.h>
#include <msgpack.h>
#include <nng/nng.h>
#include <openssl/crypto.h>
#include <sqlite3.h>

#include "protocol/limits.h"
#include "protocol/version.h"

#include "actors/runtime/log.h"

#include "actors/log_reader.h"
#include "actors/mongo/change_tailer.h"
#include "actors/mongo/mongo_link.h"
#include "actors/mongo/mongo_probe.h"
#include "actors/mongo/mongo_reader.h"
#include "actors/mongo/mongo_writer.h"
#include "actors/processor.h"
#include "actors/search/embedded_search.h"
#include "actors/search/es_proxy.h"
#include "actors/search/indexer.h"
#include "actors/store.h"
#include "actors/subscription_manager.h"
#include "cli/config_args.h"
#include "cli/demo.h"
#include "cli/doctor.h"
#include "cli/secret.h"
#include "cli/verb.h"
#include "gateways/auth/auth.h"
#include "gateways/service/service.h"
#include "gateways/web/gateway.h"

enum {
    READERS_MAX = 4,
    ORIGINS_LISTED_MAX = 64,
    PATH_LEN_MAX = 4200,
    OLD_STOP = 2,
    SECRET_MAX = 4096, /* bytes of a password or an API key */
};
enum { CONFIGURATION_MAX = 16 << 20 }; /* bytes of /configz */

struct program {
    config config;     /* own */
    tw_system *system; /* own */
    log_store *log;    /* own; opened by the store, read by its readers */
    mongo_link *mongo; /* own; NULL: the embedded store */
    char actors_base[PATH_LEN_MAX], service_url[PATH_LEN_MAX];
    char listen[PATH_LEN_MAX], admin[PATH_LEN_MAX], origins[PATH_LEN_MAX];
    const char *origins_listed[ORIGINS_LISTED_MAX];
    const char *actors[TW_ACTORS_MAX + 1]; /* whose figures the gateway tells */
    gateway_ports ports;                   /* what was really bound */
    store_options store;
    change_tailer_options tailer;
    log_reader_options readers[READERS_MAX];
    mongo_writer_options mongo_writer;
    char node[PATH_LEN_MAX + 256]; /* host and data directory */
    mongo_reader_options mongo_readers[READERS_MAX];
    subscription_manager_options manager;
    processor_options processor;
    gateway_options gateway;                   /* with the admin listener */
    gateway_options gateways[TW_GATEWAYS_MAX]; /* those beside it, from 1 on */
    network exempt[TW_EXEMPT_NETWORKS_MAX];    /* of their limits */
    auth *auth;                                /* own; NULL: there is no auth */
    tw_buf configuration;                      /* own; JSON for the admin listener */
    gateway_tls tls;
    service_options service;
    char search_urls[PATH_LEN_MAX];
    const char *search_hosts[TW_SEARCH_HOSTS_MAX];
    char search_password[SECRET_MAX], search_key[SECRET_MAX];
    es_proxy_options search;
    embedded_search_options embedded;
    indexer_options indexer;
};

/* ---- what each actor is given ---- */
/* Splits "host:port" in place; [::1]:8090 too. */
static int split_address(const char *verb, char *address, const char **host, int *port)
{
    char *colon = strrchr(address, ':');
    uint64_t number;
    if (colon == NULL || tw_parse_u64(tw_str_of(colon + 1), 65535, &number) != TW_OK) {
        return cli_fail(verb, "Write it as 127.0.0.1:8090", "'%s' is not ADDRESS:PORT", address);
    }
    *colon = '\0';
    if (address[0] == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        address++;
    }
    *host = address;
    *port = (int)number;
    return 0;
}

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "localhost") == 0 ||
           strcmp(host, "::1") == 0;
}

/* The actor that answers searches: a cluster's, or the one that needs none. */
static const char *search_actor(const struct program *program)
{
    return program->config.option.search_urls[0] != '\0' ? "es_proxy" : "embedded_search";
}

/* The actors of this program, wherever they run. */
static bool is_served(const config_options *option, const char *name, const char *search)
{
    const int64_t mongo = option->mongo_uri[0] == '\0' ? 0 : 1;
    const struct {
        const char *name;  /* a dot at its end: instances are numbered from 0 */
        int64_t instances; /* in use */
    } served[] = {
        {"store", 1},
        {"log_reader.", option->readers},
        {"subscription_manager", 1},
        {"gateway", 1},
        {"gateway.", option->gateways}, /* .0 is no name */
        {"service", 1},
        {"processor", 1},
        {"change_tailer", mongo},
        {"mongo_writer", mongo},
        {"mongo_reader.", mongo * option->mongo_readers},
        {"indexer", strcmp(search, "es_proxy") == 0 ? 1 : 0},
        {search, 1},
    };
    for (size_t i = 0; i < TW_COUNT(served); i++) {
        size_t len = strlen(served[i].name);
        bool numbered = served[i].name[len - 1] == '.';
        if (strncmp(name, served[i].name, len) == 0 && (numbered || name[len] == '\0')) {
            return (numbered ? name[len] - '0' : 0) < served[i].instances;
        }
    }
    return false;
}

static size_t mongo_readers(const struct program *program)
{
    const config_options *option = &program->config.option;
    return option->mongo_uri[0] == '\0' ? 0 : (size_t)option->mongo_readers;
}

static uint64_t unix_s(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec;
}

/* Fetches keys where it is time. */
static void keep_keys(struct program *program)
{
    broker_why why = {0};
    tw_err err = auth_keep(program->auth, unix_s(), &why);
    if (err != TW_OK) {
        tw_log(TW_LOG_WARN, "main", "auth.jwks: %s; the last good set holds",
               why.text[0] != '\0' ? why.text : tw_err_text(err));
    }
}

/* Who may come in: keys are read here, and again by SIGHUP. */
static int fill_auth(struct program *program, const char *verb)
{
    broker_why why = {0};
    const config *loaded = &program->config;
    if (!auth_is_wanted(&loaded->auth) || program->auth != NULL) {
        return 0;
    }
    tw_err err = auth_new(&program->auth, &loaded->auth, &why);
    if (err != TW_OK) {
        return cli_fail(verb, "", "%s", why.text[0] != '\0' ? why.text : tw_err_text(err));
    }
    keep_keys(program); /* those who come first are to be known */
    program->gateway.auth = program->auth;
    program->gateway.hello_ms = (uint64_t)loaded->option.auth_hello_ms;
    return 0;
}

/* Who may listen beyond this machine: what is said there is not to be read, nor everybody let in.
 * Returns 1 when the configuration is wrong (told). */
static int fill_security(struct program *program, const char *verb)
{
    const config_options *option = &program->config.option;
    gateway_options *gateway = &program->gateway;
    if ((option->tls_cert[0] == '\0') != (option->tls_key[0] == '\0')) {
        return cli_fail(verb, "Give both --tls-cert and --tls-key",
                        "TLS needs a certificate and its key");
    }
    if (option->tls_cert[0] != '\0') {
        program->tls.files = (tls_link_options){.cert = option->tls_cert, .key = option->tls_key};
        gateway->tls = &program->tls;
    }
    if (fill_auth(program, verb) != 0) {
        return 1;
    }
    if (is_loopback(gateway->listen_address) || option->insecure) {
        return 0;
    }
    if (program->auth == NULL) {
        return cli_fail(verb,
                        "Listen on 127.0.0.1, configure auth (docs/AUTH.md), or give --insecure",
                        "listening on %s would let everybody in", gateway->listen_address);
    }
    if (gateway->tls == NULL) {
        return cli_fail(verb,
                        "Give --tls-cert and --tls-key (docs/OPERATING.md); or --insecure, where "
                        "all who can listen in are trusted",
                        "what is said to %s could be read by others: there is no TLS",
                        gateway->listen_address);
    }
    return 0;
}

/* The networks that may have any number of connections. */
static int fill_exempt(struct program *program, const char *verb)
{
    char listed[PATH_LEN_MAX];
    gateway_limits *limits = &program->gateway.limits;
    tw_format(listed, sizeof listed, "%s", program->config.option.limit_exempt);
    char *rest = listed;
    limits->exempt = program->exempt;
    limits->exempt_count = 0;
    for (char *each; (each = strtok_r(rest, ", ", &rest)) != NULL;) {
        if (limits->exempt_count == TW_EXEMPT_NETWORKS_MAX) {
            return cli_fail(verb, "", "limits.exempt: at most %d networks", TW_EXEMPT_NETWORKS_MAX);
        }
        if (!network_read(each, &program->exempt[limits->exempt_count++])) {
            return cli_fail(verb, "Write it as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32",
                            "limits.exempt: '%.60s' is neither an address nor a network", each);
        }
    }
    return 0;
}

static bucket_rate rate_of(int64_t per_s)
{
    return (bucket_rate){.per_s = (uint32_t)per_s, .burst = 2 * (uint32_t)per_s};
}

static gateway_limits limits_of(const config_options *option)
{
    return (gateway_limits){
        .connections = (uint32_t)option->limit_connections,
        .address_connections = (uint32_t)option->limit_address,
        .user_connections = (uint32_t)option->limit_user,
        .accepts = {.per_s = (uint32_t)option->limit_accepts,
                    .burst = (uint32_t)option->limit_accepts},
        .messages = rate_of(option->limit_messages),
        .subscribes = rate_of(option->limit_subscribes),
        .searches = rate_of(option->limit_searches),
        .searches_at_once = (uint32_t)option->limit_searching,
    };
}

/* with_admin: the listener of figures stands here; elsewhere it may have any port but 0. */
static int fill_gateway(struct program *program, const char *verb, bool with_admin)
{
    const config_options *option = &program->config.option;
    gateway_options *gateway = &program->gateway;
    tw_format(program->listen, sizeof(program->listen), "%s", option->listen);
    tw_format(program->admin, sizeof(program->admin), "%s", option->admin);
    tw_format(program->origins, sizeof(program->origins), "%s", option->origins);
    *gateway = (gateway_options){
        .catalog = &program->config.catalog,
        .origins = program->origins_listed,
        .readers_count = (size_t)option->readers,
        .mongo_readers_count = mongo_readers(program),
        .search = search_actor(program),
        .search_ms = (uint32_t)option->search_timeout_ms,
        .gateways_count = (size_t)option->gateways,
        .limits = limits_of(option),
        .ports = &program->ports,
        .actors = program->actors,
        .system = program->system,
        .demo = option->demo,
    };
    config_write_json(&program->config, &program->configuration);
    tw_buf_add_byte(&program->configuration, '\0');
    gateway->configuration =
        program->configuration.err == TW_OK ? program->configuration.ptr : NULL;
    size_t actors = 0;
    for (size_t i = 0; tw_actor_names[i] != NULL && actors < TW_ACTORS_MAX; i++) {
        if (is_served(option, tw_actor_names[i], gateway->search)) {
            program->actors[actors++] = tw_actor_names[i];
        }
    }
    if (split_address(verb, program->listen, &gateway->listen_address, &gateway->listen_port)) {
        return 1;
    }
    if (fill_security(program, verb) != 0 || fill_exempt(program, verb) != 0) {
        return 1;
    }
    if (option->admin[0] != '\0') {
        if (split_address(verb, program->admin, &gateway->admin_address, &gateway->admin_port)) {
            return 1;
        }
        if (!is_loopback(gateway->admin_address)) {
            return cli_fail(verb, "Use 127.0.0.1", "the admin listener is for loopback only");
        }
    }
    if (!with_admin) { /* whose pages may come all the same */
        atomic_store(&program->ports.admin, gateway->admin_port);
        gateway->admin_address = NULL;
    }
    char *rest = program->origins;
    for (char *each; (each = strtok_r(rest, ", ", &rest)) != NULL;) {
        if (gateway->origins_count == ORIGINS_LISTED_MAX) {
            return cli_fail(verb, "", "at most %d origins", ORIGINS_LISTED_MAX);
        }
        program->origins_listed[gateway->origins_count++] = each;
    }
    return 0;
}

/* True when this process is to run the actor: the one that was named, or all of `only`. */
static bool is_wanted(const struct program *program, const char *named, const char *actor)
{
    if (named != NULL) {
        return strcmp(named, actor) == 0;
    }
    const char *only = program->config.option.only;
    size_t len = strlen(actor);
    for (const char *at = only; *at != '\0';) {
        size_t word = strcspn(at, ",");
        if (word == len && strncmp(at, actor, len) == 0) {
            return true;
        }
        at += word + (at[word] == ',' ? 1 : 0);
    }
    return only[0] == '\0';
}

static tw_err add_store(struct program *program)
{
    const config_options *option = &program->config.option;
    tw_err err = log_store_new(&program->log);
    if (err != TW_OK) {
        return err;
    }
    program->store = (store_options){
        .log = program->log,
        .catalog = &program->config.catalog,
        .directory = option->data,
        .memory = option->memory,
        .srv_id = (uint64_t)option->srv_id,
        .age_ms = (uint64_t)option->log_age_s * 1000,
        .superseded_bytes = (uint64_t)option->log_bytes,
        .image = program->mongo != NULL,
    };
    err = tw_system_add(program->system, &store_class, -1, &program->store);
    for (int i = 0; i < (int)option->readers && err == TW_OK; i++) {
        program->readers[i] =
            (log_reader_options){.log = program->log, .catalog = &program->config.catalog};
        err = tw_system_add(program->system, &log_reader_class, i, &program->readers[i]);
    }
    return err;
}

/* The actors that speak to MongoDB: the writer tells the tailer whose events will come. */
static tw_err add_mongo(struct program *program)
{
    const config_options *option = &program->config.option;
    program->tailer =
        (change_tailer_options){.link = program->mongo, .catalog = &program->config.catalog};
    program->mongo_writer = (mongo_writer_options){.link = program->mongo,
                                                   .catalog = &program->config.catalog,
                                                   .base = tw_system_base(program->system),
                                                   .node = program->node,
                                                   .post_images = option->mongo_post_images};
    tw_err err = tw_system_add(program->system, &change_tailer_class, -1, &program->tailer);
    if (err == TW_OK) {
        err = tw_system_add(program->system, &mongo_writer_class, -1, &program->mongo_writer);
    }
    for (int i = 0; i < (int)option->mongo_readers && err == TW_OK; i++) {
        program->mongo_readers[i] =
            (mongo_reader_options){.link = program->mongo, .catalog = &program->config.catalog};
        err = tw_system_add(program->system, &mongo_reader_class, i, &program->mongo_readers[i]);
    }
    return err;
}

static const char *or_null(const char *text)
{
    return text[0] == '\0' ? NULL : text;
}

static int fill_search(struct program *program, const char *verb)
{
    const config_options *option = &program->config.option;
    size_t count = 0;
    tw_format(program->search_urls, sizeof(program->search_urls), "%s", option->search_urls);
    char *rest = program->search_urls;
    for (char *each; (each = strtok_r(rest, ", ", &rest)) != NULL;) {
        size_t len = strlen(each);
        if (count == TW_SEARCH_HOSTS_MAX) {
            return cli_fail(verb, "", "search.urls: at most %d", TW_SEARCH_HOSTS_MAX);
        }
        if (strncmp(each, "http://", 7) != 0 && strncmp(each, "https://", 8) != 0) {
            return cli_fail(verb, "Write it as http://127.0.0.1:9200", "search.urls: '%s'", each);
        }
        if (strchr(each, '@') != NULL) {
            return cli_fail(verb, "Give search.user and search.password_file",
                            "search.urls: no names and passwords in a URL");
        }
        if (each[len - 1] == '/') {
            each[len - 1] = '\0';
        }
        program->search_hosts[count++] = each;
    }
    if (secret_read(verb, option->search_password_file, "TIDEWIRE_SEARCH_PASSWORD",
                    program->search_password, SECRET_MAX) != 0 ||
        secret_read(verb, option->search_api_key_file, "TIDEWIRE_SEARCH_API_KEY",
                    program->search_key, SECRET_MAX) != 0) {
        return 1;
    }
    program->search = (es_proxy_options){
        .catalog = &program->config.catalog,
        .hosts = program->search_hosts,
        .hosts_count = count,
        .user = or_null(option->search_user),
        .password = program->search_password,
        .api_key = or_null(program->search_key),
        .ca_file = or_null(option->search_ca_file),
        .prefix = option->search_prefix,
        .connections = (size_t)option->search_connections,
        .shards = option->search_shards,
        .replicas = option->search_replicas,
    };
    return 0;
}

/* The proxy and its indexer, or the embedded search. Returns 1 when the configuration is wrong
 * (told). */
static int add_search(struct program *program, const char *verb, tw_err *err)
{
    const config_options *option = &program->config.option;
    if (option->search_urls[0] == '\0') {
        program->embedded = (embedded_search_options){.catalog = &program->config.catalog,
                                                      .directory = option->data,
                                                      .memory = option->memory};
        *err = tw_system_add(program->system, &embedded_search_class, -1, &program->embedded);
        return 0;
    }
    if (fill_search(program, verb) != 0) {
        return 1;
    }
    program->indexer =
        (indexer_options){.catalog = &program->config.catalog, .engine = search_actor(program)};
    *err = tw_system_add(program->system, &es_proxy_class, -1, &program->search);
    if (*err == TW_OK) {
        *err = tw_system_add(program->system, &indexer_class, -1, &program->indexer);
    }
    return 0;
}

/* The wanted gateways. The first has the admin listener, and tells the figures of all. Returns
 * their number, -1 when the configuration is wrong (told). */
static int add_gateways(struct program *program, const char *verb, const char *named, tw_err *err)
{
    int count = 0;
    int64_t last = program->config.option.gateways;
    bool first = is_wanted(program, named, "gateway");
    for (int i = 0; i < (int)last && *err == TW_OK; i++) {
        char name[TW_NAME_MAX];
        tw_format(name, sizeof(name), "gateway.%d", i);
        if (i == 0 ? !first : !is_wanted(program, named, name)) {
            continue;
        }
        if (count++ == 0 && fill_gateway(program, verb, first) != 0) {
            return -1;
        }
        gateway_options *given = &program->gateway;
        if (i > 0) {
            given = &program->gateways[i];
            *given = program->gateway;
            given->admin_address = NULL;
            given->actors = NULL;
        }
        *err = tw_system_add(program->system, &gateway_class, i == 0 ? -1 : i, given);
    }
    if (count > 0 && count < last && program->gateway.listen_port == 0) {
        (void)cli_fail(verb, "Name a port: --listen 127.0.0.1:8090",
                       "gateways of several processes cannot agree on a free port");
        return -1;
    }
    return count;
}

/* Adds the wanted actors in the order of their start. Returns their number, 0 on an error
 * (told). */
static int add_actors(struct program *program, const char *verb, const char *named)
{
    const config_options *option = &program->config.option;
    tw_err err = TW_OK;
    int count = 0;
    if (is_wanted(program, named, "store")) {
        err = add_store(program);
        count++;
    }
    if (err == TW_OK && program->mongo != NULL && is_wanted(program, named, "change_tailer")) {
        err = add_mongo(program);
        count++;
    }
    if (err == TW_OK && is_wanted(program, named, "subscription_manager")) {
        program->manager = (subscription_manager_options){.catalog = &program->config.catalog};
        err = tw_system_add(program->system, &subscription_manager_class, -1, &program->manager);
        count++;
    }
    if (err == TW_OK && is_wanted(program, named, search_actor(program))) {
        if (add_search(program, verb, &err) != 0) {
            return 0;
        }
        count++;
    }
    int gateways = err == TW_OK ? add_gateways(program, verb, named, &err) : 0;
    if (gateways < 0) {
        return 0;
    }
    count += gateways;
    /* A named gateway brings them. */
    if (err == TW_OK && is_wanted(program, named, named == NULL ? "processor" : "gateway")) {
        program->processor = (processor_options){.catalog = &program->config.catalog,
                                                 .readers_count = (size_t)option->readers};
        err = tw_system_add(program->system, &processor_class, -1, &program->processor);
        count++;
    }
    const char *with = named == NULL ? "service" : "gateway";
    bool service = strcmp(option->service, "none") != 0 && is_wanted(program, named, with);
    if (service && fill_auth(program, verb) != 0) {
        return 0;
    }
    if (err == TW_OK && service) {
        program->service = (service_options){
            .catalog = &program->config.catalog,
            .url = program->service_url,
            .auth = program->auth,
            .readers_count = (size_t)option->readers,
            .mongo_readers_count = mongo_readers(program),
            .search = search_actor(program),
            .search_ms = (uint32_t)option->search_timeout_ms,
        };
        err = tw_system_add(program->system, &service_class, -1, &program->service);
        count++;
    }
    if (err != TW_OK) {
        (void)cli_fail(verb, "", "%s", tw_err_text(err));
        return 0;
    }
    if (count == 0) {
        (void)cli_fail(verb,
                       "Actors: store subscription_manager es_proxy embedded_search gateway; "
                       "gateway.1 with --gateways 2, and so on",
                       "nothing to run: '%s'", named != NULL ? named : option->only);
    }
    return count;
}

/* ---- before the start ---- */
static int make_directory(const char *verb, const char *path)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST) {
        return 0;
    }
    return cli_fail(verb, "Give another directory with --data, or make its parent",
                    "%s cannot be made: %s", path, strerror(errno));
}

static const char *absolute(const char *path, char *out, size_t size)
{
    char here[PATH_LEN_MAX / 2];
    if (path[0] == '/' || getcwd(here, sizeof(here)) == NULL) {
        tw_format(out, size, "%s", path);
    } else {
        tw_format(out, size, "%s/%s", here, strncmp(path, "./", 2) == 0 ? path + 2 : path);
    }
    return out;
}

static int prepare_mongo(struct program *program, const char *verb)
{
    char why[TW_ERROR_TEXT_MAX], host[256] = "", data[PATH_LEN_MAX];
    const char *uri = program->config.option.mongo_uri;
    if (uri[0] == '\0') {
        return 0;
    }
    if (mongo_link_new(&program->mongo, uri, why, sizeof(why)) != TW_OK) {
        return cli_fail(verb, "docs/MONGODB.md tells what is needed", "%s", why);
    }
    gethostname(host, sizeof(host) - 1);
    absolute(program->config.option.data, data, sizeof(data));
    tw_format(program->node, sizeof(program->node), "%s:%s", host, data);
    return 0;
}

/* Without a cluster the log keeps what would be kept in one alone, and everything is searched. */
static void search_embedded(config *loaded)
{
    catalog_collection *at = (catalog_collection *)(uintptr_t)loaded->catalog.at;
    for (size_t i = 0; i < loaded->catalog.count; i++) {
        at[i].search_store = false;
    }
    loaded->catalog.embedded = true;
}

static int prepare(struct program *program, const char *verb)
{
    const config_options *option = &program->config.option;
    char data[PATH_LEN_MAX];
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    size_t level = 0;
    while (level < TW_COUNT(levels) && strcmp(levels[level], option->log_level) != 0) {
        level++;
    }
    if (level == TW_COUNT(levels)) {
        return cli_fail(verb, "error, warn, info or debug", "there is no log level '%s'",
                        option->log_level);
    }
    tw_log_set_level((tw_log_level)level);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max; /* each client is a descriptor */
        setrlimit(RLIMIT_NOFILE, &files);
    }
    absolute(option->data, data, sizeof(data));
    if (option->search_urls[0] == '\0') {
        search_embedded(&program->config);
    }
    if (!option->memory && make_directory(verb, option->data) != 0) {
        return 1;
    }
    if (option->service[0] != '\0') {
        tw_format(program->service_url, sizeof(program->service_url), "%s", option->service);
    } else if (option->memory) {
        tw_format(program->service_url, sizeof(program->service_url), "inproc://tidewire-service");
    } else {
        tw_format(program->service_url, sizeof(program->service_url), "ipc://%s/service", data);
    }
    tw_format(program->actors_base, sizeof(program->actors_base), "%s", option->actors);
    return prepare_mongo(program, verb);
}

/* ---- the verbs serve and actor ---- */
struct serve_arguments {
    config_args args;
    const char *actor; /* of the verb actor */
    bool wants_actor;
};

static error_t parse_serve(int key, char *arg, struct argp_state *state)
{
    struct serve_arguments *given = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &given->args;
        return 0;
    case ARGP_KEY_ARG:
        if (!given->wants_actor || given->actor != NULL) {
            argp_error(state, "'%s' is not expected here", arg);
        }
        given->actor = arg;
        return 0;
    case ARGP_KEY_END:
        if (given->wants_actor && given->actor == NULL) {
            argp_error(state,
                       "name an actor: store, subscription_manager, es_proxy, embedded_search, "
                       "gateway or gateway.1");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void print_listeners(const struct program *program)
{
    const gateway_options *gateway = &program->gateway;
    const char *host = gateway->listen_address;
    const char *s = gateway->tls != NULL ? "s" : "";
    int port = atomic_load(&program->ports.listen);
    printf("  websocket  ws%s://%s:%d/ws   (also /db /search /changes)\n", s, host, port);
    printf("  http       http%s://%s:%d/api/v1/COLLECTION\n", s, host, port);
    if (gateway->demo) {
        printf("  demo       http%s://%s:%d/demo/\n", s, host, port);
    }
    if (gateway->admin_address != NULL) {
        printf("  admin      http://%s:%d/   the inspector   (/metrics /varz /connz /streamz "
               "/actorz /configz)\n",
               gateway->admin_address, atomic_load(&program->ports.admin));
    }
    if (program->service.url != NULL) {
        printf("  service    %s\n", program->service_url);
    }
    const auth_options *given = &program->config.auth;
    if (program->auth != NULL) {
        printf("  auth       %zu keys%s%s, %zu rules; all else is refused\n", given->keys_count,
               given->jwks[0] != '\0' ? " and those at " : "", given->jwks, given->rules.count);
    }
    const char *cluster = program->config.option.search_urls;
    printf("  search     %s\n", cluster[0] != '\0' ? cluster : "embedded");
}

static void print_start(const struct program *program)
{
    const config *loaded = &program->config;
    printf("tidewire serves\n");
    printf("  config     %s\n", loaded->file == NULL ? "defaults, no file" : loaded->file);
    printf("  data       %s\n", loaded->option.memory ? "in memory only" : loaded->option.data);
    if (program->mongo != NULL) {
        printf("  store      MongoDB at %s, database %s\n", mongo_link_hosts(program->mongo),
               loaded->option.database);
    } else {
        printf("  store      embedded\n");
    }
    if (program->gateway.catalog != NULL) {
        print_listeners(program);
    }
    if (loaded->catalog.count > 0) {
        printf("  declared  ");
        for (size_t i = 0; i < loaded->catalog.count; i++) {
            printf(" %s", loaded->catalog.at[i].name);
        }
        printf("\n");
    }
    if (program->gateway.tls != NULL) {
        printf("  tls        %s   (SIGHUP reads it again)\n", loaded->option.tls_cert);
    } else if (program->gateway.catalog != NULL) {
        bool demo = loaded->option.demo;
        printf("next, in another terminal:\n  tidewire watch %s\n  tidewire put %s\n",
               demo ? "movies --filter '{\"IMDB Rating\":{\"$gte\":9}}'" : "people",
               demo ? "movies '{\"_id\":\"mine\",\"Title\":\"Mine\",\"IMDB Rating\":9.5}'"
                    : "people '{\"_id\":1,\"name\":\"Ada\"}'");
    }
    fflush(stdout);
}

static void free_config(void *memory)
{
    config *loaded = memory;
    config_free(loaded);
    tw_free(loaded);
}

/* SIGHUP: the section auth is read again, with its files. What is wrong with it is told, and the
 * rules before hold. */
static void reload(struct program *program, const char *verb, const config_args *args)
{
    broker_why why = {0};
    config *fresh = tw_alloc_zero(1, sizeof *fresh);
    if (fresh == NULL || config_args_load(args, verb, fresh) != 0) {
        tw_free(fresh);
        tw_log(TW_LOG_ERROR, "main", "reload: the configuration is refused; the rules before hold");
        return;
    }
    tw_err err = auth_is_wanted(&fresh->auth)
                     ? auth_reload(program->auth, &fresh->auth, fresh, free_config, &why)
                     : broker_refuse(&why, TW_E_BAD_CONFIG, "the section auth is gone");
    if (err == TW_OK) {
        tw_log(TW_LOG_INFO, "main", "reload: %zu keys, %zu rules hold now", fresh->auth.keys_count,
               fresh->auth.rules.count);
        return;
    }
    tw_log(TW_LOG_ERROR, "main", "reload: %s; the rules before hold",
           why.text[0] != '\0' ? why.text : tw_err_text(err));
    free_config(fresh);
}

/* Waits for SIGINT or SIGTERM, which all threads have blocked, and meanwhile keeps auth true: keys
 * are fetched. SIGHUP, where it is among them, reads rules and certificate anew. The second SIGINT
 * or SIGTERM ends the process at once. */
static void wait_for_signal(struct program *program, const char *verb, const config_args *args,
                            const sigset_t *signals)
{
    const struct timespec tick = {.tv_nsec = 250000000};
    int number = SIGHUP;
    while (number <= 0 || number == SIGHUP) {
        bool keeps = program->auth != NULL;
        number = keeps ? sigtimedwait(signals, NULL, &tick) : sigwaitinfo(signals, NULL);
        if (number == SIGHUP) {
            atomic_fetch_add(&program->tls.reloads, 1);
        }
        if (keeps && number == SIGHUP) {
            reload(program, verb, args);
        }
        if (keeps) {
            keep_keys(program);
        }
    }
    tw_log(TW_LOG_INFO, "main", "signal %d: finishing; once more ends at once", number);
    struct sigaction at_once = {.sa_handler = SIG_DFL};
    sigaction(SIGINT, &at_once, NULL);
    sigaction(SIGTERM, &at_once, NULL);
    sigaction(SIGHUP, &at_once, NULL);
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
}

static int run_system(struct program *program, const char *verb, const char *actor,
                      const config_args *args)
{
    const config_options *option = &program->config.option;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    /* where nothing is read anew it ends the process, as a terminal's does */
    if (auth_is_wanted(&program->config.auth) || option->tls_cert[0] != '\0') {
        sigaddset(&signals, SIGHUP);
    }
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    const tw_system_options options = {
        .base = program->actors_base[0] == '\0' ? NULL : program->actors_base,
        .drop_every = (uint64_t)option->drop_every,
    };
    tw_err err = tw_system_new(&program->system, &options);
    if (err != TW_OK) {
        return cli_fail(verb, "", "%s", tw_err_text(err));
    }
    if (add_actors(program, verb, actor) == 0) {
        return 1;
    }
    const char *why = "";
    err = tw_system_start(program->system, &why);
    if (err != TW_OK) {
        return cli_fail(verb, "tidewire doctor may tell more", "the start failed: %s", why);
    }
    print_start(program);
    int status = 0;
    if (option->demo && is_wanted(program, actor, "gateway")) {
        status = demo_load(atomic_load(&program->ports.listen), program->gateway.tls != NULL,
                           option->demo_data);
    }
    wait_for_signal(program, verb, args, &signals);
    tw_stopped stopped = tw_system_stop(program->system, TW_DRAIN_MS);
    if (stopped != TW_STOPPED) { /* threads are left that use what would be freed now */
        fflush(stdout);
        _exit(stopped == TW_STOPPED_UNCLOSED ? status : 1);
    }
    return status;
}

static int serve(int argc, char **argv, bool wants_actor)
{
    const char *verb = wants_actor ? "actor" : "serve";
    const struct argp_child children[] = {{config_args_argp(), 0, NULL, 0}, {0}};
    const struct argp argp = {
        .parser = parse_serve,
        .args_doc = wants_actor ? "NAME" : NULL,
        .doc = wants_actor
                   ? "Runs one actor in this process; the others run elsewhere with the same "
                     "--actors."
                     "\vExamples, in three terminals:\n"
                     "  tidewire actor store --actors ipc:///tmp/tide\n"
                     "  tidewire actor subscription_manager --actors ipc:///tmp/tide\n"
                     "  tidewire actor gateway --actors ipc:///tmp/tide\n"
                     "Two gateways on one port:\n"
                     "  tidewire actor gateway --gateways 2 --actors ipc:///tmp/tide\n"
                     "  tidewire actor gateway.1 --gateways 2 --actors ipc:///tmp/tide\n"
                   : "Serves records as live, resumable streams.\vExamples:\n"
                     "  tidewire serve\n"
                     "  tidewire serve --demo\n"
                     "  tidewire serve --listen 127.0.0.1:9000 --data /var/lib/tidewire\n"
                     "  tidewire serve --gateways 4\n"
                     "  tidewire serve --tls-cert chain.pem --tls-key key.pem\n",
        .children = children,
    };
    struct serve_arguments given = {.wants_actor = wants_actor};
    argp_parse(&argp, argc, argv, 0, NULL, &given);
    struct program *program = tw_alloc_zero(1, sizeof(*program));
    if (program == NULL) {
        return cli_fail(verb, "", "no memory");
    }
    tw_buf_init(&program->configuration, CONFIGURATION_MAX);
    int status = config_args_load(&given.args, verb, &program->config);
    mongo_link_library_start();
    if (status == 0) {
        status = prepare(program, verb);
    }
    if (status == 0) {
        status = run_system(program, verb, given.actor, &given.args);
    }
    tw_system_free(&program->system);
    log_store_free(&program->log);
    mongo_link_free(&program->mongo);
    mongo_link_library_end();
    auth_free(&program->auth);
    config_free(&program->config);
    tw_buf_fini(&program->configuration);
    tw_free(program);
    return status;
}

/* ---- the verb doctor, which looks at the store as the actors would ---- */
struct finding_to {
    cli_doctor_report report;
    void *context;
};

static void pass_finding(void *context, mongo_finding finding, const char *what, const char *value,
                         const char *advice)
{
    static const cli_finding as[] = {
        [MONGO_GOOD] = CLI_GOOD, [MONGO_DOUBTFUL] = CLI_DOUBTFUL, [MONGO_BAD] = CLI_BAD};
    const struct finding_to *to = context;
    to->report(to->context, as[finding], what, value, advice);
}

static void probe_store(const config *loaded, cli_doctor_report report, void *context)
{
    const config_options *option = &loaded->option;
    struct finding_to to = {report, context};
    if (option->mongo_uri[0] == '\0') {
        report(context, CLI_GOOD, "store", "embedded", "");
        return;
    }
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    mongo_link_library_start();
    mongo_probe(option->mongo_uri, option->database,
                (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000, pass_finding, &to);
    mongo_link_library_end();
}

/* ---- versions ---- */
static int show_versions(void)
{
    const struct {
        const char *name, *version;
    } linked[] = {
        {"nng", nng_version()},
        {"libwebsockets", lws_get_library_version()},
        {"SQLite", sqlite3_libversion()},
        {"libmongoc", mongoc_get_version()},
        {"libbson", bson_get_version()},
        {"libcurl", curl_version_info(CURLVERSION_NOW)->version},
        {"msgpack-c", msgpack_version()},
        {"libcyaml", cyaml_version_str},
        {"OpenSSL", OpenSSL_version(OPENSSL_VERSION)},
    };
    printf("tidewire %s\n", TW_VERSION);
    for (size_t i = 0; i < TW_COUNT(linked); i++) {
        printf("  %-14s %s\n", linked[i].name, linked[i].version);
    }
    return 0;
}

/* ---- the table of verbs ---- */
static int usage(FILE *out)
{
    fprintf(out, "tidewire - records of a database as live, resumable streams\n\n"
                 "usage: tidewire VERB [OPTION...]     tidewire VERB --help tells more\n\n"
                 "  serve         serve everything from this process\n"
                 "  actor         run one actor in a process of its own\n"
                 "  version       this version, and those of the linked libraries\n");
    for (const cli_verb *verb = cli_verbs; verb->name != NULL; verb++) {
        fprintf(out, "  %-13s %s\n", verb->name, verb->summary);
    }
    fprintf(out, "\nExamples:\n  tidewire serve --demo\n  tidewire watch movies\n"
                 "  tidewire put people '{\"_id\":1,\"name\":\"Ada\"}'\n");
    return out == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    static char name[64];
    if (argc < 2) {
        return usage(stderr);
    }
    const char *verb = argv[1];
    if (strcmp(verb, "--help") == 0 || strcmp(verb, "help") == 0) {
        return usage(stdout);
    }
    if (strcmp(verb, "--version") == 0 || strcmp(verb, "-V") == 0 || strcmp(verb, "version") == 0) {
        return show_versions();
    }
    tw_format(name, sizeof(name), "tidewire %s", verb);
    argv[1] = name;
    if (strcmp(verb, "serve") == 0 || strcmp(verb, "actor") == 0) {
        return serve(argc - 1, argv + 1, verb[0] == 'a');
    }
    if (strcmp(verb, "doctor") == 0) {
        return cli_doctor_with(argc - 1, argv + 1, probe_store);
    }
    for (const cli_verb *each = cli_verbs; each->name != NULL; each++) {
        if (strcmp(each->name, verb) == 0) {
            return each->run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "tidewire: there is no verb '%s'\n\n", verb);
    return usage(stderr);
}
