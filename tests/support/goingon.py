"""What goes on beside a test, viewers who watch say: until the test's part is over, and loud when it ended before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def going_on(endless: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Runs coroutines that never end by themselves; one that did fails the test with its exception."""
    tasks = [asyncio.create_task(one) for one in endless]
    try:
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
