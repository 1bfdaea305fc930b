"""Who asks: a token, or a function that gives one and is asked again before it expires."""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from typing import Callable, Optional, Union

Token = Union[None, str, Callable[[], str]]
EARLY_S = 30.0  # another token is asked for so long before one expires, or a tenth of its time
UNKNOWN_S = 60.0  # how long a token is kept that does not say when it expires


def expires(token: str) -> Optional[float]:
    """The unix time at which a JSON Web Token ends; None where it does not say."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None


class Identity:
    """The token of each request of a client. Any thread may ask at any time."""

    def __init__(self, token: Token) -> None:
        self._give = token if callable(token) else None
        self._text = None if callable(token) else token
        self._renew = 0.0
        self._lock = threading.Lock()

    @property
    def renews(self) -> bool:
        return self._give is not None

    def token(self, refused: Optional[str] = None) -> Optional[str]:
        """The token of a request; refused: one that the server has refused."""
        if self._give is None:
            return self._text
        with self._lock:
            now = time.time()
            if self._text is None or self._text == refused or now >= self._renew:
                self._text = self._give()
                end = expires(self._text)
                left = UNKNOWN_S if end is None else end - now
                self._renew = now + left - (0 if end is None else min(EARLY_S, left / 10))
            return self._text
