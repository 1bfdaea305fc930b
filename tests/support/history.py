"""The history checker: does what clients saw keep the contract?

Input is what writers did (each write with its position, all known: a writer repeats an operation by
its opid until it is acknowledged) and what each subscriber was told, frame by frame. Checked, by
name: ORDERED, UNIQUE, RELIABLE, FILTERED, CONVERGED, RESUMABLE (no false reset), SYNC, PREV,
PHANTOM, WHY. Linear in the history. test_history_checker.py plants faults that each must be named.
"""

import re
from dataclasses import dataclass, field


@dataclass
class Write:
    key: object
    seqno: int
    doc: dict | None  # None: removed
    srv: int = 1


@dataclass
class Session:
    """One connection of a subscriber: frames in the order in which they came."""

    since: list | None  # what it subscribed with; None: everything
    frames: list = field(default_factory=list)


@dataclass
class Subscriber:
    name: str
    matches: object  # doc -> bool
    sessions: list = field(default_factory=list)


class Violation(AssertionError):
    def __init__(self, rule, who, text):
        super().__init__(f"{rule}: {who}: {text}")
        self.rule = rule


def strip(doc):
    """A document without what the server adds to it."""
    return {k: v for k, v in doc.items() if k != "_version"}


def place(frame):
    """The highest position of a frame, 0 where it has none."""
    return max([frame.get("seqno", 0)] + [seqno for _, seqno in frame.get("since", [])])


def brief(frame):
    """A frame in a word, for the eyes."""
    if frame["type"] == "sync":
        return f"sync{[seqno for _, seqno in frame['since']]}"
    return f"{frame.get('why', 'put')}:{frame.get('seqno')}<{frame.get('prev', 0)}"


class Model:
    """All writes by position, and each key's versions in order."""

    def __init__(self, writes):
        self.at = {}
        self.keys = {}
        for write in sorted(writes, key=lambda w: w.seqno):
            if write.seqno in self.at:
                raise Violation("POSITION", "writers", f"{write.seqno} was given twice")
            self.at[write.seqno] = write
            self.keys.setdefault(write.key, []).append(write)
        self.before = {}
        for versions in self.keys.values():
            previous = None
            for write in versions:
                self.before[write.seqno] = previous
                previous = write
        self.ordered = sorted(self.at)

    def final(self, matches):
        last = {key: versions[-1] for key, versions in self.keys.items()}
        return {k: strip(w.doc) for k, w in last.items() if w.doc is not None and matches(w.doc)}


class Follower:
    """Replays what one subscriber was told."""

    def __init__(self, model, subscriber):
        self.model, self.me = model, subscriber
        self.held = {}  # key -> (seqno, doc)
        self.told = {}  # seqno -> True where it was told live
        self.highest = 0
        self.synced_to = 0  # position of the last sync, raised by live events
        self.live_from = {}

    def fail(self, rule, text):
        raise Violation(rule, self.me.name, text)

    def event(self, frame, live):
        seqno = frame["seqno"]
        write = self.model.at.get(seqno)
        if write is None:
            self.fail("PHANTOM", f"position {seqno} was never written")
        if seqno in self.told:
            self.fail("UNIQUE", f"position {seqno} came twice")
        if seqno < self.highest:
            self.fail("ORDERED", f"{seqno} came after {self.highest}")
        self.told[seqno] = live
        if frame["type"] == "remove":
            self.removed(frame, write)
        else:
            self.put(frame, write)
        prev = frame.get("prev", 0)
        if prev > max(self.highest, self.synced_to):
            self.fail("PREV", f"{seqno} names {prev} as before it, which was not told")
        if live and self.last and prev not in (0, self.last):
            self.fail("PREV", f"{seqno} names {prev} as before it, not {self.last}")
        self.last = self.highest = seqno

    def put(self, frame, write):
        if (
            write.doc is None
            or strip(frame["doc"]) != strip(write.doc)
            or frame["key"] != write.key
        ):
            self.fail("PHANTOM", f"{frame} is not what was written: {write}")
        if not self.me.matches(write.doc):
            self.fail("FILTERED", f"{frame} does not match")
        self.held[write.key] = (write.seqno, strip(write.doc))

    def removed(self, frame, write):
        if frame["key"] != write.key:
            self.fail("PHANTOM", f"{frame} names another key than {write}")
        why = "deleted" if write.doc is None else "left"
        if frame["why"] != why:
            self.fail("WHY", f"{frame}: it was {why}")
        if write.doc is not None and self.me.matches(write.doc):
            self.fail("WHY", f"{frame}: the record still matches")
        self.held.pop(write.key, None)

    def sync(self, frame, first):
        at = dict(map(tuple, frame["since"])).get(self.model_srv(), 0)
        if at < self.highest:
            self.fail("SYNC", f"sync says {at}, {self.highest} was told before it")
        if at < self.synced_to:
            self.fail("SYNC", f"sync went back from {self.synced_to} to {at}")
        if first:
            self.check_caught_up(at)
        self.synced_to = at

    def model_srv(self):
        return next(iter(self.model.at.values())).srv if self.model.at else 1

    def check_caught_up(self, at):
        """At the end of a catch-up the held set is the query's result at the sync's position."""
        truth = {}
        for key, versions in self.model.keys.items():
            newest = None
            for write in versions:
                if write.seqno > at:
                    break
                newest = write
            if newest is not None and newest.doc is not None and self.me.matches(newest.doc):
                truth[key] = newest.seqno
        held = {key: seqno for key, (seqno, _) in self.held.items()}
        if held != truth:
            lost = sorted(set(truth.items()) - set(held.items()), key=str)[:3]
            extra = sorted(set(held.items()) - set(truth.items()), key=str)[:3]
            self.fail("RELIABLE", f"at sync {at}: missing {lost}, not to be there {extra}")

    def check_live(self, low, high, squashes):
        """Between two positions that were live, each matching change was told. A stream that fell
        behind (a lost batch, a full queue) may leave out a version that a newer one replaced."""
        for seqno in self.model.ordered:
            if seqno <= low or seqno > high or seqno in self.told:
                continue
            write, before = self.model.at[seqno], self.model.before[seqno]
            replaced = squashes and self.model.keys[write.key][-1] is not write
            if write.doc is not None and self.me.matches(write.doc) and not replaced:
                self.fail("RELIABLE", f"live change {seqno} was not told")
            known = before is not None and before.doc is not None and self.me.matches(before.doc)
            if known and not (replaced and before.seqno not in self.told):
                if write.doc is None or not self.me.matches(write.doc):
                    self.fail("RELIABLE", f"remove at {seqno} was not told")

    def session(self, session, squashes):
        try:
            self.replay(session, squashes)
        except Violation as violation:
            number = self.me.sessions.index(session)
            named = re.search(r"\d+", str(violation).rpartition(": ")[2])
            near = int(named.group()) if named else 0
            at = next((i for i, f in enumerate(session.frames) if place(f) >= near), 0)
            frames = [brief(frame) for frame in session.frames[max(0, at - 20) : at + 20]]
            told = " ".join(frames)
            violation.add_note(f"session {number} since {session.since}, near {near}: {told}")
            raise

    def replay(self, session, squashes):
        live = False
        live_from = 0
        self.last = 0
        if session.since is None:
            self.restart()
        for frame in session.frames:
            kind = frame["type"]
            if kind == "sync":
                self.sync(frame, not live)
                self.last = 0  # the next event may name one that was squashed, up to the sync
                if not live:
                    live, live_from = True, self.synced_to
                else:
                    self.check_live(live_from, self.synced_to, squashes)
                    live_from = self.synced_to
            elif kind == "reset":
                self.fail("RESUMABLE", f"reset without a reason: {frame}")
            elif kind in ("closed", "welcome"):
                continue
            else:
                if live and frame["seqno"] <= self.synced_to:
                    self.fail("SYNC", f"{frame['seqno']} came after sync {self.synced_to}")
                self.event(frame, live)
        if live:
            self.check_live(live_from, self.highest, squashes)

    def restart(self):
        self.held.clear()
        self.told.clear()
        self.highest = self.synced_to = 0


def check(writes, subscribers, squashes=False):
    """Raises Violation. squashes: live streams may have fallen behind (lost batches, a busy
    machine), then a version that a newer one replaced need not be told."""
    model = Model(writes)
    for subscriber in subscribers:
        follower = Follower(model, subscriber)
        for session in subscriber.sessions:
            # What was told in a catch-up that broke off is told again by the next session.
            kept = (dict(follower.held), dict(follower.told), follower.highest)
            follower.session(session, squashes)
            if not any(frame["type"] == "sync" for frame in session.frames):
                follower.held, follower.told, follower.highest = kept
        truth = model.final(subscriber.matches)
        held = {key: doc for key, (_, doc) in follower.held.items()}
        if held != truth:
            differing = [k for k in set(truth) | set(held) if truth.get(k) != held.get(k)][:3]
            follower.fail("CONVERGED", f"{len(held)} held, {len(truth)} true, such as {differing}")
