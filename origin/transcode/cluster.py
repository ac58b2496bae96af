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

from headwater.runtime.httpsite import CannotStart
from headwater.settings.origin import Transcode
from origin.transcode.failure import FailureKind, TaskFailed

Result = TypeVar("Result")

CONNECT_S = 60  # a machine that is busy with other things may take long to start processes
SCHEDULER_SETTINGS = {
    "distributed.scheduler.allowed-failures": 2,  # a task that kills three workers is at fault
    "distributed.worker.memory.target": False,  # results are a few paths; ffmpeg's memory is not the worker's
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.tick.limit": "30s",
}


class ClusterLost(Exception):
    """The scheduler is away or forgot the task. Nobody's fault: the video is taken up again later."""


class TaskCluster:
    """Runs functions on workers, one at a time each."""

    def __init__(self, client: Any, places: int) -> None:
        self._client = client
        self.places = places

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
            async with _client(settings.scheduler) as client:
                yield TaskCluster(client, _places(client))
        else:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            async with (
                LocalCluster(  # type: ignore[no-untyped-call]  # distributed is not typed
                    n_workers=settings.workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    protocol="tls://",
                    security=True,  # keys of this cluster alone: other users of the machine must not hand tasks in
                    dashboard_address="127.0.0.1:0",
                    scheduler_kwargs={"dashboard": False},
                    memory_limit=0,
                    local_directory=str(folder),
                    preload=["origin.transcode.workerprocess"],
                    silence_logs=logging.CRITICAL,  # a task's failure is logged once, by who tries it again
                    asynchronous=True,
                ) as cluster,
                _client(cluster) as client,
            ):
                yield TaskCluster(client, settings.workers)


@asynccontextmanager
async def _client(address: Any) -> AsyncIterator[Any]:
    client: Any = Client(address, asynchronous=True, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    try:
        try:
            await client
        except (OSError, TimeoutError) as error:
            cure = "start one with `dask scheduler`, or leave the setting out"
            raise CannotStart(f"transcode.scheduler: no Dask scheduler answers at {address} ({error}); {cure}.") from error
        yield client
    finally:
        await client.close()


def _places(client: Any) -> int:
    """Threads of a remote cluster's workers, at least one."""
    workers = client.scheduler_info().get("workers", {}).values()
    return max(1, sum(int(worker.get("nthreads", 1)) for worker in workers))


def threads_for(settings: Transcode) -> int:
    """x264 threads of one task, so that the workers together use every processor."""
    return max(1, (os.cpu_count() or 1) // settings.workers)
