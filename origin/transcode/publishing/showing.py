"""What viewers can play of one video so far: objects first, then playlists, then the manifests over everything shown.

Nothing shown is ever taken back: after a restart, a manifest is written again only once it names all that viewers saw before.

A rendition is of one encoding. One that was begun before a restart goes on only if what is there already is byte for byte what
would be put there now: another build of ffmpeg, another preset or another machine may encode otherwise, and sizes, byte ranges
and headers of the one would stand beside pictures of the other. Else it is begun anew under another name (`360p-1f0c3a`), whole,
and the playlist at the old address names the new files from then on, so that players which follow it go on. Segments keep their
numbers and times, and what players fetched of the old ones stays what it was.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from headwater.runtime.logs import Log
from origin.transcode.encoding.plan import Timing
from origin.transcode.graph.tasks import PackagedRung
from origin.transcode.metrics import BEGUN_ANEW
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
        self._unsure: set[Rung] = set()  # begun before a restart, and not compared yet
        self._moved: dict[Rung, str] = {}  # begun anew: the folder of its files
        self._before: Mapping[Rung, Rendition] = {}  # what was whole before, as it was described then
        self._needed: Rung | None = None  # the sound, without which nothing is shown
        self._began_at = clock()
        self._lock = asyncio.Lock()
        self._growth = asyncio.Lock()

    async def resume(
        self,
        ready: Collection[Rung],
        growing: Collection[Rung],
        sound: Rung | None,
        before: Mapping[Rung, Rendition] | None = None,
    ) -> None:
        """`ready` were whole before this run, `growing` may have been begun; `sound` belongs to every video rung.

        `before` is what is known of those that were whole.
        """
        self._wanted = set(ready)
        self._before = before or {}
        self._needed = sound
        for rung in growing:
            if rung not in self._wanted and (listed := await self._publisher.segments_listed(*rung)):
                self._listed[rung] = listed
                self._put[rung] = listed + 1
                self._unsure.add(rung)
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
            rendition = await self._put_files(rendition, begun.files)
            await self._publisher.playlist(rendition)
            self._listed[rung] = len(rendition.segments)
            await self._show([rendition])

    async def finish(self, packaged: Sequence[PackagedRung]) -> list[Rendition]:
        """Shows whole renditions, all in one manifest. Returns them as they are shown."""
        shown = []
        for item in packaged:
            rendition = item.rendition
            rung = (rendition.codec, rendition.rung)
            if self.is_ready(rung):
                rendition = self._before.get(rung, rendition)
            else:
                rendition = await self._put_files(rendition, item.files[:-1])
                await self._publisher.playlist(rendition)
            shown.append(rendition)
        await self._show(shown)
        return shown

    async def _put_files(self, rendition: Rendition, files: Sequence[tuple[str, Path]]) -> Rendition:
        """Puts what is not there yet. The rendition, with the folder that it has."""
        rung = (rendition.codec, rendition.rung)
        if rung in self._unsure:
            self._unsure.discard(rung)
            if not await self._publisher.are(*rung, files[: self._put[rung]]):
                self._moved[rung] = f"{rendition.rung}-{await asyncio.to_thread(_name_of, [file for _, file in files[:2]])}"
                self._put[rung] = 0
                BEGUN_ANEW.inc()
                self._log.warning("a rung is begun anew: it was begun with another encoder", rung=rendition.path)
        rendition = replace(rendition, folder=self._moved.get(rung, ""))
        await self._publisher.files(rendition.codec, rendition.folder or rendition.rung, files[self._put.get(rung, 0) :])
        self._put[rung] = len(files)
        return rendition

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


def _name_of(files: Sequence[Path]) -> str:
    """Of the header and the first segment: the same again after another restart."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:6]
