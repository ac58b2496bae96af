"""One process is one node: it starts, serves until SIGTERM or SIGINT, drains, and ends."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import uvloop

from headwater.runtime.enrolment.identity import Identity
from headwater.runtime.enrolment.joining import Joining, enrols
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.logs import Log, configure_logs
from headwater.runtime.nodetoken import read_token
from headwater.runtime.snapshots import SnapshotFollower
from headwater.runtime.tasks import Supervised
from headwater.runtime.workerplace import WorkerPlace
from headwater.settings.deployment import Deployment

EXIT_CANNOT_START = 78  # EX_CONFIG of sysexits.h: starting again without a change is of no use
FIRST_SNAPSHOT_S = 3.0


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What a node is given: who it is, its config as the file says it, its own folder, and its log.

    `config` is that file; only control reads it again, and without it takes `deployment` as final. `worker` is the place of a
    process that is one of several of its node. `identity` is its certificate, where nodes enrol.
    """

    name: str
    deployment: Deployment
    log: Log
    config: Path | None = None
    worker: WorkerPlace | None = None
    identity: Identity | None = None

    @property
    def folder(self) -> Path:
        """The node's own data."""
        return self.deployment.data / "nodes" / self.name

    @property
    def token(self) -> str:
        return read_token(self.deployment.data, self.name)


NodeMain = Callable[[NodeContext], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def following_snapshots(context: NodeContext) -> AsyncIterator[SnapshotFollower]:
    """The node's follower, started; it has asked control once, or waited for it long enough."""
    keeps = context.worker is None or context.worker.index == 0  # one writer of the node's file is enough
    follower = SnapshotFollower(
        context.deployment,
        context.name,
        context.token,
        context.folder,
        context.log,
        keeps=keeps,
        identity=context.identity,
    )
    async with Supervised(context.log) as tasks:
        tasks.start("follow-snapshots", follower.follow)
        keep_identity(context, tasks, renews=keeps)
        await follower.first_answer(FIRST_SNAPSHOT_S)
        yield follower


def keep_identity(context: NodeContext, tasks: Supervised, *, renews: bool) -> None:
    """Has the node's certificate renewed, or what another process of the node renews taken up."""
    if context.identity is None:
        return
    if renews:
        joining = Joining(context.name, context.deployment, context.folder, context.token, context.log)
        tasks.start("keep-certificate", partial(joining.keep, context.identity))
    else:
        tasks.start("watch-certificate", context.identity.watch)


async def joined(context: NodeContext) -> NodeContext:
    """The context with the node's identity, where nodes enrol. Waits for a control that is away. Raises CannotStart."""
    if not enrols(context.deployment, context.name):
        return context
    joining = Joining(context.name, context.deployment, context.folder, context.token, context.log)
    return replace(context, identity=await joining.first())


def run_node(
    main: NodeMain, name: str, deployment: Deployment, config: Path | None = None, worker: WorkerPlace | None = None
) -> int:
    """Runs the node until it is told to stop. Returns the exit status."""
    log = configure_logs(name)
    context = NodeContext(name, deployment, log if worker is None else log.bind(worker=worker.index), config, worker)
    try:
        context.folder.mkdir(parents=True, exist_ok=True)
        uvloop.run(_until_signal(main, context))
    except CannotStart as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_CANNOT_START
    except PermissionError as error:
        print(f"{name}: {error.filename} cannot be written; change `data` in the config, or its owner.", file=sys.stderr)
        return EXIT_CANNOT_START
    return 0


async def _until_signal(main: NodeMain, context: NodeContext) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if context.worker is None:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    else:  # Ctrl-C reaches the whole terminal's group, and a SIGHUP of a terminal that closes too: the parent decides
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    joining = asyncio.create_task(joined(context), name="join")
    stopped = asyncio.create_task(stop.wait(), name="stopped")
    try:
        await asyncio.wait((joining, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not joining.done():
            return  # told to stop while it waited for control
        context = joining.result()
    finally:
        for task in (joining, stopped):
            task.cancel()
        await asyncio.gather(joining, stopped, return_exceptions=True)
    async with main(context):
        gc.collect()
        gc.freeze()  # what the start made lives as long as the node: no later collection need look at it
        context.log.info("serving")
        await stop.wait()
        context.log.info("draining")
    context.log.info("stopped")
