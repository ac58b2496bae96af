"""What of a file has landed before its upload is completed, for whoever begins to work early: probing, the first encodes.

    landed = Landing(catalogue, parts)
    for file in await landed.begun():              # uploads in work whose first part is here
        file.ranges                                # ((0, 8388608), (41943040, 44040192))
        async for chunk in landed.read(file, 0, 65536): ...

What is read may be sent again with other bytes before the upload is completed: whatever is made of it holds only if the parts
that were read had the SHA-256 that the ledger has in the end. `ArrivedPart.sha256` tells it where the store learns it. An S3
store lets nobody read what creators sent before the upload is completed; streams, which the origin writes, can be read there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from origin.catalogue import ledger
from origin.catalogue.engine import reading
from origin.catalogue.ledger import Upload
from origin.catalogue.schema import Form
from origin.objects.parts import ArrivedPart, PartsMissing, PartStore
from origin.uploads.planning import Plan


@dataclass(frozen=True, slots=True)
class LandedFile:
    """An upload in work. `size_bytes` is 0 while nobody knows it; `ranges` are (first byte, end), in order, none touching."""

    video_id: VideoId
    upload_id: str
    size_bytes: int
    part_size_bytes: int
    parts: tuple[ArrivedPart, ...]
    creator: str | None = None

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        return landed_ranges(self.part_size_bytes, ((part.number, part.size_bytes) for part in self.parts))

    def holds(self, first: int, end: int) -> bool:
        return any(begin <= first and end <= over for begin, over in self.ranges)


def landed_ranges(part_size_bytes: int, parts: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Of parts given as (number, bytes): (first byte, end) of what is there, neighbours joined."""
    ranges: list[tuple[int, int]] = []
    for number, size_bytes in sorted(parts):
        first = (number - 1) * part_size_bytes
        if ranges and ranges[-1][1] == first:
            ranges[-1] = (ranges[-1][0], first + size_bytes)
        else:
            ranges.append((first, first + size_bytes))
    return tuple(ranges)


class Landing:
    def __init__(self, catalogue: AsyncEngine, parts: PartStore) -> None:
        self._catalogue = catalogue
        self._parts = parts

    async def begun(self) -> list[LandedFile]:
        """Uploads in work of which the first part is here, oldest first."""
        async with reading(self._catalogue) as connection:
            uploads = await ledger.open_uploads(connection)
        files = [await self._landed(upload) for upload in uploads if upload.form is Form.WHOLE]
        return [file for file in files if file.holds(0, 1)]

    async def find(self, video_id: VideoId) -> LandedFile | None:
        """None when there is no such upload in work: never begun, completed, or collected."""
        async with reading(self._catalogue) as connection:
            upload = await ledger.upload_of(connection, video_id)
        if upload is None or upload.completed_at is not None:
            return None
        return await self._landed(upload)

    async def read(self, file: LandedFile, first: int, end: int) -> AsyncIterator[bytes]:
        """The bytes `first` to `end`, the last not included. Raises PartsMissing, also when they were sent again meanwhile."""
        there = {part.number: part for part in file.parts}
        plan = Plan(max(file.size_bytes, end), file.part_size_bytes)
        while first < end:
            number = first // file.part_size_bytes + 1
            begin = plan.offset_of(number)
            part = there.get(number)
            if part is None or begin + part.size_bytes <= first:
                raise PartsMissing(file.upload_id, [number])
            async for chunk in self._part_from(file, part, first - begin, end - begin):
                first += len(chunk)
                yield chunk

    async def _part_from(self, file: LandedFile, part: ArrivedPart, first: int, end: int) -> AsyncIterator[bytes]:
        position = 0
        async for chunk in self._parts.read_part(file.upload_id, part):
            useful = chunk[max(0, first - position) : max(0, end - position)]
            position += len(chunk)
            if useful:
                yield useful
            if position >= end:
                return

    async def _landed(self, upload: Upload) -> LandedFile:
        plan = Plan(upload.size_bytes, upload.part_size_bytes)
        arrived = await self._parts.arrived(upload.id)
        fitting = tuple(part for part in arrived if not upload.size_bytes or part.size_bytes <= _most_of(plan, part.number))
        return LandedFile(upload.video_id, upload.id, upload.size_bytes, upload.part_size_bytes, fitting, upload.creator)


def _most_of(plan: Plan, number: int) -> int:
    return plan.size_of(number) if number in plan.numbers() else -1
