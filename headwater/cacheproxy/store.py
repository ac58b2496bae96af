"""The store of a node: RAM over disk. A look-up ends in RAM, on disk or in a miss; it never raises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache

from headwater.cacheproxy.diskstore import DiskStore
from headwater.cacheproxy.metadata import Metadata
from headwater.cacheproxy.metrics import LOOKUPS, RAM_BYTES
from headwater.cacheproxy.objectfile import CHECKED_BYTES, Damaged, OpenObject
from headwater.cacheproxy.purges import Purges
from headwater.cacheproxy.shares import WHOLE, Share
from headwater.cacheproxy.spool import Spool
from headwater.runtime.logs import Log
from headwater.settings.cache import CacheSettings

RAM_OBJECT_SHARE = 1 / 16  # one object takes at most this share of the memory, so that it cannot empty it

CONFIRMED_REMEMBERED = 10_000


class BodyUnreadable(Exception):
    """A stored body turned out damaged while it was read; what was read so far is not the object."""


@dataclass(frozen=True, slots=True)
class RamBody:
    data: bytes


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


class Store:
    """Objects by cache key, within the budgets of `settings` (of several workers: the `share` of one)."""

    def __init__(self, folder: Path, settings: CacheSettings, log: Log, share: Share = WHOLE) -> None:
        settings = share.of_budget(settings)
        self._ram: LRUCache[str, Stored] = LRUCache(max(1, settings.ram), getsizeof=_ram_cost)
        self._ram_object_bytes = int(settings.ram * RAM_OBJECT_SHARE)
        self._confirmed: LRUCache[str, Metadata] = LRUCache(CONFIRMED_REMEMBERED)
        self._disk = DiskStore(folder, settings.disk, log, share)
        self.purges = Purges(folder / "purges", log)
        self.spool_folder = folder / "spool"

    async def start(self, *, keeps_disk: bool = True) -> None:
        """Finds what an earlier process left. Raises OSError when the folder cannot be used.

        Not `keeps_disk`: the worker that this one replaces still writes; `take_over_disk` follows when it has ended.
        """
        await asyncio.to_thread(self._disk.start, keeps=keeps_disk)
        await asyncio.to_thread(self.purges.start)

    async def take_over_disk(self) -> None:
        await asyncio.to_thread(self._disk.take_over)

    def keeps(self, key: str) -> bool:
        """Whether this worker writes the object to disk."""
        return self._disk.keeps(key)

    def in_ram(self, key: str) -> Stored | None:
        """What memory holds under `key` that is not purged; not counted as a look-up."""
        stored = self._ram.get(key)
        if stored is None:
            return None
        judged = self.purges.judge(stored.metadata)
        if judged is stored.metadata:
            return stored
        if judged is None:
            self._ram.pop(key, None)
            return None
        stored = self._ram[key] = Stored(judged, stored.body)
        return stored

    async def look_up(self, key: str) -> Stored | None:
        """What is stored under `key` and not purged. The caller closes what it gets."""
        stored = self.in_ram(key)
        if stored is not None:
            LOOKUPS.labels("ram").inc()
            return stored
        found = await asyncio.to_thread(self._from_disk, key) if self._disk.may_hold(key) else None
        if found is None:
            LOOKUPS.labels("nowhere").inc()
            return None
        LOOKUPS.labels("disk").inc()
        confirmed = self._confirmed.get(key)
        if confirmed is not None and confirmed.etag == found.metadata.etag and confirmed.size_bytes == found.metadata.size_bytes:
            found = Stored(confirmed, found.body)
        judged = self.purges.judge(found.metadata)
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
        stored = self.in_ram(key)
        if stored is not None:
            return "ram", stored.metadata
        file = await asyncio.to_thread(self._disk.open, key) if self._disk.may_hold(key) else None
        if file is None:
            return "nowhere", None
        file.close()
        judged = self.purges.judge(self._confirmed.get(key) or file.metadata)
        return ("nowhere" if judged is None else "disk"), judged

    async def put(self, metadata: Metadata, spool: Spool) -> bool:
        """Stores a finished spool. False when neither RAM nor disk took it."""
        self._confirmed.pop(metadata.key, None)
        data = spool.in_ram()
        in_ram = data is not None and self._keep_in_ram(Stored(metadata, RamBody(data)))
        if not in_ram:
            self._ram.pop(metadata.key, None)
        pieces = [data] if data is not None else _pieces_of(spool)
        on_disk = await asyncio.to_thread(self._disk.write, metadata, pieces)
        return in_ram or on_disk

    async def put_bytes(self, metadata: Metadata, body: bytes) -> bool:
        """As `put`, for a body in memory."""
        in_ram = self._keep_in_ram(Stored(metadata, RamBody(body)))
        on_disk = await asyncio.to_thread(self._disk.write, metadata, [body])
        return in_ram or on_disk

    def confirm(self, metadata: Metadata) -> None:
        """Takes the metadata that a 304 renewed. Only memory remembers it: after a restart the object is asked about again."""
        stored = self._ram.get(metadata.key)
        if stored is not None:
            self._keep_in_ram(Stored(metadata, stored.body))
        else:
            self._confirmed[metadata.key] = metadata

    async def discard(self, key: str) -> None:
        self._ram.pop(key, None)
        self._confirmed.pop(key, None)
        RAM_BYTES.set(self._ram.currsize)
        await asyncio.to_thread(self._disk.discard, key)

    def _from_disk(self, key: str) -> Stored | None:
        file = self._disk.open(key)
        if file is None:
            return None
        if file.metadata.size_bytes > self._ram_object_bytes:
            return Stored(file.metadata, DiskBody(file, self._disk))
        try:
            return Stored(file.metadata, RamBody(file.read_all()))
        except (Damaged, OSError) as error:
            self._disk.read_failed(key, error)
            return None
        finally:
            file.close()

    def _keep_in_ram(self, stored: Stored) -> bool:
        if _ram_cost(stored) > self._ram_object_bytes:
            return False
        self._ram[stored.metadata.key] = stored
        RAM_BYTES.set(self._ram.currsize)
        return True


def _ram_cost(stored: Stored) -> int:
    return stored.metadata.size_bytes + 1024  # what the metadata and the entry itself take, roughly


def _pieces_of(spool: Spool) -> Iterator[bytes]:
    """The whole body of a finished spool, read blocking (in the writer's thread)."""
    position = 0
    while position < spool.length:
        chunk = spool.rest_of_piece(position)
        position += len(chunk)
        yield chunk
