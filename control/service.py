"""The control node: desired config, health, keys and tokens, published to every node as snapshots."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from control.caches.purging import Purger
from control.operators.api import control_app
from control.operators.desk import operators_desk
from control.plane import ControlPlane
from control.watching.balancer import balance_loads
from headwater.runtime.httpsite import serve_app
from headwater.runtime.node import NodeContext
from headwater.runtime.tasks import Supervised

# Plans, loads and configs are worked out in threads. By default such a thread gives the interpreter up every 5 ms only, and the
# loop has to get it back after each of its system calls: thirty orders to nodes would wait for 150 ms.
THREADS_TAKE_TURNS_S: Final = 0.0005


@asynccontextmanager
async def _begun(plane: ControlPlane) -> AsyncIterator[None]:
    await plane.begin()
    yield


@asynccontextmanager
async def control_node(context: NodeContext) -> AsyncIterator[None]:
    """Serves until the context ends; then all nodes that wait for a snapshot are let go at once."""
    sys.setswitchinterval(THREADS_TAKE_TURNS_S)
    plane = ControlPlane(context)
    purger = Purger(context.folder, context.token, plane, context.log)
    await asyncio.to_thread(purger.log.start)
    plane.purge_sequence = purger.log.sequence
    async with (
        operators_desk(context, plane) as desk,
        _begun(plane),
        purger,
        serve_app(control_app(plane, purger, desk), context.deployment.control.listen),
        Supervised(context.log) as tasks,
    ):
        tasks.start("carry-out-rollouts", desk.rollouts.run)
        tasks.start("fill-at-night", desk.prepositioning.run)
        tasks.start("watch-config", plane.watch)
        tasks.start("check-health", plane.check)
        tasks.start("read-traffic", plane.read_traffic)
        tasks.start("balance-loads", partial(balance_loads, plane))
        tasks.start("publish-snapshots", plane.publish)
        try:
            yield
        finally:
            plane.publisher.close()
