"""Who watches what, from when, for how long: drawn once from the scenario's seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from loadtest.scenario import Scenario


@dataclass(frozen=True, slots=True)
class PlannedViewer:
    """`starts_at_s` counts from the start of the run; `seed` is for what the viewer draws while watching."""

    number: int
    starts_at_s: float
    video_id: str
    network: IPv4Network | IPv6Network
    watch_s: float
    seed: int


def plan_viewers(scenario: Scenario, video_ids: Sequence[str]) -> list[PlannedViewer]:
    """The same scenario and videos give the same viewers. `video_ids`: most popular first, not empty."""
    drawn = random.Random(scenario.seed)
    popularity = [1 / rank**scenario.videos.zipf for rank in range(1, len(video_ids) + 1)]
    weights = [audience.weight for audience in scenario.audiences]
    return [
        PlannedViewer(
            number=number,
            starts_at_s=scenario.arrival.over * number / scenario.viewers,
            video_id=drawn.choices(video_ids, popularity)[0],
            network=drawn.choices(scenario.audiences, weights)[0].network,
            watch_s=drawn.uniform(scenario.watch.least, scenario.watch.most),
            seed=drawn.getrandbits(64),
        )
        for number in range(scenario.viewers)
    ]
