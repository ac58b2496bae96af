"""Slices of a version that is no longer the object's: dropped at once, in every worker, so that their room is free.

Nobody would find them again, as their keys name the version, but the store would keep them until others are used more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from headwater.cacheproxy.siblings import Message, Siblings
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.store import Store
from headwater.rules.slices import Version, slice_count, slice_key


class VersionsLeft:
    """`forget` is told of each key, so that a fill of it that still runs is not stored."""

    MESSAGE: Final = "drop_slices"

    def __init__(self, store: Store, siblings: Siblings | None, forget: Callable[[str], None]) -> None:
        self._store = store
        self._siblings = siblings
        self._forget = forget
        if siblings is not None:
            siblings.on_message(self.MESSAGE, self._on_message)

    async def leave(self, head: Metadata) -> None:
        """Drops all slices of this head's version."""
        told: dict[str, Any] = {
            "kind": self.MESSAGE,
            "key": head.key,
            "etag": head.version.etag,
            "total": head.total_bytes,
            "slice": head.slice_bytes,
        }
        await self._on_message(told)
        if self._siblings is not None:
            await self._siblings.tell(told)

    async def _on_message(self, told: Message) -> None:
        version, size = Version(str(told["etag"]), int(told["total"])), int(told["slice"])
        keys = [slice_key(str(told["key"]), version, size, index) for index in range(slice_count(size, version.total))]
        for key in keys:
            self._forget(key)
        await self._store.discard_held(keys)
