"""A node's health as a state machine over its checks. Pure; time is an argument.

    unknown --good--> up                      the first good check is believed: nobody waits for a new node
    unknown --PATIENCE bad in a row--> down   (or down_after, if that is more: a whole deployment may just be starting)
    up      --down_after bad in a row--> down
    down    --up_after good in a row--> up

A check is the verdict of several vantages (`verdict`). Who goes down again and again must be good for longer each time before it
is believed (FLAPS within FLAP_WINDOW_S: twice as long, then four times, at most MOST_PATIENCE times).

A check that agrees with the state ends the row of those that do not. `since` moves only with the state, so that "down
for 3 min" means it. Unknown counts as healthy for steering; it is what nodes are before control has looked often enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from headwater.settings.snapshot import Health

PATIENCE: Final = 8  # checks; the lab's slowest node serves within that many seconds

FLAP_WINDOW_S: Final = 600.0
FLAPS: Final = 3  # times down within the window that are no accident any more
MOST_PATIENCE: Final = 16


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """How many checks in a row move a node down, and up again."""

    down_after: int
    up_after: int


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """`against` counts the last checks in a row that contradict `state`; `error` is why the last bad check was bad; `downs` are
    the times at which it went down of late."""

    state: Health
    since: float
    against: int = 0
    error: str | None = None
    downs: tuple[float, ...] = ()


def verdict(opinions: Mapping[str, str | None]) -> str | None:
    """Why a node counts as bad, or None: more than half of those who looked must say so, so that one broken link takes nobody
    out. `opinions` are by vantage, None for good. Who is alone decides alone."""
    bad = {vantage: error for vantage, error in opinions.items() if error is not None}
    if len(bad) * 2 <= len(opinions):
        return None
    own = bad.get("control") or next(iter(bad.values()))
    return own if len(opinions) == 1 else f"{own} (say {len(bad)} of {len(opinions)} vantages)"


def good_checks_needed(health: NodeHealth, now: float, hysteresis: Hysteresis) -> int:
    """How many good checks in a row bring a node that is down up again."""
    recent = sum(1 for at in health.downs if now - at <= FLAP_WINDOW_S)
    return int(hysteresis.up_after * min(MOST_PATIENCE, 2 ** max(0, recent - FLAPS + 1)))


def after_check(health: NodeHealth, error: str | None, now: float, hysteresis: Hysteresis) -> NodeHealth:
    """The health after one more check at Unix time `now`; `error` is None when the check was good."""
    if error is None:
        return _after_good(health, now, hysteresis)
    if health.state == "down":
        return replace(health, against=0, error=error)
    needed = max(hysteresis.down_after, PATIENCE) if health.state == "unknown" else hysteresis.down_after
    if health.against + 1 >= needed:
        kept = tuple(at for at in health.downs if now - at <= FLAP_WINDOW_S)
        return NodeHealth("down", now, 0, error, (*kept, now) if health.state == "up" else kept)
    return replace(health, against=health.against + 1, error=error)


def _after_good(health: NodeHealth, now: float, hysteresis: Hysteresis) -> NodeHealth:
    if health.state == "up":
        return replace(health, against=0, error=None)
    if health.state == "unknown" or health.against + 1 >= good_checks_needed(health, now, hysteresis):
        return NodeHealth("up", now, downs=health.downs)
    return replace(health, against=health.against + 1)
