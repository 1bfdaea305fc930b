"""Limits of what one peer may ask, from outside: floods of messages, streams, searches and
connections. What was acknowledged is there, others notice nothing, and all goes on afterwards.

The limits are set low, so that no test depends on how fast a machine is: a flood is many times
what may be asked at once.
"""

import asyncio
import json
import socket
import time

import websockets
from clients import Client, run
from server import PATIENCE_S, wait_until
from test_auth import closed_with, guarded, opened  # noqa: F401: a fixture




def limited(make_server, **limits):
    env = {f"TIDEWIRE_LIMITS_{name.upper()}": str(value) for name, value in limits.items()}
    return make_server(env=env).start()


async def answers_meanwhile(server, stop):
    """Another client's requests, all answered, until stop is set."""
    async with await Client.open(server.url()) as other:
        asked = 0
        while not stop.is_set() or asked < 3:
            await other.one("count", collection="flood")
            asked += 1
            await asyncio.sleep(0.05)  # so that it stays below the limit itself
        return asked


def test_limits_flood_of_messages_waits_unread(make_server):
    """Nothing of a flood is refused or lost: the socket is read as fast as the limit has it."""
    server = limited(make_server, messages_s=500)
    padding = "x" * 300  # more than one read of the socket in all

    async def scenario():
        stop = asyncio.Event()
        other = asyncio.create_task(answers_meanwhile(server, stop))
        async with await Client.open(server.url()) as client:
            await client.send(type="hello")
            limits = (await client.next())["limits"]
            assert (limits["messages_s"], limits["searches_s"]) == (500, 50)
            count = 2000
            for i in range(count):
                doc = {"_id": i, "padding": padding}
                await client.send(action="put", reqID=i, collection="flood", doc=doc)
            acknowledged = set()
            while len(acknowledged) < count:
                frame = await client.next(PATIENCE_S)
                assert frame.get("type") != "error", frame
                acknowledged.add(frame["reqID"])
            assert (await client.one("count", collection="flood"))["count"] == count
        stop.set()
        assert await other >= 3
        assert server.metric("tidewire_throttled_total") >= 1

    run(scenario())


def test_limits_flood_of_subscribes_is_refused_and_goes_on(make_server):
    server = limited(make_server, subscribes_s=2)

    async def scenario():
        async with await Client.open(server.url()) as client, await Client.open(
            server.url()
        ) as other:
            refused, opened_ids = {}, set()
            for i in range(200):
                await client.send(type="subscribe", mux_id=i, flood="*")
            while len(refused) + len(opened_ids) < 200:
                frame = await client.next()
                if frame["type"] == "error":
                    assert frame["code"] == "rate" and frame["retry"] == "backoff", frame
                    assert 0 < frame["after_ms"] <= 500 and frame["hint"], frame
                    refused[frame["mux_id"]] = frame["after_ms"]
                elif frame["type"] == "sync":
                    opened_ids.add(frame["mux_id"])
            assert set(range(4)) <= opened_ids and len(refused) > 0
            await other.send(type="subscribe", mux_id=1, flood="*")
            await other.until_sync(1)
            await client.one("put", collection="flood", doc={"_id": 1})  # its others are open
            assert (await other.next())["type"] == "record"
            mux_id = min(refused)
            while True:  # what was refused may be asked again
                await client.send(type="subscribe", mux_id=mux_id, flood="*")
                frames = await client.until(
                    lambda f: f.get("mux_id") == mux_id and f["type"] in ("sync", "error")
                )
                if frames[-1]["type"] == "sync":
                    return
                assert frames[-1]["code"] == "rate"

    run(scenario())


def test_limits_searches_of_a_connection(make_server, tmp_path):
    config = tmp_path / "tidewire.yaml"
    config.write_text("limits: {searches_s: 1}\ncollections:\n  - {name: notes, search: {}}\n")
    server = make_server(flags=["--config", str(config)]).start()

    async def scenario():
        async with await Client.open(server.url("/search")) as client:
            await client.one("put", collection="notes", doc={"_id": 1})
            first = (await client.ask("search", index="notes", query="*"))[-1]
            assert first.get("type") != "error", str(first)
            asked = 40
            for i in range(asked):
                await client.send(action="search", reqID=i, index="notes", query="*")
            replies = [await client.next() for _ in range(asked)]
            refused = [r for r in replies if r.get("type") == "error"]
            assert refused and all(r["code"] == "rate" for r in refused), [
                r for r in refused if r["code"] != "rate"
            ]
            assert all(0 < r["after_ms"] <= 1000 and "reqID" in r for r in refused)
            assert len(replies) > len(refused)  # the other one of a burst
            await client.one("put", collection="notes", doc={"_id": 2})

    run(scenario())
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        body = b'{"query":"*"}'
        request = (
            b"POST /api/v1/search/notes/search HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        raw.settimeout(PATIENCE_S)
        seen = b""
        while b"HTTP/1.1 429" not in seen:
            raw.sendall(request)
            before = len(seen)
            while b"\r\n\r\n" not in seen[before:] or not seen.endswith(b"}"):
                part = raw.recv(65536)
                assert part, seen
                seen += part
            assert seen[before:].startswith((b"HTTP/1.1 200", b"HTTP/1.1 429")), seen[before:]
        assert b"Retry-After: 1\r\n" in seen and b'"code":"rate"' in seen


def told_503(server):
    """True when a new connection is told that there are too many of its address."""
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.settimeout(PATIENCE_S)
        seen = b""
        try:
            raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while part := raw.recv(65536):
                seen += part
        except OSError:
            pass  # the end may come while the request is on its way
    if seen.startswith(b"HTTP/1.1 503"):
        assert b"Retry-After: 5\r\n" in seen and b'"code":"rate"' in seen, seen
    return seen.startswith(b"HTTP/1.1 503")


def test_limits_connections_of_an_address(make_server):
    server = limited(make_server, exempt="10.0.0.0/8", connections_per_address=5)
    wait_until(lambda: server.metric("tidewire_connections") <= 1, PATIENCE_S, "probes to end")

    async def scenario():
        kept = [await Client.open(server.url()) for _ in range(5)]
        assert await asyncio.to_thread(told_503, server)
        idle = []
        for _ in range(60):  # a flood: nobody reads, most are not even told
            each = socket.create_connection(("127.0.0.1", server.port))
            idle.append(each)
        await asyncio.to_thread(
            wait_until,
            lambda: server.metric("tidewire_refused_address_total") >= 61,
            PATIENCE_S,
            "refusals",
        )
        assert server.metric("tidewire_connections") <= 5 + 5 + 1  # the figures' own
        for client in kept:  # those that were here notice nothing
            await client.one("put", collection="kept", doc={"_id": 1})
        for each in idle:
            each.close()
        await kept.pop().socket.close()
        async with await Client.open(server.url()) as again:  # waits until there is room
            await again.one("put", collection="kept", doc={"_id": 2})
        for client in kept:
            await client.socket.close()

    run(scenario())


def test_limits_loopback_is_exempt(make_server):
    server = limited(make_server, connections_per_address=2)

    async def scenario():
        clients = [await Client.open(server.url()) for _ in range(6)]
        for client in clients:
            await client.one("put", collection="kept", doc={"_id": 1})
            await client.socket.close()

    run(scenario())


def test_limits_connections_of_a_user(guarded, monkeypatch):  # noqa: F811
    monkeypatch.setenv("TIDEWIRE_LIMITS_CONNECTIONS_PER_USER", "3")
    server = guarded()

    async def scenario():
        kept = [await opened(server) for _ in range(3)]
        async with await Client.open(server.url()) as more:
            from test_auth import token

            await more.send(type="hello", token=token())
            code, frames = await closed_with(more)
            assert code == 4429 and frames[-1]["code"] == "rate", (code, frames)
            assert frames[-1]["after_ms"] == 5000
        other = await opened(server, sub="bob")
        await other.socket.close()
        for client in kept:
            await client.one("count", collection="notes")
        await kept.pop().socket.close()
        end = time.monotonic() + PATIENCE_S
        while True:  # its place is free once the server has seen the end
            try:
                again = await opened(server)
                break
            except (AssertionError, websockets.exceptions.ConnectionClosed):
                assert time.monotonic() < end
        for client in (*kept, again):
            await client.socket.close()

    run(scenario())


def test_limits_accepts_wait_their_turn(make_server):
    server = limited(make_server, accepts_s=20)

    async def scenario():
        clients = await asyncio.gather(*(Client.open(server.url()) for _ in range(60)))
        for client in clients:
            await client.send(type="ping")
        for client in clients:
            assert json.loads(await client.socket.recv())["type"] == "pong"
            await client.socket.close()

    run(scenario())


def asked_as(server, address):
    """Opens a connection as a proxy does; returns it and the status of what was asked."""
    raw = socket.create_connection(("127.0.0.1", server.port))
    raw.settimeout(PATIENCE_S)
    raw.sendall(
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
        b"X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-For: 203.0.113.5, %s\r\n\r\n" % address
    )
    seen = b""
    while b"}" not in seen:
        part = raw.recv(65536)
        assert part, seen
        seen += part
    return raw, int(seen.split()[1])


def test_limits_of_an_address_behind_a_named_proxy(make_server):
    networks = {"exempt": "10.0.0.0/8", "proxies": "127.0.0.1"}
    server = limited(make_server, **networks, connections_per_address=3)
    kept = [asked_as(server, b"192.0.2.7") for _ in range(3)]
    assert [status for _, status in kept] == [200, 200, 200]
    assert asked_as(server, b"192.0.2.7")[1] == 503, "one too many of that address"
    assert asked_as(server, b"192.0.2.8")[1] == 200, "another one"
    assert asked_as(server, b"10.0.0.1")[1] == 200, "exempt"
    connections = json.loads(server.http("/connz", admin=True)[1])["connections"]
    assert [each["address"] for each in connections].count("192.0.2.7") == 3
    for raw, _ in kept:
        raw.close()

    def has_room():
        raw, status = asked_as(server, b"192.0.2.7")
        raw.close()
        return status == 200

    wait_until(has_room, PATIENCE_S, "room when they are gone")


def test_limits_forwarded_of_others_has_no_meaning(make_server):
    server = limited(make_server, exempt="10.0.0.0/8", connections_per_address=50)
    raw, status = asked_as(server, b"192.0.2.7")
    connections = json.loads(server.http("/connz", admin=True)[1])["connections"]
    assert status == 200 and {each["address"] for each in connections} == {"127.0.0.1"}
    raw.close()


def test_limits_bad_exempt_is_refused(make_server):
    server = make_server(env={"TIDEWIRE_LIMITS_EXEMPT": "localhost"})
    server.start(ready=False)
    wait_until(lambda: server.processes[None].poll() is not None, PATIENCE_S, "the end")
    assert server.processes.pop(None).returncode == 1
    assert "limits.exempt: 'localhost' is neither an address nor a network" in server.tail()
