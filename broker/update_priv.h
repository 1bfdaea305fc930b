/* update_priv.h - a document taken apart for change: shared by update.c and update_operators.c. */
#pragma once

#include "broker/update.h"

/* A value in a document that is being changed. Only what a path leads through is opened. */
typedef struct update_node update_node;
struct update_node {
    update_node *next;  /* sibling */
    update_node *first; /* opened: children */
    update_node *last;
    uint32_t count; /* children */
    bool opened;    /* a document or array whose children stand here and not in value */
    bool is_array;  /* of opened */
    tw_str name;
    tw_bson_value value; /* type 0 and not opened: made by this update, not yet set */
};

typedef struct update_run {
    tw_arena *arena;
    update_node *root;
    tw_bson doc; /* as it was */
    uint64_t now_ms;
    broker_why *why;
} update_run;

/* One operator on one path. */
typedef struct update_change update_change;
typedef tw_err (*update_apply_one)(update_run *run, const update_change *change);
struct update_change {
    tw_str path;
    tw_bson_value operand;
    update_apply_one apply;
};

typedef struct update_operator {
    const char *name;
    update_apply_one apply; /* NULL: ignored */
} update_operator;
extern const update_operator update_operators[];
extern const size_t update_operators_count;

tw_err update_refuse(update_run *run, tw_str path, const char *what);
/* Opens a document or array; false for a plain value. TW_E_NO_MEMORY in *err. */
bool update_open(update_run *run, update_node *node, tw_err *err);
/* The node at path; *out NULL when it is missing and create is not set. */
tw_err update_find(update_run *run, tw_str path, bool create, bool through_arrays,
                   update_node **out);
/* Takes a node out of its parent: a field goes, an element of an array becomes null. */
tw_err update_unset(update_run *run, const update_change *change);
tw_err update_rename_to(update_run *run, const update_change *change);
