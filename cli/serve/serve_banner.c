/* serve_banner.c - what is printed once all stands: where to connect, and what to try next. */
#include <stdio.h>

#include "cli/serve/serve_priv.h"

static void print_auth(const struct program *program)
{
    const auth_options *given = &program->config.auth;
    if (program->auth != NULL) {
        printf("  auth       %zu keys%s%s, %zu rules; all else is refused\n", given->keys_count,
               given->jwks[0] != '\0' ? " and those at " : "", given->jwks, given->rules.count);
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
    print_auth(program);
    const char *cluster = program->config.option.search_urls;
    printf("  search     %s\n", cluster[0] != '\0' ? cluster : "embedded");
}

static void print_next(bool demo)
{
    printf("next, in another terminal:\n  tidewire watch %s\n  tidewire put %s\n",
           demo ? "movies --filter '{\"IMDB Rating\":{\"$gte\":9}}'" : "people",
           demo ? "movies '{\"_id\":\"mine\",\"Title\":\"Mine\",\"IMDB Rating\":9.5}'"
                : "people '{\"_id\":1,\"name\":\"Ada\"}'");
}

void serve_print_banner(const struct program *program)
{
    const config *loaded = &program->config;
    bool has_gateway = program->gateway.catalog != NULL;
    printf("tidewire serves\n");
    printf("  config     %s\n", loaded->file == NULL ? "defaults, no file" : loaded->file);
    printf("  data       %s\n", loaded->option.memory ? "in memory only" : loaded->option.data);
    if (program->mongo != NULL) {
        printf("  store      MongoDB at %s, database %s\n", mongo_link_hosts(program->mongo),
               loaded->option.database);
    } else {
        printf("  store      embedded\n");
    }
    if (has_gateway) {
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
    } else if (has_gateway) {
        print_next(loaded->option.demo);
    }
    fflush(stdout);
}
