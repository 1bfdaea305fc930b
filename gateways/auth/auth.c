/* auth.c - see auth.h. */
#include "gateways/auth/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/limits.h"

#include "gateways/auth/jwks_curl_link.h"
#include "gateways/auth/token.h"

enum {
    AUTH_MAGIC = 0x0a074a31,
    KEY_FILE_MAX = 65536,  /* bytes */
    TOKEN_MEMORY = 262144, /* bytes: a token, decoded and as BSON */
    FIRST_FETCH_S = 5,     /* between attempts while there is no set at all */
};

typedef struct auth_keys {
    token_key *at[TW_AUTH_KEYS_MAX]; /* own */
    size_t count;
} auth_keys;

typedef struct auth_policy {
    const auth_options *options; /* borrow of memory, or of who made auth */
    auth_keys keys;
    void *memory; /* own, by memory_free; may be NULL */
    void (*memory_free)(void *);
    struct auth_policy *next; /* of those that were replaced */
} auth_policy;

typedef struct auth_set {
    auth_keys keys;
    struct auth_set *next; /* of those that were replaced */
} auth_set;

struct auth {
    uint32_t magic;
    _Atomic(auth_policy *) policy; /* own */
    _Atomic(auth_set *) set;       /* own; NULL: none was fetched */
    atomic_uint inside;            /* edges that look at either */
    atomic_uint generation;
    atomic_bool wanted;           /* an unknown kid asks for a fetch */
    atomic_uint_fast64_t fetched; /* unix s of the last attempt; 0: none */
    auth_policy *old_policies;    /* own; of the main thread */
    auth_set *old_sets;           /* own; of the main thread */
    uint64_t set_hash;            /* of the set's text; of the main thread */
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

static tw_err add_key(auth_policy *self, const auth_key_options *from, broker_why *why)
{
    token_algorithm algorithm = token_algorithm_of(tw_str_of(from->alg));
    if (algorithm == TOKEN_ALGORITHMS) {
        return broker_refuse(why, TW_E_BAD_CONFIG,
                             "auth.keys: alg is '%.40s', allowed are HS256 RS256 ES256 EdDSA",
                             from->alg);
    }
    for (size_t i = 0; i < self->keys.count; i++) {
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
        err = token_key_new(&self->keys.at[self->keys.count], from->kid, algorithm,
                            tw_buf_str(&text), &cause);
        if (err == TW_E_BAD_CONFIG) {
            err = broker_refuse(why, err, "%s: %s", from->file, cause.text);
        }
    }
    self->keys.count += err == TW_OK ? 1 : 0;
    if (text.ptr != NULL) {
        explicit_bzero(text.ptr, text.cap);
    }
    tw_buf_fini(&text);
    return err;
}

static void keys_free(auth_keys *keys)
{
    while (keys->count > 0) {
        token_key_free(&keys->at[--keys->count]);
    }
}

static void policy_free(auth_policy **out)
{
    auth_policy *self = *out;
    *out = NULL;
    if (self != NULL) {
        keys_free(&self->keys);
        if (self->memory_free != NULL) {
            self->memory_free(self->memory);
        }
        tw_free(self);
    }
}

static void set_free(auth_set **out)
{
    auth_set *self = *out;
    *out = NULL;
    if (self != NULL) {
        keys_free(&self->keys);
        tw_free(self);
    }
}

static tw_err policy_new(auth_policy **out, const auth_options *options, broker_why *why)
{
    *out = NULL;
    if (options->keys_count > TW_AUTH_KEYS_MAX) {
        return broker_refuse(why, TW_E_BAD_CONFIG, "auth.keys: at most %d", TW_AUTH_KEYS_MAX);
    }
    auth_policy *self = tw_alloc_zero(1, sizeof *self);
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->options = options;
    tw_err err = TW_OK;
    for (size_t i = 0; i < options->keys_count && err == TW_OK; i++) {
        err = add_key(self, &options->keys[i], why);
    }
    if (err != TW_OK) {
        policy_free(&self);
    }
    *out = self;
    return err;
}

tw_err auth_new(auth **out, const auth_options *options, broker_why *why)
{
    auth_policy *policy = NULL;
    *out = NULL;
    tw_err err = policy_new(&policy, options, why);
    auth *self = err == TW_OK ? tw_alloc_zero(1, sizeof *self) : NULL;
    if (self == NULL) {
        policy_free(&policy);
        return err != TW_OK ? err : TW_E_NO_MEMORY;
    }
    self->magic = AUTH_MAGIC;
    atomic_store(&self->policy, policy);
    *out = self;
    return TW_OK;
}

/* ---- what may be replaced ---- */

/* Frees what was replaced, if nobody is inside: who comes in later sees what holds now. */
static void sweep(auth *self)
{
    if (atomic_load(&self->inside) != 0) {
        return; /* the next call does it */
    }
    while (self->old_policies != NULL) {
        auth_policy *old = self->old_policies;
        self->old_policies = old->next;
        policy_free(&old);
    }
    while (self->old_sets != NULL) {
        auth_set *old = self->old_sets;
        self->old_sets = old->next;
        set_free(&old);
    }
}

tw_err auth_reload(auth *self, const auth_options *options, void *memory,
                   void (*memory_free)(void *), broker_why *why)
{
    auth_policy *policy = NULL;
    TW_ASSERT(self->magic == AUTH_MAGIC);
    tw_err err = policy_new(&policy, options, why);
    if (err != TW_OK) {
        return err;
    }
    policy->memory = memory;
    policy->memory_free = memory_free;
    auth_policy *old = atomic_exchange(&self->policy, policy);
    old->next = self->old_policies;
    self->old_policies = old;
    atomic_fetch_add(&self->generation, 1);
    atomic_store(&self->fetched, 0); /* the set may be another's now */
    sweep(self);
    return TW_OK;
}

unsigned auth_generation(const auth *self)
{
    return atomic_load(&self->generation);
}

static const auth_policy *enter(auth *self)
{
    TW_ASSERT(self != NULL && self->magic == AUTH_MAGIC);
    atomic_fetch_add(&self->inside, 1);
    return atomic_load(&self->policy);
}

static void leave(auth *self)
{
    unsigned before = atomic_fetch_sub(&self->inside, 1);
    TW_ASSERT(before > 0);
}

/* ---- the set of keys ---- */

bool auth_has_set(const auth *self)
{
    return atomic_load(&self->policy)->options->jwks[0] != '\0';
}

static tw_err read_set(const auth_options *options, tw_buf *out, broker_why *why)
{
    static const char https[] = "https://";
    if (strncmp(options->jwks, https, sizeof https - 1) == 0) {
        return jwks_fetch(options->jwks, options->jwks_ca, out, why);
    }
    return read_file(options->jwks, false, out, why);
}

tw_err auth_fetch(auth *self, broker_why *why)
{
    const auth_options *options = atomic_load(&self->policy)->options;
    tw_buf text;
    broker_why cause = {0};
    tw_buf_init(&text, TW_JWKS_MAX);
    tw_err err = read_set(options, &text, why);
    uint64_t hash = err == TW_OK ? tw_hash(text.ptr, text.len, 1) : 0;
    bool same = hash == self->set_hash && atomic_load(&self->set) != NULL;
    auth_set *set = err == TW_OK && !same ? tw_alloc_zero(1, sizeof *set) : NULL;
    if (set != NULL) {
        err = token_keys_read(set->keys.at, TW_AUTH_KEYS_MAX, &set->keys.count, tw_buf_str(&text),
                              &cause);
        if (err == TW_E_BAD_CONFIG) {
            err = broker_refuse(why, err, "%s: %s", options->jwks, cause.text);
        }
    } else if (err == TW_OK && !same) {
        err = TW_E_NO_MEMORY;
    }
    if (err == TW_OK && !same) {
        auth_set *old = atomic_exchange(&self->set, set);
        set = NULL;
        self->set_hash = hash;
        if (old != NULL) {
            old->next = self->old_sets;
            self->old_sets = old;
        }
    }
    set_free(&set);
    tw_buf_fini(&text);
    return err;
}

tw_err auth_keep(auth *self, uint64_t now_s, broker_why *why)
{
    uint64_t fetched = atomic_load(&self->fetched);
    uint64_t wait_s = atomic_load(&self->set) == NULL ? (uint64_t)FIRST_FETCH_S
                      : atomic_load(&self->wanted)    ? (uint64_t)TW_JWKS_UNKNOWN_S
                                                      : (uint64_t)TW_JWKS_REFRESH_S;
    sweep(self);
    if (!auth_has_set(self) || (fetched != 0 && now_s < fetched + wait_s)) {
        return TW_OK;
    }
    tw_err err = auth_fetch(self, why);
    atomic_store(&self->fetched, now_s);
    atomic_store(&self->wanted, false);
    sweep(self);
    return err;
}

/* A kid that nobody knows: TW_E_UNAVAILABLE where a fetch may bring it. */
static tw_err unknown_kid(auth *self, const auth_options *options, uint64_t now_s, broker_why *why)
{
    bool may = options->jwks[0] != '\0' &&
               (atomic_load(&self->wanted) || atomic_load(&self->set) == NULL ||
                now_s >= atomic_load(&self->fetched) + TW_JWKS_UNKNOWN_S);
    if (!may) {
        return TW_E_TOKEN;
    }
    atomic_store(&self->wanted, true);
    return broker_refuse(why, TW_E_UNAVAILABLE, "The key of the token is being fetched.");
}

static tw_err verify(auth *self, const auth_policy *policy, tw_arena *arena, tw_str token,
                     uint64_t now_s, tw_bson *claims, broker_why *why)
{
    token_key *keys[2 * TW_AUTH_KEYS_MAX];
    const auth_set *set = NULL;
    const auth_set *tried;
    tw_err err;
    do { /* again where another set came meanwhile: it may know the kid */
        size_t count = policy->keys.count;
        tried = set;
        set = atomic_load(&self->set);
        if (count > 0) {
            memcpy(keys, policy->keys.at, count * sizeof keys[0]);
        }
        if (set != NULL) {
            memcpy(keys + count, set->keys.at, set->keys.count * sizeof keys[0]);
            count += set->keys.count;
        }
        err = token_verify(keys, count, arena, token, claims, why);
    } while (err == TW_E_NOT_FOUND && set != tried);
    return err == TW_E_NOT_FOUND ? unknown_kid(self, policy->options, now_s, why) : err;
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
    TW_ASSERT(self->magic == AUTH_MAGIC && atomic_load(&self->inside) == 0);
    sweep(self);
    auth_policy *policy = atomic_load(&self->policy);
    auth_set *set = atomic_load(&self->set);
    policy_free(&policy);
    set_free(&set);
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

static tw_err check_claims(const auth_options *options, tw_bson claims, uint64_t now_s,
                           uint64_t *expires_s, broker_why *why)
{
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

static tw_err keep_claims(auth_identity *out, tw_bson claims)
{
    uint8_t *copy = claims.len > 0 ? tw_alloc(claims.len) : NULL;
    if (copy == NULL) {
        return claims.len > 0 ? TW_E_NO_MEMORY : TW_OK;
    }
    memcpy(copy, claims.ptr, claims.len);
    out->claims = (tw_bson){copy, claims.len};
    return TW_OK;
}

tw_err auth_identify(auth *self, tw_str token, uint64_t now_s, auth_identity *out, broker_why *why)
{
    tw_arena arena;
    tw_bson claims = {0};
    const auth_policy *policy = enter(self);
    *out = (auth_identity){0};
    tw_arena_init(&arena, TOKEN_MEMORY);
    tw_err err = TW_OK;
    if (token.len > 0) {
        err = verify(self, policy, &arena, token, now_s, &claims, why);
        err =
            err == TW_OK ? check_claims(policy->options, claims, now_s, &out->expires_s, why) : err;
    }
    err = err == TW_OK ? keep_claims(out, claims) : err;
    if (err == TW_OK) {
        err = rights_new(&out->rights, &policy->options->rules, claims,
                         tw_str_of(policy->options->roles));
    }
    leave(self);
    if (err == TW_OK && token.len == 0 && !rights_any(out->rights)) {
        err = refuse(why, "a token is needed here");
    }
    if (err != TW_OK) {
        auth_identity_fini(out);
    }
    tw_arena_fini(&arena);
    return err;
}

tw_err auth_rights(auth *self, const auth_identity *identity, rights **out)
{
    const auth_options *options = enter(self)->options;
    tw_err err = rights_new(out, &options->rules, identity->claims, tw_str_of(options->roles));
    leave(self);
    return err;
}

bool auth_trusts_services(auth *self)
{
    bool trusts = !enter(self)->options->services;
    leave(self);
    return trusts;
}

bool auth_identity_over(auth *self, const auth_identity *identity, uint64_t now_s)
{
    uint64_t leeway_s = (uint64_t)enter(self)->options->leeway_s;
    leave(self);
    return identity->expires_s != 0 && now_s >= identity->expires_s + leeway_s;
}

void auth_identity_fini(auth_identity *identity)
{
    rights_drop(&identity->rights);
    tw_free((void *)(uintptr_t)identity->claims.ptr);
    *identity = (auth_identity){0};
}
