"""The caching reverse proxy. `CachingProxy.serve` is the path of a request, top to bottom; edge and shield are its roles.

`STEPS` names the path in order; docs/life-of-a-request.md draws it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from aiohttp import HttpVersion10, HttpVersion11, web

from headwater.cacheproxy.ahead.prefetching import Prefetcher
from headwater.cacheproxy.ahead.warming import Warmer
from headwater.cacheproxy.answers.answering import Answering, asked_control
from headwater.cacheproxy.answers.delivery import cors_fields, hidden_fields
from headwater.cacheproxy.answers.explaining import explained
from headwater.cacheproxy.answers.gatewayerrors import GATEWAY_REASON
from headwater.cacheproxy.answers.passing import Invalidation, Passing
from headwater.cacheproxy.answers.sliceanswering import SliceAnswering
from headwater.cacheproxy.bucketcount import count_bytes
from headwater.cacheproxy.exchange import Exchange, read_exchange
from headwater.cacheproxy.fills.fillorders import FillOrder
from headwater.cacheproxy.fills.fillregistry import Fills
from headwater.cacheproxy.fills.orders import fill_order, probing, slice_order
from headwater.cacheproxy.fills.parents import TROUBLE_FIELD, ParentClient
from headwater.cacheproxy.fills.pieces import Piece
from headwater.cacheproxy.front.accesslog import AccessLog
from headwater.cacheproxy.front.children import Children
from headwater.cacheproxy.front.gate import Gate
from headwater.cacheproxy.front.tally import tally_of
from headwater.cacheproxy.metrics import IN_FLIGHT, REFUSALS, WORKER_ASKS
from headwater.cacheproxy.roles import OwnAnswer, Refused, Role, Site, SpeakingRole
from headwater.cacheproxy.siblings import SiblingRole, Siblings, as_of_this_node
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.store import Store
from headwater.cacheproxy.store.variants import Variants
from headwater.rules.cachestatus import CacheStatus, Outcome
from headwater.rules.fields import field
from headwater.rules.prefetching import without_cmcd
from headwater.rules.requesttarget import BadTarget, TargetRefusal, origin_form, parse_target
from headwater.rules.slices import unknown_slice_key
from headwater.runtime.enrolment.identity import Identity
from headwater.runtime.httpsite import SERVER_NAME
from headwater.runtime.logs import Log
from headwater.runtime.problems import PROBLEM_JSON, problem_body
from headwater.runtime.tls import ParentCertificate
from headwater.runtime.trace import TRACEPARENT
from headwater.settings.cache import CacheSettings
from headwater.settings.snapshot import Snapshot

STEPS: Final = ("read", "admit", "authorise", "key", "look up", "reuse, revalidate or fill", "plan", "deliver", "record")
METHODS: Final = ("GET", "HEAD", "OPTIONS")  # of a signed property; an ordinary site takes any
_VERSIONS: Final = (HttpVersion11, HttpVersion10)
CLIENT_GONE: Final = 499  # in logs and metrics: the client left before it was answered


class CachingProxy:
    """One node's proxy. `snapshot` gives the current view; it is read once per request."""

    def __init__(
        self,
        node: str,
        role: Role,
        settings: CacheSettings,
        store: Store,
        client: ParentClient,
        snapshot: Callable[[], Snapshot],
        token: str,
        log: Log,
        access_log: AccessLog,
        gate: Gate | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self._node = node
        self._role = role
        self._sibling_role = SiblingRole(role)
        self._speaking = role if isinstance(role, SpeakingRole) else None
        self._siblings = siblings
        self._settings = settings
        self._client = client
        self._store = store
        self._snapshot = snapshot
        self._token = token
        self._access_log = access_log
        self._gate = gate
        self.fills = Fills(client, store, settings, log, siblings)
        self.warmer = Warmer(node, role, store, self.fills, client, snapshot, token, store.share, siblings)
        self.prefetcher = Prefetcher(role, settings, store, self.fills, self.warmer, gate, siblings)
        self._children = Children()
        self._policy = settings.slices.policy if settings.slices else None
        slices = SliceAnswering(node, store, self.fills, self._slice_order, settings)
        self._answering = Answering(node, Variants(store), self.fills, self._order, settings.negative_ttl, slices)
        self._passing = Passing(client, Invalidation(store, self.fills, siblings), store, token)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request of a client."""
        exchange = read_exchange(request, self._snapshot(), self._node)  # read
        exchange.hidden = hidden_fields(self._role.tier)
        return await self._serve(exchange)

    async def serve_worker(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers another worker of this node, for a key that this one owns."""
        exchange = read_exchange(request, self._snapshot(), self._node)
        as_of_this_node(exchange)
        return await self._serve(exchange)

    async def _serve(self, exchange: Exchange) -> web.StreamResponse:
        request = exchange.request
        with IN_FLIGHT.track_inprogress():
            try:
                site = self._admit(exchange)
                if request.method == "OPTIONS" and site.settings.signed:
                    return await _answer_preflight(exchange, site)
                key = self._key(exchange, site, self._authorise(exchange, site))
                own = None if self._speaking is None or exchange.for_worker else self._speaking.own_answer(exchange)
                if own is not None:
                    return await _answer_oneself(exchange, own)
                return await self._respond(exchange, site, key)
            except Refused as refused:
                return await _refuse(exchange, refused)
            except ConnectionError:
                exchange.cut_off = exchange.cut_off or "client_gone"
                return web.Response(status=CLIENT_GONE)  # to nobody: the server finds the connection closed
            finally:
                self._record(exchange)

    def troubles(self) -> dict[str, str]:
        """The parents that real requests did not reach of late, and the children that leave their answers."""
        return self._client.troubles() | self._children.troubles()

    async def explain(self, key: str) -> dict[str, Any]:
        """What a request for `key` would meet now."""
        running = self.fills.running(key)
        return await explained(key, self._role, self._snapshot(), self._store, running, self._client, self._settings.negative_ttl)

    def _admit(self, exchange: Exchange) -> Site:
        """The client's limits, the target and the property, or why this node does not serve them."""
        if self._gate is not None and not exchange.for_worker:
            self._gate.admit(exchange.request, exchange.client)
        if exchange.request.version not in _VERSIONS:
            raise Refused(505, "version_unsupported", "HTTP/1.1 and HTTP/1.0 are spoken here")
        try:
            exchange.target = parse_target(origin_form(exchange.request.raw_path, exchange.request.headers.get("Host")))
        except BadTarget as error:
            raise Refused(414 if error.refusal is TargetRefusal.TOO_LONG else 400, error.refusal, str(error)) from error
        if self._node in _members(field(exchange.fields, "cdn-loop")):
            raise Refused(508, "loop_detected", f"the request came back to {self._node}: its parents form a loop")
        site = self._role_towards(exchange).admit(exchange.request, exchange.target, exchange.snapshot)
        if site.settings.signed and exchange.method not in METHODS:
            raise Refused(
                405, "method_not_allowed", f"{exchange.method} is not possible here", headers={"Allow": ", ".join(METHODS)}
            )
        exchange.answer_headers |= cors_fields(site)
        exchange.site = site
        return site

    def _authorise(self, exchange: Exchange, site: Site) -> str:
        """The path of the object that the asker may have."""
        assert exchange.target is not None
        exchange.passage = self._role_towards(exchange).authorise(
            exchange.request, exchange.target, site, exchange.snapshot, exchange.client, exchange.now
        )
        return exchange.passage.path

    def _key(self, exchange: Exchange, site: Site, path: str) -> str:
        """The cache key: property and path. A signed property's query is no part of the object and goes no further; nor does what
        a player says of itself (CMCD) when it fetches from another site."""
        assert exchange.target is not None
        query = "" if site.settings.signed else exchange.target.query
        if query and exchange.method in ("GET", "HEAD"):
            query = without_cmcd(query)
        exchange.key = f"{site.name}{path}{f'?{query}' if query else ''}"
        return exchange.key

    async def _respond(self, exchange: Exchange, site: Site, key: str) -> web.StreamResponse:
        """Media and safe methods come from the store or a fill; whatever else an ordinary site is asked passes through."""
        if exchange.method in ("GET", "HEAD") and not _must_pass(exchange, site):
            return await self._answering.respond(exchange, key)
        self._spare()
        return await self._passing.respond(exchange, key, self._role.parents(key, site, exchange.snapshot))

    def _order(self, exchange: Exchange, key: str, stale: Metadata | None) -> FillOrder:
        assert exchange.site is not None
        self._spare()
        self.prefetcher.give_way()
        parents = self._client.by_readiness(self._role.parents(key, exchange.site, exchange.snapshot))
        order = fill_order(exchange, key, parents, self._token, stale, self._settings.negative_ttl)
        order = probing(order, exchange, self._policy)
        # A worker that was asked as the owner asks no other: two that disagree for a moment must not send a request round.
        owned = key if order.probe is None else unknown_slice_key(key, order.probe.length, order.probe.first)
        owner = None if self._siblings is None or exchange.for_worker else self._siblings.owner_of(owned, exchange.site)
        return order if owner is None else replace(order, parents=self._client.by_readiness((owner, *parents)))

    def _slice_order(self, exchange: Exchange, piece: Piece) -> FillOrder:
        """Of an answer that has begun: overload does not break it off."""
        assert exchange.site is not None
        parents = self._client.by_readiness(self._role.parents(piece.url_key, exchange.site, exchange.snapshot))
        order = fill_order(exchange, piece.url_key, parents, self._token, None, self._settings.negative_ttl)
        asks_owner = self._siblings is not None and not exchange.for_worker
        owner = self._siblings.owner_of(piece.key, exchange.site) if asks_owner and self._siblings is not None else None
        return slice_order(order, piece, owner)

    def _role_towards(self, exchange: Exchange) -> Role | SiblingRole:
        return self._sibling_role if exchange.for_worker else self._role

    def _spare(self) -> None:
        """An overloaded node asks no parent; what it has, it serves."""
        if self._gate is not None:
            self._gate.spare()

    def _record(self, exchange: Exchange) -> None:
        """The request's metrics and its line in the access log."""
        status = exchange.status or CLIENT_GONE
        outcome = exchange.outcome.value
        self.prefetcher.answered(exchange)
        if exchange.for_worker:  # the worker that asked counts and logs the client's request
            WORKER_ASKS.labels(outcome).inc()
            return
        if self._role.tier == "shield" and exchange.passage is not None and exchange.passage.asker is not None:
            self._children.answered(exchange.passage.asker, left=exchange.cut_off == "client_gone")
        tally_of(outcome, status // 100).count(exchange.sent_bytes, exchange.first_byte_s)
        count_bytes(exchange)
        exchange.status = status
        self._access_log.write(exchange)


def _members(value: str | None) -> list[str]:
    """The CDN ids of a CDN-Loop field, without their parameters (RFC 8586 section 2)."""
    return [member.partition(";")[0].strip() for member in (value or "").split(",")]


def _must_pass(exchange: Exchange, site: Site) -> bool:
    """Requests of an ordinary site that the cache must not touch: a GET with a body, and `no-store` (RFC 9111 5.2.1.5)."""
    if site.settings.signed:
        return False
    return exchange.request.can_read_body or "no-store" in asked_control(exchange)


async def _refuse(exchange: Exchange, refused: Refused) -> web.StreamResponse:
    """A problem document (RFC 9457) that names the reason; never cached."""
    exchange.refusal = refused.reason
    exchange.outcome = Outcome.FAILED if refused.status >= 500 else Outcome.REFUSED
    REFUSALS.labels(refused.reason).inc()
    status = CacheStatus(exchange.node, exchange.outcome, detail=refused.reason)
    headers = {
        **exchange.answer_headers,
        **refused.headers,
        "Cache-Control": "no-store",
        "Cache-Status": status.member(),
        "Content-Type": PROBLEM_JSON,
        "Server": SERVER_NAME,
        TRACEPARENT: exchange.trace.header(),
    }
    body = problem_body(refused.status, refused.reason, _title(refused.status), refused.detail)
    if exchange.for_worker and refused.reason.startswith(GATEWAY_REASON):
        headers[TROUBLE_FIELD] = refused.reason.removeprefix(GATEWAY_REASON)
    response = web.Response(status=refused.status, body=body, headers=headers)
    exchange.header_sent(refused.status)
    await response.prepare(exchange.request)
    await response.write_eof()
    exchange.sent_bytes = len(body)
    return response


def _title(status: int) -> str:
    return {
        400: "Bad request",
        403: "Forbidden",
        404: "Not found",
        405: "Method not allowed",
        421: "Misdirected request",
        429: "Too many requests",
        431: "Request header fields too large",
        503: "Service unavailable",
    }.get(status, "Gateway error" if status >= 500 else "Refused")


async def _answer_oneself(exchange: Exchange, own: OwnAnswer) -> web.StreamResponse:
    """What this node says itself: true only now, so nobody stores it."""
    headers = {
        **exchange.answer_headers,
        "Cache-Control": "no-store",
        "Content-Type": own.content_type,
        "Content-Length": str(len(own.body)),
        "Server": SERVER_NAME,
        TRACEPARENT: exchange.trace.header(),
    }
    response = web.StreamResponse(status=200, headers=headers)
    exchange.header_sent(200)
    await response.prepare(exchange.request)
    if exchange.method != "HEAD":
        await response.write(own.body)
        exchange.sent_bytes = len(own.body)
    await response.write_eof()
    return response


async def _answer_preflight(exchange: Exchange, site: Site) -> web.StreamResponse:
    """CORS preflight (Fetch standard): a player may read ranges from any site's page."""
    headers = {"Allow": ", ".join(METHODS), "Server": SERVER_NAME, **exchange.answer_headers}
    if site.settings.cors:
        headers |= {
            "Access-Control-Allow-Methods": "GET, HEAD",
            "Access-Control-Allow-Headers": "Range, If-None-Match, If-Modified-Since, If-Range, traceparent, "
            "CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status",
            "Access-Control-Max-Age": "86400",
        }
    response = web.Response(status=204, headers=headers)
    exchange.header_sent(204)
    await response.prepare(exchange.request)
    await response.write_eof()
    return response


@asynccontextmanager
async def caching_proxy(
    node: str,
    role: Role,
    settings: CacheSettings,
    store: Store,
    snapshot: Callable[[], Snapshot],
    token: str,
    log: Log,
    access_log: AccessLog,
    gate: Gate | None = None,
    parents_tls: ParentCertificate | None = None,
    identity: Identity | None = None,
    siblings: Siblings | None = None,
    keeps_disk: bool = True,
) -> AsyncIterator[CachingProxy]:
    """A proxy with its connections to parents; fills that run at the end are cancelled."""
    await store.start(keeps_disk=keeps_disk)
    async with ParentClient(settings, parents_tls, identity) as client:
        proxy = CachingProxy(node, role, settings, store, client, snapshot, token, log, access_log, gate, siblings)
        try:
            yield proxy
        finally:
            await proxy.prefetcher.close()
            await proxy.fills.close()
            await store.close()
            access_log.close()
