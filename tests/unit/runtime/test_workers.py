"""The parent of a node's workers: what it tells them until they have heard it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from aiohttp import web

from headwater.runtime.workerplace import CALL_HEADER, CALL_TAKE_OVER, process_socket
from headwater.runtime.workers import Worker

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(path: Path, answer: Answer) -> AsyncIterator[None]:
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    try:
        yield
    finally:
        await runner.cleanup()


def worker_at(folder: Path, index: int) -> Worker:
    """A worker that answers at its sockets in `folder`, if somebody does."""
    exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    return Worker(index, cast("subprocess.Popen[bytes]", None), process_socket(folder, index, index), exited)


async def test_a_worker_is_told_to_take_over_the_disk_until_it_has_heard_it(tmp_path: Path) -> None:
    worker, asked = worker_at(tmp_path, 1), 0

    async def busy_at_first(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += request.headers.get(CALL_HEADER) == CALL_TAKE_OVER
        if asked == 1:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=204 if asked > 2 else 500)

    async with answering(worker.socket, busy_at_first):
        await worker.take_over()
    assert asked == 3


async def test_a_worker_that_has_ended_is_told_no_more(tmp_path: Path) -> None:
    worker = worker_at(tmp_path, 1)
    telling = asyncio.create_task(worker.take_over())
    await asyncio.sleep(0)
    worker.exited.set_result(0)
    async with asyncio.timeout(5):
        await telling
