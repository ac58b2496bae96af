"""Large objects ahead of their viewers: fetching all slices of one, and giving another cache those that are held here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

from headwater.cacheproxy.answers.sources import StoredSource
from headwater.cacheproxy.fills.fillorders import FillOrder
from headwater.cacheproxy.fills.fillregistry import Fills
from headwater.cacheproxy.fills.fills import Fill
from headwater.cacheproxy.fills.orders import slice_order
from headwater.cacheproxy.fills.parents import Parent
from headwater.cacheproxy.fills.pieces import Piece
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.spool import SpoolBroken
from headwater.cacheproxy.store.store import BodyUnreadable, Store, Stored
from headwater.rules.ranges import Single, parse_range
from headwater.rules.slices import pieces, slice_count

_OF_THE_WHOLE: Final = ("content-digest",)  # true of another body than a part's

# Follows a fill to its end: its bytes. Raises SpoolBroken.
Follow = Callable[[Fill], Awaitable[int]]


@dataclass(slots=True)
class Fetched:
    """Of one object's slices: bytes that came, how many slices came, and how many could not be had."""

    size_bytes: int = 0
    slices: int = 0
    missing: int = 0


async def fetch_slices(
    head: Metadata,
    order: FillOrder,
    store: Store,
    fills: Fills,
    owner_of: Callable[[str], Parent | None],
    follow: Follow,
    turn: Callable[[], Awaitable[None]],
    took: Callable[[int], None],
    *,
    from_its_beginning: bool,
) -> Fetched:
    """Fetches what is not stored of the object, one slice after another; `turn` and `took` keep each of them to the order's pace.
    `order` is one for the whole object; `owner_of` names the worker of this node that keeps a slice, if another does.
    `from_its_beginning`: only up to the first slice that cannot be had."""
    fetched = Fetched()
    for index in range(slice_count(head.slice_bytes, head.total_bytes)):
        piece = Piece(head, index)
        if (await store.peek(piece.key))[0] != "nowhere":
            continue
        await turn()
        fill = fills.running(piece.key) or fills.start(slice_order(order, piece, owner_of(piece.key)))
        count = 0
        with suppress(SpoolBroken):
            count = await follow(fill)
        took(count)
        fetched.size_bytes += count
        whole = count == piece.span.length
        here = whole and (fill.given_by_owner or (await store.peek(piece.key))[0] != "nowhere")
        fetched.slices += here
        fetched.missing += not here
        if fill.machine.disproved or (from_its_beginning and not here):
            fetched.missing += slice_count(head.slice_bytes, head.total_bytes) - index - 1
            break
    return fetched


async def give_slices(request: web.Request, head: Metadata, store: Store) -> web.StreamResponse | None:
    """Answers another cache from the slices that are stored here; None when the first one of what it asks for is not. A later
    one that is missing breaks the answer off, so that the asker can tell. Raises ConnectionError."""
    if request.headers.get("If-Match", head.etag) != head.etag:
        return web.Response(status=412)
    wanted = parse_range(request.headers.get("Range"), head.total_bytes)
    whole = Single(0, head.total_bytes - 1)
    part = wanted if isinstance(wanted, Single) and request.headers.get("If-Range", head.etag) == head.etag else whole
    first = await store.look_up(Piece(head, part.first // head.slice_bytes).key)
    if first is None:
        return None
    first.close()
    is_part = part is wanted
    response = web.StreamResponse(status=206 if is_part else 200)
    for name, value in head.fields:
        if name.lower() not in ("age", "content-length", "connection", "transfer-encoding", "accept-ranges", *_OF_THE_WHOLE):
            response.headers.add(name, value)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Age"] = str(int(head.age_s(time.time())))
    if is_part:
        response.headers["Content-Range"] = part.content_range(head.total_bytes)
    response.content_length = part.length
    await response.prepare(request)
    async for chunk in _held(head, part, store):
        await response.write(chunk)
    await response.write_eof()
    return response


async def _held(head: Metadata, part: Single, store: Store) -> AsyncIterator[bytes]:
    """The bytes of stored slices. Raises BodyUnreadable where one is missing."""
    for index, span in pieces(part.first, part.last, head.slice_bytes):
        stored: Stored | None = await store.look_up(Piece(head, index).key)
        if stored is None:
            raise BodyUnreadable("a slice is not held")
        try:
            start = index * head.slice_bytes
            async for chunk in StoredSource(stored, 0).read(span.first - start, span.last - start):
                yield chunk
        finally:
            stored.close()


def from_sources_only(order: FillOrder, sources: int) -> FillOrder:
    """The order without this node's own parents: what another cache does not hold of a large object is not fetched for it."""
    return replace(order, parents=order.parents[:sources]) if sources else order
