/* config_auth.h - the lists of the section auth: keys that sign tokens, and rules; for config.c. */
#pragma once

#include <cyaml/cyaml.h>

#include "protocol/arena.h"

#include "cli/options.h"
#include "gateways/auth/auth.h"

typedef struct config_auth_key {
    char *kid, *alg, *file;
} config_auth_key;

typedef struct config_auth_rule {
    char *role, *database, *collection, *filter;
    char **verbs, **hidden;
    unsigned verbs_count, hidden_count;
} config_auth_rule;

extern const cyaml_schema_value_t config_auth_key_value, config_auth_rule_value;
extern const cyaml_schema_field_t config_auth_key_fields[], config_auth_rule_fields[];

/* What was read from the file. */
typedef struct config_auth_lists {
    const config_auth_key *keys;
    unsigned keys_count;
    const config_auth_rule *rules;
    unsigned rules_count;
} config_auth_lists;

/* Checks and copies into arena; option has the scalars of the section. TW_E_BAD_CONFIG with lines
 * in why. */
tw_err config_auth_set(tw_arena *arena, const config_options *option,
                       const config_auth_lists *lists, auth_options *out, tw_buf *why);
/* Writes the two lists as they stand in the section; nothing where there are none. */
void config_auth_write(const auth_options *auth, tw_buf *out);
