/* record.c - tidewire get, put, del. */
#include "cli/record.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/session.h"

enum { WORDS_MAX = 1000 /* TW_IDS_MAX ids in one get */ };

struct record_arguments {
    cli_common common;
    const char *verb;
    const char *words[WORDS_MAX + 1]; /* the collection, then ids or documents */
    size_t count;
    size_t least;
    const char *missing; /* what to say when there are fewer */
};

static error_t parse_record(int key, char *arg, struct argp_state *state)
{
    struct record_arguments *given = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &given->common;
        return 0;
    case ARGP_KEY_ARG:
        if (given->count == TW_COUNT(given->words)) {
            argp_error(state, "at most %d at once", WORDS_MAX);
        }
        if (given->count > 0 && strcmp(given->verb, "put") == 0) {
            (void)cli_json_object(state, "a record", arg);
        }
        given->words[given->count++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (given->count < given->least) {
            argp_error(state, "%s", given->missing);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};

static void write_place(const struct record_arguments *given, tw_buf *out)
{
    tw_buf_format(out, "\"collection\":");
    tw_json_write_str(out, tw_str_of(given->words[0]));
    if (given->common.database != NULL) {
        tw_buf_format(out, ",\"database\":");
        tw_json_write_str(out, tw_str_of(given->common.database));
    }
}

/* An id as typed: JSON where it is JSON ({"$oid":...}, 7, "x"), a bare word otherwise. */
static void write_id(tw_buf *out, const char *word)
{
    tw_arena arena;
    tw_arena_init(&arena, TW_MESSAGE_MAX);
    tw_bson parsed;
    const char *text = tw_arena_format(&arena, "{\"id\":%s}", word);
    if (tw_json_read(&arena, tw_str_of(text), TW_DEPTH_CLIENT_MAX, &parsed, NULL) == TW_OK) {
        tw_buf_add_str(out, tw_str_of(word));
    } else {
        tw_json_write_str(out, tw_str_of(word));
    }
    tw_arena_fini(&arena);
}

static bool is_error(tw_bson reply)
{
    return tw_str_equal(tw_bson_get_str(reply, TW_STR("type")), TW_STR("error"));
}

/* Sends one request and prints its replies: documents where they have one, else the whole reply. */
static int ask_and_print(cli_session *session, const char *action, const tw_buf *fields)
{
    if (fields->err != TW_OK) {
        return cli_fail(session->verb, "", "%s", tw_err_text(fields->err));
    }
    if (cli_session_send(session, action, tw_buf_str(fields)) == 0) {
        return 1;
    }
    tw_buf line;
    tw_buf_init(&line, TW_ACTOR_MESSAGE_MAX * 2);
    int status = -1;
    while (status < 0) {
        tw_str text;
        tw_bson reply;
        if (!cli_session_next(session, &text, &reply)) {
            status = 1;
        } else if (is_error(reply)) {
            status = cli_session_refused(session, reply);
        } else if (tw_str_equal(tw_bson_get_str(reply, TW_STR("action")), TW_STR("done"))) {
            tw_bson missing = tw_bson_get_doc(reply, TW_STR("missing"));
            status = missing.len > 0 && tw_bson_count(missing) > 0 ? 1 : 0;
            if (status != 0) {
                (void)cli_fail(session->verb, "", "%zu not found", tw_bson_count(missing));
            }
        } else if (tw_bson_get_doc(reply, TW_STR("doc")).len > 0) {
            tw_buf_clear(&line);
            tw_json_write(&line, tw_bson_get_doc(reply, TW_STR("doc")));
            printf("%.*s\n", (int)line.len, line.ptr);
        } else {
            printf("%.*s\n", (int)text.len, text.ptr);
            status = 0;
        }
    }
    tw_buf_fini(&line);
    return status;
}

static int run(struct record_arguments *given, const struct argp *argp, int argc, char **argv,
               int (*work)(struct record_arguments *, cli_session *))
{
    cli_session session;
    cli_common_init(&given->common);
    argp_parse(argp, argc, argv, 0, NULL, given);
    int status = cli_session_open(&session, given->verb, &given->common);
    if (status == 0) {
        status = work(given, &session);
    }
    cli_session_close(&session);
    return status;
}

static int get_records(struct record_arguments *given, cli_session *session)
{
    tw_buf fields;
    tw_buf_init(&fields, TW_MESSAGE_MAX);
    write_place(given, &fields);
    tw_buf_format(&fields, ",\"ids\":[");
    for (size_t i = 1; i < given->count; i++) {
        tw_buf_format(&fields, i == 1 ? "" : ",");
        write_id(&fields, given->words[i]);
    }
    tw_buf_format(&fields, "]");
    int status = ask_and_print(session, "getByIds", &fields);
    tw_buf_fini(&fields);
    return status;
}

int cli_get(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse_record,
        .args_doc = "COLLECTION ID...",
        .doc = "Prints records by their ids.\vExamples:\n  tidewire get movies 12\n"
               "  tidewire get people '{\"$oid\":\"5f43a1c0e4b0a1b2c3d4e5f6\"}'\n",
        .children = children};
    struct record_arguments given = {
        .verb = "get", .least = 2, .missing = "name a collection and an id"};
    return run(&given, &argp, argc, argv, get_records);
}

/* One request a word: its action, and what stands before the word in it. */
static int each_word(struct record_arguments *given, cli_session *session, const char *action,
                     const char *field, void (*write)(tw_buf *, const char *))
{
    int status = 0;
    tw_buf fields;
    tw_buf_init(&fields, TW_MESSAGE_MAX);
    for (size_t i = 1; i < given->count && status == 0; i++) {
        tw_buf_clear(&fields);
        write_place(given, &fields);
        tw_buf_format(&fields, ",\"%s\":", field);
        write(&fields, given->words[i]);
        status = ask_and_print(session, action, &fields);
    }
    tw_buf_fini(&fields);
    return status;
}

static void write_json(tw_buf *out, const char *word)
{
    tw_buf_add_str(out, tw_str_of(word));
}

static int put_records(struct record_arguments *given, cli_session *session)
{
    return each_word(given, session, "put", "doc", write_json);
}

int cli_put(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse_record,
        .args_doc = "COLLECTION JSON...",
        .doc = "Inserts or replaces records. A record without _id gets one.\vExamples:\n"
               "  tidewire put people '{\"_id\":1,\"name\":\"Ada\"}'\n",
        .children = children};
    struct record_arguments given = {
        .verb = "put", .least = 2, .missing = "name a collection and a record as JSON"};
    return run(&given, &argp, argc, argv, put_records);
}

static int del_records(struct record_arguments *given, cli_session *session)
{
    return each_word(given, session, "remove", "id", write_id);
}

int cli_del(int argc, char **argv)
{
    static const struct argp argp = {.parser = parse_record,
                                     .args_doc = "COLLECTION ID...",
                                     .doc = "Removes records by their ids.\vExamples:\n"
                                            "  tidewire del people 1\n",
                                     .children = children};
    struct record_arguments given = {
        .verb = "del", .least = 2, .missing = "name a collection and an id"};
    return run(&given, &argp, argc, argv, del_records);
}
