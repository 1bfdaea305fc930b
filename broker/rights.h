/* rights.h - who may do what to which records: rules of the configuration, and what they come to
 * for the claims of one token.
 *
 * Deny by default: what no rule allows is refused. A rule names a role, a collection, verbs, the
 * rows (a filter in which "$claims.x" stands for a claim) and the fields that are hidden. Several
 * rules of one asker add up: rows that any of them shows are shown, without the fields that any of
 * them hides (but for rules that another one includes altogether).
 *
 * Pure, and read only once made: the filter joins queries by AND, hidden fields are taken out of
 * documents before anything is told of them, and may not be asked about either. Counted, because
 * requests outlive the token that they came with. Thread: one at a time. */
#pragma once

#include "protocol/bson.h"

#include "broker/why.h"

enum rights_verb {
    RIGHTS_READ = 1,
    RIGHTS_SEARCH = 2,
    RIGHTS_INSERT = 4,
    RIGHTS_UPDATE = 8,
    RIGHTS_REMOVE = 16,
    RIGHTS_DISPATCH = 32,
    RIGHTS_ADMIN = 64, /* drop, wipe, commit, reindex, fix_* */
    RIGHTS_OPEN = 256, /* no verb: nothing of a record is told or changed */
    RIGHTS_PARTS = 512 /* no verb: each part of it is looked at by its own */
};
enum { RIGHTS_VERBS = 7 };
extern const char *const rights_verb_names[RIGHTS_VERBS]; /* of bit 0, 1, ... */

typedef struct rights_rule {
    const char *role;       /* "*": everybody with a good token; "anonymous": who has none */
    const char *database;   /* NULL: the default one; "*": all */
    const char *collection; /* "*": all, the undeclared ones too */
    unsigned verbs;         /* enum rights_verb */
    tw_bson filter;         /* len 0: all rows */
    const char *const *hidden;
    size_t hidden_count;
} rights_rule;

typedef struct rights_table {
    const rights_rule *at; /* borrow */
    size_t count;
    const char *default_database;
} rights_table;

typedef struct rights rights;

/* What one verb comes to for one collection. Views, valid as long as the rights and the arena. */
typedef struct rights_grant {
    bool allowed;
    tw_bson filter; /* len 0: all rows */
    tw_str *hidden;
    size_t hidden_count;
} rights_grant;

/* Checks a rule of the configuration: the filter compiles, names are names. TW_E_BAD_CONFIG. */
tw_err rights_rule_check(const rights_rule *rule, broker_why *why);

/* What the rules come to. claims len 0: nobody, the role anonymous. roles: the claim that holds
 * text or a list of it. A rule whose filter names a claim that is missing, null or no plain value
 * (a list under $in, $nin, $all) does not hold. Nothing of the table is needed afterwards.
 * TW_E_NO_MEMORY. */
tw_err rights_new(rights **out, const rights_table *table, tw_bson claims, tw_str roles);
rights *rights_hold(rights *self); /* accepts NULL */
void rights_drop(rights **self);   /* nulls; accepts NULL */
bool rights_equal(const rights *a, const rights *b);
/* False: no rule holds at all. */
bool rights_any(const rights *self);
/* The token's subject; empty: none. */
tw_str rights_subject(const rights *self);

/* verb: one bit of enum rights_verb. self NULL: there is no auth, all is allowed. db empty: rules
 * for all databases alone; coll empty: rules for all collections alone. TW_E_NO_MEMORY. */
tw_err rights_of(const rights *self, tw_arena *arena, tw_str db, tw_str coll, unsigned verb,
                 rights_grant *out);
/* Collections that rules name themselves, index 0, 1, ...; false: no more. */
bool rights_named(const rights *self, size_t index, tw_str *db, tw_str *coll);

/* ---- filters and fields ---- */
/* Appends the document without the fields; arrays on the way are gone into. */
void rights_hide(const rights_grant *grant, tw_bson doc, tw_buf *out);
/* True when one of two dotted paths stands within the other; numbers (of arrays) do not count. */
bool rights_paths_meet(tw_str a, tw_str b);
/* True when a filter (or a sort, a projection: keys are paths) may tell anything of the path. */
bool rights_filter_asks(tw_bson filter, tw_str path);
bool rights_filter_asks_hidden(const rights_grant *grant, tw_bson filter);
/* True when an update document writes a hidden field, or one that the filter asks about. */
bool rights_update_meets(const rights_grant *grant, tw_bson update);
/* True when every clause can be held against an index exactly, should the fields be: no negation,
 * ranges of numbers and dates alone. */
bool rights_filter_is_positive(tw_bson filter);
