/* adapters.c - how each server of the benches is spoken to; see wsload.h. */
#include <stdio.h>
#include <string.h>

#include "bench/support/wsload.h"

/* ---- Tidewire: subscribe, put; an event is a record whose field p is the payload ---- */
static size_t tidewire_greet(char *out, size_t size, bool publisher)
{
    if (publisher) {
        return 0;
    }
    return (size_t)snprintf(out, size,
                            "{\"type\":\"subscribe\",\"mux_id\":1,\"since\":\"now\","
                            "\"collections\":{\"bench\":\"*\"}}");
}

static size_t tidewire_publish(char *out, size_t size, uint64_t number, const char *payload,
                               size_t len)
{
    return (size_t)snprintf(out, size,
                            "{\"action\":\"put\",\"reqID\":%llu,\"collection\":\"bench\",\"doc\":{"
                            "\"_id\":%llu,\"p\":\"%.*s\"}}",
                            (unsigned long long)number, (unsigned long long)number, (int)len,
                            payload);
}

static size_t tidewire_take(wsload *load, wsload_conn *conn, const char *bytes, size_t len)
{
    static const char record[] = "{\"type\":\"record\"";
    static const char sync[] = "{\"type\":\"sync\"";
    static const char error[] = "{\"type\":\"error\"";
    if (len > sizeof(record) && memcmp(bytes, record, sizeof(record) - 1) == 0) {
        const char *at = memmem(bytes, len, "\"p\":\"", 5);
        if (at != NULL) {
            wsload_delivered(load, conn, at + 5, (size_t)(bytes + len - at - 5));
        }
    } else if (len > sizeof(sync) && memcmp(bytes, sync, sizeof(sync) - 1) == 0) {
        wsload_ready(load, conn);
    } else if (len > sizeof(error) && memcmp(bytes, error, sizeof(error) - 1) == 0) {
        fprintf(stderr, "wsload: %.*s\n", (int)len, bytes);
    }
    return len;
}

const wsload_adapter wsload_tidewire = {
    .name = "tidewire",
    .path = "/ws",
    .subprotocol = "",
    .greet = tidewire_greet,
    .publish = tidewire_publish,
    .take = tidewire_take,
};

/* ---- NATS: its text protocol in binary frames, one message may span frames ---- */
static size_t nats_greet(char *out, size_t size, bool publisher)
{
    return (size_t)snprintf(out, size, "CONNECT {\"verbose\":false,\"protocol\":1}\r\n%sPING\r\n",
                            publisher ? "" : "SUB bench 1\r\n");
}

static size_t nats_publish(char *out, size_t size, uint64_t number, const char *payload, size_t len)
{
    (void)number;
    return (size_t)snprintf(out, size, "PUB bench %zu\r\n%.*s\r\n", len, (int)len, payload);
}

static size_t nats_take(wsload *load, wsload_conn *conn, const char *bytes, size_t len)
{
    size_t at = 0;
    for (;;) {
        const char *line = bytes + at;
        const char *end = len == at ? NULL : memmem(line, len - at, "\r\n", 2);
        if (end == NULL) {
            return at;
        }
        size_t head = (size_t)(end - line) + 2;
        if (memcmp(line, "MSG ", 4) == 0) {
            size_t size = 0;
            const char *number = memrchr(line, ' ', (size_t)(end - line));
            for (number++; number < end; number++) {
                size = size * 10 + (size_t)(*number - '0');
            }
            if (len - at < head + size + 2) {
                return at;
            }
            wsload_delivered(load, conn, line + head, size);
            at += head + size + 2;
            continue;
        }
        if (memcmp(line, "PONG", 4) == 0) {
            wsload_ready(load, conn);
        }
        at += head;
    }
}

const wsload_adapter wsload_nats = {
    .name = "nats-server",
    .path = "/",
    .subprotocol = "",
    .binary = true,
    .stream = true,
    .greet = nats_greet,
    .publish = nats_publish,
    .take = nats_take,
};

/* ---- MQTT 3.1.1, quality of service 0 ---- */
static size_t mqtt_greet(char *out, size_t size, bool publisher)
{
    /* CONNECT: protocol MQTT 4, clean session, no keep-alive, an empty client id */
    static const char connect[] = "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00";
    /* SUBSCRIBE: packet 1, topic bench, quality 0 */
    static const char subscribe[] = "\x82\x0a\x00\x01\x00\x05"
                                    "bench\x00";
    size_t len = sizeof(connect) - 1;
    (void)size;
    memcpy(out, connect, len);
    if (!publisher) {
        memcpy(out + len, subscribe, sizeof(subscribe) - 1);
        len += sizeof(subscribe) - 1;
    }
    return len;
}

static size_t mqtt_publish(char *out, size_t size, uint64_t number, const char *payload, size_t len)
{
    size_t rest = 2 + 5 + len;
    size_t at = 0;
    (void)size;
    (void)number;
    out[at++] = 0x30;
    do {
        out[at++] = (char)((rest & 127) | (rest > 127 ? 128 : 0));
        rest >>= 7;
    } while (rest > 0);
    memcpy(out + at,
           "\x00\x05"
           "bench",
           7);
    memcpy(out + at + 7, payload, len);
    return at + 7 + len;
}

static size_t mqtt_take(wsload *load, wsload_conn *conn, const char *bytes, size_t len)
{
    size_t at = 0;
    for (;;) {
        size_t rest = 0, head = 1, shift = 0;
        bool whole = false;
        while (at + head < len && !whole && head < 5) {
            uint8_t byte = (uint8_t)bytes[at + head++];
            rest |= (size_t)(byte & 127) << shift;
            shift += 7;
            whole = byte < 128;
        }
        if (!whole || len - at < head + rest) {
            return at;
        }
        uint8_t kind = (uint8_t)bytes[at] >> 4;
        if (kind == 9) {
            wsload_ready(load, conn);
        } else if (kind == 3) {
            wsload_delivered(load, conn, bytes + at + head + 7, rest - 7);
        }
        at += head + rest;
    }
}

const wsload_adapter wsload_mqtt = {
    .name = "mosquitto",
    .path = "/mqtt",
    .subprotocol = "mqtt",
    .binary = true,
    .stream = true,
    .greet = mqtt_greet,
    .publish = mqtt_publish,
    .take = mqtt_take,
};
