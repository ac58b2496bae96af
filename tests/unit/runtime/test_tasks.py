"""Supervised tasks: what fails is run again, and leaving ends all of them, whatever they do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from headwater.runtime.metrics import value
from headwater.runtime.tasks import Supervised


class Failing:
    """Fails at first, and again when its second run is cancelled."""

    def __init__(self, goes_on: Callable[[], None]) -> None:
        self._goes_on = goes_on
        self.runs = 0

    async def work(self) -> None:
        self.runs += 1
        if self.runs == 1:
            raise OSError("not yet")
        if self.runs > 2:
            return
        self._goes_on()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("cannot give it back")


async def test_a_task_that_fails_runs_again_and_one_that_fails_as_it_is_cancelled_does_not() -> None:
    underway = asyncio.Event()
    failing = Failing(underway.set)
    before = value("headwater_task_failures_total", task="failing")
    async with Supervised(structlog.get_logger("test")) as supervised:
        supervised.start("failing", failing.work)
        await underway.wait()
    assert failing.runs == 2
    assert value("headwater_task_failures_total", task="failing") == before + 2
