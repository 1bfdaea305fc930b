"""Writers and subscribers whose history is checked while the server is ended and started again."""

import asyncio
import random

import websockets
import websockets.exceptions

from clients import Client, connect
from history import Session, Subscriber, Write

WRITERS, SUBSCRIBERS, KEYS_PER_WRITER = 8, 50, 12
GONE = (websockets.exceptions.ConnectionClosed, OSError)

# fmt: off
FILTERS = [
    ({}, lambda d: True),
    ({"a": 1}, lambda d: d["a"] == 1),
    ({"a": {"$gte": 3}}, lambda d: d["a"] >= 3),
    ({"tag": {"$in": ["red", "blue"]}}, lambda d: d["tag"] in ("red", "blue")),
    ({"$and": [{"on": True}, {"a": {"$lt": 4}}]}, lambda d: d["on"] and d["a"] < 4),
]
# fmt: on


class History:
    """Eight writers and fifty subscribers with five filters on fields that change, and what they
    saw. Each writer repeats an operation by its opid until it is acknowledged, so that every write
    of the history is known; history.py judges what was told."""

    def __init__(self, server, seed):
        self.server, self.random = server, random.Random(seed)
        self.writes = []
        self.stopping = asyncio.Event()
        self.acknowledged = 0

    def random_doc(self, key, chance):
        return {
            "_id": key,
            "a": chance.randrange(6),
            "on": chance.random() < 0.5,
            "tag": chance.choice(["red", "green", "blue", "grey"]),
            "n": chance.random(),
        }

    async def writer(self, number):
        """Writes to keys of its own; knows every version of them."""
        chance = random.Random(self.random.random())
        client, operation = None, 0
        alive = {}
        while not self.stopping.is_set():
            operation += 1
            key = f"{number}-{chance.randrange(KEYS_PER_WRITER)}"
            doc = self.random_doc(key, chance)
            kind = (
                chance.choice(["put", "put", "put", "update", "remove"]) if key in alive else "put"
            )
            message = {"action": kind, "collection": "things", "opid": f"{number}:{operation}"}
            if kind == "put":
                message["doc"] = doc
            else:
                message["id"] = key
            if kind == "update":
                message["fields"] = {"a": doc["a"], "n": doc["n"]}
                doc = {**alive[key], "a": doc["a"], "n": doc["n"]}
            client, reply = await self.acknowledge(client, message, number * 1000000 + operation)
            ((srv, seqno),) = reply["since"]
            after = None if kind == "remove" else doc
            self.writes.append(Write(key, seqno, after, srv))
            alive.pop(key, None)
            if after is not None:
                alive[key] = after
            self.acknowledged += 1
        if client is not None:
            await client.socket.close()

    async def acknowledge(self, client, message, number):
        """Sends until the answer is there; till then a broken connection leaves it open."""
        while True:
            try:
                if client is None:
                    client = await Client.open(self.server.url("/db"))
                await client.send(reqID=number, **message)
                while True:
                    reply = await client.next(30)
                    if reply.get("reqID") == number:
                        break
            except GONE:
                client = None
                continue
            if reply.get("type") == "error":
                assert reply["retry"] != "no", (message, reply)
                continue
            return client, reply

    async def subscriber(self, subscriber, query):
        """Follows; resumes by the last sync and the live events behind it."""
        since = None
        while True:
            session = Session(since)
            subscriber.sessions.append(session)
            try:
                socket = await connect(self.server.url("/ws"))
                client = Client(socket, keeps_syncs=True)  # one of them says that all was told
                message = {
                    "type": "subscribe",
                    "mux_id": 1,
                    "collections": {"things": {"filter": query}},
                }
                if since is not None:
                    message["since"] = since
                await client.send(**message)
                synced = False
                while True:
                    frame = await client.next(60)
                    assert frame["type"] != "error", frame
                    session.frames.append(frame)
                    if frame["type"] == "sync":
                        synced, since = True, frame["since"]
                        if self.is_done(since):
                            await socket.close()
                            return
                    elif synced:
                        since = [[frame["srv_id"], frame["seqno"]]]
                        if self.is_done(since):
                            # one more sync tells that nothing is missing behind it
                            continue
            except GONE:
                continue

    def is_done(self, since):
        if not self.finished:
            return False
        return dict(map(tuple, since)).get(self.srv, 0) >= self.last

    finished = False

    async def play(self, cycles, kill, most=120):
        writers = [asyncio.create_task(self.writer(i)) for i in range(WRITERS)]
        subscribers, tasks = [], []
        for i in range(SUBSCRIBERS):
            query, matches = FILTERS[i % len(FILTERS)]
            subscribers.append(Subscriber(f"subscriber {i} {query}", matches))
            tasks.append(asyncio.create_task(self.subscriber(subscribers[-1], query)))
        for _ in range(cycles):
            seen = self.acknowledged
            wanted = seen + self.random.randrange(5, most)
            while self.acknowledged < wanted:
                await asyncio.sleep(self.random.random() / 50)  # the moment of the kill is random
                for task in writers + tasks:
                    if task.done():
                        task.result()
            await kill()
        self.stopping.set()
        await asyncio.gather(*writers)
        self.last = max(w.seqno for w in self.writes)
        self.srv = self.writes[0].srv
        self.finished = True
        # A restart makes every subscriber resume once more and hear a sync.
        await kill()
        await asyncio.gather(*tasks)
        return subscribers
