from __future__ import annotations

import asyncio
import os
import signal

import pytest

from headwater.cli.interrupt import run_interruptible


async def swallows(times: int) -> None:
    """Goes on after so many cancellations."""
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


@pytest.mark.parametrize("times", [0, 1, 3])
def test_an_interrupt_ends_work_that_swallows_cancellations(times: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_interruptible(swallows(times))


def test_work_that_ends_gives_its_result() -> None:
    assert run_interruptible(asyncio.sleep(0, "done")) == "done"
