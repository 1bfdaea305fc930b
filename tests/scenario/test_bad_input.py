"""Bad input gets a clear error, costs nobody else anything, and loses nothing."""

import asyncio
import json
import random
import socket
import struct

import pytest
import websockets
import websockets.exceptions

from clients import Client, run
from raw import handshake, masked
from server import wait_until


async def echo(client):
    """The connection is alive and served."""
    reply = await client.ask("count", collection="c")
    assert reply[-1]["count"] >= 0


# fmt: off
BAD_FRAMES = [
    ("", "bad_message"), ("{", "bad_message"), ('{"a":', "bad_message"), ("[]", "bad_message"),
    ("7", "bad_message"), ("null", "bad_message"), ('{"a":1}{"b":2}', "bad_message"),
    ('{"type":"subscribe","type":"close"}', "bad_message"),
    ('{"type":"unknown"}', "unknown"), ('{"action":"unknown"}', "unknown"),
    ('{"event":"NOTHING"}', None), ("{}", None), ('{"type":7}', None), ('{"action":{}}', None),
    ('{"a":' + "[" * 10000 + "]" * 10000 + "}", "depth"),
    ('{"type":"subscribe"}', None), ('{"type":"subscribe","mux_id":1}', None),
    ('{"type":"subscribe","mux_id":{},"c":"*"}', None),
    ('{"type":"subscribe","mux_id":1,"c":5}', None),
    ('{"type":"subscribe","mux_id":1,"c":{"filter":5}}', None),
    ('{"type":"subscribe","mux_id":1,"c":{"filter":{"$where":"1"}}}', "bad_filter"),
    ('{"type":"subscribe","mux_id":1,"c":{"filter":{"a":{"$expr":1}}}}', "bad_filter"),
    ('{"type":"subscribe","mux_id":1,"c":"*","since":"x"}', "bad_since"),
    ('{"type":"subscribe","mux_id":1,"c":"*","since":[[1]]}', "bad_since"),
    ('{"type":"subscribe","mux_id":1,"c":"*","since":[[1,2],[1,3]]}', "bad_since"),
    ('{"type":"subscribe","mux_id":1,"c":"*","since":[[-1,2]]}', "bad_since"),
    ('{"type":"subscribe","mux_id":1,"c":"*","since":[[1,1.5]]}', "bad_since"),
    ('{"type":"subscribe","mux_id":1,"c":"*","since":[[1,9007199254740993]]}', "bad_since"),
    ('{"type":"close","mux_id":"never"}', None),
    ('{"action":"getByIds","reqID":1,"collection":"c"}', "bad_message"),
    ('{"action":"getByIds","reqID":1,"collection":"c","ids":{}}', None),
    ('{"action":"getByIds","reqID":1,"collection":7,"ids":[1]}', None),
    ('{"action":"put","reqID":1,"collection":"c","doc":[]}', None),
    ('{"action":"put","reqID":1,"collection":"$c","doc":{}}', None),
    ('{"action":"put","reqID":1,"collection":"c","doc":{},"unheard":1}', None),
    ('{"action":"update","reqID":1,"collection":"c","id":1,"operations":[["JUMP","a",1]]}',
     "bad_update"),
    ('{"action":"find","reqID":1,"collection":"c","query":{"a":{"$where":1}}}', "bad_filter"),
    ('{"action":"find","reqID":1,"collection":"c","limit":-1}', None),
]
# fmt: on


@pytest.mark.sanitize
def test_each_bad_frame_gets_an_error_and_has_no_effect(server):
    async def scenario():
        for text, code in BAD_FRAMES:
            async with await Client.open(server.url()) as client:
                await client.socket.send(text)
                error = await client.next()
                assert error.get("type") == "error", (text[:80], error)
                assert error["message"] and error["retry"] in ("no", "now", "backoff"), error
                assert code is None or error["code"] == code, (text[:80], error)
                await echo(client)

    run(scenario())


def test_three_bad_messages_in_a_row_close_the_socket(server):
    async def scenario():
        client = await Client.open(server.url())
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            for _ in range(3):
                await client.socket.send("not json")
            while True:
                await client.next()
        assert closed.value.rcvd.code == 4400

    run(scenario())


@pytest.mark.sanitize
def test_random_bytes_do_no_harm(server):
    chance = random.Random(5)

    async def scenario():
        other = await Client.open(server.url())
        for _ in range(150):
            try:
                async with await Client.open(server.url()) as client:
                    for _ in range(5):
                        size = chance.randrange(1, 300)
                        text = bytes(chance.randrange(32, 127) for _ in range(size)).decode()
                        await client.socket.send(
                            chance.choice(["", '{"type":"subscribe",', "{"]) + text
                        )
                    await client.next()
            except websockets.exceptions.ConnectionClosed:
                pass
        await echo(other)
        await other.socket.close()

    run(scenario())


def close_code(raw):
    """The code of the server's close frame, or 0 when it just ends."""
    data = b""
    try:
        while more := raw.recv(4096):
            data += more
    except (ConnectionResetError, socket.timeout):
        pass
    while len(data) >= 2:
        size = data[1] & 127
        head = 2
        if size == 126:
            size, head = struct.unpack(">H", data[2:4])[0], 4
        if data[0] & 15 == 8:
            return struct.unpack(">H", data[head : head + 2])[0] if size >= 2 else 0
        data = data[head + size :]
    return 0


# fmt: off
BROKEN = {
    "unmasked": (b"\x81\x02{}", (1002,)),
    "100 MB": (bytes([0x81, 0xFF]) + struct.pack(">Q", 100_000_000) + b"mask" + b"x" * 200,
               (1009, 4413)),
    "2^62 bytes": (bytes([0x81, 0xFF]) + struct.pack(">Q", 1 << 62) + b"mask", (1002, 1009, 4413)),
    "reserved bit": (bytes([0xC1, 0x82]) + b"mask" + b"xx", (1002,)),
    "reserved opcode": (bytes([0x83, 0x82]) + b"mask" + b"xx", (1002,)),
    "not UTF-8": (masked(1, b'{"a":"\xff\xfe"}'), (1007,)),
    "binary": (masked(2, b"\x00\x01"), None),
    "lone continuation": (masked(0, b"x"), (1002,)),
    "fragmented ping": (masked(9, b"x", fin=False), (1002,)),
}
# fmt: on


@pytest.mark.parametrize("name", BROKEN)
def test_broken_frames_close_with_their_code(server, name):
    data, codes = BROKEN[name]
    raw, _ = handshake(server)
    raw.sendall(data)
    if codes is None:
        first = raw.recv(4096)
        assert b"error" in first or first[0] & 15 == 8, first
    else:
        assert close_code(raw) in codes
    raw.close()
    assert server.http("/healthz")[0] == 200


def test_foreign_origins_are_refused(server):
    for origin in ("http://evil.example", "null", f"http://127.0.0.1.evil.example:{server.port}"):
        raw, answer = handshake(server, extra=f"Origin: {origin}\r\n")
        assert b" 101 " not in answer.split(b"\r\n")[0], origin
        raw.close()
    for origin in (f"http://127.0.0.1:{server.port}", "http://localhost:3000"):
        raw, answer = handshake(server, extra=f"Origin: {origin}\r\n")
        assert b" 101 " in answer.split(b"\r\n")[0], origin
        raw.close()


def test_unknown_paths_are_not_found(server):
    raw, answer = handshake(server, "/nothing")
    assert b" 101 " not in answer.split(b"\r\n")[0]
    raw.close()
    assert server.http("/nothing")[0] == 404


def test_a_mux_id_in_use_is_refused_alone(server):
    async def scenario():
        async with await Client.open(server.url()) as ws:
            await ws.send(type="subscribe", mux_id=1, c="*")
            await ws.until_sync()
            await ws.send(type="subscribe", mux_id=1, c="*")
            error = await ws.next()
            assert error["code"] == "mux_in_use" and error["mux_id"] == 1
            await echo(ws)

    run(scenario())


def test_ten_thousand_subscribes_stop_at_the_limit(server):
    async def scenario():
        other = await Client.open(server.url())
        await other.send(type="subscribe", mux_id=1, c="*")
        await other.until_sync()
        async with await Client.open(server.url()) as ws:

            async def send():
                for i in range(10000):
                    await ws.send(
                        type="subscribe", mux_id=i, collections={"c": {"filter": {"n": i}}}
                    )

            sending = asyncio.create_task(send())
            synced = refused = 0
            while synced + refused < 10000:
                frame = await ws.next(30)
                if frame["type"] == "sync":
                    synced += 1
                else:
                    assert frame["code"] in ("too_many", "rate"), frame  # of streams, of a second
                    refused += 1
            await sending
            assert synced == 1024
        await other.one("put", collection="c", doc={"_id": 1})
        assert (await other.until(lambda f: f.get("type") == "record"))[-1]["key"] == 1
        await other.socket.close()

    run(scenario())


def resident_kb(process):
    with open(f"/proc/{process.pid}/statm") as f:
        return int(f.read().split()[1]) * 4


def test_memory_returns(server):
    process = server.processes[None]

    async def burst():
        clients = [await Client.open(server.url()) for _ in range(50)]
        for client in clients:
            for i in range(50):
                await client.send(
                    type="subscribe", mux_id=i, collections={"c": {"filter": {"n": i}}}
                )
            await client.socket.send("nonsense " * 5000)
        for client in clients:
            await client.until_sync()
            await client.socket.close()

    run(burst())
    after_first = resident_kb(process)
    for _ in range(4):
        run(burst())
    wait_until(
        lambda: resident_kb(process) < after_first * 1.25 + 4096,
        10,
        f"memory back near {after_first} kB, it is {resident_kb(process)} kB",
    )


def test_bad_http_is_refused(server):
    assert server.http("/api/v1/c/1", "PUT", headers={"Content-Type": "text/plain"})[0] in (
        400,
        415,
    )
    status, body = server.http("/api/v1/c/find", "POST", {"query": {"$where": "1"}})
    assert status == 400 and json.loads(body)["code"] == "bad_filter"
    raw = socket.create_connection(("127.0.0.1", server.port), 5)
    raw.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n")
    raw.settimeout(5)
    try:
        assert not raw.recv(100).startswith(b"HTTP/1.1 200")
    except ConnectionResetError:
        pass
    raw.close()
    assert server.http("/healthz")[0] == 200
