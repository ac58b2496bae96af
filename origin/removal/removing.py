"""Carrying deletions out: whatever a deleted video had in the stores goes, then every cache is told.

The law, each line a step that survives a kill after it and may be repeated, by several origins at once too:

    1  rows      one transaction takes the video away; what is published for it from now on is nobody's
    2  objects   parts, published objects of every tier, and the master, unless another video is made of the same one
    3  purge     control tells every cache; its log reaches those that are away before they serve again
    4  again     when the transcoder that was making the video has let go, or its lease has run out: 2, and 3 if 2 found something
    5  end       the row stays and says that the video is gone

A cache can only be told of what is not in a tier any more, or it would fetch it again: 3 never comes before 2.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.mediapath import video_prefix
from headwater.rules.names import VideoId
from headwater.runtime.logs import Log
from headwater.runtime.metrics import counter, gauge
from origin.catalogue.deletions import Deletion, end_deletion, master_in_use, open_deletions
from origin.catalogue.engine import writing
from origin.objects.interface import ObjectStore, ObjectStoreFailed
from origin.objects.parts import PartStore
from origin.removal.purging import NotPurged

LOOK_S: Final = 0.25  # how soon another origin's deletions, and a transcoder that let go, are seen
PAUSE_S: Final = 2.0  # after a step that could not be done

REMOVED = counter("headwater_origin_removed_objects_total", "Objects of deleted videos that were removed.", ["what"])
ENDED = counter("headwater_origin_deletions_total", "Deletions of videos of which nothing is left.")
OPEN = gauge("headwater_origin_deletions_open", "Deleted videos of which something may still be in a store or a cache.")
FAILED = counter("headwater_origin_deletion_failures_total", "Steps of deletions to be tried again, by what failed.", ["what"])


@dataclass(frozen=True, slots=True)
class Shelves:
    """The stores that may hold something of a video."""

    published: ObjectStore
    masters: ObjectStore
    parts: PartStore


@dataclass(slots=True)
class _Progress:
    """What this process has done of one deletion; forgotten by a kill, and then done again."""

    purged: bool = False
    not_before: float = 0.0
    failed: set[str] = field(default_factory=set)


class Remover:
    """`purge` tells every cache to drop a video; it raises NotPurged while it cannot."""

    def __init__(
        self,
        catalogue: AsyncEngine,
        shelves: Shelves,
        purge: Callable[[VideoId], Awaitable[None]],
        log: Log,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalogue = catalogue
        self._shelves = shelves
        self._purge = purge
        self._log = log
        self._clock = clock
        self._progress: dict[VideoId, _Progress] = {}
        self.wake = asyncio.Event()  # set by whoever begins a deletion here

    async def remove_on(self) -> None:
        """Carries deletions out, for ever."""
        while True:
            self.wake.clear()
            try:
                await self.look_once()
            except SQLAlchemyError as error:
                FAILED.labels("catalogue").inc()
                self._log.warning("deletions wait for the catalogue", error=str(error))
                await asyncio.sleep(PAUSE_S)
            try:
                await asyncio.wait_for(self.wake.wait(), LOOK_S)
            except TimeoutError:
                continue

    async def look_once(self) -> None:
        """One step of each deletion that can go on."""
        found = await open_deletions(self._catalogue)
        OPEN.set(len(found))
        known = {deletion.video_id for deletion in found}
        self._progress = {video_id: done for video_id, done in self._progress.items() if video_id in known}
        for deletion in found:
            progress = self._progress.setdefault(deletion.video_id, _Progress())
            if progress.not_before <= self._clock():
                await self._guarded(deletion, progress)

    async def _guarded(self, deletion: Deletion, progress: _Progress) -> None:
        try:
            await self._go_on(deletion, progress)
        except (ObjectStoreFailed, NotPurged) as error:
            what = "purge" if isinstance(error, NotPurged) else "store"
            progress.not_before = self._clock() + PAUSE_S
            FAILED.labels(what).inc()
            if what not in progress.failed:
                self._log.warning("a deletion waits", video_id=deletion.video_id, waits_for=what, error=str(error))
            progress.failed.add(what)

    async def _go_on(self, deletion: Deletion, progress: _Progress) -> None:
        held = deletion.held_until > self._clock()  # whoever holds it may publish more
        if held and progress.purged:
            return
        if await self._clear(deletion):
            progress.purged = False
        if not progress.purged:
            await self._purge(deletion.video_id)
            progress.purged = True
        if not held and await end_deletion(self._catalogue, deletion.video_id, self._clock()):
            ENDED.inc()
            took_s = round(self._clock() - deletion.begun_at, 3)
            self._log.info("video deleted", video_id=deletion.video_id, by=deletion.deleted_by, took_s=took_s)

    async def _clear(self, deletion: Deletion) -> int:
        """Removes what is there; returns how many published objects went."""
        if deletion.upload_id is not None:
            await self._shelves.parts.discard(deletion.upload_id)
        await self._clear_masters(deletion)
        gone = 0
        async for info in self._shelves.published.list(video_prefix(deletion.video_id)):
            await self._shelves.published.delete(info.key)
            gone += 1
        REMOVED.labels("published").inc(gone)
        return gone

    async def _clear_masters(self, deletion: Deletion) -> None:
        """Its own master, also one of an upload that was not completed, and the one that it was made of."""
        keys = {info.key async for info in self._shelves.masters.list(f"masters/{deletion.video_id}/")}
        if deletion.master_key is not None:
            keys.add(deletion.master_key)
        for key in sorted(keys):
            # Inside the transaction: a second video that is being made of the same file has its row before, or finds it gone.
            async with writing(self._catalogue) as connection:
                if not await master_in_use(connection, key):
                    await self._shelves.masters.delete(key)
                    REMOVED.labels("master").inc()
