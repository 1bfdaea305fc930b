"""Clients of the realtime database: what an app with a local copy does, by an independent library.

A copy is a dictionary a collection, changed by the server's events alone: whoever writes learns of
its own write by the event that comes back, as everybody else does.
"""

import asyncio
import itertools
import json

from clients import connect
from server import PATIENCE_S

SCHEMA = """
databases:
  - name: crm
    version: 12
    collections:
      - {name: person, keyPath: _id}
      - {name: company, keyPath: _id}
      - {name: interaction, keyPath: _id}
      - {name: message, keyPath: _id}
  - name: shop
    version: 3
    drop_denied: true
    collections:
      - {name: item, keyPath: sku}
      - {name: person}
"""


def configured(make_server, tmp_path, text=SCHEMA, **more):
    """A server with this configuration."""
    path = tmp_path / "tidewire.yaml"
    path.write_text(text)
    flags = [*more.pop("flags", ()), "--config", str(path)]
    return make_server(flags=flags, **more)


class Realtime:
    """One websocket that speaks in events; keeps copies of the databases that it listens to."""

    def __init__(self, socket):
        self.socket = socket
        self.numbers = itertools.count(1)
        self.copies = {}  # db -> collection -> key as JSON -> record
        self.schemas = {}
        self.since = {}
        self.synced = set()
        self.events = []  # all that was heard, in order
        self.answers = {}  # reqID -> answer

    @classmethod
    async def open(cls, url):
        return cls(await connect(url))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.socket.close()

    async def send(self, event, **fields):
        if event == "DB_SCHEMA":
            self.synced.discard(fields.get("db"))
        await self.socket.send(json.dumps({"event": event, **fields}))

    def apply(self, frame):
        event, db = frame.get("event"), frame.get("db")
        if event == "DB_SYNC":
            self.synced.add(db)
            self.since[db] = frame["since"]
            return
        if event == "DB_RESET":
            self.copies[db] = {}
            self.synced.discard(db)
            return
        if event == "DB_SCHEMA":
            self.schemas[db] = frame
            self.copies.setdefault(db, {})
            return
        if "seqno" not in frame or event is None:
            return  # an answer, or another stream of this socket
        copy = self.copies[db]
        if db in self.synced:
            self.since[db] = [[frame["srv_id"], frame["seqno"]]]
        if event in ("DB_RECORD_ADD", "DB_RECORD_PUT"):
            copy.setdefault(frame["collection"], {})[json.dumps(frame["key"])] = frame["record"]
        elif event == "DB_RECORD_DELETE":
            copy.setdefault(frame["collection"], {}).pop(json.dumps(frame["key"]), None)
        elif event == "DB_COLLECTION_DROP":
            copy.pop(frame["collection"], None)
        elif event == "DB_DATABASE_DROP":
            self.copies[db] = {}
        else:
            raise AssertionError(frame)

    async def next(self, seconds=PATIENCE_S):
        """The next frame, applied to the copies; but for a sync that is told once more, which comes
        whenever a database has been idle."""
        while True:
            known = set(self.synced)
            frame = await self.any(seconds)
            if frame.get("event") != "DB_SYNC" or frame["db"] not in known:
                return frame

    async def any(self, seconds=PATIENCE_S):
        frame = json.loads(await asyncio.wait_for(self.socket.recv(), seconds))
        self.events.append(frame)
        self.apply(frame)
        if "reqID" in frame and ("since" in frame or frame.get("type") == "error"):
            self.answers[frame["reqID"]] = frame
        return frame

    async def until(self, condition, seconds=PATIENCE_S):
        while True:
            frame = await self.next(seconds)
            if condition(frame):
                return frame

    async def heard(self, condition, seconds=PATIENCE_S):
        """The first frame that fulfils the condition, heard before or not yet."""
        for frame in self.events:
            if condition(frame):
                return frame
        return await self.until(condition, seconds)

    async def listen(self, db, **fields):
        """DB_SCHEMA up to its DB_SYNC; the schema."""
        await self.send("DB_SCHEMA", db=db, **fields)
        await self.until(lambda f: f.get("event") == "DB_SYNC" and f["db"] == db)
        return self.schemas[db]

    async def ask(self, event, **fields):
        """Sends an event and gives its answer; what comes before it is applied."""
        number = f"r{next(self.numbers)}"
        await self.send(event, reqID=number, **fields)
        return await self.until(
            lambda f: f.get("reqID") == number
            and (f.get("event") == "DB_DONE" or f.get("type") == "error")
        )

    async def done(self, event, **fields):
        answer = await self.ask(event, **fields)
        assert answer.get("event") == "DB_DONE" and answer["of"] == event, answer
        return answer

    async def refused(self, event, **fields):
        answer = await self.ask(event, **fields)
        assert answer.get("type") == "error" and answer["event"] == event, answer
        assert answer["message"] and answer["retry"], answer
        return answer

    async def past(self, db, since, seconds=PATIENCE_S):
        """Waits until a write's fence is passed."""
        while True:
            told = dict(map(tuple, self.since.get(db, [])))
            if all(told.get(srv, 0) >= seqno for srv, seqno in since):
                return
            await self.any(seconds)
