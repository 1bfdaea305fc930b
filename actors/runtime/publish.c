/* publish.c - publications of an actor, and those it follows. */
#include <sys/random.h>

#include "actors/runtime/log.h"
#include "actors/runtime/run.h"

/* ---- publishing ---- */

/* Sends the last number with a message, or as a beat without one. What cannot be sent is lost, and
 * its followers see that by the next number. */
static void publication_send(tw_actor *actor, tw_str message)
{
    TW_ASSERT(transport_is_open(&actor->publications));
    char head[PUBLICATION_HEAD_BYTES];
    publication_head_write(actor->published, head);
    transport_packet *packet = NULL;
    tw_err err = transport_packet_new(&packet, TW_STR(""), (tw_str){head, sizeof head}, message);
    if (err == TW_OK) {
        err = transport_send(&actor->publications, &packet);
    }
    if (err != TW_OK) {
        tw_log(TW_LOG_WARN, actor->name, "lost a publication: %s", tw_err_text(err));
        transport_packet_free(&packet);
    }
    actor->beat.due_ms = actor->now_ms + BEAT_MS;
}

void tw_publish(tw_actor *actor, tw_msg_id id, const void *body)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    TW_ASSERT(actor->class->publishes);
    actor->published.number++; /* also of one that is too big: its followers have to know */
    tw_str bytes;
    tw_err err = run_encode(actor, id, 0, body, &bytes);
    if (err != TW_OK) {
        tw_log(TW_LOG_ERROR, actor->name, "cannot publish %s: %s", tw_message_name(id),
               tw_err_text(err));
        return;
    }
    publication_send(actor, bytes);
}

tw_err publish_life_begin(tw_actor *actor)
{
    TW_ASSERT(!transport_is_open(&actor->publications));
    actor->published = (publication_head){0};
    actor->beat = (publication_beat){.due_ms = UINT64_MAX};
    if (!actor->class->publishes) {
        return TW_OK;
    }
    /* Never from the seed: a run that is replayed must differ from the life before it. */
    while (actor->published.life == 0) {
        ssize_t got = getrandom(&actor->published.life, sizeof actor->published.life, 0);
        TW_ASSERT(got == (ssize_t)sizeof actor->published.life); /* short reads: over 256 bytes */
    }
    actor->beat.due_ms = actor->now_ms + BEAT_MS;
    return transport_open(&actor->publications, TRANSPORT_PUBLICATIONS, actor->base,
                          actor->wake_fd);
}

void publish_turn(tw_actor *actor)
{
    TW_ASSERT(actor->is_in_turn);
    unsigned followers = atomic_load(&actor->publications.gains);
    if (publication_beat_is_due(&actor->beat, followers, actor->now_ms)) {
        publication_send(actor, TW_STR(""));
    }
}

/* ---- following ---- */

static void follow_open(tw_actor *actor, const char *source, const followed *how)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    TW_ASSERT(run_name_is_right(source));
    TW_ASSERT(actor->class->on_gap != NULL); /* nobody may depend on delivery */
    TW_ASSERT(actor->follows_count < TW_LINKS_MAX);
    char address[TRANSPORT_ADDRESS_MAX];
    transport_kind kind = how->is_newest ? TRANSPORT_NEWEST : TRANSPORT_FOLLOW;
    followed *follow = tw_alloc_zero(1, sizeof *follow);
    tw_err err =
        follow == NULL ? TW_E_NO_MEMORY : transport_address(actor->base, source, true, address);
    if (err == TW_OK) {
        follow->is_newest = how->is_newest;
        follow->every_ms = how->every_ms;
        tw_format(follow->source, sizeof follow->source, "%s", source);
        err = transport_open(&follow->socket, kind, actor->base, actor->wake_fd);
    }
    if (err == TW_OK) {
        err = run_watch(actor, follow->socket.fd, SOURCE_FOLLOW + (uint32_t)actor->follows_count);
    }
    if (err == TW_OK) {
        err = transport_dial(&follow->socket, address);
    }
    if (err != TW_OK) {
        if (follow != NULL) {
            transport_close(&follow->socket);
        }
        tw_free(follow);
        tw_actor_fail(actor, err, "cannot follow %s: %s", source, tw_err_text(err));
        return;
    }
    actor->follows[actor->follows_count++] = follow;
}

void tw_follow(tw_actor *actor, const char *source)
{
    follow_open(actor, source, &(followed){.is_newest = false});
}

void tw_follow_newest(tw_actor *actor, const char *source, uint32_t every_ms)
{
    follow_open(actor, source, &(followed){.is_newest = true, .every_ms = every_ms});
}

/* Reads a publication and gives it to its handler; a gap is told before. */
static void publication_take(tw_actor *actor, followed *follow, const transport_packet *packet)
{
    TW_ASSERT(packet != NULL);
    publication_head head;
    tw_str message;
    tw_err err = publication_head_read(transport_packet_body(packet), &head, &message);
    bool is_beat = err == TW_OK && message.len == 0;
    if (err == TW_OK && !is_beat && actor->drop_every != 0 &&
        ++actor->received % actor->drop_every == 0) {
        return; /* a test's: as if nng had dropped it */
    }
    tw_body body;
    tw_msg_id id = TW_MSG_none;
    uint64_t request;
    if (err == TW_OK && !is_beat) {
        err = tw_message_decode(&actor->arena, message, &id, &request, &body);
    }
    if (err != TW_OK) { /* its number is not taken: the next one shows the gap */
        actor->refused++;
        if (run_is_worth_a_line(actor->refused)) {
            tw_log(TW_LOG_WARN, actor->name, "refused a publication of %s: %s (%llu so far)",
                   follow->source, tw_err_text(err), (unsigned long long)actor->refused);
        }
        return;
    }
    uint64_t lost;
    bool is_known = follow->reader.seen.life == head.life;
    publication_verdict verdict = publication_reader_take(&follow->reader, head, is_beat, &lost);
    bool is_left_out = follow->is_newest && is_known && !is_beat; /* a beat has replaced the last */
    if (verdict == PUBLICATION_GAP && !is_left_out) {
        actor->gaps += lost;
        actor->class->on_gap(actor->state, follow->source);
    }
    if (is_beat || verdict == PUBLICATION_REPEATED || actor->is_ending) {
        return;
    }
    tw_envelope in = {
        .actor = actor, .id = id, .body = &body, .arena = &actor->arena, .bytes = message};
    inbox_dispatch(actor, &in);
}

size_t follow_receive(tw_actor *actor, followed *follow, size_t max)
{
    TW_ASSERT(actor->is_in_turn);
    size_t taken = 0;
    transport_packet *packet;
    if (follow->is_newest) {
        max = 1; /* what comes meanwhile is for the next time: a publisher may be faster than it */
    }
    while (taken < max && !actor->is_ending &&
           transport_receive(&follow->socket, &packet) == TW_OK) {
        publication_take(actor, follow, packet);
        transport_packet_free(&packet);
        tw_arena_reset(&actor->arena);
        taken++;
    }
    if (taken > 0 && follow->every_ms > 0 && follow->rests_ms == 0 && !actor->is_ending) {
        follow->rests_ms = actor->now_ms + follow->every_ms;
        run_unwatch(actor, follow->socket.fd);
    }
    return taken;
}

void follow_take_newest(tw_actor *actor)
{
    TW_ASSERT(actor->is_in_turn);
    for (int i = 0; i < actor->follows_count; i++) {
        if (actor->follows[i]->is_newest) {
            (void)follow_receive(actor, actor->follows[i], SOURCE_MESSAGES_MAX);
        }
    }
}

void follow_turn(tw_actor *actor)
{
    TW_ASSERT(actor->is_in_turn);
    for (int i = 0; i < actor->follows_count; i++) {
        followed *follow = actor->follows[i];
        if (follow->rests_ms == 0 || follow->rests_ms > actor->now_ms) {
            continue;
        }
        tw_err err = run_watch(actor, follow->socket.fd, SOURCE_FOLLOW + (uint32_t)i);
        if (err != TW_OK) {
            tw_actor_fail(actor, err, "cannot follow %s: %s", follow->source, tw_err_text(err));
            return;
        }
        follow->rests_ms = 0;
    }
}

void publish_life_end(tw_actor *actor)
{
    TW_ASSERT(actor != NULL);
    transport_close(&actor->publications);
    for (int i = 0; i < actor->follows_count; i++) {
        transport_close(&actor->follows[i]->socket);
        tw_free(actor->follows[i]);
        actor->follows[i] = NULL;
    }
    actor->follows_count = 0;
}
