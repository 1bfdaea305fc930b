/* bson_priv.h - what bson_key.c and bson_order.c share. */
#pragma once

#include "protocol/bson.h"

/* The 16 bytes of a Decimal128: is it whole, and does it fit? */
bool bson_decimal_i64(const uint8_t *decimal, int64_t *out);
