/* token.c - see token.h. */
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "gateways/auth/token_priv.h"

enum {
    TOKEN_KEY_MAGIC = 0x10cee701,
    TOKEN_DEPTH_MAX = 8, /* levels of a header or of claims */
    DIGEST = 32,         /* bytes of SHA-256 */
    EC_HALF = 32,        /* bytes of r and of s */
    RSA_BITS_MIN = 2048,
    PEM_MAX = 65536,
};

struct token_key {
    uint32_t magic;
    token_algorithm algorithm;
    char *kid;       /* own */
    EVP_PKEY *key;   /* own; NULL: a secret */
    uint8_t *secret; /* own */
    size_t secret_len;
};

const char *const token_algorithm_names[TOKEN_ALGORITHMS] = {"HS256", "RS256", "ES256", "EdDSA"};

token_algorithm token_algorithm_of(tw_str name)
{
    unsigned i = 0;
    while (i < TOKEN_ALGORITHMS && !tw_str_equal(name, tw_str_of(token_algorithm_names[i]))) {
        i++;
    }
    return (token_algorithm)i;
}

/* ---- keys ---- */

static tw_err take_secret(token_key *self, tw_str bytes, broker_why *why)
{
    while (bytes.len > 0 &&
           (bytes.ptr[bytes.len - 1] == '\n' || bytes.ptr[bytes.len - 1] == '\r')) {
        bytes.len--;
    }
    if (bytes.len < TOKEN_SECRET_MIN || bytes.len > TOKEN_SECRET_MAX) {
        return broker_refuse(why, TW_E_BAD_CONFIG,
                             "a secret of HS256 has %d to %d bytes, this one %zu", TOKEN_SECRET_MIN,
                             TOKEN_SECRET_MAX, bytes.len);
    }
    self->secret = tw_alloc(bytes.len);
    if (self->secret == NULL) {
        return TW_E_NO_MEMORY;
    }
    memcpy(self->secret, bytes.ptr, bytes.len);
    self->secret_len = bytes.len;
    return TW_OK;
}

/* A key of another kind would make its algorithm a choice of the token. */
static bool fits(const EVP_PKEY *key, token_algorithm algorithm)
{
    char curve[64] = "";
    switch (algorithm) {
    case TOKEN_RS256:
        return EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA && EVP_PKEY_get_bits(key) >= RSA_BITS_MIN;
    case TOKEN_ES256:
        return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
               EVP_PKEY_get_group_name(key, curve, sizeof curve, NULL) == 1 &&
               (strcmp(curve, "prime256v1") == 0 || strcmp(curve, "P-256") == 0);
    case TOKEN_EDDSA:
        return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519;
    case TOKEN_HS256:
    case TOKEN_ALGORITHMS:
        break;
    }
    return false;
}

static tw_err check_fit(const token_key *self, broker_why *why)
{
    return fits(self->key, self->algorithm)
               ? TW_OK
               : broker_refuse(why, TW_E_BAD_CONFIG, "its key does not fit %s%s",
                               token_algorithm_names[self->algorithm],
                               self->algorithm == TOKEN_RS256   ? " (RSA, 2048 bits or more)"
                               : self->algorithm == TOKEN_ES256 ? " (P-256)"
                                                                : " (Ed25519)");
}

static tw_err take_public(token_key *self, tw_str bytes, broker_why *why)
{
    BIO *in =
        bytes.len == 0 || bytes.len > PEM_MAX ? NULL : BIO_new_mem_buf(bytes.ptr, (int)bytes.len);
    self->key = in == NULL ? NULL : PEM_read_bio_PUBKEY(in, NULL, NULL, NULL);
    BIO_free(in);
    if (self->key == NULL) {
        return broker_refuse(why, TW_E_BAD_CONFIG, "it holds no public key in PEM");
    }
    return check_fit(self, why);
}

static tw_err key_begin(token_key **out, const char *kid, token_algorithm algorithm)
{
    size_t len = strlen(kid);
    token_key *self = tw_alloc_zero(1, sizeof *self);
    *out = self;
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->magic = TOKEN_KEY_MAGIC;
    self->algorithm = algorithm;
    self->kid = tw_alloc(len + 1);
    if (self->kid == NULL) {
        token_key_free(out);
        return TW_E_NO_MEMORY;
    }
    memcpy(self->kid, kid, len + 1);
    return TW_OK;
}

tw_err token_key_of(token_key **out, const char *kid, token_algorithm algorithm, EVP_PKEY *key,
                    broker_why *why)
{
    TW_ASSERT(algorithm < TOKEN_ALGORITHMS && algorithm != TOKEN_HS256);
    tw_err err = key_begin(out, kid, algorithm);
    if (err != TW_OK) {
        EVP_PKEY_free(key);
        return err;
    }
    (*out)->key = key;
    err = check_fit(*out, why);
    if (err != TW_OK) {
        token_key_free(out);
    }
    return err;
}

const char *token_key_kid(const token_key *key)
{
    return key->kid;
}

tw_err token_key_new(token_key **out, const char *kid, token_algorithm algorithm, tw_str bytes,
                     broker_why *why)
{
    TW_ASSERT(algorithm < TOKEN_ALGORITHMS);
    tw_err err = key_begin(out, kid, algorithm);
    if (err == TW_OK) {
        err = algorithm == TOKEN_HS256 ? take_secret(*out, bytes, why)
                                       : take_public(*out, bytes, why);
    }
    if (err != TW_OK) {
        token_key_free(out);
    }
    return err;
}

void token_key_free(token_key **key)
{
    token_key *self = *key;
    *key = NULL;
    if (self == NULL) {
        return;
    }
    TW_ASSERT(self->magic == TOKEN_KEY_MAGIC);
    if (self->secret != NULL) {
        OPENSSL_cleanse(self->secret, self->secret_len);
    }
    EVP_PKEY_free(self->key);
    tw_free(self->secret);
    tw_free(self->kid);
    self->magic = 0;
    tw_free(self);
}

/* ---- base64url ---- */

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* One spelling for each value: no padding, no other letters, no bits left over. */
bool token_decode(tw_arena *arena, tw_str text, tw_str *out)
{
    uint32_t bits = 0;
    unsigned held = 0;
    size_t len = 0;
    char *bytes = tw_arena_alloc(arena, text.len + 1);
    if (bytes == NULL || text.len == 0 || text.len % 4 == 1) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        int value = value_of(text.ptr[i]);
        if (value < 0) {
            return false;
        }
        bits = (bits << 6 | (uint32_t)value) & 0xffffffU;
        held += 6;
        if (held >= 8) {
            held -= 8;
            bytes[len++] = (char)(bits >> held & 0xffU);
        }
    }
    *out = (tw_str){bytes, len};
    return (bits & ((1U << held) - 1)) == 0;
}

static void encode(tw_buf *out, tw_str bytes)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0;
    unsigned held = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        bits = (bits << 8 | (uint8_t)bytes.ptr[i]) & 0xffffffU;
        held += 8;
        while (held >= 6) {
            held -= 6;
            tw_buf_add_byte(out, letters[bits >> held & 63U]);
        }
    }
    if (held > 0) {
        tw_buf_add_byte(out, letters[bits << (6 - held) & 63U]);
    }
}

/* ---- signatures ---- */

static bool sign_hs256(const uint8_t *secret, size_t len, tw_str input, uint8_t out[DIGEST])
{
    unsigned written = 0;
    return HMAC(EVP_sha256(), secret, (int)len, (const uint8_t *)input.ptr, input.len, out,
                &written) != NULL &&
           written == DIGEST;
}

static bool verify_hs256(const token_key *key, tw_str input, tw_str signature)
{
    uint8_t own[DIGEST];
    return signature.len == DIGEST && sign_hs256(key->secret, key->secret_len, input, own) &&
           CRYPTO_memcmp(own, signature.ptr, DIGEST) == 0;
}

static bool verify_public(const token_key *key, const EVP_MD *digest, tw_str input,
                          tw_str signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context != NULL &&
                EVP_DigestVerifyInit(context, NULL, digest, NULL, key->key) == 1 &&
                EVP_DigestVerify(context, (const uint8_t *)signature.ptr, signature.len,
                                 (const uint8_t *)input.ptr, input.len) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

static bool verify_rs256(const token_key *key, tw_str input, tw_str signature)
{
    return verify_public(key, EVP_sha256(), input, signature);
}

/* r and s, side by side; OpenSSL wants them in DER. */
static bool verify_es256(const token_key *key, tw_str input, tw_str signature)
{
    if (signature.len != (size_t)2 * EC_HALF) {
        return false;
    }
    const uint8_t *bytes = (const uint8_t *)signature.ptr;
    BIGNUM *r = BN_bin2bn(bytes, EC_HALF, NULL);
    BIGNUM *s = BN_bin2bn(bytes + EC_HALF, EC_HALF, NULL);
    ECDSA_SIG *pair = ECDSA_SIG_new();
    if (r == NULL || s == NULL || pair == NULL || ECDSA_SIG_set0(pair, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        ECDSA_SIG_free(pair);
        return false;
    }
    uint8_t *der = NULL;
    int len = i2d_ECDSA_SIG(pair, &der);
    bool good = len > 0 &&
                verify_public(key, EVP_sha256(), input, (tw_str){(const char *)der, (size_t)len});
    OPENSSL_free(der);
    ECDSA_SIG_free(pair);
    return good;
}

static bool verify_eddsa(const token_key *key, tw_str input, tw_str signature)
{
    return verify_public(key, NULL, input, signature);
}

static bool (*const verifiers[TOKEN_ALGORITHMS])(const token_key *, tw_str, tw_str) = {
    [TOKEN_HS256] = verify_hs256,
    [TOKEN_RS256] = verify_rs256,
    [TOKEN_ES256] = verify_es256,
    [TOKEN_EDDSA] = verify_eddsa,
};

/* ---- tokens ---- */

static tw_err refuse(broker_why *why, const char *text)
{
    return broker_refuse(why, TW_E_TOKEN, "%s", text);
}

/* The key that the header names; without a kid the only one there is. */
static const token_key *key_of(token_key *const *keys, size_t count, tw_bson header)
{
    tw_bson_value kid = tw_bson_get(header, TW_STR("kid"));
    tw_str name = tw_bson_value_str(kid);
    if (kid.type == 0) {
        return count == 1 ? keys[0] : NULL;
    }
    for (size_t i = 0; name.ptr != NULL && i < count; i++) {
        if (tw_str_equal(name, tw_str_of(keys[i]->kid))) {
            return keys[i];
        }
    }
    return NULL;
}

static tw_err check_header(token_key *const *keys, size_t count, tw_bson header,
                           const token_key **out, broker_why *why)
{
    if (tw_bson_get(header, TW_STR("crit")).type != 0) {
        return refuse(why, "the token demands extensions (crit)");
    }
    const token_key *key = key_of(keys, count, header);
    if (key == NULL) {
        return broker_refuse(why, TW_E_NOT_FOUND, "the token's key (kid) is not known here");
    }
    tw_str algorithm = tw_bson_get_str(header, TW_STR("alg"));
    if (algorithm.ptr == NULL ||
        !tw_str_equal(algorithm, tw_str_of(token_algorithm_names[key->algorithm]))) {
        return refuse(why, "the token's algorithm is not that of its key");
    }
    *out = key;
    return TW_OK;
}

/* Cuts at the dots: exactly three parts. */
static bool split(tw_str token, tw_str parts[3])
{
    for (size_t i = 0; i < 3; i++) {
        const char *dot = token.len == 0 ? NULL : memchr(token.ptr, '.', token.len);
        if ((dot == NULL) != (i == 2)) {
            return false;
        }
        size_t len = dot == NULL ? token.len : (size_t)(dot - token.ptr);
        parts[i] = (tw_str){token.ptr, len};
        token.ptr += len + (dot == NULL ? 0 : 1);
        token.len -= len + (dot == NULL ? 0 : 1);
    }
    return true;
}

tw_err token_verify(token_key *const *keys, size_t count, tw_arena *arena, tw_str token,
                    tw_bson *claims, broker_why *why)
{
    tw_str parts[3];
    tw_str header_text, claims_text, signature;
    tw_bson header;
    const token_key *key = NULL;
    if (token.len > TW_TOKEN_MAX) {
        return broker_refuse(why, TW_E_TOKEN, "the token has over %d bytes", TW_TOKEN_MAX);
    }
    if (!split(token, parts) || !token_decode(arena, parts[0], &header_text) ||
        !token_decode(arena, parts[1], &claims_text) ||
        !token_decode(arena, parts[2], &signature)) {
        return refuse(why, "the token is not three parts of base64url");
    }
    tw_err err = tw_json_read(arena, header_text, TOKEN_DEPTH_MAX, &header, NULL);
    if (err == TW_E_NO_MEMORY) {
        return err;
    }
    if (err != TW_OK) {
        return refuse(why, "the token's header is no JSON object");
    }
    err = check_header(keys, count, header, &key, why);
    if (err != TW_OK) {
        return err;
    }
    tw_str input = {token.ptr, parts[0].len + 1 + parts[1].len};
    if (!verifiers[key->algorithm](key, input, signature)) {
        return refuse(why, "the token's signature is wrong");
    }
    err = tw_json_read(arena, claims_text, TOKEN_DEPTH_MAX, claims, NULL);
    return err == TW_OK || err == TW_E_NO_MEMORY ? err
                                                 : refuse(why, "the token's claims are no object");
}

tw_err token_sign(tw_str secret, const char *kid, tw_str claims, tw_buf *out)
{
    uint8_t signature[DIGEST];
    tw_buf header;
    if (secret.len < TOKEN_SECRET_MIN || secret.len > TOKEN_SECRET_MAX) {
        return TW_E_BAD_CONFIG;
    }
    tw_buf_init(&header, TW_TOKEN_MAX);
    tw_buf_add_str(&header, TW_STR("{\"alg\":\"HS256\",\"typ\":\"JWT\""));
    if (kid[0] != '\0') {
        tw_buf_add_str(&header, TW_STR(",\"kid\":"));
        tw_json_write_str(&header, tw_str_of(kid));
    }
    tw_buf_add_byte(&header, '}');
    size_t from = out->len;
    encode(out, tw_buf_str(&header));
    tw_buf_add_byte(out, '.');
    encode(out, claims);
    tw_err err = header.err != TW_OK ? header.err : out->err;
    tw_buf_fini(&header);
    if (err != TW_OK) {
        return err;
    }
    tw_str input = {out->ptr + from, out->len - from};
    if (!sign_hs256((const uint8_t *)secret.ptr, secret.len, input, signature)) {
        return TW_E_INTERNAL;
    }
    tw_buf_add_byte(out, '.');
    encode(out, (tw_str){(const char *)signature, sizeof signature});
    return out->err;
}
