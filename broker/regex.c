/* regex.c - $regex by PCRE2, bounded.
 *
 * PCRE2 counts its steps anew for each place in the text where a match may begin, which would make
 * the bound one per byte. So a pattern that may begin anywhere is compiled behind a lazy
 * "anything", anchored at the start: then one count covers the whole text.
 *                                                       Source  pcre2api(3), pcre2pattern(3) */
#include "broker/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
    REGEX_STACK_BYTES = 49152, /* PCRE2 10.42 begins with 20 KiB of frames and then doubles */
    REGEX_GROUPS_MAX = 32,     /* groups inside groups */
    REGEX_SOURCE_MAX = TW_REGEX_MAX + 32,
};

struct regex {
    pcre2_code *code; /* own */
    bool is_caseless;
    bool is_extended;
    regex_screen screen;
    size_t pattern_len;
    char pattern[]; /* behind the struct: for what is read off it */
};

/* ---- what is refused before PCRE2 sees it ---- */

/* Where the look-over of a pattern stands. */
typedef struct scan {
    const char *at;
    const char *end;
    int depth;
    bool repeats[REGEX_GROUPS_MAX + 1]; /* the open group holds a repeat */
} scan;

/* Reads a quantifier at *at. many: more than once; varies: not a fixed number of times. */
static bool scan_quantifier(scan *self, bool *many, bool *varies)
{
    TW_ASSERT(self->at <= self->end);
    TW_ASSERT(many != NULL && varies != NULL);
    *many = false;
    *varies = false;
    if (self->at == self->end) {
        return false;
    }
    char c = *self->at;
    if (c == '*' || c == '+' || c == '?') {
        self->at++;
        *many = c != '?';
        *varies = c != '?';
    } else if (c == '{') {
        const char *p = self->at + 1;
        unsigned low = 0;
        unsigned high = 0;
        bool comma = false;
        bool digits = false;
        for (; p < self->end && ((*p >= '0' && *p <= '9') || *p == ','); p++) {
            if (*p == ',') {
                comma = true;
                continue;
            }
            digits = true;
            unsigned *number = comma ? &high : &low;
            *number = *number < 100000 ? *number * 10 + (unsigned)(*p - '0') : *number;
        }
        if (p == self->end || *p != '}' || !digits) {
            return false; /* a plain brace */
        }
        self->at = p + 1;
        *varies = comma && high != low;
        *many = comma ? high != 1 : low > 1;
    } else {
        return false;
    }
    if (self->at < self->end && (*self->at == '?' || *self->at == '+')) {
        self->at++; /* lazy or possessive */
    }
    return true;
}

/* Steps over [...]; the caller stands on the bracket. */
static void scan_class(scan *self)
{
    TW_ASSERT(self->at < self->end);
    TW_ASSERT(*self->at == '[');
    self->at++;
    if (self->at < self->end && *self->at == '^') {
        self->at++;
    }
    if (self->at < self->end && *self->at == ']') {
        self->at++; /* a bracket in the first place is a letter */
    }
    while (self->at < self->end && *self->at != ']') {
        if (*self->at == '\\' && self->at + 1 < self->end) {
            self->at++;
        } else if (*self->at == '[' && self->at + 1 < self->end && self->at[1] == ':') {
            const char *close = memmem(self->at, (size_t)(self->end - self->at), ":]", 2);
            self->at = close == NULL ? self->at : close + 1;
        }
        self->at++;
    }
    self->at = self->at < self->end ? self->at + 1 : self->end;
}

/* Steps over an opening bracket; names what is not offered, or NULL. */
static const char *scan_open(scan *self)
{
    TW_ASSERT(self->at < self->end);
    TW_ASSERT(*self->at == '(');
    size_t left = (size_t)(self->end - self->at);
    if (left > 1 && self->at[1] == '*') {
        return "(* verbs";
    }
    if (left > 2 && self->at[1] == '?') {
        char c = self->at[2];
        char d = left > 3 ? self->at[3] : '\0';
        if (c == 'R' || c == '&' || c == '+' || (c >= '0' && c <= '9') ||
            (c == '-' && d >= '0' && d <= '9') || (c == 'P' && (d == '>' || d == '='))) {
            return "references to groups";
        }
        if (c == '(' || c == 'C' || c == '|') {
            return "conditions, callouts and (?|";
        }
    }
    if (self->depth == REGEX_GROUPS_MAX) {
        return "so many groups inside groups";
    }
    self->repeats[++self->depth] = false;
    self->at++;
    if (self->at < self->end && *self->at == '?') {
        self->at++; /* (?: and its kin: no quantifier */
    }
    return NULL;
}

/* Steps over an escape; names what is not offered, or NULL. */
static const char *scan_escape(scan *self)
{
    TW_ASSERT(self->at < self->end);
    TW_ASSERT(*self->at == '\\');
    char c = self->at + 1 < self->end ? self->at[1] : '\0';
    if (c == 'Q') {
        const char *close = memmem(self->at, (size_t)(self->end - self->at), "\\E", 2);
        self->at = close == NULL ? self->end : close + 2;
        return NULL;
    }
    if ((c >= '1' && c <= '9') || c == 'g' || c == 'k') {
        return "back-references";
    }
    self->at += self->at + 1 < self->end ? 2 : 1;
    return NULL;
}

/* Looks a pattern over. Returns what of it is not offered, or NULL. */
static const char *scan_pattern(tw_str pattern, bool extended)
{
    scan self = {.at = pattern.ptr, .end = pattern.ptr + pattern.len};
    TW_ASSERT(pattern.len <= TW_REGEX_MAX);
    while (self.at < self.end) {
        char c = *self.at;
        bool group_repeats = false;
        const char *refused = NULL;
        if (c == '(') {
            refused = scan_open(&self);
            if (refused == NULL) {
                continue;
            }
        } else if (c == '\\') {
            refused = scan_escape(&self);
        } else if (c == '[') {
            scan_class(&self);
        } else if (c == '#' && extended) {
            const char *line = memchr(self.at, '\n', (size_t)(self.end - self.at));
            self.at = line == NULL ? self.end : line + 1;
            continue;
        } else if (c == ')') {
            if (self.depth == 0) {
                return "a closing bracket without an opening one";
            }
            group_repeats = self.repeats[self.depth--];
            self.at++;
        } else {
            self.at++;
        }
        if (refused != NULL) {
            return refused;
        }
        bool many;
        bool varies;
        bool quantified = scan_quantifier(&self, &many, &varies);
        if (quantified && many && group_repeats) {
            return "a repeat inside a repeat";
        }
        self.repeats[self.depth] = self.repeats[self.depth] || varies || group_repeats;
    }
    return NULL;
}

/* ---- compiling ---- */

static void *from_heap(size_t bytes, void *context)
{
    (void)context;
    return tw_alloc(bytes);
}

static void to_heap(void *ptr, void *context)
{
    (void)context;
    tw_free(ptr);
}

static bool read_options(tw_str options, uint32_t *flags)
{
    TW_ASSERT(flags != NULL);
    TW_ASSERT(options.ptr != NULL || options.len == 0);
    *flags = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE;
    for (size_t i = 0; i < options.len; i++) {
        switch (options.ptr[i]) {
        case 'i':
            *flags |= PCRE2_CASELESS;
            break;
        case 'm':
            *flags |= PCRE2_MULTILINE;
            break;
        case 's':
            *flags |= PCRE2_DOTALL;
            break;
        case 'x':
            *flags |= PCRE2_EXTENDED;
            break;
        default:
            return false;
        }
    }
    return true;
}

static pcre2_code *compile(tw_str source, uint32_t flags, pcre2_compile_context *context,
                           tw_err *err, broker_why *why)
{
    int number = 0;
    PCRE2_SIZE at = 0;
    TW_ASSERT(context != NULL);
    TW_ASSERT(source.ptr != NULL);
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)source.ptr, source.len, flags, &number, &at, context);
    if (code == NULL && number == PCRE2_ERROR_HEAP_FAILED) {
        *err = TW_E_NO_MEMORY;
    } else if (code == NULL) {
        char text[120] = "";
        pcre2_get_error_message(number, (PCRE2_UCHAR *)text, sizeof text);
        *err = broker_refuse(why, TW_E_BAD_FILTER, "$regex: %s (at byte %zu)", text, at);
    }
    return code;
}

/* What PCRE2 knows of where a match may begin. Of a plain letter it does not tell whether case
 * counts, so both cases are taken, and none of k and s, which have cases beyond ASCII. */
static void read_screen(const pcre2_code *plain, regex_screen *out)
{
    uint32_t all = 0;
    uint32_t kind = 0;
    uint32_t letter = 0;
    const uint8_t *bits = NULL;
    TW_ASSERT(out != NULL);
    pcre2_pattern_info(plain, PCRE2_INFO_ALLOPTIONS, &all);
    pcre2_pattern_info(plain, PCRE2_INFO_MINLENGTH, &out->len_min);
    pcre2_pattern_info(plain, PCRE2_INFO_FIRSTCODETYPE, &kind);
    pcre2_pattern_info(plain, PCRE2_INFO_FIRSTCODEUNIT, &letter);
    pcre2_pattern_info(plain, PCRE2_INFO_FIRSTBITMAP, &bits);
    out->is_anchored = (all & PCRE2_ANCHORED) != 0;
    memset(out->bytes, 0xff, sizeof out->bytes);
    uint32_t lower = letter | 0x20;
    if (bits != NULL) {
        memcpy(out->bytes, bits, sizeof out->bytes);
    } else if (kind == 1 && letter < 0x80 && lower != 'k' && lower != 's') {
        memset(out->bytes, 0, sizeof out->bytes);
        out->bytes[letter >> 6] |= (uint64_t)1 << (letter & 63);
        if (lower >= 'a' && lower <= 'z') {
            out->bytes[1] |= (uint64_t)1 << (lower & 63) | (uint64_t)1 << (lower - 0x60);
        }
    }
}

/* Compiles pattern as it stands and, unless it is anchored, once more behind a lazy "anything". */
static tw_err compile_bounded(tw_str pattern, uint32_t flags, pcre2_compile_context *context,
                              regex *to, broker_why *why)
{
    pcre2_code **out = &to->code;
    TW_ASSERT(pattern.len <= TW_REGEX_MAX);
    TW_ASSERT(to->code == NULL);
    tw_err err = TW_OK;
    pcre2_code *plain = compile(pattern, flags, context, &err, why);
    if (plain == NULL) {
        return err;
    }
    uint32_t references = 0;
    uint32_t all = 0;
    pcre2_pattern_info(plain, PCRE2_INFO_BACKREFMAX, &references);
    pcre2_pattern_info(plain, PCRE2_INFO_ALLOPTIONS, &all);
    if (references != 0) {
        pcre2_code_free(plain);
        return broker_refuse(why, TW_E_BAD_FILTER, "$regex: back-references are not offered");
    }
    read_screen(plain, &to->screen);
    if ((all & PCRE2_ANCHORED) != 0) {
        *out = plain;
        return TW_OK;
    }
    pcre2_code_free(plain);
    /* \E ends an open \Q; a comment of the extended form ends with its line only. */
    static const char *const endings[] = {"\\E)", "\\E\n)"};
    char source[REGEX_SOURCE_MAX];
    for (size_t i = 0; i < TW_COUNT(endings); i++) {
        size_t len = tw_format(source, sizeof source, "(?s:.*?)(?:");
        memcpy(source + len, pattern.ptr, pattern.len);
        len += pattern.len;
        memcpy(source + len, endings[i], strlen(endings[i]));
        len += strlen(endings[i]);
        *out = compile((tw_str){source, len}, flags | PCRE2_ANCHORED, context, &err, why);
        if (*out != NULL || err == TW_E_NO_MEMORY) {
            break;
        }
    }
    return *out != NULL ? TW_OK : err;
}

tw_err regex_new(tw_str pattern, tw_str options, regex **out, broker_why *why)
{
    TW_ASSERT(out != NULL);
    TW_ASSERT(pattern.ptr != NULL || pattern.len == 0);
    *out = NULL;
    uint32_t flags = 0;
    char shown[BROKER_SHOWN_MAX];
    if (pattern.len > TW_REGEX_MAX) {
        return broker_refuse(why, TW_E_BAD_FILTER, "$regex: over %d bytes", TW_REGEX_MAX);
    }
    if (!read_options(options, &flags)) {
        return broker_refuse(why, TW_E_BAD_FILTER, "$options: \"%s\" has other letters than imsx",
                             broker_show(options, shown));
    }
    const char *refused = scan_pattern(pattern, (flags & PCRE2_EXTENDED) != 0);
    if (refused != NULL) {
        return broker_refuse(why, TW_E_BAD_FILTER, "$regex: %s: not offered", refused);
    }
    pcre2_general_context *memory = pcre2_general_context_create(from_heap, to_heap, NULL);
    pcre2_compile_context *context = memory == NULL ? NULL : pcre2_compile_context_create(memory);
    regex *made = tw_alloc_zero(1, sizeof *made + pattern.len);
    tw_err err = context == NULL || made == NULL ? TW_E_NO_MEMORY : TW_OK;
    if (err == TW_OK) {
        tw_str text = pattern.len == 0 ? TW_STR("") : pattern;
        err = compile_bounded(text, flags, context, made, why);
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    if (err != TW_OK) {
        tw_free(made);
        return err;
    }
    made->is_caseless = (flags & PCRE2_CASELESS) != 0;
    made->is_extended = (flags & PCRE2_EXTENDED) != 0;
    made->pattern_len = pattern.len;
    if (pattern.len > 0) {
        memcpy(made->pattern, pattern.ptr, pattern.len);
    }
    *out = made;
    return TW_OK;
}

const regex_screen *regex_screen_of(const regex *self)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(self->code != NULL);
    return &self->screen;
}

bool regex_literals_of(const regex *self, regex_literals *out)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(self->code != NULL);
    tw_str options = self->is_caseless ? TW_STR("ix") : TW_STR("x");
    options.len -= self->is_extended ? 0 : 1;
    return regex_literals_read((tw_str){self->pattern, self->pattern_len}, options, out);
}

void regex_free(regex **self)
{
    TW_ASSERT(self != NULL);
    if (*self == NULL) {
        return;
    }
    TW_ASSERT((*self)->code != NULL);
    pcre2_code_free((*self)->code);
    tw_free(*self);
    *self = NULL;
}

/* ---- matching: PCRE2's memory is a piece of the stack, given out once and never taken back
 * ---- */

typedef struct stack_memory {
    _Alignas(16) char bytes[REGEX_STACK_BYTES];
    size_t used;
} stack_memory;

static void *from_stack(size_t bytes, void *context)
{
    stack_memory *memory = context;
    TW_ASSERT(memory != NULL);
    TW_ASSERT(memory->used <= sizeof memory->bytes);
    size_t rounded = (bytes + 15) & ~(size_t)15;
    if (rounded < bytes || rounded > sizeof memory->bytes - memory->used) {
        return NULL;
    }
    void *given = memory->bytes + memory->used;
    memory->used += rounded;
    return given;
}

static void to_stack(void *ptr, void *context)
{
    (void)ptr;
    (void)context;
}

regex_result regex_match(const regex *self, tw_str text)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(self->code != NULL);
    if (text.len > TW_REGEX_SUBJECT_MAX) {
        return REGEX_NO;
    }
    stack_memory memory;
    memory.used = 0;
    pcre2_general_context *general = pcre2_general_context_create(from_stack, to_stack, &memory);
    TW_ASSERT(general != NULL);
    pcre2_match_context *context = pcre2_match_context_create(general);
    pcre2_match_data *data = pcre2_match_data_create(1, general);
    TW_ASSERT(context != NULL && data != NULL);
    pcre2_set_match_limit(context, (uint32_t)(TW_REGEX_STEPS_MAX + text.len));
    int found = pcre2_match(self->code, (PCRE2_SPTR)(text.len == 0 ? "" : text.ptr), text.len, 0, 0,
                            data, context);
    if (found >= 0) {
        return REGEX_YES;
    }
    /* No match, or text that is not UTF-8: no. A limit of steps or of memory: costly. */
    bool limit = found == PCRE2_ERROR_MATCHLIMIT || found == PCRE2_ERROR_HEAPLIMIT ||
                 found == PCRE2_ERROR_DEPTHLIMIT || found == PCRE2_ERROR_NOMEMORY;
    return limit ? REGEX_COSTLY : REGEX_NO;
}
