"""Who gets the next worker."""

from __future__ import annotations

import asyncio

from headwater.rules.names import VideoId
from origin.transcode.fair import FairGate, Stage, Ticket, choose

LONG, SHORT = VideoId("long"), VideoId("short")


def test_the_first_window_of_every_video_comes_before_the_second_of_any() -> None:
    waiting = [Ticket(LONG, Stage.PLAYABLE, 0), Ticket(SHORT, Stage.FIRST_WINDOW, 9)]
    assert choose(waiting, {}).video_id == SHORT


def test_videos_take_turns_within_a_stage() -> None:
    waiting = [Ticket(LONG, Stage.PLAYABLE, order) for order in range(100)] + [Ticket(SHORT, Stage.PLAYABLE, 100)]
    assert choose(waiting, {LONG: 5, SHORT: 3}).video_id == SHORT
    assert choose(waiting, {LONG: 5, SHORT: 6}) == waiting[0]


async def test_a_short_video_is_through_before_a_long_one_that_came_first() -> None:
    gate = FairGate(1)
    served: list[VideoId] = []

    async def task(video_id: VideoId) -> None:
        async with gate.place(video_id, Stage.PLAYABLE):
            served.append(video_id)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for video_id in [LONG] * 10 + [SHORT] * 2:
            group.create_task(task(video_id))
    assert served.index(SHORT) == 1
    assert served[:4].count(SHORT) == 2


async def test_a_cancelled_waiter_takes_no_place_with_it() -> None:
    gate = FairGate(1)

    async def hold() -> None:
        async with gate.place(LONG, Stage.PLAYABLE):
            pass

    async with gate.place(SHORT, Stage.PLAYABLE):
        waiter = asyncio.create_task(hold())
        await asyncio.sleep(0)
        assert gate.waiting == 1
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        assert gate.waiting == 0
    await asyncio.wait_for(hold(), 1)


async def test_a_waiter_cancelled_in_the_moment_it_is_let_in_gives_its_place_back() -> None:
    gate = FairGate(1)

    async def hold() -> None:
        async with gate.place(LONG, Stage.PLAYABLE):
            await asyncio.Event().wait()

    async with gate.place(SHORT, Stage.PLAYABLE):
        waiter = asyncio.create_task(hold())
        await asyncio.sleep(0)
    waiter.cancel()  # let in by the line above, not yet run
    await asyncio.gather(waiter, return_exceptions=True)
    async with asyncio.timeout(1), gate.place(SHORT, Stage.PLAYABLE):
        pass
