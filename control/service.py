"""The control node: desired config, health, keys and tokens, published to every node as snapshots."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from control.caches.purging import Purger
from control.enrolment.api import EnrolmentApi
from control.enrolment.nodesite import NodeSite
from control.enrolment.opening import Enrolled, opened_enrolment
from control.operators.api import control_app
from control.operators.desk import Desk, operators_desk
from control.plane import ControlPlane
from control.questions import NodeQuestions, by_token, elsewhere
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
async def _purger(context: NodeContext, plane: ControlPlane) -> AsyncIterator[Purger]:
    purger = Purger(context.folder, context.token, plane, context.log, plane.nodes.identity)
    await asyncio.to_thread(purger.log.start)
    plane.purge_sequence = purger.log.sequence
    async with purger:
        yield purger


@asynccontextmanager
async def _sites(
    context: NodeContext, plane: ControlPlane, purger: Purger, desk: Desk, enrolled: Enrolled | None
) -> AsyncIterator[None]:
    """Control's address for operators, and with enrolment another one for nodes."""
    settings, office = context.deployment.control, enrolled.office if enrolled else None
    api = EnrolmentApi(office, desk.audit, plane.look_at_nodes, plane.clock)
    who = by_token(plane) if settings.enrolment is None else elsewhere(settings.enrolment.listen)
    async with AsyncExitStack() as sites:
        if enrolled is not None and settings.enrolment is not None:
            nodes = NodeSite(enrolled.office, desk.audit, plane.look_at_nodes, context.log)
            questions = NodeQuestions(plane, purger, nodes.who, desk.audit)
            app = questions.add_orders_to(questions.add_to(nodes.app()))
            await sites.enter_async_context(serve_app(app, settings.enrolment.listen, tls=enrolled.identity.server))
        await sites.enter_async_context(serve_app(control_app(plane, purger, desk, who, api, context.token), settings.listen))
        yield


@asynccontextmanager
async def control_node(context: NodeContext) -> AsyncIterator[None]:
    """Serves until the context ends; then all nodes that wait for a snapshot are let go at once."""
    sys.setswitchinterval(THREADS_TAKE_TURNS_S)
    plane = ControlPlane(context)
    async with (
        opened_enrolment(context, plane) as enrolled,
        _purger(context, plane) as purger,
        operators_desk(context, plane) as desk,
        _begun(plane),
        _sites(context, plane, purger, desk, enrolled),
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
