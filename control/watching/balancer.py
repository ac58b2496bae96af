"""The loop that asks edges for their load and keeps the snapshot's steering state true."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Final

import aiohttp

from control.metrics import BUCKETS_PASSED, LOAD_READS
from control.plane import ControlPlane
from control.watching.probing import read_admin
from headwater.rules.bucketload import load_from
from headwater.runtime.enrolment.links import admin_site
from headwater.runtime.spread import spread_out
from headwater.settings.topology import NodeName
from headwater.settings.world import world_of

LOOK_S: Final = 1.0
LOADS_S: Final = 10.0
TIMEOUT_S: Final = 5.0
GAP_S: Final = 0.05  # a busy edge names thousands of buckets: milliseconds to take in


async def balance_loads(plane: ControlPlane) -> None:
    """Looks at ramps once a second and at loads every ten; news is published like any other."""
    due = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:
        while True:
            if time.monotonic() >= due:
                due = time.monotonic() + LOADS_S
                await read_loads(plane, session)
                await asyncio.to_thread(_decide, plane)
            if plane.publisher.current is not None and plane.steering_state() != plane.publisher.current.steering_state:
                plane.announce()
            await asyncio.sleep(LOOK_S)


async def read_loads(plane: ControlPlane, session: aiohttp.ClientSession) -> None:
    """Every edge's `/load`, each learned as it comes. One that cannot be read has no news."""
    deployment = plane.deployment

    async def read(name: NodeName) -> None:
        text = await read_admin(session, admin_site(plane.nodes.identity, deployment, name), "/load", TIMEOUT_S)
        _learn(plane, name, text)

    await spread_out(read, [name for name, _, _ in deployment.edges()], within_s=LOADS_S / 2, gap_s=GAP_S)


def _learn(plane: ControlPlane, name: NodeName, text: str | None) -> None:
    try:
        report = load_from(json.loads(text)) if text is not None else None
    except ValueError as error:
        plane.log.warning("the load of a node cannot be read", of=name, error=str(error))
        report = None
    LOAD_READS.labels("read" if report else "failed").inc()
    if report is not None:
        plane.balance.learn_load(name, report, plane.clock())
        if plane.on_load is not None:
            plane.on_load(name, report)


def _decide(plane: ControlPlane) -> None:
    current = plane.publisher.current
    if current is not None:
        plane.balance.decide(current.deployment, world_of(current))
        state = plane.steering_state()
        for level, passes in (("edge", state.edge_passes), ("pop", state.pop_passes)):
            BUCKETS_PASSED.labels(level).set(sum(map(len, passes.values())))
