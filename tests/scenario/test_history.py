"""The contract under kills: ORDERED, UNIQUE, RELIABLE, FILTERED, RESUMABLE, CONVERGED.

The server is killed at random moments and started again while the writers and subscribers of
workload.py are at it; history.py judges what was told.
"""

import asyncio
import os

import pytest

from clients import run
from history import check
from mongo import Observer
from workload import History

CYCLES = int(os.environ.get("TIDEWIRE_KILL_CYCLES", "100"))


def is_on_mongo(server):
    return server.database != "main"


def give_positions(history, observer):
    """On MongoDB a write is told a fence, at or behind its change. What is checked is the change:
    the i-th of a record is the i-th that an independent change stream tells of it."""
    positions = observer.positions(len(history.writes))
    for write in history.writes:
        seqno = positions[write.key].pop(0)
        assert seqno <= write.seqno, f"the fence of {write} is before its change at {seqno}"
        write.seqno = seqno
    assert not any(positions.values()), "each write changed its record once"


def history_under_kills(server, cycles, seed):
    async def scenario():
        history = History(server, seed)
        observer = Observer(server, "things") if is_on_mongo(server) else None

        async def kill():
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

        # MongoDB's server of the tests takes some 60 writes a second; the kills are what counts.
        subscribers = await history.play(cycles, kill, most=40 if observer is not None else 120)
        if observer is not None:
            await asyncio.to_thread(give_positions, history, observer)
        assert len({w.srv for w in history.writes}) == 1, "the origin must survive a kill"
        check(history.writes, subscribers, squashes=True)
        return len(history.writes), sum(len(x.frames) for s in subscribers for x in s.sessions)

    return run(scenario(), 1500)


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_nothing_is_lost_repeated_or_reordered_under_kills(make_server):
    seed = int(os.environ.get("TIDEWIRE_SEED", "1"))
    server = make_server().start()
    cycles = CYCLES if not is_on_mongo(server) else max(5, CYCLES // 5)
    writes, frames = history_under_kills(server, cycles, seed)
    print(f"seed {seed}: {cycles} kills, {writes} acknowledged writes, {frames} frames")


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["ipc", "tcp"])
def test_the_same_holds_with_actors_in_processes_of_their_own(make_server, layout):
    history_under_kills(make_server(layout=layout).start(), 5, 2)


@pytest.mark.slow
@pytest.mark.parametrize("every", [2, 3, 7])
def test_lost_publications_change_nothing_but_latency(make_server, every):
    """A hook discards every k-th batch between the actors; no kills."""
    server = make_server(env={"TIDEWIRE_ACTORS_DROP_EVERY": str(every)}).start()

    async def scenario():
        history = History(server, 3)
        observer = Observer(server, "things") if is_on_mongo(server) else None

        async def pause():
            target = history.acknowledged + (150 if observer is not None else 400)
            while history.acknowledged < target and not history.stopping.is_set():
                await asyncio.sleep(0.01)

        task = asyncio.create_task(history.play(3, pause))
        subscribers = await task
        if observer is not None:
            await asyncio.to_thread(give_positions, history, observer)
        check(history.writes, subscribers, squashes=True)

    run(scenario())
