"""The cold path, a thousand followers and two workers alone, without other caches: a minute instead of twenty.

python -m bench.speed.paths --write
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from bench.speed import coldpath, followers, report, scaling
from bench.speed.__main__ import NAMES, ROOT, _site
from bench.speed.peers import headwater
from bench.speed.servers import program

NAME = "paths"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed.paths")
    parser.add_argument("--requests", type=int, default=1000, help="misses by each way")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/benchmarks.md")
    asked = parser.parse_args()
    for needed in ("wrk", "taskset", "setpriv", "openssl"):
        if program(needed) is None:
            print(f"{needed} is missing: run bench/install-peers", file=sys.stderr)
            return 2
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder, _site(Path(folder)) as site:
        lab = headwater.lab(site)
        cold = coldpath.measure(lab, site, asked.requests)
        woken = followers.measure(lab, site)
        scaled = scaling.measure(lab, site, NAMES, 2.0)
    text = section(report.Besides(cold, scaled, woken), busy)
    print(text)
    if asked.write:
        report.put_into(ROOT / "docs" / "benchmarks.md", text, NAME)
    return 0


def section(besides: report.Besides, busy: float) -> str:
    """The Markdown between the marks."""
    when = f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `python -m bench.speed.paths`; {report.machine()}."
    lines = [f"<!-- {NAME} -->", "## Misses, followers and workers", "", when, f"Load average when it began: {busy:.1f}.", ""]
    return "\n".join([*lines, *report.paths(besides), f"<!-- /{NAME} -->"])


if __name__ == "__main__":
    sys.exit(main())
