"""Which worker of a node owns which key: it leads the key's fills, and it alone writes and evicts the key's file.

The owner can be told from the file's name alone, so that a worker finds its share of a folder without opening a file, and a
changed number of workers only divides the same files anew. The variants of one URL belong to the owner of the URL, and so do
the first slices of a large object; the stretches that follow are anybody's, so that one object may fill the whole disk.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from headwater.rules.slices import KEY_MARK
from headwater.settings.cache import CacheSettings
from headwater.settings.limits import Limits

NAME_DIGITS: Final = 32
_OWNER_DIGITS: Final = 8
# What `variants` and `rules.varying` append to a URL's key: the marker's generation and the digest of the selecting fields.
_VARIANT = re.compile(r"@[0-9a-f]{16}#[0-9a-f]{32}\Z")
_SLICE = re.compile(rf"{KEY_MARK}[0-9a-f]{{32}}\.(\d+)\Z")
STRETCH: Final = 16  # slices in a row that belong to one worker


@dataclass(frozen=True, slots=True)
class Share:
    """Worker `index` of `workers`; indexes count from 0."""

    index: int = 0
    workers: int = 1

    @property
    def whole(self) -> bool:
        """Whether there is nobody to share with."""
        return self.workers == 1

    def owner(self, key: str) -> int:
        """The index of the worker that owns `key`."""
        return self.owner_of_file(file_name(key))

    def owner_of_file(self, name: str) -> int:
        """The index of the worker that owns the file `name`, as `file_name` made it."""
        return int(name[:_OWNER_DIGITS], 16) % self.workers

    def owns(self, key: str) -> bool:
        return self.whole or self.owner(key) == self.index

    def owns_file(self, name: str) -> bool:
        return self.whole or self.owner_of_file(name) == self.index

    def of_budget(self, settings: CacheSettings) -> CacheSettings:
        """One worker's part of the node's budgets, so that they hold in sum."""
        if self.whole:
            return settings
        return settings.model_copy(update={"ram": settings.ram // self.workers, "disk": settings.disk // self.workers})

    def of_limits(self, limits: Limits) -> Limits:
        """One worker's part of what all clients together may cost the node. What one client may is each worker's own count."""
        if self.whole:
            return limits
        parts = {"connections": -(-limits.connections // self.workers), "bytes_in_flight": limits.bytes_in_flight // self.workers}
        return limits.model_copy(update=parts)


WHOLE: Final = Share()


def file_name(key: str) -> str:
    """Half of the key's SHA-256 in hex (the whole key stands in the file, and is compared); its first digits are those of the
    URL's key, or of a stretch of its slices, which decide the owner."""
    owner_key = _owner_key(key)
    name = hashlib.sha256(key.encode()).hexdigest()[:NAME_DIGITS]
    if owner_key == key:
        return name
    return hashlib.sha256(owner_key.encode()).hexdigest()[:_OWNER_DIGITS] + name[_OWNER_DIGITS:]


def _owner_key(key: str) -> str:
    match = _SLICE.search(key)
    if match is None:
        return _VARIANT.sub("", key)
    stretch = int(match[1]) // STRETCH
    url_key = _VARIANT.sub("", key[: match.start()])
    return f"{url_key}{KEY_MARK}{stretch}" if stretch else url_key
