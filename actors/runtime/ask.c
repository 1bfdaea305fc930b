/* ask.c - links to other actors, and the requests on them.
 *
 * A request waits, is in flight, and is answered: by a message, by its timeout, by the loss of its
 * peer or by a full queue. Whatever the way, ask_deliver is the one place that calls on_answer,
 * after the ask has left its list; so it is called once.
 *
 * The number of a request is (serial << 16 | index): the index finds the ask, the whole number
 * proves that it is the same one. nng's header carries its low 31 bits.
 *
 * Asks wait LINK_GRACE_MS for a link that is down, as a restart takes less; then they fail. */
#include "actors/runtime/log.h"
#include "actors/runtime/run.h"

#define HEADER_END  0x80000000U /* marks the last word of nng's header: the request's number */
#define HEADER_BITS 0x7fffffffU /* what that word holds of the number */

/* ---- lists and places ---- */

static void list_add(ask_list *list, ask *one)
{
    TW_ASSERT(one->prev == NULL);
    TW_ASSERT(one->next == NULL);
    one->prev = list->last;
    if (list->last == NULL) {
        list->first = one;
    } else {
        list->last->next = one;
    }
    list->last = one;
    list->count++;
}

static void list_remove(ask_list *list, ask *one)
{
    TW_ASSERT(list->count > 0);
    if (one->prev == NULL) {
        TW_ASSERT(list->first == one);
        list->first = one->next;
    } else {
        one->prev->next = one->next;
    }
    if (one->next == NULL) {
        TW_ASSERT(list->last == one);
        list->last = one->prev;
    } else {
        one->next->prev = one->prev;
    }
    one->prev = NULL;
    one->next = NULL;
    list->count--;
}

static ask_list *list_of(tw_actor *actor, const ask *one)
{
    TW_ASSERT(one->state != ASK_FREE);
    if (one->state == ASK_SETTLED) {
        return &actor->settled;
    }
    ask_link *link = actor->links[one->link];
    return one->state == ASK_WAITING ? &link->waiting : &link->in_flight;
}

/* A free place; NULL: no memory, or more asks than numbers. */
static ask *ask_take(tw_actor *actor)
{
    TW_ASSERT(actor->ask_blocks_count <= ASK_BLOCKS_MAX);
    if (actor->ask_free == NULL) {
        if (actor->ask_blocks_count == ASK_BLOCKS_MAX) {
            return NULL;
        }
        ask *block = tw_alloc_zero(ASKS_PER_BLOCK, sizeof *block);
        if (block == NULL) {
            return NULL;
        }
        for (uint32_t i = 0; i < ASKS_PER_BLOCK; i++) {
            block[i].index = actor->ask_blocks_count * ASKS_PER_BLOCK + i;
            block[i].next = actor->ask_free;
            actor->ask_free = &block[i];
        }
        actor->ask_blocks[actor->ask_blocks_count++] = block;
    }
    ask *one = actor->ask_free;
    TW_ASSERT(one->state == ASK_FREE);
    actor->ask_free = one->next;
    one->next = NULL;
    return one;
}

static ask *ask_at(tw_actor *actor, uint64_t index)
{
    uint64_t block = index / ASKS_PER_BLOCK;
    return block < actor->ask_blocks_count ? &actor->ask_blocks[block][index % ASKS_PER_BLOCK]
                                           : NULL;
}

/* Moves an ask to those that are answered at the next turn, with err. */
static void ask_settle(tw_actor *actor, ask *one, tw_err err)
{
    TW_ASSERT(one->state == ASK_WAITING || one->state == ASK_IN_FLIGHT);
    TW_ASSERT(err != TW_OK);
    if (one->state == ASK_WAITING) {
        TW_ASSERT(actor->asks_waiting > 0);
        actor->asks_waiting--;
    }
    list_remove(list_of(actor, one), one);
    transport_packet_free(&one->packet);
    one->state = ASK_SETTLED;
    one->err = err;
    list_add(&actor->settled, one);
}

/* Gives the place back, then tells the asker: it may ask again at once. */
static void ask_deliver(tw_actor *actor, ask *one, tw_err err, const tw_envelope *in)
{
    TW_ASSERT(one->state == ASK_IN_FLIGHT || one->state == ASK_SETTLED);
    TW_ASSERT(one->packet == NULL);
    list_remove(list_of(actor, one), one);
    tw_on_answer on_answer = one->on_answer;
    void *context = one->context;
    uint64_t tag = one->tag;
    *one = (ask){.index = one->index, .next = actor->ask_free};
    actor->ask_free = one;
    on_answer(actor->state, context, tag, err, in);
}

/* ---- asking ---- */

int tw_link(tw_actor *actor, const char *to)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    TW_ASSERT(run_name_is_right(to));
    for (int i = 0; i < actor->links_count; i++) {
        if (strcmp(actor->links[i]->name, to) == 0) {
            return i;
        }
    }
    if (actor->links_count == TW_LINKS_MAX) {
        return -1;
    }
    char address[TRANSPORT_ADDRESS_MAX];
    ask_link *link = tw_alloc_zero(1, sizeof *link);
    tw_err err = link == NULL ? TW_E_NO_MEMORY : transport_address(actor->base, to, false, address);
    if (err == TW_OK) {
        tw_format(link->name, sizeof link->name, "%s", to);
        link->down_since_ms = actor->now_ms;
        err = transport_open(&link->socket, TRANSPORT_LINK, actor->base, actor->wake_fd);
    }
    if (err == TW_OK) {
        err = run_watch(actor, link->socket.fd, SOURCE_LINK + (uint32_t)actor->links_count);
    }
    if (err == TW_OK) {
        err = transport_dial(&link->socket, address);
    }
    if (err != TW_OK) {
        if (link != NULL) {
            transport_close(&link->socket);
        }
        tw_free(link);
        tw_actor_fail(actor, err, "no link to %s: %s", to, tw_err_text(err));
        return -1;
    }
    actor->links[actor->links_count] = link;
    return actor->links_count++;
}

bool tw_link_up(const tw_actor *actor, int link)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    TW_ASSERT(link >= 0 && link < actor->links_count);
    return atomic_load(&actor->links[link]->socket.pipes) > 0;
}

/* Encodes the request into its packet. */
static tw_err ask_encode(tw_actor *actor, ask *one, tw_msg_id id, const void *body)
{
    TW_ASSERT(one->packet == NULL);
    tw_str bytes;
    tw_err err = run_encode(actor, id, one->request, body, &bytes);
    if (err != TW_OK) {
        return err;
    }
    uint32_t number = (uint32_t)(one->request & HEADER_BITS) | HEADER_END;
    char header[TRANSPORT_REQUEST_BYTES] = {
        (char)(unsigned char)(number >> 24), (char)(unsigned char)(number >> 16),
        (char)(unsigned char)(number >> 8), (char)(unsigned char)number};
    return transport_packet_new(&one->packet, (tw_str){header, sizeof header}, TW_STR(""), bytes);
}

static void link_send(tw_actor *actor, ask_link *link);

void tw_ask(tw_actor *actor, int link, tw_msg_id id, const void *body, uint32_t timeout_ms,
            tw_on_answer on_answer, void *context, uint64_t tag)
{
    TW_ASSERT(actor != NULL && actor->magic == ACTOR_MAGIC);
    TW_ASSERT(link >= 0 && link < actor->links_count);
    TW_ASSERT(on_answer != NULL);
    ask *one = ask_take(actor);
    if (one == NULL) { /* nowhere to remember whom to answer: this life cannot keep its promise */
        tw_actor_fail(actor, TW_E_NO_MEMORY, "no memory to ask %s", actor->links[link]->name);
        return;
    }
    one->request = ++actor->ask_serial << 16 | one->index;
    one->deadline_ms = run_clock_ms() + timeout_ms; /* now_ms may be old outside of a turn */
    one->link = link;
    one->on_answer = on_answer;
    one->context = context;
    one->tag = tag;
    one->state = ASK_WAITING;
    bool is_full = actor->asks_waiting >= TW_MAILBOX_MAX;
    actor->asks_waiting++;
    list_add(&actor->links[link]->waiting, one);
    tw_err err = is_full ? TW_E_BUSY : ask_encode(actor, one, id, body);
    if (err != TW_OK) {
        ask_settle(actor, one, err);
        return;
    }
    if (one->deadline_ms < actor->ask_due_ms) {
        actor->ask_due_ms = one->deadline_ms;
    }
    link_send(actor, actor->links[link]);
}

/* Sends what waits while there is room in the window. A link that is down sends nothing: nng would
 * keep it for whoever comes next. */
static void link_send(tw_actor *actor, ask_link *link)
{
    TW_ASSERT(link->in_flight.count <= TW_LINK_IN_FLIGHT_MAX);
    while (link->is_up && link->waiting.first != NULL &&
           link->in_flight.count < TW_LINK_IN_FLIGHT_MAX) {
        ask *one = link->waiting.first;
        /* Counted before it is sent: if the peer goes in between, it is taken for lost. */
        one->losses = link->losses;
        tw_err err = transport_send(&link->socket, &one->packet);
        if (err == TW_E_BUSY || err == TW_E_NO_MEMORY) {
            actor->retry_ms = actor->now_ms + SEND_RETRY_MS;
            return;
        }
        if (err != TW_OK) {
            ask_settle(actor, one, TW_E_UNAVAILABLE);
            continue;
        }
        list_remove(&link->waiting, one);
        actor->asks_waiting--;
        one->state = ASK_IN_FLIGHT;
        list_add(&link->in_flight, one);
    }
}

/* ---- answers ---- */

tw_err ask_error_code(uint64_t code)
{
    return code > TW_OK && code < TW_ERRORS_END ? (tw_err)code : TW_E_INTERNAL;
}

/* The ask that an answer belongs to; NULL: none waits for it any more. A peer that could not read a
 * request knows only the header's bits of its number, and says 0. */
static ask *ask_of(tw_actor *actor, const ask_link *link, tw_str header, tw_msg_id id,
                   uint64_t request)
{
    if (header.len < TRANSPORT_REQUEST_BYTES) {
        return NULL;
    }
    uint64_t bits = 0;
    for (size_t i = header.len - TRANSPORT_REQUEST_BYTES; i < header.len; i++) {
        bits = bits << 8 | (unsigned char)header.ptr[i];
    }
    bits &= HEADER_BITS;
    ask *one = ask_at(actor, bits & UINT16_MAX);
    if (one == NULL || one->state != ASK_IN_FLIGHT || actor->links[one->link] != link) {
        return NULL;
    }
    bool is_same = id == TW_MSG_error && request == 0 ? (one->request & HEADER_BITS) == bits
                                                      : one->request == request;
    return is_same ? one : NULL;
}

/* Reads an answer and gives it to who asked. */
static void answer_take(tw_actor *actor, ask_link *link, const transport_packet *packet)
{
    TW_ASSERT(packet != NULL);
    tw_body body;
    tw_msg_id id;
    uint64_t request;
    tw_str bytes = transport_packet_body(packet);
    tw_err err = tw_message_decode(&actor->arena, bytes, &id, &request, &body);
    if (err != TW_OK) {
        actor->refused++;
        if (run_is_worth_a_line(actor->refused)) {
            tw_log(TW_LOG_WARN, actor->name, "refused an answer of %s: %s (%llu so far)",
                   link->name, tw_err_text(err), (unsigned long long)actor->refused);
        }
        transport_refuse(&link->socket,
                         packet); /* its other requests are then settled as unavailable */
        return;
    }
    ask *one = ask_of(actor, link, transport_packet_header(packet), id, request);
    if (one == NULL) {
        return; /* it came after its timeout */
    }
    tw_envelope in = {
        .actor = actor, .id = id, .body = &body, .arena = &actor->arena, .bytes = bytes};
    actor->handled++;
    ask_deliver(actor, one, id == TW_MSG_error ? ask_error_code(body.error.code) : TW_OK, &in);
}

size_t ask_receive(tw_actor *actor, ask_link *link, size_t max)
{
    TW_ASSERT(link != NULL);
    size_t taken = 0;
    transport_packet *packet;
    while (taken < max && !actor->is_ending && transport_receive(&link->socket, &packet) == TW_OK) {
        answer_take(actor, link, packet);
        transport_packet_free(&packet);
        tw_arena_reset(&actor->arena);
        taken++;
    }
    if (taken > 0) {
        link_send(actor, link); /* the window has room again */
    }
    return taken;
}

/* ---- a turn ---- */

/* Attends to the connections of a link: what was in flight on one that ended gets no answer. */
static void link_attend(tw_actor *actor, ask_link *link)
{
    TW_ASSERT(link != NULL);
    unsigned losses = atomic_load(&link->socket.losses);
    bool is_up = atomic_load(&link->socket.pipes) > 0;
    if (link->is_up && (!is_up || losses != link->losses)) {
        link->down_since_ms = actor->now_ms;
    }
    link->is_up = is_up;
    if (losses == link->losses) {
        return;
    }
    link->losses = losses; /* what is sent from here on is of the next connection */
    /* Answers that came before the end are still there to be taken; at most a queue full. */
    ask_receive(actor, link, 2 * (size_t)TW_LINK_IN_FLIGHT_MAX);
    ask *next;
    for (ask *one = link->in_flight.first; one != NULL; one = next) {
        next = one->next;
        if (one->losses != losses) {
            ask_settle(actor, one, TW_E_UNAVAILABLE);
        }
    }
}

/* Settles the asks of a list that are due, and tells when the next is. */
static void list_expire(tw_actor *actor, ask_list *list, uint64_t *due_ms)
{
    TW_ASSERT(due_ms != NULL);
    ask *next;
    for (ask *one = list->first; one != NULL; one = next) {
        next = one->next;
        if (one->deadline_ms <= actor->now_ms) {
            bool was_sent = one->state == ASK_IN_FLIGHT || actor->links[one->link]->is_up;
            ask_settle(actor, one, was_sent ? TW_E_TIMEOUT : TW_E_UNAVAILABLE);
        } else if (one->deadline_ms < *due_ms) {
            *due_ms = one->deadline_ms;
        }
    }
}

/* Asks to a link that has been down for its grace are settled, all of them. */
static void link_give_up(tw_actor *actor, ask_link *link)
{
    TW_ASSERT(!link->is_up);
    while (link->waiting.first != NULL) {
        ask_settle(actor, link->waiting.first, TW_E_UNAVAILABLE);
    }
}

void ask_turn(tw_actor *actor)
{
    TW_ASSERT(actor->is_in_turn);
    bool is_expiring = actor->ask_due_ms <= actor->now_ms;
    uint64_t due_ms = UINT64_MAX;
    if (actor->retry_ms <= actor->now_ms) {
        actor->retry_ms = UINT64_MAX;
    }
    for (int i = 0; i < actor->links_count && !actor->is_ending; i++) {
        ask_link *link = actor->links[i];
        link_attend(actor, link);
        if (is_expiring) {
            list_expire(actor, &link->waiting, &due_ms);
            list_expire(actor, &link->in_flight, &due_ms);
        }
        if (!link->is_up && actor->now_ms >= link->down_since_ms + LINK_GRACE_MS) {
            link_give_up(actor, link);
        }
        link_send(actor, link);
    }
    if (is_expiring) {
        actor->ask_due_ms = due_ms;
    }
    /* What callbacks settle now is for the next turn. */
    for (size_t left = actor->settled.count; left > 0 && !actor->is_ending; left--) {
        ask *one = actor->settled.first;
        ask_deliver(actor, one, one->err, NULL);
    }
}

uint64_t ask_next_ms(const tw_actor *actor)
{
    TW_ASSERT(actor != NULL);
    if (actor->settled.count > 0) {
        return actor->now_ms;
    }
    uint64_t next = actor->ask_due_ms < actor->retry_ms ? actor->ask_due_ms : actor->retry_ms;
    for (int i = 0; i < actor->links_count; i++) {
        const ask_link *link = actor->links[i];
        uint64_t grace_ms = link->down_since_ms + LINK_GRACE_MS;
        if (!link->is_up && link->waiting.count > 0 && grace_ms < next) {
            next = grace_ms;
        }
    }
    return next;
}

void ask_life_end(tw_actor *actor)
{
    TW_ASSERT(actor != NULL);
    for (uint32_t i = 0; i < actor->ask_blocks_count; i++) {
        for (uint32_t j = 0; j < ASKS_PER_BLOCK; j++) {
            transport_packet_free(&actor->ask_blocks[i][j].packet);
        }
        tw_free(actor->ask_blocks[i]);
        actor->ask_blocks[i] = NULL;
    }
    actor->ask_blocks_count = 0;
    actor->ask_free = NULL;
    actor->settled = (ask_list){0};
    actor->asks_waiting = 0;
    for (int i = 0; i < actor->links_count; i++) {
        transport_close(&actor->links[i]->socket);
        tw_free(actor->links[i]);
        actor->links[i] = NULL;
    }
    actor->links_count = 0;
}
