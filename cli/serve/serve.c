/* serve.c - the verbs that run actors, from the arguments to the end:
 *
 *   tidewire serve        all actors as threads of this process
 *   tidewire actor NAME   one actor (the store brings its readers, the gateway its service and
 *                         processor; gateway.1 and others that share its port, nothing) */
#include "cli/serve/serve.h"

#include <stdio.h>
#include <unistd.h>

#include "actors/log/log_table.h"
#include "cli/demo.h"
#include "cli/serve/serve_priv.h"

struct serve_arguments {
    config_args args;
    const char *actor; /* of the verb actor */
    bool wants_actor;
};

static const char serve_doc[] = "Serves records as live, resumable streams.\vExamples:\n"
                                "  tidewire serve\n"
                                "  tidewire serve --demo\n"
                                "  tidewire serve --listen 127.0.0.1:9000 --data "
                                "/var/lib/tidewire\n"
                                "  tidewire serve --gateways 4\n"
                                "  tidewire serve --tls-cert chain.pem --tls-key key.pem\n";

static const char actor_doc[] =
    "Runs one actor in this process; the others run elsewhere with the same --actors."
    "\vExamples, in three terminals:\n"
    "  tidewire actor store --actors ipc:///tmp/tide\n"
    "  tidewire actor subscription_manager --actors ipc:///tmp/tide\n"
    "  tidewire actor gateway --actors ipc:///tmp/tide\n"
    "Two gateways on one port:\n"
    "  tidewire actor gateway --gateways 2 --actors ipc:///tmp/tide\n"
    "  tidewire actor gateway.1 --gateways 2 --actors ipc:///tmp/tide\n";

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

/* From the first thread to the last. Returns the exit status. */
static int run_system(struct program *program)
{
    const config_options *option = &program->config.option;
    const tw_system_options options = {
        .base = option->actors[0] == '\0' ? NULL : option->actors,
        .drop_every = (uint64_t)option->drop_every,
    };
    serve_block_signals(program);
    tw_err err = tw_system_new(&program->system, &options);
    if (err != TW_OK) {
        return cli_fail(program->verb, "", "%s", tw_err_text(err));
    }
    if (serve_add_actors(program) != 0) {
        return 1;
    }
    const char *why = "";
    err = tw_system_start(program->system, &why);
    if (err != TW_OK) {
        return cli_fail(program->verb, "tidewire doctor may tell more", "the start failed: %s",
                        why);
    }
    serve_print_banner(program);
    int status = 0;
    if (option->demo && serve_is_wanted(program, "gateway")) {
        status = demo_load(atomic_load(&program->ports.listen), program->gateway.tls != NULL,
                           option->demo_data);
    }
    serve_wait(program);
    tw_stopped stopped = tw_system_stop(program->system, TW_DRAIN_MS);
    if (stopped != TW_STOPPED) { /* threads are left that use what would be freed now */
        fflush(stdout);
        _exit(stopped == TW_STOPPED_UNCLOSED ? status : 1);
    }
    return status;
}

static void program_free(struct program *program)
{
    tw_system_free(&program->system);
    log_store_free(&program->log);
    mongo_link_free(&program->mongo);
    mongo_link_library_end();
    auth_free(&program->auth);
    config_free(&program->config);
    tw_buf_fini(&program->configuration);
    tw_free(program);
}

/* actor NULL: all. Returns NULL once it has told that there is no memory. */
static struct program *program_new(const char *verb, const char *actor, const config_args *args)
{
    struct program *program = tw_alloc_zero(1, sizeof(*program));
    if (program == NULL) {
        (void)cli_fail(verb, "", "no memory");
        return NULL;
    }
    program->verb = verb;
    program->actor = actor;
    program->args = args;
    mongo_link_library_start();
    log_table_library_start();
    return program;
}

static int run_program(const char *verb, const struct serve_arguments *given)
{
    struct program *program = program_new(verb, given->actor, &given->args);
    if (program == NULL) {
        return 1;
    }
    int status = config_args_load(&given->args, verb, &program->config);
    if (status == 0) {
        status = serve_prepare(program);
    }
    if (status == 0) {
        status = run_system(program);
    }
    program_free(program);
    return status;
}

int serve_check(const char *verb, const config_args *args)
{
    struct program *program = program_new(verb, NULL, args);
    if (program == NULL) {
        return 1;
    }
    program->is_check = true;
    int status = config_args_load(args, verb, &program->config);
    if (status == 0) {
        status = serve_prepare(program);
    }
    const tw_system_options options = {0}; /* never started: it needs no place for sockets */
    if (status == 0 && tw_system_new(&program->system, &options) != TW_OK) {
        status = cli_fail(verb, "", "no memory");
    }
    if (status == 0) {
        status = serve_add_actors(program);
    }
    program_free(program);
    return status;
}

int cli_serve(int argc, char **argv)
{
    const struct argp_child children[] = {{config_args_argp(), 0, NULL, 0}, {0}};
    const struct argp argp = {.parser = parse_serve, .doc = serve_doc, .children = children};
    struct serve_arguments given = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &given);
    return run_program("serve", &given);
}

int cli_actor(int argc, char **argv)
{
    const struct argp_child children[] = {{config_args_argp(), 0, NULL, 0}, {0}};
    const struct argp argp = {
        .parser = parse_serve, .args_doc = "NAME", .doc = actor_doc, .children = children};
    struct serve_arguments given = {.wants_actor = true};
    argp_parse(&argp, argc, argv, 0, NULL, &given);
    return run_program("actor", &given);
}
