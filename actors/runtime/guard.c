/* guard.c - notices that a listener of nng no longer accepts, and replaces it.
 *
 * nng 1.5.2: a peer that connects over ipc or tcp and is gone before the greeting is written
 * (EPIPE) ends the accept of the listener for ever: later peers connect, send, and are never heard.
 * So each listener of such an address is dialled by its own actor now and then. A probe that is
 * connected on its side while the socket has gained no pipe for a whole step has found a dead
 * listener. */
#include "actors/runtime/log.h"
#include "actors/runtime/run.h"

void guard_begin(tw_actor *actor, guard *watch, transport_socket *guarded,
                 transport_kind probe_kind, const char *address)
{
    TW_ASSERT(guarded->listener != 0);
    TW_ASSERT(watch->probe.id == 0);
    *watch = (guard){.due_ms = UINT64_MAX};
    if (strncmp(address, "inproc:", strlen("inproc:")) == 0) {
        return;
    }
    watch->guarded = guarded;
    watch->probe_kind = probe_kind;
    watch->due_ms = actor->now_ms + GUARD_MS;
    tw_format(watch->address, sizeof watch->address, "%s", address);
}

/* Cuts all connections, which would otherwise go on; but a part of the peers is deaf already. */
static void guard_replace(tw_actor *actor, guard *watch)
{
    actor->relistened++;
    tw_log(TW_LOG_WARN, actor->name, "%s accepted nobody any more: it listens anew",
           watch->address);
    transport_unlisten(watch->guarded);
    tw_err err = transport_listen(watch->guarded, watch->address);
    if (err != TW_OK) {
        tw_actor_fail(actor, err, "cannot listen anew at %s: %s", watch->address, tw_err_text(err));
    }
}

void guard_turn(tw_actor *actor, guard *watch)
{
    TW_ASSERT(actor->is_in_turn);
    if (watch->guarded == NULL || actor->now_ms < watch->due_ms || actor->is_ending) {
        return;
    }
    watch->due_ms = actor->now_ms + GUARD_MS;
    if (watch->probe.id == 0) {
        watch->gains = atomic_load(&watch->guarded->gains);
        tw_err err = transport_open(&watch->probe, watch->probe_kind, actor->wake_fd);
        if (err == TW_OK) {
            err = transport_dial(&watch->probe, watch->address);
        }
        if (err != TW_OK) { /* no memory: the next step tries again */
            transport_close(&watch->probe);
        }
        return;
    }
    /* Not connected yet: to close it now would do to the listener what is feared. */
    if (atomic_load(&watch->probe.pipes) <= 0) {
        return;
    }
    bool is_dead = atomic_load(&watch->guarded->gains) == watch->gains;
    transport_close(&watch->probe);
    if (is_dead) {
        guard_replace(actor, watch);
    }
}

void guard_end(guard *watch)
{
    TW_ASSERT(watch != NULL);
    transport_close(&watch->probe);
    watch->guarded = NULL;
}
