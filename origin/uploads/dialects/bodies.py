"""A request's body as a stream, read only once the request is accepted; and what all dialects answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from aiohttp import web

from headwater.runtime.problems import Problem
from origin.uploads.creator import Creator
from origin.uploads.streams import Interrupted

STALL_S: Final = 60.0  # a client that sends nothing for this long has gone
WRITE_BYTES: Final = 256 * 1024
NO_STORE: Final = {"Cache-Control": "no-store"}
# Tokens are sent by hand, never by a browser on its own, so that pages of other sites may upload with one.
EXPOSED: Final = (
    "Location, Upload-Offset, Upload-Length, Upload-Complete, Upload-Limit, Upload-Expires, Upload-Metadata, Upload-Concat, "
    "Upload-Defer-Length, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, Range, Retry-After, "
    "Headwater-Video"
)
ALLOWED: Final = (
    "Authorization, Content-Type, Content-Range, Content-Disposition, Tus-Resumable, Upload-Length, Upload-Defer-Length, "
    "Upload-Offset, Upload-Metadata, Upload-Checksum, Upload-Concat, Upload-Complete, Upload-Draft-Interop-Version, "
    "X-HTTP-Method-Override, X-Upload-Content-Length, X-Upload-Content-Type, X-Requested-With, X-Request-ID"
)
CORS: Final = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": EXPOSED}
PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "POST, PUT, PATCH, HEAD, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": ALLOWED,
    "Access-Control-Max-Age": "86400",
}
Permit: TypeAlias = Callable[[web.Request], Awaitable[Creator]]
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def route(method: str, path: str, handler: Handler) -> web.RouteDef:
    """A route whose handler decides before the body is asked for: `100 Continue` is sent by `body_of`, not before."""
    return web.route(method, path, handler, expect_handler=_expect_nothing_yet)


async def _expect_nothing_yet(request: web.Request) -> None:
    return None


async def body_of(request: web.Request) -> AsyncIterator[bytes]:
    """Pieces of about WRITE_BYTES, so that each is worth a thread. Raises Interrupted when the body ends before its time."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await send_interim(request, "100 Continue", {})
    gathered = bytearray()
    while True:
        end = ""
        chunk = b""
        try:
            async with asyncio.timeout(STALL_S):
                chunk = await request.content.readany()
        except TimeoutError:
            end = "stalled"
        except ConnectionError:
            end = "cut-off"
        gathered += chunk
        if gathered and (not chunk or len(gathered) >= WRITE_BYTES):
            yield bytes(gathered)
            gathered.clear()
        if end:
            raise Interrupted(end)
        if not chunk:
            return


async def send_interim(request: web.Request, status: str, fields: Mapping[str, str]) -> None:
    """An interim response (RFC 9110 section 15.2) before the one that the handler returns."""
    head = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
    writer = request._payload_writer
    await writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1"))
    writer.output_size = 0  # as aiohttp does after `100 Continue`: the response proper counts from here


def interrupted(error: Interrupted) -> Problem:
    """The answer for a client that has most likely gone."""
    status = 409 if str(error) == "displaced" else 408
    detail = f"the request ended early ({error}); what came is stored: ask for the offset and go on from there"
    return Problem(status, "upload-interrupted", "Upload interrupted", detail)


def wrong_field(name: str, expected: str) -> Problem:
    return Problem(400, "header-malformed", "Header field malformed", f"{name}: {expected} was expected")
