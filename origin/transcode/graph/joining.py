"""A worker that joins a remote cluster: one process that runs tasks until it is told to stop or its scheduler is gone."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import Any

import dask
from distributed import Worker

from headwater.settings.origin import SchedulerTls
from origin.transcode.graph.cluster import CONNECT_S, SCHEDULER_SETTINGS, THREADS_PER_WORKER, scheduler_security
from origin.transcode.programs.tools import find_ffmpeg


class CannotJoin(Exception):
    """The cluster cannot be joined, or has been lost; the message names the cure."""


async def join(scheduler: str, places: int, folder: Path, ffmpeg: str, tls: SchedulerTls | None = None) -> None:
    """Works for `scheduler` until SIGTERM or SIGINT. Raises CannotJoin, and NoFfmpeg when there is nothing to work with.

    What runs when it stops is run again by others. `folder` is scratch space of Dask alone.
    """
    await asyncio.to_thread(find_ffmpeg, ffmpeg)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    with dask.config.set({**SCHEDULER_SETTINGS, "distributed.comm.timeouts.connect": f"{CONNECT_S}s"}):
        worker: Any = Worker(  # distributed is hardly typed
            scheduler,
            nthreads=places * THREADS_PER_WORKER,
            memory_limit=0,
            local_directory=str(folder),
            preload=["origin.transcode.graph.tasks"],
            dashboard=False,
            security=scheduler_security(tls),
        )
        try:
            await asyncio.wait_for(worker, CONNECT_S)
        except (OSError, TimeoutError) as error:
            await worker.close()
            raise CannotJoin(f"no Dask scheduler answers at {scheduler} ({error}): start one with `dask scheduler`.") from error
        print(f"working for {scheduler}: {places} tasks at once, and as many urgent ones", flush=True)
        gone, stop = asyncio.create_task(worker.finished()), asyncio.create_task(told.wait())
        await asyncio.wait((gone, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        await worker.close()
        await gone
        if not told.is_set():
            raise CannotJoin(f"the scheduler {scheduler} is gone: start this worker again when it is back.")
