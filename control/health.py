"""A node's health as a state machine over its checks. Pure; time is an argument.

    unknown --good--> up                      the first good check is believed: nobody waits for a new node
    unknown --PATIENCE bad in a row--> down   (or down_after, if that is more: a whole deployment may just be starting)
    up      --down_after bad in a row--> down
    down    --up_after good in a row--> up

A check that agrees with the state ends the row of those that do not. `since` moves only with the state, so that "down
for 3 min" means it. Unknown counts as healthy for steering; it is what nodes are before control has looked often enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from headwater.settings.snapshot import Health

PATIENCE: Final = 8  # checks; the lab's slowest node serves within that many seconds


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """How many checks in a row move a node down, and up again."""

    down_after: int
    up_after: int


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """`against` counts the last checks in a row that contradict `state`; `error` is why the last bad check was bad."""

    state: Health
    since: float
    against: int = 0
    error: str | None = None


def after_check(health: NodeHealth, error: str | None, now: float, hysteresis: Hysteresis) -> NodeHealth:
    """The health after one more check at Unix time `now`; `error` is None when the check was good."""
    if error is None:
        return _after_good(health, now, hysteresis)
    if health.state == "down":
        return replace(health, against=0, error=error)
    needed = max(hysteresis.down_after, PATIENCE) if health.state == "unknown" else hysteresis.down_after
    if health.against + 1 >= needed:
        return NodeHealth("down", now, 0, error)
    return replace(health, against=health.against + 1, error=error)


def _after_good(health: NodeHealth, now: float, hysteresis: Hysteresis) -> NodeHealth:
    if health.state == "up":
        return replace(health, against=0, error=None)
    if health.state == "unknown" or health.against + 1 >= hysteresis.up_after:
        return NodeHealth("up", now)
    return replace(health, against=health.against + 1)
