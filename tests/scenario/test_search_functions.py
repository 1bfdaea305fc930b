"""The 27 functions of the datastore, from one table of cases, against a real engine; each case for
a collection whose records are in the log (its index follows) and for one that the engine alone
keeps.

TEST_SEARCH_URL runs them against a cluster of your own."""

import asyncio
import json

import pytest

import search
from clients import Client, run
from server import PATIENCE_S, Server
from services import Service

DOCS = [
    {
        "title": f"The {word} book {i}",
        "n": i,
        "tags": ["even" if i % 2 == 0 else "odd", word],
        "group": f"g{i % 3}",
        "when": f"2024-01-{i + 1:02}T00:00:00Z",
        "done": i < 4,
    }
    for i, word in enumerate(["red", "green", "blue", "red", "green", "blue", "red", "green"])
]
FUNCTIONS = (
    "archive get_bulk_plan bulk multiget exists get get_if_exists require save delete "
    "delete_by_query update update_by_query search stream_search histogram facet stats "
    "grouped_search fields commit keys fix_ilm fix_replicas fix_shards reindex wipe"
).split()


@pytest.fixture(scope="module")
def cluster():
    yield from search.running("functions")


@pytest.fixture(scope="module")
def world(cluster, tmp_path_factory):
    """A server with both kinds of collections, filled alike; the cases share it and leave the
    eight documents as they are."""
    of_prefix = search.prefix()
    config = search.write_config(
        tmp_path_factory.mktemp("search"),
        search.collection("logged", search="      archive: logged_old\n"),
        search.collection("logged_old"),
        search.collection(
            "engine", "search", more="    key: id\n", search="      archive: engine_old\n"
        ),
        search.collection("engine_old", "search", more="    key: id\n"),
        search.collection("scratch", "search", more="    key: id\n"),
        search.collection("scratch_log"),
        "  - name: plain\n",
    )
    server = Server(flags=search.flags(cluster.url, of_prefix, config)).start()
    for name in ("logged", "engine"):
        plan = [["insert", f"b{i}", doc] for i, doc in enumerate(DOCS)]
        # its index is made first: on a busy machine that takes longer than a search may
        ask(server, name, "bulk", bulk_plan=plan, deadline_ms=60000)
    settle(server, "logged")
    settle(server, "engine")
    yield server
    server.close()
    search.forget(cluster, of_prefix)


def http(server, index, function, **fields):
    path = f"/api/v1/search/{index}/{function}"
    status, text = server.http(path, "POST", fields, timeout=PATIENCE_S)
    return status, json.loads(text)


def ask(server, index, function, **fields):
    status, reply = http(server, index, function, **fields)
    assert status == 200, (reply, function, fields)
    return reply


def is_log(index):
    return index in ("logged", "scratch_log", "logged_old")


def settle(server, index):
    """Until a search sees all that was written."""
    if is_log(index):
        since = last_since(server, index)
        ask(server, index, "keys", min_since=since, deadline_ms=60000)
    else:
        ask(server, index, "commit")


def last_since(server, index):
    """The position of a write that comes behind all others."""
    ask(server, index, "save", id="~fence", doc={})
    return ask(server, index, "delete", id="~fence")["since"]


def ids(reply, index):
    key = "_id" if is_log(index) else "id"
    return [doc[key] for doc in reply["items"]]


def keys_of(server, index, query="*"):
    return sorted(ask(server, index, "keys", query=query)["docs"])


ALL = [f"b{i}" for i in range(len(DOCS))]

# (function, fields, what the reply is to hold: a value for each name, or a function of both)
CASES = [
    ("search", {"query": "title:red"}, lambda r, i: sorted(ids(r, i)) == ["b0", "b3", "b6"]),
    ("search", {"query": "title:red"}, {"total": 3, "offset": 0, "rows": 25}),
    ("search", {"query": "*", "sort": "n desc", "rows": 2, "offset": 1},
     lambda r, i: ids(r, i) == ["b6", "b5"] and r["total"] == 8),
    ("search", {"query": "n:[2 TO 4]", "sort": ["n"]},
     lambda r, i: ids(r, i) == ["b2", "b3", "b4"]),
    ("search", {"query": "*", "filters": ["tags:odd", "n:>=5"], "sort": "n"},
     lambda r, i: ids(r, i) == ["b5", "b7"]),
    ("search", {"query": "*", "filters": "tags:odd", "sort": "n", "rows": 1, "fields": ["n"]},
     lambda r, i: list(r["items"][0].values()) == ["b1", 1]),
    ("search", {"query": {"match": {"title": "green"}}, "sort": [{"n": "asc"}]},
     lambda r, i: ids(r, i) == ["b1", "b4", "b7"]),
    ("search", {}, {"total": 8}),
    ("search", {"query": "*", "rows": 0}, {"total": 8, "items": []}),
    ("search", {"query": "nothing_has_this"}, {"total": 0, "items": []}),
    ("search", {"body": {"query": {"multi_match": {"query": "blue"}}}},
     lambda r, i: {h["_id"] for h in r["result"]["hits"]["hits"]} == {"b2", "b5"}
     and {h["_index"] for h in r["result"]["hits"]["hits"]} == {i}
     and "_tw" not in r["result"]["hits"]["hits"][0]["_source"]),
    ("search", {"body": {"size": 0, "aggs": {"t": {"terms": {"field": "tags"}}}}},
     lambda r, i: {b["key"]: b["doc_count"] for b in
                   r["result"]["aggregations"]["t"]["buckets"]}["even"] == 4),
    ("search", {"body": {"query": {"ids": {"values": ["b1"]}},
                         "highlight": {"fields": {"title": {}}}}},
     lambda r, i: r["result"]["hits"]["hits"][0]["_id"] == "b1"),
    ("search", {"query": "*", "rows": 101}, "bad_message"),
    ("search", {"query": "*", "offset": 10001}, "bad_message"),
    ("search", {"query": "*", "rows": 100, "offset": 9999}, "bad_query"),
    ("search", {"query": "title:("}, "bad_query"),
    ("search", {"query": "*", "body": {}}, "bad_message"),
    ("search", {"query": "a:/.*/"}, "bad_query"),
    ("search", {"query": "*ed"}, "bad_query"),
    ("search", {"body": {"query": {"script": {"script": "1"}}}}, "bad_query"),
    ("search", {"body": {"query": {"terms": {"n": {"index": "x", "id": "1", "path": "y"}}}}},
     "bad_query"),
    ("search", {"query": "*", "sort": "title"}, "bad_query"),
    ("stream_search", {"query": "tags:even"},
     lambda r, i: sorted(d["n"] for d in r["docs"]) == [0, 2, 4, 6] and r["count"] == 4),
    ("stream_search", {"query": "tags:even", "filters": ["n:<3"], "fields": ["n"]},
     lambda r, i: sorted(sorted(d) for d in r["docs"]) ==
     sorted([sorted(["_id" if is_log(i) else "id", "n"])] * 2)),
    ("stream_search", {"query": "nothing_has_this"}, {"docs": [], "count": 0}),
    ("stream_search", {"query": "title:("}, "bad_query"),
    ("keys", {}, lambda r, i: sorted(r["docs"]) == ALL),
    ("keys", {"query": "group:g0"}, lambda r, i: sorted(r["docs"]) == ["b0", "b3", "b6"]),
    ("get", {"id": "b1"}, lambda r, i: r["doc"]["n"] == 1 and r["version"]),
    ("get", {"id": "missing"}, "not_found"),
    ("get", {}, "bad_message"),
    ("get", {"id": ["b1", "b2"]}, "bad_message"),
    ("get_if_exists", {"id": "b2"}, lambda r, i: r["doc"]["title"] == DOCS[2]["title"]),
    ("get_if_exists", {"id": "missing"}, "not_found"),
    ("require", {"id": "b3"}, lambda r, i: r["doc"]["n"] == 3),
    ("require", {"id": "missing", "deadline_ms": 300}, "not_found"),
    ("exists", {"id": "b4"}, {"value": True}),
    ("exists", {"id": "missing"}, {"value": False}),
    ("multiget", {"ids": ["b1", "missing", "b5", "b1"]},
     lambda r, i: sorted(r["docs"]) == ["b1", "b5"] and r["missing"] == ["missing"]
     and r["docs"]["b5"]["n"] == 5),
    ("multiget", {"ids": ["missing"]}, {"docs": {}, "missing": ["missing"]}),
    ("multiget", {"ids": []}, "bad_message"),
    ("get_bulk_plan", {}, {"bulk_plan": [], "limits": {"operations": 1000, "bytes": 65536}}),
    ("bulk", {"bulk_plan": []}, {"items": [], "errors": False}),
    ("bulk", {"bulk_plan": [["frobnicate", "x", {}]]}, "bad_message"),
    ("bulk", {"bulk_plan": [["insert", "x"]]}, "bad_message"),
    ("bulk", {"bulk_plan": [["insert", "b1", {}], ["update", "missing", {"n": 1}],
                            ["delete", "missing"]]},
     lambda r, i: [x["code"] for x in r["items"]] == ["conflict", "not_found", "not_found"]
     and r["errors"]),
    ("facet", {"field": "tags"},
     {"counts": {"even": 4, "odd": 4, "green": 3, "red": 3, "blue": 2}}),
    ("facet", {"field": "tags", "query": "n:<2"},
     {"counts": {"even": 1, "odd": 1, "green": 1, "red": 1}}),
    ("facet", {"field": "tags", "rows": 2, "mincount": 4}, {"counts": {"even": 4, "odd": 4}}),
    ("facet", {"field": "done"}, {"counts": {"true": 4, "false": 4}}),
    ("facet", {"field": "title"}, "bad_query"),
    ("facet", {"field": "nothing"}, {"counts": {}}),
    ("facet", {}, "bad_message"),
    ("stats", {"field": "n"}, {"min": 0, "max": 7, "avg": 3.5, "count": 8, "sum": 28}),
    ("stats", {"field": "n", "query": "tags:odd"}, {"min": 1, "max": 7, "count": 4, "sum": 16}),
    ("stats", {"field": "n", "query": "nothing_has_this"}, {"min": None, "max": None, "count": 0}),
    ("stats", {"field": "tags"}, "bad_query"),
    ("histogram", {"field": "n", "start": 0, "end": 7, "gap": 4}, {"counts": {"0": 4, "4": 4}}),
    ("histogram", {"field": "n", "start": 1, "end": 5, "gap": 2},
     {"counts": {"1": 2, "3": 2, "5": 1}}),
    ("histogram", {"field": "n", "start": 0, "end": 30, "gap": 10, "mincount": 0},
     {"counts": {"0": 8, "10": 0, "20": 0, "30": 0}}),
    ("histogram", {"field": "when", "start": "2024-01-01", "end": "2024-01-04", "gap": "+2d"},
     lambda r, i: sum(r["counts"].values()) == 4 and len(r["counts"]) in (2, 3)),
    ("histogram", {"field": "when", "start": "2024-01-01", "end": "2024-02-01", "gap": "month"},
     {"counts": {"2024-01-01T00:00:00.000Z": 8}}),
    ("histogram", {"field": "n", "start": 0, "end": 7, "gap": 0}, "bad_query"),
    ("histogram", {"field": "n", "start": 0, "end": 1000000, "gap": 1}, "too_costly"),
    ("histogram", {"field": "n", "start": 0, "end": 7, "gap": "x"}, "bad_query"),
    ("histogram", {"field": "n", "start": 0, "end": 7}, "bad_message"),
    ("grouped_search", {"group_field": "group", "query": "*", "sort": "group", "limit": 2},
     lambda r, i: [(g["value"], g["total"], len(g["items"])) for g in r["groups"]]
     == [("g0", 3, 2), ("g1", 3, 2), ("g2", 2, 2)]),
    ("grouped_search", {"group_field": "group", "query": "n:7", "fields": ["n"]},
     lambda r, i: [g["value"] for g in r["groups"]] == ["g1"]
     and r["groups"][0]["items"][0]["n"] == 7),
    ("grouped_search", {"group_field": "group", "limit": 11}, "bad_message"),
    ("grouped_search", {"group_field": "title"}, "bad_query"),
    ("fields", {}, lambda r, i: r["fields"]["n"]
     == {"type": "integer", "indexed": True, "stored": False, "list": False}
     and r["fields"]["title.keyword"]["type"] == "keyword"
     and not any(name.startswith("_") for name in r["fields"])),
    ("commit", {}, {"committed": True}),
    ("commit", {"dry_run": True}, {"committed": False, "dry_run": True}),
    ("fix_replicas", {}, {"changed": False, "was": "0", "wanted": "0"}),
    ("fix_shards", {"dry_run": True}, {"changed": False, "was": "1", "wanted": "1"}),
    ("fix_ilm", {}, "unsupported"),
    ("reindex", {"dry_run": True}, {"dry_run": True, "count": 8}),
    ("wipe", {"dry_run": True}, lambda r, i: r["dry_run"] and r["count"] == 8),
    ("delete_by_query", {"query": "nothing_has_this"}, {"count": 0}),
    ("delete_by_query", {}, "bad_message"),
    ("update_by_query", {"query": "*"}, "bad_message"),
    ("update_by_query", {"query": "*", "operations": [["FROB", "n", 1]]}, "bad_update"),
    ("update_by_query", {"query": "title:(", "operations": [["INC", "n", 1]]}, "bad_query"),
    ("archive", {"query": "nothing_has_this"}, {"count": 0}),
    ("save", {"id": "x"}, "bad_message"),
    ("save", {"id": "b1", "doc": {}, "version": "what"}, "bad_message"),
    ("update", {"id": "missing", "operations": [["SET", "n", 1]]}, "not_found"),
    ("delete", {"id": "missing"}, "not_found"),
]  # fmt: skip


def fits(reply, wanted, index):
    if callable(wanted):
        return wanted(reply, index)
    if isinstance(wanted, str):
        return reply.get("code") == wanted
    return all(reply.get(name) == value for name, value in wanted.items())


@pytest.mark.parametrize("index", ["logged", "engine"])
@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: f"{CASES[i][0]}-{i}")
def test_function(world, index, case):
    function, fields, wanted = CASES[case]
    status, reply = http(world, index, function, **fields)
    assert fits(reply, wanted, index), (function, fields, reply)
    assert (status == 200) == (not isinstance(wanted, str)), (status, reply)


def test_every_function_has_cases():
    named = {case[0] for case in CASES}
    assert set(FUNCTIONS) == named and len(FUNCTIONS) == 27


@pytest.mark.parametrize("index", ["scratch_log", "scratch"])
def test_documents_change_with_their_versions(world, index):
    first = ask(world, index, "save", id="d1", doc={"n": 1, "tags": ["a"]})["version"]
    assert http(world, index, "save", id="d1", doc={}, version=0)[1]["code"] == "conflict"
    doc = {"n": 2, "tags": ["a"]}
    second = ask(world, index, "save", id="d1", doc=doc, version=first)["version"]
    assert second != first
    for function, more in (
        ("save", {"doc": {"n": 9}}),
        ("update", {"operations": [["INC", "n", 1]]}),
        ("delete", {}),
    ):
        reply = http(world, index, function, id="d1", version=first, **more)[1]
        assert reply["code"] == "conflict", (function, reply)
    third = ask(world, index, "update", id="d1", version=second, operations=[
        ["INC", "n", 5], ["SET", "title", "t"], ["APPEND", "tags", "b"], ["MAX", "m", 3],
    ])["version"]  # fmt: skip
    got = ask(world, index, "get", id="d1")
    assert got["version"] == third
    assert (got["doc"]["n"], got["doc"]["tags"], got["doc"]["m"]) == (7, ["a", "b"], 3)
    ask(world, index, "update", id="d1", operations=[
        ["DELETE", "title", None], ["REMOVE", "tags", "a"], ["DEC", "n", 1], ["MIN", "m", 2],
    ])  # fmt: skip
    ask(world, index, "update", id="d1", operations=[["APPEND_IF_MISSING", "tags", "b"]])
    doc = ask(world, index, "get", id="d1")["doc"]
    assert (doc["n"], doc["tags"], doc["m"]) == (6, ["b"], 2) and "title" not in doc
    refused = http(world, index, "update", id="d1", operations=[["INC", "tags", 1]])[1]
    assert refused["code"] == "bad_update"
    ask(world, index, "delete", id="d1")
    assert ask(world, index, "exists", id="d1")["value"] is False


@pytest.mark.parametrize("index", ["scratch_log", "scratch"])
def test_bulk_gives_each_operation_its_result(world, index):
    plan = [
        ["insert", "k1", {"n": 1}],
        ["insert", "k1", {"n": 2}],
        ["upsert", "k2", {"n": 2}],
        ["upsert", "k1", {"title": "merged"}],
        ["update", "k2", {"title": "two"}],
        ["delete", "k2"],
        ["update", "k2", {"n": 3}],
    ]
    items = ask(world, index, "bulk", bulk_plan=plan)["items"]
    assert [item["id"] for item in items] == ["k1", "k1", "k2", "k1", "k2", "k2", "k2"]
    codes = [item.get("code") for item in items]
    assert codes[0] is None and codes[1] == "conflict" and codes[2] is None and codes[3] is None
    doc = ask(world, index, "get", id="k1")["doc"]
    assert (doc["n"], doc["title"]) == (1, "merged")
    ask(world, index, "delete", id="k1")
    http(world, index, "delete", id="k2")


@pytest.mark.parametrize("index", ["scratch_log", "scratch"])
def test_by_query_changes_are_told_to_streams(world, index):
    async def scenario():
        async with await Client.open(world.url("/search")) as db:
            plan = [["insert", f"q{i}", {"n": i, "group": "q"}] for i in range(700)]
            await db.one("bulk", index=index, bulk_plan=plan[:400])
            end = await db.one("bulk", index=index, bulk_plan=plan[400:])
            await db.send(type="subscribe", mux_id=1, since="now", collections={index: "*"})
            await db.until_sync(1)
            if index == "scratch":
                await db.one("commit", index=index)
            replies = []
            await db.send(
                action="update_by_query", reqID="u", index=index, query="group:q AND n:<600",
                operations=[["INC", "n", 1000]], min_since=end["since"], deadline_ms=60000,
            )  # fmt: skip
            told = set()
            while not replies or "count" not in replies[-1]:
                frame = await db.next(30)
                if frame.get("reqID") == "u":
                    assert frame.get("type") != "error", frame
                    replies.append(frame)
                elif frame.get("type") == "record":
                    told.add(frame["key"])
            assert replies[-1]["count"] == 600
            assert len(replies) == 2 and replies[0]["progress"] == 500
            assert len({r["task"] for r in replies}) == 1
            while len(told) < 600:
                frame = await db.next(30)
                if frame.get("type") == "record":
                    told.add(frame["key"])
            assert told == {f"q{i}" for i in range(600)}
            if index == "scratch":
                await db.one("commit", index=index)
            await db.send(
                action="delete_by_query", reqID="d", index=index, query="group:q",
                min_since=replies[-1]["since"], deadline_ms=60000,
            )  # fmt: skip
            removed, last = set(), None
            while last is None or len(removed) < 700:
                frame = await db.next(30)
                if frame.get("reqID") == "d" and "count" in frame:
                    last = frame
                elif frame.get("type") == "remove":
                    assert frame["why"] == "deleted"
                    removed.add(frame["key"])
            assert last["count"] == 700

    run(scenario())


@pytest.mark.parametrize("index", ["logged", "engine"])
def test_archive_moves_documents(world, index):
    ask(world, index, "save", id="z1", doc={"n": 99, "group": "zz"})
    settle(world, index)
    done = ask(world, index, "archive", query="group:zz")
    assert done["count"] == 1 and done["task"]
    assert ask(world, index, "exists", id="z1")["value"] is False
    assert ask(world, f"{index}_old", "get", id="z1")["doc"]["n"] == 99
    settle(world, index)
    assert keys_of(world, index) == ALL


def test_require_waits_until_the_document_comes(world):
    async def scenario():
        async with await Client.open(world.url("/search")) as db:
            for index in ("scratch_log", "scratch"):
                await db.send(
                    action="require", reqID="r", index=index, id="late", deadline_ms=60000
                )
                await db.one("save", index=index, id="late", doc={"n": 1})
                frames = [*db.kept]
                while not any(f.get("reqID") == "r" for f in frames):
                    frames.append(await db.next(20))
                reply = [f for f in frames if f.get("reqID") == "r"][0]
                assert reply["doc"]["n"] == 1
                db.kept.clear()
                await db.one("delete", index=index, id="late")

    run(scenario())


def test_messages_of_the_data_store_verbatim(world):
    async def scenario():
        async with await Client.open(world.url("/search")) as db:
            await db.socket.send(
                json.dumps(
                    {
                        "action": "search",
                        "index": "logged",
                        "body": {"query": {"multi_match": {"query": "green"}}},
                    }
                )
            )
            reply = await db.next(20)
            hits = reply["result"]["hits"]["hits"]
            assert {h["_id"] for h in hits} == {"b1", "b4", "b7"}
            assert reply["as_of"]
            # without index: every collection with one
            await db.socket.send(
                '{"action":"search","reqID":"all","body":{"query":{"multi_match":'
                '{"query":"green"}},"size":100}}'
            )
            reply = await db.next(20)
            assert reply["reqID"] == "all"
            found = {(h["_index"], h["_id"]) for h in reply["result"]["hits"]["hits"]}
            both = {(index, key) for index in ("logged", "engine") for key in ("b1", "b4", "b7")}
            assert found == both
            # completion
            await db.one("save", index="engine", id="c1", doc={"name": "completely"})
            await db.one("commit", index="engine")
            body = {"suggest": {"s": {"prefix": "comp", "completion": {"field": "name"}}}}
            reply = await db.one("search", index="engine", body=body)
            options = reply["result"]["suggest"]["s"][0]["options"]
            assert [(o["_id"], o["_index"]) for o in options] == [("c1", "engine")]
            await db.one("delete", index="engine", id="c1")
            await db.one("commit", index="engine")

    run(scenario())


def test_other_indices_are_not_reached(world, cluster):
    for name in ("plain", "undeclared", ".state", "a,b", "l*", "-logged", "<logged>"):
        reply = http(world, name.replace("/", "%2F"), "search", query="*")[1]
        assert reply["code"] in ("unsupported", "forbidden", "bad_message"), (name, reply)


def test_service_socket_speaks_them_too(world):
    with Service(f"ipc://{world.directory}/data/service") as service:
        reply = service.one("search", index="logged", query="title:red")
        assert reply["total"] == 3
        assert sorted(service.one("keys", index="engine")["docs"]) == ALL
        assert len(service.one("stream_search", index="logged", query="*")["docs"]) == 8
        reply = service.one("update_by_query", index="engine", query="nothing_has_this",
                            operations=[["INC", "n", 1]])  # fmt: skip
        assert reply["count"] == 0
        assert service.refused("get", index="engine", id="missing")["code"] == "not_found"
