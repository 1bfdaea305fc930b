"""Manifest sync: after it, a client's copy is the query's result, and nothing more was told."""

import os
import random

import manifests
from clients import Client, run
from manifests import Copy, sync


def stored_of(replies):
    return {manifests.key_of(r["doc"]["_id"]): r["doc"] for r in replies if "doc" in r}


async def check(db, copy, name, query=None):
    """The copy is the query's result, with the newest versions."""
    replies = await db.ask("find", collection=name, query=query or {})
    stored = stored_of(replies)
    held = copy.records[name]
    assert held.keys() == stored.keys()
    assert all(held[k][1] == stored[k]["_version"] for k in stored)


def test_each_verdict_in_one_pass_over_several_collections(any_layout):
    async def scenario():
        async with await Client.open(any_layout.url("/db")) as db:
            for i in range(10):
                await db.one("put", collection="samples", doc={"_id": f"s{i}", "n": i})
            await db.one("update", collection="samples", id="s3", fields={"n": 33})
            await db.one("put", collection="files", doc={"_id": 7, "name": "x"})
            copy = Copy(samples={}, files={}, none={})
            for i in (0, 1, 2, 3):
                copy.have("samples", f"s{i}", 1)
            copy.have("samples", "gone", 4)
            copy.have("none", "x", 1)
            done = await sync(db, copy, "r1")
            assert (done["inserted"], done["updated"], done["removed"], done["same"]) == (7, 1, 2, 3)
            assert copy.records["samples"]['"s3"'][2] == {"_id": "s3", "n": 33, "_version": 2}
            assert copy.records["none"] == {}
            for name in ("samples", "files"):
                await check(db, copy, name)
            # again: nothing is told, and the position is the head
            done = await sync(db, copy, "r2")
            assert (done["inserted"], done["updated"], done["removed"], done["same"]) == (0, 0, 0, 11)
            put = await db.one("put", collection="samples", doc={"_id": "s0", "n": 1})
            assert put["since"][0][1] == done["since"][0][1] + 1

    run(scenario())


def random_key(chance):
    return chance.choice(
        [
            f"k{chance.randrange(60)}",
            chance.randrange(60),
            {"$oid": f"{chance.randrange(60):024x}"},
            chance.choice([0.5, 1.25, True, {"$date": "2026-01-01T00:00:00Z"}, "ä\u2028", "7"]),
        ]
    )


async def change_some(db, chance, name, count):
    for _ in range(count):
        key = random_key(chance)
        if chance.random() < 0.25:
            await db.ask("remove", collection=name, id=key)
        else:
            await db.one("put", collection=name, doc={"_id": key, "a": chance.randrange(4)})


def random_copy(chance, stored):
    """Some of what is stored, some in another version, some that is not there."""
    copy = Copy(things={})
    for doc in stored.values():
        draw = chance.random()
        if draw < 0.5:
            copy.have("things", doc["_id"], doc["_version"])
        elif draw < 0.75:
            copy.have("things", doc["_id"], max(0, doc["_version"] - 1))
    for i in range(chance.randrange(6)):
        copy.have("things", f"gone{i}", 1)
    return copy


def many_manifests(server, rounds, seed):
    chance = random.Random(seed)

    async def scenario():
        async with await Client.open(server.url("/db")) as db:
            for number in range(rounds):
                await change_some(db, chance, "things", 4)
                query = chance.choice([{}, {"a": 1}, {"a": {"$gte": 2}}])
                stored = stored_of(await db.ask("find", collection="things"))
                copy = random_copy(chance, stored)
                ranged = ("things",) if chance.random() < 0.5 else ()
                specs = {"things": {"filter": query}}
                bits = chance.randrange(5)
                await sync(db, copy, f"n{number}", ranged, bits, collections=specs)
                await check(db, copy, "things", query)

    run(scenario(), 3000)


def test_random_manifests_end_in_the_querys_result(server):
    many_manifests(server, int(os.environ.get("TIDEWIRE_MANIFESTS", "300")), 1)
