"""Data access (/db): the messages of the data store's own document, and the actions beside them."""

import json

import pytest

from clients import Client, run

OID = "5f43a1c0e4b0a1b2c3d4e5f6"


@pytest.mark.sanitize
def test_get_by_ids_verbatim(make_server):
    server = make_server(flags=["--default-collection", "properties"]).start()

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            await db.one("insert", collection="properties", doc={"_id": {"$oid": OID}, "a": 1})
            await db.one("insert", collection="properties", doc={"_id": "id1", "a": 2})
            await db.socket.send(
                json.dumps(
                    {
                        "action": "getByIds",
                        "reqID": "abcd",
                        "ids": ["id1", "id2", OID, {"$oid": OID}],
                    }
                )
            )
            replies = await db.until(lambda f: f.get("action") == "done")
            assert all(r["reqID"] == "abcd" for r in replies)
            docs = [r["doc"] for r in replies[:-1]]
            assert {"_id": {"$oid": OID}, "a": 1} in [
                {k: v for k, v in d.items() if k != "_version"} for d in docs
            ]
            assert replies[-1]["missing"] == ["id2"]
            # none found: an error, with the same reqID
            await db.socket.send('{"action":"getByIds","reqID":"x","ids":["nope"]}')
            error = await db.next()
            assert (error["type"], error["code"], error["reqID"]) == ("error", "not_found", "x")

    run(scenario())


def test_versions_conflicts_and_operation_ids(any_layout):
    async def scenario():
        async with await Client.open(any_layout.url("/db")) as db:
            first = await db.one("insert", collection="c", doc={"_id": 1, "n": 1})
            assert first["version"] == 1
            taken = (await db.ask("insert", collection="c", doc={"_id": 1}))[-1]
            assert taken["code"] == "conflict"
            second = await db.one("update", collection="c", id=1, fields={"n": 2}, if_version=1)
            assert second["version"] == 2 and second["since"][0][1] > first["since"][0][1]
            stale = (await db.ask("update", collection="c", id=1, fields={"n": 3}, if_version=1))[
                -1
            ]
            assert stale["code"] == "conflict" and stale["version"] == 2
            once = await db.one(
                "update", collection="c", id=1, operations=[["INC", "n", 5]], opid="op-1"
            )
            again = await db.one(
                "update", collection="c", id=1, operations=[["INC", "n", 5]], opid="op-1"
            )
            assert again["since"] == once["since"] and again["version"] == once["version"]
            doc = (await db.ask("detail", collection="c", id=1))[0]["doc"]
            assert doc["n"] == 7 and doc["_version"] == 3

    run(scenario())


def test_the_nine_operations(server):
    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            await db.one(
                "put",
                collection="c",
                doc={
                    "_id": 1,
                    "set": 1,
                    "inc": 1,
                    "dec": 9,
                    "max": 3,
                    "min": 3,
                    "list": [1],
                    "once": [1],
                    "less": [1, 2, 1],
                    "gone": True,
                },
            )
            await db.one(
                "update",
                collection="c",
                id=1,
                operations=[
                    ["SET", "set", "x"],
                    ["INC", "inc", 2],
                    ["DEC", "dec", 4],
                    ["MAX", "max", 7],
                    ["MIN", "min", 1],
                    ["APPEND", "list", 2],
                    ["APPEND_IF_MISSING", "once", 1],
                    ["REMOVE", "less", 1],
                    ["DELETE", "gone", None],
                ],
            )
            doc = (await db.ask("detail", collection="c", id=1))[0]["doc"]
            doc.pop("_version")
            assert doc == {
                "_id": 1,
                "set": "x",
                "inc": 3,
                "dec": 5,
                "max": 7,
                "min": 1,
                "list": [1, 2],
                "once": [1],
                "less": [2],
            }

    run(scenario())


def test_find_sort_count_and_fields(any_layout):
    async def scenario():
        async with await Client.open(any_layout.url("/db")) as db:
            for i in range(20):
                await db.one("put", collection="c", doc={"_id": i, "n": i % 5, "s": f"x{i}"})
            found = await db.ask(
                "find", collection="c", query={"n": 3}, fields=["s"], sort={"s": -1}, limit=3
            )
            assert [r["doc"]["s"] for r in found[:-1]] == ["x8", "x3", "x18"]
            assert found[-1]["action"] == "done" and found[-1]["count"] == 3
            one = (await db.ask("find_one", collection="c", query={"_id": 7}))[0]
            assert one["doc"]["s"] == "x7"
            assert (await db.one("count", collection="c", query={"n": {"$lt": 2}}))["count"] == 8
            assert (await db.one("get_field", collection="c", id=7, field="s"))["value"] == "x7"
            assert "id" in await db.one("get_new_id", collection="c")
            many = await db.one("update", collection="c", query={"n": 0}, fields={"s": "z"})
            assert many["count"] == 4
            gone = await db.one("remove", collection="c", query={"s": "z"})
            assert gone["count"] == 4
            assert (await db.one("count", collection="c"))["count"] == 16

    run(scenario())


def test_a_read_sees_the_write_before_it(any_layout):
    async def scenario():
        async with await Client.open(any_layout.url("/db")) as db:
            for i in range(200):
                await db.one("put", collection="c", doc={"_id": 1, "n": i})
                got = (await db.ask("getByIds", collection="c", ids=[1]))[0]
                assert got["doc"]["n"] == i

    run(scenario())


def test_rest_is_the_same_data(server):
    status, body = server.http("/api/v1/people/1", "PUT", {"_id": 1, "name": "Ada"})
    assert status in (200, 201), body
    assert json.loads(server.http("/api/v1/people/1")[1])["name"] == "Ada"
    assert server.http("/api/v1/people/2")[0] == 404
    status, body = server.http("/api/v1/people", "POST", {"name": "Grace"})
    assert status in (200, 201), body
    status, body = server.http("/api/v1/people/1", "PATCH", {"name": "Countess"})
    assert status == 200, body
    status, body = server.http("/api/v1/people/find", "POST", {"query": {"name": "Countess"}})
    assert status == 200 and json.loads(body)["docs"][0]["_id"] == 1
    assert server.http("/api/v1/people/1", "DELETE")[0] == 200
    assert server.http("/api/v1/people/1")[0] == 404


def test_operations_pages(server):
    assert server.http("/healthz")[0] == 200
    assert server.http("/readyz", admin=True)[0] == 200
    assert "tidewire_" in server.http("/metrics", admin=True)[1]
    for page in ("/varz", "/connz", "/streamz", "/actorz"):
        status, body = server.http(page, admin=True)
        assert status == 200, (page, body)
        json.loads(body)
        assert server.http(page)[0] == 404, f"{page} must not be on the public listener"
    assert server.http("/metrics", admin=True, headers={"Host": "evil.example"})[0] in (400, 403)
