"""When a supervisor starts a node again, and when it leaves it down. Pure: the caller keeps the clock.

A node never ends by itself, so every end that nobody asked for is a fault, exit status 0 included. It is started again
after a pause that doubles with each fault in a row; a node that ran well for a while begins anew. A node that says that it
cannot start (exit status 78) would say the same again, so it stays down until an operator has changed something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CANNOT_START: Final = 78  # EX_CONFIG of sysexits.h
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 15.0
RAN_WELL_S: Final = 60.0  # a fault after this long is taken as a new one


@dataclass(frozen=True, slots=True)
class History:
    """What is known of one node's starts: faults in a row, the last one included."""

    faults: int = 0


@dataclass(frozen=True, slots=True)
class StartAgain:
    """Start the node again after `pause_s` seconds."""

    pause_s: float
    history: History


@dataclass(frozen=True, slots=True)
class StayDown:
    """The node cannot start; a change by an operator is needed first."""


def after_exit(history: History, status: int, ran_s: float) -> StartAgain | StayDown:
    """What to do when a node ended unasked with `status` (negative: by that signal) after `ran_s` seconds."""
    if status == CANNOT_START:
        return StayDown()
    faults = 1 if ran_s >= RAN_WELL_S else history.faults + 1
    # The exponent is bounded before the power is taken: a node may fail for years.
    pause_s = min(FIRST_PAUSE_S * 2 ** min(faults - 1, 16), LONGEST_PAUSE_S)
    return StartAgain(pause_s, History(faults))


def describe_exit(status: int, signal_names: dict[int, str]) -> str:
    """`status 1` or `signal SIGKILL`, for logs and messages."""
    if status >= 0:
        return f"status {status}"
    return f"signal {signal_names.get(-status, str(-status))}"
