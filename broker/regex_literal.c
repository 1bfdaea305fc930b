/* regex_literal.c - what must stand in a text that a pattern matches, read off the pattern.
 *
 * Of each alternative at the top the longest run of plain letters counts that must stand there as
 * it is. Groups, classes and what may be left out only end a run; at whatever is not known here the
 * whole pattern has none. So a text that is found is certain, and one that is missed costs speed
 * alone.
 * Without regard to case PCRE2 takes more for equal than ASCII knows: the Kelvin sign is a k, the
 * long s an s, and other scripts have cases of their own. Those letters end a run then. */
#include "broker/regex.h"

enum { LITERAL_LEAST = 2, DEPTH_MAX = 32 };

typedef struct reader {
    const char *at;
    const char *end;
    bool is_caseless;
    size_t len; /* of the run at hand */
    char run[TW_REGEX_MAX];
    size_t best_len; /* of this alternative */
    char best[REGEX_LITERAL_BYTES];
} reader;

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static void end_run(reader *self)
{
    TW_ASSERT(self->len <= sizeof self->run);
    size_t len = self->len < REGEX_LITERAL_BYTES ? self->len : REGEX_LITERAL_BYTES;
    if (len > self->best_len) {
        memcpy(self->best, self->run, len);
        self->best_len = len;
    }
    self->len = 0;
}

/* The last letter of the run may be missing: a whole one, of several bytes beyond ASCII. */
static void drop_last(reader *self)
{
    while (self->len > 0 && ((unsigned char)self->run[self->len - 1] & 0xc0) == 0x80) {
        self->len--;
    }
    self->len -= self->len > 0 ? 1 : 0;
}

static void add_letter(reader *self, char c)
{
    TW_ASSERT(self->len < sizeof self->run);
    bool is_upper = c >= 'A' && c <= 'Z';
    char folded = (char)(is_upper ? c | 0x20 : c);
    if (self->is_caseless && ((unsigned char)c >= 0x80 || folded == 'k' || folded == 's')) {
        end_run(self);
        return;
    }
    self->run[self->len++] = folded;
}

/* Steps over a class; the reader stands on its bracket. False: it is not understood. */
static bool skip_class(reader *self)
{
    const char *p = self->at + 1;
    TW_ASSERT(*self->at == '[');
    p += p < self->end && *p == '^' ? 1 : 0;
    p += p < self->end && *p == ']' ? 1 : 0; /* a letter there */
    for (; p < self->end && *p != ']'; p++) {
        if (*p == '[' || (*p == '\\' && (p + 1 == self->end || p[1] == 'Q' || p[1] == 'E' ||
                                         p[1] == 'c' || p[1] == 'N'))) {
            return false;
        }
        p += *p == '\\' ? 1 : 0;
    }
    self->at = p + 1;
    return p < self->end;
}

/* An escape outside a class. *letter: what it stands for, or 0 for a kind of letter or a place. */
static bool read_escape(reader *self, char *letter)
{
    TW_ASSERT(*self->at == '\\');
    if (self->at + 1 == self->end) {
        return false;
    }
    char c = self->at[1];
    self->at += 2;
    *letter = 0;
    if ((unsigned char)c >= 0x80) {
        return false;
    }
    if (!is_alnum(c)) {
        *letter = c;
        return c != 0;
    }
    return memchr("dDsSwWbBAzZhHvVR", c, 16) != NULL;
}

/* Steps over a group and those inside it. */
static bool skip_group(reader *self)
{
    int depth = 0;
    TW_ASSERT(*self->at == '(');
    while (self->at < self->end) {
        char letter;
        if (*self->at == '[') {
            if (!skip_class(self)) {
                return false;
            }
            continue;
        }
        if (*self->at == '\\') {
            if (!read_escape(self, &letter)) {
                return false;
            }
            continue;
        }
        if (*self->at == '(') {
            bool is_plain = self->at + 1 < self->end && self->at[1] != '?' && self->at[1] != '*';
            bool is_bare = self->at + 2 < self->end && self->at[1] == '?' && self->at[2] == ':';
            if (++depth > DEPTH_MAX || !(is_plain || is_bare)) {
                return false;
            }
        }
        if (*self->at == ')' && --depth == 0) {
            self->at++;
            return true;
        }
        self->at++;
    }
    return false;
}

/* A repeat behind what was read last; *is_certain: that stands there once at least. */
static bool read_repeat(reader *self, bool *found, bool *is_certain)
{
    *found = false;
    *is_certain = true;
    if (self->at == self->end || memchr("*+?{", *self->at, 4) == NULL) {
        return true;
    }
    *found = true;
    *is_certain = *self->at == '+';
    if (*self->at ==
        '{') { /* a plain brace where PCRE2 sees one: then letters are missed, no more */
        do {
            self->at++;
        } while (self->at < self->end &&
                 ((*self->at >= '0' && *self->at <= '9') || *self->at == ','));
        if (self->at == self->end || *self->at != '}') {
            return false;
        }
    }
    self->at++;
    if (self->at < self->end && (*self->at == '?' || *self->at == '+')) {
        self->at++; /* lazy or possessive */
    }
    return true;
}

/* One thing of the pattern with its repeat. False: it is not understood. */
static bool read_item(reader *self)
{
    char c = *self->at;
    char letter = c;
    TW_ASSERT(self->at < self->end);
    if (c == '(' || c == '[') {
        end_run(self);
        letter = 0;
        if (c == '(' ? !skip_group(self) : !skip_class(self)) {
            return false;
        }
    } else if (c == '\\') {
        if (!read_escape(self, &letter)) {
            return false;
        }
    } else if (c == '.' || c == '^' || c == '$') {
        letter = 0;
        self->at++;
    } else if (c == 0 || memchr("*+?{)", c, 5) != NULL) {
        return false;
    } else {
        self->at++;
    }
    if (letter != 0) {
        add_letter(self, letter);
        while (self->at < self->end && ((unsigned char)*self->at & 0xc0) == 0x80) {
            add_letter(self, *self->at++); /* the rest of a letter beyond ASCII */
        }
    } else {
        end_run(self);
    }
    bool is_repeated;
    bool is_certain;
    if (!read_repeat(self, &is_repeated, &is_certain)) {
        return false;
    }
    if (is_repeated && !is_certain) {
        drop_last(self);
    }
    if (is_repeated) {
        end_run(self);
    }
    return true;
}

bool regex_literals_read(tw_str pattern, tw_str options, regex_literals *out)
{
    TW_ASSERT(pattern.len <= TW_REGEX_MAX);
    TW_ASSERT(out != NULL);
    reader self;
    self.at = pattern.ptr;
    self.end = pattern.ptr + pattern.len;
    self.is_caseless = options.len > 0 && memchr(options.ptr, 'i', options.len) != NULL;
    self.len = 0;
    self.best_len = 0;
    out->count = 0;
    if (pattern.len == 0 || (options.len > 0 && memchr(options.ptr, 'x', options.len) != NULL)) {
        return false;
    }
    for (;;) {
        bool ends = self.at == self.end || *self.at == '|';
        if (!ends) {
            if (!read_item(&self)) {
                return false;
            }
            continue;
        }
        end_run(&self);
        if (self.best_len < LITERAL_LEAST || out->count == REGEX_LITERALS_MAX) {
            return false;
        }
        memcpy(out->at[out->count], self.best, self.best_len);
        out->len[out->count++] = self.best_len;
        self.best_len = 0;
        if (self.at == self.end) {
            return true;
        }
        self.at++;
    }
}
