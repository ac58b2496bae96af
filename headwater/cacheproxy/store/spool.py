"""The growing body of one fill: written once, read by any number of followers, each at its own pace.

Every byte that is held has its place reserved first: in memory, then, for a longer body, in the draft of the object's file.
Where there is no room the body passes through: what all followers have read is let go, the slowest one sets the pace, and
nothing is stored. No follower polls: those that have all there is are given the next bytes by the one who appends them, in one
pass and without a turn of their tasks; only those that must wait for their own client, or began late, run themselves.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from headwater.cacheproxy.metrics import DISK_TROUBLES, SPOOLS_PASSING
from headwater.cacheproxy.store.diskstore import DiskStore, Reservation
from headwater.cacheproxy.store.draft import Draft

PASSING_WINDOW_BYTES: Final = 256 * 1024  # of a body that passes through, beyond what the slowest follower has read
PIECES_REMEMBERED: Final = 1000


class SpoolBroken(Exception):
    """The fill ended before the object was whole: what was read so far is not the object."""


class Room(Protocol):
    """Where a body may be held: memory by bytes, disk by reservation. `max_object` is the largest that is stored."""

    disk: DiskStore
    in_ram_bytes: int
    max_object: int

    def reserve_ram(self, count: int) -> bool: ...

    def release_ram(self, count: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _OnDisk:
    length: int  # the offset in the file is the offset in the body


class Taker(Protocol):
    """Who is given bytes as they arrive."""

    def give(self, chunk: bytes) -> bool:
        """Takes bytes; whether more may follow at once. Raises ConnectionError."""

    async def taken(self) -> None:
        """Returns when more may follow."""


class _Follower:
    """One that is given bytes, up to `last`. `woken` is awaited by its task while there is none to give."""

    __slots__ = ("_taker", "last", "position", "woken")

    def __init__(self, first: int, last: int | None, taker: Taker) -> None:
        self.position = first
        self.last = last
        self.woken: asyncio.Future[None] | None = None
        self._taker = taker

    @property
    def has_all(self) -> bool:
        return self.last is not None and self.position > self.last

    def take(self, chunk: bytes) -> bool:
        """Whether it may be given more at once."""
        if self.last is not None and self.position + len(chunk) > self.last + 1:
            chunk = chunk[: self.last + 1 - self.position]
        self.position += len(chunk)
        return self._taker.give(chunk) and not self.has_all

    def take_new(self, chunk: bytes, length: int) -> bool:
        """As `take`, for the bytes that make the body `length` long; what it begins with may still be beyond them."""
        wanted = length - self.position
        return wanted <= 0 or self.take(chunk if wanted >= len(chunk) else chunk[-wanted:])

    def wake(self, error: Exception | None = None) -> None:
        if self.woken is not None and not self.woken.done():
            self.woken.set_result(None) if error is None else self.woken.set_exception(error)


class Spool:
    """`length` grows; `finish` or `break_off` ends it. Chunks in memory are never copied on their way to a follower."""

    def __init__(self, room: Room) -> None:
        self.length = 0
        self.finished = False
        self.broken = False
        self.closed = False  # the file and the memory are given back
        self.passing = False  # what was read by all is let go; the body is never whole here
        self.ram_bytes = 0  # reserved in memory
        self.reservation: Reservation | None = None
        self.draft: Draft | None = None
        self._room = room
        self._for_store = True
        self._pieces: list[bytes | _OnDisk] = []
        self._starts: list[int] = []
        self._held_from = 0  # bytes before this were let go
        self._followers = 0
        self._positions: dict[object, int] = {}
        self._caught_up: dict[_Follower, None] = {}  # have all there is of what they want, and take more at once
        self._more = asyncio.Event()
        self._moved = asyncio.Event()

    async def expect(self, size: int | None, *, for_store: bool = True) -> None:
        """Reserves room for a body whose size is known, before its first byte. One not `for_store` takes nobody's place on
        the disk: what memory does not hold of it passes through."""
        self._for_store = for_store
        if size is None or self.length:
            return
        if size > self._room.max_object:
            self._pass_through()
        elif size <= self._room.in_ram_bytes and self._room.reserve_ram(size):
            self.ram_bytes = size
        else:
            await self._go_to_disk(size)

    async def append(self, chunk: bytes) -> None:
        """Adds bytes. A disk that does not take them ends the storing, not the watch: the body passes through from here."""
        if not self.passing and self.draft is None and not self._fits_ram(len(chunk)):
            await self._go_to_disk(self.length + len(chunk))
        piece: bytes | _OnDisk = chunk
        if self.draft is not None and not self.passing:
            if await asyncio.to_thread(self._write, self.draft, chunk):
                piece = _OnDisk(len(chunk))
            else:
                self._pass_through()
        self._starts.append(self.length)
        self._pieces.append(piece)
        self.length += len(chunk)
        self._wake(chunk)
        if self.passing:
            await self._let_go()

    def finish(self) -> None:
        self.finished = True
        self._wake()

    def break_off(self) -> None:
        self.broken = True
        self._wake()

    def join(self) -> None:
        """A follower that may read from any offset came; `leave` when it is done."""
        self._followers += 1

    def leave(self) -> None:
        self._followers -= 1
        self._moved.set()

    async def read(self, first: int, last: int | None) -> AsyncIterator[bytes]:
        """The bytes `first` to `last` (both included; None: to the end) as they arrive. Raises SpoolBroken."""
        position = first
        reader = object()
        try:
            while last is None or position <= last:
                self._positions[reader] = position
                self._moved.set()
                if position >= self.length:
                    if self.finished:
                        return
                    if self.broken:
                        raise SpoolBroken
                    await self._more.wait()
                    continue
                chunk = await self._rest_of_piece(position)
                if last is not None and position + len(chunk) > last + 1:
                    chunk = chunk[: last + 1 - position]
                position += len(chunk)
                yield chunk
        finally:
            self._positions.pop(reader, None)
            self._moved.set()

    async def pass_on(self, first: int, last: int | None, taker: Taker) -> None:
        """Gives the bytes `first` to `last` (both included; None: to the end) to `taker` as they arrive. Raises SpoolBroken, and
        what the taker raises."""
        follower = _Follower(first, last, taker)
        try:
            while not follower.has_all:
                self._positions[follower] = follower.position
                self._moved.set()
                if follower.position < self.length:
                    if not follower.take(await self._rest_of_piece(follower.position)):
                        await taker.taken()
                elif self.finished:
                    return
                elif self.broken:
                    raise SpoolBroken
                else:
                    follower.woken = asyncio.get_running_loop().create_future()
                    self._caught_up[follower] = None
                    await follower.woken
                    await taker.taken()
        finally:
            self._caught_up.pop(follower, None)
            self._positions.pop(follower, None)
            self._moved.set()

    def in_ram(self) -> bytes | None:
        """The whole body when all of it is in memory."""
        if self.passing or self.draft is not None:
            return None
        if len(self._pieces) != 1:
            pieces = [piece for piece in self._pieces if isinstance(piece, bytes)]
            self._pieces, self._starts = [b"".join(pieces)], [0]
        whole = self._pieces[0]
        return whole if isinstance(whole, bytes) else None

    def close(self) -> None:
        """Frees what is reserved and the draft; nothing may be read after this."""
        self.closed = True
        if self.draft is not None:
            self.draft.close()
        if self.reservation is not None:
            self.reservation.release()
            self.reservation = None
        self._room.release_ram(self.ram_bytes)
        self.ram_bytes = 0

    def _fits_ram(self, more: int) -> bool:
        """Whether memory has room for the next bytes, reserving it where the size was not known before."""
        missing = self.length + more - self.ram_bytes
        if missing <= 0:
            return True
        if self.length + more > min(self._room.in_ram_bytes, self._room.max_object) or not self._room.reserve_ram(missing):
            return False
        self.ram_bytes += missing
        return True

    async def _go_to_disk(self, size: int) -> None:
        """Makes the draft, with what was held in memory so far; passes through when there is no room or no disk."""
        if self._for_store and size <= self._room.max_object:
            making = asyncio.get_running_loop().run_in_executor(None, self._begin_draft, size, list(self._pieces))
            try:
                self.reservation, self.draft = await asyncio.shield(making)
            except asyncio.CancelledError:
                making.add_done_callback(_give_back)
                raise
        if self.draft is None:
            self._pass_through()
            return
        self._pieces = [_OnDisk(len(piece)) if isinstance(piece, bytes) else piece for piece in self._pieces]
        self._room.release_ram(self.ram_bytes)
        self.ram_bytes = 0

    def _begin_draft(self, size: int, pieces: list[bytes | _OnDisk]) -> tuple[Reservation | None, Draft | None]:
        reservation = self._room.disk.reserve(size)
        if reservation is None:
            return None, None
        draft: Draft | None = None
        try:
            draft = self._room.disk.draft()
            for piece in pieces:
                if isinstance(piece, bytes):
                    draft.append(piece)
        except OSError:
            DISK_TROUBLES.labels("spool_write_failed").inc()
            reservation.release()
            if draft is not None:
                draft.close()
            return None, None
        return reservation, draft

    def _write(self, draft: Draft, chunk: bytes) -> bool:
        if draft.length + len(chunk) > self._room.max_object or self.reservation is None:
            return False
        if not self.reservation.covers(draft.length + len(chunk)):
            return False
        try:
            draft.append(chunk)
        except OSError:
            DISK_TROUBLES.labels("spool_write_failed").inc()
            return False
        return True

    def _pass_through(self) -> None:
        self.passing = True
        if self._for_store:
            SPOOLS_PASSING.inc()

    async def _let_go(self) -> None:
        """Waits until the slowest follower is near, then drops what all have read."""
        while True:
            self._moved.clear()
            # A follower that has not begun to read yet may begin anywhere.
            slowest = self.length if not self._followers else 0
            if self._positions and len(self._positions) >= self._followers:
                slowest = min(self._positions.values())
            while self._held_from < len(self._pieces) and self._end_of(self._held_from) <= slowest:
                if isinstance(self._pieces[self._held_from], bytes):
                    self._pieces[self._held_from] = b""
                self._held_from += 1
            self._trim()
            if self._in_memory() <= PASSING_WINDOW_BYTES:
                return
            await self._moved.wait()

    def _trim(self) -> None:
        """Keeps the lists short, however long a body passes through."""
        if self._held_from >= PIECES_REMEMBERED:
            del self._pieces[: self._held_from], self._starts[: self._held_from]
            self._held_from = 0

    def _in_memory(self) -> int:
        return sum(len(piece) for piece in self._pieces[self._held_from :] if isinstance(piece, bytes))

    def _end_of(self, index: int) -> int:
        return self._starts[index + 1] if index + 1 < len(self._starts) else self.length

    async def _rest_of_piece(self, position: int) -> bytes:
        """Some bytes from `position` (below `length`) on."""
        index = bisect_right(self._starts, position) - 1
        if index < 0:
            raise SpoolBroken
        piece, skipped = self._pieces[index], position - self._starts[index]
        if isinstance(piece, bytes):
            if not piece:
                raise SpoolBroken  # it was let go: this follower came too late
            return piece[skipped:] if skipped else piece
        if self.draft is None:
            raise SpoolBroken
        try:
            chunk = await asyncio.to_thread(self.draft.read, position, piece.length - skipped)
        except OSError as error:
            DISK_TROUBLES.labels("spool_read_failed").inc()
            raise SpoolBroken from error
        if not chunk:
            raise SpoolBroken
        return chunk

    def _wake(self, chunk: bytes = b"") -> None:
        """Tells all who wait that `chunk` was added, or that no more will be."""
        self._more.set()
        self._more = asyncio.Event()
        waiting, self._caught_up = self._caught_up, {}
        for follower in waiting:
            try:
                if chunk and follower.take_new(chunk, self.length):
                    self._positions[follower] = follower.position
                    self._caught_up[follower] = None
                else:
                    follower.wake()
            except ConnectionError as error:
                follower.wake(error)


def _give_back(making: asyncio.Future[tuple[Reservation | None, Draft | None]]) -> None:
    """The fill was cancelled while its draft was made."""
    if making.cancelled() or making.exception() is not None:
        return
    reservation, draft = making.result()
    if reservation is not None:
        reservation.release()
    if draft is not None:
        draft.close()
