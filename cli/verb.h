/* verb.h - what the commands share. One verb = one file = one row of the table in main.c. */
#pragma once

#include <argp.h>

#include "protocol/base.h"
#include "protocol/limits.h"

#include "clients/c/websocket.h"

#define CLI_URL "ws://127.0.0.1:8090" /* the server that is talked to where none is named */

/* Options that every verb which talks to a server takes: --url, --token, --ca, --any-certificate,
 * --json, --database. A child for argp with its input = cli_common. */
typedef struct cli_common {
    const char *url;              /* ws://127.0.0.1:8090 unless given or in TIDEWIRE_URL */
    const char *database;         /* NULL: the server's default */
    const char *token_file;       /* of its owner alone; "": TIDEWIRE_TOKEN */
    char token[TW_TOKEN_MAX + 1]; /* what stands there; "": none */
    const char *ca_file;  /* of wss: who may sign the server's certificate; "": the system's */
    bool any_certificate; /* of wss: nothing is checked */
    bool json;            /* output for programs: a JSON object a line */
} cli_common;

extern const struct argp cli_common_argp;
void cli_common_init(cli_common *common);

/* Holds an argument against the grammar of a JSON object, before it stands inside a message; ends
 * the program with a usage error where it is none. what: as its user named it: "--filter". */
const char *cli_json_object(const struct argp_state *state, const char *what, const char *text);
/* The same for a number, text in quotes, or another value. */
const char *cli_json_value(const struct argp_state *state, const char *what, const char *text);
/* Who asks, of these options; borrows from common. */
websocket_client_who cli_who(const cli_common *common);
/* Prints "tidewire VERB: text" and a hint line to stderr; returns 1, for `return cli_fail(...)`. */
int cli_fail(const char *verb, const char *hint, const char *format, ...) TW_PRINTF(3, 4);
/* The url of a path of the server: "ws://host:port" and "/db" -> "ws://host:port/db". */
const char *cli_path(const cli_common *common, const char *path, char *out, size_t size);
