"""What steering is told beside the desired config: who is coming back, and who passes buckets on. Decisions are those of
`headwater.rules.slowstart` and `passing`; here is what they need to know, and when they are asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from headwater.rules.bucketload import BucketLoad, grown
from headwater.rules.names import BUCKETS, Bucket
from headwater.rules.passing import Bounds, Member, passing
from headwater.rules.slowstart import ramp
from headwater.rules.steering import World, steer
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Health
from headwater.settings.steeringstate import SteeringState

CALM_S: Final = 30.0  # a load that lasts this long counts by two thirds: bursts of a few seconds move nobody
BITS: Final = 8


class EdgeLoad:
    """Bits per second of one edge by bucket, smoothed."""

    def __init__(self) -> None:
        self.by_bucket_bps = [0.0] * BUCKETS
        self._last: BucketLoad | None = None
        self._at = 0.0

    def learn(self, report: BucketLoad, now: float) -> None:
        """Takes in what the edge says at Unix time `now`."""
        before, seconds = self._last, now - self._at
        self._last, self._at = report, now
        if before is None or before.since != report.since or seconds <= 0:
            return
        part = 1 - math.exp(-seconds / CALM_S)
        for bucket, size_bytes in enumerate(grown(before, report)[:BUCKETS]):
            held = self.by_bucket_bps[bucket]
            if size_bytes or held:
                self.by_bucket_bps[bucket] = held + part * (size_bytes * BITS / seconds - held)


class Balance:
    """`returned` are the times (Unix seconds) at which edges and POPs came back; `passes` who passes what on."""

    def __init__(self, before: SteeringState | None = None) -> None:
        """`before` is what the control before this one published: what was passed on stays so until loads are known."""
        self.loads: dict[str, EdgeLoad] = {}
        self._edge_returned: dict[str, float] = {}
        self._pop_returned: dict[str, float] = {}
        self._serving: dict[str, bool] | None = None
        kept = before or SteeringState()
        self._edge_passes = {name: frozenset(passed) for name, passed in kept.edge_passes.items()}
        self._pop_passes = {name: frozenset(passed) for name, passed in kept.pop_passes.items()}

    def bucket_bps(self, edge: str) -> list[float]:
        """What the edge sends by bucket, in bits per second; all 0 while nothing is known."""
        load = self.loads.get(edge)
        return load.by_bucket_bps if load else [0.0] * BUCKETS

    def learn_load(self, edge: str, report: BucketLoad, now: float) -> None:
        self.loads.setdefault(edge, EdgeLoad()).learn(report, now)

    def learn_nodes(self, deployment: Deployment, health: Mapping[str, Health], now: float) -> None:
        """Notices who came back: down before and up now, or drained before and with a weight now.

        What is seen for the first time did not come back: a whole deployment that starts is as warm as it will be.
        """
        serving = dict(_serving(deployment, health))
        if self._serving is not None:
            for node, serves in serving.items():
                if serves and self._serving.get(node) is False:
                    self._edge_returned[node] = now
            for name, pop in deployment.pops.items():
                known = [edge for edge in pop.edges if edge in self._serving]
                if any(serving[edge] for edge in pop.edges) and known and not any(self._serving[edge] for edge in known):
                    self._pop_returned[name] = now
        self._serving = serving

    def decide(self, deployment: Deployment, world: World) -> None:
        """Who passes which buckets on, by the loads known now."""
        edges = [edge for edge in world.usable.edges if edge.name in self.loads]
        bounds = Bounds(deployment.steering.load_bound, deployment.steering.load_floor)
        capacity = {name: float(edge.capacity) for name, _, edge in deployment.edges()}
        loads = {edge.name: self.loads[edge.name].by_bucket_bps for edge in edges}
        of_edges = [Member(edge.name, edge.pop, capacity[edge.name]) for edge in edges]
        by_pop: dict[str, list[str]] = {}
        for edge in edges:
            by_pop.setdefault(edge.pop, []).append(edge.name)
        of_pops = [
            Member(pop, deployment.pops[pop].region, sum(capacity[edge] for edge in names)) for pop, names in by_pop.items()
        ]
        pop_loads = {
            pop: [sum(sizes) for sizes in zip(*(loads[edge] for edge in names), strict=True)] for pop, names in by_pop.items()
        }

        def next_pops(bucket: int, pop: str) -> Iterable[str]:
            answer = steer(Bucket(bucket), deployment.pops[pop].region, world)
            return dict.fromkeys(one.pop for one in answer if one.pop != pop)

        def next_edges(bucket: int, edge: str) -> Iterable[str]:
            pop = pop_of[edge]
            answer = steer(Bucket(bucket), deployment.pops[pop].region, world)
            return [one.name for one in answer if one.pop == pop and one.name != edge]

        pop_of = {edge.name: edge.pop for edge in edges}
        self._pop_passes = passing(of_pops, pop_loads, self._pop_passes, next_pops, bounds)
        self._edge_passes = passing(of_edges, loads, self._edge_passes, next_edges, bounds)

    def state(self, deployment: Deployment, now: float) -> SteeringState:
        """What the snapshot says at Unix time `now`."""
        over_s = deployment.steering.slow_start
        edges = {name for name, _, _ in deployment.edges()}
        return SteeringState(
            edge_ramps=_ramps(self._edge_returned, edges, now, over_s),
            pop_ramps=_ramps(self._pop_returned, deployment.pops, now, over_s),
            edge_passes={name: sorted(passed) for name, passed in sorted(self._edge_passes.items()) if name in edges},
            pop_passes={name: sorted(passed) for name, passed in sorted(self._pop_passes.items()) if name in deployment.pops},
        )


def _serving(deployment: Deployment, health: Mapping[str, Health]) -> Iterator[tuple[str, bool]]:
    """Whether viewers are sent to each edge, as far as weights and checks say."""
    for name, pop, edge in deployment.edges():
        yield name, edge.weight > 0 and deployment.pops[pop].weight > 0 and health.get(name) != "down"


def _ramps(returned: Mapping[str, float], known: Iterable[str], now: float, over_s: float) -> dict[str, float]:
    ramps = {name: ramp(returned.get(name), now, over_s) for name in sorted(known)}
    return {name: part for name, part in ramps.items() if part < 1}
