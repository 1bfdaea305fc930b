/* serve_security.c - who may come in and who may listen in: TLS, auth, networks without a limit. */
#include "cli/serve/serve_priv.h"

bool serve_is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "localhost") == 0 ||
           strcmp(host, "::1") == 0;
}

int serve_fill_auth(struct program *program)
{
    broker_why why = {0};
    const config *loaded = &program->config;
    if (!auth_is_wanted(&loaded->auth) || program->auth != NULL) {
        return 0;
    }
    tw_err err = auth_new(&program->auth, &loaded->auth, &why);
    if (err != TW_OK) {
        return cli_fail(program->verb, "", "%s", why.text[0] != '\0' ? why.text : tw_err_text(err));
    }
    if (!program->is_check) {
        serve_keep_keys(program); /* those who come first are to be known */
    }
    return 0;
}

/* What is said beyond this machine is not to be read by others, nor everybody to be let in. */
static int check_listener(const struct program *program)
{
    const gateway_options *gateway = &program->gateway;
    if (serve_is_loopback(gateway->listen_address) || program->config.option.insecure) {
        return 0;
    }
    if (program->auth == NULL) {
        return cli_fail(program->verb,
                        "Listen on 127.0.0.1, configure auth (docs/AUTH.md), or give --insecure",
                        "listening on %s would let everybody in", gateway->listen_address);
    }
    if (gateway->tls == NULL) {
        return cli_fail(program->verb,
                        "Give --tls-cert and --tls-key (docs/OPERATING.md); or --insecure, where "
                        "all who can listen in are trusted",
                        "what is said to %s could be read by others: there is no TLS",
                        gateway->listen_address);
    }
    return 0;
}

int serve_fill_security(struct program *program)
{
    const config_options *option = &program->config.option;
    gateway_options *gateway = &program->gateway;
    if ((option->tls_cert[0] == '\0') != (option->tls_key[0] == '\0')) {
        return cli_fail(program->verb, "Give both --tls-cert and --tls-key",
                        "TLS needs a certificate and its key");
    }
    if (option->tls_cert[0] != '\0') {
        program->tls.files = (tls_link_options){.cert = option->tls_cert, .key = option->tls_key};
        gateway->tls = &program->tls;
    }
    if (serve_fill_auth(program) != 0) {
        return 1;
    }
    gateway->auth = program->auth;
    gateway->hello_ms = (uint64_t)option->auth_hello_ms;
    return check_listener(program);
}

/* Reads networks with commas into at, which has room for TW_EXEMPT_NETWORKS_MAX. */
static int read_networks(const char *verb, const char *key, const char *text, network *at,
                         size_t *count)
{
    char listed[SERVE_PATH_MAX];
    tw_format(listed, sizeof listed, "%s", text);
    char *rest = listed;
    *count = 0;
    for (char *each; (each = strtok_r(rest, ", ", &rest)) != NULL;) {
        if (*count == TW_EXEMPT_NETWORKS_MAX) {
            return cli_fail(verb, "", "%s: at most %d networks", key, TW_EXEMPT_NETWORKS_MAX);
        }
        if (!network_read(each, &at[(*count)++])) {
            return cli_fail(verb, "Write it as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32",
                            "%s: '%.60s' is neither an address nor a network", key, each);
        }
    }
    return 0;
}

int serve_fill_networks(struct program *program)
{
    const config_options *option = &program->config.option;
    gateway_limits *limits = &program->gateway.limits;
    limits->exempt = program->exempt;
    limits->proxies = program->proxies;
    if (read_networks(program->verb, "limits.exempt", option->limit_exempt, program->exempt,
                      &limits->exempt_count) != 0) {
        return 1;
    }
    return read_networks(program->verb, "limits.proxies", option->limit_proxies, program->proxies,
                         &limits->proxies_count);
}
