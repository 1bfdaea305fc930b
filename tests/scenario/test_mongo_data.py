"""Data access on MongoDB: what the suite that runs on both stores does not ask: other writers,
transactions, operation ids across kills, a server that steps down, hangs and goes away.
"""

import asyncio
import itertools
import json
import os
import time

import bson
import pymongo
import pytest
from bson import json_util
from pymongo.errors import PyMongoError

import mongo_oracle
from clients import Client, log_reaches, run
from mongo import Mongo
from server import PATIENCE_S, Server, wait_until


numbers = itertools.count()
SLACK_S = 15  # a busy machine


@pytest.fixture
def database(mongo):
    return mongo.new_database()


@pytest.fixture
def make(mongo, database):
    """Makes servers on the test's database."""
    made = []

    def make_one(flags=(), **options):
        server = Server(flags=[*flags, *mongo.flags(database)], **options)
        made.append(server)
        return server

    yield make_one
    for server in made:
        server.close()


@pytest.fixture
def own_mongo():
    """A server of the test's own, which it may kill and stop."""
    server = Mongo(f"own-{os.getpid()}-{next(numbers)}")
    if not server.is_own:
        pytest.skip("TEST_MONGO_URI names a server that is not ours to kill")
    server.start()
    yield server
    server.verb("resume", check=False)
    server.verb("start", check=False)
    server.stop()


def stored(mongo, database, collection="c", **query):
    return list(mongo.client[database][collection].find(query).sort("_id"))


# ---- what stands in the deployment ----
def test_records_are_mongodb_documents(make, mongo, database):
    server = make().start()
    oid = bson.ObjectId()

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            done = await db.one("insert", collection="c", doc={"_id": {"$oid": str(oid)}, "a": 1})
            assert done["key"] == {"$oid": str(oid)} and done["version"] == 1
            made = await db.one("insert", collection="c", doc={"a": 2})
            assert "$oid" in made["key"]
            await db.one("put", collection="c", doc={"_id": 7, "d": {"$date": 5}})
            await db.one("update", collection="c", id=7, operations=[["APPEND", "l", 1]])
            new = (await db.one("get_new_id", collection="c"))["id"]
            assert bson.ObjectId(new["$oid"])

    run(scenario())
    documents = {d["_id"]: d for d in stored(mongo, database)}
    assert documents[oid] == {"_id": oid, "a": 1, "_version": 1}
    assert documents[7]["_version"] == 2 and documents[7]["l"] == [1]
    assert documents[7]["d"].year == 1970
    assert len(documents) == 3


def test_a_declared_key_is_the_id(make, mongo, database):
    server = make(flags=["--preset", "report"]).start()
    thread = {"proj_id": 7, "thread_uuid": "t", "user_id": 3, "links": [["entry", "e"]]}

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            await db.one("insert", collection="threads", doc=thread)
            doc = (await db.ask("detail", collection="threads", id="t"))[0]["doc"]
            assert doc["thread_uuid"] == "t" and "_id" not in doc
            found = await db.ask("find", collection="threads", query={"thread_uuid": "t"})
            assert len(found) == 2 and "_id" not in found[0]["doc"]
            refused = (await db.ask("insert", collection="threads", doc=thread))[-1]
            assert refused["code"] in ("conflict", "rule")

    run(scenario())
    (document,) = stored(mongo, database, "threads")
    assert document["_id"] == document["thread_uuid"] == "t"


def test_rules_of_the_report_preset_hold(make):
    server = make(flags=["--preset", "report"]).start()
    entry = {
        "proj_id": 7,
        "report_uuid": "r",
        "entry_uuid": "e",
        "version_uuid": "v1",
        "user_id": 3,
        "clip_id": "c",
        "authortime": "2022-01-01T00:00:00Z",
        "content": {"f": "x"},
        "modifies": None,
        "reason": None,
    }
    edit = {**entry, "version_uuid": "v2", "modifies": ["v1"], "reason": "better"}

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            await db.one("insert", collection="entries", doc=entry)
            unknown = (
                await db.ask("insert", collection="entries", doc={**edit, "modifies": ["nope"]})
            )[-1]
            assert unknown["code"] == "rule" and unknown["rule"].startswith("entry."), unknown
            await db.one("insert", collection="entries", doc=edit)
            changed = (
                await db.ask("update", collection="entries", id="v1", fields={"clip_id": "other"})
            )[-1]
            assert changed["code"] == "rule", changed
            # archived: the vector covers the record's own position, which the log knows
            done = await db.one("insert", collection="entries", doc={**entry, "version_uuid": "v3"})
            archived = await db.one(
                "update", collection="entries", id="v3", fields={"archivetime": done["since"]}
            )
            await log_reaches(server.url(), archived["since"])
            async with await Client.open(server.url()) as ws:
                await ws.send(type="subscribe", mux_id=1, project_id=7, entries="*")
                frames = await ws.until_sync()
                assert [f["version_uuid"] for f in frames[:-1]] == ["v1", "v2"]

    run(scenario())


def test_reserved_databases_are_not_reached(make):
    server = make().start()

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            for database in ("tidewire", "admin", "config", "local"):
                for action, more in [
                    ("find", {}),
                    ("count", {}),
                    ("insert", {"doc": {"a": 1}}),
                    ("aggregate", {"pipeline": []}),
                ]:
                    refused = (
                        await db.ask(action, collection="meta", database=database, **more)
                    )[-1]
                    assert refused["code"] == "forbidden", (action, refused)
            operator = (await db.ask("put", collection="c", doc={"_id": 1, "$set": {"a": 1}}))[-1]
            assert operator["code"] == "bad_document"
            where = (await db.ask("find", collection="c", query={"$where": "true"}))[-1]
            assert where["code"] == "bad_filter"

    run(scenario())


# ---- reading ----
def test_pages_go_through_keys_of_every_type(make, mongo, database):
    keys = [1, 2.5, 3, "a", "b", {"x": 1}, b"bytes", bson.ObjectId(), True]
    keys += [f"k{i:04}" for i in range(700)] + list(range(100, 500))
    mongo.client[database].c.insert_many(
        [{"_id": key, "n": i, "text": "x" * 300} for i, key in enumerate(keys)]
    )
    server = make().start()

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            found = await db.ask("find", collection="c", fields=["n"])
            assert sorted(r["doc"]["n"] for r in found[:-1]) == list(range(len(keys)))
            assert found[-1]["count"] == len(keys) and "more" not in found[-1]
            some = await db.ask("find", collection="c", skip=5, limit=1000, fields=["n"])
            assert [r["doc"] for r in some[:-1]] == [r["doc"] for r in found[5:1005]]
            by_n = await db.ask("find", collection="c", sort={"n": -1}, limit=3, skip=1)
            last = len(keys)
            assert [r["doc"]["n"] for r in by_n[:-1]] == [last - 2, last - 3, last - 4]
            assert (await db.one("count", collection="c"))["count"] == len(keys)

    run(scenario())


def test_an_id_has_both_readings(make):
    server = make().start()
    text = "0123456789abcdef01234567"

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            await db.one("put", collection="c", doc={"_id": text, "is": "text"})
            assert (await db.ask("getByIds", collection="c", ids=[text]))[0]["doc"]["is"] == "text"
            await db.one("put", collection="c", doc={"_id": {"$oid": text}, "is": "oid"})
            assert (await db.ask("getByIds", collection="c", ids=[text]))[0]["doc"]["is"] == "oid"

    run(scenario())


def test_aggregate_passes_what_is_allowed(make, mongo, database):
    mongo.client[database].c.insert_many([{"_id": i, "a": i % 3, "n": i} for i in range(30)])
    mongo.client[database].names.insert_many([{"_id": i, "name": f"n{i}"} for i in range(3)])
    server = make().start()

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            found = await db.ask(
                "aggregate",
                collection="c",
                pipeline=[
                    {"$match": {"n": {"$lt": 27}}},
                    {"$group": {"_id": "$a", "sum": {"$sum": "$n"}}},
                    {"$sort": {"_id": 1}},
                    {"$lookup": {"from": "names", "localField": "_id", "foreignField": "_id",
                                 "as": "names"}},
                ],
            )  # fmt: skip
            assert [(r["doc"]["_id"], r["doc"]["names"][0]["name"]) for r in found[:-1]] == [
                (0, "n0"),
                (1, "n1"),
                (2, "n2"),
            ]
            assert sum(r["doc"]["sum"] for r in found[:-1]) == sum(range(27))
            assert found[-1] == {**found[-1], "action": "done", "count": 3}
            few = await db.ask("aggregate", collection="c", pipeline=[{"$sort": {"n": 1}}], limit=2)
            assert [r["doc"]["n"] for r in few[:-1]] == [0, 1] and few[-1]["more"] is True
            for stage in ({"$out": "x"}, {"$merge": {"into": "x"}}, {"$unionWith": "names"}):
                refused = (await db.ask("aggregate", collection="c", pipeline=[stage]))[-1]
                assert refused["code"] == "bad_query" and next(iter(stage)) in refused["message"]
            wrong = (
                await db.ask("aggregate", collection="c", pipeline=[{"$project": {"a": "$$nope"}}])
            )[-1]
            assert wrong["type"] == "error" and wrong["code"] in ("bad_query", "internal"), wrong

    run(scenario())
    assert "x" not in mongo.client[database].list_collection_names()


# ---- updates mean on the server what the broker says ----
def test_updates_are_those_of_the_server(make, mongo, database):
    """Generated updates, through Tidewire and given to the server itself: the same documents."""
    rng = mongo_oracle.seeded(7)
    server = make().start()
    direct = mongo.client[database].direct
    compared = refused = 0

    async def scenario():
        nonlocal compared, refused
        async with await Client.open(server.url("/db")) as db:
            for number in range(400):
                doc = {"_id": number, **mongo_oracle.document(rng)}
                update = mongo_oracle.update(rng)
                await db.one("put", collection="c", doc=doc)
                direct.insert_one(json_util.loads(json.dumps(doc)))
                reply = (await db.ask("update", collection="c", id=number, update=update))[-1]
                try:
                    direct.update_one({"_id": number}, json_util.loads(json.dumps(update)))
                except PyMongoError:
                    assert reply.get("type") == "error", (doc, update, reply)
                    refused += 1
                    continue
                if reply.get("type") == "error":  # the broker may be stricter, never looser
                    assert reply["code"] == "bad_update", (doc, update, reply)
                    refused += 1
                    direct.replace_one({"_id": number}, json_util.loads(json.dumps(doc)))
                compared += 1

    run(scenario())
    through = {d["_id"]: d for d in stored(mongo, database)}
    for document in direct.find():
        ours = through[document["_id"]]
        ours.pop("_version")
        assert ours == document
    assert compared > 100 and refused > 10, (compared, refused)


def test_nothing_changed_is_no_change(make, mongo, database):
    server = make().start()

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            await db.one("put", collection="c", doc={"_id": 1, "a": 1})
            same = await db.one("update", collection="c", id=1, fields={"a": 1})
            assert (same["count"], same["version"]) == (0, 1)

    run(scenario())
    assert stored(mongo, database)[0]["_version"] == 1


# ---- other writers ----
def test_concurrent_writers_lose_nothing(make, mongo, database):
    """Two nodes and a foreign writer count up one record: every increment is there."""
    servers = [make().start() for _ in range(2)]
    mongo.client[database].c.insert_one({"_id": 1, "n": 0, "m": 0})
    at_begin = int(time.time() - 1577836800 - 60) * 2**21  # a position of a minute ago
    each = 60

    async def count_up(server):
        async with await Client.open(server.url("/db")) as db:
            for _ in range(each):
                while True:
                    reply = (
                        await db.ask("update", collection="c", id=1, operations=[["INC", "n", 1]])
                    )[-1]
                    if reply.get("type") != "error":
                        break
                    assert reply["code"] == "busy", reply

    async def foreign():
        for _ in range(each):
            await asyncio.to_thread(
                mongo.client[database].c.update_one, {"_id": 1}, {"$inc": {"m": 1}}
            )

    async def scenario():
        await asyncio.gather(*(count_up(server) for server in servers), foreign())

    run(scenario())
    (document,) = stored(mongo, database)
    assert (document["n"], document["m"]) == (2 * each, each)
    # the first of Tidewire's gives it one above the position at which it was read; each adds one
    assert document["_version"] - 2 * each >= at_begin


def test_conditions_and_unique_indexes(make, mongo, database):
    mongo.client[database].c.create_index("email", unique=True, sparse=True)
    server = make().start()

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            await db.one("insert", collection="c", doc={"_id": 1, "email": "a"})
            taken = (await db.ask("put", collection="c", doc={"_id": 2, "email": "a"}))[-1]
            assert taken["code"] == "conflict" and "unique" in taken["message"], taken
            stale = (
                await db.ask("put", collection="c", doc={"_id": 1, "email": "b"}, if_version=9)
            )[-1]
            assert (stale["code"], stale["version"]) == ("conflict", 1)
            absent = (await db.ask("put", collection="c", doc={"_id": 1}, if_version=0))[-1]
            assert (absent["code"], absent["version"]) == ("conflict", 1)
            missing = (await db.ask("update", collection="c", id=5, fields={"a": 1}))[-1]
            assert missing["code"] == "not_found"
            gone = (await db.ask("remove", collection="c", id=5))[-1]
            assert gone["code"] == "not_found"
            done = await db.one("remove", collection="c", id=1, if_version=1)
            assert done["count"] == 1

    run(scenario())
    assert stored(mongo, database) == []


# ---- operation ids ----
def test_if_version_takes_what_streams_tell(make, mongo, database):
    server = make().start()
    people = mongo.client[database].people

    async def scenario():
        async with await Client.open(server.url("/db")) as db, await Client.open(
            server.url("/ws")
        ) as stream:
            await stream.send(type="subscribe", mux_id=1, collections={"people": "*"})

            async def told(n):
                frames = await stream.until(
                    lambda f: f.get("type") == "record" and f["doc"].get("n") == n
                )
                return frames[-1]["version"]

            people.insert_one({"_id": 1, "n": 1})  # of a writer who does not count
            first = await told(1)
            there = (await db.ask("insert", collection="people", doc={"_id": 1}))[-1]
            assert (there["code"], there["version"]) == ("conflict", first), there
            people.update_one({"_id": 1}, {"$set": {"n": 2}})
            second = await told(2)
            assert second > first
            stale = (await db.ask("update", collection="people", id=1, fields={"n": 9},
                                  if_version=first))[-1]  # fmt: skip
            assert stale["code"] == "conflict", stale
            assert stale["version"] == second
            done = await db.one("update", collection="people", id=1, fields={"n": 3},
                                if_version=second)  # fmt: skip
            third = await told(3)
            assert third > second
            assert done["version"] == third, "one number: in answer, streams and document"
            assert stored(mongo, database, "people")[0]["_version"] == third
            people.replace_one({"_id": 1}, {"n": 3.5, "_version": third})  # one who does not count
            same_field = await told(3.5)
            assert same_field > third, "a number is of one document"
            third = same_field
            await db.one("remove", collection="people", id=1, if_version=third)
            await db.one("insert", collection="people", doc={"_id": 1, "n": 4})
            again = await told(4)
            assert again > third, "the number goes on where the record comes back"
            await db.one("update", collection="people", id=1, fields={"n": 5}, if_version=again)
            assert await told(5) > again

    run(scenario())
    assert stored(mongo, database, "people")[0]["n"] == 5


def test_an_opid_takes_effect_once_across_kills(make, mongo, database):
    server = make().start()

    async def add(opid):
        async with await Client.open(server.url("/db")) as db:
            return await db.one(
                "update", collection="c", id=1, operations=[["INC", "n", 1]], opid=opid
            )

    async def put():
        async with await Client.open(server.url("/db")) as db:
            await db.one("put", collection="c", doc={"_id": 1, "n": 0})

    run(put())
    first = run(add("a"))
    server.kill()
    server.start()
    again = run(add("a"))
    assert (again["version"], again["count"]) == (first["version"], first["count"]) == (2, 1)
    assert again["since"] >= first["since"]
    other_node = make().start()
    server = other_node
    assert run(add("a"))["version"] == 2
    assert run(add("b"))["version"] == 3
    assert stored(mongo, database)[0]["n"] == 2
    ids = [f"{database}/a", f"{database}/b"]
    marks = list(mongo.client.tidewire.opids.find({"_id": {"$in": ids}}))
    assert len(marks) == 2 and all("at" in mark for mark in marks)
    indexes = mongo.client.tidewire.opids.index_information()
    assert any(index.get("expireAfterSeconds") == 86400 for index in indexes.values())


def test_an_import_shares_transactions(make, mongo, database, tmp_path):
    """Each record has an opid, which costs a transaction: those that wait go together."""
    server = make().start()
    path = tmp_path / "records.ndjson"
    records = [{"_id": i, "n": i % 7} for i in range(1000)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = server.run("import", "c", str(path))
    assert "imported 1000 records" in done.stdout, done.stdout + done.stderr
    kept = [{key: each[key] for key in ("_id", "n")} for each in stored(mongo, database)]
    assert kept == records
    assert server.metric("tidewire_mongo_transactions_total") < 500


def test_an_opid_of_a_transaction_is_kept_whole(make, mongo, database):
    server = make().start()
    ops = [
        {"op": "insert", "doc": {"_id": 1, "n": 1}},
        {"op": "update", "id": 1, "operations": [["INC", "n", 1]]},
        {"op": "insert", "doc": {"_id": 2}},
    ]

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            first = await db.one("batch", collection="c", ops=ops, atomic=True, opid="t")
            again = await db.one("batch", collection="c", ops=ops, atomic=True, opid="t")
            assert [r["version"] for r in first["results"]] == [1, 2, 1]
            assert first["results"] == again["results"] and first["since"] == again["since"]
            bad = [*ops[2:], {"op": "insert", "doc": {"_id": 3}}]
            refused = (await db.ask("batch", collection="c", ops=bad[::-1], atomic=True))[-1]
            assert stored(mongo, database, _id=3) == [], refused

    run(scenario())
    assert [(d["_id"], d.get("n")) for d in stored(mongo, database)] == [(1, 2), (2, None)]


def test_silent_writes_are_silent_on_every_node(make):
    one, two = make().start(), make().start()

    async def scenario():
        async with await Client.open(one.url("/db")) as db, await Client.open(
            one.url()
        ) as here, await Client.open(two.url()) as there:
            for ws in (here, there):
                await ws.send(type="subscribe", mux_id=1, collections={"c": "*"})
                await ws.until_sync()
            await db.one("put", collection="c", doc={"_id": 1}, dispatch=False)
            await db.one("put", collection="c", doc={"_id": 2})
            for ws in (here, there):
                frames = await ws.until(lambda f: f["type"] == "record")  # perhaps behind a sync
                assert frames[-1]["key"] == 2, frames

    run(scenario())


# ---- a server in trouble ----
def fail_command(client, times, **data):
    client.admin.command(
        {"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data}
    )


def test_a_closed_connection_and_a_step_down_double_nothing(make, mongo, database):
    if not mongo.is_own:
        pytest.skip("fail points are for a server of our own")
    server = make().start()

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            await db.one("put", collection="c", doc={"_id": 1, "n": 0})
            for commands, more in [
                (["update"], {"closeConnection": True}),
                (["update"], {"errorCode": 10107}),
                (["update"], {"errorCode": 189, "errorLabels": ["RetryableWriteError"]}),
                (["commitTransaction"], {"closeConnection": True}),
                (["find"], {"closeConnection": True}),
            ]:
                before = (await db.ask("detail", collection="c", id=1))[0]["doc"]
                fail_command(mongo.client, 1, failCommands=commands, **more)
                opid = {"opid": "o"} if commands == ["commitTransaction"] else {}
                operations = [["INC", "n", 1]]
                reply = (
                    await db.ask("update", collection="c", id=1, operations=operations, **opid)
                )[-1]
                if reply.get("type") == "error":
                    assert (reply["code"], reply["retry"]) == ("unavailable", "backoff"), reply
                    assert reply["after_ms"] > 0
                while True:  # until it serves again
                    now = (await db.ask("detail", collection="c", id=1))[0]
                    if now.get("type") != "error":
                        break
                done = now["doc"]["n"] - before["n"]
                assert done == 1 if reply.get("type") != "error" else done in (0, 1)
                assert now["doc"]["_version"] - before["_version"] == done

    run(scenario())


@pytest.mark.slow
def test_a_stopped_server_is_told_in_time_and_comes_back(own_mongo):
    """Killed, then hanging: reads and writes are answered within 5 s, and streams stay."""
    database = "tidewire_test_down"
    with Server(flags=own_mongo.flags(database)) as server:

        async def scenario():
            async with await Client.open(server.url("/db")) as db, await Client.open(
                server.url()
            ) as ws:
                done = await db.one("put", collection="c", doc={"_id": 1, "n": 0})
                await log_reaches(server.url(), done["since"])
                await ws.send(type="subscribe", mux_id=1, collections={"c": "*"})
                assert len(await ws.until_sync()) == 2
                for down, up in (("kill", "start"), ("pause", "resume")):
                    own_mongo.verb(down)
                    for action, more in [
                        ("put", {"doc": {"_id": 2}}),
                        ("find", {}),
                        ("put", {"doc": {"_id": 2}}),
                        ("count", {}),
                    ]:
                        began = time.monotonic()
                        reply = (await db.ask(action, collection="c", seconds=20, **more))[-1]
                        took = time.monotonic() - began
                        assert reply["code"] in ("unavailable", "timeout"), reply
                        assert reply["retry"] == "backoff" and reply["after_ms"] > 0
                        assert took < 5 + SLACK_S, (down, action, took)
                    # what the log has is served all the same
                    await ws.send(type="subscribe", mux_id=down, collections={"c": "*"})
                    frames = await ws.until_sync()
                    assert any(f.get("key") == 1 for f in frames)
                    own_mongo.verb(up)
                    end = time.monotonic() + PATIENCE_S
                    while True:
                        reply = (await db.ask("update", collection="c", seconds=20, id=1,
                                              operations=[["INC", "n", 1]]))[-1]  # fmt: skip
                        if reply.get("type") != "error":
                            break
                        assert time.monotonic() < end, reply
                    await log_reaches(server.url(), reply["since"], 30)

        run(scenario())
        assert server.metric("tidewire_mongo_write_failures_total") > 0


def test_kills_of_the_server_lose_no_acknowledged_write(own_mongo):
    database = "tidewire_test_kills"
    with Server(flags=own_mongo.flags(database)) as server:
        acknowledged = []

        async def scenario():
            async with await Client.open(server.url("/db")) as db:
                for number in range(90):
                    if number % 30 == 15:
                        own_mongo.verb("kill")
                        own_mongo.verb("start")
                    end = time.monotonic() + PATIENCE_S
                    while True:
                        reply = (
                            await db.ask(
                                "update",
                                seconds=20,
                                collection="c",
                                id=1,
                                operations=[["INC", "n", 1]],
                                opid=f"n{number}",
                            )
                            if number > 0
                            else await db.ask("put", collection="c", doc={"_id": 1, "n": 0})
                        )[-1]
                        if reply.get("type") != "error":
                            acknowledged.append(number)
                            break
                        assert reply["retry"] != "no", reply
                        assert time.monotonic() < end, reply

        run(scenario())
        client = pymongo.MongoClient(own_mongo.uri, serverSelectionTimeoutMS=PATIENCE_S * 1000)
        document = client[database].c.find_one({"_id": 1})
        client.close()
        assert len(acknowledged) == 90
        assert document["n"] == 89, "each opid took effect once"
        assert document["_version"] == 90


def test_the_start_is_refused_with_a_hint_where_the_uri_is_wrong(tmp_path):
    server = Server(flags=["--mongo", "mongodb://user:s3cret@host:bad/"], directory=tmp_path)
    server.start(ready=False)
    wait_until(lambda: server.processes[None].poll() is not None, 20, "its end")
    server.kill()
    told = server.tail()
    assert "MongoDB URI" in told and "s3cret" not in told, told
    server.log.close()


def test_collections_keep_post_images_where_asked(make, mongo, database):
    server = make(flags=["--mongo-post-images"]).start()

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            await db.one("put", collection="c", doc={"_id": 1})
            await db.one("put", collection="c", doc={"_id": 2})

    run(scenario())
    (info,) = mongo.client[database].list_collections(filter={"name": "c"})
    assert info["options"]["changeStreamPreAndPostImages"] == {"enabled": True}
    assert len(stored(mongo, database)) == 2


def test_doctor_looks_at_the_deployment(make, mongo, database):
    server = make().start()
    said = server.run("doctor", *mongo.flags(database), check=False).stdout
    for what in ("mongodb ", "replica set", "mongodb rights", "change stream", "oplog"):
        assert f"  {what}" in said, said
    assert "0 bad" in said, said
    away = server.run("doctor", "--mongo", "mongodb://127.0.0.1:1/", check=False)
    assert away.returncode == 1 and "BAD       mongodb" in away.stdout, away.stdout
