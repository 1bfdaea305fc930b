/* import.c - tidewire import: a file of records into a collection.
 *
 * WINDOW requests are under way at once; each carries an opid, so that after a break the
 * unanswered ones are sent again and have one effect. The opids of GROUP records are parts of one,
 * which lets a store that pays for each transaction put those that come together into one. What the
 * server refuses goes to the rejects file with its line and cause; the rest goes on. */
#include "cli/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "protocol/utf8.h"

#include "cli/progress.h"
#include "cli/record_reader.h"
#include "cli/session.h"

enum { WINDOW = 512, GROUP = 256, CONNECT_TRIES = 60, CONNECT_PAUSE_MS = 500 };
enum {
    FRUITLESS_MAX = 5,      /* connections in a row that ended before an answer */
    REFUSED_PAUSE_MS = 100, /* between two records while the server takes none */
    REFUSED_TRIES = 600,    /* a minute: a full disk does not empty itself */
};

struct slot {
    uint64_t number; /* of the record, from 1; 0: free */
    uint64_t line;
    tw_buf json; /* own */
};

struct import {
    cli_common common;
    const char *file, *collection, *rejects_path, *mode, *key;
    bool dry_run;
    record_format format;
    record_reader reader;
    cli_session session;
    struct slot slots[WINDOW]; /* record n is in slot n % WINDOW */
    uint64_t read, answered, waiting, imported, rejected;
    uint64_t run; /* random: opids of two runs differ */
    unsigned fruitless;
    unsigned refused; /* answers in a row by which the server took nothing, but may later */
    FILE *rejects;
    progress bar;
};

static const struct argp_option import_options[] = {
    {"format", 'f', "FORMAT", 0, "json or csv (told by the file's beginning)", 0},
    {"mode", 'm', "MODE", 0, "put (default: inserts or replaces) or insert (refuses what exists)",
     0},
    {"key", 'k', "FIELD", 0, "Take _id from this field", 0},
    {"rejects", 'r', "FILE", 0, "Where refused records go (FILE.rejects)", 0},
    {"dry-run", 'n', NULL, 0, "Read and check the file, send nothing", 0},
    {0},
};

static error_t parse_import(int key, char *arg, struct argp_state *state)
{
    struct import *self = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &self->common;
        return 0;
    case 'f':
        self->format = strcmp(arg, "csv") == 0 ? RECORDS_CSV : RECORDS_JSON;
        if (self->format == RECORDS_JSON && strcmp(arg, "json") != 0) {
            argp_error(state, "--format is json or csv, not '%s'", arg);
        }
        return 0;
    case 'm':
        self->mode = arg;
        if (strcmp(arg, "put") != 0 && strcmp(arg, "insert") != 0) {
            argp_error(state, "--mode is put or insert, not '%s'", arg);
        }
        return 0;
    case 'k':
        self->key = arg;
        return 0;
    case 'r':
        self->rejects_path = arg;
        return 0;
    case 'n':
        self->dry_run = true;
        return 0;
    case ARGP_KEY_ARG:
        if (self->collection == NULL) {
            self->collection = arg;
        } else if (self->file == NULL) {
            self->file = arg;
        } else {
            argp_error(state, "one file at a time");
        }
        return 0;
    case ARGP_KEY_END:
        if (self->file == NULL) {
            argp_error(state, "name a collection and a file (- for standard input)");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void reject(struct import *self, uint64_t line, tw_str json, tw_str why)
{
    if (self->rejects == NULL && !self->dry_run) {
        char path[4200];
        tw_format(path, sizeof(path), "%s.rejects", self->file);
        self->rejects = fopen(self->rejects_path != NULL ? self->rejects_path : path, "w");
    }
    if (self->rejected++ < 5) {
        fprintf(stderr, "%sline %llu: %.*s\n", self->bar.terminal ? "\r\033[K" : "",
                (unsigned long long)line, (int)why.len, why.ptr);
    }
    if (self->rejects != NULL) {
        tw_buf out;
        tw_buf_init(&out, 2 * TW_MESSAGE_MAX);
        tw_buf_format(&out, "{\"line\":%llu,\"error\":", (unsigned long long)line);
        tw_json_write_str(&out, why);
        tw_buf_format(&out, ",\"record\":");
        tw_json_write_str(&out, json);
        tw_buf_format(&out, "}\n");
        fwrite(out.ptr, 1, out.len, self->rejects);
        tw_buf_fini(&out);
    }
}

/* "doc":{"_id":<the key field>, ...}: the record, with _id from another field where asked. False:
 * it has no such field, and a key drawn for it would be another one at the next import. */
static bool write_doc(const struct import *self, const struct slot *slot, tw_buf *fields)
{
    bool is_read = false;
    tw_str json = tw_buf_str(&slot->json);
    tw_arena arena;
    tw_arena_init(&arena, 4 * TW_MESSAGE_MAX);
    tw_bson doc;
    tw_bson_value key = {0};
    if (self->key != NULL && tw_json_read(&arena, json, TW_DEPTH_CLIENT_MAX, &doc, NULL) == TW_OK) {
        is_read = true; /* else the server tells what is wrong with it */
        key = tw_bson_get(doc, tw_str_of(self->key));
    }
    tw_buf_format(fields, ",\"doc\":");
    if (key.type != 0 && strcmp(self->key, "_id") != 0 && json.len > 2) {
        tw_buf_format(fields, "{\"_id\":");
        tw_json_write_value(fields, key);
        tw_buf_add_byte(fields, ',');
        tw_buf_add(fields, json.ptr + 1, json.len - 1);
    } else {
        tw_buf_add_str(fields, json);
    }
    tw_arena_fini(&arena);
    return !is_read || key.type != 0;
}

static void reject_slot(struct import *self, struct slot *slot, tw_str why)
{
    reject(self, slot->line, tw_buf_str(&slot->json), why);
    slot->number = 0;
    self->waiting--;
}

/* Sends a slot's record; a record that makes too big a message is rejected at once. */
static void send_slot(struct import *self, struct slot *slot)
{
    tw_buf fields;
    tw_buf_init(&fields, TW_MESSAGE_MAX);
    tw_buf_format(&fields, "\"collection\":");
    tw_json_write_str(&fields, tw_str_of(self->collection));
    if (self->common.database != NULL) {
        tw_buf_format(&fields, ",\"database\":");
        tw_json_write_str(&fields, tw_str_of(self->common.database));
    }
    tw_buf_format(&fields, ",\"opid\":\"import-%016llx-%llu/%llu\"", (unsigned long long)self->run,
                  (unsigned long long)(slot->number / GROUP), (unsigned long long)slot->number);
    bool has_key = write_doc(self, slot, &fields);
    self->session.requests = slot->number - 1; /* reqID = the record's number */
    if (!has_key) {
        reject_slot(self, slot, TW_STR("the record has no field of the name given as --key"));
    } else if (fields.err != TW_OK) {
        reject_slot(self, slot, TW_STR("larger than a message may be"));
    } else if (cli_session_send(&self->session, self->mode, tw_buf_str(&fields)) == 0) {
        /* the connection ended: connect_again sends it once more */
    }
    tw_buf_fini(&fields);
}

static bool connect_again(struct import *self)
{
    bool is_fruitless = ++self->fruitless > FRUITLESS_MAX;
    for (int i = 0; i < CONNECT_TRIES && !is_fruitless; i++) {
        cli_session_close(&self->session);
        nanosleep(&(struct timespec){.tv_nsec = CONNECT_PAUSE_MS * 1000000L}, NULL);
        if (cli_session_open(&self->session, "import", &self->common) == 0) {
            fprintf(stderr, "connected again; %llu unanswered records are sent once more\n",
                    (unsigned long long)self->waiting);
            for (int s = 0; s < WINDOW; s++) {
                if (self->slots[s].number != 0) {
                    send_slot(self, &self->slots[s]);
                }
            }
            return true;
        }
    }
    return false;
}

/* The server takes nothing at the moment. The user is told why, once; then each record is tried
 * again at a pace that costs the server nothing. False: it has been so for too long (told). */
static bool wait_for_room(struct import *self, tw_bson reply)
{
    tw_str code = tw_bson_get_str(reply, TW_STR("code"));
    tw_str message = tw_bson_get_str(reply, TW_STR("message"));
    if (++self->refused == WINDOW) {
        fprintf(stderr, "%sthe server takes no records (%.*s: %.*s); trying again for a minute\n",
                self->bar.terminal ? "\r\033[K" : "", (int)code.len, code.ptr, (int)message.len,
                message.ptr);
    }
    if (self->refused >= WINDOW) { /* fewer: a moment's lack of room */
        nanosleep(&(struct timespec){.tv_nsec = REFUSED_PAUSE_MS * 1000000L}, NULL);
    }
    if (self->refused < WINDOW + REFUSED_TRIES) {
        return true;
    }
    (void)cli_fail("import",
                   self->mode[0] == 'p' ? "With --mode put it may be run again as it is"
                                        : "Run it again with --mode put: what is there stays",
                   "the server takes no records (%.*s); %llu were acknowledged", (int)code.len,
                   code.ptr, (unsigned long long)self->imported);
    return false;
}

/* Takes one reply. False: the server is gone for good, or takes nothing (told). */
static bool take_reply(struct import *self)
{
    tw_str text;
    tw_bson reply;
    if (!cli_session_next(&self->session, &text, &reply)) {
        if (connect_again(self)) {
            return true;
        }
        (void)cli_fail("import",
                       "Records are idempotent by opid within a run only: with --mode put it may "
                       "be run again",
                       "the server is gone; %llu records were acknowledged",
                       (unsigned long long)self->imported);
        return false;
    }
    self->fruitless = 0;
    int64_t number = tw_bson_get_i64_or(reply, TW_STR("reqID"), 0);
    struct slot *slot = &self->slots[(uint64_t)number % WINDOW];
    if (number <= 0 || slot->number != (uint64_t)number) {
        return true; /* an answer that came twice, after a break */
    }
    if (tw_str_equal(tw_bson_get_str(reply, TW_STR("type")), TW_STR("error"))) {
        if (!tw_str_equal(tw_bson_get_str(reply, TW_STR("retry")), TW_STR("no"))) {
            bool go_on = wait_for_room(self, reply);
            if (go_on) {
                send_slot(self, slot);
            }
            return go_on;
        }
        reject(self, slot->line, tw_buf_str(&slot->json),
               tw_bson_get_str(reply, TW_STR("message")));
    } else {
        self->imported++;
    }
    self->refused = 0;
    slot->number = 0;
    self->waiting--;
    progress_show(&self->bar, self->imported, self->reader.bytes);
    return true;
}

/* Reads a record into a slot and sends it. TW_E_END at the end of the file. */
static tw_err take_record(struct import *self)
{
    tw_str json;
    const char *why;
    tw_err err = record_reader_next(&self->reader, &json, &why);
    if (err == TW_E_END) {
        return err;
    }
    if (err == TW_OK && !tw_utf8_valid(json)) { /* a server ends the connection for it */
        err = TW_E_BAD_MESSAGE;
        why = "the record is not UTF-8";
    }
    if (err != TW_OK) {
        reject(self, self->reader.line, json, tw_str_of(why));
        return TW_OK;
    }
    self->read++;
    if (self->dry_run) {
        tw_arena arena;
        tw_str cause = {0};
        tw_bson doc;
        tw_arena_init(&arena, 8 * TW_MESSAGE_MAX);
        if (tw_json_read(&arena, json, TW_DEPTH_CLIENT_MAX, &doc, &cause) != TW_OK) {
            reject(self, self->reader.line, json, cause);
        } else {
            self->imported++;
        }
        tw_arena_fini(&arena);
        progress_show(&self->bar, self->imported, self->reader.bytes);
        return TW_OK;
    }
    struct slot *slot = &self->slots[self->read % WINDOW];
    slot->number = self->read;
    slot->line = self->reader.line;
    tw_buf_clear(&slot->json);
    tw_buf_add_str(&slot->json, json);
    self->waiting++;
    send_slot(self, slot);
    return TW_OK;
}

static int import_all(struct import *self)
{
    tw_err err = TW_OK;
    while (err == TW_OK || self->waiting > 0) {
        bool room = self->slots[(self->read + 1) % WINDOW].number == 0;
        if (err == TW_OK && room) {
            err = take_record(self);
        } else if (!take_reply(self)) {
            return 1;
        }
    }
    progress_end(&self->bar);
    uint64_t ms = progress_elapsed_ms(&self->bar) + 1;
    printf("%s %llu records in %llu.%llu s (%llu/s), %llu rejected%s\n",
           self->dry_run ? "would import" : "imported", (unsigned long long)self->imported,
           (unsigned long long)(ms / 1000), (unsigned long long)(ms % 1000 / 100),
           (unsigned long long)(self->imported * 1000 / ms), (unsigned long long)self->rejected,
           self->rejects != NULL ? "; see the rejects file" : "");
    return self->rejected == 0 ? 0 : 1;
}

static void import_fini(struct import *self)
{
    for (int i = 0; i < WINDOW; i++) {
        tw_buf_fini(&self->slots[i].json);
    }
    record_reader_fini(&self->reader);
    cli_session_close(&self->session);
    if (self->rejects != NULL) {
        fclose(self->rejects);
    }
    tw_free(self);
}

int cli_import(int argc, char **argv)
{
    static const struct argp_child children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = import_options,
        .parser = parse_import,
        .args_doc = "COLLECTION FILE",
        .doc =
            "Imports records: NDJSON, a JSON array, CSV with a header, mongoexport files. Refused "
            "records go to a rejects file with line and cause.\vExamples:\n"
            "  tidewire import movies movies.json\n"
            "  tidewire import people people.csv --key id\n"
            "  mongoexport -c users | tidewire import users -\n",
        .children = children};
    struct import *self = tw_alloc_zero(1, sizeof(*self));
    if (self == NULL) {
        return cli_fail("import", "", "no memory");
    }
    cli_common_init(&self->common);
    self->mode = "put";
    argp_parse(&argp, argc, argv, 0, NULL, self);
    FILE *in = strcmp(self->file, "-") == 0 ? stdin : fopen(self->file, "r");
    if (in == NULL) {
        int status = cli_fail("import", "", "%s cannot be opened", self->file);
        tw_free(self);
        return status;
    }
    for (int i = 0; i < WINDOW; i++) {
        tw_buf_init(&self->slots[i].json, TW_MESSAGE_MAX);
    }
    if (getrandom(&self->run, sizeof(self->run), 0) < 0) {
        self->run = (uint64_t)time(NULL);
    }
    struct stat about = {0};
    bool is_known = fstat(fileno(in), &about) == 0;
    uint64_t size = is_known && S_ISREG(about.st_mode) ? (uint64_t)about.st_size : 0;
    progress_begin(&self->bar, "importing", "records", size);
    int status = 1;
    if (is_known && S_ISDIR(about.st_mode)) {
        status = cli_fail("import", "Name a file, or - for standard input", "%s is a directory",
                          self->file);
    } else if (record_reader_init(&self->reader, in, self->format) != TW_OK) {
        status = cli_fail("import", "NDJSON, a JSON array or CSV with a header",
                          "%s: no known format", self->file);
    } else if (self->dry_run || cli_session_open(&self->session, "import", &self->common) == 0) {
        status = import_all(self);
    }
    import_fini(self);
    if (in != stdin) {
        fclose(in);
    }
    return status;
}
