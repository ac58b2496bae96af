"""What a cache sees of those that ask it: a child that leaves most of its answers unread, or reads them too slowly, while the
others do not, is told of at `/vantage`. A viewer who leaves costs a fill now and then; a node that is ill, nearly all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from headwater.rules.failing import Tally, failing

WINDOW_S: Final = 10.0
CHILDREN_AT_MOST: Final = 1_000


class Children:
    """Answers by child over the last one to two windows. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._before: dict[str, Tally] = {}
        self._now: dict[str, Tally] = {}

    def answered(self, child: str, *, left: bool) -> None:
        """An answer to `child` has ended; `left`: before its end, by the child's doing."""
        self._turn()
        tally = self._now.get(child, Tally(0, 0))
        if tally.requests or len(self._now) < CHILDREN_AT_MOST:
            self._now[child] = Tally(tally.requests + 1, tally.failed + left)

    def troubles(self) -> dict[str, str]:
        """Children that leave their answers, with what to say of them."""
        self._turn()
        return {
            child: f"it left {tally.failed} of the {tally.requests} answers to it unread of late"
            for child, tally in failing(self._tallies()).items()
        }

    def _tallies(self) -> dict[str, Tally]:
        nothing = Tally(0, 0)
        both = {child: (self._before.get(child, nothing), self._now.get(child, nothing)) for child in self._before | self._now}
        return {child: Tally(then.requests + now.requests, then.failed + now.failed) for child, (then, now) in both.items()}

    def _turn(self) -> None:
        past_s = self._clock() - self._since
        if past_s >= WINDOW_S:
            self._before = self._now if past_s < 2 * WINDOW_S else {}
            self._now = {}
            self._since = self._clock()
