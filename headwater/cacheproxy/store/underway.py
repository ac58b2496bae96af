"""Looks and writes at the disk that are under way in threads, by key: what is replaced or discarded meanwhile overtakes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Closeable(Protocol):
    def close(self) -> None: ...


Opened = TypeVar("Opened", bound=Closeable)


@dataclass(slots=True)
class _Reading:
    """Looks for one key; `overtaken` when what they find may have been replaced or discarded."""

    looks: int = 0
    overtaken: bool = False


class Reads:
    """Looks that must not bring back what there was when they began."""

    def __init__(self) -> None:
        self._running: dict[str, _Reading] = {}

    async def read(self, key: str, look: Callable[[], Opened | None]) -> tuple[Opened | None, bool]:
        """(what `look` found in a thread, whether something else came of the object meanwhile)."""
        reading = self._running.setdefault(key, _Reading())
        reading.looks += 1
        try:
            found = await opened_in_thread(look)
        finally:
            reading.looks -= 1
            if not reading.looks and self._running.get(key) is reading:
                del self._running[key]
        return found, reading.overtaken

    def overtake(self, key: str) -> None:
        reading = self._running.pop(key, None)
        if reading is not None:
            reading.overtaken = True


@dataclass(slots=True, eq=False)
class Writing:
    """One write; not `wanted` any more when its object was discarded meanwhile."""

    is_wanted: bool = True

    def wanted(self) -> bool:
        return self.is_wanted


class Writes:
    """Writes that whoever discards their key finds."""

    def __init__(self) -> None:
        self._running: dict[str, set[Writing]] = {}

    @contextmanager
    def write(self, key: str) -> Iterator[Writing]:
        writing = Writing()
        under_way = self._running.setdefault(key, set())
        under_way.add(writing)
        try:
            yield writing
        finally:
            under_way.discard(writing)
            if not under_way:
                self._running.pop(key, None)

    def overtake(self, key: str) -> None:
        for writing in self._running.get(key, ()):
            writing.is_wanted = False


async def opened_in_thread(open_it: Callable[[], Opened | None]) -> Opened | None:
    """What `open_it` opens. Where the client leaves meanwhile it is closed as soon as it is open."""
    opening = asyncio.get_running_loop().run_in_executor(None, open_it)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opening: asyncio.Future[Opened | None]) -> None:
    opened = None if opening.cancelled() or opening.exception() is not None else opening.result()
    if opened is not None:
        opened.close()
