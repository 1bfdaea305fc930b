/* record.h - the verbs get, put and del: single records from the command line. */
#pragma once

#include "cli/verb.h"

int cli_get(int argc, char **argv);
int cli_put(int argc, char **argv);
int cli_del(int argc, char **argv);
