/* catalog.c - look-ups in the declared collections, and the preset of the report application. */
#include "broker/catalog.h"

#include "protocol/limits.h"

const catalog_collection catalog_undeclared = {
    .database = "",
    .name = "",
    .key = "_id",
    .version_field = "_version",
    .message = "record",
    .shape = CATALOG_NESTED,
    .rule = CATALOG_FREE,
    .search_replicas = -1,
};

const catalog_collection *catalog_find(const catalog *known, tw_str db, tw_str name)
{
    TW_ASSERT(known != NULL && known->magic == CATALOG_MAGIC);
    TW_ASSERT(known->count == 0 || known->at != NULL);
    if (db.len == 0) {
        db = tw_str_of(known->default_database);
    }
    for (size_t i = 0; i < known->count; i++) {
        const catalog_collection *at = &known->at[i];
        if (tw_str_equal(tw_str_of(at->name), name) && tw_str_equal(tw_str_of(at->database), db)) {
            return at;
        }
    }
    return NULL;
}

const catalog_database *catalog_database_find(const catalog *known, tw_str db)
{
    TW_ASSERT(known != NULL && known->magic == CATALOG_MAGIC);
    TW_ASSERT(known->databases_count == 0 || known->databases != NULL);
    if (db.len == 0) {
        db = tw_str_of(known->default_database);
    }
    for (size_t i = 0; i < known->databases_count; i++) {
        if (tw_str_equal(tw_str_of(known->databases[i].name), db)) {
            return &known->databases[i];
        }
    }
    return NULL;
}

const catalog_collection *catalog_rules(const catalog *known, tw_str db, tw_str name)
{
    TW_ASSERT(known != NULL && known->magic == CATALOG_MAGIC);
    TW_ASSERT(name.ptr != NULL || name.len == 0);
    const catalog_collection *found = catalog_find(known, db, name);
    if (found == NULL && !known->strict && catalog_database_find(known, db) == NULL) {
        return &catalog_undeclared;
    }
    return found;
}

void catalog_report_preset(const char *db, catalog_collection out[3])
{
    TW_ASSERT(db != NULL && db[0] != '\0');
    TW_ASSERT(out != NULL);
    static const struct {
        const char *name;
        const char *key;
        const char *message;
        catalog_rule rule;
    } preset[3] = {
        {"entries", "version_uuid", "entry", CATALOG_ENTRY},
        {"threads", "thread_uuid", "thread", CATALOG_THREAD},
        {"comments", "_id", "comment", CATALOG_COMMENT},
    };
    for (size_t i = 0; i < TW_COUNT(preset); i++) {
        out[i] = (catalog_collection){
            .database = db,
            .name = preset[i].name,
            .key = preset[i].key,
            .version_field = "_version",
            .scope_param = "project_id",
            .scope_field = "proj_id",
            .message = preset[i].message,
            .shape = CATALOG_FLAT,
            .rule = preset[i].rule,
            .archives = true,
            .remove_denied = true, /* append-only: what is over is archived */
            .search_replicas = -1,
        };
    }
}

tw_err catalog_check_name(tw_str name)
{
    TW_ASSERT(name.ptr != NULL || name.len == 0);
    if (name.len == 0 || name.len > TW_NAME_MAX) {
        return TW_E_BAD_MESSAGE;
    }
    if (memchr(name.ptr, '\0', name.len) != NULL || memchr(name.ptr, '$', name.len) != NULL) {
        return TW_E_BAD_MESSAGE;
    }
    if (name.len >= 7 && memcmp(name.ptr, "system.", 7) == 0) {
        return TW_E_BAD_MESSAGE;
    }
    return TW_OK;
}
