"""What steering sees of a snapshot: plain values, built once for each snapshot."""

from __future__ import annotations

from headwater.rules.steering import Edge, Pop, Region, World
from headwater.settings.snapshot import Snapshot

_latest: tuple[Snapshot, World] | None = None


def world_of(snapshot: Snapshot) -> World:
    """The world of `snapshot`; asked again for the same snapshot object, the same world."""
    global _latest
    latest = _latest  # read and replaced whole: threads ask too
    if latest is None or latest[0] is not snapshot:
        _latest = latest = (snapshot, _built(snapshot))
    return latest[1]


def _built(snapshot: Snapshot) -> World:
    deployment, state = snapshot.deployment, snapshot.steering_state
    return World(
        regions=tuple(
            Region(name, networks=tuple(region.networks), spill=tuple(region.spill))
            for name, region in deployment.regions.items()
        ),
        pops=tuple(
            Pop(name, pop.region, pop.weight, state.pop_ramps.get(name, 1.0), frozenset(state.pop_passes.get(name, ())))
            for name, pop in deployment.pops.items()
        ),
        edges=tuple(
            Edge(
                name,
                pop,
                edge.listen,
                edge.weight,
                snapshot.healthy(name),
                state.edge_ramps.get(name, 1.0),
                frozenset(state.edge_passes.get(name, ())),
            )
            for name, pop, edge in deployment.edges()
        ),
        default_region=deployment.steering.default_region,
        fail_closed=deployment.steering.fail_closed,
    )
