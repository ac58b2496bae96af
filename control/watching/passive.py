"""What edges' own counters say of their health: one opinion beside those of the vantages that check (`verdict`), never alone.

Who answers 5xx, times out or cuts clients off far more often than the other edges is called bad by `traffic`. It never calls
anybody good: an edge that is dead has counters, too, until they are old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from control.watching.traffic import Counters
from headwater.rules.failing import Tally, failing

VANTAGE: Final = "traffic"
WINDOW_S: Final = 10.0  # short: errors of half a minute ago say little of now
FRESH_S: Final = 10.0  # counters are read every three seconds


def traffic_opinions(readings: Mapping[str, Sequence[Counters]], now: float) -> dict[str, str]:
    """By edge among `readings` that fails its viewers at Unix time `now`: what to say of it."""
    tallies = {edge: tally for edge, of_edge in readings.items() if (tally := _recent(of_edge, now)) is not None}
    return {edge: f"fails {tally.share:.0%} of its {tally.requests} latest requests" for edge, tally in failing(tallies).items()}


def _recent(readings: Sequence[Counters], now: float) -> Tally | None:
    """Between the last reading and the latest one that is a window older, or the first there is."""
    if len(readings) < 2 or now - readings[-1].at > FRESH_S:
        return None
    last = readings[-1]
    older = [one for one in readings if one.at <= last.at - WINDOW_S]
    first = older[-1] if older else readings[0]
    if first.process_start != last.process_start:
        return None
    failed = (last.failed - first.failed) + (last.cut_off - first.cut_off)
    return Tally(int(last.requests - first.requests), int(failed))
