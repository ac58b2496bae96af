"""A rollout as it is kept on disk: enough to go on after a kill at any moment. Pure but for its two file functions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from control.audit import Asker, asker_from
from headwater.runtime.wholefiles import keep_json, kept_json

LINES_KEPT: Final = 400


class Status(StrEnum):
    """Where a rollout is. ENDING and BACK are decided already: after a kill they are carried out again, whole."""

    RUNNING = "running"
    ENDING = "ending"
    BACK = "rolling back"
    DONE = "done"
    ROLLED_BACK = "rolled back"


ENDED: Final = (Status.DONE, Status.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a rollout: the config's text, and what is drained beside it."""

    text: str
    drains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """Something that operators see of the progress. `at` are Unix seconds."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class RolloutState:
    """`version` is the number in the history, None of a drain. `step` counts from 0. `up` are the nodes that were up at the
    beginning, `failing` the share of failed requests that each node had then."""

    id: str
    what: str
    asker: Asker
    began: float
    before: End
    after: End
    version: int | None
    status: Status = Status.RUNNING
    step: int = 0
    steps: tuple[str, ...] = ()
    reason: str = ""
    up: tuple[str, ...] = ()
    failing: dict[str, float] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    dropped: int = 0
    ended: float | None = None

    @property
    def active(self) -> bool:
        return self.status not in ENDED

    def said(self, at: float, text: str) -> RolloutState:
        """With one more line; the oldest are dropped when there are too many."""
        lines = (*self.lines, Line(at, text))
        over = max(0, len(lines) - LINES_KEPT)
        return replace(self, lines=lines[over:], dropped=self.dropped + over)


def members_of(state: RolloutState, *, with_texts: bool = False) -> dict[str, Any]:
    members = asdict(state)
    if not with_texts:
        for end in ("before", "after"):
            del members[end]["text"]
    return members


def keep_state(file: Path, state: RolloutState) -> None:
    """Raises OSError."""
    keep_json(file, members_of(state, with_texts=True))


def kept_state(file: Path) -> RolloutState | None:
    """Raises OSError, ValueError, KeyError or TypeError when what is there cannot be read."""
    members = kept_json(file)
    if members is None:
        return None
    return RolloutState(
        id=str(members["id"]),
        what=str(members["what"]),
        asker=asker_from(members["asker"]),
        began=float(members["began"]),
        before=_end_from(members["before"]),
        after=_end_from(members["after"]),
        version=None if members["version"] is None else int(members["version"]),
        status=Status(members["status"]),
        step=int(members["step"]),
        steps=tuple(map(str, members["steps"])),
        reason=str(members["reason"]),
        up=tuple(map(str, members["up"])),
        failing={str(node): float(share) for node, share in members["failing"].items()},
        lines=tuple(Line(float(line["at"]), str(line["text"])) for line in members["lines"]),
        dropped=int(members["dropped"]),
        ended=None if members["ended"] is None else float(members["ended"]),
    )


def _end_from(members: Any) -> End:
    return End(str(members["text"]), tuple(map(str, members["drains"])))
