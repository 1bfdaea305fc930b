"""Messages of the service socket as bytes, and waiting with a deadline."""

from __future__ import annotations

import random
import select
import time
import uuid
from typing import Any, Iterable, Optional

import msgpack

from .errors import BadInput, TidewireError

MESSAGE_MAX = 1048576  # bytes of a request; the server ends the connection beyond it
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.02, 1.0


def packer() -> msgpack.Packer:
    """Dates with a time zone become timestamps."""
    return msgpack.Packer(use_bin_type=True, datetime=True)


def pack(value: Any, what: str = "the request", by: Optional[msgpack.Packer] = None) -> bytes:
    try:
        return (by or packer()).pack(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(
            "bad_document",
            f"{what} cannot be sent: {error}.",
            "Use None, bool, int of 64 bits, float, str, bytes, list, dict with text as keys, and "
            "datetime with a time zone.",
        ) from error


def check_size(size: int) -> None:
    if size > MESSAGE_MAX:
        raise BadInput(
            "too_big",
            f"the request has {size} bytes; {MESSAGE_MAX} are allowed.",
            "Send fewer or smaller records at once.",
        )


def unpack(data: bytes) -> dict:
    try:
        value = msgpack.unpackb(data, strict_map_key=False, timestamp=3)
    except Exception as error:  # msgpack's own kinds are many
        raise TidewireError(
            "bad_message", "the answer cannot be understood.", "Is this the address of a Tidewire?"
        ) from error
    if not isinstance(value, dict):
        raise TidewireError(
            "bad_message", "the answer is no map.", "Is this the address of a Tidewire?"
        )
    return value


RETRYABLE = {
    "rate", "busy", "timeout", "unavailable", "draining", "disk", "no_memory", "internal", "corrupt"
}  # fmt: skip


def is_undone(reply: dict) -> bool:
    """Whether to send a batch again, by its opid: some of it could not be done now."""
    return bool(reply.get("failed")) and any(
        result.get("code") in RETRYABLE for result in reply["results"]
    )


def new_opid() -> str:
    return uuid.uuid4().hex


def pause_s(attempt: int) -> float:
    """A random part of a pause that doubles with each attempt."""
    whole = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempt, 10))
    return whole * (0.5 + random.random() / 2)


def wait_readable(descriptors: Iterable[int], until: Optional[float]) -> None:
    """Until one of them is readable or the time (of time.monotonic) has come; Ctrl-C ends it."""
    poll = select.poll()
    for fd in descriptors:
        poll.register(fd, select.POLLIN)
    left = None if until is None else max(0.0, until - time.monotonic())
    poll.poll(None if left is None else left * 1000 + 1)
