"""Two nodes of one deployment: clients move between them with their since.

TIDEWIRE_FULL=1 moves 1,000 times."""

import asyncio
import json
import os

import pytest

from clients import Client, run
from deployment import GONE, Deployment, Follower, Writer

MOVES = 1_000 if os.environ.get("TIDEWIRE_FULL") == "1" else 100


@pytest.fixture
def deployment():
    made = Deployment()
    yield made
    made.close()


@pytest.fixture
def nodes(deployment, make_server):  # ends the servers before the deployment
    made = [make_server(flags=["--mongo", deployment.uri]) for _ in range(2)]
    return [node.start() for node in made]


class Moved(Exception):
    """The client leaves for the other node."""


class Mover(Follower):
    """Follows one node until it has heard a live event, then goes on at the other at once."""

    def __init__(self, nodes):
        self.nodes, self.moves, self.heard = nodes, 0, 0
        super().__init__(nodes[0])

    async def run(self):
        while True:
            self.server, self.heard = self.nodes[self.moves % 2], 0
            try:
                async with await Client.open(self.server.url()) as client:
                    await self.follow(client)
            except GONE:
                pass
            except Moved:
                self.moves += 1

    def take(self, frame):
        super().take(frame)
        self.changed.set()
        self.heard += self.live and frame["type"] in ("record", "remove")
        if self.live and self.heard > 0 and self.moves < MOVES:
            raise Moved


class Recorder(Follower):
    """Keeps what each position brought."""

    def __init__(self, server):
        self.positions = {}
        super().__init__(server)

    def take(self, frame):
        if frame["type"] in ("record", "remove"):
            what = (frame["type"], str(frame["key"]), json.dumps(frame.get("doc"), sort_keys=True))
            self.positions.setdefault((frame["srv_id"], frame["seqno"]), set()).add(what)
        super().take(frame)


def test_client_alternates_between_two_nodes(nodes, deployment):
    async def scenario():
        deployment.people.insert_many([{"_id": f"w{i}", "n": 0} for i in range(50)])
        mover = Mover(nodes)
        recorders = [Recorder(node) for node in nodes]
        for recorder in recorders:
            await recorder.until(lambda r=recorder: r.syncs > 0, 30, "a sync")
        writer = Writer(deployment.uri, 100)
        try:
            await mover.until(lambda: mover.moves >= MOVES, 600, f"{MOVES} moves")
        finally:
            await asyncio.to_thread(writer.end)
        for follower in [mover, *recorders]:
            await follower.until_equal(deployment.people)
            assert follower.resets == [], follower.resets
        return recorders

    first, second = run(scenario())
    assert first.told == second.told
    common = first.positions.keys() & second.positions.keys()
    assert len(common) > MOVES, "both told of the same changes"
    differing = [p for p in common if first.positions[p] != second.positions[p]]
    assert not differing, [(first.positions[p], second.positions[p]) for p in differing[:3]]
