/* serve_prepare.c - what must stand before any actor is made: the level of the log, descriptors,
 * the data directory. */
#include <errno.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/runtime/log.h"

#include "cli/serve/serve_priv.h"

static int set_log_level(const struct program *program)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    const char *wanted = program->config.option.log_level;
    for (size_t level = 0; level < TW_COUNT(levels); level++) {
        if (strcmp(levels[level], wanted) == 0) {
            tw_log_set_level((tw_log_level)level);
            return 0;
        }
    }
    return cli_fail(program->verb, "error, warn, info or debug", "there is no log level '%s'",
                    wanted);
}

static void raise_descriptors(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max; /* each client is a descriptor */
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int make_directory(const char *verb, const char *path)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST) {
        return 0;
    }
    return cli_fail(verb, "Give another directory with --data, or make its parent",
                    "%s cannot be made: %s", path, strerror(errno));
}

const char *serve_absolute(const char *path, char *out, size_t size)
{
    char here[SERVE_PATH_MAX / 2];
    if (path[0] == '/' || getcwd(here, sizeof(here)) == NULL) {
        tw_format(out, size, "%s", path);
    } else {
        tw_format(out, size, "%s/%s", here, strncmp(path, "./", 2) == 0 ? path + 2 : path);
    }
    return out;
}

int serve_prepare(struct program *program)
{
    const config_options *option = &program->config.option;
    if (set_log_level(program) != 0) {
        return 1;
    }
    serve_prepare_search(program);
    if (!program->is_check) {
        raise_descriptors();
    }
    if (!program->is_check && !option->memory && make_directory(program->verb, option->data) != 0) {
        return 1;
    }
    return serve_prepare_mongo(program);
}
