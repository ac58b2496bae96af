"""Sending one response: header fields of this hop, then the planned part of the body, or a visible break."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import lru_cache, partial

from aiohttp import web

from headwater.cacheproxy.answers.sending import Sending, sends_pages
from headwater.cacheproxy.answers.sources import FillSource, Source
from headwater.cacheproxy.exchange import Exchange
from headwater.cacheproxy.fills.parents import OUTCOME_FIELD, ParentAnswer, ParentTrouble
from headwater.cacheproxy.metrics import CUT_OFF
from headwater.cacheproxy.roles import Site
from headwater.cacheproxy.store.rambody import PAGED_FROM_BYTES, RamBody
from headwater.cacheproxy.store.spool import SpoolBroken
from headwater.cacheproxy.store.store import BodyUnreadable
from headwater.rules.bodyplan import (
    BodyPlan,
    SendNotModified,
    SendPart,
    SendParts,
    SendPreconditionFailed,
    SendUnsatisfiable,
    SendWhole,
)
from headwater.rules.cachestatus import CacheStatus, with_member
from headwater.rules.fields import Fields, end_to_end, field, without
from headwater.rules.purging import TAG_FIELDS
from headwater.rules.ranges import Single
from headwater.runtime.httpsite import SERVER_NAME
from headwater.runtime.trace import TRACEPARENT

# Recomputed by every hop, or a matter of the parent's exchange only.
_OWN_FIELDS = ("age", "cache-status", "via", "content-length", "accept-ranges", TRACEPARENT)
# RFC 9110 section 15.4.5: what a 304 carries of the fields that a 200 would have.
_NOT_MODIFIED_FIELDS = frozenset(
    ("cache-control", "content-location", "date", "etag", "expires", "vary", "last-modified", "repr-digest")
)
CORS_EXPOSED = "Age, Cache-Status, Content-Length, Content-Range, Date, ETag, Repr-Digest, traceparent, Via"
SMALL_BODY_BYTES = 64 * 1024 * 1024  # bodies in memory up to this size go out in one write


def hidden_fields(tier: str) -> tuple[str, ...]:
    """What viewers need not see: an object's tags are a matter between the tiers and the site."""
    return TAG_FIELDS if tier == "edge" else ()


def cors_fields(site: Site) -> dict[str, str]:
    """What lets players of other sites' pages read the answers of this one (Fetch standard)."""
    return {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": CORS_EXPOSED} if site.settings.cors else {}


async def deliver(exchange: Exchange, source: Source, plan: BodyPlan) -> web.StreamResponse:
    """Answers the request from `source` as planned. A body that breaks is cut off so that the client can tell."""
    fields = response_fields(exchange, source)
    match plan:
        case SendNotModified():
            kept = tuple((name, value) for name, value in fields if _is_kept_by_not_modified(name))
            return await _send_small(exchange, 304, kept, b"")
        case SendPreconditionFailed():
            return await _send_small(exchange, 412, without(fields, ("content-type",)), b"")
        case SendUnsatisfiable():
            ranged = (*without(fields, ("content-type",)), ("Content-Range", f"bytes */{source.size}"))
            return await _send_small(exchange, 416, ranged, b"")
        case SendPart(part):
            ranged = (*fields, ("Content-Range", part.content_range(source.size)))
            return await _send(exchange, source, 206, ranged, part.first, part.last)
        case SendParts(parts):
            return await _send_parts(exchange, source, fields, parts)
        case SendWhole():
            last = None if source.size is None else source.size - 1
            return await _send(exchange, source, source.status, fields, 0, last)


async def relay(exchange: Exchange, answer: ParentAnswer) -> web.StreamResponse:
    """Passes a parent's answer on as it is, while it arrives."""
    received = end_to_end(answer.fields)
    own = {
        "cache-status",
        "via",
        "content-length",
        TRACEPARENT,
        *exchange.hidden,
        *(name.lower() for name in exchange.answer_headers),
    }
    via = field(received, "via")
    fields = [*without(received, own), *exchange.answer_headers.items()]
    fields.append(("Via", f"{via}, 1.1 {exchange.node}" if via else f"1.1 {exchange.node}"))
    if exchange.cache_status is not None:
        fields.append(("Cache-Status", with_member(field(received, "cache-status"), exchange.cache_status)))
    bodiless = exchange.method == "HEAD" or answer.status in (204, 304)
    if bodiless and answer.length is not None:
        fields.append(("Content-Length", str(answer.length)))
    return await _stream(exchange, answer.status, tuple(fields), 0 if bodiless else answer.length, answer.body(), answer.reason)


def response_fields(exchange: Exchange, source: Source) -> Fields:
    """The source's fields as this hop passes them on."""
    received = end_to_end(source.fields) if source.age_s is None else ()
    if exchange.for_worker:
        return _fields_for_worker(exchange, source, received)
    return (
        *hop_fields(
            source.fields,
            (*exchange.hidden,),
            exchange.answer_headers,
            field(received, "age") if source.age_s is None else str(int(source.age_s)),
            exchange.node,
            exchange.cache_status,
            exchange.trace.header(),
            field(received, "via"),
            field(received, "cache-status"),
        ),
        *((("Accept-Ranges", "bytes"),) if source.status == 200 else ()),
    )


def _fields_for_worker(exchange: Exchange, source: Source, received: Fields) -> Fields:
    """Another worker of this node passes the answer on, with the node's one hop: the fields as they came, and how."""
    age = field(received, "age") if source.age_s is None else str(int(source.age_s))
    told = (("Age", age), ("Via", field(received, "via")), ("Cache-Status", field(received, "cache-status")))
    kept = without(end_to_end(source.fields), ("age", "via", "cache-status", "content-length", OUTCOME_FIELD))
    return (*kept, *((name, value) for name, value in told if value is not None), (OUTCOME_FIELD, exchange.outcome))


def hop_fields(
    answer: Fields,
    hidden: tuple[str, ...],
    own: Mapping[str, str],
    age: str | None,
    node: str,
    cache_status: CacheStatus | None,
    traceparent: str,
    via: str | None = None,
    statuses: str | None = None,
) -> Fields:
    """The fields of `answer` with this hop's own. `via` and `statuses` are what parents said of this very answer."""
    kept, names_server = _passed_on(answer, (*hidden, *own))
    fields = [*kept, *own.items()]
    if age is not None:
        fields.append(("Age", age))
    fields.append(("Via", f"{via}, 1.1 {node}" if via else f"1.1 {node}"))
    if cache_status is not None:
        fields.append(("Cache-Status", with_member(statuses, cache_status)))
    fields.append((TRACEPARENT, traceparent))
    if not names_server:
        fields.append(("Server", SERVER_NAME))
    return tuple(fields)


@lru_cache(maxsize=1024)
def _passed_on(answer: Fields, dropped: tuple[str, ...]) -> tuple[Fields, bool]:
    """(fields, whether one is Server). What this hop says itself replaces what a parent said: browsers refuse a doubled
    Access-Control-Allow-Origin (Fetch). The same for every hit of an object, so it is remembered."""
    received = end_to_end(answer)
    return without(received, (*_OWN_FIELDS, *dropped)), field(received, "server") is not None


def _is_kept_by_not_modified(name: str) -> bool:
    name = name.lower()
    return name in _NOT_MODIFIED_FIELDS or name in ("age", "via", "cache-status") or name.startswith("access-control-")


async def _send(
    exchange: Exchange, source: Source, status: int, fields: Fields, first: int, last: int | None
) -> web.StreamResponse:
    """A body of the bytes `first` to `last` (None: until it ends, chunked)."""
    body = source.in_ram
    if exchange.method != "HEAD" and body is not None and body.size_bytes <= SMALL_BODY_BYTES:
        return await _send_from_memory(exchange, status, fields, body, first, body.size_bytes - 1 if last is None else last)
    length = None if last is None else last - first + 1
    if isinstance(source, FillSource):
        return await _send_body(exchange, status, fields, length, partial(_follow, source, first, last))
    return await _stream(exchange, status, fields, length, source.read(first, last))


async def _follow(source: FillSource, first: int, last: int | None, sending: Sending) -> None:
    """The bytes of a fill. What is there goes out with the header; the rest is given by the fill as it arrives."""
    spool = source.fill.spool
    if spool.length <= first:
        sending.begin()
    await spool.pass_on(first, last, sending)


async def _send_parts(exchange: Exchange, source: Source, fields: Fields, parts: tuple[Single, ...]) -> web.StreamResponse:
    """multipart/byteranges (RFC 9110 section 14.6)."""
    boundary = secrets.token_hex(12)
    content_type = field(fields, "content-type")
    heads = [_part_head(boundary, content_type, part, source.size) for part in parts]
    tail = f"\r\n--{boundary}--\r\n".encode()
    length = sum(map(len, heads)) + sum(part.length for part in parts) + len(tail)

    async def body() -> AsyncIterator[bytes]:
        for head, part in zip(heads, parts, strict=True):
            yield head
            async for chunk in source.read(part.first, part.last):
                yield chunk
        yield tail

    typed = (*without(fields, ("content-type",)), ("Content-Type", f"multipart/byteranges; boundary={boundary}"))
    return await _stream(exchange, 206, typed, length, body())


def _part_head(boundary: str, content_type: str | None, part: Single, size: int | None) -> bytes:
    lines = ["", f"--{boundary}", f"Content-Range: {part.content_range(size)}"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send_small(exchange: Exchange, status: int, fields: Fields, body: bytes) -> web.StreamResponse:
    """A whole body from memory. Joined with the header when it is short; a copy of a long one would be one for each client."""
    sending = Sending(exchange.request, status, fields, len(body))
    exchange.header_sent(status)
    if sending.bodiless:
        return sending.end()
    sending.give(body)
    exchange.sent_bytes = len(body)
    await sending.taken()
    return sending.end()


async def _send_from_memory(
    exchange: Exchange, status: int, fields: Fields, body: RamBody, first: int, last: int
) -> web.StreamResponse:
    length = last - first + 1
    if length < PAGED_FROM_BYTES or not sends_pages(exchange.request.transport):
        part = body.data if length == body.size_bytes else body.part(first, last)
        return await _send_small(exchange, status, fields, part)
    whole = body.pages_or_data()
    if isinstance(whole, bytes):
        return await _send_small(exchange, status, fields, whole[first : last + 1])
    sending = Sending(exchange.request, status, fields, length)
    exchange.header_sent(status)
    sending.give_pages(whole, first, length)
    exchange.sent_bytes = length
    await sending.taken()
    return sending.end()


async def _stream(
    exchange: Exchange,
    status: int,
    fields: Fields,
    length: int | None,
    chunks: AsyncIterator[bytes],
    reason: str | None = None,
) -> web.StreamResponse:
    async def give(sending: Sending) -> None:
        sending.begin()
        async for chunk in chunks:
            if not sending.give(chunk):
                await sending.taken()

    return await _send_body(exchange, status, fields, length, give, reason)


async def _send_body(
    exchange: Exchange,
    status: int,
    fields: Fields,
    length: int | None,
    give: Callable[[Sending], Awaitable[None]],
    reason: str | None = None,
) -> web.StreamResponse:
    """The header, and the body as `give` comes by it."""
    sending = Sending(exchange.request, status, fields, length, reason)
    exchange.header_sent(status)
    if sending.bodiless:
        return sending.end()
    try:
        await give(sending)
    except (SpoolBroken, BodyUnreadable, ParentTrouble) as error:
        return _cut_off(exchange, sending, type(error).__name__)
    finally:
        exchange.sent_bytes = sending.body_bytes
    if length is not None and sending.body_bytes != length:
        return _cut_off(exchange, sending, "LengthDiffers")
    return sending.end()


def _cut_off(exchange: Exchange, sending: Sending, reason: str) -> web.StreamResponse:
    """Closes the connection before the announced end: the only way to say in HTTP/1.1 that a body is not whole."""
    exchange.cut_off = reason
    CUT_OFF.labels(reason).inc()
    transport = exchange.request.transport
    if transport is None:
        return sending.over()
    if exchange.request.version >= (1, 1):
        transport.close()  # what was sent so far still arrives; the length or the missing last chunk tells the rest
    else:
        transport.abort()  # HTTP/1.0 has no last chunk: only a reset can be told from an end
    return sending.over()
