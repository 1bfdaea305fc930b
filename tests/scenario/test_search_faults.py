"""What a search cluster can do to its users: only searches fail, within their deadline, and all
goes on by itself; live streams never notice. The indexer loses nothing."""

import asyncio
import json
import os
import time

import pytest

import search
from clients import Client, run
from fault_search import Faults
from server import PATIENCE_S, wait_until

DEADLINE_S = 1.5
SLACK_S = 15.0  # a busy machine
MODES = ["slow", "hang", "429", "503", "half_json", "wrong_type", "huge", "cut"]


@pytest.fixture(scope="module")
def cluster():
    yield from search.running("faults")


def http(server, index, function, **fields):
    path = f"/api/v1/search/{index}/{function}"
    status, text = server.http(path, "POST", fields, timeout=PATIENCE_S)
    return status, json.loads(text)


def found(server, **fields):
    status, reply = http(server, "c", "search", **fields)
    return status == 200 and reply


def hits(server, query):
    """How many there are; None: no answer."""
    return (found(server, query=query, rows=0) or {}).get("total")


def start(make_server, tmp_path, url, names, *more, **options):
    config = search.write_config(tmp_path, search.collection("c"))
    flags = search.flags(url, names, config, *more)
    flags[flags.index("--search-timeout") + 1] = str(int(DEADLINE_S * 1000))
    return make_server(flags=flags, **options).start()


@pytest.mark.slow
def test_only_searches_fail_and_all_goes_on(make_server, tmp_path, cluster, names):
    with Faults(cluster.url) as door:
        server = start(make_server, tmp_path, door.url, names)
        server.http("/api/v1/c/a", "PUT", {"title": "first"})
        wait_until(lambda: hits(server, "title:first") == 1, 60, "a hit")

        async def live(stream, number, limit):
            begun = time.monotonic()
            await stream.one("put", collection="c", doc={"_id": f"n{number}", "n": number})
            frames = await stream.until(lambda f: f.get("key") == f"n{number}", 10)
            assert frames and time.monotonic() - begun < limit

        async def scenario():
            async with await Client.open(server.url()) as stream:
                await stream.send(type="subscribe", mux_id=1, since="now", collections={"c": "*"})
                await stream.until_sync(1)
                for number, mode in enumerate(MODES):
                    door.set(mode)
                    for attempt in range(7):  # more than open the circuit
                        begun = time.monotonic()
                        status, reply = await asyncio.to_thread(
                            http, server, "c", "search", query="*"
                        )
                        took = time.monotonic() - begun
                        assert took < DEADLINE_S + SLACK_S, (mode, took)
                        assert status != 200, (mode, reply)
                        wanted = {"huge": "too_big"}.get(mode)
                        codes = (wanted,) if wanted else ("search_unavailable", "timeout", "busy")
                        assert reply["code"] in codes, (mode, reply)
                        if not wanted:
                            assert reply["retry"] == "backoff" and reply["after_ms"] > 0, reply
                    await live(stream, number, SLACK_S)
                    door.set("pass")
                    await asyncio.to_thread(
                        wait_until, lambda: found(server, query="title:first"), 30, f"after {mode}"
                    )

        run(scenario())
        assert server.metric("tidewire_cluster_circuit_opened_total") >= 1
        assert server.metric("tidewire_cluster_circuit_open") == 0
        # what was written meanwhile is in the index too
        wait_until(
            lambda: hits(server, "*") == 1 + len(MODES), 60, "every record in the index"
        )


def test_retries_are_few_and_for_idempotent_calls_only(make_server, tmp_path, cluster, names):
    with Faults(cluster.url) as door:
        server = start(make_server, tmp_path, door.url, names)
        server.http("/api/v1/c/a", "PUT", {"title": "first"})
        wait_until(lambda: hits(server, "title:first") == 1, 60, "a hit")
        door.set("429")
        before, retried = door.calls, server.metric("tidewire_cluster_retries_total")
        status, reply = http(server, "c", "search", query="*")
        assert status == 503 and reply["code"] == "busy"
        after = server.metric("tidewire_cluster_retries_total")
        assert 1 <= after - retried <= 2 + 2 * 4  # its own refreshes may be among them
        assert door.calls - before <= 15


def documents(cluster, names):
    """{id: n} of all that the index holds, asked for without Tidewire; nothing of one that is not
    there, or not ready to be searched."""
    cluster.call("POST", f"/{names}c/_refresh")
    held, after = {}, None
    while True:
        query = {"bool": {"must_not": {"exists": {"field": "_tw.state"}}}}
        body = {"size": 1000, "sort": [{"_id": "asc"}], "query": query}
        if after:
            body["search_after"] = after
        status, answer = cluster.call("POST", f"/{names}c/_search", body)
        hits = answer["hits"]["hits"] if status == 200 else []
        for hit in hits:
            held[hit["_id"]] = hit["_source"].get("n")
            after = hit["sort"]
        if not hits:
            return held


def fill(server, plan):
    asked = {"bulk_plan": plan, "deadline_ms": 60000}
    status, text = server.http("/api/v1/search/c/bulk", "POST", asked, timeout=PATIENCE_S)
    assert status == 200, text
    assert not [item for item in json.loads(text)["items"] if item.get("code")]


# (documents, deletes): the promise's numbers where there is time for them.
OUTAGE = (100_000, 10_000) if os.environ.get("TIDEWIRE_LONG") else (6000, 1000)


def count(cluster, names):
    """Documents as the engine counts them, the server's own not among them."""
    cluster.call("POST", f"/{names}c/_refresh")
    query = {"bool": {"must_not": {"exists": {"field": "_tw.state"}}}}
    return cluster.call("POST", f"/{names}c/_count", {"query": query})[1].get("count", 0)


@pytest.mark.slow
def test_index_is_equal_after_an_outage_and_kills(make_server, tmp_path, cluster, names):
    """A tenth is there before the outage, the rest comes in it; of both a tenth is deleted in it.
    The server dies in the outage, and three times while the index is being put right: the door lets
    few bulks of 1,000 changes through in each of these lives, so that none comes to its end."""
    total, deletes = OUTAGE
    early, half = total // 10, deletes // 2
    with Faults(cluster.url) as door:
        server = start(make_server, tmp_path, door.url, names)

        def write(plan):
            for at in range(0, len(plan), 1000):
                fill(server, plan[at : at + 1000])

        write([["insert", f"k{i}", {"n": i}] for i in range(early)])
        wait_until(lambda: count(cluster, names) == early, 60, "those before the outage")
        door.set("cut")  # the cluster is away
        write([["insert", f"k{i}", {"n": i}] for i in range(early, total)])
        write([["delete", f"k{i}"] for i in range(half)])
        write([["update", f"k{i}", {"n": -i}] for i in range(half, 2 * half)])
        server.kill()
        server.start()
        write([["delete", f"k{i}"] for i in range(early, early + half)])
        wanted = {f"k{i}": i for i in range(total)}
        wanted.update({f"k{i}": -i for i in range(half, 2 * half)})
        for i in [*range(half), *range(early, early + half)]:
            del wanted[f"k{i}"]
        begun = time.monotonic()
        for bulks in (1, 2, 1):
            door.bulks_left = bulks
            door.set("pass")
            wait_until(lambda: door.bulks_left == 0, 60, "bulks")
            server.kill()
            assert count(cluster, names) != len(wanted)
            server.start()
        door.bulks_left = None
        wait_until(lambda: count(cluster, names) == len(wanted), 60, "as many documents")
        wait_until(lambda: documents(cluster, names) == wanted, 60, "equality")
        took = time.monotonic() - begun
        print(f"{total} documents, equal {took:.1f} s after the return, 3 kills on the way")
        if os.environ.get("TIDEWIRE_LONG"):
            assert took < 60


@pytest.mark.slow
def test_wiped_or_altered_index_is_put_right(make_server, tmp_path, cluster, names):
    server = start(make_server, tmp_path, cluster.url, names)
    fill(server, [["insert", f"k{i}", {"n": i}] for i in range(1000)])
    wanted = {f"k{i}": i for i in range(1000)}
    wait_until(lambda: documents(cluster, names) == wanted, 60, "the first filling")
    # somebody deletes the index
    for name in cluster.call("GET", f"/{names}c/_alias")[1]:
        cluster.call("DELETE", f"/{name}")
    server.http("/api/v1/c/k1000", "PUT", {"n": 1000})
    wanted["k1000"] = 1000
    wait_until(
        lambda: found(server, query="*") and documents(cluster, names) == wanted, 60, "made anew"
    )
    # documents vanish and strangers come while the server is down
    wait_until(lambda: cluster.call("GET", f"/{names}c/_doc/~~state")[0] == 200, 20, "its state")
    server.kill()
    cluster.call(
        "POST", f"/{names}c/_delete_by_query?refresh=true", {"query": {"range": {"n": {"lt": 100}}}}
    )
    cluster.call("PUT", f"/{names}c/_doc/stranger?refresh=true", {"n": 5})
    server.start()
    wait_until(lambda: documents(cluster, names) == wanted, 100, "compared and put right")


def test_as_of_and_min_since(make_server, tmp_path, cluster, names):
    server = start(make_server, tmp_path, cluster.url, names)
    for i in range(20):
        status, text = server.http(f"/api/v1/c/w{i}", "PUT", {"n": i})
        since = json.loads(text)["since"]
        reply = wait_until(
            lambda: found(server, query=f"n:{i}", min_since=since, deadline_ms=60000), 60, "a reply"
        )
        assert reply["total"] == 1, "a read of one's own write"
        assert reply["as_of"][0][1] >= since[0][1]
    ahead = [[since[0][0], since[0][1] + 1000]]
    status, reply = http(server, "c", "search", query="*", min_since=ahead, deadline_ms=300)
    assert (status, reply["code"], reply["retry"]) == (503, "timeout", "backoff")
    assert http(server, "c", "search", query="*", min_since=[1])[1]["code"] == "bad_since"


def test_what_cannot_be_indexed_is_set_aside(make_server, tmp_path, cluster, names):
    server = start(make_server, tmp_path, cluster.url, names)
    server.http("/api/v1/c/bad", "PUT", {"n": "no number"})
    server.http("/api/v1/c/good", "PUT", {"n": 1})
    wait_until(lambda: hits(server, "n:1") == 1, 60, "the good one")
    wait_until(lambda: server.metric("tidewire_index_set_aside_total") == 1, 20, "its count")
    assert "bad" in server.tail(200) and "cannot be indexed" in server.tail(200)
