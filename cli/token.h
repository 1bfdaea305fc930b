/* token.h - the verb token. */
#pragma once

int cli_token(int argc, char **argv);
