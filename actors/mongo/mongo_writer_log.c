/* mongo_writer_log.c - the position and version of a stored record, as the log of this node knows
 * them; for mongo_writer.c.
 *
 * Streams tell the log's number of a version: it goes on where a document's own begins anew (a
 * record that was deleted and comes back) or where there is none (a writer who does not count). The
 * rules of a collection that is archived compare a record's own position with what its archiver
 * had seen (broker/rules.h). MongoDB does not keep positions; the log does, a moment later. */
#include <poll.h>

#include "actors/mongo/mongo_writer_priv.h"

enum {
    LOG_WAIT_MS = 2000, /* for the log to have the version that was read from MongoDB */
    LOG_ASK_MS = 1000,
    LOG_AGAIN_MS = 5,
};

/* Asks once. True: the log has this very version. */
static bool ask_log(struct mongo_writer *self, const write_op *op, tw_position *at,
                    int64_t *version)
{
    const tw_item_one_key key = {op->key};
    const tw_msg_get get = {.db = op->db, .coll = op->coll, .keys = {&key, 1}};
    const tw_envelope *in;
    if (self->log == NULL &&
        tw_caller_open(&self->log, self->options->base, "log_reader.0", LOG_ASK_MS) != TW_OK) {
        self->log = NULL;
        return false;
    }
    if (tw_caller_ask(self->log, TW_MSG_get, &get, LOG_ASK_MS, &in) != TW_OK ||
        in->id != TW_MSG_records || in->body->records.items.count != 1) {
        return false;
    }
    const tw_item_record *record = &in->body->records.items.at[0];
    *at = (tw_position){record->srv, record->seqno};
    *version = record->version;
    return record->doc.len == op->old.len && memcmp(record->doc.ptr, op->old.ptr, op->old.len) == 0;
}

tw_err writer_position(struct mongo_writer *self, write_op *op, tw_position *at, int64_t *version)
{
    uint64_t begin_ms = mongo_link_clock_ms();
    while (!ask_log(self, op, at, version)) {
        if (mongo_link_clock_ms() - begin_ms > LOG_WAIT_MS) {
            return broker_refuse(&op->why, TW_E_BUSY,
                                 "The log has not seen the record's last change yet.");
        }
        poll(NULL, 0, LOG_AGAIN_MS); /* this actor is allowed to wait */
    }
    return TW_OK;
}
