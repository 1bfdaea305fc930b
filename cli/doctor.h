/* doctor.h - the verb doctor. */
#pragma once

#include "cli/verb.h"

int cli_doctor(int argc, char **argv);
