"""A site with one large object that gives any part of it, counts what it sends, and can be changed or troubled at any time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.scriptedparent import Asked, ScriptedParent, header, scripted_parent

CHUNK_BYTES = 16 * 1024


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(slots=True)
class RangedSite:
    """`part_at_most` are the bytes it gives of a range; `free` cleared keeps bodies back from the byte `held_from` of the whole
    (headers go out); `breaks_at` is the byte of the whole at which connections are closed; `fields` go into every answer.
    `sent_bytes` are body bytes written, `open` the bodies under way, `open_at_most` the most of them at a time."""

    body: bytes
    etag: str = '"v1"'
    fields: tuple[str, ...] = ("Cache-Control: max-age=60", "Accept-Ranges: bytes")
    gives_ranges: bool = True
    part_at_most: int | None = None
    breaks_at: int | None = None
    held_from: int = 0
    sent_bytes: int = 0
    open: int = 0
    open_at_most: int = 0
    on_ask: Callable[[Asked], None] | None = None
    free: asyncio.Event = field(default_factory=_set)
    parent: ScriptedParent | None = None

    @property
    def asked(self) -> list[Asked]:
        assert self.parent is not None
        return self.parent.asked

    @property
    def ranges(self) -> list[str | None]:
        return [asked.fields.get("range") for asked in self.asked]

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        if self.on_ask is not None:
            self.on_ask(asked)
        body, etag = self.body, self.etag
        common = (f"ETag: {etag}", *self.fields)
        if asked.fields.get("if-none-match") == etag:
            writer.write(header("304 Not Modified", *common))
            return
        if asked.fields.get("if-match", etag) != etag:
            writer.write(header("412 Precondition Failed", *common, "Content-Length: 0"))
            return
        match = re.match(r"bytes=(\d+)-(\d*)", asked.fields.get("range", "")) if self.gives_ranges else None
        if match is not None and int(match[1]) >= len(body):
            writer.write(header("416 Range Not Satisfiable", f"Content-Range: bytes */{len(body)}", "Content-Length: 0"))
            return
        first, last = 0, len(body) - 1
        if match is not None and asked.fields.get("if-range", etag) == etag:
            first, last = int(match[1]), min(int(match[2] or last), last)
            last = last if self.part_at_most is None else min(last, first + self.part_at_most - 1)
            span = f"Content-Range: bytes {first}-{last}/{len(body)}"
            writer.write(header("206 Partial Content", *common, span, f"Content-Length: {last - first + 1}"))
        else:
            writer.write(header("200 OK", *common, f"Content-Length: {len(body)}"))
        if not asked.line.startswith("HEAD"):
            await self._send(body, first, last, writer)

    async def _send(self, body: bytes, first: int, last: int, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.open_at_most = max(self.open_at_most, self.open)
        try:
            await writer.drain()
            for start in range(first, last + 1, CHUNK_BYTES):
                end = min(start + CHUNK_BYTES, last + 1)
                if end > self.held_from:
                    await self.free.wait()
                if self.breaks_at is not None and start <= self.breaks_at < end:
                    writer.write(body[start : self.breaks_at])
                    await writer.drain()
                    writer.transport.close()
                    return
                writer.write(body[start:end])
                self.sent_bytes += end - start
                await writer.drain()
        finally:
            self.open -= 1


@asynccontextmanager
async def ranged_site(body: bytes) -> AsyncIterator[tuple[RangedSite, ScriptedParent]]:
    site = RangedSite(body)
    async with scripted_parent(site) as parent:
        site.parent = parent
        yield site, parent
