"""The growing body of one fill: written once, read by any number of followers, each at its own pace.

The first bytes are kept in memory, the rest in an unlinked temporary file, so that a long object costs bounded memory
however many follow it. Followers are woken by an event at each append; none polls.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from headwater.cacheproxy.metrics import DISK_TROUBLES


class SpoolBroken(Exception):
    """The fill ended before the object was whole: what was read so far is not the object."""


@dataclass(frozen=True, slots=True)
class _OnDisk:
    offset: int
    length: int


class Spool:
    """`length` grows; `finish` or `break_off` ends it. Chunks in memory are never copied on their way to a follower."""

    def __init__(self, folder: Path, in_ram_bytes: int) -> None:
        self.length = 0
        self.finished = False
        self.broken = False
        self._folder = folder
        self._in_ram_bytes = in_ram_bytes
        self._pieces: list[bytes | _OnDisk] = []
        self._starts: list[int] = []
        self._file: int | None = None
        self._file_length = 0
        self._more = asyncio.Event()

    async def append(self, chunk: bytes) -> None:
        """Adds bytes. When the disk will not take them they stay in memory: a full disk must not break a running watch."""
        piece: bytes | _OnDisk = chunk
        if self.length + len(chunk) > self._in_ram_bytes:
            try:
                piece = await asyncio.to_thread(self._write, chunk)
            except OSError:
                DISK_TROUBLES.labels("spool_write_failed").inc()
        self._starts.append(self.length)
        self._pieces.append(piece)
        self.length += len(chunk)
        self._wake()

    def finish(self) -> None:
        self.finished = True
        self._wake()

    def break_off(self) -> None:
        self.broken = True
        self._wake()

    async def read(self, first: int, last: int | None) -> AsyncIterator[bytes]:
        """The bytes `first` to `last` (both included; None: to the end) as they arrive. Raises SpoolBroken."""
        position = first
        while last is None or position <= last:
            if position >= self.length:
                if self.finished:
                    return
                if self.broken:
                    raise SpoolBroken
                await self._more.wait()
                continue
            chunk = await self._rest_of_piece(position)
            if last is not None and position + len(chunk) > last + 1:
                chunk = chunk[: last + 1 - position]
            position += len(chunk)
            yield chunk

    def in_ram(self) -> bytes | None:
        """The whole body when all of it is in memory."""
        pieces = [piece for piece in self._pieces if isinstance(piece, bytes)]
        if len(pieces) != len(self._pieces):
            return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def rest_of_piece(self, position: int) -> bytes:
        """Some bytes from `position` (below `length`) on. May read the disk: run in a thread."""
        index = bisect_right(self._starts, position) - 1
        piece, skipped = self._pieces[index], position - self._starts[index]
        if isinstance(piece, bytes):
            return piece[skipped:] if skipped else piece
        if self._file is None:
            raise SpoolBroken
        chunk = os.pread(self._file, piece.length - skipped, piece.offset + skipped)
        if not chunk:
            raise SpoolBroken
        return chunk

    def close(self) -> None:
        """Frees the temporary file; nothing may be read from disk after this."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    async def _rest_of_piece(self, position: int) -> bytes:
        if isinstance(self._pieces[bisect_right(self._starts, position) - 1], bytes):
            return self.rest_of_piece(position)
        return await asyncio.to_thread(self.rest_of_piece, position)

    def _write(self, chunk: bytes) -> _OnDisk:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file, name = tempfile.mkstemp(dir=self._folder, prefix="spool-")
            os.unlink(name)
        piece = _OnDisk(self._file_length, len(chunk))
        view, offset = memoryview(chunk), self._file_length
        while view:
            written = os.pwrite(self._file, view, offset)
            view, offset = view[written:], offset + written
        self._file_length = offset
        return piece

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()
