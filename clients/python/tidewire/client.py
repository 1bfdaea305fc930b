"""The client: one call, one answer; and the doors to put_many and feed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

from . import _wire
from ._identity import Identity, Token
from ._nng import Socket, backend, check_url
from .errors import BadInput, PublishInterrupted, Unavailable, refusal
from .feed import START, Feed, Since
from .publish import Published, Publisher

Document = Dict[str, Any]


@dataclass(frozen=True)
class Written:
    """A write that is on the server's disk.

    key      of the record (None where several were written)
    version  of the record (None likewise)
    count    records written
    since    the position of the write: a stream that has passed it has shown it
    results  of a batch: for each operation key and version, or code and message
    """

    key: Any
    version: Optional[int]
    count: int
    since: List[List[int]]
    results: Tuple[dict, ...] = ()

    @property
    def failed(self) -> int:
        """Operations of the batch that were refused."""
        return sum(1 for result in self.results if "code" in result)


class Client:
    """A client of the service socket at `url` (ipc:///PATH or tcp://127.0.0.1:PORT).

    Each call ends within its deadline (in seconds). Until then it is sent again when the connection
    breaks or the server asks for patience; a write carries an operation id (opid), made up where
    none is given, so a repeat has no second effect. What returns is on the server's disk.

    Any thread may call at any time. Use it as a context manager, or close() it.

    token: where the server asks for one: text, or a function that gives it. The function is asked
    first of all, again before its token expires, and once more where the server refused it.

    backend: "pynng" or "ctypes"; None takes pynng where it is installed.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline: float = 10.0,
        database: Optional[str] = None,
        token: Union[Token, Identity] = None,
        backend: Optional[str] = None,
    ) -> None:
        check_url(url)
        self._identity = token if isinstance(token, Identity) else Identity(token)
        self.url, self.deadline, self.database = url, deadline, database
        self._backend = backend
        self._make = _backend(backend)
        self._free: List[Socket] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections. Calls of other threads end by their deadlines."""
        with self._lock:
            self._is_closed = True
            free, self._free = self._free, []
        for socket in free:
            socket.close()

    # ---- sockets: one for each call that is under way ----
    def _take(self) -> Socket:
        with self._lock:
            if self._is_closed:
                raise BadInput("bad_message", "the client is closed.")
            if self._free:
                return self._free.pop()
        return self._make(self.url)

    def _give(self, socket: Socket) -> None:
        with self._lock:
            if not self._is_closed:
                self._free.append(socket)
                return
        socket.close()

    # ---- calls ----
    def ask(self, op: str, *, deadline: Optional[float] = None, **fields: Any) -> dict:
        """Any action of the service socket; the whole answer. Give a write its opid."""
        request = {"op": op, **{name: value for name, value in fields.items() if value is not None}}
        if self.database is not None:
            request.setdefault("database", self.database)
        until = time.monotonic() + (self.deadline if deadline is None else deadline)
        data, token = self._pack(request, None)
        socket = self._take()
        try:
            reply = self._exchange(socket, data, until)
            if reply.get("code") == "token" and self._identity.renews:
                data, token = self._pack(request, token)
                reply = self._exchange(socket, data, until)
        except BaseException:
            socket.close()  # an answer may still be on its way to it
            raise
        self._give(socket)
        if not reply.get("ok"):
            raise refusal(reply)
        return reply

    def _pack(self, request: dict, refused: Optional[str]) -> Tuple[bytes, Optional[str]]:
        token = self._identity.token(refused)
        data = _wire.pack(request if token is None else {**request, "token": token})
        _wire.check_size(len(data))
        return data, token

    def _exchange(self, socket: Socket, data: bytes, until: float) -> dict:
        attempt = 0
        while True:
            reply = self._once(socket, data, until)
            again = _wire.is_undone(reply) if reply.get("ok") else reply.get("retry") != "no"
            pause = _wire.pause_s(attempt)
            attempt += 1
            if not again or time.monotonic() + pause >= until:
                return reply
            _wire.wait_readable([], time.monotonic() + pause)

    def _once(self, socket: Socket, data: bytes, until: float) -> dict:
        while not socket.send(data):
            if time.monotonic() >= until:
                raise unconnected(self.url)
            _wire.wait_readable([socket.send_fd], until)
        while True:
            answer = socket.receive()
            if answer is not None:
                return _wire.unpack(answer)
            if time.monotonic() >= until:
                raise Unavailable(
                    "timeout",
                    f"{self.url} took the request and did not answer before the deadline.",
                    "Is the server alive? A write may have happened: repeat it with its opid.",
                    "backoff",
                )
            _wire.wait_readable([socket.receive_fd], until)

    def _write(self, op: str, collection: str, fields: dict) -> Written:
        opid = fields.pop("opid", None) or _wire.new_opid()
        if fields.pop("dispatch") is False:
            fields["dispatch"] = False
        return _written(self.ask(op, collection=collection, opid=opid, **fields))

    def put(
        self,
        collection: str,
        doc: Document,
        *,
        if_version: Optional[int] = None,
        opid: Optional[str] = None,
        dispatch: bool = True,
        deadline: Optional[float] = None,
    ) -> Written:
        """Replaces or inserts a document. `if_version`: only where this version stands (Conflict).
        `dispatch=False`: stored, but told to no live stream."""
        return self._write("put", collection, dict(
            doc=doc, if_version=if_version, opid=opid, dispatch=dispatch, deadline=deadline,
        ))  # fmt: skip

    def insert(
        self,
        collection: str,
        doc: Document,
        *,
        opid: Optional[str] = None,
        dispatch: bool = True,
        deadline: Optional[float] = None,
    ) -> Written:
        """Inserts a document; Conflict where its key exists."""
        return self._write(
            "insert", collection, dict(doc=doc, opid=opid, dispatch=dispatch, deadline=deadline)
        )

    def update(
        self,
        collection: str,
        id: Any,
        fields: Optional[Document] = None,
        *,
        operations: Optional[List[list]] = None,
        if_version: Optional[int] = None,
        opid: Optional[str] = None,
        dispatch: bool = True,
        deadline: Optional[float] = None,
    ) -> Written:
        """Sets `fields`, or does `operations` such as [["INC", "views", 1]]; NotFound."""
        return self._write("update", collection, dict(
            id=id, fields=fields, operations=operations, if_version=if_version, opid=opid,
            dispatch=dispatch, deadline=deadline,
        ))  # fmt: skip

    def remove(
        self,
        collection: str,
        id: Any,
        *,
        if_version: Optional[int] = None,
        opid: Optional[str] = None,
        dispatch: bool = True,
        deadline: Optional[float] = None,
    ) -> Written:
        """Removes a record."""
        return self._write("remove", collection, dict(
            id=id, if_version=if_version, opid=opid, dispatch=dispatch, deadline=deadline,
        ))  # fmt: skip

    def batch(
        self,
        collection: str,
        ops: List[dict],
        *,
        atomic: bool = False,
        opid: Optional[str] = None,
        dispatch: bool = True,
        deadline: Optional[float] = None,
    ) -> Written:
        """Many writes in one message (at most 4096, 1 MiB): {"op": "put", "doc": {...}},
        {"op": "remove", "id": ...}, ... Each fails alone, see `failed`, unless `atomic`."""
        return self._write("batch", collection, dict(
            ops=ops, atomic=atomic or None, opid=opid, dispatch=dispatch, deadline=deadline,
        ))  # fmt: skip

    def get(
        self, collection: str, id: Any, *, deadline: Optional[float] = None
    ) -> Union[Document, List[Document]]:
        """A document by its id, NotFound; or, for a list of at most 1000 ids, those that exist."""
        reply = self.ask("getByIds", collection=collection, ids=id, deadline=deadline)
        return reply["docs"] if isinstance(id, (list, tuple)) else reply["docs"][0]

    def find(
        self,
        collection: str,
        query: Optional[Document] = None,
        *,
        fields: Optional[List[str]] = None,
        sort: Optional[Document] = None,
        limit: Optional[int] = None,
        skip: Optional[int] = None,
        deadline: Optional[float] = None,
    ) -> List[Document]:
        """Documents that match, at most 10,000 at once."""
        return self.ask(
            "find", collection=collection, query=query or {}, fields=fields, sort=sort,
            limit=limit, skip=skip, deadline=deadline,
        )["docs"]  # fmt: skip

    def count(
        self, collection: str, query: Optional[Document] = None, *, deadline: Optional[float] = None
    ) -> int:
        """How many documents match."""
        return self.ask("count", collection=collection, query=query, deadline=deadline)["count"]

    def dispatch(
        self, collection: str, message: Any, *, deadline: Optional[float] = None
    ) -> None:
        """Tells the streams that name the collection a message (any value, at most 64 KiB) that is
        not stored: who is away does not get it. Sent again where no answer came: may come twice."""
        self.ask("dispatch", collection=collection, message=message, deadline=deadline)

    # ---- many ----
    def put_many(
        self,
        collection: str,
        docs: Iterable[Document] = (),
        *,
        progress: bool = False,
        total: Optional[int] = None,
        batch_records: int = 1000,
        batch_bytes: int = 65536,
        window: int = 8,
        key: str = "_id",
        dispatch: bool = True,
        deadline: float = 60.0,
        resume: Optional[PublishInterrupted] = None,
    ) -> Published:
        """Puts all documents of an iterable, in batches of which `window` are on their way at once.

        Puts of one key keep their order; `key` names the field that holds it. `progress` draws a
        bar on standard error where that is a terminal; `total` is for it, where len() has none.

        Where a batch is not acknowledged within `deadline` seconds: PublishInterrupted, which may
        be handed to a later call as `resume`. Where records were refused: PartlyRefused, when all
        others are on disk.
        """
        publisher = Publisher(
            self._make, self.url, collection, database=self.database, batch_records=batch_records,
            batch_bytes=batch_bytes, window=window, key=key, dispatch=dispatch, deadline=deadline,
            identity=self._identity,
        )  # fmt: skip
        return publisher.run(docs, progress=progress, total=total, resume=resume)

    def feed(
        self,
        collection: str,
        since: Since = START,
        *,
        position_file: Optional[str] = None,
        idle: Optional[float] = None,
        deadline: Optional[float] = None,
    ) -> Feed:
        """Follows a collection: an iterator over every change, once and in order, across lost
        messages and restarts of the server.

        since          START (all that is stored, then what comes), NOW, or a feed's position
        position_file  begins where this file says, if it exists; feed.save() writes it
        idle           ends the iteration after so many seconds without a row; None: never
        """
        return Feed(
            self.url, collection, since=since, database=self.database, backend=self._backend,
            position_file=position_file, idle=idle, token=self._identity,
            deadline=self.deadline if deadline is None else deadline,
        )  # fmt: skip


_backend = backend


def unconnected(url: str) -> Unavailable:
    return Unavailable(
        "timeout",
        f"nobody answered at {url} before the deadline.",
        "Is the server running, with --service and this address?",
        "backoff",
    )


def _written(reply: dict) -> Written:
    return Written(
        key=reply.get("key"),
        version=reply.get("version"),
        count=reply.get("count", 1),
        since=reply.get("since", []),
        results=tuple(reply.get("results", ())),
    )
