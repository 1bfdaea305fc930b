/* token_jwks.c - a JSON Web Key Set (RFC 7517, 7518, 8037): members become keys of OpenSSL.
 *
 * Keys of kinds that are not offered, or for another use, are passed over, as RFC 7517 has it. What
 * claims to be of our kinds and is not whole makes the set a bad one: the last good one holds. */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "gateways/auth/token_priv.h"

enum {
    JWKS_MEMORY = 1048576, /* bytes: a set as BSON, and its members decoded */
    JWKS_DEPTH_MAX = 8,
    JWKS_RSA_MAX = 1024, /* bytes of a modulus */
    JWKS_EXPONENT_MAX = 8,
    JWKS_HALF = 32, /* bytes of a coordinate of P-256, and of a key of Ed25519 */
};

/* A member that is to be there: base64url of min to max bytes. */
static bool member(tw_arena *arena, tw_bson jwk, tw_str name, size_t min, size_t max, tw_str *out)
{
    tw_str text = tw_bson_get_str(jwk, name);
    return text.ptr != NULL && token_decode(arena, text, out) && out->len >= min && out->len <= max;
}

/* NULL: the parameters make no key of this kind. */
static EVP_PKEY *from_params(const char *kind, OSSL_PARAM_BLD *build)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, kind, NULL);
    bool made = params != NULL && context != NULL && EVP_PKEY_fromdata_init(context) == 1 &&
                EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, params) == 1;
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_CTX *check = made ? EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL) : NULL;
    if (check == NULL || EVP_PKEY_public_check_quick(check) != 1) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    EVP_PKEY_CTX_free(check);
    OSSL_PARAM_free(params);
    return key;
}

static EVP_PKEY *make_rsa(tw_arena *arena, tw_bson jwk)
{
    tw_str n, e;
    if (!member(arena, jwk, TW_STR("n"), 1, JWKS_RSA_MAX, &n) ||
        !member(arena, jwk, TW_STR("e"), 1, JWKS_EXPONENT_MAX, &e)) {
        return NULL;
    }
    BIGNUM *modulus = BN_bin2bn((const uint8_t *)n.ptr, (int)n.len, NULL);
    BIGNUM *exponent = BN_bin2bn((const uint8_t *)e.ptr, (int)e.len, NULL);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    bool built = modulus != NULL && exponent != NULL && build != NULL &&
                 OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
                 OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent) == 1;
    EVP_PKEY *key = built ? from_params("RSA", build) : NULL;
    OSSL_PARAM_BLD_free(build);
    BN_free(modulus);
    BN_free(exponent);
    return key;
}

static EVP_PKEY *make_ec(tw_arena *arena, tw_bson jwk)
{
    uint8_t point[1 + 2 * JWKS_HALF] = {4}; /* uncompressed */
    tw_str x, y;
    if (!member(arena, jwk, TW_STR("x"), JWKS_HALF, JWKS_HALF, &x) ||
        !member(arena, jwk, TW_STR("y"), JWKS_HALF, JWKS_HALF, &y)) {
        return NULL;
    }
    memcpy(point + 1, x.ptr, JWKS_HALF);
    memcpy(point + 1 + JWKS_HALF, y.ptr, JWKS_HALF);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    bool built =
        build != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point) == 1;
    EVP_PKEY *key = built ? from_params("EC", build) : NULL;
    OSSL_PARAM_BLD_free(build);
    return key;
}

static EVP_PKEY *make_okp(tw_arena *arena, tw_bson jwk)
{
    tw_str x;
    return member(arena, jwk, TW_STR("x"), JWKS_HALF, JWKS_HALF, &x)
               ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, (const uint8_t *)x.ptr, x.len)
               : NULL;
}

static const struct kind {
    const char *kty, *crv; /* crv NULL: there is none */
    token_algorithm algorithm;
    EVP_PKEY *(*make)(tw_arena *arena, tw_bson jwk);
} kinds[] = {
    {"RSA", NULL, TOKEN_RS256, make_rsa},
    {"EC", "P-256", TOKEN_ES256, make_ec},
    {"OKP", "Ed25519", TOKEN_EDDSA, make_okp},
};

static bool is_text(tw_bson jwk, tw_str name, const char *wanted)
{
    tw_str text = tw_bson_get_str(jwk, name);
    return text.ptr != NULL && tw_str_equal(text, tw_str_of(wanted));
}

static bool may_verify(tw_bson jwk)
{
    tw_bson_value list = tw_bson_get(jwk, TW_STR("key_ops"));
    bool found = list.type == 0;
    tw_bson_iter iter;
    tw_bson ops = list.type == TW_BSON_ARRAY ? tw_bson_value_doc(list) : (tw_bson){0};
    for (tw_bson_iter_init(&iter, ops); !found && tw_bson_iter_next(&iter);) {
        tw_str text = tw_bson_value_str(iter.value);
        found = text.ptr != NULL && tw_str_equal(text, TW_STR("verify"));
    }
    return found;
}

/* The kind of a key that signs tokens; NULL: it is passed over. */
static const struct kind *kind_of(tw_bson jwk)
{
    for (size_t i = 0; i < TW_COUNT(kinds); i++) {
        const struct kind *at = &kinds[i];
        bool named = is_text(jwk, TW_STR("kty"), at->kty) &&
                     (at->crv == NULL || is_text(jwk, TW_STR("crv"), at->crv));
        bool other_use =
            tw_bson_get(jwk, TW_STR("use")).type != 0 && !is_text(jwk, TW_STR("use"), "sig");
        bool other_algorithm = tw_bson_get(jwk, TW_STR("alg")).type != 0 &&
                               !is_text(jwk, TW_STR("alg"), token_algorithm_names[at->algorithm]);
        if (named) {
            return other_use || other_algorithm || !may_verify(jwk) ? NULL : at;
        }
    }
    return NULL;
}

static tw_err add_key(token_key **keys, size_t count, tw_arena *arena, tw_bson jwk,
                      const struct kind *kind, broker_why *why)
{
    tw_bson_value given = tw_bson_get(jwk, TW_STR("kid"));
    tw_str kid = given.type == 0 ? TW_STR("") : tw_bson_value_str(given);
    if (kid.ptr == NULL || kid.len > TW_NAME_MAX ||
        (kid.len > 0 && memchr(kid.ptr, '\0', kid.len) != NULL)) {
        return broker_refuse(why, TW_E_BAD_CONFIG, "a kid is no text of at most %d bytes",
                             TW_NAME_MAX);
    }
    const char *name = tw_arena_format(arena, "%.*s", (int)kid.len, kid.ptr);
    if (name == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(token_key_kid(keys[i]), name) == 0) {
            return broker_refuse(why, TW_E_BAD_CONFIG, "kid '%.60s' stands twice", name);
        }
    }
    EVP_PKEY *key =
        tw_bson_get(jwk, TW_STR("d")).type == 0 ? kind->make(arena, jwk) : NULL; /* private */
    if (key == NULL) {
        return broker_refuse(why, TW_E_BAD_CONFIG, "the key '%.60s' is no whole public key", name);
    }
    return token_key_of(&keys[count], name, kind->algorithm, key, why);
}

tw_err token_keys_read(token_key **keys, size_t max, size_t *count, tw_str text, broker_why *why)
{
    tw_arena arena;
    tw_bson set;
    tw_bson_iter iter;
    tw_arena_init(&arena, JWKS_MEMORY);
    *count = 0;
    tw_err err = text.len > TW_JWKS_MAX
                     ? broker_refuse(why, TW_E_BAD_CONFIG, "it has over %d bytes", TW_JWKS_MAX)
                     : tw_json_read(&arena, text, JWKS_DEPTH_MAX, &set, NULL);
    if (err != TW_OK && err != TW_E_NO_MEMORY && why->text[0] == '\0') {
        err = broker_refuse(why, TW_E_BAD_CONFIG, "it is no JSON object");
    }
    tw_bson_value list = err == TW_OK ? tw_bson_get(set, TW_STR("keys")) : (tw_bson_value){0};
    if (err == TW_OK && list.type != TW_BSON_ARRAY) {
        err = broker_refuse(why, TW_E_BAD_CONFIG, "it has no list of keys");
    }
    tw_bson listed = err == TW_OK ? tw_bson_value_doc(list) : (tw_bson){0};
    for (tw_bson_iter_init(&iter, listed); err == TW_OK && tw_bson_iter_next(&iter);) {
        tw_bson jwk =
            iter.value.type == TW_BSON_DOCUMENT ? tw_bson_value_doc(iter.value) : (tw_bson){0};
        const struct kind *kind = jwk.len == 0 ? NULL : kind_of(jwk);
        if (kind != NULL && *count == max) {
            err = broker_refuse(why, TW_E_BAD_CONFIG, "it has over %zu keys", max);
        } else if (kind != NULL) {
            err = add_key(keys, *count, &arena, jwk, kind, why);
            *count += err == TW_OK ? 1 : 0;
        }
    }
    if (err == TW_OK && *count == 0) {
        err = broker_refuse(why, TW_E_BAD_CONFIG, "it has no key for RS256, ES256 or EdDSA");
    }
    while (err != TW_OK && *count > 0) {
        token_key_free(&keys[--*count]);
    }
    tw_arena_fini(&arena);
    return err;
}
