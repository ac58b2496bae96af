"""Beginning an upload: is there room, which plan, and the one transaction that makes it. Whatever dialect it is to arrive by."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VIDEO_ID_BYTES, VideoId, video_id_from_bits
from headwater.runtime.metrics import counter
from headwater.settings.origin import Uploads
from origin.catalogue import ledger
from origin.catalogue.engine import reading, writing
from origin.catalogue.ledger import NewUpload, NewVideo, Remembered
from origin.catalogue.schema import Dialect, Form
from origin.objects.parts import PartStore
from origin.uploads.creator import Creator
from origin.uploads.limits import Held, check_room
from origin.uploads.planning import Plan, plan_stream, plan_upload
from origin.uploads.refusal import Refusal, UploadRefused

UPLOADS = counter("headwater_uploads_total", "Uploads by what became of them.", ["outcome"])
BEGUN = counter("headwater_uploads_begun_total", "Uploads begun, by the dialect that they arrive by.", ["dialect"])


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What the creator called the request, and the digest of what it said."""

    key: str
    request_sha256: str

    def of(self, creator: Creator) -> IdempotencyKey:
        """The key as it is kept: two creators who draw the same one do not meet."""
        if creator.name is None:
            return self
        return IdempotencyKey(hashlib.sha256(f"{creator.name}\n{self.key}".encode()).hexdigest(), self.request_sha256)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for. `video` makes the row for an id that is drawn here; `said` it wants to be told again.

    `instead_of_bytes` are those of pieces which go once the video is made of them.
    """

    video: Callable[[VideoId], NewVideo]
    dialect: Dialect = Dialect.PARTS
    form: Form = Form.WHOLE
    part_size: int | None = None
    said: str | None = None
    instead_of_bytes: int = 0


class Beginning:
    def __init__(
        self,
        catalogue: AsyncEngine,
        parts: PartStore,
        limits: Uploads,
        *,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._catalogue = catalogue
        self._parts = parts
        self._limits = limits
        self._clock = clock
        self._random_bytes = random_bytes

    async def begin(self, creator: Creator, wanted: Wanted, key: IdempotencyKey | None = None) -> VideoId:
        """A new upload, or the one that `key` stands for already. Raises UploadRefused."""
        video = wanted.video(video_id_from_bits(self._random_bytes(VIDEO_ID_BYTES)))
        plan = self._plan(wanted, video.size_bytes)
        key = key.of(creator) if key is not None else None
        if (known := await self._remembered(key)) is not None:
            return known
        new = NewUpload(video, plan.part_size_bytes, creator.name, wanted.dialect, wanted.form, wanted.said)
        try:
            await self._insert(new, key, wanted.instead_of_bytes)
        except IntegrityError:
            # The same key came twice at once and the other request was first.
            if (first := await self._remembered(key)) is None:
                raise
            return first
        UPLOADS.labels("begun").inc()
        BEGUN.labels(wanted.dialect.value).inc()
        return video.id

    def check_size(self, size_bytes: int) -> None:
        """Whether a size that is told late may be. Raises UploadRefused."""
        plan_stream(max(1, size_bytes), self._limits)

    def _plan(self, wanted: Wanted, size_bytes: int) -> Plan:
        if wanted.dialect is Dialect.PARTS:
            return plan_upload(size_bytes, wanted.part_size, self._limits)
        return plan_stream(size_bytes, self._limits)

    async def _insert(self, new: NewUpload, key: IdempotencyKey | None, instead_of_bytes: int) -> None:
        now = self._clock()
        free_bytes = await self._parts.free_bytes()
        async with writing(self._catalogue) as connection:
            held = Held(*await ledger.held(connection, new.creator))
            held = replace(held, all_bytes=held.all_bytes - instead_of_bytes)
            check_room(new.video.size_bytes, held, free_bytes, self._limits)
            await ledger.begin_upload(connection, new, self._random_bytes(16).hex(), now)
            if key is not None:
                await ledger.remember_key(connection, key.key, Remembered(key.request_sha256, new.video.id), now)

    async def _remembered(self, key: IdempotencyKey | None) -> VideoId | None:
        if key is None:
            return None
        async with reading(self._catalogue) as connection:
            remembered = await ledger.remembered_key(connection, key.key)
        if remembered is None:
            return None
        if remembered.request_sha256 != key.request_sha256:
            detail = "this Idempotency-Key was used for a request that said something else; draw a new key for a new video"
            raise UploadRefused(Refusal.KEY_REUSED, detail)
        UPLOADS.labels("begun_again").inc()
        return remembered.video_id
