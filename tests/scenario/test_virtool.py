"""The names of Virtool's Collection, as actions."""

import asyncio
import re

import pytest
from clients import Client, run


@pytest.fixture
def filled(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            for i in range(6):
                doc = {"_id": f"s{i}", "name": f"n{i}", "host": "ab"[i % 2], "n": i}
                doc["deep"] = {"x": i}
                await db.one("insert", collection="samples", doc=doc)

    run(scenario())
    return server


def docs(replies):
    return [r["doc"] for r in replies if "doc" in r]


def test_virtool_insert_update_remove_count_versions(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            inserted = await db.one("insert", collection="c", doc={"_id": "a", "x": 1})
            assert inserted["key"] == "a" and inserted["version"] == 1
            updated = await db.one("update", collection="c", id="a", update={"$set": {"x": 2}})
            assert updated["version"] == 2
            await db.one("insert", collection="c", doc={"_id": "b", "x": 2})
            many = await db.one("update", collection="c", query={"x": 2}, fields={"y": 1})
            assert many["count"] == 2
            assert [d["_version"] for d in docs(await db.ask("find", collection="c"))] == [3, 2]
            removed = await db.one("remove", collection="c", id=["a", "b", "gone"])
            assert removed["count"] == 2

    run(scenario())


def test_virtool_find_find_one_detail(filled):
    async def scenario():
        async with await Client.open(filled.url("/db")) as db:
            found = docs(await db.ask("find", collection="samples", query={"host": "a"}))
            assert [d["_id"] for d in found] == ["s0", "s2", "s4"]
            spec = {"collection": "samples", "query": {"host": "b"}, "fields": {"name": True}}
            found = docs(await db.ask("find", **spec))
            assert found[0] == {"_id": "s1", "name": "n1"}
            (one,) = docs(await db.ask("find_one", collection="samples", query="s3"))
            assert one["n"] == 3
            detail = await db.one("detail", collection="samples", id="s5")
            assert detail["doc"]["deep"] == {"x": 5}

    run(scenario())


def test_virtool_get_field_by_id_or_query(filled):
    async def scenario():
        async with await Client.open(filled.url("/db")) as db:
            get = {"action": "get_field", "collection": "samples"}
            assert (await db.one(**get, id="s2", field="name"))["value"] == "n2"
            assert (await db.one(**get, id="s2", field="deep.x"))["value"] == 2
            assert (await db.one(**get, query={"n": 4}, field="name"))["value"] == "n4"
            assert (await db.one(**get, query="s1", field="name"))["value"] == "n1"
            assert (await db.one(**get, id="s2", field="nothing"))["value"] is None
            (error,) = await db.ask(**get, query={"n": 99}, field="name")
            assert error["code"] == "not_found"
            (error,) = await db.ask(**get, field="name")
            assert error["code"] == "bad_message"

    run(scenario())


def test_virtool_get_new_id_is_new(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            ids = [(await db.one("get_new_id", collection="c"))["id"]["$oid"] for _ in range(50)]
            assert len(set(ids)) == 50 and all(re.fullmatch("[0-9a-f]{24}", i) for i in ids)
            more = await db.one("get_new_id", collection="c", excluded=ids)
            assert more["id"]["$oid"] not in ids
            (error,) = await db.ask("get_new_id", excluded={"a": 1})
            assert error["code"] == "bad_message"

    run(scenario())


def test_virtool_coerce_query_and_coerce_list(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            ask = {"action": "coerce_query", "collection": "c"}
            reply = await db.one(**ask, query="abc")
            assert reply["query"] == {"_id": {"$in": ["abc"]}} and reply["multi"] is False
            reply = await db.one(**ask, query=7)
            assert reply["query"] == {"_id": {"$in": [7]}} and reply["multi"] is False
            reply = await db.one(**ask, query={"a": 1})
            assert reply["query"] == {"a": 1} and reply["multi"] is True
            reply = await db.one(**ask, query=["a", "b"])
            assert reply["query"] == {"_id": {"$in": ["a", "b"]}} and reply["multi"] is True
            # 24 hex digits may be an ObjectId too
            text = "5f1f1f1f1f1f1f1f1f1f1f1f"
            reply = await db.one(**ask, query=text)
            assert reply["query"] == {"_id": {"$in": [{"$oid": text}, text]}}
            for value in (1, "x", None, {"a": 1}, True):
                assert (await db.one("coerce_list", value=value))["list"] == [value]
            for value in ([], [1], ["a", {"b": [1]}]):
                assert (await db.one("coerce_list", value=value))["list"] == value
            (error,) = await db.ask("coerce_list")
            assert error["code"] == "bad_message"

    run(scenario())


@pytest.mark.embedded  # MongoDB does it itself: test_mongo_data.py
def test_virtool_aggregate(filled):
    async def scenario():
        async with await Client.open(filled.url("/db")) as db:
            ask = {"action": "aggregate", "collection": "samples"}
            pipeline = [
                {"$match": {"n": {"$gt": 0}}},
                {"$group": {"_id": "$host", "n": {"$sum": "$n"}, "ids": {"$push": "$_id"}}},
                {"$sort": {"_id": 1}},
            ]
            replies = await db.ask(**ask, pipeline=pipeline)
            assert docs(replies) == [
                {"_id": "a", "n": 6, "ids": ["s2", "s4"]},
                {"_id": "b", "n": 9, "ids": ["s1", "s3", "s5"]},
            ]
            assert replies[-1]["action"] == "done" and replies[-1]["count"] == 2
            replies = await db.ask(**ask, pipeline=[{"$match": {"_id": "s1"}}, {"$count": "all"}])
            assert docs(replies) == [{"all": 1}]
            replies = await db.ask(**ask, pipeline=[])
            assert len(docs(replies)) == 6
            (error,) = await db.ask(**ask, pipeline=[{"$lookup": {"from": "x"}}])
            assert error["code"] == "unsupported" and "MongoDB" in error["hint"]
            (error,) = await db.ask(**ask, pipeline={})
            assert error["code"] == "bad_message"
            status, body = filled.http(
                "/api/v1/samples/aggregate", "POST", {"pipeline": [{"$count": "all"}]}
            )
            assert status == 200 and '"all":6' in body, body

    run(scenario())


@pytest.mark.embedded  # MongoDB does it itself: test_mongo_data.py
def test_virtool_aggregate_reads_more_than_a_page(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            for start in range(0, 20000, 1000):
                ops = [
                    {"op": "put", "doc": {"_id": i, "g": i % 7, "text": "x" * 20}}
                    for i in range(start, start + 1000)
                ]
                await db.one("batch", collection="many", ops=ops[:500])
                await db.one("batch", collection="many", ops=ops[500:])
            ask = {"action": "aggregate", "collection": "many"}
            group = {"$group": {"_id": "$g", "n": {"$sum": 1}, "top": {"$max": "$_id"}}}
            found = docs(await db.ask(**ask, pipeline=[group, {"$sort": {"_id": 1}}], seconds=60))
            for g, row in enumerate(found):
                ids = range(g, 20000, 7)
                assert row == {"_id": g, "n": len(ids), "top": ids[-1]}
            found = docs(await db.ask(**ask, pipeline=[{"$sort": {"_id": -1}}, {"$limit": 3}]))
            assert [d["_id"] for d in found] == [19999, 19998, 19997]
            (error,) = await db.ask(**ask, pipeline=[{"$skip": 1}])
            assert error["code"] == "too_costly"

    run(scenario())


def reads_of_a_pipeline(order):
    """The most reads that were answered between the ends of two pipelines."""
    parts = " ".join(order).split("pipeline")
    return max([part.count("read") for part in parts[1:-1]], default=0)


@pytest.mark.embedded  # MongoDB does it itself: test_mongo_data.py
def test_virtool_aggregate_keeps_nobody_waiting(server):
    """Judged by order: while heavy pipelines run, one behind the other, another connection reads;
    of one that a pipeline keeps waiting no more than two reads come in the time of one, that before
    it and that behind it. And it writes and is told of it live."""

    async def scenario():
        stages = [{"$project": {"g": 1, "text": 1, f"x{i}": "$text"}} for i in range(13)]
        pipeline = [*stages, {"$group": {"_id": "$g", "n": {"$sum": 1}}}]
        order = []
        async with await Client.open(server.url("/db")) as db:
            for start in range(0, 20000, 500):
                ops = [
                    {"op": "put", "doc": {"_id": i, "g": i % 7, "text": "x" * 20}}
                    for i in range(start, start + 500)
                ]
                await db.one("batch", collection="many", ops=ops)

            async def heavy():
                while not is_over.is_set():
                    replies = await db.ask(
                        "aggregate", collection="many", pipeline=pipeline, seconds=60
                    )
                    assert sum(doc["n"] for doc in docs(replies)) == 20000
                    order.append("pipeline")

            async def others():
                async with await Client.open(server.url()) as client:
                    await client.send(
                        type="subscribe", mux_id=1, since="now", collections={"few": "*"}
                    )
                    assert (await client.next(60))["type"] == "sync"
                    for n in range(3):
                        await client.send(
                            action="put", reqID=n, collection="few", doc={"_id": n}
                        )
                        frames = [await client.next(60), await client.next(60)]
                        assert {f.get("type", "put") for f in frames} == {"record", "put"}, frames
                    while reads_of_a_pipeline(order) < 5:
                        replies = await client.ask("getByIds", collection="many", ids=[7])
                        assert docs(replies)[0]["_id"] == 7
                        order.append("read")
                        assert order.count("pipeline") < 50, order
                is_over.set()

            is_over = asyncio.Event()
            await asyncio.gather(heavy(), others())
            (error,) = await db.ask(
                "aggregate", collection="many", pipeline=pipeline, maxTimeMS=1, seconds=60
            )
            assert error["code"] == "too_costly" and "longer than 1 ms" in error["message"]
            (error,) = await db.ask("aggregate", collection="many", pipeline=[], maxTimeMS=0)
            assert error["code"] == "bad_message" and "maxTimeMS" in error["message"]

    run(scenario())
