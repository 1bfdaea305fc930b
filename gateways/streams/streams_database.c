/* streams_database.c - streams of realtime databases: one for each database that a connection
 * listens to, known by the database's name in place of a mux_id. */
#include "gateways/streams/streams_priv.h"

static struct stream *find_database(const streams_conn *conn, tw_str db)
{
    struct stream *at = conn->first;
    while (at != NULL && (at->form != TOPIC_EVENTS || !tw_str_equal(stream_database(at), db))) {
        at = at->conn_next;
    }
    return at;
}

static tw_err read_position(tw_arena *arena, tw_bson message, wish *out, broker_why *why)
{
    *out = (wish){.form = TOPIC_EVENTS, .mux = TW_STR("")};
    tw_err err = wish_read_name(arena, message, "reqID", &out->syncid, why);
    return err == TW_OK ? wish_read_since(arena, message, out, why) : err;
}

tw_err streams_listen_check(tw_arena *arena, tw_bson message, broker_why *why)
{
    wish unused;
    return read_position(arena, message, &unused, why);
}

tw_err streams_listen(streams *self, streams_conn *conn, tw_arena *arena, tw_bson message,
                      bool anew, broker_why *why)
{
    wish asked;
    TW_ASSERT(self->magic == STREAMS_MAGIC);
    tw_str db = tw_bson_get_str(message, TW_STR("db"));
    tw_err err = read_position(arena, message, &asked, why);
    if (err == TW_OK) {
        err =
            topic_query_of_database(self->catalog, conn->rights, arena, db, &asked.canonical, why);
    }
    if (err != TW_OK) {
        return err;
    }
    wish_compare_query(message, &asked);
    if (anew) {
        asked.changed = true;
        asked.now = false;
    }
    struct stream *running = find_database(conn, db);
    return stream_replace(self, conn, running, &asked, why);
}

tw_err streams_unlisten(streams *self, streams_conn *conn, tw_str db, broker_why *why)
{
    TW_ASSERT(self->magic == STREAMS_MAGIC);
    struct stream *stream = find_database(conn, db);
    if (stream == NULL) {
        return broker_refuse(why, TW_E_NO_STREAM, "%s", "this database is not listened to");
    }
    stream_end(self, stream);
    return TW_OK;
}
