"""A real MongoDB-wire server of a test's own, and followers whose set is compared with it."""

import asyncio
import json
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pymongo
import pytest
import websockets.exceptions

from clients import Client
from server import PATIENCE_S

SCRIPT = Path(__file__).resolve().parent / "mongo.sh"
CANNOT_BE_HAD = 77
OWN = ("admin", "config", "local", "tidewire")
GONE = (websockets.exceptions.ConnectionClosed, OSError, EOFError)
_numbers = iter(range(1, 1 << 30))


class Starting:
    """A server that is being started, by mongo.sh under a name of its own."""

    spare = None  # starts while the test before the one that takes it runs

    def __init__(self, arguments=""):
        name = f"scenario-{os.getpid()}-{next(_numbers)}"
        self.env = dict(os.environ, TIDEWIRE_MONGO_NAME=name, TIDEWIRE_MONGO_ARGS=arguments)
        self.process = subprocess.Popen(
            [SCRIPT, "start"],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def uri(self):
        """Waits until it answers."""
        out, err = self.process.communicate()
        if self.process.returncode == CANNOT_BE_HAD:
            pytest.skip(f"no MongoDB server can be had here: {err.strip()}")
        assert self.process.returncode == 0, err
        return out.strip()

    @classmethod
    def take_spare(cls):
        taken = cls.spare or cls()
        cls.spare = cls()
        return taken

    @classmethod
    def end_spare(cls):
        """At the end of the session; an end of the process would be too late for its worker."""
        if cls.spare is not None:
            spare, cls.spare = cls.spare, None
            spare.process.communicate()
            subprocess.run([SCRIPT, "stop"], env=spare.env, capture_output=True)


class Deployment:
    """One server of a test's own. With TEST_MONGO_URI it is the user's: then its databases are
    emptied, and it is never killed."""

    def __init__(self, arguments=""):
        self.given = "TEST_MONGO_URI" in os.environ
        starting = Starting(arguments) if self.given or arguments else Starting.take_spare()
        self.env = starting.env
        self.uri = starting.uri()
        self.client = pymongo.MongoClient(self.uri, serverSelectionTimeoutMS=PATIENCE_S * 1000)
        self.clear()

    def _run(self, verb):
        done = subprocess.run([SCRIPT, verb], env=self.env, capture_output=True, text=True)
        if done.returncode == CANNOT_BE_HAD:
            pytest.skip(f"no MongoDB server can be had here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def clear(self):
        for name in self.client.list_database_names():
            if name not in OWN or name == "tidewire":
                self.client.drop_database(name)

    def kill(self):
        if self.given:
            pytest.skip("a server of the user's is not killed")
        self._run("kill")

    def start(self):
        self._run("start")

    def pause(self):
        self._run("pause")

    def resume(self):
        self._run("resume")

    def close(self):
        self.client.close()
        self._run("stop")

    def fail(self, mode, **data):
        """A fail point of the server for commands of anybody."""
        self.client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)

    def counters(self):
        return self.client.admin.command("serverStatus")["opcounters"]

    def cursors(self):
        return self.client.admin.command("serverStatus")["metrics"]["cursor"]["open"]["total"]

    @property
    def people(self):
        return self.client.main.people


class Follower:
    """A subscriber that comes back with its since, and what it was told: its set, and each breach
    of a promise as it is seen."""

    def __init__(self, server, collection="people", query="*"):
        self.server, self.collection, self.query = server, collection, query
        self.set, self.since, self.asked = {}, None, None
        self.at = {}  # highest position by srv_id
        self.told = {}  # key -> position of its newest event that counts for a resume
        self.catching = {}  # the same, before the first sync of a connection
        self.shared = set()  # positions of transactions: a resume from inside tells them again
        self.resets, self.connections, self.events, self.syncs = [], 0, 0, 0
        self.drops, self.breaches, self.latencies = 0, [], []
        self.changed = asyncio.Event()
        self.task = asyncio.create_task(self.run())

    async def run(self):
        while True:
            try:
                async with await Client.open(self.server.url()) as client:
                    await self.follow(client)
            except GONE:
                pass

    async def follow(self, client):
        self.connections += 1
        message = {"type": "subscribe", "mux_id": 1, "collections": {self.collection: self.query}}
        if self.since is not None:
            message |= {"since": self.since, "query": self.asked}
        self.fresh, self.live, self.catching = self.since is None, False, {}
        await client.send(**message)
        while True:
            # not by wait_for, which may swallow the cancellation that ends this task
            self.take(json.loads(await client.socket.recv()))
            self.changed.set()

    def take(self, frame):
        kind = frame["type"]
        if kind == "sync":
            self.syncs += 1
            self.fresh, self.live = False, True
            self.told |= self.catching
            self.catching = {}
            for srv, seqno in frame["since"]:
                if seqno < self.at.get(srv, 0):
                    self.breaches.append(f"sync goes back to {seqno} from {self.at[srv]}")
                self.at[srv] = seqno
            self.since, self.asked = [list(pair) for pair in frame["since"]], frame["query"]
            return
        if kind == "reset":
            self.resets.append(frame["reason"])
            self.set, self.since, self.at, self.told, self.catching = {}, None, {}, {}, {}
            self.fresh = True
            return
        if kind == "error":
            if frame["code"] != "draining":
                self.breaches.append(f"error {frame}")
            return
        self.events += 1
        srv, seqno = frame["srv_id"], frame["seqno"]
        if kind == "drop":
            self.drops += 1
            self.set.clear()
        else:
            key = str(frame["key"])
            known = self.catching.get(key, self.told.get(key, -1))
            if not self.fresh and known >= seqno and known not in self.shared:
                self.breaches.append(f"{key} told twice at {seqno}, {known} before")
            (self.told if self.live else self.catching)[key] = seqno
            if "last" in frame:
                self.shared.add(seqno)
            if kind == "remove":
                self.set.pop(key, None)
            else:
                self.set[key] = frame["doc"]
        if self.live:
            if seqno < self.at.get(srv, 0):
                self.breaches.append(f"{frame} after {self.at[srv]}")
            self.at[srv] = seqno
            self.since = [[s, max(n, seqno) if s == srv else n] for s, n in self.since]

    async def until(self, condition, seconds, what):
        seconds = max(seconds, PATIENCE_S)
        end = time.monotonic() + seconds
        while not condition():
            self.changed.clear()
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(
                    f"not within {seconds} s: {what}; {len(self.set)} records, "
                    f"{self.breaches[:3]}\n{self.server.tail()}"
                )
            try:
                await asyncio.wait_for(self.changed.wait(), min(left, 0.2))
            except asyncio.TimeoutError:
                pass
        return self

    async def until_equal(self, collection, seconds=PATIENCE_S):
        """Waits until the set is what find tells, and judges what was told on the way."""

        def is_equal():
            wanted = {str(d["_id"]): d for d in collection.find()}
            return self.set == wanted and self.syncs > 0

        end = time.monotonic() + seconds
        while not is_equal():
            if time.monotonic() > end:
                wanted = {str(d["_id"]): d for d in collection.find()}
                missing = [k for k in wanted if k not in self.set][:5]
                extra = [k for k in self.set if k not in wanted][:5]
                other = [(self.set[k], wanted[k]) for k in wanted
                         if k in self.set and self.set[k] != wanted[k]][:3]  # fmt: skip
                raise AssertionError(
                    f"missing {missing}, too many {extra}, other {other}; {self.breaches[:3]}\n"
                    f"{self.server.tail()}"
                )
            await asyncio.sleep(0.05)  # the poll of a condition
        assert not self.breaches, self.breaches[:5]
        return self

    async def close(self):
        self.task.cancel()
        try:
            await self.task
        except asyncio.CancelledError:
            pass


class Writer(threading.Thread):
    """Writes to main.people as others do, at a rate: inserts, updates, replacements, deletes, bulks
    and transactions over a fixed number of keys; a failed write is left (the set is compared with
    what find tells)."""

    def __init__(self, uri, rate, keys=200, seed=1):
        super().__init__(daemon=True)
        self.client = pymongo.MongoClient(uri, retryWrites=False, serverSelectionTimeoutMS=20000)
        self.people = self.client.main.people
        self.rate, self.keys, self.chance = rate, keys, random.Random(seed)
        self.ending, self.writes, self.errors = threading.Event(), 0, 0
        self.start()

    def one(self):
        chance, people = self.chance, self.people
        key = f"w{chance.randrange(self.keys)}"
        kind = chance.random()
        self.writes += 1
        if kind < 0.45:
            people.update_one(
                {"_id": key}, {"$set": {"n": self.writes}, "$inc": {"_version": 1}}, upsert=True
            )
        elif kind < 0.65:
            people.replace_one({"_id": key}, {"n": self.writes, "r": True}, upsert=True)
        elif kind < 0.85:
            people.delete_one({"_id": key})
        elif kind < 0.95:
            keys = [f"w{chance.randrange(self.keys)}" for _ in range(8)]
            self.writes += 7
            people.bulk_write(
                [pymongo.UpdateOne({"_id": k}, {"$set": {"b": self.writes}}, upsert=True)
                 for k in keys], ordered=False)  # fmt: skip
        else:
            self.writes += 2
            with self.client.start_session() as session, session.start_transaction():
                for i in range(3):
                    people.update_one(
                        {"_id": f"w{chance.randrange(self.keys)}"},
                        {"$set": {"t": [self.writes, i]}},
                        upsert=True,
                        session=session,
                    )

    def run(self):
        begun = time.monotonic()
        while not self.ending.is_set():
            try:
                self.one()
            except pymongo.errors.PyMongoError:
                self.errors += 1
            ahead = self.writes / self.rate - (time.monotonic() - begun)
            if ahead > 0:
                self.ending.wait(ahead)
            elif ahead < -1:
                begun -= ahead  # the server was away: not to be made up for

    def end(self):
        self.ending.set()
        self.join()
        self.client.close()


class BulkWriter(threading.Thread):
    """Writes to main.people at a rate that only unordered bulks reach: inserts, updates of what it
    inserted, deletes of that and of the documents 0 to old - 1 that were there before it."""

    def __init__(self, uri, rate, old, seed=1):
        super().__init__(daemon=True)
        self.client = pymongo.MongoClient(uri, retryWrites=False, serverSelectionTimeoutMS=20000)
        self.rate, self.old, self.chance = rate, old, random.Random(seed)
        self.ending, self.writes, self.made = threading.Event(), 0, 0
        self.start()

    def bulk(self):
        chance, made = self.chance, self.made
        self.made += 70
        one = [pymongo.InsertOne({"_id": f"b{made + i}", "n": i}) for i in range(70)]
        for _ in range(15):
            key = f"b{chance.randrange(made + 1)}"
            one.append(pymongo.UpdateOne({"_id": key}, {"$set": {"u": made}}))
        one += [pymongo.DeleteOne({"_id": chance.randrange(self.old)}) for _ in range(10)]
        one += [pymongo.DeleteOne({"_id": f"b{chance.randrange(made + 1)}"}) for _ in range(5)]
        return one

    def run(self):
        begun = time.monotonic()
        while not self.ending.is_set():
            self.client.main.people.bulk_write(self.bulk(), ordered=False)
            self.writes += 100
            ahead = self.writes / self.rate - (time.monotonic() - begun)
            if ahead > 0:
                self.ending.wait(ahead)

    def end(self):
        self.ending.set()
        self.join()
        self.client.close()


def tailer(server):
    """The change tailer in /actorz: its state, and its figures by name."""
    actors = json.loads(server.http("/actorz", admin=True)[1])["actors"]
    found = [actor for actor in actors if actor["name"] == "change_tailer"]
    return (found[0]["state"], found[0]["gauges"]) if found else ("", {})
