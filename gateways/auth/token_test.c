/* token_test.c - good tokens of every algorithm, and the table of forged ones. */
#include "gateways/auth/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <openssl/bio.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "protocol/limits.h"

static const char secret[] = "0123456789abcdef0123456789abcdef";
static const char claims[] = "{\"sub\":\"ada\",\"exp\":2000000000}";

static tw_arena arena;
static token_key *keys[4];
static EVP_PKEY *rsa, *ec, *ed;
static char *rsa_pem; /* what a forger uses as a secret */

static void encode(tw_buf *out, const void *bytes, size_t len)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const uint8_t *at = bytes;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)at[i] << 16 | (i + 1 < len ? (uint32_t)at[i + 1] << 8 : 0) |
                        (i + 2 < len ? at[i + 2] : 0);
        size_t count = len - i >= 3 ? 4 : len - i + 1;
        for (size_t k = 0; k < count; k++) {
            tw_buf_add_byte(out, letters[bits >> (18 - 6 * k) & 63]);
        }
    }
}

static char *pem_of(EVP_PKEY *key)
{
    BIO *out = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PUBKEY(out, key), 1);
    char *text;
    long len = BIO_get_mem_data(out, &text);
    char *copy = tw_alloc((size_t)len + 1);
    memcpy(copy, text, (size_t)len);
    copy[len] = '\0';
    BIO_free(out);
    return copy;
}

static token_key *key_of(const char *kid, token_algorithm algorithm, const char *bytes)
{
    token_key *key = NULL;
    broker_why why = {0};
    tw_err err = token_key_new(&key, kid, algorithm, tw_str_of(bytes), &why);
    if (err != TW_OK) {
        fail_msg("%s: %s", kid, why.text);
    }
    return key;
}

static int setup(void **state)
{
    (void)state;
    tw_arena_init(&arena, 16 << 20);
    rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    ec = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    rsa_pem = pem_of(rsa);
    char *ec_pem = pem_of(ec);
    char *ed_pem = pem_of(ed);
    keys[0] = key_of("hs", TOKEN_HS256, "0123456789abcdef0123456789abcdef\n");
    keys[1] = key_of("rs", TOKEN_RS256, rsa_pem);
    keys[2] = key_of("es", TOKEN_ES256, ec_pem);
    keys[3] = key_of("ed", TOKEN_EDDSA, ed_pem);
    tw_free(ec_pem);
    tw_free(ed_pem);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < TW_COUNT(keys); i++) {
        token_key_free(&keys[i]);
    }
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(ed);
    tw_free(rsa_pem);
    tw_arena_fini(&arena);
    return 0;
}

static tw_str kept(tw_buf *buf)
{
    assert_int_equal(buf->err, TW_OK);
    tw_str copy = tw_arena_str(&arena, tw_buf_str(buf));
    tw_buf_fini(buf);
    return copy;
}

/* header.claims, not signed. */
static tw_str unsigned_token(const char *header, const char *body)
{
    tw_buf out;
    tw_buf_init(&out, 1 << 20);
    encode(&out, header, strlen(header));
    tw_buf_add_byte(&out, '.');
    encode(&out, body, strlen(body));
    return kept(&out);
}

static tw_str with_signature(tw_str input, const void *signature, size_t len)
{
    tw_buf out;
    tw_buf_init(&out, 1 << 20);
    tw_buf_add_str(&out, input);
    tw_buf_add_byte(&out, '.');
    encode(&out, signature, len);
    return kept(&out);
}

static tw_str signed_by(EVP_PKEY *key, const EVP_MD *digest, const char *header, const char *body)
{
    uint8_t signature[512];
    size_t len = sizeof signature;
    tw_str input = unsigned_token(header, body);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(context, NULL, digest, NULL, key), 1);
    assert_int_equal(
        EVP_DigestSign(context, signature, &len, (const uint8_t *)input.ptr, input.len), 1);
    EVP_MD_CTX_free(context);
    if (key == ec) { /* DER to r and s */
        const uint8_t *at = signature;
        ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)len);
        assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(pair), signature, 32), 32);
        assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(pair), signature + 32, 32), 32);
        ECDSA_SIG_free(pair);
        len = 64;
    }
    return with_signature(input, signature, len);
}

static tw_str hs256(const char *key, const char *header, const char *body)
{
    EVP_PKEY *mac =
        EVP_PKEY_new_raw_private_key(EVP_PKEY_HMAC, NULL, (const uint8_t *)key, strlen(key));
    tw_str token = signed_by(mac, EVP_sha256(), header, body);
    EVP_PKEY_free(mac);
    return token;
}

static tw_err verify(tw_str token, tw_bson *out, broker_why *why)
{
    *why = (broker_why){0};
    return token_verify(keys, TW_COUNT(keys), &arena, token, out, why);
}

static void assert_good(tw_str token)
{
    tw_bson out;
    broker_why why;
    tw_err err = verify(token, &out, &why);
    if (err != TW_OK) {
        fail_msg("%.*s: %s", (int)token.len, token.ptr, why.text);
    }
    assert_true(tw_str_equal(tw_bson_get_str(out, TW_STR("sub")), TW_STR("ada")));
}

static void assert_forged(tw_str token, const char *because)
{
    tw_bson out = {0};
    broker_why why;
    tw_err err = verify(token, &out, &why);
    assert_true(err == TW_E_TOKEN || err == TW_E_NOT_FOUND);
    assert_int_equal(err == TW_E_NOT_FOUND, strstr(why.text, "(kid)") != NULL);
    if (strstr(why.text, because) == NULL) {
        fail_msg("'%s', wanted: '%s'", why.text, because);
    }
    assert_int_equal(out.len, 0);
}

static void test_token_of_each_algorithm_verified(void **state)
{
    (void)state;
    assert_good(hs256(secret, "{\"alg\":\"HS256\",\"kid\":\"hs\"}", claims));
    assert_good(signed_by(rsa, EVP_sha256(), "{\"alg\":\"RS256\",\"kid\":\"rs\"}", claims));
    assert_good(signed_by(ec, EVP_sha256(), "{\"alg\":\"ES256\",\"kid\":\"es\"}", claims));
    assert_good(signed_by(ed, NULL, "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", claims));
    tw_buf own;
    tw_buf_init(&own, TW_TOKEN_MAX);
    assert_int_equal(token_sign(tw_str_of(secret), "hs", tw_str_of(claims), &own), TW_OK);
    assert_good(kept(&own));
}

static void test_token_of_another_algorithm_refused(void **state)
{
    (void)state;
    const char *other = "algorithm is not that of its key";
    const char *none = "{\"alg\":\"none\",\"kid\":\"hs\"}";
    assert_forged(with_signature(unsigned_token(none, claims), "x", 1), other);
    assert_forged(with_signature(unsigned_token(none, claims), "", 0), "three parts");
    assert_forged(hs256(secret, "{\"alg\":\"nOnE\",\"kid\":\"hs\"}", claims), other);
    assert_forged(hs256(secret, "{\"alg\":\"hs256\",\"kid\":\"hs\"}", claims), other);
    assert_forged(hs256(secret, "{\"alg\":\"HS512\",\"kid\":\"hs\"}", claims), other);
    assert_forged(hs256(secret, "{\"kid\":\"hs\"}", claims), other);
    assert_forged(hs256(secret, "{\"alg\":5,\"kid\":\"hs\"}", claims), other);
    /* the public key as the secret: RS to HS, ES to HS */
    assert_forged(hs256(rsa_pem, "{\"alg\":\"HS256\",\"kid\":\"rs\"}", claims), other);
    assert_forged(hs256(rsa_pem, "{\"alg\":\"RS256\",\"kid\":\"rs\"}", claims), "signature");
    assert_forged(hs256(rsa_pem, "{\"alg\":\"HS256\",\"kid\":\"es\"}", claims), other);
    /* another key of the configuration */
    assert_forged(signed_by(ec, EVP_sha256(), "{\"alg\":\"RS256\",\"kid\":\"rs\"}", claims),
                  "signature");
    assert_forged(signed_by(rsa, EVP_sha256(), "{\"alg\":\"HS256\",\"kid\":\"hs\"}", claims),
                  "signature");
}

static void test_token_of_an_unknown_key_refused(void **state)
{
    (void)state;
    static const char *const kids[] = {"\"\"",
                                       "\"HS\"",
                                       "\"hs \"",
                                       "\"hs\\u0000\"",
                                       "\"../../etc/passwd\"",
                                       "\"/dev/null\"",
                                       "\"http://127.0.0.1/key\"",
                                       "\"' OR 1=1\"",
                                       "5",
                                       "null",
                                       "{\"a\":1}",
                                       "[\"hs\"]"};
    for (size_t i = 0; i < TW_COUNT(kids); i++) {
        const char *header = tw_arena_format(&arena, "{\"alg\":\"HS256\",\"kid\":%s}", kids[i]);
        assert_forged(hs256(secret, header, claims), "key (kid) is not known");
    }
    assert_forged(hs256(secret, "{\"alg\":\"HS256\"}", claims), "key (kid) is not known");
    /* keys that a token brings itself are not looked at */
    assert_forged(hs256("another secret, as long as it must be",
                        "{\"alg\":\"HS256\",\"kid\":\"hs\",\"jku\":\"http://127.0.0.1/\","
                        "\"jwk\":{\"kty\":\"oct\",\"k\":\"YQ\"}}",
                        claims),
                  "signature");
}

static void test_token_without_kid_held_against_the_only_key(void **state)
{
    (void)state;
    tw_bson out;
    broker_why why = {0};
    tw_str token = hs256(secret, "{\"alg\":\"HS256\"}", claims);
    assert_int_equal(token_verify(keys, 1, &arena, token, &out, &why), TW_OK);
    assert_int_equal(token_verify(keys, 0, &arena, token, &out, &why), TW_E_NOT_FOUND);
}

static void test_token_of_odd_form_refused(void **state)
{
    (void)state;
    const char *header = "{\"alg\":\"HS256\",\"kid\":\"hs\"}";
    tw_str good = hs256(secret, header, claims);
    assert_good(good);
    assert_forged(hs256(secret, "{\"alg\":\"HS256\",\"kid\":\"hs\",\"crit\":[\"b64\"]}", claims),
                  "crit");
    assert_forged(hs256(secret, "{\"alg\":\"HS256\",\"kid\":\"hs\",\"crit\":[]}", claims), "crit");
    assert_forged(hs256(secret, "{\"alg\":\"HS256\",\"alg\":\"HS256\",\"kid\":\"hs\"}", claims),
                  "header");
    assert_forged(hs256(secret, "[]", claims), "header");
    assert_forged(hs256(secret, "not JSON", claims), "header");
    assert_forged(hs256(secret, header, "[1]"), "claims");
    assert_forged(hs256(secret, header, "{\"exp\":1,\"exp\":2000000000}"), "claims");
    assert_forged(hs256(secret, header, "{\"sub\":\"\xff\"}"), "claims");
    assert_forged(hs256(secret, header, "{\"a\":{\"a\":[[[[[[[[[1]]]]]]]]]}}"), "claims");
    /* cut at each byte, and one byte more */
    for (size_t len = 0; len < good.len; len++) {
        assert_forged((tw_str){good.ptr, len}, "");
    }
    static const char tails[] = {'=', '.', ' ', '\n', 'A', '\0', '\xc3'};
    for (size_t i = 0; i < sizeof tails; i++) {
        char *more = tw_arena_alloc(&arena, good.len + 1);
        memcpy(more, good.ptr, good.len);
        more[good.len] = tails[i];
        assert_forged((tw_str){more, good.len + 1}, "");
    }
}

static void test_token_with_any_bit_changed_refused(void **state)
{
    (void)state;
    tw_str good = hs256(secret, "{\"alg\":\"HS256\",\"kid\":\"hs\"}", claims);
    char *changed = tw_arena_alloc(&arena, good.len);
    for (size_t i = 0; i < good.len * 8; i++) {
        memcpy(changed, good.ptr, good.len);
        changed[i / 8] = (char)(changed[i / 8] ^ (1 << i % 8));
        assert_forged((tw_str){changed, good.len}, "");
    }
}

static void test_token_over_its_bound_refused_unread(void **state)
{
    (void)state;
    char *body = tw_arena_alloc(&arena, TW_TOKEN_MAX + 1);
    memset(body, 'a', TW_TOKEN_MAX);
    body[TW_TOKEN_MAX] = '\0';
    const char *large = tw_arena_format(&arena, "{\"sub\":\"ada\",\"a\":\"%s\"}", body);
    assert_forged(hs256(secret, "{\"alg\":\"HS256\",\"kid\":\"hs\"}", large), "bytes");
    body[TW_TOKEN_MAX * 3 / 4 - 200] = '\0';
    large = tw_arena_format(&arena, "{\"sub\":\"ada\",\"a\":\"%s\"}", body);
    assert_good(hs256(secret, "{\"alg\":\"HS256\",\"kid\":\"hs\"}", large));
}

static void test_token_key_that_does_not_fit_refused(void **state)
{
    (void)state;
    EVP_PKEY *small = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024);
    EVP_PKEY *curve = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
    char *small_pem = pem_of(small);
    char *curve_pem = pem_of(curve);
    const struct {
        token_algorithm algorithm;
        const char *bytes;
    } wrong[] = {{TOKEN_HS256, "too short"},
                 {TOKEN_RS256, small_pem},
                 {TOKEN_ES256, curve_pem},
                 {TOKEN_ES256, rsa_pem},
                 {TOKEN_EDDSA, rsa_pem},
                 {TOKEN_RS256, ""},
                 {TOKEN_RS256, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"},
                 {TOKEN_RS256, curve_pem}};
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        token_key *key = NULL;
        broker_why why = {0};
        assert_int_equal(
            token_key_new(&key, "k", wrong[i].algorithm, tw_str_of(wrong[i].bytes), &why),
            TW_E_BAD_CONFIG);
        assert_null(key);
        assert_true(why.text[0] != '\0');
    }
    tw_buf unused;
    tw_buf_init(&unused, TW_TOKEN_MAX);
    assert_int_equal(token_sign(TW_STR("short"), "", TW_STR("{}"), &unused), TW_E_BAD_CONFIG);
    tw_free(small_pem);
    tw_free(curve_pem);
    EVP_PKEY_free(small);
    EVP_PKEY_free(curve);
}

/* ---- sets of keys ---- */

static void add_member(tw_buf *out, const char *name, const uint8_t *bytes, size_t len)
{
    tw_buf_format(out, ",\"%s\":\"", name);
    encode(out, bytes, len);
    tw_buf_add_byte(out, '"');
}

/* The three keys as a set. */
static tw_str set_of_all(void)
{
    tw_buf out;
    uint8_t bytes[512];
    size_t len = sizeof bytes;
    tw_buf_init(&out, TW_JWKS_MAX);
    tw_buf_add_str(&out, TW_STR("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\",\"kid\":\"hs\"},"
                                "{\"kty\":\"RSA\",\"kid\":\"rs\",\"e\":\"AQAB\""));
    BIGNUM *n = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(rsa, "n", &n), 1);
    add_member(&out, "n", bytes, (size_t)BN_bn2bin(n, bytes));
    BN_free(n);
    tw_buf_add_str(&out, TW_STR("},{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"es\""));
    assert_int_equal(EVP_PKEY_get_octet_string_param(ec, "pub", bytes, sizeof bytes, &len), 1);
    assert_int_equal(len, 65);
    add_member(&out, "x", bytes + 1, 32);
    add_member(&out, "y", bytes + 33, 32);
    tw_buf_add_str(&out, TW_STR("},{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"ed\""));
    len = sizeof bytes;
    assert_int_equal(EVP_PKEY_get_raw_public_key(ed, bytes, &len), 1);
    add_member(&out, "x", bytes, len);
    tw_buf_add_str(&out, TW_STR("}]}"));
    return kept(&out);
}

static void test_token_keys_of_a_set_verify(void **state)
{
    (void)state;
    token_key *set[3];
    size_t count = 0;
    broker_why why = {0};
    tw_err err = token_keys_read(set, TW_COUNT(set), &count, set_of_all(), &why);
    if (err != TW_OK) {
        fail_msg("%s", why.text);
    }
    assert_int_equal(count, 3); /* the secret is passed over */
    const tw_str tokens[] = {
        signed_by(rsa, EVP_sha256(), "{\"alg\":\"RS256\",\"kid\":\"rs\"}", claims),
        signed_by(ec, EVP_sha256(), "{\"alg\":\"ES256\",\"kid\":\"es\"}", claims),
        signed_by(ed, NULL, "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", claims),
    };
    for (size_t i = 0; i < TW_COUNT(tokens); i++) {
        tw_bson out;
        assert_int_equal(token_verify(set, count, &arena, tokens[i], &out, &why), TW_OK);
        size_t rest = (i + 1) % TW_COUNT(tokens);
        assert_int_equal(token_verify(&set[rest], 1, &arena, tokens[i], &out, &why),
                         TW_E_NOT_FOUND);
    }
    while (count > 0) {
        token_key_free(&set[--count]);
    }
    assert_int_equal(token_keys_read(set, 2, &count, set_of_all(), &why), TW_E_BAD_CONFIG);
    assert_int_equal(count, 0);
}

static void test_token_set_that_is_not_whole_refused(void **state)
{
#define ED_KEY(more)                                                                               \
    "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"OSNVt0FVopTrTc0S7tzZkQojEIb-"                    \
    "aGkTBqMFNsxZuCo\"" more "}"
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "no JSON"},
        {"[]", "no JSON"},
        {"{}", "no list"},
        {"{\"keys\":{}}", "no list"},
        {"{\"keys\":[]}", "no key for"},
        {"{\"keys\":[5,null,{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "no key for"},
        {"{\"keys\":[" ED_KEY(",\"use\":\"enc\"") "]}", "no key for"},
        {"{\"keys\":[" ED_KEY(",\"alg\":\"HS256\"") "]}", "no key for"},
        {"{\"keys\":[" ED_KEY(",\"key_ops\":[\"sign\"]") "]}", "no key for"},
        {"{\"keys\":[" ED_KEY(",\"d\":\"AAAA\"") "]}", "no whole public key"},
        {"{\"keys\":[" ED_KEY(",\"kid\":5") "]}", "a kid is no text"},
        {"{\"keys\":[" ED_KEY(",\"kid\":\"a\\u0000b\"") "]}", "a kid is no text"},
        {"{\"keys\":[" ED_KEY("") "," ED_KEY("") "]}", "stands twice"},
        {"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}",
         "no whole public key"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AAAA\",\"e\":\"AQAB\"}]}", ""},
        {"{\"keys\":[{\"kty\":\"RSA\",\"e\":\"AQAB\"}]}", "no whole public key"},
    };
#undef ED_KEY
    (void)state;
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        token_key *set[4];
        size_t count = 9;
        broker_why why = {0};
        assert_int_equal(token_keys_read(set, 4, &count, tw_str_of(cases[i].text), &why),
                         TW_E_BAD_CONFIG);
        assert_int_equal(count, 0);
        if (strstr(why.text, cases[i].words) == NULL || why.text[0] == '\0') {
            fail_msg("'%s', wanted: '%s'", why.text, cases[i].words);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_of_each_algorithm_verified),
        cmocka_unit_test(test_token_of_another_algorithm_refused),
        cmocka_unit_test(test_token_of_an_unknown_key_refused),
        cmocka_unit_test(test_token_without_kid_held_against_the_only_key),
        cmocka_unit_test(test_token_of_odd_form_refused),
        cmocka_unit_test(test_token_with_any_bit_changed_refused),
        cmocka_unit_test(test_token_over_its_bound_refused_unread),
        cmocka_unit_test(test_token_key_that_does_not_fit_refused),
        cmocka_unit_test(test_token_keys_of_a_set_verify),
        cmocka_unit_test(test_token_set_that_is_not_whole_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
