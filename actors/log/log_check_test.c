/* log_check_test.c - a randomised checker of the log's rules (LOG rules 1 to 9).
 *
 * One node that writes for itself, or two nodes that take the transactions of two foreign origins
 * in different interleavings; drops, floors, sweeps, failed commits and reopened logs in between.
 * Clients with a scope and a filter page, stop, resume and change nodes. Every event must match
 * its client's query; whenever a client has caught up, what it holds must equal what its last
 * snapshot showed and what was told since: the truth of that node but for silent rows. The checker
 * is itself tested by planted faults. TIDEWIRE_CHECK_S: seconds to run (default 4).
 * TIDEWIRE_CHECK_SEED: one run alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "actors/log/log_cursor.h"
#include "actors/log/log_store_priv.h"

enum {
    KEY_TYPE = 8,
    COLLS = 2,
    KEYS = 10,
    NODES_MAX = 2,
    CLIENTS = 4,
    TX_MAX = 1000,
    OPS_MAX = 4,
    STEPS = 400
};

typedef struct check_doc {
    uint8_t scope; /* 1 to 3; 255: any */
    uint8_t match;
    uint32_t value;
} check_doc;

typedef struct check_truth {
    bool was_silent[COLLS][KEYS]; /* has had a silent version */
    bool exists[COLLS][KEYS];
    check_doc docs[COLLS][KEYS];
} check_truth;

typedef struct check_op {
    uint32_t flags;
    uint8_t coll, key;
    check_doc doc;
} check_op;

typedef struct check_tx {
    check_op ops[OPS_MAX];
    size_t count;
    uint64_t seqno;
} check_tx;

typedef struct check_origin_plan { /* of a foreign origin; of the own one of node 0 */
    check_tx txs[TX_MAX];
    size_t count;
    check_truth model;
} check_origin_plan;

typedef struct check_node {
    log_store *log;
    size_t applied[COLLS]; /* transactions of each origin */
    check_truth truth;
    bool trimmed;
} check_node;

typedef struct check_client {
    log_view views[NODES_MAX];
    bool wants[COLLS];
    uint8_t scope; /* 0: all */
    bool filters;  /* only match = 1 */
    check_truth held;
    int at_node;    /* -1: not connected */
    bool caught_up; /* was, since it connected */
    bool has_vector, has_cursor;
    tw_position vector[TW_ORIGINS_MAX];
    size_t vector_count;
    uint64_t seen[COLLS]; /* highest position of each foreign origin in any event */
    tw_position since[TW_ORIGINS_MAX];
    size_t since_count;
    log_page page;
    size_t budget; /* rows that this page still takes */
    /* what it must hold: that, and what is told from these transactions of each origin on */
    check_truth base;
    size_t base_applied[COLLS];
    bool starts[COLLS]; /* named no position of the origin: is told silent rows too */
} check_client;

/* What the checker must notice: a client that is told wrong things, now and then. */
typedef enum check_fault {
    FAULT_NONE,
    FAULT_LOST_PUT,
    FAULT_LOST_LEAVE,
    FAULT_LOST_DROP,
    FAULT_STALE,
    FAULT_SILENT_TOLD,
    FAULT_SILENT_SQUASHES,
    FAULT_COUNT
} check_fault;

typedef struct check_run {
    uint64_t seed, random;
    bool foreign;
    size_t nodes_count;
    check_origin_plan plans[COLLS];
    check_node nodes[NODES_MAX];
    check_client clients[CLIENTS];
    tw_arena arena;
    uint32_t values;
    uint64_t now_ms, compared, pages, resets;
    check_fault planted;
} check_run;

static jmp_buf check_noticed; /* out of a run with a planted fault */

static const char *const coll_names[COLLS] = {"a", "b"};

static uint64_t draw(check_run *self, uint64_t below)
{
    self->random ^= self->random << 13;
    self->random ^= self->random >> 7;
    self->random ^= self->random << 17;
    return self->random % below;
}

#define CHECK(self, condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            notice((self), #condition);                                                            \
        }                                                                                          \
    } while (0)

static void notice(const check_run *self, const char *condition)
{
    if (self->planted != FAULT_NONE) {
        longjmp(check_noticed, 1);
    }
    fail_msg("seed %llu: %s", (unsigned long long)self->seed, condition);
}

/* ---- what is written ---- */

static void apply_to_truth(check_truth *truth, const check_op *op)
{
    if ((op->flags & TW_ROW_DROP) != 0) {
        memset(truth->exists[op->coll], 0, sizeof truth->exists[op->coll]);
        return;
    }
    if ((op->flags & TW_ROW_SILENT) != 0) {
        truth->was_silent[op->coll][op->key] = true;
    }
    truth->exists[op->coll][op->key] = (op->flags & TW_ROW_PUT) != 0;
    truth->docs[op->coll][op->key] = op->doc;
}

static check_op draw_op(check_run *self, const check_truth *model, uint8_t coll)
{
    check_op made = {.flags = TW_ROW_PUT, .coll = coll, .key = (uint8_t)draw(self, KEYS)};
    made.doc = (check_doc){.scope = (uint8_t)(1 + draw(self, 3)),
                           .match = (uint8_t)draw(self, 2),
                           .value = ++self->values};
    if (draw(self, 20) == 0) {
        made.doc.scope = 255;
    }
    if (model->exists[coll][made.key] && draw(self, 4) == 0) {
        made.flags = TW_ROW_DELETE;
    }
    bool any = false;
    for (size_t i = 0; i < KEYS; i++) {
        any = any || model->exists[coll][i];
    }
    if (draw(self, 4) == 0) {
        made.flags |= TW_ROW_SILENT;
    }
    if (any && draw(self, 40) == 0) {
        made.flags = TW_ROW_DROP;
    }
    return made;
}

static check_tx *draw_tx(check_run *self, size_t origin)
{
    check_origin_plan *plan = &self->plans[origin];
    if (plan->count == TX_MAX) {
        return NULL;
    }
    check_tx *made = &plan->txs[plan->count++];
    made->count = 1 + draw(self, 2) * draw(self, OPS_MAX);
    made->count = made->count > OPS_MAX ? OPS_MAX : made->count;
    made->seqno = plan->count * 10;
    for (size_t i = 0; i < made->count; i++) {
        uint8_t coll = self->foreign ? (uint8_t)origin : (uint8_t)draw(self, COLLS);
        made->ops[i] = draw_op(self, &plan->model, coll);
        if (self->foreign && made->count > 1) { /* shares its position: it is repeated whole */
            made->ops[i].flags &= ~(uint32_t)TW_ROW_SILENT;
        }
        apply_to_truth(&plan->model, &made->ops[i]);
    }
    return made;
}

static tw_bson stored(check_run *self, const check_doc *doc, size_t padding)
{
    uint8_t *bytes = tw_arena_zero(&self->arena, 1, sizeof *doc + padding);
    assert_non_null(bytes);
    memcpy(bytes, doc, sizeof *doc);
    return (tw_bson){bytes, sizeof *doc + padding};
}

static void prepare_op(check_run *self, check_node *node, const check_tx *tx, const check_op *op,
                       size_t origin, size_t padding)
{
    log_row row = {.flags = op->flags, .origin = LOG_ORIGIN_OWN, .seqno = tx->seqno};
    tw_err err = log_store_collection(node->log, TW_STR("d"), tw_str_of(coll_names[op->coll]),
                                      TW_STR("s"), true, &row.coll);
    CHECK(self, err == TW_OK);
    if (self->foreign) {
        err = log_store_origin(node->log, 101 + origin, &row.origin);
        CHECK(self, err == TW_OK);
    }
    tw_bson old = {0};
    if ((op->flags & TW_ROW_DROP) == 0) {
        uint8_t *key = tw_arena_alloc(&self->arena, 2);
        assert_non_null(key);
        key[0] = KEY_TYPE;
        key[1] = op->key;
        row.key = (tw_key){key, 2};
        log_current current = log_store_current(node->log, row.coll, row.key);
        row.prev = current.n;
        row.ver = current.ver + 1;
        row.scope = current.scope;
        if (current.n != 0 && !current.deleted) {
            err = log_store_document(node->log, &self->arena, current.n, &old);
            CHECK(self, err == TW_OK);
        }
        if ((op->flags & TW_ROW_PUT) != 0) {
            row.doc = stored(self, &op->doc, padding);
            row.scope = LOG_SCOPE_WILD;
            if (op->doc.scope != 255) {
                uint8_t scope[2] = {KEY_TYPE, op->doc.scope};
                err = log_store_scope(node->log, (tw_key){scope, 2}, &row.scope);
                CHECK(self, err == TW_OK);
            }
        }
        row.lscope = current.n != 0 && current.scope != row.scope ? current.scope : 0;
    }
    err = log_store_prepare(node->log, &row, old);
    CHECK(self, err == TW_OK);
}

static void prepare_tx(check_run *self, check_node *node, const check_tx *tx, size_t origin,
                       size_t padding)
{
    size_t before = log_store_prepared(node->log);
    for (size_t i = 0; i < tx->count; i++) {
        prepare_op(self, node, tx, &tx->ops[i], origin, padding);
    }
    log_store_seal(node->log, before);
}

/* A commit for which there is no room: nothing of it may be seen, then or later. */
static void fail_tx(check_run *self, check_node *node, const check_tx *tx, size_t origin)
{
    log_table_limit(node->log->table, 1);
    prepare_tx(self, node, tx, origin, 100000);
    tw_err err = log_store_commit(node->log, self->now_ms);
    CHECK(self, err == TW_OK || err == TW_E_DISK);
    log_table_limit(node->log->table, 0);
    if (err == TW_OK) { /* free pages were enough: it is done */
        log_store_clear(node->log);
        for (size_t i = 0; i < tx->count; i++) {
            apply_to_truth(&node->truth, &tx->ops[i]);
        }
        node->applied[origin]++;
        return;
    }
    log_store_undo(node->log, 0);
}

static void write_some(check_run *self, check_node *node)
{
    size_t origin = self->foreign ? draw(self, COLLS) : 0;
    size_t txs = 1 + draw(self, 3);
    for (size_t i = 0; i < txs; i++) {
        check_origin_plan *plan = &self->plans[origin];
        const check_tx *next = node->applied[origin] < plan->count
                                   ? &plan->txs[node->applied[origin]]
                                   : draw_tx(self, origin);
        if (next == NULL) {
            break;
        }
        if (i == 0 && draw(self, 30) == 0) {
            fail_tx(self, node, next, origin);
            return;
        }
        if (draw(self, 10) == 0) { /* refused half way, then done */
            prepare_tx(self, node, next, origin, 0);
            log_store_undo(node->log, log_store_prepared(node->log) - next->count);
        }
        prepare_tx(self, node, next, origin, 0);
        for (size_t k = 0; k < next->count; k++) {
            apply_to_truth(&node->truth, &next->ops[k]);
        }
        node->applied[origin]++;
    }
    if (log_store_prepared(node->log) > 0) {
        CHECK(self, log_store_commit(node->log, self->now_ms) == TW_OK);
    }
    log_store_clear(node->log);
}

/* ---- what is read ---- */

static bool matches(const check_client *client, size_t coll, const check_doc *doc)
{
    return client->wants[coll] &&
           (client->scope == 0 || doc->scope == 255 || doc->scope == client->scope) &&
           (!client->filters || doc->match == 1);
}

typedef struct check_taking {
    check_run *run;
    check_client *client;
    const size_t *colls; /* of parts */
    size_t parts_count;
} check_taking;

/* Parts are named by the collection where all rows are read. */
static int part_of(void *context, tw_str db, tw_str coll)
{
    const check_taking *taking = context;
    CHECK(taking->run, tw_str_equal(db, TW_STR("d")));
    for (size_t i = 0; i < taking->parts_count; i++) {
        if (tw_str_equal(coll, tw_str_of(coll_names[taking->colls[i]]))) {
            return (int)i;
        }
    }
    return -1;
}

static unsigned meaning(void *context, size_t part, const log_row *row, tw_bson old, uint64_t srv,
                        bool live)
{
    (void)srv;
    const check_taking *taking = context;
    check_doc now, before;
    size_t coll = taking->colls[part];
    if ((row->flags & TW_ROW_DROP) != 0) {
        return TW_MEANS_DROP;
    }
    if (row->doc.len > 0) {
        memcpy(&now, row->doc.ptr, sizeof now);
        if (matches(taking->client, coll, &now)) {
            return TW_MEANS_PUT;
        }
    }
    if (!live || old.len == 0) {
        return 0;
    }
    memcpy(&before, old.ptr, sizeof before);
    return matches(taking->client, coll, &before) ? TW_MEANS_LEFT : 0;
}

static void raise(check_client *client, tw_position position)
{
    size_t i = 0;
    while (i < client->vector_count && client->vector[i].srv != position.srv) {
        i++;
    }
    if (i == client->vector_count) {
        client->vector[client->vector_count++] = (tw_position){position.srv, 0};
        for (; i > 0 && client->vector[i - 1].srv > position.srv; i--) {
            tw_position other = client->vector[i - 1];
            client->vector[i - 1] = client->vector[i];
            client->vector[i] = other;
        }
    }
    if (client->vector[i].seqno < position.seqno) {
        client->vector[i].seqno = position.seqno;
    }
}

/* A fault: the event is lost, or another one comes. */
static bool is_planted(check_run *self, check_client *client, check_op *told, const log_row *row)
{
    if (self->planted == FAULT_NONE || draw(self, 10) != 0) {
        return false;
    }
    bool is_put = (told->flags & TW_ROW_PUT) != 0;
    switch (self->planted) {
    case FAULT_LOST_PUT:
        return is_put;
    case FAULT_LOST_LEAVE:
        return (told->flags & TW_ROW_DELETE) != 0;
    case FAULT_LOST_DROP:
        return (told->flags & TW_ROW_DROP) != 0;
    case FAULT_STALE:
        told->doc.value -= is_put && row->prev != 0 ? 1 : 0;
        return false;
    case FAULT_SILENT_TOLD: /* a silent version is told in place of the one before it */
        told->doc.value += is_put && log_index_silent_after(
                                         client->views[client->at_node].store->index, row->n) != 0
                               ? 1
                               : 0;
        return false;
    case FAULT_SILENT_SQUASHES: /* as a cursor that looks at `superseded` alone does */
        return is_put &&
               log_index_silent_after(client->views[client->at_node].store->index, row->n) != 0;
    case FAULT_NONE:
    case FAULT_COUNT:
        break;
    }
    return false;
}

static bool take(void *context, size_t part, unsigned means, const log_row *row, uint64_t srv)
{
    check_taking *taking = context;
    check_client *client = taking->client;
    size_t coll = taking->colls[part];
    if (client->budget == 0) {
        return false;
    }
    client->budget--;
    check_op told = {.coll = (uint8_t)coll, .flags = TW_ROW_DELETE};
    if (means == TW_MEANS_DROP) {
        told.flags = TW_ROW_DROP;
    } else {
        told.key = row->key.ptr[1];
    }
    if (means == TW_MEANS_PUT) {
        told.flags = TW_ROW_PUT;
        memcpy(&told.doc, row->doc.ptr, sizeof told.doc);
        CHECK(taking->run, matches(client, coll, &told.doc));
    }
    if (is_planted(taking->run, client, &told, row)) {
        return true;
    }
    apply_to_truth(&client->held, &told);
    if (taking->run->foreign && client->seen[srv - 101] < row->seqno) {
        client->seen[srv - 101] = row->seqno;
    }
    /* What catches up is squashed: another node may lack the row that it was squashed for. */
    if (client->caught_up && !taking->run->foreign) {
        raise(client, (tw_position){srv, row->seqno});
    }
    return true;
}

static size_t origin_of(const check_run *self, size_t coll)
{
    return self->foreign ? coll : 0;
}

/* From now on a client must hold what a node has of an origin, and what is then told. */
static void rebase(const check_run *self, check_client *client, const check_node *node,
                   size_t origin)
{
    for (size_t c = 0; c < COLLS; c++) {
        if (origin_of(self, c) == origin) {
            memcpy(client->base.exists[c], node->truth.exists[c], sizeof node->truth.exists[c]);
            memcpy(client->base.docs[c], node->truth.docs[c], sizeof node->truth.docs[c]);
        }
    }
    client->base_applied[origin] = node->applied[origin];
    client->starts[origin] = false;
}

static void due(const check_run *self, const check_client *client, const check_node *node,
                check_truth *out)
{
    *out = client->base;
    for (size_t o = 0; o < COLLS; o++) {
        for (size_t i = client->base_applied[o]; i < node->applied[o]; i++) {
            const check_tx *tx = &self->plans[o].txs[i];
            for (size_t k = 0; k < tx->count; k++) {
                if ((tx->ops[k].flags & TW_ROW_SILENT) == 0) {
                    apply_to_truth(out, &tx->ops[k]);
                }
            }
        }
    }
}

static void compare(check_run *self, const check_client *client, const check_node *node)
{
    check_truth truth;
    due(self, client, node, &truth);
    for (size_t c = 0; c < COLLS; c++) {
        for (size_t k = 0; k < KEYS; k++) {
            const check_doc *real = &truth.docs[c][k];
            bool is_due = truth.exists[c][k] && matches(client, c, real);
            /* log_cursor.h, silent rows, 3: what left silently, before the floor */
            bool may_stay = node->trimmed && node->truth.was_silent[c][k];
            CHECK(self,
                  client->held.exists[c][k] == is_due || (client->held.exists[c][k] && may_stay));
            CHECK(self, !is_due || client->held.docs[c][k].value == real->value);
            self->compared++;
        }
    }
}

/* Rule 5: a node may go on with a client only when it has all that the client has seen. */
static bool covers(const check_run *self, const check_node *node, const check_client *client)
{
    bool all = true;
    for (size_t o = 0; self->foreign && o < COLLS; o++) {
        size_t applied = node->applied[o];
        all = all && client->seen[o] <= (applied == 0 ? 0 : self->plans[o].txs[applied - 1].seqno);
    }
    return all;
}

static void connect_client(check_run *self, check_client *client)
{
    int node = (int)draw(self, self->nodes_count);
    bool is_same = client->has_cursor && node == client->at_node;
    if (client->has_vector && !covers(self, &self->nodes[node], client)) {
        client->at_node = -1;
        return; /* it waits */
    }
    client->at_node = node;
    client->caught_up = false;
    for (size_t o = 0; client->has_vector && self->nodes[node].trimmed && o < COLLS; o++) {
        bool is_known = false; /* to name no position means to hold nothing */
        for (size_t i = 0; i < client->vector_count; i++) {
            bool is_it = !self->foreign || client->vector[i].srv == 101 + o;
            is_known = is_known || (is_it && client->vector[i].seqno > 0);
        }
        if (!is_known) {
            memset(client->held.exists[o], 0, sizeof client->held.exists[o]);
        }
    }
    if (client->has_vector) {
        memcpy(client->since, client->vector, sizeof client->since);
        client->since_count = client->vector_count;
        client->page = (log_page){.resume = true, .since = {client->since, client->since_count}};
    } else if (is_same) {
        client->page.fresh = client->page.resume = false; /* a broken first copy goes on */
    } else {
        client->held = (check_truth){0};
        memset(client->seen, 0, sizeof client->seen);
        client->page = (log_page){.fresh = true};
    }
    client->has_cursor = true;
}

static void on_reset(check_run *self, check_client *client, const check_node *node)
{
    bool is_ahead = client->page.reset == TW_RESET_AHEAD;
    bool is_behind = false;
    for (size_t i = 0; self->foreign && i < client->since_count; i++) {
        for (size_t o = 0; o < COLLS; o++) {
            uint64_t head =
                node->applied[o] == 0 ? 0 : self->plans[o].txs[node->applied[o] - 1].seqno;
            is_behind =
                is_behind || (client->since[i].srv == 101 + o && client->since[i].seqno > head);
        }
    }
    CHECK(self, is_ahead ? is_behind : node->trimmed);
    self->resets++;
    if (!is_ahead) { /* starts over; one that is ahead of this node waits, or goes elsewhere */
        client->has_vector = client->has_cursor = false;
        client->vector_count = 0;
        client->held = (check_truth){0};
    }
    client->at_node = -1;
}

static void read_page(check_run *self, check_client *client)
{
    check_node *node = &self->nodes[client->at_node];
    log_view *view = &client->views[client->at_node];
    log_part parts[COLLS];
    size_t colls[COLLS];
    size_t parts_count = 0;
    uint8_t scope[2] = {KEY_TYPE, client->scope};
    for (size_t i = 0; i < COLLS; i++) {
        if (client->wants[i]) {
            parts[parts_count] = (log_part){
                .db = TW_STR("d"), .name = tw_str_of(coll_names[i]), .scope_field = TW_STR("s")};
            if (client->scope != 0) {
                parts[parts_count].scope = (tw_key){scope, 2};
            }
            colls[parts_count++] = i;
        }
    }
    check_taking context = {self, client, colls, parts_count};
    bool every = client->scope == 0 && draw(self, 2) == 0; /* as change streams read */
    const log_page_taker taker = {
        .context = &context, .meaning = meaning, .take = take, .part_of = every ? part_of : NULL};
    client->budget = 1 + draw(self, draw(self, 3) == 0 ? 40 : 4);
    bool is_first = client->page.fresh || client->page.resume;
    CHECK(self, log_view_sync(view) == TW_OK);
    CHECK(self, log_page_read(view, &self->arena, parts, every ? 0 : parts_count, &taker,
                              &client->page) == TW_OK);
    self->pages++;
    if (client->page.reset != TW_RESET_NONE) {
        on_reset(self, client, node);
        return;
    }
    client->page.fresh = client->page.resume = false;
    for (size_t o = 0; is_first && o < (self->foreign ? COLLS : 1); o++) {
        bool is_known = false;
        for (size_t i = 0; i < client->page.since.count; i++) {
            const tw_position *at = &client->page.since.at[i];
            is_known = is_known || ((!self->foreign || at->srv == 101 + o) && at->seqno > 0);
        }
        client->starts[o] = !is_known && client->page.since.count > 0 && client->page.w0 == 0;
        if (!is_known && !client->starts[o]) {
            rebase(self, client, node, o);
        }
    }
    for (size_t o = 0; client->page.caught_up && o < COLLS; o++) {
        if (client->starts[o]) {
            rebase(self, client, node, o);
        }
    }
    if (client->page.caught_up) {
        compare(self, client, node);
        for (size_t i = 0; i < client->page.at_count; i++) {
            raise(client, client->page.at[i]);
        }
        client->caught_up = client->has_vector = true;
        client->page.since = (tw_vector){0};
        client->page.w0 = 0;
    }
}

/* ---- a run ---- */

static void open_node(check_run *self, check_node *node)
{
    const log_store_options options = {.memory = true};
    char why[512];
    tw_err err = log_store_open(node->log, &options, self->now_ms, why, sizeof why);
    CHECK(self, err == TW_OK && why[0] == '\0');
}

static void tend(check_run *self, check_node *node)
{
    bool more = true;
    switch (draw(self, 4)) {
    case 0:
        CHECK(self, log_store_raise_floor(node->log, self->now_ms, draw(self, 300)) == TW_OK);
        node->trimmed = true;
        break;
    case 1:
    case 2:
        for (uint64_t i = draw(self, 6); more && i > 0; i--) {
            CHECK(self, log_store_step(node->log, draw(self, 2) == 0, &more) == TW_OK);
        }
        break;
    default:
        if (draw(self, 3) == 0) {
            uint64_t head = log_index_head(node->log->index);
            log_store_close(node->log);
            open_node(self, node);
            CHECK(self, log_index_head(node->log->index) == head);
        }
    }
}

static void step_client(check_run *self, check_client *client)
{
    if (client->at_node < 0 || draw(self, 12) == 0) {
        connect_client(self, client);
    }
    if (client->at_node >= 0) {
        read_page(self, client);
    }
}

static void close_all(check_run *self)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        for (size_t k = 0; k < self->nodes_count; k++) {
            log_view_fini(&self->clients[i].views[k]);
        }
    }
    for (size_t i = 0; i < self->nodes_count; i++) {
        log_store_close(self->nodes[i].log);
        log_store_free(&self->nodes[i].log);
    }
    tw_arena_fini(&self->arena);
}

static void one_run(check_run *self, uint64_t seed, check_fault planted)
{
    *self = (check_run){.seed = seed,
                        .random = seed * 0x9e3779b97f4a7c15ULL + 1,
                        .now_ms = 1000000,
                        .planted = planted,
                        .compared = self->compared,
                        .pages = self->pages,
                        .resets = self->resets};
    tw_arena_init(&self->arena, 1 << 26);
    self->foreign = draw(self, 2) == 1;
    self->nodes_count = self->foreign ? NODES_MAX : 1;
    for (size_t i = 0; i < self->nodes_count; i++) {
        assert_int_equal(log_store_new(&self->nodes[i].log), TW_OK);
        open_node(self, &self->nodes[i]);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        check_client *client = &self->clients[i];
        client->at_node = -1;
        client->wants[draw(self, COLLS)] = true;
        client->wants[draw(self, COLLS)] = true;
        client->scope = (uint8_t)draw(self, 4);
        client->filters = draw(self, 2) == 1;
        for (size_t k = 0; k < self->nodes_count; k++) {
            log_view_init(&client->views[k], self->nodes[k].log);
        }
    }
    size_t steps = seed % 4 == 0 ? STEPS * 6 : STEPS; /* long: several chunks of rows */
    for (size_t i = 0; i < steps; i++) {
        self->now_ms += draw(self, 500);
        check_node *node = &self->nodes[draw(self, self->nodes_count)];
        uint64_t what = draw(self, 10);
        if (what < 3) {
            write_some(self, node);
        } else if (what < 5) {
            tend(self, node);
        } else {
            step_client(self, &self->clients[draw(self, CLIENTS)]);
        }
        tw_arena_reset(&self->arena);
    }
    if (planted == FAULT_NONE) {
        close_all(self);
    }
}

/* Each planted fault is noticed within some runs. */
static void test_planted_faults_are_noticed(void **state)
{
    (void)state;
    static check_run self;
    for (volatile int fault = FAULT_NONE + 1; fault < FAULT_COUNT; fault++) {
        volatile bool is_noticed = false;
        for (volatile uint64_t seed = 1; seed <= 20 && !is_noticed; seed++) {
            if (setjmp(check_noticed) != 0) {
                is_noticed = true;
            } else {
                one_run(&self, seed, (check_fault)fault);
            }
            close_all(&self);
        }
        if (!is_noticed) {
            fail_msg("fault %d was not noticed", fault);
        }
    }
}

static void test_clients_that_have_caught_up_hold_the_truth(void **state)
{
    (void)state;
    static check_run self;
    const char *seconds = getenv("TIDEWIRE_CHECK_S");
    const char *only = getenv("TIDEWIRE_CHECK_SEED");
    uint64_t budget = 4;
    uint64_t seed = 0;
    if (seconds != NULL) {
        assert_int_equal(tw_parse_u64(tw_str_of(seconds), 86400, &budget), TW_OK);
    }
    if (only != NULL) {
        assert_int_equal(tw_parse_u64(tw_str_of(only), UINT64_MAX / 2, &seed), TW_OK);
        one_run(&self, seed, FAULT_NONE);
        return;
    }
    time_t end = time(NULL) + (time_t)budget;
    uint64_t runs = 0;
    for (; runs < 20 || time(NULL) < end; runs++) {
        one_run(&self, runs + 1, FAULT_NONE);
    }
    print_message("%llu runs, %llu pages, %llu resets, %llu comparisons\n",
                  (unsigned long long)runs, (unsigned long long)self.pages,
                  (unsigned long long)self.resets, (unsigned long long)self.compared);
    assert_true(self.compared > 0 && self.resets > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted_faults_are_noticed),
        cmocka_unit_test(test_clients_that_have_caught_up_hold_the_truth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
