"""The feed: every change of a collection, once and in order.

Messages are numbered; a gap, silence and a lost connection make the feed read the log again from
its position. What is published is a hint, the log is the truth.
"""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Deque, Iterator, List, NamedTuple, Optional, Sequence, Union

from . import _wire
from ._identity import Identity, Token
from ._nng import backend, check_url
from .errors import BadInput, TidewireError, Unavailable

START = 0  # all that is stored, then what comes
NOW = "now"  # what comes from now on
SILENCE_S = 1.0  # after which the log is asked: the last message may be the lost one
POLL_S = 1.0  # of an iteration; between two of them Ctrl-C and `idle` are looked at


class Position(NamedTuple):
    """Where a feed is: a row of a log. A server whose log was replaced has another srv_id, and its
    rows are other ones."""

    srv_id: int
    row: int


Since = Union[int, str, Sequence[int], None]


@dataclass(frozen=True)
class Row:
    """One change.

    position  all rows up to this one were told
    op        "put", "remove", or "drop" (of the whole collection)
    key       of the record; None for a drop
    version   of the record
    srv_id, seqno  who numbered the change, and its number there
    doc       the document; None where there is none
    """

    position: Position
    op: str
    key: Any
    version: int
    srv_id: int
    seqno: int
    doc: Optional[dict]


def feed_url(url: str) -> str:
    """Where a service socket publishes: tcp at the next port, else at the name with .feed."""
    if url.startswith("tcp://"):
        host, _, port = url.rpartition(":")
        return f"{host}:{int(port) + 1}"
    return url + ".feed"


class Feed:
    """See Client.feed. An iterator; or call poll(). One thread at a time."""

    def __init__(
        self,
        url: str,
        collection: str,
        *,
        since: Since = START,
        database: Optional[str] = None,
        token: Union[Token, Identity] = None,
        backend: Optional[str] = None,
        position_file: Optional[str] = None,
        idle: Optional[float] = None,
        deadline: float = 10.0,
    ) -> None:
        from .client import Client  # the client makes feeds, and a feed asks by a client

        check_url(url)
        if position_file is not None:
            since = _load(position_file, since)
        self.collection, self.position = collection, _position(since)
        self.replays = 0  # times that the log was read
        self._from_now = since == NOW
        self._file, self._idle = position_file, idle
        self._rows: Deque[Row] = deque()
        self._upto = 0  # row of the position when _rows is told
        self._behind, self._heard = True, 0.0
        self._client = Client(
            url, deadline=deadline, database=database, token=token, backend=backend
        )
        try:
            topic = self._replay(deadline)
            self._topic = topic.encode() + b"\0"
            self._socket = _backend(backend)(feed_url(url), self._topic)
        except BaseException:
            self._client.close()
            raise
        self._behind = True  # what came between the answer and the subscription

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()
        self._client.close()

    def __iter__(self) -> Iterator[Row]:
        heard = time.monotonic()
        while True:
            row = self.poll(POLL_S if self._idle is None else min(POLL_S, self._idle))
            if row is not None:
                heard = time.monotonic()
                yield row
            elif self._idle is not None and time.monotonic() - heard >= self._idle:
                return

    def poll(self, timeout: float) -> Optional[Row]:
        """The next row, or None where none came in so many seconds, or the server is away. Refused
        with `reset` (the log was replaced), `ahead` or `compacted`: the position cannot be served
        any more; open a feed at START, and forget what you have."""
        until = time.monotonic() + timeout
        while True:
            while self._rows:
                row = self._rows.popleft()
                if row.position > self.position:
                    self.position = row.position
                    return row
            self.position = self.position._replace(row=max(self.position.row, self._upto))
            if self._behind:
                try:
                    self._replay(max(0.01, until - time.monotonic()))
                except Unavailable:
                    return None
                except TidewireError as error:
                    if error.retry == "no":
                        raise
                    return None
            elif not self._hear(until):
                return None

    def save(self) -> None:
        """Writes the position to `position_file`, whole and on disk or not at all. Rows that are
        told after the last save are told again by the next feed."""
        if self._file is None:
            raise BadInput("bad_message", "this feed was made without position_file.")
        beside = self._file + ".new"
        with open(beside, "w", encoding="ascii") as file:
            file.write(f"{self.position.srv_id} {self.position.row}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self._file)
        folder = os.open(os.path.dirname(self._file) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    # ---- the log ----
    def _replay(self, deadline: float) -> str:
        srv_id, after = (None, None) if self._from_now else self.position
        reply = self._client.ask(
            "replay", collection=self.collection, srv_id=srv_id, after=after, deadline=deadline
        )
        row = reply["upto"] if self._from_now else self.position.row
        self.position, self._from_now = Position(reply["srv_id"], row), False
        self.replays += 1
        self._behind = reply["upto"] < reply["head"]
        self._heard = time.monotonic()
        self._take(reply["rows"], reply["upto"])
        return reply["topic"]

    # ---- messages ----
    def _hear(self, until: float) -> bool:
        """Takes a message; False: none came in time. After silence the log is to be asked."""
        data = self._socket.receive()
        now = time.monotonic()
        if data is not None:
            self._heard = now
            message = _wire.unpack(data[len(self._topic) :])
            srv_id, row = self.position
            if message["n_prev"] > row or message["srv_id"] != srv_id:
                self._behind = True
            elif message["n"] > row:
                self._take(message["rows"], message["n"])
            return True
        if now >= self._heard + SILENCE_S:
            self._behind = True
            return True
        if now >= until:
            return False
        _wire.wait_readable([self._socket.receive_fd], min(until, self._heard + SILENCE_S))
        return True

    def _take(self, rows: List[dict], upto: int) -> None:
        self._upto = upto
        for row in rows:
            self._rows.append(
                Row(
                    Position(self.position.srv_id, row["n"]), row["op"], row.get("key"),
                    row.get("version", 0), row.get("srv_id", 0), row.get("seqno", 0),
                    row.get("doc"),
                )
            )  # fmt: skip


_backend = backend


def _position(since: Since) -> Position:
    if since is None or since == NOW or since == START:
        return Position(0, 0)
    if isinstance(since, (tuple, list)) and len(since) == 2:
        if all(type(part) is int and part >= 0 for part in since) and since[0] > 0:
            return Position(*since)
    raise BadInput("bad_since", f"since is START, NOW or a feed's position, not {since!r}.")


def _load(path: str, otherwise: Since) -> Since:
    try:
        with open(path, encoding="ascii") as file:
            words = file.read().split()
    except FileNotFoundError:
        return otherwise
    if len(words) != 2 or not all(word.isdigit() for word in words):
        raise BadInput("bad_since", f"{path} holds no position; delete it to begin anew.")
    return Position(int(words[0]), int(words[1]))
