/* catalog.h - the collections that were declared, and what holds for those that were not.
 *
 * Made once at the start from the configuration (cli/config.c) and then only read, by any
 * thread. */
#pragma once

#include "protocol/base.h"

enum { CATALOG_MAGIC = 0x4ca7a106 };

typedef enum catalog_shape {
    CATALOG_NESTED, /* {"type":"record",...,"doc":{...}} */
    CATALOG_FLAT,   /* the fields stand beside type and mux_id */
} catalog_shape;

typedef enum catalog_rule {
    CATALOG_FREE,
    CATALOG_ENTRY,
    CATALOG_THREAD,
    CATALOG_COMMENT
} catalog_rule;

typedef struct catalog_collection {
    const char *database;
    const char *name;
    const char *key;           /* field that holds the key; "_id" */
    bool key_any;              /* a 24-digit hex id may also be a string */
    const char *version_field; /* "_version" */
    const char *scope_param;   /* key of subscribe, such as project_id; NULL: no scope */
    const char *scope_field;   /* field of the document, such as proj_id */
    tw_bson filter;            /* of streams and manifests; len 0: all */
    const char *const *fields; /* of minimal documents; NULL: whole */
    size_t fields_count;
    const char *processor; /* nng address; NULL: none */
    const char *message;   /* type of flat events: entry */
    catalog_shape shape;
    catalog_rule rule;
    bool archives;                /* archivetime decides what snapshots omit */
    bool remove_denied;           /* clients may not remove */
    bool read_denied;             /* clients may not read: nobody is told of it */
    bool write_denied;            /* clients may not write */
    bool searched;                /* has an index in the search engine */
    bool search_store;            /* store: search: the engine alone keeps its documents */
    const char *search_index;     /* the index' name behind the prefix; NULL: not searched */
    tw_bson search_mapping;       /* {"properties":{...}}; len 0: the engine finds out */
    tw_bson search_settings;      /* analysis and its kin; len 0: none */
    int64_t search_shards;        /* 0: as the section search says */
    int64_t search_replicas;      /* -1: as the section search says */
    const char *search_lifecycle; /* name of a policy; NULL: none */
    const char *search_archive;   /* collection that `archive` moves to; NULL: archive is refused */
    bool drop_allowed;            /* clients may drop it as a whole */
} catalog_collection;

/* A realtime database: its schema is the collections that are declared in it, and no others. */
typedef struct catalog_database {
    const char *name;
    int64_t version;  /* of the schema; a client whose copy has another begins anew */
    bool drop_denied; /* clients may not drop it */
} catalog_database;

typedef struct catalog {
    uint32_t magic;
    const catalog_collection *at; /* own */
    size_t count;
    const catalog_database *databases; /* own */
    size_t databases_count;
    const char *default_database;   /* "main" */
    const char *default_collection; /* for getByIds without collection; NULL: it must be named */
    bool strict;                    /* undeclared collections are refused */
    bool embedded; /* searches need no server: undeclared collections are searched too, and what
                      is declared `store: search` is kept in the log */
} catalog;

/* The declaration, or NULL where there is none. db empty: the default database. */
const catalog_collection *catalog_find(const catalog *catalog, tw_str db, tw_str name);
/* What holds for a collection that is not declared: nested, _id, _version, no scope. */
extern const catalog_collection catalog_undeclared;
/* The realtime database of this name, or NULL. db empty: the default database. */
const catalog_database *catalog_database_find(const catalog *catalog, tw_str db);
/* The declaration or catalog_undeclared; NULL where that is forbidden: by strict, or because the
 * database is a declared one and has no such collection. */
const catalog_collection *catalog_rules(const catalog *catalog, tw_str db, tw_str name);
/* Fills *out with the three collections of the report preset: entries, threads, comments in
 * database db, scope project_id: proj_id, flat, with their rules. Static memory. */
void catalog_report_preset(const char *db, catalog_collection out[3]);
/* TW_E_BAD_MESSAGE for a name that is empty, too long, has NUL, '$', or begins with "system.". */
tw_err catalog_check_name(tw_str name);
