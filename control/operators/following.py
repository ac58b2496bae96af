"""Log files as they grow: whole new lines of several nodes, filtered, a bounded piece of each file at a time. Blocking."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PIECE_BYTES: Final = 256 * 1024  # of a file at a time; a longer line is left out
LOOK_BACK_BYTES: Final = 64 * 1024  # where the last lines are looked for
_STATUS: Final = re.compile(r"[1-5](xx|[0-9]{2})\Z")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines are wanted. `statuses` are such as `404` or `5xx`; none: all."""

    statuses: frozenset[str] = frozenset()
    refused: bool = False

    def wants(self, line: dict[str, Any]) -> bool:
        """Pure."""
        status = str(line.get("status", ""))
        if self.statuses and not ({status, f"{status[:1]}xx"} & self.statuses):
            return False
        return not self.refused or bool(line.get("refusal"))


def parse_statuses(texts: Iterable[str]) -> frozenset[str]:
    """Raises ValueError."""
    statuses = frozenset(text.lower() for text in texts)
    for status in statuses:
        if not _STATUS.match(status):
            raise ValueError(f"{status[:20]!r} is no status: a number such as 404 or a class such as 5xx was expected")
    return statuses


class Tail:
    """One log file of a node, from its end on; `last` is how many lines before it come first."""

    def __init__(self, node: str, log: str, file: Path, last: int) -> None:
        self.node = node
        self.log = log
        self._file = file
        self._last = last
        self._offset: int | None = None

    def lines(self, wanted: Filter) -> Iterator[dict[str, Any]]:
        """What has been added since the last call, a piece at most. A file that was emptied begins anew."""
        try:
            with self._file.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if self._offset is None:
                    yield from self._first(file.fileno(), size, wanted)
                    return
                self._offset = self._offset if self._offset <= size else 0
                piece = os.pread(file.fileno(), PIECE_BYTES, self._offset)
        except OSError:
            self._offset = 0  # not there yet: all that comes is new
            return
        end = piece.rfind(b"\n") + 1
        self._offset += end if end or len(piece) < PIECE_BYTES else len(piece)
        yield from told_of(self.node, self.log, piece[:end].splitlines(), wanted)

    def _first(self, descriptor: int, size: int, wanted: Filter) -> Iterator[dict[str, Any]]:
        start = max(0, size - LOOK_BACK_BYTES)
        piece = os.pread(descriptor, size - start, start)
        end = piece.rfind(b"\n") + 1
        self._offset = start + end
        whole = piece[:end].splitlines()[1 if start else 0 :]
        if self._last:
            yield from list(told_of(self.node, self.log, whole, wanted))[-self._last :]


def told_of(node: str, log: str, lines: Iterable[bytes], wanted: Filter) -> Iterator[dict[str, Any]]:
    """The wanted ones among a node's lines, as followers get them."""
    for line in lines:
        try:
            members = json.loads(line)
        except ValueError:
            members = {"event": line.decode("utf-8", "replace")}
        if isinstance(members, dict) and wanted.wants(members):
            yield {"of": node, "log": log, "line": members}
