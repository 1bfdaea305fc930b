/* watch.c - tidewire watch: what is stored, `synced (N)`, then every change as it happens. */
#include "cli/watch.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "clients/c/stream.h"

enum { POLL_MS = 250, KEY_UNTIL = 256 /* argp keys without a letter begin here */ };

struct watch_arguments {
    cli_common common;
    const char *collections[TW_COLLECTIONS_PER_TOPIC_MAX];
    size_t count;
    const char *filter, *fields, *since, *project;
    bool until_synced, archived, quiet;
    int64_t events_max; /* 0: no end */
};

static const struct argp_option watch_options[] = {
    {"filter", 'f', "JSON", 0, "Only records that match, as {\"age\":{\"$gt\":30}}", 0},
    {"fields", 'F', "NAMES", 0, "Only these fields, with commas", 0},
    {"since", 's', "VECTOR", 0, "Resume from [[srv_id,seqno],...], or: now", 0},
    {"project", 'p', "ID", 0, "project_id of the report collections", 0},
    {"archived", 'a', NULL, 0, "Archived records too", 0},
    {"synced", KEY_UNTIL, NULL, 0, "End when all that is stored was printed", 0},
    {"count", 'n', "N", 0, "End after N events", 0},
    {"quiet", 'q', NULL, 0, "Print records only, no remarks", 0},
    {0},
};

static error_t parse_watch(int key, char *arg, struct argp_state *state)
{
    struct watch_arguments *given = state->input;
    uint64_t number = 0;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &given->common;
        return 0;
    case 'f':
        given->filter = cli_json_object(state, "--filter", arg);
        return 0;
    case 'F':
        given->fields = arg;
        return 0;
    case 's':
        given->since = arg;
        return 0;
    case 'p':
        given->project = cli_json_value(state, "--project", arg);
        return 0;
    case 'a':
        given->archived = true;
        return 0;
    case 'q':
        given->quiet = true;
        return 0;
    case 'n':
        if (tw_parse_u64(tw_str_of(arg), INT64_MAX, &number) != TW_OK || number == 0) {
            argp_error(state, "--count takes a number above 0, not '%s'", arg);
        }
        given->events_max = (int64_t)number;
        return 0;
    case KEY_UNTIL:
        given->until_synced = true;
        return 0;
    case ARGP_KEY_ARG:
        if (given->count == TW_COUNT(given->collections)) {
            argp_error(state, "at most %zu collections", TW_COUNT(given->collections));
        }
        given->collections[given->count++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (given->count == 0) {
            argp_error(state, "name a collection to watch, such as: tidewire watch movies");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child watch_children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp watch_argp = {
    .options = watch_options,
    .parser = parse_watch,
    .args_doc = "COLLECTION...",
    .doc =
        "Prints the records of collections, a line `synced (N)`, then each change as it happens. "
        "Reconnects and resumes by itself, without a gap or a duplicate.\v"
        "Examples:\n"
        "  tidewire watch movies\n"
        "  tidewire watch movies --filter '{\"IMDB Rating\":{\"$gte\":8.5}}' --fields Title\n"
        "  tidewire watch entries threads comments --project 7\n",
    .children = watch_children,
};

/* {"type":"subscribe","collections":{"name":spec,...}} */
static void write_subscribe(const struct watch_arguments *given, tw_buf *out)
{
    tw_buf_format(out, "{\"type\":\"subscribe\"");
    if (given->project != NULL) {
        tw_buf_format(out, ",\"project_id\":%s", given->project);
    }
    if (given->archived) {
        tw_buf_format(out, ",\"archived\":\"include\"");
    }
    tw_buf_format(out, ",\"collections\":{");
    for (size_t i = 0; i < given->count; i++) {
        tw_buf_format(out, i == 0 ? "" : ",");
        tw_json_write_str(out, tw_str_of(given->collections[i]));
        tw_buf_format(out, ":{\"filter\":%s", given->filter == NULL ? "{}" : given->filter);
        if (given->common.database != NULL) {
            tw_buf_format(out, ",\"db\":");
            tw_json_write_str(out, tw_str_of(given->common.database));
        }
        const char *comma = ",\"fields\":[";
        for (const char *at = given->fields; at != NULL && *at != '\0';) {
            size_t len = strcspn(at, ",");
            tw_buf_format(out, "%s", comma);
            tw_json_write_str(out, (tw_str){at, len});
            at += len + (at[len] == ',');
            comma = ",";
        }
        tw_buf_format(out, given->fields != NULL && given->fields[0] != '\0' ? "]}" : "}");
    }
    tw_buf_format(out, "}}");
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* Prints an event; returns an exit status, or -1 to go on. */
static int print_event(const struct watch_arguments *given, stream *from, const stream_event *event,
                       int64_t *events)
{
    bool remarks = !given->quiet;
    switch (event->kind) {
    case STREAM_EVENT:
        printf("%.*s\n", (int)event->text.len, event->text.ptr);
        ++*events;
        return given->events_max != 0 && *events >= given->events_max ? 0 : -1;
    case STREAM_SYNCED:
        if (given->common.json && remarks) {
            printf("%.*s\n", (int)event->text.len, event->text.ptr);
        } else if (remarks) {
            printf("synced (%llu)\n", (unsigned long long)event->count);
        }
        return given->until_synced ? 0 : -1;
    case STREAM_RESET:
        if (remarks) {
            printf(given->common.json ? "{\"type\":\"reset\"}\n" : "reset: a whole copy follows\n");
        }
        return -1;
    case STREAM_LOST:
        if (remarks) {
            fprintf(stderr, "connection lost (%.*s); trying again\n", (int)event->text.len,
                    event->text.ptr);
        }
        return -1;
    case STREAM_BACK:
        if (remarks) {
            tw_str since = stream_since(from);
            fprintf(stderr, "connected again; resuming from %.*s\n", (int)since.len, since.ptr);
        }
        return -1;
    case STREAM_REFUSED: {
        tw_str message = tw_bson_get_str(event->frame, TW_STR("message"));
        tw_str hint = tw_bson_get_str(event->frame, TW_STR("hint"));
        char advice[TW_ERROR_TEXT_MAX];
        tw_format(advice, sizeof(advice), "%.*s", (int)hint.len, hint.ptr == NULL ? "" : hint.ptr);
        return cli_fail("watch", advice, "%.*s", (int)message.len, message.ptr);
    }
    }
    return -1;
}

int cli_watch(int argc, char **argv)
{
    struct watch_arguments given = {0};
    cli_common_init(&given.common);
    argp_parse(&watch_argp, argc, argv, 0, NULL, &given);
    char url[1024];
    tw_buf subscribe;
    tw_buf_init(&subscribe, TW_MESSAGE_MAX);
    write_subscribe(&given, &subscribe);
    stream *from = NULL;
    websocket_client_who who = cli_who(&given.common);
    tw_err err = stream_open(&from, cli_path(&given.common, "/ws", url, sizeof(url)), &who,
                             tw_buf_str(&subscribe), given.since);
    if (err != TW_OK) {
        tw_buf_fini(&subscribe);
        return cli_fail("watch",
                        err == TW_E_BAD_SINCE ? "A vector is written [[srv_id,seqno],...]" : "",
                        "%s", tw_err_text(err));
    }
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    int status = -1;
    int64_t events = 0;
    while (status < 0 && !interrupted) {
        stream_event event;
        err = stream_next(from, POLL_MS, &event);
        if (err == TW_OK) {
            status = print_event(&given, from, &event, &events);
        } else {
            fflush(stdout); /* nothing more came for a moment */
        }
        if (err == TW_OK && event.kind == STREAM_SYNCED) {
            fflush(stdout);
        }
    }
    fflush(stdout);
    stream_close(&from);
    tw_buf_fini(&subscribe);
    return status < 0 ? 0 : status;
}
