"""Waiting for what another task, thread or process does, where it offers no event: bounded, and loud when it never comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Returns as soon as `condition()` is true; raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the point of this function: there is no event to wait for
            await asyncio.sleep(0.005)
