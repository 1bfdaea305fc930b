/* load_adapter.c - raw websockets, nchan, NATS, MQTT 3.1.1 and Tidewire. */
#include "bench/support/load_adapter.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOPIC "load"

enum {
    TEXT = 0x1,
    BINARY = 0x2,
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

static void payload_write(uint8_t *ptr, size_t len, load_event event)
{
    memset(ptr, 'x', len);
    ptr[0] = 'T';
    ptr[1] = 'W';
    nibbles_write(ptr + 2, event.seq);
    nibbles_write(ptr + 10, event.due_ns & 0xffffffffU);
    nibbles_write(ptr + 18, event.due_ns >> 32);
}

static bool payload_read(load_client *client, load_conn *conn, const uint8_t *ptr, size_t len)
{
    if (len < LOAD_PAYLOAD_MIN || ptr[0] != 'T' || ptr[1] != 'W') {
        return false;
    }
    uint64_t due = nibbles_read(ptr + 18) << 32 | nibbles_read(ptr + 10);
    load_delivered(client, conn, (uint32_t)nibbles_read(ptr + 2), due);
    return true;
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
    if (!payload_read(client, conn, ptr, len)) {
        client->undecoded += conn->state == LOAD_READY && !conn->publishes ? 1 : 0;
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
        payload_write(load_bytes_room(&conn->out, len), len, events[i]);
    }
}

/* ---- nchan: as raw, but it greets nobody, and answers every publication ---- */

static void nchan_opened(load_client *client, load_conn *conn)
{
    load_is_ready(client, conn);
}

/* ---- NATS: lines, and payloads of a told length ---- */

static void nats_opened(load_client *client, load_conn *conn)
{
    static const char connect[] = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
    static const char subscribe[] = "SUB " TOPIC " 1\r\n";
    static const char ping[] = "PING\r\n";
    load_bytes all = {0};
    load_bytes_add(&all, connect, sizeof connect - 1);
    if (!conn->publishes) {
        load_bytes_add(&all, subscribe, sizeof subscribe - 1);
    }
    load_bytes_add(&all, ping, sizeof ping - 1);
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

static size_t nats_received(load_client *client, load_conn *conn, uint8_t *ptr, size_t len)
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
            client->undecoded += payload_read(client, conn, ptr + next, body) ? 0 : 1;
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

static void nats_publish(load_client *client, load_conn *conn, const load_event *events,
                         size_t count)
{
    size_t len = client->payload_bytes;
    char head[64];
    size_t head_len = tw_format(head, sizeof head, "PUB " TOPIC " %zu\r\n", len);
    load_frame_begin(conn, BINARY, count * (head_len + len + 2));
    for (size_t i = 0; i < count; i++) {
        load_bytes_add(&conn->out, head, head_len);
        payload_write(load_bytes_room(&conn->out, len), len, events[i]);
        load_bytes_add(&conn->out, "\r\n", 2);
    }
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

static void mqtt_packet(load_client *client, load_conn *conn, const uint8_t *ptr, size_t len,
                        uint8_t type)
{
    static const uint8_t subscribe[] = {0x82, 9, 0, 1, 0, 4, 'l', 'o', 'a', 'd', 0};
    switch (type >> 4) {
    case 2: /* CONNACK */
        if (conn->publishes) {
            load_is_ready(client, conn);
        } else {
            load_send(client, conn, BINARY, subscribe, sizeof subscribe);
        }
        break;
    case 9: /* SUBACK */
        load_is_ready(client, conn);
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

static size_t mqtt_head(uint8_t out[8], size_t body)
{
    size_t at = 0;
    out[at++] = 0x30;
    do {
        out[at++] = (uint8_t)((body & 0x7fU) | (body > 0x7f ? 0x80U : 0));
        body >>= 7;
    } while (body > 0);
    return at;
}

static void mqtt_publish(load_client *client, load_conn *conn, const load_event *events,
                         size_t count)
{
    static const uint8_t topic[] = {0, 4, 'l', 'o', 'a', 'd'};
    uint8_t head[8];
    size_t len = client->payload_bytes;
    size_t head_len = mqtt_head(head, sizeof topic + len);
    load_frame_begin(conn, BINARY, count * (head_len + sizeof topic + len));
    for (size_t i = 0; i < count; i++) {
        load_bytes_add(&conn->out, head, head_len);
        load_bytes_add(&conn->out, topic, sizeof topic);
        payload_write(load_bytes_room(&conn->out, len), len, events[i]);
    }
}

/* ---- Tidewire: an event is a record; many inserts in one batch, answered when on disk ---- */

static void tidewire_opened(load_client *client, load_conn *conn)
{
    if (conn->publishes) {
        load_is_ready(client, conn);
        return;
    }
    char text[128];
    size_t len =
        tw_format(text, sizeof text, "{\"type\":\"subscribe\",\"mux_id\":1,\"" TOPIC "\":\"*\"%s}",
                  client->from_start ? "" : ",\"since\":\"now\"");
    load_send(client, conn, TEXT, text, len);
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
    client->acked += count;
    if (client->due_ns != NULL) {
        uint64_t due = client->due_ns(client, (uint32_t)first);
        if (due >= client->measure_from_ns && due < client->measure_to_ns) {
            load_histogram_add(&client->ack, client->now_ns > due ? client->now_ns - due : 0);
        }
    }
}

static size_t tidewire_received(load_client *client, load_conn *conn, uint8_t *ptr, size_t len)
{
    static const char tail[] = "\",\"_version\":1}}"; /* the payload is the last field but one */
    size_t after = client->payload_bytes + sizeof tail - 1;
    if (len > after && payload_read(client, conn, ptr + len - after, client->payload_bytes)) {
        return len;
    }
    char text[256];
    tw_format(text, sizeof text, "%.*s", (int)(len < 250 ? len : 250), (const char *)ptr);
    if (conn->publishes) {
        tidewire_answered(client, text);
    } else if (strncmp(text, "{\"type\":\"sync\"", 14) == 0) {
        load_is_ready(client, conn);
    } else {
        client->undecoded++;
    }
    return len;
}

static void tidewire_publish(load_client *client, load_conn *conn, const load_event *events,
                             size_t count)
{
    size_t len = client->payload_bytes;
    size_t each = BATCH_BYTES_MAX / (len + 80);
    load_bytes text = {0};
    for (size_t done = 0; done < count;) {
        char part[128];
        size_t some = count - done < each ? count - done : each;
        text.len = 0;
        load_bytes_add(&text, part,
                       tw_format(part, sizeof part,
                                 "{\"action\":\"batch\",\"reqID\":%u,\"collection\":\"" TOPIC
                                 "\",\"ops\":[",
                                 events[done].seq));
        for (size_t i = 0; i < some; i++) {
            load_bytes_add(&text, part,
                           tw_format(part, sizeof part,
                                     "%s{\"op\":\"insert\",\"doc\":{\"_id\":%u,\"d\":\"",
                                     i == 0 ? "" : ",", events[done + i].seq));
            payload_write(load_bytes_room(&text, len), len, events[done + i]);
            load_bytes_add(&text, "\"}}", 3);
        }
        load_bytes_add(&text, "]}", 2);
        load_frame_begin(conn, TEXT, text.len);
        load_bytes_add(&conn->out, text.ptr, text.len);
        done += some;
    }
    tw_free(text.ptr);
}

static const load_adapter adapters[] = {
    {"raw", NULL, "/sub", "/pub", false, raw_opened, raw_received, raw_publish},
    {"nchan", NULL, "/sub", "/pub", false, nchan_opened, raw_received, raw_publish},
    {"nats", NULL, "/", "/", true, nats_opened, nats_received, nats_publish},
    {"mqtt", "mqtt", "/", "/", true, mqtt_opened, mqtt_received, mqtt_publish},
    {"tidewire", NULL, "/ws", "/db", false, tidewire_opened, tidewire_received, tidewire_publish},
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
