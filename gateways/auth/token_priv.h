/* token_priv.h - for token.c and token_jwks.c: keys as OpenSSL has them, and base64url. */
#pragma once

#include <openssl/evp.h>

#include "gateways/auth/token.h"

extern const char *const token_algorithm_names[TOKEN_ALGORITHMS];

/* Decodes base64url into arena: one spelling for each value. False: it is none, or no memory. */
bool token_decode(tw_arena *arena, tw_str text, tw_str *out);
/* Makes a key of a public one, which it takes also where it fails. TW_E_BAD_CONFIG: it does not fit
 * the algorithm. */
tw_err token_key_of(token_key **out, const char *kid, token_algorithm algorithm, EVP_PKEY *key,
                    broker_why *why);
