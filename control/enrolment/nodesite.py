"""Where nodes reach control when enrolment is on: TLS only. Without a certificate they enrol; with one they ask as who it says.

GET  /api/v1/enrolment/authority       the CA's certificate: a node compares it with its token before it shows that
POST /api/v1/enrolment/certificate     {token, node, csr, node_token_sha256} → {certificate}
POST /api/v1/enrolment/renewal         {node, csr, node_token_sha256} → {certificate}, for the one shown
GET  /api/v1/snapshot, /api/v1/purges  as at control's plain address without enrolment
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from aiohttp import web

from control.audit import Asker, AuditLog, What
from control.enrolment.book import BookUnusable
from control.enrolment.metrics import tell_expiries
from control.enrolment.office import EnrolmentOffice
from control.enrolment.refusals import EnrolmentRefused, Refusal
from control.metrics import CERTIFICATES_REFUSED, ENROLMENTS
from headwater.runtime.enrolment.peers import Peer, closing, peer_of
from headwater.runtime.httpsite import problems
from headwater.runtime.logs import Log
from headwater.runtime.problems import Problem

T = TypeVar("T")
LARGEST_BODY_BYTES: Final = 16 * 1024


class NodeSite:
    """Control's site for nodes. `who` is what the routes of others (snapshots, purges) ask for a request's node."""

    def __init__(self, office: EnrolmentOffice, audit: AuditLog, changed: Callable[[], Awaitable[None]], log: Log) -> None:
        self._office = office
        self._audit = audit
        self._changed = changed
        self._log = log

    def app(self) -> web.Application:
        app = web.Application(middlewares=[closing, problems], client_max_size=LARGEST_BODY_BYTES)
        app.router.add_get("/api/v1/enrolment/authority", self._authority)
        app.router.add_post("/api/v1/enrolment/certificate", self._certificate)
        app.router.add_post("/api/v1/enrolment/renewal", self._renewal)
        return app

    async def who(self, request: web.Request) -> str:
        """The node whose certificate the connection shows, as of now. Raises Problem."""
        try:
            return await self._admitted(request)
        except EnrolmentRefused as refused:
            CERTIFICATES_REFUSED.labels(refused.refusal).inc()
            self._log.warning("a node's certificate was refused", why=refused.detail, peer=request.remote)
            raise refused.problem() from refused

    async def _authority(self, request: web.Request) -> web.Response:
        return web.json_response({"authority": self._office.authority.pem.decode("ascii")})

    async def _certificate(self, request: web.Request) -> web.Response:
        members = await self._members(request)

        def enrol() -> tuple[str, bytes]:
            wish = self._office.wish(members)
            return wish.node, self._office.enrol(str(members.get("token", "")), wish)

        node, certificate = await self._counted("enrolled", request, enrol)
        await self._changed()
        asker = Asker(f"node {node}", address=request.remote or "")
        await asyncio.to_thread(self._audit.note, asker, What.ENROL, node, "enrolled")
        return _signed(certificate)

    async def _renewal(self, request: web.Request) -> web.Response:
        members, peer = await self._members(request), _peer(request)

        def renew() -> tuple[str, bytes]:
            if isinstance(peer, EnrolmentRefused):
                raise peer
            wish = self._office.wish(members)
            return wish.node, self._office.renew(peer.identity, wish)

        _, certificate = await self._counted("renewed", request, renew)
        return _signed(certificate)

    async def _counted(self, outcome: str, request: web.Request, work: Callable[[], tuple[str, bytes]]) -> tuple[str, bytes]:
        try:
            done = await asyncio.to_thread(work)
            tell_expiries(await asyncio.to_thread(self._office.ledger))
        except EnrolmentRefused as refused:
            ENROLMENTS.labels(refused.refusal).inc()
            self._log.warning("a certificate was refused", why=refused.detail, reason=refused.refusal, peer=request.remote)
            raise refused.problem() from refused
        except BookUnusable as error:
            ENROLMENTS.labels("unusable").inc()
            self._log.error("no certificate can be given", error=str(error))
            raise Problem(503, "enrolment-unreadable", "Enrolment cannot be read or written", str(error)) from error
        ENROLMENTS.labels(outcome).inc()
        self._log.info("certificate given", of=done[0], how=outcome, peer=request.remote)
        return done

    async def _admitted(self, request: web.Request) -> str:
        peer = _peer(request)
        if isinstance(peer, EnrolmentRefused):
            raise peer
        try:
            return await asyncio.to_thread(self._office.admit, peer.identity)
        except BookUnusable as error:
            raise Problem(503, "enrolment-unreadable", "Enrolment cannot be read", str(error)) from error

    async def _members(self, request: web.Request) -> dict[str, Any]:
        try:
            members = json.loads(await request.read())
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            members = None
        if not isinstance(members, dict):
            refused = EnrolmentRefused(Refusal.REQUEST_INVALID, "a JSON object was expected")
            ENROLMENTS.labels(refused.refusal).inc()
            raise refused.problem()
        return members


def _peer(request: web.Request) -> Peer | EnrolmentRefused:
    """Who shows a certificate that has not expired while its connection was open."""
    peer = peer_of(request)
    if peer is None:
        detail = "this is for enrolled nodes: show the certificate that control has signed"
        return EnrolmentRefused(Refusal.CERTIFICATE_MISSING, detail)
    if time.time() >= peer.expires:
        detail = (
            f"the certificate of {peer.identity.node} has expired while its connection was open; connect again with a new one"
        )
        return EnrolmentRefused(Refusal.CERTIFICATE_EXPIRED, detail)
    return peer


def _signed(certificate: bytes) -> web.Response:
    return web.json_response({"certificate": certificate.decode("ascii")}, headers={"Cache-Control": "no-store"})
