"""What becomes of a fill that ended well: its object is stored, renewed, or begun in slices; else it is counted why not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Protocol

from headwater.cacheproxy.fills.fillorders import FillHeader, FillOrder
from headwater.cacheproxy.fills.parents import Parent, ParentAnswer
from headwater.cacheproxy.fills.pieces import Piece
from headwater.cacheproxy.metrics import FILL_DISCARDED
from headwater.cacheproxy.store.metadata import HEAD_STATUS, Metadata
from headwater.cacheproxy.store.spool import Spool
from headwater.cacheproxy.store.store import Store
from headwater.cacheproxy.store.variants import Variants
from headwater.rules.fields import Fields, end_to_end, field
from headwater.rules.fill import FillMachine
from headwater.rules.freshness import Storability, storability, stored_fields
from headwater.rules.purging import Coverage
from headwater.rules.slices import SlicePolicy, Version
from headwater.settings.cache import CacheSettings


class Registry(Protocol):
    """Who starts the fills of slices."""

    def trusts(self, url_key: str, version: Version) -> bool:
        """Whether nothing speaks against keeping this version in slices."""

    async def leave(self, head: Metadata) -> None:
        """Drops the slices of a version that was replaced."""

    def begin_slice(self, order: FillOrder, given: ParentAnswer, accounted: int) -> bool:
        """Lets a fill of this slice go on with an answer that has begun. False: it is not needed."""


class Filled(Protocol):
    """A fill as it ended. `forgotten`: invalidated while it ran; `purged`: what the purges meanwhile leave of its object."""

    order: FillOrder
    spool: Spool
    machine: FillMachine
    header: FillHeader | None
    forgotten: bool

    @property
    def purged(self) -> Coverage: ...


class Keeping:
    """Puts what `fill` got where later requests find it. Purges up to `accounted` are taken into account already."""

    def __init__(self, fill: Filled, store: Store, settings: CacheSettings, registry: Registry, accounted: int) -> None:
        self._fill = fill
        self._order = fill.order
        self._store = store
        self._settings = settings
        self._registry = registry
        self._accounted = accounted

    async def keep(self) -> bool:
        """Stores the whole body. False when it may not be stored, or neither memory nor disk took it."""
        header = self._fill.header
        assert header is not None
        reason = self._why_not_kept(header)
        if reason is not None:
            FILL_DISCARDED.labels(reason).inc()
            if self._order.stale is not None:
                await self._store.discard(self._order.stale.key)
            return False
        piece = self._order.piece
        if piece is None:
            metadata = await self._metadata(header, header.status, self._fill.spool.length)
        else:
            metadata = piece.metadata(header.request_time, header.response_time, self._accounted)
        if self._fill.forgotten:  # while its place was found
            FILL_DISCARDED.labels("invalidated").inc()
            return False
        kept = await self._store.put(metadata, self._fill.spool)
        await self._leave_stale(None)
        if not kept and self._store.keeps(metadata.key):
            FILL_DISCARDED.labels("no_room").inc()
        return kept

    async def confirm(self, fields: Fields, asked_at: float) -> None:
        """A 304 came with these fields: the stored body counts as just fetched, and followers look it up again; under terms that
        forbid to keep it, it is gone instead, and they ask for it anew."""
        stale, now = self._order.stale, time.time()
        assert stale is not None
        renewed = stale.confirmed(end_to_end(fields), asked_at, now)
        status, authorized = 200 if stale.is_head else stale.status, field(self._order.asked, "authorization") is not None
        terms = storability(status, renewed.fields, self._settings.negative_ttl, now, authorized=authorized)
        if terms is Storability.STORABLE:
            self._store.confirm(stale, renewed)
            return
        FILL_DISCARDED.labels(terms).inc()
        await self._store.discard(stale.key)
        await self._leave_stale(None)

    async def sliced(self, policy: SlicePolicy, asked: Parent) -> tuple[Metadata, FillOrder]:
        """Of an object that is to be kept in slices: its head, and the order for the slice that `asked` answers with."""
        header, event = self._fill.header, self._fill.machine.header
        assert header is not None
        assert event is not None
        assert event.size is not None
        plain = await self._metadata(header, HEAD_STATUS, 0)
        head = replace(plain, total_bytes=event.size, slice_bytes=policy.size)
        piece = Piece(head, event.part.first // policy.size if event.part is not None else 0)
        parents = (asked, *self._order.parents)
        order = replace(
            self._order, key=piece.key, parents=parents, piece=piece, probe=None, stale=None, relays_errors=False, on_interim=None
        )
        return head, order

    async def keep_head(self, head: Metadata) -> None:
        if not self._fill.forgotten and self._fill.purged is not Coverage.GONE:
            await self._store.put_bytes(head, b"")
            await self._leave_stale(head)

    async def _metadata(self, header: FillHeader, status: int, size_bytes: int) -> Metadata:
        key = await Variants(self._store).key_for(self._order.key, header.fields, self._order.asked)
        return Metadata(
            key,
            status,
            stored_fields(header.fields),
            size_bytes,
            header.request_time,
            header.response_time,
            url_key="" if key == self._order.key else self._order.key,
            accounted=self._accounted,
        )

    async def _leave_stale(self, now: Metadata | None) -> None:
        """What replaced the stale object was kept (`now`: the head of one in slices)."""
        stale = self._order.stale
        if stale is None or not stale.is_head:
            return
        if now is None or (now.key, now.version, now.slice_bytes) != (stale.key, stale.version, stale.slice_bytes):
            await self._registry.leave(stale)

    def _why_not_kept(self, header: FillHeader) -> str | None:
        fill = self._fill
        if header.storability is not Storability.STORABLE:
            return header.storability
        if fill.forgotten:
            return "invalidated"
        if fill.purged is Coverage.GONE:
            return "purged"
        if fill.machine.header is not None and not fill.machine.header.framed:
            return "end_not_framed"  # a broken connection would look the same as the end
        if fill.spool.length > self._settings.max_object:
            return "too_large"
        if fill.spool.passing:
            return "no_room"
        return None
