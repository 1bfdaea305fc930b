"""put_many: batches, a window of them on their way, each with its operation id until it is done.

A batch has a socket of its own while it is on its way, since nng keeps one request a socket and
sends it again by itself when the connection breaks. Batches may overtake each other then, so no two
on their way hold the same key.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Iterable, Iterator, List, Optional, Set

from . import _wire
from ._identity import Identity
from ._nng import Socket
from ._progress import Progress
from .errors import BadInput, PartlyRefused, PublishInterrupted, Refused, TidewireError, Unavailable

WINDOW_MAX, RECORDS_MAX, BYTES_MAX = 64, 4096, 1000000
REFUSED_MAX = 1000  # kept for the error; all are counted


@dataclass(frozen=True)
class Published:
    """What put_many did: records on disk, batches, seconds, and batches that were sent again."""

    count: int
    batches: int
    seconds: float
    repeats: int


@dataclass
class Batch:
    opid: str
    ops: List[bytes]  # msgpack of each operation
    keys: List[Any]
    data: bytes = b""
    socket: Optional[Socket] = None
    token: Optional[str] = None
    is_refused: bool = False  # its token was, and it went with another
    is_sent: bool = False
    attempt: int = 0
    not_before: float = 0.0
    until: float = 0.0
    size: int = field(default=0)  # bytes of ops


class Publisher:
    """One run of put_many."""

    def __init__(
        self,
        make: Callable[[str], Socket],
        url: str,
        collection: str,
        *,
        database: Optional[str],
        batch_records: int,
        batch_bytes: int,
        window: int,
        key: str,
        dispatch: bool,
        deadline: float,
        identity: Identity,
    ) -> None:
        limits = [
            ("window", window, WINDOW_MAX),
            ("batch_records", batch_records, RECORDS_MAX),
            ("batch_bytes", batch_bytes, BYTES_MAX),
        ]
        for name, value, most in limits:
            if not 1 <= value <= most:
                raise BadInput("bad_message", f"{name} is to be from 1 to {most}, not {value}.")
        self._make, self._url, self._collection = make, url, collection
        self._window, self._key, self._deadline = window, key, deadline
        self._batch_records, self._batch_bytes = batch_records, batch_bytes
        self._identity = identity
        self._head = {"op": "batch", "collection": collection}
        if database is not None:
            self._head["database"] = database
        if not dispatch:
            self._head["dispatch"] = False
        self._run, self._number = _wire.new_opid()[:16], 0
        self._flying: List[Batch] = []
        self._waiting: Deque[Batch] = deque()  # to be resumed, before anything else
        self._flying_keys: Set[Any] = set()
        self._sockets: List[Socket] = []
        self._packer = _wire.packer()
        self._filling = self._new_batch()
        self.acknowledged = self.batches = self.repeats = self.refused_count = 0
        self.refused: List[tuple] = []

    # ---- batches ----
    def _new_batch(self) -> Batch:
        self._number += 1
        return Batch(f"{self._run}-{self._number}", [], [])

    def _key_of(self, doc: dict) -> Any:
        value = doc.get(self._key)
        return value if isinstance(value, (int, str, bytes, float)) else _wire.pack(value)

    def _add(self, doc: Any) -> None:
        if not isinstance(doc, dict):
            raise BadInput("bad_document", f"a record is to be a dict, not {doc!r:.60}.")
        op = _wire.pack({"op": "put", "doc": doc}, "a record", self._packer)
        if len(op) > BYTES_MAX:
            raise BadInput("too_big", f"a record has {len(op)} bytes; {BYTES_MAX} are allowed.")
        if self._filling.ops and self._filling.size + len(op) > BYTES_MAX:
            self._send_filling()
        key = self._key_of(doc) if self._key in doc else None
        while key is not None and key in self._flying_keys:
            self._pump()
        self._filling.ops.append(op)
        self._filling.keys.append(key)
        self._filling.size += len(op)
        full = len(self._filling.ops) >= self._batch_records
        if full or self._filling.size >= self._batch_bytes:
            self._send_filling()

    def _encode(self, batch: Batch) -> bytes:
        pack, head = self._packer, {**self._head, "opid": batch.opid}
        batch.token = self._identity.token(batch.token if batch.is_refused else None)
        if batch.token is not None:
            head["token"] = batch.token
        parts = [pack.pack_map_header(len(head) + 1)]
        for name, value in head.items():
            parts += [pack.pack(name), pack.pack(value)]
        parts += [pack.pack("ops"), pack.pack_array_header(len(batch.ops)), *batch.ops]
        return b"".join(parts)

    def _send_filling(self) -> None:
        if self._filling.ops:
            self._waiting.append(self._filling)
            self._filling = self._new_batch()
        while self._waiting:
            while len(self._flying) >= self._window or not self._launch(self._waiting[0]):
                self._pump()
            self._waiting.popleft()

    def _launch(self, batch: Batch) -> bool:
        """Puts a batch among those on their way; False: it holds a key of one of them."""
        keys = {key for key in batch.keys if key is not None}
        if not self._flying_keys.isdisjoint(keys):
            return False
        batch.data = self._encode(batch)
        _wire.check_size(len(batch.data))
        batch.socket = self._sockets.pop() if self._sockets else self._make(self._url)
        batch.is_sent, batch.until = False, time.monotonic() + self._deadline
        self._flying.append(batch)
        self._flying_keys |= keys
        self._advance(batch, time.monotonic())
        return True

    # ---- what is on its way ----
    def _pump(self) -> None:
        """Waits until a batch on its way comes further, and lets it."""
        descriptors = []
        until = min(batch.until for batch in self._flying)
        now = time.monotonic()
        for batch in self._flying:
            if batch.not_before > now:
                until = min(until, batch.not_before)
            else:
                socket = batch.socket
                descriptors.append(socket.receive_fd if batch.is_sent else socket.send_fd)
        _wire.wait_readable(descriptors, until)
        now = time.monotonic()
        for batch in list(self._flying):
            self._advance(batch, now)

    def _advance(self, batch: Batch, now: float) -> None:
        if not batch.is_sent and batch.not_before <= now:
            batch.is_sent = batch.socket.send(batch.data)
        elif batch.is_sent:
            answer = batch.socket.receive()
            if answer is not None:
                self._answered(batch, _wire.unpack(answer), now)
                return
        if now >= batch.until:
            raise Unavailable(
                "timeout",
                f"{self._url} did not acknowledge a batch within {self._deadline:g} s.",
                "Is the server alive? Go on with put_many(collection, resume=error).",
                "backoff",
            )

    def _answered(self, batch: Batch, reply: dict, now: float) -> None:
        batch.is_sent = False
        if reply.get("code") == "token" and self._identity.renews and not batch.is_refused:
            batch.is_refused = True  # once: with another token
            batch.data = self._encode(batch)
            return
        again = _wire.is_undone(reply) if reply.get("ok") else reply.get("retry") != "no"
        pause = _wire.pause_s(batch.attempt)
        if again and now + pause < batch.until:
            batch.attempt += 1
            batch.not_before = now + pause
            self.repeats += 1
            return
        if not reply.get("ok"):
            raise Refused(reply)
        self._flying.remove(batch)
        self._flying_keys.difference_update(batch.keys)
        self._sockets.append(batch.socket)
        batch.socket = None
        self.batches += 1
        self.acknowledged += reply.get("count", 0)
        for key, result in zip(batch.keys, reply["results"] if reply.get("failed") else ()):
            if "code" in result:
                self.refused_count += 1
                if len(self.refused) < REFUSED_MAX:
                    self.refused.append((key, result["code"], result.get("message", "")))

    # ---- the run ----
    def run(
        self,
        docs: Iterable[dict],
        *,
        progress: bool,
        total: Optional[int],
        resume: Optional[PublishInterrupted],
    ) -> Published:
        begun = time.monotonic()
        if total is None and hasattr(docs, "__len__"):
            total = len(docs)  # type: ignore[arg-type]
        records: Iterator[dict] = iter(docs)
        if resume is not None:
            if resume.collection != self._collection:
                raise BadInput("bad_message", f"that run was of {resume.collection!r}.")
            self._waiting.extend(resume.pending)
            rest = resume.rest if resume.rest is not None else iter(())
            records = _chain(rest, records)
        bar = Progress(progress, total)
        try:
            self._send_filling()  # what is to be resumed
            for doc in records:
                self._add(doc)
                bar.show(self.acknowledged)
            self._send_filling()
            while self._flying:
                self._pump()
                bar.show(self.acknowledged)
        except TidewireError as error:
            raise self._interrupted(error, records) from error
        finally:
            bar.show(self.acknowledged, final=True)
            self._close()
        if self.refused_count:
            raise PartlyRefused(self.acknowledged, self.refused_count, self.refused)
        seconds = time.monotonic() - begun
        return Published(self.acknowledged, self.batches, seconds, self.repeats)

    def _interrupted(self, error: TidewireError, rest: Iterator[dict]) -> PublishInterrupted:
        pending = [*self._flying, *self._waiting]
        if self._filling.ops:
            pending.append(self._filling)
        pending = [Batch(each.opid, each.ops, each.keys, size=each.size) for each in pending]
        interrupted = PublishInterrupted(error, self.acknowledged, pending)
        interrupted.rest, interrupted.collection = rest, self._collection
        return interrupted

    def _close(self) -> None:
        for batch in self._flying:
            if batch.socket is not None:
                batch.socket.close()
        for socket in self._sockets:
            socket.close()
        self._sockets = []


def _chain(first: Iterator[dict], then: Iterator[dict]) -> Iterator[dict]:
    yield from first
    yield from then
