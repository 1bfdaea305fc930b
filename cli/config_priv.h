/* config_priv.h - what the files of the configuration share. It is made in steps, each of which may
 * refuse it with lines in why:
 *
 *   config_file.c         the file, by libcyaml: keys that nobody knows, lines of what is wrong
 *   config.c              scalar options from file, environment and flags; MongoDB's
 *   config_collections.c  declared collections and databases
 *   config_auth.c         keys and rules
 *   config_write.c        the way back: a file, or JSON for programs */
#pragma once

#include "protocol/arena.h"
#include "protocol/limits.h"

#include "cli/config.h"
#include "cli/config_auth.h"

enum option_type { OPTION_text, OPTION_number, OPTION_flag };
enum option_origin { FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_FLAG };

struct option_row {
    enum option_type type;
    const char *section, *key, *flag, *fallback;
    int64_t min, max;
    const char *help;
    size_t offset; /* in config_options */
};

#define O(type, member, section, key, flag, fallback, min, max, help) +1
enum { CONFIG_ROWS = 0 CONFIG_OPTIONS(O) }; /* of the table */
#undef O

enum {
    CONFIG_TEXT_MAX = 4096,        /* bytes of any value in the file */
    CONFIG_REPORT_COLLECTIONS = 3, /* of catalog_report_preset, before those that are declared */
};

/* The table of cli/options.h. */
extern const struct option_row config_rows[CONFIG_ROWS];

/* ---- config_file.c: the file, as libcyaml fills it ---- */
struct file_scope {
    char *param, *field;
};
struct file_search {
    char *index, *mapping, *settings, *shards, *replicas, *lifecycle, *archive;
};
struct file_collection {
    char *name, *database, *key, *version, *filter, *processor, *message, *shape, *rules, *store;
    struct file_scope *scope;
    struct file_search *search;
    char **fields;
    unsigned fields_count;
    bool key_any, remove_denied, read_denied, write_denied, drop_allowed;
};
struct file_member { /* a collection as the schema of a database names it */
    char *name, *key_path;
};
struct file_database {
    char *name, *version;
    struct file_member *collections;
    unsigned collections_count;
    bool drop_denied;
};
struct file_content {
    char *value[CONFIG_ROWS]; /* of each row; NULL: not given */
    struct file_collection *collections;
    unsigned collections_count;
    struct file_database *databases;
    unsigned databases_count;
    config_auth_key *keys;
    unsigned keys_count;
    config_auth_rule *rules;
    unsigned rules_count;
};

/* Reads the file; config_file_free gives *out back. TW_E_BAD_CONFIG with lines in why. */
tw_err config_file_read(const char *file, struct file_content **out, tw_buf *why);
void config_file_free(struct file_content **content);
/* The line of file, at or behind from, that begins with this key; from where there is none. */
unsigned config_line_of_key(const char *file, const char *key, unsigned from);

/* ---- config.c ---- */
struct loader {
    config *config;
    tw_arena arena;              /* moves into config->memory */
    uint8_t origin[CONFIG_ROWS]; /* enum option_origin */
    tw_buf *why;
};

/* A copy in the loader's arena; NULL of NULL. */
const char *config_keep(struct loader *loader, const char *text);

/* ---- config_collections.c ---- */
/* Makes the catalog; content NULL: no file was read. */
tw_err config_set_collections(struct loader *loader, const struct file_content *content);
/* True when the catalog begins with the collections of the report preset. */
bool config_has_report(const config_options *option);
extern const char *const config_shapes[]; /* by catalog_shape */
extern const char *const config_rules[];  /* by catalog_rule */
