/* serve_store.c - options of the store, the one writer of the log, and of those who read it. */
#include "cli/serve/serve_priv.h"

const void *serve_fill_store(struct program *program, size_t number)
{
    const config_options *option = &program->config.option;
    (void)number;
    tw_err err = log_store_new(&program->log);
    if (err != TW_OK) {
        (void)cli_fail(program->verb, "", "%s", tw_err_text(err));
        return NULL;
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
    return &program->store;
}

const void *serve_fill_log_reader(struct program *program, size_t number)
{
    program->readers[number] =
        (log_reader_options){.log = program->log, .catalog = &program->config.catalog};
    return &program->readers[number];
}
