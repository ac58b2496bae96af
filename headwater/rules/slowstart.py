"""Slow start: a node that comes back counts with a growing part of its weight, for its store is cold and its peers are warm.

The part grows in steps, so that the config which nodes see changes a few times and not all the time. Pure; time is an argument.
"""

from __future__ import annotations

import math
from typing import Final

STEPS: Final = 8


def ramp(returned_at: float | None, now: float, over_s: float) -> float:
    """The part of the weight that counts at Unix time `now`: from 1/8 at the return to 1 after `over_s` seconds."""
    if returned_at is None or over_s <= 0:
        return 1.0
    progress = (now - returned_at) / over_s
    return min(STEPS, max(1, math.floor(progress * STEPS) + 1)) / STEPS
