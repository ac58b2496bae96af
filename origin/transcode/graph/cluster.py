"""The task cluster: an embedded one of worker processes on loopback, or a remote scheduler by address."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import dask
from distributed import Client, KilledWorker, LocalCluster
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from distributed.security import Security

from headwater.runtime.httpsite import CannotStart
from headwater.settings.origin import SchedulerTls, Transcode
from origin.objects.interface import is_disk_full
from origin.transcode.failure import FailureKind, TaskFailed, no_room
from origin.transcode.programs.tools import find_ffmpeg

Result = TypeVar("Result")

THREADS_PER_WORKER = 2  # one for an ordinary task, one for an urgent one; both only wait for a child process
CONNECT_S = 60  # a machine that is busy with other things may take long to start processes
SCHEDULER_SETTINGS = {
    "distributed.scheduler.allowed-failures": 2,  # a task that kills three workers is at fault
    "distributed.worker.memory.target": False,  # results are a few paths; ffmpeg's memory is not the worker's
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.tick.limit": "30s",
    # What Dask looks at all the time for its dashboard, which nobody opens here: it takes more than all else of an idle origin.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,  # no result lies at two workers
}


class ClusterLost(Exception):
    """The scheduler is away or forgot the task. Nobody's fault: the video is taken up again later."""


class TaskCluster:
    """Runs functions on workers. `threads` is how many tasks they run at once; more than these must not be handed over."""

    def __init__(self, client: Any, threads: int) -> None:
        self._client = client
        self.threads = threads

    @property
    def express(self) -> int:
        """Places for urgent tasks alone: half of all, none when there is only one."""
        return self.threads // 2

    @property
    def places(self) -> int:
        return self.threads - self.express

    async def count_threads(self) -> None:
        """Asks a remote scheduler how much its workers run at once; while it has none, one task waits there for the first."""
        known = await self._client.scheduler.identity(n_workers=-1)
        self.threads = max(1, sum(int(worker.get("nthreads", 1)) for worker in known.get("workers", {}).values()))

    async def warm(self, ffmpeg: str) -> None:
        """Lets every worker find its ffmpeg before the first task has to."""
        await self._client.run(warm_ffmpeg, ffmpeg, on_error="ignore")

    async def run(self, key: str, work: Callable[..., Result], *arguments: Any) -> Result:
        """The function's result. Raises TaskFailed (its own, or WORKER_LOST) or ClusterLost."""
        future = self._client.submit(work, *arguments, key=key, pure=False)
        try:
            result: Result = await future
        except KilledWorker as error:
            raise TaskFailed(FailureKind.WORKER_LOST, "The worker process died several times.", str(error)) from error
        except (FutureCancelledError, CommClosedError) as error:
            raise ClusterLost(str(error)) from error
        except (TaskFailed, asyncio.CancelledError):
            raise
        except Exception as error:
            if is_disk_full(error):
                raise no_room(repr(error)) from error
            raise TaskFailed(FailureKind.TOOL_FAILED, "A task ended by an unexpected error.", repr(error)) from error
        finally:
            future.release()
        return result


@asynccontextmanager
async def task_cluster(settings: Transcode, folder: Path) -> AsyncIterator[TaskCluster]:
    """The cluster of the settings; the embedded one ends with the context, and dies with this process."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with dask.config.set(SCHEDULER_SETTINGS):
        if settings.scheduler is not None:
            async with _client(settings.scheduler, scheduler_security(settings.scheduler_tls)) as client:
                cluster = TaskCluster(client, 1)
                await cluster.count_threads()
                yield cluster
        else:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            async with (
                LocalCluster(  # type: ignore[no-untyped-call]  # distributed is not typed
                    n_workers=settings.workers,
                    threads_per_worker=THREADS_PER_WORKER,
                    processes=True,
                    host="127.0.0.1",
                    protocol="tls://",
                    security=True,  # keys of this cluster alone: other users of the machine must not hand tasks in
                    dashboard_address="127.0.0.1:0",
                    scheduler_kwargs={"dashboard": False},
                    memory_limit=0,
                    local_directory=str(folder),
                    preload=["origin.transcode.graph.workerprocess"],
                    silence_logs=logging.CRITICAL,  # a task's failure is logged once, by who tries it again
                    asynchronous=True,
                ) as cluster,
                _client(cluster) as client,
            ):
                yield TaskCluster(client, settings.workers * THREADS_PER_WORKER)


@asynccontextmanager
async def _client(address: Any, security: Security | None = None) -> AsyncIterator[Any]:
    options = {"asynchronous": True, "timeout": CONNECT_S, "set_as_default": False, "security": security}
    client: Any = Client(address, **options)  # type: ignore[no-untyped-call]
    try:
        try:
            await client
        except (OSError, TimeoutError) as error:
            cure = "start one with `dask scheduler`, check scheduler_tls for tls://, or leave the setting out"
            raise CannotStart(f"transcode.scheduler: no Dask scheduler answers at {address} ({error}); {cure}.") from error
        yield client
    finally:
        await client.close()


def scheduler_security(tls: SchedulerTls | None) -> Security | None:
    """What Dask needs for mutual TLS; None for plain TCP."""
    if tls is None:
        return None
    own = {"cert": str(tls.certificate), "key": str(tls.key)}
    return Security(  # type: ignore[no-untyped-call]  # distributed is not typed
        require_encryption=True,
        tls_ca_file=str(tls.authority),
        **{f"tls_{role}_{name}": file for role in ("client", "worker") for name, file in own.items()},
    )


def warm_ffmpeg(setting: str) -> None:
    find_ffmpeg(setting)


def threads_for(settings: Transcode, *, alone: bool = False) -> int:
    """x264 threads of one task, so that the workers together use every processor; all of them where somebody waits for it."""
    return max(1, (os.cpu_count() or 1) // (1 if alone else settings.workers))
