"""The change stream: every change of every collection, live at once, resumable."""

import json
import subprocess

from clients import Client, log_reaches, run
from server import BINARY, PATIENCE_S, wait_until


def without(doc):
    return {k: v for k, v in doc.items() if k != "_version"}


def keys_of(frames):
    return [f["documentKey"]["_id"] for f in frames if "op" in f]


async def all_of(db, changes):
    """Insert, update, delete as one client writes and another is told."""
    await db.send(action="insert", reqID="r1", collection="a", doc={"_id": 1, "x": 1, "gone": 2})
    fields = {"action": "update", "reqID": "r2", "collection": "a", "id": 1}
    await db.send(**fields, operations=[["SET", "x", 5], ["DELETE", "gone"]])
    await db.send(action="remove", reqID="r3", collection="a", id=1)
    return [await changes.next() for _ in range(3)]


def test_changes_start_live_and_tell_insert_update_delete(any_layout):
    async def scenario():
        url = any_layout.url
        async with await Client.open(url("/db")) as db, await Client.open(url("/changes")) as on:
            sync = await on.next()
            assert sync["type"] == "sync" and "mux_id" not in sync, sync
            insert, update, delete = await all_of(db, on)
            srv = sync["since"][0][0]
            assert insert["op"] == "insert" and insert["ns"] == {
                "db": any_layout.database,
                "coll": "a",
            }
            assert insert["documentKey"] == {"_id": 1} and insert["origin"] == "r1"
            assert without(insert["fullDocument"]) == {"_id": 1, "x": 1, "gone": 2}
            assert "updateDescription" not in insert
            assert not {"type", "mux_id"} & insert.keys()
            assert update["op"] == "update" and update["origin"] == "r2"
            assert without(update["fullDocument"]) == {"_id": 1, "x": 5}
            told = update["updateDescription"]
            assert without(told["updatedFields"]) == {"x": 5}
            assert told["removedFields"] == ["gone"]
            assert delete["op"] == "delete" and delete["origin"] == "r3"
            assert delete["documentKey"] == {"_id": 1} and "fullDocument" not in delete
            positions = [(f["srv_id"], f["seqno"]) for f in (insert, update, delete)]
            if any_layout.database == "main":  # the embedded store numbers its changes
                assert positions == [(srv, sync["since"][0][1] + i) for i in (1, 2, 3)]
            assert positions == sorted(set(positions)) and positions[0][0] == srv
            assert positions[0][1] > sync["since"][0][1]
            assert [f.get("prev") for f in (update, delete)] == [p[1] for p in positions[:2]]

    run(scenario())


def test_update_descriptions_name_paths(server):
    """Documents within documents by dotted paths, as MongoDB tells them; what a path cannot name,
    and arrays, whole."""

    async def scenario():
        url = server.url
        async with await Client.open(url("/db")) as db, await Client.open(url("/changes")) as on:
            await on.until_sync()
            old = {"b": 1, "c": {"d": 2, "e": 3}, "same": 0}
            before = {"_id": 1, "a": old, "l": [1, 2], "z": 1}
            new = {"b": 9, "c": {"d": 2}, "same": 0, "new": {"x": 1}}
            after = {"_id": 1, "a": new, "l": [1, 3]}
            odd = {"_id": 1, "a": {"b.c": 1}, "l": {"0": 3}}
            for doc in (before, after, odd):
                await db.one("put", collection="a", doc=doc)
            told = [(await on.next()).get("updateDescription") for _ in range(3)]
            assert told[0] is None
            assert without(told[1]["updatedFields"]) == {"a.b": 9, "a.new": {"x": 1}, "l": [1, 3]}
            assert sorted(told[1]["removedFields"]) == ["a.c.e", "z"]
            assert without(told[2]["updatedFields"]) == {"a": {"b.c": 1}, "l": {"0": 3}}
            assert told[2]["removedFields"] == []

    run(scenario())


def test_changes_tell_the_writers_own_and_collections_that_come_later(server):
    async def scenario():
        async with await Client.open(server.url("/changes")) as both:
            await both.until_sync()
            for i, name in enumerate(["one", "two", "three"]):
                own = {"action": "insert", "reqID": i, "collection": name, "doc": {"_id": i}}
                await both.send(**own)
                seen = {}
                while len(seen) < 2:  # the reply and the change, in either order
                    frame = await both.next()
                    seen["change" if "op" in frame else "reply"] = frame
                assert seen["change"]["ns"]["coll"] == name
                assert seen["change"]["origin"] == str(i)

    run(scenario())


def test_changes_watch_narrows_and_resumes(server):
    async def scenario():
        url = server.url
        async with await Client.open(url("/db")) as db, await Client.open(url("/changes")) as on:
            begin = (await on.until_sync())[-1]["since"]
            for i in range(4):
                done = await db.one("put", collection="ab"[i % 2], doc={"_id": i})
            assert keys_of([await on.next() for _ in range(4)]) == [0, 1, 2, 3]
            await on.send(action="watch", reqID="w1", collections=["a"])
            closed, sync = await on.next(), await on.next()
            assert closed["type"] == "closed" and begin < closed["since"]
            assert closed["since"] == done["since"]
            assert sync["type"] == "sync" and sync["reqID"] == "w1"
            await db.one("put", collection="b", doc={"_id": 5})
            await db.one("put", collection="a", doc={"_id": 4, "x": 1})
            assert keys_of([await on.next()]) == [4]
            # from a position: the newest version of each record, an update where all were told
            await db.one("update", collection="a", id=0, fields={"x": 1})
            await db.one("update", collection="a", id=4, fields={"x": 2})
            gone = await db.one("remove", collection="b", id=1)
            await on.next(), await on.next()
            await log_reaches(url(), gone["since"])
            await on.send(action="watch", reqID="w2", since=closed["since"], mux_id="m")
            assert (await on.next())["type"] == "closed"
            frames = await on.until_sync()
            assert all(f["mux_id"] == "m" for f in frames)
            assert [(f["op"], f["documentKey"]["_id"]) for f in frames[:-1]] == [
                ("insert", 5),
                ("update", 0),
                ("replace", 4),
                ("delete", 1),
            ]
            assert without(frames[1]["updateDescription"]["updatedFields"]) == {"x": 1}
            assert frames[-1]["reqID"] == "w2"
            # from nothing: what is stored
            await on.send(action="watch", since=[])
            frames = (await on.until_sync())[1:-1]
            assert sorted(keys_of(frames)) == [0, 2, 3, 4, 5]
            assert {f["op"] for f in frames} == {"insert"}

    run(scenario())


def test_changes_refuse_what_is_wrong_and_go_on(make_server, tmp_path):
    server = make_server().start()

    async def scenario():
        async with await Client.open(server.url("/changes")) as on:
            await on.until_sync()
            for wrong, code in [
                ({"collections": "a"}, "bad_message"),
                ({"collections": []}, "bad_message"),
                ({"since": [[1, 2], [1, 3]]}, "bad_since"),
                ({"mux_id": {}}, "bad_message"),
            ]:
                await on.send(action="watch", reqID="w", **wrong)
                error = await on.next()
                assert error["type"] == "error" and error["code"] == code, error
                assert error["reqID"] == "w"
            await on.send(action="insert", reqID=1, collection="a", doc={"_id": 1})
            assert any("op" in f for f in [await on.next(), await on.next()])

    run(scenario())


def test_changes_resume_after_a_kill(make_server):
    server = make_server().start()

    async def before():
        url = server.url
        async with await Client.open(url("/db")) as db, await Client.open(url("/changes")) as on:
            sync = await on.next()
            for i in range(20):
                await db.one("insert", collection=f"c{i % 3}", doc={"_id": i})
            frames = [await on.next() for _ in range(12)]
            assert keys_of(frames) == list(range(12))
            return [[sync["since"][0][0], frames[-1]["seqno"]]]

    async def after(since):
        async with await Client.open(server.url("/changes")) as on:
            await on.until_sync()
            await on.send(action="watch", since=since)
            assert (await on.next())["type"] == "closed"
            frames = await on.until_sync()
            assert keys_of(frames) == list(range(12, 20))

    since = run(before())
    server.kill()
    server.start()
    run(after(since))


def test_tidewire_changes_counts_and_survives_a_kill(make_server, tmp_path):
    server = make_server().start()
    out = tmp_path / "changes"
    with out.open("w") as to, (tmp_path / "errors").open("w") as errors:
        words = ["changes", "--count", "6", "--url", f"ws://127.0.0.1:{server.port}"]
        process = subprocess.Popen(
            [BINARY, *words], stdout=to, stderr=errors, stdin=subprocess.DEVNULL
        )
        try:
            wait_until(
                lambda: server.metric("tidewire_streams_live") >= 1, 10, "the stream to be live"
            )
            for i in range(3):
                server.run("put", "people", f'{{"_id":{i},"n":{i}}}')
            wait_until(lambda: len(out.read_text().splitlines()) == 3, 10, "three changes")
            server.kill()
            server.start()
            for i in range(3, 6):
                server.run("put", "people", f'{{"_id":{i},"n":{i}}}')
            assert process.wait(timeout=PATIENCE_S) == 0
        finally:
            process.kill()
            process.wait()
    frames = [json.loads(line) for line in out.read_text().splitlines()]
    assert keys_of(frames) == list(range(6)), frames
    assert {f["op"] for f in frames} == {"insert"}
    # and from a position that is given
    first = json.dumps([[frames[0]["srv_id"], frames[0]["seqno"]]])
    again = server.run("changes", "people", "--since", first, "--count", "5")
    told = [json.loads(line) for line in again.stdout.splitlines()]
    assert keys_of(told) == list(range(1, 6))
    # a database of another name
    message = {"action": "put", "collection": "people", "database": "crm", "doc": {"_id": 1}}
    run(put_one(server, message))
    since = json.dumps([[frames[0]["srv_id"], frames[-1]["seqno"]]])
    words = ["changes", "people", "--database", "crm", "--since", since, "--count", "1"]
    assert json.loads(server.run(*words).stdout)["ns"] == {"db": "crm", "coll": "people"}


async def put_one(server, message):
    async with await Client.open(server.url("/db")) as db:
        await db.send(**message)
        assert "since" in await db.next()
