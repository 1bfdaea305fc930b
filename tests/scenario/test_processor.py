"""Processors: services that rewrite minimal documents; what fails holds up only what needs it."""

import json
import re

import pytest

import manifests
from clients import Client, run, settled
from manifests import Copy, sync
from processing import Processor
from server import wait_until

CONFIG = """
collections:
  - name: samples
    fields: [name, n]
    processor: {url}
  - name: others
    processor: {other}
"""


def shout(doc):
    """Rewrites a name; leaves out what is hidden; cannot do what is bad."""
    if doc.get("name") == "hidden":
        return None
    if doc.get("name") == "bad":
        raise ValueError("a bad name")
    return {**doc, "name": doc["name"].upper(), "made": True}


@pytest.fixture
def url(tmp_path):
    return f"ipc://{tmp_path}/processor"


@pytest.fixture
def start(make_server, tmp_path, url):
    def make(**options):
        path = tmp_path / "tidewire.yaml"
        path.write_text(CONFIG.format(url=url, other=f"ipc://{tmp_path}/other"))
        flags = ["--config", str(path)]
        return make_server(flags=flags, **options).start()

    return make


@pytest.fixture(params=["one", "ipc", "tcp"])
def any_layout(request, start):
    return start(layout=request.param)


async def put(db, key, name, collection="samples", **more):
    return await db.one("put", collection=collection, doc={"_id": key, "name": name, **more})


def body(frame):
    return {k: v for k, v in frame["doc"].items() if k != "_version"}


def test_history_live_and_syncs_give_the_same_processed_documents(any_layout, url):
    async def scenario():
        async with await Client.open(any_layout.url("/db")) as db:
            for i in range(700):
                await put(db, i, "hidden" if i % 10 == 0 else f"s{i}", n=i, secret=1)
            await settled(any_layout)
            await db.send(type="subscribe", mux_id=1, samples="*")
            history = (await db.until_sync())[:-1]
            assert len(history) == 630
            assert body(history[0]) == {"_id": 1, "name": "S1", "n": 1, "made": True}
            assert max(processor.sizes) > 50, "documents travel in batches"
            # live: put, hidden from now on, removed
            await put(db, 1, "again", n=2)
            put_live = await db.next()
            assert put_live["type"] == "record" and body(put_live)["name"] == "AGAIN"
            await put(db, 1, "hidden")
            left = await db.next()
            assert (left["type"], left["why"], left["key"]) == ("remove", "left", 1)
            await put(db, 2, "two", n=2)
            two = await db.next()
            await db.one("remove", collection="samples", id=2)
            assert (await db.next())["why"] == "deleted"
            await put(db, 2, "two", n=2)
            two = await db.next()
            # the same bytes by history, but for the number of the stream and prev
            async with await Client.open(any_layout.url()) as other:
                await other.send(type="subscribe", mux_id=1, samples={"filter": {"_id": 2}})
                (again, _) = await other.until_sync()
                assert {**again, "prev": 0} == {**two, "prev": 0}
            copy = Copy(samples={})
            copy.have("samples", 1, 1)  # hidden by now
            copy.have("samples", 10, 9)  # hidden always
            copy.have("samples", 2, two["version"])
            done = await sync(db, copy, "r")
            assert len(copy.records["samples"]) == 629
            assert copy.records["samples"]["3"][2]["name"] == "S3"
            assert done["same"] == 1

    with Processor(url, shout) as processor:
        run(scenario())


def test_a_processor_that_is_away_or_slow_holds_up_only_what_needs_it(start, url, tmp_path):
    server = start()
    processor = Processor(url, shout)

    async def scenario():
        url = server.url
        async with await Client.open(url("/db")) as db, await Client.open(url()) as on:
            await put(db, 1, "one")
            await settled(server)
            await on.send(type="subscribe", mux_id="p", samples="*")
            await on.send(type="subscribe", mux_id="free", free="*")
            await on.until_sync("free")
            for i in range(50):
                await put(db, i, "x", collection="free")
                assert (await on.next())["mux_id"] == "free"
            wait_until(lambda: server.metric("tidewire_processors_down") == 2, 30, "both down")
            streams = json.loads(server.http("/streamz", admin=True)[1])
            assert '"processed": true, "paused": 1' in json.dumps(streams), streams
            (error,) = await db.ask("sync", manifests={"samples": {}})
            assert error["code"] == "unavailable" and error["retry"] == "backoff", error
            assert "is not there" in error["message"]
            processor.start()
            frames = await on.until_sync("p", 20)
            assert body(frames[0])["name"] == "ONE"
            # slow: put off, then told once
            processor.delay = 2.6
            await put(db, 2, "two")
            await put(db, "y", "y", collection="free")
            assert (await on.next())["mux_id"] == "free"  # not held up
            wait_until(lambda: server.metric("tidewire_processor_deadlines_total") > 0, 20, "slow")
            processor.delay = 0
            frame = await on.next(20)
            assert frame["mux_id"] == "p" and body(frame)["name"] == "TWO"
            # gone in between
            processor.stop()
            await put(db, 3, "three")
            await put(db, "z", "z", collection="free")
            assert (await on.next())["mux_id"] == "free"  # not held up
            processor.start()
            frame = await on.next(20)
            assert frame["mux_id"] == "p" and body(frame)["name"] == "THREE"

    try:
        run(scenario())
    finally:
        processor.stop()


def test_a_document_that_fails_five_times_is_set_aside(start, url):
    server = start()

    async def scenario():
        url = server.url
        async with await Client.open(url("/db")) as db, await Client.open(url()) as on:
            for i in range(5):
                await put(db, i, "bad" if i == 2 else f"s{i}")
            await settled(server)
            await on.send(type="subscribe", mux_id=1, samples="*")
            frames = await on.until_sync(seconds=30)
            assert [f["key"] for f in frames[:-1]] == [0, 1, 3, 4]
            assert server.metric("tidewire_processor_set_aside_total") == 1
            # in the batch, then alone
            assert server.metric("tidewire_processor_failures_total") == 6
            assert re.search(r"samples: .*version 1, failed 5 times", server.tail())
            await put(db, 2, "good")  # another version has its own chance
            assert body(await on.next())["name"] == "GOOD"
            # one that ends the service with it, each time
            processor.die_on = lambda doc: doc.get("name") == "killer"
            await put(db, 7, "killer")
            await put(db, 8, "eight")
            assert body(await on.next(40))["name"] == "EIGHT"
            assert server.metric("tidewire_processor_set_aside_total") == 2

    with Processor(url, shout) as processor:
        run(scenario())


@pytest.mark.parametrize(
    "wrong",
    [
        b"\xc1",
        b"",
        {"ok": True},
        {"ok": True, "docs": [1]},
        {"ok": True, "docs": [{}] * 3},
        {"docs": []},
    ],
)
def test_a_processor_that_answers_wrong_pauses_and_loses_nothing(start, url, wrong):
    server = start()

    async def scenario():
        url = server.url
        async with await Client.open(url("/db")) as db, await Client.open(url()) as on:
            await put(db, 1, "one")
            await put(db, 2, "two")
            await settled(server)
            await on.send(type="subscribe", mux_id=1, samples="*")
            wait_until(
                lambda: server.metric("tidewire_processor_failures_total") >= 3, 20, "failures"
            )
            assert server.metric("tidewire_processor_set_aside_total") == 0
            processor.answer = None
            frames = await on.until_sync(seconds=20)
            assert [body(f)["name"] for f in frames[:-1]] == ["ONE", "TWO"]

    with Processor(url, shout) as processor:
        processor.answer = wrong
        run(scenario())
