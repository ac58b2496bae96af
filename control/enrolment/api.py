"""The operators' side of enrolment: tokens made, nodes listed, nodes revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from aiohttp import web

from control.audit import AuditLog, What
from control.enrolment.book import BookUnusable
from control.enrolment.metrics import tell_expiries
from control.enrolment.office import EnrolmentOffice
from control.enrolment.refusals import EnrolmentRefused
from control.enrolment.state import certificates_of
from control.operators.access import operator_of
from control.orderbody import order_invalid, order_members
from headwater.rules.apitokens import Scope
from headwater.runtime.problems import Problem

T = TypeVar("T")
DEFAULT_S: Final = 3600.0
LONGEST_S: Final = 30 * 86400.0
NO_STORE: Final = {"Cache-Control": "no-store"}


class EnrolmentApi:
    """Adds its routes to control's site. `changed` is called after a revocation, so that all nodes hear of it."""

    def __init__(
        self, office: EnrolmentOffice | None, audit: AuditLog, changed: Callable[[], Awaitable[None]], clock: Callable[[], float]
    ) -> None:
        self._kept = office
        self._audit = audit
        self._changed = changed
        self._clock = clock

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/api/v1/enrolment", self._list)
        app.router.add_post("/api/v1/enrolment/token", self._token)
        app.router.add_post("/api/v1/enrolment/revoke", self._revoke)

    async def _list(self, request: web.Request) -> web.Response:
        """{authority, nodes, tokens}: the CA's SHA-256, each node's certificate, and the tokens of the last 30 days."""
        await operator_of(request, Scope.VIEW)
        office, now = self._office(), self._clock()
        ledger = await _done(office.ledger)
        tokens = [
            {
                "id": token.id,
                "node": token.node,
                "made_at": token.made_at,
                "expires_at": token.expires_at,
                "used_at": token.used_at,
                "state": token.state(now),
            }
            for token in ledger.tokens.values()
        ]
        nodes = certificates_of(office.deployment, ledger, now)
        return _answer({"authority": office.authority.fingerprint, "nodes": nodes, "tokens": tokens})

    async def _token(self, request: web.Request) -> web.Response:
        """{node, expires_s?, role?} → {token, node, expires_at}: shown once. `role` is for a node that is yet to come."""
        asker = await operator_of(request, Scope.OPERATE)
        office, asked = self._office(), await order_members(request)
        lasts_s = asked.get("expires_s", DEFAULT_S)
        if isinstance(lasts_s, bool) or not isinstance(lasts_s, int | float) or not 1 <= lasts_s <= LONGEST_S:
            raise order_invalid(f"expires_s: 1 to {LONGEST_S:.0f} seconds were expected")
        node, role = _node(asked), asked.get("role")
        if role is not None and not isinstance(role, str):
            raise order_invalid("role: a text was expected")
        token = await _done(lambda: office.make_token(node, float(lasts_s), role))
        await asyncio.to_thread(self._audit.note, asker, What.ENROL, f"token {token.id} for {node}", "made")
        return _answer({"token": token.text, "node": node, "expires_at": self._clock() + lasts_s}, 201)

    async def _revoke(self, request: web.Request) -> web.Response:
        """{node}: its certificates and tokens count no more, from the next request on."""
        asker = await operator_of(request, Scope.OPERATE)
        office, node = self._office(), _node(await order_members(request))
        await _done(lambda: office.revoke(node))
        tell_expiries(await _done(office.ledger))
        await self._changed()
        await asyncio.to_thread(self._audit.note, asker, What.ENROL, f"certificates of {node}", "revoked")
        return _answer({"node": node, "revoked": True})

    def _office(self) -> EnrolmentOffice:
        if self._kept is None:
            detail = (
                "enrolment is off: set control.enrolment.listen in the config, start control again, then enrol the nodes "
                "(docs/operations.md)"
            )
            raise Problem(409, "enrolment-off", "Enrolment is off", detail)
        return self._kept


async def _done(work: Callable[[], T]) -> T:
    """What blocking work gives; its refusals as problems."""
    try:
        return await asyncio.to_thread(work)
    except EnrolmentRefused as refused:
        problem = refused.problem()
        problem.status = 404 if refused.refusal.value == "enrol-node-unknown" else problem.status
        raise problem from refused
    except BookUnusable as error:
        raise Problem(503, "enrolment-unreadable", "Enrolment cannot be read or written", str(error)) from error


def _answer(members: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(members, status=status, headers=NO_STORE)


def _node(asked: dict[str, Any]) -> str:
    node = asked.get("node")
    if not isinstance(node, str) or not node:
        raise order_invalid("node: a node's name was expected")
    return node
