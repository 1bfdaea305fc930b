"""The embedded search: the same table of cases as for a cluster (test_search_functions.py), and what
is its own: undeclared collections, kills, damaged files, refusals by name."""

import json
import os
import signal

import pytest

import search
import test_search_functions as table
from server import Server
from test_search_functions import ALL, CASES, DOCS, ask, fits, http

# Where the answer is another one, as there is no cluster.
OTHER = {
    ("fix_ilm", "{}"): {"changed": False, "was": None, "wanted": None},
}


def settle(server, index):
    ask(server, index, "save", id="~fence", doc={})
    since = ask(server, index, "delete", id="~fence")["since"]
    ask(server, index, "keys", min_since=since, deadline_ms=20000)


def start(directory, *flags, config=None):
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
    return Server(flags=["--config", config, "--search-timeout", "10000", *flags])


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


# ---- live search ----
async def live(server, collection, query, changes):
    """The events of a stream of a search, each change made once the one before was told."""
    events = []
    async with Client(server) as client:
        await client.send({"type": "subscribe", "mux_id": 1, "collections": {
            collection: {"search": {"query": query}}}})  # fmt: skip
        while True:
            event = await client.receive()
            if event["type"] == "sync":
                break
            events.append(event)
        for change, told in changes:
            change()
            while told:
                event = await client.receive()
                if event["type"] != "sync":
                    events.append(event)
                    break
    return events


def shape(event):
    return (event["type"], event["key"], event.get("why"))
