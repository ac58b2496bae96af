"""Writing one response straight to its connection: the header block in one piece, the body in the fewest sends.

aiohttp reads requests and keeps connections; it need not make the header twice (fields, a multidict, bytes) nor have a coroutine
run for each chunk. What it would add is added here: Date, Server, Content-Type, the framing of the body and what becomes of the
connection (RFC 9112 sections 6 and 9).
"""

from __future__ import annotations

import asyncio
import http
import re
import time
from typing import Any, Final

from aiohttp import HttpVersion11, web

from headwater.cacheproxy.store.rambody import Pages
from headwater.rules.fields import Fields, without
from headwater.rules.httpdate import format_http_date
from headwater.runtime.httpsite import SERVER_NAME

JOINED_BODY_BYTES: Final = 32 * 1024  # up to this size a copy behind the header costs less than a second buffer
_BODILESS: Final = frozenset((204, 304))
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # RFC 9110 section 5.5; of \r and \n, those are counted
_PHRASES: Final = {int(status): status.phrase for status in http.HTTPStatus}


def sends_pages(transport: Any) -> bool:
    """Whether a connection can send pages as they lie in memory: a plain one of aiofastnet can, TLS has to read them."""
    return hasattr(transport, "sendfile") and transport.get_extra_info("sslcontext") is None


def send_pages(transport: Any, pages: Pages, first: int, count: int) -> None:
    """Sends them behind whatever waits. Raises ConnectionResetError, as a client that left."""
    try:
        sent = transport.sendfile(pages, first, count)
    except (OSError, RuntimeError) as error:
        raise ConnectionResetError("the client has left") from error
    if sent is not None:  # it is in the transport's buffer, which says so itself; nobody waits for this piece
        sent.add_done_callback(_looked_at)


def _looked_at(sent: asyncio.Future[None]) -> None:
    if not sent.cancelled():
        sent.exception()


class Sent(web.StreamResponse):
    """What aiohttp is told of a response that went out past it."""

    def __init__(self, status: int, *, keeps_connection: bool) -> None:
        super().__init__(status=status)
        self._keeps_connection = keeps_connection

    @property
    def keep_alive(self) -> bool:
        return self._keeps_connection

    async def prepare(self, request: web.BaseRequest) -> None:
        """It was."""

    async def write_eof(self, data: bytes = b"") -> None:
        """It was."""


class Sending:
    """One response on its way. `begin`, then bytes, then `end`; a ConnectionResetError says that the client has left.

    `length` is that of the body, None while nobody knows: it then goes out in chunks, or, to HTTP/1.0, until the connection ends.
    """

    __slots__ = ("_chunked", "_head", "_keeps_connection", "_request", "bodiless", "body_bytes", "status")

    def __init__(
        self, request: web.BaseRequest, status: int, fields: Fields, length: int | None, reason: str | None = None
    ) -> None:
        self._request = request
        self.status = status
        self.body_bytes = 0  # so far
        self.bodiless = request.method == "HEAD" or status in _BODILESS
        self._chunked = length is None and not self.bodiless and request.version >= HttpVersion11
        self._keeps_connection = request.keep_alive and (length is not None or self.bodiless or self._chunked)
        self._head = self._header(fields, length, reason)

    def _header(self, fields: Fields, length: int | None, reason: str | None) -> bytes:
        """Raises ValueError where a field would break out of its line."""
        version = self._request.version
        if self.status in _BODILESS:  # RFC 9110 section 8.6: not of a 204; of a 304 nobody here knows it
            length, fields = None, without(fields, ("content-length",))
        phrase = _PHRASES.get(self.status, "") if reason is None else reason
        lines = [f"HTTP/{version.major}.{version.minor} {self.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in fields]
        told = {name.lower() for name, _ in fields}
        if length is not None and "content-length" not in told:
            lines.append(f"Content-Length: {length}")
        elif self._chunked:
            lines.append("Transfer-Encoding: chunked")
        if "content-type" not in told and not self.bodiless and length != 0:
            lines.append("Content-Type: application/octet-stream")
        if "date" not in told:
            lines.append(f"Date: {format_http_date(time.time())}")
        if "server" not in told:
            lines.append(f"Server: {SERVER_NAME}")
        if not self._keeps_connection and version >= HttpVersion11:
            lines.append("Connection: close")
        elif self._keeps_connection and version < HttpVersion11:
            lines.append("Connection: keep-alive")
        text = "\r\n".join(lines) + "\r\n\r\n"
        ends = len(lines) + 1
        if text.count("\r") != ends or text.count("\n") != ends or _FORBIDDEN.search(text):
            raise ValueError("a header field has a control character in it")
        try:
            return text.encode("latin-1")  # as parents' fields were read: the same bytes go on
        except UnicodeEncodeError:
            return text.encode()

    def begin(self) -> None:
        """Sends the header alone."""
        head, self._head = self._head, b""
        self._write(head)

    def give(self, chunk: bytes) -> bool:
        """Sends a piece of the body, and the header with the first. Whether the client takes more at once."""
        if self._chunked and chunk:  # an empty chunk would be the last one
            self._write(b"%x\r\n" % len(chunk), chunk, b"\r\n")
        else:
            self._write(chunk)
        self.body_bytes += len(chunk)
        return not self._request.protocol.writing_paused

    def give_pages(self, pages: Pages, first: int, count: int) -> None:
        """Sends a piece of the body as it lies in memory; only where `sends_pages` of the connection. Not of a body in chunks."""
        self._write()
        self.body_bytes += count
        self._request.writer.output_size += count
        send_pages(self._request.transport, pages, first, count)

    async def taken(self) -> None:
        """Returns when the client takes more."""
        await self._request.writer.drain()

    def end(self) -> Sent:
        """The body is whole."""
        if self._head or self._chunked:
            self._write(b"0\r\n\r\n" if self._chunked else b"")
        return self.over()

    def over(self) -> Sent:
        """For aiohttp, whether the body is whole or not."""
        return Sent(self.status, keeps_connection=self._keeps_connection)

    def _write(self, *pieces: bytes) -> None:
        request = self._request
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        if self._head:
            pieces, self._head = (self._head, *pieces), b""
        size = sum(map(len, pieces))
        if not size:
            return
        request.writer.output_size += size  # told to whoever asks whether an answer has begun
        if len(pieces) == 1:
            transport.write(pieces[0])
        elif size <= JOINED_BODY_BYTES:
            transport.write(b"".join(pieces))
        else:
            transport.writelines(pieces)
