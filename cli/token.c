/* token.c - signs a token by HS256, for trials and tests: with the configuration's key, issuer and
 * audience, or with a secret of its own. In earnest an identity provider signs them. */
#include "cli/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "protocol/json.h"

#include "cli/config_args.h"
#include "cli/verb.h"
#include "gateways/auth/auth.h"

enum { LIST_MAX = 32, EXPIRES_S = 3600, CLAIMS_MAX = TW_TOKEN_MAX };

typedef struct token_arguments {
    config_args config;
    const char *secret, *kid, *subject, *expires;
    const char *roles[LIST_MAX];
    const char *claims[LIST_MAX]; /* NAME=JSON */
    size_t roles_count, claims_count;
} token_arguments;

static const struct argp_option options[] = {
    {"secret", 's', "FILE", 0, "Secret of HS256 (mode 0600); else the configuration's first", 1},
    {"kid", 'k', "NAME", 0, "Name of the key in the token", 1},
    {"subject", 'S', "NAME", 0, "Whose token it is (sub)", 1},
    {"role", 'r', "NAME", 0, "A role; may be given several times", 1},
    {"claim", 'C', "NAME=JSON", 0, "A further claim, as in team=\"red\"; several times", 1},
    {"expires", 'e', "SECONDS", 0, "From now on (3600)", 1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    token_arguments *given = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &given->config;
        return 0;
    case 's':
        given->secret = arg;
        return 0;
    case 'k':
        given->kid = arg;
        return 0;
    case 'S':
        given->subject = arg;
        return 0;
    case 'e':
        given->expires = arg;
        return 0;
    case 'r':
    case 'C':
        if (given->roles_count == LIST_MAX || given->claims_count == LIST_MAX) {
            argp_error(state, "at most %d roles and claims", LIST_MAX);
        }
        if (key == 'r') {
            given->roles[given->roles_count++] = arg;
        } else {
            given->claims[given->claims_count++] = arg;
        }
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is too much", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The key that signs: as given, or the configuration's first of HS256. False: there is none. */
static bool choose_key(const token_arguments *given, const config *loaded, auth_key_options *out)
{
    if (given->secret != NULL) {
        *out = (auth_key_options){.kid = "", .alg = "HS256", .file = given->secret};
    }
    bool found = given->secret != NULL;
    for (size_t i = 0; i < loaded->auth.keys_count && !found; i++) {
        const auth_key_options *key = &loaded->auth.keys[i];
        found = strcmp(key->alg, "HS256") == 0 &&
                (given->kid == NULL || strcmp(key->kid, given->kid) == 0);
        *out = *key;
    }
    if (found && given->kid != NULL) {
        out->kid = given->kid;
    }
    return found;
}

static void add_text(tw_buf *out, const char *name, const char *text)
{
    if (text != NULL && text[0] != '\0') {
        tw_buf_add_byte(out, ',');
        tw_json_write_str(out, tw_str_of(name));
        tw_buf_add_byte(out, ':');
        tw_json_write_str(out, tw_str_of(text));
    }
}

/* Returns 1 where a claim is not NAME=JSON (told). */
static int add_claims(const token_arguments *given, tw_buf *out)
{
    for (size_t i = 0; i < given->claims_count; i++) {
        const char *equals = strchr(given->claims[i], '=');
        if (equals == NULL) {
            return cli_fail("token", "Write it as team='\"red\"' or level=3",
                            "'%s' is no NAME=JSON", given->claims[i]);
        }
        tw_buf_add_byte(out, ',');
        tw_json_write_str(out, (tw_str){given->claims[i], (size_t)(equals - given->claims[i])});
        tw_buf_format(out, ":%s", equals + 1);
    }
    return 0;
}

static int write_claims(const token_arguments *given, const config *loaded, tw_buf *out)
{
    uint64_t seconds = EXPIRES_S;
    if (given->expires != NULL &&
        tw_parse_u64(tw_str_of(given->expires), 10ULL * 365 * 86400, &seconds) != TW_OK) {
        return cli_fail("token", "", "--expires is a number of seconds");
    }
    uint64_t now_s = (uint64_t)time(NULL);
    tw_buf_format(out, "{\"iat\":%llu,\"exp\":%llu", (unsigned long long)now_s,
                  (unsigned long long)(now_s + seconds));
    add_text(out, "sub", given->subject);
    add_text(out, "iss", loaded->auth.issuer);
    add_text(out, "aud", loaded->auth.audience);
    for (size_t i = 0; i < given->roles_count; i++) {
        if (i == 0) {
            tw_buf_add_byte(out, ',');
            tw_json_write_str(out, tw_str_of(loaded->auth.roles));
        }
        tw_buf_add_str(out, i == 0 ? TW_STR(":[") : TW_STR(","));
        tw_json_write_str(out, tw_str_of(given->roles[i]));
    }
    tw_buf_add_str(out, given->roles_count > 0 ? TW_STR("]") : TW_STR(""));
    if (add_claims(given, out) != 0) {
        return 1;
    }
    tw_buf_add_byte(out, '}');
    tw_arena arena;
    tw_bson unused;
    tw_str why = {"", 0};
    tw_arena_init(&arena, 1 << 20);
    tw_err err = out->err != TW_OK
                     ? out->err
                     : tw_json_read(&arena, tw_buf_str(out), TW_DEPTH_CLIENT_MAX, &unused, &why);
    int status = err == TW_OK ? 0
                              : cli_fail("token", "A claim is NAME=JSON, such as team='\"red\"'",
                                         "the claims are no JSON: %.*s", (int)why.len, why.ptr);
    tw_arena_fini(&arena);
    return status;
}

static int sign(const token_arguments *given, const config *loaded)
{
    auth_key_options key = {0};
    broker_why why = {0};
    if (!choose_key(given, loaded, &key)) {
        return cli_fail("token", "Give --config FILE with auth.keys, or --secret FILE",
                        "there is no key of HS256 to sign with");
    }
    tw_buf claims, token;
    tw_buf_init(&claims, CLAIMS_MAX);
    tw_buf_init(&token, 2 * CLAIMS_MAX);
    int status = write_claims(given, loaded, &claims);
    if (status == 0) {
        tw_err err = auth_sign(&key, tw_buf_str(&claims), &token, &why);
        status = err == TW_OK ? 0
                              : cli_fail("token", "", "%s",
                                         why.text[0] != '\0' ? why.text : tw_err_text(err));
    }
    if (status == 0) {
        printf("%.*s\n", (int)token.len, token.ptr);
    }
    tw_buf_fini(&claims);
    tw_buf_fini(&token);
    return status;
}

int cli_token(int argc, char **argv)
{
    token_arguments given = {0};
    config loaded;
    const struct argp_child children[] = {{config_args_argp(), 0, "Configuration:", 2}, {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .children = children,
        .doc = "Sign a token by HS256, for trials and tests.\v"
               "Examples:\n"
               "  tidewire token --config tidewire.yaml --subject ada --role editor\n"
               "  tidewire token --secret secret.key --claim team='\"red\"' --expires 60\n"
               "  TIDEWIRE_TOKEN=$(tidewire token --config tidewire.yaml --role editor) tidewire "
               "watch notes\n"};
    argp_parse(&argp, argc, argv, 0, NULL, &given);
    if (config_args_load(&given.config, "token", &loaded) != 0) {
        return 1;
    }
    int status = sign(&given, &loaded);
    config_free(&loaded);
    return status;
}
