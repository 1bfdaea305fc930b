/* verbs.c - the one table of commands; serve and actor are added by main.c. */
#include "cli/bench.h"
#include "cli/changes.h"
#include "cli/config_verbs.h"
#include "cli/doctor.h"
#include "cli/import.h"
#include "cli/record.h"
#include "cli/search.h"
#include "cli/sync.h"
#include "cli/token.h"
#include "cli/verb.h"
#include "cli/watch.h"

const cli_verb cli_verbs[] = {
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
    {0},
};
