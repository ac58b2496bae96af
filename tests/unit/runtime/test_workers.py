"""The parent of a node's workers: what it tells them until they have heard it, and what it says when one does not answer."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import structlog
from aiohttp import web

from headwater.rules.warmorder import Wanted, WarmOrder, WarmOutcome, WarmReport, report_from
from headwater.runtime.node import NodeContext
from headwater.runtime.workerplace import CALL_HEADER, CALL_TAKE_OVER, admin_socket, process_socket
from headwater.runtime.workers import Worker, Workers

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


@pytest.mark.parametrize("ended", [False, True])
async def test_objects_of_a_worker_that_does_not_answer_are_not_reported_as_done(tmp_path: Path, ended: bool) -> None:
    async def part(request: web.BaseRequest) -> web.StreamResponse:
        report = WarmReport()
        report.note("site/a", WarmOutcome.FETCHED, 7, "shield-1")
        return web.json_response({"parts": [report.members()]})

    context = NodeContext("fra-1", cast(Any, None), structlog.get_logger().bind())
    workers = Workers(context, 2, [], tmp_path)
    workers._current = {index: worker_at(tmp_path, index) for index in range(2)}
    if ended:
        workers._current[1].exited.set_result(-9)
    app = web.Application()
    app.router.add_post("/warm", workers.gather)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    order = WarmOrder(tuple(Wanted(f"site/{name}") for name in "abc"))
    try:
        async with (
            answering(admin_socket(workers._current[0].socket), part),
            aiohttp.ClientSession() as client,
            client.post(f"http://127.0.0.1:{runner.addresses[0][1]}/warm", json=order.members()) as answer,
        ):
            assert answer.status == 200
            total = WarmReport()
            for report in (await answer.json())["parts"]:
                total.add(report_from(report))
    finally:
        await runner.cleanup()
    assert total.counts == {WarmOutcome.FETCHED: 1, WarmOutcome.PRESENT: 0, WarmOutcome.FAILED: 2}
    assert total.size_bytes == 7
