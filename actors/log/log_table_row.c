/* log_table_row.c - a row on disk: what stands in its columns, and what tells that it is damaged.
 *
 * Packed, the form of new files: n, head, body. Every column costs SQLite more than its value is
 * worth, so all that is small is one blob:
 *   head = form (1 byte) | coll flags ver scope lscope prev origin seqno (varints, the low seven
 *          bits first) | checksum of the head, where the body is long (4 bytes) | key
 *   body = document | by | length of by (1 byte) | time (6 bytes) | checksum (4 bytes)
 * Numbers of fixed size are little endian. The checksum of the body covers n, all of the head and
 * the body before it, so that a flipped bit anywhere is seen. A long body is not read at the start:
 * then the head's own checksum says whether the rest is sound.
 *
 * In columns, the form of older files, which they keep: each field has its own; the head's checksum
 * stands in the upper half of flags, the body's is made of the fields. */
#include "actors/log/log_table_priv.h"

enum {
    BODY_CHECKED_MAX = 4096, /* bytes; longer bodies lie on pages that the start need not read */
    TRAILER = 11,            /* bytes behind by */
    FORM_PLAIN = 1,
    FORM_CHECKED = 2, /* the head has a checksum of its own */
    VARINT_MAX = 10,  /* bytes of 64 bits, seven at a time */
    HEAD_NUMBERS = 8,
};

/* ---- checksums ---- */

/* Of the columns before the body; never 0. */
static uint32_t head_checksum(const log_row *row)
{
    uint64_t head[] = {row->n,    (uint64_t)row->coll << 32 | row->flags,   (uint64_t)row->ver,
                       row->prev, (uint64_t)row->scope << 32 | row->lscope, row->origin,
                       row->seqno};
    uint64_t hash = tw_hash(row->key.ptr, row->key.len, tw_hash(head, sizeof head, 6));
    uint32_t folded = (uint32_t)(hash ^ hash >> 32);
    return folded == 0 ? 1 : folded;
}

/* Of a packed row. The parts are hashed apart: a processor does so side by side. */
static uint32_t checksum(uint64_t n, tw_str head, const uint8_t *body, size_t len)
{
    const uint64_t parts[] = {tw_hash(head.ptr, head.len, n), tw_hash(body, len / 2, 7),
                              tw_hash(body + len / 2, len - len / 2, 8)};
    uint64_t hash = tw_hash(parts, sizeof parts, 9);
    return (uint32_t)(hash ^ hash >> 32);
}

/* Of a row in columns. */
static uint32_t checksum_of_columns(const log_row *row, const void *body, size_t len)
{
    uint64_t head[] = {row->n,    (uint64_t)row->coll << 32 | row->flags,   (uint64_t)row->ver,
                       row->prev, (uint64_t)row->scope << 32 | row->lscope, row->origin,
                       row->seqno};
    uint64_t hash = tw_hash(head, sizeof head, 4);
    hash = tw_hash(row->key.ptr, row->key.len, hash);
    hash = tw_hash(body, len, hash);
    return (uint32_t)(hash ^ hash >> 32);
}

static void put_number(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get_number(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

/* ---- the head ---- */

static size_t put_varint(uint8_t *at, uint64_t value)
{
    size_t len = 0;
    for (; value >= 0x80; value >>= 7) {
        at[len++] = (uint8_t)(value | 0x80);
    }
    at[len++] = (uint8_t)value;
    return len;
}

/* A number and the place behind it; NULL: there is none before end. */
struct varint {
    const uint8_t *behind;
    uint64_t value;
};

static __attribute__((noinline)) struct varint get_long_varint(const uint8_t *at,
                                                               const uint8_t *end)
{
    uint64_t value = 0;
    for (unsigned shift = 0; at < end && shift < 7 * VARINT_MAX; shift += 7) {
        uint8_t byte = *at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return (struct varint){at, value};
        }
    }
    return (struct varint){NULL, 0};
}

/* The number behind one before, if there was one; nearly all are a byte. */
static inline struct varint get_varint(struct varint before, const uint8_t *end)
{
    const uint8_t *at = before.behind;
    if (at == NULL) {
        return before;
    }
    return at < end && *at < 0x80 ? (struct varint){at + 1, *at} : get_long_varint(at, end);
}

static void put_head(tw_buf *head, const log_row *row, bool is_long)
{
    const uint64_t numbers[HEAD_NUMBERS] = {row->coll,   row->flags,  (uint64_t)row->ver,
                                            row->scope,  row->lscope, row->prev,
                                            row->origin, row->seqno};
    uint8_t bytes[1 + HEAD_NUMBERS * VARINT_MAX + 4];
    size_t len = 1;
    bytes[0] = is_long ? FORM_CHECKED : FORM_PLAIN;
    for (size_t i = 0; i < HEAD_NUMBERS; i++) {
        len += put_varint(bytes + len, numbers[i]);
    }
    if (is_long) {
        put_number(bytes + len, head_checksum(row), 4);
        len += 4;
    }
    tw_buf_clear(head);
    tw_buf_add(head, bytes, len);
    tw_buf_add(head, row->key.ptr, row->key.len);
}

/* *sum: the head's checksum; 0: it has none. False: it is damaged. */
static bool get_head(log_row *row, const uint8_t *at, size_t len, uint32_t *sum)
{
    const uint8_t *end = at + len;
    *sum = 0;
    if (len == 0 || (*at != FORM_PLAIN && *at != FORM_CHECKED)) {
        return false;
    }
    bool is_checked = *at++ == FORM_CHECKED;
    struct varint coll = get_varint((struct varint){at, 0}, end);
    struct varint flags = get_varint(coll, end);
    struct varint ver = get_varint(flags, end);
    struct varint scope = get_varint(ver, end);
    struct varint lscope = get_varint(scope, end);
    struct varint prev = get_varint(lscope, end);
    struct varint origin = get_varint(prev, end);
    struct varint seqno = get_varint(origin, end);
    at = seqno.behind;
    if (at == NULL || (is_checked && end - at < 4)) {
        return false;
    }
    if (is_checked) {
        *sum = (uint32_t)get_number(at, 4);
        at += 4;
    }
    uint64_t small = coll.value | flags.value | scope.value | lscope.value | origin.value;
    row->coll = (uint32_t)coll.value;
    row->flags = (uint32_t)flags.value;
    row->ver = (int64_t)ver.value;
    row->scope = (uint32_t)scope.value;
    row->lscope = (uint32_t)lscope.value;
    row->prev = prev.value;
    row->origin = (uint32_t)origin.value;
    row->seqno = seqno.value;
    row->key = (tw_key){at, (size_t)(end - at)};
    return small <= UINT32_MAX && row->key.len <= LOG_KEY_BYTES_MAX;
}

/* ---- columns ---- */

static void bind_columns(sqlite3_stmt *to, const log_row *row, bool is_long)
{
    uint64_t head = is_long ? head_checksum(row) : 0;
    sqlite3_bind_int64(to, 2, row->coll);
    sqlite3_bind_int64(to, 3, (sqlite3_int64)(head << 32 | row->flags));
    sqlite3_bind_int64(to, 4, row->ver);
    sqlite3_bind_int64(to, 5, row->scope);
    sqlite3_bind_int64(to, 6, row->lscope);
    sqlite3_bind_int64(to, 7, (sqlite3_int64)row->prev);
    sqlite3_bind_int64(to, 8, row->origin);
    sqlite3_bind_int64(to, 9, (sqlite3_int64)row->seqno);
    sqlite3_bind_blob(to, 10, row->key.len == 0 ? (const void *)"" : row->key.ptr,
                      (int)row->key.len, SQLITE_STATIC);
}

static void get_columns(log_row *row, sqlite3_stmt *from, uint32_t *sum)
{
    uint64_t flags = (uint64_t)sqlite3_column_int64(from, 2);
    *sum = (uint32_t)(flags >> 32);
    row->coll = (uint32_t)sqlite3_column_int64(from, 1);
    row->flags = (uint32_t)flags;
    row->ver = sqlite3_column_int64(from, 3);
    row->scope = (uint32_t)sqlite3_column_int64(from, 4);
    row->lscope = (uint32_t)sqlite3_column_int64(from, 5);
    row->prev = (uint64_t)sqlite3_column_int64(from, 6);
    row->origin = (uint32_t)sqlite3_column_int64(from, 7);
    row->seqno = (uint64_t)sqlite3_column_int64(from, 8);
    row->key.ptr = sqlite3_column_blob(from, 9);
    row->key.len = (size_t)sqlite3_column_bytes(from, 9);
}

/* ---- rows ---- */

tw_err log_table_bind_row(log_table *table, sqlite3_stmt *to, const log_row *row)
{
    TW_ASSERT(row->by.len <= TW_OPID_MAX && row->key.len <= LOG_KEY_BYTES_MAX);
    tw_buf *body = &table->body;
    uint8_t trailer[TRAILER];
    tw_buf_clear(body);
    tw_buf_add(body, row->doc.ptr, row->doc.len);
    tw_buf_add(body, row->by.ptr, row->by.len);
    trailer[0] = (uint8_t)row->by.len;
    put_number(trailer + 1, row->time_ms, 6);
    tw_buf_add(body, trailer, 7);
    if (body->err != TW_OK) {
        return body->err;
    }
    bool is_long = body->len + 4 > BODY_CHECKED_MAX;
    uint32_t sum;
    sqlite3_bind_int64(to, 1, (sqlite3_int64)row->n);
    if (table->has_columns) {
        sum = checksum_of_columns(row, body->ptr, body->len);
        bind_columns(to, row, is_long);
    } else {
        put_head(&table->head, row, is_long);
        sum = checksum(row->n, tw_buf_str(&table->head), (const uint8_t *)body->ptr, body->len);
        sqlite3_bind_blob(to, 2, table->head.ptr, (int)table->head.len, SQLITE_STATIC);
    }
    put_number(trailer, sum, 4);
    tw_buf_add(body, trailer, 4);
    sqlite3_bind_blob(to, table->has_columns ? 11 : 3, body->ptr, (int)body->len, SQLITE_STATIC);
    return body->err != TW_OK ? body->err : table->head.err;
}

static tw_err damaged(log_table *table, uint64_t n)
{
    tw_format(table->why, sizeof table->why, "%s: row %llu of the log is damaged", table->path,
              (unsigned long long)n);
    return TW_E_CORRUPT;
}

/* A blob by its value: SQLite looks the column up once for pointer and length. Values of columns
 * may be read so where a connection has no mutex (log_table_open), says its manual. NULL: it is
 * empty. */
static const uint8_t *column_blob(sqlite3_stmt *from, int column, size_t *len)
{
    sqlite3_value *value = sqlite3_column_value(from, column);
    const uint8_t *at = sqlite3_value_blob(value);
    *len = at == NULL ? 0 : (size_t)sqlite3_value_bytes(value);
    return at;
}

/* All but the body. *head: its bytes, where the row is packed. */
static bool row_head(log_table *table, sqlite3_stmt *from, uint64_t n, log_row *out, uint32_t *sum,
                     tw_str *head)
{
    *out = (log_row){.n = n};
    if (table->has_columns) {
        get_columns(out, from, sum);
        return true;
    }
    const uint8_t *at = column_blob(from, 1, &head->len);
    head->ptr = (const char *)at;
    return at != NULL && get_head(out, at, head->len, sum);
}

/* Splits a body whose checksum fits; false: it is damaged. */
static bool split_body(log_row *row, const uint8_t *body, size_t len)
{
    size_t by = body[len - TRAILER];
    size_t before = len - TRAILER;
    if (by > before || by > TW_OPID_MAX) {
        return false;
    }
    row->doc = (tw_bson){body, before - by};
    row->by = (tw_str){(const char *)body + before - by, by};
    row->time_ms = get_number(body + len - TRAILER + 1, 6);
    bool is_put = (row->flags & TW_ROW_PUT) != 0;
    return is_put == (row->doc.len > 0);
}

static bool row_body(log_table *table, sqlite3_stmt *from, tw_str head, log_row *out)
{
    int at = table->has_columns ? 10 : 2;
    size_t len;
    const uint8_t *body = column_blob(from, at, &len);
    if (len < TRAILER) {
        return false;
    }
    uint32_t sum = table->has_columns ? checksum_of_columns(out, body, len - 4)
                                      : checksum(out->n, head, body, len - 4);
    return get_number(body + len - 4, 4) == sum && split_body(out, body, len);
}

tw_err log_table_row(log_table *table, sqlite3_stmt *from, uint64_t n, bool checked, log_row *out)
{
    TW_ASSERT(from != NULL && out != NULL);
    uint32_t sum;
    tw_str head = {0};
    bool is_sound = row_head(table, from, n, out, &sum, &head) &&
                    (!checked || row_body(table, from, head, out));
    return is_sound ? TW_OK : damaged(table, out->n);
}

tw_err log_table_load_row(log_table *table, sqlite3_stmt *from, log_row *out)
{
    TW_ASSERT(from != NULL && out != NULL);
    uint32_t sum;
    bool is_long = sqlite3_column_type(from, table->has_columns ? 10 : 2) == SQLITE_INTEGER;
    tw_str head = {0};
    uint64_t n = (uint64_t)sqlite3_column_int64(from, 0);
    bool is_sound = row_head(table, from, n, out, &sum, &head);
    if (is_sound && is_long) { /* rows of the first logs have no checksum of the head */
        is_sound = sum == 0 ? table->has_columns : sum == head_checksum(out);
    } else if (is_sound) {
        is_sound = row_body(table, from, head, out);
    }
    return is_sound ? TW_OK : damaged(table, out->n);
}
