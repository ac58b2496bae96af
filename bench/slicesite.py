"""The site behind the bench of slices: `/…/{n}m-…` is a body of n MiB that is given in any part.

`/sent` says how many body bytes were sent so far.

python -m bench.slicesite PORT DELAY_MS: each answer begins that much later, as that of a parent far away.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from typing import Final

import uvloop

from headwater.rules.ranges import Single, parse_range

MIB: Final = 1024 * 1024
_SEED: Final = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)) * 256  # 2 MiB: any MiB is one slice of it


def part_of(first: int, last: int) -> memoryview:
    """Up to a MiB of the body from `first` on."""
    start = first % MIB
    return memoryview(_SEED)[start : start + min(last - first + 1, MIB)]


class SliceSite:
    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *rest = head.split("\r\n")
                fields = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
                path = line.split()[1]
                if path == "/sent":
                    told = str(self._sent).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))
                    continue
                await asyncio.sleep(self._delay_s)
                size = int(path.rsplit("/", 1)[-1].partition("m")[0]) * MIB
                wanted = parse_range(fields.get("range"), size)
                await self._send(wanted if isinstance(wanted, Single) else None, size, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _send(self, part: Single | None, size: int, writer: asyncio.StreamWriter) -> None:
        lines = ["HTTP/1.1 206 Partial Content" if part else "HTTP/1.1 200 OK", 'ETag: "1"', "Accept-Ranges: bytes"]
        lines += ["Cache-Control: public, max-age=3600", "Content-Type: application/octet-stream"]
        if part is not None:
            lines.append(f"Content-Range: {part.content_range(size)}")
        span = part or Single(0, size - 1)
        lines.append(f"Content-Length: {span.length}")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        first = span.first
        while first <= span.last:
            chunk = part_of(first, span.last)
            writer.write(chunk)
            await writer.drain()
            first += len(chunk)
            self._sent += len(chunk)


async def serve(port: int, delay_s: float) -> None:
    server = await asyncio.start_server(SliceSite(delay_s).serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
