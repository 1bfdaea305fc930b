/* bench.h - the verb bench: how much, how late, at what cost; see bench/load. */
#pragma once

int cli_bench(int argc, char **argv);
