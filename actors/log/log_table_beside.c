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
        err = each(context, &incarnation);
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
        tw_str value = column_text(from, 1);
        err = each(context, (uint32_t)sqlite3_column_int64(from, 0),
                   (tw_key){(const uint8_t *)value.ptr, value.len});
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
        err = each(context, &origin);
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
        err = each(context, &mark);
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
    return ended(from, err);
}

tw_err log_table_save_number(log_table *table, const char *name, uint64_t value)
{
    sqlite3_stmt *to = log_table_statement(table, SQL_NUMBER_SAVE);
    sqlite3_bind_text(to, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(to, 2, (sqlite3_int64)value);
    return finish(table, to);
}

/* ---- operation ids ---- */

tw_err log_table_opid(log_table *table, tw_arena *arena, tw_str id, log_opid *out)
{
    sqlite3_stmt *from = log_table_statement(table, SQL_OPID);
    bind_blob(from, 1, id.ptr, id.len);
    tw_err err = log_table_step(table, from);
    if (err != TW_OK) {
        return err == TW_E_END ? TW_E_NOT_FOUND : err;
    }
    tw_str key = column_text(from, 1);
    *out = (log_opid){
        .id = id,
        .time_ms = (uint64_t)sqlite3_column_int64(from, 0),
        .key = tw_arena_key(arena, (tw_key){(const uint8_t *)key.ptr, key.len}),
        .version = sqlite3_column_int64(from, 2),
        .seqno = (uint64_t)sqlite3_column_int64(from, 3),
        .count = (uint64_t)sqlite3_column_int64(from, 4),
    };
    sqlite3_reset(from);
    return out->key.len > 0 && out->key.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
}

tw_err log_table_save_opid(log_table *table, const log_opid *opid)
{
    sqlite3_stmt *to = log_table_statement(table, SQL_OPID_SAVE);
    TW_ASSERT(opid->id.len > 0);
    bind_blob(to, 1, opid->id.ptr, opid->id.len);
    sqlite3_bind_int64(to, 2, (sqlite3_int64)opid->time_ms);
    bind_blob(to, 3, opid->key.ptr, opid->key.len);
    sqlite3_bind_int64(to, 4, opid->version);
    sqlite3_bind_int64(to, 5, (sqlite3_int64)opid->seqno);
    sqlite3_bind_int64(to, 6, (sqlite3_int64)opid->count);
    return finish(table, to);
}

tw_err log_table_forget_opids(log_table *table, uint64_t before_ms, uint64_t count_max,
                              uint64_t most)
{
    sqlite3_stmt *last = log_table_statement(table, SQL_OPID_LAST);
    tw_err err = log_table_step(table, last);
    int64_t newest = err == TW_OK ? sqlite3_column_int64(last, 0) : 0;
    err = ended(last, err);
    if (err != TW_OK || newest == 0) {
        return err;
    }
    sqlite3_stmt *to = log_table_statement(table, SQL_OPIDS_FORGET);
    sqlite3_bind_int64(to, 1, (sqlite3_int64)most);
    sqlite3_bind_int64(to, 2, (sqlite3_int64)before_ms);
    sqlite3_bind_int64(to, 3, newest - (int64_t)count_max);
    return finish(table, to);
}

/* ---- damage ---- */

tw_err log_table_run(log_table *table, const char *sql)
{
    TW_ASSERT(table->is_writer && table->in_transaction);
    int code = sqlite3_exec(table->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? TW_OK : log_table_fail(table, code);
}

tw_err log_table_salvage(log_table *table, log_table_each each, void *context, uint64_t *bad)
{
    TW_ASSERT(bad != NULL);
    *bad = 0;
    sqlite3_stmt *last = log_table_statement(table, SQL_SALVAGE_LAST);
    tw_err err = log_table_step(table, last);
    uint64_t upto = err == TW_OK ? (uint64_t)sqlite3_column_int64(last, 0) : TW_SEQNO_MAX;
    if (last != NULL) {
        sqlite3_reset(last);
    }
    sqlite3_stmt *from = log_table_statement(table, SQL_SALVAGE_UP);
    uint64_t next = 1;
    uint64_t skip = 1; /* doubles while nothing can be read, so that a large hole costs little */
    while (from != NULL && next <= upto && skip < 1ULL << 40) {
        sqlite3_reset(from);
        sqlite3_bind_int64(from, 1, (sqlite3_int64)next);
        log_row row;
        while ((err = log_table_step(table, from)) == TW_OK) {
            err = log_table_row(table, from, true, &row);
            next = row.n + 1 > next ? row.n + 1 : next;
            skip = 1;
            if (err == TW_OK) {
                err = each(context, &row);
            } else {
                ++*bad;
                continue;
            }
            if (err != TW_OK) {
                sqlite3_reset(from);
                return err;
            }
        }
        if (err == TW_E_END) {
            break;
        }
        ++*bad; /* a page that cannot be read: look behind it */
        next += skip;
        skip *= 2;
    }
    return TW_OK;
}
