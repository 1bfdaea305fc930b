/* import.h - the verbs import and export. */
#pragma once

#include "cli/verb.h"

int cli_import(int argc, char **argv);
int cli_export(int argc, char **argv);
