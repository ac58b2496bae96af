"""Taking a file in: begin, say what arrived, complete. Parts go straight to the object store and never through here.

The law of an upload, each line one step that survives a kill after it and may be repeated:

    begin       1  the rows of video and upload (and what the Idempotency-Key stands for), in one transaction
                2  the object store accepts parts
    complete    3  the parts that arrived are those that were planned
                4  they are written into the ledger
                5  the object store makes them the master object, and drops them
                6  `upload.complete`: upload done, job waiting, video processing, in one transaction

Killed after 5, the parts are gone but the ledger has them, so that a repeated `complete` goes on with 5, which says again
what was made. Only 6 is acknowledged. An upload that never gets there is collected once nothing arrived for long.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VIDEO_ID_BYTES, VideoId, video_id_from_bits
from headwater.runtime.metrics import counter
from headwater.settings.origin import Uploads
from origin.catalogue import ledger
from origin.catalogue.engine import reading, writing
from origin.catalogue.ledger import LedgerPart, NewVideo, Remembered, Upload
from origin.catalogue.schema import VideoState
from origin.objects.interface import ObjectInfo, ObjectStore
from origin.objects.parts import ArrivedPart, PartsDamaged, PartsMissing, PartStore
from origin.uploads.creator import Creator
from origin.uploads.planning import Plan, Shortfall, is_abandoned, plan_upload, shortfall
from origin.uploads.refusal import Refusal, UploadRefused

NO_DIGESTS: Final[Mapping[int, str]] = MappingProxyType({})
NUMBERS_NAMED = 20  # of missing parts in the sentence for people; programs get all of them

UPLOADS = counter("headwater_uploads_total", "Uploads by what became of them.", ["outcome"])


@dataclass(frozen=True, slots=True)
class PartState:
    """One part as the creator sees it: `url` is None when nothing more is to be sent; `sha256` is hex where it is known."""

    number: int
    size_bytes: int
    url: str | None
    arrived: bool
    sha256: str | None


@dataclass(frozen=True, slots=True)
class UploadState:
    """`expires_at` is when the URLs of the parts end, Unix seconds."""

    video_id: VideoId
    part_size_bytes: int
    parts: tuple[PartState, ...]
    expires_at: int


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What the creator called the request, and the digest of what it said."""

    key: str
    request_sha256: str


def master_key(video_id: VideoId) -> str:
    """Where the uploaded file lies in the masters store."""
    return f"masters/{video_id}/source"


class Intake:
    """The steps above, over one catalogue, one part store and the store of masters."""

    def __init__(
        self,
        catalogue: AsyncEngine,
        parts: PartStore,
        masters: ObjectStore,
        limits: Uploads,
        *,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._catalogue = catalogue
        self._parts = parts
        self._masters = masters
        self._limits = limits
        self._clock = clock
        self._random_bytes = random_bytes
        self._locks: dict[VideoId, tuple[asyncio.Lock, int]] = {}

    async def begin(
        self, creator: Creator, video: Callable[[VideoId], NewVideo], part_size: int | None, key: IdempotencyKey | None
    ) -> UploadState:
        """A new upload, or the one that `key` stands for already. Raises UploadRefused."""
        drawn = video(video_id_from_bits(self._random_bytes(VIDEO_ID_BYTES)))
        plan = plan_upload(drawn.size_bytes, part_size, self._limits)
        video_id = await self._remembered(key) or await self._insert(creator, drawn, plan, key)
        return await self.state(creator, video_id)

    async def state(self, creator: Creator, video_id: VideoId) -> UploadState:
        """What arrived, and a fresh URL for each part. Raises UploadRefused."""
        upload = await self._upload(creator, video_id)
        expires_at = int(self._clock() + self._limits.url_lifetime)
        if upload.completed_at is not None:
            return self._finished_state(upload, await self._recorded(upload), expires_at)
        arrived = {part.number: part for part in await self._present(upload)}
        parts = tuple(self._part_state(upload, number, arrived.get(number), expires_at) for number in _plan(upload).numbers())
        return UploadState(video_id, upload.part_size_bytes, parts, expires_at)

    async def complete(self, creator: Creator, video_id: VideoId, digests: Mapping[int, str] = NO_DIGESTS) -> VideoState:
        """Makes the master and hands the video to the transcoder. Returns the video's state. Raises UploadRefused.

        `digests` are the creator's SHA-256 (hex) by part number. A store that does not learn them when parts arrive (S3)
        checks them now; the others have checked them, and say so when they differ.
        """
        async with self._alone(video_id):
            upload = await self._upload(creator, video_id)
            if upload.completed_at is not None:
                return upload.state
            parts = await self._parts_to_assemble(upload, digests)
            await self._record(upload, parts)
            master = await self._assemble(upload, parts)
            async with writing(self._catalogue) as connection:
                first = await ledger.complete_upload(connection, upload, master.sha256, master.key, self._clock())
            if first:
                UPLOADS.labels("completed").inc()
        return (await self._upload(creator, video_id)).state

    async def collect_abandoned(self) -> int:
        """Removes uploads to which nothing happened for `keep_unfinished`, with their parts. Returns how many."""
        async with reading(self._catalogue) as connection:
            candidates = await ledger.unfinished_uploads(connection, self._clock() - self._limits.keep_unfinished)
        return sum([await self._collect(upload) for upload in candidates])

    async def _collect(self, candidate: Upload) -> bool:
        async with self._alone(candidate.video_id):
            arrived = await self._parts.arrived(candidate.id)
            last_arrived_at = max((part.arrived_at for part in arrived), default=None)
            if not is_abandoned(candidate.created_at, last_arrived_at, self._clock(), self._limits.keep_unfinished):
                return False
            async with writing(self._catalogue) as connection:
                if not await ledger.forget_upload(connection, candidate):
                    return False
                # Before the commit: killed here, the row is still there and the next round does it again.
                await self._parts.discard(candidate.id)
                await self._masters.delete(master_key(candidate.video_id))
            UPLOADS.labels("abandoned").inc()
            return True

    async def _remembered(self, key: IdempotencyKey | None) -> VideoId | None:
        if key is None:
            return None
        async with reading(self._catalogue) as connection:
            remembered = await ledger.remembered_key(connection, key.key)
        if remembered is None:
            return None
        if remembered.request_sha256 != key.request_sha256:
            detail = "this Idempotency-Key was used for a request that said something else; draw a new key for a new video"
            raise refused(Refusal.KEY_REUSED, detail)
        UPLOADS.labels("begun_again").inc()
        return remembered.video_id

    async def _insert(self, creator: Creator, video: NewVideo, plan: Plan, key: IdempotencyKey | None) -> VideoId:
        now = self._clock()
        upload_id = self._random_bytes(16).hex()
        try:
            async with writing(self._catalogue) as connection:
                await ledger.begin_upload(connection, video, upload_id, plan.part_size_bytes, now, creator.name)
                if key is not None:
                    await ledger.remember_key(connection, key.key, Remembered(key.request_sha256, video.id), now)
        except IntegrityError:
            # The same key came twice at once and the other request was first.
            first = await self._remembered(key)
            if first is None:
                raise
            return first
        UPLOADS.labels("begun").inc()
        return video.id

    async def _upload(self, creator: Creator, video_id: VideoId) -> Upload:
        async with reading(self._catalogue) as connection:
            upload = await ledger.upload_of(connection, video_id)
        if upload is None:
            raise refused(Refusal.NO_SUCH_VIDEO, f"there is no video {video_id}; an unfinished upload may have been collected")
        if not creator.may_touch(upload.creator):
            cure = "show a token of that creator, or one with the scope manage"
            detail = f"the upload of {video_id} was begun by {upload.creator}; {cure}"
            raise refused(Refusal.NOT_YOURS, detail)
        return upload

    async def _recorded(self, upload: Upload) -> list[LedgerPart]:
        async with reading(self._catalogue) as connection:
            return await ledger.recorded_parts(connection, upload.id)

    def _part_state(self, upload: Upload, number: int, arrived: ArrivedPart | None, expires_at: int) -> PartState:
        size_bytes = _plan(upload).size_of(number)
        here = arrived is not None and arrived.size_bytes == size_bytes
        url = self._parts.part_url(upload.id, number, size_bytes, expires_at)
        return PartState(number, size_bytes, url, here, (arrived.sha256 or None) if arrived is not None and here else None)

    def _finished_state(self, upload: Upload, parts: Sequence[LedgerPart], expires_at: int) -> UploadState:
        states = tuple(PartState(part.number, part.size_bytes, None, True, part.sha256 or None) for part in parts)
        return UploadState(upload.video_id, upload.part_size_bytes, states, expires_at)

    async def _present(self, upload: Upload) -> list[ArrivedPart]:
        """What arrived; or what the ledger has when a `complete` was killed after step 5, which drops the parts."""
        await self._parts.begin(upload.id)
        if arrived := await self._parts.arrived(upload.id):
            return arrived
        recorded = await self._recorded(upload)
        return [ArrivedPart(part.number, part.size_bytes, part.sha256, part.arrived_at) for part in recorded]

    async def _parts_to_assemble(self, upload: Upload, digests: Mapping[int, str]) -> list[ArrivedPart]:
        """The parts in order, all of them there with the right size, each with its digest if anyone knows it.

        Raises UploadRefused.
        """
        plan = _plan(upload)
        present = sorted((part for part in await self._present(upload) if part.number in plan.numbers()), key=_number)
        if short := shortfall(plan, ((part.number, part.size_bytes) for part in present)):
            raise _parts_missing(short)
        if differing := [part.number for part in present if part.sha256 and digests.get(part.number, part.sha256) != part.sha256]:
            raise _parts_damaged(differing)
        return [replace(part, sha256=part.sha256 or digests.get(part.number, "")) for part in present]

    async def _record(self, upload: Upload, parts: Sequence[ArrivedPart]) -> None:
        rows = [LedgerPart(part.number, part.size_bytes, part.sha256, part.arrived_at) for part in parts]
        async with writing(self._catalogue) as connection:
            await ledger.record_parts(connection, upload.id, rows)

    async def _assemble(self, upload: Upload, parts: Sequence[ArrivedPart]) -> ObjectInfo:
        """The master. Raises UploadRefused, and the ledger then has no parts: only what is in the store counts."""
        try:
            master = await self._parts.complete(upload.id, master_key(upload.video_id), parts, upload.content_type)
        except PartsMissing as error:
            await self._record(upload, [])
            raise _parts_missing(Shortfall(error.numbers, ())) from error
        except PartsDamaged as error:
            await self._record(upload, [])
            raise _parts_damaged(error.numbers) from error
        if master.size_bytes != upload.size_bytes:
            detail = f"the assembled file has {master.size_bytes} bytes, {upload.size_bytes} were declared; begin a new upload"
            raise refused(Refusal.SIZE_DIFFERS, detail)
        return master

    @asynccontextmanager
    async def _alone(self, video_id: VideoId) -> AsyncIterator[None]:
        """One at a time for each video in this process; the transaction decides between processes."""
        lock, users = self._locks.get(video_id, (asyncio.Lock(), 0))
        self._locks[video_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(video_id)
            if users > 1:
                self._locks[video_id] = (lock, users - 1)


def refused(refusal: Refusal, detail: str, **facts: object) -> UploadRefused:
    return UploadRefused(refusal, detail, facts)


def _plan(upload: Upload) -> Plan:
    return Plan(upload.size_bytes, upload.part_size_bytes)


def _number(part: ArrivedPart) -> int:
    return part.number


def _parts_damaged(numbers: Sequence[int]) -> UploadRefused:
    detail = f"parts {_named(numbers)} do not have the SHA-256 they were sent with; send them again, then complete again"
    return refused(Refusal.PARTS_DAMAGED, detail, damaged=list(numbers))


def _parts_missing(short: Shortfall) -> UploadRefused:
    told = []
    if short.missing:
        told.append(f"parts {_named(short.missing)} have not arrived")
    if short.wrong_size:
        told.append(f"parts {_named(short.wrong_size)} have the wrong size")
    detail = f"{' and '.join(told)}; send them (GET …/upload gives fresh URLs), then complete again"
    return refused(Refusal.PARTS_MISSING, detail, missing=list(short.missing), wrong_size=list(short.wrong_size))


def _named(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:NUMBERS_NAMED]))
    return shown if len(numbers) <= NUMBERS_NAMED else f"{shown} and {len(numbers) - NUMBERS_NAMED} more"
