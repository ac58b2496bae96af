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

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from headwater.rules.addresses import Address
from headwater.rules.names import Bucket
from headwater.rules.regions import IpAddress, IpNetwork, NetworkDatabase, RegionMap, RegionMatch
from headwater.rules.rendezvous import ranked


@dataclass(frozen=True, slots=True)
class Region:
    """Viewers' networks, and where they go when the region's own POPs cannot serve, nearest first."""

    name: str
    networks: tuple[IpNetwork, ...] = ()
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


@dataclass(frozen=True)
class World:
    """All that steering looks at. No order of a field matters, but for `Region.spill`."""

    regions: tuple[Region, ...]
    pops: tuple[Pop, ...]
    edges: tuple[Edge, ...]
    default_region: str
    database: NetworkDatabase | None = field(default=None, compare=False)

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
    def region_map(self) -> RegionMap:
        """What tells a viewer's region."""
        listed = tuple((network, region.name) for region in self.regions for network in region.networks)
        return RegionMap(listed, self.default_region, self.database)


def steer(bucket: Bucket, region: str, world: World) -> tuple[SteeredEdge, ...]:
    """Every edge that may serve the bucket's viewers in `region`, best first. Empty only when the world has no edge.

    A region that the world does not know is served as the default region.
    """
    usable = next((world for world in world.preferences if world.edges), world)
    answer: list[SteeredEdge] = []
    for names in region_order(region, usable):
        answer += _ranked_edges(bucket, names, usable)
    return tuple(answer)


def region_of(client: IpAddress, world: World, known_bits: int | None = None) -> RegionMatch:
    """The client's region; see RegionMap.match."""
    return world.region_map.match(client, known_bits)


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
