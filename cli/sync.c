/* sync.c - tidewire sync: a local copy of a collection is brought to the server's state; only what
 * differs travels. Big copies are told by sums of ranges, and what the server asks for of them. */
#include "cli/sync.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/local_copy.h"
#include "cli/progress.h"
#include "cli/session.h"

enum {
    LISTED_MAX = 2000,   /* records; above it ranges are summed */
    FIRST_BITS = 8,      /* 256 sums, 4 KiB */
    PIECE_BYTES = 49152, /* of a message: below TW_MESSAGE_MAX with all that is around */
    BITS_MAX = TW_MANIFEST_BITS_MAX,
};

/* Ranges that the server has asked for, until its turn ends. */
typedef struct asked {
    bool split;
    unsigned bits, next_bits;
    uint32_t *ranges; /* own */
    size_t count;
} asked;

enum { ASKED_MAX = 256 }; /* messages of one turn: 2^18 ranges in pieces of 4,096, and more */

struct sync {
    cli_common common;
    const char *collection, *path, *filter, *fields, *project;
    bool keys_only;
    local_copy copy;
    cli_session session;
    tw_buf piece; /* own; the message being made */
    bool piece_has;
    asked asked[ASKED_MAX];
    size_t asked_count;
    uint64_t sent, received; /* bytes */
    char since[4096];
};

static const struct argp_option sync_options[] = {
    {"manifest", 'm', "FILE", 0, "The local copy: NDJSON of {\"key\",\"version\",\"doc\"}", 0},
    {"keys", 'k', NULL, 0, "Keep keys and versions only, no documents", 0},
    {"filter", 'f', "JSON", 0, "Only records that match", 0},
    {"fields", 'F', "NAMES", 0, "Only these fields, with commas", 0},
    {"project", 'p', "ID", 0, "project_id of the report collections", 0},
    {0},
};

static error_t parse_sync(int key, char *arg, struct argp_state *state)
{
    struct sync *self = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &self->common;
        return 0;
    case 'm':
        self->path = arg;
        return 0;
    case 'k':
        self->keys_only = true;
        return 0;
    case 'f':
        self->filter = cli_json_object(state, "--filter", arg);
        return 0;
    case 'F':
        self->fields = arg;
        return 0;
    case 'p':
        self->project = cli_json_value(state, "--project", arg);
        return 0;
    case ARGP_KEY_ARG:
        if (self->collection != NULL) {
            argp_error(state, "one collection at a time; '%s' is a second one", arg);
        }
        self->collection = arg;
        return 0;
    case ARGP_KEY_END:
        if (self->collection == NULL || self->path == NULL) {
            argp_error(state, "name a collection and a file, such as: tidewire sync movies "
                              "--manifest movies.ndjson");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- messages ---- */

static void begin_piece(struct sync *self, const char *kind)
{
    tw_buf *out = &self->piece;
    tw_buf_clear(out);
    self->piece_has = false;
    tw_buf_format(out, "{\"action\":\"sync\",\"reqID\":1");
    if (self->common.database != NULL) {
        tw_buf_format(out, ",\"database\":");
        tw_json_write_str(out, tw_str_of(self->common.database));
    }
    if (self->project != NULL) {
        tw_buf_format(out, ",\"project_id\":%s", self->project);
    }
    tw_buf_format(out, ",\"collections\":{");
    tw_json_write_str(out, tw_str_of(self->collection));
    tw_buf_format(out, ":{\"filter\":%s", self->filter == NULL ? "{}" : self->filter);
    const char *comma = ",\"fields\":[";
    for (const char *at = self->fields; at != NULL && *at != '\0';) {
        size_t len = strcspn(at, ",");
        tw_buf_format(out, "%s", comma);
        tw_json_write_str(out, (tw_str){at, len});
        at += len + (at[len] == ',');
        comma = ",";
    }
    tw_buf_format(out, "%s}},\"%s\":{", comma[1] == '"' ? "" : "]", kind);
    tw_json_write_str(out, tw_str_of(self->collection));
}

static bool end_piece(struct sync *self, const char *closing, bool more)
{
    tw_buf_format(&self->piece, "%s}%s}", closing, more ? ",\"more\":true" : "");
    self->sent += self->piece.len;
    tw_err err = self->piece.err;
    if (err == TW_OK) {
        err = websocket_client_send(self->session.client, tw_buf_str(&self->piece));
    }
    return err == TW_OK ||
           cli_fail("sync", "", "the request could not be sent: %s", tw_err_text(err)) == 0;
}

/* ---- lists ---- */

static bool add_id(struct sync *self, const local_record *record)
{
    if (self->piece.len + record->key.len + 32 > PIECE_BYTES) {
        if (!end_piece(self, "]", true)) {
            return false;
        }
        begin_piece(self, "manifests");
        tw_buf_format(&self->piece, ":[");
    }
    tw_buf_format(&self->piece, self->piece_has ? ",[" : "[");
    self->piece_has = true;
    tw_buf_add_str(&self->piece, record->key);
    tw_buf_format(&self->piece, ",%lld]", (long long)record->version);
    return true;
}

static size_t range_of(uint32_t place, unsigned bits)
{
    return (size_t)((uint64_t)place >> (32 - bits));
}

/* Sends the ids in ranges; ranges NULL: all. */
static bool send_ids(struct sync *self, const asked *of, bool more)
{
    bool *wanted = NULL;
    if (of != NULL) {
        wanted = tw_alloc_zero((size_t)1 << of->bits, sizeof *wanted);
        if (wanted == NULL) {
            return cli_fail("sync", "", "no memory") == 0;
        }
        for (size_t i = 0; i < of->count; i++) {
            wanted[of->ranges[i]] = true;
        }
    }
    begin_piece(self, "manifests");
    tw_buf_format(&self->piece, ":[");
    bool sent = true;
    for (size_t i = 0; sent && i < self->copy.count; i++) {
        const local_record *record = &self->copy.records[i];
        bool is_in = wanted == NULL || wanted[range_of(record->place, of->bits)];
        sent = record->gone || !is_in || add_id(self, record);
    }
    tw_free(wanted);
    return sent && end_piece(self, "]", more);
}

/* ---- sums ---- */

/* Sends the sums of ranges; of NULL: all of FIRST_BITS. */
static bool send_sums(struct sync *self, const asked *of, bool more)
{
    unsigned bits = of == NULL ? (unsigned)FIRST_BITS : of->next_bits;
    tw_mark *sums = tw_alloc_zero((size_t)1 << bits, sizeof *sums);
    if (sums == NULL) {
        return cli_fail("sync", "", "no memory") == 0;
    }
    for (size_t i = 0; i < self->copy.count; i++) {
        const local_record *record = &self->copy.records[i];
        tw_mark *sum = &sums[range_of(record->place, bits)];
        sum->high += record->gone ? 0 : record->mark.high;
        sum->low += record->gone ? 0 : record->mark.low;
    }
    unsigned below = of == NULL ? bits : bits - of->bits;
    size_t count = (of == NULL ? 1 : of->count) << below;
    bool sent = true;
    for (size_t i = 0; sent && i < count; i++) {
        size_t first = of == NULL ? 0 : (size_t)of->ranges[i >> below] << below;
        const tw_mark *sum = &sums[first + (i & (((size_t)1 << below) - 1))];
        if (i == 0) {
            begin_piece(self, "ranges");
            tw_buf_format(&self->piece, ":{\"bits\":%u,\"sums\":\"", bits);
        }
        tw_buf_format(&self->piece, "%08x%08x", sum->high, sum->low);
        if (self->piece.len > PIECE_BYTES && i + 1 < count) {
            sent = end_piece(self, "\"}", true);
            begin_piece(self, "ranges");
            tw_buf_format(&self->piece, ":{\"bits\":%u,\"sums\":\"", bits);
        }
    }
    tw_free(sums);
    return sent && end_piece(self, "\"}", more);
}

/* ---- replies ---- */

static void forget_asked(struct sync *self)
{
    for (size_t i = 0; i < self->asked_count; i++) {
        tw_free(self->asked[i].ranges);
    }
    self->asked_count = 0;
}

/* Notes ranges that the server asks for. */
static bool note_asked(struct sync *self, tw_bson reply, bool split)
{
    tw_bson list = tw_bson_get_doc(reply, TW_STR("ranges"));
    int64_t bits = tw_bson_get_i64_or(reply, TW_STR("bits"), -1);
    int64_t next = tw_bson_get_i64_or(reply, TW_STR("next_bits"), bits);
    size_t count = list.len == 0 ? 0 : tw_bson_count(list);
    if (bits < 0 || next < bits || next > BITS_MAX || self->asked_count == ASKED_MAX) {
        return cli_fail("sync", "", "the server asks for ranges that cannot be") == 0;
    }
    asked *to = &self->asked[self->asked_count];
    *to = (asked){.split = split, .bits = (unsigned)bits, .next_bits = (unsigned)next};
    to->ranges = tw_alloc((count + 1) * sizeof *to->ranges);
    if (to->ranges == NULL) {
        return cli_fail("sync", "", "no memory") == 0;
    }
    self->asked_count++;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, list); tw_bson_iter_next(&iter);) {
        int64_t range = -1;
        if (!tw_bson_value_i64(iter.value, &range) || range < 0 || range >> bits != 0) {
            return cli_fail("sync", "", "the server asks for ranges that cannot be") == 0;
        }
        to->ranges[to->count++] = (uint32_t)range;
    }
    return true;
}

static bool answer_asked(struct sync *self)
{
    bool sent = true;
    for (size_t i = 0; sent && i < self->asked_count; i++) {
        bool more = i + 1 < self->asked_count;
        sent = self->asked[i].split ? send_sums(self, &self->asked[i], more)
                                    : send_ids(self, &self->asked[i], more);
    }
    forget_asked(self);
    return sent;
}

static bool apply(struct sync *self, tw_bson reply, tw_str op)
{
    tw_bson_value key = tw_bson_get(reply, TW_STR("key"));
    if (tw_str_equal(op, TW_STR("remove"))) {
        local_copy_remove(&self->copy, key);
        return true;
    }
    if (tw_str_equal(op, TW_STR("split")) || tw_str_equal(op, TW_STR("list"))) {
        return note_asked(self, reply, op.ptr[0] == 's');
    }
    if (tw_str_equal(op, TW_STR("turn"))) {
        return answer_asked(self);
    }
    tw_bson doc = self->keys_only ? (tw_bson){0} : tw_bson_get_doc(reply, TW_STR("doc"));
    return local_copy_put(&self->copy, key, tw_bson_get_i64_or(reply, TW_STR("version"), 0), doc) ||
           cli_fail("sync", "", "%s", self->copy.why) == 0;
}

static void print_done(struct sync *self, tw_bson done, tw_str text)
{
    static const char *const names[] = {"inserted", "updated", "removed", "same"};
    tw_buf since;
    tw_buf_init(&since, sizeof self->since);
    tw_json_write_value(&since, tw_bson_get(done, TW_STR("since")));
    tw_format(self->since, sizeof self->since, "%.*s", (int)since.len, since.ptr);
    tw_buf_fini(&since);
    if (self->common.json) {
        printf("%.*s\n", (int)text.len, text.ptr);
        return;
    }
    for (size_t i = 0; i < TW_COUNT(names); i++) {
        printf("%s%s %lld", i == 0 ? "" : ", ", names[i],
               (long long)tw_bson_get_i64_or(done, tw_str_of(names[i]), 0));
    }
    printf("; sent %llu bytes, received %llu\ngo on with:\n  tidewire watch %s --since '%s'\n",
           (unsigned long long)self->sent, (unsigned long long)self->received, self->collection,
           self->since);
}

/* Reads replies to the end; an exit status. */
static int read_replies(struct sync *self)
{
    progress bar;
    uint64_t count = 0;
    progress_begin(&bar, "syncing", "records", 0);
    int status = -1;
    while (status < 0) {
        tw_str text;
        tw_bson reply;
        if (!cli_session_next(&self->session, &text, &reply)) {
            status = 1;
            break;
        }
        self->received += text.len;
        tw_str action = tw_bson_get_str(reply, TW_STR("action"));
        if (tw_bson_get_str(reply, TW_STR("type")).ptr != NULL) {
            status = cli_session_refused(&self->session, reply);
        } else if (tw_str_equal(action, TW_STR("done"))) {
            progress_end(&bar);
            print_done(self, reply, text);
            status = 0;
        } else if (!apply(self, reply, tw_bson_get_str(reply, TW_STR("op")))) {
            status = 1;
        } else {
            progress_show(&bar, ++count, 0);
        }
    }
    progress_end(&bar);
    return status;
}

static int run(struct sync *self)
{
    if (!local_copy_read(&self->copy, self->path)) {
        return cli_fail("sync", "A line is {\"key\":K,\"version\":V,\"doc\":{...}}", "%s: %s",
                        self->path, self->copy.why);
    }
    if (cli_session_open(&self->session, "sync", &self->common) != 0) {
        return 1;
    }
    bool sent =
        self->copy.count > LISTED_MAX ? send_sums(self, NULL, false) : send_ids(self, NULL, false);
    int status = sent ? read_replies(self) : 1;
    if (status == 0 && !local_copy_write(&self->copy, self->path, tw_str_of(self->since))) {
        status = cli_fail("sync", "", "%s: %s", self->path, self->copy.why);
    }
    cli_session_close(&self->session);
    return status;
}

int cli_sync(int argc, char **argv)
{
    static const struct argp_child children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = sync_options,
        .parser = parse_sync,
        .args_doc = "COLLECTION",
        .doc = "Brings a local copy of a collection to the server's state: only what differs "
               "travels. A file that is not there becomes a whole copy; after an error the file "
               "is as it was.\vExamples:\n"
               "  tidewire sync movies --manifest movies.ndjson\n"
               "  tidewire sync movies --manifest movies.keys --keys\n"
               "  tidewire sync movies --manifest best.ndjson --filter "
               "'{\"IMDB Rating\":{\"$gte\":9}}' --fields Title\n",
        .children = children};
    struct sync *self = tw_alloc_zero(1, sizeof *self);
    if (self == NULL) {
        return cli_fail("sync", "", "no memory");
    }
    cli_common_init(&self->common);
    local_copy_init(&self->copy);
    tw_buf_init(&self->piece, TW_MESSAGE_MAX);
    argp_parse(&argp, argc, argv, 0, NULL, self);
    int status = run(self);
    forget_asked(self);
    tw_buf_fini(&self->piece);
    local_copy_fini(&self->copy);
    tw_free(self);
    return status;
}
