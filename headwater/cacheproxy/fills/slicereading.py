"""Reading an object in slices for one client: from the store, from fills that run, and from fills started ahead of it.

The reader is a source like a stored object or a fill. It holds one slice and follows at most `ahead` fills of others; those
store what they get, so a client that reads slowly holds nothing else. Whatever proves that the version is no longer the one
that the client began with ends the reading: what was sent so far is then cut off, never continued with other bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from headwater.cacheproxy.answers.sources import StoredSource
from headwater.cacheproxy.fills.fillorders import FillOrder
from headwater.cacheproxy.fills.fillregistry import Fills
from headwater.cacheproxy.fills.fills import Fill
from headwater.cacheproxy.fills.pieces import Piece
from headwater.cacheproxy.metrics import SLICE_VERSIONS_DROPPED, SLICES, SLICES_AHEAD
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.spool import SpoolBroken
from headwater.cacheproxy.store.store import Store, Stored
from headwater.rules.fields import Fields
from headwater.rules.fill import FillTrouble
from headwater.rules.ranges import Single
from headwater.rules.slices import fetched_ahead, pieces

HELD_CHECKED_AT_MOST: Final = 256


class VersionGone(SpoolBroken):
    """The object is no longer of the version that was being sent."""


class SliceMissing(SpoolBroken):
    """No parent could give a slice."""

    def __init__(self, trouble: FillTrouble | None) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class _Followed:
    """A fill that this reader follows until `follows` is closed."""

    fill: Fill
    follows: ExitStack


class SliceReader:
    """The source of one response. `fields` and `age_s` are those that the client gets; `order` makes the order for a slice."""

    status = 200
    in_ram = None

    def __init__(
        self,
        head: Metadata,
        fields: Fields,
        age_s: float | None,
        store: Store,
        fills: Fills,
        order: Callable[[Piece], FillOrder],
        ahead: int,
    ) -> None:
        self.fields = fields
        self.age_s = age_s
        self._head = head
        self._store = store
        self._fills = fills
        self._order = order
        self._ahead = ahead
        self._following: dict[int, _Followed] = {}
        self._ready: tuple[int, Stored | _Followed] | None = None
        self._taken: Stored | _Followed | None = None

    @property
    def size(self) -> int | None:
        return self._head.total_bytes

    def __enter__(self) -> SliceReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves every fill; those that nobody else follows end unless most of their bytes are in."""
        if self._ready is not None:
            _let_go(self._ready[1])
            self._ready = None
        self._let_go_of_taken()
        while self._following:
            self._following.popitem()[1].follows.close()

    def has(self, first: int, last: int) -> bool:
        """Whether the slices of these bytes are stored here, as far as can be told without a look on the disk."""
        for number, (index, _) in enumerate(pieces(first, last, self._head.slice_bytes)):
            if number == HELD_CHECKED_AT_MOST:
                return True
            if not self._store.may_have(self._piece(index).key):
                return False
        return True

    async def stores(self, first: int, last: int) -> bool:
        """Whether the slices of these bytes are stored here: looks."""
        for index, _ in pieces(first, last, self._head.slice_bytes):
            if (await self._store.peek(self._piece(index).key))[0] == "nowhere":
                return False
        return True

    async def ready(self, position: int) -> None:
        """Returns when the slice of this byte begins to be there. Raises VersionGone or SliceMissing: nothing was sent yet."""
        index = position // self._head.slice_bytes
        self._ready = (index, await self._take(index))

    async def read(self, first: int, last: int | None) -> AsyncIterator[bytes]:
        """The bytes `first` to `last`, both included. Raises SpoolBroken and BodyUnreadable."""
        end = self._head.total_bytes - 1 if last is None else last
        for sent, (index, span) in enumerate(pieces(first, end, self._head.slice_bytes)):
            taken = self._taken = await self._take(index)
            try:
                if not (isinstance(taken, _Followed) and taken.fill.spool.passing):
                    await self._fetch_ahead(fetched_ahead(index, end // self._head.slice_bytes, sent, self._ahead))
                async for chunk in self._read(taken, index, span):
                    yield chunk
            finally:
                self._let_go_of_taken()

    def _let_go_of_taken(self) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            _let_go(taken)

    def _piece(self, index: int) -> Piece:
        return Piece(self._head, index)

    async def _read(self, taken: Stored | _Followed, index: int, span: Single) -> AsyncIterator[bytes]:
        start = index * self._head.slice_bytes
        first, last = span.first - start, span.last - start
        if isinstance(taken, Stored):
            async for chunk in StoredSource(taken, 0).read(first, last):
                yield chunk
            return
        try:
            async for chunk in taken.fill.spool.read(first, last):
                yield chunk
            taken.fill.served = True
        except SpoolBroken:
            raise await self._failure(taken.fill) from None

    async def _take(self, index: int) -> Stored | _Followed:
        """The slice, stored or arriving; the caller lets go of it."""
        if self._ready is not None:
            (number, taken), self._ready = self._ready, None
            if number == index:
                return taken
            _let_go(taken)
        if not self._fills.still_stored(self._head):
            raise VersionGone("purged")
        ahead = self._following.pop(index, None)
        if ahead is not None:
            if await _begins(ahead):
                SLICES.labels("ahead").inc()
                return ahead
            ahead.follows.close()
        piece = self._piece(index)
        stored = await self._store.look_up(piece.key)
        if stored is not None:
            SLICES.labels("store").inc()
            return stored
        running = self._fills.running(piece.key)
        SLICES.labels("parent" if running is None else "running_fill").inc()
        followed = self._follow(running or self._fills.start(self._order(piece)))
        if not await _begins(followed):
            followed.follows.close()
            raise await self._failure(followed.fill)
        return followed

    async def _fetch_ahead(self, indexes: range) -> None:
        """Follows the fills of these slices, starting those that nobody has started; what is stored needs none."""
        for index in indexes:
            if index in self._following:
                continue
            piece = self._piece(index)
            fill = self._fills.running(piece.key)
            if fill is None:
                if (await self._store.peek(piece.key))[0] != "nowhere":
                    continue
                SLICES_AHEAD.inc()
                fill = self._fills.running(piece.key) or self._fills.start(self._order(piece))
            self._following[index] = self._follow(fill)
            if fill.task is not None:
                fill.task.add_done_callback(partial(self._leave_stored, index, fill))

    def _leave_stored(self, index: int, fill: Fill, _: object) -> None:
        """A fill that stored its slice need not be held any longer: the slice is found when its turn comes."""
        followed = self._following.get(index)
        if followed is not None and followed.fill is fill and fill.kept:
            del self._following[index]
            followed.follows.close()

    def _follow(self, fill: Fill) -> _Followed:
        follows = ExitStack()
        follows.enter_context(fill.followed())
        return _Followed(fill, follows)

    async def _failure(self, fill: Fill) -> SpoolBroken:
        """What a failed slice means for the object: where a parent has another version, this one is dropped."""
        if not fill.machine.disproved:
            return SliceMissing(fill.machine.trouble)
        SLICE_VERSIONS_DROPPED.inc()
        head = self._head
        self._fills.distrust(head.url_key or head.key, head.version)
        _, current = await self._store.peek(head.key)
        if current is not None and current.is_head and current.version == head.version:
            await self._store.discard(head.key)
            await self._fills.leave(head)
        return VersionGone("changed")


async def _begins(followed: _Followed) -> bool:
    """Whether bytes of the fill may come; waits until that is known."""
    fill = followed.fill
    await fill.decided.wait()
    return fill.header is not None and not fill.spool.broken


def _let_go(taken: Stored | _Followed) -> None:
    if isinstance(taken, Stored):
        taken.close()
    else:
        taken.follows.close()
