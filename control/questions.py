"""What nodes ask control: a newer snapshot, and the purges that they missed. Who asks is somebody else's to find out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from control.audit import Asker, AuditLog, What
from control.caches.purging import Purger, order_from
from control.metrics import POLLS
from control.plane import ControlPlane
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.runtime.problems import Problem
from headwater.runtime.purgelines import members_of
from headwater.settings.deployment import nodes_of
from headwater.settings.units import Address

LONGEST_WAIT_S: Final = 60.0
Who = Callable[[web.Request], Awaitable[str]]  # the node that asks; raises Problem


class NodeQuestions:
    """Adds its routes to a site of control's."""

    def __init__(self, plane: ControlPlane, purger: Purger, who: Who, audit: AuditLog) -> None:
        self._plane = plane
        self._purger = purger
        self._who = who
        self._audit = audit

    def add_to(self, app: web.Application) -> web.Application:
        app.router.add_get("/api/v1/snapshot", self._snapshot)
        app.router.add_get("/api/v1/purges", self._purges)
        return app

    def add_orders_to(self, app: web.Application) -> web.Application:
        """What nodes may order at a site that is theirs alone."""
        app.router.add_post("/api/v1/purge", self._purge)
        return app

    async def _snapshot(self, request: web.Request) -> web.Response:
        """The snapshot if it is newer than `after`, as soon as it is; 204 when none came within `wait` seconds."""
        plane = self._plane
        try:
            node = await self._who(request)
        except Problem:
            POLLS.labels("refused").inc()
            raise
        after, wait_s = number_of(request, "after", 0), number_of(request, "wait", 0)
        plane.polled(node, int(after))
        body = await plane.publisher.newer_than(int(after), min(max(wait_s, 0), LONGEST_WAIT_S), node)
        if body is not None and wait_s:
            await self._who(request)  # it may have been revoked while it waited
        POLLS.labels("newer" if body else "unchanged").inc()
        answer = web.Response(status=204) if body is None else web.Response(body=body, content_type="application/json")
        answer.headers["Cache-Control"] = "no-store"
        if plane.publisher.closed:
            answer.force_close()  # the next question is for the next control
        return answer

    async def _purges(self, request: web.Request) -> web.Response:
        """The purges after the sequence `after`, for a node that missed them."""
        node = await self._who(request)
        records = self._purger.missed_by(node, int(number_of(request, "after", 0)))
        members = {"records": [members_of(record) for record in records]}
        return web.json_response(members, headers={"Cache-Control": "no-store"})

    async def _purge(self, request: web.Request) -> web.Response:
        """A video that was deleted goes from all caches: the origin's API says so."""
        node = await self._who(request)
        if nodes_of(self._plane.deployment).get(node) != "origin-api":
            raise Problem(403, "purge-not-yours", "Not yours to purge", "of all nodes only the origin's API may order a purge")
        asker = Asker(node, address=request.remote or "")
        return await purge_by(request, asker, self._plane, self._purger, self._audit, videos_only=True)


async def purge_by(
    request: web.Request, asker: Asker, plane: ControlPlane, purger: Purger, audit: AuditLog, *, videos_only: bool
) -> web.Response:
    """Carries out the purge in the request's body. Raises Problem."""
    try:
        order = order_from(await request.json(), plane.deployment)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "purge-invalid", "Purge invalid", f"the body is no JSON: {error}") from error
    if videos_only and not order.of_a_video:
        detail = "the origin's API purges videos that were deleted, nothing else"
        raise Problem(403, "purge-not-yours", "Not yours to purge", detail)
    done = await purger.purge(order)
    missing = ", ".join(one["node"] for one in done["missing"])
    outcome = f"missing: {missing}" if missing else "acknowledged by all"
    await asyncio.to_thread(audit.note, asker, What.PURGE, order.text, outcome)
    return web.json_response(done, headers={"Cache-Control": "no-store"})


def by_token(plane: ControlPlane) -> Who:
    """Without enrolment: whose token the request shows."""

    async def who(request: web.Request) -> str:
        current = plane.publisher.current
        node = current.node_of_token(request.headers.get(NODE_HEADER, "")) if current else None
        if node is None:
            named = request.query.get("node", "a node that did not say its name")[:64]
            plane.log.warning("a node's question came without a known token", by=named, peer=request.remote)
            detail = f"the {NODE_HEADER} token of {named} is not of this deployment; start the node with its data folder"
            raise Problem(403, "node-unknown", "Node unknown", detail)
        return node

    return who


def elsewhere(listen: Address) -> Who:
    """With enrolment: nobody here."""

    async def who(request: web.Request) -> str:
        detail = (
            f"enrolment is on: nodes ask at https://{listen} with their certificate (control.enrolment); start the node again "
            "with the config of this deployment, and with a token of `headwater enrol token` if it has no certificate yet"
        )
        raise Problem(403, "enrolment-required", "Enrolment required", detail)

    return who


def number_of(request: web.Request, name: str, default: float) -> float:
    """A number of the query that is not negative. Raises Problem."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 2**53:
        raise Problem(400, "query-invalid", "Query invalid", f"{name}={text[:40]!r}: a number that is not negative was expected")
    return number
