/* config_file.c - the configuration file through libcyaml's schema, which is made from the table of
 * options, so that a key is named once; and what is wrong with a file, in words. */
#include <stdio.h>
#include <stdlib.h>

#include <cyaml/cyaml.h>

#include "cli/config_priv.h"
#include "cli/nearest.h"

enum { SECTIONS_MAX = 10 };

/* ---- the schema ---- */
#define TEXT(structure, key_name, member, more)                                                    \
    CYAML_FIELD_STRING_PTR(key_name, CYAML_FLAG_POINTER | (more), struct structure, member, 1,     \
                           CONFIG_TEXT_MAX)
#define SWITCH(key_name, member)                                                                   \
    CYAML_FIELD_BOOL(key_name, CYAML_FLAG_OPTIONAL, struct file_collection, member)
static const cyaml_schema_value_t field_name = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, CONFIG_TEXT_MAX)};
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
    cyaml_schema_field_t fields[SECTIONS_MAX]
                               [CONFIG_ROWS + 3]; /* auth has two lists, then the end */
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
    for (size_t i = 0; i < CONFIG_ROWS; i++) {
        size_t at = schema_section(schema, config_rows[i].section);
        schema->fields[at][schema->counts[at]++] = (cyaml_schema_field_t){
            .key = config_rows[i].key,
            .data_offset = (uint32_t)(offsetof(struct file_content, value) + i * sizeof(char *)),
            .value = {.type = CYAML_STRING,
                      .flags = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                      .data_size = 1,
                      .string = {.min = 0, .max = CONFIG_TEXT_MAX}},
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

unsigned config_line_of_key(const char *file, const char *key, unsigned from)
{
    FILE *in = fopen(file, "r");
    char line[CONFIG_TEXT_MAX];
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

/* Keys that stand in lists and mappings below a section; those of the sections are options. */
static const struct {
    const char *section;
    const cyaml_schema_field_t *fields;
} nested[] = {{"collections", collection_fields},       {"collections.search", search_fields},
              {"collections.scope", scope_fields},      {"databases", database_fields},
              {"databases.collections", member_fields}, {"auth.keys", config_auth_key_fields},
              {"auth.rules", config_auth_rule_fields}};

struct known_key {
    const char *section, *key; /* section "": a section itself */
};
enum { KNOWN_MAX = CONFIG_ROWS + 96 };

static size_t list_known(struct known_key out[KNOWN_MAX])
{
    static const char *const sections[] = {"server", "actors", "store", "mongo",       "search",
                                           "limits", "auth",   "demo",  "collections", "databases"};
    size_t count = 0;
    for (size_t i = 0; i < TW_COUNT(sections); i++) {
        out[count++] = (struct known_key){"", sections[i]};
    }
    for (size_t i = 0; i < CONFIG_ROWS; i++) {
        out[count++] = (struct known_key){config_rows[i].section, config_rows[i].key};
    }
    for (size_t i = 0; i < TW_COUNT(nested); i++) {
        for (const cyaml_schema_field_t *at = nested[i].fields; at->key != NULL; at++) {
            TW_ASSERT(count < KNOWN_MAX);
            out[count++] = (struct known_key){nested[i].section, at->key};
        }
    }
    return count;
}

/* The section that a line of the file stands in; "" where it begins one. */
static void section_of_line(const char *file, unsigned line, char *out, size_t size)
{
    FILE *in = fopen(file, "r");
    char text[CONFIG_TEXT_MAX];
    out[0] = '\0';
    for (unsigned number = 1; in != NULL && fgets(text, sizeof(text), in) != NULL; number++) {
        bool begins = strchr(" #-\r\n", text[0]) == NULL;
        if (number >= line) {
            out[0] = begins ? '\0' : out[0];
            break;
        }
        if (begins) {
            tw_format(out, size, "%.*s", (int)strcspn(text, ":"), text);
        }
    }
    if (in != NULL) {
        fclose(in);
    }
}

static bool is_within(const char *section, const char *top)
{
    size_t len = strlen(top);
    return strncmp(section, top, len) == 0 && (section[len] == '\0' || section[len] == '.');
}

/* A known key of that name belongs elsewhere; otherwise the nearest one of the section is told. */
static void advise(const char *key, const char *section, tw_buf *why)
{
    struct known_key known[KNOWN_MAX];
    const char *names[KNOWN_MAX];
    size_t known_count = list_known(known);
    size_t count = 0;
    for (size_t i = 0; i < known_count; i++) {
        if (strcmp(known[i].key, key) == 0) {
            tw_buf_format(
                why, known[i].section[0] == '\0' ? "; it is a section\n" : "; it belongs to '%s'\n",
                known[i].section);
            return;
        }
        if (section[0] == '\0' ? known[i].section[0] == '\0'
                               : is_within(known[i].section, section)) {
            names[count++] = known[i].key;
        }
    }
    const char *nearest = nearest_name(key, names, count);
    tw_buf_format(why, nearest == NULL ? "\n" : "; did you mean '%s'?\n", nearest);
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
    char section[TW_NAME_MAX + 1];
    /* libcyaml names the line of the token before an unexpected key */
    unsigned line = config_line_of_key(complaint->file, key, complaint->line);
    section_of_line(complaint->file, line, section, sizeof(section));
    tw_buf_format(why, "%s:%u: unknown key '%s'", complaint->file, line, key);
    advise(key, section, why);
    return TW_E_BAD_CONFIG;
}

/* ---- reading ---- */
static cyaml_config_t reader_of(struct complaint *complaint)
{
    return (cyaml_config_t){.log_fn = on_cyaml_log,
                            .log_ctx = complaint,
                            .mem_fn = cyaml_mem,
                            .log_level = CYAML_LOG_ERROR};
}

tw_err config_file_read(const char *file, struct file_content **out, tw_buf *why)
{
    struct schema schema;
    struct complaint complaint = {.file = file};
    const cyaml_config_t reader = reader_of(&complaint);
    cyaml_data_t *data = NULL;
    schema_make(&schema);
    cyaml_err_t read = cyaml_load_file(file, &reader, &schema.top, &data, NULL);
    *out = data;
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
    return TW_OK;
}

void config_file_free(struct file_content **content)
{
    struct schema schema;
    struct complaint none = {0};
    const cyaml_config_t reader = reader_of(&none);
    schema_make(&schema);
    if (*content != NULL) {
        cyaml_free(&reader, &schema.top, *content, 0);
        *content = NULL;
    }
}
