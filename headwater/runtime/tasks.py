"""Background tasks that are watched: one that fails is logged, counted and started again after a growing pause."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from headwater.runtime.logs import Log
from headwater.runtime.metrics import counter

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0

TASK_FAILURES = counter("headwater_task_failures_total", "Background tasks that ended by an error and were restarted.", ["task"])


class Supervised(AbstractAsyncContextManager["Supervised"]):
    """A set of endless tasks. Leaving the context cancels them and waits for their end."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._leaving = False
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work()` until the context ends. When it returns by itself it is done; when it raises it is run again."""
        task = asyncio.create_task(self._run(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            started = asyncio.get_running_loop().time()
            try:
                return await work()
            except Exception:
                TASK_FAILURES.labels(name).inc()
                if self._leaving:  # an error while it gave things back: in place of the cancellation, which nobody repeats
                    self._log.exception("task failed as it ended", task=name)
                    return None
                self._log.exception("task failed", task=name, restart_in_s=pause_s)
            if asyncio.get_running_loop().time() - started > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leaving = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
