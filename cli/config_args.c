/* config_args.c - see config_args.h. */
#include "cli/config_args.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/verb.h"

enum { KEY_FIRST = 1000, WHY_MAX = 65536 };

static const struct flag_row {
    const char *flag, *fallback, *help;
    bool is_switch;
} flag_rows[] = {
#define FLAG_IS_text   false
#define FLAG_IS_number false
#define FLAG_IS_flag   true
#define O(type, member, section, key, flag, fallback, min, max, help)                              \
    {flag, fallback, help, FLAG_IS_##type},
    CONFIG_OPTIONS(O)
#undef O
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    config_args *args = state->input;
    if (key == 'c') {
        args->file = arg;
        return 0;
    }
    if (key < KEY_FIRST || (size_t)(key - KEY_FIRST) >= TW_COUNT(flag_rows)) {
        return ARGP_ERR_UNKNOWN;
    }
    const struct flag_row *row = &flag_rows[key - KEY_FIRST];
    if (args->flags_count + 2 > 2 * CONFIG_ARGS_MAX) {
        argp_error(state, "too many options");
    }
    args->flags[args->flags_count++] = row->flag;
    args->flags[args->flags_count++] = row->is_switch ? "true" : arg;
    return 0;
}

const struct argp *config_args_argp(void)
{
    static struct argp_option options[TW_COUNT(flag_rows) + 2];
    static const struct argp argp = {.options = options, .parser = parse};
    size_t count = 0;
    options[count++] = (struct argp_option){"config", 'c', "FILE", 0, "Configuration (YAML)", 50};
    for (size_t i = 0; i < TW_COUNT(flag_rows); i++) {
        if (flag_rows[i].flag[0] != '\0') {
            options[count++] = (struct argp_option){flag_rows[i].flag,
                                                    KEY_FIRST + (int)i,
                                                    flag_rows[i].is_switch ? NULL : "VALUE",
                                                    0,
                                                    flag_rows[i].help,
                                                    51};
        }
    }
    options[count] = (struct argp_option){0};
    return &argp;
}

int config_args_load(const config_args *args, const char *verb, config *out)
{
    tw_buf why;
    tw_buf_init(&why, WHY_MAX);
    const char *file = args->file != NULL ? args->file : getenv("TIDEWIRE_CONFIG");
    tw_err err = config_load(out, file, args->flags, &why);
    if (err != TW_OK) {
        fprintf(stderr, "tidewire %s: the configuration has an error\n%.*s", verb, (int)why.len,
                why.len == 0 ? "" : why.ptr);
        fprintf(stderr, "  Known keys and their values: tidewire config default\n");
    }
    tw_buf_fini(&why);
    return err == TW_OK ? 0 : 1;
}
