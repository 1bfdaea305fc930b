"""nng for the rest of the package: two kinds of socket, by pynng or by ctypes on libnng.

A socket is never waited for inside nng: both backends give the descriptors that say when it may be
sent to and read, so waits end with their deadline and with Ctrl-C. nng itself connects, connects
again, and sends a request again when its connection breaks.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import threading
from typing import Callable, Optional

from .errors import BadInput, TidewireError

RECONNECT_MIN_MS, RECONNECT_MAX_MS = 10, 250
RECEIVE_MAX = 16842752  # bytes of an answer: a document and its frame
FEED_QUEUE = 256  # messages that wait to be read; what is beyond is replayed
FOREVER_MS = 2**31 - 1
CLOSE_S = 3  # then a socket that nng does not close is left to the end of the process
HINT = "An address is ipc:///PATH or tcp://127.0.0.1:PORT."


class Socket:
    """One REQ socket, or one SUB socket where a topic is given, that dials in the background."""

    send_fd: int = -1  # readable when send() will succeed (REQ)
    receive_fd: int = -1  # readable when receive() will succeed

    def send(self, data: bytes) -> bool:
        """Hands a message to nng; False: not connected, or not yet."""
        raise NotImplementedError

    def receive(self) -> Optional[bytes]:
        """A message that came, or None."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


_left: list = []  # threads of closes that were left behind


def close_within(close: Callable[[], object], seconds: float = CLOSE_S) -> None:
    """Closes on a thread that may be left behind: nng 1.5.2 can wait for ever where a connection is
    closed while a message comes by it. It then closes nothing else either, so later closes are not
    waited for until it has gone on."""
    _left[:] = [thread for thread in _left if thread.is_alive()]
    thread = threading.Thread(target=close, name="nng_close", daemon=True)
    thread.start()
    thread.join(0 if _left else seconds)
    if thread.is_alive():
        _left.append(thread)


def check_url(url: str) -> None:
    """nng resolves in the background and would try a port that is none for ever."""
    if url.startswith("tcp://"):
        port = url.rpartition(":")[2]
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise BadInput("bad_message", f"{url!r} has no port.", HINT)
    elif not url.startswith(("ipc://", "inproc://", "abstract://")):
        raise BadInput("bad_message", f"{url!r} is no address.", HINT)


# ---- pynng ----
def _pynng_socket():
    import pynng

    class PynngSocket(Socket):
        def __init__(self, url: str, topic: Optional[bytes] = None) -> None:
            options = {
                "recv_max_size": RECEIVE_MAX,
                "reconnect_time_min": RECONNECT_MIN_MS,
                "reconnect_time_max": RECONNECT_MAX_MS,
                "send_timeout": 10,  # ms; only between send_fd and send
            }
            if topic is None:
                self._socket = pynng.Req0(resend_time=FOREVER_MS, **options)
            else:
                self._socket = pynng.Sub0(recv_buffer_size=FEED_QUEUE, **options)
            try:
                if topic is None:
                    self.send_fd = self._socket.send_fd
                else:
                    self._socket.subscribe(topic)
                self.receive_fd = self._socket.recv_fd
                self._socket.dial(url, block=False)
            except pynng.exceptions.NNGException as error:
                self._socket.close()
                raise BadInput("bad_message", f"{url!r}: {error}.", HINT) from error

        def send(self, data: bytes) -> bool:
            try:
                self._socket.send(data)
            except (pynng.exceptions.Timeout, pynng.exceptions.TryAgain):
                return False
            return True

        def receive(self) -> Optional[bytes]:
            try:
                return self._socket.recv(block=False)
            except pynng.exceptions.TryAgain:
                return None
            except pynng.exceptions.BadState:  # the request was not sent: nothing can come
                return None

        def close(self) -> None:
            close_within(self._socket.close)

    return PynngSocket


# ---- ctypes ----
class _Id(ctypes.Structure):
    """nng_socket and nng_dialer: one number, by value."""

    _fields_ = [("id", ctypes.c_uint32)]


NONBLOCK, ALLOC = 2, 1
EAGAIN, ESTATE, ETIMEDOUT = 8, 11, 5


def _load_libnng():
    name = os.environ.get("TIDEWIRE_LIBNNG") or ctypes.util.find_library("nng") or "libnng.so.1"
    library = ctypes.CDLL(name)
    pointer, size, text = ctypes.POINTER, ctypes.c_size_t, ctypes.c_char_p
    signatures = {
        "nng_req0_open": [pointer(_Id)],
        "nng_sub0_open": [pointer(_Id)],
        "nng_close": [_Id],
        "nng_send": [_Id, text, size, ctypes.c_int],
        "nng_recv": [_Id, ctypes.c_void_p, pointer(size), ctypes.c_int],
        "nng_socket_set": [_Id, text, text, size],
        "nng_socket_set_int": [_Id, text, ctypes.c_int],
        "nng_socket_set_ms": [_Id, text, ctypes.c_int32],
        "nng_socket_set_size": [_Id, text, size],
        "nng_socket_get_int": [_Id, text, pointer(ctypes.c_int)],
        "nng_dial": [_Id, text, pointer(_Id), ctypes.c_int],
    }
    for function, arguments in signatures.items():
        getattr(library, function).argtypes = arguments
        getattr(library, function).restype = ctypes.c_int
    library.nng_free.argtypes, library.nng_free.restype = [ctypes.c_void_p, size], None
    library.nng_strerror.argtypes, library.nng_strerror.restype = [ctypes.c_int], text
    return library


def _ctypes_socket():
    library = _load_libnng()

    class CtypesSocket(Socket):
        def __init__(self, url: str, topic: Optional[bytes] = None) -> None:
            self._id = _Id()
            opened = library.nng_req0_open if topic is None else library.nng_sub0_open
            self._check(opened(ctypes.byref(self._id)), "nng")
            try:
                self._configure(url, topic)
            except TidewireError:
                self.close()
                raise

        def _configure(self, url: str, topic: Optional[bytes]) -> None:
            s = self._id
            self._check(library.nng_socket_set_size(s, b"recv-size-max", RECEIVE_MAX), url)
            self._check(library.nng_socket_set_ms(s, b"reconnect-time-min", RECONNECT_MIN_MS), url)
            self._check(library.nng_socket_set_ms(s, b"reconnect-time-max", RECONNECT_MAX_MS), url)
            if topic is None:
                resend = library.nng_socket_set_ms(s, b"req:resend-time", FOREVER_MS)
                self._check(resend, url)
                self.send_fd = self._descriptor(b"send-fd")
            else:
                self._check(library.nng_socket_set(s, b"sub:subscribe", topic, len(topic)), url)
                self._check(library.nng_socket_set_int(s, b"recv-buffer", FEED_QUEUE), url)
            self.receive_fd = self._descriptor(b"recv-fd")
            self._check(library.nng_dial(s, url.encode(), None, NONBLOCK), url)

        def _descriptor(self, name: bytes) -> int:
            fd = ctypes.c_int()
            self._check(library.nng_socket_get_int(self._id, name, ctypes.byref(fd)), "nng")
            return fd.value

        @staticmethod
        def _check(code: int, what: str) -> None:
            if code != 0:
                text = library.nng_strerror(code).decode()
                raise BadInput("bad_message", f"{what!r}: {text}.", HINT)

        def send(self, data: bytes) -> bool:
            code = library.nng_send(self._id, data, len(data), NONBLOCK)
            if code in (EAGAIN, ETIMEDOUT):
                return False
            self._check(code, "send")
            return True

        def receive(self) -> Optional[bytes]:
            at, size = ctypes.c_void_p(), ctypes.c_size_t()
            code = library.nng_recv(
                self._id, ctypes.byref(at), ctypes.byref(size), NONBLOCK | ALLOC
            )
            if code in (EAGAIN, ESTATE):  # none yet; or the request was not sent
                return None
            self._check(code, "receive")
            data = ctypes.string_at(at, size.value)
            library.nng_free(at, size.value)
            return data

        def close(self) -> None:
            close_within(lambda: library.nng_close(self._id))

    return CtypesSocket


_MAKERS = {"pynng": _pynng_socket, "ctypes": _ctypes_socket}
_made: dict = {}  # a class per backend: loading a library is done once


def backend(name: Optional[str] = None):
    """The class of sockets: pynng's where it is installed, else that on libnng.

    name (or the environment's TIDEWIRE_NNG) asks for one of them.
    """
    wanted = name or os.environ.get("TIDEWIRE_NNG")
    if wanted is not None and wanted not in _MAKERS:
        raise BadInput("bad_config", f"no backend is named {wanted!r}: pynng or ctypes.")
    failures = []
    for each in [wanted] if wanted else list(_MAKERS):
        if each in _made:
            return _made[each]
        try:
            _made[each] = _MAKERS[each]()
        except (ImportError, OSError, AttributeError) as error:
            failures.append(f"{each}: {error}")
            continue
        return _made[each]
    raise TidewireError(
        "unavailable",
        f"nng was not found ({'; '.join(failures)}).",
        "Install the package pynng, or the system's library of nng (libnng1 on Debian).",
    )
