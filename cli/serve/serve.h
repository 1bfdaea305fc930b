/* serve.h - the verbs that run actors: all of them in this process, or one. */
#pragma once

#include "cli/config_args.h"

int cli_serve(int argc, char **argv);
int cli_actor(int argc, char **argv);
/* What serve does before its first thread, without a trace: keys and secrets are read, addresses
 * taken apart; no directory is made, nothing is fetched or listened at. Returns 0, or 1 once it has
 * told what serve would refuse. */
int serve_check(const char *verb, const config_args *args);
