/* demo.h - example data for `serve --demo`: the report preset and a collection of movies. */
#pragma once

/* Fills what is still empty, through the websocket on this port of 127.0.0.1. movies: path of a
 * JSON array, "" = a few built in. Prints what it did; returns an exit status. */
int demo_load(int port, const char *movies);
