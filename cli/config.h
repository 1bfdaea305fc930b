/* config.h - what the program was told: flags over environment over file over defaults.
 *
 * One table of options (cli/options.h) names each scalar option once: its key in the file, its
 * environment variable (TIDEWIRE_SECTION_KEY), its flag, default, range and help. The list of
 * collections stands in the file alone. Unknown key or bad value: refused with file:line, the cause
 * and the nearest known name. */
#pragma once

#include "broker/catalog.h"

#include "cli/options.h"
#include "gateways/auth/auth.h"

typedef struct config {
    config_options option; /* one member for each row of the table; texts are owned by config */
    catalog catalog;       /* declared collections, presets expanded */
    auth_options auth;     /* keys_count 0: there is no auth */
    const char *file;      /* NULL: none was read */
    void *memory;          /* own; what everything above points into */
} config;

/* Reads file (NULL: none), the environment, then the flags given as "key", "value" pairs ending
 * with NULL. On an error why holds lines for a person: "tidewire.yaml:12: unknown key
 * 'colections' ..." */
tw_err config_load(config *config, const char *file, const char *const *flags, tw_buf *why);
void config_free(config *config);
/* Writes the file that would give this configuration, each key with its comment; origins: with a
 * remark where each value came from. */
void config_write(const config *config, bool origins, tw_buf *out);
/* The same for programs: {"file":…,"options":[{"section","key","value","origin","help"}…],
 * "collections":[…]}. Passwords inside URLs are masked. */
void config_write_json(const config *config, tw_buf *out);
