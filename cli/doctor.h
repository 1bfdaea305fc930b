/* doctor.h - the verb doctor. */
#pragma once

#include "cli/verb.h"

int cli_doctor(int argc, char **argv);

/* What main.c adds, as it knows the actors: looks at the store that the configuration names. */
struct config;
typedef enum cli_finding { CLI_GOOD, CLI_DOUBTFUL, CLI_BAD } cli_finding;
typedef void (*cli_doctor_report)(void *context, cli_finding finding, const char *what,
                                  const char *value, const char *advice);
typedef void (*cli_doctor_probe)(const struct config *loaded, cli_doctor_report report,
                                 void *context);
int cli_doctor_with(int argc, char **argv, cli_doctor_probe probe);
