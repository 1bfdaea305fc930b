/* request_search.h - what the files of the search family share; request_search*.c include it.
 *
 * A collection has one store that is asked for its records. `log`: the store and its readers, as
 * for every other action; the index follows by the indexer. `search` (store: search): the engine;
 * what it has changed is then written to the log, so that streams are told. */
#pragma once

#include "gateways/request/request_priv.h"

/* The outcome of one change at the engine; memory of the request's arena. */
typedef struct search_outcome {
    tw_err code;
    tw_str why;
    tw_str id;
    tw_bson told; /* what the engine said: version, doc */
} search_outcome;

struct request_search {
    tw_bson *docs; /* of each of request.ids; len 0: not there */
    tw_bson *told; /* the same, with version */
    unsigned attempts;
    search_outcome *outcomes; /* of request_search_change */
    size_t outcomes_count, outcomes_cap;
    request_step changed;
    tw_str task; /* names a change by query to its asker */
    bool more;   /* it ended at TW_BY_QUERY_MAX */
    bool last;   /* the engine has no further page */
    tw_str *ids; /* of a page, at the engine */
    size_t ids_count, ids_at;
    tw_list_search_target here, archive;
};

/* ---- request_search.c ---- */
void request_search_run(request *self); /* one ask, or its pages, given out as they come */
/* Keeps where the engine goes on; false: no memory, the request has failed. */
bool request_search_cursor_keep(request *self, tw_str cursor);
uint64_t request_search_left_ms(const request *self); /* until its deadline */
/* A new deadline: each step of a long work has one. */
void request_search_next_step(request *self);
/* Makes request.searching; false: no memory, the request has failed. */
bool request_search_state(request *self);
/* An id as the engine names a document of a store: search collection: text as it is, else JSON. */
tw_str request_search_id(request *self, tw_bson_value id);

/* ---- request_search_get.c ---- */
void request_search_get(request *self); /* get, get_if_exists, require, exists, multiget */

/* ---- request_search_save.c ---- */
void request_search_save(request *self); /* save, update, delete: one document */
void request_search_wipe(request *self);
/* {key field: id, and the other fields of doc}. */
tw_err request_search_doc(request *self, tw_key key, tw_bson doc, tw_bson *out);

/* ---- request_search_bulk.c ---- */
void request_search_bulk_plan(request *self);
void request_search_bulk(request *self);
/* Of a store: search collection: the engine carries out a plan in request.targets, then the log is
 * told, under collection coll; changed is called when outcomes stand, one for each operation. */
void request_search_change(request *self, tw_bson plan, request_step changed);
void request_search_add_outcome(tw_bson_builder *b, const search_outcome *outcome);
/* Ends the request with a single outcome. */
void request_search_reply_one(request *self, const search_outcome *outcome);

/* ---- request_search_query.c ---- */
void request_search_by_query(request *self); /* update_by_query, delete_by_query, archive */
