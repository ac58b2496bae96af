"""The beginning of a rendition while its parts are made: they land in any order, and what is contiguous from 0 can be shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from headwater.rules.mediapath import INIT
from origin.transcode.failure import inconsistent
from origin.transcode.publishing.rendition import MeasuredRung, Rendition, measure


@dataclass(frozen=True, slots=True)
class Begun:
    """A rendition that is not whole, and its files by published name: its header, then its segments in order."""

    rendition: Rendition
    files: tuple[tuple[str, Path], ...]


class Beginning:
    """Takes finished parts, by their place, of the `parts` there will be. `describe` makes a rendition of what was measured."""

    def __init__(self, parts: int, describe: Callable[[MeasuredRung], Rendition], ceiling_bps: int) -> None:
        self._parts = parts
        self._describe = describe
        self._ceiling_bps = ceiling_bps
        self._landed: dict[int, Path] = {}
        self._joined = 0
        self._measured: MeasuredRung | None = None
        self._init = b""
        self._files: list[tuple[str, Path]] = []
        self._lock = asyncio.Lock()

    async def land(self, place: int, folder: Path) -> Begun | None:
        """What can be shown now, when it is more than before and not yet all. Raises TaskFailed when a part does not join."""
        async with self._lock:
            self._landed[place] = folder
            before = self._joined
            while self._joined in self._landed:
                await asyncio.to_thread(self._join, self._landed.pop(self._joined))
                self._joined += 1
            if self._joined in (before, self._parts) or self._measured is None:
                return None
            rendition = replace(self._describe(self._measured), whole=False, ceiling_bps=self._ceiling_bps)
            return Begun(rendition, tuple(self._files))

    def _join(self, folder: Path) -> None:
        """Reads one part back."""
        files = sorted(folder.glob("segment_*.m4s"))
        before = self._measured
        segments = before.segments if before else ()
        measured = measure(files, folder / INIT, len(segments), sum(segment.ticks for segment in segments))
        init = (folder / INIT).read_bytes()
        if before is None:
            self._init = init
            self._files.append((INIT, folder / INIT))
        elif init != self._init:
            raise inconsistent("two ranges have different headers")
        self._files += [(file.name, file) for file in files]
        facts = (*(before.facts if before else ()), *measured.facts)
        self._measured = replace(measured, segments=(*segments, *measured.segments), facts=facts)
