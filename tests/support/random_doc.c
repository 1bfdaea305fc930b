/* random_doc.c - see random_doc.h. */
#include "tests/support/random_doc.h"

#include <math.h>

#include "protocol/limits.h"

enum { TEXT_MAX = 40, NAME_MAX_LEN = 20 };

/* xorshift64*: good enough, and the same everywhere. */
uint64_t random_doc_draw(random_doc *self, uint64_t below)
{
    TW_ASSERT(self->state != 0 && below > 0);
    self->state ^= self->state >> 12;
    self->state ^= self->state << 25;
    self->state ^= self->state >> 27;
    return (self->state * 0x2545f4914f6cdd1du >> 11) % below;
}

static uint64_t bits(random_doc *self)
{
    return random_doc_draw(self, (uint64_t)1 << 32) << 32 |
           random_doc_draw(self, (uint64_t)1 << 32);
}

double random_doc_double(random_doc *self)
{
    static const double special[] = {0.0,
                                     -0.0,
                                     1.0,
                                     -1.0,
                                     0.1,
                                     0.3,
                                     1e15,
                                     1e16,
                                     1e17,
                                     1e21,
                                     1e22,
                                     1e23,
                                     5e-324,
                                     1e-5,
                                     1e-4,
                                     1e308,
                                     2e-7,
                                     1e100,
                                     1e-10,
                                     9007199254740991.0,
                                     4.35,
                                     100.0,
                                     123456.75,
                                     9007199254740993.0,
                                     2.2250738585072014e-308,
                                     1.7976931348623157e308,
                                     9223372036854775807.0,
                                     -9223372036854775808.0};
    uint64_t any = bits(self);
    double value;
    switch (random_doc_draw(self, 6)) {
    case 0:
        return special[random_doc_draw(self, TW_COUNT(special))];
    case 1:
        return (double)(int64_t)(any >> 40) / 100.0;
    case 2:
        return (double)(int64_t)any;
    case 3:
        value = ldexp(1.0, (int)random_doc_draw(self, 2000) - 1000);
        return nextafter(value, random_doc_draw(self, 2) == 0 ? 0.0 : 1e300);
    case 4:
        return random_doc_draw(self, 3) == 0 ? (any & 1 ? INFINITY : -INFINITY)
               : any & 1                     ? NAN
                                             : -1.5;
    default:
        memcpy(&value, &any, sizeof value);
        return value;
    }
}

/* Text of pieces; a NUL only where it may be. */
static size_t text(random_doc *self, char *out, size_t max, bool is_cstring)
{
    static const char *const pieces[] = {"a",
                                         "Z",
                                         "name",
                                         "$",
                                         ".",
                                         "\"",
                                         "\\",
                                         "/",
                                         "\n",
                                         "\t",
                                         "\x01",
                                         "\x1f",
                                         "\x7f",
                                         "\xc3\xa9",
                                         "\xe2\x82\xac",
                                         "\xf0\x9f\x98\x80",
                                         " ",
                                         "0123456789",
                                         "plain text here",
                                         "_id"};
    size_t len = 0;
    size_t wanted = random_doc_draw(self, max);
    while (len < wanted) {
        const char *piece = pieces[random_doc_draw(self, TW_COUNT(pieces))];
        size_t size = strlen(piece);
        if (len + size > max) {
            break;
        }
        memcpy(out + len, piece, size);
        len += size;
        if (!is_cstring && random_doc_draw(self, 60) == 0 && len < max) {
            out[len++] = '\0';
        }
    }
    return len;
}

static void add_raw(tw_bson_builder *b, tw_str name, uint8_t type, const void *ptr, size_t len)
{
    tw_bson_add_value(b, name, (tw_bson_value){.type = type, .ptr = ptr, .len = len});
}

/* A counted text with what may stand around it: before and after. For code, symbols, pointers. */
static void add_counted(random_doc *self, tw_bson_builder *b, tw_str name, uint8_t type)
{
    static const uint8_t scope[] = {12, 0, 0, 0, 0x10, 'x', 0, 7, 0, 0, 0, 0};
    uint8_t bytes[4 + 4 + TEXT_MAX + 1 + sizeof scope] = {0};
    size_t head = type == TW_BSON_CODE_SCOPE ? 4 : 0;
    uint32_t size = (uint32_t)text(self, (char *)bytes + head + 4, TEXT_MAX, true) + 1;
    memcpy(bytes + head, &size, sizeof size);
    size_t len = head + 4 + size;
    bytes[len - 1] = 0;
    if (type == TW_BSON_CODE_SCOPE) {
        memcpy(bytes + len, scope, sizeof scope);
        len += sizeof scope;
        uint32_t whole = (uint32_t)len;
        memcpy(bytes, &whole, sizeof whole);
    }
    if (type == TW_BSON_DBPOINTER) {
        memset(bytes + len, 0xab, 12);
        len += 12;
    }
    add_raw(b, name, type, bytes, len);
}

static void add_regex(random_doc *self, tw_bson_builder *b, tw_str name)
{
    static const char *const options[] = {"", "i", "im", "ilmsux", "sx"};
    char bytes[TEXT_MAX + 16];
    size_t len = text(self, bytes, TEXT_MAX, true);
    const char *chosen = options[random_doc_draw(self, TW_COUNT(options))];
    bytes[len++] = '\0';
    memcpy(bytes + len, chosen, strlen(chosen) + 1);
    add_raw(b, name, TW_BSON_REGEX, bytes, len + strlen(chosen) + 1);
}

static void add_decimal(random_doc *self, tw_bson_builder *b, tw_str name)
{
    static const uint64_t highs[] = {0x3040000000000000, 0xb040000000000000, 0x303e000000000000,
                                     0x3042000000000000, 0x7800000000000000, 0xf800000000000000,
                                     0x7c00000000000000, 0x0000000000000000, 0x5ffe000000000000,
                                     0x3040000000000001, 0x3000314dc6448d93};
    uint64_t words[2] = {bits(self) >> random_doc_draw(self, 64),
                         highs[random_doc_draw(self, TW_COUNT(highs))]};
    add_raw(b, name, TW_BSON_DECIMAL128, words, sizeof words);
}

static void add_number(random_doc *self, tw_bson_builder *b, tw_str name)
{
    static const int64_t edges[] = {0,
                                    -1,
                                    INT32_MAX,
                                    INT32_MIN,
                                    (int64_t)INT32_MAX + 1,
                                    INT64_MAX,
                                    INT64_MIN,
                                    (int64_t)1 << 53,
                                    ((int64_t)1 << 53) + 1};
    int64_t value = random_doc_draw(self, 2) == 0
                        ? edges[random_doc_draw(self, TW_COUNT(edges))]
                        : (int64_t)(bits(self) >> random_doc_draw(self, 64));
    tw_bson_add_i64(b, name, value);
}

static void add_date(random_doc *self, tw_bson_builder *b, tw_str name)
{
    static const int64_t edges[] = {0,         -1,        253402300799999, 253402300800000,
                                    INT64_MAX, INT64_MIN, 951782400000,    4107542400000};
    tw_bson_add_date(b, name,
                     random_doc_draw(self, 3) == 0 ? edges[random_doc_draw(self, TW_COUNT(edges))]
                                                   : (int64_t)(bits(self) % 253402300800000));
}

/* Types that are no document. */
static void add_scalar(random_doc *self, tw_bson_builder *b, tw_str name)
{
    static const uint8_t types[] = {
        TW_BSON_DOUBLE, TW_BSON_STRING, TW_BSON_STRING,     TW_BSON_BINARY,    TW_BSON_UNDEFINED,
        TW_BSON_BOOL,   TW_BSON_DATE,   TW_BSON_NULL,       TW_BSON_REGEX,     TW_BSON_DBPOINTER,
        TW_BSON_CODE,   TW_BSON_SYMBOL, TW_BSON_CODE_SCOPE, TW_BSON_INT32,     TW_BSON_TIMESTAMP,
        TW_BSON_INT64,  TW_BSON_INT64,  TW_BSON_DECIMAL128, TW_BSON_OBJECT_ID, TW_BSON_MAX_KEY,
        TW_BSON_MIN_KEY};
    static const uint8_t subtypes[] = {0, 1, 2, 4, 5, 0x80, 0xff};
    char bytes[TEXT_MAX];
    uint64_t random = bits(self);
    uint8_t type = types[random_doc_draw(self, TW_COUNT(types))];
    switch (type) {
    case TW_BSON_DOUBLE:
        tw_bson_add_double(b, name, random_doc_double(self));
        return;
    case TW_BSON_STRING:
        tw_bson_add_str(b, name, (tw_str){bytes, text(self, bytes, sizeof bytes, false)});
        return;
    case TW_BSON_BINARY:
        tw_bson_add_bin(b, name, subtypes[random_doc_draw(self, TW_COUNT(subtypes))], bytes,
                        text(self, bytes, sizeof bytes, false));
        return;
    case TW_BSON_BOOL:
        tw_bson_add_bool(b, name, random & 1);
        return;
    case TW_BSON_DATE:
        add_date(self, b, name);
        return;
    case TW_BSON_REGEX:
        add_regex(self, b, name);
        return;
    case TW_BSON_DBPOINTER:
    case TW_BSON_CODE:
    case TW_BSON_SYMBOL:
    case TW_BSON_CODE_SCOPE:
        add_counted(self, b, name, type);
        return;
    case TW_BSON_INT32:
    case TW_BSON_INT64:
        add_number(self, b, name);
        return;
    case TW_BSON_TIMESTAMP:
        add_raw(b, name, type, &random, sizeof random);
        return;
    case TW_BSON_DECIMAL128:
        add_decimal(self, b, name);
        return;
    case TW_BSON_OBJECT_ID:
        memset(bytes, (int)(random & 0xff), 12);
        memcpy(bytes, &random, sizeof random);
        tw_bson_add_oid(b, name, (const uint8_t *)bytes);
        return;
    default:
        add_raw(b, name, type, NULL, 0);
        return;
    }
}

static void add_fields(random_doc *self, tw_bson_builder *b, int depth)
{
    uint64_t count = random_doc_draw(self, (uint64_t)self->fields_max + 1);
    for (uint64_t i = 0; i < count; i++) {
        char bytes[NAME_MAX_LEN + 8];
        size_t len = text(self, bytes, NAME_MAX_LEN, true);
        len += tw_format(bytes + len, sizeof bytes - len, "%u", (unsigned)i); /* names are unique */
        tw_str name = {bytes, len};
        uint64_t kind = depth < self->depth_max ? random_doc_draw(self, 8) : 7;
        if (kind < 2) {
            if (kind == 0) {
                tw_bson_open_doc(b, name);
            } else {
                tw_bson_open_array(b, name);
            }
            add_fields(self, b, depth + 1);
            tw_bson_close(b);
        } else {
            add_scalar(self, b, name);
        }
    }
}

tw_bson random_doc_make(random_doc *self, tw_buf *out)
{
    tw_bson_builder builder;
    tw_bson_begin(&builder, out);
    add_fields(self, &builder, 0);
    return tw_bson_end(&builder);
}
