/* config_args.h - the table of options as command-line flags, for every verb that has a
 * configuration: serve, actor, check-config, config. */
#pragma once

#include <argp.h>

#include "cli/config.h"

enum { CONFIG_ARGS_MAX = 64 };

typedef struct config_args {
    const char *file;                           /* --config FILE, or TIDEWIRE_CONFIG; NULL: none */
    const char *flags[2 * CONFIG_ARGS_MAX + 1]; /* pairs for config_load, ends with NULL */
    size_t flags_count;
} config_args;

/* A child for argp; its input is a config_args, zeroed. */
const struct argp *config_args_argp(void);
/* Loads what the arguments ask for; prints what is wrong and returns 1, else 0. */
int config_args_load(const config_args *args, const char *verb, config *out);
