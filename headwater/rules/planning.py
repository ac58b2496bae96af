"""What a change of the config would move, before it moves: buckets, traffic, cold bytes, and whether it can hold. Pure.

Law
    - A bucket of a region moves when the edge that steering names first for it changes; spill by load is not foreseen, because
      a plan that needs it does not hold.
    - Traffic goes where its bucket goes. What an edge sent for a bucket belongs to the regions whose owner it was, in equal
      parts; what it sent for buckets that nobody sends it any more belongs to its own POP's region.
    - Bytes are cold where an edge gains a bucket whose hot objects it does not hold.
    - A POP that would get more than its undrained, healthy edges can send is a refusal; so is a deployment without an edge to
      send viewers to. Everything else is a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from headwater.rules.names import BUCKETS
from headwater.rules.ownership import NOBODY, owners
from headwater.rules.steering import World

NEARLY_FULL: Final = 0.8  # of a capacity; beyond it a plan warns


class Measured(StrEnum):
    """How well the traffic is known, worst first."""

    NOT = "not measured"
    PER_EDGE = "bytes per edge, spread evenly over its buckets"
    PER_BUCKET = "bytes per bucket"


@dataclass(frozen=True, slots=True)
class EdgeTraffic:
    """What an edge sends now: `total_bps`, and by bucket where that is known."""

    total_bps: float
    by_bucket: Mapping[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """Hot objects of one bucket in one cache."""

    objects: int = 0
    size_bytes: int = 0


NOTHING: Final = Holding()
Holdings = Mapping[str, Mapping[int, Holding]]  # by node, by bucket


@dataclass(frozen=True, slots=True)
class Seen:
    """What the live system shows: traffic and capacity by edge (bits per second), hot objects by cache."""

    traffic: Mapping[str, EdgeTraffic] = field(default_factory=dict)
    capacities: Mapping[str, float] = field(default_factory=dict)
    holdings: Holdings = field(default_factory=dict)
    shields: tuple[str, ...] = ()

    @property
    def measured(self) -> Measured:
        if not self.traffic:
            return Measured.NOT
        busy = [one for one in self.traffic.values() if one.total_bps > 0]
        whole = all(one.by_bucket is not None for one in busy) if busy else True
        return Measured.PER_BUCKET if whole else Measured.PER_EDGE


@dataclass(frozen=True, slots=True)
class Change:
    """What a plan does to one edge or POP. `buckets` are pairs of region and bucket; loads are bits per second."""

    name: str
    pop: str
    region: str
    buckets_before: int
    buckets_after: int
    gained: int
    lost: int
    gained_bps: float
    lost_bps: float
    load_before_bps: float
    load_after_bps: float
    capacity_bps: float
    cold_objects: int
    cold_bytes: int


@dataclass(frozen=True, slots=True)
class Move:
    """Buckets that go from one edge to another, in ascending order; `size_bytes` are the hot bytes that are cold there; `pairs`
    counts a bucket once for each region whose viewers move, as `moved_buckets` of the plan does."""

    source: str
    target: str
    buckets: tuple[int, ...]
    size_bytes: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A warning or a refusal: what is wrong, and what would mend it."""

    what: str
    cure: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`moved_share` is the share of all traffic that changes its edge (of all buckets while there is no traffic); fills are
    what gaining edges will ask shields and shields the origin for, unless it is fetched before."""

    measured: Measured
    total_bps: float
    moved_buckets: int
    moved_share: float
    pops: tuple[Change, ...]
    edges: tuple[Change, ...]
    moves: tuple[Move, ...]
    shield_fills: Holding
    origin_fills: Holding
    warnings: tuple[Finding, ...]
    refusals: tuple[Finding, ...]


def plan(before: World, after: World, seen: Seen) -> Plan:
    """What changing `before` into `after` would do."""
    old, new = owners(before), owners(after)
    demand = _demand(old, new, before, seen)
    ledger = _Ledger(before, after)
    total = moved = 0.0
    for region, bps_of in demand.items():
        ledger.take(region, old.get(region) or (NOBODY,) * BUCKETS, new.get(region) or (NOBODY,) * BUCKETS, bps_of)
        total += sum(bps_of)
        moved += sum(bps for was, now, bps in zip(old.get(region, ()), new.get(region, ()), bps_of, strict=False) if was != now)
    moves, cold = _moves(ledger, seen)
    edges = tuple(ledger.change(name, cold.get(name, {}), seen) for name in ledger.names)
    pops = _by_pop(edges, after, before)
    shield_fills, origin_fills = _fills(cold, seen)
    return Plan(
        measured=seen.measured,
        total_bps=total,
        moved_buckets=sum(edge.gained for edge in edges),
        moved_share=moved / total if total else sum(edge.gained for edge in edges) / (BUCKETS * max(1, len(demand))),
        pops=pops,
        edges=edges,
        moves=moves,
        shield_fills=shield_fills,
        origin_fills=origin_fills,
        warnings=tuple(_warnings(pops, edges, before, after)),
        refusals=tuple(_refusals(pops, after)),
    )


def _demand(
    old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]], before: World, seen: Seen
) -> dict[str, list[float]]:
    """Bits per second that each region's viewers ask of each bucket."""
    demand = {region: [0.0] * BUCKETS for region in dict.fromkeys((*old, *new))}
    owned: dict[str, list[tuple[str, int]]] = {}
    for region, by_bucket in old.items():
        for bucket, edge in enumerate(by_bucket):
            owned.setdefault(edge, []).append((region, bucket))
    region_of_pop = {pop.name: pop.region for pop in before.pops}
    home = {edge.name: region_of_pop.get(edge.pop, before.default_region) for edge in before.edges}
    for edge, traffic in seen.traffic.items():
        pairs = owned.get(edge, [])
        if traffic.by_bucket is None:
            for region, bucket in pairs:
                demand[region][bucket] += traffic.total_bps / len(pairs)
            if not pairs and traffic.total_bps and home.get(edge) in demand:
                demand[home[edge]] = [bps + traffic.total_bps / BUCKETS for bps in demand[home[edge]]]
            continue
        regions: dict[int, list[str]] = {}
        for region, bucket in pairs:
            regions.setdefault(bucket, []).append(region)
        for bucket, bps in traffic.by_bucket.items():
            named = regions.get(bucket) or [home.get(edge, before.default_region)]
            for region in named:
                if region in demand:
                    demand[region][bucket] += bps / len(named)
    return demand


class _Ledger:
    """Gains and losses by edge, while regions are taken in."""

    def __init__(self, before: World, after: World) -> None:
        pops = {pop.name: pop.region for pop in (*before.pops, *after.pops)}
        self.places = {edge.name: (edge.pop, pops.get(edge.pop, "")) for edge in (*before.edges, *after.edges)}
        self.names = tuple(self.places)
        self.buckets = {name: [0, 0, 0, 0] for name in self.names}  # before, after, gained, lost
        self.bps = {name: [0.0, 0.0, 0.0, 0.0] for name in self.names}
        self.owned_before: dict[str, set[int]] = {name: set() for name in self.names}
        self.moved: dict[tuple[str, str], set[int]] = {}
        self.pairs: Counter[tuple[str, str]] = Counter()

    def take(self, region: str, old: Sequence[str], new: Sequence[str], bps_of: Sequence[float]) -> None:
        for bucket, (was, now, bps) in enumerate(zip(old, new, bps_of, strict=True)):
            if was != NOBODY:
                self._note(was, bps, 0)
                self.owned_before[was].add(bucket)
            if now != NOBODY:
                self._note(now, bps, 1)
            if was != now:
                if now != NOBODY:
                    self._note(now, bps, 2)
                if was != NOBODY:
                    self._note(was, bps, 3)
                if was != NOBODY and now != NOBODY:
                    self.moved.setdefault((was, now), set()).add(bucket)
                    self.pairs[was, now] += 1

    def _note(self, edge: str, bps: float, column: int) -> None:
        self.buckets[edge][column] += 1
        self.bps[edge][column] += bps

    def change(self, name: str, cold: Mapping[int, Holding], seen: Seen) -> Change:
        buckets, bps = self.buckets[name], self.bps[name]
        pop, region = self.places[name]
        return Change(
            name=name,
            pop=pop,
            region=region,
            buckets_before=buckets[0],
            buckets_after=buckets[1],
            gained=buckets[2],
            lost=buckets[3],
            gained_bps=bps[2],
            lost_bps=bps[3],
            load_before_bps=bps[0],
            load_after_bps=bps[1],
            capacity_bps=seen.capacities.get(name, 0.0),
            cold_objects=sum(one.objects for one in cold.values()),
            cold_bytes=sum(one.size_bytes for one in cold.values()),
        )


def _moves(ledger: _Ledger, seen: Seen) -> tuple[tuple[Move, ...], dict[str, dict[int, Holding]]]:
    """The moves, and by gaining edge and bucket what is hot where the bucket was and cold where it goes. A bucket that comes
    from several edges is as hot as where it is hottest."""
    cold: dict[str, dict[int, Holding]] = {}
    moves: list[Move] = []
    for (source, target), buckets in sorted(ledger.moved.items()):
        held, has = seen.holdings.get(source, {}), seen.holdings.get(target, {})
        size_bytes = 0
        for bucket in buckets:
            missing = _minus(held.get(bucket, NOTHING), has.get(bucket, NOTHING))
            size_bytes += missing.size_bytes
            known = cold.setdefault(target, {}).get(bucket, NOTHING)
            if missing.size_bytes > known.size_bytes:
                cold[target][bucket] = missing
        moves.append(Move(source, target, tuple(sorted(buckets)), size_bytes, ledger.pairs[source, target]))
    return tuple(moves), cold


def _minus(one: Holding, other: Holding) -> Holding:
    return Holding(max(0, one.objects - other.objects), max(0, one.size_bytes - other.size_bytes))


def _fills(cold: Mapping[str, Mapping[int, Holding]], seen: Seen) -> tuple[Holding, Holding]:
    """What edges will ask the shields for, and of it what no shield holds: that once, however many edges ask."""
    at_shields: dict[int, Holding] = {}
    for shield in seen.shields:
        for bucket, held in seen.holdings.get(shield, {}).items():
            known = at_shields.get(bucket, NOTHING)
            at_shields[bucket] = Holding(known.objects + held.objects, known.size_bytes + held.size_bytes)
    wanted: dict[int, Holding] = {}
    for by_bucket in cold.values():
        for bucket, held in by_bucket.items():
            if held.size_bytes > wanted.get(bucket, NOTHING).size_bytes:
                wanted[bucket] = held
    origin = [_minus(held, at_shields.get(bucket, NOTHING)) for bucket, held in wanted.items()]
    return _sum(held for by_bucket in cold.values() for held in by_bucket.values()), _sum(origin)


def _sum(holdings: Iterable[Holding]) -> Holding:
    objects = size_bytes = 0
    for one in holdings:
        objects += one.objects
        size_bytes += one.size_bytes
    return Holding(objects, size_bytes)


def _by_pop(edges: Iterable[Change], after: World, before: World) -> tuple[Change, ...]:
    """The edges' changes added up by POP. Capacity is that of edges which the POP may send viewers to afterwards."""
    usable = {edge.name for edge in after.edges if edge.weight > 0 and edge.healthy}
    pops: dict[str, list[Change]] = {pop.name: [] for pop in (*before.pops, *after.pops)}
    for edge in edges:
        pops.setdefault(edge.pop, []).append(edge)
    return tuple(
        Change(
            name=pop,
            pop=pop,
            region=members[0].region,
            buckets_before=sum(one.buckets_before for one in members),
            buckets_after=sum(one.buckets_after for one in members),
            gained=sum(one.gained for one in members),
            lost=sum(one.lost for one in members),
            gained_bps=sum(one.gained_bps for one in members),
            lost_bps=sum(one.lost_bps for one in members),
            load_before_bps=sum(one.load_before_bps for one in members),
            load_after_bps=sum(one.load_after_bps for one in members),
            capacity_bps=sum(one.capacity_bps for one in members if one.name in usable),
            cold_objects=sum(one.cold_objects for one in members),
            cold_bytes=sum(one.cold_bytes for one in members),
        )
        for pop, members in pops.items()
        if members
    )


def _refusals(pops: Iterable[Change], after: World) -> Iterable[Finding]:
    open_pops = {pop.name for pop in after.pops if pop.weight > 0}
    undrained = [edge for edge in after.edges if edge.weight > 0 and edge.pop in open_pops]
    if not undrained:
        yield Finding("every edge would be drained or gone", "leave at least one edge and its POP with a weight above 0")
        return
    if not any(edge.healthy for edge in undrained):
        yield Finding(
            "every edge that is left with a weight is down", "bring one of them up first, or leave another one undrained"
        )
    for pop in pops:
        if pop.load_after_bps > pop.capacity_bps:
            yield Finding(
                f"POP {pop.name} would have to send {_rate(pop.load_after_bps)} and can send {_rate(pop.capacity_bps)}",
                f"give it less weight, add edges, or raise the capacity of its edges if it is set too low; region {pop.region} "
                "may need another POP",
            )


def _warnings(pops: Iterable[Change], edges: Iterable[Change], before: World, after: World) -> Iterable[Finding]:
    for pop in pops:
        if pop.capacity_bps and NEARLY_FULL * pop.capacity_bps < pop.load_after_bps <= pop.capacity_bps:
            used = pop.load_after_bps / pop.capacity_bps
            yield Finding(f"POP {pop.name} would be {used:.0%} full", "add edges before traffic grows")
    full = {pop.name for pop in pops if pop.load_after_bps > pop.capacity_bps}
    for edge in edges:
        if edge.capacity_bps and edge.load_after_bps > edge.capacity_bps and edge.pop not in full:
            yield Finding(
                f"edge {edge.name} would have to send {_rate(edge.load_after_bps)} of {_rate(edge.capacity_bps)}",
                f"give it less weight among the edges of {edge.pop}; what it cannot send spills to them",
            )
    yield from _regions_left(before, after)


def _regions_left(before: World, after: World) -> Iterable[Finding]:
    served_before, served_after = _served(before), _served(after)
    for region in after.regions:
        if region.name in served_before and region.name not in served_after:
            where = f"spill to {region.spill[0]}" if region.spill else "go to all other regions"
            yield Finding(f"region {region.name} would have no POP of its own; its viewers {where}", "leave it one undrained POP")


def _served(world: World) -> set[str]:
    usable = {edge.pop for edge in world.edges if edge.weight > 0 and edge.healthy}
    return {pop.region for pop in world.pops if pop.weight > 0 and pop.name in usable}


def _rate(bps: float) -> str:
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if bps < 1000:
            return f"{bps:.3g} {unit}"
        bps /= 1000
    return f"{bps:.3g} Gbit/s"
