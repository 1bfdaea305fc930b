/* rules.h - the rules of the report preset: entries, threads, comments, and what is archived.
 *
 * entries   key version_uuid; append-only: each version is a record of its own. An original has
 *           modifies null, reason null, a clip_id string, content a flat map of strings. An edit
 *           names in modifies every version it replaces (each must exist and be of the same
 *           entry_uuid), has a reason, a new version_uuid; clip_id null keeps it; content null
 *           keeps it, a null field in it deletes that field; both null deletes the row. More than
 *           one head is a conflict that all clients see: it is not refused.
 * comments  key _id (made); several with one comment_uuid are versions of it: the latest authortime
 *           wins, ties by position. The server sets submissiontime.
 * threads   key thread_uuid; links are pairs [type, uuid], type one of report entry version comment
 *           entity.
 * all       proj_id is there; only archivetime may be changed afterwards (update or put with all
 *           else equal). archivetime is the vector that the archiver had seen: a record is archived
 *           iff the vector covers the record's own position, which a change of archivetime alone
 *           does not move (the store keeps it in the hidden field _content = [srv, seqno] then). */
#pragma once

#include "protocol/bson.h"

#include "broker/catalog.h"
#include "broker/why.h"

/* Finds a stored document of the same collection by key; false: none. The view lives in the
 * arena. */
typedef bool (*rules_lookup)(void *context, tw_key key, tw_arena *arena, tw_bson *out);

/* Judges a write and completes the document (submissiontime, key, _content). old len 0: none.
 * TW_E_RULE with why->rule (a stable name: "entry.modifies_unknown", ...) and why->text. */
tw_err rules_check(const catalog_collection *collection, tw_arena *arena, tw_bson doc, tw_bson old,
                   tw_position old_at, uint64_t now_ms, rules_lookup lookup, void *context,
                   tw_bson *out, broker_why *why);
/* Archived: archivetime covers the record's own position. */
bool rules_archived(tw_bson doc, tw_position at);
/* archivetime is there and does not cover the record's own position. */
bool rules_edited_after_archive(tw_bson doc, tw_position at);
