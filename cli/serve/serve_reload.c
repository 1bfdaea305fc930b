/* serve_reload.c - what changes while the program runs: keys that are fetched, rules that are read
 * again (docs/decisions/0041). */
#include <time.h>

#include "actors/runtime/log.h"

#include "cli/serve/serve_priv.h"

void serve_keep_keys(struct program *program)
{
    broker_why why = {0};
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    tw_err err = auth_keep(program->auth, (uint64_t)now.tv_sec, &why);
    if (err != TW_OK) {
        tw_log(TW_LOG_WARN, "main", "auth.jwks: %s; the last good set holds",
               why.text[0] != '\0' ? why.text : tw_err_text(err));
    }
}

static void free_config(void *memory)
{
    config *loaded = memory;
    config_free(loaded);
    tw_free(loaded);
}

void serve_reload(struct program *program)
{
    broker_why why = {0};
    config *fresh = tw_alloc_zero(1, sizeof *fresh);
    if (fresh == NULL || config_args_load(program->args, program->verb, fresh) != 0) {
        tw_free(fresh);
        tw_log(TW_LOG_ERROR, "main", "reload: the configuration is refused; the rules before hold");
        return;
    }
    tw_err err = auth_is_wanted(&fresh->auth)
                     ? auth_reload(program->auth, &fresh->auth, fresh, free_config, &why)
                     : broker_refuse(&why, TW_E_BAD_CONFIG, "the section auth is gone");
    if (err == TW_OK) {
        tw_log(TW_LOG_INFO, "main", "reload: %zu keys, %zu rules hold now", fresh->auth.keys_count,
               fresh->auth.rules.count);
        return;
    }
    tw_log(TW_LOG_ERROR, "main", "reload: %s; the rules before hold",
           why.text[0] != '\0' ? why.text : tw_err_text(err));
    free_config(fresh);
}
