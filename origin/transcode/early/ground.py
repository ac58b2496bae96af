"""What of an upload is here, as a file with holes: copied part by part, each with the digest that its bytes have here.

What is made of it holds for every file that has these parts, and for no other. An MP4 or MOV has an index that says where the
first pictures lie; so its head and its index are enough to know which parts the first window needs.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

from origin.objects.interface import ObjectStoreFailed
from origin.objects.parts import PartsMissing
from origin.objects.threads import to_its_end
from origin.uploads.landed import LandedFile, Landing

MOST_BYTES = 192 * 2**20  # of parts copied for one first window: three of the largest parts
BOX_HEADER_BYTES = 16  # ISO/IEC 14496-12, 4.2: size, type, and a large size
MOST_BOXES = 64  # before the index; writers put a handful there
FIRST_BOXES = frozenset({b"ftyp", b"wide", b"free", b"skip", b"mdat", b"moov"})


class NotLanded(Exception):
    """Bytes that are needed have not arrived yet."""


class Unsuited(Exception):
    """Nothing can be made of this upload before it is complete; the message says why."""


class Ground:
    """The file at `path`, as long as the whole. `digests` are of the parts that are in it, by number."""

    def __init__(self, landing: Landing, path: Path) -> None:
        self._landing = landing
        self._path = path
        self.digests: dict[int, str] = {}
        self._bytes = 0

    async def hold(self, file: LandedFile, first: int, end: int) -> None:
        """Copies the parts in which the bytes `first` to `end` lie. Raises NotLanded or Unsuited."""
        if not 0 <= first < end <= file.size_bytes:
            raise Unsuited(f"its index names bytes up to {end} of {file.size_bytes}")
        size = file.part_size_bytes
        for number in range(first // size + 1, (end - 1) // size + 2):
            if number not in self.digests:
                await self._copy(file, number)

    async def _copy(self, file: LandedFile, number: int) -> None:
        part = next((part for part in file.parts if part.number == number), None)
        begin = (number - 1) * file.part_size_bytes
        end = min(begin + file.part_size_bytes, file.size_bytes)
        if part is None or part.size_bytes != end - begin:
            raise NotLanded
        self._bytes += part.size_bytes
        if self._bytes > MOST_BYTES:
            raise Unsuited(f"its index and its first pictures are spread over more than {MOST_BYTES} bytes")
        try:
            found = await self._written(file, begin, end)
        except (PartsMissing, ObjectStoreFailed) as error:
            raise Unsuited(f"part {number} was sent again, or is gone: {error}") from error
        if part.sha256 not in ("", found):
            # `complete` will name it, and it is sent again: with the very digest that these bytes do not have.
            raise Unsuited(f"part {number} is damaged where it lies")
        self.digests[number] = found

    async def _written(self, file: LandedFile, begin: int, end: int) -> str:
        """The digest of the bytes that were copied."""
        digest = hashlib.sha256()
        opening = asyncio.ensure_future(asyncio.to_thread(os.open, self._path, os.O_RDWR | os.O_CREAT, 0o600))
        descriptor = await to_its_end(opening, os.close)
        try:
            os.ftruncate(descriptor, file.size_bytes)
            at = begin
            async for chunk in self._landing.read(file, begin, end):
                # To its end: a descriptor that is closed before it is written to is that of another file then.
                await to_its_end(asyncio.ensure_future(asyncio.to_thread(_take, descriptor, chunk, at, digest.update)))
                at += len(chunk)
        finally:
            os.close(descriptor)
        return digest.hexdigest()

    async def hold_index(self, file: LandedFile) -> None:
        """The file's first part and its `moov` are in it from now on. Raises NotLanded or Unsuited."""
        at = 0
        for place in range(MOST_BOXES):
            if at + 8 > file.size_bytes:
                raise Unsuited("it has no index")
            await self.hold(file, at, min(at + BOX_HEADER_BYTES, file.size_bytes))
            kind, size = await asyncio.to_thread(self._box_at, at)
            if place == 0 and kind not in FIRST_BOXES:
                raise Unsuited("it is no MP4 or MOV, whose index would say where its first pictures lie")
            if size == 0:
                size = file.size_bytes - at  # to the end of the file
            if size < 8 or at + size > file.size_bytes:
                raise Unsuited(f"its box at {at} leads out of it")
            if kind == b"moov":
                await self.hold(file, at, at + size)
                return
            at += size
        raise Unsuited("its index lies behind too many other boxes")

    def _box_at(self, at: int) -> tuple[bytes, int]:
        """(type, size) of a box; a size of 0 reaches to the end."""
        with open(self._path, "rb") as file:
            header = os.pread(file.fileno(), BOX_HEADER_BYTES, at)
        size, kind = struct.unpack_from(">I4s", header)
        if size == 1 and len(header) == BOX_HEADER_BYTES:
            (size,) = struct.unpack_from(">Q", header, 8)
        return kind, size


def _take(descriptor: int, chunk: bytes, at: int, note: Callable[[bytes], None]) -> None:
    os.pwrite(descriptor, chunk, at)
    note(chunk)
