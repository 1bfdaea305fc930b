"""Streams over one websocket: the frames of the report protocol, as its users wrote them."""

import json

import pytest

from clients import Client, log_reaches, run

SUBSCRIBE = """{
    "type": "subscribe",
    "mux_id": 99,
    "project_id": 7,
    "since": [[0, 14], [1, 99]],
    "syncid": "abc123",
    "entries": "*",
    "threads": "*",
    "comments": "*"
}"""
CLOSE = '{\n    "type": "close",\n    "mux_id": 99\n}'

# fmt: off
ENTRY = {"proj_id": 7, "report_uuid": "the-report-uuid", "entry_uuid": "the-entry-uuid",
         "version_uuid": "the-unique-version-uuid", "user_id": 314, "clip_id": "11b",
         "content": {"field1": "val1", "field2": "val2"}, "modifies": None, "reason": None}
THREAD = {"proj_id": 7, "user_uuid": 314, "thread_uuid": "the-thread-uuid",
          "links": [["report", "a-report-uuid"], ["comment", "a-comment-uuid"],
                    ["entity", "an-entity-uuid"], ["version", "a-version-uuid"]]}
COMMENT = {"proj_id": 7, "user_uuid": 314, "comment_uuid": "the-comment-uuid",
           "thread_uuid": "the-thread-uuid", "authortime": "2022-01-01T17:05:00Z"}
# fmt: on


@pytest.fixture
def report(make_server):
    return make_server(flags=["--preset", "report"]).start()


@pytest.fixture(params=["one", "ipc", "tcp"])
def report_any_layout(request, make_server):
    return make_server(layout=request.param, flags=["--preset", "report"]).start()


def subset(small, large):
    return {k: large.get(k) for k in small} == small


@pytest.mark.sanitize
def test_the_report_protocol_verbatim(report_any_layout):
    async def scenario():
        url = report_any_layout.url
        async with await Client.open(url("/db")) as db, await Client.open(url("/ws")) as ws:
            for collection, doc in [("entries", ENTRY), ("threads", THREAD), ("comments", COMMENT)]:
                done = await db.one("insert", collection=collection, doc=doc)
            await log_reaches(url(), done["since"])
            await ws.socket.send(SUBSCRIBE)
            frames = await ws.until_sync()
            kinds = [f["type"] for f in frames]
            assert kinds == ["entry", "thread", "comment", "sync"], frames
            assert all(f["mux_id"] == 99 for f in frames)
            for doc, frame in zip([ENTRY, THREAD, COMMENT], frames):
                assert subset(doc, frame), frame
                assert frame["seqno"] > 0 and frame["srv_id"] > 0
            assert "submissiontime" in frames[2]
            sync = frames[-1]
            assert sync["syncid"] == "abc123"
            assert sync["since"] == [[frames[0]["srv_id"], frames[2]["seqno"]]]
            # live: an edit arrives by itself
            edit = {
                **ENTRY,
                "version_uuid": "second",
                "clip_id": None,
                "content": {"field1": None, "field3": "new"},
                "modifies": ["the-unique-version-uuid"],
                "reason": "a better word",
            }
            await db.one("insert", collection="entries", doc=edit)
            live = await ws.next()
            assert live["type"] == "entry" and subset(edit, live)
            assert live.get("prev", 0) in (0, frames[2]["seqno"])
            # close: confirmed, and nothing behind it
            await ws.socket.send(CLOSE)
            closed = await ws.next()
            assert closed["type"] == "closed" and closed["mux_id"] == 99
            done = await db.one("insert", collection="threads", doc={**THREAD, "thread_uuid": "t2"})
            await log_reaches(url(), done["since"])
            assert await ws.is_silent(0.5)
            # the id is free again, and the stream resumes where it was
            again = json.loads(SUBSCRIBE)
            again["since"] = closed["since"]
            await ws.send(**again)
            frames = await ws.until_sync()
            assert [f["type"] for f in frames] == ["thread", "sync"], frames

    run(scenario())


def test_other_projects_are_not_told(report):
    async def scenario():
        async with await Client.open(report.url("/db")) as db, await Client.open(
            report.url()
        ) as ws:
            await db.one("insert", collection="threads", doc=THREAD)
            done = await db.one(
                "insert", collection="threads", doc={**THREAD, "proj_id": 8, "thread_uuid": "other"}
            )
            await log_reaches(report.url(), done["since"])
            await ws.send(type="subscribe", mux_id="a", project=7, threads="*")
            frames = await ws.until_sync()
            assert [f.get("thread_uuid") for f in frames] == ["the-thread-uuid", None]

    run(scenario())


@pytest.mark.parametrize(
    "change,rule",
    [
        ({"modifies": ["unknown"], "reason": "x", "version_uuid": "v9"}, "entry."),
        ({"modifies": ["the-unique-version-uuid"], "reason": None, "version_uuid": "v9"}, "entry."),
        ({"reason": "an original has none", "version_uuid": "v9", "entry_uuid": "e9"}, "entry."),
    ],
)
def test_writes_that_break_a_rule_are_refused_by_its_name(report, change, rule):
    async def scenario():
        async with await Client.open(report.url("/db")) as db:
            await db.one("insert", collection="entries", doc=ENTRY)
            reply = (await db.ask("insert", collection="entries", doc={**ENTRY, **change}))[-1]
            assert reply["type"] == "error" and reply["code"] == "rule", reply
            assert reply["rule"].startswith(rule), reply

    run(scenario())


def test_conflicting_edits_are_both_told(report):
    async def scenario():
        async with await Client.open(report.url("/db")) as db, await Client.open(
            report.url()
        ) as ws:
            await db.one("insert", collection="entries", doc=ENTRY)
            for version in ("left", "right"):
                done = await db.one(
                    "insert",
                    collection="entries",
                    doc={
                        **ENTRY,
                        "version_uuid": version,
                        "modifies": ["the-unique-version-uuid"],
                        "reason": "each on its own",
                    },
                )
            await log_reaches(report.url(), done["since"])
            await ws.send(type="subscribe", mux_id=1, project_id=7, entries="*")
            frames = await ws.until_sync()
            assert [f["version_uuid"] for f in frames[:-1]] == [
                "the-unique-version-uuid",
                "left",
                "right",
            ]

    run(scenario())


@pytest.mark.sanitize
def test_filters_tell_what_left_and_what_was_deleted(any_layout):
    async def scenario():
        async with await Client.open(any_layout.url("/db")) as db, await Client.open(
            any_layout.url()
        ) as ws:
            for i in range(5):
                done = await db.one("put", collection="things", doc={"_id": i, "n": i})
            await log_reaches(any_layout.url(), done["since"])
            await ws.send(
                type="subscribe",
                mux_id=1,
                collections={"things": {"filter": {"n": {"$gte": 3}}, "fields": ["n"]}},
            )
            frames = await ws.until_sync()
            assert [f["doc"]["n"] for f in frames[:-1]] == [3, 4]
            await db.one("update", collection="things", id=3, fields={"n": 0})
            await db.one("remove", collection="things", id=4)
            await db.one("update", collection="things", id=1, operations=[["INC", "n", 9]])
            told = [await ws.next() for _ in range(3)]
            assert [(f["type"], f.get("why"), f["key"]) for f in told] == [
                ("remove", "left", 3),
                ("remove", "deleted", 4),
                ("record", None, 1),
            ]
            assert told[2]["doc"] == {"_id": 1, "n": 10}
            assert told[1]["prev"] == told[0]["seqno"] and told[2]["prev"] == told[1]["seqno"]

    run(scenario())


def test_many_streams_share_a_connection(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db, await Client.open(
            server.url()
        ) as ws:
            for i in range(200):
                await ws.send(
                    type="subscribe", mux_id=i, collections={"c": {"filter": {"n": i % 7}}}
                )
            synced = set()
            while len(synced) < 200:
                frame = await ws.next()
                assert frame["type"] == "sync"
                synced.add(frame["mux_id"])
            await db.one("put", collection="c", doc={"_id": 1, "n": 3})
            told = {(await ws.next())["mux_id"] for _ in range(len(range(3, 200, 7)))}
            assert told == set(range(3, 200, 7))

    run(scenario())


def test_since_now_tells_only_what_comes(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db, await Client.open(
            server.url()
        ) as ws:
            done = await db.one("put", collection="c", doc={"_id": 1})
            await log_reaches(server.url(), done["since"])
            await ws.send(type="subscribe", mux_id=1, since="now", collections={"c": "*"})
            assert (await ws.next())["type"] == "sync"
            await db.one("put", collection="c", doc={"_id": 2})
            assert (await ws.next())["key"] == 2

    run(scenario())


def test_a_changed_query_starts_over(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db, await Client.open(
            server.url()
        ) as ws:
            done = await db.one("put", collection="c", doc={"_id": 1, "n": 1})
            await log_reaches(server.url(), done["since"])
            await ws.send(type="subscribe", mux_id=1, collections={"c": {"filter": {"n": 2}}})
            sync = (await ws.until_sync())[-1]
            await ws.send(type="close", mux_id=1)
            await ws.next()
            await ws.send(
                type="subscribe",
                mux_id=1,
                since=sync["since"],
                query=sync["query"],
                collections={"c": {"filter": {"n": 1}}},
            )
            frames = await ws.until_sync()
            assert frames[0]["type"] == "reset" and frames[0]["reason"] == "changed"
            assert frames[1]["key"] == 1

    run(scenario())


def test_since_ahead_starts_over(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db, await Client.open(
            server.url()
        ) as ws:
            reply = await db.one("put", collection="c", doc={"_id": 1})
            ((srv, seqno),) = reply["since"]
            await log_reaches(server.url(), reply["since"])
            far = seqno + 2**40  # days, where positions are a clock's
            await ws.send(type="subscribe", mux_id=1, since=[[srv, far]], collections={"c": "*"})
            frames = await ws.until_sync()
            assert frames[0]["type"] == "reset" and frames[0]["reason"] == "ahead"
            assert [f.get("key") for f in frames] == [None, 1, None]

    run(scenario())
