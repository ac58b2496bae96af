"""Which rung a player fetches next: by throughput, with the buffer as a brake. Pure.

The estimate is the smaller of two exponentially weighted means, a fast and a slow one, as hls.js and Shaka Player keep them: it
falls at once when the line gets worse and rises only when it stays better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

FAST_HALF_LIFE_S: Final = 2.0
SLOW_HALF_LIFE_S: Final = 5.0
# A rung is taken when it needs at most this share of the estimate: bit rates vary around their mean.
SAFETY: Final = 0.8
# Below this much buffer the player does not step up: a wrong guess would stall it.
STEP_UP_BUFFER_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class _Mean:
    """A mean in which a sample loses half its weight with every `half_life_s` of transfer after it."""

    half_life_s: float
    estimate: float = 0.0
    weight_s: float = 0.0

    def after(self, value: float, weight_s: float) -> _Mean:
        keep = math.exp2(-weight_s / self.half_life_s)
        return replace(self, estimate=value * (1 - keep) + self.estimate * keep, weight_s=self.weight_s + weight_s)

    def value(self) -> float:
        """Corrected for the zero it began with."""
        return self.estimate / (1 - math.exp2(-self.weight_s / self.half_life_s))


@dataclass(frozen=True, slots=True)
class Throughput:
    """What the line gives, in bit/s: `first_bps` until something was measured."""

    first_bps: float
    fast: _Mean = _Mean(FAST_HALF_LIFE_S)
    slow: _Mean = _Mean(SLOW_HALF_LIFE_S)

    def after(self, size_bytes: int, took_s: float) -> Throughput:
        """With one more transfer. Too short ones say nothing: they measure latency and the clock."""
        if took_s <= 0 or size_bytes <= 0:
            return self
        rate_bps = size_bytes * 8 / took_s
        return replace(self, fast=self.fast.after(rate_bps, took_s), slow=self.slow.after(rate_bps, took_s))

    def estimate_bps(self) -> float:
        if self.fast.weight_s == 0:
            return self.first_bps
        return min(self.fast.value(), self.slow.value())


def choose_rung(bandwidths_bps: Sequence[float], estimate_bps: float, buffer_s: float, current: int | None) -> int:
    """Index of the rung to fetch. `bandwidths_bps` rises; `current` is the rung of the segment before, None at first."""
    affordable = [index for index, bps in enumerate(bandwidths_bps) if bps <= estimate_bps * SAFETY]
    best = affordable[-1] if affordable else 0
    if current is not None and best > current and buffer_s < STEP_UP_BUFFER_S:
        return current
    return best
