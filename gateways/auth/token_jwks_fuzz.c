/* token_jwks_fuzz.c - whatever a key server sends is a set or a refusal with words. */
#include "protocol/limits.h"

#include "gateways/auth/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    token_key *keys[TW_AUTH_KEYS_MAX];
    size_t count = 0;
    broker_why why = {0};
    tw_err err =
        token_keys_read(keys, TW_AUTH_KEYS_MAX, &count, (tw_str){(const char *)data, size}, &why);
    TW_ASSERT((err == TW_OK) == (count > 0));
    TW_ASSERT(err != TW_E_BAD_CONFIG || why.text[0] != '\0');
    for (size_t i = 0; i < count; i++) {
        token_key_free(&keys[i]);
    }
    return 0;
}
