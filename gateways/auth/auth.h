/* auth.h - who somebody is: a token becomes an identity, which is rights until a time.
 *
 * Made once at the start from the configuration, then only read, by every edge's thread. Tokens,
 * secrets and claims are in no log, no URL and no figure. */
#pragma once

#include "broker/rights.h"
#include "broker/why.h"

typedef struct auth_key_options {
    const char *kid;  /* "": the only key, for tokens without a kid */
    const char *alg;  /* "HS256", "RS256", "ES256", "EdDSA" */
    const char *file; /* a secret (mode 0600 or stricter), or a public key in PEM */
} auth_key_options;

typedef struct auth_options {
    const auth_key_options *keys; /* borrow */
    size_t keys_count;            /* 0 with no rules: there is no auth */
    const char *issuer;           /* wanted `iss`; "": not looked at */
    const char *audience;         /* wanted in `aud`; "": not looked at */
    const char *roles;            /* path of the claim that holds the roles */
    int64_t leeway_s;             /* that clocks may differ */
    rights_table rules;
} auth_options;

typedef struct auth auth;

/* Somebody who may ask. Counted by nobody: it belongs to one connection. */
typedef struct auth_identity {
    rights *rights;     /* hold */
    uint64_t expires_s; /* unix time; 0: never (nobody in particular) */
} auth_identity;

/* TW_E_BAD_CONFIG with why: a file that cannot be read or that others may read, a key that does not
 * fit, the same kid twice. */
tw_err auth_new(auth **out, const auth_options *options, broker_why *why);
void auth_free(auth **self);

/* Signs claims (a JSON object) with a key of HS256, for trials and tests. TW_E_BAD_CONFIG, why. */
tw_err auth_sign(const auth_key_options *key, tw_str claims, tw_buf *out, broker_why *why);

/* A token's owner, now_s in unix time. token len 0: nobody, which rules may allow something
 * (role anonymous). TW_E_TOKEN with why; TW_E_NO_MEMORY. The caller ends *out. Thread: any. */
tw_err auth_identify(const auth *self, tw_str token, uint64_t now_s, auth_identity *out,
                     broker_why *why);
/* True when tokens are over at a time. */
bool auth_identity_over(const auth *self, const auth_identity *identity, uint64_t now_s);
void auth_identity_fini(auth_identity *identity);
