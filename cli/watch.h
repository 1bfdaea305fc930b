/* watch.h - the verb watch. */
#pragma once

#include "cli/verb.h"

int cli_watch(int argc, char **argv);
