/* load_peer.h - the servers that a bench starts: bench/peers/NAME, one script each.
 *
 * `NAME version` prints what would run, `NAME PORT FOLDER` becomes the server; exit status 77 says
 * that it is not installed. Servers run on core 0, in a process group of their own. */
#pragma once

#include "bench/load/load_process.h"

enum { LOAD_CORE_SERVER = 0, LOAD_CORE_LOAD = 1 };

typedef struct load_peer {
    int group; /* of its processes */
    load_pids pids;
} load_peer;

/* The calling process runs on this core alone. False: it cannot; figures are noisier. */
bool load_pin(unsigned core);
/* What would run, one line. False: it is not installed. */
bool load_peer_version(const char *name, char *out, size_t size);
/* Starts it and waits until it listens. folder: for its files; made. False: it does not listen. */
bool load_peer_start(load_peer *out, const char *name, int port, const char *folder);
/* The same of a program: its path, its arguments after it, NULL. pinned: to LOAD_CORE_SERVER. */
bool load_peer_spawn(load_peer *out, const char *const *arguments, int port, const char *folder,
                     bool pinned);
/* Removes a folder with all in it; what cannot be removed is told on stderr. */
void load_remove_folder(const char *path);
/* A port of 127.0.0.1 that is free now. */
int load_free_port(void);
void load_peer_stop(load_peer *self);
