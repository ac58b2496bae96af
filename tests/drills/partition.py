"""Cuts control off from all caches and the steering node, by links that hang, in each direction, and prints what it cost.

    python -m tests.drills partition [--lasts 40] [--write]

Viewers and DNS must be answered within seconds all the time, orders must name who is missing, and once bytes pass again all nodes
must have the latest snapshot, and have replayed what was purged, within BOUND_S. `--lasts`: seconds without control; more than a
poll's timeout, so that each way in which a connection can be lost comes up. What was on its way either arrives late (`kept`) or
never (`lost`), as when a firewall between has forgotten the connections.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

from tests.support.partition import CACHES, partition
from tests.support.telling import Telling

BOUND_S = 2.0  # checks carry the version once a second
WAYS = (
    # from control, to control, forgets
    (True, True, False),
    (True, True, True),
    (True, False, True),
    (False, True, True),
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="partition")
    parser.add_argument("--lasts", type=float, default=40.0)
    parser.add_argument("--write", action="store_true", help="into docs/operations.md")
    chosen = parser.parse_args(arguments)
    tell = Telling()
    failed = asyncio.run(_drill(tell, chosen.lasts))
    if chosen.write:
        tell.put_into("operations.md", "partition")
    return failed


async def _drill(tell: Telling, lasts_s: float) -> int:
    bad = 0
    for from_control, to_control, forgets in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            shown = await partition(
                Path(folder), from_control=from_control, to_control=to_control, forgets=forgets, lasts_s=lasts_s
            )
        cut = " and ".join(name for name, is_cut in (("from control", from_control), ("to control", to_control)) if is_cut)
        tell(
            f"{cut} cut, {'lost' if forgets else 'kept'}: order answered after {shown.order_s:.1f} s, missing "
            f"{', '.join(sorted(shown.missing))}; after healing: snapshot {shown.snapshot_s:.2f} s, purges replayed "
            f"{shown.purge_s:.2f} s, versions served {sorted(shown.served)}; load average {os.getloadavg()[0]:.1f}",
        )
        bad += max(shown.snapshot_s, shown.purge_s) > BOUND_S
        bad += shown.missing != set(CACHES)
        bad += shown.served != {2}
    return 1 if bad else 0
