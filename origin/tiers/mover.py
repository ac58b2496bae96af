"""Moves objects between tiers by their heat, one at a time, in the background. See `store.py` for the law it keeps."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from enum import StrEnum
from typing import Final

from headwater.runtime.logs import Log
from headwater.runtime.metrics import counter
from origin.objects.interface import ObjectInfo, ObjectNotFound, ObjectStoreFailed, OpenedObject, TierStore
from origin.tiers.heat import Move, TierRule, decide_moves
from origin.tiers.store import TieredStore
from origin.tiers.tracker import AccessTracker

BATCH: Final = 200
# No put takes this long between its blob and its name, so what is older and unnamed belongs to nobody.
SWEEP_AGE_S: Final = 24 * 3600.0
# Reads this long ago say nothing that the object's own age does not say.
FORGET_S: Final = 400 * 86400.0


class MoveOutcome(StrEnum):
    """How a move ended; also the metric's label."""

    MOVED = "moved"
    DROPPED = "dropped"
    CHANGED = "changed"
    FAILED = "failed"


MOVES = counter("headwater_origin_tier_moves_total", "Moves between tiers, by reason and outcome.", ["reason", "outcome"])
MOVED_BYTES = counter("headwater_origin_tier_moved_bytes_total", "Bytes moved between tiers, by target tier.", ["target"])


class Mover:
    """The one mover of a set of tiers."""

    def __init__(
        self, objects: TieredStore, rules: Sequence[TierRule], tracker: AccessTracker, clock: Callable[[], float], log: Log
    ) -> None:
        self._objects = objects
        self._stores: dict[str, TierStore] = {tier.name: tier.store for tier in objects.tiers}
        self._rules = tuple(rules)
        self._tracker = tracker
        self._clock = clock
        self._log = log

    async def move_on(self, every_s: float) -> None:
        """Looks at every object now and then, for ever."""
        while True:
            await asyncio.sleep(every_s)
            await self.look_once()

    async def look_once(self) -> None:
        """Looks at every object, moves what should move, and collects what nothing refers to."""
        async for batch in self._batches():
            heats = await self._tracker.heats({info.key for _, info in batch})
            for move in decide_moves(self._clock(), self._rules, batch, heats):
                outcome = await self._counted(move)
                self._log.info("tier move", key=move.info.key, source=move.source, target=move.target, outcome=outcome)
        for name, store in self._stores.items():
            try:
                await store.sweep(SWEEP_AGE_S)
            except ObjectStoreFailed as error:
                self._log.warning("a tier cannot be swept", tier=name, error=str(error))
        await self._tracker.forget(self._clock() - FORGET_S)

    async def _counted(self, move: Move) -> MoveOutcome:
        try:
            outcome = await self.carry_out(move)
        except ObjectStoreFailed as error:
            # The other objects are looked at all the same; this one is where it was, and is tried again next time.
            self._log.warning("an object cannot be moved", key=move.info.key, error=str(error))
            outcome = MoveOutcome.FAILED
        MOVES.labels(move.reason, outcome).inc()
        if outcome is MoveOutcome.MOVED and move.target is not None:
            MOVED_BYTES.labels(move.target).inc(move.info.size_bytes)
        return outcome

    async def carry_out(self, move: Move) -> MoveOutcome:
        """Copies, verifies the copy, and only then removes the version copied. Raises ObjectStoreFailed."""
        source = self._stores[move.source]
        if move.target is None:
            return MoveOutcome.DROPPED if await source.delete_version(move.info) else MoveOutcome.CHANGED
        target = self._stores[move.target]
        try:
            async with source.opened(move.info.key) as opened:
                if not opened.info.same_version(move.info) or not await self._copied(opened, target, move):
                    return MoveOutcome.CHANGED
        except ObjectNotFound:
            return MoveOutcome.CHANGED
        self._objects.departures += 1
        if await source.delete_version(move.info):
            return MoveOutcome.MOVED
        # Replaced or deleted while it was copied: the copy is of a version that is no more.
        await target.delete_version(move.info)
        return MoveOutcome.CHANGED

    async def _copied(self, opened: OpenedObject, target: TierStore, move: Move) -> bool:
        """Whether the target now holds this very version, read back whole."""
        if not await target.adopt(opened):
            present = await target.stat(move.info.key)
            if not present.same_version(move.info):
                if self._is_hotter(move.target, move.source):
                    return False  # a newer version was put there; the look that follows drops the one it shadows
                await target.delete_version(present)  # an older one that the source shadows
                if not await target.adopt(opened):
                    return False
        async with target.opened(move.info.key) as copy:
            if not copy.info.same_version(move.info):
                return False
            if await _digest(copy) != move.info.sha256:
                await target.delete_version(move.info)
                raise ObjectStoreFailed(f"the copy of {move.info.key} in tier {move.target} does not have its digest")
        return True

    def _is_hotter(self, one: str | None, other: str) -> bool:
        names = [rule.name for rule in self._rules]
        return one is not None and names.index(one) < names.index(other)

    async def _batches(self) -> AsyncIterator[list[tuple[str, ObjectInfo]]]:
        """(tier, object) of everything, in key order, all copies of a key in one batch."""
        sources = {name: aiter(store.list("")) for name, store in self._stores.items()}
        heads = {name: await anext(source, None) for name, source in sources.items()}
        batch: list[tuple[str, ObjectInfo]] = []
        while keys := [head.key for head in heads.values() if head is not None]:
            key = min(keys)
            for name, head in heads.items():
                if head is not None and head.key == key:
                    batch.append((name, head))
                    heads[name] = await anext(sources[name], None)
            if len(batch) >= BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


async def _digest(opened: OpenedObject) -> str:
    digest = hashlib.sha256()
    async for chunk in opened.read():
        digest.update(chunk)
    return digest.hexdigest()
