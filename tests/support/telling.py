"""What a drill says: printed as it comes, and kept, so that the whole can be put into a page."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from bench.placing import placed
from tests.support.deployments import ROOT


class Telling:
    def __init__(self) -> None:
        self._lines: list[str] = []

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        self._lines.append(line)

    def put_into(self, page: str, name: str) -> None:
        """Into docs/{page}, in place of what the drill `name` said there before."""
        head = f"{datetime.now(UTC):%Y-%m-%d}, `make drills DRILL={name}`, load average {os.getloadavg()[0]:.0f} at the end:"
        text = "\n".join(["", head, "", *(f"- {line}" for line in self._lines), "", ""])
        placed(ROOT / "docs" / page, name, text)
