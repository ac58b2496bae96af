"""Who gets the next free worker: a pure rule, and the gate that applies it.

The first window of every video comes before the second of any; then what a video needs to be playable; then its other rungs.
Among equals the video that was served longest ago goes first, so that one long video never blocks the short ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum

from headwater.rules.names import VideoId


class Stage(IntEnum):
    """Lower goes first. Rungs after the first one add their place in the publishing order to OTHER_RUNGS."""

    QUICK = 0  # probe and package: milliseconds, and others wait for them
    FIRST_WINDOW = 1
    PLAYABLE = 2
    STILLS = 3
    OTHER_RUNGS = 4


@dataclass(frozen=True, slots=True)
class Ticket:
    """A task that waits for a worker. `order` counts requests; `stage` is a Stage, or higher for later rungs."""

    video_id: VideoId
    stage: int
    order: int


def choose(waiting: Sequence[Ticket], served: dict[VideoId, int]) -> Ticket:
    """The ticket to serve next. `served` says when each video was last served, as a growing count."""
    return min(waiting, key=lambda ticket: (ticket.stage, served.get(ticket.video_id, -1), ticket.order))


class FairGate:
    """Lets at most `places` tasks in at once, in the order of `choose`."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}
        self._served: dict[VideoId, int] = {}
        self._orders = 0
        self._turns = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, video_id: VideoId, stage: int) -> AsyncIterator[None]:
        """Waits for a place and holds it."""
        ticket = Ticket(video_id, stage, self._orders)
        self._orders += 1
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = admitted
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if self._waiting.pop(ticket, None) is None:
                self._leave()  # let in and cancelled in the same moment
            raise
        try:
            yield
        finally:
            self._leave()

    def forget(self, video_id: VideoId) -> None:
        """The video is done; a later one of the same id starts anew."""
        self._served.pop(video_id, None)

    def _leave(self) -> None:
        self._free += 1
        self._admit()

    def _admit(self) -> None:
        while self._free and self._waiting:
            ticket = choose(list(self._waiting), self._served)
            admitted = self._waiting.pop(ticket)
            self._served[ticket.video_id] = self._turns
            self._turns += 1
            self._free -= 1
            admitted.set_result(None)
