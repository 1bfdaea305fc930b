"""Copies of a realtime database agree: three apps write the same records at the same time.

Two are node's (npm ws), one is Python's; a service writes beside them. The server is killed while
they write. TIDEWIRE_LONG=1 lets them write for long, as users do.
"""

import asyncio
import json
import os
import random
import shutil

import pytest
from clients import Client, run
from realtime import Realtime, configured
from server import ROOT
from workload import GONE

WRITES = 1000 if os.environ.get("TIDEWIRE_LONG") == "1" else 18  # of each app, between two kills


class NodeApp:
    """tests/node/realtime.mjs: a process that is told what to do by lines."""

    @classmethod
    async def open(cls, server, seed):
        self = cls()
        words = [str(ROOT / "tests/node/realtime.mjs"), server.url("/ws"), "crm", str(seed)]
        self.process = await asyncio.create_subprocess_exec(
            "node",
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        await self.hear("synced")
        return self

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")

    async def hear(self, what, seconds=60):
        while True:
            line = await asyncio.wait_for(self.process.stdout.readline(), seconds)
            assert line, "the node client ended"
            told = json.loads(line)
            if what in told:
                return told

    async def close(self):
        self.process.stdin.close()
        await self.process.wait()


class PythonApp:
    """The same in Python: a random writer that applies the server's events."""

    def __init__(self, server, seed):
        self.server, self.random = server, random.Random(seed)
        self.one, self.number, self.written, self.kinds = None, 0, 0, set()

    async def connected(self):
        """Listens, from where it was; again where that, too, is cut off."""
        while True:
            fresh = await Realtime.open(self.server.url("/ws"))
            if self.one is not None:
                fresh.copies, fresh.since = self.one.copies, self.one.since
                fresh.schemas = self.one.schemas
            since = fresh.since.get("crm")
            where = {} if since is None else {"since": since}
            try:
                await fresh.listen("crm", client="python", **where)
            except GONE:
                self.one = fresh
                continue
            self.one = fresh
            return

    async def past(self, since):
        while True:
            try:
                if self.one is None:
                    await self.connected()
                await self.one.past("crm", since, 60)
                return self.one.copies["crm"]
            except GONE:
                await self.connected()

    async def write(self, stopping):
        while not stopping.is_set():
            self.number += 1
            kinds = ["DB_RECORD_ADD", "DB_RECORD_PUT", "DB_RECORD_PUT", "DB_RECORD_DELETE"]
            kind = self.random.choice(kinds + ["DB_COLLECTION_DROP"] * (self.number % 50 == 0))
            fields = {"db": "crm", "collection": self.random.choice(["person", "company"])}
            key = f"k{self.random.randrange(12)}"
            if kind == "DB_RECORD_DELETE":
                fields["key"] = key
            elif kind != "DB_COLLECTION_DROP":
                fields["record"] = {"_id": key, "by": "python", "n": self.number}
            await self.acknowledged(kind, fields)

    async def reached(self, writes):
        """Waits until so many of its writes were answered, and one met a conflict."""
        async with asyncio.timeout(100):
            while self.written < writes or "conflict" not in self.kinds:
                await asyncio.sleep(0.02)  # the poll of a condition

    async def acknowledged(self, kind, fields):
        while True:
            try:
                answer = await self.one.ask(kind, opid=f"python:{self.number}", **fields)
            except GONE:
                await self.connected()
                continue
            if answer.get("type") != "error" or answer["retry"] == "no":
                self.written += answer.get("event") == "DB_DONE"
                self.kinds.add(answer.get("code", kind))
                return


def cleaned(copy):
    return {name: records for name, records in copy.items() if records}


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["one", "ipc", "tcp"])
def test_database_copies_are_equal_in_the_end(make_server, tmp_path, layout):
    if shutil.which("node") is None or "TIDEWIRE_NODE_MODULES" not in os.environ:
        pytest.skip("node or its packages are not installed (script/install test)")
    server = configured(make_server, tmp_path, layout=layout).start()

    async def scenario():
        apps = [await NodeApp.open(server, seed) for seed in (11, 12)]
        python = PythonApp(server, 13)
        await python.connected()
        stopping = asyncio.Event()
        task = asyncio.create_task(python.write(stopping))
        for app in apps:
            app.say("go")
        for writes in (WRITES, 2 * WRITES, 3 * WRITES):  # killed twice while they write
            for app in apps:
                app.say(f"reach {writes}")
            for app in apps:
                await app.hear("reached")
            await python.reached(writes)
            if writes < 3 * WRITES:
                server.kill()
                await asyncio.to_thread(server.start)
        stopping.set()
        await task
        for app in apps:
            app.say("stop")
        ended = [await app.hear("stopped") for app in apps]
        assert all(e["written"] > 50 and e["conflicts"] > 0 for e in ended), ended
        # a service's write is the last: whoever has passed it has all
        async with await Client.open(server.url("/db")) as db:
            put = {"collection": "message", "database": "crm", "doc": {"_id": "last"}}
            last = (await db.one("put", **put))["since"]
            stored = {}
            for name in ("person", "company", "message"):
                found = await db.ask("find", database="crm", collection=name)
                records = {json.dumps(r["doc"]["_id"]): r["doc"] for r in found if "doc" in r}
                stored[name] = records
        for app in apps:
            app.say(f"past {last[0][0]} {last[0][1]}")
        copies = [cleaned((await app.hear("copy"))["copy"]) for app in apps]
        copies.append(cleaned(await python.past(last)))
        # a late listener, which was told what is stored alone
        async with await Realtime.open(server.url("/ws")) as late:
            await late.listen("crm")
            copies.append(cleaned(late.copies["crm"]))
        for copy in copies:
            assert copy == cleaned(stored)
        # an answer that batches overtook once made the manager begin anew under load
        assert "the log was replaced" not in server.tail(10000)
        for app in apps:
            await app.close()
        await python.one.socket.close()

    run(scenario())
