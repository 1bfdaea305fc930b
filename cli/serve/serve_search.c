/* serve_search.c - options of the search engine: the proxy of a cluster and its indexer, or the
 * embedded search. */
#include "cli/secret.h"
#include "cli/serve/serve_priv.h"

const char *serve_search_actor(const config_options *option)
{
    return option->search_urls[0] != '\0' ? "es_proxy" : "embedded_search";
}

/* Without a cluster the log keeps what would be kept in one alone, and everything is searched. */
void serve_prepare_search(struct program *program)
{
    catalog *declared = &program->config.catalog;
    if (program->config.option.search_urls[0] != '\0') {
        return;
    }
    catalog_collection *at = (catalog_collection *)(uintptr_t)declared->at;
    for (size_t i = 0; i < declared->count; i++) {
        at[i].search_store = false;
    }
    declared->embedded = true;
}

static const char *or_null(const char *text)
{
    return text[0] == '\0' ? NULL : text;
}

/* Splits search.urls into hosts; *count is their number. */
static int split_urls(struct program *program, size_t *count)
{
    const char *verb = program->verb;
    tw_format(program->search_urls, sizeof(program->search_urls), "%s",
              program->config.option.search_urls);
    char *rest = program->search_urls;
    *count = 0;
    for (char *each; (each = strtok_r(rest, ", ", &rest)) != NULL;) {
        size_t len = strlen(each);
        if (*count == TW_SEARCH_HOSTS_MAX) {
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
        program->search_hosts[(*count)++] = each;
    }
    return 0;
}

const void *serve_fill_es_proxy(struct program *program, size_t number)
{
    const config_options *option = &program->config.option;
    size_t hosts = 0;
    (void)number;
    if (split_urls(program, &hosts) != 0 ||
        secret_read(program->verb, option->search_password_file, "TIDEWIRE_SEARCH_PASSWORD",
                    program->search_password, SERVE_SECRET_MAX) != 0 ||
        secret_read(program->verb, option->search_api_key_file, "TIDEWIRE_SEARCH_API_KEY",
                    program->search_key, SERVE_SECRET_MAX) != 0) {
        return NULL;
    }
    program->search = (es_proxy_options){
        .catalog = &program->config.catalog,
        .hosts = program->search_hosts,
        .hosts_count = hosts,
        .user = or_null(option->search_user),
        .password = program->search_password,
        .api_key = or_null(program->search_key),
        .ca_file = or_null(option->search_ca_file),
        .prefix = option->search_prefix,
        .connections = (size_t)option->search_connections,
        .shards = option->search_shards,
        .replicas = option->search_replicas,
    };
    return &program->search;
}

const void *serve_fill_indexer(struct program *program, size_t number)
{
    (void)number;
    program->indexer = (indexer_options){.catalog = &program->config.catalog,
                                         .engine = serve_search_actor(&program->config.option)};
    return &program->indexer;
}

const void *serve_fill_embedded_search(struct program *program, size_t number)
{
    const config_options *option = &program->config.option;
    (void)number;
    program->embedded = (embedded_search_options){
        .catalog = &program->config.catalog, .directory = option->data, .memory = option->memory};
    return &program->embedded;
}
