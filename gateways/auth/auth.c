/* auth.c - see auth.h. */
#include "gateways/auth/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/limits.h"

#include "gateways/auth/token.h"

enum {
    AUTH_MAGIC = 0x0a074a31,
    KEY_FILE_MAX = 65536,  /* bytes */
    TOKEN_MEMORY = 262144, /* bytes: a token, decoded and as BSON */
};

struct auth {
    uint32_t magic;
    const auth_options *options; /* borrow */
    token_key *keys[TW_AUTH_KEYS_MAX];
    size_t keys_count;
};

/* ---- keys ---- */

static tw_err read_file(const char *path, bool secret, tw_buf *out, broker_why *why)
{
    struct stat about;
    char bytes[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0) {
        tw_err err =
            broker_refuse(why, TW_E_BAD_CONFIG, "%s cannot be read: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return err;
    }
    if (secret && (about.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        close(fd);
        return broker_refuse(why, TW_E_BAD_CONFIG,
                             "%s holds a secret and others may read it: chmod 600 it", path);
    }
    ssize_t got;
    while ((got = read(fd, bytes, sizeof bytes)) > 0) {
        tw_buf_add(out, bytes, (size_t)got);
    }
    close(fd);
    if (got < 0 || out->err == TW_E_TOO_BIG) {
        return broker_refuse(why, TW_E_BAD_CONFIG, "%s cannot be read, or has over %d bytes", path,
                             KEY_FILE_MAX);
    }
    return out->err;
}

static tw_err add_key(auth *self, const auth_key_options *from, broker_why *why)
{
    token_algorithm algorithm = token_algorithm_of(tw_str_of(from->alg));
    if (algorithm == TOKEN_ALGORITHMS) {
        return broker_refuse(why, TW_E_BAD_CONFIG,
                             "auth.keys: alg is '%.40s', allowed are HS256 RS256 ES256 EdDSA",
                             from->alg);
    }
    for (size_t i = 0; i < self->keys_count; i++) {
        if (strcmp(self->options->keys[i].kid, from->kid) == 0) {
            return broker_refuse(why, TW_E_BAD_CONFIG, "auth.keys: kid '%.60s' stands twice",
                                 from->kid);
        }
    }
    tw_buf text;
    broker_why cause = {0};
    tw_buf_init(&text, KEY_FILE_MAX);
    tw_err err = read_file(from->file, algorithm == TOKEN_HS256, &text, why);
    if (err == TW_OK) {
        err = token_key_new(&self->keys[self->keys_count], from->kid, algorithm, tw_buf_str(&text),
                            &cause);
        if (err == TW_E_BAD_CONFIG) {
            err = broker_refuse(why, err, "%s: %s", from->file, cause.text);
        }
    }
    self->keys_count += err == TW_OK ? 1 : 0;
    if (text.ptr != NULL) {
        explicit_bzero(text.ptr, text.cap);
    }
    tw_buf_fini(&text);
    return err;
}

tw_err auth_new(auth **out, const auth_options *options, broker_why *why)
{
    *out = NULL;
    if (options->keys_count > TW_AUTH_KEYS_MAX) {
        return broker_refuse(why, TW_E_BAD_CONFIG, "auth.keys: at most %d", TW_AUTH_KEYS_MAX);
    }
    auth *self = tw_alloc_zero(1, sizeof *self);
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->magic = AUTH_MAGIC;
    self->options = options;
    tw_err err = TW_OK;
    for (size_t i = 0; i < options->keys_count && err == TW_OK; i++) {
        err = add_key(self, &options->keys[i], why);
    }
    if (err != TW_OK) {
        auth_free(&self);
    }
    *out = self;
    return err;
}

tw_err auth_sign(const auth_key_options *key, tw_str claims, tw_buf *out, broker_why *why)
{
    tw_buf text;
    if (token_algorithm_of(tw_str_of(key->alg)) != TOKEN_HS256) {
        return broker_refuse(why, TW_E_BAD_CONFIG,
                             "only keys of HS256 can sign here; this one is of %.40s", key->alg);
    }
    tw_buf_init(&text, KEY_FILE_MAX);
    tw_err err = read_file(key->file, true, &text, why);
    tw_str secret = tw_buf_str(&text);
    while (secret.len > 0 && strchr("\r\n", secret.ptr[secret.len - 1]) != NULL) {
        secret.len--;
    }
    err = err == TW_OK ? token_sign(secret, key->kid, claims, out) : err;
    if (err == TW_E_BAD_CONFIG && why->text[0] == '\0') {
        err = broker_refuse(why, err, "%s: a secret of HS256 has %d to %d bytes, this one %zu",
                            key->file, TOKEN_SECRET_MIN, TOKEN_SECRET_MAX, secret.len);
    }
    if (text.ptr != NULL) {
        explicit_bzero(text.ptr, text.cap);
    }
    tw_buf_fini(&text);
    return err;
}

void auth_free(auth **out)
{
    auth *self = *out;
    *out = NULL;
    if (self == NULL) {
        return;
    }
    TW_ASSERT(self->magic == AUTH_MAGIC);
    for (size_t i = 0; i < self->keys_count; i++) {
        token_key_free(&self->keys[i]);
    }
    self->magic = 0;
    tw_free(self);
}

/* ---- claims ---- */

static tw_err refuse(broker_why *why, const char *text)
{
    return broker_refuse(why, TW_E_TOKEN, "%s", text);
}

/* A time as RFC 7519 has it: seconds, perhaps with a fraction. False: no such number. */
static bool time_of(tw_bson_value value, double *out)
{
    if (!tw_bson_value_is_number(value)) {
        return false;
    }
    *out = tw_bson_value_double(value);
    return isfinite(*out) && *out >= 0 && *out < 9007199254740992.0;
}

static bool is_for(tw_bson_value audience, tw_str wanted)
{
    tw_bson_iter iter;
    tw_str text = tw_bson_value_str(audience);
    bool found = text.ptr != NULL && tw_str_equal(text, wanted);
    tw_bson list = audience.type == TW_BSON_ARRAY ? tw_bson_value_doc(audience) : (tw_bson){0};
    for (tw_bson_iter_init(&iter, list); !found && tw_bson_iter_next(&iter);) {
        text = tw_bson_value_str(iter.value);
        found = text.ptr != NULL && tw_str_equal(text, wanted);
    }
    return found;
}

static tw_err check_claims(const auth *self, tw_bson claims, uint64_t now_s, uint64_t *expires_s,
                           broker_why *why)
{
    const auth_options *options = self->options;
    double now = (double)now_s;
    double leeway = (double)options->leeway_s;
    double expires = 0;
    double begins = 0;
    tw_bson_value not_before = tw_bson_get(claims, TW_STR("nbf"));
    if (!time_of(tw_bson_get(claims, TW_STR("exp")), &expires)) {
        return refuse(why, "the token does not say when it expires (exp)");
    }
    if (now >= expires + leeway) {
        return refuse(why, "the token has expired");
    }
    if (not_before.type != 0 && (!time_of(not_before, &begins) || now + leeway < begins)) {
        return refuse(why, "the token is not valid yet (nbf)");
    }
    if (options->issuer[0] != '\0' &&
        !tw_str_equal(tw_bson_get_str(claims, TW_STR("iss")), tw_str_of(options->issuer))) {
        return refuse(why, "the token is of another issuer (iss)");
    }
    if (options->audience[0] != '\0' &&
        !is_for(tw_bson_get(claims, TW_STR("aud")), tw_str_of(options->audience))) {
        return refuse(why, "the token is for somebody else (aud)");
    }
    *expires_s = (uint64_t)ceil(expires);
    return TW_OK;
}

tw_err auth_identify(const auth *self, tw_str token, uint64_t now_s, auth_identity *out,
                     broker_why *why)
{
    tw_arena arena;
    tw_bson claims = {0};
    TW_ASSERT(self != NULL && self->magic == AUTH_MAGIC);
    *out = (auth_identity){0};
    tw_arena_init(&arena, TOKEN_MEMORY);
    tw_err err = TW_OK;
    if (token.len > 0) {
        err = token_verify(self->keys, self->keys_count, &arena, token, &claims, why);
        err = err == TW_OK ? check_claims(self, claims, now_s, &out->expires_s, why) : err;
    }
    if (err == TW_OK) {
        err = rights_new(&out->rights, &self->options->rules, claims,
                         tw_str_of(self->options->roles));
    }
    if (err == TW_OK && token.len == 0 && !rights_any(out->rights)) {
        rights_drop(&out->rights);
        err = refuse(why, "a token is needed here");
    }
    tw_arena_fini(&arena);
    return err;
}

bool auth_identity_over(const auth *self, const auth_identity *identity, uint64_t now_s)
{
    TW_ASSERT(self->magic == AUTH_MAGIC);
    return identity->expires_s != 0 &&
           now_s >= identity->expires_s + (uint64_t)self->options->leeway_s;
}

void auth_identity_fini(auth_identity *identity)
{
    rights_drop(&identity->rights);
    *identity = (auth_identity){0};
}
