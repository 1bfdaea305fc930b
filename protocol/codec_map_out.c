/* codec_map_out.c - documents of the service socket: BSON becomes a msgpack map.
 *
 * The reverse of codec_map_in.c, which has the table of types. Types that msgpack has no word for
 * are written in their Extended JSON form.      Source  msgpack specification, Extended JSON v2 */
#include "protocol/bson.h"
#include "protocol/codec.h"
#include "protocol/codec_priv.h"
#include "protocol/json.h"
#include "protocol/limits.h"

static void write_value(tw_buf *out, tw_bson_value value, int depth);

static void write_doc(tw_buf *out, tw_bson doc, bool is_array, int depth)
{
    if (depth > TW_DEPTH_MAX && out->err == TW_OK) {
        out->err = TW_E_DEPTH;
    }
    if (out->err != TW_OK) {
        return;
    }
    size_t count = tw_bson_count(doc); /* the head needs it first */
    if (is_array) {
        codec_pack_array(out, count);
    } else {
        codec_pack_map(out, count);
    }
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, doc); tw_bson_iter_next(&iter);) {
        if (!is_array) {
            codec_pack_str(out, iter.name);
        }
        write_value(out, iter.value, depth);
    }
}

static void write_oid(tw_buf *out, const uint8_t *oid)
{
    static const char digits[] = "0123456789abcdef";
    char hex[OID_DIGITS];
    for (size_t i = 0; i < OID_BYTES; i++) {
        hex[2 * i] = digits[oid[i] >> 4];
        hex[2 * i + 1] = digits[oid[i] & 0x0f];
    }
    codec_pack_map(out, 1);
    codec_pack_str(out, TW_STR("$oid"));
    codec_pack_str(out, (tw_str){hex, sizeof hex});
}

static void store(uint8_t *at, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        at[i] = (uint8_t)(value >> 8 * (width - 1 - i));
    }
}

/* The shortest of the three forms that holds the date. */
static void write_date(tw_buf *out, int64_t unix_ms)
{
    int64_t ms = unix_ms % MS_PER_S;
    int64_t s = unix_ms / MS_PER_S - (ms < 0 ? 1 : 0);
    uint64_t ns = (uint64_t)(ms < 0 ? ms + MS_PER_S : ms) * NS_PER_MS;
    uint8_t body[12];
    if (s < 0 || (uint64_t)s >> 34 != 0) {
        store(body, ns, 4);
        store(body + 4, (uint64_t)s, 8);
        codec_pack_ext(out, EXT_TIMESTAMP, body, 12);
    } else if (ns != 0 || (uint64_t)s >> 32 != 0) {
        store(body, ns << 34 | (uint64_t)s, 8);
        codec_pack_ext(out, EXT_TIMESTAMP, body, 8);
    } else {
        store(body, (uint64_t)s, 4);
        codec_pack_ext(out, EXT_TIMESTAMP, body, 4);
    }
}

/* The nth text in quotes (from 0) of a JSON text without escapes; empty when there are fewer. */
static tw_str quoted(tw_str text, size_t nth)
{
    size_t quotes = 0; /* passed so far */
    size_t begin = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '"') {
            continue;
        }
        if (quotes == 2 * nth) {
            begin = i + 1;
        } else if (quotes == 2 * nth + 1) {
            return (tw_str){text.ptr + begin, i - begin};
        }
        quotes++;
    }
    return TW_STR("");
}

/* Binary with a subtype, and Decimal128: base64 and decimal digits are those of the JSON writer. */
static void write_by_json(tw_buf *out, tw_bson_value value)
{
    tw_buf text;
    tw_buf_init(&text, 2 * (size_t)TW_DOCUMENT_MAX);
    tw_json_write_value(&text, value);
    tw_str json = tw_buf_str(&text);
    codec_pack_map(out, 1);
    codec_pack_str(out, quoted(json, 0)); /* $numberDecimal or $binary */
    if (value.type == TW_BSON_DECIMAL128) {
        codec_pack_str(out, quoted(json, 1));
    } else {
        codec_pack_map(out, 2);
        for (size_t i = 1; i <= 4; i++) { /* base64, its digits, subType, its digits */
            codec_pack_str(out, quoted(json, i));
        }
    }
    if (out->err == TW_OK) {
        out->err = text.err;
    }
    tw_buf_fini(&text);
}

static uint32_t load_little(const uint8_t *at)
{
    return (uint32_t)(at[0] | at[1] << 8 | at[2] << 16) | (uint32_t)at[3] << 24;
}

/* A counted text at the begin of a value's bytes, as a string has it, read within its bounds. */
static tw_str counted_text(const uint8_t *at, size_t len)
{
    uint32_t size = len < 5 ? 0 : load_little(at); /* with the NUL */
    return size == 0 || size > len - 4 ? TW_STR("") : (tw_str){(const char *)at + 4, size - 1};
}

static void write_form_head(tw_buf *out, tw_str name)
{
    codec_pack_map(out, 1);
    codec_pack_str(out, name);
}

static void write_regex(tw_buf *out, tw_bson_value value)
{
    tw_str pattern = tw_str_of((const char *)value.ptr); /* the iterator found both NULs */
    tw_str options = tw_str_of(pattern.ptr + pattern.len + 1);
    write_form_head(out, TW_STR("$regularExpression"));
    codec_pack_map(out, 2);
    codec_pack_str(out, TW_STR("pattern"));
    codec_pack_str(out, pattern);
    codec_pack_str(out, TW_STR("options"));
    codec_pack_str(out, options);
}

static void write_timestamp(tw_buf *out, tw_bson_value value)
{
    write_form_head(out, TW_STR("$timestamp"));
    codec_pack_map(out, 2);
    codec_pack_str(out, TW_STR("t"));
    codec_pack_i64(out, load_little(value.ptr + 4));
    codec_pack_str(out, TW_STR("i"));
    codec_pack_i64(out, load_little(value.ptr));
}

static void write_dbpointer(tw_buf *out, tw_bson_value value)
{
    write_form_head(out, TW_STR("$dbPointer"));
    codec_pack_map(out, 2);
    codec_pack_str(out, TW_STR("$ref"));
    codec_pack_str(out, counted_text(value.ptr, value.len - OID_BYTES));
    codec_pack_str(out, TW_STR("$id"));
    write_oid(out, value.ptr + value.len - OID_BYTES);
}

static void write_code_scope(tw_buf *out, tw_bson_value value, int depth)
{
    tw_str code = counted_text(value.ptr + 4, value.len - 4);
    size_t scope_at = 4 + 4 + code.len + 1;
    tw_bson scope = {value.ptr + scope_at, scope_at > value.len ? 0 : value.len - scope_at};
    codec_pack_map(out, 2);
    codec_pack_str(out, TW_STR("$code"));
    codec_pack_str(out, code);
    codec_pack_str(out, TW_STR("$scope"));
    write_doc(out, scope, false, depth + 1);
}

/* Writes a value that msgpack has no type for in its Extended JSON form. */
static void write_rare(tw_buf *out, tw_bson_value value, int depth)
{
    switch (value.type) {
    case TW_BSON_UNDEFINED:
        write_form_head(out, TW_STR("$undefined"));
        codec_pack_bool(out, true);
        break;
    case TW_BSON_MIN_KEY:
        write_form_head(out, TW_STR("$minKey"));
        codec_pack_i64(out, 1);
        break;
    case TW_BSON_MAX_KEY:
        write_form_head(out, TW_STR("$maxKey"));
        codec_pack_i64(out, 1);
        break;
    case TW_BSON_SYMBOL:
        write_form_head(out, TW_STR("$symbol"));
        codec_pack_str(out, counted_text(value.ptr, value.len));
        break;
    case TW_BSON_CODE:
        write_form_head(out, TW_STR("$code"));
        codec_pack_str(out, counted_text(value.ptr, value.len));
        break;
    case TW_BSON_CODE_SCOPE:
        write_code_scope(out, value, depth);
        break;
    case TW_BSON_REGEX:
        write_regex(out, value);
        break;
    case TW_BSON_TIMESTAMP:
        write_timestamp(out, value);
        break;
    case TW_BSON_DBPOINTER:
        write_dbpointer(out, value);
        break;
    default: /* binary with a subtype, Decimal128 */
        write_by_json(out, value);
        break;
    }
}

static int64_t i64_of(tw_bson_value value)
{
    int64_t number = 0;
    (void)tw_bson_value_i64(value, &number); /* true: the type was looked at */
    return number;
}

static void write_value(tw_buf *out, tw_bson_value value, int depth)
{
    switch (value.type) {
    case TW_BSON_DOUBLE:
        codec_pack_double(out, tw_bson_value_double(value));
        break;
    case TW_BSON_STRING:
        codec_pack_str(out, tw_bson_value_str(value));
        break;
    case TW_BSON_DOCUMENT:
    case TW_BSON_ARRAY:
        write_doc(out, tw_bson_value_doc(value), value.type == TW_BSON_ARRAY, depth + 1);
        break;
    case TW_BSON_OBJECT_ID:
        write_oid(out, value.ptr);
        break;
    case TW_BSON_BOOL:
        codec_pack_bool(out, value.ptr[0] != 0);
        break;
    case TW_BSON_DATE:
        write_date(out,
                   (int64_t)((uint64_t)load_little(value.ptr + 4) << 32 | load_little(value.ptr)));
        break;
    case TW_BSON_NULL:
        codec_pack_nil(out);
        break;
    case TW_BSON_INT32:
    case TW_BSON_INT64:
        codec_pack_i64(out, i64_of(value));
        break;
    case TW_BSON_BINARY:
        if (value.ptr[4] == 0) {
            codec_pack_bin(out, value.ptr + 5, value.len - 5);
            break;
        }
        write_rare(out, value, depth);
        break;
    default:
        write_rare(out, value, depth);
        break;
    }
}

void tw_msgpack_from_bson(tw_buf *out, tw_bson doc)
{
    size_t before = out->len;
    write_doc(out, doc, false, 1);
    if (out->err != TW_OK) {
        out->len = before; /* a part of a map is of no use */
    }
}
