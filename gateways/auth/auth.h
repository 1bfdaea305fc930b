/* auth.h - who somebody is: a token becomes an identity, which is rights until a time.
 *
 * Two parts hold at a time and may be replaced while the edges work: a policy (keys of files,
 * rules, what tokens must say) by auth_reload, a set of fetched keys by auth_keep; both from one
 * thread, the main one. Edges ask from theirs: they announce themselves by a counter, and what was
 * replaced is freed when nobody is inside. Nothing of a policy is in an identity. Tokens, secrets
 * and claims are in no log, no URL and no figure. */
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
    const char *jwks;             /* https://... or a file with a set of keys; "": none */
    const char *jwks_ca;          /* certificates that may sign its server's; "": the system's */
    bool services;                /* requests of services need a token too */
    rights_table rules;
} auth_options;

/* True where somebody is to be asked for a token. */
static inline bool auth_is_wanted(const auth_options *options)
{
    return options->keys_count > 0 || options->jwks[0] != '\0';
}

typedef struct auth auth;

/* Somebody who may ask. Counted by nobody: it belongs to one connection. */
typedef struct auth_identity {
    rights *rights;     /* hold */
    tw_bson claims;     /* own; len 0: there was no token */
    uint64_t expires_s; /* unix time; 0: never (nobody in particular) */
} auth_identity;

/* options are borrowed until they are replaced. TW_E_BAD_CONFIG with why: a file that cannot be
 * read or that others may read, a key that does not fit, the same kid twice. */
tw_err auth_new(auth **out, const auth_options *options, broker_why *why);
void auth_free(auth **self);
/* Replaces the policy; options and what they point to are taken, and given back by memory_free.
 * An error as of auth_new: the old one holds, and nothing was taken. Thread: the main one. */
tw_err auth_reload(auth *self, const auth_options *options, void *memory,
                   void (*memory_free)(void *), broker_why *why);
/* Fetches the set of keys now. TW_E_UNAVAILABLE, TW_E_BAD_CONFIG with why: the last good one holds.
 * May block for twice TW_JWKS_MS. Thread: the main one. */
tw_err auth_fetch(auth *self, broker_why *why);
/* True when there is a set of keys to be kept: auth_keep is to be called several times a second. */
bool auth_has_set(const auth *self);
/* Fetches the set of keys where it is time (at first, after TW_JWKS_REFRESH_S, and for an unknown
 * kid once in TW_JWKS_UNKNOWN_S). Errors as of auth_fetch: the last good one holds. May block for
 * twice TW_JWKS_MS. Thread: the main one. */
tw_err auth_keep(auth *self, uint64_t now_s, broker_why *why);
/* Another number: the policy was replaced, rights may be others. */
unsigned auth_generation(const auth *self);
/* What an identity's claims come to under the policy that holds now. TW_E_NO_MEMORY. */
tw_err auth_rights(auth *self, const auth_identity *identity, rights **out);
/* Whether a service may do without a token, and then has all rights. */
bool auth_trusts_services(auth *self);

/* Signs claims (a JSON object) with a key of HS256, for trials and tests. TW_E_BAD_CONFIG, why. */
tw_err auth_sign(const auth_key_options *key, tw_str claims, tw_buf *out, broker_why *why);

/* A token's owner, now_s in unix time. token len 0: nobody, which rules may allow something
 * (role anonymous). TW_E_TOKEN with why; TW_E_UNAVAILABLE: its key is being fetched, come again;
 * TW_E_NO_MEMORY. The caller ends *out. Thread: any. */
tw_err auth_identify(auth *self, tw_str token, uint64_t now_s, auth_identity *out, broker_why *why);
/* True when tokens are over at a time. */
bool auth_identity_over(auth *self, const auth_identity *identity, uint64_t now_s);
void auth_identity_fini(auth_identity *identity);
