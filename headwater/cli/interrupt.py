"""Ctrl-C that always ends a command, in the way the command wants to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

CANCEL_AGAIN_S = 0.2


def run_interruptible(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs `work` to its end. Raises KeyboardInterrupt after SIGINT, once `work` has been cancelled."""
    return asyncio.run(_until_interrupted(work))


async def _until_interrupted(work: Coroutine[Any, Any, Result]) -> Result:
    """One cancellation is not enough: a library that is just finishing an await may swallow it, and the command went on."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        return task.result()
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_S)
    if not task.cancelled():
        task.exception()  # looked at, so that nobody is told of an error on the way out
    raise KeyboardInterrupt
