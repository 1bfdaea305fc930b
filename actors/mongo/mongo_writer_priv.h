/* mongo_writer_priv.h - for mongo_writer.c and mongo_writer_<part>.c alone.
 *
 * Invariants
 * 1. Each change of a record is guarded by the version that was read: what was not as it was read
 *    is read and judged again. So versions grow by one with each write, whoever else writes.
 * 2. Operations on one key take effect in the order in which they came.
 * 3. An operation that carries an asker's opid is in one transaction with its mark in
 *    tidewire.opids; so is a silent one, and one of several operations. All else is written without
 *    a transaction, many in one command.
 * 4. An opid that a gateway drew is remembered in memory alone. Sent once more to a writer that has
 *    lived for less than DOUBT_MS and does not know it, it gets `unavailable`: the life before may
 *    have written it.
 * 5. A writer that is killed inside a transaction leaves it to the server, which keeps its locks
 *    for a minute. So before its first transaction a writer stores its session in tidewire.meta,
 *    and has the server kill the session that its life before has stored. */
#pragma once

#include "broker/hash_table.h"
#include "broker/why.h"

#include "actors/mongo/mongo_link.h"
#include "actors/mongo/mongo_writer.h"

enum {
    MONGO_WRITER_MAGIC = 0x3d0c7e15,
    MONGO_WRITER_BYTES_MAX = 268435456, /* of one message's work; beyond it no_memory */
    BULK_OPS_MAX = 1000,                /* operations of one command */
    BULK_BYTES_MAX = 8388608,           /* bytes of one command, one document at least */
    DUPLICATES_MAX = 3,                 /* its key is not there each time: a unique index */
    READ_KEYS_MAX = 128,                /* of one find: a long $in is searched slowly by some */
    PUTS_JUDGED = 16,                   /* puts after which it is judged how they begin */
    ROUNDS_MAX = 12,                    /* a record that changes under each attempt: busy */
    CONFLICT_WAIT_MS = 5,               /* before a transaction is tried anew; doubles */
    CONFLICT_WAIT_MAX_MS = 100,
    PLACES_MAX = 4096,  /* collections known to exist; more are asked for again */
    KNOWN_MAX = 131072, /* opids in memory: what 10 s of writing can bring */
    PATIENCE_MS = 3000, /* no operation is tried anew after it */
    DOUBT_MS = 15000,   /* both tries of an asker lie within it */
};

/* What is to be sent for an operation. */
typedef enum plan {
    PLAN_NOTHING, /* its result stands */
    PLAN_INSERT,  /* doc */
    PLAN_REPLACE, /* doc, guarded */
    PLAN_UPDATE,  /* doc: operators, guarded */
    PLAN_DELETE,  /* guarded */
} plan;

typedef struct write_op {
    const tw_item_write_op *asked;
    tw_item_write_result *result;
    const catalog_collection *rules;
    tw_str db, coll;
    tw_key key;
    hash_link link;      /* of the round, by key */
    bool blind;          /* an insert that is tried before anything is read */
    int duplicates;      /* times that the server had its key, or a unique value */
    bool is_there;       /* as last read */
    tw_bson stored;      /* as last read; len 0: the version alone was read */
    tw_bson old;         /* the same as a record */
    tw_bson_value guard; /* the stored version field; type 0: none */
    int64_t version;     /* as last read; 0: not there */
    bool is_uncounted;   /* the document has none: version is the position of the reading */
    plan plan;
    tw_bson doc;          /* of the plan */
    int64_t next_version; /* of the plan */
    bool is_done;
    broker_why why;
} write_op;

/* An outcome that is remembered. */
typedef struct known_write {
    hash_link link;
    uint16_t id_len, key_len;
    int64_t version;
    uint64_t seqno, count;
    char *bytes; /* own; the opid, then the key */
} known_write;

struct mongo_writer {
    uint32_t magic;
    tw_actor *actor;
    const mongo_writer_options *options;
    mongoc_client_t *client;          /* own; NULL: none was free yet */
    mongoc_client_session_t *session; /* own; of the message in hand */
    bool in_transaction;
    tw_caller *log;              /* own; to a reader of the log; NULL: not asked yet */
    uint8_t announced[16];       /* the session that the deployment knows as this writer's */
    bool has_bulk;               /* the server knows bulkWrite (8.0) */
    bool has_marks;              /* tidewire.opids has its index */
    uint64_t places[PLACES_MAX]; /* hashes of collections that exist; with post_images alone */
    bool puts_insert;            /* most puts of late were of new records: they begin as inserts */
    unsigned puts_seen, puts_new;
    uint64_t srv;        /* 0: not known yet */
    uint64_t began_ms;   /* of this life */
    uint64_t message_ms; /* of the message in hand */
    mongo_link_health health;
    tw_arena memory;   /* own; of the message in hand */
    tw_buf scratch;    /* own; a document being built */
    tw_buf command;    /* own; a command being built */
    hash_table known;  /* own */
    known_write *ring; /* own; KNOWN_MAX */
    size_t ring_at;
    uint64_t writes, refused, rounds, commands, transactions, repeated; /* gauges */
};

/* ---- mongo_writer_op.c: what an operation means; nothing is sent ---- */
/* Finds the collection and the key. A refusal stands in the result; the op is then done. */
void writer_op_begin(struct mongo_writer *self, write_op *op);
/* Judges the operation against what was read, and makes its plan. now_ms for $currentDate. */
void writer_op_plan(struct mongo_writer *self, write_op *op);
void writer_op_refuse(struct mongo_writer *self, write_op *op, tw_err err, const char *text);
/* True where the whole document is to be read, not the version alone. */
bool writer_op_needs_document(const write_op *op);
/* Puts what was read into op; len 0: nothing is there. */
tw_err writer_op_found(struct mongo_writer *self, write_op *op, tw_bson stored);

/* ---- mongo_writer_send.c: reading and sending ---- */
/* Reads the records of these operations: one command for each collection. A failure is told in
 * text. */
tw_err writer_read(struct mongo_writer *self, write_op **ops, size_t count, char *text);
/* Sends the plans. Operations whose guard failed, or whose insert met another, are left undone and
 * are to be read again; those that took effect or were refused are done. Anything else is an error
 * that concerns all that are not done. */
tw_err writer_send(struct mongo_writer *self, write_op **ops, size_t count, char *text);
/* With post_images: makes the collection, so that it keeps them, unless it is there. */
tw_err writer_make_place(struct mongo_writer *self, const write_op *op, char *text);
/* drop and dropDatabase. */
tw_err writer_drop(struct mongo_writer *self, write_op *op, char *text);
/* Runs a command on the writer's session; its errors as mongo_link_error has them. */
tw_err writer_command(struct mongo_writer *self, tw_str db, tw_bson command, bool writes,
                      bson_t *reply, bson_error_t *error, char *text);
uint64_t writer_fence(const struct mongo_writer *self);

/* ---- mongo_writer_marks.c: opids ---- */
/* An opid as it is remembered: it names an operation within its database. "" where none was given,
 * or there is no memory. */
tw_str writer_opid(struct mongo_writer *self, const tw_item_write_op *asked);
tw_err writer_known_init(struct mongo_writer *self);
void writer_known_fini(struct mongo_writer *self);
/* Fills in the result of an opid that is remembered in memory. */
bool writer_known_find(struct mongo_writer *self, tw_str opid, tw_item_write_result *result);
void writer_known_keep(struct mongo_writer *self, tw_str opid, const tw_item_write_result *result);
/* Makes the index that lets marks go after a day; once it is there, nothing. */
tw_err writer_marks_prepare(struct mongo_writer *self, char *text);
/* Ends the session of the life before, and tells the deployment this one. Once a session. */
tw_err writer_announce(struct mongo_writer *self, char *text);
/* Inserts the mark of a transaction. TW_E_CONFLICT: one with its opid is there. */
tw_err writer_mark(struct mongo_writer *self, tw_str opid, write_op *ops, size_t count,
                   bool with_results, bson_error_t *error, char *text);
/* Writes the results into a mark that has none yet. */
tw_err writer_mark_results(struct mongo_writer *self, tw_str opid, const write_op *ops,
                           size_t count, char *text);
/* Inserts a mark for each of these operations. */
tw_err writer_mark_each(struct mongo_writer *self, write_op **ops, size_t count, char *text);
/* Reads the mark of an opid: TW_E_NOT_FOUND, or the results of its operations. */
tw_err writer_mark_read(struct mongo_writer *self, tw_str opid, write_op *ops, size_t count,
                        char *text);

/* ---- mongo_writer_log.c ---- */
/* The position of the version that was read, and the number that streams tell of it. TW_E_BUSY with
 * why: the log is not there yet. */
tw_err writer_position(struct mongo_writer *self, write_op *op, tw_position *at, int64_t *version);

/* ---- mongo_writer_transact.c ---- */
/* Carries out count operations as one transaction. Results stand afterwards, refusals too;
 * otherwise an error that concerns all. */
tw_err writer_transact(struct mongo_writer *self, write_op *ops, size_t count, char *text);
/* Carries out operations that have nothing to do with each other, each with its mark, in one
 * transaction: what is done afterwards is done, the rest has to go alone. */
tw_err writer_transact_many(struct mongo_writer *self, write_op **ops, size_t count, char *text);
