"""Every version of the config that was ever tried: its text, who, when, what was planned and what became of it. Blocking."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from control.audit import Asker, asker_from
from headwater.runtime.logs import Log
from headwater.runtime.wholefiles import keep_json, kept_json


class Outcome(StrEnum):
    """What became of a version."""

    RUNNING = "running"
    APPLIED = "applied"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class Version:
    """`number` counts from 1. `source` says how it came: start, edit, apply or rollback; times are Unix seconds."""

    number: int
    at: float
    asker: Asker
    source: str
    text: str
    summary: str
    outcome: Outcome
    reason: str = ""
    ended: float | None = None


class History:
    """Versions in `{folder}/versions`, one file each; a file that cannot be read is skipped, and never overwritten."""

    def __init__(self, folder: Path, log: Log, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder / "versions"
        self._log = log
        self._clock = clock
        self.versions: dict[int, Version] = {}
        self._last = 0

    def start(self) -> None:
        """Reads what is there."""
        for file in sorted(self._folder.glob("[0-9]*.json")):
            self._last = max(self._last, int(file.stem) if file.stem.isdigit() else 0)
            try:
                version = _version_from(kept_json(file))
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._log.warning("a version of the config cannot be read", file=file.name, error=repr(error))
                continue
            self.versions[version.number] = version

    @property
    def in_force(self) -> Version | None:
        """The latest version that was applied."""
        return self.before(self._last + 1)

    @property
    def latest(self) -> Version | None:
        return self.versions[max(self.versions)] if self.versions else None

    def add(self, asker: Asker, source: str, text: str, summary: str, outcome: Outcome) -> Version:
        """A new version under the next number. Raises OSError; then there is none."""
        now = self._clock()
        ended = None if outcome is Outcome.RUNNING else now
        version = Version(self._last + 1, now, asker, source, text, summary, outcome, ended=ended)
        self._keep(version)
        return version

    def end(self, number: int, outcome: Outcome, reason: str = "") -> None:
        """What became of a version. Raises OSError, or KeyError when there is no such version."""
        version = self.versions[number]
        self._keep(replace(version, outcome=outcome, reason=reason, ended=self._clock()))

    def end_orphans(self, running: int | None) -> None:
        """Versions whose rollout never began, because control ended first, are no longer running. Raises OSError."""
        for version in list(self.versions.values()):
            if version.outcome is Outcome.RUNNING and version.number != running:
                self.end(version.number, Outcome.ROLLED_BACK, "control ended before its rollout began")

    def before(self, number: int) -> Version | None:
        """The version that was in force before this one."""
        earlier = [one for one in self.versions.values() if one.number < number and one.outcome is Outcome.APPLIED]
        return max(earlier, key=lambda one: one.number, default=None)

    def _keep(self, version: Version) -> None:
        keep_json(self._folder / f"{version.number:06d}.json", members_of(version))
        self.versions[version.number] = version
        self._last = max(self._last, version.number)


def members_of(version: Version, *, with_text: bool = True) -> dict[str, Any]:
    members = asdict(version)
    if not with_text:
        del members["text"]
    return members


def _version_from(members: Any) -> Version:
    """Raises KeyError, TypeError or ValueError."""
    return Version(
        number=int(members["number"]),
        at=float(members["at"]),
        asker=asker_from(members["asker"]),
        source=str(members["source"]),
        text=str(members["text"]),
        summary=str(members["summary"]),
        outcome=Outcome(members["outcome"]),
        reason=str(members["reason"]),
        ended=None if members["ended"] is None else float(members["ended"]),
    )
