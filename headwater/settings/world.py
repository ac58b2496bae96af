"""What steering sees of a snapshot: plain values, built once for each snapshot."""

from __future__ import annotations

from headwater.rules.steering import Edge, Pop, Region, World
from headwater.settings.geo import GeoRegions, current_regions
from headwater.settings.snapshot import Snapshot

_latest: tuple[Snapshot, World] | None = None


def world_of(snapshot: Snapshot) -> World:
    """The world of `snapshot`; asked again for the same snapshot object, the same world, until the database was replaced."""
    global _latest
    geo = snapshot.deployment.steering.geo
    database = current_regions(geo) if geo is not None else None
    latest = _latest  # read and replaced whole: threads ask too
    if latest is None or latest[0] is not snapshot or latest[1].database is not database:
        _latest = latest = (snapshot, _built(snapshot, database))
    return latest[1]


def _built(snapshot: Snapshot, database: GeoRegions | None) -> World:
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
        database=database,
        fail_closed=deployment.steering.fail_closed,
    )
