"""Whose requests fail, so that it says something of them and not of what stands behind everybody. Pure.

Law
    - Who had fewer than LEAST_REQUESTS within the window is not judged, and nobody is judged alone: with an origin away, or
      a site that is broken, all fail alike, and taking them out would help nobody.
    - Failing is at least BAD_SHARE of the requests, and TIMES_OTHERS times the median share of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final

LEAST_REQUESTS: Final = 20
BAD_SHARE: Final = 0.25
TIMES_OTHERS: Final = 4.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests within a window, and how many of them failed."""

    requests: int
    failed: int

    @property
    def share(self) -> float:
        return self.failed / self.requests if self.requests else 0.0


def failing(tallies: Mapping[str, Tally]) -> dict[str, Tally]:
    """Those among `tallies` whose requests fail, and others' do not."""
    judged = {name: tally for name, tally in tallies.items() if tally.requests >= LEAST_REQUESTS}
    found: dict[str, Tally] = {}
    for name, tally in judged.items():
        others = [other.share for peer, other in judged.items() if peer != name]
        if others and tally.share >= BAD_SHARE and tally.share >= TIMES_OTHERS * median(others):
            found[name] = tally
    return found
