/* config_verbs.c - tidewire config default|show, check-config, schema. */
#include "cli/config_verbs.h"

#include <stdio.h>
#include <stdlib.h>

#include "protocol/json.h"

#include "cli/config_args.h"
#include "cli/serve/serve.h"

enum { OUT_MAX = 16 << 20 };

struct config_arguments {
    config_args args;
    const char *what; /* first word */
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct config_arguments *given = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &given->args;
        return 0;
    case ARGP_KEY_ARG:
        if (given->what != NULL) {
            argp_error(state, "one word is enough, '%s' is too much", arg);
        }
        given->what = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void read_arguments(struct config_arguments *given, const char *args_doc, const char *doc,
                           int argc, char **argv)
{
    const struct argp_child children[] = {{config_args_argp(), 0, NULL, 0}, {0}};
    const struct argp argp = {
        .parser = parse, .args_doc = args_doc, .doc = doc, .children = children};
    *given = (struct config_arguments){0};
    argp_parse(&argp, argc, argv, 0, NULL, given);
}

int cli_config(int argc, char **argv)
{
    struct config_arguments given;
    read_arguments(
        &given, "default|show",
        "Prints a configuration: `default` with what holds without a file, `show` with what "
        "would hold now and where each value comes from.\vExamples:\n"
        "  tidewire config default >tidewire.yaml\n"
        "  tidewire config show --config tidewire.yaml\n",
        argc, argv);
    bool show = given.what != NULL && strcmp(given.what, "show") == 0;
    if (!show && (given.what == NULL || strcmp(given.what, "default") != 0)) {
        return cli_fail("config", "tidewire config --help", "say `default` or `show`");
    }
    config loaded;
    const config_args none = {0};
    if (config_args_load(show ? &given.args : &none, "config", &loaded) != 0) {
        return 1;
    }
    tw_buf out;
    tw_buf_init(&out, OUT_MAX);
    config_write(&loaded, show, &out);
    printf("%.*s", (int)out.len, out.ptr);
    tw_buf_fini(&out);
    config_free(&loaded);
    return 0;
}

int cli_check_config(int argc, char **argv)
{
    struct config_arguments given;
    read_arguments(&given, "[FILE]",
                   "Checks a configuration and says what is wrong, with file and line.\vExamples:\n"
                   "  tidewire check-config tidewire.yaml\n",
                   argc, argv);
    if (given.what != NULL) {
        given.args.file = given.what;
    }
    config loaded;
    if (config_args_load(&given.args, "check-config", &loaded) != 0) {
        return 1;
    }
    if (serve_check("check-config", &given.args) != 0) {
        config_free(&loaded);
        return 1;
    }
    printf("%s: good; %zu collections declared\n", loaded.file == NULL ? "defaults" : loaded.file,
           loaded.catalog.count);
    config_free(&loaded);
    return 0;
}

static void write_schema(const catalog *declared, tw_buf *out)
{
    tw_bson_builder b;
    tw_buf doc;
    tw_buf_init(&doc, OUT_MAX);
    for (size_t i = 0; i < declared->count; i++) {
        const catalog_collection *at = &declared->at[i];
        tw_buf_clear(&doc);
        tw_bson_begin(&b, &doc);
        tw_bson_add_str(&b, TW_STR("name"), tw_str_of(at->name));
        tw_bson_add_str(&b, TW_STR("database"), tw_str_of(at->database));
        tw_bson_add_str(&b, TW_STR("keyPath"), tw_str_of(at->key));
        tw_bson_add_str(&b, TW_STR("version"), tw_str_of(at->version_field));
        tw_bson_add_str(&b, TW_STR("message"), tw_str_of(at->message));
        tw_bson_add_str(&b, TW_STR("shape"),
                        at->shape == CATALOG_FLAT ? TW_STR("flat") : TW_STR("nested"));
        if (at->scope_param != NULL) {
            tw_bson_open_doc(&b, TW_STR("scope"));
            tw_bson_add_str(&b, tw_str_of(at->scope_param), tw_str_of(at->scope_field));
            tw_bson_close(&b);
        }
        if (at->filter.len > 0) {
            tw_bson_add_doc(&b, TW_STR("filter"), at->filter);
        }
        if (at->fields_count > 0) {
            tw_bson_open_array(&b, TW_STR("fields"));
            for (size_t f = 0; f < at->fields_count; f++) {
                tw_bson_add_str(&b, TW_STR(""), tw_str_of(at->fields[f]));
            }
            tw_bson_close(&b);
        }
        tw_json_write(out, tw_bson_end(&b));
        tw_buf_add_byte(out, '\n');
    }
    tw_buf_fini(&doc);
}

int cli_schema(int argc, char **argv)
{
    struct config_arguments given;
    read_arguments(&given, "",
                   "Prints the declared collections, a JSON object a line.\vExamples:\n"
                   "  tidewire schema --preset report\n",
                   argc, argv);
    config loaded;
    if (config_args_load(&given.args, "schema", &loaded) != 0) {
        return 1;
    }
    tw_buf out;
    tw_buf_init(&out, OUT_MAX);
    write_schema(&loaded.catalog, &out);
    if (out.len > 0) {
        printf("%.*s", (int)out.len, out.ptr);
    } else {
        fprintf(stderr,
                "no collections are declared; others come into being by their first write\n");
    }
    tw_buf_fini(&out);
    config_free(&loaded);
    return 0;
}
