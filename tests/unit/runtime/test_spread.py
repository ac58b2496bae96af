"""Asking many nodes one a moment after another."""

from __future__ import annotations

import asyncio
import time

from headwater.runtime.spread import spread_out


async def test_the_answers_come_in_the_order_of_those_asked_however_long_each_takes() -> None:
    async def ask(whom: int) -> int:
        await asyncio.sleep((3 - whom) * 0.01)
        return whom * 10

    assert await spread_out(ask, [1, 2, 3], within_s=0.01) == [10, 20, 30]
    assert await spread_out(ask, [], within_s=1.0) == []


async def test_one_that_never_answers_keeps_no_other_from_being_asked() -> None:
    asked: list[int] = []
    all_asked = asyncio.Event()

    async def ask(whom: int) -> None:
        asked.append(whom)
        if len(asked) == 3:
            all_asked.set()
        await asyncio.Event().wait()

    asking = asyncio.create_task(spread_out(ask, [1, 2, 3], within_s=0.03))
    await asyncio.wait_for(all_asked.wait(), 5)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert asked == [1, 2, 3]


async def test_many_are_asked_within_the_time_that_there_is() -> None:
    times: list[float] = []

    async def ask(whom: int) -> None:
        times.append(time.monotonic())

    began = time.monotonic()
    await spread_out(ask, range(50), within_s=0.05, gap_s=10.0)
    assert len(times) == 50
    assert times[-1] - began < 5
    assert len({round(at, 3) for at in times}) > 5  # not in one moment
