"""Work in threads that ends before its task does. A thread cannot be cancelled: whoever takes a cancelled task for ended, a
deletion that waits for the transcoder say, would find what the thread wrote afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(running: asyncio.Future[T], undo: Callable[[T], None] | None = None) -> T:
    """What a thread gives. Cancelled, it waits for the thread, however often that is repeated, and only then is cancelled.

    What the thread gave then is nobody's: `undo` gets it, to close it for example.
    """
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                continue
        if not running.cancelled() and running.exception() is None and undo is not None:
            undo(running.result())
        raise
