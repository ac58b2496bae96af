"""The header block that goes out, byte for byte, and what it says of the body's end and of the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from headwater.cacheproxy.answers.sending import Sending
from headwater.rules.fields import Fields

DATED: Fields = (("Date", "Mon, 01 Jan 2024 00:00:00 GMT"), ("Server", "s"), ("Content-Type", "t/t"))


async def exchanged(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], request: bytes) -> bytes:
    """All that one connection gives until it ends; `Connection: close` is the client's part."""
    loop = asyncio.get_running_loop()
    site = web.Server(handler)
    server = await loop.create_server(site, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()
        server.close()
        await site.shutdown(1)


def answering(
    status: int, fields: Fields, length: int | None, *chunks: bytes
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        sending = Sending(request, status, fields, length)
        for chunk in chunks if not sending.bodiless else ():
            sending.give(chunk)
        return sending.end()

    return handler


HEAD = "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: s\r\nContent-Type: t/t\r\n"


@pytest.mark.parametrize(
    ("request_line", "status", "length", "chunks", "expected"),
    [
        ("GET / HTTP/1.1", 200, 3, (b"a", b"bc"), f"HTTP/1.1 200 OK\r\n{HEAD}Content-Length: 3\r\nConnection: close\r\n\r\nabc"),
        (
            *("GET / HTTP/1.1", 206, None, (b"a", b"", b"bc")),
            f"HTTP/1.1 206 Partial Content\r\n{HEAD}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        ),
        ("GET / HTTP/1.0", 200, None, (b"abc",), f"HTTP/1.0 200 OK\r\n{HEAD}\r\nabc"),
        ("HEAD / HTTP/1.1", 200, 3, (), f"HTTP/1.1 200 OK\r\n{HEAD}Content-Length: 3\r\nConnection: close\r\n\r\n"),
        ("HEAD / HTTP/1.1", 200, None, (), f"HTTP/1.1 200 OK\r\n{HEAD}Connection: close\r\n\r\n"),
        ("GET / HTTP/1.1", 304, 3, (), f"HTTP/1.1 304 Not Modified\r\n{HEAD}Connection: close\r\n\r\n"),
        ("GET / HTTP/1.1", 299, 0, (), f"HTTP/1.1 299 \r\n{HEAD}Content-Length: 0\r\nConnection: close\r\n\r\n"),
    ],
)
async def test_the_body_s_end_can_be_told(
    request_line: str, status: int, length: int | None, chunks: tuple[bytes, ...], expected: str
) -> None:
    asked = f"{request_line}\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    assert await exchanged(answering(status, DATED, length, *chunks), asked) == expected.encode()


async def test_a_connection_is_kept_only_when_the_body_s_end_can_be_told() -> None:
    """RFC 9112 section 9.3: to HTTP/1.0 a body of unknown length ends with its connection, whatever the client asked for."""
    asked = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert await exchanged(answering(200, DATED, None, b"abc"), asked) == f"HTTP/1.0 200 OK\r\n{HEAD}\r\nabc".encode()


async def test_what_is_missing_is_added_and_bytes_above_ascii_stay_what_they_were() -> None:
    asked = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    head = (await exchanged(answering(200, (("X-Odd", "caf\xe9"),), 1, b"x"), asked)).partition(b"\r\n\r\n")[0]
    assert b"\r\nX-Odd: caf\xe9\r\n" in head
    assert b"\r\nContent-Type: application/octet-stream\r\n" in head
    assert b"\r\nDate: " in head
    assert b"\r\nServer: headwater\r\n" in head


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nX: y", "a\x00b", "a\x7f", "a\rb"])
async def test_a_value_that_would_leave_its_line_is_not_sent(value: str) -> None:
    asked = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    refused: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        for fields in ((("X", value),), ((value, "x"),)):
            with pytest.raises(ValueError, match="control character"):
                Sending(request, 200, fields, 0)
            refused.append(value)
        return web.Response()

    await exchanged(handler, asked)
    assert refused == [value, value]
