/* json_powers.h - powers of ten for json_double.c alone: 10^k for k = -292 .. 324 in 128 bits.
 *
 * Each is 10^k / 2^e, with e chosen so that the topmost bit is set, rounded up; those of 0 .. 55
 * are exact. high, low. To compute them again: ceil(10^k / 2^(floor(log2(10^k)) - 127)). */
#pragma once

#include <stdint.h>

enum { JSON_POWER_MIN = -292, JSON_POWER_MAX = 324 };

extern const uint64_t tw_json_powers[JSON_POWER_MAX - JSON_POWER_MIN + 1][2];
