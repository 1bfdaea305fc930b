/* config_verbs.h - the verbs config, check-config and schema. */
#pragma once

#include "cli/verb.h"

int cli_config(int argc, char **argv);
int cli_check_config(int argc, char **argv);
int cli_schema(int argc, char **argv);
