"""The least that a Python server of `make bench-dns` could cost: batches come in and go out, and no query is read.

Each comes back with the response bit set, in the same batches and segments as an answer. What the real server costs
beyond this is its own; what this costs beyond gdnsd is the interpreter's and the kernel's.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

import uvloop

from dnssteer.batches import BATCH, REST, Batches, Pieces, key_bytes_for, rows

# A readable reply: response, authoritative, one question. Bytes 2 to 9 of the message as one word.
HEAD: Final = struct.unpack("=Q", b"\x84\x00\x00\x01\x00\x00\x00\x00")[0]
# All of a reply is its front: nothing stands behind it.
WHOLE: Final = [REST.pack(size, 0, 0) for size in range(513)]


def echo(batches: Batches, count: int) -> None:
    sizes, _, names = batches.messages(count)
    batches.write_heads([HEAD] * count)
    runs: dict[bytes, tuple[int, int, Pieces]] = {}
    for slot, size, name, begin in zip(range(count), sizes, rows("32s", count).unpack(names), batches.begins, strict=False):
        run = runs.get(name)
        if run is None:
            run = runs[name] = (slot, size, [])
        run[2].extend((begin, WHOLE[size]))
    batches.send(list(runs.values()))


def serve(port: int) -> None:
    """Until the process ends."""

    async def forever() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.bind(("127.0.0.1", port))
            batches = Batches(sock, key_bytes_for(58))

            def readable() -> None:
                while count := batches.receive():
                    echo(batches, count)
                    if count < BATCH:
                        return

            asyncio.get_running_loop().add_reader(sock, readable)
            await asyncio.Event().wait()

    uvloop.run(forever())
