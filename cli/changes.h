/* changes.h - the verb changes. */
#pragma once

#include "cli/verb.h"

int cli_changes(int argc, char **argv);
