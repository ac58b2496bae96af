"""The caching reverse proxy. `CachingProxy.serve` is the path of a request, top to bottom; edge and shield are its roles.

`STEPS` names the path in order; docs/life-of-a-request.md draws it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from aiohttp import web

from headwater.cacheproxy.accesslog import AccessLog
from headwater.cacheproxy.delivery import CORS_EXPOSED, deliver
from headwater.cacheproxy.exchange import Exchange, read_exchange
from headwater.cacheproxy.fills import Fill, FillOrder, Fills
from headwater.cacheproxy.metrics import FIRST_BYTE, IN_FLIGHT, REFUSALS, REQUESTS, SENT_BYTES
from headwater.cacheproxy.parents import ParentClient
from headwater.cacheproxy.roles import PROPERTY_HEADER, Refused, Role, Site
from headwater.cacheproxy.sources import FillSource, Source, StoredSource
from headwater.cacheproxy.store import Store, Stored
from headwater.rules.bodyplan import plan_body
from headwater.rules.cachestatus import CacheStatus, Outcome
from headwater.rules.fields import Fields, field
from headwater.rules.fill import FillState, FillTrouble
from headwater.rules.freshness import Reuse, Storability, decide_reuse, usable_on_error
from headwater.rules.requesttarget import BadTarget, parse_target
from headwater.runtime.logs import Log
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.runtime.problems import PROBLEM_JSON, problem_body
from headwater.runtime.trace import TRACEPARENT
from headwater.settings.cache import CacheSettings
from headwater.settings.snapshot import Snapshot

STEPS: Final = ("read", "admit", "authorise", "key", "look up", "reuse, revalidate or fill", "plan", "deliver", "record")
METHODS: Final = ("GET", "HEAD", "OPTIONS")
LOOKUPS_AT_MOST: Final = 3  # an object can be evicted between a 304 and the next look-up; not thrice in a row
CLIENT_GONE: Final = 499  # in logs and metrics: the client left before it was answered

_GATEWAY_TIMEOUTS = frozenset((FillTrouble.NO_HEADER, FillTrouble.STALLED))


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
    ) -> None:
        self._node = node
        self._role = role
        self._settings = settings
        self._store = store
        self._client = client
        self._snapshot = snapshot
        self._token = token
        self._access_log = access_log
        self.fills = Fills(client, store, settings, log)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request."""
        exchange = read_exchange(request, self._snapshot(), self._node)  # read
        with IN_FLIGHT.track_inprogress():
            try:
                site = self._admit(exchange)
                if request.method == "OPTIONS":
                    return await _answer_preflight(exchange, site)
                key = self._key(exchange, site, self._authorise(exchange, site))
                return await self._respond(exchange, key)
            except Refused as refused:
                return await _refuse(exchange, refused)
            except ConnectionError:
                exchange.cut_off = exchange.cut_off or "client_gone"
                return web.Response(status=CLIENT_GONE)  # to nobody: the server finds the connection closed
            finally:
                self._record(exchange)

    def _admit(self, exchange: Exchange) -> Site:
        """The target and the property, or why this node does not serve them."""
        try:
            exchange.target = parse_target(exchange.request.raw_path)
        except BadTarget as error:
            raise Refused(400, error.refusal, str(error)) from error
        if self._node in _members(field(exchange.fields, "cdn-loop")):
            raise Refused(508, "loop_detected", f"the request came back to {self._node}: its parents form a loop")
        site = self._role.admit(exchange.request, exchange.target, exchange.snapshot)
        if exchange.method not in METHODS:
            raise Refused(
                405, "method_not_allowed", f"{exchange.method} is not possible here", headers={"Allow": ", ".join(METHODS)}
            )
        if site.settings.cors:
            exchange.answer_headers["Access-Control-Allow-Origin"] = "*"
            exchange.answer_headers["Access-Control-Expose-Headers"] = CORS_EXPOSED
        exchange.site = site
        return site

    def _authorise(self, exchange: Exchange, site: Site) -> str:
        """The path of the object that the asker may have."""
        assert exchange.target is not None
        exchange.passage = self._role.authorise(
            exchange.request, exchange.target, site, exchange.snapshot, exchange.client, exchange.now
        )
        return exchange.passage.path

    def _key(self, exchange: Exchange, site: Site, path: str) -> str:
        """The cache key: property and path. A signed property's query is no part of the object and goes no further."""
        assert exchange.target is not None
        query = "" if site.settings.signed or not exchange.target.query else f"?{exchange.target.query}"
        exchange.key = f"{site.name}{path}{query}"
        return exchange.key

    async def _respond(self, exchange: Exchange, key: str) -> web.StreamResponse:
        """Look up, then reuse, revalidate or fill."""
        for attempt in range(LOOKUPS_AT_MOST):
            stored = await self._store.look_up(key)
            if stored is None:
                answered = await self._fill(exchange, key, None)
            else:
                answered = await self._reuse(exchange, key, stored, confirmed=attempt > 0)
            if answered is not None:
                return answered
        raise Refused(502, "revalidation_unstable", "the object changed faster than it could be read; try again")

    async def _reuse(self, exchange: Exchange, key: str, stored: Stored, *, confirmed: bool) -> web.StreamResponse | None:
        """Serves a stored object, asking a parent first where it is stale. None: look it up again.

        One that a parent `confirmed` for this very request serves it, whatever age it arrived with (RFC 9111 section 4.3).
        """
        try:
            life = stored.metadata.lifetime(self._settings.negative_ttl)
            age_s = stored.metadata.age_s(exchange.now)
            reuse = decide_reuse(life, age_s)
            if confirmed:
                return await self._deliver_stored(exchange, stored, Outcome.REVALIDATED, age_s, life.fresh_s - age_s)
            if reuse is Reuse.REVALIDATE:
                return await self._fill(exchange, key, stored)
            if reuse is Reuse.STALE_WHILE_REVALIDATE:
                self._revalidate_behind(exchange, key, stored)
            outcome = Outcome.HIT if reuse is Reuse.FRESH else Outcome.STALE
            return await self._deliver_stored(exchange, stored, outcome, age_s, life.fresh_s - age_s)
        finally:
            stored.close()

    async def _deliver_stored(
        self, exchange: Exchange, stored: Stored, outcome: Outcome, age_s: float, ttl_s: float
    ) -> web.StreamResponse:
        exchange.outcome = outcome
        fwd_status = 304 if outcome is Outcome.REVALIDATED else None
        exchange.cache_status = CacheStatus(self._node, outcome, ttl_s=ttl_s, fwd_status=fwd_status)
        return await self._plan_and_deliver(exchange, StoredSource(stored, age_s))

    def _revalidate_behind(self, exchange: Exchange, key: str, stored: Stored) -> None:
        """RFC 5861 section 3: the client gets the stale object now, a fill asks about it meanwhile."""
        if self.fills.running(key) is None:
            self.fills.start(self._order(exchange, key, stored))

    async def _fill(self, exchange: Exchange, key: str, stale: Stored | None) -> web.StreamResponse | None:
        """Follows the running fill of the object, or leads a new one. None: a 304 renewed the stored object."""
        running = self.fills.running(key)
        fill = running or self.fills.start(self._order(exchange, key, stale))
        leads = running is None
        # A HEAD wants no body, so it does not follow: what it started is filled for whoever asks next.
        with nullcontext() if exchange.method == "HEAD" else fill.followed():
            await fill.decided.wait()
            if fill.header is not None and not leads and not fill.shareable:
                return await self._go_alone(exchange, key)
            if fill.header is None:
                return await self._without_header(exchange, fill, stale)
            return await self._deliver_fill(exchange, fill, self._fill_outcome(leads, stale))

    async def _go_alone(self, exchange: Exchange, key: str) -> web.StreamResponse:
        """The leader's response may not be shared, so this client gets its own."""
        fill = self.fills.start(self._order(exchange, key, None), shared=False)
        with fill.followed():
            await fill.decided.wait()
            if fill.header is None:
                raise _gateway_error(fill.machine.trouble)
            return await self._deliver_fill(exchange, fill, Outcome.PASS)

    def _fill_outcome(self, leads: bool, stale: Stored | None) -> Outcome:
        if not leads:
            return Outcome.COLLAPSED
        return Outcome.MISS if stale is None else Outcome.REVALIDATED

    async def _without_header(self, exchange: Exchange, fill: Fill, stale: Stored | None) -> web.StreamResponse | None:
        """The fill ended before any usable header: confirmed by a 304, or no parent can be had."""
        if fill.machine.state is FillState.CONFIRMED:
            return None
        if stale is not None:
            life = stale.metadata.lifetime(self._settings.negative_ttl)
            age_s = stale.metadata.age_s(exchange.now)
            if usable_on_error(life, age_s):
                return await self._deliver_stored(exchange, stale, Outcome.STALE_ON_ERROR, age_s, life.fresh_s - age_s)
        raise _gateway_error(fill.machine.trouble)

    async def _deliver_fill(self, exchange: Exchange, fill: Fill, outcome: Outcome) -> web.StreamResponse:
        header = fill.header
        assert header is not None
        exchange.outcome = outcome
        exchange.parent = header.parent
        stored = header.storability is Storability.STORABLE
        exchange.cache_status = CacheStatus(self._node, outcome, fwd_status=header.status, stored=stored)
        return await self._plan_and_deliver(exchange, FillSource(fill, header))

    async def _plan_and_deliver(self, exchange: Exchange, source: Source) -> web.StreamResponse:
        plan = plan_body(exchange.method, exchange.fields, source.status, source.fields, source.size, exchange.now)
        return await deliver(exchange, source, plan)

    def _order(self, exchange: Exchange, key: str, stale: Stored | None) -> FillOrder:
        """What is asked of a parent: the object, who asks and the trace; nothing of the viewer's."""
        assert exchange.site is not None
        assert exchange.passage is not None
        loop = field(exchange.fields, "cdn-loop")
        fields: Fields = (
            (NODE_HEADER, self._token),
            (PROPERTY_HEADER, exchange.site.name),
            (TRACEPARENT, exchange.trace.header()),
            ("Via", f"1.1 {self._node}"),
            ("CDN-Loop", f"{loop}, {self._node}" if loop else self._node),  # RFC 8586
            ("Accept-Encoding", "identity"),
        )
        parents = self._client.by_readiness(self._role.parents(key, exchange.snapshot))
        return FillOrder(key, key.removeprefix(exchange.site.name), parents, fields, stale.metadata if stale else None)

    def _record(self, exchange: Exchange) -> None:
        """The request's metrics and its line in the access log."""
        status = exchange.status or CLIENT_GONE
        outcome = exchange.outcome.value
        REQUESTS.labels(outcome, f"{status // 100}xx").inc()
        SENT_BYTES.labels(outcome).inc(exchange.sent_bytes)
        if exchange.first_byte_s is not None:
            FIRST_BYTE.labels(outcome).observe(exchange.first_byte_s)
        exchange.status = status
        self._access_log.write(exchange)


def _members(value: str | None) -> list[str]:
    """The CDN ids of a CDN-Loop field, without their parameters (RFC 8586 section 2)."""
    return [member.partition(";")[0].strip() for member in (value or "").split(",")]


def _gateway_error(trouble: FillTrouble | None) -> Refused:
    trouble = trouble or FillTrouble.NO_PARENT
    status = 504 if trouble in _GATEWAY_TIMEOUTS else 502
    return Refused(status, f"parent_{trouble}", "no parent could give the object; try again", headers={"Retry-After": "1"})


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
        TRACEPARENT: exchange.trace.header(),
    }
    body = problem_body(refused.status, refused.reason, _title(refused.status), refused.detail)
    response = web.Response(status=refused.status, body=body, headers=headers)
    exchange.header_sent(refused.status)
    await response.prepare(exchange.request)
    await response.write_eof()
    exchange.sent_bytes = len(body)
    return response


def _title(status: int) -> str:
    return {400: "Bad request", 403: "Forbidden", 404: "Not found", 405: "Method not allowed", 421: "Misdirected request"}.get(
        status, "Gateway error" if status >= 500 else "Refused"
    )


async def _answer_preflight(exchange: Exchange, site: Site) -> web.StreamResponse:
    """CORS preflight (Fetch standard): a player may read ranges from any site's page."""
    headers = {"Allow": ", ".join(METHODS), **exchange.answer_headers}
    if site.settings.cors:
        headers |= {
            "Access-Control-Allow-Methods": "GET, HEAD",
            "Access-Control-Allow-Headers": "Range, If-None-Match, If-Modified-Since, If-Range, traceparent",
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
) -> AsyncIterator[CachingProxy]:
    """A proxy with its connections to parents; fills that run at the end are cancelled."""
    await store.start()
    async with ParentClient(settings) as client:
        proxy = CachingProxy(node, role, settings, store, client, snapshot, token, log, access_log)
        try:
            yield proxy
        finally:
            await proxy.fills.close()
