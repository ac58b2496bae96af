"""What docs/steering-vectors.json publishes: worlds as plain values, and what steering answers in each.

python -m tests.support.steering_vectors > docs/steering-vectors.json
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from headwater.rules.names import BUCKETS, Bucket
from headwater.rules.rendezvous import score
from headwater.rules.steering import World, steer
from tests.support.worlds import golden_world

ASKED = (*range(12), 0x3FA, 0x7FF, 0x800, 0xABC, 0xFFE, 0xFFF)


def changed(pops: dict[str, dict[str, Any]], edges: dict[str, dict[str, Any]], **of_world: Any) -> World:
    """The golden world with some fields of some POPs and edges set."""
    world = golden_world()
    return replace(
        world,
        pops=tuple(replace(pop, **pops.get(pop.name, {})) for pop in world.pops),
        edges=tuple(replace(edge, **edges.get(edge.name, {})) for edge in world.edges),
        **of_world,
    )


def worlds() -> dict[str, World]:
    """By what each shows."""
    all_down = {edge.name: {"healthy": False} for edge in golden_world().edges}
    every_third = frozenset(range(0, BUCKETS, 3))
    return {
        "four POPs in three regions, one edge drained": golden_world(),
        "a POP and an edge down": changed(
            {}, {"ams-1": {"healthy": False}, "ams-2": {"healthy": False}, "iad-1": {"healthy": False}}
        ),
        "fra drained": changed({"fra": {"weight": 0.0}}, {}),
        "ams and fra-2 coming back": changed({"ams": {"ramp": 0.25}}, {"fra-2": {"ramp": 0.125}}),
        "fra passes every third bucket on, as does iad-1": changed(
            {"fra": {"passes": every_third}}, {"iad-1": {"passes": every_third}}
        ),
        "nobody healthy: checks are not believed": changed({}, all_down),
        "nobody healthy, fail closed": changed({}, all_down, fail_closed=True),
    }


def plain(world: World) -> dict[str, Any]:
    """The world as JSON has it; what does not bear on who is named is left out."""
    return {
        "default_region": world.default_region,
        "fail_closed": world.fail_closed,
        "regions": {region.name: {"spill": list(region.spill)} for region in world.regions},
        "pops": {
            pop.name: {"region": pop.region, "weight": pop.weight, "ramp": pop.ramp, "passes": _written(pop.passes)}
            for pop in world.pops
        },
        "edges": {
            edge.name: {
                "pop": edge.pop,
                "weight": edge.weight,
                "healthy": edge.healthy,
                "ramp": edge.ramp,
                "passes": _written(edge.passes),
            }
            for edge in world.edges
        },
    }


def _written(passes: frozenset[int]) -> list[str]:
    """Of the buckets that vectors ask for."""
    return [f"{bucket:03x}" for bucket in ASKED if bucket in passes]


def document() -> dict[str, Any]:
    return {
        "about": "Vectors for docs/steering.md: scores of rendezvous hashing, then worlds and the edges that steering names.",
        "scores": [
            {"key": key, "node": node, "weight": weight, "score": score(key.encode(), node, weight)}
            for key in ("pop/000", "pop/3fa", "edge/3fa", "edge/fff")
            for node, weight in (("fra", 100.0), ("fra-1", 100.0), ("fra-1", 12.5))
        ],
        "worlds": [
            {
                "what": what,
                "world": plain(world),
                "answers": [
                    {
                        "bucket": f"{bucket:03x}",
                        "region": region,
                        "edges": [edge.name for edge in steer(Bucket(bucket), region, world)],
                    }
                    for bucket in ASKED
                    for region in ("eu", "us", "ap", "elsewhere")
                ],
            }
            for what, world in worlds().items()
        ],
    }


def text() -> str:
    """The file, one answer a line."""
    published = document()
    lines = []
    for block in published["worlds"]:
        answers = ",\n".join("    " + json.dumps(answer) for answer in block["answers"])
        world = json.dumps(block["world"])
        lines.append(f'  {{"what": {json.dumps(block["what"])},\n   "world": {world},\n   "answers": [\n{answers}\n   ]}}')
    scores = ",\n".join("  " + json.dumps(one) for one in published["scores"])
    about = json.dumps(published["about"])
    return f'{{\n "about": {about},\n "scores": [\n{scores}\n ],\n "worlds": [\n' + ",\n".join(lines) + "\n ]\n}\n"


if __name__ == "__main__":
    print(text(), end="")
