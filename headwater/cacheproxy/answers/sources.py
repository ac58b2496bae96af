"""Where a response comes from: a stored object or a running fill. Delivery treats both alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from headwater.cacheproxy.fills.fillorders import FillHeader
from headwater.cacheproxy.fills.fills import Fill
from headwater.cacheproxy.store.rambody import RamBody
from headwater.cacheproxy.store.store import Stored
from headwater.rules.fields import Fields


@dataclass(frozen=True, slots=True)
class StoredSource:
    """`age_s` and the header fields are those of this moment."""

    stored: Stored
    age_s: float
    goes_back = True

    @property
    def status(self) -> int:
        return self.stored.metadata.status

    @property
    def fields(self) -> Fields:
        return self.stored.metadata.fields

    @property
    def size(self) -> int | None:
        return self.stored.metadata.size_bytes

    @property
    def in_ram(self) -> RamBody | None:
        return self.stored.body if isinstance(self.stored.body, RamBody) else None

    async def read(self, first: int, last: int | None) -> AsyncIterator[bytes]:
        """The bytes `first` to `last`, both included. Raises BodyUnreadable."""
        end = self.stored.metadata.size_bytes - 1 if last is None else last
        body = self.stored.body
        if isinstance(body, RamBody):
            yield body.part(first, end)
        elif end >= first:
            async for chunk in body.read(first, end):
                yield chunk

    def close(self) -> None:
        self.stored.close()


@dataclass(frozen=True, slots=True)
class FillSource:
    """The bytes of a fill as they arrive."""

    fill: Fill
    header: FillHeader

    @property
    def status(self) -> int:
        return self.header.status

    @property
    def fields(self) -> Fields:
        return self.header.fields

    @property
    def size(self) -> int | None:
        return self.fill.spool.length if self.fill.spool.finished else self.header.size

    @property
    def goes_back(self) -> bool:
        """Whether what was read is still there for who reads on before it."""
        return not self.fill.spool.passing

    @property
    def age_s(self) -> float | None:
        """The age that the parent stated stands in the fields already."""
        return None

    @property
    def in_ram(self) -> RamBody | None:
        data = self.fill.spool.in_ram() if self.fill.spool.finished else None
        return None if data is None else RamBody(data)

    def read(self, first: int, last: int | None) -> AsyncIterator[bytes]:
        """The bytes `first` to `last` as they arrive. Raises SpoolBroken."""
        return self.fill.spool.read(first, last)

    def close(self) -> None:
        """The fill belongs to all its followers."""


class Source(Protocol):
    """A response to send: a stored object, a running fill, or an object in slices. `size` None: not known yet; `age_s` None: the
    age that the parent stated stands in the fields already; `in_ram` is the whole body where it is in memory."""

    @property
    def status(self) -> int: ...

    @property
    def fields(self) -> Fields: ...

    @property
    def size(self) -> int | None: ...

    @property
    def age_s(self) -> float | None: ...

    @property
    def in_ram(self) -> RamBody | None: ...

    def read(self, first: int, last: int | None) -> AsyncIterator[bytes]:
        """The bytes `first` to `last`, both included; None: to the end. Raises SpoolBroken and BodyUnreadable."""
