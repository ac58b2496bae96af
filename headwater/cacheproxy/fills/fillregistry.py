"""The fills under way on a node, by key: what makes every asker of an object share one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from cachetools import TTLCache

from headwater.cacheproxy.fills.fillorders import FillOrder
from headwater.cacheproxy.fills.fills import Fill
from headwater.cacheproxy.fills.parents import ParentAnswer, ParentClient
from headwater.cacheproxy.fills.versionsleft import VersionsLeft
from headwater.cacheproxy.siblings import Siblings
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.store import Store
from headwater.rules.slices import Version
from headwater.runtime.logs import Log
from headwater.settings.cache import CacheSettings

DISTRUSTED_FOR_S: Final = 300.0
DISTRUSTED_AT_MOST: Final = 1000


class Fills:
    """The fills under way, by key."""

    def __init__(
        self, client: ParentClient, store: Store, settings: CacheSettings, log: Log, siblings: Siblings | None = None
    ) -> None:
        self._client = client
        self._store = store
        self._settings = settings
        self._log = log
        self._shared: dict[str, Fill] = {}
        self._of_key: dict[str, set[Fill]] = {}  # all that run: those that nobody joins are stored, too
        self._tasks: set[asyncio.Task[None]] = set()
        self._distrusted: TTLCache[str, Version] = TTLCache(DISTRUSTED_AT_MOST, DISTRUSTED_FOR_S)
        self._versions = VersionsLeft(store, siblings, self.forget)

    def running(self, key: str) -> Fill | None:
        """The fill of `key` that a newcomer may follow."""
        fill = self._shared.get(key)
        return fill if fill is not None and fill.open_to_newcomers else None

    def still_stored(self, metadata: Metadata) -> bool:
        """Whether no purge has removed the object since it was looked up."""
        return self._store.purges.judge(metadata) is not None

    def forget(self, key: str) -> None:
        """The object was invalidated: newcomers start anew, and what any running fill of it gets is not stored."""
        self._shared.pop(key, None)
        for fill in self._of_key.get(key, ()):
            fill.forgotten = True

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    @property
    def busy(self) -> bool:
        return bool(self._tasks)

    def start(self, order: FillOrder, *, shared: bool = True) -> Fill:
        """Starts a fill; a shared one is found by others until it is stored."""
        return self._start(order, shared=shared)

    def trusts(self, url_key: str, version: Version) -> bool:
        return self._distrusted.get(url_key) != version

    def distrust(self, url_key: str, version: Version) -> None:
        """A parent disproved this version while its slices were fetched: one that comes again so soon is fetched whole."""
        self._distrusted[url_key] = version

    async def leave(self, head: Metadata) -> None:
        """The object is of another version now: drops the slices of this one."""
        await self._versions.leave(head)

    def begin_slice(self, order: FillOrder, given: ParentAnswer, accounted: int) -> bool:
        """Lets a fill of this slice go on with an answer that has begun. False: the slice is there or on its way."""
        if self.running(order.key) is not None or self._store.in_ram(order.key) is not None:
            return False
        self._start(order, shared=True, given=given, accounted=accounted)
        return True

    def _start(self, order: FillOrder, *, shared: bool, given: ParentAnswer | None = None, accounted: int | None = None) -> Fill:
        fill = Fill(order, self._client, self._store, self._settings, self._log, self, given, accounted)
        if shared:
            self._shared[order.key] = fill
        self._of_key.setdefault(order.key, set()).add(fill)
        fill.task = asyncio.create_task(fill.run(), name=f"fill {order.key}")
        self._tasks.add(fill.task)
        fill.task.add_done_callback(self._forget(fill))
        return fill

    async def close(self) -> None:
        """Cancels what still runs: its followers are cut off."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, fill: Fill) -> Callable[[asyncio.Task[None]], None]:
        def forget(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            key = fill.order.key
            if self._shared.get(key) is fill:
                del self._shared[key]
            self._of_key[key].discard(fill)
            if not self._of_key[key]:
                del self._of_key[key]
            if not task.cancelled() and (error := task.exception()) is not None:
                self._log.error("fill ended by an error", key=key, exc_info=error)

        return forget
