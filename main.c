/* main.c - the table of verbs. */
#include <stdio.h>
#include <string.h>

#include "protocol/base.h"

#include "cli/bench.h"
#include "cli/changes.h"
#include "cli/config_verbs.h"
#include "cli/doctor.h"
#include "cli/import.h"
#include "cli/nearest.h"
#include "cli/record.h"
#include "cli/search.h"
#include "cli/serve/serve.h"
#include "cli/sync.h"
#include "cli/token.h"
#include "cli/version.h"
#include "cli/watch.h"

static const struct {
    const char *name;
    const char *summary;               /* one line for --help */
    int (*run)(int argc, char **argv); /* argv[0] is "tidewire NAME"; returns the exit status */
} verbs[] = {
    {"serve", "serve everything from this process", cli_serve},
    {"actor", "run one actor in a process of its own", cli_actor},
    {"version", "this version, and those of the linked libraries", cli_version},
    {"watch", "print what is stored, then every change", cli_watch},
    {"get", "print records by id", cli_get},
    {"put", "insert or replace records", cli_put},
    {"del", "remove records", cli_del},
    {"import", "read a file of records: NDJSON, JSON, CSV, mongoexport", cli_import},
    {"export", "write all records of a collection", cli_export},
    {"search", "search collections", cli_search},
    {"index", "look at indices, and manage them", cli_index},
    {"changes", "print the change stream", cli_changes},
    {"sync", "bring a local copy to the server's state", cli_sync},
    {"token", "sign a token for trials and tests", cli_token},
    {"doctor", "look at what commonly goes wrong", cli_doctor},
    {"bench", "measure a server: fan-out, snapshots, storms and others", cli_bench},
    {"config", "print the configuration, with comments", cli_config},
    {"check-config", "check a configuration file", cli_check_config},
    {"schema", "print the declared collections", cli_schema},
};

static int usage(FILE *out)
{
    fprintf(out, "tidewire - records of a database as live, resumable streams\n\n"
                 "usage: tidewire VERB [OPTION...]     tidewire VERB --help tells more\n\n");
    for (size_t i = 0; i < TW_COUNT(verbs); i++) {
        fprintf(out, "  %-13s %s\n", verbs[i].name, verbs[i].summary);
    }
    fprintf(out, "\nExamples:\n  tidewire serve --demo\n  tidewire watch movies\n"
                 "  tidewire put people '{\"_id\":1,\"name\":\"Ada\"}'\n");
    return out == stdout ? 0 : 2;
}

static int tell_unknown(const char *verb)
{
    const char *names[TW_COUNT(verbs)];
    for (size_t i = 0; i < TW_COUNT(verbs); i++) {
        names[i] = verbs[i].name;
    }
    const char *nearest = nearest_name(verb, names, TW_COUNT(names));
    fprintf(stderr, "tidewire: there is no verb '%s'", verb);
    if (nearest != NULL) {
        fprintf(stderr, "; did you mean '%s'?", nearest);
    }
    fprintf(stderr, "\n  tidewire --help lists them\n");
    return 2;
}

int main(int argc, char **argv)
{
    static char name[64];
    if (argc < 2) {
        return usage(stderr);
    }
    const char *verb = argv[1];
    if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0 || strcmp(verb, "help") == 0) {
        return usage(stdout);
    }
    if (strcmp(verb, "--version") == 0 || strcmp(verb, "-V") == 0) {
        verb = "version";
    }
    tw_format(name, sizeof(name), "tidewire %s", verb);
    argv[1] = name;
    for (size_t i = 0; i < TW_COUNT(verbs); i++) {
        if (strcmp(verbs[i].name, verb) == 0) {
            return verbs[i].run(argc - 1, argv + 1);
        }
    }
    return tell_unknown(verb);
}
