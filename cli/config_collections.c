/* config_collections.c - declared collections and realtime databases, with the report preset. */
#include "protocol/json.h"
#include "protocol/messages.h"

#include "broker/query.h"

#include "cli/config_priv.h"

/* ---- collections ---- */
const char *const config_shapes[] = {[CATALOG_NESTED] = "nested", [CATALOG_FLAT] = "flat"};
const char *const config_rules[] = {[CATALOG_FREE] = "free",
                                    [CATALOG_ENTRY] = "entry",
                                    [CATALOG_THREAD] = "thread",
                                    [CATALOG_COMMENT] = "comment"};

bool config_has_report(const config_options *option)
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
    tw_err err = tw_json_read(&loader->arena, tw_str_of(config_keep(loader, text)),
                              TW_DEPTH_CLIENT_MAX, out, &cause);
    if (err != TW_OK) {
        tw_buf_format(loader->why, "collection %s: %s: %.*s\n", name, what, (int)cause.len,
                      cause.ptr);
        return TW_E_BAD_CONFIG;
    }
    return TW_OK;
}

/* An operator that nobody knows would otherwise be found by the first stream that is asked for. */
static tw_err collection_filter(struct loader *loader, const char *name, const char *text,
                                tw_bson *out)
{
    query *compiled = NULL;
    broker_why why = {0};
    tw_err err = collection_json(loader, name, "filter", text, out);
    if (err == TW_OK && text != NULL) {
        err = query_compile(*out, &compiled, &why);
        query_free(&compiled);
    }
    if (why.text[0] != '\0') {
        tw_buf_format(loader->why, "collection %s: filter: %s\n", name, why.text);
        return TW_E_BAD_CONFIG;
    }
    return err;
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
    to->search_index = search->index == NULL ? to->name : config_keep(loader, search->index);
    to->search_lifecycle = config_keep(loader, search->lifecycle);
    to->search_archive = config_keep(loader, search->archive);
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
    const char *name = config_keep(loader, from->name);
    if (catalog_check_name(tw_str_of(name)) != TW_OK) {
        tw_buf_format(loader->why, "collection '%.60s': not a name for a collection\n", name);
        return TW_E_BAD_CONFIG;
    }
    tw_err err =
        choose(loader, name, "shape", from->shape, config_shapes, TW_COUNT(config_shapes), &shape);
    if (err == TW_OK) {
        err =
            choose(loader, name, "rules", from->rules, config_rules, TW_COUNT(config_rules), &rule);
    }
    tw_bson filter = {0};
    if (err == TW_OK) {
        err = collection_filter(loader, name, from->filter, &filter);
    }
    if (err != TW_OK) {
        return err;
    }
    const char **fields = tw_arena_zero(&loader->arena, from->fields_count + 1, sizeof(*fields));
    if (fields == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (unsigned i = 0; i < from->fields_count; i++) {
        fields[i] = config_keep(loader, from->fields[i]);
    }
    const char *database = config_keep(loader, from->database);
    *to = (catalog_collection){
        .database = database == NULL ? loader->config->option.database : database,
        .name = name,
        .key = from->key == NULL ? catalog_undeclared.key : config_keep(loader, from->key),
        .key_any = from->key_any,
        .version_field = from->version == NULL ? catalog_undeclared.version_field
                                               : config_keep(loader, from->version),
        .scope_param = from->scope == NULL ? NULL : config_keep(loader, from->scope->param),
        .scope_field = from->scope == NULL ? NULL : config_keep(loader, from->scope->field),
        .filter = filter,
        .fields = from->fields_count == 0 ? NULL : fields,
        .fields_count = from->fields_count,
        .processor = config_keep(loader, from->processor),
        .message = from->message == NULL ? name : config_keep(loader, from->message),
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
    const char *name = config_keep(loader, from->name);
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

tw_err config_set_collections(struct loader *loader, const struct file_content *content)
{
    config *self = loader->config;
    bool report = config_has_report(&self->option);
    if (self->option.preset[0] != '\0' && strcmp(self->option.preset, "report") != 0) {
        tw_buf_format(loader->why, "store.preset is '%s', allowed is: report\n",
                      self->option.preset);
        return TW_E_BAD_CONFIG;
    }
    size_t declared = content == NULL ? 0 : content->collections_count;
    size_t room = declared + members_count(content) + CONFIG_REPORT_COLLECTIONS;
    catalog_collection *at = tw_arena_zero(&loader->arena, room, sizeof(*at));
    if (at == NULL) {
        return TW_E_NO_MEMORY;
    }
    size_t count = 0;
    if (report) {
        catalog_report_preset(self->option.database, at);
        count = CONFIG_REPORT_COLLECTIONS;
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
