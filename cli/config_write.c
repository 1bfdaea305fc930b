/* config_write.c - the configuration as it holds: the file that would give it, and JSON for
 * programs. */
#include "protocol/json.h"

#include "cli/config_priv.h"

static const char *const origin_names[] = {"default", "file", "environment", "command line"};

/* A text as JSON, which is YAML too. Passwords of URLs in it are not shown: mongodb://ada:***@x. */
static void write_shown(tw_buf *out, const char *text)
{
    tw_buf masked;
    tw_buf_init(&masked, CONFIG_TEXT_MAX * 2);
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
    tw_buf_format(out, "\n    shape: %s\n    rules: %s\n", config_shapes[at->shape],
                  config_rules[at->rule]);
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
    for (size_t i = 0; i < CONFIG_ROWS; i++) {
        if (strcmp(section, config_rows[i].section) != 0) {
            section = config_rows[i].section;
            tw_buf_format(out, "%s%s:\n", i == 0 ? "" : "\n", section);
        }
        tw_buf_format(out, "  # %s\n  %s: ", config_rows[i].help, config_rows[i].key);
        write_value(self, &config_rows[i], out);
        tw_buf_format(out, origins ? "  # from: %s\n" : "\n", origin_names[from[i]]);
        if (strcmp(section, "auth") == 0 &&
            (i + 1 == CONFIG_ROWS || strcmp(config_rows[i + 1].section, section) != 0)) {
            config_auth_write(&self->auth, out);
        }
    }
    size_t first = config_has_report(&self->option) ? CONFIG_REPORT_COLLECTIONS
                                                    : 0; /* the preset brings them */
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
    tw_buf_format(out, ",\"shape\":\"%s\",\"rules\":\"%s\"}", config_shapes[at->shape],
                  config_rules[at->rule]);
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
    for (size_t i = 0; i < CONFIG_ROWS; i++) {
        tw_buf_format(out, "%s{\"section\":\"%s\",\"key\":\"%s\",\"origin\":\"%s\",\"help\":",
                      i == 0 ? "" : ",", config_rows[i].section, config_rows[i].key,
                      origin_names[from[i]]);
        tw_json_write_str(out, tw_str_of(config_rows[i].help));
        tw_buf_add_str(out, TW_STR(",\"value\":"));
        write_value(self, &config_rows[i], out);
        tw_buf_add_byte(out, '}');
    }
    tw_buf_add_str(out, TW_STR("],\"collections\":["));
    for (size_t i = 0; i < self->catalog.count; i++) {
        tw_buf_add_str(out, i == 0 ? TW_STR("") : TW_STR(","));
        write_json_collection(&self->catalog.at[i], out);
    }
    tw_buf_add_str(out, TW_STR("]}"));
}
