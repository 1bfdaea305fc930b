/* config.c - reads the configuration; see config.h. The file goes through libcyaml's schema,
 * which is made from the table of options, so that a key is named once. */
#include "cli/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cyaml/cyaml.h>

#include "protocol/arena.h"
#include "protocol/json.h"
#include "protocol/limits.h"
#include "protocol/messages.h"

#include "cli/config_auth.h"
#include "cli/nearest.h"

enum option_type { OPTION_text, OPTION_number, OPTION_flag };
enum option_origin { FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_FLAG };

static const char *const origin_names[] = {"default", "file", "environment", "command line"};

static const struct option_row {
    enum option_type type;
    const char *section, *key, *flag, *fallback;
    int64_t min, max;
    const char *help;
    size_t offset; /* in config_options */
} rows[] = {
#define O(type, member, section, key, flag, fallback, min, max, help)                              \
    {OPTION_##type, section, key, flag, fallback, min, max, help, offsetof(config_options, member)},
    CONFIG_OPTIONS(O)
#undef O
};

enum {
    ROWS = TW_COUNT(rows),
    SECTIONS_MAX = 10,
    TEXT_MAX = 4096,          /* bytes of any value in the file */
    CONFIG_MEMORY = 64 << 20, /* bytes: TW_COLLECTIONS_MAX declarations with their filters */
};

/* ---- the file, as libcyaml fills it ---- */
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
    char *value[ROWS];
    struct file_collection *collections;
    unsigned collections_count;
    struct file_database *databases;
    unsigned databases_count;
    config_auth_key *keys;
    unsigned keys_count;
    config_auth_rule *rules;
    unsigned rules_count;
};

#define TEXT(structure, key_name, member, more)                                                    \
    CYAML_FIELD_STRING_PTR(key_name, CYAML_FLAG_POINTER | (more), struct structure, member, 1,     \
                           TEXT_MAX)
#define SWITCH(key_name, member)                                                                   \
    CYAML_FIELD_BOOL(key_name, CYAML_FLAG_OPTIONAL, struct file_collection, member)
static const cyaml_schema_value_t field_name = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, TEXT_MAX)};
static const cyaml_schema_field_t scope_fields[] = {
    TEXT(file_scope, "param", param, 0), TEXT(file_scope, "field", field, 0), CYAML_FIELD_END};
static const cyaml_schema_field_t search_fields[] = {
    TEXT(file_search, "index", index, CYAML_FLAG_OPTIONAL),
    TEXT(file_search, "mapping", mapping, CYAML_FLAG_OPTIONAL),
    TEXT(file_search, "settings", settings, CYAML_FLAG_OPTIONAL),
    TEXT(file_search, "shards", shards, CYAML_FLAG_OPTIONAL),
    TEXT(file_search, "replicas", replicas, CYAML_FLAG_OPTIONAL),
    TEXT(file_search, "lifecycle", lifecycle, CYAML_FLAG_OPTIONAL),
    TEXT(file_search, "archive", archive, CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_END};
static const cyaml_schema_field_t collection_fields[] = {
    TEXT(file_collection, "name", name, 0),
    TEXT(file_collection, "database", database, CYAML_FLAG_OPTIONAL),
    TEXT(file_collection, "key", key, CYAML_FLAG_OPTIONAL),
    TEXT(file_collection, "version", version, CYAML_FLAG_OPTIONAL),
    TEXT(file_collection, "filter", filter, CYAML_FLAG_OPTIONAL),
    TEXT(file_collection, "processor", processor, CYAML_FLAG_OPTIONAL),
    TEXT(file_collection, "message", message, CYAML_FLAG_OPTIONAL),
    TEXT(file_collection, "shape", shape, CYAML_FLAG_OPTIONAL),
    TEXT(file_collection, "rules", rules, CYAML_FLAG_OPTIONAL),
    TEXT(file_collection, "store", store, CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_MAPPING_PTR("search", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                            struct file_collection, search, search_fields),
    CYAML_FIELD_MAPPING_PTR("scope", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                            struct file_collection, scope, scope_fields),
    CYAML_FIELD_SEQUENCE("fields", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file_collection,
                         fields, &field_name, 0, TW_FIELDS_MAX),
    SWITCH("key_any", key_any),
    SWITCH("remove_denied", remove_denied),
    SWITCH("read_denied", read_denied),
    SWITCH("write_denied", write_denied),
    SWITCH("drop_allowed", drop_allowed),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t member_fields[] = {
    TEXT(file_member, "name", name, 0),
    TEXT(file_member, "keyPath", key_path, CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t member_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_member, member_fields)};
static const cyaml_schema_field_t database_fields[] = {
    TEXT(file_database, "name", name, 0),
    TEXT(file_database, "version", version, 0),
    CYAML_FIELD_SEQUENCE("collections", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                         struct file_database, collections, &member_value, 0, TW_COLLECTIONS_MAX),
    CYAML_FIELD_BOOL("drop_denied", CYAML_FLAG_OPTIONAL, struct file_database, drop_denied),
    CYAML_FIELD_END,
};
#undef TEXT
#undef SWITCH
static const cyaml_schema_value_t collection_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_collection, collection_fields)};
static const cyaml_schema_value_t database_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_database, database_fields)};

/* The schema of the sections: each a mapping into the same file_content. */
struct schema {
    cyaml_schema_field_t fields[SECTIONS_MAX][ROWS + 3]; /* auth has two lists, then the end */
    size_t counts[SECTIONS_MAX];
    cyaml_schema_field_t sections[SECTIONS_MAX + 3]; /* collections, databases, the end */
    size_t sections_count;
    cyaml_schema_value_t top;
};

static size_t schema_section(struct schema *schema, const char *name)
{
    size_t at = 0;
    while (at < schema->sections_count && strcmp(schema->sections[at].key, name) != 0) {
        at++;
    }
    if (at == schema->sections_count) {
        TW_ASSERT(at < SECTIONS_MAX);
        schema->sections[at] = (cyaml_schema_field_t){
            .key = name,
            .value = {.type = CYAML_MAPPING,
                      .flags = CYAML_FLAG_OPTIONAL,
                      .data_size = sizeof(struct file_content),
                      .mapping = {.fields = schema->fields[at]}},
        };
        schema->sections_count++;
    }
    return at;
}

static void schema_make(struct schema *schema)
{
    *schema = (struct schema){0};
    for (size_t i = 0; i < ROWS; i++) {
        size_t at = schema_section(schema, rows[i].section);
        schema->fields[at][schema->counts[at]++] = (cyaml_schema_field_t){
            .key = rows[i].key,
            .data_offset = (uint32_t)(offsetof(struct file_content, value) + i * sizeof(char *)),
            .value = {.type = CYAML_STRING,
                      .flags = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                      .data_size = 1,
                      .string = {.min = 0, .max = TEXT_MAX}},
        };
    }
    size_t of_auth = schema_section(schema, "auth");
    schema->fields[of_auth][schema->counts[of_auth]++] = (cyaml_schema_field_t)CYAML_FIELD_SEQUENCE(
        "keys", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file_content, keys,
        &config_auth_key_value, 0, TW_AUTH_KEYS_MAX);
    schema->fields[of_auth][schema->counts[of_auth]++] = (cyaml_schema_field_t)CYAML_FIELD_SEQUENCE(
        "rules", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file_content, rules,
        &config_auth_rule_value, 0, TW_RIGHTS_RULES_MAX);
    schema->sections[schema->sections_count] = (cyaml_schema_field_t)CYAML_FIELD_SEQUENCE(
        "collections", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file_content, collections,
        &collection_value, 0, TW_COLLECTIONS_MAX);
    schema->sections[schema->sections_count + 1] = (cyaml_schema_field_t)CYAML_FIELD_SEQUENCE(
        "databases", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file_content, databases,
        &database_value, 0, TW_COLLECTIONS_MAX);
    schema->top = (cyaml_schema_value_t){
        CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct file_content, schema->sections)};
}

/* ---- what is wrong with a file, in words: libcyaml tells it by its log ---- */
struct complaint {
    const char *file;
    char first[256]; /* the cause */
    unsigned line;
};

static void on_cyaml_log(cyaml_log_t level, void *context, const char *format, va_list args)
{
    struct complaint *complaint = context;
    char text[256];
    (void)level;
    vsnprintf(text, sizeof(text), format, args);
    const char *cause = strstr(text, ": ");
    const char *place = strstr(text, "(line: ");
    if (complaint->first[0] == '\0') {
        tw_format(complaint->first, sizeof(complaint->first), "%s", cause ? cause + 2 : text);
        complaint->first[strcspn(complaint->first, "\n")] = '\0';
    } else if (place != NULL && complaint->line == 0) {
        complaint->line = (unsigned)strtoul(place + strlen("(line: "), NULL, 10);
    }
}

/* The line, at or behind from, that begins with this key; from where there is none. */
static unsigned line_of_key(const char *file, const char *key, unsigned from)
{
    FILE *in = fopen(file, "r");
    char line[TEXT_MAX];
    unsigned number = 0;
    unsigned found = from;
    size_t len = strlen(key);
    while (in != NULL && fgets(line, sizeof(line), in) != NULL) {
        const char *at = line + strspn(line, " -");
        number++;
        if (number >= from && strncmp(at, key, len) == 0 && at[len] == ':') {
            found = number;
            break;
        }
    }
    if (in != NULL) {
        fclose(in);
    }
    return found;
}

static tw_err complain(const struct complaint *complaint, tw_buf *why)
{
    static const char unexpected[] = "Unexpected key: ";
    if (strncmp(complaint->first, unexpected, sizeof(unexpected) - 1) != 0) {
        tw_buf_format(why, "%s:%u: %s\n", complaint->file,
                      complaint->line == 0 ? 1 : complaint->line, complaint->first);
        return TW_E_BAD_CONFIG;
    }
    const char *key = complaint->first + sizeof(unexpected) - 1;
    enum { OF_AUTH = 10 }; /* keys of its lists */
    const char
        *known[ROWS + TW_COUNT(collection_fields) + TW_COUNT(search_fields) +
               TW_COUNT(member_fields) + TW_COUNT(database_fields) + SECTIONS_MAX + 2 + OF_AUTH];
    size_t count = 0;
    for (size_t i = 0; config_auth_key_fields[i].key != NULL; i++) {
        known[count++] = config_auth_key_fields[i].key;
    }
    for (size_t i = 0; config_auth_rule_fields[i].key != NULL; i++) {
        known[count++] = config_auth_rule_fields[i].key;
    }
    TW_ASSERT(count <= OF_AUTH);
    for (size_t i = 0; i < ROWS; i++) {
        known[count++] = rows[i].key;
    }
    for (size_t i = 0; collection_fields[i].key != NULL; i++) {
        known[count++] = collection_fields[i].key;
    }
    for (size_t i = 0; search_fields[i].key != NULL; i++) {
        known[count++] = search_fields[i].key;
    }
    for (size_t i = 0; member_fields[i].key != NULL; i++) {
        known[count++] = member_fields[i].key;
    }
    for (size_t i = 0; database_fields[i].key != NULL; i++) {
        known[count++] = database_fields[i].key;
    }
    static const char *const sections[] = {"server", "actors", "store", "mongo",       "search",
                                           "limits", "auth",   "demo",  "collections", "databases"};
    for (size_t i = 0; i < TW_COUNT(sections); i++) {
        known[count++] = sections[i];
    }
    const char *nearest = nearest_name(key, known, count);
    /* libcyaml names the line of the token before an unexpected key */
    unsigned line = line_of_key(complaint->file, key, complaint->line);
    tw_buf_format(why, "%s:%u: unknown key '%s'", complaint->file, line, key);
    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(rows[i].key, key) == 0) {
            tw_buf_format(why, "; it belongs to '%s'\n", rows[i].section);
            return TW_E_BAD_CONFIG;
        }
    }
    tw_buf_format(why, nearest == NULL ? "\n" : "; did you mean '%s'?\n", nearest);
    return TW_E_BAD_CONFIG;
}

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

struct loader {
    config *config;
    tw_arena arena; /* moves into config->memory */
    uint8_t origin[ROWS];
    tw_buf *why;
};

static const char *keep(struct loader *loader, const char *text)
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
    for (size_t i = 0; i < ROWS; i++) {
        char name[128];
        const char *text = rows[i].fallback;
        const char *where = "default";
        loader->origin[i] = FROM_DEFAULT;
        if (content != NULL && content->value[i] != NULL) {
            text = content->value[i], where = file, loader->origin[i] = FROM_FILE;
        }
        const char *env = getenv(env_name(&rows[i], name, sizeof(name)));
        if (env != NULL) {
            text = env, where = name, loader->origin[i] = FROM_ENVIRONMENT;
        }
        for (size_t f = 0; flags != NULL && flags[f] != NULL; f += 2) {
            if (rows[i].flag[0] != '\0' && strcmp(flags[f], rows[i].flag) == 0) {
                text = flags[f + 1], where = "command line", loader->origin[i] = FROM_FLAG;
            }
        }
        char place[TEXT_MAX + 16];
        if (loader->origin[i] == FROM_FILE) {
            unsigned section = line_of_key(file, rows[i].section, 1);
            unsigned line = line_of_key(file, rows[i].key, section);
            tw_format(place, sizeof(place), "%s:%u", file, line);
            where = place;
        }
        tw_err err =
            option_set(&loader->config->option, &rows[i], keep(loader, text), where, loader->why);
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
    char line[TEXT_MAX] = "";
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
    option->mongo_uri = keep(loader, text);
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

/* ---- collections ---- */
static const char *const shapes[] = {[CATALOG_NESTED] = "nested", [CATALOG_FLAT] = "flat"};
static const char *const rules[] = {[CATALOG_FREE] = "free",
                                    [CATALOG_ENTRY] = "entry",
                                    [CATALOG_THREAD] = "thread",
                                    [CATALOG_COMMENT] = "comment"};

enum { REPORT_COLLECTIONS = 3 /* of catalog_report_preset */ };

static bool has_report(const config_options *option)
{
    return strcmp(option->preset, "report") == 0 || option->demo;
}

static tw_err choose(struct loader *loader, const char *collection, const char *what,
                     const char *text, const char *const *names, size_t count, unsigned *out)
{
    *out = 0;
    for (size_t i = 0; text != NULL && i < count; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (unsigned)i;
            return TW_OK;
        }
    }
    if (text == NULL) {
        return TW_OK;
    }
    tw_buf_format(loader->why, "collection %s: %s is '%.40s', allowed are:", collection, what,
                  text);
    for (size_t i = 0; i < count; i++) {
        tw_buf_format(loader->why, " %s", names[i]);
    }
    tw_buf_add_byte(loader->why, '\n');
    return TW_E_BAD_CONFIG;
}

/* A key whose value is JSON text; text NULL: not given. */
static tw_err collection_json(struct loader *loader, const char *name, const char *what,
                              const char *text, tw_bson *out)
{
    if (text == NULL) {
        return TW_OK;
    }
    tw_str cause = {0};
    tw_err err = tw_json_read(&loader->arena, tw_str_of(keep(loader, text)), TW_DEPTH_CLIENT_MAX,
                              out, &cause);
    if (err != TW_OK) {
        tw_buf_format(loader->why, "collection %s: %s: %.*s\n", name, what, (int)cause.len,
                      cause.ptr);
        return TW_E_BAD_CONFIG;
    }
    return TW_OK;
}

static tw_err collection_number(struct loader *loader, const char *name, const char *what,
                                const char *text, uint64_t max, int64_t *out)
{
    uint64_t number;
    if (text == NULL) {
        return TW_OK;
    }
    if (tw_parse_u64(tw_str_of(text), max, &number) != TW_OK) {
        tw_buf_format(loader->why, "collection %s: %s is '%.40s', allowed are 0 to %llu\n", name,
                      what, text, (unsigned long long)max);
        return TW_E_BAD_CONFIG;
    }
    *out = (int64_t)number;
    return TW_OK;
}

/* What every flavour takes as the name of an index. */
static bool is_index_name(const char *name)
{
    return name[0] != '\0' &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-.")] == '\0' &&
           strchr("-_.", name[0]) == NULL;
}

static tw_err collection_search(struct loader *loader, const struct file_collection *from,
                                catalog_collection *to)
{
    static const char *const stores[] = {"log", "search"};
    const struct file_search *search = from->search;
    unsigned store = 0;
    tw_err err = choose(loader, to->name, "store", from->store, stores, TW_COUNT(stores), &store);
    if (err == TW_OK && store != 0 && search == NULL) {
        tw_buf_format(loader->why, "collection %s: store: search needs a key search\n", to->name);
        return TW_E_BAD_CONFIG;
    }
    if (err != TW_OK || search == NULL) {
        return err;
    }
    to->searched = true;
    to->search_store = store != 0;
    to->search_index = search->index == NULL ? to->name : keep(loader, search->index);
    to->search_lifecycle = keep(loader, search->lifecycle);
    to->search_archive = keep(loader, search->archive);
    if (!is_index_name(to->search_index)) {
        tw_buf_format(loader->why,
                      "collection %s: '%.60s' is no name for an index (small letters, digits, _ - "
                      "and . behind the first); give another with search: index:\n",
                      to->name, to->search_index);
        return TW_E_BAD_CONFIG;
    }
    err = collection_json(loader, to->name, "mapping", search->mapping, &to->search_mapping);
    if (err == TW_OK) {
        err = collection_json(loader, to->name, "settings", search->settings, &to->search_settings);
    }
    if (err == TW_OK) {
        err =
            collection_number(loader, to->name, "shards", search->shards, 1024, &to->search_shards);
    }
    if (err == TW_OK) {
        err = collection_number(loader, to->name, "replicas", search->replicas, 64,
                                &to->search_replicas);
    }
    return err;
}

static tw_err collection_set(struct loader *loader, const struct file_collection *from,
                             catalog_collection *to)
{
    unsigned shape, rule;
    const char *name = keep(loader, from->name);
    if (catalog_check_name(tw_str_of(name)) != TW_OK) {
        tw_buf_format(loader->why, "collection '%.60s': not a name for a collection\n", name);
        return TW_E_BAD_CONFIG;
    }
    tw_err err = choose(loader, name, "shape", from->shape, shapes, TW_COUNT(shapes), &shape);
    if (err == TW_OK) {
        err = choose(loader, name, "rules", from->rules, rules, TW_COUNT(rules), &rule);
    }
    tw_bson filter = {0};
    if (err == TW_OK) {
        err = collection_json(loader, name, "filter", from->filter, &filter);
    }
    if (err != TW_OK) {
        return err;
    }
    const char **fields = tw_arena_zero(&loader->arena, from->fields_count + 1, sizeof(*fields));
    if (fields == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (unsigned i = 0; i < from->fields_count; i++) {
        fields[i] = keep(loader, from->fields[i]);
    }
    const char *database = keep(loader, from->database);
    *to = (catalog_collection){
        .database = database == NULL ? loader->config->option.database : database,
        .name = name,
        .key = from->key == NULL ? catalog_undeclared.key : keep(loader, from->key),
        .key_any = from->key_any,
        .version_field =
            from->version == NULL ? catalog_undeclared.version_field : keep(loader, from->version),
        .scope_param = from->scope == NULL ? NULL : keep(loader, from->scope->param),
        .scope_field = from->scope == NULL ? NULL : keep(loader, from->scope->field),
        .filter = filter,
        .fields = from->fields_count == 0 ? NULL : fields,
        .fields_count = from->fields_count,
        .processor = keep(loader, from->processor),
        .message = from->message == NULL ? name : keep(loader, from->message),
        .shape = (catalog_shape)shape,
        .rule = (catalog_rule)rule,
        .archives = rule != CATALOG_FREE,
        .remove_denied = from->remove_denied,
        .read_denied = from->read_denied,
        .write_denied = from->write_denied,
        .search_replicas = -1,
        .drop_allowed = from->drop_allowed,
    };
    return collection_search(loader, from, to);
}

/* An archive is a collection whose records are kept where those of its source are. */
static tw_err check_archives(struct loader *loader, const catalog_collection *at, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const catalog_collection *archive = NULL;
        for (size_t k = 0; at[i].search_archive != NULL && k < count; k++) {
            bool named = strcmp(at[k].name, at[i].search_archive) == 0 &&
                         strcmp(at[k].database, at[i].database) == 0;
            archive = named && k != i ? &at[k] : archive;
        }
        bool fits = archive != NULL && archive->search_store == at[i].search_store;
        if (at[i].search_archive != NULL && !fits) {
            tw_buf_format(loader->why,
                          "collection %s: archive is '%.60s', wanted is another declared "
                          "collection with store: %s\n",
                          at[i].name, at[i].search_archive, at[i].search_store ? "search" : "log");
            return TW_E_BAD_CONFIG;
        }
    }
    return TW_OK;
}

static tw_err refuse_twice(struct loader *loader, const catalog_collection *at, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        if (strcmp(at[k].name, at[count].name) == 0 &&
            strcmp(at[k].database, at[count].database) == 0) {
            tw_buf_format(loader->why, "collection %s is declared twice\n", at[count].name);
            return TW_E_BAD_CONFIG;
        }
    }
    return TW_OK;
}

/* ---- realtime databases: a name, a version, collections with their keyPath ---- */
static tw_err database_set(struct loader *loader, const struct file_database *from,
                           catalog_database *to)
{
    uint64_t version;
    const char *name = keep(loader, from->name);
    if (catalog_check_name(tw_str_of(name)) != TW_OK) {
        tw_buf_format(loader->why, "database '%.60s': not a name for a database\n", name);
        return TW_E_BAD_CONFIG;
    }
    if (tw_parse_u64(tw_str_of(from->version), TW_SEQNO_MAX, &version) != TW_OK) {
        tw_buf_format(loader->why, "database %s: version is '%.40s', allowed is a whole number\n",
                      name, from->version);
        return TW_E_BAD_CONFIG;
    }
    *to = (catalog_database){name, (int64_t)version, from->drop_denied};
    return TW_OK;
}

/* The collections of a database stand among all others, at at[*count] and behind it. */
static tw_err members_set(struct loader *loader, const struct file_database *from,
                          catalog_collection *at, size_t *count)
{
    for (unsigned i = 0; i < from->collections_count; i++) {
        const struct file_member *member = &from->collections[i];
        const struct file_collection whole = {.name = member->name,
                                              .database = from->name,
                                              .key = member->key_path,
                                              .drop_allowed = !from->drop_denied};
        tw_err err = collection_set(loader, &whole, &at[*count]);
        if (err == TW_OK) {
            err = refuse_twice(loader, at, *count);
        }
        if (err != TW_OK) {
            return err;
        }
        ++*count;
    }
    return TW_OK;
}

static tw_err set_databases(struct loader *loader, const struct file_content *content,
                            catalog_collection *at, size_t *count)
{
    size_t declared = content == NULL ? 0 : content->databases_count;
    catalog_database *databases = tw_arena_zero(&loader->arena, declared + 1, sizeof(*databases));
    if (databases == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < declared; i++) {
        tw_err err = database_set(loader, &content->databases[i], &databases[i]);
        for (size_t k = 0; err == TW_OK && k < i; k++) {
            if (strcmp(databases[k].name, databases[i].name) == 0) {
                tw_buf_format(loader->why, "database %s is declared twice\n", databases[i].name);
                err = TW_E_BAD_CONFIG;
            }
        }
        if (err == TW_OK) {
            err = members_set(loader, &content->databases[i], at, count);
        }
        if (err != TW_OK) {
            return err;
        }
    }
    loader->config->catalog.databases = databases;
    loader->config->catalog.databases_count = declared;
    return TW_OK;
}

static size_t members_count(const struct file_content *content)
{
    size_t count = 0;
    for (unsigned i = 0; content != NULL && i < content->databases_count; i++) {
        count += content->databases[i].collections_count;
    }
    return count;
}

static tw_err set_collections(struct loader *loader, const struct file_content *content)
{
    config *self = loader->config;
    bool report = has_report(&self->option);
    if (self->option.preset[0] != '\0' && strcmp(self->option.preset, "report") != 0) {
        tw_buf_format(loader->why, "store.preset is '%s', allowed is: report\n",
                      self->option.preset);
        return TW_E_BAD_CONFIG;
    }
    size_t declared = content == NULL ? 0 : content->collections_count;
    size_t room = declared + members_count(content) + REPORT_COLLECTIONS;
    catalog_collection *at = tw_arena_zero(&loader->arena, room, sizeof(*at));
    if (at == NULL) {
        return TW_E_NO_MEMORY;
    }
    size_t count = 0;
    if (report) {
        catalog_report_preset(self->option.database, at);
        count = REPORT_COLLECTIONS;
    }
    for (size_t i = 0; i < declared; i++) {
        tw_err err = collection_set(loader, &content->collections[i], &at[count]);
        if (err == TW_OK) {
            err = refuse_twice(loader, at, count);
        }
        if (err != TW_OK) {
            return err;
        }
        count++;
    }
    tw_err err = check_archives(loader, at, count);
    if (err != TW_OK) {
        return err;
    }
    const char *fallback = self->option.default_collection;
    self->catalog = (catalog){
        .magic = CATALOG_MAGIC,
        .at = at,
        .default_database = self->option.database,
        .default_collection = fallback[0] == '\0' ? NULL : fallback,
        .strict = self->option.strict,
    };
    err = set_databases(loader, content, at, &count);
    self->catalog.count = count;
    return err;
}

tw_err config_load(config *self, const char *file, const char *const *flags, tw_buf *why)
{
    *self = (struct config){0};
    struct schema schema;
    schema_make(&schema);
    struct complaint complaint = {.file = file};
    const cyaml_config_t reader = {.log_fn = on_cyaml_log,
                                   .log_ctx = &complaint,
                                   .mem_fn = cyaml_mem,
                                   .log_level = CYAML_LOG_ERROR};
    cyaml_data_t *data = NULL;
    if (file != NULL) {
        cyaml_err_t read = cyaml_load_file(file, &reader, &schema.top, &data, NULL);
        if (read == CYAML_ERR_FILE_OPEN) {
            tw_buf_format(why, "%s: cannot be opened; check the path given to --config\n", file);
            return TW_E_BAD_CONFIG;
        }
        if (read != CYAML_OK) {
            if (complaint.first[0] == '\0') {
                tw_format(complaint.first, sizeof(complaint.first), "%s", cyaml_strerror(read));
            }
            return complain(&complaint, why);
        }
    }
    struct loader loader = {.config = self, .why = why};
    tw_arena_init(&loader.arena, CONFIG_MEMORY);
    self->file = keep(&loader, file);
    tw_err err = set_scalars(&loader, (struct file_content *)data, file, flags);
    if (err == TW_OK) {
        err = set_mongo(&loader);
    }
    if (err == TW_OK) {
        err = set_collections(&loader, (struct file_content *)data);
    }
    const struct file_content *content = (const struct file_content *)data;
    if (err == TW_OK) {
        config_auth_lists lists = {0};
        if (content != NULL) {
            lists = (config_auth_lists){content->keys, content->keys_count, content->rules,
                                        content->rules_count};
        }
        err = config_auth_set(&loader.arena, &self->option, &lists, &self->auth, why);
    }
    if (data != NULL) {
        cyaml_free(&reader, &schema.top, data, 0);
    }
    void *memory = tw_alloc(sizeof(tw_arena) + ROWS);
    if (err == TW_OK && memory == NULL) {
        err = TW_E_NO_MEMORY;
    }
    if (err != TW_OK) {
        tw_free(memory);
        tw_arena_fini(&loader.arena);
        return err;
    }
    memcpy(memory, &loader.arena, sizeof(tw_arena));
    memcpy((char *)memory + sizeof(tw_arena), loader.origin, ROWS);
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

/* ---- out ---- */
/* A text as JSON, which is YAML too. Passwords of URLs in it are not shown: mongodb://ada:***@x. */
static void write_shown(tw_buf *out, const char *text)
{
    tw_buf masked;
    tw_buf_init(&masked, TEXT_MAX * 2);
    for (const char *at = text; *at != '\0';) {
        const char *url = strstr(at, "://");
        const char *rest = url == NULL ? at + strlen(at) : url + 3;
        tw_buf_add(&masked, at, (size_t)(rest - at));
        size_t authority = url == NULL ? 0 : strcspn(rest, "/?#, ");
        const char *host = NULL; /* behind the last @ */
        for (size_t i = 0; i < authority; i++) {
            host = rest[i] == '@' ? rest + i : host;
        }
        const char *colon = host == NULL ? NULL : memchr(rest, ':', (size_t)(host - rest));
        if (colon != NULL) {
            tw_buf_add(&masked, rest, (size_t)(colon - rest) + 1);
            tw_buf_add_str(&masked, TW_STR("***"));
            rest = host;
        }
        at = rest;
    }
    tw_json_write_str(out, tw_buf_str(&masked));
    tw_buf_fini(&masked);
}

static void write_value(const config *self, const struct option_row *row, tw_buf *out)
{
    const void *member = (const char *)&self->option + row->offset;
    switch (row->type) {
    case OPTION_text:
        write_shown(out, *(const char *const *)member);
        return;
    case OPTION_number:
        tw_buf_add_i64(out, *(const int64_t *)member);
        return;
    case OPTION_flag:
        tw_buf_format(out, "%s", *(const bool *)member ? "true" : "false");
        return;
    }
}

static void write_text(tw_buf *out, const char *before, const char *text)
{
    if (text != NULL) {
        tw_buf_add_str(out, tw_str_of(before));
        tw_json_write_str(out, tw_str_of(text));
    }
}

static void write_switch(tw_buf *out, const char *key, bool on)
{
    if (on) {
        tw_buf_format(out, "    %s: true\n", key);
    }
}

/* Between single quotes YAML knows no escape but the doubled quote. */
static void write_json(tw_buf *out, const char *key, tw_bson doc)
{
    if (doc.len == 0) {
        return;
    }
    tw_buf json;
    tw_buf_init(&json, out->max);
    tw_json_write(&json, doc);
    tw_buf_format(out, "%s: '", key);
    for (size_t i = 0; i < json.len; i++) {
        tw_buf_add(out, "'", json.ptr[i] == '\'' ? 1 : 0);
        tw_buf_add_byte(out, json.ptr[i]);
    }
    tw_buf_format(out, "'\n");
    tw_buf_fini(&json);
}

static void write_search(const catalog_collection *at, tw_buf *out)
{
    if (!at->searched) {
        return;
    }
    tw_buf_format(out, "    store: %s\n    search:\n", at->search_store ? "search" : "log");
    write_text(out, "      index: ", at->search_index);
    write_text(out, "\n      lifecycle: ", at->search_lifecycle);
    write_text(out, "\n      archive: ", at->search_archive);
    tw_buf_add_byte(out, '\n');
    write_json(out, "      mapping", at->search_mapping);
    write_json(out, "      settings", at->search_settings);
    if (at->search_shards > 0) {
        tw_buf_format(out, "      shards: %lld\n", (long long)at->search_shards);
    }
    if (at->search_replicas >= 0) {
        tw_buf_format(out, "      replicas: %lld\n", (long long)at->search_replicas);
    }
}

static void write_collection(const catalog_collection *at, tw_buf *out)
{
    write_text(out, "  - name: ", at->name);
    write_text(out, "\n    database: ", at->database);
    write_text(out, "\n    key: ", at->key);
    write_text(out, "\n    version: ", at->version_field);
    write_text(out, "\n    message: ", at->message);
    write_text(out, "\n    processor: ", at->processor);
    tw_buf_format(out, "\n    shape: %s\n    rules: %s\n", shapes[at->shape], rules[at->rule]);
    if (at->scope_param != NULL) {
        write_text(out, "    scope: {param: ", at->scope_param);
        write_text(out, ", field: ", at->scope_field);
        tw_buf_format(out, "}\n");
    }
    write_json(out, "    filter", at->filter);
    for (size_t i = 0; i < at->fields_count; i++) {
        write_text(out, i == 0 ? "    fields: [" : ", ", at->fields[i]);
    }
    tw_buf_format(out, "%s", at->fields_count == 0 ? "" : "]\n");
    write_switch(out, "key_any", at->key_any);
    write_switch(out, "remove_denied", at->remove_denied);
    write_switch(out, "read_denied", at->read_denied);
    write_switch(out, "write_denied", at->write_denied);
    write_switch(out, "drop_allowed", at->drop_allowed);
    write_search(at, out);
}

/* The collections of a database are written with all others; read again, they are found there. */
static void write_databases(const catalog *known, tw_buf *out)
{
    for (size_t i = 0; i < known->databases_count; i++) {
        const catalog_database *at = &known->databases[i];
        tw_buf_format(out, "%s", i == 0 ? "\ndatabases:\n" : "");
        write_text(out, "  - name: ", at->name);
        tw_buf_format(out, "\n    version: %lld\n", (long long)at->version);
        write_switch(out, "drop_denied", at->drop_denied);
    }
}

void config_write(const config *self, bool origins, tw_buf *out)
{
    const uint8_t *from = (const uint8_t *)self->memory + sizeof(tw_arena);
    const char *section = "";
    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(section, rows[i].section) != 0) {
            section = rows[i].section;
            tw_buf_format(out, "%s%s:\n", i == 0 ? "" : "\n", section);
        }
        tw_buf_format(out, "  # %s\n  %s: ", rows[i].help, rows[i].key);
        write_value(self, &rows[i], out);
        tw_buf_format(out, origins ? "  # from: %s\n" : "\n", origin_names[from[i]]);
        if (strcmp(section, "auth") == 0 &&
            (i + 1 == ROWS || strcmp(rows[i + 1].section, section) != 0)) {
            config_auth_write(&self->auth, out);
        }
    }
    size_t first = has_report(&self->option) ? REPORT_COLLECTIONS : 0; /* the preset brings them */
    for (size_t i = first; i < self->catalog.count; i++) {
        tw_buf_format(out, "%s", i == first ? "\ncollections:\n" : "");
        write_collection(&self->catalog.at[i], out);
    }
    write_databases(&self->catalog, out);
}

/* ---- for programs ---- */

static void write_json_collection(const catalog_collection *at, tw_buf *out)
{
    tw_buf_add_str(out, TW_STR("{\"name\":"));
    tw_json_write_str(out, tw_str_of(at->name));
    write_text(out, ",\"database\":", at->database);
    write_text(out, ",\"key\":", at->key);
    write_text(out, ",\"message\":", at->message);
    write_text(out, ",\"scope\":", at->scope_field);
    tw_buf_format(out, ",\"shape\":\"%s\",\"rules\":\"%s\"}", shapes[at->shape], rules[at->rule]);
}

void config_write_json(const config *self, tw_buf *out)
{
    const uint8_t *from = (const uint8_t *)self->memory + sizeof(tw_arena);
    tw_buf_add_str(out, TW_STR("{\"file\":"));
    if (self->file == NULL) {
        tw_buf_add_str(out, TW_STR("null"));
    } else {
        tw_json_write_str(out, tw_str_of(self->file));
    }
    tw_buf_add_str(out, TW_STR(",\"options\":["));
    for (size_t i = 0; i < ROWS; i++) {
        tw_buf_format(out, "%s{\"section\":\"%s\",\"key\":\"%s\",\"origin\":\"%s\",\"help\":",
                      i == 0 ? "" : ",", rows[i].section, rows[i].key, origin_names[from[i]]);
        tw_json_write_str(out, tw_str_of(rows[i].help));
        tw_buf_add_str(out, TW_STR(",\"value\":"));
        write_value(self, &rows[i], out);
        tw_buf_add_byte(out, '}');
    }
    tw_buf_add_str(out, TW_STR("],\"collections\":["));
    for (size_t i = 0; i < self->catalog.count; i++) {
        tw_buf_add_str(out, i == 0 ? TW_STR("") : TW_STR(","));
        write_json_collection(&self->catalog.at[i], out);
    }
    tw_buf_add_str(out, TW_STR("]}"));
}
