"""A node of several workers: the parent process holds the listening socket and keeps the workers running.

It serves nobody itself but its admin address. A worker that dies is started again; SIGHUP replaces the workers one by one, the
new one healthy before the old one drains; SIGTERM drains all. The socket's queue stays open throughout: nobody is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from headwater.rules.bucketload import load_from, summed
from headwater.rules.restarts import History, StayDown, after_exit, describe_exit
from headwater.rules.warmorder import WarmOutcome, WarmReport, order_from, report_from
from headwater.runtime.enrolment.adminsite import relayed_fields, serve_admin
from headwater.runtime.expositions import Exposition, of_node
from headwater.runtime.httpsite import CannotStart, admin_app, problems
from headwater.runtime.logs import Log
from headwater.runtime.metrics import counter, exposition, gauge
from headwater.runtime.node import NodeContext, keep_identity
from headwater.runtime.problems import Problem
from headwater.runtime.tasks import Supervised
from headwater.runtime.workerplace import (
    CALL_HEADER,
    CALL_TAKE_OVER,
    admin_socket,
    last_metrics,
    make_sockets_folder,
    process_socket,
)
from headwater.settings.units import Address

START_S: Final = 60.0
DRAIN_S: Final = 13.5  # a worker lingers and drains for less; who stops a node waits 15 s
ASK_AGAIN_S: Final = 0.03
CALL_TIMEOUT_S: Final = 2.0
FORWARD_TIMEOUT_S: Final = 60.0
GATHER_TIMEOUT_S: Final = 600.0  # an order to fetch objects ends when they are there
_OF_ONE_HOP: Final = ("connection", "keep-alive", "transfer-encoding", "content-length", "server", "expect")
# Of what a node's admin site offers: what each worker has or does a part of.
_GATHERED: Final = (("POST", "/warm"), ("GET", "/holdings"), ("POST", "/hottest"), ("POST", "/log"))
_ORDER: Final = "/warm"
_NOT_HERE: Final = 504  # of one worker; another may know better
_SIGNAL_NAMES: Final = {int(number): number.name for number in signal.Signals}

WORKERS = gauge("headwater_node_workers", "Worker processes of the node that run.")
WORKER_ENDS = counter("headwater_node_worker_ends_total", "Workers that ended, by whether they were replaced or failed.", ["why"])


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process. `exited` becomes its exit status, negative for a signal."""

    index: int
    process: subprocess.Popen[bytes]
    socket: Path
    exited: asyncio.Future[int]
    started: float = field(default_factory=time.monotonic)
    counted: Exposition = field(default_factory=Exposition)

    @property
    def alive(self) -> bool:
        return not self.exited.done()

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            self.process.send_signal(number)

    async def take_over(self) -> None:
        """Tells the worker that the one it replaces has ended, until it says that it has taken over: one that never hears it
        writes nothing to the disk for as long as it runs."""
        while self.alive:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with (
                    _session(self.socket) as session,
                    session.get("http://worker/", headers={CALL_HEADER: CALL_TAKE_OVER}) as answer,
                ):
                    if answer.status == 204:
                        return
            await asyncio.wait([self.exited], timeout=ASK_AGAIN_S)

    async def admin(self, path: str) -> bytes | None:
        """What the worker's admin site says at `path`; None when it does not answer well."""
        try:
            async with _session(admin_socket(self.socket)) as session, session.get(f"http://worker{path}") as answer:
                body = await answer.read()
                return body if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


def _session(path: Path, timeout_s: float = CALL_TIMEOUT_S) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(path)),
        timeout=aiohttp.ClientTimeout(timeout_s),
        trust_env=False,
        auto_decompress=False,
    )


class Workers:
    """The workers of one node by place."""

    def __init__(self, context: NodeContext, count: int, listeners: Sequence[socket.socket], folder: Path) -> None:
        self._context = context
        self._log: Log = context.log
        self._count = count
        self._listeners = listeners
        self._folder = folder
        self._current: dict[int, Worker] = {}
        self._all: set[Worker] = set()
        self._places = [asyncio.Lock() for _ in range(count)]
        self._ended = Exposition()
        self._keepers: list[asyncio.Task[None]] = []
        self._rolling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when all workers are healthy. Raises CannotStart."""
        for index in range(self._count):
            self._current[index] = self._spawn(index, replaces=False)
        for healthy in await asyncio.gather(*map(self._until_healthy, self._current.values())):
            if not healthy:
                raise CannotStart("a worker did not start; see its lines above.")
        self._keepers = [asyncio.create_task(self._keep(index), name=f"worker {index}") for index in range(self._count)]

    def roll(self) -> None:
        """Begins to replace all workers one by one; a roll that runs already is not joined by another."""
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.create_task(self._roll(), name="rolling restart")
        else:
            self._log.warning("a rolling restart is under way already")

    async def stop(self) -> None:
        """Drains all workers; kills those that do not end in time."""
        tasks = [*self._keepers, *([self._rolling] if self._rolling else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(self._end(worker) for worker in list(self._all)))

    def why_not_healthy(self) -> str | None:
        return None if any(worker.alive for worker in self._current.values()) else "no worker runs"

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """An operator's request, answered by whichever worker runs: what it changes on disk holds for all. An object that one
        worker does not have may be in another's memory."""
        body = await request.read()
        workers = [worker for worker in self._current.values() if worker.alive]
        for worker in workers:
            response: web.StreamResponse | None = None
            try:
                async with (
                    _session(admin_socket(worker.socket), FORWARD_TIMEOUT_S) as session,
                    session.request(
                        request.method, f"http://worker{request.raw_path}", headers=_forwarded(request), data=body
                    ) as answer,
                ):
                    if answer.status == _NOT_HERE and worker is not workers[-1]:
                        continue
                    response = web.StreamResponse(status=answer.status)
                    for name, value in answer.headers.items():
                        if name.lower() not in _OF_ONE_HOP:
                            response.headers.add(name, value)
                    await response.prepare(request)
                    async for chunk in answer.content.iter_any():
                        await response.write(chunk)
                    await response.write_eof()
                    return response
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, TimeoutError, OSError):
                if response is not None and response.prepared and request.transport is not None:
                    request.transport.abort()  # the body broke off: nobody must take it for the whole
                    return response
                break
        raise Problem(503, "no-worker", "No worker", "no worker of this node answers; try again")

    async def gather(self, request: web.Request) -> web.StreamResponse:
        """An order that every worker carries out for its own share, or a list that each has a part of: all their `parts`.
        The first answer that is no part, such as a refusal, is the node's. Objects of an order that no worker reports on, because
        theirs does not run, or ended meanwhile, have failed."""
        body = await request.read()
        workers = [worker for worker in self._current.values() if worker.alive]
        answers = await asyncio.gather(*(self._part(worker, request, body) for worker in workers))
        parts: list[object] = []
        for status, content_type, content in answers:
            if status != 200:
                return web.Response(status=status, body=content, content_type=content_type)
            parts += json.loads(content)["parts"]
        if request.path == _ORDER:
            if not parts:
                raise Problem(503, "no-worker", "No worker", "no worker of this node answers; try again")
            left = len(order_from(json.loads(body)).objects) - sum(sum(report_from(part).counts.values()) for part in parts)
            if left > 0:
                parts.append(_left_undone(left).members())
        return web.json_response({"parts": parts})

    async def _part(self, worker: Worker, request: web.Request, body: bytes) -> tuple[int, str, bytes]:
        try:
            async with (
                _session(admin_socket(worker.socket), GATHER_TIMEOUT_S) as session,
                session.request(
                    request.method, f"http://worker{request.raw_path}", headers=_forwarded(request), data=body
                ) as answer,
            ):
                return answer.status, answer.content_type, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._log.warning("a worker has no part of an answer", worker=worker.index, path=request.path, error=repr(error))
            return 200, "application/json", b'{"parts": []}'

    async def metrics(self) -> str:
        """All workers' metrics as one node's."""
        running = [worker for worker in self._all if worker.alive]
        await asyncio.gather(*map(self._count_up, running))
        WORKERS.set(len(running))
        return of_node(exposition()[0].decode(), [worker.counted for worker in running], self._ended)

    async def load(self, request: web.Request) -> web.Response:
        """All workers' bytes by bucket as one node's."""
        answers = await asyncio.gather(*(worker.admin("/load") for worker in self._all if worker.alive))
        loads = [load_from(json.loads(answer)) for answer in answers if answer is not None]
        return web.json_response(summed(loads).members(), headers={"Cache-Control": "no-store"})

    def _spawn(self, index: int, *, replaces: bool) -> Worker:
        context, descriptors = self._context, [listener.fileno() for listener in self._listeners]
        command = [
            sys.executable,
            "-m",
            "headwater",
            "run",
            context.name,
            "-c",
            str(context.config),
            "--parent",
            str(os.getpid()),
        ]
        command += [
            "--worker",
            f"{index}/{self._count}",
            "--listeners",
            ",".join(map(str, descriptors)),
            *(["--replaces"] if replaces else []),
        ]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=descriptors)
        exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        worker = Worker(index, process, process_socket(self._folder, index, process.pid), exited)
        self._all.add(worker)
        pidfd = os.pidfd_open(process.pid)

        def collect() -> None:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)
            self._all.discard(worker)
            self._ended.add(_last_counted(worker).lasting())
            for path in (worker.socket, admin_socket(worker.socket)):
                path.unlink(missing_ok=True)
            exited.set_result(process.wait())

        asyncio.get_running_loop().add_reader(pidfd, collect)
        return worker

    async def _until_healthy(self, worker: Worker) -> bool:
        """Whether the worker came up; False when it ended or is silent for too long."""
        deadline = time.monotonic() + START_S
        while worker.alive and time.monotonic() < deadline:
            if await worker.admin("/healthz") is not None:
                return True
            await asyncio.wait([worker.exited], timeout=ASK_AGAIN_S)
        return False

    async def _keep(self, index: int) -> None:
        """Starts the worker of a place again whenever it ends unasked."""
        history = History()
        while True:
            worker = self._current[index]
            status = await asyncio.shield(worker.exited)
            async with self._places[index]:
                if self._current[index] is not worker:
                    continue  # it was replaced
                WORKER_ENDS.labels("failed").inc()
                step = after_exit(history, status, time.monotonic() - worker.started)
                if isinstance(step, StayDown):
                    self._log.error("a worker cannot start and stays down; SIGHUP tries again", worker=index)
                    return
                history = step.history
                ended = describe_exit(status, _SIGNAL_NAMES)
                self._log.warning("a worker ended and starts again", worker=index, ended=ended, pause_s=step.pause_s)
                await asyncio.sleep(step.pause_s)
                self._current[index] = self._spawn(index, replaces=False)

    async def _roll(self) -> None:
        self._log.info("rolling restart begins", workers=self._count)
        for index in range(self._count):
            if not await self._replace(index):
                self._log.error("rolling restart stopped: the new worker did not start, the old one serves on", worker=index)
                return
        self._log.info("rolling restart done", workers=self._count)

    async def _replace(self, index: int) -> bool:
        """One new worker for an old one. False when the new one did not come up."""
        async with self._places[index]:
            old = self._current[index]
            new = self._spawn(index, replaces=old.alive)
            if not await self._until_healthy(new):
                await self._end(new)
                return False
            self._current[index] = new
            await self._end(old)
            WORKER_ENDS.labels("replaced").inc()
            await new.take_over()
            if self._keepers[index].done():  # it had given up
                self._keepers[index] = asyncio.create_task(self._keep(index), name=f"worker {index}")
            return True

    async def _end(self, worker: Worker) -> None:
        """Drains a worker; kills it when that takes too long."""
        worker.signal(signal.SIGTERM)
        done, _ = await asyncio.wait([worker.exited], timeout=DRAIN_S)
        if not done:
            self._log.warning("a worker did not drain in time and is killed", worker=worker.index)
            worker.signal(signal.SIGKILL)
            await asyncio.shield(worker.exited)

    async def _count_up(self, worker: Worker) -> None:
        """Reads the worker's metrics; those that were read last stay when it does not answer."""
        text = await worker.admin("/metrics")
        if text is not None:
            with contextlib.suppress(ValueError):
                worker.counted = Exposition.read(text.decode())


def _left_undone(count: int) -> WarmReport:
    """Of so many objects that nobody has reported on."""
    report = WarmReport()
    report.counts[WarmOutcome.FAILED] = count
    report.failures.append((f"{count} objects", "their worker does not run, or ended meanwhile"))
    return report


def _forwarded(request: web.Request) -> dict[str, str]:
    return {name: value for name, value in relayed_fields(request).items() if name.lower() not in (*_OF_ONE_HOP, "host")}


def _last_counted(worker: Worker) -> Exposition:
    """What an ended worker had counted: to its very end when it drained, else when it was last asked."""
    file = last_metrics(worker.socket)
    try:
        return Exposition.read(file.read_text())
    except (OSError, ValueError):
        return worker.counted
    finally:
        file.unlink(missing_ok=True)


@asynccontextmanager
async def node_of_workers(
    context: NodeContext, count: int, listeners: Sequence[socket.socket], admin: Address
) -> AsyncIterator[None]:
    """The parent process: serves the node's admin address, holds its listening sockets, and keeps its workers."""
    folder = make_sockets_folder(context.folder)
    for left in folder.iterdir():
        left.unlink()  # of an earlier run, whose workers ended with it
    workers = Workers(context, count, listeners, folder)
    loop = asyncio.get_running_loop()
    try:
        await workers.start()
        loop.add_signal_handler(signal.SIGHUP, workers.roll)
        site = admin_app(workers.why_not_healthy, workers.metrics)
        site.middlewares.append(problems)
        site.router.add_get("/load", workers.load)
        for method, path in _GATHERED:
            site.router.add_route(method, path, workers.gather)
        site.router.add_route("*", "/{path:.*}", workers.forward)
        async with serve_admin(site, admin, context.identity), Supervised(context.log) as tasks:
            keep_identity(context, tasks, renews=False)
            yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        await workers.stop()
        for listener in listeners:
            listener.close()
