/* token.h - JSON Web Tokens, strictly read: one signature, one key, no surprises.
 *
 * Verified by OpenSSL itself (docs/decisions/0019): the algorithm belongs to the key, never to the
 * token, and the key is the one that `kid` names among those of the configuration; it is compared
 * as text and reaches neither a file nor a fetch. Refused: none, another algorithm than the key's,
 * crit, padding or bits left over in base64url, a name that stands twice.
 *                                                      Source  RFC 7515, RFC 7519, RFC 8037 */
#pragma once

#include "protocol/arena.h"
#include "protocol/bson.h"

#include "broker/why.h"

typedef enum token_algorithm {
    TOKEN_HS256, /* secret of at least TOKEN_SECRET_MIN bytes */
    TOKEN_RS256, /* RSA of at least 2048 bits */
    TOKEN_ES256, /* P-256 */
    TOKEN_EDDSA, /* Ed25519 */
    TOKEN_ALGORITHMS
} token_algorithm;

enum { TOKEN_SECRET_MIN = 32, TOKEN_SECRET_MAX = 4096 };

typedef struct token_key token_key;

/* TOKEN_ALGORITHMS: there is no such name ("HS256", "RS256", "ES256", "EdDSA"). */
token_algorithm token_algorithm_of(tw_str name);
/* Makes a key from a file's bytes: a secret (its last line end does not count), or a public key in
 * PEM. kid may be "": the only key that tokens without a kid are held against. TW_E_BAD_CONFIG with
 * why. */
tw_err token_key_new(token_key **out, const char *kid, token_algorithm algorithm, tw_str bytes,
                     broker_why *why);
/* Reads a JSON Web Key Set (RFC 7517) of at most TW_JWKS_MAX bytes: RSA, P-256 and Ed25519. Others,
 * and those for another use, are passed over. keys has room for max; *count are made, each of
 * the caller. TW_E_BAD_CONFIG with why: nothing usable, a key that is not whole, a kid that stands
 * twice; then there are none. TW_E_NO_MEMORY. */
tw_err token_keys_read(token_key **keys, size_t max, size_t *count, tw_str text, broker_why *why);
const char *token_key_kid(const token_key *key);
void token_key_free(token_key **key); /* wipes a secret; nulls; accepts NULL */

/* Reads a token and verifies its signature. claims live in arena; times are not looked at.
 * TW_E_NOT_FOUND with why: no key has its kid; TW_E_TOKEN with why; TW_E_NO_MEMORY. Thread: any
 * number at once. */
tw_err token_verify(token_key *const *keys, size_t count, tw_arena *arena, tw_str token,
                    tw_bson *claims, broker_why *why);

/* Signs claims (JSON) by HS256, for trials and tests. kid may be "". TW_E_BAD_CONFIG: the secret is
 * too short. */
tw_err token_sign(tw_str secret, const char *kid, tw_str claims, tw_buf *out);
