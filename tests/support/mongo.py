"""The real MongoDB-wire server of the tests: one for each pytest session, or a user's own.

TEST_MONGO_URI names a server of your own; databases that begin with `tidewire_test_` are made there
and dropped, and the database `tidewire` is written to.
"""

import itertools
import os
import subprocess
from pathlib import Path

import pymongo

from server import PATIENCE_S

SCRIPT = Path(__file__).resolve().parent / "mongo.sh"
DROPPED_MAX = 1000  # documents
MISSING = 77  # exit of the script where the server cannot be had here


class Mongo:
    """One server. name: instances of several sessions and tests run side by side."""

    _numbers = itertools.count()

    def __init__(self, name, args=""):
        self.name = name
        self.env = dict(os.environ, TIDEWIRE_MONGO_NAME=name, TIDEWIRE_MONGO_ARGS=args)
        self.uri = None
        self._client = None

    def verb(self, verb, check=True):
        done = subprocess.run(
            [str(SCRIPT), verb], env=self.env, capture_output=True, text=True, timeout=600
        )
        if check and done.returncode != 0:
            raise MongoMissing(done.returncode, done.stderr)
        return done.stdout.strip()

    def start(self):
        self.uri = self.verb("start")
        return self

    def stop(self):
        if self._client is not None:
            self._client.close()
            self._client = None
        self.verb("stop")

    @property
    def is_own(self):
        """Started by us: it may be killed and paused."""
        return not os.environ.get("TEST_MONGO_URI")

    @property
    def client(self):
        if self._client is None:
            self._client = pymongo.MongoClient(self.uri, serverSelectionTimeoutMS=PATIENCE_S * 1000)
        return self._client

    def new_database(self):
        return f"tidewire_test_{os.getpid()}_{next(self._numbers)}"

    def flags(self, database):
        return ["--mongo", self.uri, "--mongo-database", database]

    def drop_all(self):
        """Drops what tests have made, so that the next server copies nothing of it. Where that is
        much, the server is made anew, which takes a second: dropping 2,000 documents does too."""
        names = []
        for name in self.client.list_database_names():
            foreign = name not in ("admin", "config", "local", "tidewire")
            if name.startswith("tidewire_test_") or (self.is_own and foreign):
                names.append(name)
        if self.is_own and sum(self.count(name) for name in names) > DROPPED_MAX:
            self.stop()
            self.start()
            return
        for name in names:
            self.client.drop_database(name)

    def count(self, database):
        of = self.client[database]
        return sum(of[name].estimated_document_count() for name in of.list_collection_names())


class Observer:
    """What a change stream of our own tells of a collection: the positions of each record's
    changes, in order. It begins where it is made."""

    def __init__(self, server, collection):
        uri = server.flags[server.flags.index("--mongo") + 1]
        self.client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=PATIENCE_S * 1000)
        self.collection = self.client[server.database][collection]
        self.stream = self.collection.watch(max_await_time_ms=200)

    def positions(self, count):
        """{key: [seqno, ...]} of the first count events."""
        found = {}
        for _ in range(count):
            event = self.stream.next()
            at = event["clusterTime"]
            seqno = (at.time - 1577836800) * 2**21 + min(at.inc, 2**21 - 1)
            found.setdefault(event["documentKey"]["_id"], []).append(seqno)
        self.stream.close()
        self.client.close()
        return found


class MongoMissing(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.cannot_be_had = code == MISSING
