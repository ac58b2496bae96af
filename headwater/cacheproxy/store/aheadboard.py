"""What the workers of a node fetched ahead and nobody used yet, in one table that all of them map: a viewer's next request comes
to another worker as often as not.

A slot has 16 bytes: the hash of a key (and of the parent process, so that a node that starts again begins anew), then who wanted
the object and its size. Two keys of one slot, and two workers in one moment, make the measure a little wrong and nothing else.
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b
from pathlib import Path
from typing import Final

from headwater.rules.aheaduse import Why

SLOTS: Final = 65_536
_WHYS: Final = tuple(Why)
_SIZE_BITS: Final = 56


class AheadBoard:
    """Raises OSError when the file cannot be made."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, SLOTS * 16)
            self._slots = memoryview(mmap.mmap(descriptor, SLOTS * 16)).cast("Q")
        finally:
            os.close(descriptor)
        self._salt = os.getppid().to_bytes(8, "big")

    def put(self, key: str, why: Why, size_bytes: int) -> None:
        """The object is there and unused."""
        place, named = self._place(key)
        self._slots[place + 1] = (_WHYS.index(why) << _SIZE_BITS) | size_bytes
        self._slots[place] = named

    def take(self, key: str) -> tuple[Why, int] | None:
        """Who wanted the object, and its size, if it is here: it is used now, and not here any more."""
        place, named = self._place(key)
        if self._slots[place] != named:
            return None
        self._slots[place] = 0
        told = self._slots[place + 1]
        return _WHYS[told >> _SIZE_BITS], told & ((1 << _SIZE_BITS) - 1)

    def _place(self, key: str) -> tuple[int, int]:
        named = int.from_bytes(blake2b(key.encode(), digest_size=8, key=self._salt).digest(), "big") or 1
        return named % SLOTS * 2, named
