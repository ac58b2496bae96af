"""Who gets the next free place on a worker: a pure rule, and the gate that applies it.

The law, in this order:
1. The first window of every video, with the probe that it needs, comes before everything else of any video. Of these, what is
   nearest to being playable goes first.
2. Then comes what viewers of that window see next: the first SOON_S of every video, or a clip would stop after four seconds,
   until a film's task ends. It never takes the last place that is kept for windows.
3. Else videos take turns: the one that was served longest ago goes next, with what it needs first. So a long film never blocks a
   clip, however many tasks it has waiting.
4. What is made before its upload is complete gets a place only where nothing else waits: it may be for nothing.
5. What a video that is wholly made gets besides (AV1, its quality's measurement) goes last of all.

Urgent tasks have places of their own: an ordinary task runs for many seconds, and nobody waits for its end to see a first
picture. Ordinary tasks run at a lower priority of the system (BACKGROUND), so that an urgent one gets the processors at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum

from headwater.rules.names import VideoId
from origin.transcode.programs.child import BACKGROUND, LAST_OF_ALL

SOON_S = 30.0
KEPT_FOR_WINDOWS = 1  # of the places for urgent tasks


class Stage(IntEnum):
    """Lower goes first."""

    FIRST_WINDOW = 0
    PROBE = 1
    SOON = 2  # the rest of the first SOON_S, picture and sound
    EARLY = 3  # the rest of the sound, which is made faster than it is heard, and the poster
    PLAYABLE = 4  # the rest of the first rung
    STILLS = 5
    OTHER_RUNGS = 6
    UNCOMPLETED = 7  # the first window of an upload that may never be complete
    BESIDES = 8  # what a video that is wholly made gets besides; only while nothing else of any video waits


OUT_OF_TURN = frozenset({Stage.FIRST_WINDOW, Stage.PROBE, Stage.SOON, Stage.UNCOMPLETED})  # no video's turn is used up by them


def is_urgent(stage: Stage) -> bool:
    return stage <= Stage.PROBE


def niceness(stage: Stage) -> int:
    if is_urgent(stage):
        return 0
    if stage is Stage.SOON:
        return BACKGROUND // 2
    return LAST_OF_ALL if stage is Stage.BESIDES else BACKGROUND


@dataclass(frozen=True, slots=True)
class Ticket:
    """A task that waits for a worker. `order` counts requests; `stage` says how soon it is needed."""

    video_id: VideoId
    stage: Stage
    order: int


@dataclass(frozen=True, slots=True)
class Lanes:
    """Places that are free: `ordinary` for any task, `express` for urgent ones alone."""

    ordinary: int
    express: int


def choose(waiting: Sequence[Ticket], served: dict[VideoId, int], free: Lanes) -> Ticket | None:
    """The ticket to serve next, if any may be. `served` says when each video's turn was last, as a growing count."""
    if free.ordinary > 0 or free.express > 0:
        urgent = [ticket for ticket in waiting if is_urgent(ticket.stage)]
        if urgent:
            return min(urgent, key=lambda ticket: (ticket.stage, ticket.order))
    soon = [ticket for ticket in waiting if ticket.stage is Stage.SOON]
    if soon and (free.ordinary > 0 or free.express > KEPT_FOR_WINDOWS):
        return min(soon, key=lambda ticket: ticket.order)
    if free.ordinary > 0 and waiting:
        # All that videos need takes turns; what may be for nothing, and what is made besides, goes last, in this order.
        return min(
            waiting, key=lambda one: (max(one.stage, Stage.OTHER_RUNGS), served.get(one.video_id, -1), one.stage, one.order)
        )
    return None


class FairGate:
    """Lets tasks in by `choose`: at most `places` at once, and `express` more of the urgent ones."""

    def __init__(self, places: int, express: int = 0) -> None:
        self._free = self._size = Lanes(places, express)
        self._waiting: dict[Ticket, asyncio.Future[bool]] = {}
        self._served: dict[VideoId, int] = {}
        self._orders = 0
        self._turns = 0

    def resize(self, places: int, express: int) -> None:
        """Workers came or went. What is inside stays; nothing is let in while more is inside than there are places."""
        self._free = Lanes(self._free.ordinary + places - self._size.ordinary, self._free.express + express - self._size.express)
        self._size = Lanes(places, express)
        self._admit()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, video_id: VideoId, stage: Stage) -> AsyncIterator[None]:
        """Waits for a place and holds it."""
        ticket = Ticket(video_id, stage, self._orders)
        self._orders += 1
        admitted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = admitted
        self._admit()
        try:
            express = await admitted
        except asyncio.CancelledError:
            self._waiting.pop(ticket, None)
            if not admitted.cancelled():
                self._leave(express=admitted.result())  # let in and cancelled in the same moment
            raise
        try:
            yield
        finally:
            self._leave(express=express)

    def forget(self, video_id: VideoId) -> None:
        """The video is done; a later one of the same id starts anew."""
        self._served.pop(video_id, None)

    def _leave(self, *, express: bool) -> None:
        self._take(-1, express=express)
        self._admit()

    def _take(self, count: int, *, express: bool) -> None:
        free = self._free
        self._free = Lanes(free.ordinary, free.express - count) if express else Lanes(free.ordinary - count, free.express)

    def _admit(self) -> None:
        while (ticket := choose(list(self._waiting), self._served, self._free)) is not None:
            if self._waiting[ticket].cancelled():
                del self._waiting[ticket]  # its task has not run since, so it still stood here
                continue
            urgent = is_urgent(ticket.stage)
            if ticket.stage not in OUT_OF_TURN:
                self._served[ticket.video_id] = self._turns
                self._turns += 1
            # What is only soon needed leaves the places for windows alone where it can.
            express = self._free.express > 0 if urgent else self._free.ordinary <= 0
            self._take(1, express=express)
            self._waiting.pop(ticket).set_result(express)
