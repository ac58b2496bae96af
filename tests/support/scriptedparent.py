"""A parent that does exactly what a script says, byte by byte, on a real socket: the other side of a fill's troubles."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from headwater.settings.units import Address

ANY_PORT = Address("127.0.0.1", 1)


@dataclass(slots=True)
class Asked:
    """One request as it arrived: the request line and the fields, names in lower case."""

    line: str
    fields: dict[str, str]

    @property
    def offset(self) -> int:
        match = re.match(r"bytes=(\d+)-", self.fields.get("range", ""))
        return int(match[1]) if match else 0


Script = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class ScriptedParent:
    """`asked` are the requests so far. The script may be replaced at any time."""

    script: Script
    asked: list[Asked] = field(default_factory=list)
    address: Address = ANY_PORT
    _server: asyncio.Server | None = None
    _handlers: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0 if self.address == ANY_PORT else self.address.port)
        self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            while True:
                try:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                except asyncio.IncompleteReadError:
                    return
                line, *rest = head.rstrip("\r\n").split("\r\n")
                fields = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
                asked = Asked(line, fields)
                self.asked.append(asked)
                await self.script(asked, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._handlers.discard(task)
            writer.transport.abort()


@asynccontextmanager
async def scripted_parent(script: Script) -> AsyncIterator[ScriptedParent]:
    parent = ScriptedParent(script)
    await parent.open()
    try:
        yield parent
    finally:
        await parent.close()


def header(status: str, *lines: str) -> bytes:
    return ("\r\n".join([f"HTTP/1.1 {status}", *lines]) + "\r\n\r\n").encode()


def serving(body: bytes, *lines: str, etag: str = '"v1"', fresh_s: int = 60) -> Script:
    """Serves `body` whole or from the offset asked for, if the validator still holds."""

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        common = (f"ETag: {etag}", f"Cache-Control: max-age={fresh_s}", *lines)
        if asked.fields.get("if-none-match") == etag:
            writer.write(header("304 Not Modified", *common))
        elif asked.offset and asked.fields.get("if-range", etag) == etag:
            rest = body[asked.offset :]
            span = f"Content-Range: bytes {asked.offset}-{len(body) - 1}/{len(body)}"
            writer.write(header("206 Partial Content", *common, span, f"Content-Length: {len(rest)}") + rest)
        else:
            writer.write(header("200 OK", *common, f"Content-Length: {len(body)}") + body)
        await writer.drain()

    return script


def dying(body: bytes, after: int, *lines: str, etag: str = '"v1"') -> Script:
    """Announces all of `body`, sends `after` bytes from the offset asked for, and resets the connection."""

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        common = (f"ETag: {etag}", "Cache-Control: max-age=60", *lines)
        rest = body[asked.offset :]
        if asked.offset:
            span = f"Content-Range: bytes {asked.offset}-{len(body) - 1}/{len(body)}"
            writer.write(header("206 Partial Content", *common, span, f"Content-Length: {len(rest)}"))
        else:
            writer.write(header("200 OK", *common, f"Content-Length: {len(body)}"))
        writer.write(rest[:after])
        await writer.drain()
        writer.transport.close()

    return script
