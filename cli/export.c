/* export.c - tidewire export: all records of a collection as NDJSON, without the server's _version
 * unless asked for, so that export and import are each other's inverse. */
#include <stdio.h>
#include <stdlib.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "cli/import.h"
#include "cli/progress.h"
#include "clients/c/stream.h"

enum { EXPORT_WAIT_MS = 60000 };

struct export
{
    cli_common common;
    const char *collection, *filter, *output;
    bool versions;
};

static const struct argp_option export_options[] = {
    {"filter", 'f', "JSON", 0, "Only records that match", 0},
    {"output", 'o', "FILE", 0, "Write here instead of to standard output", 0},
    {"versions", 'v', NULL, 0, "Keep _version in the records", 0},
    {0},
};

static error_t parse_export(int key, char *arg, struct argp_state *state)
{
    struct export *self = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &self->common;
        return 0;
    case 'f':
        self->filter = cli_json_object(state, "--filter", arg);
        return 0;
    case 'o':
        self->output = arg;
        return 0;
    case 'v':
        self->versions = true;
        return 0;
    case ARGP_KEY_ARG:
        if (self->collection != NULL) {
            argp_error(state, "one collection at a time");
        }
        self->collection = arg;
        return 0;
    case ARGP_KEY_END:
        if (self->collection == NULL) {
            argp_error(state, "name a collection");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void write_subscribe(const struct export *self, tw_buf *out)
{
    tw_buf_format(out, "{\"type\":\"subscribe\",\"archived\":\"include\",\"collections\":{");
    tw_json_write_str(out, tw_str_of(self->collection));
    tw_buf_format(out, ":{\"filter\":%s", self->filter == NULL ? "{}" : self->filter);
    if (self->common.database != NULL) {
        tw_buf_format(out, ",\"db\":");
        tw_json_write_str(out, tw_str_of(self->common.database));
    }
    tw_buf_format(out, "}}}");
}

/* The record without what the stream and the server put beside it. */
static void write_record(const struct export *self, tw_bson frame, tw_buf *line)
{
    static const char *const beside[] = {"type", "mux_id", "prev", "srv_id", "seqno", "last"};
    tw_bson doc = tw_bson_get_doc(frame, TW_STR("doc"));
    bool nested = tw_str_equal(tw_bson_get_str(frame, TW_STR("type")), TW_STR("record"));
    tw_bson_iter field;
    tw_buf_clear(line);
    tw_buf_add_byte(line, '{');
    for (tw_bson_iter_init(&field, nested ? doc : frame); tw_bson_iter_next(&field);) {
        bool out = !self->versions && tw_str_equal(field.name, TW_STR("_version"));
        for (size_t i = 0; !nested && i < TW_COUNT(beside); i++) {
            out = out || tw_str_equal(field.name, tw_str_of(beside[i]));
        }
        if (!out) {
            if (line->len > 1) {
                tw_buf_add_byte(line, ',');
            }
            tw_json_write_str(line, field.name);
            tw_buf_add_byte(line, ':');
            tw_json_write_value(line, field.value);
        }
    }
    tw_buf_add_str(line, TW_STR("}\n"));
}

static int export_all(struct export *self, stream *from, FILE *out)
{
    tw_buf line;
    tw_buf_init(&line, 2 * TW_ACTOR_MESSAGE_MAX);
    progress bar;
    progress_begin(&bar, "exporting", "records", 0);
    int status = -1;
    uint64_t count = 0;
    while (status < 0) {
        stream_event event;
        tw_err err = stream_next(from, EXPORT_WAIT_MS, &event);
        if (err != TW_OK) {
            status = cli_fail("export", "", "nothing came from the server: %s", tw_err_text(err));
        } else if (event.kind == STREAM_EVENT &&
                   tw_bson_get_str(event.frame, TW_STR("why")).ptr == NULL) {
            write_record(self, event.frame, &line);
            fwrite(line.ptr, 1, line.len, out);
            progress_show(&bar, ++count, 0);
        } else if (event.kind == STREAM_SYNCED) {
            status = 0;
        } else if (event.kind == STREAM_LOST || event.kind == STREAM_RESET) {
            status = cli_fail("export", "Run it again", "the connection broke off");
        } else if (event.kind == STREAM_REFUSED) {
            tw_str message = tw_bson_get_str(event.frame, TW_STR("message"));
            status = cli_fail("export", "", "%.*s", (int)message.len, message.ptr);
        }
    }
    progress_end(&bar);
    tw_buf_fini(&line);
    if (status == 0) {
        fprintf(stderr, "exported %llu records\n", (unsigned long long)count);
    }
    return status;
}

int cli_export(int argc, char **argv)
{
    static const struct argp_child children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = export_options,
        .parser = parse_export,
        .args_doc = "COLLECTION",
        .doc = "Writes all records of a collection, a JSON object a line.\vExamples:\n"
               "  tidewire export movies >movies.ndjson\n",
        .children = children};
    struct export self = {0};
    cli_common_init(&self.common);
    argp_parse(&argp, argc, argv, 0, NULL, &self);
    FILE *out = self.output == NULL ? stdout : fopen(self.output, "w");
    if (out == NULL) {
        return cli_fail("export", "", "%s cannot be written", self.output);
    }
    char url[1024];
    tw_buf subscribe;
    tw_buf_init(&subscribe, TW_MESSAGE_MAX);
    write_subscribe(&self, &subscribe);
    stream *from = NULL;
    websocket_client_who who = cli_who(&self.common);
    tw_err err = stream_open(&from, cli_path(&self.common, "/ws", url, sizeof(url)), &who,
                             tw_buf_str(&subscribe), NULL);
    int status = err == TW_OK ? export_all(&self, from, out)
                              : cli_fail("export", "", "%s", tw_err_text(err));
    stream_close(&from);
    tw_buf_fini(&subscribe);
    if (out != stdout && fclose(out) != 0) {
        status = cli_fail("export", "", "%s cannot be written whole", self.output);
    }
    return status;
}
