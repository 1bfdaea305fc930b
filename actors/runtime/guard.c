/* guard.c - replaces the listeners of an actor that no longer accept (listener_watch.h). */
#include "actors/runtime/log.h"
#include "actors/runtime/run.h"

void guard_begin(tw_actor *actor, guard *watch, transport_socket *guarded, listener_watch_peer peer,
                 const char *address)
{
    if (guarded->local != NULL) {
        return; /* nng has no part in it */
    }
    TW_ASSERT(guarded->listener != 0);
    TW_ASSERT(watch->guarded == NULL);
    listener_watch_begin(&watch->watch, peer, address);
    tw_format(watch->address, sizeof watch->address, "%s", address);
    watch->guarded = guarded;
    watch->due_ms = actor->now_ms + GUARD_MS;
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
    if (listener_watch_step(&watch->watch, atomic_load(&watch->guarded->gains))) {
        guard_replace(actor, watch);
    }
}

void guard_end(guard *watch)
{
    TW_ASSERT(watch != NULL);
    listener_watch_end(&watch->watch);
    watch->guarded = NULL;
}
