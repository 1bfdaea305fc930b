/* admission.c - see admission.h. */
#include "gateways/web/admission.h"

enum {
    ADMISSION_SEARCH_MS = 100, /* told as after_ms where searches of the asker are running */
};

tw_err admission_init(edge *self)
{
    STAILQ_INIT(&self->throttled);
    tw_err err = tally_init(&self->addresses, TW_CONNECTIONS_MAX, tw_random(self->actor));
    err = err == TW_OK ? tally_init(&self->users, TW_CONNECTIONS_MAX, tw_random(self->actor)) : err;
    self->users_seed = tw_random(self->actor);
    return err;
}

void admission_fini(edge *self)
{
    tally_fini(&self->addresses);
    tally_fini(&self->users);
}

/* ---- connections ---- */

bool admission_may_accept(edge *self, int tag)
{
    const bucket_rate rate = self->options->limits.accepts;
    return tag == EDGE_ADMIN || bucket_take(&self->accepts, rate, tw_now_ms(self->actor)) == 0;
}

/* Counts it as one more of its address. */
static admission count_address(edge *self, connection *conn)
{
    const gateway_limits *limits = &self->options->limits;
    if (limits->address_connections == 0 ||
        network_has_any(limits->exempt, limits->exempt_count, &conn->peer)) {
        return ADMISSION_GRANTED;
    }
    network_address site = network_site(&conn->peer);
    memcpy(&conn->address, site.bytes, sizeof conn->address);
    uint32_t count = tally_add(&self->addresses, conn->address);
    TW_ASSERT(count > 0); /* the table has room for as many addresses as there are connections */
    if (count <= limits->address_connections) {
        return ADMISSION_GRANTED;
    }
    self->figures.refused_address++;
    return count <= 2 * (uint64_t)limits->address_connections ? ADMISSION_REFUSED
                                                              : ADMISSION_DROPPED;
}

admission admission_enter(edge *self, connection *conn, const struct sockaddr *from)
{
    const gateway_limits *limits = &self->options->limits;
    if (!network_of_socket(from, &conn->peer) || conn->listener == EDGE_ADMIN) {
        return ADMISSION_GRANTED;
    }
    conn->is_proxy = network_has_any(limits->proxies, limits->proxies_count, &conn->peer);
    return conn->is_proxy ? ADMISSION_GRANTED : count_address(self, conn);
}

static void uncount(tally *from, tally_key *key)
{
    if (key->at[0] != 0 || key->at[1] != 0) {
        tally_drop(from, *key);
        *key = (tally_key){0};
    }
}

bool admission_forwarded(edge *self, connection *conn, tw_str list)
{
    const gateway_limits *limits = &self->options->limits;
    network_address client;
    if (!conn->is_proxy ||
        !network_forwarded(list, limits->proxies, limits->proxies_count, &client) ||
        memcmp(&client, &conn->peer, sizeof client) == 0) {
        return true;
    }
    uncount(&self->addresses, &conn->address);
    conn->peer = client;
    return count_address(self, conn) == ADMISSION_GRANTED;
}

void admission_leave(edge *self, connection *conn)
{
    uncount(&self->addresses, &conn->address);
    uncount(&self->users, &conn->user);
    if (conn->throttled) {
        STAILQ_REMOVE(&self->throttled, conn, connection, throttle);
        conn->throttled = false;
    }
}

bool admission_enter_user(edge *self, connection *conn)
{
    uint32_t limit = self->options->limits.user_connections;
    tw_str subject = rights_subject(conn->identity.rights);
    bool counted = conn->user.at[0] != 0 || conn->user.at[1] != 0;
    if (limit == 0 || counted || subject.len == 0) {
        return true;
    }
    conn->user = (tally_key){{tw_hash(subject.ptr, subject.len, self->users_seed),
                              tw_hash(subject.ptr, subject.len, ~self->users_seed) | 1}};
    if (tally_of(&self->users, conn->user) < limit) {
        uint32_t count = tally_add(&self->users, conn->user);
        TW_ASSERT(count > 0);
        return true;
    }
    conn->user = (tally_key){0};
    self->figures.refused_user++;
    return false;
}

/* ---- rates ---- */

void admission_charge(edge *self, connection *conn)
{
    const bucket_rate rate = self->options->limits.messages;
    uint64_t now_ms = tw_now_ms(self->actor);
    if (bucket_charge(&conn->messages, rate, now_ms) || conn->throttled || conn->socket == NULL) {
        return;
    }
    conn->throttled = true;
    self->figures.throttled++;
    STAILQ_INSERT_TAIL(&self->throttled, conn, throttle);
    lws_link_read(conn->socket, false);
}

void admission_tick(edge *self)
{
    const bucket_rate rate = self->options->limits.messages;
    uint64_t now_ms = tw_now_ms(self->actor);
    connection *next = NULL;
    for (connection *conn = STAILQ_FIRST(&self->throttled); conn != NULL; conn = next) {
        next = STAILQ_NEXT(conn, throttle);
        conn->heard_ms = now_ms; /* what it says is not listened to: no silence of its own */
        if (bucket_is_good(&conn->messages, rate, now_ms) || conn->dead) {
            STAILQ_REMOVE(&self->throttled, conn, connection, throttle);
            conn->throttled = false;
            if (!conn->dead) {
                lws_link_read(conn->socket, true);
            }
        }
    }
}

uint64_t admission_subscribe(edge *self, connection *conn)
{
    uint64_t after_ms =
        bucket_take(&conn->subscribes, self->options->limits.subscribes, tw_now_ms(self->actor));
    self->figures.refused_rate += after_ms > 0 ? 1 : 0;
    return after_ms;
}

uint64_t admission_search(edge *self, connection *conn)
{
    const gateway_limits *limits = &self->options->limits;
    uint64_t after_ms = 0;
    if (limits->searches_at_once > 0 &&
        request_searches_of(self->requests, conn->id) >= limits->searches_at_once) {
        after_ms = ADMISSION_SEARCH_MS;
    } else {
        after_ms = bucket_take(&conn->searches, limits->searches, tw_now_ms(self->actor));
    }
    self->figures.refused_rate += after_ms > 0 ? 1 : 0;
    return after_ms;
}
