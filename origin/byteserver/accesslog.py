"""The access log: JSON lines on stdout, gathered in memory and written by a thread: a slow reader never holds a request."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Final, TextIO

from headwater.runtime.metrics import counter
from headwater.runtime.recentlines import ACCESS

FLUSH_S: Final = 0.2
# A reader that is stuck for so long loses lines, not the node its memory.
MOST_LINES: Final = 100_000

LOST = counter("headwater_origin_access_log_lost_total", "Access log lines that could not be written.")


class AccessLog:
    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out
        self._lines: list[str] = []

    def record(self, **fields: str | int | float | None) -> None:
        """One event; fields without a value are left out."""
        if len(self._lines) >= MOST_LINES:
            LOST.inc()
            return
        self._lines.append(json.dumps({name: value for name, value in fields.items() if value is not None}))

    async def write_on(self) -> None:
        """Writes what was gathered, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            if self._lines:
                await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        write: Callable[[str], int] = (self._out or sys.stdout).write
        text = "".join(f"{line}\n" for line in lines)
        ACCESS.add(text)
        try:
            if lines:
                write(text)
                (self._out or sys.stdout).flush()
        except (OSError, ValueError):  # closed or full: the byte plane goes on
            LOST.inc(len(lines))
