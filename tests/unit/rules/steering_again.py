"""Steering written once more from docs/steering.md alone, on plain JSON values, as someone in another language would.

It shares no line with headwater/rules, so that the page and the vectors say enough, and the code says the same.
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Any

Json = dict[str, Any]


def claim(key: str, node: str, weight: float) -> float:
    drawn = int.from_bytes(sha256(key.encode() + b"\0" + node.encode()).digest()[:8], "big")
    return -weight / math.log((drawn + 0.5) / 2**64)


def in_rank(key: str, weights: dict[str, float]) -> list[str]:
    return sorted(weights, key=lambda node: (-claim(key, node, weights[node]), node))


def usable(world: Json) -> tuple[dict[str, Json], dict[str, Json]]:
    """(POPs, edges) that may be named."""
    pops, edges = world["pops"], world["edges"]
    undrained = {name: edge for name, edge in edges.items() if edge["weight"] > 0 and pops[edge["pop"]]["weight"] > 0}
    healthy = {name: edge for name, edge in undrained.items() if edge["healthy"]}
    if healthy or world["fail_closed"]:
        return pops, healthy
    if undrained:
        return pops, undrained
    pops = {name: {**pop, "weight": pop["weight"] or 1} for name, pop in pops.items()}
    edges = {name: {**edge, "weight": edge["weight"] or 1} for name, edge in edges.items()}
    return pops, {name: edge for name, edge in edges.items() if edge["healthy"]} or edges


def answer(bucket: str, region: str, world: Json) -> list[str]:
    pops, edges = usable(world)
    here = region if region in world["regions"] else world["default_region"]
    first = list(dict.fromkeys([here, *world["regions"][here]["spill"]]))
    pools = [[one] for one in first] + [[one for one in world["regions"] if one not in first]]
    order: list[str] = []
    for pool in pools:
        weights = {
            name: pop["weight"] * pop["ramp"]
            for name, pop in pops.items()
            if pop["region"] in pool and any(edge["pop"] == name for edge in edges.values())
        }
        order += in_rank(f"pop/{bucket}", weights)
    order = [pop for pop in order if bucket not in pops[pop]["passes"]] + [pop for pop in order if bucket in pops[pop]["passes"]]
    named: list[str] = []
    for pop in order:
        weights = {name: edge["weight"] * edge["ramp"] for name, edge in edges.items() if edge["pop"] == pop}
        rank = in_rank(f"edge/{bucket}", weights)
        named += [edge for edge in rank if bucket not in edges[edge]["passes"]]
        named += [edge for edge in rank if bucket in edges[edge]["passes"]]
    return named
