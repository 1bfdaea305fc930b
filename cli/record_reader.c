/* record_reader.c - see record_reader.h. */
#include "cli/record_reader.h"

#include <stdlib.h>

#include "protocol/json.h"
#include "protocol/limits.h"

enum { CELL_MAX = TW_MESSAGE_MAX, COLUMNS_MAX = 4096 };

static int take(record_reader *self)
{
    int c = getc_unlocked(self->in);
    if (c != EOF) {
        self->bytes++;
        self->line_now += c == '\n';
    }
    return c;
}

static void give_back(record_reader *self, int c)
{
    if (c != EOF) {
        ungetc(c, self->in);
        self->bytes--;
        self->line_now -= c == '\n';
    }
}

static int take_after_space(record_reader *self)
{
    int c;
    do {
        c = take(self);
    } while (c == ' ' || c == '\n' || c == '\r' || c == '\t');
    return c;
}

/* ---- JSON: finds where an object ends; what stands inside is the server's to judge ---- */

/* Where the reading of an object stands. Of levels deeper than 64 it is not known whether they are
 * lists: clients may not nest that deeply. */
typedef struct object_scan {
    unsigned depth;
    uint64_t lists; /* a bit a level: 1 = of [ */
    char before;    /* the byte before the next, space left out */
} object_scan;

static bool is_list(const object_scan *scan)
{
    return scan->depth > 0 && scan->depth <= 64 && (scan->lists >> (scan->depth - 1) & 1) != 0;
}

/* May a value begin here? If not, a brace at the beginning of a line begins the next record. */
static bool takes_value(const object_scan *scan)
{
    return scan->before == ':' || scan->depth > 64 ||
           (is_list(scan) && (scan->before == '[' || scan->before == ','));
}

/* Returns true behind the object's last byte. */
static bool scan_byte(object_scan *scan, char c)
{
    if (c == '{' || c == '[') {
        scan->depth++;
        if (scan->depth <= 64) {
            uint64_t bit = UINT64_C(1) << (scan->depth - 1);
            scan->lists = c == '[' ? scan->lists | bit : scan->lists & ~bit;
        }
    } else if (c == '}' || c == ']') {
        scan->depth--;
    }
    if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
        scan->before = c;
    }
    return scan->depth == 0;
}

/* Text in quotes, behind the first of them, into text. Returns its last quote; EOF or the end of
 * the line where there is none. */
static int take_quoted(record_reader *self)
{
    for (int c = take(self); c != EOF; c = take(self)) {
        if (c == '\n') {
            return c;
        }
        tw_buf_add_byte(&self->text, (char)c);
        if (c == '"') {
            return c;
        }
        if (c == '\\' && (c = take(self)) != EOF) {
            tw_buf_add_byte(&self->text, (char)c);
        }
    }
    return EOF;
}

/* A record that is cut or broken ends where the next one begins, so that it costs no other. */
static tw_err next_object(record_reader *self, int c, const char **why)
{
    object_scan scan = {0};
    for (int last = 0; c != EOF; last = c, c = take(self)) {
        if (c == '{' && last == '\n' && !takes_value(&scan)) {
            give_back(self, c);
            *why = "the next record begins inside this one";
            return TW_E_BAD_MESSAGE;
        }
        tw_buf_add_byte(&self->text, (char)c);
        if (scan_byte(&scan, (char)c)) {
            *why = "the record is larger than a message may be (64 KiB)";
            return self->text.err;
        }
        if (c == '"' && (c = take_quoted(self)) == '\n') {
            *why = "the line ends inside quotes";
            return TW_E_BAD_MESSAGE;
        }
    }
    self->ended = true;
    *why = "the file ends inside this record";
    return TW_E_BAD_MESSAGE;
}

static tw_err skip_line(record_reader *self, const char **why, const char *cause)
{
    int c;
    do {
        c = take(self);
    } while (c != EOF && c != '\n');
    self->ended = c == EOF;
    *why = cause;
    return TW_E_BAD_MESSAGE;
}

static tw_err next_json(record_reader *self, const char **why)
{
    int c = take_after_space(self);
    if (self->array && c == ',') {
        c = take_after_space(self);
    }
    self->line = self->line_now;
    if (c == EOF || (self->array && c == ']')) {
        self->ended = true;
        *why = "the file ends inside the array";
        return self->array && c == EOF ? TW_E_BAD_MESSAGE : TW_E_END;
    }
    if (c != '{') {
        give_back(self, c);
        return skip_line(self, why, "a record must be a JSON object");
    }
    return next_object(self, c, why);
}

/* ---- CSV ---- */
enum { CUT = -2 }; /* ended a cell: the file, inside quotes */

/* Reads a cell into cell; returns what ended it: ',' '\n' EOF or CUT. */
static int read_cell(record_reader *self, tw_buf *cell)
{
    tw_buf_clear(cell);
    int c = take(self);
    bool quoted = c == '"';
    bool bare_return = false; /* the last byte is an unquoted \r */
    if (quoted) {
        c = take(self);
    }
    for (; c != EOF && (quoted || (c != ',' && c != '\n')); c = take(self)) {
        if (quoted && c == '"') {
            c = take(self);
            if (c != '"') {
                quoted = false;
                give_back(self, c);
                continue;
            }
        }
        tw_buf_add_byte(cell, (char)c);
        bare_return = !quoted && c == '\r';
    }
    if (bare_return && c != ',') {
        cell->len--;
    }
    return quoted ? CUT : c;
}

static bool is_json_scalar(tw_str text)
{
    if (tw_str_equal(text, TW_STR("true")) || tw_str_equal(text, TW_STR("false")) ||
        tw_str_equal(text, TW_STR("null"))) {
        return true;
    }
    size_t i = text.len > 0 && text.ptr[0] == '-';
    if (i >= text.len || text.ptr[i] < '0' || text.ptr[i] > '9' ||
        (text.ptr[i] == '0' && i + 1 < text.len && text.ptr[i + 1] != '.')) {
        return false; /* no number, or one with leading zeros: an identifier */
    }
    bool dot = false;
    for (; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '.' && !dot && i + 1 < text.len) {
            dot = true;
        } else if (c < '0' || c > '9') {
            return false;
        }
    }
    return text.len <= 15; /* longer digits would lose some as a number */
}

static tw_err read_header(record_reader *self)
{
    tw_buf cell;
    tw_buf_init(&cell, CELL_MAX);
    int ended;
    do {
        ended = read_cell(self, &cell);
        tw_json_write_str(&self->header, tw_buf_str(&cell));
        tw_buf_add_byte(&self->header, '\0');
        self->columns++;
    } while (ended == ',' && self->columns < COLUMNS_MAX);
    tw_buf_fini(&cell);
    if (self->header.err != TW_OK || ended == ',' || ended == CUT) {
        self->ended = true;
        return TW_E_BAD_MESSAGE;
    }
    return TW_OK;
}

static tw_err next_row(record_reader *self, const char **why)
{
    int c = take(self);
    while (c == '\n' || c == '\r') {
        c = take(self);
    }
    self->line = self->line_now;
    if (c == EOF) {
        self->ended = true;
        return TW_E_END;
    }
    give_back(self, c);
    tw_buf cell;
    tw_buf_init(&cell, CELL_MAX);
    const char *name = self->header.ptr;
    size_t column = 0;
    int ended;
    tw_buf_add_byte(&self->text, '{');
    do {
        ended = read_cell(self, &cell);
        if (column < self->columns && cell.len > 0) {
            tw_buf_format(&self->text, "%s%s:", self->text.len > 1 ? "," : "", name);
            if (is_json_scalar(tw_buf_str(&cell))) {
                tw_buf_add_str(&self->text, tw_buf_str(&cell));
            } else {
                tw_json_write_str(&self->text, tw_buf_str(&cell));
            }
        }
        name += column < self->columns ? strlen(name) + 1 : 0;
        column++;
    } while (ended == ',');
    tw_buf_add_byte(&self->text, '}');
    tw_err err = cell.err != TW_OK ? cell.err : self->text.err;
    tw_buf_fini(&cell);
    if (ended == CUT) {
        self->ended = true;
        *why = "the file ends inside a quoted cell";
        return TW_E_BAD_MESSAGE;
    }
    if (err == TW_OK && column > self->columns) {
        *why = "the row has more cells than the header";
        return TW_E_BAD_MESSAGE;
    }
    *why = "the row is larger than a message may be (64 KiB)";
    return err;
}

tw_err record_reader_init(record_reader *self, FILE *in, record_format format)
{
    *self = (record_reader){.in = in, .format = format, .line_now = 1};
    tw_buf_init(&self->text, TW_MESSAGE_MAX);
    tw_buf_init(&self->header, TW_MESSAGE_MAX);
    int c = take_after_space(self);
    if (c == 0xef) { /* the mark that some editors put before UTF-8 */
        (void)take(self);
        (void)take(self);
        c = take_after_space(self);
    }
    if (self->format == RECORDS_AUTO) {
        self->format = c == '[' || c == '{' || c == EOF ? RECORDS_JSON : RECORDS_CSV;
    }
    self->array = self->format == RECORDS_JSON && c == '[';
    if (!self->array) {
        give_back(self, c);
    }
    return self->format == RECORDS_CSV ? read_header(self) : TW_OK;
}

void record_reader_fini(record_reader *self)
{
    tw_buf_fini(&self->text);
    tw_buf_fini(&self->header);
}

tw_err record_reader_next(record_reader *self, tw_str *json, const char **why)
{
    *why = "";
    if (self->ended) {
        return TW_E_END;
    }
    tw_buf_clear(&self->text);
    tw_err err = self->format == RECORDS_CSV ? next_row(self, why) : next_json(self, why);
    *json = tw_buf_str(&self->text);
    return err;
}
