"""The ledger on disk: `enrolment/book.json` in control's folder, changed as a whole, one writer at a time, fsynced first.

`headwater up` writes it before control runs; afterwards control alone does. Digests only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

from control.bookfile import BookFile
from control.enrolment.ledger import EnrolledNode, Ledger, StoredToken

T = TypeVar("T")
FILE: Final = Path("enrolment") / "book.json"


class BookUnusable(Exception):
    """The file cannot be read or written; the message names it and the cure."""


class EnrolmentBook:
    """Methods block for a small file: call them in a thread. Raise BookUnusable, and what a change raises."""

    def __init__(self, folder: Path) -> None:
        self._name = folder / FILE
        self._file: BookFile[Ledger] = BookFile(self._name, _ledger, _members, self._trouble)

    def look(self) -> Ledger:
        """The ledger as the file has it now."""
        return self._file.look()

    def change(self, change: Callable[[Ledger], tuple[Ledger, T]]) -> T:
        """Carries a change out: it is on disk when this returns. Nothing is written when it raises or changes nothing."""
        return self._file.change(change)

    def _trouble(self, verb: str, error: Exception) -> BookUnusable:
        return BookUnusable(
            f"{self._name} cannot be {verb} ({error}): see to the disk and to the file's owner, or restore it from a copy; "
            "without it every certificate counts, also one that was revoked, and tokens have to be made anew"
        )


def _members(ledger: Ledger) -> dict[str, Any]:
    return {
        "tokens": [asdict(token) for token in ledger.tokens.values()],
        "nodes": [asdict(node) for node in ledger.nodes.values()],
    }


def _ledger(members: Any) -> Ledger:
    """Raises KeyError, TypeError or ValueError."""
    if members is None:
        return Ledger()
    tokens = [StoredToken(**one) for one in members["tokens"]]
    nodes = [EnrolledNode(**one) for one in members["nodes"]]
    return Ledger({token.id: token for token in tokens}, {node.node: node for node in nodes})
