"""The embedded search: the same table of cases as for a cluster (test_search_functions.py), and
what is its own: undeclared collections, kills, damaged files, refusals by name."""

import json
import os
import signal

import pytest

import search
from clients import Client, run
from server import PATIENCE_S, Server, wait_until
from test_search_functions import CASES, DOCS, ask, fits, http

# Where the answer is another one, as there is no cluster.
OTHER = {
    ("fix_ilm", "{}"): {"changed": False, "was": None, "wanted": None},
}


def settle(server, index):
    ask(server, index, "save", id="~fence", doc={})
    since = ask(server, index, "delete", id="~fence")["since"]
    ask(server, index, "keys", min_since=since, deadline_ms=60000)


def start(directory, *flags, config=None, layout="one"):
    config = config or search.write_config(
        directory,
        search.collection("logged", search="      archive: logged_old\n"),
        search.collection("logged_old"),
        search.collection(
            "engine", "search", more="    key: id\n", search="      archive: engine_old\n"
        ),
        search.collection("engine_old", "search", more="    key: id\n"),
        "  - name: hidden\n",
    )
    made = Server(layout=layout, flags=["--config", config, "--search-timeout", "60000", *flags])
    if layout != "one":
        made.actors = [*made.actors, "embedded_search"]
    return made


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    server = start(tmp_path_factory.mktemp("search")).start()
    for name in ("logged", "engine"):
        ask(server, name, "bulk", bulk_plan=[["insert", f"b{i}", d] for i, d in enumerate(DOCS)])
        settle(server, name)
    yield server
    server.close()


@pytest.mark.parametrize("index", ["logged", "engine"])
@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: f"{CASES[i][0]}-{i}")
def test_function(world, index, case):
    function, fields, wanted = CASES[case]
    wanted = OTHER.get((function, json.dumps(fields)), wanted)
    status, reply = http(world, index, function, **fields)
    assert fits(reply, wanted, index), (function, fields, reply)
    assert (status == 200) == (not isinstance(wanted, str)), (status, reply)


def test_more_than_it_gathers_from_is_told(world):
    for part in range(11):
        plan = [["upsert", f"g{part}-{i}", {"group": f"v{i % 3}"}] for i in range(1000)]
        ask(world, "many", "bulk", bulk_plan=plan, deadline_ms=60000)
        if part in (8, 10):  # 9,000 and 11,000
            settle(world, "many")
            reply = ask(world, "many", "grouped_search", group_field="group.keyword", query="*")
            assert reply["total"] == (part + 1) * 1000
            assert reply.get("truncated", False) == (part == 10)
            counted = sum(group["total"] for group in reply["groups"])
            assert counted == min(10_000, reply["total"]) and len(reply["groups"]) == 3


@pytest.mark.parametrize("layout", ["ipc", "tcp"])
def test_with_actors_in_processes_of_their_own(tmp_path, layout):
    with start(tmp_path, layout=layout) as server:
        plan = [["insert", f"b{i}", doc] for i, doc in enumerate(DOCS)]
        for name in ("logged", "engine"):
            ask(server, name, "bulk", bulk_plan=plan)
            settle(server, name)
            for function, fields, wanted in CASES:
                if function in ("search", "facet", "stats", "histogram", "keys", "fields", "get"):
                    wanted = OTHER.get((function, json.dumps(fields)), wanted)
                    reply = http(server, name, function, **fields)[1]
                    assert fits(reply, wanted, name), (function, fields, reply)
        server.kill()
        server.start()
        assert ask(server, "logged", "get", id="b0")["doc"]
        settle(server, "logged")
        assert ask(server, "logged", "search", query="*")["total"] == len(DOCS)


# ---- live search ----
def shape(event):
    return (event["type"], event.get("key"), event.get("why"))


def test_live_search_begins_with_hits_and_tells_who_enters_and_leaves(tmp_path):
    with start(tmp_path) as server:
        run(follow(server))


async def follow(server):
    ask(server, "notes", "save", id="a", doc={"text": "The red fox", "n": 1})
    ask(server, "notes", "save", id="b", doc={"text": "A blue whale", "n": 2})
    ask(server, "logged", "save", id="c", doc={"title": "Red herring", "n": 30})
    small = [{"range": {"n": {"lt": 9}}}]
    query = {"bool": {"must": [{"match": {"text": "RED"}}], "filter": small}}
    spec = {
        "notes": {"search": {"query": query}},
        "logged": {"search": {"query": "title:her* AND n:>9"}},
    }
    async with await Client.open(server.url("/ws")) as client:
        await client.send(type="subscribe", mux_id=1, collections=spec)
        first = await client.until_sync()
        assert sorted(map(shape, first[:-1])) == [("record", "a", None), ("record", "c", None)]
        steps = [
            ("notes", "b", {"text": "red again", "n": 3}, ("record", "b", None)),
            ("notes", "b", {"text": "still red", "n": 4}, ("record", "b", None)),
            ("notes", "b", {"text": "red", "n": 10}, ("remove", "b", "left")),
            ("logged", "c", {"title": "whale"}, ("remove", "c", "left")),
            ("notes", "a", None, ("remove", "a", "deleted")),
        ]
        for index, key, doc, told in steps:
            if doc is None:
                ask(server, index, "delete", id=key)
            else:
                ask(server, index, "save", id=key, doc=doc)
            event = (await client.until(lambda f: f["type"] != "sync"))[-1]
            assert shape(event) == told, event


@pytest.mark.parametrize(
    "query, word",
    [
        ({"ids": {"values": ["a"]}}, "ids"),
        ({"nested": {"path": "p", "query": {"match_all": {}}}}, "nested"),
        ({"script": {"script": "1"}}, "script"),
        ("text:/re/", "/"),
        ("text:(", "parenthesis"),
    ],
)
def test_live_search_refuses_by_name(world, query, word):
    async def refused():
        async with await Client.open(world.url("/ws")) as client:
            await client.send(type="subscribe", mux_id=1,
                              collections={"notes": {"search": {"query": query}}})  # fmt: skip
            return await client.next()

    reply = run(refused())
    assert reply["type"] == "error" and word in reply["message"], reply


# ---- what is its own ----
def test_undeclared_collections_are_searched_by_what_they_hold(world):
    for i in range(3):
        doc = {"name": f"Ada Nr. {i}", "born": "1815-12-10", "deep": {"n": i}, "ok": i == 1}
        ask(world, "people", "save", id=f"p{i}", doc=doc)
    since = ask(world, "people", "save", id="x", doc={"name": "Bob"})["since"]
    found = ask(world, "people", "keys", query="name:ada AND deep.n:>=1", min_since=since)
    assert sorted(found["docs"]) == ["p1", "p2"]
    assert ask(world, "people", "facet", field="ok")["counts"] == {"false": 2, "true": 1}
    fields = ask(world, "people", "fields")["fields"]
    assert {n: f["type"] for n, f in fields.items()} == {
        "name": "text", "name.keyword": "keyword", "born": "date", "deep.n": "long",
        "ok": "boolean",
    }  # fmt: skip
    status, text = world.http("/api/v1/search/_all/search", "POST",
                              {"body": {"query": {"match": {"name": "ada"}}}})  # fmt: skip
    hits = json.loads(text)["result"]["hits"]["hits"] if status == 200 else text
    assert {h["_index"] for h in hits} == {"people"} and len(hits) == 3
    status, reply = http(world, "hidden", "search", query="*")
    assert reply["code"] == "unsupported"  # declared, but not for searching


BODY = {
    "size": 2, "sort": [{"n": "desc"}], "_source": ["n"],
    "highlight": {"fields": {"title": {}}},
    "query": {"match": {"title": "green"}},
    "aggs": {
        "g": {"terms": {"field": "group"}, "aggs": {"m": {"max": {"field": "n"}}}},
        "d": {"date_histogram": {"field": "when", "calendar_interval": "month"}},
        "f": {"filter": {"term": {"done": True}}, "aggs": {"s": {"sum": {"field": "n"}}}},
        "c": {"cardinality": {"field": "tags"}}, "v": {"value_count": {"field": "n"}},
        "x": {"missing": {"field": "name"}},
    },
}  # fmt: skip


def test_a_whole_body(world):
    result = ask(world, "logged", "search", body=BODY)["result"]
    hits = result["hits"]["hits"]
    assert [(h["_id"], h["sort"], h["_source"]) for h in hits] == [
        ("b7", [7], {"n": 7}), ("b4", [4], {"n": 4}),
    ]  # fmt: skip
    assert hits[0]["highlight"] == {"title": ["The <em>green</em> book 7"]}
    aggs = result["aggregations"]
    assert {b["key"]: b["m"]["value"] for b in aggs["g"]["buckets"]} == {"g1": 7}
    assert [(b["key_as_string"], b["doc_count"]) for b in aggs["d"]["buckets"]] == [
        ("2024-01-01T00:00:00.000Z", 3)
    ]
    assert (aggs["f"]["doc_count"], aggs["f"]["s"]["value"]) == (1, 1)
    assert (aggs["c"]["value"], aggs["v"]["value"], aggs["x"]["doc_count"]) == (3, 3, 3)
    body = dict(BODY, search_after=hits[-1]["sort"])
    rest = ask(world, "logged", "search", body=body)["result"]["hits"]["hits"]
    assert [h["_id"] for h in rest] == ["b1"]


def test_completion(world):
    ask(world, "logged_old", "save", id="s1", doc={"name": "Star Wars"})
    ask(world, "logged_old", "save", id="s2", doc={"name": {"input": ["Stargate"], "weight": 7}})
    since = ask(world, "logged_old", "save", id="s3", doc={"name": "Alien"})["since"]
    body = {"suggest": {"t": {"prefix": "sTAr", "completion": {"field": "name"}}}}
    reply = ask(world, "logged_old", "search", body=body, min_since=since)
    options = reply["result"]["suggest"]["t"][0]["options"]
    assert [o["text"] for o in options] == ["Stargate", "Star Wars"]
    for name in ("s1", "s2", "s3"):
        ask(world, "logged_old", "delete", id=name)


@pytest.mark.parametrize(
    "body, word",
    [
        ({"collapse": {"field": "n"}}, "collapse"),
        ({"query": {"nested": {"path": "p", "query": {"match_all": {}}}}}, "nested"),
        ({"query": {"match": {"title": {"query": "x", "fuzziness": 1}}}}, "fuzziness"),
        ({"query": {"multi_match": {"query": "x", "type": "cross_fields"}}}, "cross_fields"),
        ({"query": {"query_string": {"query": "re~1"}}}, "fuzzy"),
        ({"query": {"range": {"when": {"gte": "now-1d"}}}}, "date math"),
        ({"aggs": {"r": {"range": {"field": "n", "ranges": [{"to": 1}]}}}}, "range"),
        ({"aggs": {"r": {"terms": {"field": "title"}}}}, "title"),
        ({"sort": ["nothing"]}, "nothing"),
        ({"search_after": [1]}, "search_after"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(world, body, word):
    status, reply = http(world, "logged", "search", body=body)
    assert reply["code"] == "bad_query" and word in reply["message"], (status, reply)


def test_min_since_of_the_future_times_out(world):
    since = ask(world, "logged_old", "save", id="y", doc={})["since"]
    ask(world, "logged_old", "delete", id="y")
    ahead = [[srv, seqno + 1000] for srv, seqno in since]
    reply = http(world, "logged", "keys", min_since=ahead, deadline_ms=200)[1]
    assert reply["code"] == "timeout", reply


# ---- faults ----
def count(server, since):
    found = ask(server, "many", "search", query="*", rows=0, min_since=since, deadline_ms=60000)
    return found["total"]


def test_kill_at_any_moment_loses_nothing(tmp_path):
    server = start(tmp_path).start()
    try:
        since, wanted = [], set()
        for life in range(8):
            for i in range(5):
                key = life * 1000 + i * 100
                plan = [["insert", f"k{key + j}", {"n": j, "t": f"word {j}"}] for j in range(100)]
                since = ask(server, "many", "bulk", bulk_plan=plan)["since"]
                wanted |= {f"k{key + j}" for j in range(100)}
            gone = f"k{life * 1000 + 7}"
            since = ask(server, "many", "delete", id=gone)["since"]
            wanted.discard(gone)
            if life % 2 == 0:
                count(server, since)  # half of the kills find the index behind, half equal
            server.kill()
            server.start()
        assert count(server, since) == len(wanted)
        found = ask(server, "many", "keys", query="t:word", min_since=since, deadline_ms=60000)
        assert set(found["docs"]) == wanted and len(found["docs"]) == len(wanted)
        assert ask(server, "many", "facet", field="n", rows=1)["counts"].keys() == {"0"}
    finally:
        server.close()


def gauges(server, actor):
    """Of an actor, once it tells them: the page leaves out who is busy for two seconds."""

    def told():
        actors = json.loads(server.http("/actorz", admin=True)[1])["actors"]
        return next((a["gauges"] for a in actors if a["name"] == actor), None)

    return wait_until(told, PATIENCE_S, f"gauges of {actor}")


def indexed(server):
    """Rows that the index has taken, and those that it is behind."""
    found = gauges(server, "embedded_search")
    return found["index_rows_total"], found["index_behind_rows"]


def test_what_is_written_is_indexed_though_nobody_searches(tmp_path):
    with start(tmp_path) as server:
        for i in range(3):
            ask(server, "notes", "save", id=f"k{i}", doc={"n": i, "text": "lonely"})
            # Too few for a step of their own: the next one is due by time.
            wanted = (i + 1, 0)
            wait_until(lambda: indexed(server) == wanted, PATIENCE_S, "the row in the index")
        assert ask(server, "notes", "search", query="text:lonely")["total"] == 3


@pytest.mark.parametrize("damage", ["gone", "garbage", "cut"])
def test_a_lost_or_damaged_index_is_made_anew(tmp_path, damage):
    server = start(tmp_path).start()
    try:
        plan = [["insert", f"k{j}", {"n": j, "t": "word"}] for j in range(300)]
        since = ask(server, "many", "bulk", bulk_plan=plan)["since"]
        assert count(server, since) == 300
        server.stop()
        path = server.directory / "data" / "search.db"
        for beside in ("search.db-wal", "search.db-shm"):
            path.with_name(beside).unlink(missing_ok=True)
        if damage == "gone":
            path.unlink()
        elif damage == "garbage":
            path.write_bytes(os.urandom(50000))
        else:
            path.write_bytes(path.read_bytes()[:30000])
        server.start()
        assert count(server, since) == 300
        assert len(ask(server, "many", "keys", query="t:word")["docs"]) == 300
    finally:
        server.close()


def test_another_mapping_makes_the_index_anew(tmp_path):
    server = start(tmp_path).start()
    try:
        since = ask(server, "logged", "save", id="a", doc={"title": "7", "n": "7"})["since"]
        ask(server, "logged", "keys", min_since=since)
        server.stop()
        mapping = {"properties": {"title": {"type": "long"}}}
        search.write_config(tmp_path, search.collection("logged", mapping=mapping))
        server.start()
        found = ask(server, "logged", "keys", query="title:>6", min_since=since, deadline_ms=60000)
        assert found["docs"] == ["a"]
    finally:
        server.close()


# ---- a log whose floor has risen ----
def until_floor(server, row):
    """The floor rises with what is written: so until what was deleted below `row` is swept."""

    def passed():
        ask(server, "notes", "save", id="tick", doc={})
        return gauges(server, "store")["log_floor"] >= row

    wait_until(passed, PATIENCE_S, "the floor")


def until_counted(server, name, least):
    wait_until(lambda: gauges(server, "embedded_search")[name] >= least, PATIENCE_S, name)


def upsert(server, keys, **doc):
    plan = [["upsert", key, {"t": "word", **doc}] for key in keys]
    return ask(server, "many", "bulk", bulk_plan=plan)["since"]


def test_an_index_made_anew_from_an_old_log_comes_to_its_end(tmp_path):
    server = start(tmp_path, "--log-age", "1").start()
    try:
        keys = [f"k{i}" for i in range(700)]  # more than one reading
        upsert(server, keys, n=1)
        since = upsert(server, keys, n=2)
        for key in keys[:3]:
            since = ask(server, "many", "delete", id=key)["since"]
        until_floor(server, 1403)
        server.stop()
        (server.directory / "data" / "search.db").unlink()
        server.start()
        assert count(server, since) == 697
        found = gauges(server, "embedded_search")
        assert (found["index_rebuilds_total"], found["index_checks_total"]) == (0, 0)
        ask(server, "many", "reindex")
        until_counted(server, "index_rebuilds_total", 1)
        assert count(server, since) == 697
        assert gauges(server, "embedded_search")["index_rebuilds_total"] == 1
    finally:
        server.close()


def test_an_index_that_the_floor_has_passed_loses_what_was_deleted(tmp_path):
    server = start(tmp_path, "--log-age", "1").start()
    try:
        path = server.directory / "data" / "search.db"
        keys = [f"k{i}" for i in range(600)]  # more than one step of the check
        assert count(server, upsert(server, keys, n=1)) == 600
        ask(server, "gone", "save", id="g", doc={"t": "word"})
        settle(server, "gone")
        server.stop()
        kept = path.read_bytes()
        server.start()
        for key in keys[::100]:
            ask(server, "many", "delete", id=key)
        ask(server, "gone", "delete", id="g")
        since = upsert(server, ["k100", "new"], n=2)
        until_floor(server, 610)
        server.stop()
        for beside in ("search.db-wal", "search.db-shm"):
            path.with_name(beside).unlink(missing_ok=True)
        path.write_bytes(kept)  # as from a backup: its rows end before the deletes
        server.start()
        assert count(server, since) >= 596  # at once with what is held; then less
        until_counted(server, "index_checks_total", 1)
        found = ask(server, "many", "keys", query="t:word", min_since=since)
        wanted = {*keys, "new"} - {key for key in keys[::100] if key != "k100"}
        assert set(found["docs"]) == wanted and len(found["docs"]) == len(wanted)
        assert ask(server, "gone", "keys", query="t:word")["docs"] == []
        assert gauges(server, "embedded_search")["index_rebuilds_total"] == 0
    finally:
        server.close()


def test_a_floor_that_passes_the_index_again_and_again_empties_nothing(tmp_path):
    with start(tmp_path, "--log-age", "1", layout="ipc") as server:
        keys = [f"k{i}" for i in range(400)]
        wanted = set(keys)
        assert count(server, upsert(server, keys, n=0)) == 400
        for turn in range(1, 4):
            process = server.processes["embedded_search"]
            process.send_signal(signal.SIGSTOP)  # as behind as under any load
            gone = keys[turn * 100 : turn * 100 + 5]
            for key in gone:
                ask(server, "many", "delete", id=key)
            since = upsert(server, [f"new{turn}"], n=turn)
            wanted = wanted - set(gone) | {f"new{turn}"}
            until_floor(server, since[0][1])
            process.send_signal(signal.SIGCONT)
            until_counted(server, "index_checks_total", turn)
            found = ask(server, "many", "keys", query="t:word", min_since=since)["docs"]
            assert set(found) == wanted and len(found) == len(wanted)
        assert gauges(server, "embedded_search")["index_rebuilds_total"] == 0
