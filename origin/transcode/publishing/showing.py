"""What viewers can play of one video so far: objects first, then playlists, then the manifests over everything shown.

Nothing shown is ever taken back: after a restart, a manifest is written again only once it names all that viewers saw before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from headwater.runtime.logs import Log
from origin.transcode.encoding.plan import Timing
from origin.transcode.graph.tasks import PackagedRung
from origin.transcode.publishing.beginning import Begun
from origin.transcode.publishing.dash import Growing
from origin.transcode.publishing.publish import Publisher
from origin.transcode.publishing.rendition import Rendition, check_renditions

Rung = tuple[str, str]  # (codec, rung)


class Showing:
    """One video's renditions as they grow, finish and join."""

    def __init__(self, publisher: Publisher, timing: Timing, clock: Callable[[], float], log: Log) -> None:
        self._publisher = publisher
        self._timing = timing
        self._clock = clock
        self._log = log
        self._shown: dict[Rung, Rendition] = {}
        self._put: dict[Rung, int] = {}  # files in the store, of this run or an earlier one
        self._listed: dict[Rung, int] = {}  # segments in the playlist that viewers have
        self._wanted: set[Rung] = set()  # what viewers saw before a restart
        self._needed: Rung | None = None  # the sound, without which nothing is shown
        self._began_at = clock()
        self._lock = asyncio.Lock()
        self._growth = asyncio.Lock()

    async def resume(self, ready: Collection[Rung], growing: Collection[Rung], sound: Rung | None) -> None:
        """`ready` were whole before this run, `growing` may have been begun; `sound` belongs to every video rung."""
        self._wanted = set(ready)
        self._needed = sound
        for rung in growing:
            if rung not in self._wanted and (listed := await self._publisher.segments_listed(*rung)):
                self._listed[rung] = listed
                self._put[rung] = listed + 1
                self._wanted.add(rung)

    def already(self, renditions: Sequence[Rendition]) -> None:
        """Viewers have these whole; manifests name them from now on too."""
        self._shown = {(item.codec, item.rung): item for item in renditions}

    def is_ready(self, rung: Rung) -> bool:
        """Whether viewers have all of it, from before."""
        return rung in self._wanted and rung not in self._listed

    @property
    def playable(self) -> bool:
        """Manifests that name a picture, and its sound where there is one, are out."""
        sound_there = self._needed is None or self._needed in self._shown
        return sound_there and not self._wanted and any(item.kind == "video" for item in self._shown.values())

    async def grow(self, begun: Begun) -> None:
        """Shows more of a rendition that is not whole."""
        rendition = begun.rendition
        rung = (rendition.codec, rendition.rung)
        async with self._growth:
            if self.is_ready(rung) or len(rendition.segments) < self._listed.get(rung, 0):
                return
            await self._put_files(rung, begun.files)
            await self._publisher.playlist(rendition)
            self._listed[rung] = len(rendition.segments)
            await self._show([rendition])

    async def finish(self, packaged: Sequence[PackagedRung]) -> None:
        """Shows whole renditions, all in one manifest."""
        for item in packaged:
            rung = (item.rendition.codec, item.rendition.rung)
            if not self.is_ready(rung):
                await self._put_files(rung, item.files[:-1])
                await self._publisher.files(*rung, item.files[-1:])
        await self._show([item.rendition for item in packaged])

    async def _put_files(self, rung: Rung, files: Sequence[tuple[str, Path]]) -> None:
        await self._publisher.files(*rung, files[self._put.get(rung, 0) :])
        self._put[rung] = len(files)

    async def _show(self, renditions: Sequence[Rendition]) -> None:
        async with self._lock:
            shown = {**self._shown, **{(item.codec, item.rung): item for item in renditions}}
            check_renditions(list(shown.values()), self._timing.duration, 1 / self._timing.frame_rate)
            self._shown = shown
            self._wanted -= set(shown)
            if self.playable:
                await self._publisher.manifests(*self._sorted(), self._growing())

    def _sorted(self) -> tuple[list[Rendition], Rendition | None]:
        video = [item for item in self._shown.values() if item.kind == "video"]
        return video, next((item for item in self._shown.values() if item.kind == "audio"), None)

    def _growing(self) -> Growing | None:
        if all(item.whole for item in self._shown.values()):
            return None
        return Growing(self._timing.duration, self._began_at, self._clock())
