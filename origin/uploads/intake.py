"""Taking a file in: begin, say what arrived, complete. Parts go straight to the object store and never through here.

The law of an upload, each line one step that survives a kill after it and may be repeated:

    begin       1  the rows of video and upload (and what the Idempotency-Key stands for), in one transaction
                2  the object store accepts parts
    complete    3  the parts that arrived are those that were planned
                4  they are written into the ledger
                5  the object store makes them the master object, and drops them; or an identical one is there, and they go
                6  `upload.complete`: upload done, job waiting, video processing, in one transaction

Killed after 5, the parts are gone but the ledger has them, so that a repeated `complete` goes on with 5, which says again
what was made. Only 6 is acknowledged. An upload that never gets there is collected once nothing arrived for long.

Step 1 is origin/uploads/beginning.py, 3 to 6 are origin/uploads/finishing.py; uploads that arrive as a stream through the origin
take the same steps (origin/uploads/streams.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from headwater.settings.origin import Uploads
from origin.catalogue import ledger
from origin.catalogue.engine import reading, writing
from origin.catalogue.ledger import LedgerPart, Upload
from origin.catalogue.saiddigests import say_digests
from origin.catalogue.schema import Dialect, Form, VideoState
from origin.objects.interface import ObjectStore
from origin.objects.parts import ArrivedPart, DigestsUnknown, PartDigests, PartStore
from origin.uploads.beginning import UPLOADS, Beginning, IdempotencyKey, Wanted
from origin.uploads.creator import Creator
from origin.uploads.finding import Turns, find_upload
from origin.uploads.finishing import Finishing, master_key, plan_of
from origin.uploads.planning import is_abandoned
from origin.uploads.refusal import Refusal, UploadRefused

NO_DIGESTS: Final[Mapping[int, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PartState:
    """One part as the creator sees it. `url` is None when nothing more is to be sent, or when its digests have to be said before
    (`sign`); `headers` go with the part's bytes. `sha256` is hex where it is known."""

    number: int
    size_bytes: int
    url: str | None
    arrived: bool
    sha256: str | None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UploadState:
    """`expires_at` is when the URLs of the parts end, Unix seconds."""

    video_id: VideoId
    part_size_bytes: int
    parts: tuple[PartState, ...]
    expires_at: int


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
        **randomness: Any,
    ) -> None:
        self.catalogue = catalogue
        self.parts = parts
        self.limits = limits
        self.clock = clock
        self.turns = Turns()
        self.beginning = Beginning(catalogue, parts, limits, clock=clock, **randomness)
        self.finishing = Finishing(catalogue, parts, masters, clock=clock)
        self._masters = masters

    async def begin(self, creator: Creator, wanted: Wanted, key: IdempotencyKey | None) -> UploadState:
        """A new upload in parts, or the one that `key` stands for already. Raises UploadRefused."""
        return await self.state(creator, await self.beginning.begin(creator, wanted, key))

    async def state(self, creator: Creator, video_id: VideoId) -> UploadState:
        """What arrived, and a fresh URL for each part. Raises UploadRefused."""
        upload = await self._in_parts(creator, video_id)
        expires_at = int(self.clock() + self.limits.url_lifetime)
        if upload.completed_at is not None:
            async with reading(self.catalogue) as connection:
                recorded = await ledger.recorded_parts(connection, upload.id)
            return UploadState(video_id, upload.part_size_bytes, tuple(map(_finished, recorded)), expires_at)
        await self.parts.begin(upload.id)  # again, if a kill came between its row and this
        arrived = {part.number: part for part in await self.finishing.present(upload)}
        if (await find_upload(self.catalogue, creator, video_id)).completed_at is not None:
            await self.parts.discard(upload.id)  # completed meanwhile: what was begun again above is not left behind
        parts = tuple(
            self._part_state(upload, number, arrived.get(number), expires_at, creator.token_id)
            for number in plan_of(upload).numbers()
        )
        return UploadState(video_id, upload.part_size_bytes, parts, expires_at)

    async def sign(self, creator: Creator, video_id: VideoId, said: Mapping[int, PartDigests]) -> UploadState:
        """URLs for these parts that take the bytes with these digests and no others. Raises UploadRefused.

        What is said is kept, so that a part which does not have its SHA-256 when it is first read can be named.
        """
        upload = await self._in_parts(creator, video_id)
        if upload.completed_at is not None:
            raise UploadRefused(Refusal.COMPLETED, f"the upload of {video_id} is complete; nothing more is to be sent")
        plan = plan_of(upload)
        if strange := sorted(number for number in said if number not in plan.numbers()):
            raise UploadRefused(Refusal.NO_SUCH_PART, f"part {strange[0]} is not of this upload, which has {plan.parts} parts")
        async with writing(self.catalogue) as connection:
            await say_digests(connection, upload.id, said)
        await self.parts.begin(upload.id)
        expires_at = int(self.clock() + self.limits.url_lifetime)
        signed = []
        for number, digests in sorted(said.items()):
            try:
                request = await self.parts.signed(upload.id, number, plan.size_of(number), expires_at, digests, creator.token_id)
            except DigestsUnknown as error:
                raise UploadRefused(Refusal.DIGESTS, f"part {number}: {error}") from error
            signed.append(PartState(number, plan.size_of(number), request.url, False, None, request.headers))
        return UploadState(video_id, upload.part_size_bytes, tuple(signed), expires_at)

    async def complete(self, creator: Creator, video_id: VideoId, digests: Mapping[int, str] = NO_DIGESTS) -> VideoState:
        """Makes the master and hands the video to the transcoder. Returns the video's state. Raises UploadRefused.

        `digests` are the creator's SHA-256 (hex) by part number. A store that does not learn them when parts arrive (S3)
        checks them now; the others have checked them, and say so when they differ.
        """
        await self._in_parts(creator, video_id)  # who takes a turn ends the request that has it: strangers get none
        async with self.turns.take(video_id):
            upload = await self._in_parts(creator, video_id)
            if upload.completed_at is None:
                await self.finishing.finish(upload, digests)
            else:
                await self.parts.discard(upload.id)  # of a `complete` that was killed after its last step
        return (await find_upload(self.catalogue, creator, video_id)).state

    async def discard(self, creator: Creator, video_id: VideoId) -> None:
        """Ends an upload that is not completed, and forgets its video. Raises UploadRefused."""
        await find_upload(self.catalogue, creator, video_id)
        async with self.turns.take(video_id):
            upload = await find_upload(self.catalogue, creator, video_id)
            if not await self._forget(upload):
                raise UploadRefused(Refusal.COMPLETED, f"the upload of {video_id} is completed: it is a video now")
        UPLOADS.labels("discarded").inc()

    async def collect_abandoned(self) -> int:
        """Removes uploads to which nothing happened for `keep_unfinished`, with their parts, and what killed processes left.

        Returns how many uploads went.
        """
        await self.parts.sweep(self.limits.keep_unfinished)
        async with reading(self.catalogue) as connection:
            candidates = await ledger.unfinished_uploads(connection, self.clock() - self.limits.keep_unfinished)
        return sum([await self._collect(upload) for upload in candidates])

    async def _collect(self, candidate: Upload) -> bool:
        if not await self._is_abandoned(candidate):
            return False  # who takes a turn ends the request that has it: one that still sends is left alone
        async with self.turns.take(candidate.video_id):
            if not await self._is_abandoned(candidate) or not await self._forget(candidate):
                return False
        UPLOADS.labels("abandoned").inc()
        return True

    async def _is_abandoned(self, upload: Upload) -> bool:
        arrived = await self.parts.arrived(upload.id)
        last_arrived_at = max((part.arrived_at for part in arrived), default=None)
        return is_abandoned(upload.created_at, last_arrived_at, self.clock(), self.limits.keep_unfinished)

    async def _forget(self, upload: Upload) -> bool:
        async with writing(self.catalogue) as connection:
            if not await ledger.forget_upload(connection, upload):
                return False
            # Before the commit: killed here, the row is still there and the next round does it again.
            await self.parts.discard(upload.id)
            if upload.form is not Form.PIECE:
                await self._masters.delete(master_key(upload.video_id))
        return True

    async def _in_parts(self, creator: Creator, video_id: VideoId) -> Upload:
        upload = await find_upload(self.catalogue, creator, video_id)
        if upload.dialect is not Dialect.PARTS:
            detail = f"the upload of {video_id} arrives as a stream ({upload.dialect}): go on with it in that dialect"
            raise UploadRefused(Refusal.NOT_IN_PARTS, detail)
        return upload

    def _part_state(
        self, upload: Upload, number: int, arrived: ArrivedPart | None, expires_at: int, token_id: str | None
    ) -> PartState:
        size_bytes = plan_of(upload).size_of(number)
        here = arrived is not None and arrived.size_bytes == size_bytes
        url = self.parts.part_url(upload.id, number, size_bytes, expires_at, token_id)
        return PartState(number, size_bytes, url, here, (arrived.sha256 or None) if arrived is not None and here else None)


def _finished(part: LedgerPart) -> PartState:
    return PartState(part.number, part.size_bytes, None, True, part.sha256 or None)
