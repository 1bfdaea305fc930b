"""Messages that are not stored, and writes that are not told."""

import asyncio
import json
import random
import subprocess

import msgpack
import pynng
import pytest
from clients import Client, log_reaches, run, settled
from server import BINARY, PATIENCE_S, wait_until
from services import Service, dial, feed_url


def service_url(server):
    return f"ipc://{server.directory}/data/service"


async def follow(client, mux_id, **collections):
    await client.send(type="subscribe", mux_id=mux_id, collections=collections)
    await client.until_sync(mux_id)


async def dispatched(client, seconds=60):
    return (await client.until(lambda f: f.get("type") == "dispatch", seconds))[-1]


def test_dispatch_reaches_the_followers_of_the_collection(any_layout):
    """Over websocket, HTTP and the service socket; to streams that name the collection alone."""

    async def scenario():
        url = any_layout.url
        async with await Client.open(url("/ws")) as one, await Client.open(url("/ws")) as other:
            await follow(one, 7, jobs="*")
            await follow(one, "b", jobs={"filter": {"a": 1}}, others="*")
            await follow(other, 1, others="*")
            reply = await other.one("dispatch", collection="jobs", message={"progress": 0.5})
            assert set(reply) == {"action", "reqID", "collection"}
            told = [await dispatched(one), await dispatched(one)]
            assert {f["mux_id"] for f in told} == {7, "b"}
            for frame in told:
                assert frame["collection"] == "jobs" and frame["message"] == {"progress": 0.5}
                assert "seqno" not in frame
            status, _ = any_layout.http("/api/v1/jobs/dispatch", "POST", {"message": ["any", 1]})
            assert status == 200
            assert (await dispatched(one))["message"] == ["any", 1]
            with Service(service_url(any_layout)) as service:
                service.one("dispatch", collection="jobs", message="text")
                service.one("dispatch", database="crm", collection="jobs", message="elsewhere")
                service.one("dispatch", collection="others", message={"last": True})
            assert (await dispatched(other))["message"] == {"last": True}
            messages = [f["message"] for f in [await dispatched(one) for _ in range(4)]]
            # each of the two streams is told once, and nothing of another database
            assert messages == [["any", 1], "text", "text", {"last": True}], messages
            # it is not stored: whoever comes later is told nothing of it
            await follow(other, 2, jobs="*")
            assert (await other.one("count", collection="jobs"))["count"] == 0

    run(scenario())


@pytest.mark.sanitize
def test_dispatch_bad_messages_are_refused(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            for fields, code in [
                ({"collection": "a"}, "bad_message"),
                ({"message": 1}, "bad_message"),
                ({"collection": "$a", "message": 1}, "bad_message"),
                ({"collection": 1, "message": 1}, "bad_message"),
                ({"collection": "a", "message": 1, "unheard": 1}, "bad_message"),
            ]:
                (error,) = await db.ask("dispatch", **fields)
                assert error["type"] == "error" and error["code"] == code, (fields, error)
        with Service(service_url(server)) as service:
            error = service.refused("dispatch", collection="a", message="x" * 70000)
            assert error["code"] == "too_big"
            service.one("dispatch", collection="a", message="x" * 60000)
        status, _ = server.http("/api/v1/a/dispatch", "POST")
        assert status == 400

    run(scenario())


def test_dispatch_costs_a_slow_follower_its_messages_alone(server):
    """A follower that does not read loses messages, and nothing that is stored."""

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            slow = await Client.open(server.url("/ws"))
            await follow(slow, 1, c="*")
            for i in range(60):
                await db.one("dispatch", collection="c", message={"n": i, "text": "x" * 50000})
            last = await db.one("put", collection="c", doc={"_id": 1})
            frames = await slow.until(lambda f: f.get("type") == "record")
            assert frames[-1]["seqno"] <= last["since"][0][1]  # there: a fence, at or behind it
            numbers = [f["message"]["n"] for f in frames if f["type"] == "dispatch"]
            assert numbers == sorted(set(numbers))
            await slow.socket.close()

    run(scenario())


def test_dispatch_false_writes_are_stored_and_not_told(server):
    """On every edge: not to streams, live or by resume, not to /changes, not to the feed, not to
    realtime databases; the next version is told with what they changed."""

    async def scenario():
        url = server.url
        feed = dial(pynng.Sub0(), feed_url(service_url(server)))
        feed.recv_timeout = PATIENCE_S * 1000
        feed.subscribe(f"{server.database}.c\0".encode())
        # a position to resume from: who names none is told all that is stored
        status, made = server.http("/api/v1/before", "POST", {"_id": 0})
        assert status == 201
        await log_reaches(server.url(), json.loads(made)["since"])
        changes = await Client.open(url("/changes"))
        async with await Client.open(url("/ws")) as on, changes:
            since = (await changes.until_sync())[-1]["since"]
            await follow(on, 1, c="*")
            await on.send(event="DB_SCHEMA", db=server.database)
            await on.until(lambda f: f.get("event") == "DB_SYNC")
            with Service(service_url(server)) as service:
                service.one("put", collection="c", doc={"_id": 1}, dispatch=False)
                ops = [{"op": "put", "doc": {"_id": 2}}]
                service.one("batch", collection="c", ops=ops, dispatch=False)
            await on.one("insert", collection="c", doc={"_id": 3}, dispatch=False)
            await on.one("update", collection="c", id=3, fields={"x": 1}, dispatch=False)
            assert server.http("/api/v1/c?dispatch=false", "POST", {"_id": 4})[0] == 201
            assert server.http("/api/v1/c/5?dispatch=false", "PUT", {"a": 1})[0] == 200
            assert server.http("/api/v1/c/5?dispatch=false", "PATCH", {"a": 2})[0] == 200
            assert server.http("/api/v1/c/4?dispatch=false", "DELETE")[0] == 200
            assert server.http("/api/v1/c/5?dispatch=maybe", "PUT", {"a": 1})[0] == 400
            record = {"db": server.database, "collection": "c", "record": {"_id": 6}}
            await on.send(event="DB_RECORD_PUT", **record, dispatch=False)
            await on.until(lambda f: f.get("event") == "DB_DONE")
            assert (await on.one("count", collection="c"))["count"] == 5
            told = await on.one("update", collection="c", id=3, fields={"y": 2})
            frames = await on.until(lambda f: "seqno" in f)
            frames += await on.until(lambda f: "seqno" in f)
            one, two = [f["seqno"] for f in frames if "seqno" in f]
            fence = told["since"][0][1]
            assert one == two and (one <= fence if server.on_mongo else one == fence)
            records = [f.get("doc") or f.get("record") for f in frames if "seqno" in f]
            assert all(r["x"] == 1 and r["y"] == 2 for r in records)
            change = await changes.next()
            assert change["documentKey"] == {"_id": 3} and change["fullDocument"]["x"] == 1
            topic, _, body = feed.recv().partition(b"\x00")
            rows = msgpack.unpackb(body, strict_map_key=False)["rows"]
            assert topic.decode() == f"{server.database}.c" and [r["key"] for r in rows] == [3]
            # by resume
            async with await Client.open(url("/ws")) as late:
                await late.send(type="subscribe", mux_id=1, since=since, collections={"c": "*"})
                frames = await late.until_sync()
                assert [f["key"] for f in frames[:-1]] == [3]
        feed.close()

    run(scenario())


def test_dispatch_false_changes_leave_no_stream_with_what_left(server):
    """A record leaves a filter by a write that is not told; the next one that is, and does not
    match either, tells of it. Live streams, and those that resume in between, end with the same
    set: of each record the last version that was told, where it matches."""
    chance = random.Random(8)
    queries = {
        "equal": {"filter": {"a": 1}},
        "range": {"filter": {"a": {"$lt": 2}}, "fields": ["a"]},
        "all": "*",
    }

    def matches(name, doc):
        return name == "all" or (doc["a"] == 1 if name == "equal" else doc["a"] < 2)

    async def take(client, sets, frames):
        for frame in frames:
            if frame["type"] == "record":
                sets[frame["mux_id"]][frame["key"]] = frame["doc"]["a"]
            elif frame["type"] == "remove":
                sets[frame["mux_id"]].pop(frame["key"], None)

    async def read(client, sets, mark):
        """Up to the marks of all streams, which match each of the queries."""
        left = set(queries)
        while left:
            frame = await client.next(60)
            await take(client, sets, [frame])
            if frame["type"] == "record" and frame["key"] == mark:
                left.remove(frame["mux_id"])

    async def scenario():
        told = {}
        async with await Client.open(server.url("/db")) as db, await Client.open(
            server.url()
        ) as live, await Client.open(server.url()) as late:
            since = (await db.one("put", collection="before", doc={"_id": 0}))["since"]
            sets = {name: {} for name in queries}
            resumed = {name: {} for name in queries}
            for name, query in queries.items():
                await live.send(
                    type="subscribe", mux_id=name, since=since, collections={"c": query}
                )
                await live.until_sync(name, 60)
            for step in range(6):
                for _ in range(80):
                    key, silent = f"k{chance.randrange(5)}", chance.random() < 0.6
                    how = {"collection": "c", "dispatch": not silent}
                    doc = {"_id": key, "a": chance.randrange(4), "n": chance.random()}
                    if chance.random() < 0.8:
                        await db.one("put", doc=doc, **how)
                    else:
                        doc = None
                        reply = (await db.ask("remove", id=key, **how))[-1]
                        if "code" in reply:  # it was not there: nothing is told
                            continue
                    if not silent:
                        told[key] = doc
                mark = f"mark{step}"
                done = await db.one("put", collection="c", doc={"_id": mark, "a": 1})
                told[mark] = {"a": 1}
                await read(live, sets, mark)
                for name, query in queries.items():
                    await late.send(
                        type="subscribe", mux_id=name, since=since, collections={"c": query}
                    )
                    await take(late, resumed, (await late.until_sync(name, 60))[:-1])
                    await late.send(type="close", mux_id=name)
                    await late.until(lambda f: f["type"] == "closed", 60)
                since = done["since"]
                for name in queries:
                    wanted = {
                        k: doc["a"] for k, doc in told.items() if doc and matches(name, doc)
                    }
                    assert sets[name] == wanted, (step, name, "live")
                    assert resumed[name] == wanted, (step, name, "resumed")

    run(scenario())


def test_dispatch_survives_a_killed_manager(make_server):
    """Nothing depends on its delivery: what is stored goes on."""
    server = make_server(layout="ipc").start()

    async def scenario():
        async with await Client.open(server.url("/ws")) as client:
            await follow(client, 1, c="*")
            server.kill("subscription_manager")
            server.start(ready=False)
            async with asyncio.timeout(PATIENCE_S):
                while (await client.ask("dispatch", collection="c", message=1))[-1].get("retry"):
                    await asyncio.sleep(0.05)  # the poll of a condition: the manager starts
            last = await client.one("put", collection="c", doc={"_id": 1})
            frames = await client.until(lambda f: f.get("type") == "record", 20)
            assert frames[-1]["seqno"] <= last["since"][0][1]  # there: a fence, at or behind it

    run(scenario())


def test_dispatch_is_printed_by_watch_and_moves_no_position(make_server, tmp_path):
    server = make_server().start()
    server.run("put", "jobs", '{"_id":0}')  # is not told: from now on
    run(settled(server))
    out = tmp_path / "watched"
    with out.open("w") as to:
        words = [BINARY, "watch", "jobs", "--count", "3", "--since", "now"]
        words += ["--url", f"ws://127.0.0.1:{server.port}"]
        process = subprocess.Popen(words, stdout=to, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: server.metric("tidewire_streams_live") >= 1, 10, "a live stream")
            assert server.http("/api/v1/jobs/dispatch", "POST", {"message": {"n": 1}})[0] == 200
            wait_until(lambda: '"n":1' in out.read_text(), 10, "the message")
            server.run("put", "jobs", '{"_id":1}')
            wait_until(lambda: '"key":1' in out.read_text(), 10, "the record")
            server.kill()
            server.start()
            server.run("put", "jobs", '{"_id":2}')
            assert process.wait(timeout=PATIENCE_S) == 0
        finally:
            process.kill()
            process.wait()
    frames = [json.loads(line) for line in out.read_text().splitlines() if line.startswith("{")]
    assert [f.get("message") or f["key"] for f in frames] == [{"n": 1}, 1, 2]
