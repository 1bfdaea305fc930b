/* demo.h - example data for `serve --demo`: the report preset and a collection of movies. */
#pragma once

#include <stdbool.h>

/* Fills what is still empty, through the websocket on this port of 127.0.0.1; tls: that speaks TLS,
 * and whose certificate is this process's own, so that it is not looked at. movies: path of a
 * JSON array, "" = a few built in. Prints what it did; returns an exit status. */
int demo_load(int port, bool tls, const char *movies);
