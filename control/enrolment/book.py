"""The ledger on disk: `enrolment/book.json` in control's folder, changed as a whole, one writer at a time, fsynced first.

`headwater up` writes it before control runs; afterwards control alone does. Digests only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

from control.enrolment.ledger import EnrolledNode, Ledger, StoredToken
from headwater.runtime.wholefiles import keep_json, kept_json, stamp_of, writing_alone

T = TypeVar("T")
FILE: Final = Path("enrolment") / "book.json"


class BookUnusable(Exception):
    """The file cannot be read or written; the message names it and the cure."""


class EnrolmentBook:
    """Methods block for a small file: call them in a thread. Raise BookUnusable, and what a change raises."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._reading = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._ledger = Ledger()

    def look(self) -> Ledger:
        """The ledger as the file has it now."""
        with self._reading:
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._ledger = self._read()
                self._stamp = stamp
            return self._ledger

    def change(self, change: Callable[[Ledger], tuple[Ledger, T]]) -> T:
        """Carries a change out: it is on disk when this returns. Nothing is written when it raises or changes nothing."""
        with self._writing():
            before = self._read()
            after, result = change(before)
            if after != before:
                try:
                    keep_json(self._file, _members(after))
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

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            return stamp_of(self._file)
        except OSError as error:
            raise self._trouble("read", error) from error

    def _read(self) -> Ledger:
        try:
            kept = kept_json(self._file)
            return Ledger() if kept is None else _ledger(kept)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._trouble("read", error) from error

    def _trouble(self, verb: str, error: Exception) -> BookUnusable:
        return BookUnusable(
            f"{self._file} cannot be {verb} ({error}): see to the disk and to the file's owner, or restore it from a copy; "
            "without it every certificate counts, also one that was revoked, and tokens have to be made anew"
        )


def _members(ledger: Ledger) -> dict[str, Any]:
    return {
        "tokens": [asdict(token) for token in ledger.tokens.values()],
        "nodes": [asdict(node) for node in ledger.nodes.values()],
    }


def _ledger(members: Any) -> Ledger:
    """Raises KeyError, TypeError or ValueError."""
    tokens = [StoredToken(**one) for one in members["tokens"]]
    nodes = [EnrolledNode(**one) for one in members["nodes"]]
    return Ledger({token.id: token for token in tokens}, {node.node: node for node in nodes})
