/* serve_mongo.c - the link to MongoDB, and options of the actors that speak to it. */
#include <unistd.h>

#include "cli/serve/serve_priv.h"

int serve_prepare_mongo(struct program *program)
{
    char why[TW_ERROR_TEXT_MAX], host[256] = "", data[SERVE_PATH_MAX];
    const char *uri = program->config.option.mongo_uri;
    if (uri[0] == '\0') {
        return 0;
    }
    if (mongo_link_new(&program->mongo, uri, why, sizeof(why)) != TW_OK) {
        return cli_fail(program->verb, "docs/MONGODB.md tells what is needed", "%s", why);
    }
    gethostname(host, sizeof(host) - 1);
    serve_absolute(program->config.option.data, data, sizeof(data));
    tw_format(program->node, sizeof(program->node), "%s:%s", host, data);
    return 0;
}

int64_t serve_mongo_readers(const config_options *option)
{
    return option->mongo_uri[0] == '\0' ? 0 : option->mongo_readers;
}

const void *serve_fill_change_tailer(struct program *program, size_t number)
{
    (void)number;
    program->tailer =
        (change_tailer_options){.link = program->mongo, .catalog = &program->config.catalog};
    return &program->tailer;
}

/* The writer tells the tailer whose events will come. */
const void *serve_fill_mongo_writer(struct program *program, size_t number)
{
    (void)number;
    program->mongo_writer =
        (mongo_writer_options){.link = program->mongo,
                               .catalog = &program->config.catalog,
                               .base = tw_system_base(program->system),
                               .node = program->node,
                               .post_images = program->config.option.mongo_post_images};
    return &program->mongo_writer;
}

const void *serve_fill_mongo_reader(struct program *program, size_t number)
{
    program->mongo_readers[number] =
        (mongo_reader_options){.link = program->mongo, .catalog = &program->config.catalog};
    return &program->mongo_readers[number];
}
