"""Ordered stores as one: a read looks hot, warm, cold; a write goes to hot.

The law that mover, writer and reader keep together:
- a copy in a hotter tier is never older than one in a colder tier, so the first one found is the present one;
- a move copies, verifies, and only then removes the version it copied, so an object is always in some tier;
- a write notes what colder tiers hold, writes hot, and then removes exactly what it noted; a delete goes from cold to hot;
- a version that was replaced or deleted while it was copied is removed again from where it was copied to (a mover killed in that
  very instant leaves it there: shadowed by the new version, or, after a delete, until the key is deleted again);
- one mover, and it moves an object one tier at a time; an object that climbs past a reader that looks downwards is met when the
  reader looks upwards again;
- an object may go up and come down again while a reader looks: the mover says before it removes a copy (`departures`), and a
  reader that found nothing looks again if it did. A reader in another process has only its one look down and up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from headwater.runtime.metrics import counter
from origin.objects.interface import ObjectInfo, ObjectNotFound, OpenedObject, TierStore

T = TypeVar("T")

TIER_READS = counter("headwater_origin_tier_reads_total", "Objects looked up, by the tier that had them or `none`.", ["tier"])


@dataclass(frozen=True, slots=True)
class PlacedStore:
    """A store and the name of its tier: hot, warm or cold."""

    name: str
    store: TierStore


class TieredStore:
    """An ObjectStore over tiers, hottest first."""

    def __init__(self, tiers: Sequence[PlacedStore]) -> None:
        self.tiers = tuple(tiers)
        self._hot = self.tiers[0].store
        self._colder = self.tiers[1:]
        # Down, then up again without the coldest, which was just asked.
        self._search = (*self.tiers, *reversed(self.tiers[:-1]))
        self.departures = 0

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectInfo:
        noted = await self._in_colder_tiers(key)
        info = await self._hot.put_file(key, path, content_type)
        await self._remove(noted)
        return info

    async def put_bytes(self, key: str, body: bytes, content_type: str) -> ObjectInfo:
        noted = await self._in_colder_tiers(key)
        info = await self._hot.put_bytes(key, body, content_type)
        await self._remove(noted)
        return info

    async def stat(self, key: str) -> ObjectInfo:
        async with self.opened(key) as opened:
            return opened.info

    @asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[OpenedObject]:
        async with self.opened_in_tier(key) as (_, opened):
            yield opened

    @asynccontextmanager
    async def opened_in_tier(self, key: str) -> AsyncIterator[tuple[str, OpenedObject]]:
        """(tier, opened object). Raises ObjectNotFound; ObjectStoreFailed when a tier that is asked cannot say."""
        async with AsyncExitStack() as held:
            tier, opened = await self._first(held, lambda store: store.opened(key), key)
            TIER_READS.labels(tier).inc()
            yield tier, opened

    async def read(self, key: str, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        async with self.opened(key) as opened:
            async for chunk in opened.read(first, last):
                yield chunk

    async def delete(self, key: str) -> None:
        for tier in reversed(self.tiers):
            await tier.store.delete(key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Each key once, as its hottest tier has it. An object that moves while the list is read may be missed."""
        sources = [aiter(tier.store.list(prefix)) for tier in self.tiers]
        heads = [await anext(source, None) for source in sources]
        while keys := [head.key for head in heads if head is not None]:
            key = min(keys)
            yield next(head for head in heads if head is not None and head.key == key)
            for place, head in enumerate(heads):
                if head is not None and head.key == key:
                    heads[place] = await anext(sources[place], None)

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        async with AsyncExitStack() as held:
            _, path = await self._first(held, lambda store: store.as_file(key), key)
            yield path

    async def _first(
        self, held: AsyncExitStack, opening: Callable[[TierStore], AbstractAsyncContextManager[T]], key: str
    ) -> tuple[str, T]:
        departures = None
        while departures != self.departures:
            departures = self.departures
            for tier in self._search:
                try:
                    return tier.name, await held.enter_async_context(opening(tier.store))
                except ObjectNotFound:
                    continue
        TIER_READS.labels("none").inc()
        raise ObjectNotFound(key)

    async def _in_colder_tiers(self, key: str) -> Sequence[tuple[TierStore, ObjectInfo]]:
        found = [(tier.store, await _stat_or_none(tier.store, key)) for tier in self._colder]
        return [(store, info) for store, info in found if info is not None]

    async def _remove(self, noted: Sequence[tuple[TierStore, ObjectInfo]]) -> None:
        for store, info in noted:
            await store.delete_version(info)


async def _stat_or_none(store: TierStore, key: str) -> ObjectInfo | None:
    try:
        return await store.stat(key)
    except ObjectNotFound:
        return None
