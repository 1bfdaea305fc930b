/* log_table_beside.c - what stands beside the rows: collections, scopes, origins, marks, operation
 * ids, and what is still readable of a damaged file. See log_table.h. */
#include "actors/log/log_table.h"
#include "actors/log/log_table_priv.h"

static tw_str column_text(sqlite3_stmt *from, int column)
{
    const void *at = sqlite3_column_blob(from, column);
    size_t len = (size_t)sqlite3_column_bytes(from, column);
    return (tw_str){at == NULL ? "" : at, len};
}

static void bind_text(sqlite3_stmt *to, int at, tw_str text)
{
    sqlite3_bind_text(to, at, text.len == 0 ? "" : text.ptr, (int)text.len, SQLITE_STATIC);
}

static void bind_blob(sqlite3_stmt *to, int at, const void *bytes, size_t len)
{
    sqlite3_bind_blob(to, at, len == 0 ? "" : bytes, (int)len, SQLITE_STATIC);
}

static tw_err finish(log_table *table, sqlite3_stmt *statement)
{
    tw_err err = log_table_step(table, statement);
    if (err == TW_OK) {
        sqlite3_reset(statement);
    }
    return err == TW_E_END ? TW_OK : err;
}

/* ---- checksums ---- */

enum { SUM_TEXTS = 3 };

static sqlite3_int64 sum_of(const uint64_t *numbers, size_t count, const tw_str texts[SUM_TEXTS])
{
    uint64_t hash = tw_hash(numbers, count * sizeof *numbers, 7);
    for (size_t i = 0; i < SUM_TEXTS; i++) { /* with its length: a byte must not change sides */
        hash = tw_hash(texts[i].len == 0 ? "" : texts[i].ptr, texts[i].len, hash + texts[i].len);
    }
    return (sqlite3_int64)(uint32_t)(hash ^ hash >> 32);
}

/* Compares what is stored in a column with what it should be. */
static tw_err check_sum(log_table *table, sqlite3_stmt *from, int column, sqlite3_int64 sum)
{
    if (sqlite3_column_type(from, column) == SQLITE_NULL ||
        sqlite3_column_int64(from, column) == sum) {
        return TW_OK;
    }
    tw_format(table->why, sizeof table->why, "%s: what stands beside the rows is damaged",
              table->path);
    return TW_E_CORRUPT;
}

static sqlite3_int64 sum_of_incarnation(const log_table_incarnation *of)
{
    const uint64_t numbers[] = {of->id, of->dropped, (uint64_t)of->ver_base};
    const tw_str texts[SUM_TEXTS] = {of->db, of->name, of->scope_field};
    return sum_of(numbers, TW_COUNT(numbers), texts);
}

static sqlite3_int64 sum_of_scope(uint32_t code, tw_key value)
{
    const uint64_t numbers[] = {code};
    const tw_str texts[SUM_TEXTS] = {{(const char *)value.ptr, value.len}};
    return sum_of(numbers, TW_COUNT(numbers), texts);
}

static sqlite3_int64 sum_of_origin(const log_table_origin *of)
{
    const uint64_t numbers[] = {of->id, of->srv, of->floor, of->floor_multi, of->applied_ms};
    const tw_str texts[SUM_TEXTS] = {of->token};
    return sum_of(numbers, TW_COUNT(numbers), texts);
}

static sqlite3_int64 sum_of_mark(const log_mark *of)
{
    const uint64_t numbers[] = {of->n, of->time_ms, of->bytes};
    const tw_str texts[SUM_TEXTS] = {0};
    return sum_of(numbers, TW_COUNT(numbers), texts);
}

static sqlite3_int64 sum_of_number(const char *name, uint64_t value)
{
    const tw_str texts[SUM_TEXTS] = {tw_str_of(name)};
    return sum_of(&value, 1, texts);
}

static sqlite3_int64 sum_of_opids(uint64_t group, uint64_t time_ms, tw_str body)
{
    const uint64_t numbers[] = {group, time_ms};
    const tw_str texts[SUM_TEXTS] = {body};
    return sum_of(numbers, TW_COUNT(numbers), texts);
}

/* ---- reading and writing ---- */

/* After a loop over rows: the end of the rows is no error. */
static tw_err ended(sqlite3_stmt *from, tw_err err)
{
    sqlite3_reset(from);
    return err == TW_E_END ? TW_OK : err;
}

tw_err log_table_incarnations(log_table *table, void *context,
                              tw_err (*each)(void *, const log_table_incarnation *))
{
    sqlite3_stmt *from = log_table_statement(table, SQL_INCARNATIONS);
    tw_err err;
    while ((err = log_table_step(table, from)) == TW_OK) {
        const log_table_incarnation incarnation = {
            .id = (uint32_t)sqlite3_column_int64(from, 0),
            .db = column_text(from, 1),
            .name = column_text(from, 2),
            .scope_field = column_text(from, 3),
            .dropped = (uint64_t)sqlite3_column_int64(from, 4),
            .ver_base = sqlite3_column_int64(from, 5),
        };
        err = check_sum(table, from, 6, sum_of_incarnation(&incarnation));
        if (err == TW_OK) {
            err = each(context, &incarnation);
        } else if (table->is_salvage) {
            continue;
        }
        if (err != TW_OK) {
            break;
        }
    }
    return ended(from, err);
}

tw_err log_table_save_incarnation(log_table *table, const log_table_incarnation *incarnation)
{
    sqlite3_stmt *to = log_table_statement(table, SQL_INCARNATION_SAVE);
    TW_ASSERT(incarnation->id > 0);
    sqlite3_bind_int64(to, 1, incarnation->id);
    bind_text(to, 2, incarnation->db);
    bind_text(to, 3, incarnation->name);
    bind_text(to, 4, incarnation->scope_field);
    sqlite3_bind_int64(to, 5, (sqlite3_int64)incarnation->dropped);
    sqlite3_bind_int64(to, 6, incarnation->ver_base);
    sqlite3_bind_int64(to, 7, sum_of_incarnation(incarnation));
    return finish(table, to);
}

tw_err log_table_delete_incarnation(log_table *table, uint32_t id)
{
    sqlite3_stmt *to = log_table_statement(table, SQL_INCARNATION_DELETE);
    sqlite3_bind_int64(to, 1, id);
    return finish(table, to);
}

tw_err log_table_scopes(log_table *table, void *context,
                        tw_err (*each)(void *, uint32_t code, tw_key value))
{
    sqlite3_stmt *from = log_table_statement(table, SQL_SCOPES);
    tw_err err;
    while ((err = log_table_step(table, from)) == TW_OK) {
        tw_str text = column_text(from, 1);
        tw_key value = {(const uint8_t *)text.ptr, text.len};
        uint32_t code = (uint32_t)sqlite3_column_int64(from, 0);
        err = check_sum(table, from, 2, sum_of_scope(code, value));
        if (err == TW_OK) {
            err = each(context, code, value);
        } else if (table->is_salvage) {
            continue;
        }
        if (err != TW_OK) {
            break;
        }
    }
    return ended(from, err);
}

tw_err log_table_save_scope(log_table *table, uint32_t code, tw_key value)
{
    sqlite3_stmt *to = log_table_statement(table, SQL_SCOPE_SAVE);
    TW_ASSERT(code >= LOG_SCOPE_FIRST);
    sqlite3_bind_int64(to, 1, code);
    bind_blob(to, 2, value.ptr, value.len);
    sqlite3_bind_int64(to, 3, sum_of_scope(code, value));
    return finish(table, to);
}

tw_err log_table_origins(log_table *table, void *context,
                         tw_err (*each)(void *, const log_table_origin *))
{
    sqlite3_stmt *from = log_table_statement(table, SQL_ORIGINS);
    tw_err err;
    while ((err = log_table_step(table, from)) == TW_OK) {
        const log_table_origin origin = {
            .id = (uint32_t)sqlite3_column_int64(from, 0),
            .srv = (uint64_t)sqlite3_column_int64(from, 1),
            .floor = (uint64_t)sqlite3_column_int64(from, 2),
            .floor_multi = sqlite3_column_int(from, 3) != 0,
            .token = column_text(from, 4),
            .applied_ms = (uint64_t)sqlite3_column_int64(from, 5),
        };
        err = check_sum(table, from, 6, sum_of_origin(&origin));
        if (err == TW_OK) {
            err = each(context, &origin);
        } else if (table->is_salvage) {
            continue;
        }
        if (err != TW_OK) {
            break;
        }
    }
    return ended(from, err);
}

tw_err log_table_save_origin(log_table *table, const log_table_origin *origin)
{
    sqlite3_stmt *to = log_table_statement(table, SQL_ORIGIN_SAVE);
    TW_ASSERT(origin->id > 0);
    sqlite3_bind_int64(to, 1, origin->id);
    sqlite3_bind_int64(to, 2, (sqlite3_int64)origin->srv);
    sqlite3_bind_int64(to, 3, (sqlite3_int64)origin->floor);
    sqlite3_bind_int(to, 4, origin->floor_multi);
    bind_blob(to, 5, origin->token.ptr, origin->token.len);
    sqlite3_bind_int64(to, 6, (sqlite3_int64)origin->applied_ms);
    sqlite3_bind_int64(to, 7, sum_of_origin(origin));
    return finish(table, to);
}

tw_err log_table_marks(log_table *table, void *context, tw_err (*each)(void *, const log_mark *))
{
    sqlite3_stmt *from = log_table_statement(table, SQL_MARKS);
    tw_err err;
    while ((err = log_table_step(table, from)) == TW_OK) {
        const log_mark mark = {(uint64_t)sqlite3_column_int64(from, 0),
                               (uint64_t)sqlite3_column_int64(from, 1),
                               (uint64_t)sqlite3_column_int64(from, 2)};
        err = check_sum(table, from, 3, sum_of_mark(&mark));
        if (err == TW_OK) {
            err = each(context, &mark);
        } else if (table->is_salvage) {
            continue;
        }
        if (err != TW_OK) {
            break;
        }
    }
    return ended(from, err);
}

tw_err log_table_save_mark(log_table *table, const log_mark *mark)
{
    sqlite3_stmt *to = log_table_statement(table, SQL_MARK_SAVE);
    sqlite3_bind_int64(to, 1, (sqlite3_int64)mark->n);
    sqlite3_bind_int64(to, 2, (sqlite3_int64)mark->time_ms);
    sqlite3_bind_int64(to, 3, (sqlite3_int64)mark->bytes);
    sqlite3_bind_int64(to, 4, sum_of_mark(mark));
    return finish(table, to);
}

tw_err log_table_forget_marks(log_table *table, uint64_t below)
{
    sqlite3_stmt *to = log_table_statement(table, SQL_MARKS_FORGET);
    sqlite3_bind_int64(to, 1, (sqlite3_int64)below);
    return finish(table, to);
}

tw_err log_table_number(log_table *table, const char *name, uint64_t *out)
{
    sqlite3_stmt *from = log_table_statement(table, SQL_NUMBER);
    sqlite3_bind_text(from, 1, name, -1, SQLITE_STATIC);
    tw_err err = log_table_step(table, from);
    *out = err == TW_OK ? (uint64_t)sqlite3_column_int64(from, 0) : 0;
    if (err == TW_OK) {
        err = check_sum(table, from, 1, sum_of_number(name, *out));
    }
    return ended(from, err);
}

tw_err log_table_save_number(log_table *table, const char *name, uint64_t value)
{
    sqlite3_stmt *to = log_table_statement(table, SQL_NUMBER_SAVE);
    sqlite3_bind_text(to, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(to, 2, (sqlite3_int64)value);
    sqlite3_bind_int64(to, 3, sum_of_number(name, value));
    return finish(table, to);
}

/* ---- operation ids ---- */

tw_err log_table_opids(log_table *table, uint64_t from, uint64_t upto,
                       tw_err (*each)(void *, uint64_t, uint64_t, tw_str), void *context)
{
    sqlite3_stmt *groups = log_table_statement(table, SQL_OPIDS);
    sqlite3_bind_int64(groups, 1, (sqlite3_int64)from);
    sqlite3_bind_int64(groups, 2, (sqlite3_int64)upto);
    tw_err err;
    while ((err = log_table_step(table, groups)) == TW_OK) {
        uint64_t group = (uint64_t)sqlite3_column_int64(groups, 0);
        uint64_t time_ms = (uint64_t)sqlite3_column_int64(groups, 1);
        tw_str body = column_text(groups, 2);
        err = check_sum(table, groups, 3, sum_of_opids(group, time_ms, body));
        if (err == TW_OK) {
            err = each(context, group, time_ms, body);
        } else if (table->is_salvage) {
            continue;
        }
        if (err != TW_OK) {
            break;
        }
    }
    return ended(groups, err);
}

tw_err log_table_save_opids(log_table *table, uint64_t group, uint64_t time_ms, tw_str body)
{
    sqlite3_stmt *to = log_table_statement(table, SQL_OPIDS_SAVE);
    TW_ASSERT(group > 0 && body.len > 0);
    sqlite3_bind_int64(to, 1, (sqlite3_int64)group);
    sqlite3_bind_int64(to, 2, (sqlite3_int64)time_ms);
    bind_blob(to, 3, body.ptr, body.len);
    sqlite3_bind_int64(to, 4, sum_of_opids(group, time_ms, body));
    return finish(table, to);
}

tw_err log_table_forget_opids(log_table *table, uint64_t group)
{
    sqlite3_stmt *to = log_table_statement(table, SQL_OPIDS_FORGET);
    sqlite3_bind_int64(to, 1, (sqlite3_int64)group);
    return finish(table, to);
}

/* ---- damage ---- */

typedef struct salvage {
    log_table *table;
    log_table_each each;
    void *context;
    uint64_t bad;
} salvage;

/* Takes rows of a statement from the last that was taken on, upwards or downwards, up to the first
 * page that cannot be read. The end of the rows, or TW_E_CORRUPT, or what `each` says. */
static tw_err salvage_some(salvage *self, sqlite3_stmt *from, bool is_up, uint64_t *last)
{
    tw_err err;
    while ((err = log_table_step(self->table, from)) == TW_OK) {
        log_row row;
        err = log_table_row(self->table, from, (uint64_t)sqlite3_column_int64(from, 0), true, &row);
        bool is_next = is_up ? row.n > *last : row.n < *last; /* a damaged tree may go in circles */
        if (!is_next) {
            sqlite3_reset(from);
            return TW_E_CORRUPT;
        }
        *last = row.n;
        if (err != TW_OK) {
            self->bad++;
            continue;
        }
        err = self->each(self->context, &row);
        if (err != TW_OK) {
            sqlite3_reset(from);
            return err == TW_E_CORRUPT ? TW_E_INTERNAL : err;
        }
    }
    return err;
}

/* What stands behind a hole was found at a guess: goes down from there to the hole's other side. */
static tw_err salvage_down(salvage *self, uint64_t low, uint64_t high)
{
    sqlite3_stmt *from = log_table_statement(self->table, SQL_SALVAGE_DOWN);
    if (from == NULL || low + 1 >= high) {
        return TW_OK;
    }
    sqlite3_bind_int64(from, 1, (sqlite3_int64)low);
    sqlite3_bind_int64(from, 2, (sqlite3_int64)high);
    tw_err err = salvage_some(self, from, false, &high);
    return err == TW_E_END || err == TW_E_CORRUPT ? TW_OK : err;
}

/* What is worth trying again behind it; all else (no memory, a failed device) ends the salvage. */
static bool is_hole(tw_err err)
{
    return err == TW_E_CORRUPT || err == TW_E_INTERNAL;
}

tw_err log_table_salvage(log_table *table, log_table_each each, void *context, uint64_t *bad)
{
    TW_ASSERT(bad != NULL);
    salvage self = {table, each, context, 0};
    sqlite3_stmt *up = log_table_statement(table, SQL_SALVAGE_UP);
    uint64_t taken = 0; /* the last row before the hole */
    uint64_t skip = 0;  /* doubles while nothing can be read: a large hole costs little */
    tw_err err = up == NULL ? TW_E_END : TW_E_CORRUPT;
    while (is_hole(err) && skip < 1ULL << 40) {
        uint64_t from = taken + skip + 1;
        uint64_t last = from - 1;
        sqlite3_reset(up);
        sqlite3_bind_int64(up, 1, (sqlite3_int64)from);
        err = log_table_step(table, up);
        uint64_t first = err == TW_OK ? (uint64_t)sqlite3_column_int64(up, 0) : 0;
        sqlite3_reset(up);
        if (err == TW_OK && first >= from && first <= TW_SEQNO_MAX) {
            err = salvage_down(&self, taken, first);
            if (err == TW_OK) {
                err = salvage_some(&self, up, true, &last);
            }
            taken = last >= from ? last : taken;
        } else if (err == TW_OK) {
            err = TW_E_CORRUPT;
        }
        skip = last >= from ? 0 : skip * 2 + 1;
        self.bad += is_hole(err) ? 1 : 0;
    }
    *bad = self.bad;
    return err == TW_E_END || is_hole(err) ? TW_OK : err;
}
