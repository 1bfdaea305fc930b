"""Tidewire's service socket from Python: write records, follow collections.

>>> from tidewire import Client
>>> with Client("ipc:///run/tidewire") as client:          # doctest: +SKIP
...     client.put("people", {"_id": 1, "name": "Ada"})
...     for row in client.feed("people"):
...         print(row.op, row.key, row.doc)
"""

from .client import Client, Written
from .errors import (
    BadInput,
    Conflict,
    NotFound,
    PartlyRefused,
    PublishInterrupted,
    Refused,
    TidewireError,
    Unavailable,
)
from .feed import NOW, START, Feed, Position, Row
from .publish import Published

__all__ = [
    "NOW",
    "START",
    "BadInput",
    "Client",
    "Conflict",
    "Feed",
    "NotFound",
    "PartlyRefused",
    "Position",
    "Published",
    "PublishInterrupted",
    "Refused",
    "Row",
    "TidewireError",
    "Unavailable",
    "Written",
]
__version__ = "0.1.0"
