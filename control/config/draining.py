"""Which POPs and edges operators have drained beside the config file. Kept on disk; a drain lasts until somebody undrains."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from control.audit import Asker, asker_from
from headwater.runtime.logs import Log
from headwater.runtime.wholefiles import keep_json, kept_json


@dataclass(frozen=True, slots=True)
class Drain:
    """Since when (Unix seconds), and by whom."""

    since: float
    asker: Asker


class Drains:
    """Drains by name of the POP or edge. `put` and `start` block."""

    def __init__(self, folder: Path, log: Log, *, clock: Callable[[], float] = time.time) -> None:
        self._file = folder / "drains.json"
        self._log = log
        self._clock = clock
        self.drains: Mapping[str, Drain] = {}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.drains)

    def start(self) -> None:
        try:
            kept = kept_json(self._file) or {}
            self.drains = {
                str(name): Drain(float(members["since"]), asker_from(members["asker"])) for name, members in kept.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.error("the drains cannot be read: nothing is drained beside the config", error=repr(error))

    def put(self, names: frozenset[str], asker: Asker) -> None:
        """Exactly these are drained from now on; those that were keep their since. Raises OSError; then nothing changed."""
        now = self._clock()
        drains = {name: self.drains.get(name) or Drain(now, asker) for name in sorted(names)}
        keep_json(self._file, {name: asdict(drain) for name, drain in drains.items()})
        self.drains = drains
