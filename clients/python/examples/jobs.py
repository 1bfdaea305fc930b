#!/usr/bin/env python3
"""Running jobs as a dispatched collection: a worker that takes jobs and tells how far they are.

    jobs.py --url ipc:///run/tidewire [--collection jobs] [--slots 4]

Anyone adds a job: put {"_id": "j1", "task": "count", "args": {"to": 100}, "state": "waiting"}. A
worker claims it by its version, so one worker alone gets it. While it runs, how far it is (0 to 1)
is dispatched as {"job": "j1", "progress": 0.5} to whoever follows the collection: nothing is stored
for it. An update to {"state": "cancelled"} ends a job.

States: waiting, running, complete, error, cancelled; they are put. A worker renews `alive` and
`progress` of its jobs each ALIVE_S seconds with dispatch=False: they are on record for those that
come later, and no browser is woken for them. A job whose worker is silent for LOST_S goes back to
waiting. TASKS is the place for tasks of your own.
"""

import argparse
import datetime
import os
import signal
import sys
import threading
import time
import uuid

from tidewire import Client, Conflict, NotFound, TidewireError, Unavailable

REPORT_S = 0.1  # a job's progress is told at most this often
ALIVE_S, LOST_S = 2.0, 10.0
LOOK_S = 0.2


class Cancelled(Exception):
    pass


def count(args, report):
    """The task of the example: counts, with a pause for each step."""
    steps = args.get("to", 10)
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f'"to" is to be a number above 0, not {steps!r}')
    for step in range(steps):
        report(step / steps)
        time.sleep(args.get("pause_s", 0.01))
    return {"counted": steps}


TASKS = {"count": count}


def now():
    return datetime.datetime.now(datetime.timezone.utc)


class Job:
    """One job that this worker runs, in a thread of its own."""

    def __init__(self, worker, doc):
        self.worker, self.id, self.doc = worker, doc["_id"], doc
        self.cancelled, self.told, self.is_done = threading.Event(), 0.0, False
        self.progress = 0.0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def update(self, fields, dispatch=True):
        self.worker.client.update(
            self.worker.collection, self.id, fields, dispatch=dispatch, deadline=60
        )

    def report(self, progress):
        if self.cancelled.is_set():
            raise Cancelled
        self.progress = progress
        if time.monotonic() - self.told >= REPORT_S:
            self.told = time.monotonic()
            try:
                message = {"job": self.id, "progress": progress}
                self.worker.client.dispatch(self.worker.collection, message, deadline=1)
            except Unavailable:
                pass  # nobody can be told now; the job goes on, and its end is put

    def run(self):
        try:
            task = TASKS.get(self.doc.get("task"))
            if task is None:
                raise ValueError(f"no task is named {self.doc.get('task')!r}")
            result = task(self.doc.get("args") or {}, self.report)
            end = {"state": "complete", "progress": 1.0, "result": result}
        except Cancelled:
            end = {}  # who cancelled it has said so in its record
        except TidewireError as error:
            print(f"job {self.id}: {error}", file=sys.stderr, flush=True)
            end = {}  # the record cannot be reached: a worker finds the job lost
        except Exception as error:
            end = {"state": "error", "error": str(error)}
        try:
            if end:
                self.update(end)
                self.is_done = True
        except TidewireError as error:
            print(f"job {self.id}: {error}", file=sys.stderr, flush=True)
        self.worker.running.pop(self.id, None)


class Worker:
    def __init__(self, client, collection, slots):
        self.client, self.collection, self.slots = client, collection, slots
        self.name = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.running, self.waiting = {}, {}  # by id
        self.stopping = threading.Event()

    def change(self, doc, fields):
        """Changes a job if nobody else did meanwhile."""
        try:
            return self.client.update(
                self.collection, doc["_id"], fields, if_version=doc["_version"]
            )
        except (Conflict, NotFound):
            return None

    def told(self, row):
        """One change of the collection."""
        job = self.running.get(row.key)
        doc = row.doc or {}
        self.waiting.pop(row.key, None)
        if job is not None:
            if doc.get("state") != "running":  # cancelled, or removed
                job.cancelled.set()
        elif doc.get("state") == "waiting":
            self.waiting[row.key] = {**doc, "_version": row.version}

    def take(self):
        while self.waiting and len(self.running) < self.slots:
            doc = next(iter(self.waiting.values()))
            fields = {"state": "running", "worker": self.name, "progress": 0.0, "alive": now()}
            claimed = self.change(doc, fields)
            del self.waiting[doc["_id"]]
            if claimed is not None:
                self.running[doc["_id"]] = Job(self, doc)

    def renew(self):
        for job in list(self.running.values()):
            try:
                job.update({"alive": now(), "progress": job.progress}, dispatch=False)
            except NotFound:
                job.cancelled.set()

    def find_lost(self):
        silent = now() - datetime.timedelta(seconds=LOST_S)
        query = {"state": "running", "alive": {"$lt": silent}}
        for doc in self.client.find(self.collection, query, limit=100):
            if doc["_id"] not in self.running:
                self.change(doc, {"state": "waiting", "progress": 0.0})

    def run(self):
        renewed = 0.0
        with self.client.feed(self.collection) as feed:
            while not self.stopping.is_set():
                row = feed.poll(LOOK_S)
                while row is not None:
                    self.told(row)
                    row = feed.poll(0)
                try:
                    self.take()
                    if time.monotonic() - renewed >= ALIVE_S:
                        renewed = time.monotonic()
                        self.renew()
                        self.find_lost()
                except Unavailable as error:
                    print(error, file=sys.stderr, flush=True)
        for job in list(self.running.values()):
            is_wanted = not job.cancelled.is_set()
            job.cancelled.set()
            job.thread.join()
            if is_wanted and not job.is_done:  # given back: another worker goes on
                job.update({"state": "waiting", "progress": 0.0})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--collection", default="jobs")
    parser.add_argument("--slots", type=int, default=4)
    args = parser.parse_args()
    try:
        with Client(args.url) as client:
            worker = Worker(client, args.collection, args.slots)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: worker.stopping.set())
            print(f"worker {worker.name}", flush=True)
            worker.run()
    except TidewireError as error:
        sys.exit(f"jobs: {error}")


if __name__ == "__main__":
    main()
