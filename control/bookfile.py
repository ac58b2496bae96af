"""A book that control keeps as one JSON file: read anew when somebody replaced it, changed as a whole by one writer at a time.

Commands write some of them beside control, or before it runs: what they changed counts at the next look.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from headwater.runtime.wholefiles import keep_json, kept_json, stamp_of, writing_alone

T = TypeVar("T")
R = TypeVar("R")


class BookFile(Generic[T]):
    """`parsed` makes a book of the file's plain values (None when there is no file yet), `members` the other way round.

    `parsed` raises KeyError, TypeError or ValueError for a damaged file; `trouble` makes the exception that callers get then, and
    when the disk fails, of a verb ("read", "written") and the cause. Methods block for a small file.
    """

    def __init__(
        self,
        file: Path,
        parsed: Callable[[Any], T],
        members: Callable[[T], Any],
        trouble: Callable[[str, Exception], Exception],
    ) -> None:
        self._file = file
        self._parsed = parsed
        self._members = members
        self._trouble = trouble
        self._looking = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._seen: T | None = None

    def look(self) -> T:
        """The book as the file has it now; read only when the file is another one than at the last look."""
        with self._looking:
            try:
                stamp = stamp_of(self._file)
            except OSError as error:
                raise self._trouble("read", error) from error
            if self._seen is None or stamp != self._stamp:
                self._seen = self._read()
                self._stamp = stamp
            return self._seen

    def change(self, change: Callable[[T], tuple[T, R]]) -> R:
        """Carries a change out: it is on disk when this returns. Nothing is written when it raises or changes nothing."""
        with self._writing():
            before = self._read()
            after, result = change(before)
            if after != before:
                try:
                    keep_json(self._file, self._members(after))
                except OSError as error:
                    raise self._trouble("written", error) from error
            return result

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time, whichever process or thread it is in."""
        with ExitStack() as held:
            try:
                held.enter_context(writing_alone(self._file.with_suffix(".lock")))
            except OSError as error:
                raise self._trouble("written", error) from error
            yield

    def _read(self) -> T:
        try:
            return self._parsed(kept_json(self._file))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._trouble("read", error) from error
