"""Counting views: in memory, written to the catalogue every few seconds; no viewer waits for it.

A view is an answer of the playback API that says where a video plays. What a killed process had not written is forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from headwater.runtime.logs import Log
from headwater.runtime.metrics import counter
from origin.catalogue.views import add_views, forget_views

FLUSH_S: Final = 5.0
KEEP_S: Final = 366 * 86400.0  # the longest `within` that the settings allow
MOST_UNWRITTEN: Final = 100_000  # a catalogue that is away for long costs views, not memory
SWEEP_EVERY: Final = 720  # flushes: once an hour

VIEWS = counter("headwater_playback_views_total", "Answers of the playback API that said where a video plays.")


class Views:
    def __init__(self, catalogue: AsyncEngine, log: Log, *, clock: Callable[[], float] = time.time) -> None:
        self._catalogue = catalogue
        self._log = log
        self._clock = clock
        self._unwritten: Counter[VideoId] = Counter()

    def seen(self, video_id: VideoId) -> None:
        VIEWS.inc()
        if len(self._unwritten) < MOST_UNWRITTEN or video_id in self._unwritten:
            self._unwritten[video_id] += 1

    async def keep(self) -> None:
        """Writes what was counted, for ever."""
        while True:
            for _ in range(SWEEP_EVERY):
                await asyncio.sleep(FLUSH_S)
                await self.flush()
            await forget_views(self._catalogue, self._clock() - KEEP_S)

    async def flush(self) -> None:
        unwritten, self._unwritten = self._unwritten, Counter()
        if not unwritten:
            return
        try:
            await add_views(self._catalogue, unwritten, self._clock())
        except SQLAlchemyError as error:
            self._log.warning("views are not written yet", error=str(error))
            self._unwritten += unwritten
