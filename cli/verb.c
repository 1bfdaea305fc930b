/* verb.c - what all verbs share; see verb.h. */
#include "cli/verb.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "protocol/json.h"

#include "cli/secret.h"

enum { KEY_CA = 0x400, KEY_ANY_CERTIFICATE }; /* options without a letter */
enum { JSON_MEMORY = 16 << 20 };              /* bytes: an argument of 2 MiB, parsed */

static const struct argp_option common_options[] = {
    {"url", 'u', "URL", 0, "Server to talk to (ws://127.0.0.1:8090, or TIDEWIRE_URL)", 90},
    {"database", 'd', "NAME", 0, "Database (the server's default)", 90},
    {"token", 'T', "FILE", 0, "File with a token (mode 0600), or TIDEWIRE_TOKEN", 90},
    {"ca", KEY_CA, "FILE", 0,
     "Certificates that may sign a wss server's (the system's, or TIDEWIRE_CA)", 90},
    {"any-certificate", KEY_ANY_CERTIFICATE, NULL, 0,
     "Take any certificate of a wss server: for trials, as anybody may answer then", 90},
    {"json", 'j', NULL, 0, "Print JSON objects, one a line", 90},
    {0},
};

void cli_common_init(cli_common *common)
{
    const char *url = getenv("TIDEWIRE_URL");
    const char *ca_file = getenv("TIDEWIRE_CA");
    *common = (cli_common){.url = url != NULL ? url : CLI_URL,
                           .ca_file = ca_file != NULL ? ca_file : "",
                           .token_file = ""};
}

const char *cli_json_object(const struct argp_state *state, const char *what, const char *text)
{
    tw_arena arena;
    tw_bson parsed;
    tw_str why = {"", 0};
    tw_arena_init(&arena, JSON_MEMORY);
    if (tw_json_read(&arena, tw_str_of(text), TW_DEPTH_MAX, &parsed, &why) != TW_OK) {
        argp_error(state, "%s is to be a JSON object in single quotes, but there is %.*s", what,
                   (int)why.len, why.ptr);
    }
    tw_arena_fini(&arena);
    return text;
}

const char *cli_json_value(const struct argp_state *state, const char *what, const char *text)
{
    tw_buf whole;
    tw_arena arena;
    tw_bson parsed;
    tw_buf_init(&whole, TW_MESSAGE_MAX);
    tw_buf_format(&whole, "{\"v\":%s}", text);
    tw_arena_init(&arena, JSON_MEMORY);
    tw_err err = whole.err;
    if (err == TW_OK) {
        err = tw_json_read(&arena, tw_buf_str(&whole), TW_DEPTH_MAX, &parsed, NULL);
    }
    if (err != TW_OK) {
        argp_error(state, "%s takes a number or text in double quotes, not: %s", what, text);
    }
    tw_arena_fini(&arena);
    tw_buf_fini(&whole);
    return text;
}

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
    cli_common *common = state->input;
    switch (key) {
    case 'u':
        common->url = arg;
        return 0;
    case 'd':
        common->database = arg;
        return 0;
    case 'T':
        common->token_file = arg;
        return 0;
    case ARGP_KEY_SUCCESS:
        if (secret_read("token", common->token_file, "TIDEWIRE_TOKEN", common->token,
                        sizeof common->token) != 0) {
            exit(1);
        }
        return 0;
    case KEY_CA:
        common->ca_file = arg;
        return 0;
    case KEY_ANY_CERTIFICATE:
        common->any_certificate = true;
        return 0;
    case 'j':
        common->json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp cli_common_argp = {.options = common_options, .parser = parse_common};

int cli_fail(const char *verb, const char *hint, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "tidewire %s: ", verb);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    if (hint != NULL && hint[0] != '\0') {
        fprintf(stderr, "  %s\n", hint);
    }
    va_end(args);
    return 1;
}

websocket_client_who cli_who(const cli_common *common)
{
    return (websocket_client_who){.token = common->token,
                                  .ca_file = common->ca_file,
                                  .any_certificate = common->any_certificate};
}

const char *cli_path(const cli_common *common, const char *path, char *out, size_t size)
{
    size_t len = strlen(common->url);
    while (len > 0 && common->url[len - 1] == '/') {
        len--;
    }
    tw_format(out, size, "%.*s%s", (int)len, common->url, path);
    return out;
}
