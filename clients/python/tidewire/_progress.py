"""A line of progress on a terminal's standard error; nothing elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Optional, TextIO

DRAW_S = 0.1
WIDTH = 24


def line(done: int, total: Optional[int], seconds: float) -> str:
    """`  45,000 of 100,000 records [#####     ]  45 %  12,300/s  0:04 left`"""
    rate = done / seconds if seconds > 0 else 0.0
    if not total:
        return f"{done:,} records  {rate:,.0f}/s"
    share = min(1.0, done / total)
    filled = int(share * WIDTH)
    left = max(0, total - done) / rate if rate > 0 else 0.0
    bar = "#" * filled + " " * (WIDTH - filled)
    clock = f"{int(left) // 60}:{int(left) % 60:02d}"
    return f"{done:,} of {total:,} records [{bar}] {share:4.0%}  {rate:,.0f}/s  {clock} left"


class Progress:
    def __init__(self, wanted: bool, total: Optional[int], out: Optional[TextIO] = None) -> None:
        self._out = out if out is not None else sys.stderr
        self._draws = wanted and self._out.isatty()
        self._total, self._begun, self._drawn = total, time.monotonic(), 0.0

    def show(self, done: int, final: bool = False) -> None:
        if not self._draws:
            return
        now = time.monotonic()
        if now - self._drawn < DRAW_S and not final:
            return
        self._drawn = now
        text = line(done, self._total, now - self._begun)
        self._out.write(f"\r\x1b[K{text}" + ("\n" if final else ""))
        self._out.flush()
