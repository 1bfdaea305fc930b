/* version.h - the verb version. */
#pragma once

int cli_version(int argc, char **argv);
