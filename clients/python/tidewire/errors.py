"""What can go wrong: each error has a code for programs, words for people, and what to do."""

from __future__ import annotations

from typing import Any, Iterator, List, Optional


class TidewireError(Exception):
    """Any failure of a call.

    code     for programs: conflict, not_found, too_big, timeout, bad_message, ...
    message  the cause, for people
    hint     what to do about it, or ""
    retry    "no", "now" or "backoff": whether the same call may succeed later
    """

    def __init__(self, code: str, message: str, hint: str = "", retry: str = "no") -> None:
        super().__init__(f"{code}: {message}" + (f" {hint}" if hint else ""))
        self.code, self.message, self.hint, self.retry = code, message, hint, retry


class BadInput(TidewireError):
    """Wrong arguments; nothing was sent."""


class Unavailable(TidewireError):
    """The deadline passed: nobody there, or no answer. A write may have happened; repeat it with
    the same opid."""


class Refused(TidewireError):
    """The server said no; `reply` is all that it said."""

    def __init__(self, reply: dict) -> None:
        super().__init__(
            str(reply.get("code", "internal")),
            str(reply.get("message", "The server gave no reason.")),
            str(reply.get("hint", "")),
            str(reply.get("retry", "no")),
        )
        self.reply = reply


class Conflict(Refused):
    """The record exists, or its version is another: `version` is the one that stands, or None."""

    def __init__(self, reply: dict) -> None:
        super().__init__(reply)
        self.version: Optional[int] = reply.get("version")


class NotFound(Refused):
    """Nothing has this id."""


class PartlyRefused(TidewireError):
    """put_many sent everything, and some records were refused.

    acknowledged  records on the server's disk
    refused       [(key, code, message)], the first thousand
    """

    def __init__(self, acknowledged: int, count: int, refused: List[tuple]) -> None:
        key, code, message = refused[0]
        super().__init__(code, f"{count} records were refused; the first, {key!r}: {message}")
        self.acknowledged, self.count, self.refused = acknowledged, count, refused


class PublishInterrupted(TidewireError):
    """put_many came to no end. Hand it to `put_many(collection, resume=error)`: what was not
    acknowledged is sent again with the same operation ids, and the records behind it follow.

    acknowledged  records on the server's disk so far
    pending       batches that were sent or begun and not acknowledged
    """

    def __init__(self, cause: TidewireError, acknowledged: int, pending: list) -> None:
        super().__init__(cause.code, cause.message, cause.hint, cause.retry)
        self.acknowledged, self.pending = acknowledged, pending
        self.rest: Optional[Iterator[Any]] = None
        self.collection = ""


_BY_CODE = {"conflict": Conflict, "not_found": NotFound}


def refusal(reply: dict) -> Refused:
    """The error of a reply that is not ok."""
    return _BY_CODE.get(str(reply.get("code")), Refused)(reply)
