"""Who serves which bucket, for all 4,096 buckets at once: what `steer` answers first, without asking it so often. Pure.

A node's draw for a bucket does not depend on its weight or on the other nodes, so draws are kept: the world after a change costs
comparisons only. `owners` is compared with `steer` over random worlds in the tests.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

from headwater.rules.names import BUCKETS, Bucket
from headwater.rules.steering import Edge, World, ranked_edges, region_order

Level = Literal["pop", "edge"]
NOBODY: Final = ""  # owns the buckets of a world without edges
_DRAWS_KEPT: Final = 8192  # nodes; 32 KiB each
_NOT_DRAWN: Final = 0.0  # ln(u) is below 0

_sha256 = hashlib.sha256


@lru_cache(maxsize=_DRAWS_KEPT)
def _draws(level: Level, name: str) -> array[float]:
    """ln(u) of the node by bucket, as `rendezvous.score` draws it; those of edges are filled in as they are needed."""
    if level == "edge":
        return array("d", [_NOT_DRAWN]) * BUCKETS
    end, log, number, scale = b"\x00" + name.encode(), math.log, int.from_bytes, 2.0**64
    return array(
        "d", [log((number(_sha256(b"pop/%03x" % bucket + end).digest()[:8], "big") + 0.5) / scale) for bucket in range(BUCKETS)]
    )


def owners(world: World) -> dict[str, tuple[str, ...]]:
    """By region, the edge that `steer` names first for each bucket; NOBODY where there is no edge."""
    usable = world.usable
    passed_on = _passed_on(usable)
    found: dict[frozenset[str], tuple[str, ...]] = {}
    owned: dict[str, tuple[str, ...]] = {}
    for region in world.regions:
        serving = next((names for names in region_order(region.name, usable) if _pop_weights(names, usable)), frozenset[str]())
        if serving not in found:
            found[serving] = _owners_among(_pop_weights(serving, usable), usable)
        owned[region.name] = found[serving]
        if passed_on and found[serving]:
            mended = list(found[serving])
            for bucket in passed_on:  # few: what the fullest nodes have too much of
                mended[bucket] = next((edge.name for edge in ranked_edges(Bucket(bucket), region.name, world)), NOBODY)
            owned[region.name] = tuple(mended)
    return owned


def _passed_on(usable: World) -> frozenset[int]:
    """The buckets that some node of the world passes on."""
    return frozenset().union(*(pop.passes for pop in usable.pops), *(edge.passes for edge in usable.edges))


def _pop_weights(regions: frozenset[str], usable: World) -> list[tuple[str, float]]:
    """The POPs that have a usable edge, by name: of equal claims the first name wins, as in `ranked`."""
    found = [pop for region in regions for pop in usable.pops_by_region.get(region, ())]
    return sorted((pop.name, pop.weight * pop.ramp) for pop in found if pop.weight > 0)


def _owners_among(pops: Sequence[tuple[str, float]], usable: World) -> tuple[str, ...]:
    if not pops:
        return (NOBODY,) * BUCKETS
    winners = _winning_pops(pops)
    owned = [NOBODY] * BUCKETS
    by_pop: dict[str, list[int]] = {}
    for bucket, pop in enumerate(winners):
        by_pop.setdefault(pop, []).append(bucket)
    for pop, buckets in by_pop.items():
        edges = sorted((edge for edge in usable.edges_by_pop[pop] if edge.weight > 0), key=lambda edge: edge.name)
        if len(edges) == 1:
            for bucket in buckets:
                owned[bucket] = edges[0].name
        elif edges:
            _share_out(buckets, edges, owned)
    return tuple(owned)


def _winning_pops(pops: Sequence[tuple[str, float]]) -> list[str]:
    if len(pops) == 1:
        return [pops[0][0]] * BUCKETS
    best, winners = [-1.0] * BUCKETS, [NOBODY] * BUCKETS
    for name, weight in pops:
        for bucket, logarithm in enumerate(_draws("pop", name)):
            claim = -weight / logarithm
            if claim > best[bucket]:
                best[bucket] = claim
                winners[bucket] = name
    return winners


def _share_out(buckets: Sequence[int], edges: Sequence[Edge], owned: list[str]) -> None:
    drawn = [(edge.name, edge.weight * edge.ramp, b"\x00" + edge.name.encode(), _draws("edge", edge.name)) for edge in edges]
    for bucket in buckets:
        best = -1.0
        for name, weight, end, logarithms in drawn:
            logarithm = logarithms[bucket]
            if logarithm == _NOT_DRAWN:
                digest = _sha256(b"edge/%03x" % bucket + end).digest()
                logarithm = logarithms[bucket] = math.log((int.from_bytes(digest[:8], "big") + 0.5) / 2.0**64)
            claim = -weight / logarithm
            if claim > best:
                best, owned[bucket] = claim, name
