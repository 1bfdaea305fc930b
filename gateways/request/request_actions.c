/* request_actions.c - the one table of actions; those of the search family are in
 * request_search.c. */
#include "gateways/request/request_priv.h"

/* Reading the table: name, fields allowed, required, one of each set, right, may the collection be
 * left out, operation, first step. To add an action: a row, its function in a file of its own. */
#define FIELDS_OF_FIND (FIELD_BIT(query) | FIELD_BIT(told) | FIELD_BIT(sort) | FIELD_BIT(skip))
#define ONE_ID         (FIELD_BIT(id) | FIELD_BIT(ids))
#define CHANGED        (ONE_ID | FIELD_BIT(key) | FIELD_BIT(query))

static const request_action actions[] = {
    {.name = "getByIds",
     .verb = RIGHTS_READ,
     .allowed = ONE_ID | FIELD_BIT(told),
     .one_of = {ONE_ID},
     .right = RIGHT_READ,
     .default_collection = true,
     .start = request_get_by_ids},
    {.name = "insert",
     .verb = RIGHTS_INSERT,
     .allowed = FIELD_BIT(doc) | FIELDS_WRITE,
     .required = FIELD_BIT(doc),
     .right = RIGHT_WRITE,
     .op = TW_OP_INSERT,
     .start = request_insert},
    {.name = "create",
     .verb = RIGHTS_INSERT,
     .allowed = FIELD_BIT(doc) | FIELDS_WRITE,
     .required = FIELD_BIT(doc),
     .right = RIGHT_WRITE,
     .op = TW_OP_INSERT,
     .start = request_insert},
    {.name = "put",
     .verb = RIGHTS_INSERT,
     .allowed = FIELD_BIT(doc) | FIELD_BIT(if_version) | FIELDS_WRITE,
     .required = FIELD_BIT(doc),
     .right = RIGHT_WRITE,
     .op = TW_OP_PUT,
     .start = request_insert},
    {.name = "update",
     .verb = RIGHTS_UPDATE,
     .allowed = CHANGED | FIELDS_CHANGE | FIELD_BIT(if_version) | FIELDS_WRITE,
     .one_of = {CHANGED, FIELDS_CHANGE},
     .right = RIGHT_WRITE,
     .op = TW_OP_UPDATE,
     .start = request_update},
    {.name = "remove",
     .verb = RIGHTS_REMOVE,
     .allowed = CHANGED | FIELD_BIT(if_version) | FIELDS_WRITE,
     .one_of = {CHANGED},
     .right = RIGHT_REMOVE,
     .op = TW_OP_REMOVE,
     .start = request_change},
    {.name = "batch",
     .verb = RIGHTS_PARTS,
     .allowed = FIELD_BIT(ops) | FIELD_BIT(atomic) | FIELDS_WRITE,
     .required = FIELD_BIT(ops),
     .start = request_run_batch},
    {.name = "find",
     .verb = RIGHTS_READ,
     .allowed = FIELDS_OF_FIND | FIELD_BIT(limit),
     .right = RIGHT_READ,
     .start = request_find},
    {.name = "find_one",
     .verb = RIGHTS_READ,
     .allowed = FIELDS_OF_FIND,
     .right = RIGHT_READ,
     .start = request_find},
    {.name = "count",
     .verb = RIGHTS_READ,
     .allowed = FIELD_BIT(query),
     .right = RIGHT_READ,
     .start = request_count},
    {.name = "get_field",
     .verb = RIGHTS_READ,
     .allowed = FIELD_BIT(id) | FIELD_BIT(query) | FIELD_BIT(field),
     .required = FIELD_BIT(field),
     .one_of = {FIELD_BIT(id) | FIELD_BIT(query)},
     .right = RIGHT_READ,
     .start = request_detail},
    {.name = "get_new_id",
     .verb = RIGHTS_OPEN,
     .allowed = FIELD_BIT(excluded),
     .start = request_get_new_id},
    {.name = "coerce_query",
     .verb = RIGHTS_READ,
     .allowed = FIELD_BIT(query),
     .required = FIELD_BIT(query),
     .right = RIGHT_READ,
     .start = request_coerce_query_action},
    {.name = "coerce_list",
     .verb = RIGHTS_OPEN,
     .allowed = FIELD_BIT(value),
     .required = FIELD_BIT(value),
     .start = request_coerce_list},
    {.name = "drop",
     .verb = RIGHTS_ADMIN,
     .allowed = FIELDS_WRITE,
     .right = RIGHT_DROP,
     .op = TW_OP_DROP,
     .start = request_drop},
    {.name = "drop_database",
     .verb = RIGHTS_PARTS,
     .allowed = FIELDS_WRITE,
     .required = FIELD_BIT(database),
     .op = TW_OP_DROP_DB,
     .start = request_drop},
    {.name = "schema", .verb = RIGHTS_PARTS, .start = request_schema},
    {.name = "detail",
     .verb = RIGHTS_READ,
     .allowed = FIELD_BIT(id),
     .required = FIELD_BIT(id),
     .right = RIGHT_READ,
     .start = request_detail},
    {.name = "sync", .verb = RIGHTS_PARTS, .allowed = FIELDS_ANY, .start = request_sync},
    {.name = "dispatch",
     .verb = RIGHTS_DISPATCH,
     .allowed = FIELD_BIT(message),
     .required = FIELD_BIT(message),
     .right = RIGHT_WRITE,
     .start = request_dispatch},
    {.name = "aggregate",
     .verb = RIGHTS_READ,
     .allowed = FIELD_BIT(pipeline) | FIELD_BIT(limit) | FIELD_BIT(max_time_ms),
     .required = FIELD_BIT(pipeline),
     .right = RIGHT_READ,
     .start = request_aggregate},
};

const request_action *request_action_find(tw_str name)
{
    for (size_t i = 0; i < TW_COUNT(actions); i++) {
        if (tw_str_equal(name, tw_str_of(actions[i].name))) {
            return &actions[i];
        }
    }
    return request_search_action(name);
}

const char *request_action_nearest(tw_str name)
{
    const char *names[TW_COUNT(actions) + SEARCH_ACTIONS_MAX];
    size_t count = TW_COUNT(actions);
    for (size_t i = 0; i < TW_COUNT(actions); i++) {
        names[i] = actions[i].name;
    }
    count += request_search_names(names + count, SEARCH_ACTIONS_MAX);
    return request_nearest(name, names, count);
}

bool request_verb_at(size_t index, const char **action, unsigned *verb)
{
    const char *names[SEARCH_ACTIONS_MAX];
    size_t searches = request_search_names(names, SEARCH_ACTIONS_MAX);
    if (index >= TW_COUNT(actions) + searches) {
        return false;
    }
    const request_action *row =
        index < TW_COUNT(actions)
            ? &actions[index]
            : request_search_action(tw_str_of(names[index - TW_COUNT(actions)]));
    *action = row->name;
    *verb = row->verb;
    return true;
}

bool request_knows(tw_str action)
{
    return request_action_find(action) != NULL;
}
