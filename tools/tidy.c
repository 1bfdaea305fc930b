/* tidy.c - polices the architecture: reads every file of a tree and reports what breaks a rule.
 *
 *   tidy ROOT            checks; prints path:line: rule: text, then one TAP line per rule
 *   tidy --shrink ROOT   lowers the entries of tools/long_functions.txt that got shorter
 *
 * The rules are the tables below: arrows between folders, homes of third-party headers, banned
 * calls with their replacement, and checks on single files. A line may be excepted where a rule's
 * reason does not hold, by a comment on it or on a line of its own above it that says why:
 *
 *   memcpy(...) comment-start tidy: the reason, in words comment-end
 *
 * An exception without a reason, or one that excepts nothing, is itself reported. What .gitignore
 * names is not read. The tool knows C well enough for this and no better: comments and strings are
 * blanked first, then words and braces are counted. tidy_test.c plants a violation of every rule.
 *
 * Order of this file: rules, files and text, reports, checks of one file, of the tree, main. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    COLUMNS_MAX = 100,
    FUNCTION_LINES_MAX = 70,
    BLOB_BYTES_MAX = 256 << 10,
    MAGIC_MAX = 0x7fffffff, /* an enumerator is an int */
    REASON_CHARS_MIN = 8,
    PATH_CHARS_MAX = 1024,
    FILES_MAX = 20000,
    NAMES_MAX = 4096, /* magics, message ids, long functions: each */
    PATTERNS_MAX = 256,
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* -- Rules ------------------------------------------------------------------------------------ */

#define RULES(X)                                                                                   \
    X(INCLUDE_DIRECTION, "include-direction", "includes flow one way")                             \
    X(HEADER_HOME, "header-home", "a third-party or system header stays in its files")             \
    X(BANNED_CALL, "banned-call", "calls that have a replacement")                                 \
    X(DEAD_FILE, "dead-file", "every file is built, included or found by a folder")                \
    X(DUPLICATE_MAGIC, "duplicate-magic", "a magic belongs to one type and fits an int")           \
    X(DUPLICATE_MESSAGE, "duplicate-message", "message ids and names are unique")                  \
    X(COLUMNS, "columns", "lines have at most 100 columns")                                        \
    X(BLOB, "blob", "files have at most 256 KiB")                                                  \
    X(DEBT, "needswork", "debt names its issue")                                                   \
    X(LONG_FUNCTION, "long-function", "functions have at most 70 lines; the list only shrinks")    \
    X(PRAGMA_ONCE, "pragma-once", "each header has it")                                            \
    X(MACHINE_PATH, "machine-path", "no path of a certain machine")                                \
    X(EXCEPTION, "exception", "an exception has a reason and a use")

enum rule {
#define X(id, name, doc) RULE_##id,
    RULES(X)
#undef X
};

static const struct {
    const char *name;
    const char *doc;
} rules[] = {
#define X(id, name, doc) {name, doc},
    RULES(X)
#undef X
};

/* Who a file is, for the arrows. FREE may include all; OUTSIDE has no rules. */
enum area {
    AREA_PROTOCOL,
    AREA_BROKER,
    AREA_RUNTIME,
    AREA_LOG,
    AREA_ACTORS,
    AREA_WIRE,
    AREA_STREAMS,
    AREA_REQUEST,
    AREA_WEB,
    AREA_SERVICE,
    AREA_AUTH,
    AREA_GATEWAYS,
    AREA_CLI,
    AREA_CLIENT,
    AREA_LOAD,
    AREA_FREE,
    AREA_OUTSIDE,
};

#define TO(area) (1u << AREA_##area)

/* The first row whose prefix fits decides. `may`: what it includes. Actors do not include their
 * like, except through peers_of_one(). */
static const struct {
    const char *prefix;
    enum area area;
    unsigned may;
} arrows[] = {
    {"protocol/", AREA_PROTOCOL, TO(PROTOCOL)},
    {"broker/", AREA_BROKER, TO(BROKER) | TO(PROTOCOL)},
    {"actors/runtime/", AREA_RUNTIME, TO(RUNTIME) | TO(PROTOCOL)},
    {"actors/log/", AREA_LOG, TO(LOG) | TO(RUNTIME) | TO(BROKER) | TO(PROTOCOL)},
    {"actors/", AREA_ACTORS, TO(LOG) | TO(RUNTIME) | TO(BROKER) | TO(PROTOCOL)},
    {"gateways/wire/", AREA_WIRE, TO(WIRE) | TO(RUNTIME) | TO(PROTOCOL)},
    {"gateways/streams/", AREA_STREAMS,
     TO(STREAMS) | TO(WIRE) | TO(RUNTIME) | TO(BROKER) | TO(PROTOCOL)},
    {"gateways/request/", AREA_REQUEST,
     TO(REQUEST) | TO(STREAMS) | TO(RUNTIME) | TO(BROKER) | TO(PROTOCOL)},
    {"gateways/web/", AREA_WEB,
     TO(WEB) | TO(REQUEST) | TO(STREAMS) | TO(WIRE) | TO(AUTH) | TO(RUNTIME) | TO(BROKER) |
         TO(PROTOCOL)},
    {"gateways/service/", AREA_SERVICE,
     TO(SERVICE) | TO(REQUEST) | TO(STREAMS) | TO(AUTH) | TO(RUNTIME) | TO(BROKER) | TO(PROTOCOL)},
    {"gateways/auth/", AREA_AUTH, TO(AUTH) | TO(BROKER) | TO(PROTOCOL)},
    {"gateways/", AREA_GATEWAYS, 0},   /* rooms only: no file stands here itself */
    {"cli/serve/", AREA_CLI, ~0u},     /* the wiring: names every actor and gateway */
    {"cli/version.c", AREA_FREE, ~0u}, /* asks every library for its version */
    {"cli/doctor.c", AREA_CLI,
     TO(CLI) | TO(CLIENT) | TO(AUTH) | TO(BROKER) | TO(PROTOCOL) | TO(ACTORS)},
    {"cli/", AREA_CLI, TO(CLI) | TO(CLIENT) | TO(LOAD) | TO(AUTH) | TO(BROKER) | TO(PROTOCOL)},
    {"clients/c/examples/", AREA_FREE, ~0u}, /* programs of their own */
    {"clients/c/", AREA_CLIENT, TO(CLIENT) | TO(PROTOCOL)},
    {"main.c", AREA_FREE, ~0u},
    {"tests/", AREA_FREE, ~0u},
    {"bench/load/", AREA_LOAD, TO(LOAD) | TO(PROTOCOL)}, /* a part of the program: tidewire bench */
    {"bench/", AREA_FREE, ~0u},
    {"tools/", AREA_FREE, ~0u},
};

/* Where a header may be included; `homes` ends with NULL. In areas that are FREE: anywhere. */
static const struct {
    const char *header; /* a prefix */
    const char *homes[8];
} header_homes[] = {
    {"msgpack", {"protocol/codec.c", "protocol/codec_*.[ch]", "clients/c/*.c"}},
    {"nng/",
     {"actors/runtime/transport.c", "actors/runtime/transport_*.[ch]", "gateways/service/*.[ch]",
      "clients/c/*.c", "clients/c/service*.h", "*nng_link.[ch]"}},
    {"libwebsockets", {"gateways/web/*.[ch]", "*lws_link.[ch]", "clients/c/*.c"}},
    {"mongoc/", {"actors/mongo/*.[ch]"}},
    {"bson/",
     {"protocol/json*.[ch]", "protocol/bson*.[ch]", "actors/mongo/*.[ch]", "clients/c/*.[ch]"}},
    {"curl/", {"actors/search/es_proxy*.[ch]", "*curl_link.[ch]"}},
    {"sqlite3",
     {"actors/log/log_table*.[ch]", "actors/search/embedded_search*.[ch]", "*sqlite_link.[ch]",
      "tests/support/fault_vfs.c"}},
    {"cyaml/", {"cli/config*.[ch]"}},
    {"openssl/", {"gateways/auth/*.[ch]", "*tls_link.[ch]", "bench/load/load_tls.c"}},
    {"pcre2.h", {"broker/regex.c"}},
    {"pthread.h", {"actors/runtime/*.[ch]", "clients/c/*.c"}},
    {"cmocka.h", {NULL}},
};

/* What broker/ is kept from: it is pure, so any run of it can be replayed. */
static const char *const not_in_broker[] = {"time.h",   "sys/", "unistd.h", "fcntl.h", "netdb.h",
                                            "signal.h", "poll", "dirent.h", "arpa/",   "netinet/"};

#define EVERYWHERE (~0u)
#define PRODUCT    (TO(FREE) - 1) /* the areas before it */

/* Calls, what to write instead, and the areas in which that holds. A name that ends with * stands
 * for all that begin so. */
static const struct {
    const char *name;
    const char *instead;
    unsigned areas;
} banned_calls[] = {
    {"sprintf", "tw_format", EVERYWHERE},
    {"vsprintf", "tw_format", EVERYWHERE},
    {"strcpy", "tw_format or memcpy", EVERYWHERE},
    {"stpcpy", "tw_format or memcpy", EVERYWHERE},
    {"strcat", "tw_format", EVERYWHERE},
    {"strncpy", "tw_format or memcpy", EVERYWHERE},
    {"strtok", "strtok_r", EVERYWHERE},
    {"gets", "fgets", EVERYWHERE},
    {"atoi", "tw_parse_u64", EVERYWHERE},
    {"atol", "tw_parse_u64", EVERYWHERE},
    {"atoll", "tw_parse_u64", EVERYWHERE},
    {"atof", "strtod, and look where it ended", EVERYWHERE},
    {"assert", "TW_ASSERT", PRODUCT},
    {"sleep", "a timer, or wait for a condition", EVERYWHERE},
    {"usleep", "a timer, or wait for a condition", EVERYWHERE},
    {"time", "in->now_ms", PRODUCT & ~(TO(RUNTIME) | TO(CLI) | TO(CLIENT))},
    {"gettimeofday", "in->now_ms", PRODUCT & ~(TO(RUNTIME) | TO(CLI) | TO(CLIENT))},
    {"malloc", "the pool or the arena", TO(BROKER) | TO(LOG) | TO(ACTORS)},
    {"calloc", "the pool or the arena", TO(BROKER) | TO(LOG) | TO(ACTORS)},
    {"realloc", "the pool or the arena", TO(BROKER) | TO(LOG) | TO(ACTORS)},
    {"reallocarray", "the pool or the arena", TO(BROKER) | TO(LOG) | TO(ACTORS)},
    {"aligned_alloc", "the pool or the arena", TO(BROKER) | TO(LOG) | TO(ACTORS)},
    {"strdup", "tw_arena", TO(BROKER) | TO(LOG) | TO(ACTORS)},
    {"strndup", "tw_arena", TO(BROKER) | TO(LOG) | TO(ACTORS)},
    {"asprintf", "tw_format", TO(BROKER) | TO(LOG) | TO(ACTORS)},
    {"pthread_*", "a message", PRODUCT & ~(TO(RUNTIME) | TO(CLIENT))},
    {"printf", "tw_log", PRODUCT & ~(TO(CLI) | TO(LOAD))},
    {"fprintf", "tw_log", PRODUCT & ~(TO(CLI) | TO(LOAD))},
    {"vprintf", "tw_log", PRODUCT & ~(TO(CLI) | TO(LOAD))},
    {"puts", "tw_log", PRODUCT & ~(TO(CLI) | TO(LOAD))},
    {"putchar", "tw_log", PRODUCT & ~(TO(CLI) | TO(LOAD))},
    {"perror", "tw_log", PRODUCT & ~(TO(CLI) | TO(LOAD))},
};

/* The folders that the build lists; a C source elsewhere is in no program. */
static const char *const source_folders[] = {
    "protocol/*",  "broker/*",        "actors/*",        "gateways/*", "cli/*",
    "clients/c/*", "tests/regress/*", "tests/support/*", "bench/*",    "tools/*",
};

/* First folders of paths that exist on one machine only. */
static const char *const machine_folders[] = {"home", "root", "tmp", "work", "Users", "mnt"};
static const char debt_word[] = "NEEDSWORK";                       /* tidy: the rule's own word */
static const char *const debt_slang[] = {"TODO", "FIXME", "XXX:"}; /* tidy: the rule's own words */
static const char exception_word[] = "tidy: ";

/* -- Files and text --------------------------------------------------------------------------- */

enum language { LANGUAGE_NONE, LANGUAGE_C, LANGUAGE_OTHER, LANGUAGE_PROSE };

struct file {
    char *path; /* from the root */
    char *text; /* own; NULL where it is no text that we check */
    char *code; /* own; C only: comments and strings blanked, same offsets */
    size_t bytes;
    enum language language;
    int *exceptions; /* own; for each line: 0 none, 1 unused, 2 used, 3 in the line above */
    int lines;
    bool included; /* headers: by somebody */
};

struct named {
    char name[256];
    const char *path;
    int line;
    long value;
};

static struct file files[FILES_MAX];
static size_t files_count;
static const char *root_dir;
static char *ignored[PATTERNS_MAX]; /* own; from .gitignore */
static size_t ignored_count;
static int reported[COUNT(rules)];
static struct named magics[NAMES_MAX], messages[NAMES_MAX], functions[NAMES_MAX], listed[NAMES_MAX];
static size_t magics_count, messages_count, functions_count, listed_count;

static void die(const char *what, const char *path)
{
    fprintf(stderr, "tidy: %s: %s\n", path, what);
    exit(2);
}

static char *copy_text(const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL) {
        die("no memory", text);
    }
    return copy;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* A pattern's * also crosses slashes: "actors/" and a star is the folder and all below it. */
static bool fits(const char *pattern, const char *path)
{
    return fnmatch(pattern, path, 0) == 0;
}

static bool fits_any(const char *const *patterns, size_t count, const char *path)
{
    for (size_t i = 0; i < count && patterns[i] != NULL; i++) {
        if (fits(patterns[i], path)) {
            return true;
        }
    }
    return false;
}

static char *read_text(const char *path, size_t bytes)
{
    FILE *stream = fopen(path, "rb");
    char *text = malloc(bytes + 1);
    if (text == NULL) {
        die("no memory", path);
    }
    if (stream == NULL) {
        free(text);
        return NULL; /* it went away meanwhile */
    }
    size_t got = fread(text, 1, bytes, stream);
    fclose(stream);
    text[got] = '\0';
    return text;
}

/* Blanks comments and what stands in quotes; newlines stay, so lines and offsets are the same. */
static char *blank_comments(const char *text)
{
    char *code = copy_text(text);
    enum { CODE, LINE_COMMENT, BLOCK_COMMENT, STRING, CHARACTER } state = CODE;
    for (size_t i = 0; code[i] != '\0'; i++) {
        char c = text[i], next = text[i + 1];
        bool blank = state != CODE;
        if (state == CODE) {
            if (c == '/' && (next == '/' || next == '*')) {
                state = next == '/' ? LINE_COMMENT : BLOCK_COMMENT;
                code[i] = ' ';
                code[++i] = ' ';
                continue;
            }
            state = c == '"' ? STRING : c == '\'' ? CHARACTER : CODE;
        } else if (state == LINE_COMMENT) {
            state = c == '\n' ? CODE : state;
        } else if (state == BLOCK_COMMENT) {
            if (c == '*' && next == '/') {
                code[i] = ' ';
                code[++i] = ' ';
                state = CODE;
                continue;
            }
        } else {
            if (c == '\\' && next != '\0' && next != '\n') {
                code[i] = ' ';
                code[++i] = ' ';
                continue;
            }
            if (c == '\n' || c == (state == STRING ? '"' : '\'')) {
                blank = false;
                state = CODE;
            }
        }
        if (blank && c != '\n') {
            code[i] = ' ';
        }
    }
    return code;
}

static enum language language_of(const char *path)
{
    static const char *const other[] = {"*.py",  "*.js",  "*.mjs",  "*.sh",     "*.html", "*.zig",
                                        "*.css", "*.yml", "*.yaml", "script/*", ".ci/*"};
    if (ends_with(path, ".c") || ends_with(path, ".h")) {
        return LANGUAGE_C;
    }
    if (fits_any(other, COUNT(other), path)) {
        return LANGUAGE_OTHER;
    }
    return ends_with(path, ".md") ? LANGUAGE_PROSE : LANGUAGE_NONE;
}

/* Notes which lines carry an exception and whether it has a reason. */
static void find_exceptions(struct file *file);

static void load_file(const char *full, const char *path, size_t bytes)
{
    if (files_count == FILES_MAX) {
        die("more files than FILES_MAX", path);
    }
    struct file *file = &files[files_count++];
    *file = (struct file){.path = copy_text(path), .bytes = bytes};
    file->language = language_of(path);
    if (file->language != LANGUAGE_NONE && bytes <= (size_t)BLOB_BYTES_MAX * 4) {
        file->text = read_text(full, bytes);
    }
    if (file->text != NULL) {
        find_exceptions(file);
        file->code = file->language == LANGUAGE_C ? blank_comments(file->text) : NULL;
    }
}

static bool is_ignored(const char *name, const char *path)
{
    if (strcmp(name, ".git") == 0) {
        return true;
    }
    for (size_t i = 0; i < ignored_count; i++) {
        if (fnmatch(ignored[i], name, 0) == 0 || fnmatch(ignored[i], path, FNM_PATHNAME) == 0) {
            return true;
        }
    }
    return false;
}

static void load_ignored(void)
{
    static const char *const always[] = {".tools", ".zig-cache", "zig-out", "node_modules",
                                         "__pycache__"};
    for (size_t i = 0; i < COUNT(always); i++) {
        ignored[ignored_count++] = copy_text(always[i]);
    }
    char path[PATH_CHARS_MAX];
    snprintf(path, sizeof path, "%s/.gitignore", root_dir);
    FILE *stream = fopen(path, "r");
    char line[256];
    while (stream != NULL && fgets(line, sizeof line, stream) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        size_t length = strlen(line);
        if (length > 0 && line[length - 1] == '/') {
            line[length - 1] = '\0';
        }
        if (line[0] != '\0' && line[0] != '#' && line[0] != '!' && ignored_count < PATTERNS_MAX) {
            ignored[ignored_count++] = copy_text(line[0] == '/' ? line + 1 : line);
        }
    }
    if (stream != NULL) {
        fclose(stream);
    }
}

static void walk(const char *dir)
{
    char full[PATH_CHARS_MAX * 2], path[PATH_CHARS_MAX];
    snprintf(full, sizeof full, "%s/%s", root_dir, dir);
    struct dirent **entries = NULL;
    int count = scandir(full, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        bool self = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
        snprintf(path, sizeof path, "%s%s%s", dir, dir[0] == '\0' ? "" : "/", name);
        snprintf(full, sizeof full, "%s/%s", root_dir, path);
        struct stat info;
        if (!self && !is_ignored(name, path) && lstat(full, &info) == 0) {
            if (S_ISDIR(info.st_mode)) {
                walk(path);
            } else if (S_ISREG(info.st_mode)) {
                load_file(full, path, (size_t)info.st_size);
            }
        }
        free(entries[i]);
    }
    free(entries);
}

static struct file *find_file(const char *path)
{
    for (size_t i = 0; i < files_count; i++) {
        if (strcmp(files[i].path, path) == 0) {
            return &files[i];
        }
    }
    return NULL;
}

static int line_at(const char *text, const char *at)
{
    int line = 1;
    for (const char *p = text; p < at; p++) {
        line += *p == '\n';
    }
    return line;
}

/* -- Reports ---------------------------------------------------------------------------------- */

/* Reports a violation, unless the line has an exception. Line 0: the file as a whole. */
static void report(enum rule rule, struct file *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void report(enum rule rule, struct file *file, int line, const char *format, ...)
{
    if (rule != RULE_EXCEPTION && file->exceptions != NULL && line > 0 && line <= file->lines &&
        file->exceptions[line] != 0) {
        int holder = file->exceptions[line] == 3 ? line - 1 : line;
        file->exceptions[holder] = 2;
        return;
    }
    va_list args;
    va_start(args, format);
    reported[rule]++;
    fprintf(stderr, "%s:%d: %s: ", file->path, line, rules[rule].name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static void find_exceptions(struct file *file)
{
    for (const char *p = file->text; *p != '\0'; p++) {
        file->lines += *p == '\n';
    }
    file->lines++;
    file->exceptions = calloc((size_t)file->lines + 3, sizeof *file->exceptions);
    if (file->exceptions == NULL) {
        die("no memory", file->path);
    }
    if (file->language == LANGUAGE_PROSE) {
        return;
    }
    int line = 1;
    for (const char *p = file->text; *p != '\0'; line++) {
        const char *end = strchrnul(p, '\n');
        const char *found = memmem(p, (size_t)(end - p), exception_word, strlen(exception_word));
        const char *opener = file->language == LANGUAGE_C ? "/* " : "# ";
        size_t lead = strlen(opener);
        if (found != NULL && found - p >= (long)lead && memcmp(found - lead, opener, lead) == 0) {
            const char *reason = found + strlen(exception_word);
            const char *close = memmem(reason, (size_t)(end - reason), "*/", 2);
            size_t length = (size_t)((close != NULL ? close : end) - reason);
            if (length < REASON_CHARS_MIN || memchr(reason, ' ', length) == NULL) {
                report(RULE_EXCEPTION, file, line, "say why, in words");
            }
            file->exceptions[line] = 1;
            if (strspn(p, " \t") == (size_t)(found - lead - p)) {
                file->exceptions[line + 1] = 3; /* alone on its line: it speaks of the next */
            }
        }
        p = *end == '\0' ? end : end + 1;
    }
}

static void check_exceptions_used(struct file *file)
{
    for (int line = 1; file->exceptions != NULL && line <= file->lines; line++) {
        if (file->exceptions[line] == 1) {
            report(RULE_EXCEPTION, file, line, "it excepts nothing: delete it");
        }
    }
}

/* -- Checks of one file: includes ------------------------------------------------------------- */

static bool is_test_source(const char *path)
{
    return ends_with(path, "_test.c") || ends_with(path, "_fuzz.c");
}

static size_t arrow_of(const char *path)
{
    size_t i = 0;
    while (i < COUNT(arrows) && !starts_with(path, arrows[i].prefix)) {
        i++;
    }
    return i;
}

static enum area area_of(const char *path)
{
    size_t row = arrow_of(path);
    if (row == COUNT(arrows)) {
        return AREA_OUTSIDE;
    }
    return is_test_source(path) ? AREA_FREE : arrows[row].area;
}

/* File name without folder and suffix: "actors/mongo/mongo_link.h" -> "mongo_link". */
static void noun_of(const char *path, char out[256])
{
    const char *slash = strrchr(path, '/');
    snprintf(out, 256, "%s", slash == NULL ? path : slash + 1);
    char *dot = strrchr(out, '.');
    if (dot != NULL) {
        *dot = '\0';
    }
}

/* Is `longer` "x_part" where `shorter` is "x"? */
static bool is_part_of(const char *longer, const char *shorter)
{
    size_t length = strlen(shorter);
    return strncmp(longer, shorter, length) == 0 && longer[length] == '_';
}

/* Two files of one actor or gateway: x and x, x and x_part, x_a and x_priv; or a <library>_link. */
static bool peers_of_one(const char *user, const char *header)
{
    char from[256], to[256];
    noun_of(user, from);
    noun_of(header, to);
    if (ends_with(to, "_link") || strcmp(from, to) == 0) {
        return true;
    }
    if (ends_with(to, "_priv")) {
        to[strlen(to) - strlen("_priv")] = '\0';
        return strcmp(from, to) == 0 || is_part_of(from, to);
    }
    return is_part_of(from, to) || is_part_of(to, from);
}

static void check_own_include(struct file *file, int line, const char *header)
{
    struct file *target = find_file(header);
    enum area area = area_of(file->path);
    if (target == NULL) {
        report(RULE_INCLUDE_DIRECTION, file, line, "\"%s\" is no file: paths from the root",
               header);
        return;
    }
    target->included = true;
    if (area == AREA_FREE || area == AREA_OUTSIDE) {
        return;
    }
    enum area to = area_of(header);
    if (arrows[arrow_of(file->path)].may & (1u << to)) {
        return;
    }
    if (to == area && peers_of_one(file->path, header)) {
        return;
    }
    report(RULE_INCLUDE_DIRECTION, file, line, "%s may not include \"%s\"%s", file->path, header,
           to == area ? ": they meet by address" : "");
}

static void check_system_include(struct file *file, int line, const char *header)
{
    enum area area = area_of(file->path);
    if (area == AREA_FREE || area == AREA_OUTSIDE) {
        return;
    }
    for (size_t i = 0; i < COUNT(header_homes); i++) {
        if (starts_with(header, header_homes[i].header) &&
            !fits_any(header_homes[i].homes, COUNT(header_homes[i].homes), file->path)) {
            const char *home = header_homes[i].homes[0];
            report(RULE_HEADER_HOME, file, line, "<%s> belongs in %s", header,
                   home == NULL ? "tests" : home);
        }
    }
    for (size_t i = 0; area == AREA_BROKER && i < COUNT(not_in_broker); i++) {
        if (starts_with(header, not_in_broker[i])) {
            report(RULE_HEADER_HOME, file, line, "<%s>: broker/ has no I/O and no clock", header);
        }
    }
}

static void check_includes(struct file *file)
{
    int line = 1;
    for (const char *p = file->code; *p != '\0'; line++) {
        const char *end = strchrnul(p, '\n');
        const char *q = p + strspn(p, " \t");
        q = *q == '#' ? q + 1 + strspn(q + 1, " \t") : end;
        if (q < end && starts_with(q, "include")) {
            q += strlen("include");
            q += strspn(q, " \t");
            /* the code has the name blanked when it is quoted, so it is read from the text */
            const char *name = file->text + (q - file->code) + 1;
            size_t length = strcspn(name, "\">\n");
            char header[PATH_CHARS_MAX];
            snprintf(header, sizeof header, "%.*s", (int)length, name);
            if (*q == '"') {
                check_own_include(file, line, header);
            } else if (*q == '<') {
                check_system_include(file, line, header);
            }
        }
        p = *end == '\0' ? end : end + 1;
    }
}

/* -- Checks of one file: calls, magics, functions --------------------------------------------- */

static void check_call(struct file *file, const char *word, size_t length)
{
    enum area area = area_of(file->path);
    for (size_t i = 0; i < COUNT(banned_calls); i++) {
        const char *name = banned_calls[i].name;
        size_t wanted = strcspn(name, "*");
        bool same = name[wanted] == '*' ? length >= wanted : length == wanted;
        if (same && memcmp(word, name, wanted) == 0 && (banned_calls[i].areas & (1u << area))) {
            report(RULE_BANNED_CALL, file, line_at(file->code, word), "%.*s: use %s", (int)length,
                   word, banned_calls[i].instead);
        }
    }
}

/* Remembers a name; returns the earlier one with the same value or the same name, or NULL. */
static const struct named *remember(struct named *table, size_t *count, const struct named *add)
{
    const struct named *twin = NULL;
    for (size_t i = 0; i < *count && twin == NULL; i++) {
        if (table[i].value == add->value || strcmp(table[i].name, add->name) == 0) {
            twin = &table[i];
        }
    }
    if (*count < NAMES_MAX) {
        table[(*count)++] = *add;
    }
    return twin;
}

/* X_MAGIC = 0x..., in an enum or as a macro. */
static void check_magic(struct file *file, const char *word, size_t length)
{
    const char *value = word + length + strspn(word + length, " \t=");
    if (length < strlen("_MAGIC") || memcmp(word + length - 6, "_MAGIC", 6) != 0 ||
        !isdigit((unsigned char)*value) || value == word + length) {
        return;
    }
    struct named magic = {.path = file->path, .line = line_at(file->code, word)};
    snprintf(magic.name, sizeof magic.name, "%.*s", (int)length, word);
    magic.value = strtol(value, NULL, 0);
    if (magic.value > MAGIC_MAX) {
        report(RULE_DUPLICATE_MAGIC, file, magic.line, "%s is larger than an int", magic.name);
    }
    const struct named *twin = remember(magics, &magics_count, &magic);
    if (twin != NULL) {
        report(RULE_DUPLICATE_MAGIC, file, magic.line, "%s is taken: %s at %s:%d", magic.name,
               twin->name, twin->path, twin->line);
    }
}

/* M(12, name, ...) in protocol/messages.h. */
static void check_message(struct file *file, const char *word)
{
    if (strcmp(file->path, "protocol/messages.h") != 0 || !isdigit((unsigned char)word[2])) {
        return;
    }
    char *end = NULL;
    struct named message = {.path = file->path, .line = line_at(file->code, word)};
    message.value = strtol(word + 2, &end, 10);
    end += strspn(end, ", \t");
    size_t length = 0;
    while (is_word(end[length])) {
        length++;
    }
    snprintf(message.name, sizeof message.name, "%.*s", (int)length, end);
    const struct named *twin = remember(messages, &messages_count, &message);
    if (twin != NULL) {
        report(RULE_DUPLICATE_MESSAGE, file, message.line, "%ld %s is taken: %ld %s at line %d",
               message.value, message.name, twin->value, twin->name, twin->line);
    }
}

static void check_words(struct file *file)
{
    const char *code = file->code;
    bool product = area_of(file->path) != AREA_FREE && area_of(file->path) != AREA_OUTSIDE;
    for (const char *p = code; *p != '\0';) {
        if (!is_word(*p)) {
            p++;
            continue;
        }
        size_t length = 0;
        while (is_word(p[length])) {
            length++;
        }
        bool member = p > code && (p[-1] == '.' || (p[-1] == '>' && p > code + 1 && p[-2] == '-'));
        if (!member && p[length + strspn(p + length, " ")] == '(') {
            check_call(file, p, length);
        }
        if (product) {
            check_magic(file, p, length);
        }
        if (length == 1 && starts_with(p, "M(")) {
            check_message(file, p);
        }
        p += length;
    }
}

/* The name of a function whose head begins at `head` and whose body begins at `body`. */
static const char *function_name(const char *head, const char *body, size_t *length)
{
    const char *word = NULL;
    for (const char *p = head; p < body; p++) {
        if (is_word(*p) && (p == head || !is_word(p[-1]))) {
            word = p;
        }
        if (*p != '(' || word == NULL) {
            continue;
        }
        if (!starts_with(word, "__attribute__")) {
            *length = 0;
            while (is_word(word[*length])) {
                (*length)++;
            }
            return word;
        }
        for (int depth = 0; p < body; p++) { /* over the attribute */
            depth += (*p == '(') - (*p == ')');
            if (depth == 0) {
                break;
            }
        }
    }
    return NULL;
}

/* Notes each function of more than FUNCTION_LINES_MAX lines, from its name to its last brace. */
static void find_long_functions(struct file *file)
{
    char *code = copy_text(file->code);
    for (char *p = code; *p != '\0';) { /* blank the preprocessor's lines and what continues them */
        char *end = strchrnul(p, '\n');
        bool directive = p[strspn(p, " \t")] == '#';
        while (directive && *end != '\0' && end > p && end[-1] == '\\') {
            end = strchrnul(end + 1, '\n');
        }
        for (; p < end; p++) {
            *p = directive && *p != '\n' ? ' ' : *p;
        }
        p = *end == '\0' ? end : end + 1;
    }
    const char *head = code, *name = NULL;
    size_t length = 0;
    char last = '\0';
    int depth = 0;
    for (const char *p = code; *p != '\0'; p++) {
        if (*p == '{' && depth++ == 0) {
            name = last == ')' ? function_name(head, p, &length) : NULL;
        } else if (*p == '}' && depth > 0 && --depth == 0) {
            int lines = name == NULL ? 0 : line_at(name, p);
            if (lines > FUNCTION_LINES_MAX && functions_count < NAMES_MAX) {
                struct named *found = &functions[functions_count++];
                *found = (struct named){.path = file->path, .value = lines};
                found->line = line_at(code, name);
                snprintf(found->name, sizeof found->name, "%.*s", (int)length, name);
            }
            head = p + 1;
        } else if (*p == ';' && depth == 0) {
            head = p + 1;
        }
        last = isspace((unsigned char)*p) ? last : *p;
    }
    free(code);
}

/* -- Checks of one file: lines ---------------------------------------------------------------- */

static bool has_column_limit(const char *path)
{
    return ends_with(path, ".c") || ends_with(path, ".h") || ends_with(path, ".py") ||
           ends_with(path, ".zig") || starts_with(path, "script/");
}

static void check_debt(struct file *file, int line, const char *text)
{
    const char *debt = strstr(text, debt_word);
    if (debt != NULL) {
        const char *after = debt + strlen(debt_word);
        size_t digits = starts_with(after, "(#") ? strspn(after + 2, "0123456789") : 0;
        if (digits == 0 || !starts_with(after + 2 + digits, "):")) {
            report(RULE_DEBT, file, line, "write %s(#issue): and what", debt_word);
        }
    }
    for (size_t i = 0; i < COUNT(debt_slang); i++) {
        const char *slang = strstr(text, debt_slang[i]);
        size_t length = strlen(debt_slang[i]);
        if (slang != NULL && (slang == text || !is_word(slang[-1])) && !is_word(slang[length])) {
            report(RULE_DEBT, file, line, "%s: write %s(#issue): and what", debt_slang[i],
                   debt_word);
        }
    }
}

/* A path counts where it begins: after a quote, a space, a bracket, or at the line's start. The
 * pattern of a temporary file is none: it names no file yet. */
static void check_machine_path(struct file *file, int line, const char *text)
{
    for (size_t i = 0; i < COUNT(machine_folders); i++) {
        char folder[32];
        snprintf(folder, sizeof folder, "/%s/", machine_folders[i]);
        const char *found = strstr(text, folder);
        if (found != NULL && (found == text || strchr("\"' \t(=<`:,[", found[-1]) != NULL) &&
            strstr(found, "XXXXXX") == NULL) {
            report(RULE_MACHINE_PATH, file, line, "%s is a path of one machine", folder);
        }
    }
}

static void check_lines(struct file *file)
{
    bool limited = has_column_limit(file->path);
    int line = 1;
    for (const char *p = file->text; *p != '\0'; line++) {
        const char *end = strchrnul(p, '\n');
        char *text = strndup(p, (size_t)(end - p));
        if (text == NULL) {
            die("no memory", file->path);
        }
        int columns = 0;
        for (const char *c = text; *c != '\0'; c++) {
            columns += (*c & 0xc0) != 0x80; /* a UTF-8 character is one column */
        }
        if (limited && columns > COLUMNS_MAX) {
            report(RULE_COLUMNS, file, line, "%d columns", columns);
        }
        if (file->language != LANGUAGE_PROSE) {
            check_debt(file, line, text);
            check_machine_path(file, line, text);
        }
        free(text);
        p = *end == '\0' ? end : end + 1;
    }
}

/* -- Checks of the tree ----------------------------------------------------------------------- */

static bool has_fuzz_target(const char *corpus)
{
    char end[PATH_CHARS_MAX + 16];
    snprintf(end, sizeof end, "/%s_fuzz.c", corpus);
    for (size_t i = 0; i < files_count; i++) {
        if (ends_with(files[i].path, end)) {
            return true;
        }
    }
    return false;
}

static void check_corpus(struct file *file)
{
    char corpus[PATH_CHARS_MAX];
    snprintf(corpus, sizeof corpus, "%s", file->path + strlen("tests/corpus/"));
    char *slash = strchr(corpus, '/');
    if (slash == NULL) {
        return; /* a note or a dictionary beside the folders */
    }
    *slash = '\0';
    if (!has_fuzz_target(corpus)) {
        report(RULE_DEAD_FILE, file, 0, "there is no %s_fuzz.c that reads it", corpus);
    }
}

/* What web/build.mjs bundles, bundles with, and its tests. */
static bool is_of_pages(const char *path)
{
    static const char *const known[] = {
        "web/demo/",     "web/inspector/",   "web/shared/",       "web/test/",
        "web/build.mjs", "web/package.json", "web/tsconfig.json", "web/package-lock.json"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (starts_with(path, known[i])) {
            return true;
        }
    }
    return false;
}

static void check_dead(struct file *file)
{
    const char *path = file->path;
    bool built =
        strcmp(path, "main.c") == 0 || fits_any(source_folders, COUNT(source_folders), path);
    if (file->language == LANGUAGE_C && !built) {
        report(RULE_DEAD_FILE, file, 0, "in no folder that the build lists");
    } else if (ends_with(path, ".h") && !file->included) {
        report(RULE_DEAD_FILE, file, 0, "nobody includes it");
    } else if (starts_with(path, "tests/corpus/")) {
        check_corpus(file);
    } else if (starts_with(path, "web/") && !is_of_pages(path) &&
               file->language != LANGUAGE_PROSE) {
        report(RULE_DEAD_FILE, file, 0, "web/build.mjs bundles web/demo and web/inspector only");
    }
}

static const char ratchet_path[] = "tools/long_functions.txt";

static void load_ratchet(void)
{
    char path[PATH_CHARS_MAX];
    snprintf(path, sizeof path, "%s/%s", root_dir, ratchet_path);
    FILE *stream = fopen(path, "r");
    char line[1024], file[512];
    for (int number = 1; stream != NULL && fgets(line, sizeof line, stream) != NULL; number++) {
        struct named entry = {.line = number};
        if (line[0] == '#' || line[0] == '\n') {
            continue;
        }
        if (sscanf(line, "%511s %255s %ld", file, entry.name, &entry.value) != 3) {
            die("a line is not: path function lines", ratchet_path);
        }
        entry.path = copy_text(file);
        if (listed_count < NAMES_MAX) {
            listed[listed_count++] = entry;
        }
    }
    if (stream != NULL) {
        fclose(stream);
    }
}

static struct named *find_named(struct named *table, size_t count, const struct named *like)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].name, like->name) == 0 && strcmp(table[i].path, like->path) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

/* The ratchet: not in the list, or longer than listed, is a violation; so is a list that promises
 * less than the code holds, or else a function could grow back. */
static void check_ratchet(void)
{
    for (size_t i = 0; i < functions_count; i++) {
        struct named *function = &functions[i];
        const struct named *entry = find_named(listed, listed_count, function);
        if (entry == NULL || function->value > entry->value) {
            report(RULE_LONG_FUNCTION, find_file(function->path), function->line,
                   "%s has %ld lines, allowed are %ld", function->name, function->value,
                   entry == NULL ? (long)FUNCTION_LINES_MAX : entry->value);
        }
    }
    struct file list = {.path = copy_text(ratchet_path)};
    for (size_t i = 0; i < listed_count; i++) {
        const struct named *function = find_named(functions, functions_count, &listed[i]);
        if (function == NULL || function->value < listed[i].value) {
            report(RULE_LONG_FUNCTION, &list, listed[i].line, "%s got shorter: run tidy --shrink",
                   listed[i].name);
        }
    }
    free(list.path);
}

/* Rewrites the list with what is shorter now. It never adds: that is done by hand, and seen. */
static int shrink_ratchet(void)
{
    char path[PATH_CHARS_MAX];
    snprintf(path, sizeof path, "%s/%s", root_dir, ratchet_path);
    FILE *stream = fopen(path, "w");
    if (stream == NULL) {
        die(strerror(errno), path);
    }
    fprintf(stream,
            "# Functions over %d lines: path, function, lines. The list may only shrink;\n"
            "# `tidy --shrink .` lowers it to what the code holds.\n",
            FUNCTION_LINES_MAX);
    for (size_t i = 0; i < listed_count; i++) {
        const struct named *function = find_named(functions, functions_count, &listed[i]);
        if (function != NULL) {
            long lines = function->value < listed[i].value ? function->value : listed[i].value;
            fprintf(stream, "%s %s %ld\n", listed[i].path, listed[i].name, lines);
        }
    }
    return fclose(stream) == 0 ? 0 : 2;
}

static void check_file(struct file *file)
{
    if (file->bytes > BLOB_BYTES_MAX) {
        report(RULE_BLOB, file, 0, "%zu bytes", file->bytes);
    }
    if (file->text == NULL) {
        return;
    }
    check_lines(file);
    if (file->language != LANGUAGE_C) {
        return;
    }
    check_includes(file);
    check_words(file);
    find_long_functions(file);
    if (ends_with(file->path, ".h") && strstr(file->text, "#pragma once") == NULL) {
        report(RULE_PRAGMA_ONCE, file, 1, "missing");
    }
}

static void free_all(void)
{
    for (size_t i = 0; i < files_count; i++) {
        free(files[i].path);
        free(files[i].text);
        free(files[i].code);
        free(files[i].exceptions);
    }
    for (size_t i = 0; i < ignored_count; i++) {
        free(ignored[i]);
    }
}

int main(int argc, char **argv)
{
    bool shrink = argc == 3 && strcmp(argv[1], "--shrink") == 0;
    if (argc != 2 && !shrink) {
        fputs("usage: tidy [--shrink] ROOT\n", stderr);
        return 2;
    }
    root_dir = argv[argc - 1];
    load_ignored();
    walk("");
    load_ratchet();
    for (size_t i = 0; i < files_count; i++) {
        check_file(&files[i]);
    }
    if (shrink) {
        return shrink_ratchet();
    }
    check_ratchet();
    for (size_t i = 0; i < files_count; i++) { /* after all includes are known */
        check_dead(&files[i]);
    }
    for (size_t i = 0; i < files_count; i++) { /* after all reports */
        check_exceptions_used(&files[i]);
    }
    int failed = 0;
    printf("1..%zu\n", COUNT(rules));
    for (size_t i = 0; i < COUNT(rules); i++) {
        failed += reported[i] != 0;
        printf("%s %zu - %s: %s\n", reported[i] == 0 ? "ok" : "not ok", i + 1, rules[i].name,
               rules[i].doc);
    }
    free_all();
    return failed == 0 ? 0 : 1;
}
