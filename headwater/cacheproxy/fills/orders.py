"""What a parent is asked: for signed media the object, nothing of the viewer's; for an ordinary site the client's own fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from headwater.cacheproxy.exchange import Exchange
from headwater.cacheproxy.fills.fillorders import FillOrder
from headwater.cacheproxy.fills.parents import Parent
from headwater.cacheproxy.fills.pieces import SLICE_FIELD, Piece
from headwater.cacheproxy.roles import PROPERTY_HEADER
from headwater.cacheproxy.store.metadata import Metadata
from headwater.rules.fields import Fields, end_to_end, field, without
from headwater.rules.freshness import usable_on_error
from headwater.rules.ranges import Single, parse_specs
from headwater.rules.slices import SlicePolicy, probe
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.runtime.trace import TRACEPARENT

# A fill asks for the whole object whatever part or condition its first client named; ranges are planned per client.
_PER_CLIENT: Final = ("range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
# Each hop writes its own, or they must not come from outside.
_PER_HOP: Final = ("host", "via", "cdn-loop", TRACEPARENT, NODE_HEADER, PROPERTY_HEADER, SLICE_FIELD, "expect")
# Where a request came from and where it is going, as anybody may claim it: an upstream that built its answer from one of these
# would have it stored for everybody, because no cache key has them.
_CLAIMS: Final = (
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
)
# Make another method of a GET behind the cache's back; those who send a POST for it may.
_METHOD_OVERRIDES: Final = ("x-http-method", "x-http-method-override", "x-method-override")


def hop_fields(exchange: Exchange, token: str, parents: tuple[Parent, ...]) -> Fields:
    """The fields of this hop: the trace, the loop guard (RFC 8586), and towards our own tiers who asks for which property."""
    assert exchange.site is not None
    loop, via = field(exchange.fields, "cdn-loop"), field(exchange.fields, "via")
    fields: Fields = (
        (TRACEPARENT, exchange.trace.header()),
        ("Via", f"{via}, 1.1 {exchange.node}" if via else f"1.1 {exchange.node}"),
        ("CDN-Loop", f"{loop}, {exchange.node}" if loop else exchange.node),
    )
    if all(parent.ours for parent in parents):
        fields = ((NODE_HEADER, token), (PROPERTY_HEADER, exchange.site.name), *fields)
    return fields


def client_fields(exchange: Exchange) -> Fields:
    """The client's end-to-end fields that an ordinary site gets to see."""
    return without(end_to_end(exchange.fields), (*_PER_HOP, *_CLAIMS))


def fill_order(
    exchange: Exchange, key: str, parents: tuple[Parent, ...], token: str, stale: Metadata | None, negative_ttl_s: float
) -> FillOrder:
    """The order for a GET of the exchange's object; `stale` is what a 304 would confirm."""
    assert exchange.site is not None
    ordinary = not exchange.site.settings.signed
    asked = without(client_fields(exchange), (*_PER_CLIENT, *_METHOD_OVERRIDES)) if ordinary else ()
    encoding: Fields = () if ordinary else (("Accept-Encoding", "identity"),)
    stands_in = stale is not None and usable_on_error(stale.lifetime(negative_ttl_s), stale.age_s(exchange.now))
    return FillOrder(
        key=key,
        path=key.removeprefix(exchange.site.name),
        parents=parents,
        fields=(*asked, *encoding, *hop_fields(exchange, token, parents)),
        asked=exchange.fields if ordinary else (),
        stale=stale,
        relays_errors=ordinary and not stands_in,
        on_interim=exchange.forward_interim,
    )


def probing(order: FillOrder, exchange: Exchange, policy: SlicePolicy | None) -> FillOrder:
    """The order, asking for a slice at first where the client wants a part of an object that is unknown or in slices."""
    known_whole = order.stale is not None and not order.stale.is_head
    if policy is None or known_whole or exchange.method != "GET":
        return order
    wanted = probe(policy, parse_specs(field(exchange.fields, "range")))
    if wanted is None and order.stale is not None:
        wanted = Single(0, policy.size - 1)
    return replace(order, probe=wanted)


def slice_order(order: FillOrder, piece: Piece, owner: Parent | None) -> FillOrder:
    """The order for one slice, made of one for the whole object; `owner` is the worker that owns the slice."""
    parents = order.parents
    if owner is not None:
        parents = (replace(owner, adds=(*owner.adds, (SLICE_FIELD, piece.told()))), *parents)
    return replace(order, key=piece.key, parents=parents, piece=piece, relays_errors=False, on_interim=None)
