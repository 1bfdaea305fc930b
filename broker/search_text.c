/* search_text.c - see search_text.h. */
#include "broker/search_text.h"

typedef enum sort_of { BREAK, LETTER, DIGIT, JOINER, SINGLE } sort_of;

/* Letters above ASCII are what is not listed here. */
static const struct {
    uint32_t from, upto;
    sort_of sort;
} ranges[] = {
    {0x80, 0xa9, BREAK},        {0xab, 0xb4, BREAK},      {0xb6, 0xb9, BREAK},
    {0xbb, 0xbf, BREAK},        {0xd7, 0xd7, BREAK},      {0xf7, 0xf7, BREAK},
    {0x2000, 0x203e, BREAK},    {0x203f, 0x2040, JOINER}, {0x2041, 0x2070, BREAK},
    {0x20a0, 0x20cf, BREAK},    {0x2190, 0x245f, BREAK},  {0x2500, 0x2bff, BREAK},
    {0x2e00, 0x2e7f, BREAK},    {0x3000, 0x3004, BREAK},  {0x3008, 0x3020, BREAK},
    {0x3030, 0x3030, BREAK},    {0x3040, 0x309f, SINGLE}, {0x3400, 0x4dbf, SINGLE},
    {0x4e00, 0x9fff, SINGLE},   {0xd800, 0xf8ff, BREAK},  {0xf900, 0xfaff, SINGLE},
    {0xfe10, 0xfe1f, BREAK},    {0xfe30, 0xfe6f, BREAK},  {0xfeff, 0xff0f, BREAK},
    {0xff10, 0xff19, DIGIT},    {0xff1a, 0xff20, BREAK},  {0xff3b, 0xff40, BREAK},
    {0xff5b, 0xff65, BREAK},    {0xfff0, 0xffff, BREAK},  {0x1f000, 0x1faff, BREAK},
    {0x20000, 0x2fa1f, SINGLE},
};

static sort_of sort_of_letter(uint32_t c)
{
    if (c < 0x80) {
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        return letter ? LETTER : c >= '0' && c <= '9' ? DIGIT : c == '_' ? JOINER : BREAK;
    }
    for (size_t i = 0; i < TW_COUNT(ranges) && ranges[i].from <= c; i++) {
        if (c <= ranges[i].upto) {
            return ranges[i].sort;
        }
    }
    return c <= 0x10ffff ? LETTER : BREAK;
}

static const struct {
    uint32_t from, upto;
    int32_t by; /* 0: an even letter is upper case, the next its lower; 1: an odd one is */
} cases[] = {
    {'A', 'Z', 32},       {0xc0, 0xd6, 32},   {0xd8, 0xde, 32},    {0x100, 0x12f, 0},
    {0x132, 0x137, 0},    {0x139, 0x148, 1},  {0x14a, 0x177, 0},   {0x178, 0x178, -121},
    {0x179, 0x17e, 1},    {0x218, 0x21f, 0},  {0x386, 0x386, 38},  {0x388, 0x38a, 37},
    {0x38c, 0x38c, 64},   {0x38e, 0x38f, 63}, {0x391, 0x3a1, 32},  {0x3a3, 0x3ab, 32},
    {0x400, 0x40f, 80},   {0x410, 0x42f, 32}, {0x460, 0x481, 0},   {0x48a, 0x4bf, 0},
    {0x4d0, 0x52f, 0},    {0x531, 0x556, 48}, {0x1e00, 0x1e95, 0}, {0x1ea0, 0x1eff, 0},
    {0xff21, 0xff3a, 32},
};

static uint32_t lower_of(uint32_t c)
{
    for (size_t i = 0; i < TW_COUNT(cases) && cases[i].from <= c; i++) {
        if (c > cases[i].upto) {
            continue;
        }
        if (cases[i].by == 0 || cases[i].by == 1) {
            return (c & 1) == (uint32_t)cases[i].by ? c + 1 : c;
        }
        return (uint32_t)((int32_t)c + cases[i].by);
    }
    return c;
}

/* Bytes of the letter at `at`; what is no UTF-8 is one byte and no letter. */
static size_t decode(const char *at, const char *end, uint32_t *out)
{
    const uint8_t *p = (const uint8_t *)at;
    size_t left = (size_t)(end - at);
    size_t len = p[0] < 0x80   ? 1
                 : p[0] < 0xc2 ? 0
                 : p[0] < 0xe0 ? 2
                 : p[0] < 0xf0 ? 3
                 : p[0] < 0xf5 ? 4
                               : 0;
    *out = 0xffff;
    if (len == 0 || len > left) {
        return 1;
    }
    uint32_t c = len == 1 ? p[0] : p[0] & (0x7fU >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 1;
        }
        c = c << 6 | (p[i] & 0x3f);
    }
    *out = c;
    return len;
}

static size_t encode(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    out[0] = (char)((0xf00U >> len & 0xff) | c);
    return len;
}

void search_text_init(search_text *self, tw_str text, uint32_t first_position)
{
    self->begin = self->at = text.ptr;
    self->end = text.ptr + text.len;
    self->position = first_position - 1;
    self->len = 0;
}

static bool is_between(uint32_t c, sort_of before, sort_of after)
{
    bool letters = before == LETTER && after == LETTER;
    bool digits = before == DIGIT && after == DIGIT;
    switch (c) {
    case '\'':
    case '.':
    case 0x2018:
    case 0x2019:
        return letters || digits;
    case ':':
    case 0xb7:
        return letters;
    case ',':
    case ';':
        return digits;
    default: /* any other letter */
        return false;
    }
}

bool search_text_next(search_text *self)
{
    sort_of last = BREAK;
    bool real = false;
    self->len = 0;
    while (self->at < self->end) {
        uint32_t c;
        size_t len = decode(self->at, self->end, &c);
        sort_of sort = sort_of_letter(c);
        if (sort == BREAK && self->len > 0 && self->at + len < self->end) {
            uint32_t next;
            (void)decode(self->at + len, self->end, &next);
            sort = is_between(c, last, sort_of_letter(next)) ? last : BREAK;
        }
        bool ends =
            sort == BREAK || (sort == SINGLE && self->len > 0) || self->len + len > SEARCH_TERM_MAX;
        if (self->len > 0 && ends) {
            if (real) {
                break;
            }
            self->len = 0; /* `_` alone is no term */
        }
        if (sort != BREAK) {
            self->from = self->len == 0 ? (size_t)(self->at - self->begin) : self->from;
            self->len += encode(lower_of(c), self->term + self->len);
            real = real || sort != JOINER;
            last = sort == JOINER ? last : sort;
        }
        self->at += len;
        if (sort == SINGLE) {
            break;
        }
    }
    self->upto = (size_t)(self->at - self->begin);
    self->position += self->len > 0 && real ? 1 : 0;
    return self->len > 0 && real;
}

size_t search_text_lower(tw_str text, char *out, size_t size)
{
    size_t len = 0;
    const char *end = text.ptr + text.len;
    for (const char *at = text.ptr; at < end && len + 4 <= size;) {
        uint32_t c;
        size_t step = decode(at, end, &c);
        len += encode(lower_of(c), out + len);
        at += step;
    }
    return len;
}
