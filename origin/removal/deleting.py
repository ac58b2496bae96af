"""Deleting a video: the one transaction after which nobody finds it. Carrying that out is origin/removal/removing.py."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from headwater.runtime.metrics import counter
from origin.catalogue.deletions import begin_deletion, find_deletion
from origin.catalogue.engine import reading, writing
from origin.catalogue.ledger import upload_of
from origin.catalogue.videos import find_video
from origin.uploads.creator import Creator
from origin.uploads.finding import Turns
from origin.uploads.refusal import Refusal, UploadRefused

DELETED = counter("headwater_origin_videos_deleted_total", "Videos deleted, by whom: their creator or a manager.", ["by"])


class Deleting:
    """`turns` are those of the uploads: a part that is on its way ends before its upload does."""

    def __init__(self, catalogue: AsyncEngine, turns: Turns, *, clock: Callable[[], float] = time.time) -> None:
        self._catalogue = catalogue
        self._turns = turns
        self._clock = clock

    async def delete(self, creator: Creator, video_id: VideoId) -> None:
        """Also when it was deleted before. Raises UploadRefused for a video that never was, or is another creator's."""
        if await self._gone(creator, video_id):  # who takes a turn ends the request that has it: strangers get none
            return
        async with self._turns.take(video_id):
            try:
                async with writing(self._catalogue) as connection:
                    begun = await begin_deletion(connection, video_id, creator.name, self._clock())
            except IntegrityError:
                begun = False  # another origin was faster
        if begun:
            DELETED.labels("manager" if creator.manages else "creator").inc()
        elif not await self._gone(creator, video_id):
            raise _no_such(video_id)

    async def _gone(self, creator: Creator, video_id: VideoId) -> bool:
        """Whether it was deleted before. Raises UploadRefused as `delete` does."""
        async with reading(self._catalogue) as connection:
            deletion = await find_deletion(connection, video_id)
            video = await find_video(connection, video_id) if deletion is None else None
            upload = await upload_of(connection, video_id) if video is not None else None
        if deletion is None and video is None:
            raise _no_such(video_id)
        owner = deletion.creator if deletion is not None else upload.creator if upload is not None else None
        if not creator.may_touch(owner):
            cure = "show a token of that creator, or one with the scope manage"
            raise UploadRefused(Refusal.NOT_YOURS, f"video {video_id} was uploaded by {owner}; {cure}")
        return deletion is not None


def _no_such(video_id: VideoId) -> UploadRefused:
    return UploadRefused(Refusal.NO_SUCH_VIDEO, f"there is no video {video_id}")
