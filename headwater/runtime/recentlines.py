"""The latest lines of this process's logs, kept in memory for control: nodes of other machines have no file that it could read.

Whoever reads takes what came after its cursor, a piece at a time; who reads too slowly loses the oldest lines and is told how
many. A cursor of an earlier process, or none, begins with the last lines there are. Nothing waits for a reader.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

KEPT_CHARS: Final = 1_000_000  # some 2,500 lines of an access log
PIECE_CHARS: Final = 256 * 1024
LOOK_BACK_CHARS: Final = 64 * 1024  # for who comes without a cursor


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines, the number of the line that comes after them, and how many were forgotten before them."""

    lines: str
    next: int
    lost: int


class RecentLines:
    """Lines by number, in the chunks in which they came. `add` may be called from any thread."""

    def __init__(self, kept_chars: int = KEPT_CHARS) -> None:
        self.since = time.time()
        self._kept_chars = kept_chars
        self._chunks: deque[tuple[int, str]] = deque()  # (number of the first line, lines)
        self._chars = 0
        self._next = 0
        self._lock = threading.Lock()

    def add(self, lines: str, count: int | None = None) -> None:
        """Whole lines, each with its end; `count` of them, if the caller knows."""
        with self._lock:
            self._chunks.append((self._next, lines))
            self._next += lines.count("\n") if count is None else count
            self._chars += len(lines)
            while self._chars > self._kept_chars and len(self._chunks) > 1:
                self._chars -= len(self._chunks.popleft()[1])

    def after(self, number: int | None) -> Piece:
        """The lines from `number` on, a piece at most; None: the last ones."""
        with self._lock:
            chunks, end = list(self._chunks), self._next
        if number is None:
            lines = "".join(text for _, text in chunks)
            return Piece(
                lines[lines.find("\n", len(lines) - LOOK_BACK_CHARS) + 1 :] if len(lines) > LOOK_BACK_CHARS else lines, end, 0
            )
        first = chunks[0][0] if chunks else end
        found: list[str] = []
        taken = 0
        number, lost = max(number, first), max(0, first - number)
        for begins, text in chunks:
            count = text.count("\n")
            if begins + count <= number:
                continue
            if found and taken + len(text) > PIECE_CHARS:
                break
            rest = text if begins >= number else "".join(text.splitlines(keepends=True)[number - begins :])
            found.append(rest)
            taken += len(rest)
            number = begins + count
        return Piece("".join(found), number, lost)


ACCESS: Final = RecentLines()
SERVICE: Final = RecentLines()
LOGS: Final = {"access": ACCESS, "service": SERVICE}


class KeepingHandler(logging.Handler):
    """Keeps the service log's lines beside those that write them."""

    def emit(self, record: logging.LogRecord) -> None:
        SERVICE.add(" ".join(self.format(record).splitlines()) + "\n")
