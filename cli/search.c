/* search.c - tidewire search: queries in Lucene's syntax, or a whole body; tidewire index: looks at
 * indices and manages them. */
#include "cli/search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/session.h"

enum { FILTERS_MAX = 16, OPT_BODY = 1000, OPT_ROWS, OPT_OFFSET, OPT_SORT, OPT_FIELDS, OPT_ALL };

struct search_arguments {
    cli_common common;
    const char *verb;
    const char *words[2]; /* index and query; function and index */
    size_t count, least;
    const char *body, *rows, *offset, *sort, *fields;
    const char *filters[FILTERS_MAX];
    size_t filters_count;
    bool all, dry;
};

static error_t parse_word(struct search_arguments *given, char *arg, struct argp_state *state)
{
    if (given->count == TW_COUNT(given->words)) {
        argp_error(state, "'%s' is one word too many; put a query between quotes", arg);
    }
    given->words[given->count++] = arg;
    return 0;
}

static error_t parse_search(int key, char *arg, struct argp_state *state)
{
    struct search_arguments *given = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &given->common;
        return 0;
    case OPT_BODY:
        given->body = arg;
        return 0;
    case OPT_ROWS:
        given->rows = arg;
        return 0;
    case OPT_OFFSET:
        given->offset = arg;
        return 0;
    case OPT_SORT:
        given->sort = arg;
        return 0;
    case OPT_FIELDS:
        given->fields = arg;
        return 0;
    case OPT_ALL:
        given->all = true;
        return 0;
    case 'n':
        given->dry = true;
        return 0;
    case 'f':
        if (given->filters_count == FILTERS_MAX) {
            argp_error(state, "at most %d filters", FILTERS_MAX);
        }
        given->filters[given->filters_count++] = arg;
        return 0;
    case ARGP_KEY_ARG:
        return parse_word(given, arg, state);
    case ARGP_KEY_END:
        if (given->count < given->least) {
            argp_error(state, given->least == 1 ? "name a collection, or _all"
                                                : "name a function and a collection");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};

/* ---- the request ---- */
static void add_text(tw_buf *out, const char *name, const char *text)
{
    if (text != NULL) {
        tw_buf_format(out, ",\"%s\":", name);
        tw_json_write_str(out, tw_str_of(text));
    }
}

static void add_number(tw_buf *out, const char *name, const char *text)
{
    uint64_t number;
    if (text == NULL) {
        return;
    }
    if (tw_parse_u64(tw_str_of(text), 9007199254740991ULL, &number) == TW_OK) {
        tw_buf_format(out, ",\"%s\":%s", name, text);
    } else {
        add_text(out, name, text); /* the server says what is wrong with it */
    }
}

/* "a,b" -> ["a","b"] */
static void add_names(tw_buf *out, const char *text)
{
    if (text == NULL) {
        return;
    }
    tw_buf_format(out, ",\"fields\":[");
    for (const char *at = text; *at != '\0';) {
        size_t len = strcspn(at, ",");
        tw_buf_format(out, at == text ? "" : ",");
        tw_json_write_str(out, (tw_str){at, len});
        at += len + (at[len] == ',' ? 1 : 0);
    }
    tw_buf_add_byte(out, ']');
}

static void write_fields(const struct search_arguments *given, const char *index, tw_buf *out)
{
    tw_buf_format(out, "\"index\":");
    tw_json_write_str(out, tw_str_of(index));
    add_text(out, "database", given->common.database);
    add_number(out, "rows", given->rows);
    add_number(out, "offset", given->offset);
    add_text(out, "sort", given->sort);
    add_names(out, given->fields);
    if (given->body != NULL) {
        tw_buf_format(out, ",\"body\":%s", given->body);
    }
    if (given->filters_count > 0) {
        tw_buf_format(out, ",\"filters\":[");
        for (size_t i = 0; i < given->filters_count; i++) {
            tw_buf_format(out, i == 0 ? "" : ",");
            tw_json_write_str(out, tw_str_of(given->filters[i]));
        }
        tw_buf_add_byte(out, ']');
    }
    if (given->dry) {
        tw_buf_format(out, ",\"dry_run\":true");
    }
}

/* ---- the replies ---- */
static void print_value(tw_bson_value value)
{
    tw_buf line;
    tw_buf_init(&line, TW_ACTOR_MESSAGE_MAX * 2);
    tw_json_write_value(&line, value);
    printf("%.*s\n", (int)line.len, line.len == 0 ? "" : line.ptr);
    tw_buf_fini(&line);
}

static void print_reply(const struct search_arguments *given, tw_str text, tw_bson reply)
{
    static const char *const parts[] = {"doc", "key", "result", "fields", "counts"};
    tw_bson_value items = tw_bson_get(reply, TW_STR("items"));
    if (given->common.json) {
        printf("%.*s\n", (int)text.len, text.ptr);
        return;
    }
    if (items.type == TW_BSON_ARRAY) {
        tw_bson_iter iter;
        for (tw_bson_iter_init(&iter, tw_bson_value_doc(items)); tw_bson_iter_next(&iter);) {
            print_value(iter.value);
        }
        fprintf(stderr, "%zu of %lld\n", tw_bson_count(tw_bson_value_doc(items)),
                (long long)tw_bson_get_i64_or(reply, TW_STR("total"), 0));
        return;
    }
    for (size_t i = 0; i < TW_COUNT(parts); i++) {
        tw_bson_value part = tw_bson_get(reply, tw_str_of(parts[i]));
        if (part.type != 0) {
            print_value(part);
            return;
        }
    }
    printf("%.*s\n", (int)text.len, text.ptr);
}

static int ask(struct search_arguments *given, cli_session *session, const char *action,
               const tw_buf *fields)
{
    bool streams = strcmp(action, "stream_search") == 0 || strcmp(action, "keys") == 0;
    if (fields->err != TW_OK) {
        return cli_fail(given->verb, "", "%s", tw_err_text(fields->err));
    }
    if (cli_session_send(session, action, tw_buf_str(fields)) == 0) {
        return 1;
    }
    for (;;) {
        tw_str text;
        tw_bson reply;
        if (!cli_session_next(session, &text, &reply)) {
            return 1;
        }
        if (tw_str_equal(tw_bson_get_str(reply, TW_STR("type")), TW_STR("error"))) {
            return cli_session_refused(session, reply);
        }
        if (tw_str_equal(tw_bson_get_str(reply, TW_STR("action")), TW_STR("done"))) {
            return 0;
        }
        print_reply(given, text, reply);
        if (!streams) {
            return 0;
        }
    }
}

static int run(struct search_arguments *given, const char *action, const char *index,
               const char *query)
{
    cli_session session;
    tw_buf fields;
    tw_buf_init(&fields, TW_MESSAGE_MAX);
    write_fields(given, index, &fields);
    add_text(&fields, "query", query);
    int status = cli_session_open(&session, given->verb, &given->common);
    if (status == 0) {
        status = ask(given, &session, action, &fields);
    }
    cli_session_close(&session);
    tw_buf_fini(&fields);
    return status;
}

int cli_search(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"body", OPT_BODY, "JSON", 0, "A whole body in place of a query; prints the reply", 0},
        {"filter", 'f', "QUERY", 0, "Only documents that match this too; may be repeated", 0},
        {"rows", OPT_ROWS, "N", 0, "Documents at most (25)", 0},
        {"offset", OPT_OFFSET, "N", 0, "Leave out the first", 0},
        {"sort", OPT_SORT, "FIELD", 0, "Order: 'year', 'year desc'", 0},
        {"fields", OPT_FIELDS, "A,B", 0, "Print these fields only", 0},
        {"all", OPT_ALL, NULL, 0, "Every document that matches, page by page", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_search,
        .args_doc = "COLLECTION [QUERY]",
        .doc = "Searches a collection, or _all.\vExamples:\n"
               "  tidewire search movies 'matrix AND year:>1990' --sort 'year desc'\n"
               "  tidewire search movies --all --fields Title\n"
               "  tidewire search _all --body '{\"query\":{\"multi_match\":{\"query\":\"x\"}}}'\n",
        .children = children};
    struct search_arguments given = {.verb = "search", .least = 1};
    cli_common_init(&given.common);
    argp_parse(&argp, argc, argv, 0, NULL, &given);
    const char *query = given.count > 1 ? given.words[1] : given.body == NULL ? "*" : NULL;
    return run(&given, given.all ? "stream_search" : "search", given.words[0], query);
}

int cli_index(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"dry-run", 'n', NULL, 0, "Say what would be done, and do nothing", 0}, {0}};
    static const char *const functions[] = {"fields",       "keys",       "commit",
                                            "reindex",      "wipe",       "fix_ilm",
                                            "fix_replicas", "fix_shards", NULL};
    static const struct argp argp = {
        .options = options,
        .parser = parse_search,
        .args_doc = "FUNCTION COLLECTION",
        .doc = "Looks at the index of a collection, or manages it: fields, keys, commit (make what "
               "was written visible), reindex (copy it into one with the declared mapping), wipe, "
               "fix_ilm, fix_replicas, fix_shards.\vExamples:\n"
               "  tidewire index fields movies\n  tidewire index reindex movies --dry-run\n",
        .children = children};
    struct search_arguments given = {.verb = "index", .least = 2};
    cli_common_init(&given.common);
    argp_parse(&argp, argc, argv, 0, NULL, &given);
    for (size_t i = 0; functions[i] != NULL; i++) {
        if (strcmp(given.words[0], functions[i]) == 0) {
            return run(&given, functions[i], given.words[1], NULL);
        }
    }
    return cli_fail("index",
                    "fields, keys, commit, reindex, wipe, fix_ilm, fix_replicas or fix_shards",
                    "there is no function '%s'", given.words[0]);
}
