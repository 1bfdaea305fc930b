"""Manifest sync: after it, a client's copy is the query's result, and nothing more was told."""

import asyncio
import json
import os
import random
import re
import time

import pytest
import websockets

import manifests
from clients import Client, connect, log_reaches, run, settled
from manifests import Copy, sync
from server import ROOT, wait_until
from services import Service


def stored_of(replies):
    return {manifests.key_of(r["doc"]["_id"]): r["doc"] for r in replies if "doc" in r}


def figures(done):
    return tuple(done[name] for name in ("inserted", "updated", "removed", "same"))


async def check(db, copy, name, query=None):
    """The copy is the query's result, with the newest versions: those that were told have the
    document's, by its field (a record of MongoDB that comes back is told a higher number)."""
    replies = await db.ask("find", collection=name, query=query or {})
    stored = stored_of(replies)
    held = copy.records[name]
    assert held.keys() == stored.keys()
    for key, (_, version, doc) in held.items():
        assert (version if doc is None else doc["_version"]) == stored[key]["_version"], key


def test_each_verdict_in_one_pass_over_several_collections(any_layout):
    async def scenario():
        async with await Client.open(any_layout.url("/db")) as db:
            for i in range(10):
                await db.one("put", collection="samples", doc={"_id": f"s{i}", "n": i})
            await db.one("update", collection="samples", id="s3", fields={"n": 33})
            put = await db.one("put", collection="files", doc={"_id": 7, "name": "x"})
            await log_reaches(any_layout.url(), put["since"])
            copy = Copy(samples={}, files={}, none={})
            for i in (0, 1, 2, 3):
                copy.have("samples", f"s{i}", 1)
            copy.have("samples", "gone", 4)
            copy.have("none", "x", 1)
            done = await sync(db, copy, "r1")
            assert figures(done) == (7, 1, 2, 3)
            assert copy.records["samples"]['"s3"'][2] == {"_id": "s3", "n": 33, "_version": 2}
            assert copy.records["none"] == {}
            for name in ("samples", "files"):
                await check(db, copy, name)
            # again: nothing is told, and the position is the head
            done = await sync(db, copy, "r2")
            assert figures(done) == (0, 0, 0, 11)
            put = await db.one("put", collection="samples", doc={"_id": "s0", "n": 1})
            behind = put["since"][0][1] - done["since"][0][1]
            assert behind > 0 if any_layout.on_mongo else behind == 1

    run(scenario())


def random_key(chance):
    return chance.choice(
        [
            f"k{chance.randrange(60)}",
            chance.randrange(60),
            {"$oid": f"{chance.randrange(60):024x}"},
            chance.choice([0.5, 1.25, True, {"$date": "2026-01-01T00:00:00Z"}, "ä\u2028", "7"]),
        ]
    )


async def change_some(db, chance, name, count):
    for _ in range(count):
        key = random_key(chance)
        if chance.random() < 0.25:
            await db.ask("remove", collection=name, id=key)
        else:
            await db.one("put", collection=name, doc={"_id": key, "a": chance.randrange(4)})


def random_copy(chance, stored):
    """Some of what is stored, some in another version, some that is not there."""
    copy = Copy(things={})
    for doc in stored.values():
        draw = chance.random()
        if draw < 0.5:
            copy.have("things", doc["_id"], doc["_version"])
        elif draw < 0.75:
            copy.have("things", doc["_id"], max(0, doc["_version"] - 1))
    for i in range(chance.randrange(6)):
        copy.have("things", f"gone{i}", 1)
    return copy


def many_manifests(server, rounds, seed):
    chance = random.Random(seed)

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            for number in range(rounds):
                await change_some(db, chance, "things", 4)
                query = chance.choice([{}, {"a": 1}, {"a": {"$gte": 2}}])
                if server.on_mongo:
                    await settled(server)
                stored = stored_of(await db.ask("find", collection="things"))
                copy = random_copy(chance, stored)
                ranged = ("things",) if chance.random() < 0.5 else ()
                specs = {"things": {"filter": query}}
                bits = chance.randrange(5)
                await sync(db, copy, f"n{number}", ranged, bits, collections=specs)
                await check(db, copy, "things", query)

    run(scenario(), 3000)


def test_random_manifests_end_in_the_querys_result(server):
    rounds = 40 if server.on_mongo else 300
    many_manifests(server, int(os.environ.get("TIDEWIRE_MANIFESTS", rounds)), 1)


def test_marks_agree_with_the_vectors_of_all_clients():
    rows = json.loads((ROOT / "tests" / "vectors" / "sync_marks.json").read_text())["marks"]
    for row in rows:
        assert manifests.key_text(row["key"]) == row["text"]
        assert f"{manifests.place(row['key']):08x}" == row["place"]
        assert manifests.digits(*manifests.mark(row["key"], row["version"])) == row["mark"]


# ---- and then subscribe ----


UNANSWERED_MAX = 500  # writes of the load; beyond, it waits for the store


async def write_steadily(url, stop, per_second):
    """Puts and removes of a few hundred keys, as one pipeline: about so many a second, or as many
    as the store takes."""
    chance = random.Random(5)
    loop = asyncio.get_running_loop()
    socket = await connect(url)
    begin, sent, answered = loop.time(), 0, 0

    async def drain():
        nonlocal answered
        async for _ in socket:
            answered += 1

    reading = asyncio.create_task(drain())
    while not stop.is_set():
        due = min(int((loop.time() - begin) * per_second), answered + UNANSWERED_MAX)
        for _ in range(due - sent):
            key = f"k{chance.randrange(300)}"
            if chance.random() < 0.2:
                message = {"action": "remove", "id": key}
            else:
                message = {"action": "put", "doc": {"_id": key, "a": chance.randrange(4)}}
            await socket.send(json.dumps({"reqID": sent, "collection": "things", **message}))
        sent = max(sent, due)
        await asyncio.sleep(0.005)  # the pace of the load itself
    while answered < sent:
        await asyncio.sleep(0.005)  # the poll of a condition
    await socket.close()
    await reading
    return sent, loop.time() - begin


async def follow(url, copy, query, number):
    """Syncs, subscribes from the position of done, and reads on until live events came: the copy
    is right at every step, or an assertion fails."""
    async with await Client.open(url) as client:
        specs = {"things": {"filter": query}}
        done = await sync(client, copy, number, collections=specs)
        (mine,) = done["since"]
        await client.send(
            type="subscribe", mux_id=1, since=done["since"], query=done["query"], collections=specs
        )
        last, live = mine[1], 0
        synced = False
        while live < 40:
            frame = await client.next(30)
            assert frame["type"] in ("record", "remove", "sync"), frame
            if frame["type"] == "sync":
                synced = True
                continue
            assert frame["seqno"] > last, f"again, or out of order: {frame} behind {last}"
            assert frame["seqno"] > mine[1]
            assert frame.get("prev", 0) <= last, f"a gap: {frame} behind {last}"
            last = frame["seqno"]
            live += synced
            told(copy, frame, live > 0)
        await client.send(type="close", mux_id=1)
        frames = await client.until(lambda f: f.get("type") == "closed")
        for frame in frames[:-1]:
            if frame["type"] in ("record", "remove"):
                told(copy, frame, True)
        return frames[-1]["since"]


class Observer:
    """All that happened, row by row: a stream of everything that never falls behind."""

    def __init__(self, client):
        self.client = client
        self.state, self.waiting, self.last = {}, [], 0

    async def read(self):
        async for text in self.client.socket:
            frame = json.loads(text)
            if frame["type"] in ("record", "remove"):
                self.waiting.append(frame)
                self.last = frame["seqno"]

    async def at(self, seqno):
        """{key: version} of the records at a position, which only grows."""
        while self.last < seqno:
            await asyncio.sleep(0.002)  # the poll of a condition
        while self.waiting and self.waiting[0]["seqno"] <= seqno:
            frame = self.waiting.pop(0)
            if frame["type"] == "remove":
                self.state.pop(frame["key"], None)
            else:
                self.state[frame["key"]] = frame
        return {k: f["version"] for k, f in self.state.items() if f["doc"]["a"] < 3}


def told(copy, frame, live):
    """Applies a stream's event; versions of a key only grow. While a stream catches up, a record
    that came and went meanwhile is told as removed alone."""
    held = copy.records["things"]
    name = manifests.key_of(frame["key"])
    if frame["type"] == "remove":
        assert name in held or not live, f"removed, and not there: {frame}"
        held.pop(name, None)
    else:
        assert name not in held or held[name][1] < frame["version"], frame
        held[name] = (frame["key"], frame["version"], frame["doc"])


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_subscribe_goes_on_from_done_without_gap_or_duplicate(make_server):
    server = make_server().start()
    rounds = int(os.environ.get("TIDEWIRE_SYNC_ROUNDS", 30 if server.on_mongo else 200))
    query = {"a": {"$lt": 3}}

    async def scenario():
        stop = asyncio.Event()
        watching = await Client.open(server.url())
        await watching.send(type="subscribe", mux_id=1, collections={"things": "*"})
        await watching.until_sync()
        observer = Observer(watching)
        observing = asyncio.create_task(observer.read())
        writing = asyncio.create_task(write_steadily(server.url("/db"), stop, 2000))
        copy = Copy(things={})
        try:
            for number in range(rounds):
                if number % 3 == 0:
                    copy = Copy(things={})
                ((_, seqno),) = await follow(server.url(), copy, query, number)
                held = {key: version for key, version, _ in copy.records["things"].values()}
                assert held == await observer.at(seqno), f"round {number}, at {seqno}"
        finally:
            stop.set()
            sent, seconds = await writing
            await watching.socket.close()
            await observing
        await settled(server)
        async with await Client.open(server.url("/db")) as db:
            await sync(db, copy, "last", collections={"things": {"filter": query}})
            await check(db, copy, "things", query)
        print(f"{rounds} rounds beside {sent / seconds:.0f} writes a second")

    run(scenario(), 1400)


# ---- the command ----


@pytest.fixture
def fill(request, server, tmp_path):
    """Puts new records into `things`: by an import; into MongoDB as another program does, as each
    record of an import is a transaction there."""

    def fill(docs):
        if server.on_mongo:
            things = request.getfixturevalue("mongo").client[server.database].things
            things.insert_many([{**doc, "_version": 1} for doc in docs])
            run(settled(server))
            return
        put_many(server, tmp_path, "things", docs)

    return fill


def put_many(server, tmp_path, name, docs):
    path = tmp_path / f"{name}.in"
    path.write_text("".join(json.dumps(d) + "\n" for d in docs))
    server.run("import", name, str(path))
    await_log(server)


def await_log(server):
    """MongoDB acknowledges before the log has it, from which syncs are answered."""
    if server.on_mongo:
        run(settled(server))


def lines_of(path):
    """{key text: line} of a local copy, and its first line."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {manifests.key_of(line["key"]): line for line in lines[1:]}, lines[0]


@pytest.mark.parametrize("count", [50, 3000])  # listed, and by ranges
def test_tidewire_sync_brings_a_file_to_the_servers_state(server, tmp_path, fill, count):
    fill([{"_id": i, "a": i % 7, "b": "x"} for i in range(count)])
    path = tmp_path / "copy"
    first = server.run("sync", "things", "--manifest", str(path), "--fields", "a").stdout
    assert first.startswith(f"inserted {count}, updated 0, removed 0, same 0;"), first
    held, head = lines_of(path)
    assert held["3"] == {"key": 3, "version": 1, "doc": {"_id": 3, "a": 3}}
    for i in range(5):
        server.run("put", "things", json.dumps({"_id": i * 9, "a": 9}))
    server.run("del", "things", "7")
    server.run("put", "things", json.dumps({"_id": "new", "a": 9}))
    await_log(server)
    again = server.run("sync", "things", "--manifest", str(path), "--fields", "a").stdout
    assert again.startswith(f"inserted 1, updated 5, removed 1, same {count - 6};"), again
    held, head = lines_of(path)
    assert len(held) == count and held["9"]["doc"] == {"_id": 9, "a": 9} and "7" not in held
    told = server.run("sync", "things", "--manifest", str(path), "--json", "--fields", "a").stdout
    assert json.loads(told)["same"] == count
    # only what matches, without documents
    only = tmp_path / "nines"
    server.run("sync", "things", "--manifest", str(only), "--keys", "--filter", '{"a":9}')
    held, head = lines_of(only)
    assert len(held) == 6 and held["9"] == {"key": 9, "version": 2}
    assert head["since"][0][1] == count + 7 or server.on_mongo


def test_tidewire_sync_refuses_what_is_no_copy_and_leaves_it(server, tmp_path):
    path = tmp_path / "copy"
    path.write_text('{"key":1,"version":1}\n{"key":2}\n')
    done = server.run("sync", "things", "--manifest", str(path), check=False)
    assert done.returncode == 1 and "line 2" in done.stderr
    assert path.read_text() == '{"key":1,"version":1}\n{"key":2}\n'
    path.write_text('{"key":1,"version":1}\n')
    words = ["sync", "things", "--manifest", str(path), "--filter", '{"$where":1}']
    done = server.run(*words, check=False)
    assert done.returncode == 1 and "bad_filter" in done.stderr, done.stderr
    assert path.read_text() == '{"key":1,"version":1}\n'


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_big_copy_of_which_little_changed_costs_little(server, tmp_path, fill):
    """A thousandth changed. With 1,000,000 records both directions together are below 1 % of a
    whole copy; the fewer the records, the more the first sums weigh."""
    count = int(os.environ.get("TIDEWIRE_SYNC_RECORDS", 4000 if server.on_mongo else 50000))
    docs = [{"_id": f"id{i:08d}", "name": f"record {i}", "n": i} for i in range(count)]
    fill(docs)
    path = tmp_path / "copy"
    cost = r"sent (\d+) bytes, received (\d+)"

    def sync_file():
        begin = time.monotonic()
        out = server.run("sync", "things", "--manifest", str(path), timeout=600).stdout
        sent, received = map(int, re.search(cost, out).groups())
        print(out.splitlines()[0], f"in {time.monotonic() - begin:.1f} s")
        return out, sent, received

    _, _, whole = sync_file()
    changed = [{**doc, "n": -1} for doc in docs[:: 1000]]
    put_many(server, tmp_path, "things", changed)
    out, sent, received = sync_file()
    assert f"updated {len(changed)}, removed 0, same {count - len(changed)};" in out
    share = (sent + received) / whole
    print(f"{count} records: {share:.2%} of a whole copy's {whole} bytes")
    assert share < (0.01 if count >= 1000000 else 0.02 if count >= 50000 else 0.05)
    out, sent, received = sync_file()  # nothing changed
    assert "updated 0" in out and sent + received < 6000


# ---- a manifest inside subscribe ----


def test_a_manifest_answers_a_since_that_cannot_be_served(make_server):
    """Compacted, of an unknown origin, or none: the stream tells what differs, then goes on."""
    server = make_server(flags=["--log-age", "1"]).start()

    async def compacted(db, since):
        while True:  # until the floor has passed it
            await db.send(type="subscribe", mux_id="probe", things="*", since=since)
            frames = await db.until_sync("probe")
            await db.send(type="close", mux_id="probe")
            await db.until(lambda f: f.get("type") == "closed")
            if any(f["type"] == "reset" for f in frames):
                return
            await db.one("put", collection="other", doc={"_id": 1})
            await asyncio.sleep(0.05)  # the poll of a condition

    async def scenario():
        async with await Client.open(server.url()) as db:
            for i in range(20):
                await db.one("put", collection="things", doc={"_id": i, "a": i})
            put = await db.one("put", collection="things", doc={"_id": 3, "a": 33})
            await log_reaches(server.url(), put["since"])
            old = [[put["since"][0][0], 2]]
            await compacted(db, old)
            copy = {i: 1 for i in range(10)} | {77: 1}
            manifest = {"things": [[k, v] for k, v in copy.items()]}
            for number, since in enumerate([old, [[12345, 7]], None]):
                more = {} if since is None else {"since": since}
                await db.send(
                    type="subscribe", mux_id=number, things="*", manifests=manifest, **more
                )
                frames = await db.until_sync(number)
                kinds = [(f["type"], f["key"]) for f in frames[:-1]]
                puts = [("record", i) for i in range(10, 20)] + [("record", 3)]
                assert kinds == puts + [("remove", 77)], frames
                await db.one("put", collection="things", doc={"_id": "new", "a": number})
                live = await db.next()
                assert (live["mux_id"], live["key"]) == (number, "new")
                await db.send(type="close", mux_id=number)
                assert (await db.next())["type"] == "closed"
                gone = await db.one("remove", collection="things", id="new")
                await log_reaches(server.url(), gone["since"])
            for wrong, code in [
                ({"nothere": {}}, "bad_message"),
                ({"things": [[1, 1], [1, 2]]}, "bad_message"),
                ({"things": 1}, "bad_message"),
                ([], "bad_message"),
            ]:
                await db.send(type="subscribe", mux_id="w", things="*", manifests=wrong)
                error = await db.next()
                assert (error["type"], error["code"], error["mux_id"]) == ("error", code, "w")

    run(scenario())


def test_a_since_that_can_be_served_needs_no_manifest(server):
    async def scenario():
        async with await Client.open(server.url()) as db:
            done = await db.one("put", collection="things", doc={"_id": "new", "a": 1})
            gone = await db.one("remove", collection="things", id="new")
            await log_reaches(server.url(), gone["since"])
            await db.send(
                type="subscribe", mux_id="s", things="*", since=done["since"],
                manifests={"things": [[1, 1], [77, 1]]},
            )  # fmt: skip
            assert len(await db.until_sync("s")) == 2  # the removal above, and the sync

    run(scenario())


# ---- what is wrong ----

# fmt: off
WRONG = [
    ({}, "bad_message", "no collection is named"),
    ({"manifests": {}}, "bad_message", "no collection is named"),
    ({"manifests": []}, "bad_message", "manifests: takes"),
    ({"manifests": {"c": 3}}, "bad_message", "takes {id: version}"),
    ({"manifests": {"c": [["a"]]}}, "bad_message", "a pair is [id, version]"),
    ({"manifests": {"c": {"a": "1"}}}, "bad_message", "a version is a whole number"),
    ({"manifests": {"c": {"a": 1.5}}}, "bad_message", "a version is a whole number"),
    ({"manifests": {"c": {"a": -1}}}, "bad_message", "a version is a whole number"),
    ({"manifests": {"c": [[[1], 1]]}}, "bad_message", "ids are text, numbers"),
    ({"manifests": {"c": [["x" * 1025, 1]]}}, "bad_message", "of at most 1024 bytes"),
    ({"manifests": {"c": [["a", 1], ["a", 2]]}}, "bad_message", "given twice"),
    ({"manifests": {"$c": {}}}, "bad_message", "not a collection's name"),
    ({"manifests": {f"c{i}": {} for i in range(33)}}, "too_many", "over 32 collections"),
    ({"manifests": {"c": {}}, "more": 1}, "bad_message", '"more" is true or false'),
    ({"manifests": {"c": {}}, "nonsense": 1}, "bad_message", 'takes no "nonsense"'),
    ({"manifests": {"c": {}}, "collections": {"c": {"filter": {"$where": 1}}}}, "bad_filter",
     "$where"),
    ({"ranges": {"c": {"bits": 1}}}, "bad_message", "takes {bits: 8"),
    ({"ranges": {"c": {"bits": 19, "sums": ""}}}, "bad_message", "from 0 to 18"),
    ({"ranges": {"c": {"bits": 1, "sums": "0" * 16}}}, "bad_message", "1 sums are missing"),
    ({"ranges": {"c": {"bits": 1, "sums": "0" * 48}}}, "bad_message", "2 sums of 16 digits"),
    ({"ranges": {"c": {"bits": 0, "sums": "G" * 16}}}, "bad_message", "digits 0-9 and a-f"),
    ({"ranges": {"c": {"bits": 0, "sums": "0" * 16}}, "manifests": {"c": {"a": 1}}}, "bad_message",
     "listed when they are asked for"),
    ({"ranges": {f"c{i}": {"bits": 17, "sums": ""} for i in range(3)}}, "too_many", "fewer bits"),
]
# fmt: on


def test_what_is_wrong_gets_a_clear_error_and_costs_only_that_sync(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            put = await db.one("put", collection="c", doc={"_id": "a"})
            await log_reaches(server.url(), put["since"])
            for number, (wrong, code, words) in enumerate(WRONG):
                await db.send(action="sync", reqID=number, **wrong)
                error = await db.next()
                assert (error["type"], error["code"]) == ("error", code), (wrong, error)
                assert words in error["message"] and error["reqID"] == number, (wrong, error)
            copy = Copy(c={})
            assert figures(await sync(db, copy, "good")) == (1, 0, 0, 0)
            # out of turn
            await db.send(action="sync", reqID="t", ranges={"c": {"bits": 0, "sums": "1" * 16}})
            assert [(await db.next())["op"] for _ in range(2)] == ["list", "turn"]
            outside = {"ranges": {"c": {"bits": 0, "sums": "0" * 16}}}
            await db.send(action="sync", reqID="t", **outside)
            assert "0 sums of 16 digits are due" in (await db.next())["message"]
            await db.send(action="sync", reqID="t2", ranges={"c": {"bits": 0, "sums": "1" * 16}})
            await db.until(lambda f: f.get("op") == "turn")
            await db.send(action="sync", reqID="t2", manifests={"other": {}})
            assert "was not named at the beginning" in (await db.next())["message"]

    run(scenario())


def test_the_bounds_of_syncs(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            pieces = 30
            for i in range(pieces):  # 120,000 ids
                ids = {f"k{i:02d}{k:05d}": 1 for k in range(4000)}
                await db.send(action="sync", reqID=1, manifests={"c": ids}, more=i + 1 < pieces)
            error = await db.next(20)
            assert error["code"] == "too_many" and "100000 ids" in error["message"]
            assert '"ranges"' in error["hint"]
            await db.until(lambda f: f.get("action") == "done" or f.get("type") == "error")
        async with await Client.open(server.url("/db")) as db:
            for i in range(4):
                await db.send(action="sync", reqID=i, manifests={"c": {}}, more=True)
            await db.send(action="sync", reqID=5, manifests={"c": {}})
            error = await db.next()
            assert (error["code"], error["reqID"]) == ("too_many", 5)
            await db.send(action="sync", reqID=2, manifests={"d": {}})
            assert (await db.next())["action"] == "done"
            await db.send(action="sync", reqID=5, manifests={"c": {}})
            assert (await db.next())["action"] == "done"
        # those of a connection that is gone are over
        wait_until(lambda: server.metric("tidewire_requests_running") == 0, 10, "all to be over")
        with Service(f"ipc://{server.directory}/data/service") as service:
            for words in ({"manifests": {"c": {}}, "more": True}, {"ranges": {"c": {"bits": 0}}}):
                answer = service.refused("sync", **words)
                assert answer["code"] == "unsupported" and "websocket" in answer["hint"], answer

    run(scenario())


@pytest.mark.sanitize
def test_a_sync_waits_for_an_asker_that_does_not_read(server):
    """And what is told is the cut at which it began, whatever happens meanwhile."""

    async def scenario():
        none = dict.fromkeys([f"gone{i}" for i in range(30)], 1)
        async with await Client.open(server.url("/db")) as db:
            for i in range(600):
                put = await db.one("put", collection="c", doc={"_id": i, "text": "x" * 40000})
            await log_reaches(server.url(), put["since"])
            socket = await websockets.connect(
                server.url("/db"), max_size=None, compression=None, ping_interval=None, max_queue=1
            )
            async with Client(socket) as slow:
                await slow.send(action="sync", reqID=1, manifests={"c": {}, "none": none})
                wait_until(lambda: server.metric("tidewire_requests_paused") >= 1, 10, "a pause")
                for i in range(0, 600, 2):
                    await db.one("put", collection="c", doc={"_id": i, "text": "new"})
                await db.one("remove", collection="c", query={"text": {"$ne": "new"}})
                put = await db.one("put", collection="c", doc={"_id": "later", "text": "new"})
                await log_reaches(server.url(), put["since"])
                frames = await slow.until(lambda f: f.get("action") == "done", 60)
                told = [f["key"] for f in frames if f.get("op") == "insert"]
                assert sorted(told) == list(range(600))
                assert all(f["version"] == 1 for f in frames if f.get("op") == "insert")
                assert [f["key"] for f in frames if f.get("op") == "remove"] == list(none)
                await slow.send(type="subscribe", mux_id=1, c="*", since=frames[-1]["since"])
                frames = await slow.until_sync()
                puts = [f["key"] for f in frames if f["type"] == "record"]
                assert puts == [*range(0, 600, 2), "later"]
                removed = {f["key"] for f in frames if f["type"] == "remove"}
                assert removed == set(range(1, 600, 2))

    run(scenario())
