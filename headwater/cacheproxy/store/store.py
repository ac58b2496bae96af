"""The store of a node: RAM over disk. A look-up ends in RAM, on disk or in a miss; it never raises."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from headwater.cacheproxy.metrics import AHEAD_BYTES, AHEAD_USED_BYTES, LOOKUPS, RAM_BYTES, RAM_RESERVED
from headwater.cacheproxy.store.aheadboard import AheadBoard
from headwater.cacheproxy.store.diskstore import DiskStore
from headwater.cacheproxy.store.hottest import hottest_of
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.objectfile import CHECKED_BYTES, Damaged, OpenObject
from headwater.cacheproxy.store.purges import Purges
from headwater.cacheproxy.store.rambody import RamBody
from headwater.cacheproxy.store.renewals import Renewals
from headwater.cacheproxy.store.shares import WHOLE, Share
from headwater.cacheproxy.store.spool import Spool
from headwater.cacheproxy.store.underway import Reads, Writes, opened_in_thread
from headwater.rules.aheaduse import AheadUse
from headwater.rules.eviction import Ranking
from headwater.runtime.logs import Log
from headwater.settings.cache import CacheSettings

RAM_OBJECT_SHARE = 1 / 16  # one object takes at most this share of the memory, so that it cannot empty it
USES_TOGETHER = 1024  # hits of objects in memory that are noted at once: most are for few objects
LARGEST_IN_RAM = 1024 * 1024 * 1024


# Finding a series costs more than counting in it.
_FOUND_RAM, _FOUND_DISK, _FOUND_NOWHERE = (LOOKUPS.labels(place) for place in ("ram", "disk", "nowhere"))


class BodyUnreadable(Exception):
    """A stored body turned out damaged while it was read; what was read so far is not the object."""


@dataclass(frozen=True, slots=True)
class DiskBody:
    """Read MiB by MiB, each checked. `close` must be called once."""

    file: OpenObject
    disk: DiskStore

    async def read(self, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes `first` to `last`, both included. Raises BodyUnreadable."""
        for index in range(first // CHECKED_BYTES, last // CHECKED_BYTES + 1):
            start = index * CHECKED_BYTES
            try:
                block = await asyncio.to_thread(self.file.read_block, index)
            except (Damaged, OSError) as error:
                await asyncio.to_thread(self.disk.read_failed, self.file.metadata.key, error)
                raise BodyUnreadable(str(error)) from error
            yield block[max(0, first - start) : last + 1 - start]

    def close(self) -> None:
        self.file.close()


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored response, ready to be sent."""

    metadata: Metadata
    body: RamBody | DiskBody

    def close(self) -> None:
        if isinstance(self.body, DiskBody):
            self.body.close()


def _board(file: Path, log: Log) -> AheadBoard | None:
    try:
        return AheadBoard(file)
    except OSError as error:
        log.warning("workers cannot show each other what they fetched ahead; more of it counts as unused", error=str(error))
        return None


class Store:
    """Objects by cache key, within the budgets of `settings` (of several workers: the `share` of one). What running fills hold
    counts against the same budgets."""

    def __init__(self, folder: Path, settings: CacheSettings, log: Log, share: Share = WHOLE) -> None:
        settings = share.of_budget(settings)
        self.disk = DiskStore(folder, settings.disk, log, share)
        self.purges = Purges(folder / "purges", log)
        self.max_object = settings.max_object
        self.share = share
        self.ahead = AheadUse(
            lambda why, count: AHEAD_BYTES.labels(why).inc(count),
            lambda why, count: AHEAD_USED_BYTES.labels(why).inc(count),
            _board(folder / "ahead", log) if share.workers > 1 else None,
        )
        self._ram: dict[str, Stored] = {}
        self._ram_uses: Ranking[str] = Ranking(settings.ram)
        self._uses: list[str] = []
        self._reads = Reads()
        self._writes = Writes()
        self._ram_bytes = settings.ram
        self._ram_reserved = 0
        self._ram_object_bytes = min(int(settings.ram * RAM_OBJECT_SHARE), LARGEST_IN_RAM)
        self.in_ram_bytes = min(settings.spool_in_ram, self._ram_object_bytes)
        self._renewals = Renewals(folder / f"renewals.{share.index}", log)
        self._taking_over: asyncio.Task[None] | None = None

    async def start(self, *, keeps_disk: bool = True) -> None:
        """Serves what an earlier process left as soon as this returns; counting it, before which nothing is written to disk,
        goes on behind.

        Not `keeps_disk`: the worker that this one replaces still writes; `take_over_disk` follows when it has ended.
        """
        await asyncio.to_thread(self.disk.start, keeps=False)
        await asyncio.to_thread(self._renewals.load)
        await asyncio.to_thread(self.purges.start)
        if keeps_disk:
            self._taking_over = asyncio.create_task(asyncio.to_thread(self.disk.take_over), name="store take over")

    async def take_over_disk(self) -> None:
        """Returns when what lies on the disk is counted."""
        if self._taking_over is None:
            self._taking_over = asyncio.create_task(asyncio.to_thread(self.disk.take_over), name="store take over")
        await asyncio.shield(self._taking_over)

    async def close(self) -> None:
        self.disk.close()
        if self._taking_over is not None:
            await self._taking_over
        await self._renewals.close()

    def keeps(self, key: str) -> bool:
        """Whether this worker writes the object to disk."""
        return self.disk.keeps(key)

    def in_ram(self, key: str) -> Stored | None:
        """What memory holds under `key` that is not purged; a use of it, but not counted as a look-up."""
        stored = self._ram.get(key)
        if stored is None:
            return None
        if stored.metadata.accounted < self.purges.sequence:
            stored = self._unpurged_in_ram(key)
            if stored is None:
                return None
        uses = self._uses
        uses.append(key)
        if len(uses) >= USES_TOGETHER:
            self._note_uses()
        return stored

    def _note_uses(self) -> None:
        """Tells the ranking of the uses since the last time. To be called before anything else of it changes: until then it is
        all the same when they were."""
        if not self._uses:
            return
        uses, self._uses = self._uses, []
        for key, count in Counter(uses).items():
            self._ram_uses.touch(key, count)

    def _unpurged_in_ram(self, key: str) -> Stored | None:
        stored = self._ram.get(key)
        if stored is None or stored.metadata.accounted >= self.purges.sequence:
            return stored
        judged = self.purges.judge(stored.metadata)
        if judged is None:
            self._forget_in_ram(key)
            return None
        if judged is not stored.metadata:
            stored = self._ram[key] = Stored(judged, stored.body)
        return stored

    def may_have(self, key: str) -> bool:
        """Whether a look-up of `key` is likely to find something; neither a look-up nor a use."""
        return key in self._ram or self.disk.may_hold(key)

    def is_known(self, key: str) -> bool:
        """Whether memory or this worker's index names `key`; what another worker keeps is not known without a look."""
        return key in self._ram or self.disk.names(key)

    async def look_up(self, key: str) -> Stored | None:
        """What is stored under `key` and not purged. The caller closes what it gets."""
        stored = self.in_ram(key)
        if stored is not None:
            _FOUND_RAM.inc()
            return stored
        found = await self._read(key)
        if found is None:
            _FOUND_NOWHERE.inc()
            return None
        _FOUND_DISK.inc()
        judged = self.purges.judge(self._renewals.latest(found.metadata))
        if judged is None:
            found.close()
            await self.discard(key)
            return None
        found = Stored(judged, found.body)
        if isinstance(found.body, RamBody):
            self._keep_in_ram(found)
        return found

    async def peek(self, key: str) -> tuple[str, Metadata | None]:
        """(ram, disk or nowhere, what is stored there and not purged); leaves no trace in counters or memory."""
        stored = self._unpurged_in_ram(key)
        if stored is not None:
            return "ram", stored.metadata
        file = await opened_in_thread(partial(self.disk.open, key, used=False)) if self.disk.may_hold(key) else None
        if file is None:
            return "nowhere", None
        file.close()
        judged = self.purges.judge(self._renewals.latest(file.metadata))
        return ("nowhere" if judged is None else "disk"), judged

    async def hottest(self, at_most: int) -> list[Metadata]:
        """The objects that would be missed most, hottest first: those in memory, then those on disk only (of this worker's
        share). Leaves no trace; what is purged or unreadable is left out."""
        self._note_uses()
        in_ram = {key: stored.metadata for key, stored in self._ram.items()}
        found = await asyncio.to_thread(hottest_of, *self._ram_uses.weighed(), in_ram, self.disk, at_most)
        return [judged for judged in map(self.purges.judge, map(self._renewals.latest, found)) if judged is not None]

    async def put(self, metadata: Metadata, spool: Spool) -> bool:
        """Stores a finished spool. False when neither RAM nor disk took it."""
        data = spool.in_ram()
        if data is not None:
            self.release_ram(spool.ram_bytes)  # the object takes its fill's place
            spool.ram_bytes = 0
            return await self.put_bytes(metadata, data)
        if spool.draft is None or spool.reservation is None or spool.passing:
            self._forget_in_ram(metadata.key)
            return False
        try:
            with self._writes.write(metadata.key) as writing:
                return await asyncio.to_thread(self.disk.adopt, metadata, spool.draft, spool.reservation, writing.wanted)
        finally:
            self._forget_in_ram(metadata.key)

    async def put_bytes(self, metadata: Metadata, body: bytes) -> bool:
        """As `put`, for a body in memory."""
        in_ram = self._keep_in_ram(Stored(metadata, RamBody(body)))
        try:
            with self._writes.write(metadata.key) as writing:
                on_disk = await asyncio.to_thread(self.disk.write, metadata, [body], writing.wanted)
        finally:
            if not in_ram:
                self._forget_in_ram(metadata.key)
        return writing.is_wanted and (in_ram or on_disk)

    def confirm(self, stale: Metadata, renewed: Metadata) -> None:
        """Takes what a 304 renewed of `stale`, unless another body came meanwhile. It is written down a moment later, so that a
        restart need not ask again."""
        stored = self._ram.get(stale.key)
        if stored is not None:
            if not stored.metadata.is_of_body_of(stale):
                return
            self._keep_in_ram(Stored(renewed, stored.body))
        self._renewals.note(renewed)

    def reserve_ram(self, count: int) -> bool:
        """Sets memory aside for a fill, giving up objects as it must."""
        if not self._make_ram_room(count):
            return False
        self._ram_reserved += count
        RAM_RESERVED.set(self._ram_reserved)
        return True

    def release_ram(self, count: int) -> None:
        self._ram_reserved -= count
        RAM_RESERVED.set(self._ram_reserved)

    @property
    def ram_taken_bytes(self) -> int:
        """All that counts against the memory budget."""
        return self._ram_uses.used + self._ram_reserved

    async def discard(self, key: str) -> None:
        """Removes what is stored under the key, and what is being written there."""
        self._writes.overtake(key)
        self._forget_in_ram(key)
        self._renewals.forget(key)
        await asyncio.to_thread(self.disk.discard, key)
        self._forget_in_ram(key)  # what was read before the file went

    async def discard_held(self, keys: Sequence[str]) -> None:
        """Discards what is held of these here: of several workers each drops its own."""
        for key in keys:
            self._writes.overtake(key)
            if key in self._ram:
                self._forget_in_ram(key)
                self._renewals.forget(key)

        def discard() -> None:
            for key in keys:
                if self.disk.keeps(key) and self.disk.may_hold(key):
                    self.disk.discard(key)

        await asyncio.to_thread(discard)
        for key in keys:  # as in `discard`
            self._reads.overtake(key)
            if key in self._ram:
                self._forget_in_ram(key)

    async def _read(self, key: str) -> Stored | None:
        """What lies on the disk; it is looked at again where something else came of the object meanwhile."""
        while self.disk.may_hold(key):
            found, overtaken = await self._reads.read(key, partial(self._from_disk, key))
            if not overtaken:
                return found
            if found is not None:
                found.close()
            if (newer := self._unpurged_in_ram(key)) is not None:
                return newer
        return None

    def _from_disk(self, key: str) -> Stored | None:
        file = self.disk.open(key)
        if file is None:
            return None
        if file.metadata.size_bytes > self._ram_object_bytes:
            return Stored(file.metadata, DiskBody(file, self.disk))
        try:
            return Stored(file.metadata, RamBody(file.read_all()))
        except (Damaged, OSError) as error:
            self.disk.read_failed(key, error)
            return None
        finally:
            file.close()

    def _keep_in_ram(self, stored: Stored) -> bool:
        key, cost = stored.metadata.key, _ram_cost(stored)
        if cost > self._ram_object_bytes:
            return False
        self._note_uses()
        if key not in self._ram or self._ram_uses.size_of(key) != cost:
            self._forget_in_ram(key)
            if not self._make_ram_room(cost):
                return False
            self._ram_uses.add(key, cost)
        self._ram[key] = stored
        self._reads.overtake(key)
        RAM_BYTES.set(self._ram_uses.used)
        return True

    def _make_ram_room(self, count: int) -> bool:
        self._note_uses()
        while self._ram_uses.used + self._ram_reserved + count > self._ram_bytes:
            victim = self._ram_uses.victim()
            if victim is None:
                return False
            self._forget_in_ram(victim)
        return True

    def _forget_in_ram(self, key: str) -> None:
        self._note_uses()
        self._reads.overtake(key)
        self._ram.pop(key, None)
        self._ram_uses.remove(key)
        RAM_BYTES.set(self._ram_uses.used)


def _ram_cost(stored: Stored) -> int:
    return stored.metadata.size_bytes + 1024  # what the metadata and the entry itself take, roughly
