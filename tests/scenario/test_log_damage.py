"""The log's files are damaged, or the process is killed at a named point of the store; then the
server starts. Seen from outside: nothing false is served, no position means another history than
the one it was given in, and what was acknowledged is there once.

TIDEWIRE_DAMAGE_SEEDS: runs of each damage (default 1); TIDEWIRE_SEED: the first seed.
actors/log/log_damage_test.c does the same to the log alone, many times faster.
"""

import asyncio
import itertools
import os
import random
import shutil
import time

import pytest

from clients import Client, run

SEEDS = int(os.environ.get("TIDEWIRE_DAMAGE_SEEDS", "1"))
FIRST = int(os.environ.get("TIDEWIRE_SEED", "1"))
PAGE = 8192


def doc_of(key, n, size):
    return {"_id": key, "n": n, "text": "x" * size, "check": n * 7 + size}


def is_whole(doc):
    return doc["check"] == doc["n"] * 7 + len(doc["text"])


async def subscribe(server, since=None):
    """(frames before sync, sync) of a stream of the collection, resumed or fresh; a reset is
    followed to its snapshot. Every document must be whole. Damage that is found as it is read ends
    the stream with an error of its name, and the log is rebuilt: the client begins again."""
    more = {} if since is None else {"since": since}
    for _ in range(100):
        async with await Client.open(server.url()) as ws:
            await ws.send(type="subscribe", mux_id=1, collections={"c": "*"}, **more)
            frames = await ws.until(lambda f: f["type"] in ("sync", "error"), seconds=30)
        assert all(is_whole(f["doc"]) for f in frames if f.get("op") == "put"), "damage was served"
        if frames[-1]["type"] == "sync":
            return frames[:-1], frames[-1]
        assert frames[-1]["code"] in ("corrupt", "unavailable"), frames[-1]
        await asyncio.sleep(0.1)  # the poll of a condition: the log is being rebuilt
    raise AssertionError(f"the log was not rebuilt: {frames[-1]}")


async def write(server, draw, acknowledged, count=250):
    async with await Client.open(server.url("/db")) as db:
        for n in range(count):
            key = f"k{draw.randrange(60)}"
            if draw.random() < 0.1 and key in acknowledged:
                await db.one("remove", collection="c", id=key)
                acknowledged.pop(key)
                continue
            size = draw.choice([10, 200, 800, 9000])
            await db.one("put", collection="c", doc=doc_of(key, n, size))
            acknowledged[key] = n


# ---- damages: each is given the data directory, and a source of chance ----


def overwrite(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def zeroed_page(data, draw):
    path = data / "log.db"
    overwrite(path, draw.randrange(path.stat().st_size // PAGE) * PAGE, bytes(PAGE))


def flipped_bit(data, draw, name="log.db"):
    path = data / name
    at = draw.randrange(path.stat().st_size)
    with open(path, "rb") as file:
        file.seek(at)
        byte = file.read(1)[0]
    overwrite(path, at, bytes([byte ^ 1 << draw.randrange(8)]))


def flipped_bit_in_wal(data, draw):
    flipped_bit(data, draw, "log.db-wal")


def zeroed_frame(data, draw):
    path = data / "log.db-wal"
    frame = PAGE + 24
    overwrite(path, 32 + draw.randrange((path.stat().st_size - 32) // frame) * frame, bytes(frame))


def cut_file(data, draw):
    os.truncate(data / "log.db", draw.randrange((data / "log.db").stat().st_size))


def cut_wal(data, draw):
    os.truncate(data / "log.db-wal", draw.randrange((data / "log.db-wal").stat().st_size))


def garbage_header(data, draw):
    overwrite(data / "log.db", 0, draw.randbytes(100))


def older_copy(data, draw):
    (data / "log.db").write_bytes((data / "backup").read_bytes())


def older_copy_without_wal(data, draw):
    older_copy(data, draw)
    (data / "log.db-wal").unlink()


def deleted(data, draw):
    (data / "log.db").unlink()


def nothing(data, draw):
    pass


DAMAGES = [
    zeroed_page,
    flipped_bit,
    flipped_bit_in_wal,
    zeroed_frame,
    cut_file,
    cut_wal,
    garbage_header,
    older_copy,
    older_copy_without_wal,
    deleted,
    nothing,
]


async def hundred_writes(server):
    """Acknowledged after retries: damage that a write finds costs that write alone."""
    async with await Client.open(server.url("/db")) as db:
        for n in range(100):
            for _ in range(100):
                reply = (
                    await db.ask("put", seconds=30, collection="c", doc=doc_of(f"new{n}", n, 50))
                )[-1]
                if reply.get("type") != "error":
                    break
                assert reply["retry"] != "no", reply
            assert reply.get("type") != "error", reply


def one_run(make_server, damage, seed):
    draw = random.Random(f"{damage.__name__} {seed}")
    server = make_server().start()
    data = server.directory / "data"
    acknowledged = {}
    run(write(server, draw, acknowledged, 40))
    server.stop()
    shutil.copy(data / "log.db", data / "backup")
    server.start()
    middle = run(subscribe(server))[1]["since"]
    run(write(server, draw, acknowledged, 150 + draw.randrange(150)))
    last = run(subscribe(server))[1]["since"]
    server.kill()
    damage(data, draw)
    server.start()
    frames, sync = run(subscribe(server))
    held = {f["key"]: f["doc"]["n"] for f in frames}
    is_same = sync["since"][0][0] == last[0][0]
    assert not is_same or held == acknowledged, "history was lost under the old srv_id"
    assert damage is not nothing or is_same
    for since in (middle, last):
        told, end = run(subscribe(server, since))
        now = {f["key"]: f["doc"]["n"] for f in told if f.get("op") == "put"}
        if end["since"][0][0] != sync["since"][0][0]:  # this read found damage: rebuilt since
            frames, sync = run(subscribe(server))
            held = {f["key"]: f["doc"]["n"] for f in frames}
        if end["since"][0][0] != since[0][0]:
            assert now == held, "a new srv_id, and not the whole snapshot"
    before = run(subscribe(server))[1]["since"]
    run(hundred_writes(server))
    server.kill()
    server.start()
    told = [f["key"] for f in run(subscribe(server, before))[0] if f["type"] == "record"]
    assert sorted(k for k in told if k.startswith("new")) == sorted(f"new{n}" for n in range(100))
    server.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_damaged_log_serves_nothing_false_and_old_positions_start_over(make_server, damage):
    for seed in range(FIRST, FIRST + SEEDS):
        try:
            one_run(make_server, damage, seed)
        except BaseException:
            print(f"again: TIDEWIRE_SEED={seed} TIDEWIRE_DAMAGE_SEEDS=1 … -k {damage.__name__}")
            raise


# ---- kill points ----

POINTS = [
    "store_before_begin",
    "store_after_insert",
    "store_before_commit",
    "store_after_commit",
    "store_before_reply",
    "store_before_publish",
    "store_checkpoint",
    "store_trim",
    "store_sweep",
]


async def write_until_dead(server, draw, versions):
    """Puts with operation ids until the server is gone: {key: n} of what was acknowledged, and the
    one write whose fate is unknown."""
    async with await Client.open(server.url("/db")) as db:
        end = time.monotonic() + 60
        for n in itertools.takewhile(lambda _: time.monotonic() < end, itertools.count()):
            key = f"k{draw.randrange(40)}"
            doc = doc_of(key, n, draw.choice([10, 3000]))
            try:
                await db.one("put", collection="c", opid=f"op{n}", doc=doc)
            except Exception:  # the connection is gone, whatever the library calls that
                return doc, f"op{n}"
            versions[key] = n
    raise AssertionError("the point was not passed")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", POINTS)
def test_kill_point_keeps_what_was_acknowledged_once(make_server, point):
    draw = random.Random(point)
    rare = point in ("store_trim", "store_sweep")
    # superseded rows are kept for a second: then the floor rises and they are swept
    server = make_server(flags=["--log-age", "1"] if rare else [])
    count = 1 + draw.randrange(2) if rare else 5 + draw.randrange(60)
    server.env["TIDEWIRE_FAULT"] = f"{point}:{count}"
    server.start()
    since = run(subscribe(server))[1]["since"]
    versions = {}
    doc, opid = run(write_until_dead(server, draw, versions))
    server.wait_end()
    del server.env["TIDEWIRE_FAULT"]
    server.start()

    async def after():
        frames, sync = await subscribe(server)
        held = {f["key"]: f["doc"]["n"] for f in frames}
        allowed = [versions, {**versions, doc["_id"]: doc["n"]}]
        assert held in allowed
        assert sync["since"][0][0] == since[0][0], "the origin survives a kill"
        async with await Client.open(server.url("/db")) as db:
            first = await db.one("put", collection="c", opid=opid, doc=doc)
            second = await db.one("put", collection="c", opid=opid, doc=doc)
            assert first["version"] == second["version"] and first["since"] == second["since"]
        told, _ = await subscribe(server, sync["since"])
        assert len(told) == (0 if held == allowed[1] else 1), "a retry has one effect"

    run(after())
