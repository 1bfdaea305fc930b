/* secret.h - secrets of the configuration: from a file of the owner alone, or the environment;
 * never from the command line, never shown. */
#pragma once

#include <stddef.h>

/* Reads into out, terminated, without the line's end. file "": the environment variable; neither
 * given: out is "". Returns 0, or 1 after telling what is wrong: a file that others may read, that
 * is not there, that is empty or longer than out. */
int secret_read(const char *verb, const char *file, const char *variable, char *out, size_t size);
