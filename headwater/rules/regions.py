"""A client's region: by listed networks, else by a database of networks, else the default; and for whom else that holds.

Lists go before the database, because an operator wrote them down for these very networks. What is found is an answer about a
whole prefix, never wider than what decided: an answer that is tailored to it may be kept for exactly that prefix (RFC 7871).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Protocol, TypeAlias

BITS: Final = {4: 32, 6: 128}
MAPPED_BITS: Final = 96  # ::ffff:0:0/96, RFC 4291 section 2.5.5.2

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpNetwork: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class RegionMatch:
    """A client's region. Every address of its kind that shares the client's first `prefix_len` bits has the same one. By lists
    no shorter prefix promises that; by a database it is the prefix of its record. So it is the scope of a tailored DNS answer
    (RFC 7871 section 7.2.1)."""

    region: str
    prefix_len: int


@dataclass(frozen=True, slots=True)
class Located:
    """What a database has for an address: a region, or None when it has none; and how many leading bits share that record."""

    region: str | None
    prefix_len: int


class NetworkDatabase(Protocol):
    """Regions of networks, as a MaxMind-format database has them."""

    def locate(self, client: IpAddress) -> Located: ...


@dataclass(frozen=True, slots=True)
class Span:
    """Addresses from `first` on, up to the next span's first, that have one region. None: no list names one."""

    first: int
    region: str | None


@dataclass(frozen=True)
class RegionMap:
    """All that tells a client's region. `listed`: (network, region name); no order of it matters."""

    listed: tuple[tuple[IpNetwork, str], ...]
    default: str
    database: NetworkDatabase | None = field(default=None, compare=False)

    @cached_property
    def spans(self) -> dict[int, tuple[Span, ...]]:
        """By IP version: the address space cut where regions change, in order. Without a database, unlisted is the default."""
        unlisted = self.default if self.database is None else None
        return {version: _spans(self.listed, version, unlisted) for version in BITS}

    def match(self, client: IpAddress, known_bits: int | None = None) -> RegionMatch:
        """The client's region by longest prefix match.

        `known_bits` says that only so many leading bits of `client` are real, as in a client subnet of DNS. When they do not
        decide, the region that has most of the subnet wins, and `prefix_len` is longer than `known_bits`: a longer prefix
        would have got a better answer (RFC 7871 section 7.2.1). An IPv4-mapped IPv6 address counts as the IPv4 address inside.
        """
        if isinstance(client, IPv6Address) and client.ipv4_mapped is not None and _all_known(known_bits, MAPPED_BITS):
            inside = self.match(client.ipv4_mapped, None if known_bits is None else known_bits - MAPPED_BITS)
            return RegionMatch(inside.region, inside.prefix_len + MAPPED_BITS)
        bits = BITS[client.version]
        spans = self.spans[client.version]
        host_bits = bits - min(bits if known_bits is None else known_bits, bits)
        first = int(client) >> host_bits << host_bits
        last = first | ((1 << host_bits) - 1)
        found = _span_at(spans, first)
        listed_len = _deciding_bits(first, spans, found, bits)
        if _span_at(spans, last) != found:
            most = _region_of_most(spans, first, last)
            return RegionMatch(self._located(client, first).region if most is None else most, listed_len)
        region = spans[found].region
        if region is not None:
            return RegionMatch(region, listed_len)
        located = self._located(client, first)
        return RegionMatch(located.region, max(located.prefix_len, listed_len))

    def _located(self, client: IpAddress, first: int) -> RegionMatch:
        """What the database says of the subnet's first address; where it has no region, the default."""
        if self.database is None:
            return RegionMatch(self.default, 0)
        located = self.database.locate(type(client)(first))
        return RegionMatch(located.region or self.default, located.prefix_len)


def _all_known(known_bits: int | None, wanted: int) -> bool:
    return known_bits is None or known_bits >= wanted


def _spans(networks: Iterable[tuple[IpNetwork, str]], version: int, unlisted: str | None) -> tuple[Span, ...]:
    """The address space of one IP version, cut where the region changes. Of equal networks the first region by name holds."""
    region_by_network = dict(sorted(networks, key=lambda item: item[1], reverse=True))
    own = [network for network in region_by_network if network.version == version]
    cuts: list[Span] = [Span(0, unlisted)]
    containing: list[tuple[int, str | None]] = [(2 ** BITS[version], unlisted)]  # (first address after, region), innermost last
    for network in sorted(own, key=lambda network: (int(network.network_address), network.prefixlen)):
        first, after = int(network.network_address), int(network.broadcast_address) + 1
        cuts += _ended_by(first, containing)
        cuts.append(Span(first, region_by_network[network]))
        containing.append((after, region_by_network[network]))
    cuts += _ended_by(2 ** BITS[version] - 1, containing)
    return _joined(cuts)


def _ended_by(first: int, containing: list[tuple[int, str | None]]) -> Iterable[Span]:
    """Drops the networks that end before `first` or at it; behind each, the one around it goes on."""
    while containing[-1][0] <= first:
        after, _ = containing.pop()
        yield Span(after, containing[-1][1])


def _joined(cuts: Iterable[Span]) -> tuple[Span, ...]:
    """Of cuts at one address only the last (innermost network) counts; neighbours of one region are one span."""
    spans: list[Span] = []
    for cut in {cut.first: cut for cut in cuts}.values():
        if not spans or spans[-1].region != cut.region:
            spans.append(cut)
    return tuple(spans)


def _span_at(spans: Sequence[Span], address: int) -> int:
    """The position of the span that holds `address`."""
    return bisect_right(spans, address, key=lambda span: span.first) - 1


def _deciding_bits(address: int, spans: Sequence[Span], found: int, bits: int) -> int:
    """The fewest leading bits that keep `address` inside its span: one more than it shares with either neighbour."""
    neighbours = [spans[found].first - 1] if found > 0 else []
    neighbours += [spans[found + 1].first] if found + 1 < len(spans) else []
    return max((bits - (address ^ other).bit_length() + 1 for other in neighbours), default=0)


def _region_of_most(spans: Sequence[Span], first: int, last: int) -> str | None:
    """The region that has most of the addresses from `first` to `last`; of equals the first by name, an unlisted one last."""
    shares: dict[str | None, int] = {}
    for position in range(_span_at(spans, first), _span_at(spans, last) + 1):
        after = spans[position + 1].first if position + 1 < len(spans) else last + 1
        size = min(after, last + 1) - max(spans[position].first, first)
        shares[spans[position].region] = shares.get(spans[position].region, 0) + size
    return min(shares, key=lambda region: (-shares[region], region is None, region or ""))
