/* serve.h - the verbs that run actors: all of them in this process, or one. */
#pragma once

int cli_serve(int argc, char **argv);
int cli_actor(int argc, char **argv);
