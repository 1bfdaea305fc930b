/* config_auth.c - see config_auth.h. */
#include "cli/config_auth.h"

#include "protocol/json.h"
#include "protocol/limits.h"

#include "broker/catalog.h"

enum { TEXT_MAX = 4096 /* bytes of any value in the file */ };

#define TEXT(structure, member, more)                                                              \
    CYAML_FIELD_STRING_PTR(#member, CYAML_FLAG_POINTER | (more), structure, member, 1, TEXT_MAX)
static const cyaml_schema_value_t name_value = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, TEXT_MAX)};
const cyaml_schema_field_t config_auth_key_fields[] = {
    TEXT(config_auth_key, kid, CYAML_FLAG_OPTIONAL),
    TEXT(config_auth_key, alg, 0),
    TEXT(config_auth_key, file, 0),
    CYAML_FIELD_END,
};
const cyaml_schema_field_t config_auth_rule_fields[] = {
    TEXT(config_auth_rule, role, 0),
    TEXT(config_auth_rule, database, CYAML_FLAG_OPTIONAL),
    TEXT(config_auth_rule, collection, 0),
    TEXT(config_auth_rule, filter, CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_SEQUENCE("verbs", CYAML_FLAG_POINTER, config_auth_rule, verbs, &name_value, 1,
                         RIGHTS_VERBS),
    CYAML_FIELD_SEQUENCE("hidden", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, config_auth_rule,
                         hidden, &name_value, 0, TW_FIELDS_MAX / 8),
    CYAML_FIELD_END,
};
#undef TEXT
const cyaml_schema_value_t config_auth_key_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, config_auth_key, config_auth_key_fields)};
const cyaml_schema_value_t config_auth_rule_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, config_auth_rule, config_auth_rule_fields)};

static const char *keep(tw_arena *arena, const char *text)
{
    return text == NULL ? NULL : tw_arena_format(arena, "%s", text);
}

static tw_err set_verbs(const config_auth_rule *from, rights_rule *to, tw_buf *why)
{
    for (unsigned i = 0; i < from->verbs_count; i++) {
        size_t bit = 0;
        while (bit < RIGHTS_VERBS && strcmp(from->verbs[i], rights_verb_names[bit]) != 0) {
            bit++;
        }
        if (bit == RIGHTS_VERBS) {
            tw_buf_format(why, "auth.rules: role %s: verbs has '%.40s', allowed are:", from->role,
                          from->verbs[i]);
            for (bit = 0; bit < RIGHTS_VERBS; bit++) {
                tw_buf_format(why, " %s", rights_verb_names[bit]);
            }
            tw_buf_add_byte(why, '\n');
            return TW_E_BAD_CONFIG;
        }
        to->verbs |= 1U << bit;
    }
    return TW_OK;
}

static tw_err set_rule(tw_arena *arena, const config_auth_rule *from, rights_rule *to, tw_buf *why)
{
    const char **hidden = tw_arena_zero(arena, from->hidden_count + 1, sizeof(*hidden));
    if (hidden == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (unsigned i = 0; i < from->hidden_count; i++) {
        hidden[i] = keep(arena, from->hidden[i]);
    }
    *to = (rights_rule){.role = keep(arena, from->role),
                        .database = keep(arena, from->database),
                        .collection = keep(arena, from->collection),
                        .hidden = hidden,
                        .hidden_count = from->hidden_count};
    tw_err err = set_verbs(from, to, why);
    tw_str cause = {0};
    broker_why refused = {0};
    if (err == TW_OK && from->filter != NULL) {
        err = tw_json_read(arena, tw_str_of(keep(arena, from->filter)), TW_DEPTH_CLIENT_MAX,
                           &to->filter, &cause);
        if (err != TW_OK) {
            tw_format(refused.text, sizeof refused.text, "the filter: %.*s", (int)cause.len,
                      cause.len > 0 ? cause.ptr : "");
        }
    } else if (err != TW_OK) {
        return err;
    }
    err = err == TW_OK ? rights_rule_check(to, &refused) : err;
    if (err != TW_OK && err != TW_E_NO_MEMORY) {
        tw_buf_format(why, "auth.rules: role %s, collection %s: %s\n", to->role, to->collection,
                      refused.text);
        return TW_E_BAD_CONFIG;
    }
    return err;
}

static tw_err check_scalars(const config_options *option, const config_auth_lists *lists,
                            const auth_options *made, tw_buf *why)
{
    static const char https[] = "https://";
    bool wanted = option->auth_issuer[0] != '\0' || option->auth_audience[0] != '\0' ||
                  made->services || lists->rules_count > 0;
    if (lists->keys_count == 0 && option->auth_jwks[0] == '\0' && wanted) {
        tw_buf_format(why, "auth: there are no keys: tokens could not be verified; add auth.keys "
                           "or auth.jwks\n");
        return TW_E_BAD_CONFIG;
    }
    if (strstr(option->auth_jwks, "://") != NULL &&
        strncmp(option->auth_jwks, https, sizeof https - 1) != 0) {
        tw_buf_format(why, "auth.jwks: '%.60s' is neither https://... nor a file\n",
                      option->auth_jwks);
        return TW_E_BAD_CONFIG;
    }
    if (!made->services && strcmp(option->auth_services, "trusted") != 0) {
        tw_buf_format(why, "auth.services is '%.20s', allowed are trusted and token\n",
                      option->auth_services);
        return TW_E_BAD_CONFIG;
    }
    return TW_OK;
}

tw_err config_auth_set(tw_arena *arena, const config_options *option,
                       const config_auth_lists *lists, auth_options *out, tw_buf *why)
{
    auth_key_options *keys = tw_arena_zero(arena, lists->keys_count + 1, sizeof(*keys));
    rights_rule *rules = tw_arena_zero(arena, lists->rules_count + 1, sizeof(*rules));
    *out = (auth_options){
        .keys = keys,
        .keys_count = lists->keys_count,
        .issuer = option->auth_issuer,
        .audience = option->auth_audience,
        .roles = option->auth_roles,
        .leeway_s = option->auth_leeway_s,
        .jwks = option->auth_jwks,
        .jwks_ca = option->auth_jwks_ca,
        .services = strcmp(option->auth_services, "token") == 0,
        .rules = {.at = rules, .count = lists->rules_count, .default_database = option->database}};
    if (keys == NULL || rules == NULL) {
        return TW_E_NO_MEMORY;
    }
    if (check_scalars(option, lists, out, why) != TW_OK) {
        return TW_E_BAD_CONFIG;
    }
    for (unsigned i = 0; i < lists->keys_count; i++) {
        keys[i].kid = lists->keys[i].kid == NULL ? "" : keep(arena, lists->keys[i].kid);
        keys[i].alg = keep(arena, lists->keys[i].alg);
        keys[i].file = keep(arena, lists->keys[i].file);
    }
    tw_err err = TW_OK;
    for (unsigned i = 0; i < lists->rules_count && err == TW_OK; i++) {
        err = set_rule(arena, &lists->rules[i], &rules[i], why);
    }
    return err;
}

/* ---- out ---- */

static void write_text(tw_buf *out, const char *before, const char *text)
{
    if (text != NULL && text[0] != '\0') {
        tw_buf_add_str(out, tw_str_of(before));
        tw_json_write_str(out, tw_str_of(text));
    }
}

static void write_rule(const rights_rule *rule, tw_buf *out)
{
    const char *comma = "";
    write_text(out, "    - role: ", rule->role);
    write_text(out, "\n      database: ", rule->database);
    write_text(out, "\n      collection: ", rule->collection);
    tw_buf_format(out, "\n      verbs: [");
    for (size_t bit = 0; bit < RIGHTS_VERBS; bit++) {
        if ((rule->verbs >> bit & 1U) != 0) {
            tw_buf_format(out, "%s%s", comma, rights_verb_names[bit]);
            comma = ", ";
        }
    }
    tw_buf_format(out, "]\n");
    if (rule->filter.len > 0) {
        tw_buf json;
        tw_buf_init(&json, 8 * (size_t)TW_QUERY_MAX);
        tw_json_write(&json, rule->filter);
        tw_buf_format(out, "      filter: '");
        for (size_t i = 0; i < json.len; i++) { /* YAML knows no escape but the doubled quote */
            tw_buf_add(out, "'", json.ptr[i] == '\'' ? 1 : 0);
            tw_buf_add_byte(out, json.ptr[i]);
        }
        tw_buf_format(out, "'\n");
        tw_buf_fini(&json);
    }
    for (size_t i = 0; i < rule->hidden_count; i++) {
        write_text(out, i == 0 ? "      hidden: [" : ", ", rule->hidden[i]);
    }
    tw_buf_format(out, "%s", rule->hidden_count == 0 ? "" : "]\n");
}

void config_auth_write(const auth_options *given, tw_buf *out)
{
    for (size_t i = 0; i < given->keys_count; i++) {
        tw_buf_format(out, "%s    - {alg: %s", i == 0 ? "  keys:\n" : "", given->keys[i].alg);
        write_text(out, ", kid: ", given->keys[i].kid);
        write_text(out, ", file: ", given->keys[i].file);
        tw_buf_format(out, "}\n");
    }
    for (size_t i = 0; i < given->rules.count; i++) {
        tw_buf_format(out, "%s", i == 0 ? "  rules:\n" : "");
        write_rule(&given->rules.at[i], out);
    }
}
