"""An upload by its video's id, for a creator who may touch it; and one request at a time for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from origin.catalogue import ledger
from origin.catalogue.engine import reading
from origin.catalogue.ledger import Upload
from origin.uploads.creator import Creator
from origin.uploads.refusal import Refusal, UploadRefused


async def find_upload(catalogue: AsyncEngine, creator: Creator, video_id: VideoId) -> Upload:
    """Raises UploadRefused."""
    async with reading(catalogue) as connection:
        upload = await ledger.upload_of(connection, video_id)
    if upload is None:
        detail = f"there is no video {video_id}; an unfinished upload may have been collected"
        raise UploadRefused(Refusal.NO_SUCH_VIDEO, detail)
    if not creator.may_touch(upload.creator):
        cure = "show a token of that creator, or one with the scope manage"
        raise UploadRefused(Refusal.NOT_YOURS, f"the upload of {video_id} was begun by {upload.creator}; {cure}")
    return upload


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    displaced: asyncio.Event | None = None  # of the request whose turn it is


class Turns:
    """One request at a time for each video in this process; the catalogue's transactions decide between processes.

    A newcomer displaces the request whose turn it is: that one's client has lost its connection, or it would not have come back.
    What it had sent is stored, and it ends.
    """

    def __init__(self) -> None:
        self._queues: dict[VideoId, _Queue] = {}

    @asynccontextmanager
    async def take(self, video_id: VideoId) -> AsyncIterator[asyncio.Event]:
        """Yields the event that says that somebody else wants a turn."""
        queue = self._queues.setdefault(video_id, _Queue())
        queue.waiting += 1
        if queue.displaced is not None:
            queue.displaced.set()
        try:
            await queue.lock.acquire()
        finally:
            queue.waiting -= 1
            self._drop_unused(video_id, queue)
        queue.displaced = asyncio.Event()
        if queue.waiting:
            queue.displaced.set()
        try:
            yield queue.displaced
        finally:
            queue.displaced = None
            queue.lock.release()
            self._drop_unused(video_id, queue)

    def _drop_unused(self, video_id: VideoId, queue: _Queue) -> None:
        if not queue.waiting and not queue.lock.locked():
            self._queues.pop(video_id, None)
