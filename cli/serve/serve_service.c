/* serve_service.c - options of the service gateway, and where its socket is. */
#include "cli/serve/serve_priv.h"

static void name_socket(const config_options *option, char *out, size_t size)
{
    char data[SERVE_PATH_MAX];
    if (option->service[0] != '\0') {
        tw_format(out, size, "%s", option->service);
    } else if (option->memory) {
        tw_format(out, size, "inproc://tidewire-service");
    } else {
        tw_format(out, size, "ipc://%s/service", serve_absolute(option->data, data, sizeof(data)));
    }
}

const void *serve_fill_service(struct program *program, size_t number)
{
    const config_options *option = &program->config.option;
    (void)number;
    if (serve_fill_auth(program) != 0) {
        return NULL;
    }
    name_socket(option, program->service_url, sizeof(program->service_url));
    program->service = (service_options){
        .catalog = &program->config.catalog,
        .url = program->service_url,
        .auth = program->auth,
        .readers_count = (size_t)option->readers,
        .mongo_readers_count = (size_t)serve_mongo_readers(option),
        .search = serve_search_actor(option),
        .search_ms = (uint32_t)option->search_timeout_ms,
    };
    return &program->service;
}
