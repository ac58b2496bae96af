"""All that operators' orders need, opened together: the history, drains and rollout of before the start are in force again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from control.audit import AuditLog
from control.caches.prepositioning import Prepositioning
from control.caches.warming import Warming
from control.config.configfile import ConfigFile
from control.config.draining import Drains
from control.config.history import History
from control.operators.operating import OperatingApi
from control.operators.operations import Operations
from control.operators.tokenbook import TokenBook
from control.plane import ControlPlane
from control.rollouts.rollouts import Rollouts
from control.rollouts.seeing import Seeing
from control.watching.fleet import Fleet
from headwater.runtime.node import NodeContext


@dataclass(frozen=True, slots=True)
class Desk:
    """What the rest of control sees of it: routes for the site, the log of changes, the loop that carries rollouts out."""

    api: OperatingApi
    audit: AuditLog
    rollouts: Rollouts
    drains: Drains
    tokens: TokenBook
    prepositioning: Prepositioning


@asynccontextmanager
async def operators_desk(context: NodeContext, plane: ControlPlane) -> AsyncIterator[Desk]:
    """Open it before the plane begins: what a rollout showed before the start is the first thing to publish."""
    folder, log, clock = context.folder, context.log, plane.clock
    audit = AuditLog(folder, log, clock=clock)
    history, drains = History(folder, log, clock=clock), Drains(folder, log, clock=clock)
    file = ConfigFile(context.config, folder, context.deployment.data, clock=clock)
    async with Fleet(context.token, log, plane.nodes.identity) as fleet:
        seeing = Seeing(plane, fleet)
        rollouts = Rollouts(folder, plane, fleet, seeing, file, history, drains, audit, log, clock=clock)
        operations = Operations(plane, seeing, rollouts, file, history, drains, audit)
        for start in (history.start, drains.start):
            await asyncio.to_thread(start)
        plane.views = await asyncio.to_thread(rollouts.restore)
        await operations.start()
        plane.on_edit, plane.on_keys = operations.edited, operations.keys_changed
        prepositioning = Prepositioning(folder, plane, fleet, audit, log, clock=clock)
        await asyncio.to_thread(prepositioning.start)
        plane.on_load = prepositioning.learn
        api = OperatingApi(operations, rollouts, history, Warming(plane, fleet), audit)
        yield Desk(api, audit, rollouts, drains, TokenBook(folder), prepositioning)
