"""Clients of the scenarios: an independent websocket library, nothing of Tidewire's own."""

import asyncio
import collections
import itertools
import json

import websockets
import websockets.exceptions

from server import PATIENCE_S, RUN_S


async def connect(url, **more):
    """Connects, waiting for a server that is being started again."""
    end = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await websockets.connect(
                url, max_size=None, compression=None, ping_interval=None, max_queue=None, **more
            )
        except (
            OSError,
            websockets.exceptions.InvalidMessage,
            websockets.exceptions.InvalidStatus,
            EOFError,
        ):
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.02)  # the poll of a condition: nobody listens yet


async def log_reaches(url, since, seconds=PATIENCE_S):
    """Waits until streams that begin now are at since or behind it: a store that is not the log
    itself acknowledges a write before the log has it."""
    end = asyncio.get_running_loop().time() + max(seconds, PATIENCE_S)
    wanted = {srv: seqno for srv, seqno in since}
    async with await Client.open(url) as probe:
        while True:
            await probe.send(type="subscribe", mux_id=0, since="now", collections={"none": "*"})
            at = {srv: seqno for srv, seqno in (await probe.next())["since"]}
            if all(at.get(srv, 0) >= seqno for srv, seqno in wanted.items()):
                return
            assert asyncio.get_running_loop().time() < end, f"the log is at {at}, not at {wanted}"
            await probe.send(type="close", mux_id=0)
            while (await probe.next())["type"] != "closed":
                pass
            await asyncio.sleep(0.01)  # the poll of a condition, below the limit of subscribes


async def settled(server, seconds=PATIENCE_S):
    """Waits until the log has all that was acknowledged before: by a write that is behind it."""
    async with await Client.open(server.url("/db")) as db:
        done = {"retry": "yet"}
        while "retry" in done:
            assert done["retry"] != "no", done  # else a busy MongoDB: once more
            done = (await db.ask("put", collection="settled", doc={"_id": 1}))[-1]
    await log_reaches(server.url(), done["since"], seconds)


class Client:
    """One websocket: requests by reqID, streams by mux_id."""

    def __init__(self, socket, keeps_syncs=False):
        self.socket = socket
        self.numbers = itertools.count(1)
        self.kept = collections.deque()  # frames that came while the reply of a request was awaited
        self.keeps_syncs = keeps_syncs  # those that are told once more, too
        self.synced = set()  # mux_ids, as JSON

    @classmethod
    async def open(cls, url, **more):
        return cls(await connect(url, **more))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.socket.close()

    async def send(self, **message):
        if message.get("type") == "subscribe":
            self.synced.discard(json.dumps(message.get("mux_id")))
        await self.socket.send(json.dumps(message))

    async def receive(self, seconds):
        """The frame that must come next: however few seconds, a busy machine has its time. A sync
        that is told once more comes whenever a stream has been idle, or a machine has stood still:
        it is left out."""
        seconds = max(seconds, PATIENCE_S)
        while True:
            frame = json.loads(await asyncio.wait_for(self.socket.recv(), seconds))
            if not self.is_repeated(frame):
                return frame

    def is_repeated(self, frame):
        mux_id = json.dumps(frame.get("mux_id"))
        if self.keeps_syncs:
            return False
        if frame.get("type") in ("closed", "reset"):
            self.synced.discard(mux_id)
        elif frame.get("type") == "sync" and "reqID" not in frame and "syncid" not in frame:
            if mux_id in self.synced:
                return True
            self.synced.add(mux_id)
        return False

    async def is_silent(self, seconds):
        """Whether nothing comes for so long."""
        try:
            await asyncio.wait_for(self.socket.recv(), seconds)
        except asyncio.TimeoutError:
            return not self.kept
        return False

    async def next(self, seconds=PATIENCE_S):
        return self.kept.popleft() if self.kept else await self.receive(seconds)

    async def ask(self, action, seconds=PATIENCE_S, **fields):
        """All replies of a request up to its end: [reply, ...]. A stream of the same socket may
        tell of a write before its reply comes: such frames are kept for next."""
        number = next(self.numbers)
        await self.send(action=action, reqID=number, **fields)
        replies = []
        while True:
            reply = await self.receive(seconds)
            if reply.get("reqID") != number:
                self.kept.append(reply)
                continue
            replies.append(reply)
            many = action in ("getByIds", "find", "aggregate", "sync", "find_one")
            if reply.get("type") == "error" or reply["action"] == "done" or not many:
                return replies

    async def one(self, action, **fields):
        """The one reply of a request; an error is an AssertionError. What is not there yet, as the
        way to MongoDB in a process that has just begun, is asked again."""
        end = asyncio.get_running_loop().time() + PATIENCE_S
        reply = (await self.ask(action, **fields))[-1]
        while reply.get("code") == "unavailable" and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.05)  # the poll of a condition
            reply = (await self.ask(action, **fields))[-1]
        assert reply.get("type") != "error", reply
        return reply

    async def until(self, condition, seconds=PATIENCE_S):
        """Frames up to the first that fulfils the condition."""
        frames = []
        while True:
            frame = await self.next(seconds)
            frames.append(frame)
            if condition(frame):
                return frames

    async def until_sync(self, mux_id=None, seconds=PATIENCE_S):
        return await self.until(
            lambda f: f.get("type") == "sync" and mux_id in (None, f.get("mux_id")), seconds
        )


def run(coroutine, seconds=RUN_S):
    """Runs a scenario with a deadline."""
    return asyncio.run(asyncio.wait_for(coroutine, max(seconds, RUN_S)))
