"""Steering: which edges serve a bucket's viewers, best first. One pure function with three users: DNS, the playback API
and manifests.

The law:

- Weighted rendezvous ranks the POPs of the viewer's region by bucket, then the edges of each POP by bucket, so that one bucket
  lives in few caches and a change of a weight moves only its share.
- The POPs of the regions that this one spills to follow, in the stated order; then those of all other regions, as one pool.
- Drained (weight 0) and unhealthy edges and POPs are skipped.
- The answer is never empty while there is an edge: when no undrained edge is healthy, checks are not believed; when
  everything is drained, the drained ones serve, healthy ones before others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Literal

from headwater.rules.addresses import Address
from headwater.rules.names import Bucket
from headwater.rules.rendezvous import ranked

BITS: Final = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Region:
    """Viewers' networks, and where they go when the region's own POPs cannot serve, nearest first."""

    name: str
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    spill: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pop:
    """A site. `weight` is its share of its region's buckets relative to the region's other POPs; 0 is drained."""

    name: str
    region: str
    weight: float = 100


@dataclass(frozen=True, slots=True)
class Edge:
    """A cache in a POP. `weight` is its share of the POP's buckets relative to the POP's other edges; 0 is drained."""

    name: str
    pop: str
    address: Address
    weight: float = 100
    healthy: bool = True


@dataclass(frozen=True, slots=True)
class SteeredEdge:
    """One edge of an answer."""

    name: str
    pop: str
    region: str
    address: Address


@dataclass(frozen=True, slots=True)
class RegionMatch:
    """A client's region. Every address of its kind that shares the client's first `prefix_len` bits has the same one, and no
    shorter prefix promises that, so it is the scope of a tailored DNS answer (RFC 7871 section 7.2.1)."""

    region: str
    prefix_len: int


@dataclass(frozen=True, slots=True)
class Span:
    """Addresses from `first` on, up to the next span's first, that have one region."""

    first: int
    region: str


@dataclass(frozen=True)
class World:
    """All that steering looks at. No order of a field matters, but for `Region.spill`."""

    regions: tuple[Region, ...]
    pops: tuple[Pop, ...]
    edges: tuple[Edge, ...]
    default_region: str

    @cached_property
    def preferences(self) -> tuple[World, ...]:
        """The worlds to look for edges in, until one has any."""
        undrained = self._with_edges(_undrained(self.edges, self.pops))
        everything = replace(
            self,
            pops=tuple(replace(pop, weight=pop.weight or 1) for pop in self.pops),
            edges=tuple(replace(edge, weight=edge.weight or 1) for edge in self.edges),
        )
        return (undrained._healthy(), undrained, everything._healthy(), everything)

    def _healthy(self) -> World:
        return self._with_edges(edge for edge in self.edges if edge.healthy)

    def _with_edges(self, edges: Iterable[Edge]) -> World:
        return replace(self, edges=tuple(edges))

    @cached_property
    def edges_by_pop(self) -> dict[str, list[Edge]]:
        grouped: dict[str, list[Edge]] = {}
        for edge in self.edges:
            grouped.setdefault(edge.pop, []).append(edge)
        return grouped

    @cached_property
    def regions_by_name(self) -> dict[str, Region]:
        return {region.name: region for region in self.regions}

    @cached_property
    def spans(self) -> dict[int, tuple[Span, ...]]:
        """By IP version: the address space cut where regions change, in order."""
        networks = [(network, region.name) for region in self.regions for network in region.networks]
        return {version: _spans(networks, version, self.default_region) for version in BITS}


def steer(bucket: Bucket, region: str, world: World) -> tuple[SteeredEdge, ...]:
    """Every edge that may serve the bucket's viewers in `region`, best first. Empty only when the world has no edge.

    A region that the world does not know is served as the default region.
    """
    usable = next((world for world in world.preferences if world.edges), world)
    answer: list[SteeredEdge] = []
    for names in region_order(region, usable):
        answer += _ranked_edges(bucket, names, usable)
    return tuple(answer)


def region_of(client: IPv4Address | IPv6Address, world: World, known_bits: int | None = None) -> RegionMatch:
    """The client's region by longest prefix match, or the default region.

    `known_bits` says that only so many leading bits of `client` are real, as in a client subnet of DNS. When they do not
    decide, the region that has most of the subnet wins, and `prefix_len` is longer than `known_bits`: a longer prefix
    would have got a better answer (RFC 7871 section 7.2.1). An IPv4-mapped IPv6 address counts as the IPv4 address inside.
    """
    if isinstance(client, IPv6Address) and client.ipv4_mapped is not None and (known_bits is None or known_bits >= 96):
        inside = region_of(client.ipv4_mapped, world, None if known_bits is None else known_bits - 96)
        return RegionMatch(inside.region, inside.prefix_len + 96)
    bits = BITS[client.version]
    spans = world.spans[client.version]
    host_bits = bits - min(bits if known_bits is None else known_bits, bits)
    first = int(client) >> host_bits << host_bits
    last = first | ((1 << host_bits) - 1)
    found = _span_at(spans, first)
    prefix_len = _deciding_bits(first, spans, found, bits)
    if _span_at(spans, last) == found:
        return RegionMatch(spans[found].region, prefix_len)
    return RegionMatch(_region_of_most(spans, first, last), prefix_len)


def _undrained(edges: Iterable[Edge], pops: Iterable[Pop]) -> list[Edge]:
    open_pops = {pop.name for pop in pops if pop.weight > 0}
    return [edge for edge in edges if edge.weight > 0 and edge.pop in open_pops]


def region_order(name: str, world: World) -> list[frozenset[str]]:
    """Sets of regions to take POPs from, one set after the other; each region is in one set."""
    here = world.regions_by_name.get(name) or world.regions_by_name.get(world.default_region)
    order = list(dict.fromkeys((here.name, *here.spill))) if here else []
    return [*(frozenset([one]) for one in order), frozenset(world.regions_by_name) - frozenset(order)]


def _ranked_edges(bucket: Bucket, regions: frozenset[str], world: World) -> Iterable[SteeredEdge]:
    # POPs that have no usable edge are left out before the ranking; that moves only the buckets that were theirs.
    pops = {pop.name: pop for pop in world.pops if pop.region in regions and pop.name in world.edges_by_pop}
    for pop_name in ranked(_key("pop", bucket), [(pop.name, pop.weight) for pop in pops.values()]):
        edges = {edge.name: edge for edge in world.edges_by_pop[pop_name]}
        for edge_name in ranked(_key("edge", bucket), [(edge.name, edge.weight) for edge in edges.values()]):
            yield SteeredEdge(edge_name, pop_name, pops[pop_name].region, edges[edge_name].address)


def _key(level: Literal["pop", "edge"], bucket: Bucket) -> bytes:
    """The level is in the key, so that a POP and an edge of one name do not draw the same numbers."""
    return f"{level}/{bucket:03x}".encode()


def _spans(networks: Iterable[tuple[IPv4Network | IPv6Network, str]], version: int, default: str) -> tuple[Span, ...]:
    """The address space of one IP version, cut where the region changes. Of equal networks the first region by name holds."""
    region_by_network = dict(sorted(networks, key=lambda item: item[1], reverse=True))
    own = [network for network in region_by_network if network.version == version]
    cuts: list[Span] = [Span(0, default)]
    containing: list[tuple[int, str]] = [(2 ** BITS[version], default)]  # (first address after, region), innermost last
    for network in sorted(own, key=lambda network: (int(network.network_address), network.prefixlen)):
        first, after = int(network.network_address), int(network.broadcast_address) + 1
        cuts += _ended_by(first, containing)
        cuts.append(Span(first, region_by_network[network]))
        containing.append((after, region_by_network[network]))
    cuts += _ended_by(2 ** BITS[version] - 1, containing)
    return _joined(cuts)


def _ended_by(first: int, containing: list[tuple[int, str]]) -> Iterable[Span]:
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


def _region_of_most(spans: Sequence[Span], first: int, last: int) -> str:
    """The region that has most of the addresses from `first` to `last`; of equals the first by name."""
    shares: dict[str, int] = {}
    for position in range(_span_at(spans, first), _span_at(spans, last) + 1):
        after = spans[position + 1].first if position + 1 < len(spans) else last + 1
        size = min(after, last + 1) - max(spans[position].first, first)
        shares[spans[position].region] = shares.get(spans[position].region, 0) + size
    return min(shares, key=lambda region: (-shares[region], region))
