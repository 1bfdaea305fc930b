/* inbox.c - requests that arrive, and the way of a message to its handler. */
#include "actors/runtime/log.h"
#include "actors/runtime/run.h"

/* The error of a handler goes to who asked, if nobody has answered yet. */
static void handler_failed(tw_actor *actor, const tw_envelope *in, tw_err err)
{
    TW_ASSERT(err != TW_OK);
    if (in->route != NULL && !actor->is_replied) {
        tw_reply_error(actor, in->route, err, "%s", tw_err_text(err));
        return;
    }
    tw_log(TW_LOG_WARN, actor->name, "%s: %s", tw_message_name(in->id), tw_err_text(err));
}

void inbox_dispatch(tw_actor *actor, const tw_envelope *in)
{
    TW_ASSERT(in->actor == actor);
    TW_ASSERT(actor->route == NULL); /* no handler inside another */
    const tw_actor_class *class = actor->class;
    tw_handler handler = in->id < class->handlers_count ? class->handlers[in->id] : NULL;
    actor->handled++;
    actor->route = in->route;
    actor->is_replied = false;
    if (in->id == TW_MSG_actor_state_ask && in->route != NULL) {
        reply_actor_state(actor, in);
    } else if (handler != NULL) {
        tw_err err = handler(actor->state, in);
        if (err != TW_OK) {
            handler_failed(actor, in, err);
        }
    } else if (in->route != NULL) {
        tw_reply_error(actor, in->route, TW_E_UNKNOWN, "%s does not answer %s", actor->name,
                       tw_message_name(in->id));
    }
    actor->route = NULL;
}

/* A request that cannot be read. When it is too much for us, it is answered; a peer that sends what
 * is no message at all is cut off, it alone. */
static void request_refuse(tw_actor *actor, const transport_packet *packet, const tw_route *route,
                           tw_err err)
{
    TW_ASSERT(err != TW_OK);
    actor->refused++;
    if (run_is_worth_a_line(actor->refused)) {
        tw_log(TW_LOG_WARN, actor->name, "refused a request: %s (%llu so far)", tw_err_text(err),
               (unsigned long long)actor->refused);
    }
    if (err == TW_E_BAD_MESSAGE || route->len == 0) {
        transport_refuse(&actor->inbox, packet);
    } else {
        tw_reply_error(actor, route, err, "%s", tw_err_text(err));
    }
}

static void request_take(tw_actor *actor, const transport_packet *packet)
{
    TW_ASSERT(packet != NULL);
    tw_route route = {.request = 0};
    tw_str header = transport_packet_header(packet);
    if (header.len > sizeof route.bytes) {
        request_refuse(actor, packet, &route, TW_E_BAD_MESSAGE);
        return;
    }
    memcpy(route.bytes, header.ptr, header.len);
    route.len = (uint8_t)header.len;
    tw_body body;
    tw_msg_id id;
    tw_str bytes = transport_packet_body(packet);
    uint64_t request;
    tw_err err = tw_message_decode(&actor->arena, bytes, &id, &request, &body);
    if (err != TW_OK) {
        request_refuse(actor, packet, &route, err);
        return;
    }
    route.request = request;
    tw_envelope in = {.actor = actor,
                      .id = id,
                      .body = &body,
                      .arena = &actor->arena,
                      .route = &route,
                      .bytes = bytes};
    inbox_dispatch(actor, &in);
}

size_t inbox_receive(tw_actor *actor, size_t max)
{
    TW_ASSERT(actor->is_in_turn);
    size_t taken = 0;
    transport_packet *packet;
    while (taken < max && !actor->is_ending && transport_receive(&actor->inbox, &packet) == TW_OK) {
        follow_take_newest(actor);
        request_take(actor, packet);
        transport_packet_free(&packet);
        tw_arena_reset(&actor->arena);
        taken++;
    }
    return taken;
}
