/* token_fuzz.c - a token from outside: nothing may crash, and none is good that was not signed.
 *
 * The input is a token as it comes; where it is none, it is the claims of one that is signed here,
 * so that what stands behind the signature is reached too. */
#include "gateways/auth/token.h"

#include <stddef.h>
#include <stdint.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "broker/rights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char secret[] = "0123456789abcdef0123456789abcdef";

static void hold_rules(tw_bson claims)
{
    static const rights_rule rules[] = {
        {.role = "*", .collection = "a", .verbs = RIGHTS_READ},
        {.role = "r", .collection = "*", .verbs = RIGHTS_READ | RIGHTS_UPDATE},
    };
    const rights_table table = {.at = rules, .count = 2, .default_database = "main"};
    rights *made = NULL;
    if (rights_new(&made, &table, claims, TW_STR("roles")) == TW_OK) {
        TW_ASSERT(rights_any(made) && rights_equal(made, made));
    }
    rights_drop(&made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_arena arena;
    tw_buf token;
    tw_bson claims;
    token_key *key = NULL;
    tw_str given = {(const char *)data, size};
    if (size > 2 * (size_t)TW_TOKEN_MAX ||
        token_key_new(&key, "k", TOKEN_HS256, ((tw_str){secret, sizeof secret - 1}), NULL) !=
            TW_OK) {
        return 0;
    }
    tw_arena_init(&arena, 1 << 20);
    tw_buf_init(&token, 4 * (size_t)TW_TOKEN_MAX);
    (void)token_verify(&key, 1, &arena, given, &claims, NULL);
    tw_err err = token_sign(((tw_str){secret, sizeof secret - 1}), "k", given, &token);
    if (err == TW_OK) {
        err = token_verify(&key, 1, &arena, tw_buf_str(&token), &claims, NULL);
        TW_ASSERT(err == TW_OK || err == TW_E_TOKEN);
    }
    if (err == TW_OK) {
        hold_rules(claims);
    }
    token_key_free(&key);
    tw_buf_fini(&token);
    tw_arena_fini(&arena);
    return 0;
}
