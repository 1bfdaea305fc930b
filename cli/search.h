/* search.h - tidewire search, tidewire index. */
#pragma once

int cli_search(int argc, char **argv);
int cli_index(int argc, char **argv);
