/* embedded_search_table.c - the file of the embedded search: SQLite with FTS5.
 *
 * doc holds each document as it is in the log; terms (FTS5, without content, positions or columns)
 * and number narrow a query to candidates, the documents themselves decide. To take a document out,
 * its terms are made from it once more: the types of fields never change, so they are the same.
 * How far the log was followed is written in the transaction of the changes. */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include <sqlite3.h>

#include "actors/search/embedded_search_priv.h"

enum { VERSION = 1, TERMS_TEXT_MAX = 64 * 1048576, COLLECTION_MEMORY_MAX = 4 * 1048576 };

typedef enum sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_FIND,
    SQL_READ,
    SQL_INSERT,
    SQL_UPDATE,
    SQL_DELETE,
    SQL_TERMS_ADD,
    SQL_TERMS_DELETE,
    SQL_NUMBER_ADD,
    SQL_NUMBER_DELETE,
    SQL_META,
    SQL_FIELD,
    SQL_COLLECTION,
    SQL_DF,
    SQL_IDS,
    SQL_COUNT
} sql;

static const char *const texts[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_FIND] = "SELECT row, body FROM doc WHERE id = ?1 AND coll = ?2",
    [SQL_READ] = "SELECT id, ver, body FROM doc WHERE row = ?1",
    [SQL_INSERT] = "INSERT INTO doc(coll, id, ver, body) VALUES(?1, ?2, ?3, ?4)",
    [SQL_UPDATE] = "UPDATE doc SET ver = ?2, body = ?3 WHERE row = ?1",
    [SQL_DELETE] = "DELETE FROM doc WHERE row = ?1",
    [SQL_TERMS_ADD] = "INSERT INTO terms(rowid, t) VALUES(?1, ?2)",
    [SQL_TERMS_DELETE] = "INSERT INTO terms(terms, rowid, t) VALUES('delete', ?1, ?2)",
    [SQL_NUMBER_ADD] = "INSERT OR IGNORE INTO number(field, value, doc) VALUES(?1, ?2, ?3)",
    [SQL_NUMBER_DELETE] = "DELETE FROM number WHERE field = ?1 AND value = ?2 AND doc = ?3",
    [SQL_META] = "REPLACE INTO meta(k, v) VALUES(?1, ?2)",
    [SQL_FIELD] = "REPLACE INTO field VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [SQL_COLLECTION] = "REPLACE INTO collection(number, db, name, docs) VALUES(?1, ?2, ?3, ?4)",
    [SQL_DF] = "SELECT doc FROM vocab WHERE term = ?1",
    [SQL_IDS] = "SELECT row, id FROM doc WHERE coll = ?1 AND row > ?2 ORDER BY row LIMIT ?3",
};

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS doc(row INTEGER PRIMARY KEY AUTOINCREMENT, coll INT NOT NULL,"
    " id BLOB NOT NULL, ver INT NOT NULL, body BLOB NOT NULL);"
    "CREATE UNIQUE INDEX IF NOT EXISTS doc_id ON doc(id, coll);"
    "CREATE INDEX IF NOT EXISTS doc_coll ON doc(coll);"
    "CREATE VIRTUAL TABLE IF NOT EXISTS terms USING"
    " fts5(t, content='', detail=none, columnsize=0, tokenize='tidewire');"
    "CREATE VIRTUAL TABLE IF NOT EXISTS vocab USING fts5vocab('terms', 'row');"
    "CREATE TABLE IF NOT EXISTS number(field INT, value REAL, doc INT,"
    " PRIMARY KEY(field, value, doc)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS meta(k TEXT PRIMARY KEY, v);"
    "CREATE TABLE IF NOT EXISTS collection(number INTEGER PRIMARY KEY, db TEXT, name TEXT,"
    " docs INT);"
    "CREATE TABLE IF NOT EXISTS field(number INTEGER PRIMARY KEY, coll INT, name TEXT, path TEXT,"
    " told TEXT, above INT, docs INT, terms INT);";

struct embedded_table {
    uint32_t magic;
    sqlite3 *db;                         /* own */
    sqlite3_stmt *statements[SQL_COUNT]; /* own */
    const catalog *catalog;              /* borrow */
    embedded_collection *first;          /* own */
    embedded_reached reached;
    uint64_t numbers, collections;
    position_set at;
    tw_buf terms, scratch; /* own */
    int64_t row;           /* of the numbers that are written */
    tw_err number_err;
    char why[TW_ERROR_TEXT_MAX];
};

/* ---- the tokenizer: what search_terms_add has written, split again ---- */
static int tokenizer_create(void *context, const char **args, int count, Fts5Tokenizer **out)
{
    (void)args;
    (void)count;
    *out = context; /* it has no state */
    return SQLITE_OK;
}

static void tokenizer_delete(Fts5Tokenizer *tokenizer)
{
    (void)tokenizer;
}

static int tokenizer_run(Fts5Tokenizer *tokenizer, void *context, int flags, const char *text,
                         int len, int (*token)(void *, int, const char *, int, int, int))
{
    (void)tokenizer;
    (void)flags;
    int from = 0;
    for (int at = 0; at <= len; at++) {
        if (at < len && text[at] != '\x01') {
            continue;
        }
        int code = at > from ? token(context, 0, text + from, at - from, from, at) : SQLITE_OK;
        if (code != SQLITE_OK) {
            return code;
        }
        from = at + 1;
    }
    return SQLITE_OK;
}

static int add_tokenizer(sqlite3 *db)
{
    static fts5_tokenizer ours = {tokenizer_create, tokenizer_delete, tokenizer_run};
    fts5_api *api = NULL;
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, "SELECT fts5(?1)", -1, &statement, NULL);
    if (code == SQLITE_OK) {
        sqlite3_bind_pointer(statement, 1, &api, "fts5_api_ptr", NULL);
        (void)sqlite3_step(statement);
        code = sqlite3_finalize(statement);
    }
    if (code != SQLITE_OK || api == NULL) {
        return code == SQLITE_OK ? SQLITE_ERROR : code;
    }
    return api->xCreateTokenizer(api, "tidewire", &ours, &ours, NULL);
}

/* ---- errors and statements ---- */
static tw_err fail(embedded_table *self, int code)
{
    static const struct {
        int code;
        tw_err err;
    } rows[] = {{SQLITE_FULL, TW_E_DISK},       {SQLITE_NOMEM, TW_E_NO_MEMORY},
                {SQLITE_CORRUPT, TW_E_CORRUPT}, {SQLITE_NOTADB, TW_E_CORRUPT},
                {SQLITE_ERROR, TW_E_CORRUPT},   {SQLITE_IOERR, TW_E_DISK},
                {SQLITE_TOOBIG, TW_E_TOO_BIG}};
    tw_format(self->why, sizeof self->why, "search.db: %s", sqlite3_errmsg(self->db));
    for (size_t i = 0; i < TW_COUNT(rows); i++) {
        if ((code & 0xff) == rows[i].code) {
            return rows[i].err;
        }
    }
    return TW_E_INTERNAL;
}

static sqlite3_stmt *statement(embedded_table *self, sql which)
{
    sqlite3_reset(self->statements[which]);
    return self->statements[which];
}

static tw_err run(embedded_table *self, sql which)
{
    int code = sqlite3_step(self->statements[which]);
    tw_err err = code == SQLITE_DONE || code == SQLITE_ROW ? TW_OK : fail(self, code);
    sqlite3_reset(self->statements[which]);
    return err;
}

static void bind_bytes(sqlite3_stmt *at, int place, const void *ptr, size_t len)
{
    (void)sqlite3_bind_blob64(at, place, len == 0 ? "" : ptr, len, SQLITE_STATIC);
}

static void bind_number(sqlite3_stmt *at, int place, uint64_t value)
{
    (void)sqlite3_bind_int64(at, place, (sqlite3_int64)value);
}

static tw_str column(sqlite3_stmt *at, int place)
{
    const char *ptr = sqlite3_column_blob(at, place);
    return (tw_str){ptr == NULL ? "" : ptr, (size_t)sqlite3_column_bytes(at, place)};
}

/* ---- collections and fields ---- */
embedded_collection *embedded_table_collections(embedded_table *self)
{
    return self->first;
}

static embedded_collection *make_collection(embedded_table *self, tw_str db, tw_str name,
                                            const catalog_collection *rules)
{
    embedded_collection *made = tw_alloc_zero(1, sizeof *made);
    if (made == NULL) {
        return NULL;
    }
    tw_arena_init(&made->arena, COLLECTION_MEMORY_MAX);
    made->db = tw_arena_str(&made->arena, db);
    made->name = tw_arena_str(&made->arena, name);
    made->rules = rules;
    if (made->db.ptr == NULL || made->name.ptr == NULL ||
        search_mapping_init(&made->mapping, &made->arena, rules->search_mapping) != TW_OK) {
        tw_arena_fini(&made->arena);
        tw_free(made);
        return NULL;
    }
    made->next = self->first;
    self->first = made;
    return made;
}

embedded_collection *embedded_table_collection(embedded_table *self, tw_str db, tw_str name,
                                               bool create)
{
    TW_ASSERT(self->magic == EMBEDDED_TABLE_MAGIC);
    for (embedded_collection *at = self->first; at != NULL; at = at->next) {
        if (tw_str_equal(at->name, name) && tw_str_equal(at->db, db)) {
            return at;
        }
    }
    const catalog_collection *declared = catalog_find(self->catalog, db, name);
    const catalog_collection *rules = catalog_rules(self->catalog, db, name);
    if (!create || rules == NULL || (declared != NULL && !declared->searched)) {
        return NULL;
    }
    embedded_collection *made = make_collection(self, db, name, rules);
    if (made != NULL) {
        made->number = ++self->collections;
    }
    return made;
}

static tw_err save_collection(embedded_table *self, embedded_collection *held)
{
    sqlite3_stmt *at = statement(self, SQL_COLLECTION);
    bind_number(at, 1, held->number);
    bind_bytes(at, 2, held->db.ptr, held->db.len);
    bind_bytes(at, 3, held->name.ptr, held->name.len);
    bind_number(at, 4, held->docs);
    tw_err err = run(self, SQL_COLLECTION);
    for (size_t i = 0; i < held->mapping.count && err == TW_OK; i++) {
        search_field *field = &held->mapping.at[i];
        if (!field->changed || field->number == 0) {
            continue;
        }
        at = statement(self, SQL_FIELD);
        bind_number(at, 1, field->number);
        bind_number(at, 2, held->number);
        bind_bytes(at, 3, field->name.ptr, field->name.len);
        bind_bytes(at, 4, field->path.ptr, field->path.len);
        bind_bytes(at, 5, field->told.ptr, field->told.len);
        bind_number(at, 6, field->ignore_above);
        bind_number(at, 7, field->docs);
        bind_number(at, 8, field->terms);
        err = run(self, SQL_FIELD);
        field->changed = err != TW_OK;
    }
    return err;
}

static void number_fields(embedded_table *self, embedded_collection *held)
{
    for (size_t i = 0; i < held->mapping.count; i++) {
        if (held->mapping.at[i].number == 0) {
            held->mapping.at[i].number = ++self->numbers;
            held->mapping.at[i].changed = true;
        }
    }
}

/* ---- documents ---- */
static void add_number(void *context, uint64_t field, double value)
{
    embedded_table *self = context;
    sqlite3_stmt *at = statement(self, SQL_NUMBER_ADD);
    bind_number(at, 1, field);
    (void)sqlite3_bind_double(at, 2, value);
    (void)sqlite3_bind_int64(at, 3, self->row);
    tw_err err = run(self, SQL_NUMBER_ADD);
    self->number_err = self->number_err == TW_OK ? err : self->number_err;
}

static void delete_number(void *context, uint64_t field, double value)
{
    embedded_table *self = context;
    sqlite3_stmt *at = statement(self, SQL_NUMBER_DELETE);
    bind_number(at, 1, field);
    (void)sqlite3_bind_double(at, 2, value);
    (void)sqlite3_bind_int64(at, 3, self->row);
    tw_err err = run(self, SQL_NUMBER_DELETE);
    self->number_err = self->number_err == TW_OK ? err : self->number_err;
}

/* Adds a document's terms and numbers, or takes them out. */
static tw_err index_document(embedded_table *self, embedded_collection *held, int64_t row,
                             tw_bson doc, bool in)
{
    sql which = in ? SQL_TERMS_ADD : SQL_TERMS_DELETE;
    tw_buf_clear(&self->terms);
    search_terms_add(&held->mapping, doc, in ? 1 : -1, &self->terms);
    if (self->terms.err != TW_OK) {
        return self->terms.err;
    }
    sqlite3_stmt *at = statement(self, which);
    (void)sqlite3_bind_int64(at, 1, row);
    (void)sqlite3_bind_text(at, 2, self->terms.len == 0 ? "" : self->terms.ptr,
                            (int)self->terms.len, SQLITE_STATIC);
    tw_err err = run(self, which);
    self->row = row;
    self->number_err = err;
    search_numbers(&held->mapping, doc, in ? add_number : delete_number, self);
    return self->number_err;
}

/* *row 0: it is not there. *doc is valid until the next find. */
static tw_err find(embedded_table *self, const embedded_collection *held, tw_str id, int64_t *row,
                   tw_bson *doc)
{
    sqlite3_stmt *at = statement(self, SQL_FIND);
    *row = 0;
    bind_bytes(at, 1, id.ptr, id.len);
    bind_number(at, 2, held->number);
    int code = sqlite3_step(at);
    if (code == SQLITE_ROW) {
        tw_str body = column(at, 1);
        *row = sqlite3_column_int64(at, 0);
        tw_buf_clear(&self->scratch);
        tw_buf_add_str(&self->scratch, body);
        *doc = (tw_bson){(const uint8_t *)self->scratch.ptr, self->scratch.len};
    }
    sqlite3_reset(at);
    return code == SQLITE_ROW ? self->scratch.err : code == SQLITE_DONE ? TW_OK : fail(self, code);
}

tw_err embedded_table_put(embedded_table *self, embedded_collection *held, tw_str id,
                          int64_t version, tw_bson doc)
{
    int64_t row;
    tw_bson old;
    tw_err err = find(self, held, id, &row, &old);
    if (err == TW_OK && row != 0) {
        err = index_document(self, held, row, old, false);
    }
    if (err == TW_OK) {
        err = search_mapping_learn(&held->mapping, doc);
        number_fields(self, held);
    }
    sql which = row != 0 ? SQL_UPDATE : SQL_INSERT;
    sqlite3_stmt *at = statement(self, which);
    if (err == TW_OK && row != 0) {
        (void)sqlite3_bind_int64(at, 1, row);
        (void)sqlite3_bind_int64(at, 2, version);
        bind_bytes(at, 3, doc.ptr, doc.len);
        err = run(self, which);
    } else if (err == TW_OK) {
        bind_number(at, 1, held->number);
        bind_bytes(at, 2, id.ptr, id.len);
        (void)sqlite3_bind_int64(at, 3, version);
        bind_bytes(at, 4, doc.ptr, doc.len);
        err = run(self, which);
        row = sqlite3_last_insert_rowid(self->db);
        held->docs++;
    }
    return err == TW_OK ? index_document(self, held, row, doc, true) : err;
}

tw_err embedded_table_remove(embedded_table *self, embedded_collection *held, tw_str id)
{
    int64_t row;
    tw_bson old;
    tw_err err = find(self, held, id, &row, &old);
    if (err != TW_OK || row == 0) {
        return err;
    }
    err = index_document(self, held, row, old, false);
    (void)sqlite3_bind_int64(statement(self, SQL_DELETE), 1, row);
    held->docs--;
    return err == TW_OK ? run(self, SQL_DELETE) : err;
}

tw_err embedded_table_empty(embedded_table *self, embedded_collection *held)
{
    tw_arena arena;
    int64_t *rows = NULL;
    size_t count = 0;
    tw_arena_init(&arena, TERMS_TEXT_MAX);
    tw_err err = embedded_table_candidates(self, &arena, held, (tw_str){NULL, 0}, 0, &rows, &count);
    for (size_t i = 0; i < count && err == TW_OK; i++) {
        embedded_document one;
        if (embedded_table_document(self, rows[i], &one)) {
            tw_str id = tw_arena_str(&arena, one.id);
            err = id.ptr == NULL ? TW_E_NO_MEMORY : embedded_table_remove(self, held, id);
        }
    }
    tw_arena_fini(&arena);
    return err;
}

bool embedded_table_document(embedded_table *self, int64_t row, embedded_document *out)
{
    sqlite3_stmt *at = statement(self, SQL_READ);
    (void)sqlite3_bind_int64(at, 1, row);
    if (sqlite3_step(at) != SQLITE_ROW) {
        sqlite3_reset(at);
        return false;
    }
    tw_str body = column(at, 2);
    *out = (embedded_document){
        column(at, 0), sqlite3_column_int64(at, 1), {(const uint8_t *)body.ptr, body.len}};
    return true; /* the statement is reset by its next use */
}

tw_err embedded_table_candidates(embedded_table *self, tw_arena *arena,
                                 const embedded_collection *held, tw_str narrowed, int64_t after,
                                 int64_t **out, size_t *count)
{
    tw_buf text;
    size_t cap = 0;
    sqlite3_stmt *at = NULL;
    tw_buf_init(&text, TERMS_TEXT_MAX);
    /* The plus keeps SQLite from reading all rows of the collection: the narrowed ones are few. */
    tw_buf_format(&text, "SELECT row FROM doc WHERE %scoll = %llu AND %srow > %lld",
                  narrowed.len > 0 ? "+" : "", (unsigned long long)held->number,
                  narrowed.len > 0 ? "+" : "", (long long)after);
    if (narrowed.len > 0) {
        tw_buf_add_str(&text, TW_STR(" AND row IN ("));
        tw_buf_add_str(&text, narrowed);
        tw_buf_add_byte(&text, ')');
    }
    tw_buf_add_str(&text, TW_STR(" ORDER BY row"));
    *count = 0;
    int code = text.err != TW_OK ? SQLITE_NOMEM
                                 : sqlite3_prepare_v2(self->db, text.ptr, (int)text.len, &at, NULL);
    while (code == SQLITE_OK && (code = sqlite3_step(at)) == SQLITE_ROW) {
        if (*count == cap) {
            size_t grown = cap == 0 ? 256 : cap * 2;
            int64_t *more = tw_arena_alloc(arena, grown * sizeof *more);
            if (more == NULL) {
                code = SQLITE_NOMEM;
                break;
            }
            if (cap > 0) { /* before there is nothing to copy from */
                memcpy(more, *out, cap * sizeof *more);
            }
            *out = more;
            cap = grown;
        }
        (*out)[(*count)++] = sqlite3_column_int64(at, 0);
        code = SQLITE_OK;
    }
    tw_err err = code == SQLITE_DONE ? TW_OK : fail(self, code);
    (void)sqlite3_finalize(at);
    tw_buf_fini(&text);
    return err;
}

uint64_t embedded_table_df(embedded_table *self, uint64_t field, tw_str term)
{
    sqlite3_stmt *at = statement(self, SQL_DF);
    tw_buf_clear(&self->terms);
    tw_buf_format(&self->terms, "%llu\x02", (unsigned long long)field);
    tw_buf_add_str(&self->terms, term);
    (void)sqlite3_bind_text(at, 1, self->terms.ptr, (int)self->terms.len, SQLITE_STATIC);
    uint64_t docs = sqlite3_step(at) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(at, 0) : 0;
    sqlite3_reset(at);
    return docs;
}

tw_err embedded_table_ids(embedded_table *self, tw_arena *arena, const embedded_collection *held,
                          int64_t after, embedded_held *out, size_t max, size_t *count)
{
    sqlite3_stmt *at = statement(self, SQL_IDS);
    bind_number(at, 1, held->number);
    (void)sqlite3_bind_int64(at, 2, after);
    bind_number(at, 3, max);
    tw_err err = TW_OK;
    int code = SQLITE_ROW;
    for (*count = 0; err == TW_OK && (code = sqlite3_step(at)) == SQLITE_ROW; (*count)++) {
        TW_ASSERT(*count < max);
        out[*count] =
            (embedded_held){sqlite3_column_int64(at, 0), tw_arena_str(arena, column(at, 1))};
        err = out[*count].id.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    }
    err = err == TW_OK && code != SQLITE_DONE ? fail(self, code) : err;
    sqlite3_reset(at);
    return err;
}

/* ---- transactions ---- */
tw_err embedded_table_begin(embedded_table *self)
{
    sqlite3_reset(self->statements[SQL_READ]);
    return run(self, SQL_BEGIN);
}

static tw_err save_meta(embedded_table *self, const char *name, uint64_t value)
{
    sqlite3_stmt *at = statement(self, SQL_META);
    (void)sqlite3_bind_text(at, 1, name, -1, SQLITE_STATIC);
    bind_number(at, 2, value);
    return run(self, SQL_META);
}

static tw_err save_at(embedded_table *self, tw_vector at)
{
    sqlite3_stmt *meta = statement(self, SQL_META);
    (void)sqlite3_bind_text(meta, 1, "at", -1, SQLITE_STATIC);
    bind_bytes(meta, 2, at.at, at.count * sizeof *at.at);
    return run(self, SQL_META);
}

/* Numbers that are as they were are not written again. */
static tw_err save_reached(embedded_table *self, const embedded_reached *reached)
{
    const struct {
        const char *name;
        uint64_t was, is;
    } rows[] = {{"srv", self->reached.srv, reached->srv},
                {"n", self->reached.n, reached->n},
                {"floor", self->reached.floor, reached->floor},
                {"doubted", self->reached.doubted, reached->doubted}};
    tw_err err = TW_OK;
    for (size_t i = 0; i < TW_COUNT(rows) && err == TW_OK; i++) {
        err = rows[i].was == rows[i].is ? TW_OK : save_meta(self, rows[i].name, rows[i].is);
    }
    return err;
}

tw_err embedded_table_end(embedded_table *self, const embedded_reached *reached, tw_vector at)
{
    tw_err err = save_reached(self, reached);
    err = err == TW_OK && at.count > 0 ? save_at(self, at) : err;
    for (embedded_collection *held = self->first; held != NULL && err == TW_OK; held = held->next) {
        err = save_collection(self, held);
    }
    err = err == TW_OK ? run(self, SQL_COMMIT) : err;
    if (err != TW_OK) {
        char why[TW_ERROR_TEXT_MAX];
        tw_format(why, sizeof why, "%s", self->why);
        (void)(run(self, SQL_ROLLBACK) == TW_OK);
        tw_format(self->why, sizeof self->why, "%s", why);
        return err;
    }
    self->reached = *reached;
    for (size_t i = 0; i < at.count; i++) {
        (void)(position_set_raise(&self->at, at.at[i]) == TW_OK); /* as_of says less */
    }
    return TW_OK;
}

static void forget_collections(embedded_table *self)
{
    while (self->first != NULL) {
        embedded_collection *held = self->first;
        self->first = held->next;
        tw_arena_fini(&held->arena);
        tw_free(held);
    }
}

static void unload(embedded_table *self)
{
    forget_collections(self);
    self->reached = (embedded_reached){.n = 0};
    self->numbers = self->collections = 0;
    self->at = (position_set){.count = 0};
}

/* What the declared mappings are: others need another index. */
static uint64_t mappings_hash(const catalog *known)
{
    uint64_t hash = VERSION;
    for (size_t i = 0; i < known->count; i++) {
        const catalog_collection *one = &known->at[i];
        if (one->searched) {
            hash = tw_hash(one->database, strlen(one->database), hash);
            hash = tw_hash(one->name, strlen(one->name), hash);
            hash = tw_hash(one->search_mapping.ptr, one->search_mapping.len, hash);
        }
    }
    return hash & INT64_MAX;
}

tw_err embedded_table_forget(embedded_table *self)
{
    static const char sweep[] =
        "BEGIN; DELETE FROM doc; DELETE FROM number; DELETE FROM meta; DELETE FROM field;"
        " DELETE FROM collection; INSERT INTO terms(terms) VALUES('delete-all'); COMMIT";
    sqlite3_reset(self->statements[SQL_READ]);
    int code = sqlite3_exec(self->db, sweep, NULL, NULL, NULL);
    if (code != SQLITE_OK) {
        tw_err err = fail(self, code);
        (void)sqlite3_exec(self->db, "ROLLBACK", NULL, NULL, NULL);
        return err;
    }
    unload(self);
    return save_meta(self, "mappings", mappings_hash(self->catalog));
}

/* ---- opening ---- */
static tw_err each_row(embedded_table *self, const char *text,
                       tw_err (*take)(embedded_table *self, sqlite3_stmt *at))
{
    sqlite3_stmt *at = NULL;
    tw_err err = TW_OK;
    int code = sqlite3_prepare_v2(self->db, text, -1, &at, NULL);
    while (code == SQLITE_OK && err == TW_OK && (code = sqlite3_step(at)) == SQLITE_ROW) {
        err = take(self, at);
        code = SQLITE_OK;
    }
    err = err == TW_OK && code != SQLITE_DONE ? fail(self, code) : err;
    (void)sqlite3_finalize(at);
    return err;
}

static tw_err take_collection(embedded_table *self, sqlite3_stmt *at)
{
    tw_str db = column(at, 1);
    tw_str name = column(at, 2);
    const catalog_collection *rules = catalog_rules(self->catalog, db, name);
    if (rules == NULL) {
        return TW_E_CORRUPT; /* strict now: begun anew */
    }
    embedded_collection *made = make_collection(self, db, name, rules);
    if (made == NULL) {
        return TW_E_NO_MEMORY;
    }
    made->number = (uint64_t)sqlite3_column_int64(at, 0);
    made->docs = (uint64_t)sqlite3_column_int64(at, 3);
    self->collections = made->number > self->collections ? made->number : self->collections;
    return TW_OK;
}

static tw_err take_field(embedded_table *self, sqlite3_stmt *at)
{
    uint64_t number = (uint64_t)sqlite3_column_int64(at, 0);
    uint64_t coll = (uint64_t)sqlite3_column_int64(at, 1);
    embedded_collection *held = self->first;
    while (held != NULL && held->number != coll) {
        held = held->next;
    }
    search_field *field = held == NULL ? NULL
                                       : search_mapping_add(&held->mapping, column(at, 2),
                                                            column(at, 3), column(at, 4));
    if (field == NULL) {
        return TW_E_CORRUPT;
    }
    field->number = number;
    field->ignore_above = (size_t)sqlite3_column_int64(at, 5);
    field->docs = (uint64_t)sqlite3_column_int64(at, 6);
    field->terms = (uint64_t)sqlite3_column_int64(at, 7);
    field->changed = false;
    self->numbers = number > self->numbers ? number : self->numbers;
    return TW_OK;
}

static tw_err take_meta(embedded_table *self, sqlite3_stmt *at)
{
    tw_str name = column(at, 0);
    tw_str bytes = column(at, 1);
    if (tw_str_equal(name, TW_STR("srv"))) {
        self->reached.srv = (uint64_t)sqlite3_column_int64(at, 1);
    } else if (tw_str_equal(name, TW_STR("n"))) {
        self->reached.n = (uint64_t)sqlite3_column_int64(at, 1);
    } else if (tw_str_equal(name, TW_STR("floor"))) {
        self->reached.floor = (uint64_t)sqlite3_column_int64(at, 1);
    } else if (tw_str_equal(name, TW_STR("doubted"))) {
        self->reached.doubted = sqlite3_column_int64(at, 1) != 0;
    } else if (tw_str_equal(name, TW_STR("mappings"))) {
        bool same = (uint64_t)sqlite3_column_int64(at, 1) == mappings_hash(self->catalog);
        return same ? TW_OK : TW_E_CORRUPT;
    } else if (tw_str_equal(name, TW_STR("at"))) {
        for (size_t i = 0; i + sizeof(tw_position) <= bytes.len; i += sizeof(tw_position)) {
            tw_position one;
            memcpy(&one, bytes.ptr + i, sizeof one);
            (void)(position_set_raise(&self->at, one) == TW_OK);
        }
    }
    return TW_OK;
}

/* Reads what is known in memory; nothing of it is. */
static tw_err load(embedded_table *self)
{
    tw_err err = each_row(self, "SELECT k, v FROM meta", take_meta);
    err = err == TW_OK ? each_row(self, "SELECT * FROM collection", take_collection) : err;
    return err == TW_OK ? each_row(self, "SELECT * FROM field", take_field) : err;
}

static tw_err open_file(embedded_table *self, const char *path)
{
    int code =
        sqlite3_open_v2(path == NULL ? ":memory:" : path, &self->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) {
        code = add_tokenizer(self->db);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_exec(self->db,
                            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                            "PRAGMA cache_size=-16384; PRAGMA temp_store=MEMORY",
                            NULL, NULL, NULL);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_exec(self->db, schema, NULL, NULL, NULL);
    }
    for (size_t i = 0; i < SQL_COUNT && code == SQLITE_OK; i++) {
        code = sqlite3_prepare_v3(self->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                                  &self->statements[i], NULL);
    }
    if (code != SQLITE_OK) {
        return fail(self, code);
    }
    return load(self);
}

static void close_file(embedded_table *self)
{
    for (size_t i = 0; i < SQL_COUNT; i++) {
        (void)sqlite3_finalize(self->statements[i]);
        self->statements[i] = NULL;
    }
    (void)sqlite3_close(self->db);
    self->db = NULL;
    unload(self);
}

tw_err embedded_table_reload(embedded_table *self)
{
    TW_ASSERT(self->magic == EMBEDDED_TABLE_MAGIC);
    for (size_t i = 0; i < SQL_COUNT; i++) {
        sqlite3_reset(self->statements[i]);
    }
    if (sqlite3_get_autocommit(self->db) == 0) {
        int code = sqlite3_exec(self->db, "ROLLBACK", NULL, NULL, NULL);
        if (code != SQLITE_OK) {
            return fail(self, code);
        }
    }
    unload(self);
    return load(self);
}

static void delete_file(const char *path)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char name[4200];
    for (size_t i = 0; i < TW_COUNT(ends); i++) {
        tw_format(name, sizeof name, "%s%s", path, ends[i]);
        (void)unlink(name);
    }
}

tw_err embedded_table_open(embedded_table **out, const catalog *known, const char *path)
{
    embedded_table *self = tw_alloc_zero(1, sizeof *self);
    *out = self;
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->magic = EMBEDDED_TABLE_MAGIC;
    self->catalog = known;
    tw_buf_init(&self->terms, TERMS_TEXT_MAX);
    tw_buf_init(&self->scratch, TW_DOCUMENT_MAX);
    tw_err err = open_file(self, path);
    if (err == TW_E_CORRUPT && path != NULL) { /* all that is in it is in the log too */
        close_file(self);
        delete_file(path);
        err = open_file(self, path);
    }
    if (err == TW_OK && self->reached.n == 0) {
        err = save_meta(self, "mappings", mappings_hash(known));
    }
    return err;
}

void embedded_table_close(embedded_table **table)
{
    embedded_table *self = *table;
    if (self != NULL) {
        close_file(self);
        tw_buf_fini(&self->terms);
        tw_buf_fini(&self->scratch);
        tw_free(self);
    }
    *table = NULL;
}

const char *embedded_table_why(const embedded_table *self)
{
    return self == NULL ? "" : self->why;
}

const embedded_reached *embedded_table_reached(const embedded_table *self)
{
    return &self->reached;
}

const position_set *embedded_table_at(const embedded_table *self)
{
    return &self->at;
}

uint64_t embedded_table_docs(const embedded_table *self)
{
    uint64_t docs = 0;
    for (const embedded_collection *at = self->first; at != NULL; at = at->next) {
        docs += at->docs;
    }
    return docs;
}
