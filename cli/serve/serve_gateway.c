/* serve_gateway.c - options of the gateways: addresses, limits, origins, what the admin listener
 * tells. */
#include "cli/serve/serve_priv.h"

enum { CONFIGURATION_MAX = 16 << 20 }; /* bytes of /configz */

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

/* What the admin listener tells: the configuration, and figures of the program's actors. */
static void fill_figures(struct program *program)
{
    gateway_options *gateway = &program->gateway;
    tw_buf *configuration = &program->configuration;
    tw_buf_init(configuration, CONFIGURATION_MAX);
    config_write_json(&program->config, configuration);
    tw_buf_add_byte(configuration, '\0');
    gateway->configuration = configuration->err == TW_OK ? configuration->ptr : NULL;
    size_t count = 0;
    for (size_t i = 0; tw_actor_names[i] != NULL && count < TW_ACTORS_MAX; i++) {
        if (serve_has_actor(&program->config.option, tw_actor_names[i])) {
            program->actors[count++] = tw_actor_names[i];
        }
    }
    gateway->actors = program->actors;
}

/* with_admin: the admin listener stands here; elsewhere it may have any port but 0. */
static int fill_admin(struct program *program, bool with_admin)
{
    gateway_options *gateway = &program->gateway;
    tw_format(program->admin, sizeof(program->admin), "%s", program->config.option.admin);
    if (program->admin[0] != '\0') {
        if (split_address(program->verb, program->admin, &gateway->admin_address,
                          &gateway->admin_port) != 0) {
            return 1;
        }
        if (!serve_is_loopback(gateway->admin_address)) {
            return cli_fail(program->verb, "Use 127.0.0.1",
                            "the admin listener is for loopback only");
        }
    }
    if (!with_admin) { /* whose pages may come all the same */
        atomic_store(&program->ports.admin, gateway->admin_port);
        gateway->admin_address = NULL;
    }
    return 0;
}

static int fill_origins(struct program *program)
{
    gateway_options *gateway = &program->gateway;
    tw_format(program->origins, sizeof(program->origins), "%s", program->config.option.origins);
    char *rest = program->origins;
    for (char *each; (each = strtok_r(rest, ", ", &rest)) != NULL;) {
        if (gateway->origins_count == SERVE_ORIGINS_MAX) {
            return cli_fail(program->verb, "", "at most %d origins", SERVE_ORIGINS_MAX);
        }
        program->origins_listed[gateway->origins_count++] = each;
    }
    gateway->origins = program->origins_listed;
    return 0;
}

/* Gateways of several processes cannot agree on a free port. */
static int check_port(const struct program *program)
{
    bool elsewhere = !serve_is_wanted(program, "gateway");
    for (int64_t i = 1; i < program->config.option.gateways; i++) {
        char name[TW_NAME_MAX];
        tw_format(name, sizeof(name), "gateway.%lld", (long long)i);
        elsewhere = elsewhere || !serve_is_wanted(program, name);
    }
    if (elsewhere && program->gateway.listen_port == 0) {
        return cli_fail(program->verb, "Name a port: --listen 127.0.0.1:8090",
                        "gateways of several processes cannot agree on a free port");
    }
    return 0;
}

/* What all gateways of this process share. */
static int fill_shared(struct program *program, bool with_admin)
{
    const config_options *option = &program->config.option;
    gateway_options *gateway = &program->gateway;
    *gateway = (gateway_options){
        .catalog = &program->config.catalog,
        .readers_count = (size_t)option->readers,
        .mongo_readers_count = (size_t)serve_mongo_readers(option),
        .search = serve_search_actor(option),
        .search_ms = (uint32_t)option->search_timeout_ms,
        .gateways_count = (size_t)option->gateways,
        .limits = limits_of(option),
        .ports = &program->ports,
        .system = program->system,
        .demo = option->demo,
    };
    fill_figures(program);
    tw_format(program->listen, sizeof(program->listen), "%s", option->listen);
    if (split_address(program->verb, program->listen, &gateway->listen_address,
                      &gateway->listen_port) != 0 ||
        serve_fill_security(program) != 0 || serve_fill_networks(program) != 0 ||
        fill_admin(program, with_admin) != 0 || fill_origins(program) != 0) {
        return 1;
    }
    return check_port(program);
}

const void *serve_fill_gateway(struct program *program, size_t number)
{
    bool is_first = program->gateway.catalog == NULL;
    if (is_first && fill_shared(program, number == 0) != 0) {
        return NULL;
    }
    if (number == 0) {
        return &program->gateway;
    }
    gateway_options *beside = &program->gateways[number];
    *beside = program->gateway;
    beside->admin_address = NULL;
    beside->actors = NULL;
    return beside;
}
