/* doctor.h - the verb doctor. */
#pragma once

int cli_doctor(int argc, char **argv);
