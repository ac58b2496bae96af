"""Worlds for steering: a fixed one that the golden vectors are about, and a Hypothesis strategy of any."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from hypothesis import strategies as st

from headwater.rules.addresses import Address
from headwater.rules.steering import Edge, Pop, Region, World

REGIONS = ("ap", "eu", "sa", "us")


def edge(name: str, pop: str, weight: float = 100, *, healthy: bool = True) -> Edge:
    return Edge(name, pop, Address("192.0.2.1", 8080), weight, healthy)


def golden_world() -> World:
    """Four POPs in three regions; sin has one edge, iad a drained one, fra one of double weight."""
    return World(
        regions=(
            Region("eu", (ip_network("192.0.2.0/24"), ip_network("2001:db8:1::/48")), ("us",)),
            Region("us", (ip_network("198.51.100.0/24"), ip_network("2001:db8:2::/48")), ("eu", "ap")),
            Region("ap", (ip_network("203.0.113.0/24"),)),
        ),
        pops=(Pop("fra", "eu", 200), Pop("ams", "eu"), Pop("iad", "us"), Pop("sin", "ap")),
        edges=(
            edge("fra-1", "fra"),
            edge("fra-2", "fra", 200),
            edge("ams-1", "ams"),
            edge("ams-2", "ams"),
            edge("iad-1", "iad"),
            edge("iad-2", "iad", 0),
            edge("iad-3", "iad"),
            edge("sin-1", "sin"),
        ),
        default_region="us",
    )


# Most have come back long ago and have room; a few pass a handful of buckets on, or all.
RAMPS = st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.125])
PASSES = st.sampled_from([frozenset[int](), frozenset[int](), frozenset(range(0, 4096, 3)), frozenset(range(4096))])
WEIGHTS = st.sampled_from([0.0, 1.0, 50.0, 100.0, 250.0])


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Any world with at least one edge: POPs without edges, drained, unhealthy, returning and full nodes, spill in any order."""
    names = draw(st.lists(st.sampled_from(REGIONS), min_size=1, unique=True))
    regions = [Region(name, (), tuple(draw(st.lists(st.sampled_from(names), unique=True)))) for name in names]
    pops = [
        Pop(f"pop{n}", draw(st.sampled_from(names)), draw(WEIGHTS), draw(RAMPS), draw(PASSES))
        for n in range(draw(st.integers(1, 5)))
    ]
    edges = [
        replace(
            edge(f"edge{n}", draw(st.sampled_from(pops)).name, draw(WEIGHTS), healthy=draw(st.booleans())),
            ramp=draw(RAMPS),
            passes=draw(PASSES),
        )
        for n in range(draw(st.integers(1, 8)))
    ]
    return World(tuple(regions), tuple(pops), tuple(edges), draw(st.sampled_from(names)))
