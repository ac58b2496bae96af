"""Of what edges fetched before anybody asked, how much was then asked for: by region and by why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from control.watching.traffic import Counters
from headwater.settings.deployment import Deployment


@dataclass(frozen=True, slots=True)
class AheadShare:
    """Bytes since the region's edges began; `use_ratio` is 0 to 1."""

    region: str
    why: str
    fetched_bytes: float
    used_bytes: float
    use_ratio: float


def ahead_shares(deployment: Deployment, readings: Mapping[str, Sequence[Counters]]) -> Iterable[AheadShare]:
    """Those of which anything was fetched."""
    sums: dict[tuple[str, str], list[float]] = {}
    for name, pop, _ in deployment.edges():
        if not readings.get(name):
            continue
        latest, region = readings[name][-1], deployment.pops[pop].region
        for why, fetched in latest.fetched_ahead.items():
            held = sums.setdefault((region, why), [0.0, 0.0])
            held[0] += fetched
            held[1] += latest.used_ahead.get(why, 0.0)
    for (region, why), (fetched, used) in sorted(sums.items()):
        if fetched > 0:
            yield AheadShare(region, why, fetched, used, used / fetched)
