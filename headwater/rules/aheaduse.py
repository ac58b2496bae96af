"""What a cache fetched before anybody asked, and how much of it was then used. Pure, in bounded memory.

An object counts as used once, whole, at the first answer from it. What is not asked for until it is forgotten, or until the
process ends, counts as unused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

REMEMBERED: Final = 100_000


class Why(StrEnum):
    """Who wanted it ahead; also the metric's label."""

    PREFETCH = "prefetch"  # the next segments of a viewer
    ORDER = "order"  # `headwater warm`, and handoffs
    PREPOSITION = "preposition"  # the nightly window


Told = Callable[[Why, int], None]


class Board(Protocol):
    """Where the workers of a node show each other what lies unused."""

    def put(self, key: str, why: Why, size_bytes: int) -> None: ...

    def take(self, key: str) -> tuple[Why, int] | None: ...


class AheadUse:
    """`fetched(why, bytes)` and `used(why, bytes)` are told of every object once; `board` is for several workers."""

    def __init__(self, fetched: Told, used: Told, board: Board | None = None) -> None:
        self.unused: OrderedDict[str, tuple[Why, int | None]] = OrderedDict()  # None: its bytes still arrive
        self._asked_early: set[str] = set()
        self._fetched = fetched
        self._used = used
        self._board = board

    def begins(self, key: str, why: Why) -> None:
        self.unused[key] = (why, None)
        self.unused.move_to_end(key)
        if len(self.unused) > REMEMBERED:
            self._asked_early.discard(self.unused.popitem(last=False)[0])

    def ends(self, key: str, size_bytes: int | None) -> None:
        """The object is there with so many bytes; None: it could not be had."""
        why, _ = self.unused.pop(key, (None, None))
        asked_early = key in self._asked_early
        self._asked_early.discard(key)
        if why is None or size_bytes is None:
            return
        self._fetched(why, size_bytes)
        if asked_early:  # it was on its way when somebody asked
            self._used(why, size_bytes)
        else:
            self.unused[key] = (why, size_bytes)
            if self._board is not None:
                self._board.put(key, why, size_bytes)

    def asked(self, key: str, *, for_worker: bool = False) -> bool:
        """Somebody got an answer from it. Whether it had been fetched ahead and was unused. `for_worker`: another worker of this
        node asks, which sees for itself whether that is a use."""
        held = self.unused.get(key)
        if held is None:
            shown = None if self._board is None or for_worker else self._board.take(key)
            if shown is not None:
                self._used(*shown)
            return shown is not None
        why, size_bytes = held
        if size_bytes is None:
            self._asked_early.add(key)
            return False
        del self.unused[key]
        if self._board is not None and self._board.take(key) is None:
            return False  # another worker has used it meanwhile
        self._used(why, size_bytes)
        return True
