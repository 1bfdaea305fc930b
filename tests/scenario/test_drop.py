"""Collections and databases that are dropped as a whole, by those who may."""

from clients import Client, run
from realtime import configured
from services import Service

OPEN = """
collections:
  - {name: temp, drop_allowed: true}
  - {name: kept, drop_allowed: true, remove_denied: true}
databases:
  - {name: crm, version: 1, collections: [{name: person}, {name: company}]}
  - {name: shop, version: 1, drop_denied: true, collections: [{name: item}]}
"""


def service_url(server):
    return f"ipc://{server.directory}/data/service"


def test_drop_is_one_record_on_every_edge(make_server, tmp_path):
    server = configured(make_server, tmp_path, OPEN).start()

    async def scenario():
        url = server.url
        async with await Client.open(url("/db")) as db, await Client.open(url("/ws")) as on:
            await on.send(type="subscribe", mux_id=1, collections={"temp": "*"})
            await on.until_sync()

            async def fill():
                for i in range(20):
                    last = await db.one("put", collection="temp", doc={"_id": i})
                return last["since"][0][1]

            def is_next(at, before):
                return at > before if server.on_mongo else at == before + 1

            async def dropped(reply, before):
                assert reply["count"] == 1 and is_next(reply["since"][0][1], before)
                frame = (await on.until(lambda f: f.get("type") == "drop"))[-1]
                assert frame["collection"] == "temp" and is_next(frame["seqno"], before)
                assert (await db.one("count", collection="temp"))["count"] == 0

            before = await fill()
            await dropped(await db.one("drop", collection="temp"), before)
            before = await fill()
            status, body = server.http("/api/v1/temp", "DELETE")
            assert status == 200
            reply = await db.one("count", collection="temp")
            assert reply["count"] == 0 and '"count":1' in body.replace(" ", ""), body
            at = (await on.until(lambda f: f.get("type") == "drop"))[-1]["seqno"]
            assert is_next(at, before)
            before = await fill()
            with Service(service_url(server)) as service:
                await dropped(service.one("drop", collection="temp"), before)
                # the same opid has one effect
                await fill()
                first = service.one("drop", collection="temp", opid="d1")
                before = await fill()
                assert service.one("drop", collection="temp", opid="d1")["since"] == first["since"]
                assert (await db.one("count", collection="temp"))["count"] == 20
            (error,) = await db.ask("drop", collection="unheard")
            assert error["code"] == "forbidden"

    run(scenario())


def test_drop_of_a_database_ends_all_its_collections(make_server, tmp_path):
    server = configured(make_server, tmp_path, OPEN).start()

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            for path in ("action", "http", "service"):
                for name in ("person", "company"):
                    await db.one("put", database="crm", collection=name, doc={"_id": 1})
                await db.one("put", collection="temp", doc={"_id": 1})
                if path == "action":
                    assert (await db.one("drop_database", database="crm"))["count"] == 2
                elif path == "http":
                    assert server.http("/api/v1/?database=crm", "DELETE")[0] == 200
                else:
                    with Service(service_url(server)) as service:
                        assert service.one("drop_database", database="crm")["count"] == 2
                for name in ("person", "company"):
                    reply = await db.one("count", database="crm", collection=name)
                    assert reply["count"] == 0
                assert (await db.one("count", collection="temp"))["count"] == 1
            (error,) = await db.ask("drop_database", database="crm")
            assert error["code"] == "not_found"
            # a second life: what is written after a drop is there, also after a restart
            await db.one("put", database="crm", collection="person", doc={"_id": 2})
        server.kill()
        server.start()
        async with await Client.open(server.url("/db")) as db:
            replies = await db.ask("find", database="crm", collection="person")
            assert [r["doc"]["_id"] for r in replies if "doc" in r] == [2]
            # what was dropped before is not dropped once more
            assert (await db.one("drop_database", database="crm"))["count"] == 1

    run(scenario())


def test_drop_is_refused_to_clients_without_the_right(make_server, tmp_path):
    server = configured(make_server, tmp_path, OPEN).start()

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            for fields in (
                {"action": "drop", "collection": "kept"},
                {"action": "drop", "collection": "any"},
                {"action": "drop", "database": "shop", "collection": "item"},
                {"action": "drop_database", "database": "shop"},
                {"action": "drop_database", "database": "main"},
                {"action": "drop_database", "database": "any"},
            ):
                await db.one(
                    "put",
                    **{k: v for k, v in fields.items() if k == "database" and v != "any"},
                    collection=fields.get("collection", "item" if "shop" in str(fields) else "x"),
                    doc={"_id": 1},
                )
                (error,) = await db.ask(**fields)
                assert error["code"] == "forbidden" and "service" in error["hint"], (fields, error)
            assert server.http("/api/v1/any", "DELETE")[0] == 403
            assert server.http("/api/v1/?database=shop", "DELETE")[0] == 403
            assert server.http("/api/v1/", "DELETE")[0] == 404
            # a service may
            with Service(service_url(server)) as service:
                assert service.one("drop", collection="any")["count"] == 1
                assert service.one("drop_database", database="shop")["count"] == 1
                error = service.refused("drop_database")
                assert error["code"] == "bad_message"

    run(scenario())
