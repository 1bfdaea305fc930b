/* version.h - the one place of the program's version; build.zig reads it for libtidewire too. */
#pragma once

#define TW_VERSION "0.1.0"
