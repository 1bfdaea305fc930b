/* topic_query_database.c - realtime databases: from a database's name to the canonical form, and
 * from a change to an event (DESIGN 6.7). */
#include "protocol/json.h"
#include "protocol/limits.h"

#include "broker/topic_query_priv.h"

enum { SMALL_MAX = 61440 }; /* bytes of a version; the one before it then travels beside it */

/* What followers of the log are told leaves out the version before only where both together pass a
 * message's bound: beside a small one there is room for the largest. */
static_assert((int)SMALL_MAX + 4096 + (int)TW_DOCUMENT_MAX <= (int)TW_ACTOR_MESSAGE_MAX,
              "no version before a small one: there was none");

/* ---- the canonical form ---- */

/* A database is there when it is declared, when one of its collections is, or when undeclared ones
 * may be made. */
static bool may_be(const catalog *known, tw_str db)
{
    bool found = !known->strict || catalog_database_find(known, db) != NULL;
    TW_ASSERT(db.len > 0);
    for (size_t i = 0; i < known->count && !found; i++) {
        found = tw_str_equal(tw_str_of(known->at[i].database), db);
    }
    return found;
}

tw_err topic_query_of_database(const catalog *known, const rights *whose, tw_arena *arena,
                               tw_str db, tw_bson *out, broker_why *why)
{
    char shown[BROKER_SHOWN_MAX];
    TW_ASSERT(known != NULL && known->magic == CATALOG_MAGIC);
    TW_ASSERT(out != NULL);
    broker_show(db, shown);
    if (catalog_check_name(db) != TW_OK) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "\"%s\" is not a database's name", shown);
    }
    if (!may_be(known, db)) {
        return broker_refuse(why, TW_E_FORBIDDEN, "there is no database %s", shown);
    }
    tw_buf buf;
    tw_bson_builder b;
    tw_buf_init(&buf, TW_TOPIC_QUERY_MAX);
    tw_bson_begin(&b, &buf);
    tw_bson_add_i64(&b, TW_STR("v"), 1);
    tw_bson_add_str(&b, TW_STR("k"), TW_STR("events"));
    bool any = !known->strict && catalog_database_find(known, db) == NULL;
    tw_err err =
        topic_query_write_any(whose, arena, tw_str_of(known->default_database), db, any, &b);
    tw_bson_open_array(&b, TW_STR("c"));
    err = err == TW_OK ? topic_query_write_all(known, whose, arena, db, &b) : err;
    tw_bson_close(&b);
    tw_bson canonical = tw_bson_end(&b);
    err = err == TW_OK ? buf.err : err;
    if (err == TW_E_TOO_BIG) {
        err = broker_refuse(why, err, "the schema of %s has over %d bytes", shown,
                            TW_TOPIC_QUERY_MAX);
    }
    if (err == TW_OK) {
        *out = tw_arena_bson(arena, canonical);
        err = out->ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    tw_buf_fini(&buf);
    return err;
}

/* ---- events ---- */

/* A record that was not there before, as far as the listener can know. History is told as PUT: the
 * listener may have the record already. */
static bool is_added(const topic_query_part *part, const topic_change *change)
{
    TW_ASSERT(part->filter != NULL);
    if (!change->old_told) {
        return false;
    }
    if (change->prev == 0) {
        return true;
    }
    if (change->old.len > 0) {
        return !query_match(part->filter, change->old);
    }
    return change->doc.len <= SMALL_MAX; /* there was a deletion before it */
}

static const char *event_of(const topic_query_part *part, unsigned meaning,
                            const topic_change *change)
{
    TW_ASSERT(meaning >= TW_MEANS_PUT && meaning <= TW_MEANS_DROP);
    switch ((enum tw_meaning)meaning) {
    case TW_MEANS_PUT:
        return is_added(part, change) ? "DB_RECORD_ADD" : "DB_RECORD_PUT";
    case TW_MEANS_LEFT:
    case TW_MEANS_REVOKED:
    case TW_MEANS_DELETED:
        return "DB_RECORD_DELETE";
    case TW_MEANS_DROP:
        break;
    }
    return (change->flags & TW_ROW_DROP_DB) != 0 ? "DB_DATABASE_DROP" : "DB_COLLECTION_DROP";
}

static void add_record(const topic_query_part *part, unsigned meaning, const topic_change *change,
                       tw_buf *out)
{
    TW_ASSERT(change->key.len > 0);
    tw_buf_add_str(out, TW_STR(",\"key\":"));
    tw_json_write_key(out, change->key);
    tw_buf_add_str(out, TW_STR(",\"version\":"));
    tw_buf_add_i64(out, change->version);
    tw_buf_add_str(out, TW_STR(",\"record\":"));
    if (meaning == TW_MEANS_PUT) {
        tw_buf shown;
        tw_buf_init(&shown, TW_DOCUMENT_MAX + 4096);
        topic_query_add_document(out, topic_query_shown(part, change->doc, &shown));
        if (shown.err != TW_OK && out->err == TW_OK) {
            out->err = shown.err;
        }
        tw_buf_fini(&shown);
        return;
    }
    tw_buf_add_byte(out, '{');
    tw_json_write_str(out, tw_str_of(part->rules->key));
    tw_buf_add_byte(out, ':');
    tw_json_write_key(out, change->key);
    tw_buf_add_byte(out, '}');
}

void topic_query_render_event(const topic_query_part *part, unsigned meaning,
                              const topic_change *change, tw_buf *out)
{
    TW_ASSERT(part->form == TOPIC_EVENTS);
    TW_ASSERT(!part->any || change->db.len > 0);
    bool whole = meaning == TW_MEANS_DROP && (change->flags & TW_ROW_DROP_DB) != 0;
    tw_buf_format(out, "\"event\":\"%s\",\"db\":", event_of(part, meaning, change));
    tw_json_write_str(out, part->any ? change->db : tw_str_of(part->db));
    if (!whole) {
        tw_buf_add_str(out, TW_STR(",\"collection\":"));
        tw_json_write_str(out, part->any ? change->coll : tw_str_of(part->name));
    }
    if (meaning != TW_MEANS_DROP) {
        add_record(part, meaning, change, out);
    }
    tw_buf_add_byte(out, ',');
    topic_query_add_position(out, change);
    if (change->origin.len > 0) {
        tw_buf_add_str(out, TW_STR(",\"origin\":"));
        tw_json_write_str(out, change->origin);
    }
    tw_buf_add_byte(out, '}');
}
