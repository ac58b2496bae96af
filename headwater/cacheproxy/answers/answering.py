"""Look up, then reuse, revalidate or fill: how a GET or HEAD comes by its answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from aiohttp import web

from headwater.cacheproxy.answers.delivery import deliver
from headwater.cacheproxy.answers.gatewayerrors import gateway_error
from headwater.cacheproxy.answers.sliceanswering import SliceAnswering
from headwater.cacheproxy.answers.sources import FillSource, StoredSource
from headwater.cacheproxy.exchange import Exchange
from headwater.cacheproxy.fills.fillorders import FillOrder
from headwater.cacheproxy.fills.fillregistry import Fills
from headwater.cacheproxy.fills.fills import Fill
from headwater.cacheproxy.roles import Refused
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.store import Stored
from headwater.cacheproxy.store.variants import Variants
from headwater.rules.bodyplan import SendParts, SendWhole, plan_body
from headwater.rules.cachestatus import CacheStatus, Forwarded, Outcome
from headwater.rules.fields import directives, field
from headwater.rules.fill import FillState
from headwater.rules.freshness import Control, Lifetime, Reuse, decide_reuse, stored_fields, usable_on_error
from headwater.rules.ranges import Single
from headwater.rules.varying import variant_key, vary_names

LOOKUPS_AT_MOST: Final = 3  # an object can be evicted between a 304 and the next look-up; not thrice in a row
FOLLOWED_AT_MOST: Final = 2  # fills that turn out to be about other variants of the URL; then comes one of the request's own
_WITHOUT_BODY: Final = frozenset((304, 412, 416))

# Makes the order for an exchange's object, given the stale copy that a 304 would confirm.
Ordering = Callable[[Exchange, str, Metadata | None], FillOrder]


class Answering:
    """Answers cacheable requests from the store and the fills of one node."""

    def __init__(
        self, node: str, variants: Variants, fills: Fills, order: Ordering, negative_ttl_s: float, slices: SliceAnswering
    ) -> None:
        self._node = node
        self._variants = variants
        self._fills = fills
        self._order = order
        self._negative_ttl_s = negative_ttl_s
        self._slices = slices

    async def respond(self, exchange: Exchange, key: str) -> web.StreamResponse:
        """Answers the exchange for the object `key`. Raises Refused."""
        asked = asked_control(exchange)
        if (piece := self._slices.asked_by_worker(exchange, key)) is not None:
            return await self._slices.respond_worker(exchange, piece)
        for attempt in range(LOOKUPS_AT_MOST):
            stored = await self._variants.find(key, exchange.fields)
            if stored is None and "only-if-cached" in asked:
                raise Refused(504, "not_cached", "the request asks for a stored response and there is none")
            if stored is None:
                answered = await self._fill(exchange, key, None)
            else:
                answered = await self._reuse(exchange, key, stored, asked, confirmed=attempt > 0)
            if answered is not None:
                return answered
        raise Refused(502, "revalidation_unstable", "the object changed faster than it could be read; try again")

    async def _reuse(
        self, exchange: Exchange, key: str, stored: Stored, asked: Control, *, confirmed: bool
    ) -> web.StreamResponse | None:
        """Serves a stored object, asking a parent first where it is stale. None: look it up again.

        One that a parent `confirmed` for this very request serves it, whatever age it arrived with (RFC 9111 section 4.3).
        """
        try:
            life = stored.metadata.lifetime(self._negative_ttl_s)
            age_s = stored.metadata.age_s(exchange.now)
            if confirmed:
                return await self._deliver_stored(exchange, stored, Outcome.REVALIDATED, life, age_s)
            if "only-if-cached" in asked and stored.metadata.is_head:
                await self._slices.require_stored(exchange, stored.metadata)
            reuse = decide_reuse(life, age_s, asked)
            if reuse is Reuse.REVALIDATE:
                if "only-if-cached" in asked:
                    raise Refused(504, "not_cached", "the stored response is not fresh enough for the request")
                exchange.forwarded = Forwarded.REQUEST if decide_reuse(life, age_s) is Reuse.FRESH else Forwarded.STALE
                return await self._fill(exchange, key, stored)
            if reuse is Reuse.STALE_WHILE_REVALIDATE:
                self._revalidate_behind(exchange, key, stored)
            outcome = Outcome.HIT if reuse is Reuse.FRESH else Outcome.STALE
            return await self._deliver_stored(exchange, stored, outcome, life, age_s)
        finally:
            stored.close()

    async def _deliver_stored(
        self, exchange: Exchange, stored: Stored, outcome: Outcome, life: Lifetime, age_s: float
    ) -> web.StreamResponse | None:
        if stored.metadata.is_head:
            return await self._slices.respond_stored(exchange, stored.metadata, outcome, life.fresh_s - age_s, age_s)
        exchange.outcome = outcome
        fwd_status = 304 if outcome is Outcome.REVALIDATED else None
        exchange.cache_status = CacheStatus(
            self._node, outcome, ttl_s=life.fresh_s - age_s, fwd_status=fwd_status, forwarded=exchange.forwarded
        )
        return await _plan_and_deliver(exchange, StoredSource(stored, age_s))

    def _revalidate_behind(self, exchange: Exchange, key: str, stored: Stored) -> None:
        """RFC 5861 section 3: the client gets the stale object now, a fill asks about it meanwhile."""
        if self._fills.running(key) is None:
            with suppress(Refused):  # overloaded: the next client asks
                self._fills.start(self._order(exchange, key, stored.metadata))

    async def _fill(self, exchange: Exchange, key: str, stale: Stored | None, followed: int = 0) -> web.StreamResponse | None:
        """Follows the running fill of the object, or leads a new one. None: a 304 renewed the stored object."""
        running = self._fills.running(key) if followed < FOLLOWED_AT_MOST else None
        fill = running or self._fills.start(self._order(exchange, key, stale.metadata if stale else None))
        leads = running is None
        # A HEAD wants no body, nor does who has the object: what they started is filled for whoever asks next.
        with fill.followed(body=exchange.method != "HEAD") as following:
            await fill.decided.wait()
            if fill.header is None and not _confirms_another(fill, stale):
                return await self._without_header(exchange, fill, stale)
            if fill.header is not None and (leads or _suits(fill, exchange)):
                led = fill.header.outcome or (Outcome.MISS if stale is None else Outcome.REVALIDATED)
                outcome = led if leads else Outcome.COLLAPSED
                answered = await self._deliver_fill(exchange, fill, outcome)
                following.body &= not (fill.to_be_stored and exchange.status in _WITHOUT_BODY)
                return answered
        if fill.header is None:
            return await self._fill(exchange, key, stale, followed + 1)
        return await self._go_alone(exchange, key)

    async def _go_alone(self, exchange: Exchange, key: str) -> web.StreamResponse | None:
        """The leader's response is not for this client, which gets its own."""
        fill = self._fills.start(self._order(exchange, key, None), shared=False)
        with fill.followed():
            await fill.decided.wait()
            if fill.header is None:
                raise gateway_error(fill.machine.trouble)
            return await self._deliver_fill(exchange, fill, Outcome.PASS)

    async def _without_header(self, exchange: Exchange, fill: Fill, stale: Stored | None) -> web.StreamResponse | None:
        """The fill ended before any usable header: confirmed by a 304, or no parent can be had."""
        if fill.machine.state is FillState.CONFIRMED:
            return None
        if stale is not None and self._fills.still_stored(stale.metadata):
            life = stale.metadata.lifetime(self._negative_ttl_s)
            age_s = stale.metadata.age_s(exchange.now)
            if usable_on_error(life, age_s):
                return await self._deliver_stored(exchange, stale, Outcome.STALE_ON_ERROR, life, age_s)
        raise gateway_error(fill.machine.trouble)

    async def _deliver_fill(self, exchange: Exchange, fill: Fill, outcome: Outcome) -> web.StreamResponse | None:
        header = fill.header
        assert header is not None
        if outcome is Outcome.COLLAPSED:  # a fill that others join is shared as what is stored is
            header = replace(header, fields=stored_fields(header.fields))
        if fill.head is not None:
            return await self._slices.respond_begun(exchange, fill.head, header, outcome)
        exchange.outcome = outcome
        exchange.parent = header.parent
        forwarded = outcome not in (Outcome.HIT, Outcome.STALE, Outcome.STALE_ON_ERROR)  # else another worker had it
        exchange.cache_status = CacheStatus(
            self._node,
            outcome,
            fwd_status=header.status if forwarded else None,
            stored=fill.to_be_stored and forwarded,
            forwarded=exchange.forwarded,
        )
        return await _plan_and_deliver(exchange, FillSource(fill, header))


def asked_control(exchange: Exchange) -> Control:
    """The request's cache directives where they are honoured: not for signed media, where any viewer's reload would
    otherwise reach the origin."""
    if exchange.site is None or exchange.site.settings.signed:
        return {}
    control = field(exchange.fields, "cache-control")
    if control is None and "no-cache" in directives(field(exchange.fields, "pragma")):
        return {"no-cache": None}
    return directives(control)


def _confirms_another(fill: Fill, stale: Stored | None) -> bool:
    """Whether a parent has confirmed another variant of the URL than `stale`, of which nothing is known by that."""
    confirmed = fill.order.stale if fill.machine.state is FillState.CONFIRMED else None
    return confirmed is not None and stale is not None and confirmed.key != stale.metadata.key


def _suits(fill: Fill, exchange: Exchange) -> bool:
    """Whether a follower may have the leader's response: it may be stored, and it is the variant that the follower selects."""
    if not fill.shareable or fill.header is None:
        return False
    names = vary_names(fill.header.fields)
    return variant_key("", names, fill.order.asked) == variant_key("", names, exchange.fields)


def _first(part: Single) -> int:
    return part.first


async def _plan_and_deliver(exchange: Exchange, source: StoredSource | FillSource) -> web.StreamResponse:
    plan = plan_body(exchange.method, exchange.fields, source.status, source.fields, source.size, exchange.now)
    if isinstance(plan, SendParts) and not source.goes_back and sorted(plan.parts, key=_first) != [*plan.parts]:
        plan = SendWhole()  # a range may be ignored (RFC 9110 section 14.2)
    return await deliver(exchange, source, plan)
