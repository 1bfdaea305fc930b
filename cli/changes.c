/* changes.c - tidewire changes: every change, as MongoDB's change streams tell it. */
#include "cli/changes.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "clients/c/stream.h"

enum { POLL_MS = 250 };

struct changes {
    cli_common common;
    const char *collections[TW_COLLECTIONS_PER_TOPIC_MAX];
    size_t count;
    const char *since;
    int64_t events_max;
};

static const struct argp_option changes_options[] = {
    {"since", 's', "VECTOR", 0, "Resume from [[srv_id,seqno],...]; without it: from now", 0},
    {"count", 'n', "N", 0, "End after N changes", 0},
    {0},
};

static error_t parse_changes(int key, char *arg, struct argp_state *state)
{
    struct changes *self = state->input;
    uint64_t number = 0;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &self->common;
        return 0;
    case 's':
        self->since = arg;
        return 0;
    case 'n':
        if (tw_parse_u64(tw_str_of(arg), INT64_MAX, &number) != TW_OK || number == 0) {
            argp_error(state, "--count takes a number above 0, not '%s'", arg);
        }
        self->events_max = (int64_t)number;
        return 0;
    case ARGP_KEY_ARG:
        if (self->count == TW_COUNT(self->collections)) {
            argp_error(state, "at most %zu collections", TW_COUNT(self->collections));
        }
        self->collections[self->count++] = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static void write_watch(const struct changes *self, tw_buf *out)
{
    tw_buf_format(out, "{\"action\":\"watch\"");
    for (size_t i = 0; i < self->count; i++) {
        tw_buf_format(out, i == 0 ? ",\"collections\":[" : ",");
        if (self->common.database != NULL) {
            tw_buf_format(out, "{\"db\":");
            tw_json_write_str(out, tw_str_of(self->common.database));
            tw_buf_format(out, ",\"coll\":");
        }
        tw_json_write_str(out, tw_str_of(self->collections[i]));
        tw_buf_format(out, self->common.database != NULL ? "}" : "");
    }
    tw_buf_format(out, self->count > 0 ? "]}" : "}");
}

static int print_changes(struct changes *self, stream *from)
{
    int64_t events = 0;
    while (!interrupted && (self->events_max == 0 || events < self->events_max)) {
        stream_event event;
        tw_err err = stream_next(from, POLL_MS, &event);
        if (err != TW_OK) {
            fflush(stdout);
        } else if (event.kind == STREAM_EVENT) {
            printf("%.*s\n", (int)event.text.len, event.text.ptr);
            events++;
        } else if (event.kind == STREAM_RESET) {
            fprintf(stderr, "the server cannot go on from there; everything stored follows\n");
        } else if (event.kind == STREAM_LOST) {
            fprintf(stderr, "connection lost (%.*s); trying again\n", (int)event.text.len,
                    event.text.ptr);
        } else if (event.kind == STREAM_REFUSED) {
            tw_str message = tw_bson_get_str(event.frame, TW_STR("message"));
            return cli_fail("changes", "", "%.*s", (int)message.len, message.ptr);
        }
    }
    return 0;
}

int cli_changes(int argc, char **argv)
{
    static const struct argp_child children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = changes_options,
        .parser = parse_changes,
        .args_doc = "[COLLECTION...]",
        .doc = "Prints every change as it happens, a JSON object a line.\vExamples:\n"
               "  tidewire changes\n  tidewire changes movies --count 10\n"
               "  tidewire changes people --database crm --since '[[5,41]]'\n",
        .children = children};
    struct changes self = {0};
    cli_common_init(&self.common);
    argp_parse(&argp, argc, argv, 0, NULL, &self);
    char url[1024];
    tw_buf watch;
    tw_buf_init(&watch, TW_MESSAGE_MAX);
    write_watch(&self, &watch);
    stream *from = NULL;
    websocket_client_who who = cli_who(&self.common);
    tw_err err = stream_open(&from, cli_path(&self.common, "/changes", url, sizeof(url)), &who,
                             tw_buf_str(&watch), self.since);
    int status = 1;
    if (err == TW_OK) {
        struct sigaction action = {.sa_handler = on_interrupt};
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        status = print_changes(&self, from);
    } else {
        status =
            cli_fail("changes", "A vector is written [[srv_id,seqno],...]", "%s", tw_err_text(err));
    }
    fflush(stdout);
    stream_close(&from);
    tw_buf_fini(&watch);
    return status;
}
