"""The realtime database: its events in both directions, schemas, drops, copies that agree."""

import asyncio
import json

import pytest
from clients import Client, log_reaches, run
from realtime import SCHEMA, Realtime, configured


def plain(record):
    return {k: v for k, v in record.items() if k != "_version"}


@pytest.fixture
def crm(make_server, tmp_path):
    return configured(make_server, tmp_path).start()


@pytest.fixture(params=["one", "ipc", "tcp"])
def any_crm(request, make_server, tmp_path):
    return configured(make_server, tmp_path, layout=request.param).start()


def test_database_all_events_go_both_ways(any_crm):
    """The five events, as they stand in the users' own document, answered and rebroadcast."""

    async def scenario():
        url = any_crm.url
        async with await Realtime.open(url("/ws")) as one, await Realtime.open(url("/db")) as two:
            schema = await one.listen("crm", reqID="s1")
            assert schema["reqID"] == "s1" and schema["name"] == "crm"
            assert schema["version"] == 12 and schema["changed"] is False
            names = ["person", "company", "interaction", "message"]
            assert schema["collections"] == [{"name": n, "keyPath": "_id"} for n in names]
            assert (await two.listen("crm"))["client"] != schema["client"]

            record = {"_id": "p1", "name": "Rodrigo Portela", "title": "Juggernaut"}
            person = {"db": "crm", "collection": "person"}
            added = await one.done("DB_RECORD_ADD", **person, record=record)
            assert added["key"] == "p1" and added["version"] == 1 and added["db"] == "crm"
            event = await two.next()
            assert event["event"] == "DB_RECORD_ADD" and event["collection"] == "person"
            assert plain(event["record"]) == record and event["version"] == 1
            assert event["key"] == "p1" and event["origin"] == f"{schema['client']}/r1"
            assert [[event["srv_id"], event["seqno"]]] == added["since"]

            put = await two.done("DB_RECORD_PUT", **person, record={**record, "title": "x"})
            assert put["version"] == 2
            await one.past("crm", put["since"])
            event = one.events[-1]
            assert event["event"] == "DB_RECORD_PUT" and event["record"]["title"] == "x"
            assert event["origin"].startswith(two.schemas["crm"]["client"])

            gone = await one.done("DB_RECORD_DELETE", **person, record={"_id": "p1"})
            await two.past("crm", gone["since"])
            event = two.events[-1]
            assert event["event"] == "DB_RECORD_DELETE" and event["key"] == "p1"
            assert event["record"] == {"_id": "p1"}

            await one.done("DB_RECORD_PUT", **person, record=record)
            await one.done("DB_RECORD_PUT", db="crm", collection="company", record={"_id": 1})
            await one.done("DB_RECORD_PUT", db="crm", collection="message", record={"_id": 1})
            dropped = await one.done("DB_COLLECTION_DROP", **person)
            assert dropped["count"] == 1
            await two.past("crm", dropped["since"])
            assert two.events[-1]["event"] == "DB_COLLECTION_DROP"
            assert two.events[-1]["collection"] == "person" and "key" not in two.events[-1]
            assert set(two.copies["crm"]) == {"company", "message"}

            whole = await one.done("DB_DATABASE_DROP", db="crm")
            assert whole["count"] == 2  # a record of the log for each collection, none for records
            await two.heard(lambda f: f.get("event") == "DB_DATABASE_DROP")
            assert "collection" not in two.events[-1] and two.events[-1]["db"] == "crm"
            assert [f["event"] for f in two.events[-2:]] == [
                "DB_COLLECTION_DROP",
                "DB_DATABASE_DROP",
            ]
            assert two.copies["crm"] == {}
            # the sender was told its own, in the same order
            await one.heard(lambda f: f.get("event") == "DB_DATABASE_DROP")
            told = [[f["seqno"] for f in c.events if "seqno" in f] for c in (one, two)]
            assert told[0] == told[1] == sorted(told[0]) and len(set(told[0])) == len(told[0])

    run(scenario())


def test_database_add_put_delete_semantics(crm):
    async def scenario():
        async with await Realtime.open(crm.url("/ws")) as one:
            person = {"db": "crm", "collection": "person"}
            await one.done("DB_RECORD_ADD", **person, record={"_id": 1, "a": 1})
            error = await one.refused("DB_RECORD_ADD", **person, record={"_id": 1, "a": 2})
            assert error["code"] == "conflict" and error["version"] == 1
            assert error["db"] == "crm" and error["collection"] == "person"
            # PUT inserts or replaces, under a condition where one is given
            assert (await one.done("DB_RECORD_PUT", **person, record={"_id": 2}))["version"] == 1
            put = {**person, "record": {"_id": 1, "b": 1}}
            error = await one.refused("DB_RECORD_PUT", **put, if_version=7)
            assert error["code"] == "conflict" and error["version"] == 1
            assert (await one.done("DB_RECORD_PUT", **put, if_version=1))["version"] == 2
            # a record without a key gets one, which a local database can hold
            made = await one.done("DB_RECORD_ADD", **person, record={"name": "no key"})
            assert isinstance(made["key"], str) and len(made["key"]) == 32
            shop = {"db": "shop", "collection": "item"}
            made = await one.done("DB_RECORD_PUT", **shop, record={"name": "no sku"})
            await log_reaches(crm.url(), made["since"])
            await one.listen("shop")
            assert plain(one.copies["shop"]["item"][json.dumps(made["key"])]) == {
                "sku": made["key"],
                "name": "no sku",
            }
            # the same opid has one effect, and its first answer
            twice = {**person, "record": {"name": "once"}, "opid": "o1"}
            first = await one.done("DB_RECORD_ADD", **twice)
            again = await one.done("DB_RECORD_ADD", **twice)
            assert (first["key"], first["since"]) == (again["key"], again["since"])
            # a key stands for itself: 24 hex digits are text, an ObjectId is spelled {"$oid"}
            text = "5f1f1f1f1f1f1f1f1f1f1f1f"
            await one.done("DB_RECORD_PUT", **person, record={"_id": text})
            await one.done("DB_RECORD_PUT", **person, record={"_id": {"$oid": text}})
            await one.done("DB_RECORD_DELETE", **person, key=text)
            error = await one.refused("DB_RECORD_DELETE", **person, key=text)
            assert error["code"] == "not_found"
            await one.done("DB_RECORD_DELETE", **person, key={"$oid": text})
            error = await one.refused("DB_RECORD_DELETE", **person, key=1, if_version=9)
            assert error["code"] == "conflict"

    run(scenario())


def test_database_late_listeners_get_all_or_what_they_missed(crm):
    async def scenario():
        url = crm.url
        async with await Realtime.open(url("/ws")) as one, await Realtime.open(url("/ws")) as two:
            await one.listen("crm")
            for i in range(300):
                put = {"db": "crm", "collection": "person", "record": {"_id": i}}
                last = await one.done("DB_RECORD_PUT", **put)
            await one.past("crm", last["since"])
            await two.listen("crm")
            assert two.copies == one.copies and len(two.copies["crm"]["person"]) == 300
            stored = [f["event"] for f in two.events if "seqno" in f]
            assert set(stored) == {"DB_RECORD_PUT"}
            await two.send("DB_CLOSE", db="crm")
            closed = await two.until(lambda f: f.get("event") == "DB_CLOSED")
            assert closed["since"] == two.since["crm"]
            last = await one.done("DB_RECORD_DELETE", db="crm", collection="person", key=7)
            await one.done("DB_COLLECTION_DROP", db="crm", collection="person")
            last = await one.done("DB_RECORD_ADD", db="crm", collection="person", record={"_id": 9})
            await one.past("crm", last["since"])
            before = len(two.events)
            await two.listen("crm", since=closed["since"])
            missed = [f["event"] for f in two.events[before:] if "seqno" in f]
            assert missed == ["DB_COLLECTION_DROP", "DB_RECORD_PUT"]
            assert two.copies == one.copies and len(two.copies["crm"]["person"]) == 1
            # from now on only
            await two.listen("crm", since="now", query="0000000000000000")
            # the stream before it ends first
            assert [f["event"] for f in two.events[-3:]] == ["DB_SCHEMA", "DB_CLOSED", "DB_SYNC"]
            # a position of another query is not good for this one
            before = len(two.events)
            await two.listen("crm", since=closed["since"], query="0000000000000000")
            assert two.events[before + 2]["event"] == "DB_RESET"
            assert two.events[before + 2]["reason"] == "changed"
            assert two.copies == one.copies

    run(scenario())


def test_database_a_change_of_the_schema_is_told(make_server, tmp_path):
    server = configured(make_server, tmp_path).start()

    async def first():
        async with await Realtime.open(server.url("/ws")) as one:
            schema = await one.listen("crm", version=12)
            assert schema["changed"] is False
            await one.done("DB_RECORD_PUT", db="crm", collection="person", record={"_id": 1})
            await one.until(lambda f: "seqno" in f)
            return one.since["crm"]

    async def second(since):
        async with await Realtime.open(server.url("/ws")) as one:
            schema = await one.listen("crm", version=12, since=since)
            assert schema["version"] == 13 and schema["changed"] is True
            names = [c["name"] for c in schema["collections"]]
            assert names == ["person", "company", "interaction", "message", "note"]
            # the copy begins anew, whatever since says
            assert [f["event"] for f in one.events] == [
                "DB_SCHEMA",
                "DB_RESET",
                "DB_RECORD_PUT",
                "DB_SYNC",
            ]
            await one.done("DB_RECORD_PUT", db="crm", collection="note", record={"_id": 1})
            since = one.since["crm"]
            schema = await one.listen("crm", version=13, since=since)
            assert schema["changed"] is False
            assert not any(f["event"] == "DB_RESET" for f in one.events[5:] if "event" in f)
        async with await Client.open(server.url("/ws")) as client:
            await client.send(type="hello")
            welcome = await client.next()
            assert welcome["databases"] == [
                {"name": "crm", "version": 13},
                {"name": "shop", "version": 3},
            ]

    since = run(first())
    server.stop()
    note = SCHEMA.replace("version: 12", "version: 13").replace(
        "{name: message, keyPath: _id}", "{name: message, keyPath: _id}\n      - {name: note}"
    )
    (tmp_path / "tidewire.yaml").write_text(note)
    server.start()
    run(second(since))


def test_database_several_on_one_server_and_one_connection(crm):
    async def scenario():
        url = crm.url
        async with await Realtime.open(url("/ws")) as both, await Realtime.open(url("/ws")) as shop:
            await both.listen("crm")
            await both.listen("shop")
            await shop.listen("shop")
            a = await both.done("DB_RECORD_PUT", db="crm", collection="person", record={"_id": 1})
            b = await both.done("DB_RECORD_PUT", db="shop", collection="person", record={"_id": 2})
            await both.past("crm", a["since"])
            await both.past("shop", b["since"])
            await shop.past("shop", b["since"])
            assert list(both.copies["crm"]["person"]) == ["1"]
            assert list(both.copies["shop"]["person"]) == ["2"] == list(
                shop.copies["shop"]["person"]
            )
            assert not any(f.get("db") == "crm" for f in shop.events)
            # one of them ends, the other goes on; streams of other families stand beside them
            await both.send("DB_CLOSE", db="crm")
            await both.until(lambda f: f.get("event") == "DB_CLOSED" and f["db"] == "crm")
            await both.socket.send(json.dumps({"action": "watch", "reqID": "w"}))
            await both.socket.send(
                json.dumps(
                    {"type": "subscribe", "mux_id": 1, "collections": {"person": {"db": "shop"}}}
                )
            )
            await both.until(lambda f: f.get("type") == "sync" and f.get("mux_id") == 1)
            c = await both.done("DB_RECORD_PUT", db="shop", collection="person", record={"_id": 3})
            await both.past("shop", c["since"])
            await both.done("DB_RECORD_PUT", db="crm", collection="person", record={"_id": 4})
            assert list(both.copies["crm"]["person"]) == ["1"]

    run(scenario())


def test_database_undeclared_has_a_schema_of_what_is_stored(server):
    async def scenario():
        url = server.url
        async with await Realtime.open(url("/ws")) as one, await Client.open(url("/db")) as db:
            schema = await one.listen("free")
            assert schema["version"] == 0 and schema["collections"] == []
            await one.done("DB_RECORD_ADD", db="free", collection="a", record={"_id": 1})
            await db.one("put", database="free", collection="b", doc={"_id": 2})
            await db.one("put", collection="other", doc={"_id": 3})
            last = await db.one("put", database="free", collection="b", doc={"_id": 4})
            await one.past("free", last["since"])
            assert {c: list(v) for c, v in one.copies["free"].items()} == {
                "a": ["1"],
                "b": ["2", "4"],
            }
            schema = await one.listen("free")
            assert sorted(c["name"] for c in schema["collections"]) == ["a", "b"]
            assert {c["keyPath"] for c in schema["collections"]} == {"_id"}
            reply = await db.one("schema", database="free")
            assert reply["collections"] == schema["collections"] and reply["name"] == "free"
            # nobody declared that clients may drop it
            error = await one.refused("DB_COLLECTION_DROP", db="free", collection="a")
            assert error["code"] == "forbidden" and "drop_allowed" in error["hint"]
            assert (await one.refused("DB_DATABASE_DROP", db="free"))["code"] == "forbidden"

    run(scenario())


def test_database_a_schema_is_closed_and_strict_closes_the_rest(make_server, tmp_path):
    server = configured(make_server, tmp_path, flags=["--strict"]).start()

    async def scenario():
        async with await Realtime.open(server.url("/ws")) as one:
            await one.listen("crm")
            error = await one.refused(
                "DB_RECORD_PUT", db="crm", collection="unheard", record={"_id": 1}
            )
            assert error["code"] == "forbidden"
            error = await one.refused(
                "DB_RECORD_PUT", db="nowhere", collection="person", record={"_id": 1}
            )
            assert error["code"] == "forbidden"
            await one.send("DB_SCHEMA", db="nowhere", reqID="s")
            error = await one.until(lambda f: f.get("reqID") == "s")
            assert error["code"] == "forbidden" and error["event"] == "DB_SCHEMA", error
            assert (await one.refused("DB_DATABASE_DROP", db="shop"))["code"] == "forbidden"
            error = await one.refused("DB_COLLECTION_DROP", db="shop", collection="item")
            assert error["code"] == "forbidden"

    run(scenario())


# fmt: off
BAD_EVENTS = [
    ({"event": "DB_NOTHING"}, "unknown"),
    ({"event": "DB_SCHEMA"}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": 7}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": ""}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "a$b"}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "x" * 121}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "crm", "version": "12"}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "crm", "version": -1}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "crm", "version": 1.5}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "crm", "since": "yesterday"}, "bad_since"),
    ({"event": "DB_SCHEMA", "db": "crm", "since": [[1]]}, "bad_since"),
    ({"event": "DB_SCHEMA", "db": "crm", "since": [[-1, 2]]}, "bad_since"),
    ({"event": "DB_SCHEMA", "db": "crm", "query": 7}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "crm", "client": ""}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "crm", "client": "x" * 49}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "crm", "client": {}}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "crm", "reqID": {}}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "crm", "reqID": "x" * 65}, "bad_message"),
    ({"event": "DB_SCHEMA", "db": "crm", "record": {}}, "bad_message"),
    ({"event": "DB_CLOSE", "db": "crm"}, "no_stream"),
    ({"event": "DB_CLOSE"}, "bad_message"),
    ({"event": "DB_RECORD_PUT", "collection": "person", "record": {}}, "bad_message"),
    ({"event": "DB_RECORD_PUT", "db": "crm", "record": {}}, "bad_message"),
    ({"event": "DB_RECORD_PUT", "db": "crm", "collection": "person"}, "bad_message"),
    ({"event": "DB_RECORD_PUT", "db": "crm", "collection": 1, "record": {}}, "bad_message"),
    ({"event": "DB_RECORD_PUT", "db": "crm", "collection": "person", "record": []}, "bad_message"),
    ({"event": "DB_RECORD_PUT", "db": "crm", "collection": "person", "record": "r"}, "bad_message"),
    ({"event": "DB_RECORD_PUT", "db": "crm", "collection": "person", "record": {"_id": [1]}},
     "bad_document"),
    ({"event": "DB_RECORD_PUT", "db": "crm", "collection": "person", "record": {"_id": 1},
      "if_version": "1"}, "bad_message"),
    ({"event": "DB_RECORD_PUT", "db": "crm", "collection": "person", "record": {"_id": 1},
      "dispatch": 1}, "bad_message"),
    ({"event": "DB_RECORD_PUT", "db": "crm", "collection": "person", "record": {"_id": 1},
      "opid": 1}, "bad_message"),
    ({"event": "DB_RECORD_PUT", "db": "crm", "collection": "person", "record": {"_id": "x" * 2000}},
     None),
    ({"event": "DB_RECORD_ADD", "db": "crm", "collection": "person", "record": {}, "if_version": 1},
     "bad_message"),
    ({"event": "DB_RECORD_ADD", "db": "crm", "collection": "person", "record": {}, "key": 1},
     "bad_message"),
    ({"event": "DB_RECORD_DELETE", "db": "crm", "collection": "person"}, "bad_message"),
    ({"event": "DB_RECORD_DELETE", "db": "crm", "collection": "person", "record": {}},
     "bad_message"),
    ({"event": "DB_RECORD_DELETE", "db": "crm", "collection": "person", "record": {"_id": 1},
      "key": 1}, "bad_message"),
    ({"event": "DB_RECORD_DELETE", "db": "crm", "collection": "person", "key": [1]}, "bad_message"),
    ({"event": "DB_RECORD_DELETE", "db": "crm", "collection": "person", "key": 404}, "not_found"),
    ({"event": "DB_COLLECTION_DROP", "db": "crm"}, "bad_message"),
    ({"event": "DB_COLLECTION_DROP", "db": "crm", "collection": "message"}, "not_found"),
    ({"event": "DB_COLLECTION_DROP", "db": "crm", "collection": "person", "record": {}},
     "bad_message"),
    ({"event": "DB_DATABASE_DROP"}, "bad_message"),
    ({"event": "DB_DATABASE_DROP", "db": "crm", "collection": "person"}, "bad_message"),
    ({"event": "DB_DATABASE_DROP", "db": "nowhere"}, "forbidden"),
]
# fmt: on


@pytest.mark.sanitize
def test_database_bad_events_are_refused_and_change_nothing(crm):
    async def scenario():
        url = crm.url
        async with await Realtime.open(url("/ws")) as one:
            await one.listen("crm")
            await one.done("DB_RECORD_PUT", db="crm", collection="person", record={"_id": 0})
            for message, code in BAD_EVENTS:
                async with await Client.open(url("/db")) as client:
                    await client.send(**message)
                    error = await client.next()
                    assert error.get("type") == "error", (message, error)
                    assert error["message"] and error["retry"], error
                    assert code is None or error["code"] == code, (message, error)
                    if code != "unknown":
                        assert error["event"] == message["event"], error
                    if isinstance(message.get("db"), str) and code != "unknown":
                        assert len(message["db"]) > 120 or error["db"] == message["db"]
                    assert (await client.ask("count", collection="c"))[-1]["count"] == 0
            # too big for a message: the socket ends, as for any other
            big = await Client.open(url("/db"))
            record = {"_id": 1, "text": "x" * 70000}
            with pytest.raises(Exception) as ended:
                await big.send(event="DB_RECORD_PUT", db="crm", collection="person", record=record)
                while True:
                    await big.next()
            assert ended.value.rcvd.code in (1009, 4413)
            last = await one.done("DB_RECORD_PUT", db="crm", collection="person", record={"_id": 9})
            await one.past("crm", last["since"])
            assert list(one.copies["crm"]["person"]) == ["0", "9"]

    run(scenario())


def test_database_three_unknown_events_close_the_socket(crm):
    async def scenario():
        client = await Client.open(crm.url("/ws"))
        with pytest.raises(Exception) as ended:
            for _ in range(3):
                await client.send(event="DB_NOTHING")
            while True:
                await client.next()
        assert ended.value.rcvd.code == 4400

    run(scenario())


@pytest.mark.sanitize
def test_database_any_value_in_any_field_is_answered(crm):
    """Every event with every field replaced by every kind of value: one answer each."""
    base = {
        "DB_RECORD_ADD": {"collection": "person", "record": {"a": 1}},
        "DB_RECORD_PUT": {"collection": "person", "record": {"_id": 1}},
        "DB_RECORD_DELETE": {"collection": "person", "key": 1},
        "DB_COLLECTION_DROP": {"collection": "person"},
        "DB_DATABASE_DROP": {},
        "DB_SCHEMA": {},
        "DB_CLOSE": {},
    }
    names = ["db", "collection", "record", "key", "if_version", "opid", "dispatch", "client"]
    names += ["version", "since", "query", "reqID", "unheard"]
    values = [None, True, 0, -1, 1.5, 2**53, "", "x", "x" * 300, [], [[1, 2]], {}, {"$oid": "x"}]
    values += [{"a": {"b": [1]}}, {"$date": 0}, {"_id": None}, {"_id": {"$oid": "5f" * 12}}]

    async def scenario():
        async with await Client.open(crm.url("/ws")) as client:
            count = 0
            for event, fields in base.items():
                for name in names:
                    for value in values:
                        message = {"event": event, "db": "crm", "reqID": "r", **fields, name: value}
                        await client.send(**message)
                        # a question behind it: all answers before its own belong to the event
                        await client.send(action="count", reqID="after", collection="c")
                        answers, after = 0, False
                        while not after or answers == 0:
                            frame = await client.next()
                            told = frame.get("event")
                            after = after or frame.get("reqID") == "after"
                            ends = told in ("DB_DONE", "DB_SCHEMA", "DB_CLOSED")
                            answers += frame.get("type") == "error" or ends
                        count += 1
            assert count == len(base) * len(names) * len(values)
            assert (await client.ask("count", collection="c"))[-1]["count"] == 0

    run(scenario())
