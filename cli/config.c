/* config.c - reads the configuration; see config.h: scalar options, from the file, the environment
 * and flags, those of MongoDB, then what config_priv.h lists. */
#include "cli/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cli/config_priv.h"

enum { CONFIG_MEMORY = 64 << 20 }; /* bytes: TW_COLLECTIONS_MAX declarations with their filters */

const struct option_row config_rows[CONFIG_ROWS] = {
#define O(type, member, section, key, flag, fallback, min, max, help)                              \
    {OPTION_##type, section, key, flag, fallback, min, max, help, offsetof(config_options, member)},
    CONFIG_OPTIONS(O)
#undef O
};

/* ---- values ---- */
static tw_err option_set(config_options *options, const struct option_row *row, const char *text,
                         const char *where, tw_buf *why)
{
    void *member = (char *)options + row->offset;
    size_t len = strlen(text);
    uint64_t number;
    switch (row->type) {
    case OPTION_text:
        if ((int64_t)len < row->min || (int64_t)len > row->max) {
            tw_buf_format(why, "%s: %s.%s has %zu bytes, allowed are %lld to %lld\n", where,
                          row->section, row->key, len, (long long)row->min, (long long)row->max);
            return TW_E_BAD_CONFIG;
        }
        *(const char **)member = text;
        return TW_OK;
    case OPTION_number:
        if (tw_parse_u64((tw_str){text, len}, INT64_MAX, &number) != TW_OK ||
            (int64_t)number < row->min || (int64_t)number > row->max) {
            tw_buf_format(why, "%s: %s.%s is '%.40s', allowed is a number from %lld to %lld\n",
                          where, row->section, row->key, text, (long long)row->min,
                          (long long)row->max);
            return TW_E_BAD_CONFIG;
        }
        *(int64_t *)member = (int64_t)number;
        return TW_OK;
    case OPTION_flag:
        *(bool *)member = strcmp(text, "true") == 0 || strcmp(text, "yes") == 0;
        if (!*(bool *)member && strcmp(text, "false") != 0 && strcmp(text, "no") != 0) {
            tw_buf_format(why, "%s: %s.%s is '%.40s', allowed are true and false\n", where,
                          row->section, row->key, text);
            return TW_E_BAD_CONFIG;
        }
        return TW_OK;
    }
    return TW_E_INTERNAL;
}

const char *config_keep(struct loader *loader, const char *text)
{
    return text == NULL ? NULL : tw_arena_format(&loader->arena, "%s", text);
}

static const char *env_name(const struct option_row *row, char *out, size_t size)
{
    tw_format(out, size, "TIDEWIRE_%s_%s", row->section, row->key);
    for (char *at = out; *at != '\0'; at++) {
        *at = (char)(*at >= 'a' && *at <= 'z' ? *at - 'a' + 'A' : *at);
    }
    return out;
}

static tw_err set_scalars(struct loader *loader, const struct file_content *content,
                          const char *file, const char *const *flags)
{
    for (size_t i = 0; i < CONFIG_ROWS; i++) {
        char name[128];
        const char *text = config_rows[i].fallback;
        const char *where = "default";
        loader->origin[i] = FROM_DEFAULT;
        if (content != NULL && content->value[i] != NULL) {
            text = content->value[i], where = file, loader->origin[i] = FROM_FILE;
        }
        const char *env = getenv(env_name(&config_rows[i], name, sizeof(name)));
        if (env != NULL) {
            text = env, where = name, loader->origin[i] = FROM_ENVIRONMENT;
        }
        for (size_t f = 0; flags != NULL && flags[f] != NULL; f += 2) {
            if (config_rows[i].flag[0] != '\0' && strcmp(flags[f], config_rows[i].flag) == 0) {
                text = flags[f + 1], where = "command line", loader->origin[i] = FROM_FLAG;
            }
        }
        char place[CONFIG_TEXT_MAX + 16];
        if (loader->origin[i] == FROM_FILE) {
            unsigned section = config_line_of_key(file, config_rows[i].section, 1);
            unsigned line = config_line_of_key(file, config_rows[i].key, section);
            tw_format(place, sizeof(place), "%s:%u", file, line);
            where = place;
        }
        tw_err err = option_set(&loader->config->option, &config_rows[i], config_keep(loader, text),
                                where, loader->why);
        if (err != TW_OK) {
            return err;
        }
    }
    return TW_OK;
}

/* ---- MongoDB ---- */
/* Reads the URI out of its file: the first line, without the space around it. */
static tw_err read_uri_file(struct loader *loader)
{
    config_options *option = &loader->config->option;
    if (option->mongo_uri_file[0] == '\0') {
        return TW_OK;
    }
    if (option->mongo_uri[0] != '\0') {
        tw_buf_format(loader->why, "mongo.uri and mongo.uri_file are both given: leave one out\n");
        return TW_E_BAD_CONFIG;
    }
    char line[CONFIG_TEXT_MAX] = "";
    struct stat about;
    FILE *in = fopen(option->mongo_uri_file, "r");
    bool open_to_others =
        in != NULL && fstat(fileno(in), &about) == 0 && (about.st_mode & (S_IRWXG | S_IRWXO)) != 0;
    if (open_to_others) {
        fclose(in);
        tw_buf_format(loader->why,
                      "mongo.uri_file: %s holds a secret and others may read it: chmod 600 it\n",
                      option->mongo_uri_file);
        return TW_E_BAD_CONFIG;
    }
    const char *read = in == NULL ? NULL : fgets(line, sizeof(line), in);
    if (in != NULL) {
        fclose(in);
    }
    char *text = line + strspn(line, " \t");
    text[strcspn(text, " \t\r\n")] = '\0';
    if (read == NULL || text[0] == '\0') {
        tw_buf_format(loader->why, "mongo.uri_file: %s: %s\n", option->mongo_uri_file,
                      in == NULL ? "cannot be opened; check the path and who may read it"
                                 : "holds no URI in its first line");
        return TW_E_BAD_CONFIG;
    }
    option->mongo_uri = config_keep(loader, text);
    return TW_OK;
}

/* The default database: what mongo.database says, else the name in the URI's path. */
static void set_database(struct loader *loader)
{
    config_options *option = &loader->config->option;
    const char *hosts = strstr(option->mongo_uri, "://");
    if (hosts == NULL) {
        return;
    }
    if (option->mongo_database[0] != '\0') {
        option->database = option->mongo_database;
        return;
    }
    const char *path = strchr(hosts + 3, '/');
    size_t len = path == NULL ? 0 : strcspn(path + 1, "?");
    if (len > 0) {
        option->database = tw_arena_format(&loader->arena, "%.*s", (int)len, path + 1);
    }
}

static tw_err set_mongo(struct loader *loader)
{
    tw_err err = read_uri_file(loader);
    const char *uri = loader->config->option.mongo_uri;
    if (err == TW_OK && uri[0] != '\0' && strncmp(uri, "mongodb://", 10) != 0 &&
        strncmp(uri, "mongodb+srv://", 14) != 0) {
        tw_buf_format(loader->why, "mongo.uri begins with mongodb:// or mongodb+srv://\n");
        return TW_E_BAD_CONFIG;
    }
    if (err == TW_OK) {
        set_database(loader);
        const char *name = loader->config->option.database;
        if (catalog_check_name(tw_str_of(name)) != TW_OK) {
            tw_buf_format(loader->why, "the database '%.60s' has no name that is allowed\n", name);
            err = TW_E_BAD_CONFIG;
        }
    }
    return err;
}

/* ---- the whole ---- */
tw_err config_load(config *self, const char *file, const char *const *flags, tw_buf *why)
{
    *self = (struct config){0};
    struct file_content *content = NULL;
    tw_err err = file != NULL ? config_file_read(file, &content, why) : TW_OK;
    if (err != TW_OK) {
        return err;
    }
    struct loader loader = {.config = self, .why = why};
    tw_arena_init(&loader.arena, CONFIG_MEMORY);
    self->file = config_keep(&loader, file);
    err = set_scalars(&loader, content, file, flags);
    if (err == TW_OK) {
        err = set_mongo(&loader);
    }
    if (err == TW_OK) {
        err = config_set_collections(&loader, content);
    }
    if (err == TW_OK) {
        config_auth_lists lists = {0};
        if (content != NULL) {
            lists = (config_auth_lists){content->keys, content->keys_count, content->rules,
                                        content->rules_count};
        }
        err = config_auth_set(&loader.arena, &self->option, &lists, &self->auth, why);
    }
    config_file_free(&content);
    void *memory = tw_alloc(sizeof(tw_arena) + CONFIG_ROWS);
    if (err == TW_OK && memory == NULL) {
        err = TW_E_NO_MEMORY;
    }
    if (err != TW_OK) {
        tw_free(memory);
        tw_arena_fini(&loader.arena);
        return err;
    }
    memcpy(memory, &loader.arena, sizeof(tw_arena));
    memcpy((char *)memory + sizeof(tw_arena), loader.origin, CONFIG_ROWS);
    self->memory = memory;
    return TW_OK;
}

void config_free(config *self)
{
    if (self->memory != NULL) {
        tw_arena_fini(self->memory);
        tw_free(self->memory);
    }
    *self = (struct config){0};
}
