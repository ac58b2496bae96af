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
from headwater.settings.deployment import admin_address
from headwater.settings.world import world_of

LOOK_S: Final = 1.0
LOADS_S: Final = 10.0
TIMEOUT_S: Final = 5.0


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
    """Every edge's `/load`, all at once. One that cannot be read has no news."""
    edges = [name for name, _, _ in plane.deployment.edges()]
    asked = (read_admin(session, admin_address(plane.deployment, name), "/load", TIMEOUT_S) for name in edges)
    for name, text in zip(edges, await asyncio.gather(*asked), strict=True):
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
