"""Answering from an object in slices: to clients by its head, to other workers of the node for one slice."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from aiohttp import web

from headwater.cacheproxy.answers.delivery import deliver
from headwater.cacheproxy.answers.gatewayerrors import gateway_error
from headwater.cacheproxy.exchange import Exchange
from headwater.cacheproxy.fills.fillorders import FillHeader, FillOrder
from headwater.cacheproxy.fills.fillregistry import Fills
from headwater.cacheproxy.fills.pieces import SLICE_FIELD, Piece, piece_told
from headwater.cacheproxy.fills.slicereading import SliceMissing, SliceReader, VersionGone
from headwater.cacheproxy.roles import Refused
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.store import Store
from headwater.rules.bodyplan import BodyPlan, SendPart, SendParts, SendWhole, plan_body
from headwater.rules.cachestatus import CacheStatus, Outcome
from headwater.rules.fields import Fields, field
from headwater.rules.fill import FillTrouble
from headwater.rules.ranges import Single, parse_range
from headwater.settings.cache import CacheSettings

AHEAD_OF_A_HEAD_OF_OLD: Final = 1  # slices are off now, but some are stored

SliceOrdering = Callable[[Exchange, Piece], FillOrder]


class SliceAnswering:
    """Answers for objects whose head is known. Where the version turned out to be gone before anything was sent, the answer is
    None: the object is to be looked up again."""

    def __init__(self, node: str, store: Store, fills: Fills, order: SliceOrdering, settings: CacheSettings) -> None:
        self._node = node
        self._store = store
        self._fills = fills
        self._order = order
        self._ahead = settings.slices.ahead if settings.slices else AHEAD_OF_A_HEAD_OF_OLD

    async def respond_stored(
        self, exchange: Exchange, head: Metadata, outcome: Outcome, ttl_s: float, age_s: float
    ) -> web.StreamResponse | None:
        """`outcome` is how the head was come by; slices that are not stored here make a hit a partial one."""
        plan = _plan(exchange, head, head.fields)
        with self._reader(exchange, head, head.fields, age_s) as reader:
            if outcome is Outcome.HIT and not all(reader.has(part.first, part.last) for part in _parts(exchange, head, plan)):
                outcome = Outcome.PARTIAL
            fwd_status = 304 if outcome is Outcome.REVALIDATED else None
            status = CacheStatus(self._node, outcome, ttl_s=ttl_s, fwd_status=fwd_status, forwarded=exchange.forwarded)
            return await self._respond(exchange, head, reader, plan, outcome, status)

    async def respond_begun(
        self, exchange: Exchange, head: Metadata, header: FillHeader, outcome: Outcome
    ) -> web.StreamResponse | None:
        """For a client whose own question, or that of the leader it followed, brought the head."""
        exchange.parent = header.parent
        plan = _plan(exchange, head, header.fields)
        with self._reader(exchange, head, header.fields, None) as reader:
            forwarded = outcome not in (Outcome.HIT, Outcome.STALE, Outcome.STALE_ON_ERROR)
            fwd_status = header.status if forwarded else None
            status = CacheStatus(self._node, outcome, fwd_status=fwd_status, stored=forwarded, forwarded=exchange.forwarded)
            return await self._respond(exchange, head, reader, plan, outcome, status)

    async def require_stored(self, exchange: Exchange, head: Metadata) -> None:
        """RFC 9111 section 5.2.1.7, `only-if-cached`. Raises Refused when a slice is missing."""
        plan = _plan(exchange, head, head.fields)
        with self._reader(exchange, head, head.fields, 0) as reader:
            for part in _parts(exchange, head, plan):
                if not await reader.stores(part.first, part.last):
                    raise Refused(504, "not_cached", "the request asks for a stored response and only a part of it is stored")

    def asked_by_worker(self, exchange: Exchange, key: str) -> Piece | None:
        """The slice that another worker of this node asks for, as its owner."""
        told = field(exchange.fields, SLICE_FIELD) if exchange.for_worker else None
        return None if told is None else piece_told(told, key, self._store.purges.sequence)

    async def respond_worker(self, exchange: Exchange, piece: Piece) -> web.StreamResponse:
        """One slice, or what is left of it, of the version that the worker knows. Raises Refused."""
        head = piece.head
        wanted = parse_range(field(exchange.fields, "range"), head.total_bytes)
        part = wanted if isinstance(wanted, Single) else piece.span
        with self._reader(exchange, head, piece.fields, 0) as reader:
            outcome = Outcome.HIT if reader.has(part.first, part.last) else Outcome.MISS
            answered = await self._respond(exchange, head, reader, SendPart(part), outcome, None)
            if answered is None:
                raise gateway_error(FillTrouble.CHANGED)
            return answered

    async def _respond(
        self,
        exchange: Exchange,
        head: Metadata,
        reader: SliceReader,
        plan: BodyPlan,
        outcome: Outcome,
        status: CacheStatus | None,
    ) -> web.StreamResponse | None:
        """The first slice is there, or on its way, before the header goes out: until then there is another way."""
        parts = _parts(exchange, head, plan)
        try:
            if parts:
                await reader.ready(parts[0].first)
        except VersionGone:
            return None
        except SliceMissing as error:
            raise gateway_error(error.trouble) from error
        exchange.outcome, exchange.cache_status = outcome, status
        return await deliver(exchange, reader, plan)

    def _reader(self, exchange: Exchange, head: Metadata, fields: Fields, age_s: float | None) -> SliceReader:
        order = partial(self._order, exchange)
        return SliceReader(head, fields, age_s, self._store, self._fills, order, self._ahead)


def _plan(exchange: Exchange, head: Metadata, fields: Fields) -> BodyPlan:
    return plan_body(exchange.method, exchange.fields, 200, fields, head.total_bytes, exchange.now)


def _parts(exchange: Exchange, head: Metadata, plan: BodyPlan) -> tuple[Single, ...]:
    """The bytes that the plan sends."""
    match plan:
        case SendPart(part):
            return (part,)
        case SendParts(parts):
            return parts
        case SendWhole() if exchange.method == "GET":
            return (Single(0, head.total_bytes - 1),)
        case _:
            return ()
