/* serve_actors.c - the table of actors: which there are, what wants each, who fills its options. A
 * new actor is a row here, and its name one in actors/runtime/actor_names.c. */
#include "cli/serve/serve_priv.h"

/* A hint for who names one that there is not. */
#define ACTORS_TOLD                                                                                \
    "Actors: store subscription_manager es_proxy embedded_search gateway service processor; "      \
    "gateway.1 with --gateways 2, and so on"

enum { ALONE = -1 }; /* in place of a first number: there is one, without a number */

/* ---- how many there are, in all processes ---- */
static int64_t one(const config_options *option)
{
    (void)option;
    return 1;
}

static int64_t log_readers(const config_options *option)
{
    return option->readers;
}

static int64_t with_mongo(const config_options *option)
{
    return serve_mongo_readers(option) > 0 ? 1 : 0;
}

static int64_t with_cluster(const config_options *option)
{
    return option->search_urls[0] != '\0' ? 1 : 0;
}

static int64_t without_cluster(const config_options *option)
{
    return 1 - with_cluster(option);
}

static int64_t gateways(const config_options *option)
{
    return option->gateways;
}

static int64_t services(const config_options *option)
{
    return strcmp(option->service, "none") != 0 ? 1 : 0;
}

/* ---- options that need no file of their own ---- */
static const void *fill_manager(struct program *program, size_t number)
{
    (void)number;
    program->manager = (subscription_manager_options){.catalog = &program->config.catalog};
    return &program->manager;
}

static const void *fill_processor(struct program *program, size_t number)
{
    (void)number;
    program->processor =
        (processor_options){.catalog = &program->config.catalog,
                            .readers_count = (size_t)program->config.option.readers};
    return &program->processor;
}

/* ---- the table, in the order of the start ---- */
struct served {
    const tw_actor_class *class;
    int first;         /* number of its first instance, or ALONE */
    const char *only;  /* what brings it: a name in --only; NULL: its own with the number */
    const char *actor; /* the same of `tidewire actor NAME` */
    int64_t (*end)(const config_options *option); /* after the last number; 0: there is none */
    const void *(*fill)(struct program *program, size_t number);
};

static const struct served served[] = {
    {&store_class, ALONE, "store", "store", one, serve_fill_store},
    {&log_reader_class, 0, "store", "store", log_readers, serve_fill_log_reader},
    {&change_tailer_class, ALONE, "change_tailer", "change_tailer", with_mongo,
     serve_fill_change_tailer},
    {&mongo_writer_class, ALONE, "change_tailer", "change_tailer", with_mongo,
     serve_fill_mongo_writer},
    {&mongo_reader_class, 0, "change_tailer", "change_tailer", serve_mongo_readers,
     serve_fill_mongo_reader},
    {&subscription_manager_class, ALONE, "subscription_manager", "subscription_manager", one,
     fill_manager},
    {&es_proxy_class, ALONE, "es_proxy", "es_proxy", with_cluster, serve_fill_es_proxy},
    {&indexer_class, ALONE, "es_proxy", "es_proxy", with_cluster, serve_fill_indexer},
    {&embedded_search_class, ALONE, "embedded_search", "embedded_search", without_cluster,
     serve_fill_embedded_search},
    {&gateway_class, ALONE, "gateway", "gateway", one, serve_fill_gateway},
    {&gateway_class, 1, NULL, NULL, gateways, serve_fill_gateway},
    {&processor_class, ALONE, "processor", "gateway", one, fill_processor},
    {&service_class, ALONE, "service", "gateway", services, serve_fill_service},
};

bool serve_has_actor(const config_options *option, const char *name)
{
    for (size_t i = 0; i < TW_COUNT(served); i++) {
        const struct served *row = &served[i];
        size_t len = strlen(row->class->name);
        if (strncmp(name, row->class->name, len) != 0 ||
            name[len] != (row->first == ALONE ? '\0' : '.')) {
            continue;
        }
        int number = row->first == ALONE ? 0 : name[len + 1] - '0';
        if (number >= row->first && number < row->end(option)) {
            return true;
        }
    }
    return false;
}

bool serve_is_wanted(const struct program *program, const char *name)
{
    if (program->actor != NULL) {
        return strcmp(program->actor, name) == 0;
    }
    const char *only = program->config.option.only;
    return only[0] == '\0' || tw_str_in_list(tw_str_of(name), only, ',');
}

static bool is_wanted_here(const struct program *program, const struct served *row, int number)
{
    char own[TW_NAME_MAX];
    const char *brings = program->actor != NULL ? row->actor : row->only;
    tw_format(own, sizeof(own), "%s.%d", row->class->name, number);
    return serve_is_wanted(program, brings != NULL ? brings : own);
}

/* A name in --only that no actor has would leave a part out unnoticed. */
static int check_only(const struct program *program)
{
    tw_str rest = tw_str_of(program->config.option.only);
    while (rest.len > 0) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        tw_str name = {rest.ptr, comma == NULL ? rest.len : (size_t)(comma - rest.ptr)};
        bool is_known = false;
        for (size_t i = 0; tw_actor_names[i] != NULL; i++) {
            is_known = is_known || tw_str_equal(name, tw_str_of(tw_actor_names[i]));
        }
        if (!is_known) {
            return cli_fail(program->verb, ACTORS_TOLD, "--only: there is no actor '%.*s'",
                            (int)name.len, name.ptr);
        }
        size_t taken = name.len + (comma == NULL ? 0 : 1);
        rest = (tw_str){rest.ptr + taken, rest.len - taken};
    }
    return 0;
}

int serve_add_actors(struct program *program)
{
    const config_options *option = &program->config.option;
    int count = 0;
    if (check_only(program) != 0) {
        return 1;
    }
    for (size_t i = 0; i < TW_COUNT(served); i++) {
        const struct served *row = &served[i];
        bool alone = row->first == ALONE;
        for (int number = alone ? 0 : row->first; number < (int)row->end(option); number++) {
            if (!is_wanted_here(program, row, number)) {
                continue;
            }
            const void *options = row->fill(program, (size_t)number);
            if (options == NULL) {
                return 1;
            }
            tw_err err =
                tw_system_add(program->system, row->class, alone ? ALONE : number, options);
            if (err != TW_OK) {
                return cli_fail(program->verb, "", "%s", tw_err_text(err));
            }
            count++;
        }
    }
    if (count == 0) {
        return cli_fail(program->verb, ACTORS_TOLD, "nothing to run: '%s'",
                        program->actor != NULL ? program->actor : option->only);
    }
    return 0;
}
