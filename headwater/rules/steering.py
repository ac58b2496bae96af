"""Steering: which edges serve a bucket's viewers, best first. One pure function with many users: DNS, redirects, steering
manifests, the playback API, plans. docs/steering.md states it step by step, with vectors, for those who write it again.

The law:

- Weighted rendezvous ranks the POPs of the viewer's region by bucket, then the edges of each POP by bucket, so that one bucket
  lives in few caches and a change of a weight moves only its share.
- The POPs of the regions that this one spills to follow, in the stated order; then those of all other regions, as one pool.
- Drained (weight 0) and unhealthy edges and POPs are skipped.
- Who has come back counts with a part of its weight for a while (`ramp`).
- Who has more traffic than its bound passes some buckets on (`passes`): for these it ranks behind its peers, an edge in its
  POP, a POP in the world. The buckets of others stay where they are.
- The answer is never empty while there is an edge: when no undrained edge is healthy, checks are not believed; when
  everything is drained, the drained ones serve, healthy ones before others. Unless `fail_closed` says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    """A site. `weight` is its share of its region's buckets relative to the region's other POPs; 0 is drained.

    `ramp`, above 0 and at most 1, is the part of the weight that counts now; `passes` are the buckets that it has too much of.
    """

    name: str
    region: str
    weight: float = 100
    ramp: float = 1.0
    passes: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Edge:
    """A cache in a POP. `weight` is its share of the POP's buckets relative to the POP's other edges; 0 is drained.

    `ramp` and `passes` are as those of a POP, among the edges of the POP.
    """

    name: str
    pop: str
    address: Address
    weight: float = 100
    healthy: bool = True
    ramp: float = 1.0
    passes: frozenset[int] = frozenset()


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
    fail_closed: bool = False
    database: NetworkDatabase | None = field(default=None, compare=False)

    @cached_property
    def usable(self) -> World:
        """The world with those edges only that may be named, by the best preference that leaves any."""
        return next((world for world in self._preferences() if world.edges), self._with_edges(()))

    def _preferences(self) -> tuple[World, ...]:
        """The worlds to look for edges in, until one has any."""
        undrained = self._with_edges(_undrained(self.edges, self.pops))
        if self.fail_closed:
            return (undrained._healthy(),)
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
    def pops_by_region(self) -> dict[str, list[Pop]]:
        """The POPs that have edges, by region."""
        grouped: dict[str, list[Pop]] = {}
        for pop in self.pops:
            if pop.name in self.edges_by_pop:
                grouped.setdefault(pop.region, []).append(pop)
        return grouped

    @cached_property
    def steered_edges(self) -> dict[str, SteeredEdge]:
        """Each edge as answers name it."""
        region_of_pop = {pop.name: pop.region for pop in self.pops}
        return {
            edge.name: SteeredEdge(edge.name, edge.pop, region_of_pop[edge.pop], edge.address)
            for edge in self.edges
            if edge.pop in region_of_pop
        }

    @cached_property
    def answers(self) -> dict[tuple[int, str], tuple[SteeredEdge, ...]]:
        """What `steer` has answered so far: a world does not change."""
        return {}

    @cached_property
    def regions_by_name(self) -> dict[str, Region]:
        return {region.name: region for region in self.regions}

    @cached_property
    def region_map(self) -> RegionMap:
        """What tells a viewer's region."""
        listed = tuple((network, region.name) for region in self.regions for network in region.networks)
        return RegionMap(listed, self.default_region, self.database)


def steer(bucket: Bucket, region: str, world: World) -> tuple[SteeredEdge, ...]:
    """Every edge that may serve the bucket's viewers in `region`, best first. Empty only when the world has no edge, or has no
    healthy, undrained one and fails closed.

    A region that the world does not know is served as the default region.
    """
    here = world.regions_by_name.get(region) or world.regions_by_name.get(world.default_region)
    asked = (bucket, here.name if here else "")
    answer = world.answers.get(asked)
    if answer is None:
        answer = world.answers[asked] = tuple(ranked_edges(bucket, region, world))
    return answer


def ranked_edges(bucket: Bucket, region: str, world: World) -> Iterator[SteeredEdge]:
    """As `steer`, one after the other, for those who need only the first few of many buckets."""
    usable = world.usable
    passed_on: list[Pop] = []
    for regions in region_order(region, usable):
        for pop in _ranked_pops(bucket, regions, usable):
            if bucket in pop.passes:
                passed_on.append(pop)
            else:
                yield from _ranked_edges(bucket, pop, usable)
    for pop in passed_on:
        yield from _ranked_edges(bucket, pop, usable)


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


def _ranked_pops(bucket: Bucket, regions: frozenset[str], world: World) -> list[Pop]:
    # POPs that have no usable edge are left out before the ranking; that moves only the buckets that were theirs.
    pops = {pop.name: pop for region in regions for pop in world.pops_by_region.get(region, ())}
    names = ranked(_key("pop", bucket), [(pop.name, pop.weight * pop.ramp) for pop in pops.values()])
    return [pops[name] for name in names]


def _ranked_edges(bucket: Bucket, pop: Pop, world: World) -> Iterator[SteeredEdge]:
    edges = {edge.name: edge for edge in world.edges_by_pop[pop.name]}
    names = ranked(_key("edge", bucket), [(edge.name, edge.weight * edge.ramp) for edge in edges.values()])
    for name in sorted(names, key=lambda name: bucket in edges[name].passes):  # a stable sort: ranks hold on either side
        yield world.steered_edges[name]


def _key(level: Literal["pop", "edge"], bucket: Bucket) -> bytes:
    """The level is in the key, so that a POP and an edge of one name do not draw the same numbers."""
    return f"{level}/{bucket:03x}".encode()
