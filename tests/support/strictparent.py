"""An upstream that reads requests as strictly as RFC 9112 allows and keeps every byte: what a hostile request became."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from headwater.settings.units import Address
from tests.support.scriptedparent import ANY_PORT

_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ /[\x21-\x7e]* HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t\x80-\xff]*)")
ANSWER = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok"


class NotStrict(Exception):
    """The request could be read in more than one way."""


@dataclass(slots=True)
class StrictRequest:
    """One request as it arrived, names in lower case."""

    line: str
    fields: list[tuple[str, str]]
    body: bytes = b""

    def values(self, name: str) -> list[str]:
        return [value for other, value in self.fields if other == name]


@dataclass(slots=True)
class StrictParent:
    """`faults` is what was not well-formed; a good proxy leaves it empty whatever its clients send."""

    answer: bytes = ANSWER
    requests: list[StrictRequest] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    address: Address = ANY_PORT
    _handlers: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def lines(self) -> list[str]:
        return [request.line for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            while True:
                request = await _read(reader)
                self.requests.append(request)
                writer.write(self.answer)
                await writer.drain()
        except NotStrict as error:
            self.faults.append(str(error))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._handlers.discard(task)
            writer.transport.abort()

    async def close(self) -> None:
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> StrictRequest:
    head = await reader.readuntil(b"\r\n\r\n")
    line, *rest = head[:-4].split(b"\r\n")
    if not _LINE.fullmatch(line):
        raise NotStrict(f"request line {line[:200]!r}")
    fields = []
    for one in rest:
        match = _FIELD.fullmatch(one)
        if match is None:
            raise NotStrict(f"field line {one[:200]!r}")
        fields.append((match[1].decode().lower(), match[2].decode("latin-1").strip()))
    request = StrictRequest(line.decode(), fields)
    lengths, codings = request.values("content-length"), request.values("transfer-encoding")
    if len(request.values("host")) != 1:
        raise NotStrict(f"{len(request.values('host'))} Host fields")
    if len(lengths) + len(codings) > 1:
        raise NotStrict(f"framed by {lengths} and {codings}")
    if lengths:
        if not lengths[0].isdigit():
            raise NotStrict(f"Content-Length {lengths[0]!r}")
        request.body = await reader.readexactly(int(lengths[0]))
    elif codings:
        if codings != ["chunked"]:
            raise NotStrict(f"Transfer-Encoding {codings!r}")
        request.body = await _read_chunks(reader)
    return request


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = await reader.readuntil(b"\r\n")
        if not re.fullmatch(rb"[0-9a-fA-F]{1,8}\r\n", size):
            raise NotStrict(f"chunk size {size[:100]!r}")
        chunk = await reader.readexactly(int(size, 16) + 2)
        if not chunk.endswith(b"\r\n"):
            raise NotStrict("a chunk does not end where its size says")
        if not int(size, 16):
            return body
        body += chunk[:-2]


@asynccontextmanager
async def strict_parent(answer: bytes = ANSWER) -> AsyncIterator[StrictParent]:
    parent = StrictParent(answer)
    server = await asyncio.start_server(parent.serve, "127.0.0.1", 0)
    parent.address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield parent
    finally:
        server.close()
        await parent.close()
