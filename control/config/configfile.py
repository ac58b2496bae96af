"""The config file on control's disk, as rollouts use it: replaced whole, and nothing that an operator wrote is lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from control.config.wanted import Wanted
from control.rollouts.rolloutstate import End, RolloutState
from headwater.runtime.wholefiles import replace_whole
from headwater.settings.load import ConfigError, Problem, parse_deployment


class ConfigFile:
    """`file` None: a control without a file, whose config comes from its history only. All methods but `wanted` may block."""

    def __init__(self, file: Path | None, folder: Path, data: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._folder = folder
        self._data = data
        self._clock = clock

    @property
    def text(self) -> str | None:
        """What stands in the file now; None when it cannot be read."""
        try:
            return self._file.read_text(encoding="utf-8") if self._file is not None else None
        except (OSError, UnicodeDecodeError):
            return None

    def wanted(self, end: End, shown: str | None = None) -> Wanted:
        """The config of a text, paths in it relative to the file's folder. Raises ConfigError; its problems name `shown`."""
        file = self._file or self._data / "config.yaml"
        try:
            return Wanted(end.text, parse_deployment(end.text, file), frozenset(end.drains))
        except ConfigError as error:
            if shown is None:
                raise
            problems = [Problem(Path(shown), one.line, one.path, one.reason) for one in error.problems]
            raise ConfigError(problems) from error

    def become(self, text: str, expected: str) -> str | None:
        """Makes `text` the file's content. What somebody wrote there meanwhile (anything but `expected`) is put aside first.
        The sentence that operators should hear, or None."""
        if self._file is None:
            return None
        now = self.text
        if now == text:
            return None
        told = None
        try:
            if now is not None and now != expected:
                aside = self._folder / f"set-aside-{int(self._clock())}.yaml"
                replace_whole(aside, now.encode())
                told = f"{self._file} was edited meanwhile; the edit is kept in {aside}"
            mode = os.stat(self._file).st_mode & 0o777 if self._file.exists() else 0o644
            replace_whole(self._file.resolve(), text.encode(), mode)
        except OSError as error:
            return f"{self._file} cannot be written ({error.strerror}): put the version of `headwater history` there by hand"
        return told

    def text_after_rollback(self, state: RolloutState) -> str | None:
        """The text that counts as seen: the one that was refused, if it stands in the file; else the one of before, so that
        what was written meanwhile is an edit."""
        return state.after.text if self.text == state.after.text else state.before.text
