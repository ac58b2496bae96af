"""What the disk store knows in memory: which objects there are, how large, what may still be written. No I/O here.

Every byte that a file takes or is about to take is in exactly one of three sums, which together never exceed the budget:
`used` (objects), `reserved` (files being written) and `leaving` (victims whose files are not gone yet).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from headwater.rules.eviction import Ranking

BLOCK_BYTES: Final = 4096  # file systems give out blocks; a file counts as the blocks that it fills


def blocks_of(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK_BYTES)


class DiskIndex:
    """Objects by the bytes of their file's name. Safe to use from several threads; no call blocks for long."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget = budget_bytes // BLOCK_BYTES
        self._ranking: Ranking[bytes] = Ranking(self.budget)
        self._reserved = 0
        self._leaving = 0
        self._lock = threading.Lock()

    def __contains__(self, name: bytes) -> bool:
        return name in self._ranking

    def __len__(self) -> int:
        return len(self._ranking)

    @property
    def used_bytes(self) -> int:
        return self._ranking.used * BLOCK_BYTES

    @property
    def reserved_bytes(self) -> int:
        return self._reserved * BLOCK_BYTES

    @property
    def taken_bytes(self) -> int:
        """All that counts against the budget."""
        with self._lock:
            return (self._ranking.used + self._reserved + self._leaving) * BLOCK_BYTES

    def touch(self, name: bytes) -> None:
        with self._lock:
            self._ranking.touch(name)

    def found(self, name: bytes, blocks: int) -> None:
        """An object that an earlier process left. It is there whether it fits or not."""
        with self._lock:
            self._ranking.add(name, blocks)

    def reserve(self, blocks: int) -> bool:
        """Sets the blocks aside when they are free now."""
        with self._lock:
            if self._ranking.used + self._reserved + self._leaving + blocks > self.budget:
                return False
            self._reserved += blocks
            return True

    def release(self, blocks: int) -> None:
        with self._lock:
            self._reserved -= blocks

    def keep(self, name: bytes, blocks: int, reserved: int) -> None:
        """An object of `blocks` took the place of its reservation."""
        with self._lock:
            self._reserved -= reserved
            self._ranking.add(name, blocks)

    def forget(self, name: bytes) -> None:
        with self._lock:
            self._ranking.remove(name)

    def give_up(self) -> tuple[bytes, int] | None:
        """The next victim and its blocks, which count until `gone`; None when nothing is left to give up."""
        with self._lock:
            name = self._ranking.victim()
            if name is None:
                return None
            blocks = self._ranking.remove(name) or 0
            self._leaving += blocks
            return name, blocks

    def gone(self, blocks: int) -> None:
        with self._lock:
            self._leaving -= blocks

    def stays(self, name: bytes, blocks: int) -> None:
        """The victim's file would not go."""
        with self._lock:
            self._leaving -= blocks
            self._ranking.add(name, blocks)

    def weighed(self) -> tuple[list[bytes], Sequence[float]]:
        """All names beside what they weigh, in no order."""
        with self._lock:
            return self._ranking.weighed()

    @property
    def is_over(self) -> bool:
        """Whether what was found at start is more than the budget."""
        with self._lock:
            return self._ranking.used + self._reserved + self._leaving > self.budget
