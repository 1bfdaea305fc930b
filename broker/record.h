/* record.h - a document that becomes a version of a record: its key and its version written in.
 * Shared by every store that is written to. */
#pragma once

#include "protocol/bson.h"

#include "broker/catalog.h"
#include "broker/why.h"

/* doc with the key field in front where it is missing, and with this version. scratch is cleared
 * and used; *out is in arena. TW_E_TOO_BIG with why, TW_E_NO_MEMORY. */
tw_err record_with_version(const catalog_collection *rules, tw_buf *scratch, tw_arena *arena,
                           tw_bson doc, tw_key key, int64_t version, tw_bson *out, broker_why *why);
/* The key of a document that is to be written: given, else of its key field, else a new ObjectId.
 * TW_E_BAD_DOCUMENT with why: of a type that cannot be a key, or another than given. */
tw_err record_key(const catalog_collection *rules, tw_arena *arena, tw_bson doc, tw_key given,
                  tw_key *out, broker_why *why);
