/* load_adapter.c - raw websockets, nchan, NATS, MQTT 3.1.1, redis and Tidewire. */
#include "bench/load/load_adapter.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    TEXT = 0x1,
    BINARY = 0x2,
    TOPIC_BYTES = 32,
    BATCH_BYTES_MAX = 60000, /* Tidewire takes client messages of up to 64 KiB */
};

/* ---- the event ---- */

static uint64_t nibbles_read(const uint8_t *ptr)
{
    uint64_t bits;
    memcpy(&bits, ptr, sizeof bits);
    bits &= 0x0f0f0f0f0f0f0f0fULL;
    bits = (bits | bits >> 4) & 0x00ff00ff00ff00ffULL;
    bits = (bits | bits >> 8) & 0x0000ffff0000ffffULL;
    return (bits | bits >> 16) & 0xffffffffULL;
}

/* Eight letters from '@' to 'O', the lowest four bits first: read without a branch. */
static void nibbles_write(uint8_t *ptr, uint64_t bits)
{
    for (unsigned i = 0; i < 8; i++) {
        ptr[i] = (uint8_t)(0x40U | ((bits >> (4 * i)) & 15U));
    }
}

static void payload_write(uint8_t *ptr, size_t len, const load_event *event)
{
    memset(ptr, 'x', len);
    ptr[0] = 'T';
    ptr[1] = 'W';
    nibbles_write(ptr + 2, event->topic);
    nibbles_write(ptr + 10, event->topic_seq);
    nibbles_write(ptr + 18, event->due_ns & 0xffffffffU);
    nibbles_write(ptr + 26, event->due_ns >> 32);
}

static bool payload_read(load_client *client, load_conn *conn, const uint8_t *ptr, size_t len)
{
    if (len < LOAD_PAYLOAD_MIN || ptr[0] != 'T' || ptr[1] != 'W') {
        return false;
    }
    uint64_t due = nibbles_read(ptr + 26) << 32 | nibbles_read(ptr + 18);
    load_delivered(client, conn, (uint32_t)nibbles_read(ptr + 2), (uint32_t)nibbles_read(ptr + 10),
                   due);
    return true;
}

/* "load", or that of one of several topics: "load.7". */
static size_t name_topic(const load_client *client, char out[TOPIC_BYTES], char between,
                         uint32_t topic)
{
    return client->has_topics ? tw_format(out, TOPIC_BYTES, "load%c%u", between, topic)
                              : tw_format(out, TOPIC_BYTES, "load");
}

/* ---- raw: a message is an event; the server greets whom it has subscribed ---- */

static void raw_opened(load_client *client, load_conn *conn)
{
    if (conn->publishes) {
        load_is_ready(client, conn);
    }
}

static size_t raw_received(load_client *client, load_conn *conn, uint8_t *ptr, size_t len)
{
    if (conn->publishes) { /* nchan says how many are queued, after each publication */
        load_acked(client, (uint32_t)client->acked, 1);
        return len;
    }
    if (!payload_read(client, conn, ptr, len)) {
        client->undecoded += conn->state == LOAD_READY ? 1 : 0;
        load_is_ready(client, conn);
    }
    return len;
}

static void raw_publish(load_client *client, load_conn *conn, const load_event *events,
                        size_t count)
{
    size_t len = client->payload_bytes;
    for (size_t i = 0; i < count; i++) {
        load_frame_begin(conn, TEXT, len);
        payload_write(load_bytes_room(&conn->out, len), len, &events[i]);
    }
}

/* ---- nchan: as raw, but it greets nobody, and answers every publication ---- */

static void nchan_opened(load_client *client, load_conn *conn)
{
    load_is_ready(client, conn);
}

/* "id: 1700000000:0\n...\n\n", then the event: the id is where one may go on. */
static size_t nchan_meta_received(load_client *client, load_conn *conn, uint8_t *ptr, size_t len)
{
    const uint8_t *end = memmem(ptr, len, "\n\n", 2);
    if (conn->publishes) {
        return raw_received(client, conn, ptr, len);
    }
    if (end == NULL || len < 4 || memcmp(ptr, "id: ", 4) != 0) {
        client->undecoded++;
        return len;
    }
    size_t head = (size_t)(end - ptr) + 2;
    size_t id = strcspn((const char *)ptr + 4, "\n");
    tw_format(client->position, sizeof client->position, "%.*s", (int)id, (const char *)ptr + 4);
    client->undecoded += payload_read(client, conn, ptr + head, len - head) ? 0 : 1;
    return len;
}

/* Each topic is a channel of its own, and a channel's publisher a path: so by requests. */
static void nchan_topics_publish(load_client *client, load_conn *conn, const load_event *events,
                                 size_t count)
{
    char head[160];
    size_t len = client->payload_bytes;
    for (size_t i = 0; i < count; i++) {
        load_bytes_add(&conn->out, head,
                       tw_format(head, sizeof head,
                                 "POST /topic?t=%u HTTP/1.1\r\nHost: load\r\n"
                                 "Content-Length: %zu\r\n\r\n",
                                 events[i].topic, len));
        payload_write(load_bytes_room(&conn->out, len), len, &events[i]);
    }
}

/* The answers of these requests: a head, and a body of a told length. */
static size_t nchan_topics_received(load_client *client, load_conn *conn, uint8_t *ptr, size_t len)
{
    static const char name[] = "Content-Length: ";
    size_t at = 0;
    if (!conn->publishes) {
        return raw_received(client, conn, ptr, len);
    }
    while (at < len) {
        const uint8_t *head = ptr + at;
        const uint8_t *end = memmem(head, len - at, "\r\n\r\n", 4);
        const uint8_t *told = end == NULL ? NULL : memmem(head, (size_t)(end - head), name, 16);
        unsigned long body = 0;
        for (const uint8_t *digit = told + 16; told != NULL && *digit != '\r'; digit++) {
            body = body * 10 + (*digit - (unsigned)'0');
        }
        if (end == NULL || len - at < (size_t)(end - head) + 4 + body) {
            break;
        }
        bool good = told != NULL && memcmp(head, "HTTP/1.1 20", 11) == 0;
        client->rejected += good ? 0 : 1;
        load_acked(client, (uint32_t)client->acked, good ? 1 : 0);
        at += (size_t)(end - head) + 4 + body;
    }
    return at;
}

/* ---- NATS: lines, and payloads of a told length ---- */

static void add_text(load_bytes *out, const char *text)
{
    load_bytes_add(out, text, strlen(text));
}

static const char nats_connect[] = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

static void nats_opened(load_client *client, load_conn *conn)
{
    char topic[TOPIC_BYTES], line[TOPIC_BYTES + 32];
    load_bytes all = {0};
    add_text(&all, nats_connect);
    for (uint32_t i = 0; !conn->publishes && i < (client->has_topics ? conn->slots_count : 1);
         i++) {
        name_topic(client, topic, '.', client->has_topics ? conn->slots[i].topic : 0);
        tw_format(line, sizeof line, "SUB %s %u\r\n", topic, i + 1);
        add_text(&all, line);
    }
    add_text(&all, "PING\r\n");
    load_send(client, conn, BINARY, all.ptr, all.len);
    tw_free(all.ptr);
}

/* The number at the end of "MSG load 1 128". */
static size_t nats_size(const uint8_t *line, size_t len)
{
    size_t size = 0, scale = 1;
    for (size_t i = len; i > 0 && line[i - 1] != ' '; i--, scale *= 10) {
        size += (size_t)(line[i - 1] - '0') * scale;
    }
    return size;
}

typedef bool nats_message(load_client *client, load_conn *conn, const uint8_t *ptr, size_t len);

static size_t nats_lines(load_client *client, load_conn *conn, uint8_t *ptr, size_t len,
                         nats_message *message)
{
    size_t at = 0;
    while (at < len && conn->state != LOAD_CLOSED) {
        uint8_t *line = ptr + at;
        const uint8_t *end = memchr(line, '\r', len - at);
        if (end == NULL || (size_t)(end - line) + 2 > len - at) {
            break;
        }
        size_t size = (size_t)(end - line);
        size_t next = at + size + 2;
        if (size > 4 && memcmp(line, "MSG ", 4) == 0) {
            size_t body = nats_size(line, size);
            if (len - next < body + 2) {
                break;
            }
            client->undecoded += message(client, conn, ptr + next, body) ? 0 : 1;
            next += body + 2;
        } else if (size == 4 && memcmp(line, "PONG", 4) == 0) {
            load_is_ready(client, conn);
        } else if (size == 4 && memcmp(line, "PING", 4) == 0) {
            load_send(client, conn, BINARY, "PONG\r\n", 6);
        } else if (line[0] == '-') {
            client->rejected++;
        }
        at = next;
    }
    return at;
}

static size_t nats_received(load_client *client, load_conn *conn, uint8_t *ptr, size_t len)
{
    return nats_lines(client, conn, ptr, len, payload_read);
}

/* reply: "" or a subject and a blank, where the server is to answer. */
static void nats_put(load_client *client, load_conn *conn, const load_event *events, size_t count,
                     const char *reply)
{
    size_t len = client->payload_bytes;
    char topic[TOPIC_BYTES], head[TOPIC_BYTES + 64];
    load_bytes all = {0};
    for (size_t i = 0; i < count; i++) {
        name_topic(client, topic, '.', events[i].topic);
        tw_format(head, sizeof head, "PUB %s %s%zu\r\n", topic, reply, len);
        add_text(&all, head);
        payload_write(load_bytes_room(&all, len), len, &events[i]);
        add_text(&all, "\r\n");
    }
    load_frame_begin(conn, BINARY, all.len);
    load_bytes_add(&conn->out, all.ptr, all.len);
    tw_free(all.ptr);
}

static void nats_publish(load_client *client, load_conn *conn, const load_event *events,
                         size_t count)
{
    nats_put(client, conn, events, count, "");
}

/* ---- JetStream: the publisher makes the stream, each subscriber an ordered consumer of it ---- */

static void jetstream_opened(load_client *client, load_conn *conn)
{
    char body[320], head[160];
    load_bytes all = {0};
    unsigned long long name = client->opened * 65536 + (unsigned long long)conn->fd;
    if (conn->publishes) {
        client->publisher_name = name;
        tw_format(body, sizeof body,
                  "{\"name\":\"LOAD\",\"subjects\":[\"load\"],\"storage\":\"file\"}");
        tw_format(head, sizeof head,
                  "SUB answer.%llu 9\r\nPUB $JS.API.STREAM.CREATE.LOAD answer.%llu %zu\r\n", name,
                  name, strlen(body));
    } else {
        char start[64] = "\"new\"";
        if (client->from_start) {
            tw_format(start, sizeof start, "\"all\"");
        } else if (client->since[0] != '\0') {
            tw_format(start, sizeof start, "\"by_start_sequence\",\"opt_start_seq\":%u",
                      client->first_seq + 1);
        }
        tw_format(body, sizeof body,
                  "{\"stream_name\":\"LOAD\",\"config\":{\"deliver_subject\":\"to.%llu\","
                  "\"deliver_policy\":%s,\"ack_policy\":\"none\",\"mem_storage\":true,"
                  "\"inactive_threshold\":60000000000}}",
                  name, start);
        tw_format(head, sizeof head,
                  "SUB answer.%llu 9\r\nSUB to.%llu 1\r\n"
                  "PUB $JS.API.CONSUMER.CREATE.LOAD answer.%llu %zu\r\n",
                  name, name, name, strlen(body));
    }
    add_text(&all, nats_connect);
    add_text(&all, head);
    add_text(&all, body);
    add_text(&all, "\r\n");
    load_send(client, conn, BINARY, all.ptr, all.len);
    tw_free(all.ptr);
}

/* An event, or an answer: of the stream's or consumer's making, then of each publication. */
static bool jetstream_message(load_client *client, load_conn *conn, const uint8_t *ptr, size_t len)
{
    char text[512];
    unsigned long long seq = 0;
    if (!conn->publishes && payload_read(client, conn, ptr, len)) {
        return true;
    }
    tw_format(text, sizeof text, "%.*s", (int)(len < 500 ? len : 500), (const char *)ptr);
    const char *at = strstr(text, "\"seq\":");
    if (strstr(text, "\"error\"") != NULL) {
        if (client->rejected++ == 0) {
            fprintf(stderr, "load: %.300s\n", text);
        }
    } else if (conn->state == LOAD_OPENING) {
        load_is_ready(client, conn);
    } else if (at != NULL && sscanf(at, "\"seq\":%llu", &seq) == 1 && seq > 0) {
        load_acked(client, (uint32_t)seq - 1, 1);
    } else {
        return false;
    }
    return true;
}

static size_t jetstream_received(load_client *client, load_conn *conn, uint8_t *ptr, size_t len)
{
    return nats_lines(client, conn, ptr, len, jetstream_message);
}

/* The publisher is the only one that waits for "answer.": each publication is answered there. */
static void jetstream_publish(load_client *client, load_conn *conn, const load_event *events,
                              size_t count)
{
    char reply[48];
    tw_format(reply, sizeof reply, "answer.%llu ", client->publisher_name);
    nats_put(client, conn, events, count, reply);
}

/* ---- MQTT 3.1.1: packets with a length of seven bits a byte ---- */

static void mqtt_opened(load_client *client, load_conn *conn)
{
    static const uint8_t fixed[] = {0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0};
    uint8_t packet[64] = {0x10};
    char name[24];
    size_t len =
        tw_format(name, sizeof name, "c%llu-%d", (unsigned long long)client->now_ns, conn->fd);
    packet[1] = (uint8_t)(sizeof fixed + 2 + len);
    memcpy(packet + 2, fixed, sizeof fixed);
    packet[2 + sizeof fixed + 1] = (uint8_t)len;
    memcpy(packet + 4 + sizeof fixed, name, len);
    load_send(client, conn, BINARY, packet, 4 + sizeof fixed + len);
}

static size_t mqtt_head(uint8_t out[8], uint8_t type, size_t body)
{
    size_t at = 0;
    out[at++] = type;
    do {
        out[at++] = (uint8_t)((body & 0x7fU) | (body > 0x7f ? 0x80U : 0));
        body >>= 7;
    } while (body > 0);
    return at;
}

static bool retains(const load_client *client)
{
    return strcmp(client->adapter->name, "mqtt-retain") == 0;
}

static void mqtt_subscribe(load_client *client, load_conn *conn)
{
    load_bytes body = {0};
    uint8_t head[8];
    load_bytes_add(&body, "\0\1", 2); /* packet id */
    for (uint32_t i = 0; i < (client->has_topics ? conn->slots_count : 1); i++) {
        char topic[TOPIC_BYTES];
        size_t len = name_topic(client, topic, '/', client->has_topics ? conn->slots[i].topic : 0);
        len = retains(client) ? tw_format(topic, sizeof topic, "load/#") : len;
        const uint8_t size[2] = {0, (uint8_t)len};
        load_bytes_add(&body, size, 2);
        load_bytes_add(&body, topic, len);
        load_bytes_add(&body, "\0", 1); /* QoS 0 */
    }
    size_t head_len = mqtt_head(head, 0x82, body.len);
    load_frame_begin(conn, BINARY, head_len + body.len);
    load_bytes_add(&conn->out, head, head_len);
    load_bytes_add(&conn->out, body.ptr, body.len);
    load_flush(client, conn);
    tw_free(body.ptr);
}

static void mqtt_packet(load_client *client, load_conn *conn, const uint8_t *ptr, size_t len,
                        uint8_t type)
{
    switch (type >> 4) {
    case 2: /* CONNACK */
        if (conn->publishes) {
            load_is_ready(client, conn);
        } else {
            mqtt_subscribe(client, conn);
        }
        break;
    case 9: /* SUBACK */
        load_is_ready(client, conn);
        break;
    case 4: /* PUBACK */
        load_acked(client, (uint32_t)client->acked, 1);
        break;
    case 3: { /* PUBLISH, QoS 0: topic, payload */
        size_t topic = len < 2 ? 0 : (size_t)ptr[0] << 8 | ptr[1];
        bool good = len > 2 + topic && payload_read(client, conn, ptr + 2 + topic, len - 2 - topic);
        client->undecoded += good ? 0 : 1;
        break;
    }
    default:
        break;
    }
}

static size_t mqtt_received(load_client *client, load_conn *conn, uint8_t *ptr, size_t len)
{
    size_t at = 0;
    while (at < len && conn->state != LOAD_CLOSED) {
        size_t size = 0, head = 1;
        bool more = true;
        while (more && at + head < len && head <= 4) {
            uint8_t byte = ptr[at + head];
            size |= (size_t)(byte & 0x7fU) << (7 * (head - 1));
            more = (byte & 0x80U) != 0;
            head++;
        }
        if (more || len - at < head + size) {
            break;
        }
        mqtt_packet(client, conn, ptr + at + head, size, ptr[at]);
        at += head + size;
    }
    return at;
}

static void mqtt_publish(load_client *client, load_conn *conn, const load_event *events,
                         size_t count)
{
    size_t len = client->payload_bytes;
    load_bytes all = {0};
    for (size_t i = 0; i < count; i++) {
        char topic[TOPIC_BYTES];
        uint8_t head[8];
        size_t topic_len = name_topic(client, topic, '/', events[i].topic);
        const uint8_t size[2] = {0, (uint8_t)topic_len};
        load_bytes_add(&all, head, mqtt_head(head, 0x30, 2 + topic_len + len));
        load_bytes_add(&all, size, 2);
        load_bytes_add(&all, topic, topic_len);
        payload_write(load_bytes_room(&all, len), len, &events[i]);
    }
    load_frame_begin(conn, BINARY, all.len);
    load_bytes_add(&conn->out, all.ptr, all.len);
    tw_free(all.ptr);
}

/* Each event is retained by a topic of its own, and answered (QoS 1). */
static void mqtt_retain_publish(load_client *client, load_conn *conn, const load_event *events,
                                size_t count)
{
    size_t len = client->payload_bytes;
    load_bytes all = {0};
    for (size_t i = 0; i < count; i++) {
        char topic[TOPIC_BYTES];
        uint8_t head[8];
        size_t topic_len = tw_format(topic, sizeof topic, "load/%u", events[i].seq);
        uint16_t id = (uint16_t)(events[i].seq % 65535 + 1);
        const uint8_t size[2] = {0, (uint8_t)topic_len};
        const uint8_t number[2] = {(uint8_t)(id >> 8), (uint8_t)id};
        load_bytes_add(&all, head, mqtt_head(head, 0x33, 4 + topic_len + len));
        load_bytes_add(&all, size, 2);
        load_bytes_add(&all, topic, topic_len);
        load_bytes_add(&all, number, 2);
        payload_write(load_bytes_room(&all, len), len, &events[i]);
    }
    load_frame_begin(conn, BINARY, all.len);
    load_bytes_add(&conn->out, all.ptr, all.len);
    tw_free(all.ptr);
}

/* ---- redis, without websockets: SET is answered when it is on disk, PUBLISH tells ---- */

static void redis_opened(load_client *client, load_conn *conn)
{
    if (conn->publishes) {
        load_is_ready(client, conn);
        return;
    }
    add_text(&conn->out, "*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nload\r\n");
}

static void redis_publish(load_client *client, load_conn *conn, const load_event *events,
                          size_t count)
{
    char head[128], key[24];
    size_t len = client->payload_bytes;
    for (size_t i = 0; i < count; i++) {
        size_t key_len = tw_format(key, sizeof key, "load:%u", events[i].seq);
        load_bytes_add(&conn->out, head,
                       tw_format(head, sizeof head, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n",
                                 key_len, key, len));
        payload_write(load_bytes_room(&conn->out, len), len, &events[i]);
        add_text(&conn->out, "\r\n");
        if (client->opened == 1) { /* there is nobody else */
            continue;
        }
        load_bytes_add(
            &conn->out, head,
            tw_format(head, sizeof head, "*3\r\n$7\r\nPUBLISH\r\n$4\r\nload\r\n$%zu\r\n", len));
        payload_write(load_bytes_room(&conn->out, len), len, &events[i]);
        add_text(&conn->out, "\r\n");
    }
}

/* Lines: +OK, :N, -ERR, and for a subscriber arrays whose last bulk is the event. */
static size_t redis_received(load_client *client, load_conn *conn, uint8_t *ptr, size_t len)
{
    static const char message[] = "*3\r\n$7\r\nmessage\r\n$4\r\nload\r\n$";
    const size_t before = sizeof message - 1;
    size_t at = 0;
    while (at < len) {
        uint8_t *line = ptr + at;
        size_t left = len - at, compared = left < before ? left : before;
        bool event = !conn->publishes && memcmp(line, message, compared) == 0;
        size_t skipped = event && left >= before ? before : 0;
        const uint8_t *end = memchr(line + skipped, '\n', left - skipped);
        if (end == NULL || (event && left < before)) {
            break;
        }
        size_t size = (size_t)(end - line) + 1;
        if (event) {
            size_t body = client->payload_bytes;
            if (left < size + body + 2) {
                break;
            }
            client->undecoded += payload_read(client, conn, line + size, body) ? 0 : 1;
            size += body + 2;
        } else if (line[0] == '-') {
            if (client->rejected++ == 0) {
                fprintf(stderr, "load: %.*s", (int)(size < 300 ? size : 300), (const char *)line);
            }
        } else if (line[0] == '+') {
            load_acked(client, (uint32_t)client->acked, 1);
        } else if (line[0] == ':' && !conn->publishes) {
            load_is_ready(client, conn);
        }
        at += size;
    }
    return at;
}

/* ---- Tidewire: an event is a record; many inserts in one batch, answered when on disk ---- */

/* A regular expression for the one text "t<topic>", without a plain letter that an index could use:
 * "^[t][1][2]$". */
static void expression_without_letters(uint32_t topic, char out[48])
{
    char digits[12];
    size_t len = tw_format(out, 48, "^[t]");
    size_t count = tw_format(digits, sizeof digits, "%u", topic);
    for (size_t i = 0; i < count; i++) {
        len += tw_format(out + len, 48 - len, "[%c]", digits[i]);
    }
    tw_format(out + len, 48 - len, "$");
}

/* "*", or what selects a topic; where `scanned`, no index can find who is concerned. */
static void tidewire_selection(const load_client *client, const load_conn *conn, uint32_t i,
                               char out[96])
{
    if (client->variants > 0) {
        tw_format(out, 96, "{\"filter\":{\"_id\":{\"$gt\":-%llu}}}",
                  (unsigned long long)(1 + conn->number % client->variants));
        return;
    }
    if (!client->has_topics) {
        tw_format(out, 96, "\"*\"");
        return;
    }
    uint32_t topic = conn->slots[i].topic;
    if (topic % 100 < client->scanned_percent) {
        char expression[48];
        expression_without_letters(topic, expression);
        tw_format(out, 96, "{\"filter\":{\"s\":{\"$regex\":\"%s\"}}}", expression);
        return;
    }
    tw_format(out, 96, "{\"filter\":{\"t\":%u}}", topic);
}

static void tidewire_opened(load_client *client, load_conn *conn)
{
    if (conn->publishes) {
        load_is_ready(client, conn);
        return;
    }
    const char *from = client->from_start ? "" : ",\"since\":\"now\"";
    from = client->since[0] != '\0' ? client->since : from;
    uint32_t streams = client->has_topics ? conn->slots_count : 1;
    for (uint32_t i = 0; i < streams; i++) {
        char text[1024], selection[96];
        tidewire_selection(client, conn, i, selection);
        size_t len =
            tw_format(text, sizeof text,
                      "{\"type\":\"subscribe\",\"mux_id\":%u,\"collections\":{\"%s\":%s}%s}", i + 1,
                      client->collection, selection, from);
        load_frame_begin(conn, TEXT, len);
        load_bytes_add(&conn->out, text, len);
    }
    load_flush(client, conn);
}

/* {"action":"batch","reqID":N,...,"count":N ...}; N of reqID is the first event's number. */
static void tidewire_answered(load_client *client, const char *text)
{
    unsigned long long first = 0, count = 0;
    const char *at = strstr(text, "\"count\":");
    if (at == NULL || sscanf(at, "\"count\":%llu", &count) != 1 ||
        sscanf(text, "{\"action\":\"batch\",\"reqID\":%llu", &first) != 1) {
        if (client->rejected++ == 0) {
            fprintf(stderr, "load: %.200s\n", text);
        }
        return;
    }
    load_acked(client, (uint32_t)first, count);
}

/* Of the last sync: where a stream may go on, in the words of a subscribe. */
static void tidewire_keep_position(load_client *client, const char *text)
{
    const char *since = strstr(text, "\"since\":");
    const char *end = since == NULL ? NULL : strstr(since, "]]");
    if (end != NULL) {
        tw_format(client->position, sizeof client->position, ",%.*s", (int)(end + 2 - since),
                  since);
    }
}

static size_t tidewire_received(load_client *client, load_conn *conn, uint8_t *ptr, size_t len)
{
    static const char tail[] = "\",\"_version\":1}}"; /* the payload is the last field but one */
    size_t after = client->payload_bytes + sizeof tail - 1;
    if (len > after && payload_read(client, conn, ptr + len - after, client->payload_bytes)) {
        return len;
    }
    if (conn->publishes && client->on_reply != NULL &&
        client->on_reply(client->reply_context, (const char *)ptr, len)) {
        return len;
    }
    char text[512];
    tw_format(text, sizeof text, "%.*s", (int)(len < 500 ? len : 500), (const char *)ptr);
    if (conn->publishes) {
        tidewire_answered(client, text);
    } else if (strncmp(text, "{\"type\":\"sync\"", 14) == 0) {
        tidewire_keep_position(client, text);
        conn->synced++;
        if (conn->synced >= (client->has_topics ? conn->slots_count : 1)) {
            load_is_ready(client, conn);
        }
    } else if (client->undecoded++ == 0) {
        fprintf(stderr, "load: %.200s\n", text);
    }
    return len;
}

/* One operation: the payload is the document's last field. */
static void tidewire_insert(const load_client *client, load_bytes *text, const load_event *event,
                            bool first)
{
    char part[192];
    size_t len = client->payload_bytes;
    add_text(text, first ? "{\"op\":\"insert\",\"doc\":{" : ",{\"op\":\"insert\",\"doc\":{");
    load_bytes_add(text, part, tw_format(part, sizeof part, "\"_id\":%u,", event->seq));
    if (client->has_topics) {
        load_bytes_add(
            text, part,
            tw_format(part, sizeof part, "\"t\":%u,\"s\":\"t%u\",", event->topic, event->topic));
    }
    if (client->words > 0) {
        load_bytes_add(text, part,
                       tw_format(part, sizeof part, "\"w\":\"word%u of the record %u\",",
                                 event->seq % client->words, event->seq));
    }
    add_text(text, "\"d\":\"");
    payload_write(load_bytes_room(text, len), len, event);
    add_text(text, "\"}}");
}

static void tidewire_publish(load_client *client, load_conn *conn, const load_event *events,
                             size_t count)
{
    size_t each = BATCH_BYTES_MAX / (client->payload_bytes + 160);
    load_bytes text = {0};
    for (size_t done = 0; done < count;) {
        char part[192];
        size_t some = count - done < each ? count - done : each;
        text.len = 0;
        load_bytes_add(
            &text, part,
            tw_format(part, sizeof part,
                      "{\"action\":\"batch\",\"reqID\":%u,\"collection\":\"%s\",\"ops\":[",
                      events[done].seq, client->collection));
        for (size_t i = 0; i < some; i++) {
            tidewire_insert(client, &text, &events[done + i], i == 0);
        }
        load_bytes_add(&text, "]}", 2);
        load_frame_begin(conn, TEXT, text.len);
        load_bytes_add(&conn->out, text.ptr, text.len);
        done += some;
    }
    tw_free(text.ptr);
}

static const load_adapter adapters[] = {
    {.name = "raw",
     .subscribe_path = "/sub",
     .publish_path = "/pub",
     .topics_by_path = true,
     .opened = raw_opened,
     .received = raw_received,
     .publish = raw_publish},
    {.name = "nchan",
     .subscribe_path = "/sub",
     .publish_path = "/pub",
     .opened = nchan_opened,
     .received = raw_received,
     .publish = raw_publish},
    {.name = "nchan-all", /* from the oldest that it keeps */
     .subscribe_path = "/all",
     .publish_path = "/pub",
     .opened = nchan_opened,
     .received = raw_received,
     .publish = raw_publish},
    {.name = "nchan-meta",
     .subprotocol = "ws+meta.nchan",
     .subscribe_path = "/sub",
     .publish_path = "/pub",
     .resumes_by_path = true,
     .opened = nchan_opened,
     .received = nchan_meta_received,
     .publish = raw_publish},
    {.name = "nchan-topics",
     .subscribe_path = "/topics",
     .publish_path = "/topic",
     .topics_by_path = true,
     .plain_publisher = true,
     .opened = nchan_opened,
     .received = nchan_topics_received,
     .publish = nchan_topics_publish},
    {.name = "nats",
     .subscribe_path = "/",
     .publish_path = "/",
     .is_stream = true,
     .opened = nats_opened,
     .received = nats_received,
     .publish = nats_publish},
    {.name = "jetstream",
     .subscribe_path = "/",
     .publish_path = "/",
     .is_stream = true,
     .opened = jetstream_opened,
     .received = jetstream_received,
     .publish = jetstream_publish},
    {.name = "mqtt",
     .subprotocol = "mqtt",
     .subscribe_path = "/",
     .publish_path = "/",
     .is_stream = true,
     .opened = mqtt_opened,
     .received = mqtt_received,
     .publish = mqtt_publish},
    {.name = "mqtt-retain",
     .subprotocol = "mqtt",
     .subscribe_path = "/",
     .publish_path = "/",
     .is_stream = true,
     .opened = mqtt_opened,
     .received = mqtt_received,
     .publish = mqtt_retain_publish},
    {.name = "redis",
     .plain = true,
     .is_stream = true,
     .opened = redis_opened,
     .received = redis_received,
     .publish = redis_publish},
    {.name = "tidewire",
     .subscribe_path = "/ws",
     .publish_path = "/db",
     .opened = tidewire_opened,
     .received = tidewire_received,
     .publish = tidewire_publish},
};

const load_adapter *load_adapter_find(const char *name)
{
    for (size_t i = 0; i < TW_COUNT(adapters); i++) {
        if (strcmp(adapters[i].name, name) == 0) {
            return &adapters[i];
        }
    }
    return NULL;
}
