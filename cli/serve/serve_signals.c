/* serve_signals.c - the main thread waits for a signal: SIGINT and SIGTERM end the process, SIGHUP
 * has it read again what may change. */
#include <time.h>

#include "actors/runtime/log.h"

#include "cli/serve/serve_priv.h"

void serve_block_signals(struct program *program)
{
    const config *loaded = &program->config;
    sigemptyset(&program->signals);
    sigaddset(&program->signals, SIGINT);
    sigaddset(&program->signals, SIGTERM);
    /* where nothing is read anew it ends the process, as a terminal's does */
    if (auth_is_wanted(&loaded->auth) || loaded->option.tls_cert[0] != '\0') {
        sigaddset(&program->signals, SIGHUP);
    }
    /* tidy: the mask is the main thread's; those of the actors inherit it */
    pthread_sigmask(SIG_BLOCK, &program->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* From now on a second SIGINT or SIGTERM ends the process at once. */
static void unblock_signals(const struct program *program)
{
    struct sigaction at_once = {.sa_handler = SIG_DFL};
    sigaction(SIGINT, &at_once, NULL);
    sigaction(SIGTERM, &at_once, NULL);
    sigaction(SIGHUP, &at_once, NULL);
    /* tidy: the mask is the main thread's; those of the actors keep theirs */
    pthread_sigmask(SIG_UNBLOCK, &program->signals, NULL);
}

void serve_wait(struct program *program)
{
    const struct timespec tick = {.tv_nsec = 250000000};
    const sigset_t *signals = &program->signals;
    bool keeps = program->auth != NULL;
    int number = SIGHUP;
    while (number <= 0 || number == SIGHUP) {
        number = keeps ? sigtimedwait(signals, NULL, &tick) : sigwaitinfo(signals, NULL);
        if (number == SIGHUP) {
            atomic_fetch_add(&program->tls.reloads, 1);
        }
        if (keeps && number == SIGHUP) {
            serve_reload(program);
        }
        if (keeps) {
            serve_keep_keys(program);
        }
    }
    tw_log(TW_LOG_INFO, "main", "signal %d: finishing; once more ends at once", number);
    unblock_signals(program);
}
