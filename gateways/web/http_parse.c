/* http_parse.c - one pass over complete heads: no folding, no bare LF, no chunked bodies. */
#include "gateways/web/http_parse.h"

bool http_token_equal(tw_str a, const char *b)
{
    size_t len = strlen(b);
    if (a.len != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char x = a.ptr[i];
        char y = b[i];
        x = x >= 'A' && x <= 'Z' ? (char)(x + 32) : x;
        y = y >= 'A' && y <= 'Z' ? (char)(y + 32) : y;
        if (x != y) {
            return false;
        }
    }
    return true;
}

static bool is_token(tw_str text)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!plain && (c == 0 || strchr(others, c) == NULL)) {
            return false;
        }
    }
    return text.len > 0;
}

/* Takes what stands before stop and steps behind it; ptr NULL: stop is not there. */
static tw_str take_until(tw_str *rest, char stop)
{
    const char *at = rest->len == 0 ? NULL : memchr(rest->ptr, stop, rest->len);
    if (at == NULL) {
        return (tw_str){NULL, 0};
    }
    tw_str taken = {rest->ptr, (size_t)(at - rest->ptr)};
    *rest = (tw_str){at + 1, rest->len - taken.len - 1};
    return taken;
}

static tw_str trim(tw_str text)
{
    while (text.len > 0 && (text.ptr[0] == ' ' || text.ptr[0] == '\t')) {
        text.ptr++;
        text.len--;
    }
    while (text.len > 0 && (text.ptr[text.len - 1] == ' ' || text.ptr[text.len - 1] == '\t')) {
        text.len--;
    }
    return text;
}

/* True when a comma separated list names the token. */
static bool list_has(tw_str list, const char *token)
{
    while (list.len > 0) {
        tw_str one = take_until(&list, ',');
        if (one.ptr == NULL) {
            one = list;
            list.len = 0;
        }
        if (http_token_equal(trim(one), token)) {
            return true;
        }
    }
    return false;
}

static bool is_printable(tw_str text, bool space)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < 0x20 ? !(space && c == '\t') : c == 0x7f || (c == 0x20 && !space)) {
            return false;
        }
    }
    return true;
}

static int parse_request_line(tw_str line, http_head *out)
{
    out->method = take_until(&line, ' ');
    tw_str target = take_until(&line, ' ');
    if (!is_token(out->method) || target.len == 0 || target.ptr[0] != '/' ||
        !is_printable(target, false)) {
        return 400;
    }
    if (tw_str_equal(line, TW_STR("HTTP/1.0"))) {
        out->http10 = true;
    } else if (!tw_str_equal(line, TW_STR("HTTP/1.1"))) {
        return line.len >= 5 && memcmp(line.ptr, "HTTP/", 5) == 0 ? 505 : 400;
    }
    out->keep_alive = !out->http10;
    out->query = target;
    out->path = take_until(&out->query, '?');
    if (out->path.ptr == NULL) {
        out->path = target;
        out->query = (tw_str){NULL, 0};
    }
    return 0;
}

/* Fields that are kept as they came; twice is refused where it could be read in two ways. */
static tw_str *kept_field(http_head *out, tw_str name)
{
    const struct {
        const char *name;
        tw_str *at;
    } kept[] = {
        {"host", &out->host},
        {"origin", &out->origin},
        {"upgrade", &out->upgrade},
        {"content-type", &out->content_type},
        {"if-match", &out->if_match},
        {"sec-websocket-key", &out->websocket_key},
        {"sec-websocket-version", &out->websocket_version},
        {"authorization", &out->authorization},
        {"sec-websocket-protocol", &out->protocols},
    };
    for (size_t i = 0; i < TW_COUNT(kept); i++) {
        if (http_token_equal(name, kept[i].name)) {
            return kept[i].at;
        }
    }
    return NULL;
}

static int parse_field(tw_str line, http_head *out, bool *has_length)
{
    tw_str name = take_until(&line, ':');
    tw_str value = trim(line);
    if (name.ptr == NULL || !is_token(name) || !is_printable(value, true)) {
        return 400;
    }
    tw_str *kept = kept_field(out, name);
    if (kept != NULL) {
        if (kept->ptr != NULL) {
            return 400;
        }
        *kept = value;
    } else if (http_token_equal(name, "content-length")) {
        if (*has_length || tw_parse_u64(value, UINT32_MAX, &out->content_length) != TW_OK) {
            return 400;
        }
        *has_length = true;
    } else if (http_token_equal(name, "transfer-encoding")) {
        return 411; /* also guards against two readings of one message */
    } else if (http_token_equal(name, "connection")) {
        out->upgrades = out->upgrades || list_has(value, "upgrade");
        if (list_has(value, "close")) {
            out->keep_alive = false;
        } else if (out->http10 && list_has(value, "keep-alive")) {
            out->keep_alive = true;
        }
    } else if (http_token_equal(name, "x-forwarded-for")) {
        out->forwarded = value;
    } else if (http_token_equal(name, "expect")) {
        out->expects_continue = http_token_equal(value, "100-continue");
    }
    return 0;
}

/* A line without its CR LF; ptr NULL: not complete. *status 400: a bare LF or CR. */
static tw_str take_line(tw_str *rest, int *status)
{
    tw_str line = take_until(rest, '\n');
    if (line.ptr == NULL) {
        return line;
    }
    if (line.len == 0 || line.ptr[line.len - 1] != '\r') {
        *status = 400;
        return line;
    }
    line.len--;
    return line;
}

static bool carries_token(tw_str line)
{
    static const char *const names[] = {"authorization:", "sec-websocket-protocol:"};
    for (size_t i = 0; i < TW_COUNT(names); i++) {
        size_t len = strlen(names[i]);
        if (line.len >= len && http_token_equal((tw_str){line.ptr, len}, names[i])) {
            return true;
        }
    }
    return false;
}

/* A head without its end: 431 where it is too long already. rest: its unfinished line. */
static int incomplete(tw_str bytes, tw_str rest, size_t tokens)
{
    tokens += carries_token(rest) ? rest.len : 0;
    return tokens > HTTP_TOKENS_MAX || bytes.len - tokens >= HTTP_HEAD_MAX ? 431 : 0;
}

static int complete(tw_str bytes, tw_str rest, size_t tokens, http_head *out)
{
    out->len = (size_t)(rest.ptr - bytes.ptr);
    if (tokens > HTTP_TOKENS_MAX || out->len - tokens > HTTP_HEAD_MAX) {
        return 431;
    }
    return out->host.ptr == NULL && !out->http10 ? 400 : 200;
}

int http_parse(tw_str bytes, http_head *out)
{
    enum { BOTH_MAX = HTTP_HEAD_MAX + HTTP_TOKENS_MAX };
    memset(out, 0, sizeof(*out));
    bytes.len = bytes.len < BOTH_MAX ? bytes.len : BOTH_MAX;
    tw_str rest = bytes;
    int status = 0;
    bool has_length = false;
    size_t tokens = 0; /* bytes of fields that may carry one */
    tw_str line = take_line(&rest, &status);
    if (line.ptr == NULL) {
        return incomplete(bytes, rest, tokens);
    }
    status = status != 0 ? status : parse_request_line(line, out);
    for (int fields = 0; status == 0; fields++) {
        line = take_line(&rest, &status);
        if (line.ptr == NULL) {
            return incomplete(bytes, rest, tokens);
        }
        if (status == 0 && line.len == 0) {
            return complete(bytes, rest, tokens, out);
        }
        if (status == 0) {
            tokens += carries_token(line) ? line.len : 0;
            status = fields >= HTTP_FIELDS_MAX ? 431 : parse_field(line, out, &has_length);
        }
    }
    return status;
}

static int hex_of(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool http_decode(tw_str in, char *out, size_t *len)
{
    size_t at = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '%') {
            int high = in.len - i > 2 ? hex_of(in.ptr[i + 1]) : -1;
            int low = in.len - i > 2 ? hex_of(in.ptr[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0)) {
                return false;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        out[at++] = c;
    }
    *len = at;
    return true;
}

tw_str http_query_get(tw_str query, const char *name)
{
    while (query.len > 0) {
        tw_str pair = take_until(&query, '&');
        if (pair.ptr == NULL) {
            pair = query;
            query.len = 0;
        }
        tw_str value = pair;
        tw_str key = take_until(&value, '=');
        if (key.ptr != NULL && tw_str_equal(key, tw_str_of(name))) {
            return value;
        }
    }
    return (tw_str){NULL, 0};
}
