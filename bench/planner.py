"""What a plan costs: 4,096 buckets, 100 POPs in one region and in ten, one and four edges a POP; draws made anew and remembered.

python -m bench.planner
"""

from __future__ import annotations

import time
from dataclasses import replace

from headwater.rules.addresses import Address
from headwater.rules.names import BUCKETS
from headwater.rules.ownership import _draws
from headwater.rules.planning import EdgeTraffic, Seen, plan
from headwater.rules.steering import Edge, Pop, Region, World

POPS = 100
BOUND_S = 1.0


def world(regions: int, edges: int) -> World:
    return World(
        tuple(Region(f"region{n}") for n in range(regions)),
        tuple(Pop(f"pop{n}", f"region{n % regions}") for n in range(POPS)),
        tuple(Edge(f"pop{n}-{m}", f"pop{n}", Address("127.0.0.1", 80)) for n in range(POPS) for m in range(edges)),
        "region0",
    )


def main() -> int:
    slowest = 0.0
    for regions, edges in ((1, 1), (1, 4), (10, 1), (10, 4)):
        before = world(regions, edges)
        after = replace(before, pops=(replace(before.pops[0], weight=50), *before.pops[1:]))
        traffic = {edge.name: EdgeTraffic(1e6, dict.fromkeys(range(0, BUCKETS, 4), 1e3)) for edge in before.edges}
        seen = Seen(traffic, {edge.name: 1e9 for edge in before.edges})
        _draws.cache_clear()
        took = []
        for _ in range(2):
            began = time.process_time()
            found = plan(before, after, seen)
            took.append(time.process_time() - began)
        slowest = max(slowest, took[0])
        print(
            f"{POPS} POPs, {regions} regions, {edges} edges a POP: {took[0]:.2f} s of CPU, then {took[1]:.2f} s; "
            f"{found.moved_buckets} buckets move"
        )
    print(f"slowest {slowest:.2f} s, bound {BOUND_S:.0f} s: {'holds' if slowest < BOUND_S else 'DOES NOT HOLD'}")
    return 0 if slowest < BOUND_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
