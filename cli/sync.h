/* sync.h - tidewire sync. */
#pragma once

int cli_sync(int argc, char **argv);
