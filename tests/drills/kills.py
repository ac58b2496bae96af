"""An edge is killed at random moments under load; every byte that it serves afterwards is compared.

make drills DRILL="kills --kills 500 --write"
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.speed.report import put_into
from tests.faults.edge_kills import Tally, campaign
from tests.support.deployments import ROOT

DOCS = ROOT / "docs" / "eviction.md"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drills kills")
    parser.add_argument("--kills", type=int, default=200, help="about one a second on a quiet machine")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--write", action="store_true", help="put the outcome into docs/eviction.md")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        tally = asyncio.run(campaign(Path(folder), asked.kills, asked.seed))
    print(tally)
    if asked.write:
        put_into(DOCS, section(tally, asked.seed), "kills")
    return int(any((tally.damaged, tally.cut_off, tally.refused, tally.over_budget)))


def section(tally: Tally, seed: int) -> str:
    return f"""<!-- kills -->
## Kills

`make drills DRILL=kills` kills an edge with SIGKILL at random moments of up to a second under load and compares every byte that
it serves afterwards: whole bodies, parts of objects in slices, and what slow readers had got when the edge was killed.

{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {seed}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores: {tally}.
<!-- /kills -->
"""
