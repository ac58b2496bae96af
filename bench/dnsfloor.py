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

from dnssteer.batches import AT, BATCH, NAME_STRIDE, OFFSET, REST, STRIDE, Batches, Pieces

# A readable reply: response, authoritative, one question. Bytes 2 to 9 of the message as one word.
HEAD: Final = struct.unpack("=Q", b"\x84\x00\x00\x01\x00\x00\x00\x00")[0]


def echo(batches: Batches, count: int) -> None:
    sizes, _, names = batches.messages(count)
    by_peer: dict[bytes, tuple[int, int, Pieces]] = {}
    for slot, size in enumerate(sizes):
        name = names[slot * NAME_STRIDE : slot * NAME_STRIDE + batches.name_bytes]
        found = by_peer.get(name)
        if found is None:
            found = by_peer[name] = (slot, size, [])
        batches.words[(STRIDE * slot + OFFSET + 2) // 8] = HEAD
        found[2].extend((AT.pack(batches.begins[slot]), REST.pack(size, batches.begins[slot], 0)))
    batches.send(list(by_peer.values()))


def serve(port: int) -> None:
    """Until the process ends."""

    async def forever() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.bind(("127.0.0.1", port))
            batches = Batches(sock)

            def readable() -> None:
                while count := batches.receive():
                    echo(batches, count)
                    if count < BATCH:
                        return

            asyncio.get_running_loop().add_reader(sock, readable)
            await asyncio.Event().wait()

    uvloop.run(forever())
