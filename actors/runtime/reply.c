/* reply.c - answers to requests. nng queues 64 of them for each connection and drops what is
 * beyond, in silence; an asker has at most TW_LINK_IN_FLIGHT_MAX under way, so that this does not
 * happen. */
#include <stdarg.h>
#include <stdio.h>

#include "actors/runtime/log.h"
#include "actors/runtime/run.h"

/* Keeps an answer that nng has no room for; without room here too, its asker times out. */
static void reply_keep(tw_actor *actor, transport_packet **packet)
{
    TW_ASSERT(*packet != NULL);
    if (actor->late_replies == NULL) {
        actor->late_replies = tw_alloc_zero(LATE_REPLIES_MAX, sizeof(transport_packet *));
    }
    if (actor->late_replies == NULL || actor->late_replies_count == LATE_REPLIES_MAX) {
        actor->replies_dropped++;
        transport_packet_free(packet);
        return;
    }
    actor->late_replies[actor->late_replies_count++] = *packet;
    *packet = NULL;
    actor->retry_ms = actor->now_ms + SEND_RETRY_MS;
}

static void reply_send(tw_actor *actor, transport_packet **packet)
{
    TW_ASSERT(*packet != NULL);
    tw_err err = actor->late_replies_count > 0 ? TW_E_BUSY : transport_send(&actor->inbox, packet);
    if (err != TW_OK) {
        reply_keep(actor, packet);
    }
    TW_ASSERT(*packet == NULL);
}

void reply_turn(tw_actor *actor)
{
    TW_ASSERT(actor->is_in_turn);
    size_t sent = 0;
    while (sent < actor->late_replies_count &&
           transport_send(&actor->inbox, &actor->late_replies[sent]) == TW_OK) {
        sent++;
    }
    if (sent > 0) {
        actor->late_replies_count -= sent;
        memmove(actor->late_replies, actor->late_replies + sent,
                actor->late_replies_count * sizeof(transport_packet *));
    }
    if (actor->late_replies_count > 0) {
        actor->retry_ms = actor->now_ms + SEND_RETRY_MS;
    }
}

void reply_life_end(tw_actor *actor)
{
    TW_ASSERT(actor != NULL);
    for (size_t i = 0; i < actor->late_replies_count; i++) {
        transport_packet_free(&actor->late_replies[i]);
    }
    tw_free(actor->late_replies);
    actor->late_replies = NULL;
    actor->late_replies_count = 0;
}

/* Whether a route, or its copy, is that of the request being handled. */
static bool route_is_current(const tw_actor *actor, const tw_route *route)
{
    const tw_route *now = actor->route;
    return now != NULL && now->request == route->request && now->len == route->len &&
           memcmp(now->bytes, route->bytes, route->len) == 0;
}

void tw_reply(tw_actor *actor, const tw_route *route, tw_msg_id id, const void *body)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    TW_ASSERT(route != NULL);
    TW_ASSERT(route->len <= sizeof route->bytes);
    if (route_is_current(actor, route)) {
        actor->is_replied = true;
    }
    tw_str bytes;
    transport_packet *packet = NULL;
    tw_str header = {(const char *)route->bytes, route->len};
    tw_err err = run_encode(actor, id, route->request, body, &bytes);
    if (err == TW_OK) {
        err = transport_packet_new(&packet, header, TW_STR(""), bytes);
    }
    if (err == TW_OK) {
        reply_send(actor, &packet);
    } else if (id != TW_MSG_error) {
        tw_reply_error(actor, route, err, "%s of %s", tw_err_text(err), tw_message_name(id));
    } else {
        actor->replies_dropped++; /* no memory even for an error: its asker runs into its timeout */
    }
}

void tw_reply_error(tw_actor *actor, const tw_route *route, tw_err code, const char *format, ...)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    TW_ASSERT(code != TW_OK);
    char why[TW_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    int written = vsnprintf(why, sizeof why, format, args);
    va_end(args);
    tw_msg_error error = {.code = (uint64_t)code};
    if (written > 0) {
        error.why = tw_str_of(why);
    }
    tw_reply(actor, route, TW_MSG_error, &error);
}

void reply_actor_state(tw_actor *actor, const tw_envelope *in)
{
    TW_ASSERT(in->id == TW_MSG_actor_state_ask);
    const tw_item_gauge own[] = {
        {TW_STR("refused_messages_total"), (int64_t)actor->refused},
        {TW_STR("replies_dropped_total"), (int64_t)actor->replies_dropped},
        {TW_STR("listeners_replaced_total"), (int64_t)actor->relistened},
        {TW_STR("turn_us_max"), (int64_t)actor->turn_us_max},
    };
    enum { GAUGES_MAX = 256 }; /* as messages.h has it */
    tw_list_gauge given = {0};
    tw_buf_clear(&actor->scratch);
    if (actor->class->gauges != NULL) {
        actor->class->gauges(actor->state, &actor->scratch, in->arena, &given);
    }
    size_t count =
        given.count < GAUGES_MAX - TW_COUNT(own) ? given.count : GAUGES_MAX - TW_COUNT(own);
    tw_item_gauge *all = tw_arena_alloc(in->arena, (count + TW_COUNT(own)) * sizeof *all);
    if (all == NULL) {
        tw_reply_error(actor, in->route, TW_E_NO_MEMORY, "no memory for %zu gauges", count);
        return;
    }
    if (count > 0) {
        memcpy(all, given.at, count * sizeof *all);
    }
    memcpy(all + count, own, sizeof own);
    size_t waiting = actor->asks_waiting;
    for (int i = 0; i < actor->links_count; i++) {
        waiting += actor->links[i]->in_flight.count;
    }
    const char *state = atomic_load(&actor->drain_wanted) ? "draining"
                        : actor->status[0] != '\0'        ? actor->status
                                                          : "running";
    tw_msg_actor_state answer = {
        .name = tw_str_of(actor->name),
        .state = tw_str_of(state),
        .handled = actor->handled,
        .waiting = waiting,
        .gaps = actor->gaps,
        .gauges = {all, count + TW_COUNT(own)},
    };
    tw_reply(actor, in->route, TW_MSG_actor_state, &answer);
    if (in->body->actor_state_ask.reset) {
        actor->turn_us_max = 0;
    }
}
